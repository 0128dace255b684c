/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_literal.c - see map_literal.h.
 *
 * A descent over the expression: alternatives of sequences of atoms, each with its quantifiers. Ordinary characters that
 * follow each other make a run; whatever else comes ends it. A run is a choice of one string. A group that must match
 * hands its choices on; one that need not (*, ?, {0,n}) is forgotten, and so is the last character of a run before such a
 * quantifier. Of alternatives, the best choice of each is joined to one; if any has none, there is none.
 *
 * The one way to be wrong is to misread where something ends (a class, a group, a quantifier), so whatever is unusual gives the
 * whole expression up: `lost`.
 */
#include "maps/map_literal.h"

#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX   50
#define STRINGS_MAX 32 /* in one choice */
#define CHOICES_MAX 64 /* of one sequence */

struct reading {
    const char *at, *end;
    bool is_pcre;
    bool lost;
    unsigned depth;
};

/* What a sequence of atoms asks for, while it is read. */
struct sequence {
    struct vec choices;
    struct buf run;
};

static void choice_free(void *arg)
{
    struct literal_choice *c = arg;

    vec_clear(&c->strings, free);
    vec_fini(&c->strings);
    free(c);
}

static void choices_clear(struct vec *choices)
{
    vec_clear(choices, choice_free);
}

void literals_free(struct literals **l)
{
    if (*l == NULL)
        return;
    choices_clear(&(*l)->choices);
    vec_fini(&(*l)->choices);
    free(*l);
    *l = NULL;
}

static struct literal_choice *choice_of(struct slice s)
{
    struct literal_choice *c = xcalloc(1, sizeof(*c));
    struct slice *string = xmalloc(sizeof(*string) + s.len);

    memcpy(string + 1, s.ptr, s.len);
    *string = slice_of((const char *) (string + 1), s.len);
    vec_push(&c->strings, string);
    return c;
}

static void add_choice(struct sequence *q, struct literal_choice *c)
{
    if (q->choices.len < CHOICES_MAX)
        vec_push(&q->choices, c);
    else
        choice_free(c); /* one fewer is asked for */
}

static void end_run(struct sequence *q)
{
    if (q->run.len > 0)
        add_choice(q, choice_of(buf_view(&q->run)));
    buf_reset(&q->run);
}

static void lose(struct reading *r)
{
    r->lost = true;
    r->at = r->end;
}

static bool next_is(const struct reading *r, const char *text)
{
    size_t n = strlen(text);

    return (size_t) (r->end - r->at) >= n && memcmp(r->at, text, n) == 0;
}

/* {n}, {n,}, {n,m} behind the brace: *least. Anything else is given up. */
static bool read_interval(struct reading *r, unsigned *least)
{
    const char *p = r->at;
    unsigned n = 0;
    bool digits = false;

    for (; p < r->end && ascii_is_digit((unsigned char) *p) && n < 100000; p++) {
        n = n * 10 + (unsigned) (*p - '0');
        digits = true;
    }
    if (digits && p < r->end && *p == ',')
        p++;
    while (p < r->end && ascii_is_digit((unsigned char) *p))
        p++;
    if (!digits || p == r->end || *p != '}')
        return false;
    r->at = p + 1;
    *least = n;
    return true;
}

enum quantity { ONCE, SOME, PERHAPS }; /* exactly one; at least one; maybe none */

static enum quantity read_quantifiers(struct reading *r)
{
    enum quantity result = ONCE;

    while (r->at < r->end) {
        unsigned least = 1;

        if (*r->at == '*' || *r->at == '?' || *r->at == '+') {
            least = *r->at == '+';
            r->at++;
        } else if (*r->at == '{') {
            r->at++;
            if (!read_interval(r, &least)) {
                lose(r);
                return PERHAPS;
            }
        } else {
            return result;
        }
        if (least == 0)
            result = PERHAPS;
        else if (result == ONCE)
            result = SOME;
        /* lazy, possessive; in the other syntax each is one more quantifier */
        if (r->is_pcre && r->at < r->end && (*r->at == '?' || *r->at == '+')) {
            r->at++;
            return result;
        }
    }
    return result;
}

/* An ordinary character. */
static void take_char(struct reading *r, struct sequence *q, char c)
{
    switch (read_quantifiers(r)) {
    case ONCE:
        buf_putc(&q->run, literal_fold(c));
        break;
    case SOME:
        buf_putc(&q->run, literal_fold(c));
        end_run(q);
        break;
    case PERHAPS:
        end_run(q);
        break;
    }
}

/* Something that is not a character by itself: what was read ends a run. */
static void take_other(struct reading *r, struct sequence *q)
{
    (void) read_quantifiers(r);
    end_run(q);
}

/* Behind the bracket. A class of one character is that character: *only. */
static void skip_class(struct reading *r, char *only, bool *is_only)
{
    unsigned members = 0;
    bool negated = r->at < r->end && *r->at == '^';
    bool first = true;

    *is_only = false;
    r->at += negated;
    for (; r->at < r->end; first = false) {
        char c = *r->at++;

        if (c == ']' && !first) {
            *is_only = members == 1 && !negated;
            return;
        }
        members++;
        *only = c;
        if (c == '[' && r->at < r->end && strchr(":.=", *r->at) != NULL) {
            /* [:alpha:]; where no name follows, libraries differ */
            members++;
            if (*r->at++ != ':')
                break;
            while (r->at < r->end && (*r->at == '^' || ascii_is_alpha((unsigned char) *r->at)))
                r->at++;
            if (!next_is(r, ":]"))
                break;
            r->at += 2;
        } else if (c == '\\' && r->is_pcre) {
            if (r->at == r->end || *r->at == 'Q' || *r->at == 'E')
                break;
            *only = *r->at++;
            members += ascii_is_alnum((unsigned char) *only); /* a class, a control character */
        }
    }
    lose(r);
}

