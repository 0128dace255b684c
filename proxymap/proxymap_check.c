/* SPDX-License-Identifier: Apache-2.0 */
/* proxymap_check.c - findings of postfix check: tables that are to come from proxymap(8), which may not serve them. */
#include "postconf/findings.h"
#include "proxymap/approved.h"
#include "proxymap/proxymap.h"

struct search {
    struct findings *f;
    const struct config *cfg;
    struct approved *read, *write; /* by main.cf: the service does not see the -o of others */
    const char *name;
};

static void one_table(struct slice table, void *arg)
{
    const struct search *s = arg;

    if (!approved_has(s->read, table) && !approved_has(s->write, table))
        findings_warn(s->f, s->name,
                      "proxymap(8) may not serve proxy:%.*s: list it in proxy_read_maps",
                      SLICE_FMT(table));
}

static void one_parameter(const struct param *p, void *arg)
{
    struct search *s = arg;
    const char *value;
    struct approved *named;

    if (p->name[0] == '*' || strcmp(p->name, "proxy_read_maps") == 0 ||
        strcmp(p->name, "proxy_write_maps") == 0 || !config_is_set(s->cfg, p->name) ||
        findings_knows(s->f, p->name))
        return;
    value = config_get(s->cfg, p->name);
    if (value == NULL || strstr(value, "proxy:") == NULL)
        return;
    s->name = p->name;
    named = approved_new(value);
    approved_each(named, one_table, s);
    approved_free(&named);
}

void proxymap_check(struct map_env *env, struct findings *f)
{
    struct search s = {.f = f, .cfg = findings_config(f)};
    struct proxymap_params p;

    (void) env;
    if (config_is_stand_in(findings_main_config(f), "proxy_read_maps") ||
        config_is_stand_in(findings_main_config(f), "proxy_write_maps") ||
        config_bind(findings_main_config(f), &proxymap_params, &p, NULL) == -1)
        return; /* a wrong value is reported by those who look for that */
    s.read = approved_new(p.read_maps);
    s.write = approved_new(p.write_maps);
    param_each(one_parameter, &s);
    approved_free(&s.read);
    approved_free(&s.write);
}
