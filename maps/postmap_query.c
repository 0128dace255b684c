/* SPDX-License-Identifier: Apache-2.0 */
/* postmap_query.c - asking tables by command: one key, keys from standard input, all rows; as text or as JSON. */
#include "maps/postmap_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/utf8.h"
#include "maps/map_build_int.h"
#include "maps/map_int.h"

const char *postmap_full_name(const struct command *c, const char *spec, struct buf *space)
{
    struct err err = ERR_INIT;
    const struct map_type *type;
    const char *path;

    if (strncmp(spec, "proxy:", 6) == 0)
        return spec;
    if (map_spec_split(c->cfg, spec, &type, &path, &err) == -1)
        fatal("%s", err.text);
    buf_printf(space, "%s:%s", type->name, path);
    return buf_cstr(space);
}

static struct map *open_map(const struct command *c, const char *spec)
{
    struct buf space = BUF_INIT(1U << 20);
    struct err err = ERR_INIT;
    struct map *m;

    if (map_open(c->env, slice_str(postmap_full_name(c, spec, &space)), &m, &err) == -1)
        fatal("%s", err.text);
    buf_fini(&space);
    return m;
}

/* --- output ------------------------------------------------------------------------------------------ */

void postmap_put_json(struct slice s)
{
    bool utf8 = utf8_is_valid(s);

    (void) putchar('"');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char) s.ptr[i];

        if (c == '"' || c == '\\')
            (void) printf("\\%c", c);
        else if (c == '\n')
            (void) fputs("\\n", stdout);
        else if (c == '\t')
            (void) fputs("\\t", stdout);
        else if (c < 0x20 || c == 0x7f || (c >= 0x80 && !utf8))
            (void) printf("\\u%04x", c);
        else
            (void) putchar(c);
    }
    (void) putchar('"');
}

/* value NULL: not found, which only JSON says. with_key: in text, "key TAB value". */
static void put_row(const struct command *c, const char *table, struct slice key,
                    const struct slice *value, bool with_key)
{
    if (c->json) {
        (void) fputs("{\"table\":", stdout);
        postmap_put_json(slice_str(table));
        (void) fputs(",\"key\":", stdout);
        postmap_put_json(key);
        (void) fputs(",\"value\":", stdout);
        if (value != NULL)
            postmap_put_json(*value);
        else
            (void) fputs("null", stdout);
        (void) fputs("}\n", stdout);
        return;
    }
    if (value == NULL)
        return;
    if (with_key) {
        (void) fwrite(key.ptr, 1, key.len, stdout);
        (void) fputs(c->build.format == MAP_BUILD_ALIASES ? ":\t" : "\t", stdout);
    }
    if (value->len > 0) /* an empty value may have no bytes to point at */
        (void) fwrite(value->ptr, 1, value->len, stdout);
    (void) putchar('\n');
}

static void end_output(void)
{
    if (fflush(stdout) == EOF || ferror(stdout) != 0)
        fatal("write to standard output failed");
}

/* --- asking ------------------------------------------------------------------------------------------ */

/* -F: the value that the base64 stands for, in *decoded. False: it is none, which is trouble. */
static bool decode(const char *table, struct slice key, struct slice *value, struct buf *decoded)
{
    struct err err = ERR_INIT;

    if (map_value_decode(*value, decoded, &err) == -1) {
        log_warning("table %s: key %.*s: %s", table, SLICE_FMT(key), err.text);
        return false;
    }
    *value = buf_view(decoded);
    return true;
}

