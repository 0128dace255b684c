/* SPDX-License-Identifier: Apache-2.0 */
/* master_cf.c - see master_cf.h. Lines as in main.cf: comments, continuation by leading white space. */
#include "postconf/master_cf.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/lines.h"
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

void master_service_free(struct master_service **service)
{
    struct master_service *s = *service;

    *service = NULL;
    if (s == NULL)
        return;
    free(s->name);
    free(s->command);
    free_words(s->args);
    free_words(s->overrides);
    for (size_t i = 0; i < MASTER_COLUMNS; i++)
        free(s->columns[i]);
    free(s);
}

bool service_type_is_known(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (slice_eq_str(name, types[i].name))
            return true;
    return false;
}

static void free_item(void *p)
{
    struct master_service *s = p;

    master_service_free(&s);
}

void master_cf_free(struct master_cf **m)
{
    if (*m == NULL)
        return;
    vec_fini(&(*m)->services);
    vec_clear(&(*m)->all, free_item);
    vec_fini(&(*m)->all);
    vec_clear(&(*m)->warnings, free);
    vec_fini(&(*m)->warnings);
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

/* "{ text }" as one word, without its braces. */
static int unbrace(struct slice *s, struct err *err)
{
    unsigned depth = 0;
    size_t end = 0;

    if (s->len == 0 || s->ptr[0] != '{')
        return 0;
    do {
        if (s->ptr[end] == '{')
            depth++;
        else if (s->ptr[end] == '}')
            depth--;
    } while (depth > 0 && ++end < s->len);
    if (end == s->len)
        return err_input(err, "no closing } in \"%.*s\"", SLICE_FMT(slice_sub(*s, 0, 60)));
    if (end + 1 < s->len)
        return err_input(err, "text after the closing } in \"%.*s\"",
                         SLICE_FMT(slice_sub(*s, 0, 60)));
    *s = slice_trim(slice_sub(*s, 1, end), NULL);
    return 0;
}

/* An open group swallows the rest of the line, and could not be written again. */
static int check_closed(struct slice word, struct err *err)
{
    unsigned depth = 0;

    for (size_t i = 0; i < word.len; i++) {
        if (word.ptr[i] == '{')
            depth++;
        else if (word.ptr[i] == '}' && depth > 0)
            depth--;
    }
    return depth == 0
               ? 0
               : err_input(err, "no closing } in \"%.*s\"", SLICE_FMT(slice_sub(word, 0, 60)));
}

/* "name = value" of a -o as "name=value", into both lists. */
static int take_override(struct slice word, struct vec *args, struct vec *overrides,
                         struct err *err)
{
    struct buf text = BUF_INIT(CONFIG_VALUE_MAX);
    ptrdiff_t eq;

    if (check_closed(word, err) == -1 || unbrace(&word, err) == -1)
        return -1;
    eq = slice_find(word, '=');
    if (eq < 1)
        return err_input(err, "-o %.*s: name=value is wanted", SLICE_FMT(slice_sub(word, 0, 60)));
    buf_put_slice(&text, slice_trim(slice_sub(word, 0, (size_t) eq), NULL));
    buf_putc(&text, '=');
    buf_put_slice(&text, slice_trim(slice_sub(word, (size_t) eq + 1, word.len), NULL));
    vec_push(overrides, slice_dup(buf_view(&text)));
    vec_push(args, buf_take(&text));
    return 0;
}

/* Options come first; after the first other word, "-o" is the business of the command that pipe or spawn runs. */
static int take_arguments(struct slice rest, struct master_service *s, struct err *err)
{
    struct vec args = VEC_INIT;
    struct vec overrides = VEC_INIT;
    struct slice word;
    bool options = true;
    int ret = 0;

    while (ret == 0 && slice_token_braces(&rest, " \t\r", &word)) {
        /* braces go first: {-v} is an option, too */
        if (check_closed(word, err) == -1 || unbrace(&word, err) == -1) {
            ret = -1;
            break;
        }
        options = options && word.len > 1 && word.ptr[0] == '-';
        if (options && slice_eq_str(word, "-o")) {
            vec_push(&args, xstrdup("-o"));
            ret = slice_token_braces(&rest, " \t\r", &word)
                      ? take_override(word, &args, &overrides, err)
                      : err_input(err, "-o without name=value");
        } else if (options && slice_starts_with(word, SLICE_LIT("-o"))) {
            vec_push(&args, xstrdup("-o"));
            ret = take_override(slice_sub(word, 2, word.len), &args, &overrides, err);
        } else {
            vec_push(&args, slice_dup(word));
        }
    }
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
        if (!slice_token_braces(&rest, " \t\r", &col[i]))
            return err_input(err, "only %zu of 8 columns", i);
    for (size_t i = 0; i < MASTER_COLUMNS; i++)
        s->columns[i] = slice_dup(col[i]);
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

int master_service_parse(struct slice line, struct master_service **out, struct err *err)
{
    struct master_service *s = xcalloc(1, sizeof(*s));

    if (take_columns(line, s, err) == -1) {
        master_service_free(&s);
        return -1;
    }
    *out = s;
    return 0;
}

PRINTF_LIKE(3, 4) static void warn(struct master_cf *m, int line, const char *fmt, ...)
{
    struct buf text = BUF_INIT(1024);
    va_list ap;

    buf_printf(&text, "%s, line %d: ", m->path, line);
    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    vec_push(&m->warnings, buf_take(&text));
}

static int take_line(struct slice logical, int line, void *arg, struct err *err)
{
    struct master_cf *m = arg;
    struct master_service *s;

    if (slice_find(logical, '\0') != -1)
        return err_input(err, "line %d: a NUL byte", line);
    if (ascii_is_space((unsigned char) logical.ptr[0])) {
        warn(m, line,
             "ignored: begins with white space, but there is no line that it could continue");
        return 0;
    }
    if (master_service_parse(logical, &s, err) == -1)
        return err_prefix(err, "line %d: ", line);
    s->line = line;
    for (size_t i = 0; i < m->services.len; i++) {
        struct master_service *old = m->services.items[i];

        if (old->type != s->type || strcmp(old->name, s->name) != 0)
            continue;
        warn(m, line, "replacing the earlier service %s/%s (line %d)", s->name,
             service_type_name(s->type), old->line);
        vec_remove(&m->services, i);
        break;
    }
    vec_push(&m->services, s);
    vec_push(&m->all, s);
    return 0;
}

int master_cf_parse(const char *path, struct slice text, struct master_cf **out, struct err *err)
{
    static const struct lines_style style = {.limit = CONFIG_VALUE_MAX, .one_space = true};
    struct master_cf *m = xcalloc(1, sizeof(*m));

    m->path = xstrdup(path);
    if (lines_each(text, &style, take_line, m, err) == -1) {
        master_cf_free(&m);
        return err_prefix(err, "%s, ", path);
    }
    *out = m;
    return 0;
}

int master_cf_load(const char *dir, struct master_cf **out, struct err *err)
{
    struct buf path = BUF_INIT(8192);
    struct buf text = BUF_INIT(MASTER_CF_MAX);
    int ret;

    path_join(&path, dir, "master.cf");
    ret = file_read(buf_cstr(&path), &text, err);
    if (ret == 0)
        ret = master_cf_parse(buf_cstr(&path), buf_view(&text), out, err);
    buf_fini(&path);
    buf_fini(&text);
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
