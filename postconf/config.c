/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.c - one generation of main.cf: loading, values, binding to structs. See config.h.
 */
#include "postconf/config_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"

#define MAIN_CF_MAX (16U << 20)

static void entry_free(void *p)
{
    struct config_entry *e = p;

    free(e->name);
    free(e->value);
    free(e);
}

struct config *config_new(const char *dir, const char *path)
{
    struct config *cfg = xcalloc(1, sizeof(*cfg));

    atomic_init(&cfg->refs, 1);
    lock_init(&cfg->lock, LOCK_CONFIG);
    cfg->entries = htable_new(false);
    cfg->expanded = htable_new(false);
    cfg->dir = xstrdup(dir);
    cfg->path = xstrdup(path);
    return cfg;
}

void config_add(struct config *cfg, struct slice name, struct slice value, int line)
{
    struct config_entry *e = xcalloc(1, sizeof(*e));
    struct config_entry *old;

    e->name = slice_dup(name);
    e->value = slice_dup(value);
    e->line = line;
    vec_push(&cfg->in_order, e);
    old = htable_put(cfg->entries, name, e);
    if (old != NULL && line != 0)
        e->overrides = old->line;
}

static int take_line(struct slice name, struct slice value, int line, void *arg, struct err *err)
{
    struct config *cfg = arg;

    (void) err;
    if (name.len == 0) {
        struct config_entry *stray = xcalloc(1, sizeof(*stray));

        stray->name = xstrdup("");
        stray->value = slice_dup(value);
        stray->line = line;
        vec_push(&cfg->in_order, stray);
    } else {
        config_add(cfg, name, value, line);
    }
    return 0;
}

static int take_override(struct config *cfg, const char *text, struct err *err)
{
    struct slice s = slice_trim(slice_str(text), NULL);
    ptrdiff_t eq;

    /* { name = value } */
    if (s.len >= 2 && s.ptr[0] == '{' && s.ptr[s.len - 1] == '}')
        s = slice_trim(slice_sub(s, 1, s.len - 1), NULL);
    eq = slice_find(s, '=');
    if (eq < 1)
        return err_input(err, "-o %s: wants name=value", text);
    config_add(cfg, slice_trim(slice_sub(s, 0, (size_t) eq), NULL),
               slice_trim(slice_sub(s, (size_t) eq + 1, s.len), NULL), 0);
    return 0;
}

/* main_cf: its text; NULL: the file's. */
static int load(const char *dir, const struct slice *main_cf, const char *const *overrides,
                size_t noverrides, const char *service, struct config **out, struct err *err)
{
    struct buf text = BUF_INIT(MAIN_CF_MAX);
    struct buf path = BUF_INIT(8192);
    struct buf full = BUF_INIT(8192);
    struct config *cfg = NULL;
    int ret = -1;

    if (dir == NULL || dir[0] == '\0')
        dir = getenv("MAIL_CONFIG");
    if (dir == NULL || dir[0] == '\0')
        dir = CONFIG_DEFAULT_DIR;
    if (dir[0] != '/') {
        char cwd[4096];

        if (getcwd(cwd, sizeof(cwd)) == NULL) {
            err_sys(err, "current directory");
            goto done;
        }
        path_join(&full, cwd, dir);
        dir = buf_cstr(&full);
    }
    if (config_dir_authorize(dir, err) == -1)
        goto done;
    path_join(&path, dir, "main.cf");
    cfg = config_new(dir, buf_cstr(&path));
    if (main_cf == NULL && file_read(cfg->path, &text, err) == -1)
        goto done;
    if (main_cf_parse(cfg->path, main_cf != NULL ? *main_cf : buf_view(&text), take_line, cfg,
                      err) == -1)
        goto done;
    for (size_t i = 0; i < noverrides; i++)
        if (take_override(cfg, overrides[i], err) == -1)
            goto done;
    if (service != NULL && !config_is_set(cfg, "service_name"))
        config_add(cfg, SLICE_LIT("service_name"), slice_str(service), 0);
    *out = cfg;
    cfg = NULL;
    ret = 0;
done:
    buf_fini(&text);
    buf_fini(&path);
    buf_fini(&full);
    config_unref(&cfg);
    return ret;
}

