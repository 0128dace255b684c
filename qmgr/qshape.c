/* SPDX-License-Identifier: Apache-2.0 */
/* qshape.c - see qshape.h. The form of the table is that of Debian's qshape(1). */
#include "qmgr/qshape.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/htable.h"
#include "base/vec.h"

#define WIDTH_MIN   80
#define CUT_BYTES   17 /* of a name that does not fit, behind "+" */
#define NAME_LEAST  18 /* "+" and that: the width is exceeded rather than these cut, too */
#define COLUMNS_MAX (QSHAPE_BUCKETS_MAX + 1)

struct row {
    char *name;
    bool is_parent;
    unsigned subdomains;
    uint64_t counts[COLUMNS_MAX]; /* the sum first */
};

struct qshape {
    struct qshape_options opt;
    struct htable *rows;
    struct row total;
};

struct qshape *qshape_new(const struct qshape_options *o)
{
    struct qshape *q = xcalloc(1, sizeof(*q));

    q->opt = *o;
    if (q->opt.width < WIDTH_MIN)
        q->opt.width = WIDTH_MIN;
    q->rows = htable_new(true);
    q->total.name = slice_dup(SLICE_LIT("TOTAL"));
    return q;
}

static void row_free(void *value)
{
    struct row *r = value;

    free(r->name);
    free(r);
}

void qshape_free(struct qshape **qp)
{
    if (*qp == NULL)
        return;
    htable_free(&(*qp)->rows, row_free);
    free((*qp)->total.name);
    free(*qp);
    *qp = NULL;
}

/* Where bucket i ends. */
static int64_t end_of(const struct qshape_options *o, unsigned i)
{
    return o->is_linear ? o->first_s * (i + 1) : o->first_s << i;
}

static unsigned bucket_of(const struct qshape_options *o, int64_t age_s)
{
    unsigned i = 0;

    while (i + 1 < o->buckets && age_s >= end_of(o, i))
        i++;
    return i;
}

static struct row *row_of(struct qshape *q, struct slice name, bool *is_new)
{
    struct row *r = htable_get(q->rows, name);

    *is_new = r == NULL;
    if (r != NULL)
        return r;
    r = xcalloc(1, sizeof(*r));
    r->name = slice_dup(name);
    for (char *c = r->name; *c != '\0' && !slice_eq_str(name, QSHAPE_NULL_SENDER); c++)
        *c = (char) ascii_lower((unsigned char) *c);
    r->is_parent = name.ptr[0] == '.';
    (void) htable_put(q->rows, name, r);
    return r;
}

static void count(struct row *r, unsigned bucket)
{
    r->counts[0]++;
    r->counts[bucket + 1]++;
}

/* ".example.com" and ".b.example.com" for "a.b.example.com". */
static void add_parents(struct qshape *q, struct slice domain, unsigned bucket, bool is_new)
{
    bool made;

    if (domain.ptr[0] == '[')
        return; /* an address has none */
    for (size_t i = 1; i + 1 < domain.len; i++) {
        struct slice parent = slice_sub(domain, i, domain.len);
        struct row *r;

        if (domain.ptr[i] != '.')
            continue;
        if (slice_find(slice_sub(parent, 1, parent.len), '.') == -1)
            return; /* a top level domain */
        r = row_of(q, parent, &made);
        count(r, bucket);
        r->subdomains += is_new;
    }
}

void qshape_add(struct qshape *q, struct slice domain, int64_t age_s)
{
    unsigned bucket = bucket_of(&q->opt, age_s);
    bool is_new;

    count(&q->total, bucket);
    if (domain.len == 0)
        domain = SLICE_LIT("(no domain)");
    count(row_of(q, domain, &is_new), bucket);
    if (q->opt.parents)
        add_parents(q, domain, bucket, is_new);
}

/* --- the table ---------------------------------------------------------------------------------------- */

static bool collect(struct slice name, void *value, void *arg)
{
    (void) name;
    vec_push(arg, value);
    return true;
}

/* Parents before what is below them. */
static int compare(const void *va, const void *vb)
{
    const struct row *a = va;
    const struct row *b = vb;

    if (a->counts[0] != b->counts[0])
        return a->counts[0] > b->counts[0] ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* "T", "5", "10", ... "10+", in minutes. */
static void label(const struct qshape *q, unsigned column, char *out, size_t size)
{
    const struct qshape_options *o = &q->opt;

    if (column == 0)
        snprintf(out, size, "T");
    else if (column == o->buckets)
        snprintf(out, size, "%" PRId64 "+", column == 1 ? 0 : end_of(o, column - 2) / 60);
    else
        snprintf(out, size, "%" PRId64, end_of(o, column - 1) / 60);
}

static void put_name(const char *name, int room, FILE *out)
{
    size_t len = strlen(name);

    if (len <= (size_t) room)
        fprintf(out, "%*s", room, name);
    else if (name[0] == '.')
        fprintf(out, "%*s.+%s", room - NAME_LEAST, "", name + len - (CUT_BYTES - 1));
    else
        fprintf(out, "%*s+%s", room - NAME_LEAST, "", name + len - CUT_BYTES);
}

void qshape_print(struct qshape *q, size_t top, FILE *out)
{
    struct vec rows = VEC_INIT;
    int widths[COLUMNS_MAX];
    int room = (int) q->opt.width;
    char text[24];

    htable_each(q->rows, collect, &rows);
    vec_sort(&rows, compare);
    for (unsigned i = 0; i <= q->opt.buckets; i++) {
        label(q, i, text, sizeof(text));
        widths[i] = (int) strlen(text);
        snprintf(text, sizeof(text), "%" PRIu64, q->total.counts[i]);
        if ((int) strlen(text) > widths[i])
            widths[i] = (int) strlen(text);
        if (widths[i] < 2)
            widths[i] = 2;
        room -= widths[i] + 1;
    }
    if (room < NAME_LEAST)
        room = NAME_LEAST;
    put_name("", room, out);
    for (unsigned i = 0; i <= q->opt.buckets; i++) {
        label(q, i, text, sizeof(text));
        fprintf(out, " %*s", widths[i], text);
    }
    fputc('\n', out);
    for (size_t n = 0, shown = 0; n <= rows.len && (top == 0 || shown <= top); n++) {
        const struct row *r = n == 0 ? &q->total : rows.items[n - 1];

        if (r->is_parent && r->subdomains < q->opt.min_subdomains)
            continue;
        shown++;
        put_name(r->name, room, out);
        for (unsigned i = 0; i <= q->opt.buckets; i++)
            fprintf(out, " %*" PRIu64, widths[i], r->counts[i]);
        fputc('\n', out);
    }
    vec_fini(&rows);
}
