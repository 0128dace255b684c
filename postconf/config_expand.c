/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_expand.c - $name in parameter values, as postconf(5) describes it and as Postfix 3.7 evaluates it:
 *
 *   $name $(name) ${name}            the value; an unknown name gives nothing
 *   ${name?text} ${name?{text}}      text if the value is not empty
 *   ${name:text} ${name:{text}}      text if it is
 *   ${name?{text}:{text}}            the last text may go without braces, too
 *   ${{a} == {b} ? {text} : {text}}  == != < <= > >=, as numbers if both sides are digits, else as text;
 *                                    with "level" after the operator as compatibility levels; without texts "true" or ""
 *   ${domain_to_ascii{text}}         the text, which has to be ASCII (3.11; no other function is there so far)
 *   $$                               one $
 *
 * White space inside braces belongs to the text; around comparisons and braces it does not count. What is not chosen is
 * not looked at. A name that leads back to itself is an error that shows the way. The number of names that one value may
 * take is limited, since values that are empty in the end would not run into the limit of length.
 */
#include "postconf/config_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

#define DEPTH_MAX 100
#define NAMES_MAX 100000

struct config_chain {
    const struct config_chain *up;
    struct slice name;
    unsigned depth;
    unsigned *names_left; /* of the whole expansion */
};

/* One expression between ${ and }. */
struct choice {
    struct slice yes, no;
    bool has_text; /* else the value itself, or "true" */
};

static int expand(const struct config *cfg, struct slice text, const struct config_chain *up,
                  struct buf *out, struct err *err);

static bool is_name_char(char c)
{
    return ascii_is_alnum((unsigned char) c) || c == '_';
}

/* "$a -> $b -> " from the frame that is called name inwards. */
static void put_chain(const struct config_chain *f, struct slice name, struct buf *out)
{
    if (!slice_eq(f->name, name) && f->up != NULL)
        put_chain(f->up, name, out);
    buf_printf(out, "$%.*s -> ", SLICE_FMT(f->name));
}

static int check_chain(struct slice name, const struct config_chain *up, struct err *err)
{
    struct buf way = BUF_INIT(ERR_TEXT_MAX);

    for (const struct config_chain *f = up; f != NULL; f = f->up) {
        if (!slice_eq(f->name, name))
            continue;
        put_chain(up, name, &way);
        err_input(err, "a parameter refers to itself: %.*s$%.*s", SLICE_FMT(buf_view(&way)),
                  SLICE_FMT(name));
        buf_fini(&way);
        return -1;
    }
    if (up != NULL && up->depth >= DEPTH_MAX)
        return err_input(err, "parameters refer to each other more than %d deep", DEPTH_MAX);
    if (up != NULL && (*up->names_left)-- == 0) {
        *up->names_left = 0;
        return err_input(err, "the value takes more than %d names", NAMES_MAX);
    }
    return 0;
}

int config_source(const struct config *cfg, const char *name, const struct config_chain *up,
                  const char **text, char **owned, struct err *err)
{
    const struct param *p;

    *owned = NULL;
    *text = config_raw(cfg, name);
    if (*text != NULL)
        return 0;
    if (strcmp(name, "config_directory") == 0) {
        *text = config_dir(cfg);
        return 0;
    }
    p = param_find(name);
    if (p != NULL && p->def_fn != NULL)
        *owned = p->def_fn(cfg);
    if (*owned == NULL && config_computed_default(cfg, name, up, owned, err) == -1)
        return -1;
    *text = *owned != NULL ? *owned : p != NULL ? p->def : NULL;
    return 0;
}

int config_expand_name(const struct config *cfg, const char *name, const struct config_chain *up,
                       struct buf *out, struct err *err)
{
    unsigned names_left = NAMES_MAX;
    struct config_chain frame = {up, slice_str(name), up != NULL ? up->depth + 1 : 1,
                                 up != NULL ? up->names_left : &names_left};
    const char *text = NULL;
    char *owned = NULL;
    int ret;

    ret = check_chain(frame.name, up, err);
    if (ret == 0)
        ret = config_source(cfg, name, &frame, &text, &owned, err);
    if (ret == 0 && text != NULL)
        ret = expand(cfg, slice_str(text), &frame, out, err);
    free(owned);
    return ret;
}