int config_load(const char *dir, const char *const *overrides, size_t noverrides,
                const char *service, struct config **out, struct err *err)
{
    return load(dir, NULL, overrides, noverrides, service, out, err);
}

int config_load_text(const char *dir, struct slice text, const char *const *overrides,
                     size_t noverrides, const char *service, struct config **out, struct err *err)
{
    return load(dir, &text, overrides, noverrides, service, out, err);
}

struct config *config_ref(struct config *cfg)
{
    atomic_fetch_add(&cfg->refs, 1);
    return cfg;
}

void config_unref(struct config **config)
{
    struct config *cfg = *config;

    *config = NULL;
    if (cfg == NULL || atomic_fetch_sub(&cfg->refs, 1) > 1)
        return;
    vec_clear(&cfg->in_order, entry_free);
    vec_fini(&cfg->in_order);
    htable_free(&cfg->entries, NULL);
    htable_free(&cfg->expanded, free);
    htable_free(&cfg->stand_ins, NULL);
    lock_fini(&cfg->lock);
    free(cfg->dir);
    free(cfg->path);
    free(cfg);
}

const char *config_dir(const struct config *cfg)
{
    return cfg->dir;
}

const char *config_raw(const struct config *cfg, const char *name)
{
    const struct config_entry *e = htable_get(cfg->entries, slice_str(name));

    return e != NULL ? e->value : NULL;
}

bool config_is_set(const struct config *cfg, const char *name)
{
    return config_raw(cfg, name) != NULL;
}

int config_line(const struct config *cfg, const char *name)
{
    const struct config_entry *e = htable_get(cfg->entries, slice_str(name));

    return e != NULL ? e->line : 0;
}

/* Puts the first line of the file in place of its name. */
static int first_line(struct buf *value, struct err *err)
{
    struct buf text = BUF_INIT(CONFIG_VALUE_MAX);
    struct slice line;
    int ret = file_read(buf_cstr(value), &text, err);

    if (ret == 0) {
        line = buf_view(&text);
        if (slice_find(line, '\n') != -1)
            line = slice_sub(line, 0, (size_t) slice_find(line, '\n'));
        line = slice_trim(line, NULL);
        if (line.len == 0)
            ret = err_input(err, "%s: its first line is empty", buf_cstr(value));
    }
    if (ret == 0) {
        buf_reset(value);
        buf_put_slice(value, line);
    }
    buf_fini(&text);
    return ret;
}

/* Expanded value, kept in cfg. -1: broken expansion. 0 with *out NULL: unknown. */
static int value_of(const struct config *cfg, const char *name, const char **out, struct err *err)
{
    struct config *mutable = (struct config *) (uintptr_t) cfg; /* the cache behind a lock */
    struct buf value = BUF_INIT(CONFIG_VALUE_MAX);
    const struct param *row = param_find(name);
    const char *text = NULL;
    char *owned = NULL;
    int ret;

    lock_take(&mutable->lock);
    *out = htable_get(mutable->expanded, slice_str(name));
    lock_release(&mutable->lock);
    if (*out != NULL)
        return 0;
    if (row == NULL && !config_is_set(cfg, name))
        return 0;
    if (row != NULL && row->type == PARAM_TYPE_RAW) {
        ret = config_source(cfg, name, NULL, &text, &owned, err);
        if (ret == 0)
            buf_puts(&value, text != NULL ? text : "");
        free(owned);
    } else {
        ret = config_expand_name(cfg, name, NULL, &value, err);
    }
    if (ret == 0 && row != NULL && row->or_file && value.len > 0 && value.ptr[0] == '/')
        ret = first_line(&value, err);
    if (ret == -1) {
        buf_fini(&value);
        return -1;
    }
    lock_take(&mutable->lock);
    *out = htable_get(mutable->expanded, slice_str(name));
    if (*out == NULL) {
        *out = buf_take(&value);
        (void) htable_put(mutable->expanded, slice_str(name), (void *) (uintptr_t) *out);
    }
    lock_release(&mutable->lock);
    buf_fini(&value);
    return 0;
}

