/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_cidr_index.c - see map_cidr_index.h.
 *
 * 1. Each rule becomes the prefixes of the addresses that it matches, if the blocks around it let them in: an if takes the common
 *    part, "!" what is left without the network.
 * 2. Sorted, a prefix stands behind those around it. A pass with a stack of them gives, from address to address, the first
 *    rule of all that are open; where that changes, a range begins.
 */
#include "maps/map_cidr_index.h"

#include <arpa/inet.h>
#include <stdlib.h>

#define PREFIXES_MAX (4U << 20) /* 40 bytes each, while the index is made */
#define FIRST_BITS   16

/* An address of either family, left-aligned. */
struct key {
    uint64_t high, low;
};

struct prefix {
    struct key start;
    uint32_t rule;
    uint8_t bits;
    bool is_v6;
};

struct prefixes {
    struct prefix *items;
    size_t count, cap;
};

/* The ranges of a family: each from its start to before the next one's. */
struct ranges {
    uint32_t *v4;
    struct key *v6;
    uint32_t *rules;
    size_t count;
    /* IPv4: by an address's first bits, the range of the lowest such address; and one more, the last range. */
    uint32_t *first;
    unsigned first_bits;
};

struct cidr_index {
    struct ranges v4, v6;
};

static struct key key_of(const struct network *n)
{
    struct key k = {0, 0};

    for (int i = 0; i < 8; i++) {
        k.high = k.high << 8 | n->addr[i];
        k.low = k.low << 8 | n->addr[i + 8];
    }
    return k;
}

static int compare(struct key a, struct key b)
{
    if (a.high != b.high)
        return a.high < b.high ? -1 : 1;
    return a.low < b.low ? -1 : a.low > b.low;
}

/* The bits behind the first `bits` are set: the last address of a prefix. */
static struct key fill(struct key k, unsigned bits)
{
    if (bits == 0)
        k.high = UINT64_MAX;
    else if (bits < 64)
        k.high |= UINT64_MAX >> bits;
    if (bits <= 64)
        k.low = UINT64_MAX;
    else if (bits < 128)
        k.low |= UINT64_MAX >> (bits - 64);
    return k;
}

static struct key flip(struct key k, unsigned bit)
{
    if (bit < 64)
        k.high ^= UINT64_C(1) << (63 - bit);
    else
        k.low ^= UINT64_C(1) << (127 - bit);
    return k;
}

/* The first `bits` bits. */
static struct key cut(struct key k, unsigned bits)
{
    struct key mask = fill((struct key){0, 0}, bits);

    return (struct key){k.high & ~mask.high, k.low & ~mask.low};
}

static struct prefix prefix_of(const struct network *n)
{
    return (struct prefix){
        .start = key_of(n), .bits = (uint8_t) n->bits, .is_v6 = n->family == AF_INET6};
}

/* a holds b, or is b. */
static bool holds(const struct prefix *a, const struct prefix *b)
{
    return a->is_v6 == b->is_v6 && a->bits <= b->bits &&
           compare(cut(b->start, a->bits), a->start) == 0;
}

static void add(struct prefixes *set, struct prefix p)
{
    if (set->count == set->cap) {
        set->cap = set->cap == 0 ? 64 : set->cap * 2;
        set->items = xrealloc(set->items, set->cap * sizeof(*set->items));
    }
    set->items[set->count++] = p;
}

/* What p has outside of hole, which lies in it: a prefix for each bit that they differ by in length. */
static void add_around(struct prefixes *out, const struct prefix *p, const struct prefix *hole)
{
    for (unsigned bit = p->bits; bit < hole->bits; bit++)
        add(out, (struct prefix){.start = flip(cut(hole->start, bit + 1), bit),
                                 .bits = (uint8_t) (bit + 1),
                                 .is_v6 = p->is_v6,
                                 .rule = p->rule});
}

/* Adds to out the part of `in` that the condition lets through, as of this rule. */
static void filter(const struct prefixes *in, const struct pattern_rule *r, uint32_t rule,
                   struct prefixes *out)
{
    struct prefix n = prefix_of(r->pattern);

