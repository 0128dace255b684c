/* SPDX-License-Identifier: Apache-2.0 */
/* htable.c - see htable.h: chained buckets, SipHash-1-3 with a seed of the process. */
#include "base/htable.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

struct node {
    struct node *next;
    void *value;
    uint64_t hash;
    size_t len;
    char key[];
};

struct htable {
    struct node **buckets;
    size_t nbuckets; /* a power of two */
    size_t len;
    bool fold_case;
};

static uint64_t seed[2];
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

static void make_seed(void)
{
    if (getrandom(seed, sizeof(seed), 0) != sizeof(seed)) {
        seed[0] = (uint64_t) (uintptr_t) &seed;
        seed[1] = (uint64_t) (uintptr_t) &make_seed;
    }
}

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define SIPROUND(v0, v1, v2, v3)                                                                   \
    do {                                                                                           \
        (v0) += (v1);                                                                              \
        (v1) = ROTL(v1, 13) ^ (v0);                                                                \
        (v0) = ROTL(v0, 32);                                                                       \
        (v2) += (v3);                                                                              \
        (v3) = ROTL(v3, 16) ^ (v2);                                                                \
        (v0) += (v3);                                                                              \
        (v3) = ROTL(v3, 21) ^ (v0);                                                                \
        (v2) += (v1);                                                                              \
        (v1) = ROTL(v1, 17) ^ (v2);                                                                \
        (v2) = ROTL(v2, 32);                                                                       \
    } while (0)

static uint64_t siphash(const char *p, size_t len, bool fold)
{
    uint64_t v0 = 0x736f6d6570736575ULL ^ seed[0];
    uint64_t v1 = 0x646f72616e646f6dULL ^ seed[1];
    uint64_t v2 = 0x6c7967656e657261ULL ^ seed[0];
    uint64_t v3 = 0x7465646279746573ULL ^ seed[1];
    size_t i = 0;
    uint64_t m;

    while (i < len) {
        size_t n = len - i < 8 ? len - i : 8;

        m = n < 8 ? (uint64_t) len << 56 : 0;
        if (n == 8 && !fold)
            memcpy(&m, p + i, 8);
        else
            for (size_t k = 0; k < n; k++)
                m |= (uint64_t) (unsigned char) (fold ? ascii_lower((unsigned char) p[i + k])
                                                      : p[i + k])
                     << (8 * k);
        v3 ^= m;
        SIPROUND(v0, v1, v2, v3);
        v0 ^= m;
        i += n;
    }
    if (len % 8 == 0) {
        m = (uint64_t) len << 56;
        v3 ^= m;
        SIPROUND(v0, v1, v2, v3);
        v0 ^= m;
    }
    v2 ^= 0xff;
    SIPROUND(v0, v1, v2, v3);
    SIPROUND(v0, v1, v2, v3);
    SIPROUND(v0, v1, v2, v3);
    return v0 ^ v1 ^ v2 ^ v3;
}

uint64_t hash_bytes(struct slice s)
{
    pthread_once(&seed_once, make_seed);
    return siphash(s.ptr, s.len, false);
}

struct htable *htable_new(bool fold_case)
{
    struct htable *t = xcalloc(1, sizeof(*t));

    pthread_once(&seed_once, make_seed);
    t->fold_case = fold_case;
    t->nbuckets = 16;
    t->buckets = xcalloc(t->nbuckets, sizeof(struct node *));
    return t;
}

void htable_free(struct htable **table, void (*free_value)(void *))
{
    struct htable *t = *table;

    if (t == NULL)
        return;
    for (size_t i = 0; i < t->nbuckets; i++) {
        for (struct node *n = t->buckets[i]; n != NULL;) {
            struct node *next = n->next;

            if (free_value != NULL)
                free_value(n->value);
            free(n);
            n = next;
        }
    }
    free(t->buckets);
    free(t);
    *table = NULL;
}

/* The link that points to the key's node, or to the end of its chain. */
static struct node **find(const struct htable *t, struct slice key, uint64_t *hash)
{
    struct node **link;

    *hash = siphash(key.ptr, key.len, t->fold_case);
    for (link = &t->buckets[*hash & (t->nbuckets - 1)]; *link != NULL; link = &(*link)->next) {
        struct slice have = slice_of((*link)->key, (*link)->len);

        if ((*link)->hash == *hash &&
            (t->fold_case ? slice_caseeq(have, key) : slice_eq(have, key)))
            break;
    }
    return link;
}

void *htable_get(const struct htable *t, struct slice key)
{
    uint64_t hash;
    struct node *n = *find(t, key, &hash);

    return n != NULL ? n->value : NULL;
}

static void grow(struct htable *t)
{
    size_t nbuckets = t->nbuckets * 2;
    struct node **buckets = xcalloc(nbuckets, sizeof(struct node *));

    for (size_t i = 0; i < t->nbuckets; i++) {
        for (struct node *n = t->buckets[i]; n != NULL;) {
            struct node *next = n->next;

            n->next = buckets[n->hash & (nbuckets - 1)];
            buckets[n->hash & (nbuckets - 1)] = n;
            n = next;
        }
    }
    free(t->buckets);
    t->buckets = buckets;
    t->nbuckets = nbuckets;
}

void *htable_put(struct htable *t, struct slice key, void *value)
{
    uint64_t hash;
    struct node **link = find(t, key, &hash);
    struct node *n = *link;
    void *old = NULL;

    if (n != NULL) {
        old = n->value;
        n->value = value;
        return old;
    }
    n = xmalloc(sizeof(*n) + key.len);
    n->next = NULL;
    n->value = value;
    n->hash = hash;
    n->len = key.len;
    if (key.len > 0)
        memcpy(n->key, key.ptr, key.len);
    *link = n;
    if (++t->len > t->nbuckets)
        grow(t);
    return NULL;
}

void *htable_remove(struct htable *t, struct slice key)
{
    uint64_t hash;
    struct node **link = find(t, key, &hash);
    struct node *n = *link;
    void *value;

    if (n == NULL)
        return NULL;
    value = n->value;
    *link = n->next;
    free(n);
    t->len--;
    return value;
}

size_t htable_len(const struct htable *t)
{
    return t->len;
}

void htable_each(const struct htable *t, bool (*fn)(struct slice key, void *value, void *arg),
                 void *arg)
{
    for (size_t i = 0; i < t->nbuckets; i++)
        for (struct node *n = t->buckets[i]; n != NULL; n = n->next)
            if (!fn(slice_of(n->key, n->len), n->value, arg))
                return;
}