static void take_class(struct reading *r, struct sequence *q)
{
    char only = '\0';
    bool is_only;

    skip_class(r, &only, &is_only);
    if (is_only)
        take_char(r, q, only);
    else
        take_other(r, q);
}

/* Behind the backslash. */
static void take_escape(struct reading *r, struct sequence *q)
{
    const char *known = r->is_pcre ? "dDwWsSbBAzZGhHvVRNXnrtfeaK" : "wWsSbB";
    char c;

    if (r->at == r->end) {
        lose(r);
        return;
    }
    c = *r->at++;
    if (ascii_is_alnum((unsigned char) c)) {
        if (strchr(known, c) == NULL || (c == 'N' && r->at < r->end && *r->at == '{'))
            lose(r); /* a number, a property, a quotation */
        else
            take_other(r, q);
    } else if (!r->is_pcre && strchr("<>`'", c) != NULL) {
        take_other(r, q);
    } else {
        take_char(r, q, c);
    }
}

static void read_alternatives(struct reading *r, struct sequence *out);

/* Behind the parenthesis. */
static void take_group(struct reading *r, struct sequence *q)
{
    struct sequence inner = {.choices = VEC_INIT, .run = BUF_INIT(SIZE_MAX)};

    end_run(q);
    if (r->is_pcre && r->at < r->end && *r->at == '*') { /* a verb */
        lose(r);
    } else if (r->is_pcre && r->at < r->end && *r->at == '?') {
        if (next_is(r, "?:"))
            r->at += 2;
        else
            lose(r);
    }
    if (r->lost)
        return;
    if (++r->depth > DEPTH_MAX) {
        lose(r);
        return;
    }
    read_alternatives(r, &inner);
    r->depth--;
    if (!r->lost && r->at < r->end && *r->at == ')')
        r->at++;
    else
        lose(r);
    if (!r->lost && read_quantifiers(r) != PERHAPS) {
        for (size_t i = 0; i < inner.choices.len; i++)
            add_choice(q, inner.choices.items[i]);
        inner.choices.len = 0;
    }
    choices_clear(&inner.choices);
    vec_fini(&inner.choices);
    buf_fini(&inner.run);
}

static void read_sequence(struct reading *r, struct sequence *q)
{
    while (r->at < r->end && *r->at != '|' && *r->at != ')') {
        char c = *r->at++;

        switch (c) {
        case '^':
        case '$':
        case '.':
            take_other(r, q);
            break;
        case '[':
            take_class(r, q);
            break;
        case '\\':
            take_escape(r, q);
            break;
        case '(':
            take_group(r, q);
            break;
        case '*':
        case '+':
        case '?':
        case '{':
            lose(r); /* nothing is before it: an error, or a character, as the library likes it */
            break;
        default:
            take_char(r, q, c);
        }
    }
    end_run(q);
}

/* The one with the longest shortest string: what is joined to others is at its best there. */
static struct literal_choice *take_best(struct vec *choices)
{
    struct literal_choice *best = NULL;
    size_t best_len = 0;
    size_t best_at = 0;

    for (size_t i = 0; i < choices->len; i++) {
        struct literal_choice *c = choices->items[i];
        size_t shortest = SIZE_MAX;

        for (size_t k = 0; k < c->strings.len; k++) {
            const struct slice *s = c->strings.items[k];

            if (s->len < shortest)
                shortest = s->len;
        }
        if (shortest > best_len) {
            best = c;
            best_len = shortest;
            best_at = i;
        }
    }
    if (best != NULL)
        vec_remove(choices, best_at);
    return best;
}

/* What all alternatives together ask for goes to out; it has nothing before. */
static void read_alternatives(struct reading *r, struct sequence *out)
{
    struct literal_choice *joined = NULL;
    bool all = true;

    read_sequence(r, out);
    if (r->lost || r->at == r->end || *r->at != '|')
        return;
    joined = take_best(&out->choices);
    all = joined != NULL;
    choices_clear(&out->choices);
    while (!r->lost && r->at < r->end && *r->at == '|') {
        struct sequence other = {.choices = VEC_INIT, .run = BUF_INIT(SIZE_MAX)};
        struct literal_choice *c;

        r->at++;
        read_sequence(r, &other);
        c = take_best(&other.choices);
        all = all && c != NULL && joined->strings.len + c->strings.len <= STRINGS_MAX;
        if (all) {
            for (size_t i = 0; i < c->strings.len; i++)
                vec_push(&joined->strings, c->strings.items[i]);
            c->strings.len = 0;
        }
        if (c != NULL)
            choice_free(c);
        choices_clear(&other.choices);
        vec_fini(&other.choices);
        buf_fini(&other.run);
    }
    if (all)
        vec_push(&out->choices, joined);
    else if (joined != NULL)
        choice_free(joined);
}

struct literals *literals_of(struct slice expression, enum literal_syntax syntax)
{
    struct reading r = {.at = expression.ptr,
                        .end = expression.ptr + expression.len,
                        .is_pcre = syntax == LITERAL_PCRE};
    struct sequence q = {.choices = VEC_INIT, .run = BUF_INIT(SIZE_MAX)};
    struct literals *l = NULL;

    read_alternatives(&r, &q);
    if (!r.lost && r.at == r.end && q.choices.len > 0) {
        l = xcalloc(1, sizeof(*l));
        l->choices = q.choices;
    } else {
        choices_clear(&q.choices);
        vec_fini(&q.choices);
    }
    buf_fini(&q.run);
    return l;
}
