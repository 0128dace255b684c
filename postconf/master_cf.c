/* SPDX-License-Identifier: Apache-2.0 */
/* master_cf.c - see master_cf.h. Lines as in main.cf: comments, continuation by leading white space. */
#include "postconf/master_cf.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/num.h"

#define MASTER_CF_MAX (4U << 20)

static const struct {
    const char *name;
    enum service_type type;
} types[] = {
    {"inet", SERVICE_INET}, {"unix", SERVICE_UNIX}, {"unix-dgram", SERVICE_UNIX_DGRAM},
    {"fifo", SERVICE_FIFO}, {"pass", SERVICE_PASS},
};

const char *service_type_name(enum service_type t)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (types[i].type == t)
            return types[i].name;
    return "unknown";
}

static void free_words(char **words)
{
    for (char **p = words; p != NULL && *p != NULL; p++)
        free(*p);
    free(words);
}

static void service_free(void *p)
{
    struct master_service *s = p;

    free(s->name);
    free(s->command);
    free_words(s->args);
    free_words(s->overrides);
    free(s);
}

void master_cf_free(struct master_cf **m)
{
    if (*m == NULL)
        return;
    vec_clear(&(*m)->services, service_free);
    vec_fini(&(*m)->services);
    free((*m)->path);
    free(*m);
    *m = NULL;
}

/* "y", "n", or "-" for the default. */
static int yes_no(struct slice s, bool dash, bool *out, const char *column, struct err *err)
{
    if (slice_eq_str(s, "-"))
        *out = dash;
    else if (slice_eq_str(s, "y"))
        *out = true;
    else if (slice_eq_str(s, "n"))
        *out = false;
    else
        return err_input(err, "column \"%s\" is \"%.*s\", not y, n, or -", column, SLICE_FMT(s));
    return 0;
}

static void push_word(struct vec *v, struct slice s)
{
    vec_push(v, slice_dup(s));
}

/* "{ text }" as one word, without its braces. */
static struct slice unbrace(struct slice s)
{
    if (s.len >= 2 && s.ptr[0] == '{' && s.ptr[s.len - 1] == '}')
        return slice_trim(slice_sub(s, 1, s.len - 1), NULL);
    return s;
}

static int take_arguments(struct slice rest, struct master_service *s, struct err *err)
{
    struct vec args = VEC_INIT;
    struct vec overrides = VEC_INIT;
    struct slice word;
    bool option = false;
    int ret = 0;

    while (ret == 0 && slice_token_braces(&rest, " \t", &word)) {
        word = unbrace(word);
        push_word(&args, word);
        if (option) {
            if (slice_find(word, '=') < 1)
                ret = err_input(err, "-o %.*s: wants name=value", SLICE_FMT(word));
            push_word(&overrides, word);
            option = false;
        } else if (slice_eq_str(word, "-o")) {
            option = true;
        } else if (slice_starts_with(word, SLICE_LIT("-o"))) {
            push_word(&overrides, slice_sub(word, 2, word.len));
        }
    }
    if (ret == 0 && option)
        ret = err_input(err, "-o without name=value");
    vec_push(&args, NULL);
    vec_push(&overrides, NULL);
    s->args = (char **) args.items;
    s->overrides = (char **) overrides.items;
    return ret;
}

