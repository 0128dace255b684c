/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bounce_template.c - the templates' texts, their file, and the expansion of $name in them.
 *
 *   NAME_template = <<WORD
 *   Charset: ...           headers: optional, one line each
 *                          an empty line, left out where there are no headers
 *   text
 *   WORD
 */
#include "postconf/bounce_template.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/num.h"

#define FILE_MAX (1U << 20)
#define FROM     "Mail Delivery System <MAILER-DAEMON>"
#define HOST     "This is the mail system at host $myhostname.\n\n"
#define HELP                                                                                       \
    "\nIf you need help, write to <postmaster> and include this notification;\n"                   \
    "the attached message itself may be left out.\n"
#define CLOSE "\n                   The mail system\n"

static const char *const names[] = {
    [BOUNCE_TEMPLATE_FAILURE] = "failure",
    [BOUNCE_TEMPLATE_DELAY] = "delay",
    [BOUNCE_TEMPLATE_SUCCESS] = "success",
    [BOUNCE_TEMPLATE_VERIFY] = "verify",
};

static const struct bounce_template built_in[] = {
    [BOUNCE_TEMPLATE_FAILURE] =
        {"us-ascii", FROM, "Undelivered Mail Returned to Sender",
         "Postmaster Copy: Undelivered Mail",
         HOST "Your message could not be delivered to the recipients below, and no\n"
              "further attempt will be made. It, or its header, is attached.\n" HELP CLOSE},
    [BOUNCE_TEMPLATE_DELAY] =
        {"us-ascii", FROM, "Delayed Mail (still being retried)", "Postmaster Warning: Delayed Mail",
         HOST "Your message has not reached the recipients below for more than\n"
              "$delay_warning_time_hours hour(s).\n"
              "This is only a warning: YOU NEED NOT SEND IT AGAIN.\n\n"
              "The attempts to deliver it go on until it is $maximal_queue_lifetime_days day(s) "
              "old.\nIf they do not succeed by then, you get another notification.\n" HELP CLOSE},
    [BOUNCE_TEMPLATE_SUCCESS] =
        {"us-ascii", FROM, "Successful Mail Delivery Report", NULL,
         HOST "Your message was delivered to the recipients below, or was handed to a\n"
              "system that does not report back.\n" CLOSE},
    [BOUNCE_TEMPLATE_VERIFY] = {"us-ascii", FROM, "Mail Delivery Status Report", NULL,
                                HOST "This is the delivery status that you asked for.\n" CLOSE},
};

struct bounce_templates {
    struct arena *arena;
    struct bounce_template by_kind[BOUNCE_TEMPLATE_KINDS];
};

struct parse {
    struct bounce_templates *t;
    const char *path;
    struct slice rest;
    int line;
    void (*warn)(const char *text, void *arg);
    void *arg;
};

PRINTF_LIKE(2, 3) static void warn(const struct parse *p, const char *fmt, ...)
{
    struct buf text = BUF_INIT(ERR_TEXT_MAX * 2);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    p->warn(buf_cstr(&text), p->arg);
    buf_fini(&text);
}

/* Cuts the next line, without its end. */
static bool next_line(struct parse *p, struct slice *line)
{
    ptrdiff_t end;

    if (p->rest.len == 0)
        return false;
    end = slice_find(p->rest, '\n');
    *line = slice_sub(p->rest, 0, end == -1 ? p->rest.len : (size_t) end);
    p->rest = slice_sub(p->rest, end == -1 ? p->rest.len : (size_t) end + 1, p->rest.len);
    if (slice_ends_with(*line, SLICE_LIT("\r")))
        line->len--;
    p->line++;
    return true;
}

static ptrdiff_t kind_of(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        size_t len = strlen(names[i]);

        if (slice_starts_with(name, slice_of(names[i], len)) &&
            slice_eq_str(slice_sub(name, len, name.len), "_template"))
            return (ptrdiff_t) i;
    }
    return -1;
}

/* "Label: value", or false: the text begins here. */
static bool split_header(struct slice line, struct slice *label, struct slice *value)
{
    ptrdiff_t colon = slice_find(line, ':');

    if (colon < 1)
        return false;
    *label = slice_sub(line, 0, (size_t) colon);
    for (size_t i = 0; i < label->len; i++)
        if (!ascii_is_print(label->ptr[i]) || label->ptr[i] == ' ')
            return false;
    *value = slice_trim(slice_sub(line, (size_t) colon + 1, line.len), NULL);
    return true;
}

/* One header into *t; false after a warning. */
static bool take_header(const struct parse *p, enum bounce_template_kind kind, struct slice label,
                        struct slice value, struct bounce_template *t)
{
    const char **at = slice_caseeq_str(label, "charset")              ? &t->charset
                      : slice_caseeq_str(label, "from")               ? &t->from
                      : slice_caseeq_str(label, "subject")            ? &t->subject
                      : slice_caseeq_str(label, "postmaster-subject") ? &t->postmaster_subject
                                                                      : NULL;