    for (size_t i = 0; i < in->count; i++) {
        struct prefix p = in->items[i];

        p.rule = rule;
        if (holds(&n, &p)) {
            if (!r->negated)
                add(out, p);
        } else if (holds(&p, &n)) {
            if (r->negated) {
                add_around(out, &p, &n);
            } else {
                n.rule = rule;
                add(out, n);
            }
        } else if (r->negated && p.is_v6 == n.is_v6) {
            add(out, p); /* an address of the other family is not compared at all */
        }
    }
}

static void end_block(struct prefixes *block)
{
    free(block->items);
    free(block);
}

/* Step 1. False: too many. */
static bool gather(const struct pattern_table *t, struct prefixes *out)
{
    struct vec blocks = VEC_INIT; /* struct prefixes *: what the blocks that are open let in */
    struct vec ends = VEC_INIT;   /* where they end, as indexes */
    struct prefixes *all = xcalloc(1, sizeof(*all));

    add(all, (struct prefix){.is_v6 = false});
    add(all, (struct prefix){.is_v6 = true});
    vec_push(&blocks, all);
    for (size_t i = 0; i < t->count && out->count <= PREFIXES_MAX; i++) {
        const struct pattern_rule *r = &t->rules[i];
        const struct prefixes *open = blocks.items[blocks.len - 1];

        if (r->kind == RULE_IF) {
            struct prefixes *block = xcalloc(1, sizeof(*block));

            filter(open, r, 0, block);
            vec_push(&blocks, block);
            vec_push(&ends, (void *) (uintptr_t) r->end);
        } else if (r->kind == RULE_MATCH) {
            filter(open, r, (uint32_t) i, out);
        } else if (ends.len > 0 && (size_t) (uintptr_t) ends.items[ends.len - 1] == i) {
            (void) vec_pop(&ends);
            end_block(vec_pop(&blocks));
        }
    }
    while (blocks.len > 0)
        end_block(vec_pop(&blocks));
    vec_fini(&blocks);
    vec_fini(&ends);
    return out->count <= PREFIXES_MAX;
}

/* By family, address; the shorter of the same start, which is around the other, first. */
static int by_place(const void *a, const void *b)
{
    const struct prefix *p = a;
    const struct prefix *q = b;
    int order = p->is_v6 - q->is_v6;

    if (order == 0)
        order = compare(p->start, q->start);
    return order != 0 ? order : p->bits - q->bits;
}

/* From here on the answer is this rule. */
static void begin_range(struct ranges *out, struct key start, uint32_t rule)
{
    if (out->count > 0 && compare(out->v6[out->count - 1], start) == 0)
        out->count--; /* it began with something else, for no address */
    if (out->count > 0 && out->rules[out->count - 1] == rule)
        return;
    out->v6[out->count] = start;
    out->rules[out->count++] = rule;
}

struct open_prefix {
    struct key last;
    uint32_t rule; /* the first of all that are open here */
};

/* Behind the innermost open prefix, those around it count again. */
static void close_prefix(struct ranges *out, const struct open_prefix *stack, size_t depth)
{
    struct key next = stack[depth - 1].last;
    uint32_t outer = depth > 1 ? stack[depth - 2].rule : CIDR_NO_RULE;

    if (++next.low == 0 && ++next.high == 0)
        return; /* there is no address behind it */
    begin_range(out, next, outer);
}

/* Step 2, of one family. */
static void sweep(const struct prefix *items, size_t n, struct ranges *out)
{
    /* one for each length, at most */
    struct open_prefix stack[130];
    size_t depth = 0;

    out->v6 = xmalloc((2 * n + 1) * sizeof(*out->v6));
    out->rules = xmalloc((2 * n + 1) * sizeof(*out->rules));
    begin_range(out, (struct key){0, 0}, CIDR_NO_RULE);
    for (size_t i = 0; i < n; i++) {
        const struct prefix *p = &items[i];
        struct key last = fill(p->start, p->bits);
        uint32_t rule = p->rule;

        while (depth > 0 && compare(stack[depth - 1].last, p->start) < 0) {
            close_prefix(out, stack, depth);
            depth--;
        }
        if (depth > 0 && stack[depth - 1].rule < rule)
            rule = stack[depth - 1].rule;
        if (depth > 0 && compare(stack[depth - 1].last, last) == 0)
            depth--; /* the same network again: what was said of it is in `rule` */
        stack[depth++] = (struct open_prefix){last, rule};
        begin_range(out, p->start, rule);
    }
    for (; depth > 0; depth--)
        close_prefix(out, stack, depth);
}

