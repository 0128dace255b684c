/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_check.c - every finding about main.cf: unknown and not yet effective names, values that do not parse,
 * repeated definitions.
 */
#include <stdlib.h>
#include <string.h>

#include "postconf/config_int.h"

struct check {
    const struct config *cfg;
    void (*report)(enum config_finding, const char *, int, const char *, void *);
    void *arg;
};

static void report(const struct check *c, enum config_finding kind, int line, const char *text)
{
    c->report(kind, c->cfg->path, line, text, c->arg);
}

/* True if some other value, or a parameter's default, has $name in it. */
static bool is_referred_to(const struct config *cfg, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < cfg->in_order.len; i++) {
        const struct config_entry *e = cfg->in_order.items[i];

        for (const char *p = strchr(e->value, '$'); p != NULL; p = strchr(p + 1, '$')) {
            const char *at = p + 1;

            at += strspn(at, "{( ");
            if (strncmp(at, name, len) == 0 && !ascii_is_alnum((unsigned char) at[len]) &&
                at[len] != '_')
                return true;
        }
    }
    return false;
}

/* Words of smtpd_restriction_classes are parameters, too. */
static bool is_restriction_class(const struct config *cfg, const char *name)
{
    const char *value = config_get(cfg, "smtpd_restriction_classes");
    struct slice rest = slice_str(value);
    struct slice word;

    while (value != NULL && slice_token(&rest, ", \t\r\n", &word))
        if (slice_eq_str(word, name))
            return true;
    return false;
}

static void check_entry(const struct check *c, const struct config_entry *e)
{
    const struct param *p = param_find(e->name);
    struct buf text = BUF_INIT(1024);

    if (e->overrides > 0) {
        buf_printf(&text, "overriding earlier entry: %s (line %d)", e->name, e->overrides);
        report(c, CONFIG_WARNING, e->line, buf_cstr(&text));
        buf_reset(&text);
    }
    if (p == NULL && !is_referred_to(c->cfg, e->name) && !is_restriction_class(c->cfg, e->name)) {
        const char *near = param_suggest(e->name);

        buf_printf(&text, "unknown parameter %s", e->name);
        if (near != NULL)
            buf_printf(&text, ": did you mean %s?", near);
        report(c, CONFIG_WARNING, e->line, buf_cstr(&text));
    } else if (p != NULL && p->status == PARAM_PENDING) {
        buf_printf(&text, "parameter %s is not yet effective", e->name);
        report(c, CONFIG_WARNING, e->line, buf_cstr(&text));
    }
    buf_fini(&text);
}

void config_check(const struct config *cfg,
                  void (*fn)(enum config_finding kind, const char *file, int line, const char *text,
                             void *arg),
                  void *arg)
{
    struct check c = {cfg, fn, arg};

    for (size_t i = 0; i < cfg->in_order.len; i++)
        if (((const struct config_entry *) cfg->in_order.items[i])->line > 0)
            check_entry(&c, cfg->in_order.items[i]);
    for (const struct param_set *const *const *folder = all_param_sets; *folder != NULL; folder++) {
        for (const struct param_set *const *set = *folder; *set != NULL; set++) {
            void *values = xcalloc(1, (*set)->size);
            struct err err = ERR_INIT;

            if (config_bind(cfg, *set, values, &err) == -1) {
                /* the text names file and line itself */
                fn(CONFIG_FATAL, NULL, 0, err.text, arg);
            }
            free(values);
        }
    }
}
