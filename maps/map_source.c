/* SPDX-License-Identifier: Apache-2.0 */
/* map_source.c - see map_source.h. */
#include "maps/map_source.h"

#include <stdlib.h>

#include "base/htable.h"
#include "base/log.h"
#include "base/num.h"
#include "maps/map_int.h"

#define FILE_MAX   (1U << 20)
#define NUMBER_MAX INT32_MAX

struct map_source {
    const struct config *cfg; /* held by the environment, which outlives its tables */
    char *path;
    bool is_file;
    struct file_stamp stamp;
    struct htable *options; /* of a file: name -> struct option * */
};

struct option {
    char *value;
    int line;
    bool known;
};

static void option_free(void *p)
{
    struct option *o = p;

    free(o->value);
    free(o);
}

void map_source_free(struct map_source **s)
{
    if (*s == NULL)
        return;
    htable_free(&(*s)->options, option_free);
    free((*s)->path);
    free(*s);
    *s = NULL;
}

static int take_line(struct slice line, int number, void *arg, struct err *err)
{
    struct map_source *s = arg;
    ptrdiff_t eq = slice_find(line, '=');
    struct slice name = slice_trim(slice_sub(line, 0, eq == -1 ? 0 : (size_t) eq), NULL);
    struct option *o;
    struct option *old;

    if (name.len == 0)
        return err_input(err, "%s, line %d: not \"name = value\"", s->path, number);
    o = xcalloc(1, sizeof(*o));
    o->value = slice_dup(slice_trim(slice_sub(line, (size_t) eq + 1, line.len), NULL));
    o->line = number;
    old = htable_put(s->options, name, o); /* the last one counts, as in main.cf */
    if (old != NULL)
        option_free(old);
    return 0;
}

static int read_file(struct map_source *s, struct err *err)
{
    struct buf text = BUF_INIT(FILE_MAX);
    int ret = file_read_stamped(s->path, &text, &s->stamp, err);

    if (ret == 0 && !buf_ok(&text))
        ret = err_input(err, "%s: larger than %u bytes", s->path, FILE_MAX);
    if (ret == 0 && memchr(text.ptr, '\0', text.len) != NULL)
        ret = err_input(err, "%s: has a NUL byte", s->path);
    if (ret == 0)
        ret = map_lines_each(buf_view(&text), take_line, s, err);
    if (text.ptr != NULL)
        explicit_bzero(text.ptr, text.cap); /* passwords */
    buf_fini(&text);
    return ret;
}

/* The option's value; NULL: not there. where: for messages. */
static const char *value_of(const struct map_source *s, const char *name, struct buf *where)
{
    struct option *o;
    struct buf full = BUF_INIT(SIZE_MAX);
    const char *value = NULL;

    if (s->is_file) {
        o = htable_get(s->options, slice_str(name));
        if (o == NULL && where != NULL)
            buf_printf(where, "%s: %s", s->path, name);
        if (o == NULL)
            return NULL;
        o->known = true;
        if (where != NULL)
            buf_printf(where, "%s, line %d: %s", s->path, o->line, name);
        return o->value;
    }
    buf_printf(&full, "%s_%s", s->path, name);
    if (config_is_set(s->cfg, buf_cstr(&full)))
        value = config_get(s->cfg, buf_cstr(&full));
    if (where != NULL)
        buf_printf(where, "parameter %s", buf_cstr(&full));
    buf_fini(&full);
    return value;
}

bool map_source_has(const struct map_source *s, const char *name)
{
    return value_of(s, name, NULL) != NULL;
}

static int bind_number(const struct param *p, const char *text, int64_t *out, struct err *err)
{
    int64_t max = p->max != 0 ? p->max : NUMBER_MAX;

    if (p->type == PARAM_TYPE_INT)
        return num_parse_i64(slice_str(text), p->min, max, out, err);
    if (num_parse_time(slice_str(text), p->unit != 0 ? p->unit : 's', max, out, err) == -1)
        return -1;
    return *out >= p->min ? 0 : err_input(err, "less than %lld", (long long) p->min);
}

static int bind_row(const struct map_source *s, const struct param *p, void *out, struct err *err)
{
    struct buf where = BUF_INIT(1024);
    const char *text = value_of(s, p->name, &where);
    char *member = (char *) out + p->offset;
    int ret = 0;

    if (text == NULL)
        text = p->def;
    if (text != NULL && p->not_empty && text[0] == '\0')
        ret = err_input(err, "may not be empty");
    else if (p->type == PARAM_TYPE_STRING || p->type == PARAM_TYPE_RAW)
        memcpy(member, &text, sizeof(text));
    else if (p->type == PARAM_TYPE_BOOL)
        ret = num_parse_bool(slice_str(text), (bool *) member, err);
    else
        ret = bind_number(p, text, (int64_t *) (void *) member, err);
    if (ret == -1)
        err_prefix(err, "%s: ", buf_cstr(&where));
    buf_fini(&where);
    return ret;
}

static bool warn_unknown(struct slice name, void *value, void *arg)
{
    const struct option *o = value;
    const struct map_source *s = arg;

    if (!o->known)
        log_warning("%s, line %d: unknown option %.*s", s->path, o->line, SLICE_FMT(name));
    return true;
}

int map_source_open(const char *path, const struct map_env *env, const struct param *rows,
                    size_t nrows, void *out, struct map_source **source, struct err *err)
{
    struct map_source *s = xcalloc(1, sizeof(*s));
    int ret = 0;

    s->cfg = map_env_config(env);
    s->path = xstrdup(path);
    s->options = htable_new(false);
    s->is_file = path[0] == '/' || path[0] == '.';
    if (path[0] == '\0')
        ret = err_input(err, "no file is named");
    else if (s->is_file)
        ret = read_file(s, err);
    for (size_t i = 0; ret == 0 && i < nrows; i++)
        ret = bind_row(s, &rows[i], out, err);
    if (ret == 0 && map_open_is_strict())
        htable_each(s->options, warn_unknown, s);
    if (ret == 0)
        *source = s;
    else
        map_source_free(&s);
    return ret;
}

bool map_source_is_stale(const struct map_source *s, const char *path)
{
    return s->is_file && file_stamp_differs(&s->stamp, path);
}
