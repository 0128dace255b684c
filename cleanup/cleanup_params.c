/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup_params.c - the parameters of cleanup(8), and the list of this folder's parameter sets.
 */
#include "cleanup/cleanup_int.h"
#include "cleanup/postdrop.h"
#include "cleanup/receive.h"
#include "postconf/findings.h"

#define STRING(name, default_, text)                                                               \
    PARAM_STRING(#name, struct cleanup_params, name, .def = default_, .services = "cleanup",       \
                 .doc = text)
#define INT(name, default_, least, text)                                                           \
    PARAM_INT(#name, struct cleanup_params, name, .def = default_, .min = least,                   \
              .services = "cleanup", .doc = text)
#define BOOL(name, default_, text)                                                                 \
    PARAM_BOOL(#name, struct cleanup_params, name, .def = default_, .services = "cleanup",         \
               .doc = text)

static const struct param rows[] = {
    STRING(canonical_maps, "", "Tables that rewrite addresses in envelope and header."),
    STRING(sender_canonical_maps, "",
           "Tables that rewrite sender addresses, asked before canonical_maps."),
    STRING(recipient_canonical_maps, "",
           "Tables that rewrite recipient addresses, asked before canonical_maps."),
    STRING(canonical_classes,
           "envelope_sender, envelope_recipient, header_sender, header_recipient",
           "The addresses that canonical_maps applies to."),
    STRING(sender_canonical_classes, "envelope_sender, header_sender",
           "The addresses that sender_canonical_maps applies to."),
    STRING(recipient_canonical_classes, "envelope_recipient, header_recipient",
           "The addresses that recipient_canonical_maps applies to."),
    STRING(masquerade_domains, "",
           "Domains below which addresses lose their host names; !DOMAIN: those stay as they are."),
    STRING(masquerade_classes, "envelope_sender, header_sender, header_recipient",
           "The addresses that masquerade_domains applies to."),
    STRING(masquerade_exceptions, "", "Users whose addresses keep their host names."),
    STRING(undisclosed_recipients_header, "",
           "The header field that a message of ours without To: and Cc: gets; empty: none."),
    PARAM_RAW("message_reject_characters", struct cleanup_params, message_reject_characters,
              .def = "", .services = "cleanup",
              .doc = "Characters, as C writes them, for which content is refused."),
    PARAM_RAW("message_strip_characters", struct cleanup_params, message_strip_characters,
              .def = "", .services = "cleanup",
              .doc = "Characters, as C writes them, that are taken out of content."),
    STRING(header_checks, "", "Tables that look at each header field."),
    STRING(body_checks, "", "Tables that look at each line of the body."),
    STRING(always_bcc, "", "An address that gets a copy of every message."),
    STRING(sender_bcc_maps, "", "Tables that name, by sender, an address that gets a copy."),
    STRING(recipient_bcc_maps, "", "Tables that name, by recipient, an address that gets a copy."),
    STRING(message_drop_headers, "bcc, content-length, resent-bcc, return-path",
           "Header fields that are removed."),
    PARAM_STRING("smtputf8_autodetect_classes", struct cleanup_params, smtputf8_autodetect_classes,
                 .def = "sendmail, verify", .not_empty = true, .services = "cleanup",
                 .doc = "The origins of mail that is found to need SMTPUTF8 without having asked "
                        "for it: sendmail, smtpd, forward, bounce, notify, all; qmqpd and verify "
                        "are known, but nothing makes such mail."),
    INT(virtual_alias_recursion_limit, "1000", 1, "Deepest nesting of virtual aliases."),
    INT(virtual_alias_expansion_limit, "1000", 1, "Most addresses that one recipient may become."),
    INT(virtual_alias_address_length_limit, "1000", 1,
        "Longest address that a virtual alias may give."),
    INT(header_size_limit, "102400", 1, "Most bytes of a message header that are kept."),
    INT(body_checks_size_limit, "51200", 0, "Bytes of the body that body_checks look at."),
    INT(hopcount_limit, "50", 1, "Most Received: fields of a message; more are a loop."),
    INT(message_size_limit, "10240000", 0, "Most bytes of a message; 0 for no limit."),
    INT(duplicate_filter_limit, "1000", 0,
        "Recipients that are remembered to drop duplicates; 0 for no limit."),
    BOOL(enable_original_recipient, "yes",
         "Whether the address before aliases is kept for X-Original-To."),
    BOOL(soft_bounce, "no", "Nothing is refused for good, but for now."),
    BOOL(always_add_missing_headers, "no",
         "Whether Date, From and Message-Id are added for remote clients too."),
};

static void check_utf8_classes(struct map_env *env, struct findings *f)
{
    static const char name[] = "smtputf8_autodetect_classes";
    struct err err = ERR_INIT;
    unsigned bits;

    if (cleanup_utf8_classes_parse(config_get(map_env_config(env), name), &bits, &err) == -1)
        findings_error(f, name, "%s", err.text);
}

static void check(struct map_env *env, struct findings *f)
{
    static const char *const classes[] = {"canonical_classes", "sender_canonical_classes",
                                          "recipient_canonical_classes", "masquerade_classes"};
    static const char *const characters[] = {"message_reject_characters",
                                             "message_strip_characters"};

    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        struct err err = ERR_INIT;

        if (cleanup_classes_parse(config_get(map_env_config(env), classes[i]), &err) == 0)
            findings_error(f, classes[i], "%s", err.text);
    }
    for (size_t i = 0; i < ARRAY_LEN(characters); i++) {
        struct byte_set set;
        struct err err = ERR_INIT;

        if (cleanup_characters_parse(config_get(map_env_config(env), characters[i]), &set, &err) ==
            -1)
            findings_error(f, characters[i], "%s", err.text);
    }
    check_utf8_classes(env, f);
}

const struct param_set cleanup_params =
    PARAM_SET_CHECKED("cleanup", struct cleanup_params, rows, check);

static const struct param submit_rows[] = {
    PARAM_STRING("authorized_submit_users", struct postdrop_params, authorized_submit_users,
                 .def = "static:anyone", .services = "sendmail,postdrop",
                 .doc = "Users who may hand in mail with sendmail."),
};
const struct param_set postdrop_params = PARAM_SET("postdrop", struct postdrop_params, submit_rows);

extern const struct param_set *const cleanup_param_sets[];

const struct param_set *const cleanup_param_sets[] = {
    &cleanup_params,
    &postdrop_params,
    &receive_params,
    NULL,
};