const char *config_get(const struct config *cfg, const char *name)
{
    const char *value = NULL;
    struct err err = ERR_INIT;

    return value_of(cfg, name, &value, &err) == 0 ? value : NULL;
}

/* "FILE, line N: name = value: why", or without the place when it is a default or -o. */
static int bad_value(const struct config *cfg, const char *name, struct err *err)
{
    int line = config_line(cfg, name);

    if (line > 0)
        return err_prefix(err, "%s, line %d: %s: ", cfg->path, line, name);
    return err_prefix(err, "parameter %s: ", name);
}

static int number(const struct param *p, const char *text, int64_t *out, struct err *err)
{
    int64_t max = p->max > 0 ? p->max : INT32_MAX;

    if (p->type == PARAM_TYPE_TIME) {
        if (num_parse_time(slice_str(text), p->unit != '\0' ? p->unit : 's', max, out, err) == -1)
            return -1;
        if (*out < p->min)
            return err_input(err, "%s is less than %llds", text, (long long) p->min);
        return 0;
    }
    return num_parse_i64(slice_str(text), p->min, p->max > 0 ? p->max : INT64_MAX, out, err);
}

static int bind_row(const struct config *cfg, const struct param *p, void *out, struct err *err)
{
    const char *value = NULL;
    char *at = (char *) out + p->offset;
    int64_t n;
    bool yes;

    if (value_of(cfg, p->name, &value, err) == -1)
        return bad_value(cfg, p->name, err);
    if (value == NULL)
        value = "";
    if (p->not_empty && value[0] == '\0') {
        err_input(err, "must not be empty");
        return bad_value(cfg, p->name, err);
    }
    switch ((enum param_type) p->type) {
    case PARAM_TYPE_STRING:
    case PARAM_TYPE_RAW:
        if (p->offset != UINT32_MAX)
            memcpy(at, &value, sizeof(value));
        return 0;
    case PARAM_TYPE_INT:
    case PARAM_TYPE_TIME:
        if (number(p, value, &n, err) == -1)
            return bad_value(cfg, p->name, err);
        if (p->offset != UINT32_MAX)
            memcpy(at, &n, sizeof(n));
        return 0;
    case PARAM_TYPE_BOOL:
        if (num_parse_bool(slice_str(value), &yes, err) == -1)
            return bad_value(cfg, p->name, err);
        if (p->offset != UINT32_MAX)
            memcpy(at, &yes, sizeof(yes));
        return 0;
    }
    return err_input(err, "parameter %s has no type", p->name);
}

int config_bind(const struct config *cfg, const struct param_set *set, void *out, struct err *err)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->rows[i].name[0] != '*' && bind_row(cfg, &set->rows[i], out, err) == -1)
            return -1;
    return 0;
}

/* "SERVICE_suffix" if set; the family's default, with "*" standing for the service. NULL: no such family. */
static const char *service_value(const struct config *cfg, const char *service, const char *suffix,
                                 char **name)
{
    struct buf full = BUF_INIT(1024);
    const struct param *p;
    const char *value = NULL;
    struct err err = ERR_INIT;

    buf_printf(&full, "%s_%s", service, suffix);
    *name = buf_take(&full);
    p = param_find(*name);
    if (p != NULL && value_of(cfg, *name, &value, &err) == -1)
        return NULL;
    return value;
}

const char *config_get_service_str(const struct config *cfg, const char *service,
                                   const char *suffix)
{
    char *name;
    const char *value = service_value(cfg, service, suffix, &name);

    free(name);
    return value;
}

int config_get_service_int(const struct config *cfg, const char *service, const char *suffix,
                           int64_t *out, struct err *err)
{
    char *name;
    const char *value = service_value(cfg, service, suffix, &name);
    const struct param *p = param_find(name);
    int ret = -1;

    if (p == NULL || value == NULL)
        err_input(err, "parameter %s has no value", name);
    else if (number(p, value, out, err) == -1)
        bad_value(cfg, name, err);
    else
        ret = 0;
    free(name);
    return ret;
}

void config_list_each(const char *value, void (*fn)(struct slice element, void *arg), void *arg)
{
    struct slice rest = slice_str(value);
    struct slice element;

    while (slice_token_braces(&rest, ", \t\r\n", &element))
        fn(element, arg);
}