    if (at == NULL) {
        warn(p, "%s: unknown \"%.*s\" header label in %s template -- ignoring this template",
             p->path, SLICE_FMT(label), names[kind]);
        return false;
    }
    if (at == &t->postmaster_subject && built_in[kind].postmaster_subject == NULL) {
        warn(p, "%s: \"%.*s\" header label not applicable in %s template -- ignoring this template",
             p->path, SLICE_FMT(label), names[kind]);
        return false;
    }
    if (!slice_is_ascii(value)) {
        warn(p, "%s: non-ASCII text in \"%.*s\" header of %s template -- ignoring this template",
             p->path, SLICE_FMT(label), names[kind]);
        return false;
    }
    if (value.len == 0) {
        warn(p, "%s: missing \"%.*s\" header value in %s template -- ignoring this template",
             p->path, SLICE_FMT(label), names[kind]);
        return false;
    }
    *at = arena_slice(p->t->arena, value).ptr;
    return true;
}

/* The body of one definition: what stands between <<WORD and WORD. */
static void take_template(struct parse *p, enum bounce_template_kind kind, struct slice body)
{
    struct parse lines = {.rest = body};
    struct bounce_template t = built_in[kind];
    struct slice line;
    struct slice label;
    struct slice value;
    struct slice before = body;

    while (next_line(&lines, &line) && split_header(line, &label, &value)) {
        if (!take_header(p, kind, label, value, &t))
            return;
        before = lines.rest;
    }
    /* the empty line that ends the headers belongs to neither */
    body = before;
    if (body.len > 0 && slice_trim(line, NULL).len == 0)
        body = lines.rest;
    if (slice_trim(body, NULL).len == 0) {
        warn(p, "%s: missing message text in %s template -- ignoring this template", p->path,
             names[kind]);
        return;
    }
    if (!slice_is_ascii(body) && slice_caseeq_str(slice_str(t.charset), "us-ascii")) {
        warn(p, "%s: 8-bit message text in %s template -- ignoring this template", p->path,
             names[kind]);
        warn(p, "%s: please specify a charset value other than us-ascii", p->path);
        return;
    }
    t.text = arena_printf(p->t->arena, "%.*s%s", SLICE_FMT(body),
                          body.ptr[body.len - 1] == '\n' ? "" : "\n"); /* the file was cut off */
    p->t->by_kind[kind] = t;
}

/* "NAME = <<WORD" and what follows it up to WORD. */
static void take_definition(struct parse *p, struct slice line)
{
    ptrdiff_t equal = slice_find(line, '=');
    struct slice name = slice_trim(slice_sub(line, 0, equal < 0 ? 0 : (size_t) equal), NULL);
    struct slice value =
        slice_trim(slice_sub(line, equal < 0 ? 0 : (size_t) equal + 1, line.len), NULL);
    struct slice word;
    struct slice body;
    int first = p->line;
    ptrdiff_t kind;

    if (equal < 0 || name.len == 0) {
        warn(p, "%s, line %d: missing '=' after template name -- ignoring this line", p->path,
             first);
        return;
    }
    kind = kind_of(name);
    if (!slice_starts_with(value, SLICE_LIT("<<"))) {
        if (kind == -1)
            warn(p, "%s, line %d: unknown template name: %.*s -- ignoring this template", p->path,
                 first, SLICE_FMT(name));
        else
            warn(p, "%s, line %d: missing '<<marker' after \"%.*s =\" -- ignoring this template",
                 p->path, first, SLICE_FMT(name));
        return;
    }
    word = slice_trim(slice_sub(value, 2, value.len), NULL);
    if (word.len == 0) {
        warn(p, "%s, line %d: missing marker after '<<' -- ignoring this template", p->path, first);
        return;
    }
    body = p->rest;
    for (;;) {
        size_t len = body.len - p->rest.len;

        if (!next_line(p, &line))
            warn(p, "%s, line %d: missing \"%.*s\" end marker", p->path, first, SLICE_FMT(word));
        else if (!slice_eq(line, word))
            continue;
        if (kind == -1)
            warn(p, "%s, line %d: unknown template name: %.*s -- ignoring this template", p->path,
                 first, SLICE_FMT(name));
        else
            take_template(p, (enum bounce_template_kind) kind, slice_sub(body, 0, len));
        return;
    }
}

int bounce_templates_load(const char *path, void (*fn)(const char *text, void *arg), void *arg,
                          struct bounce_templates **out, struct err *err)
{
    struct buf text = BUF_INIT(FILE_MAX);
    struct bounce_templates *t;
    struct parse p = {.path = path, .warn = fn, .arg = arg};
    struct slice line;

    if (*path != '\0' && file_read(path, &text, err) == -1) {
        buf_fini(&text);
        return -1;
    }
    if (slice_find(buf_view(&text), '\0') != -1) {
        buf_fini(&text);
        return err_input(err, "%s: not a text file", path);
    }
    t = xcalloc(1, sizeof(*t));
    t->arena = arena_new(0);
    memcpy(t->by_kind, built_in, sizeof(built_in));
    p.t = t;
    p.rest = buf_view(&text);
    while (next_line(&p, &line)) {
        struct slice words = slice_trim(line, NULL);

        if (words.len > 0 && words.ptr[0] != '#')
            take_definition(&p, words);
    }
    buf_fini(&text);
    *out = t;
    return 0;
}

