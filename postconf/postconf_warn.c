/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postconf_warn.c - what postconf(1) warns of: lines without effect, names that nothing uses or defines, values that are wrong.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "postconf/postconf_int.h"

#define SOURCE_MAX (1U << 20)

static void warn_undefined(const char *name, bool in_master_cf, int line, void *arg)
{
    const struct config *cfg = arg;

    (void) line; /* Postfix's text has none */
    log_warning("%s/%s: undefined parameter: %s", cfg->dir, in_master_cf ? "master.cf" : "main.cf",
                name);
}

static void print_finding(enum config_finding kind, const char *file, int line, const char *text,
                          void *arg)
{
    (void) kind;
    (void) arg;
    if (file != NULL && line > 0)
        log_warning("%s, line %d: %s", file, line, text);
    else
        log_warning("%s", text);
}

static bool is_used(const struct config_names *names, const char *name)
{
    const struct param *row = param_find(name);

    if (config_names_has(names, name) || config_names_is_service(names, name))
        return true;
    return row != NULL && row->name[0] != '*' && !postconf_is_obsolete(row) &&
           !postconf_is_family_default(row);
}

/* True if no later -o of the same service has this name. */
static bool is_last(char **override, const char *name)
{
    for (char **o = override + 1; *o != NULL; o++)
        if (strncmp(*o, name, strlen(name)) == 0 && (*o)[strlen(name)] == '=')
            return false;
    return true;
}

static void warn_overrides(const struct config *cfg, const struct master_cf *m,
                           const struct config_names *names)
{
    for (size_t i = 0; i < m->services.len; i++) {
        const struct master_service *s = m->services.items[i];

        for (char **o = s->overrides; *o != NULL; o++) {
            char *name = slice_dup(slice_sub(slice_str(*o), 0, strcspn(*o, "=")));

            if (!is_used(names, name) && is_last(o, name))
                log_warning("%s/master.cf: unused parameter: %s", cfg->dir, *o);
            free(name);
        }
    }
}

struct source {
    const char *spec, *known;
};

static int check_source_line(struct slice name, struct slice value, int line, void *arg,
                             struct err *err)
{
    const struct source *s = arg;
    struct slice known = slice_str(s->known);
    struct slice one;

    (void) line;
    (void) err;
    while (slice_token(&known, " ", &one))
        if (slice_eq(one, name))
            return 0;
    if (name.len > 0)
        log_warning("%s: unused parameter: %.*s=%.*s", s->spec, SLICE_FMT(name), SLICE_FMT(value));
    return 0;
}

/* A database's own file, which looks like main.cf. */
static void warn_source(const char *spec, const char *known, void *arg)
{
    struct source s = {spec, known};
    const char *path = strchr(spec, ':') + 1;
    struct buf text = BUF_INIT(SOURCE_MAX);
    struct err err = ERR_INIT;

    (void) arg;
    if (file_read(path, &text, &err) == -1 ||
        main_cf_parse(path, buf_view(&text), check_source_line, &s, &err) == -1)
        log_warning("%s: %s", spec, err.text);
    buf_fini(&text);
}

struct broken {
    const struct config *cfg;
    bool found;
};

static void note_broken(const struct param *row, void *arg)
{
    struct broken *c = arg;

    if (row->name[0] != '*' && config_get(c->cfg, row->name) == NULL)
        c->found = true;
}

bool postconf_has_broken(const struct config *cfg)
{
    struct broken c = {cfg, false};

    param_each(note_broken, &c);
    for (size_t i = 0; i < cfg->in_order.len && !c.found; i++) {
        const struct config_entry *e = cfg->in_order.items[i];

        c.found = e->name[0] != '\0' && config_get(cfg, e->name) == NULL;
    }
    return c.found;
}

void postconf_warn(const struct postconf *p, const struct config *cfg, const struct master_cf *m,
                   enum postconf_warnings which)
{
    struct config_names *names;

    if (p->quiet)
        return;
    names = config_names_new(cfg, m);
    config_check_lines(cfg, print_finding, NULL);
    config_names_each_undefined(names, warn_undefined, (void *) (uintptr_t) cfg);
    for (size_t i = 0; i < cfg->in_order.len && which != POSTCONF_WARN_MASTER; i++) {
        const struct config_entry *e = cfg->in_order.items[i];

        if (e->name[0] != '\0' && htable_get(cfg->entries, slice_str(e->name)) == e &&
            !is_used(names, e->name))
            log_warning("%s: unused parameter: %s=%s", cfg->path, e->name, e->value);
    }
    if (m != NULL)
        warn_overrides(cfg, m, names);
    config_names_each_source(names, warn_source, NULL);
    if (which == POSTCONF_WARN_ALL)
        config_check_effect(cfg, print_finding, NULL);
    config_names_free(&names);
}
