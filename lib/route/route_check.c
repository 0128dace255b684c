/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route_check.c - findings about address classes: a domain in two of them, and mail to this host that belongs to none.
 *
 * Only names that stand in main.cf itself are looked for, in the lists and in the tables of the other classes: a table's own keys are
 * too many, and of some types cannot be listed.
 */
#include <stdlib.h>

#include "postconf/findings.h"
#include "route/route_int.h"

/* In the order in which they are asked. */
static const char *const classes[] = {"mydestination", "virtual_alias_domains",
                                      "virtual_mailbox_domains", "relay_domains"};

struct lists {
    struct map_env *env;
    struct findings *f;
    struct match_list *list[ARRAY_LEN(classes)]; /* NULL: not set, or does not open */
    bool is_broken; /* one cannot be read, opened or asked: what it would say is not known */
};

static bool is_name(struct slice word)
{
    return word.ptr[0] != '!' && word.ptr[0] != '/' && word.ptr[0] != '.' &&
           slice_find(word, ':') == -1;
}

/* Is there a value of which only a stand-in is known, so that nobody knows where mail goes? */
static bool is_uncertain(const struct config *cfg)
{
    static const char *const others[] = {"myhostname", "myorigin", "transport_maps"};
    bool uncertain = false;

    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        uncertain = uncertain || config_is_stand_in(cfg, classes[i]);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        uncertain = uncertain || config_is_stand_in(cfg, others[i]);
    return uncertain;
}

/* The names of class a against the list of class b. */
static void compare(struct lists *l, size_t a, size_t b)
{
    struct slice rest = slice_str(config_get(findings_config(l->f), classes[a]));
    struct slice word;
    size_t first = a < b ? a : b;
    size_t second = a < b ? b : a;

    if (l->list[a] == NULL || l->list[b] == NULL ||
        (!findings_may_ask_network(l->f) && (match_list_flags(l->list[b]) & MAP_FLAG_LOCAL) == 0))
        return;
    while (!l->is_broken && slice_token_braces(&rest, ", \t\r\n", &word)) {
        struct err err = ERR_INIT;
        enum map_result res =
            is_name(word) ? match_list_string(l->list[b], word, &err) : MAP_NOTFOUND;

        if (res == MAP_FOUND)
            findings_warn(l->f, classes[second],
                          "domain %.*s is in %s too, which comes first: take it out of one of them",
                          SLICE_FMT(word), classes[first]);
        l->is_broken |=
            res == MAP_RETRY; /* the table has said so; it is not asked again and again */
    }
}

/* Mail that this system sends to itself (its reports, cron's) must be for a class of its own, or go elsewhere. */
static void check_own_name(struct lists *l)
{
    const struct config *cfg = findings_config(l->f);
    struct slice host = slice_str(config_get(cfg, "myhostname"));
    const char *relayhost = config_get(cfg, "relayhost");
    const char *interfaces = config_get(cfg, "inet_interfaces");
    struct buf value = BUF_INIT(MAP_VALUE_MAX);
    struct map_list *transports = NULL;
    struct err err = ERR_INIT;
    bool goes = false;

    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        if (l->list[i] != NULL && !findings_may_ask_network(l->f) &&
            (match_list_flags(l->list[i]) & MAP_FLAG_LOCAL) == 0)
            return;
    if (!slice_caseeq(slice_str(config_get(cfg, "myorigin")), host) || relayhost[0] != '\0' ||
        strcmp(interfaces, "loopback-only") == 0 || !config_is_set(cfg, "mydestination"))
        return;
    for (size_t i = 0; i < ARRAY_LEN(classes) && !goes; i++)
        goes = l->list[i] != NULL && match_list_string(l->list[i], host, &err) != MAP_NOTFOUND;
    if (!goes && map_list_open(l->env, config_get(cfg, "transport_maps"), &transports, &err) == 0)
        goes = map_domain_lookup(transports, host, true, &value, &err) != MAP_NOTFOUND;
    if (!goes)
        findings_warn(l->f, "mydestination",
                      "mail for %.*s, as which this system sends (myorigin), is for no domain of "
                      "its own and would come back to it: add $myhostname",
                      SLICE_FMT(host));
    map_list_free(&transports);
    buf_fini(&value);
}

void route_check(struct map_env *env, struct findings *f)
{
    static const char *const others[] = {"myhostname", "myorigin", "relayhost", "transport_maps"};
    const struct config *cfg = findings_config(f);
    struct lists l = {.env = env, .f = f, .is_broken = is_uncertain(cfg)};
    size_t known = 0;

    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        known += findings_knows(f, classes[i]);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        known += findings_knows(f, others[i]);
    if (known == ARRAY_LEN(classes) + ARRAY_LEN(others))
        return;

    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        const char *value = config_get(cfg, classes[i]);
        struct err err = ERR_INIT;

        /* of old, relay_domains is mydestination when nothing is said */
        if (value == NULL || (!config_is_set(cfg, classes[i]) && i == ARRAY_LEN(classes) - 1))
            continue;
        if (match_list_open(env, MATCH_STRING, value, false, &l.list[i], &err) == -1) {
            /* tables are reported where all are opened */
            if (strchr(value, ':') == NULL)
                findings_error(f, classes[i], "%s", err.text);
            l.is_broken = true;
        }
    }
    for (size_t a = 0; a < ARRAY_LEN(classes); a++)
        for (size_t b = 0; b < ARRAY_LEN(classes); b++)
            if (a != b)
                compare(&l, a, b);
    if (!l.is_broken)
        check_own_name(&l);
    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        match_list_free(&l.list[i]);
}
