/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_regexp_cost.c - see map_regexp_cost.h.
 *
 * A descent over the expression that builds nothing, but counts what glibc's regcomp() will build: X+ is X X*, X{2,4} is X X X? X?.
 * Memory is that of the nodes, and that of each node's closure (the nodes that are reached from it without a character), which is
 * quadratic where parts may be empty. What is behind an anchor is built once more for each set of anchors before it: with the number
 * of anchors that no character parts, that was measured to grow with the fifth power, and with their number in loops exponentially.
 *
 * For a part of an expression:
 *   nodes   how many it has
 *   front   the closure of its beginning, and how many anchors are in it
 *   back    its nodes whose closure reaches its end, and so the front of what follows; and how many of them are anchors
 *   links   the sum of all closures
 */
#include "maps/map_regexp_cost.h"

#include <string.h>

#define NODE_BYTES 350
#define LINK_BYTES 12
/* Anchors in loops that no character parts, "(^|$)*(\b|a)*": the time doubles and more with each. */
#define LOOP_ANCHORS_MAX 12
#define ONE_LOOP_MAX     3 /* with 5 of them in one loop, "(\b|\B|^)*", minutes do not suffice */
#define WAYS_MAX         10000 /* through a loop: each is gone, "((a*?){40})*" */
#define DUP_MAX          32767 /* RE_DUP_MAX: more is an error of regcomp() */

struct part {
    double nodes, front, back, links; /* they may get far larger than what is allowed, once */
    double front_anchors, back_anchors, loop_anchors;
    double ways; /* from its beginning to its end without a character */
    bool may_be_empty;
};

static const struct part nothing = {.ways = 1, .may_be_empty = true};
static const struct part one_char = {.nodes = 1, .front = 1, .links = 1};
static const struct part parenthesis = {
    .nodes = 1, .front = 1, .back = 1, .links = 1, .ways = 1, .may_be_empty = true};
static const struct part anchor = {.nodes = 1,
                                   .front = 1,
                                   .back = 1,
                                   .links = 1,
                                   .front_anchors = 1,
                                   .back_anchors = 1,
                                   .ways = 1,
                                   .may_be_empty = true};

struct reading {
    const char *at, *end;
    bool basic;
    bool is_over, is_deep; /* nothing more is read */
    unsigned depth;
};

enum token { END, CHAR, ANCHOR, TWO_ANCHORS, OPEN, CLOSE, OR, STAR, PLUS, PERHAPS, BRACE, CLASS };

static double bytes_of(const struct part *p)
{
    return p->nodes * NODE_BYTES + p->links * LINK_BYTES;
}

static struct part checked(struct reading *r, struct part p)
{
    if (bytes_of(&p) > (double) REGEXP_BYTES_MAX || p.loop_anchors > LOOP_ANCHORS_MAX) {
        r->is_over = true;
        return nothing;
    }
    return p;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* The links that come of a's back reaching b's front. */
static double joined(const struct part *a, const struct part *b)
{
    double links = a->back * b->front;
    double anchors = a->back_anchors + b->front_anchors;

    if (a->back_anchors > 0 && b->front_anchors > 0)
        links *= anchors * anchors * anchors * anchors / (a->back_anchors * b->front_anchors * 6);
    return links;
}

static struct part then(struct reading *r, struct part a, struct part b)
{
    bool meet = a.back_anchors > 0 && b.front_anchors > 0;

    return checked(
        r, (struct part){.nodes = a.nodes + b.nodes + (a.back_anchors > 0 ? b.front : 0),
                         .front = a.front + (a.may_be_empty ? b.front : 0),
                         .back = b.back + (b.may_be_empty ? a.back : 0),
                         .links = a.links + b.links + joined(&a, &b),
                         .front_anchors = a.front_anchors + (a.may_be_empty ? b.front_anchors : 0),
                         .back_anchors = b.back_anchors + (b.may_be_empty ? a.back_anchors : 0),
                         .loop_anchors = meet ? a.loop_anchors + b.loop_anchors
                                              : larger(a.loop_anchors, b.loop_anchors),
                         .ways = a.ways * b.ways,
                         .may_be_empty = a.may_be_empty && b.may_be_empty});
}

static struct part either(struct reading *r, struct part a, struct part b)
{
    return checked(r, (struct part){.nodes = a.nodes + b.nodes + 1,
                                    .front = a.front + b.front + 1,
                                    .back = a.back + b.back + (a.may_be_empty || b.may_be_empty),
                                    .links = a.links + b.links + a.front + b.front + 1,
                                    .front_anchors = a.front_anchors + b.front_anchors,
                                    .back_anchors = a.back_anchors + b.back_anchors,
                                    .loop_anchors = a.loop_anchors + b.loop_anchors,
                                    .ways = a.ways + b.ways,
                                    .may_be_empty = a.may_be_empty || b.may_be_empty});
}

static struct part star(struct reading *r, struct part a)
{
    struct part p = either(r, a, nothing);

    p.links += joined(&p, &p);
    p.loop_anchors += p.back_anchors;
    if (p.back_anchors > ONE_LOOP_MAX || a.ways > WAYS_MAX)
        r->is_over = true;
    return checked(r, p);
}

/* most: -1 if there is no limit */
static struct part repeated(struct reading *r, struct part a, long least, long most)
{
    struct part sum = nothing;

