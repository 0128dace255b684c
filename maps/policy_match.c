/* SPDX-License-Identifier: Apache-2.0 */
/* policy_match.c - match lists: names, .names, !negation, networks, /files, tables. The first that matches decides. */
#include "maps/policy.h"

#include <stdlib.h>

#include "base/file.h"
#include "base/vec.h"
#include "maps/network.h"

#define FILE_DEPTH 10
#define FILE_MAX   (16U << 20)

struct element {
    enum { ELEMENT_TEXT, ELEMENT_NETWORK, ELEMENT_TABLE } kind;
    bool negated;
    char *text;
    struct network network;
    struct map_list *table;
};

struct match_list {
    enum match_kind kind;
    bool parents_plain;
    struct vec elements;
    unsigned flags;
};

struct loading {
    struct map_env *env;
    struct match_list *l;
    int depth;
};

static void element_free(void *p)
{
    struct element *e = p;

    free(e->text);
    map_list_free(&e->table);
    free(e);
}

static int load(struct loading *ld, struct slice value, struct err *err);

static int load_file(struct loading *ld, const char *path, struct err *err)
{
    struct buf text = BUF_INIT(FILE_MAX);
    struct slice rest;
    int ret = -1;

    if (++ld->depth > FILE_DEPTH) {
        err_input(err, "%s: files include each other", path);
    } else if (file_read(path, &text, err) == 0) {
        ret = 0;
        rest = buf_view(&text);
        while (ret == 0 && rest.len > 0) {
            ptrdiff_t nl = slice_find(rest, '\n');
            struct slice line = slice_sub(rest, 0, nl == -1 ? rest.len : (size_t) nl);

            rest = nl == -1 ? SLICE_EMPTY : slice_sub(rest, (size_t) nl + 1, rest.len);
            line = slice_trim(line, NULL);
            if (line.len > 0 && line.ptr[0] != '#')
                ret = load(ld, line, err);
        }
    }
    ld->depth--;
    buf_fini(&text);
    return ret;
}

static int add(struct loading *ld, struct slice word, struct err *err)
{
    bool negated = false;
    struct element *e;
    ptrdiff_t colon;
    int ret = 0;

    while (word.len > 0 && word.ptr[0] == '!') {
        negated = !negated;
        word = slice_sub(word, 1, word.len);
    }
    if (word.len == 0)
        return err_input(err, "a pattern is missing after \"!\"");
    if (word.ptr[0] == '/') {
        char *path = slice_dup(word);

        ret = load_file(ld, path, err);
        free(path);
        return ret;
    }
    e = xcalloc(1, sizeof(*e));
    e->negated = negated;
    e->text = slice_dup(word);
    colon = slice_find(word, ':');
    if (ld->l->kind == MATCH_HOST &&
        (word.ptr[0] == '[' || ascii_is_digit((unsigned char) word.ptr[0])) &&
        network_parse(word, &e->network, NULL) == 0) {
        e->kind = ELEMENT_NETWORK;
    } else if (ld->l->kind == MATCH_HOST && slice_find(word, '/') != -1 &&
               ascii_is_digit((unsigned char) word.ptr[0])) {
        ret = network_parse(word, &e->network, err); /* a network with a mistake in it: say which */
    } else if (colon > 0 && word.ptr[0] != '[') {
        e->kind = ELEMENT_TABLE;
        ret = map_list_open(ld->env, e->text, &e->table, err);
        if (ret == 0)
            ld->l->flags &= map_list_flags(e->table);
    }
    if (ret == -1)
        element_free(e);
    else
        vec_push(&ld->l->elements, e);
    return ret;
}

static int load(struct loading *ld, struct slice value, struct err *err)
{
    struct slice word;

    while (slice_token_braces(&value, ", \t\r\n", &word))
        if (add(ld, word, err) == -1)
            return -1;
    return 0;
}

int match_list_open(struct map_env *env, enum match_kind kind, const char *value,
                    bool parents_plain, struct match_list **out, struct err *err)
{
    struct match_list *l = xcalloc(1, sizeof(*l));
    struct loading ld = {env, l, 0};

    l->kind = kind;
    l->parents_plain = parents_plain;
    l->flags = MAP_FLAG_LOCAL;
    if (load(&ld, slice_str(value), err) == -1) {
        match_list_free(&l);
        return -1;
    }
    *out = l;
    return 0;
}

