/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_expand.c - $name in parameter values: $name ${name} $(name) ${name?text} ${name:text} ${name?{..}:{..}}
 * ${{a} == {b} ? {x} : {y}} $$. postconf(5). A parameter that leads back to itself is an error that shows the way.
 */
#include "postconf/config_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

#define DEPTH_MAX 100

struct frame_of {
    const struct frame_of *up;
    struct slice name;
    unsigned depth;
};

static int expand(const struct config *cfg, struct slice text, const struct frame_of *up,
                  struct buf *out, struct err *err);

static bool is_name_char(char c)
{
    return ascii_is_alnum((unsigned char) c) || c == '_';
}

static int loop_error(struct slice name, const struct frame_of *up, struct err *err)
{
    struct buf chain = BUF_INIT(400);

    for (const struct frame_of *f = up; f != NULL; f = f->up) {
        buf_printf(&chain, "%.*s <- ", SLICE_FMT(f->name));
        if (slice_eq(f->name, name) && f->up == NULL)
            break;
    }
    buf_put_slice(&chain, up != NULL ? up->name : name);
    err_input(err, "parameter refers to itself: %.*s <- %.*s", SLICE_FMT(name),
              SLICE_FMT(buf_view(&chain)));
    buf_fini(&chain);
    return -1;
}

static const char *text_of(const struct config *cfg, const char *name, char **owned)
{
    const char *raw = config_raw(cfg, name);
    const struct param *p;

    *owned = NULL;
    if (raw != NULL)
        return raw;
    if (strcmp(name, "config_directory") == 0)
        return config_dir(cfg);
    p = param_find(name);
    if (p != NULL && p->def_fn != NULL)
        *owned = p->def_fn(cfg);
    if (*owned == NULL)
        *owned = config_computed_default(cfg, name);
    if (*owned != NULL)
        return *owned;
    return p != NULL ? p->def : NULL;
}

/* Appends the expanded value of a name; nothing for an unknown one. */
static int put_value(const struct config *cfg, struct slice name, const struct frame_of *up,
                     struct buf *out, struct err *err)
{
    struct frame_of frame = {up, name, up != NULL ? up->depth + 1 : 1};
    char *copy = slice_dup(name);
    char *owned;
    const char *text = text_of(cfg, copy, &owned);
    int ret = 0;

    for (const struct frame_of *f = up; f != NULL && ret == 0; f = f->up)
        if (slice_eq(f->name, name))
            ret = loop_error(name, up, err);
    if (ret == 0 && frame.depth > DEPTH_MAX)
        ret = err_input(err, "parameters refer to each other more than %d deep", DEPTH_MAX);
    if (ret == 0 && text != NULL)
        ret = expand(cfg, slice_str(text), &frame, out, err);
    free(owned);
    free(copy);
    return ret;
}

/* The end of the group that opens at text[at] ('{' or '('): index of its closing character, or -1. */
static ptrdiff_t closing(struct slice text, size_t at)
{
    char open = text.ptr[at];
    char close = open == '{' ? '}' : ')';
    unsigned depth = 0;

    for (size_t i = at; i < text.len; i++) {
        if (text.ptr[i] == open)
            depth++;
        else if (text.ptr[i] == close && --depth == 0)
            return (ptrdiff_t) i;
    }
    return -1;
}

/* "{text}" (white space around it inside the braces is dropped) from the front of *s. */
static bool take_group(struct slice *s, struct slice *inside)
{
    ptrdiff_t end;

    *s = slice_trim(*s, NULL);
    if (s->len == 0 || s->ptr[0] != '{')
        return false;
    end = closing(*s, 0);
    if (end == -1)
        return false;
    *inside = slice_trim(slice_sub(*s, 1, (size_t) end), NULL);
    *s = slice_trim(slice_sub(*s, (size_t) end + 1, s->len), NULL);
    return true;
}

