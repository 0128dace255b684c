/* SPDX-License-Identifier: Apache-2.0 */
/* postconf_master.c - master.cf as postconf(1) shows it: services, their fields, their -o parameters. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "postconf/postconf_int.h"

const char *const postconf_field_names[MASTER_COLUMNS + 1] = {
    [MASTER_NAME] = "service",
    [MASTER_TYPE] = "type",
    [MASTER_PRIVATE] = "private",
    [MASTER_UNPRIVILEGED] = "unprivileged",
    [MASTER_CHROOT] = "chroot",
    [MASTER_WAKEUP] = "wakeup",
    [MASTER_PROCESS_LIMIT] = "process_limit",
    [MASTER_COLUMNS] = "command",
};

/* Where each column begins, if what is before it leaves room. */
static const size_t column_at[MASTER_COLUMNS + 1] = {0, 11, 17, 25, 33, 41, 49, 57};

/* True if every } in the text closes a { in it: only such a text can stand between braces. */
static bool is_balanced(const char *text)
{
    unsigned depth = 0;

    for (; *text != '\0'; text++) {
        if (*text == '{')
            depth++;
        else if (*text == '}' && depth-- == 0)
            return false;
    }
    return depth == 0;
}

/* True if master.cf's parser takes the text as one word without braces around it: "x", "x{a b}". */
static bool is_one_word(const char *text)
{
    struct slice rest = slice_str(text);
    struct slice word;

    return text[0] != '{' && slice_token_braces(&rest, " \t\r\n", &word) &&
           word.len == strlen(text);
}

static void put_argument(struct buf *out, const char *word)
{
    buf_printf(out, is_one_word(word) ? "%s" : "{%s}", word);
}

/* name=value: in braces as soon as it has white space, as Postfix writes it. */
static void put_override(struct buf *out, const char *text)
{
    bool special = text[0] == '{' || strpbrk(text, " \t\r\n") != NULL;

    buf_printf(out, special && is_balanced(text) ? "{%s}" : "%s", text);
}

/* Appends one argument; in fold mode on a new line if it does not fit, or if new_line. Not if it would become a comment. */
static void put_folded(struct buf *out, size_t *column, struct slice word, bool fold, bool new_line)
{
    if (fold && word.ptr[0] != '#' && (new_line || *column + 1 + word.len >= 80)) {
        buf_puts(out, "\n    ");
        *column = 4;
    } else {
        buf_putc(out, ' ');
        *column += 1;
    }
    buf_put_slice(out, word);
    *column += word.len;
}

static void put_command(const struct master_service *s, bool fold, size_t *column, struct buf *out)
{
    struct buf word = BUF_INIT(SIZE_MAX);
    char **o = s->overrides;
    bool after_option = false;

    buf_puts(out, s->command);
    *column += strlen(s->command);
    for (char **a = s->args; *a != NULL; a++) {
        bool option = strcmp(*a, "-o") == 0 && *o != NULL;

        buf_reset(&word);
        if (option) {
            buf_puts(&word, "-o ");
            put_override(&word, *o++);
            a++;
        } else {
            put_argument(&word, *a);
        }
        put_folded(out, column, buf_view(&word), fold, option || after_option);
        after_option = option;
    }
    buf_fini(&word);
}

void postconf_put_service(const struct master_service *s, bool fold, struct buf *out)
{
    size_t column = 0;

    for (size_t i = 0; i < MASTER_COLUMNS; i++) {
        buf_puts(out, s->columns[i]);
        column += strlen(s->columns[i]);
        do {
            buf_putc(out, ' ');
            column++;
        } while (column < column_at[i + 1]);
    }
    put_command(s, fold, &column, out);
    buf_putc(out, '\n');
}

bool postconf_match_service(const char *pattern, const struct master_service *s, struct slice *rest)
{
    struct slice part[3] = {slice_str(pattern), SLICE_LIT("*"), SLICE_LIT("*")};
    const char *const wanted[2] = {s->columns[MASTER_NAME], s->columns[MASTER_TYPE]};

    for (size_t i = 0; i < 2; i++) {
        ptrdiff_t slash = slice_find(part[i], '/');

        if (slash == -1)
            break;
        part[i + 1] = slice_sub(part[i], (size_t) slash + 1, part[i].len);
        part[i] = slice_sub(part[i], 0, (size_t) slash);
    }
    *rest = part[2];
    for (size_t i = 0; i < 2; i++)
        if (!slice_eq_str(part[i], "*") && !slice_eq_str(part[i], wanted[i]))
            return false;
    return true;
}

/* The configuration as this service sees it. */
static struct config *service_config(const struct postconf *p, const struct master_service *s)
{
    struct vec overrides = VEC_INIT;
    struct config *cfg = NULL;
    struct err err = ERR_INIT;

    for (size_t i = 0; i < p->noverrides; i++)
        vec_push(&overrides, (void *) (uintptr_t) p->overrides[i]);
    for (char **o = s->overrides; *o != NULL; o++)
        vec_push(&overrides, *o);
    if (config_load(p->dir, (const char *const *) overrides.items, overrides.len, s->name, &cfg,
                    &err) == -1)
        fatal("%s", err.text);
    vec_fini(&overrides);
    return cfg;
}