static int put_value(const struct config *cfg, struct slice name, const struct config_chain *up,
                     struct buf *out, struct err *err)
{
    char *copy = slice_dup(name);
    int ret = config_expand_name(cfg, copy, up, out, err);

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

static int syntax(struct slice at, const char *wanted, struct err *err)
{
    return err_input(err, "%s is wanted at \"%.*s\"", wanted, SLICE_FMT(slice_sub(at, 0, 60)));
}

static struct slice skip_space(struct slice s)
{
    while (s.len > 0 && ascii_is_space((unsigned char) s.ptr[0]))
        s = slice_sub(s, 1, s.len);
    return s;
}

/* "{text}" from the front of *s, and the white space around it. 1, or 0 if there is none; -1: not closed. */
static int take_group(struct slice *s, struct slice *inside, struct err *err)
{
    struct slice t = skip_space(*s);
    ptrdiff_t end;

    if (t.len == 0 || t.ptr[0] != '{')
        return 0;
    end = closing(t, 0);
    if (end == -1)
        return syntax(t, "a closing }", err);
    *inside = slice_sub(t, 1, (size_t) end);
    *s = skip_space(slice_sub(t, (size_t) end + 1, t.len));
    return 1;
}

/* "?{text}:{text}", "?text", ":{text}", ":text" or nothing; one without braces goes to the end. */
static int take_choice(struct slice rest, struct choice *c, struct err *err)
{
    int group;

    *c = (struct choice){SLICE_EMPTY, SLICE_EMPTY, false};
    rest = skip_space(rest);
    if (rest.len == 0)
        return 0;
    c->has_text = true;
    if (rest.ptr[0] == '?') {
        rest = slice_sub(rest, 1, rest.len);
        group = take_group(&rest, &c->yes, err);
        if (group < 1) {
            c->yes = rest;
            return group;
        }
        if (rest.len == 0)
            return 0;
    }
    if (rest.ptr[0] != ':')
        return syntax(rest, c->yes.ptr == SLICE_EMPTY.ptr ? "? or :" : ":", err);
    rest = slice_sub(rest, 1, rest.len);
    group = take_group(&rest, &c->no, err);
    if (group < 1) {
        c->no = rest;
        return group;
    }
    return rest.len == 0 ? 0 : syntax(rest, "the end of the expression", err);
}

/* Compatibility levels: major[.minor[.patch]], of which 3.7 takes the last two up to 1023. */
static int level(struct slice s, int64_t *out, struct err *err)
{
    int64_t parts[3] = {0, 0, 0};
    struct slice rest = s;
    ptrdiff_t dot = 0;

    for (size_t n = 0; dot != -1; n++) {
        struct slice part;

        dot = slice_find(rest, '.');
        part = dot == -1 ? rest : slice_sub(rest, 0, (size_t) dot);
        if (n == ARRAY_LEN(parts) || part.len == 0 ||
            !ascii_is_digit((unsigned char) part.ptr[0]) ||
            num_parse_i64(part, 0, n == 0 ? INT64_MAX >> 20 : 1023, &parts[n], NULL) == -1)
            return err_input(err, "\"%.*s\" is not a compatibility level",
                             SLICE_FMT(slice_sub(s, 0, 60)));
        rest = slice_sub(rest, (size_t) dot + 1, rest.len);
    }
    *out = parts[0] << 20 | parts[1] << 10 | parts[2];
    return 0;
}

static bool is_number(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!ascii_is_digit((unsigned char) s.ptr[i]))
            return false;
    return s.len > 0;
}

static int compare(struct slice a, struct slice b, bool levels, int *result, struct err *err)
{
    int64_t x;
    int64_t y;

    if (levels) {
        if (level(a, &x, err) == -1 || level(b, &y, err) == -1)
            return -1;
    } else if (is_number(a) && is_number(b)) {
        if (num_parse_i64(a, 0, INT64_MAX, &x, err) == -1 ||
            num_parse_i64(b, 0, INT64_MAX, &y, err) == -1)
            return -1;
    } else {
        size_t n = a.len < b.len ? a.len : b.len;
        int c = n > 0 ? memcmp(a.ptr, b.ptr, n) : 0;

        *result = c != 0 ? c : a.len < b.len ? -1 : a.len > b.len;
        return 0;
    }
    *result = x < y ? -1 : x > y;
    return 0;
}

