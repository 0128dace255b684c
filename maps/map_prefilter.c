/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_prefilter.c - see map_prefilter.h.
 *
 * Of each string that is asked for, one window of 8, 5, 3 or 2 bytes, the longest that fits, is put into a hash table: the window
 * that fewest strings of the table have, so that what rules have in common ("Subject: ", ".example") does not
 * count. A key is looked at through a window of each width in use at each of its places: one multiplication, one bit of
 * a small set that says no for nearly all; then the table, and the whole string. The cost is the key's length, not the number of rules.
 */
#include "maps/map_prefilter.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define RULES_MIN   24 /* fewer are tried one by one as fast */
#define WIDTHS      4
#define COUNTS_BITS 18
#define PAD         8 /* bytes behind a folded key, so that a window may be read as a whole */

static const unsigned widths[WIDTHS] = {8, 5, 3, 2};
/* A short window turns up by chance more often: how much rarer it must be to be preferred. */
static const uint64_t penalties[WIDTHS] = {1, 8, 64, 512};

struct entry {
    uint64_t window;
    uint32_t rule;
    uint32_t string; /* its place among the strings' bytes */
    uint32_t next;   /* of the same hash; 0: none */
    uint16_t len;    /* of the string */
    uint16_t before; /* bytes of it before the window */
    uint8_t width;   /* index */
};

struct prefilter {
    struct entry *entries; /* from 1 on */
    size_t count;
    uint32_t *heads; /* by hash */
    unsigned bits;   /* of the hash */
    uint64_t *set;   /* a bit for each hash value in use, of set_bits */
    unsigned set_bits;
    bool uses[WIDTHS];
    char *strings;
    uint64_t *known; /* a bit for each rule */
    uint32_t nrules; /* the highest one and 1 */
};

struct pending {
    uint32_t rule;
    struct literals *literals;
};

struct prefilter_builder {
    struct pending *items;
    size_t count, cap;
};

struct prefilter_builder *prefilter_builder_new(void)
{
    return xcalloc(1, sizeof(struct prefilter_builder));
}

void prefilter_add(struct prefilter_builder *b, uint32_t rule, struct literals *l)
{
    if (l == NULL)
        return;
    if (b->count == b->cap) {
        b->cap = b->cap == 0 ? 64 : b->cap * 2;
        b->items = xrealloc(b->items, b->cap * sizeof(*b->items));
    }
    b->items[b->count++] = (struct pending){rule, l};
}

static uint64_t window_at(const char *p, unsigned width)
{
    uint64_t w = 0;

    memcpy(&w, p, width);
    return le64toh(w); /* the first bytes are the low ones, so that a mask cuts to a width */
}

static uint64_t hash_of(uint64_t window)
{
    window *= UINT64_C(0x9E3779B97F4A7C15);
    return window ^ window >> 32;
}

/* The index of the widest window that fits; WIDTHS: too short. */
static unsigned width_for(size_t len)
{
    unsigned i = 0;

    while (i < WIDTHS && widths[i] > len)
        i++;
    return i;
}

static uint32_t *count_slot(uint32_t *counts, const char *p, unsigned width)
{
    uint64_t h = hash_of(window_at(p, widths[width])) + width;

    return &counts[h & ((1U << COUNTS_BITS) - 1)];
}

static void count_windows(uint32_t *counts, const struct literals *l)
{
    for (size_t i = 0; i < l->choices.len; i++) {
        const struct literal_choice *c = l->choices.items[i];

        for (size_t k = 0; k < c->strings.len; k++) {
            const struct slice *s = c->strings.items[k];
            unsigned width = width_for(s->len);

            for (size_t at = 0; width < WIDTHS && at + widths[width] <= s->len; at++)
                ++*count_slot(counts, s->ptr + at, width);
        }
    }
}

