/* SPDX-License-Identifier: Apache-2.0 */
/* receive.c - content_filter and receive_override_options. See receive.h. */
#include "cleanup/receive.h"

#include "postconf/findings.h"

struct receive_values {
    const char *filter, *options;
};

#define V struct receive_values
static const struct param rows[] = {
    PARAM_STRING("content_filter", V, filter, .def = "", .services = "smtpd,pickup",
                 .doc = "Transport and next hop that all mail goes to first; it comes back by a "
                        "service that has none."),
    PARAM_STRING("receive_override_options", V, options, .def = "", .services = "smtpd,pickup",
                 .doc = "What is not done to mail that comes in: no_unknown_recipient_checks, "
                        "no_address_mappings, no_header_body_checks, no_milters."),
};

static void check(struct map_env *env, struct findings *f)
{
    struct receive_options o;
    struct err err = ERR_INIT;

    (void) env;
    if (receive_options_read(findings_config(f), &o, &err) == -1)
        findings_error(f, "receive_override_options", "%s", err.text);
}

const struct param_set receive_params = PARAM_SET_CHECKED("receiving", V, rows, check);

int receive_options_read(const struct config *cfg, struct receive_options *out, struct err *err)
{
    static const struct {
        const char *name;
        uint32_t flag; /* 0: any_recipient */
    } names[] = {
        {"no_unknown_recipient_checks", 0},
        {"no_address_mappings", MAIL_NO_ADDRESS_MAPS},
        {"no_header_body_checks", MAIL_NO_HEADER_CHECKS},
        {"no_milters", MAIL_NO_MILTERS},
    };
    struct receive_options o = {0};
    struct receive_values v;
    struct slice rest;
    struct slice word;

    if (config_bind(cfg, &receive_params, &v, err) == -1)
        return -1;
    o.filter = slice_trim(slice_str(v.filter), NULL);
    rest = slice_str(v.options);
    while (slice_token(&rest, ", \t\r\n", &word)) {
        size_t i = 0;

        while (i < ARRAY_LEN(names) && !slice_caseeq_str(word, names[i].name))
            i++;
        if (i == ARRAY_LEN(names))
            return err_input(err, "unknown option \"%.*s\"", SLICE_FMT(word));
        o.flags |= names[i].flag;
        o.any_recipient |= names[i].flag == 0;
    }
    *out = o;
    return 0;
}

void receive_options_put(const struct receive_options *o, struct mail_envelope *env)
{
    env->flags |= o->flags;
    if (env->filter.len == 0)
        env->filter = o->filter;
}
