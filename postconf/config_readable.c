/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_readable.c - a generation with something else in place of the values that cannot be read: see config_readable().
 *
 * A parameter has its default then; what still cannot be read (a default that is found out, and fails) is empty, and so is
 * a name that the administrator made up.
 */
#include <stdlib.h>

#include "postconf/config_int.h"

static char present[] = "";

static struct htable *unreadable_names(const struct config *cfg)
{
    struct htable *names = htable_new(false);

    for (const struct param_set *const *const *folder = all_param_sets; *folder != NULL; folder++) {
        for (const struct param_set *const *set = *folder; *set != NULL; set++) {
            void *values = xcalloc(1, (*set)->size);

            for (size_t i = 0; i < (*set)->count; i++) {
                struct param_set one = {(*set)->name, (*set)->size, &(*set)->rows[i], 1, NULL};

                if (config_bind(cfg, &one, values, NULL) == -1)
                    (void) htable_put(names, slice_str(one.rows->name), present);
            }
            free(values);
        }
    }
    for (size_t i = 0; i < cfg->in_order.len; i++) {
        const struct config_entry *e = cfg->in_order.items[i];

        if (e->name[0] != '\0' && config_get(cfg, e->name) == NULL)
            (void) htable_put(names, slice_str(e->name), present);
    }
    return names;
}

static bool put_empty(struct slice name, void *value, void *arg)
{
    struct config *cfg = arg;

    (void) value;
    config_add(cfg, name, SLICE_EMPTY, 0);
    (void) htable_put(cfg->stand_ins, name, present);
    return true;
}

struct config *config_readable(const struct config *cfg)
{
    struct htable *names = unreadable_names(cfg);
    struct config *out;

    if (htable_len(names) == 0) {
        htable_free(&names, NULL);
        return config_ref((struct config *) (uintptr_t) cfg);
    }
    out = config_new(cfg->dir, cfg->path);
    for (size_t i = 0; i < cfg->in_order.len; i++) {
        const struct config_entry *e = cfg->in_order.items[i];
        struct slice name = slice_str(e->name);

        if (name.len > 0 && htable_get(names, name) == NULL)
            config_add(out, name, slice_str(e->value), e->line);
        else if (name.len > 0 && param_find(e->name) == NULL)
            config_add(out, name, SLICE_EMPTY, e->line);
    }
    out->stand_ins = names;
    /* nothing that can be read by now depends on these: no value that is kept changes */
    names = unreadable_names(out);
    htable_each(names, put_empty, out);
    htable_free(&names, NULL);
    return out;
}

bool config_is_stand_in(const struct config *cfg, const char *name)
{
    return cfg->stand_ins != NULL && htable_get(cfg->stand_ins, slice_str(name)) != NULL;
}