/* Compatibility levels: "3.6", "2", "3.7.11": up to three numbers. */
static int level(struct slice s, int64_t *out)
{
    int64_t parts[3] = {0, 0, 0};
    struct slice rest = s;
    struct slice word;
    int n = 0;

    while (n < 3 && slice_token(&rest, ".", &word))
        if (num_parse_i64(word, 0, 99999, &parts[n++], NULL) == -1)
            return -1;
    *out = (parts[0] * 100000 + parts[1]) * 100000 + parts[2];
    return n > 0 ? 0 : -1;
}

static int compare(struct slice a, struct slice b, bool levels, int *result, struct err *err)
{
    int64_t x;
    int64_t y;

    if (levels) {
        if (level(a, &x) == -1 || level(b, &y) == -1)
            return err_input(err, "bad compatibility level in a comparison: \"%.*s\" and \"%.*s\"",
                             SLICE_FMT(a), SLICE_FMT(b));
    } else if (num_parse_i64(a, INT64_MIN + 1, INT64_MAX, &x, NULL) == -1 ||
               num_parse_i64(b, INT64_MIN + 1, INT64_MAX, &y, NULL) == -1) {
        size_t n = a.len < b.len ? a.len : b.len;
        int c = n > 0 ? memcmp(a.ptr, b.ptr, n) : 0;

        *result = c != 0 ? c : a.len < b.len ? -1 : a.len > b.len;
        return 0;
    }
    *result = x < y ? -1 : x > y;
    return 0;
}

/* {a} op {b} ? {x} : {y} */
static int conditional(const struct config *cfg, struct slice text, const struct frame_of *up,
                       struct buf *out, struct err *err)
{
    static const struct {
        const char *op;
        bool levels, less, equal, greater;
    } ops[] = {
        {"<=level", true, true, true, false},  {">=level", true, false, true, true},
        {"==level", true, false, true, false}, {"!=level", true, true, false, true},
        {"<level", true, true, false, false},  {">level", true, false, false, true},
        {"==", false, false, true, false},     {"!=", false, true, false, true},
        {"<=", false, true, true, false},      {">=", false, false, true, true},
        {"<", false, true, false, false},      {">", false, false, false, true},
    };
    struct slice sides[2];
    struct slice branches[2] = {SLICE_EMPTY, SLICE_EMPTY};
    struct buf values[2] = {BUF_INIT(CONFIG_VALUE_MAX), BUF_INIT(CONFIG_VALUE_MAX)};
    size_t op = 0;
    int order = 0;
    bool yes;
    int ret = -1;

    if (!take_group(&text, &sides[0]))
        goto syntax;
    while (op < ARRAY_LEN(ops) && !slice_starts_with(text, slice_str(ops[op].op)))
        op++;
    if (op == ARRAY_LEN(ops))
        goto syntax;
    text = slice_sub(text, strlen(ops[op].op), text.len);
    if (!take_group(&text, &sides[1]))
        goto syntax;
    if (text.len > 0 && text.ptr[0] == '?') {
        text = slice_sub(text, 1, text.len);
        if (!take_group(&text, &branches[0]))
            goto syntax;
    }
    if (text.len > 0 && text.ptr[0] == ':') {
        text = slice_sub(text, 1, text.len);
        if (!take_group(&text, &branches[1]))
            goto syntax;
    }
    if (text.len > 0)
        goto syntax;
    for (int i = 0; i < 2; i++)
        if (expand(cfg, sides[i], up, &values[i], err) == -1)
            goto done;
    if (compare(slice_trim(buf_view(&values[0]), NULL), slice_trim(buf_view(&values[1]), NULL),
                ops[op].levels, &order, err) == -1)
        goto done;
    yes = order < 0 ? ops[op].less : order > 0 ? ops[op].greater : ops[op].equal;
    ret = expand(cfg, branches[yes ? 0 : 1], up, out, err);
    goto done;
syntax:
    err_input(err, "bad conditional expression near \"%.*s\"", SLICE_FMT(slice_sub(text, 0, 60)));
done:
    buf_fini(&values[0]);
    buf_fini(&values[1]);
    return ret;
}

