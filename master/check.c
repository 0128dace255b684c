/* SPDX-License-Identifier: Apache-2.0 */
/* check.c - every finding about a generation: parameters, services, tables. */
#include <stdlib.h>
#include <string.h>

#include "base/htable.h"
#include "maps/map.h"
#include "master/master_int.h"

struct check {
    const struct generation *g;
    check_report_fn fn;
    void *arg;
    int fatal;
    struct map_env *env;
};

PRINTF_LIKE(3, 4) static void report(struct check *c, bool is_fatal, const char *fmt, ...)
{
    struct buf text = BUF_INIT(8192);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    c->fn(is_fatal, buf_cstr(&text), c->arg);
    c->fatal += is_fatal;
    buf_fini(&text);
}

static void on_config(enum config_finding kind, const char *file, int line, const char *text,
                      void *arg)
{
    struct check *c = arg;

    if (file != NULL && line > 0)
        report(c, kind == CONFIG_FATAL, "%s, line %d: %s", file, line, text);
    else
        report(c, kind == CONFIG_FATAL, "%s", text);
}

static bool is_table_type(struct slice type, bool *known)
{
    static const char *const files[] = {"hash", "btree", "texthash", "regexp",
                                        "pcre", "cidr",  "inline"};

    *known = false;
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        *known |= slice_eq_str(type, files[i]);
    return *known;
}

/* Elements "type:name" of a value; {...} of inline tables kept together. */
static void check_tables(const struct param *p, void *arg)
{
    struct check *c = arg;
    const char *value;
    struct slice rest;
    struct slice word;

    if (p->name[0] == '*' || p->status == PARAM_PENDING || p->type != PARAM_TYPE_STRING ||
        !config_is_set(c->g->cfg, p->name))
        return;
    value = config_get(c->g->cfg, p->name);
    rest = slice_str(value);
    while (value != NULL && slice_token_braces(&rest, ", \t\r\n", &word)) {
        struct slice spec = word;
        struct err err = ERR_INIT;
        ptrdiff_t colon;
        bool known;

        while (spec.len > 0 && spec.ptr[0] == '!')
            spec = slice_sub(spec, 1, spec.len);
        if (slice_starts_with(spec, SLICE_LIT("proxy:")))
            spec = slice_sub(spec, 6, spec.len);
        colon = slice_find(spec, ':');
        if (colon < 1 || !is_table_type(slice_sub(spec, 0, (size_t) colon), &known))
            continue;
        if (map_check(c->env, spec, &err) == -1)
            report(c, true, "%s, line %d: %s: %s", "main.cf", config_line(c->g->cfg, p->name),
                   p->name, err.text);
    }
}

static void check_services(struct check *c)
{
    for (size_t i = 0; i < c->g->cf->services.len; i++) {
        const struct master_service *s = c->g->cf->services.items[i];

        if (service_kind(c->g, s) == SERVICE_MISSING)
            report(c, false, "%s, line %d: service %s: there is no program %s in %s",
                   c->g->cf->path, s->line, s->name, s->command, c->g->common.daemon_directory);
        for (char **o = s->overrides; *o != NULL; o++) {
            char *name = xstrndup(*o, strcspn(*o, "= "));
            const char *near;

            if (param_find(name) == NULL && !config_is_set(c->g->cfg, name)) {
                near = param_suggest(name);
                report(c, false, "%s, line %d: unknown parameter %s%s%s", c->g->cf->path, s->line,
                       name, near != NULL ? ": did you mean " : "", near != NULL ? near : "");
            }
            free(name);
        }
    }
    static const char *const needed[] = {"qmgr", "cleanup"};
    for (size_t i = 0; i < ARRAY_LEN(needed); i++)
        if (master_cf_find(c->g->cf, needed[i], SERVICE_UNIX) == NULL)
            report(c, false, "%s: there is no service \"%s unix\"; no mail will flow",
                   c->g->cf->path, needed[i]);
}

int check_generation(const struct generation *g, check_report_fn fn, void *arg)
{
    struct check c = {.g = g, .fn = fn, .arg = arg};

    config_check(g->cfg, on_config, &c);
    c.env = map_env_new(g->cfg);
    param_each(check_tables, &c);
    map_env_free(&c.env);
    check_services(&c);
    return c.fatal;
}