void bounce_templates_free(struct bounce_templates **t)
{
    if (*t == NULL)
        return;
    arena_free(&(*t)->arena);
    free(*t);
    *t = NULL;
}

const struct bounce_template *bounce_templates_get(const struct bounce_templates *t,
                                                   enum bounce_template_kind kind)
{
    return &t->by_kind[kind];
}

const char *bounce_template_name(enum bounce_template_kind kind)
{
    return names[kind];
}

/* --- expansion ---------------------------------------------------------------------------------- */

/* The number that "delay_warning_time_hours" and its like stand for. */
static bool time_in_unit(struct slice name, const struct config *cfg, int64_t *out)
{
    static const char *const params[] = {"delay_warning_time", "maximal_queue_lifetime"};
    static const struct {
        const char *suffix;
        int64_t seconds;
    } units[] = {
        {"_seconds", 1}, {"_minutes", 60}, {"_hours", 3600}, {"_days", 86400}, {"_weeks", 604800}};

    for (size_t i = 0; i < ARRAY_LEN(params); i++) {
        size_t len = strlen(params[i]);
        int64_t seconds = 0;

        if (!slice_starts_with(name, slice_of(params[i], len)))
            continue;
        for (size_t u = 0; u < ARRAY_LEN(units); u++) {
            if (!slice_eq_str(slice_sub(name, len, name.len), units[u].suffix))
                continue;
            /* a value that is wrong is reported where the parameter is bound */
            if (num_parse_time(slice_str(config_get(cfg, params[i])), param_find(params[i])->unit,
                               INT32_MAX, &seconds, NULL) == -1)
                return false;
            *out = seconds / units[u].seconds;
            return true;
        }
    }
    return false;
}

/* The name after a '$': in braces, in parentheses, or bare. end: what it takes of s. */
static struct slice reference(struct slice s, size_t *end)
{
    char close = s.len == 0 ? '\0' : s.ptr[0] == '{' ? '}' : s.ptr[0] == '(' ? ')' : '\0';
    size_t from = close != '\0';
    size_t to = from;

    while (to < s.len && (ascii_is_alnum(s.ptr[to]) || s.ptr[to] == '_'))
        to++;
    *end = to + (close != '\0');
    return close != '\0' && (to == s.len || s.ptr[to] != close) ? SLICE_EMPTY
                                                                : slice_sub(s, from, to);
}

int bounce_template_expand(const struct bounce_template *t, const struct config *cfg,
                           struct buf *out, struct err *err)
{
    struct buf text = BUF_INIT(CONFIG_VALUE_MAX);
    struct slice rest = slice_str(t->text);
    int ret;

    /* first the names that only templates have, the others are main.cf's */
    while (rest.len > 0) {
        ptrdiff_t dollar = slice_find(rest, '$');
        size_t end = 0;
        int64_t number;

        if (dollar == -1) {
            buf_put_slice(&text, rest);
            break;
        }
        buf_put(&text, rest.ptr, (size_t) dollar);
        rest = slice_sub(rest, (size_t) dollar + 1, rest.len);
        if (time_in_unit(reference(rest, &end), cfg, &number)) {
            buf_printf(&text, "%lld", (long long) number);
            rest = slice_sub(rest, end, rest.len);
        } else {
            buf_putc(&text, '$');
            end = rest.len > 0 && rest.ptr[0] == '$'; /* "$$" stays together */
            buf_put(&text, rest.ptr, end);
            rest = slice_sub(rest, end, rest.len);
        }
    }
    if (!buf_ok(&text))
        ret = err_input(err, "bounce template is too long");
    else
        ret = config_expand(cfg, buf_cstr(&text), out, err);
    buf_fini(&text);
    return ret;
}

static bool has_line(struct slice text, struct slice line)
{
    while (text.len > 0) {
        ptrdiff_t nl = slice_find(text, '\n');

        if (nl == -1)
            break;
        if (slice_eq(slice_sub(text, 0, (size_t) nl), line))
            return true;
        text = slice_sub(text, (size_t) nl + 1, text.len);
    }
    return false;
}

void bounce_template_print(const struct bounce_templates *t, enum bounce_template_kind kind,
                           struct buf *out)
{
    const struct bounce_template *b = &t->by_kind[kind];
    struct buf marker = BUF_INIT(SIZE_MAX);

    buf_puts(&marker, "EOF");
    while (has_line(slice_str(b->text), buf_view(&marker)))
        buf_putc(&marker, '_');
    buf_printf(out, "%s_template = <<%s\nCharset: %s\nFrom: %s\nSubject: %s\n", names[kind],
               buf_cstr(&marker), b->charset, b->from, b->subject);
    if (b->postmaster_subject != NULL)
        buf_printf(out, "Postmaster-Subject: %s\n", b->postmaster_subject);
    buf_printf(out, "\n%s%s\n", b->text, buf_cstr(&marker));
    buf_fini(&marker);
}