/* How often the rarest window of s is asked for; UINT64_MAX: s is too short. *at: where it is. */
static uint64_t rarest(uint32_t *counts, const struct slice *s, size_t *at)
{
    unsigned width = width_for(s->len);
    uint64_t best = UINT64_MAX;

    for (size_t i = 0; width < WIDTHS && i + widths[width] <= s->len && i <= UINT16_MAX; i++) {
        uint64_t n = *count_slot(counts, s->ptr + i, width) * penalties[width];

        if (n < best) {
            best = n;
            *at = i;
        }
    }
    return best;
}

/* The choice that the fewest keys will have: NULL if none can be searched for. */
static const struct literal_choice *best_choice(uint32_t *counts, const struct literals *l)
{
    const struct literal_choice *best = NULL;
    uint64_t best_cost = UINT64_MAX;

    for (size_t i = 0; i < l->choices.len; i++) {
        const struct literal_choice *c = l->choices.items[i];
        uint64_t cost = 0;
        size_t at;

        for (size_t k = 0; k < c->strings.len && cost != UINT64_MAX; k++) {
            const struct slice *s = c->strings.items[k];
            uint64_t n = s->len <= UINT16_MAX ? rarest(counts, s, &at) : UINT64_MAX;

            cost = n == UINT64_MAX ? n : cost + n;
        }
        if (cost < best_cost) {
            best = c;
            best_cost = cost;
        }
    }
    return best;
}

struct building {
    struct prefilter *p;
    struct buf strings;
    size_t cap;
};

static void put_string(struct building *b, uint32_t rule, const struct slice *s, size_t at)
{
    struct prefilter *p = b->p;
    unsigned width = width_for(s->len);
    struct entry *e;

    if (p->count + 1 >= b->cap) {
        b->cap = b->cap == 0 ? 256 : b->cap * 2;
        p->entries = xrealloc(p->entries, b->cap * sizeof(*p->entries));
    }
    e = &p->entries[++p->count];
    *e = (struct entry){.window = window_at(s->ptr + at, widths[width]),
                        .rule = rule,
                        .string = (uint32_t) b->strings.len,
                        .len = (uint16_t) s->len,
                        .before = (uint16_t) at,
                        .width = (uint8_t) width};
    buf_put_slice(&b->strings, *s);
    p->uses[width] = true;
}

static void link_entries(struct prefilter *p)
{
    p->bits = 8;
    while (p->bits < 24 && (1U << p->bits) < 2 * p->count)
        p->bits++;
    p->set_bits = p->bits + 4;
    p->heads = xcalloc((size_t) 1 << p->bits, sizeof(*p->heads));
    p->set = xcalloc((size_t) 1 << (p->set_bits - 6), sizeof(*p->set));
    for (size_t i = p->count; i > 0; i--) {
        uint64_t h = hash_of(p->entries[i].window);
        uint32_t *head = &p->heads[h & ((UINT64_C(1) << p->bits) - 1)];
        uint64_t bit = h & ((UINT64_C(1) << p->set_bits) - 1);

        p->entries[i].next = *head;
        *head = (uint32_t) i;
        p->set[bit / 64] |= UINT64_C(1) << bit % 64;
    }
}

static struct prefilter *make(const struct prefilter_builder *b)
{
    struct building building = {.p = xcalloc(1, sizeof(struct prefilter)),
                                .strings = BUF_INIT(UINT32_MAX)};
    struct prefilter *p = building.p;
    uint32_t *counts = xcalloc((size_t) 1 << COUNTS_BITS, sizeof(*counts));
    size_t known = 0;

    for (size_t i = 0; i < b->count; i++)
        count_windows(counts, b->items[i].literals);
    p->nrules = b->items[b->count - 1].rule + 1;
    p->known = xcalloc(p->nrules / 64 + 1, sizeof(*p->known));
    for (size_t i = 0; i < b->count; i++) {
        uint32_t rule = b->items[i].rule;
        const struct literal_choice *c = best_choice(counts, b->items[i].literals);

        if (c == NULL)
            continue;
        for (size_t k = 0; k < c->strings.len; k++) {
            const struct slice *s = c->strings.items[k];
            size_t at = 0;

            (void) rarest(counts, s, &at);
            put_string(&building, rule, s, at);
        }
        p->known[rule / 64] |= UINT64_C(1) << rule % 64;
        known++;
    }
    free(counts);
    p->strings = buf_take(&building.strings);
    if (known < RULES_MIN)
        prefilter_free(&p);
    else
        link_entries(p);
    return p;
}

