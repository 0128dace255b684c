/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_glob.c - see map_glob.h.
 *
 * If an expression of strings with ".*" between them matches at all, it does with each string at the first place where it
 * is found behind the one before it; only the last one is fixed, by "$". So there is no going back. One with a part that may be missing is
 * two such expressions, with and without it.
 */
#include "maps/map_glob.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "maps/map_literal.h"

#define STRINGS_MAX 8
#define BYTES_MAX   1000

/* One block, so that it is a cache line or two. */
struct glob {
    uint16_t lens[STRINGS_MAX];
    uint16_t other; /* where the other expression begins, from here; 0: there is none */
    uint8_t count;
    bool folds, newline_end, no_nul, from_start, to_end;
    char bytes[]; /* of all strings; folded, if that */
};

struct reading {
    char bytes[BYTES_MAX];
    size_t used;
    bool with_group; /* else what is in it is left out */
    bool has_group, in_group;
    struct glob g;
};

static char folded(const struct glob *g, char c)
{
    return g->folds ? literal_fold(c) : c;
}

static bool add(struct reading *r, char c)
{
    if (r->in_group && !r->with_group)
        return true;
    if (r->used == sizeof(r->bytes))
        return false;
    r->bytes[r->used++] = folded(&r->g, c);
    r->g.lens[r->g.count - 1]++;
    return true;
}

static bool is_quantified(const char *at, const char *end)
{
    return at < end && strchr("*+?{", *at) != NULL;
}

/* The character that *at is for itself, with what quotes it; anything else is for the library. */
static bool take_char(const char **at, const char *end, char *out)
{
    const char *p = *at;

    if (*p == '\\') {
        /* \< \> \` \' are anchors in one syntax */
        if (end - p < 2 || ascii_is_alnum((unsigned char) p[1]) ||
            !ascii_is_print((unsigned char) p[1]) || strchr("<>`'", p[1]) != NULL)
            return false;
        *out = p[1];
        *at = p + 2;
    } else if (*p == '[') {
        if (end - p < 3 || p[2] != ']' || strchr("^\\[]", p[1]) != NULL)
            return false;
        *out = p[1];
        *at = p + 3;
    } else {
        if (*p == '\0' || strchr("^$.*+?(){}|", *p) != NULL)
            return false;
        *out = *p;
        *at = p + 1;
    }
    return !is_quantified(*at, end); /* it would be something else */
}

/* At a parenthesis: there may be one group, which need not match. */
static bool take_parenthesis(struct reading *r, const char **at, const char *end)
{
    if (**at == '(') {
        if (r->has_group)
            return false;
        r->has_group = r->in_group = true;
        *at += end - *at > 2 && (*at)[1] == '?' && (*at)[2] == ':' ? 3 : 1;
        return true;
    }
    if (!r->in_group || end - *at < 2 || (*at)[1] != '?' || is_quantified(*at + 2, end))
        return false;
    r->in_group = false;
    *at += 2;
    return true;
}

/* At a ".": ".*" */
static bool take_gap(struct reading *r, const char **at, const char *end)
{
    if (end - *at < 2 || (*at)[1] != '*' || is_quantified(*at + 2, end))
        return false;
    *at += 2;
    if (r->in_group && !r->with_group)
        return true;
    return r->g.count++ < STRINGS_MAX;
}

static bool read_all(struct reading *r, const char *at, const char *end)
{
    char c;

    r->g.count = 1;
    if (at < end && *at == '^') {
        r->g.from_start = true;
        at++;
    }
    while (at < end) {
        if (*at == '$' && at + 1 == end) {
            r->g.to_end = true;
            at++;
        } else if (*at == '(' || *at == ')') {
            if (!take_parenthesis(r, &at, end))
                return false;
        } else if (*at == '.') {
            if (!take_gap(r, &at, end))
                return false;
        } else if (!take_char(&at, end, &c) || !add(r, c)) {
            return false;
        }
    }
    return !r->in_group;
}

static size_t aligned(size_t size)
{
    return (size + _Alignof(struct glob) - 1) & ~(_Alignof(struct glob) - 1);
}

struct glob *glob_of(struct slice expression, unsigned flags)
{
    struct reading r[2]; /* with what is in the group, and without */
    size_t sizes[2] = {0, 0};
    struct glob *g;