/* -x: the values of the -o parameters. The words of pipe and spawn are theirs to expand. */
static void expand_overrides(const struct postconf *p, const char *path, struct master_service *s)
{
    struct config *cfg;
    size_t n = 0;

    if (s->overrides[0] == NULL)
        return;
    cfg = service_config(p, s);
    for (char **o = s->overrides; *o != NULL; o++, n++) {
        size_t eq = strcspn(*o, "=");
        struct buf text = BUF_INIT(CONFIG_VALUE_MAX);
        struct err err = ERR_INIT;

        buf_put(&text, *o, eq + 1);
        if (config_expand(cfg, *o + eq + 1, &text, &err) == -1)
            fatal("%s, line %d: -o %s: %s", path, s->line, *o, err.text);
        free(*o);
        *o = buf_take(&text);
    }
    config_unref(&cfg);
}

/* Runs fn for each service that a pattern fits; without patterns for all. Says which patterns fitted none. */
static int each_match(const struct postconf *p,
                      bool (*fn)(const struct postconf *p, const struct master_service *s,
                                 struct slice rest))
{
    struct config *cfg = postconf_load(p);
    struct master_cf *m = NULL;
    struct err err = ERR_INIT;
    bool *matched = xcalloc(p->count + 1, sizeof(*matched));

    if (master_cf_load(config_dir(cfg), &m, &err) == -1)
        fatal("%s", err.text);
    for (size_t i = 0; i < m->warnings.len; i++)
        log_warning("%s", (const char *) m->warnings.items[i]);
    postconf_warn(p, cfg, m, POSTCONF_WARN_MASTER); /* before -x changes what the services say */
    for (size_t i = 0; i < m->all.len && p->expand; i++)
        expand_overrides(p, m->path, m->all.items[i]);
    for (size_t i = 0; i < m->all.len; i++) {
        const struct master_service *s = m->all.items[i];
        struct slice rest = SLICE_LIT("*");

        if (p->count == 0)
            (void) fn(p, s, rest);
        for (size_t n = 0; n < p->count; n++)
            if (postconf_match_service(p->names[n], s, &rest) && fn(p, s, rest))
                matched[n] = true;
    }
    for (size_t n = 0; n < p->count; n++)
        if (!matched[n])
            log_warning("unmatched request: \"%s\"", p->names[n]);
    free(matched);
    master_cf_free(&m);
    config_unref(&cfg);
    return 0;
}

static bool show_service(const struct postconf *p, const struct master_service *s,
                         struct slice rest)
{
    struct buf out = BUF_INIT(SIZE_MAX);

    (void) rest;
    postconf_put_service(s, p->fold, &out);
    fputs(buf_cstr(&out), stdout);
    buf_fini(&out);
    return true;
}

int postconf_show_services(const struct postconf *p)
{
    return each_match(p, show_service);
}

/* "service/type/field = value" */
static void show_one(const struct postconf *p, const struct master_service *s, const char *what,
                     const char *value)
{
    struct buf name = BUF_INIT(SIZE_MAX);

    buf_printf(&name, "%s/%s/%s", s->columns[MASTER_NAME], s->columns[MASTER_TYPE], what);
    postconf_print(p, buf_cstr(&name), value);
    buf_fini(&name);
}

/* The same for the command, which folds at its -o. */
static void show_command(const struct postconf *p, const struct master_service *s)
{
    struct buf out = BUF_INIT(SIZE_MAX);
    size_t column;

    if (!p->no_name)
        buf_printf(&out, "%s/%s/%s%s", s->columns[MASTER_NAME], s->columns[MASTER_TYPE],
                   postconf_field_names[MASTER_COLUMNS], p->no_value ? "" : " = ");
    column = out.len;
    if (!p->no_value)
        put_command(s, p->fold, &column, &out);
    puts(buf_cstr(&out));
    buf_fini(&out);
}

static bool show_fields(const struct postconf *p, const struct master_service *s, struct slice rest)
{
    bool any = false;

    for (size_t i = 0; i <= MASTER_COLUMNS; i++) {
        if (!slice_eq_str(rest, "*") && !slice_eq_str(rest, postconf_field_names[i]))
            continue;
        if (i == MASTER_COLUMNS)
            show_command(p, s);
        else
            show_one(p, s, postconf_field_names[i], s->columns[i]);
        any = true;
    }
    if (!any)
        fatal("there is no service field \"%.*s\"", SLICE_FMT(rest));
    return any;
}

int postconf_show_fields(const struct postconf *p)
{
    return each_match(p, show_fields);
}

static int by_name(const void *a, const void *b)
{
    const char *x = a;
    const char *y = b;
    size_t n = strcspn(x, "=");
    size_t m = strcspn(y, "=");
    int c = memcmp(x, y, n < m ? n : m);

    return c != 0 ? c : n < m ? -1 : n > m;
}

static bool show_parameters(const struct postconf *p, const struct master_service *s,
                            struct slice rest)
{
    struct vec sorted = VEC_INIT;
    bool any = slice_eq_str(rest, "*");

    for (char **o = s->overrides; *o != NULL; o++)
        vec_push(&sorted, *o);
    vec_sort(&sorted, by_name);
    for (size_t i = 0; i < sorted.len; i++) {
        const char *text = sorted.items[i];
        char *name;

        /* the sort is stable: of the same name the last counts */
        if (i + 1 < sorted.len && by_name(text, sorted.items[i + 1]) == 0)
            continue;
        name = slice_dup(slice_sub(slice_str(text), 0, strcspn(text, "=")));
        if (slice_eq_str(rest, "*") || slice_eq_str(rest, name)) {
            show_one(p, s, name, text + strlen(name) + 1);
            any = true;
        }
        free(name);
    }
    vec_fini(&sorted);
    return any;
}

int postconf_show_service_parameters(const struct postconf *p)
{
    return each_match(p, show_parameters);
}
