/* SPDX-License-Identifier: Apache-2.0 */
/* map_pattern.c - rules in file order with if, endif and negation; the first that matches answers. */
#include "maps/map_int.h"

#include <stdlib.h>

#include "base/log.h"

#define TABLE_MAX (256U << 20)

struct loading {
    struct pattern_table *table;
    const struct pattern_ops *ops;
    bool strict;
    struct vec open_ifs; /* index + 1 */
};

static struct pattern_rule *add_rule(struct pattern_table *t)
{
    if (t->count == t->cap) {
        t->cap = t->cap == 0 ? 64 : t->cap * 2;
        t->rules = xrealloc(t->rules, t->cap * sizeof(*t->rules));
    }
    t->rules[t->count] = (struct pattern_rule){0};
    return &t->rules[t->count++];
}

static bool take_word(struct slice *s, const char *word)
{
    struct slice w = slice_str(word);

    if (!slice_case_starts_with(*s, w) ||
        (s->len > w.len && !ascii_is_space((unsigned char) s->ptr[w.len]) && s->ptr[w.len] != '!' &&
         s->ptr[w.len] != '/'))
        return false;
    *s = slice_trim(slice_sub(*s, w.len, s->len), NULL);
    return true;
}

static bool take_negations(struct slice *s)
{
    bool negated = false;

    while (s->len > 0 && s->ptr[0] == '!') {
        negated = !negated;
        *s = slice_trim(slice_sub(*s, 1, s->len), NULL);
    }
    return negated;
}

static bool no_group(unsigned n, struct slice *out, void *arg)
{
    (void) n;
    (void) out;
    (void) arg;
    return false;
}

/* The result of a rule whose pattern is not to match: there are no groups, and $$ is known now. */
static int expand_negated(char **result, struct err *err)
{
    struct buf out = BUF_INIT(SIZE_MAX);

    if (pattern_expand(*result, no_group, NULL, &out, NULL) == -1) {
        buf_fini(&out);
        return err_input(err, "$number found in negative match replacement text");
    }
    free(*result);
    *result = buf_take(&out);
    return 0;
}

static int parse_rule(struct loading *l, struct slice line, int number, struct err *err)
{
    struct pattern_rule *r;
    struct slice rest = line;
    void *pattern = NULL;
    char *result;
    bool negated;

    if (take_word(&rest, "endif")) {
        size_t open = (size_t) (uintptr_t) vec_pop(&l->open_ifs);

        if (open == 0)
            return err_input(err, "endif without if");
        if (rest.len > 0)
            log_warning("%s, line %d: ignoring text after endif", l->table->path, number);
        r = add_rule(l->table);
        r->kind = RULE_ENDIF;
        r->line = number;
        l->table->rules[open - 1].end = l->table->count - 1;
        return 0;
    }
    if (take_word(&rest, "if")) {
        negated = take_negations(&rest);
        if (l->ops->compile(&rest, true, &pattern, err) == -1)
            return -1;
        r = add_rule(l->table);
        r->kind = RULE_IF;
        r->negated = negated;
        r->pattern = pattern;
        r->line = number;
        vec_push(&l->open_ifs, (void *) (uintptr_t) l->table->count);
        return 0;
    }
    negated = take_negations(&rest);
    if (l->ops->compile(&rest, false, &pattern, err) == -1)
        return -1;
    rest = slice_trim(rest, NULL);
    if (rest.len == 0) {
        l->ops->free_pattern(pattern);
        return err_input(err, "no result after the pattern");
    }
    result = slice_dup(rest);
    if (negated && l->ops->substitute != NULL && expand_negated(&result, err) == -1) {
        l->ops->free_pattern(pattern);
        free(result);
        return -1;
    }
    r = add_rule(l->table);
    r->kind = RULE_MATCH;
    r->negated = negated;
    r->pattern = pattern;
    r->result = result;
    r->line = number;
    return 0;
}

static int take_line(struct slice line, int number, void *arg, struct err *err)
{
    struct loading *l = arg;
    struct err why = ERR_INIT;

    if (parse_rule(l, line, number, &why) == 0)
        return 0;
    if (l->strict)
        return err_input(err, "%s, line %d: %s", l->table->path, number, why.text);
    log_warning("%s, line %d: %s: skipping this rule", l->table->path, number, why.text);
    return 0;
}

void pattern_map_close(void *impl)
{
    struct pattern_table *t = impl;

    if (t->index != NULL)
        t->ops->index_free(t->index);
    for (size_t i = 0; i < t->count; i++) {
        if (t->rules[i].pattern != NULL)
            t->ops->free_pattern(t->rules[i].pattern);
        free(t->rules[i].result);
    }
    free(t->rules);
    free(t->path);
    free(t);
}

bool pattern_map_is_stale(void *impl, const char *path)
{
    return file_stamp_differs(&((struct pattern_table *) impl)->stamp, path);
}

