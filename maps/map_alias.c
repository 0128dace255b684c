/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_alias.c - one logical line of an aliases(5) file, in the tokens of a mail header: quoted strings, domain literals, comments,
 * atoms, and the characters that stand for themselves.
 */
#include "maps/map_alias.h"

#include <stdlib.h>

#define SPECIALS ",:;<>@."

enum kind { ATOM, QUOTED, LITERAL, COMMENT, SPECIAL };
struct token {
    enum kind kind;
    struct buf text; /* unquoted for ATOM and QUOTED */
};

/* "..." from the front of s; a backslash keeps the next character. */
static size_t take_quoted(struct slice s, struct buf *out)
{
    size_t at = 1;

    for (; at < s.len && s.ptr[at] != '"'; at++) {
        if (s.ptr[at] == '\\' && at + 1 < s.len)
            at++;
        buf_putc(out, ascii_is_space((unsigned char) s.ptr[at]) ? ' ' : s.ptr[at]);
    }
    return at < s.len ? at + 1 : at;
}

/* (...), nested, as it is; an open one ends with the line. */
static size_t take_comment(struct slice s, struct buf *out)
{
    size_t at = 0;
    int depth = 0;

    do {
        char c = s.ptr[at];

        buf_putc(out, c);
        at++;
        if (c == '\\' && at < s.len)
            buf_putc(out, s.ptr[at++]);
        else if (c == '(')
            depth++;
        else if (c == ')')
            depth--;
    } while (depth > 0 && at < s.len);
    return at;
}

static size_t take_literal(struct slice s, struct buf *out)
{
    size_t at = 0;

    while (at < s.len && s.ptr[at] != ']') {
        if (s.ptr[at] == '\\' && at + 1 < s.len)
            buf_putc(out, s.ptr[at++]);
        buf_putc(out, s.ptr[at++]);
    }
    buf_putc(out, ']');
    return at < s.len ? at + 1 : at;
}

static bool ends_atom(char c)
{
    return ascii_is_space((unsigned char) c) || c == '"' || c == '(' || c == '[' ||
           slice_find(SLICE_LIT(SPECIALS), c) != -1;
}

static size_t take_atom(struct slice s, struct buf *out)
{
    size_t at = 0;

    while (at < s.len && !ends_atom(s.ptr[at])) {
        if (s.ptr[at] == '\\' && at + 1 < s.len)
            at++;
        buf_putc(out, s.ptr[at++]);
    }
    return at;
}

/* Cuts the next token from the front of *rest, white space dropped. False: none is left. */
static bool next_token(struct slice *rest, struct token *t)
{
    size_t n;

    while (rest->len > 0 && ascii_is_space((unsigned char) rest->ptr[0]))
        *rest = slice_sub(*rest, 1, rest->len);
    if (rest->len == 0)
        return false;
    buf_reset(&t->text);
    switch (rest->ptr[0]) {
    case '"':
        t->kind = QUOTED;
        n = take_quoted(*rest, &t->text);
        break;
    case '(':
        t->kind = COMMENT;
        n = take_comment(*rest, &t->text);
        break;
    case '[':
        t->kind = LITERAL;
        n = take_literal(*rest, &t->text);
        break;
    default:
        t->kind = ATOM;
        n = take_atom(*rest, &t->text);
        if (n == 0) {
            t->kind = SPECIAL;
            buf_putc(&t->text, rest->ptr[0]);
            n = 1;
        }
    }
    *rest = slice_sub(*rest, n, rest->len);
    return true;
}

static bool needs_quotes(const struct token *t)
{
    if (t->kind == QUOTED)
        return true;
    for (size_t i = 0; i < t->text.len; i++)
        if (ends_atom(t->text.ptr[i]) || t->text.ptr[i] == '\\' || t->text.ptr[i] == ')')
            return true;
    return false;
}

static void put_quoted(struct slice text, struct buf *out)
{
    buf_putc(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '"' || text.ptr[i] == '\\')
            buf_putc(out, '\\');
        buf_putc(out, text.ptr[i]);
    }
    buf_putc(out, '"');
}

/* A space stands between two words, before "<" after a word, and after each comma. */
static void put_value(struct slice rest, struct buf *value)
{
    struct token t = {.text = BUF_INIT(SIZE_MAX)};
    bool after_word = false;

    while (next_token(&rest, &t)) {
        bool word = t.kind != SPECIAL;
        struct slice text = buf_view(&t.text);

        if (after_word && (word || text.ptr[0] == '<'))
            buf_putc(value, ' ');
        if ((t.kind == ATOM || t.kind == QUOTED) && needs_quotes(&t))
            put_quoted(text, value);
        else
            buf_put_slice(value, text);
        if (t.kind == SPECIAL && text.ptr[0] == ',')
            buf_putc(value, ' ');
        after_word = word;
    }
    buf_fini(&t.text);
}

int alias_split(struct slice line, struct buf *name, struct buf *value, struct err *err)
{
    struct token t = {.text = BUF_INIT(SIZE_MAX)};
    struct slice rest = line;
    bool after_word = false;
    bool local = true;
    bool ended = false;

    if (ascii_is_space((unsigned char) line.ptr[0]))
        return err_input(err, "logical line must not start with whitespace: \"%.*s\"",
                         SLICE_FMT(line));
    while (!ended && next_token(&rest, &t)) {
        struct slice text = buf_view(&t.text);

        if (t.kind == SPECIAL && text.ptr[0] == ':') {
            ended = true;
        } else if (t.kind == SPECIAL && text.ptr[0] == ',') {
            break;
        } else {
            local = local && !(t.kind == SPECIAL && text.ptr[0] == '@');
            if (after_word && t.kind != SPECIAL)
                buf_putc(name, ' ');
            buf_put_slice(name, text);
            after_word = t.kind != SPECIAL;
        }
    }
    buf_fini(&t.text);
    if (ended)
        put_value(rest, value);
    if (!ended || name->len == 0 || value->len == 0 || slice_find(line, '\0') != -1)
        return err_input(err, "need name:value pair");
    if (!local)
        return err_input(err, "name must be local");
    return 0;
}
