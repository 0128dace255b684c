/* SPDX-License-Identifier: Apache-2.0 */
/* environment.c - what daemons get of master's environment: the names of import_environment, and MAIL_CONFIG. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "master/master_int.h"

struct list {
    struct vec vars;
};

static void add(struct list *l, const char *name, const char *value)
{
    char *text = NULL;

    if (asprintf(&text, "%s=%s", name, value) == -1)
        fatal("out of memory");
    vec_push(&l->vars, text);
}

/* NAME: as it is; NAME=value: that. { NAME = value } is one element. */
static void on_element(struct slice element, void *arg)
{
    struct list *l = arg;
    struct slice e = element;
    ptrdiff_t eq;
    const char *ours;
    char *name;

    if (e.len >= 2 && e.ptr[0] == '{' && e.ptr[e.len - 1] == '}')
        e = slice_trim(slice_sub(e, 1, e.len - 1), NULL);
    eq = slice_find(e, '=');
    name = slice_dup(slice_trim(eq == -1 ? e : slice_sub(e, 0, (size_t) eq), NULL));
    ours = getenv(name); /* NOLINT(concurrency-mt-unsafe): no threads */
    if (eq != -1) {
        char *value = slice_dup(slice_trim(slice_sub(e, (size_t) eq + 1, e.len), NULL));

        add(l, name, value);
        free(value);
    } else if (strcmp(name, "MAIL_CONFIG") != 0 && ours != NULL) {
        add(l, name, ours);
    }
    free(name);
}

void daemon_environment_free(char ***environment)
{
    for (char **e = *environment; e != NULL && *e != NULL; e++)
        free(*e);
    free(*environment);
    *environment = NULL;
}

static struct list environment_of(const struct generation *g)
{
    struct list l = {VEC_INIT};

    add(&l, "MAIL_CONFIG", config_dir(g->cfg));
    add(&l, "PATH", "/bin:/usr/bin:/sbin:/usr/sbin"); /* for commands that daemons start */
    config_list_each(g->p.import_environment, on_element, &l);
    return l;
}

char **daemon_environment(const struct generation *g)
{
    struct list l = environment_of(g);

    vec_push(&l.vars, NULL);
    return (char **) l.vars.items;
}

char **master_environment(const struct generation *g)
{
    static const char *const names[] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"};
    struct list l = environment_of(g);

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *value = getenv(names[i]); /* NOLINT(concurrency-mt-unsafe): no threads */

        if (value != NULL)
            add(&l, names[i], value);
    }
    vec_push(&l.vars, NULL);
    return (char **) l.vars.items;
}
