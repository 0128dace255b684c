/* SPDX-License-Identifier: Apache-2.0 */
/* smtpd_params.c - the parameters of the SMTP server, and the list of this folder's parameter sets. */
#include "smtpd/smtpd_int.h"

#define P struct smtpd_params
#define S .services = "smtpd"
static const struct param rows[] = {
    PARAM_STRING("smtpd_banner", P, banner, .def = "$myhostname ESMTP $mail_name", S,
                 .doc = "What follows 220 in the greeting; begins with the host name."),
    PARAM_STRING("smtpd_forbidden_commands", P, forbidden_commands,
                 .def = "CONNECT GET POST regexp:{{/^[^A-Z]/ Bogus}}", S,
                 .doc = "Commands that end the session: their senders speak another protocol."),
    PARAM_STRING("smtpd_noop_commands", P, noop_commands, .def = "", S,
                 .doc = "Commands that are answered 250 and do nothing."),
    PARAM_STRING("smtpd_discard_ehlo_keywords", P, discard_ehlo_keywords, .def = "", S,
                 .doc = "Keywords that the answer to EHLO leaves out."),
    PARAM_STRING("smtpd_discard_ehlo_keyword_address_maps", P, discard_ehlo_keyword_maps, .def = "",
                 S, .doc = "Tables of such keywords by client address."),
    PARAM_STRING("local_header_rewrite_clients", P, local_header_rewrite_clients,
                 .def = "permit_inet_interfaces", S,
                 .doc = "Clients whose headers are completed as those of local mail."),
    PARAM_STRING(
        "remote_header_rewrite_domain", P, remote_header_rewrite_domain, .def = "", S,
        .doc =
            "Domain that completes header addresses of other clients; empty: they are left alone."),
    PARAM_STRING(
        "smtpd_forbid_bare_newline", P, forbid_bare_newline, .def = "reject", S,
        .doc =
            "What happens to content with a line feed that has no carriage return: no, yes (normalize), reject."),
    PARAM_STRING(
        "smtpd_forbid_bare_newline_exclusions", P, forbid_bare_newline_exclusions,
        .def = "$mynetworks", S,
        .doc =
            "Clients that smtpd_forbid_bare_newline does not apply to; their line ends are made right."),
    PARAM_TIME("smtpd_timeout", P, timeout_s, .def = "${stress?{10}:{300}}s", .min = 1, S,
               .doc = "Time that a client has for its next command, or piece of content."),
    PARAM_INT("smtpd_hard_error_limit", P, hard_error_limit, .def = "${stress?{1}:{20}}", .min = 1,
              S, .doc = "Errors after which the server hangs up."),
    PARAM_INT("smtpd_soft_error_limit", P, soft_error_limit, .def = "10", .min = 1, S,
              .doc = "Errors after which each further one delays the answer."),
    PARAM_INT(
        "smtpd_junk_command_limit", P, junk_command_limit, .def = "${stress?{1}:{100}}", .min = 1,
        S,
        .doc = "NOOP, VRFY, RSET and the like that a client may send before they count as errors."),
    PARAM_TIME("smtpd_error_sleep_time", P, error_sleep_s, .def = "1s", .min = 0, S,
               .doc = "Delay of the answer after an error beyond smtpd_soft_error_limit."),
    PARAM_INT("smtpd_recipient_limit", P, recipient_limit, .def = "1000", .min = 1, S,
              .doc = "Most recipients of one message."),
    PARAM_INT("smtpd_recipient_overshoot_limit", P, recipient_overshoot_limit, .def = "1000",
              .min = 1, S,
              .doc = "Recipients beyond the limit that are not yet counted as errors."),
    PARAM_INT("line_length_limit", P, line_length_limit, .def = "2048", .min = 512, .max = 65536, S,
              .doc = "Longest command line."),
    PARAM_INT("smtpd_history_flush_threshold", P, history_flush_threshold, .def = "100", .min = 1,
              .services = "smtpd", .status = PARAM_BUILT_IN,
              .note = "the transcript of a session (notify_classes) is kept whole, up to a limit",
              .doc = "Lines of history."),
    PARAM_INT("smtpd_forbid_bare_newline_reject_code", P, bare_newline_code, .def = "550",
              .min = 500, .max = 599, S, .doc = "Reply code for such content."),
    PARAM_TIME("in_flow_delay", P, in_flow_delay_s, .def = "1s", .min = 0, .max = 10,
               .services = "smtpd,pickup",
               .doc = "Pause before each new message while mail comes faster than it leaves; 0: "
                      "none."),
    PARAM_INT("queue_minfree", P, queue_minfree, .def = "0", .min = 0, S,
              .doc = "Free bytes that the queue's file system must have for mail to be accepted."),
    PARAM_BOOL("smtpd_helo_required", P, helo_required, .def = "no", S,
               .doc = "Whether HELO or EHLO must come before MAIL."),
    PARAM_BOOL("disable_vrfy_command", P, disable_vrfy, .def = "no", S,
               .doc = "Whether VRFY is refused."),
    PARAM_BOOL("strict_rfc821_envelopes", P, strict_rfc821, .def = "no", S,
               .doc = "Whether addresses in MAIL and RCPT must stand in <> and be well formed."),
    PARAM_BOOL("smtpd_peername_lookup", P, peername_lookup, .def = "yes", S,
               .doc = "Whether the client's name is looked up."),
    PARAM_BOOL("smtpd_client_port_logging", P, client_port_logging, .def = "no", S,
               .doc = "Whether log lines show the client's port."),
    PARAM_BOOL("soft_bounce", P, soft_bounce, .def = "no", S,
               .doc = "Nothing is refused for good: 5xx replies become 4xx."),
    PARAM_BOOL("smtpd_relay_before_recipient_restrictions", P, relay_first,
               .def = "${{$compatibility_level} <level {3.6} ? {no} : {yes}}", S,
               .doc = "Whether smtpd_relay_restrictions come before smtpd_recipient_restrictions."),
    PARAM_STRING("smtpd_command_filter", P, command_filter, .def = "", S,
                 .doc = "Tables that make another command line of one that a client sends."),
    PARAM_RAW(
        "smtpd_reject_footer", P, reject_footer, .def = "", S,
        .doc =
            "What is put behind replies that refuse; knows $client_address, $client_port, $localtime and $server_name."),
    PARAM_STRING("smtpd_reject_footer_maps", P, reject_footer_maps, .def = "", S,
                 .doc = "Tables that give such a text by the whole reply."),
    PARAM_RAW(
        "smtpd_expansion_filter", P, expansion_filter,
        .def =
            "\\t\\40!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\\\]^_`abcdefghijklmnopqrstuvwxyz{|}~",
        S, .doc = "Characters that $names in replies may have; others become _."),
    PARAM_STRING(
        "error_notice_recipient", P, notice_recipient, .def = "postmaster", .not_empty = true,
        .services = "smtpd,smtp",
        .doc =
            "Who gets transcripts of sessions with the SMTP server (notify_classes: policy, protocol)."),
    PARAM_BOOL("smtputf8_enable", P, smtputf8_enable,
               .def = "${{$compatibility_level} <level {1} ? {no} : {yes}}", S,
               .doc = "Whether SMTPUTF8 is offered, and non-ASCII text in commands must be UTF-8."),
    PARAM_BOOL("strict_smtputf8", P, strict_smtputf8, .def = "no", S,
               .doc = "Whether addresses with non-ASCII text are taken only with SMTPUTF8; without "
                      "it, such local parts are taken from all."),
};
const struct param_set smtpd_params = PARAM_SET_CHECKED("smtpd", P, rows, smtpd_footer_check);

extern const struct param_set *const smtpd_param_sets[];

const struct param_set *const smtpd_param_sets[] = {
    &smtpd_params,
    &policy_params,
    NULL,
};