void match_list_free(struct match_list **l)
{
    if (*l == NULL)
        return;
    vec_clear(&(*l)->elements, element_free);
    vec_fini(&(*l)->elements);
    free(*l);
    *l = NULL;
}

bool match_list_is_empty(const struct match_list *l)
{
    return l == NULL || l->elements.len == 0;
}

unsigned match_list_flags(const struct match_list *l)
{
    return l == NULL ? MAP_FLAG_LOCAL : l->flags;
}

/* name is pattern, or below it: ".pattern" always, "pattern" where parents are meant too. */
static bool domain_matches(const struct match_list *l, struct slice pattern, struct slice name)
{
    if (slice_caseeq(pattern, name))
        return true;
    if (pattern.len == 0 || name.len <= pattern.len || !slice_case_ends_with(name, pattern))
        return false;
    return pattern.ptr[0] == '.' ||
           (l->parents_plain && name.ptr[name.len - pattern.len - 1] == '.');
}

static enum map_result in_table(const struct match_list *l, const struct element *e, struct slice s,
                                bool domain, struct err *err)
{
    struct buf value = BUF_INIT(MAP_VALUE_MAX);
    enum map_result res = domain ? map_domain_lookup(e->table, s, l->parents_plain, &value, err)
                                 : map_list_lookup(e->table, s, 0, &value, NULL, err);

    buf_fini(&value);
    return res;
}

enum map_result match_list_string(struct match_list *l, struct slice s, struct err *err)
{
    for (size_t i = 0; l != NULL && i < l->elements.len; i++) {
        const struct element *e = l->elements.items[i];
        enum map_result res;

        if (e->kind == ELEMENT_TABLE)
            res = in_table(l, e, s, l->kind == MATCH_DOMAIN, err);
        else if (l->kind == MATCH_DOMAIN)
            res = domain_matches(l, slice_str(e->text), s) ? MAP_FOUND : MAP_NOTFOUND;
        else
            res = slice_caseeq_str(s, e->text) ? MAP_FOUND : MAP_NOTFOUND;
        if (res == MAP_RETRY)
            return res;
        if (res == MAP_FOUND)
            return e->negated ? MAP_NOTFOUND : MAP_FOUND;
    }
    return MAP_NOTFOUND;
}

static enum map_result host_matches(struct match_list *l, const struct element *e,
                                    struct slice name, struct slice addr, const struct network *n,
                                    struct err *err)
{
    enum map_result res;

    switch (e->kind) {
    case ELEMENT_NETWORK:
        return n != NULL && network_has(&e->network, n) ? MAP_FOUND : MAP_NOTFOUND;
    case ELEMENT_TABLE:
        res = name.len > 0 ? in_table(l, e, name, true, err) : MAP_NOTFOUND;
        if (res == MAP_NOTFOUND) {
            struct buf value = BUF_INIT(MAP_VALUE_MAX);

            res = map_client_lookup(e->table, addr, &value, err);
            buf_fini(&value);
        }
        return res;
    case ELEMENT_TEXT:
        return (name.len > 0 && domain_matches(l, slice_str(e->text), name)) ||
                       slice_caseeq_str(addr, e->text)
                   ? MAP_FOUND
                   : MAP_NOTFOUND;
    }
    return MAP_NOTFOUND;
}

enum map_result match_list_host(struct match_list *l, struct slice name, struct slice addr,
                                struct err *err)
{
    struct network n;
    bool is_addr = network_parse(addr, &n, NULL) == 0;

    for (size_t i = 0; l != NULL && i < l->elements.len; i++) {
        const struct element *e = l->elements.items[i];
        enum map_result res = host_matches(l, e, name, addr, is_addr ? &n : NULL, err);

        if (res == MAP_RETRY)
            return res;
        if (res == MAP_FOUND)
            return e->negated ? MAP_NOTFOUND : MAP_FOUND;
    }
    return MAP_NOTFOUND;
}

bool parent_matches_subdomains(const struct config *cfg, const char *feature)
{
    const char *value = config_get(cfg, "parent_domain_matches_subdomains");
    struct slice rest = slice_str(value);
    struct slice word;

    while (value != NULL && slice_token(&rest, ", \t\r\n", &word))
        if (slice_eq_str(word, feature))
            return true;
    return false;
}