/* What stands between the braces. */
static int braced(const struct config *cfg, struct slice text, const struct frame_of *up,
                  struct buf *out, struct err *err)
{
    struct buf value = BUF_INIT(CONFIG_VALUE_MAX);
    struct slice inside = slice_trim(text, NULL);
    struct slice name;
    struct slice yes = SLICE_EMPTY;
    struct slice no = SLICE_EMPTY;
    size_t n = 0;
    char op;
    int ret = -1;

    if (inside.len > 0 && inside.ptr[0] == '{')
        return conditional(cfg, inside, up, out, err);
    while (n < inside.len && is_name_char(inside.ptr[n]))
        n++;
    name = slice_sub(inside, 0, n);
    if (name.len == 0)
        return err_input(err, "bad macro name near \"%.*s\"", SLICE_FMT(slice_sub(text, 0, 60)));
    inside = slice_trim(slice_sub(inside, n, inside.len), NULL);
    if (inside.len == 0)
        return put_value(cfg, name, up, out, err);
    op = inside.ptr[0];
    inside = slice_sub(inside, 1, inside.len);
    if (op != '?' && op != ':')
        return err_input(err, "bad character after the name \"%.*s\"", SLICE_FMT(name));
    /* {x}:{y}, or plain text to the end */
    struct slice *first = op == '?' ? &yes : &no;
    struct slice rest = slice_trim(inside, NULL);
    if (take_group(&rest, first)) {
        if (rest.len > 0 && rest.ptr[0] == ':' && op == '?') {
            rest = slice_sub(rest, 1, rest.len);
            if (!take_group(&rest, &no))
                return err_input(err, "no {text} after ':' in ${%.*s?...}", SLICE_FMT(name));
        }
        if (rest.len > 0)
            return err_input(err, "unexpected text after {...} in ${%.*s...}", SLICE_FMT(name));
    } else {
        *first = inside;
    }
    if (put_value(cfg, name, up, &value, err) == 0)
        ret = expand(cfg, value.len > 0 ? yes : no, up, out, err);
    buf_fini(&value);
    return ret;
}

static int expand(const struct config *cfg, struct slice text, const struct frame_of *up,
                  struct buf *out, struct err *err)
{
    size_t at = 0;

    while (at < text.len) {
        ptrdiff_t dollar = slice_find(slice_sub(text, at, text.len), '$');
        char next;

        if (dollar == -1) {
            buf_put_slice(out, slice_sub(text, at, text.len));
            break;
        }
        buf_put_slice(out, slice_sub(text, at, at + (size_t) dollar));
        at += (size_t) dollar + 1;
        next = at < text.len ? text.ptr[at] : '\0';
        if (next == '$') {
            buf_putc(out, '$');
            at++;
        } else if (next == '{' || next == '(') {
            ptrdiff_t end = closing(text, at);

            if (end == -1)
                return err_input(err, "no closing %c near \"%.*s\"", next == '{' ? '}' : ')',
                                 SLICE_FMT(slice_sub(text, at, at + 60)));
            if (braced(cfg, slice_sub(text, at + 1, (size_t) end), up, out, err) == -1)
                return -1;
            at = (size_t) end + 1;
        } else if (is_name_char(next)) {
            size_t end = at;

            while (end < text.len && is_name_char(text.ptr[end]))
                end++;
            if (put_value(cfg, slice_sub(text, at, end), up, out, err) == -1)
                return -1;
            at = end;
        } else {
            return err_input(err, "bad character after $ near \"%.*s\"",
                             SLICE_FMT(slice_sub(text, at, at + 60)));
        }
    }
    if (!buf_ok(out))
        return err_input(err, "value is longer than %u bytes", CONFIG_VALUE_MAX);
    return 0;
}

int config_expand(const struct config *cfg, const char *text, struct buf *out, struct err *err)
{
    return expand(cfg, slice_str(text), NULL, out, err);
}