/* Found, and printed? Trouble ends the program. */
static bool ask(const struct command *c, struct map *m, struct slice key, bool with_key, bool utf8)
{
    struct buf space = BUF_INIT(MAP_VALUE_MAX);
    struct buf decoded = BUF_INIT(MAP_VALUE_MAX);
    struct err err = ERR_INIT;
    const char *table = map_name(m);
    bool found = false;

    if (utf8 && !utf8_is_valid(key)) {
        log_warning("%s: non-UTF-8 key \"%.*s\": malformed UTF-8 or invalid codepoint", table,
                    SLICE_FMT(key));
        return false;
    }
    switch (map_lookup(m, key, &space, &err)) {
    case MAP_FOUND: {
        struct slice value = buf_view(&space);

        if (utf8 && !utf8_is_valid(value))
            fatal("%s: key \"%.*s\": non-UTF-8 value", table, SLICE_FMT(key));
        if (c->build.file_values && !decode(table, key, &value, &decoded))
            fatal("table %s: query error", table);
        if (value.len == 0) {
            log_warning("table %s: key %.*s: empty string result is not allowed", table,
                        SLICE_FMT(key));
            log_warning("table %s should return NO RESULT in case of NOT FOUND", table);
        }
        put_row(c, table, key, &value, with_key);
        found = true;
        break;
    }
    case MAP_NOTFOUND:
        break;
    case MAP_RETRY:
        fatal("%s", err.text);
    }
    buf_fini(&space);
    buf_fini(&decoded);
    return found;
}

struct asking {
    const struct command *c;
    int n;
    char **specs;
    struct map **maps; /* opened when first asked */
    bool utf8;
    bool any;
};

/* The first table that has the key answers. */
static void ask_all(struct asking *a, struct slice key, bool with_key)
{
    bool found = false;

    for (int i = 0; i < a->n && !found; i++) {
        if (a->maps[i] == NULL)
            a->maps[i] = open_map(a->c, a->specs[i]);
        found = ask(a->c, a->maps[i], key, with_key, a->utf8);
    }
    if (!found && a->c->json)
        put_row(a->c, a->n == 1 ? map_name(a->maps[0]) : "", key, NULL, with_key);
    a->any |= found;
}

static void ask_one(struct slice key, void *arg)
{
    ask_all(arg, key, true);
}

bool postmap_read_line(FILE *in, char **line, size_t *cap, struct slice *out)
{
    ssize_t len = getline(line, cap, in);

    if (len <= 0)
        return false;
    if ((*line)[len - 1] == '\n')
        len--;
    *out = slice_of(*line, (size_t) len);
    return true;
}

int postmap_query(const struct command *c, int n, char **specs)
{
    struct asking a = {.c = c, .n = n, .specs = specs, .utf8 = c->utf8};
    char *line = NULL;
    size_t cap = 0;
    struct slice key;

    a.maps = xcalloc((size_t) n, sizeof(struct map *));
    if (strcmp(c->query, "-") != 0) {
        ask_all(&a, slice_str(c->query), false);
    } else if (c->headers || c->body) {
        postmap_message_keys(stdin, c->headers, c->body, c->mime, ask_one, &a);
    } else {
        while (postmap_read_line(stdin, &line, &cap, &key))
            ask_all(&a, key, true);
        free(line);
    }
    free(a.maps);
    end_output();
    return a.any ? 0 : 1;
}

/* --- listing ----------------------------------------------------------------------------------------- */

struct listing {
    const struct command *c;
    const char *table;
    bool bad;
};

static bool print_row(struct slice key, struct slice value, void *arg)
{
    struct listing *l = arg;
    struct buf decoded = BUF_INIT(MAP_VALUE_MAX);

    if (l->c->build.file_values && !decode(l->table, key, &value, &decoded))
        l->bad = true;
    else
        put_row(l->c, l->table, key, &value, true);
    buf_fini(&decoded);
    return true;
}

void postmap_list(const struct command *c, const char *spec)
{
    struct map *m = open_map(c, spec);
    struct listing l = {c, map_name(m), false};
    struct err err = ERR_INIT;

    if (map_each(m, print_row, &l, &err) == -1)
        fatal("%s", err.text);
    end_output();
    if (l.bad)
        fatal("table %s: sequence error", l.table);
}
