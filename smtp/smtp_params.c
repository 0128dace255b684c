/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp_params.c - the parameters of the SMTP client, and the list of this folder's parameter sets.
 */
#include "smtp/smtp_int.h"

#define S "smtp"
#define STRING(name, member, default_, text)                                                       \
    PARAM_STRING(name, struct smtp_params, member, .def = default_, .services = S, .doc = text)
#define BOOL(name, member, default_, text)                                                         \
    PARAM_BOOL(name, struct smtp_params, member, .def = default_, .services = S, .doc = text)
#define TIME(name, member, default_, least, text)                                                  \
    PARAM_TIME(name, struct smtp_params, member, .def = default_, .min = least, .services = S,     \
               .doc = text)
#define INT(name, member, default_, least, text)                                                   \
    PARAM_INT(name, struct smtp_params, member, .def = default_, .min = least, .services = S,      \
              .doc = text)

static const struct param rows[] = {
    STRING("smtp_helo_name", helo_name, "$myhostname", "The name given in HELO and EHLO."),
    STRING("smtp_bind_address", bind_address, "",
           "Local IPv4 address that connections are made from."),
    STRING("smtp_bind_address6", bind_address6, "",
           "Local IPv6 address that connections are made from."),
    STRING("smtp_fallback_relay", fallback_relay, "$fallback_relay",
           "Next hops that are tried when no other host can be reached."),
    STRING("smtp_host_lookup", host_lookup, "dns",
           "How host names are looked up: dns, native, or both."),
    STRING("smtp_dns_support_level", dns_support_level, "",
           "How far the name service is used: disabled, enabled, dnssec."),
    STRING("smtp_connection_cache_destinations", connection_cache_destinations, "",
           "Next hops whose connections are always kept for reuse."),
    STRING("smtp_tcp_port", tcp_port, "smtp",
           "The port that mail is delivered to when the next hop names none."),
    STRING("smtp_generic_maps", generic_maps, "",
           "Tables that replace addresses in envelope and header as mail leaves."),
    STRING("smtp_address_preference", address_preference, "any",
           "Addresses of a host that are tried first: ipv6, ipv4, any."),
    STRING("smtp_discard_ehlo_keywords", discard_ehlo_keywords, "",
           "Keywords in the answer to EHLO that are passed over."),
    STRING("smtp_discard_ehlo_keyword_address_maps", discard_ehlo_maps, "",
           "Tables of such keywords by the server's address."),
    TIME("smtp_quit_timeout", quit_timeout_s, "300s", 1, "Time for QUIT, and its answer."),
    BOOL("smtp_randomize_addresses", randomize_addresses, "yes",
         "Try mail exchangers of one preference, and addresses of one host, in random order."),
    BOOL(
        "smtp_balance_inet_protocols", balance_inet_protocols, "yes",
        "Where addresses of both IP versions are known, see to it that smtp_mx_address_limit leaves "
        "one of each."),
    BOOL("ignore_mx_lookup_error", ignore_mx_lookup_error, "no",
         "Try a domain's own addresses when its mail exchangers cannot be looked up."),
    TIME("smtp_connect_timeout", connect_timeout_s, "30s", 0,
         "Time to set up a connection; 0: the system's own limit."),
    TIME("smtp_helo_timeout", helo_timeout_s, "300s", 1,
         "Time for the greeting, and for the answer to HELO."),
    TIME("smtp_mail_timeout", mail_timeout_s, "300s", 1, "Time for the answer to MAIL."),
    TIME("smtp_rcpt_timeout", rcpt_timeout_s, "300s", 1, "Time for the answer to RCPT."),
    TIME("smtp_data_init_timeout", data_init_timeout_s, "120s", 1, "Time for the answer to DATA."),
    TIME("smtp_data_xfer_timeout", data_xfer_timeout_s, "180s", 1,
         "Time for each piece of content to be taken."),
    TIME("smtp_data_done_timeout", data_done_timeout_s, "600s", 1,
         "Time for the answer to the final dot."),
    TIME("smtp_rset_timeout", rset_timeout_s, "20s", 1, "Time for the answer to RSET."),
    INT("smtp_mx_address_limit", mx_address_limit, "5", 0,
        "Most addresses tried for one message; 0: no limit."),
    INT("smtp_mx_session_limit", mx_session_limit, "2", 0,
        "Most sessions with hosts for one message; 0: no limit."),
    INT("smtp_line_length_limit", line_length_limit, "998", 0,
        "Longer lines are folded; 0: never."),
    TIME("smtp_connection_cache_time_limit", cache_time_limit_s, "2s", 1,
         "How long an unused connection is kept."),
    TIME("smtp_connection_reuse_time_limit", reuse_time_limit_s, "300s", 1,
         "How long one connection is used."),
    INT("smtp_connection_reuse_count_limit", reuse_count_limit, "0", 0,
        "How often one connection is used; 0: no limit."),
    BOOL(
        "smtp_connection_cache_on_demand", cache_on_demand, "yes",
        "Keep connections while more mail waits for the next hop, or several deliveries to it go on at once."),
    BOOL("smtp_skip_5xx_greeting", skip_5xx_greeting, "yes",
         "After a 5xx greeting the next host is tried."),
    BOOL("smtp_skip_quit_response", skip_quit_response, "yes",
         "Do not wait for the answer to QUIT."),
    BOOL("smtp_always_send_ehlo", always_send_ehlo, "yes",
         "Begin with EHLO whatever the greeting says."),
    BOOL("smtp_never_send_ehlo", never_send_ehlo, "no", "Never say EHLO."),
    BOOL("smtp_defer_if_no_mx_address_found", defer_if_no_mx_address_found, "no",
         "Defer when no MX host has an address, rather than bounce."),
    BOOL("disable_mime_output_conversion", disable_mime_conversion, "no",
         "Send 8-bit text as it is to servers without 8BITMIME; else parts that say that they are "
         "8-bit become quoted-printable."),
    BOOL("disable_dns_lookups", disable_dns_lookups, "no",
         "Use no name service for next hops (see smtp_dns_support_level)."),
    BOOL("smtp_quote_rfc821_envelope", quote_envelope, "yes",
         "Quote local parts in MAIL and RCPT as RFC 5321 wants it."),
};
const struct param_set smtp_params =
    PARAM_SET_CHECKED("smtp", struct smtp_params, rows, smtp_check);

extern const struct param_set *const smtp_param_sets[];

const struct param_set *const smtp_param_sets[] = {
    &smtp_params,
    NULL,
};
