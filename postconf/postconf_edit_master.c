/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postconf_edit_master.c - postconf -M, -F and -P with -e, -X or -# on master.cf.
 *
 * The file is taken as blocks: a logical line with the comments inside it. A block that a request names is written anew (its
 * comments after it), commented out, or left out; all others stay as they are, byte for byte.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "postconf/postconf_int.h"

struct request {
    const char *argument;
    char *pattern; /* service/type[/what] */
    char *value;   /* after the '='; NULL with -X and -# */
    unsigned found;
};

struct edit {
    char mode; /* 'M', 'F', 'P' */
    struct request *requests;
    size_t count;
};

/* A logical line and where its physical lines are. */
struct block {
    struct slice lines; /* from its first physical line to the last, comments between included */
    struct buf logical;
};

static size_t count_slashes(struct slice s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++)
        n += s.ptr[i] == '/';
    return n;
}

static void take_request(struct request *r, const char *argument, char mode, char how)
{
    struct slice text = slice_trim(slice_str(argument), NULL);
    ptrdiff_t eq = slice_find(text, '=');
    size_t wanted = mode == 'M' ? 1 : 2;

    if (strpbrk(argument, "\r\n") != NULL)
        fatal("-e, -X, or -# accepts no multi-line input");
    if (how == 'e') {
        if (eq == -1)
            fatal("missing '=' in \"%s\"", argument);
        r->value = slice_dup(slice_trim(slice_sub(text, (size_t) eq + 1, text.len), NULL));
        text = slice_trim(slice_sub(text, 0, (size_t) eq), NULL);
    }
    if (count_slashes(text) != wanted)
        fatal(mode == 'M'   ? "-Me, -MX or -M# requires service_name/type: \"%s\""
              : mode == 'F' ? "-Fe requires service_name/type/field_name: \"%s\""
                            : "-Pe or -PX requires service_name/type/parameter_name: \"%s\"",
              argument);
    r->argument = argument;
    r->pattern = slice_dup(text);
}

static struct master_service *parse(struct slice logical, const char *what)
{
    struct master_service *s = NULL;
    struct err err = ERR_INIT;

    if (master_service_parse(logical, &s, &err) == -1)
        fatal("%s: %s", what, err.text);
    return s;
}

/* Writes the service's line, and reads it again: what would not be understood is not written. */
static struct master_service *reparse(const struct master_service *s, const char *what)
{
    struct buf line = BUF_INIT(SIZE_MAX);
    struct master_service *again;

    postconf_put_service(s, false, &line);
    again = parse(slice_trim(buf_view(&line), NULL), what);
    buf_fini(&line);
    return again;
}

static void set_field(struct master_service **s, struct slice field, const char *value,
                      const char *argument)
{
    struct master_service *old = *s;
    struct buf line = BUF_INIT(SIZE_MAX);
    size_t i = 0;

    while (i <= MASTER_COLUMNS && !slice_eq_str(field, postconf_field_names[i]))
        i++;
    if (i > MASTER_COLUMNS)
        fatal("there is no service field \"%.*s\"", SLICE_FMT(field));
    if (i < MASTER_COLUMNS) {
        free(old->columns[i]);
        old->columns[i] = xstrdup(value);
        *s = reparse(old, argument);
    } else {
        for (size_t c = 0; c < MASTER_COLUMNS; c++)
            buf_printf(&line, "%s ", old->columns[c]);
        buf_puts(&line, value);
        *s = parse(buf_view(&line), argument);
    }
    master_service_free(&old);
    buf_fini(&line);
}

static bool has_name(const char *override, struct slice name)
{
    return slice_eq(slice_sub(slice_str(override), 0, strcspn(override, "=")), name);
}

/* value NULL: takes the parameter out. */
static void set_parameter(struct master_service **s, struct slice name, const char *value,
                          const char *argument)
{
    struct master_service *old = *s;
    struct vec args = VEC_INIT;
    struct vec overrides = VEC_INIT;
    struct buf text = BUF_INIT(SIZE_MAX);
    char **o = old->overrides;
    bool done = value == NULL;
    size_t at = 0; /* after the last option */
    struct master_service next = *old;

    buf_printf(&text, "%.*s=%s", SLICE_FMT(name), value != NULL ? value : "");
    for (char **a = old->args; *a != NULL; a++) {
        if (strcmp(*a, "-o") != 0 || *o == NULL) {
            vec_push(&args, *a);
            if ((*a)[0] == '-' && *o != NULL)
                at = args.len;
            continue;
        }
        a++;
        if (!has_name(*o, name) || !done) {
            bool this = has_name(*o, name);

            vec_push(&args, (void *) (uintptr_t) "-o");
            vec_push(&args, this ? text.ptr : *a);
            vec_push(&overrides, this ? text.ptr : *o);
            done = done || this;
            at = args.len;
        }
        o++;
    }
    (void) buf_cstr(&text);
    if (!done) {
        vec_push(&args, NULL);
        vec_push(&args, NULL);
        memmove(args.items + at + 2, args.items + at, (args.len - at - 2) * sizeof(*args.items));
        args.items[at] = (void *) (uintptr_t) "-o";
        args.items[at + 1] = text.ptr;
        vec_push(&overrides, text.ptr);
    }
    vec_push(&args, NULL);
    vec_push(&overrides, NULL);
    next.args = (char **) args.items;
    next.overrides = (char **) overrides.items;
    *s = reparse(&next, argument);
    master_service_free(&old);
    vec_fini(&args);
    vec_fini(&overrides);
    buf_fini(&text);
}