struct comparison {
    const char *text;
    bool levels, less, equal, greater;
};

/* longer ones first */
static const struct comparison comparisons[] = {
    {"<=level", true, true, true, false},  {">=level", true, false, true, true},
    {"==level", true, false, true, false}, {"!=level", true, true, false, true},
    {"<level", true, true, false, false},  {">level", true, false, false, true},
    {"==", false, false, true, false},     {"!=", false, true, false, true},
    {"<=", false, true, true, false},      {">=", false, false, true, true},
    {"<", false, true, false, false},      {">", false, false, false, true},
};

/* {a} op {b}: *rest is what follows. */
static int take_comparison(struct slice *rest, struct slice sides[2], const struct comparison **op,
                           struct err *err)
{
    size_t n = 0;

    if (take_group(rest, &sides[0], err) == -1)
        return -1;
    while (n < ARRAY_LEN(comparisons) && !slice_starts_with(*rest, slice_str(comparisons[n].text)))
        n++;
    if (n == ARRAY_LEN(comparisons))
        return syntax(*rest, "== != < <= > or >=", err);
    *op = &comparisons[n];
    *rest = slice_sub(*rest, strlen((*op)->text), rest->len);
    switch (take_group(rest, &sides[1], err)) {
    case 1:
        return 0;
    case 0:
        return syntax(*rest, "{text}", err);
    }
    return -1;
}

static int conditional(const struct config *cfg, struct slice text, const struct config_chain *up,
                       struct buf *out, struct err *err)
{
    struct buf values[2] = {BUF_INIT(CONFIG_VALUE_MAX), BUF_INIT(CONFIG_VALUE_MAX)};
    struct slice sides[2];
    const struct comparison *op = NULL;
    struct choice choice;
    int order = 0;
    bool yes;
    int ret = -1;

    if (take_comparison(&text, sides, &op, err) == -1 || take_choice(text, &choice, err) == -1 ||
        expand(cfg, sides[0], up, &values[0], err) == -1 ||
        expand(cfg, sides[1], up, &values[1], err) == -1 ||
        compare(buf_view(&values[0]), buf_view(&values[1]), op->levels, &order, err) == -1)
        goto done;
    yes = order < 0 ? op->less : order > 0 ? op->greater : op->equal;
    if (!choice.has_text)
        choice.yes = SLICE_LIT("true");
    ret = expand(cfg, yes ? choice.yes : choice.no, up, out, err);
done:
    buf_fini(&values[0]);
    buf_fini(&values[1]);
    return ret;
}

/* name{text}: a function. */
static int function(const struct config *cfg, struct slice name, struct slice rest,
                    const struct config_chain *up, struct buf *out, struct err *err)
{
    struct slice inside;
    size_t begin = out->len;

    if (take_group(&rest, &inside, err) != 1)
        return -1;
    if (!slice_eq_str(name, "domain_to_ascii"))
        return err_input(err, "there is no function \"%.*s\"", SLICE_FMT(name));
    if (rest.len > 0)
        return syntax(rest, "}", err);
    if (expand(cfg, inside, up, out, err) == -1)
        return -1;
    for (size_t i = begin; i < out->len; i++)
        if ((unsigned char) out->ptr[i] >= 0x80)
            return err_input(err, "domain_to_ascii: \"%.*s\" is not ASCII",
                             SLICE_FMT(slice_sub(buf_view(out), begin, out->len)));
    return 0;
}

/* What stands between the braces. */
static int braced(const struct config *cfg, struct slice text, const struct config_chain *up,
                  struct buf *out, struct err *err)
{
    struct buf value = BUF_INIT(CONFIG_VALUE_MAX);
    struct slice rest = text;
    struct slice name;
    struct choice choice;
    size_t n = 0;
    int ret = -1;

