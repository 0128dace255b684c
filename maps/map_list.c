/* SPDX-License-Identifier: Apache-2.0 */
/* map_list.c - lists of tables: the first that has the key answers. */
#include "maps/map_int.h"

#include <stdlib.h>

int map_in_braces(struct slice text, struct slice *inside)
{
    struct slice s = slice_trim(text, NULL);

    if (s.len < 2 || s.ptr[0] != '{' || s.ptr[s.len - 1] != '}')
        return -1;
    *inside = slice_sub(s, 1, s.len - 1);
    return 0;
}

struct map_list {
    struct vec maps;
};

static int open_list(struct map_env *env, const char *value,
                     int (*open)(struct map_env *env, struct slice spec, struct map **out,
                                 struct err *err),
                     struct map_list **out, struct err *err)
{
    struct map_list *l = xcalloc(1, sizeof(*l));
    struct slice rest = slice_str(value);
    struct slice spec;

    while (slice_token_braces(&rest, ", \t\r\n", &spec)) {
        struct map *m;

        if (open(env, spec, &m, err) == -1) {
            map_list_free(&l);
            return -1;
        }
        vec_push(&l->maps, m);
    }
    *out = l;
    return 0;
}

int map_list_open(struct map_env *env, const char *value, struct map_list **out, struct err *err)
{
    return open_list(env, value, map_open, out, err);
}

int map_list_open_plain(struct map_env *env, const char *value, struct map_list **out,
                        struct err *err)
{
    return open_list(env, value, map_open_plain, out, err);
}

void map_list_free(struct map_list **l)
{
    if (*l == NULL)
        return;
    vec_fini(&(*l)->maps);
    free(*l);
    *l = NULL;
}

bool map_list_is_empty(const struct map_list *l)
{
    return l == NULL || l->maps.len == 0;
}

unsigned map_list_flags(const struct map_list *l)
{
    unsigned flags = MAP_FLAG_LOCAL | MAP_FLAG_FIXED | MAP_FLAG_PATTERN;

    for (size_t i = 0; l != NULL && i < l->maps.len; i++)
        flags &= map_flags(l->maps.items[i]);
    return flags;
}

enum map_result map_list_lookup(struct map_list *l, struct slice key, unsigned only,
                                struct buf *value, const struct map **hit, struct err *err)
{
    for (size_t i = 0; l != NULL && i < l->maps.len; i++) {
        struct map *m = l->maps.items[i];
        enum map_result res;

        if (only != 0 && (map_flags(m) & only) == 0)
            continue;
        res = map_lookup(m, key, value, err);
        if (res == MAP_NOTFOUND)
            continue;
        if (hit != NULL)
            *hit = m;
        return res;
    }
    return MAP_NOTFOUND;
}