struct prefilter *prefilter_build(struct prefilter_builder **b)
{
    struct prefilter *p = (*b)->count >= RULES_MIN ? make(*b) : NULL;

    for (size_t i = 0; i < (*b)->count; i++)
        literals_free(&(*b)->items[i].literals);
    free((*b)->items);
    free(*b);
    *b = NULL;
    return p;
}

void prefilter_free(struct prefilter **p)
{
    if (*p == NULL)
        return;
    free((*p)->entries);
    free((*p)->heads);
    free((*p)->set);
    free((*p)->strings);
    free((*p)->known);
    free(*p);
    *p = NULL;
}

bool prefilter_knows(const struct prefilter *p, uint32_t rule)
{
    return rule < p->nrules && (p->known[rule / 64] >> rule % 64 & 1) != 0;
}

static void add_hit(struct prefilter_hits *h, uint32_t rule)
{
    if (h->count == h->cap) {
        uint32_t *more = xmalloc(h->cap * 2 * sizeof(*more));

        memcpy(more, h->rules, h->count * sizeof(*more));
        if (h->rules != h->space)
            free(h->rules);
        h->rules = more;
        h->cap *= 2;
    }
    h->rules[h->count++] = rule;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *) a;
    uint32_t y = *(const uint32_t *) b;

    return x < y ? -1 : x > y;
}

/* Rising, each once. */
static void sort_hits(struct prefilter_hits *h)
{
    size_t kept = 0;

    if (h->count < 2)
        return;
    qsort(h->rules, h->count, sizeof(*h->rules), by_number);
    for (size_t i = 0; i < h->count; i++)
        if (kept == 0 || h->rules[kept - 1] != h->rules[i])
            h->rules[kept++] = h->rules[i];
    h->count = kept;
}

/* The strings whose window of this width is the one at `at`. */
static void look_up(const struct prefilter *p, const char *key, size_t len, size_t at,
                    unsigned width, uint64_t window, uint64_t hash, struct prefilter_hits *out)
{
    uint32_t i = p->heads[hash & ((UINT64_C(1) << p->bits) - 1)];

    for (; i != 0; i = p->entries[i].next) {
        const struct entry *e = &p->entries[i];

        if (e->window == window && e->width == width && e->before <= at &&
            e->len <= len - (at - e->before) &&
            memcmp(p->strings + e->string, key + at - e->before, e->len) == 0)
            add_hit(out, e->rule);
    }
}

void prefilter_find(const struct prefilter *p, struct slice key, struct prefilter_hits *out)
{
    char space[1024];
    char *folded = key.len + PAD <= sizeof(space) ? space : xmalloc(key.len + PAD);
    const uint64_t set_mask = (UINT64_C(1) << p->set_bits) - 1;

    out->rules = out->space;
    out->count = 0;
    out->cap = sizeof(out->space) / sizeof(out->space[0]);
    for (size_t i = 0; i < key.len; i++)
        folded[i] = literal_fold(key.ptr[i]);
    memset(folded + key.len, 0, PAD);
    for (unsigned w = 0; w < WIDTHS; w++) {
        const unsigned width = widths[w];
        const uint64_t mask = width == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * width) - 1;

        for (size_t at = 0; p->uses[w] && at + width <= key.len; at++) {
            uint64_t window = window_at(folded + at, 8) & mask;
            uint64_t h = hash_of(window);
            uint64_t bit = h & set_mask;

            if ((p->set[bit / 64] >> bit % 64 & 1) != 0)
                look_up(p, folded, key.len, at, w, window, h, out);
        }
    }
    if (folded != space)
        free(folded);
    sort_hits(out);
}

void prefilter_hits_fini(struct prefilter_hits *h)
{
    if (h->rules != h->space)
        free(h->rules);
}
