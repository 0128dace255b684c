/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp_check.c - findings about next hops that a configuration names: the name service knows no such host.
 *
 * Asked once and briefly; the first time that no answer comes the rest is left: who is offline, or has a slow name server,
 * is not told what nobody knows.
 */
#include <stdlib.h>

#include "base/mtime.h"
#include "maps/map.h"
#include "postconf/findings.h"
#include "smtp/smtp_int.h"

#define PATIENCE_S 1 /* for one answer of one name server */
#define LOOKUPS_MS 3000

struct lookups {
    struct smtp s;
    struct findings *f;
    struct mono_time deadline;
    bool ended;
};

static void look_up(struct lookups *l, const char *parameter, struct slice nexthop)
{
    struct smtp_targets targets = {0};
    struct err err = ERR_INIT;

    if (l->ended || nexthop.len == 0)
        return;
    if (smtp_targets_find(&l->s, nexthop, &targets, &err) == 0)
        smtp_targets_fini(&targets);
    else if (err.kind != ERR_TEMPORARY || strcmp(err.dsn, "4.3.5") == 0)
        findings_warn(l->f, parameter, "mail to \"%.*s\" could not be sent: %s", SLICE_FMT(nexthop),
                      err.text);
    else
        l->ended = true;
    l->ended |= mono_poll_ms(l->deadline) == 0;
}

/* The next hop of "transport:nexthop", where the transport is this client under one of its usual names. */
static struct slice nexthop_of(struct slice value)
{
    ptrdiff_t colon = slice_find(value, ':');
    struct slice transport = slice_sub(value, 0, colon == -1 ? value.len : (size_t) colon);

    if (colon == -1 || (transport.len > 0 && !slice_eq_str(transport, "smtp") &&
                        !slice_eq_str(transport, "relay")))
        return SLICE_EMPTY;
    return slice_trim(slice_sub(value, (size_t) colon + 1, value.len), NULL);
}

static void look_up_list(struct lookups *l, const char *parameter)
{
    struct slice rest = slice_str(config_get(findings_config(l->f), parameter));
    struct slice word;

    while (!findings_knows(l->f, parameter) && slice_token(&rest, ", \t\r\n", &word))
        look_up(l, parameter, word);
}

static void look_up_transport(struct lookups *l, const char *parameter)
{
    if (!findings_knows(l->f, parameter))
        look_up(l, parameter, nexthop_of(slice_str(config_get(findings_config(l->f), parameter))));
}

/* The row "*" of transport_maps, which all mail without a row of its own takes. */
static void look_up_default_row(struct lookups *l, struct map_env *env)
{
    struct buf value = BUF_INIT(MAP_VALUE_MAX);
    struct map_list *list = NULL;
    struct err err = ERR_INIT;

    if (findings_knows(l->f, "transport_maps") ||
        map_list_open(env, config_get(findings_config(l->f), "transport_maps"), &list, &err) == -1)
        return; /* reported as a table that does not open */
    if (map_list_lookup(list, SLICE_LIT("*"), MAP_FLAG_FIXED, &value, NULL, &err) == MAP_FOUND)
        look_up(l, "transport_maps", nexthop_of(buf_view(&value)));
    map_list_free(&list);
    buf_fini(&value);
}

void smtp_check(struct map_env *env, struct findings *f)
{
    struct lookups l = {.f = f, .deadline = mono_after_ms(mono_now(), LOOKUPS_MS)};
    const struct config *cfg = findings_config(f);
    struct err err = ERR_INIT;

    if (config_bind(cfg, &smtp_params, &l.s.p, &err) == -1 || dns_new(cfg, &l.s.dns, &err) == -1) {
        findings_error(f, "smtp_dns_support_level", "%s", err.text);
        return;
    }
    if (strcmp(l.s.p.address_preference, "any") != 0 &&
        strcmp(l.s.p.address_preference, "ipv4") != 0 &&
        strcmp(l.s.p.address_preference, "ipv6") != 0)
        findings_error(f, "smtp_address_preference", "\"%s\" is none of any, ipv4, ipv6",
                       l.s.p.address_preference);
    /* the system's own look-up has no limit that we could set */
    l.ended = !findings_may_ask_network(f) || strstr(l.s.p.host_lookup, "dns") == NULL ||
              l.s.p.disable_dns_lookups || strcmp(l.s.p.dns_support_level, "disabled") == 0;
    dns_be_brief(l.s.dns, PATIENCE_S);
    look_up_list(&l, "relayhost");
    look_up_list(&l, "smtp_fallback_relay");
    look_up_transport(&l, "default_transport");
    look_up_transport(&l, "relay_transport");
    if (!l.ended)
        look_up_default_row(&l, env);
    dns_free(&l.s.dns);
}
