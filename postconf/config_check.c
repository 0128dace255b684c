/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_check.c - every finding about main.cf, and about names in master.cf: unknown and not yet effective names, values that do not parse,
 * repeated definitions, lines that are ignored.
 */
#include <stdlib.h>
#include <string.h>

#include "postconf/config_int.h"

struct check {
    const struct config *cfg;
    const char *path; /* of what is looked at */
    const char *master_path;
    void (*report)(enum config_finding, const char *, int, const char *, void *);
    void *arg;
};

PRINTF_LIKE(4, 5)
static void report(const struct check *c, enum config_finding kind, int line, const char *fmt, ...)
{
    struct buf text = BUF_INIT(4096);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    c->report(kind, c->path, line, buf_cstr(&text), c->arg);
    buf_fini(&text);
}

static const struct config_entry *replaced_entry(const struct config *cfg,
                                                 const struct config_entry *e)
{
    for (size_t i = 0; i < cfg->in_order.len; i++) {
        const struct config_entry *old = cfg->in_order.items[i];

        if (old->line == e->overrides && strcmp(old->name, e->name) == 0)
            return old;
    }
    return NULL;
}

/* A line that is ignored, or ignores another. */
static void check_line(const struct check *c, const struct config_entry *e)
{
    const struct config_entry *old;

    if (e->name[0] == '\0') {
        report(
            c, CONFIG_WARNING, e->line,
            "ignored: begins with white space, but there is no line that it could continue: \"%.60s\"",
            e->value);
        return;
    }
    old = e->overrides > 0 ? replaced_entry(c->cfg, e) : NULL;
    if (old != NULL)
        report(c, CONFIG_WARNING, e->line, "overriding earlier entry: %s=%.200s", old->name,
               old->value);
}

static void check_name(const struct check *c, const struct config_names *names, bool have_services,
                       const struct config_entry *e)
{
    const struct param *p = param_find(e->name);
    char near[PARAM_SUGGESTION_MAX];

    if (p == NULL && !config_names_has(names, e->name)) {
        report(c, CONFIG_WARNING, e->line, "unknown parameter %s%s", e->name,
               param_suggestion(e->name, near));
    } else if (p != NULL && p->name[0] == '*' && have_services &&
               !config_names_is_service(names, e->name)) {
        report(c, CONFIG_WARNING, e->line,
               "parameter %s has no effect: master.cf has no such delivery service", e->name);
    }
}

/* What is known, and set, and does not do what it says. */
static void check_effect(const struct check *c, const struct config_entry *e)
{
    const struct param *p = param_find(e->name);
    struct buf value = BUF_INIT(CONFIG_VALUE_MAX);
    struct err err = ERR_INIT;
    int64_t number;

    if (p != NULL && p->status == PARAM_PENDING) {
        report(c, CONFIG_WARNING, e->line, "parameter %s is not yet effective", e->name);
    } else if (p != NULL && p->name[0] == '*' &&
               (p->type == PARAM_TYPE_INT || p->type == PARAM_TYPE_TIME)) {
        size_t service = strlen(e->name) - (strlen(p->name) - 1);
        char *name = xstrndup(e->name, service);

        if (config_get_service_int(c->cfg, name, e->name + service + 1, &number, &err) == -1)
            c->report(CONFIG_FATAL, NULL, 0, err.text, c->arg);
        free(name);
    } else if (p == NULL && config_expand(c->cfg, e->value, &value, &err) == -1) {
        report(c, CONFIG_FATAL, e->line, "%s: %s", e->name, err.text);
    }
    buf_fini(&value);
}

static bool counts(const struct config *cfg, const struct config_entry *e)
{
    return e->line > 0 && htable_get(cfg->entries, slice_str(e->name)) == e;
}

static void check_sets(const struct check *c)
{
    for (const struct param_set *const *const *folder = all_param_sets; *folder != NULL; folder++) {
        for (const struct param_set *const *set = *folder; *set != NULL; set++) {
            void *values = xcalloc(1, (*set)->size);
            struct err err = ERR_INIT;

            /* row by row, so that one bad value does not hide the next */
            for (size_t i = 0; i < (*set)->count; i++) {
                struct param_set one = {(*set)->name, (*set)->size, &(*set)->rows[i], 1, NULL};

                if (config_bind(c->cfg, &one, values, &err) == -1)
                    c->report(CONFIG_FATAL, NULL, 0, err.text,
                              c->arg); /* the text names file and line itself */
            }
            free(values);
        }
    }
}

void config_check_effect(const struct config *cfg,
                         void (*fn)(enum config_finding kind, const char *file, int line,
                                    const char *text, void *arg),
                         void *arg)
{
    struct check c = {cfg, cfg->path, NULL, fn, arg};

    for (size_t i = 0; i < cfg->in_order.len; i++)
        if (counts(cfg, cfg->in_order.items[i]))
            check_effect(&c, cfg->in_order.items[i]);
    check_sets(&c);
}

void config_check_lines(const struct config *cfg,
                        void (*fn)(enum config_finding kind, const char *file, int line,
                                   const char *text, void *arg),
                        void *arg)
{
    struct check c = {cfg, cfg->path, NULL, fn, arg};

    for (size_t i = 0; i < cfg->in_order.len; i++)
        check_line(&c, cfg->in_order.items[i]);
}

void config_check(const struct config *cfg,
                  void (*fn)(enum config_finding kind, const char *file, int line, const char *text,
                             void *arg),
                  void *arg)
{
    struct check c = {cfg, cfg->path, NULL, fn, arg};
    struct master_cf *m = NULL;
    struct config_names *names;
    struct err err = ERR_INIT;

    /* A master.cf that cannot be read is reported by whoever reads it for its services. */
    if (master_cf_load(cfg->dir, &m, &err) == -1)
        m = NULL;
    names = config_names_new(cfg, m);
    config_check_lines(cfg, fn, arg);
    for (size_t i = 0; i < cfg->in_order.len; i++)
        if (counts(cfg, cfg->in_order.items[i]))
            check_name(&c, names, m != NULL, cfg->in_order.items[i]);
    config_check_effect(cfg, fn, arg);
    config_names_free(&names);
    master_cf_free(&m);
}

static void on_undefined(const char *name, bool in_master_cf, int line, void *arg)
{
    const struct check *c = arg;
    struct check place = *c;
    char near[PARAM_SUGGESTION_MAX];

    if (line == 0)
        return;
    place.path = in_master_cf ? c->master_path : c->cfg->path;
    report(&place, CONFIG_WARNING, line, "$%s is not defined, and stands for nothing%s", name,
           param_suggestion(name, near));
}

static void check_override_names(const struct check *c, const struct config_names *names,
                                 const struct master_service *s)
{
    char near[PARAM_SUGGESTION_MAX];

    for (char **o = s->overrides; *o != NULL; o++) {
        char *name = slice_dup(slice_trim(slice_of(*o, strcspn(*o, "=")), NULL));

        if (param_find(name) == NULL && !config_names_has(names, name))
            report(c, CONFIG_WARNING, s->line, "unknown parameter %s%s", name,
                   param_suggestion(name, near));
        free(name);
    }
}

void config_check_names(const struct config *cfg, const struct master_cf *m,
                        void (*fn)(enum config_finding kind, const char *file, int line,
                                   const char *text, void *arg),
                        void *arg)
{
    struct check c = {cfg, m->path, m->path, fn, arg};
    struct config_names *names = config_names_new(cfg, m);

    config_names_each_undefined(names, on_undefined, &c);
    for (size_t i = 0; i < m->services.len; i++)
        check_override_names(&c, names, m->services.items[i]);
    config_names_free(&names);
}