    for (long i = 0; i < least && !r->is_over; i++)
        sum = then(r, sum, a);
    if (most == -1)
        return then(r, sum, star(r, a));
    for (long i = least; i < most && !r->is_over; i++)
        sum = then(r, sum, either(r, a, nothing));
    return sum;
}

static bool take(struct reading *r, char c)
{
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

static long read_number(struct reading *r, long otherwise)
{
    long n = 0;

    if (r->at == r->end || !ascii_is_digit((unsigned char) *r->at))
        return otherwise;
    for (; r->at < r->end && ascii_is_digit((unsigned char) *r->at); r->at++)
        if (n <= DUP_MAX)
            n = n * 10 + (*r->at - '0');
    return n <= DUP_MAX ? n : 0; /* an error */
}

/* Behind the brace; what is no interval is an error, or characters. */
static struct part interval(struct reading *r, struct part a)
{
    const char *start = r->at;
    long least = read_number(r, 0);
    long most = least;

    if (take(r, ','))
        most = read_number(r, -1);
    if (r->basic)
        (void) take(r, '\\');
    if (!take(r, '}')) {
        r->at = start;
        return then(r, a, one_char);
    }
    return repeated(r, a, least, most);
}

static enum token operator_of(char c)
{
    switch (c) {
    case '(':
        return OPEN;
    case ')':
        return CLOSE;
    case '{':
        return BRACE;
    case '|':
        return OR;
    case '+':
        return PLUS;
    case '?':
        return PERHAPS;
    default:
        return CHAR;
    }
}

/* Behind the backslash. \b and \B are two anchors each: "either" of them. */
static enum token escape(struct reading *r)
{
    char c;

    if (r->at == r->end)
        return CHAR;
    c = *r->at++;
    if (c == 'b' || c == 'B')
        return TWO_ANCHORS;
    if (c == '<' || c == '>' || c == '`' || c == '\'')
        return ANCHOR;
    return r->basic ? operator_of(c) : CHAR;
}

static enum token next(struct reading *r)
{
    char c;

    if (r->at == r->end || r->is_over || r->is_deep)
        return END;
    c = *r->at++;
    switch (c) {
    case '\\':
        return escape(r);
    case '^':
    case '$':
        return ANCHOR;
    case '[':
        return CLASS;
    case '*':
        return STAR;
    default:
        return r->basic ? CHAR : operator_of(c);
    }
}

/* Behind the bracket. */
static void skip_class(struct reading *r)
{
    (void) take(r, '^');
    (void) take(r, ']');
    while (r->at < r->end && *r->at != ']') {
        char kind = *r->at == '[' && r->end - r->at > 1 ? r->at[1] : '\0';

        r->at++;
        if (kind != ':' && kind != '.' && kind != '=')
            continue;
        r->at++;
        while (r->at < r->end && !(*r->at == kind && r->end - r->at > 1 && r->at[1] == ']'))
            r->at++;
        r->at += r->end - r->at > 1 ? 2 : 0;
    }
    (void) take(r, ']');
}

static struct part alternatives(struct reading *r);

static struct part group(struct reading *r)
{
    struct part inner;

    if (r->depth == REGEXP_DEPTH_MAX) {
        r->is_deep = true;
        return nothing;
    }
    r->depth++;
    inner = alternatives(r);
    r->depth--;
    return then(r, then(r, parenthesis, inner), parenthesis);
}

static struct part quantified(struct reading *r, struct part a)
{
    while (!r->is_over) {
        const char *before = r->at;

        switch (next(r)) {
        case STAR:
            a = star(r, a);
            break;
        case PLUS:
            a = then(r, a, star(r, a));
            break;
        case PERHAPS:
            a = either(r, a, nothing);
            break;
        case BRACE:
            a = interval(r, a);
            break;
        case END:
        case CHAR:
        case ANCHOR:
        case TWO_ANCHORS:
        case OPEN:
        case CLOSE:
        case OR:
        case CLASS:
            r->at = before;
            return a;
        }
    }
    return a;
}

/* Up to "|", the group's end, or the end; which one is *last. */
static struct part sequence(struct reading *r, enum token *last)
{
    struct part sum = nothing;

    for (;;) {
        struct part a = one_char;
        enum token t = next(r);

        *last = t;
        if (t == END || t == OR || (t == CLOSE && r->depth > 0))
            return sum;
        if (t == CLASS) {
            skip_class(r);
        } else if (t == OPEN) {
            a = group(r);
        } else if (t == ANCHOR) {
            a = anchor;
        } else if (t == TWO_ANCHORS) {
            a = either(r, anchor, anchor);
        }
        /* else a character, or a quantifier that has nothing before it and is one */
        sum = then(r, sum, quantified(r, a));
    }
}

static struct part alternatives(struct reading *r)
{
    enum token last;
    struct part sum = sequence(r, &last);

    while (last == OR) {
        struct part other = sequence(r, &last);

        sum = either(r, sum, other);
    }
    return sum;
}

int regexp_cost(struct slice expression, bool basic, uint64_t *bytes, struct err *err)
{
    struct reading r = {.at = "", .basic = basic};
    struct part all;

    if (expression.len > 0) /* else it may be NULL */
        r.at = expression.ptr;
    r.end = r.at + expression.len;
    all = alternatives(&r);
    if (r.is_deep)
        return err_input(err, "more than %d parentheses within each other", REGEXP_DEPTH_MAX);
    if (r.is_over)
        return err_input(
            err,
            "too many repeats, alternatives or anchors: the C library would take more than %d MB for it, or minutes",
            (int) (REGEXP_BYTES_MAX >> 20));
    *bytes = (uint64_t) bytes_of(&all);
    return 0;
}
