/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postconf_main_cf.c - main.cf's parameters as postconf(1) shows them, and its warnings about names.
 *
 * Names are built in (they have a row), defined by a service of master.cf (*_suffix rows), or the user's own: those that
 * something refers to. The rest is unused.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "postconf/postconf_int.h"

struct shown {
    char *name;
    unsigned class;
};

struct collect {
    const struct postconf *p;
    const struct config *cfg;
    struct htable *seen;
    struct vec *names; /* struct shown * */
};

static char present[] = "";

struct config *postconf_load(const struct postconf *p)
{
    struct config *cfg = NULL;
    struct err err = ERR_INIT;
    int ret;

    if (p->defaults)
        ret = config_load_text("/etc/postfix", SLICE_EMPTY, NULL, 0, NULL, &cfg, &err);
    else
        ret = config_load(p->dir, p->overrides, p->noverrides, NULL, &cfg, &err);
    if (ret == -1)
        fatal("%s", err.text);
    return cfg;
}

struct master_cf *postconf_load_master(const struct config *cfg, bool *is_broken)
{
    struct master_cf *m = NULL;
    struct err err = ERR_INIT;

    *is_broken = false;
    if (master_cf_load(config_dir(cfg), &m, &err) == -1) {
        *is_broken = err.kind == ERR_BAD_INPUT;
        log_warning("%s", err.text);
        return NULL;
    }
    for (size_t i = 0; i < m->warnings.len; i++)
        log_warning("%s", (const char *) m->warnings.items[i]);
    return m;
}

bool postconf_is_obsolete(const struct param *row)
{
    return row->services != NULL && strcmp(row->services, "obsolete") == 0;
}

bool postconf_is_family_default(const struct param *row)
{
    const char *suffix = strchr(row->name, '_');
    bool same = false;

    for (; suffix != NULL && !same; suffix = strchr(suffix + 1, '_')) {
        struct buf family = BUF_INIT(256);
        const struct param *f;

        buf_printf(&family, "*%s", suffix);
        f = param_find(buf_cstr(&family));
        same = f != NULL && f->name[0] == '*' && row->def != NULL && f->def != NULL &&
               strcmp(f->def, row->def) == 0;
        buf_fini(&family);
    }
    return same;
}

static void add(struct collect *c, const char *name, unsigned class)
{
    struct shown *s;

    if (htable_put(c->seen, slice_str(name), present) != NULL || (c->p->classes & class) == 0)
        return;
    s = xcalloc(1, sizeof(*s));
    s->name = xstrdup(name);
    s->class = class;
    vec_push(c->names, s);
}

static void add_row(const struct param *row, void *arg)
{
    if (row->name[0] != '*' && !postconf_is_obsolete(row) && !postconf_is_family_default(row))
        add(arg, row->name, POSTCONF_BUILTIN);
}

static void add_service(const char *name, void *arg)
{
    add(arg, name, POSTCONF_SERVICE);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct shown *) a)->name, ((const struct shown *) b)->name);
}

static void free_shown(void *p)
{
    struct shown *s = p;

    free(s->name);
    free(s);
}

/* Every name there is, sorted. seen: whichever class was asked for. */
static void collect_names(struct collect *c, const struct config_names *names)
{
    /* first: a built-in name that a service brings with it is the service's */
    config_names_each_service(names, add_service, c);
    param_each(add_row, c);
    for (size_t i = 0; i < c->cfg->in_order.len; i++) {
        const struct config_entry *e = c->cfg->in_order.items[i];

        if (e->name[0] != '\0' && config_names_has(names, e->name))
            add(c, e->name, POSTCONF_USER);
    }
    vec_sort(c->names, by_name);
}

/* True if the name is set: by main.cf, by -o, or by how the configuration directory was named. */
static bool is_explicit(const struct postconf *p, const struct config *cfg, const char *name)
{
    if (strcmp(name, "config_directory") == 0 && !p->defaults)
        return p->dir != NULL || getenv("MAIL_CONFIG") != NULL || config_is_set(cfg, name);
    return config_is_set(cfg, name);
}

static void show(const struct postconf *p, const struct config *cfg, const char *name)
{
    const struct param *row = param_find(name);
    struct buf value = BUF_INIT(CONFIG_VALUE_MAX);
    struct err err = ERR_INIT;
    const char *text = NULL;
    char *owned = NULL;
    int ret = config_source(cfg, name, NULL, &text, &owned, &err);

    if (ret == 0 && p->expand && !(row != NULL && row->type == PARAM_TYPE_RAW))
        ret = config_expand_name(cfg, name, NULL, &value, &err);
    else if (ret == 0)
        buf_puts(&value, text != NULL ? text : "");
    free(owned);
    if (ret == -1) {
        int line = config_line(cfg, name);

        if (line > 0)
            fatal("%s, line %d: %s: %s", cfg->path, line, name, err.text);
        fatal("parameter %s: %s", name, err.text);
    }
    postconf_print(p, name, buf_cstr(&value));
    buf_fini(&value);
}

static void show_named(const struct postconf *p, struct collect *c,
                       const struct config_names *names)
{
    for (size_t i = 0; i < p->count; i++) {
        const char *name = p->names[i];
        const struct param *row = param_find(name);
        char near[PARAM_SUGGESTION_MAX];

        if (htable_get(c->seen, slice_str(name)) != NULL ||
            (row != NULL && row->name[0] != '*' && !postconf_is_obsolete(row)) ||
            config_names_has(names, name)) {
            if (!p->only_set || is_explicit(p, c->cfg, name))
                show(p, c->cfg, name);
            if (row != NULL && row->status == PARAM_PENDING && config_line(c->cfg, name) > 0)
                log_warning("%s, line %d: parameter %s is not yet effective", c->cfg->path,
                            config_line(c->cfg, name), name);
            continue;
        }
        log_warning("%s: unknown parameter%s", name,
                    row == NULL ? param_suggestion(name, near) : "");
    }
}

int postconf_show(const struct postconf *p)
{
    struct config *cfg = postconf_load(p);
    /* even with -d: the services' parameters have their defaults, too. That needs DIR, but not main.cf */
    struct config *where = cfg;
    struct vec shown = VEC_INIT;
    struct collect c = {p, cfg, htable_new(false), &shown};
    struct config_names *names;
    struct master_cf *m;
    bool is_broken;
    int status = 0;
    struct err err = ERR_INIT;

    if (p->defaults && config_load_text(p->dir, SLICE_EMPTY, NULL, 0, NULL, &where, &err) == -1)
        fatal("%s", err.text);
    m = postconf_load_master(where, &is_broken);
    names = config_names_new(cfg, m);
    collect_names(&c, names);
    if (p->count > 0) {
        show_named(p, &c, names);
    } else {
        for (size_t i = 0; i < shown.len; i++) {
            const struct shown *s = shown.items[i];

            if (!p->only_set || is_explicit(p, cfg, s->name))
                show(p, cfg, s->name);
        }
    }
    config_names_free(&names);
    if (!p->defaults)
        postconf_warn(p, cfg, m, p->count == 0 ? POSTCONF_WARN_ALL : POSTCONF_WARN_NAMES);
    if (p->count == 0 && (is_broken || postconf_has_broken(cfg)))
        status = 1;
    vec_clear(&shown, free_shown);
    vec_fini(&shown);
    htable_free(&c.seen, NULL);
    master_cf_free(&m);
    if (where != cfg)
        config_unref(&where);
    config_unref(&cfg);
    return status;
}