static int take_columns(struct slice line, struct master_service *s, struct err *err)
{
    struct slice col[8];
    struct slice rest = line;
    size_t type = 0;
    bool unprivileged;
    int64_t n;

    for (size_t i = 0; i < ARRAY_LEN(col); i++)
        if (!slice_token_braces(&rest, " \t", &col[i]))
            return err_input(err, "only %zu of 8 columns", i);
    while (type < ARRAY_LEN(types) && !slice_eq_str(col[1], types[type].name))
        type++;
    if (type == ARRAY_LEN(types))
        return err_input(err, "unknown service type \"%.*s\"", SLICE_FMT(col[1]));
    s->name = slice_dup(col[0]);
    s->type = types[type].type;
    if (yes_no(col[2], true, &s->is_private, "private", err) == -1 ||
        yes_no(col[3], true, &unprivileged, "unpriv", err) == -1 ||
        yes_no(col[4], false, &s->chroot, "chroot", err) == -1)
        return -1;
    s->unprivileged = unprivileged;
    if (s->type == SERVICE_INET && s->is_private && slice_eq_str(col[2], "y"))
        return err_input(err, "an inet service cannot be private");
    if (!slice_eq_str(col[5], "-")) {
        struct slice wake = col[5];

        s->wakeup_if_used = slice_ends_with(wake, SLICE_LIT("?"));
        if (s->wakeup_if_used)
            wake.len--;
        if (num_parse_i64(wake, 0, 1000000, &n, err) == -1)
            return err_prefix(err, "column \"wakeup\": ");
        s->wakeup_s = (int) n;
    }
    s->max_processes = -1;
    if (!slice_eq_str(col[6], "-")) {
        if (num_parse_i64(col[6], 0, 1000000, &n, err) == -1)
            return err_prefix(err, "column \"maxproc\": ");
        s->max_processes = (int) n;
    }
    if (slice_find(col[7], '/') != -1)
        return err_input(err, "command \"%.*s\": a name in daemon_directory is wanted, not a path",
                         SLICE_FMT(col[7]));
    s->command = slice_dup(col[7]);
    return take_arguments(rest, s, err);
}

static int take_line(struct master_cf *m, struct slice logical, int line, struct err *err)
{
    struct master_service *s;

    if (logical.len == 0)
        return 0;
    s = xcalloc(1, sizeof(*s));
    s->line = line;
    if (take_columns(logical, s, err) == -1) {
        service_free(s);
        return err_prefix(err, "%s, line %d: ", m->path, line);
    }
    if (master_cf_find(m, s->name, s->type) != NULL) {
        err_input(err, "%s, line %d: service %s/%s is there twice", m->path, line, s->name,
                  service_type_name(s->type));
        service_free(s);
        return -1;
    }
    vec_push(&m->services, s);
    return 0;
}

int master_cf_load(const char *dir, struct master_cf **out, struct err *err)
{
    struct master_cf *m = xcalloc(1, sizeof(*m));
    struct buf path = BUF_INIT(8192);
    struct buf text = BUF_INIT(MASTER_CF_MAX);
    struct buf logical = BUF_INIT(CONFIG_VALUE_MAX);
    struct slice rest;
    int line = 0;
    int begun = 0;
    int ret = -1;

    path_join(&path, dir, "master.cf");
    m->path = buf_take(&path);
    if (file_read(m->path, &text, err) == -1)
        goto done;
    rest = buf_view(&text);
    while (rest.len > 0) {
        ptrdiff_t nl = slice_find(rest, '\n');
        struct slice one = slice_sub(rest, 0, nl == -1 ? rest.len : (size_t) nl);
        struct slice trimmed = slice_trim(one, NULL);

        rest = nl == -1 ? SLICE_EMPTY : slice_sub(rest, (size_t) nl + 1, rest.len);
        line++;
        if (trimmed.len == 0 || trimmed.ptr[0] == '#')
            continue;
        if (ascii_is_space((unsigned char) one.ptr[0])) {
            if (begun == 0) {
                err_input(err, "%s, line %d: continues a line, but none is before it", m->path,
                          line);
                goto done;
            }
            buf_putc(&logical, ' ');
        } else {
            if (take_line(m, buf_view(&logical), begun, err) == -1)
                goto done;
            buf_reset(&logical);
            begun = line;
        }
        buf_put_slice(&logical, trimmed);
        if (!buf_ok(&logical)) {
            err_input(err, "%s, line %d: longer than %u bytes", m->path, begun, CONFIG_VALUE_MAX);
            goto done;
        }
    }
    if (take_line(m, buf_view(&logical), begun, err) == -1)
        goto done;
    *out = m;
    m = NULL;
    ret = 0;
done:
    buf_fini(&text);
    buf_fini(&logical);
    master_cf_free(&m);
    return ret;
}

const struct master_service *master_cf_find(const struct master_cf *m, const char *name,
                                            enum service_type type)
{
    for (size_t i = 0; i < m->services.len; i++) {
        const struct master_service *s = m->services.items[i];

        if (s->type == type && strcmp(s->name, name) == 0)
            return s;
    }
    return NULL;
}