    if (expression.len == 0 || slice_find(expression, '\0') != -1)
        return NULL;
    for (unsigned i = 0; i < 2; i++) {
        r[i] = (struct reading){.g = {.folds = (flags & GLOB_FOLDS) != 0,
                                      .newline_end = (flags & GLOB_NEWLINE_END) != 0,
                                      .no_nul = (flags & GLOB_NO_NUL) != 0},
                                .with_group = i == 0};
        if (!read_all(&r[i], expression.ptr, expression.ptr + expression.len))
            return NULL;
        sizes[i] = aligned(sizeof(struct glob) + r[i].used);
    }
    if (r[0].has_group)
        r[0].g.other = (uint16_t) sizes[0];
    g = xcalloc(1, sizes[0] + (r[0].has_group ? sizes[1] : 0));
    *g = r[0].g;
    memcpy(g->bytes, r[0].bytes, r[0].used);
    if (r[0].has_group) {
        struct glob *other = (struct glob *) ((char *) g + sizes[0]);

        *other = r[1].g;
        memcpy(other->bytes, r[1].bytes, r[1].used);
    }
    return g;
}

static const struct glob *other_of(const struct glob *g)
{
    return g->other == 0 ? NULL : (const struct glob *) ((const char *) g + g->other);
}

bool glob_has_group(const struct glob *g)
{
    return g->other != 0;
}

size_t glob_size(const struct glob *g)
{
    size_t size = sizeof(*g);

    for (unsigned i = 0; i < g->count; i++)
        size += g->lens[i];
    size = aligned(size);
    return g->other == 0 ? size : size + glob_size(other_of(g));
}

/* Is s at p? There are len bytes. */
static bool is_at(const struct glob *g, const char *p, const char *s, size_t len)
{
    size_t i = 0;

    while (i < len && (p[i] == s[i] || (g->folds && literal_fold(p[i]) == s[i])))
        i++;
    return i == len;
}

/* Where s is first found, at or behind p; NULL: nowhere. */
static const char *find(const struct glob *g, const char *p, const char *end, const char *s,
                        size_t len)
{
    if (len == 0)
        return p;
    for (; (size_t) (end - p) >= len; p++)
        if (folded(g, *p) == s[0] && is_at(g, p + 1, s + 1, len - 1))
            return p;
    return NULL;
}

/* The last string, which is to end where the key does, and not begin before p. */
static bool ends_with(const struct glob *g, const char *p, const char *end, const char *s,
                      size_t len)
{
    bool is_only = g->count == 1 && g->from_start;

    for (unsigned i = 0; i < 2; i++) {
        if ((size_t) (end - p) >= len && (!is_only || (size_t) (end - p) == len) &&
            is_at(g, end - len, s, len))
            return true;
        if (!g->newline_end || end == p || end[-1] != '\n')
            return false;
        end--;
    }
    return false;
}

static bool matches(const struct glob *g, struct slice key)
{
    const char *p = key.len > 0 ? key.ptr : "";
    const char *end = p + key.len;
    const char *s = g->bytes;

    for (unsigned i = 0; i < g->count; i++) {
        size_t len = g->lens[i];

        if (i + 1U == g->count && g->to_end)
            return ends_with(g, p, end, s, len);
        if (i == 0 && g->from_start) {
            if (key.len < len || !is_at(g, p, s, len))
                return false;
        } else {
            p = find(g, p, end, s, len);
            if (p == NULL)
                return false;
        }
        p += len;
        s += len;
    }
    return true;
}

/* What matches has no NUL in it: it lies between two. */
static bool matches_between(const struct glob *g, struct slice key)
{
    ptrdiff_t nul = slice_find(key, '\0');
    bool is_first = true;

    for (; nul != -1; nul = slice_find(key, '\0')) {
        if (!g->to_end && (is_first || !g->from_start) &&
            matches(g, slice_sub(key, 0, (size_t) nul)))
            return true;
        key = slice_sub(key, (size_t) nul + 1, key.len);
        is_first = false;
    }
    return (is_first || !g->from_start) && matches(g, key);
}

bool glob_matches(const struct glob *g, struct slice key)
{
    if (g->no_nul ? matches_between(g, key) : matches(g, key))
        return true;
    return g->other != 0 && glob_matches(other_of(g), key);
}
