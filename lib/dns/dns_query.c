/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns_query.c - one question to the name servers and the walk over its answer; libresolv does the packets.
 */
#include "dns/dns_int.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "base/blocking.h"
#include "base/num.h"
#include "base/slice.h"

#define ANSWER_MAX 65535

static void set_servers(struct dns *d, struct __res_state *state)
{
    state->retrans = (int) d->p.dns_timeout_s;
    state->retry = (int) d->p.dns_attempts;
    state->options |= RES_USE_EDNS0 | RES_TRUSTAD;
    state->options &= ~(unsigned long) (RES_DNSRCH | RES_DEFNAMES);
    if (d->nservers == 0)
        return;
    state->nscount = 0;
    for (int i = 0; i < d->nservers; i++) {
        if (d->servers[i].ss_family == AF_INET) {
            memcpy(&state->nsaddr_list[i], &d->servers[i], sizeof(struct sockaddr_in));
        } else {
            /* glibc keeps IPv6 servers beside the list; the slot's family 0 says "look there" */
            struct sockaddr_in6 *v6 = malloc(sizeof(*v6));

            if (v6 == NULL)
                continue;
            memcpy(v6, &d->servers[i], sizeof(*v6));
            state->_u._ext.nsaddrs[i] = v6;
            state->nsaddr_list[i].sin_family = 0;
        }
        state->nscount = i + 1;
    }
}

static const char *type_name(int type)
{
    switch (type) {
    case ns_t_mx:
        return "MX";
    case ns_t_a:
        return "A";
    case ns_t_aaaa:
        return "AAAA";
    case ns_t_ptr:
        return "PTR";
    case ns_t_txt:
        return "TXT";
    default:
        return "record";
    }
}

static enum dns_result failed(int h_errno_value, const char *name, int type, struct err *err)
{
    switch (h_errno_value) {
    case HOST_NOT_FOUND:
        err_set(
            err, ERR_PERMANENT, "5.4.4",
            "Host or domain name not found. Name service error for name=%s type=%s: Host not found",
            name, type_name(type));
        return DNS_NOTFOUND;
    case NO_DATA:
        err_set(
            err, ERR_PERMANENT, "5.4.4",
            "Host or domain name not found. Name service error for name=%s type=%s: Host found but no data record of requested type",
            name, type_name(type));
        return DNS_NOTFOUND;
    case NO_RECOVERY:
        err_set(err, ERR_TEMPORARY, "4.4.3",
                "Name service error for name=%s type=%s: Non-recoverable error", name,
                type_name(type));
        return DNS_RETRY;
    default:
        err_set(
            err, ERR_TEMPORARY, "4.4.3",
            "Host or domain name not found. Name service error for name=%s type=%s: Host not found, try again",
            name, type_name(type));
        return DNS_RETRY;
    }
}

static enum dns_result walk(const unsigned char *answer, int len, const char *name, int type,
                            dns_record_fn fn, void *arg, bool *authentic, struct err *err)
{
    ns_msg msg;
    ns_rr rr;
    int found = 0;

    if (ns_initparse(answer, len, &msg) != 0) {
        err_set(err, ERR_PERMANENT, "5.4.4",
                "malformed answer from the name server for name=%s type=%s", name, type_name(type));
        return DNS_INVALID;
    }
    if (authentic != NULL)
        *authentic = ns_msg_getflag(msg, ns_f_ad) != 0;
    for (int i = 0; i < ns_msg_count(msg, ns_s_an); i++) {
        if (ns_parserr(&msg, ns_s_an, i, &rr) != 0) {
            err_set(err, ERR_PERMANENT, "5.4.4",
                    "malformed record from the name server for name=%s type=%s", name,
                    type_name(type));
            return DNS_INVALID;
        }
        if ((int) ns_rr_type(rr) != type)
            continue;
        found++;
        if (!fn(&msg, &rr, arg))
            break;
    }
    return found > 0 ? DNS_OK : failed(NO_DATA, name, type, err);
}

enum dns_result dns_query(struct dns *d, const char *name, int type, dns_record_fn fn, void *arg,
                          bool *authentic, struct err *err)
{
    struct __res_state state = {0};
    unsigned char *answer;
    enum dns_result result;
    int len;

    if (name[0] == '\0' || strlen(name) >= NS_MAXDNAME) {
        err_set(err, ERR_PERMANENT, "5.4.4", "the name \"%.100s\" cannot be looked up", name);
        return DNS_INVALID;
    }
    if (res_ninit(&state) != 0) {
        err_set(err, ERR_TEMPORARY, "4.4.3", "resolver: cannot be initialised");
        return DNS_RETRY;
    }
    set_servers(d, &state);
    answer = xmalloc(ANSWER_MAX);
    blocking_begin();
    len = res_nquery(&state, name, ns_c_in, type, answer, ANSWER_MAX);
    blocking_end();
    if (len < 0)
        result = failed(state.res_h_errno, name, type, err);
    else
        result =
            walk(answer, len < ANSWER_MAX ? len : ANSWER_MAX, name, type, fn, arg, authentic, err);
    free(answer);
    res_nclose(&state);
    return result;
}