    rest = skip_space(rest);
    if (rest.len > 0 && rest.ptr[0] == '{')
        return conditional(cfg, rest, up, out, err);
    while (n < rest.len && is_name_char(rest.ptr[n]))
        n++;
    name = slice_sub(rest, 0, n);
    if (name.len == 0)
        return syntax(text, "a parameter name", err);
    rest = skip_space(slice_sub(rest, n, rest.len));
    if (rest.len > 0 && rest.ptr[0] == '{')
        return function(cfg, name, rest, up, out, err);
    if (rest.len > 0 && rest.ptr[0] != '?' && rest.ptr[0] != ':')
        return syntax(rest, "? or : or }", err);
    if (take_choice(rest, &choice, err) == -1)
        return -1;
    if (!choice.has_text)
        return put_value(cfg, name, up, out, err);
    if (put_value(cfg, name, up, &value, err) == 0)
        ret = expand(cfg, value.len > 0 ? choice.yes : choice.no, up, out, err);
    buf_fini(&value);
    return ret;
}

/* One $ expression; text.ptr[*at] is what follows the $. */
static int one(const struct config *cfg, struct slice text, size_t *at,
               const struct config_chain *up, struct buf *out, struct err *err)
{
    char next = *at < text.len ? text.ptr[*at] : '\0';
    size_t begin = *at;
    ptrdiff_t end;

    if (next == '$') {
        buf_putc(out, '$');
        *at += 1;
        return 0;
    }
    if (next == '{' || next == '(') {
        end = closing(text, begin);
        if (end == -1)
            return syntax(slice_sub(text, begin - 1, text.len),
                          next == '{' ? "a closing }" : "a closing )", err);
        *at = (size_t) end + 1;
        return braced(cfg, slice_sub(text, begin + 1, (size_t) end), up, out, err);
    }
    while (*at < text.len && is_name_char(text.ptr[*at]))
        *at += 1;
    if (*at == begin)
        return syntax(slice_sub(text, begin - 1, text.len),
                      "a parameter name after $ (or $$ for a single $)", err);
    return put_value(cfg, slice_sub(text, begin, *at), up, out, err);
}

static int expand(const struct config *cfg, struct slice text, const struct config_chain *up,
                  struct buf *out, struct err *err)
{
    size_t at = 0;

    while (at < text.len) {
        ptrdiff_t dollar = slice_find(slice_sub(text, at, text.len), '$');

        if (dollar == -1) {
            buf_put_slice(out, slice_sub(text, at, text.len));
            break;
        }
        buf_put_slice(out, slice_sub(text, at, at + (size_t) dollar));
        at += (size_t) dollar + 1;
        if (one(cfg, text, &at, up, out, err) == -1)
            return -1;
        if (!buf_ok(out))
            break;
    }
    if (!buf_ok(out))
        return err_input(err, "the value is longer than %zu bytes", out->limit);
    return 0;
}

int config_expand(const struct config *cfg, const char *text, struct buf *out, struct err *err)
{
    unsigned names_left = NAMES_MAX;
    struct config_chain root = {NULL, SLICE_EMPTY, 0, &names_left};

    return expand(cfg, slice_str(text), &root, out, err);
}

void config_each_reference(const char *text, void (*fn)(struct slice name, void *arg), void *arg)
{
    struct slice rest = slice_str(text);
    ptrdiff_t dollar;

    while ((dollar = slice_find(rest, '$')) != -1) {
        size_t n = 0;
        bool braces;

        rest = slice_sub(rest, (size_t) dollar + 1, rest.len);
        if (rest.len > 0 && rest.ptr[0] == '$') {
            rest = slice_sub(rest, 1, rest.len);
            continue;
        }
        braces = rest.len > 0 && (rest.ptr[0] == '{' || rest.ptr[0] == '(');
        if (braces)
            rest = skip_space(slice_sub(rest, 1, rest.len));
        while (n < rest.len && is_name_char(rest.ptr[n]))
            n++;
        /* ${name{...}} is a function */
        if (n > 0 && !(braces && n < rest.len && rest.ptr[n] == '{'))
            fn(slice_sub(rest, 0, n), arg);
    }
}