/* IPv4 ranges are asked for most: their starts take 4 bytes. */
static void pack(struct ranges *r, bool is_v6)
{
    if (!is_v6) {
        r->v4 = xmalloc(r->count * sizeof(*r->v4));
        for (size_t i = 0; i < r->count; i++)
            r->v4[i] = (uint32_t) (r->v6[i].high >> 32);
        free(r->v6);
        r->v6 = NULL;
    } else {
        r->v6 = xrealloc(r->v6, r->count * sizeof(*r->v6));
    }
    r->rules = xrealloc(r->rules, r->count * sizeof(*r->rules));
}

/* A search from end to end of many ranges waits for memory at most of its steps. */
static void make_first(struct ranges *r)
{
    unsigned bits = 1;
    uint32_t range = 0;

    while (bits < FIRST_BITS && (1U << bits) < r->count)
        bits++;
    r->first_bits = bits;
    r->first = xmalloc(((1U << bits) + 1) * sizeof(*r->first));
    for (uint32_t i = 0; i < 1U << bits; i++) {
        while (range + 1 < r->count && r->v4[range + 1] <= i << (32 - bits))
            range++;
        r->first[i] = range;
    }
    r->first[1U << bits] = (uint32_t) r->count - 1;
}

struct cidr_index *cidr_index_new(const struct pattern_table *t)
{
    struct prefixes all = {0};
    struct cidr_index *index = NULL;

    if (gather(t, &all)) {
        size_t v4 = 0;

        index = xcalloc(1, sizeof(*index));
        if (all.count > 0)
            qsort(all.items, all.count, sizeof(*all.items), by_place);
        while (v4 < all.count && !all.items[v4].is_v6)
            v4++;
        sweep(all.items, v4, &index->v4);
        sweep(all.count > v4 ? all.items + v4 : NULL, all.count - v4, &index->v6);
        pack(&index->v4, false);
        make_first(&index->v4);
        pack(&index->v6, true);
    }
    free(all.items);
    return index;
}

static void ranges_fini(struct ranges *r)
{
    free(r->v4);
    free(r->v6);
    free(r->rules);
    free(r->first);
}

void cidr_index_free(struct cidr_index *index)
{
    if (index == NULL)
        return;
    ranges_fini(&index->v4);
    ranges_fini(&index->v6);
    free(index);
}

/* The last range that begins at or before the address; the first begins at address 0. */
static uint32_t find_v4(const struct ranges *r, uint32_t addr)
{
    const uint32_t *first = &r->first[addr >> (32 - r->first_bits)];
    size_t low = first[0];
    size_t n = first[1] - low + 1;

    while (n > 1) {
        size_t half = n / 2;

        if (r->v4[low + half] <= addr)
            low += half;
        n -= half;
    }
    return r->rules[low];
}

static uint32_t find_v6(const struct ranges *r, struct key addr)
{
    size_t low = 0;
    size_t n = r->count;

    while (n > 1) {
        size_t half = n / 2;

        if (compare(r->v6[low + half], addr) <= 0)
            low += half;
        n -= half;
    }
    return r->rules[low];
}

uint32_t cidr_index_find(const struct cidr_index *index, const struct network *addr)
{
    struct key key = key_of(addr);

    if (addr->family == AF_INET6)
        return find_v6(&index->v6, key);
    return find_v4(&index->v4, (uint32_t) (key.high >> 32));
}

size_t cidr_index_size(const struct cidr_index *index)
{
    return index->v4.count + index->v6.count;
}