int pattern_map_open(const char *path, const struct pattern_ops *ops, void **impl, struct err *err)
{
    struct pattern_table *t = xcalloc(1, sizeof(*t));
    struct loading l = {.table = t, .ops = ops, .strict = map_open_is_strict()};
    struct buf text = BUF_INIT(TABLE_MAX);
    int ret = -1;

    t->ops = ops;
    t->path = xstrdup(path);
    if (file_read_stamped(path, &text, &t->stamp, err) == 0)
        ret = map_lines_each(buf_view(&text), take_line, &l, err);
    while (ret == 0 && l.open_ifs.len > 0) {
        size_t open = (size_t) (uintptr_t) vec_pop(&l.open_ifs);

        t->rules[open - 1].end = t->count; /* to the end of the table */
        if (l.strict)
            ret = err_input(err, "%s, line %d: if without endif", path, t->rules[open - 1].line);
        else
            log_warning("%s, line %d: if without endif", path, t->rules[open - 1].line);
    }
    vec_fini(&l.open_ifs);
    buf_fini(&text);
    if (ret == -1) {
        pattern_map_close(t);
        return -1;
    }
    if (ops->index_new != NULL)
        t->index = ops->index_new(t);
    *impl = t;
    return 0;
}

enum map_result pattern_map_lookup(void *impl, struct slice key, struct buf *value, struct err *err)
{
    const struct pattern_table *t = impl;
    const struct pattern_ops *ops = t->ops;
    _Alignas(16) char space[512];
    void *match = ops->match_size <= sizeof(space) ? space : xmalloc(ops->match_size);
    enum map_result result = MAP_NOTFOUND;

    for (size_t i = 0; i < t->count && result == MAP_NOTFOUND; i++) {
        const struct pattern_rule *r = &t->rules[i];
        int yes;
        bool holds;

        if (r->kind == RULE_ENDIF)
            continue;
        yes = ops->matches(r->pattern, key, match, err);
        holds = yes != PATTERN_NEITHER && (yes != 0) != r->negated;
        if (yes == -1) {
            err_prefix(err, "%s, line %d: ", t->path, r->line);
            result = MAP_RETRY;
        } else if (r->kind == RULE_IF) {
            if (!holds)
                i = r->end;
        } else if (holds) {
            size_t start = value->len;

            result = MAP_FOUND;
            if (r->negated || ops->substitute == NULL) {
                buf_puts(value, r->result);
            } else if (ops->substitute(r->pattern, r->result, key, match, value, err) == -1) {
                buf_truncate(value, start);
                err_prefix(err, "%s, line %d: ", t->path, r->line);
                result = MAP_RETRY;
            }
        }
    }
    if (match != space)
        free(match);
    return result;
}

int pattern_expand(const char *text, bool (*group)(unsigned n, struct slice *out, void *arg),
                   void *arg, struct buf *out, struct err *err)
{
    for (const char *p = text; *p != '\0'; p++) {
        unsigned n = 0;
        char close = '\0';
        struct slice s;

        if (*p != '$') {
            buf_putc(out, *p);
            continue;
        }
        if (*++p == '$') {
            buf_putc(out, '$');
            continue;
        }
        if (*p == '{' || *p == '(')
            close = *p++ == '{' ? '}' : ')';
        if (!ascii_is_digit((unsigned char) *p))
            return err_input(err, "bad $ in the result \"%s\"", text);
        while (ascii_is_digit((unsigned char) *p) && n < 1000)
            n = n * 10 + (unsigned) (*p++ - '0');
        if (close != '\0' && *p != close)
            return err_input(err, "no closing %c in the result \"%s\"", close, text);
        if (close == '\0')
            p--;
        if (!group(n, &s, arg))
            return err_input(err, "$%u in the result, but the pattern has no such group", n);
        buf_put_slice(out, s);
    }
    return 0;
}

int pattern_delimited(struct slice *rest, struct buf *pattern, struct slice *flags, struct err *err)
{
    size_t at = 1;
    size_t end;
    char delimiter;

    if (rest->len == 0)
        return err_input(err, "a pattern is missing");
    delimiter = rest->ptr[0];
    if (ascii_is_alnum((unsigned char) delimiter) || ascii_is_space((unsigned char) delimiter))
        return err_input(err, "a pattern begins with /, not with \"%c\"", delimiter);
    for (; at < rest->len && rest->ptr[at] != delimiter; at++) {
        if (rest->ptr[at] == '\\' && at + 1 < rest->len) {
            if (rest->ptr[at + 1] != delimiter)
                buf_putc(pattern, '\\');
            at++;
        }
        buf_putc(pattern, rest->ptr[at]);
    }
    if (at >= rest->len)
        return err_input(err, "no closing %c after the pattern", delimiter);
    end = ++at;
    while (end < rest->len && !ascii_is_space((unsigned char) rest->ptr[end]))
        end++;
    *flags = slice_sub(*rest, at, end);
    *rest = slice_sub(*rest, end, rest->len);
    return 0;
}
