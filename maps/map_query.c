/* SPDX-License-Identifier: Apache-2.0 */
/* map_query.c - see map_query.h. A template is kept as it is written; new() checked it. */
#include "maps/map_query.h"

#include <stdlib.h>

#include "base/lock.h"
#include "maps/policy.h"

struct map_query {
    char *format;
};

int map_query_new(const char *format, struct map_query **out, struct err *err)
{
    for (const char *p = format; *p != '\0'; p++) {
        if (*p != '%')
            continue;
        p++;
        if (*p == '\0')
            return err_input(err, "\"%s\": a single %% at the end", format);
        if (strchr("%sudSUD123456789", *p) == NULL)
            return err_input(err, "\"%s\": %%%c means nothing", format, *p);
    }
    *out = xcalloc(1, sizeof(**out));
    (*out)->format = xstrdup(format);
    return 0;
}

void map_query_free(struct map_query **q)
{
    if (*q == NULL)
        return;
    free((*q)->format);
    free(*q);
    *q = NULL;
}

/* user@domain at the last "@"; false: there is none. Either may be empty. */
static bool split(struct slice address, struct slice *local, struct slice *domain)
{
    ptrdiff_t at = slice_rfind(address, '@');

    if (at == -1)
        return false;
    *local = slice_sub(address, 0, (size_t) at);
    *domain = slice_sub(address, (size_t) at + 1, address.len);
    return true;
}

/* The n-th label from the right; empty ones do not count. */
static bool label(struct slice domain, int n, struct slice *out)
{
    while (domain.len > 0) {
        ptrdiff_t dot = slice_rfind(domain, '.');

        *out = slice_sub(domain, (size_t) (dot + 1), domain.len);
        if (out->len > 0 && --n == 0)
            return true;
        domain = slice_sub(domain, 0, dot == -1 ? 0 : (size_t) dot);
    }
    return false;
}

/* What %s, %u or %d is of text. */
static bool part_of(struct slice text, char what, struct slice *out)
{
    struct slice local;
    struct slice domain;

    if (what == 's') {
        *out = text;
        return text.len > 0;
    }
    if (!split(text, &local, &domain)) {
        *out = text;
        return what == 'u' && text.len > 0;
    }
    *out = what == 'u' ? local : domain;
    return out->len > 0;
}

static bool key_part(struct slice key, char what, struct slice *out)
{
    struct slice local;
    struct slice domain;

    if (what >= '1' && what <= '9')
        return split(key, &local, &domain) && label(domain, what - '0', out);
    return part_of(key, (char) ascii_lower((unsigned char) what), out);
}

bool map_query_for_key(const struct map_query *q, struct slice key, map_quote_fn quote, void *arg,
                       struct buf *out)
{
    for (const char *p = q->format; *p != '\0'; p++) {
        struct slice part;

        if (*p != '%' || *++p == '%') {
            buf_putc(out, *p);
            continue;
        }
        if (!key_part(key, *p, &part))
            return false;
        if (quote != NULL)
            quote(part, out, arg);
        else
            buf_put_slice(out, part);
    }
    return true;
}

static bool is_of_key(char what)
{
    return strchr("sud", what) == NULL;
}

bool map_query_key_fits(const struct map_query *q, struct slice key)
{
    for (const char *p = q->format; *p != '\0'; p++) {
        struct slice part;

        if (*p == '%' && *++p != '%' && is_of_key(*p) && !key_part(key, *p, &part))
            return false;
    }
    return true;
}

bool map_query_for_result(const struct map_query *q, struct slice key, struct slice result,
                          struct buf *out)
{
    size_t before = out->len;

    if (result.len == 0)
        return false;
    for (const char *p = q->format; *p != '\0'; p++) {
        struct slice part;

        if (*p != '%' || *++p == '%') {
            buf_putc(out, *p);
        } else if (is_of_key(*p) ? key_part(key, *p, &part) : part_of(result, *p, &part)) {
            buf_put_slice(out, part);
        } else {
            buf_truncate(out, before);
            return false;
        }
    }
    return true;
}

void map_results_begin(struct map_results *r, const struct map_query *format, int64_t limit,
                       struct slice key)
{
    *r = (struct map_results){format, key, limit, 0, BUF_INIT(MAP_VALUE_MAX)};
}

void map_results_reset(struct map_results *r)
{
    r->count = 0;
    buf_reset(&r->text);
}

int map_results_add(struct map_results *r, struct slice result, struct err *err)
{
    size_t before = r->text.len;

    if (r->count > 0)
        buf_putc(&r->text, ',');
    if (!map_query_for_result(r->format, r->key, result, &r->text)) {
        buf_truncate(&r->text, before);
        return 0;
    }
    r->count++;
    if (r->limit > 0 && r->count > r->limit)
        return err_temporary(err, "more results than expansion_limit, %lld, allows",
                             (long long) r->limit);
    if (!buf_ok(&r->text))
        return err_temporary(err, "the results are longer than %u bytes", MAP_VALUE_MAX);
    return 0;
}

enum map_result map_results_end(struct map_results *r, enum map_result result, struct buf *value)
{
    if (result == MAP_FOUND && r->text.len == 0)
        result = MAP_NOTFOUND;
    if (result == MAP_FOUND)
        buf_put_slice(value, buf_view(&r->text));
    buf_fini(&r->text);
    return result;
}

/* --- domain --------------------------------------------------------------------------------------- */

struct map_domains {
    struct map_env *env;
    char *value;
    struct lock lock;
    struct match_list *list GUARDED_BY(lock); /* NULL: not opened yet; immutable afterwards */
};

struct map_domains *map_domains_new(struct map_env *env, const char *list)
{
    struct map_domains *d;

    if (list == NULL || slice_trim(slice_str(list), ", \t\r\n").len == 0)
        return NULL;
    d = xcalloc(1, sizeof(*d));
    d->env = env;
    d->value = xstrdup(list);
    lock_init(&d->lock, LOCK_MAP_DOMAINS);
    return d;
}

void map_domains_free(struct map_domains **d)
{
    if (*d == NULL)
        return;
    match_list_free(&(*d)->list);
    lock_fini(&(*d)->lock);
    free((*d)->value);
    free(*d);
    *d = NULL;
}

enum map_result map_domains_ask(struct map_domains *d, struct slice key, struct err *err)
{
    struct match_list *list;
    struct slice local;
    struct slice domain;
    int ret = 0;

    if (d == NULL)
        return MAP_FOUND;
    if (!split(key, &local, &domain) || local.len == 0 || domain.len == 0)
        return MAP_NOTFOUND;
    lock_take(&d->lock);
    if (d->list == NULL)
        ret = match_list_open(d->env, MATCH_STRING, d->value, false, &d->list, err);
    list = d->list;
    lock_release(&d->lock);
    if (ret == -1) {
        err_prefix(err, "domain: ");
        return MAP_RETRY;
    }
    return match_list_string(list, domain, err);
}