/* What the requests make of a service: 'e' changed, 'X', '#', or 0 untouched. */
static char apply(const struct postconf *p, const struct edit *e, struct master_service **s)
{
    char result = 0;

    for (size_t i = 0; i < e->count; i++) {
        struct request *r = &e->requests[i];
        struct slice rest;

        if (!postconf_match_service(r->pattern, *s, &rest))
            continue;
        r->found++;
        if (e->mode == 'M' && p->edit != 'e')
            return p->edit;
        result = 'e';
        if (e->mode == 'F') {
            set_field(s, rest, r->value, r->argument);
        } else if (e->mode == 'P') {
            set_parameter(s, rest, p->edit == 'X' ? NULL : r->value, r->argument);
        } else {
            master_service_free(s);
            *s = parse(slice_str(r->value), r->argument);
            return result; /* it may have another name now: no further request is about it */
        }
    }
    return result;
}

/* The physical lines of a block: as they are, with '#' before those that are no comments, or only the comments. */
static void put_lines(struct slice lines, char how, struct buf *out)
{
    struct slice line;

    while (postconf_next_line(&lines, &line)) {
        struct slice trimmed = slice_trim(line, NULL);
        bool comment = trimmed.len == 0 || trimmed.ptr[0] == '#';

        if (!comment && how != 0 && how != '#')
            continue;
        if (!comment && how == '#')
            buf_putc(out, '#');
        buf_put_slice(out, line);
        buf_putc(out, '\n');
    }
}

static void finish(const struct postconf *p, const struct edit *e, struct block *b, struct buf *out)
{
    struct master_service *s = NULL;
    struct err err = ERR_INIT;
    char how = 0;

    /* a line that cannot be read is not ours to repair: it stays */
    if (b->logical.len > 0 && master_service_parse(buf_view(&b->logical), &s, &err) == 0)
        how = apply(p, e, &s);
    if (how == 'e')
        postconf_put_service(s, true, out);
    put_lines(b->lines, how, out);
    master_service_free(&s);
    b->lines = SLICE_EMPTY;
    buf_reset(&b->logical);
}

static void edit(const struct postconf *p, struct slice text, struct buf *out, void *arg)
{
    struct edit *e = arg;
    struct block b = {SLICE_EMPTY, BUF_INIT(CONFIG_VALUE_MAX)};
    const char *pending =
        NULL; /* where comments begin that follow a block, and are inside it if it goes on */
    struct slice line;

    while (text.len > 0) {
        const char *begin = text.ptr;
        struct slice trimmed;

        (void) postconf_next_line(&text, &line);
        trimmed = slice_trim(line, NULL);
        if (trimmed.len == 0 || trimmed.ptr[0] == '#') {
            if (pending == NULL)
                pending = begin;
            continue;
        }
        if (!ascii_is_space((unsigned char) line.ptr[0]) || b.logical.len == 0) {
            finish(p, e, &b, out);
            if (pending != NULL)
                put_lines(slice_of(pending, (size_t) (begin - pending)), 0, out);
            b.lines = slice_of(begin, 0);
        } else {
            buf_putc(&b.logical, ' ');
        }
        pending = NULL;
        if (!ascii_is_space((unsigned char) line.ptr[0]) || b.logical.len > 0)
            buf_put_slice(&b.logical, trimmed);
        b.lines.len = (size_t) (line.ptr + line.len - b.lines.ptr);
    }
    finish(p, e, &b, out);
    if (pending != NULL)
        put_lines(slice_of(pending, (size_t) (line.ptr + line.len - pending)), 0, out);
    for (size_t i = 0; i < e->count && p->edit == 'e'; i++) {
        struct request *r = &e->requests[i];

        if (r->found == 0 && e->mode == 'M') {
            struct master_service *s = parse(slice_str(r->value), r->argument);

            postconf_put_service(s, true, out);
            master_service_free(&s);
        } else if (r->found == 0) {
            log_warning("unmatched service_name/type: \"%s\"", r->argument);
        }
    }
    buf_fini(&b.logical);
}

int postconf_edit_master_cf(const struct postconf *p, char mode)
{
    struct edit e = {mode, xcalloc(p->count + 1, sizeof(*e.requests)), p->count};
    int status;

    if (p->count == 0)
        fatal("missing service argument");
    for (size_t i = 0; i < p->count; i++)
        take_request(&e.requests[i], p->names[i], mode, p->edit);
    status = postconf_edit_file(p, "master.cf", edit, &e);
    for (size_t i = 0; i < e.count; i++) {
        free(e.requests[i].pattern);
        free(e.requests[i].value);
    }
    free(e.requests);
    return status;
}
