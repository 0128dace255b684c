/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_pattern.c - rules in file order with if, endif and negation; the first that matches answers. The rules may stand in the table's
 * name: "pcre:{ { rule }, ... }".
 *
 * In a table of many expressions, a rule whose literals are not in the key (map_prefilter.h) does not match, and is passed over
 * unseen, unless that is what it waits for ("!") or others hang on it ("if").
 */
#include "maps/map_int.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "maps/map_glob.h"
#include "maps/map_prefilter.h"

#define TABLE_MAX (256U << 20)
#define ROOM      ((uint64_t) 512 << 20)

struct loading {
    struct pattern_table *table;
    const struct pattern_ops *ops;
    bool strict;
    struct vec open_ifs; /* index + 1 */
    struct prefilter_builder *filter;
    uint64_t room; /* see struct pattern_made */
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

static int compile(struct loading *l, struct slice *rest, struct pattern_made *made,
                   struct err *err)
{
    *made = (struct pattern_made){.room = l->room};
    if (l->ops->compile(rest, made, err) == -1)
        return -1;
    l->room = made->room;
    return 0;
}

static void discard(const struct loading *l, struct pattern_made *made)
{
    l->ops->free_pattern(made->pattern);
    free(made->glob);
    literals_free(&made->literals);
}

static int parse_rule(struct loading *l, struct slice line, int number, struct err *err)
{
    struct pattern_rule *r;
    struct slice rest = line;
    struct pattern_made made;
    char *result;
    bool negated;

    if (take_word(&rest, "endif")) {
        size_t open = (size_t) (uintptr_t) vec_pop(&l->open_ifs);

        if (open == 0)
            return err_input(err, "endif without if");
        if (rest.len > 0)
            log_warning("%s map %s, line %d: ignoring text after endif", l->ops->type,
                        l->table->path, number);
        r = add_rule(l->table);
        r->kind = RULE_ENDIF;
        r->line = number;
        l->table->rules[open - 1].end = l->table->count - 1;
        return 0;
    }
    if (take_word(&rest, "if")) {
        negated = take_negations(&rest);
        if (compile(l, &rest, &made, err) == -1)
            return -1;
        prefilter_add(l->filter, (uint32_t) l->table->count, made.literals);
        r = add_rule(l->table);
        r->kind = RULE_IF;
        r->negated = negated;
        r->pattern = made.pattern;
        r->glob = made.glob;
        r->line = number;
        vec_push(&l->open_ifs, (void *) (uintptr_t) l->table->count);
        return 0;
    }
    negated = take_negations(&rest);
    if (compile(l, &rest, &made, err) == -1)
        return -1;
    rest = slice_trim(rest, NULL);
    if (rest.len == 0) {
        discard(l, &made);
        return err_input(err, "no result after the pattern");
    }
    result = slice_dup(rest);
    if (negated && l->ops->substitute != NULL && expand_negated(&result, err) == -1) {
        discard(l, &made);
        free(result);
        return -1;
    }
    if (!negated && l->ops->substitute != NULL && map_open_is_plain() &&
        pattern_highest_group(result) > 0) {
        discard(l, &made);
        free(result);
        return err_input(err, "regular expression substitution is not allowed");
    }
    prefilter_add(l->filter, (uint32_t) l->table->count, made.literals);
    r = add_rule(l->table);
    r->kind = RULE_MATCH;
    r->negated = negated;
    r->pattern = made.pattern;
    r->result = result;
    r->is_plain = negated || l->ops->substitute == NULL || strchr(result, '$') == NULL;
    r->glob = made.glob;
    if (!r->is_plain && r->glob != NULL && glob_has_group(r->glob)) {
        free(r->glob);
        r->glob = NULL;
    }
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
    log_warning("%s map %s, line %d: %s: skipping this rule", l->ops->type, l->table->path, number,
                why.text);
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
        if (t->packed == NULL) {
            free(t->rules[i].glob);
            free(t->rules[i].result);
        }
    }
    free(t->packed);
    prefilter_free(&t->filter);
    free(t->others);
    free(t->rules);
    free(t->path);
    free(t);
}

bool pattern_map_is_stale(void *impl, const char *path)
{
    return path[0] != '{' && file_stamp_differs(&((struct pattern_table *) impl)->stamp, path);
}

static void set_filter(struct pattern_table *t, struct prefilter_builder **builder)
{
    t->filter = prefilter_build(builder);
    if (t->filter == NULL)
        return;
    t->others = xmalloc((t->count + 1) * sizeof(*t->others));
    for (size_t i = 0; i < t->count; i++) {
        const struct pattern_rule *r = &t->rules[i];

        if (r->kind == RULE_IF ||
            (r->kind == RULE_MATCH && (r->negated || !prefilter_knows(t->filter, (uint32_t) i))))
            t->others[t->nothers++] = (uint32_t) i;
    }
}

static void prepare(const struct pattern_table *t)
{
    for (size_t i = 0; i < t->count; i++) {
        const struct pattern_rule *r = &t->rules[i];
        bool often = t->filter == NULL || !prefilter_knows(t->filter, (uint32_t) i);

        if (r->pattern != NULL && r->glob == NULL)
            t->ops->prepare(r->pattern, r->negated ? NULL : r->result, often);
    }
}

/* uint64_t's that hold so many bytes. */
static size_t units(size_t bytes)
{
    return (bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t);
}

/*
 * A hit in a large table costs as many trips to memory as there are places to look at. What compiling left between the blocks of one
 * rule and the next is gone then, but they are far apart.
 */
static void pack(struct pattern_table *t)
{
    size_t total = 0;
    uint64_t *at;

    for (size_t i = 0; i < t->count; i++) {
        const struct pattern_rule *r = &t->rules[i];

        total += r->glob != NULL ? units(glob_size(r->glob)) : 0;
        total += r->result != NULL ? units(strlen(r->result) + 1) : 0;
    }
    at = t->packed = xcalloc(total + 1, sizeof(*at));
    for (size_t i = 0; i < t->count; i++) {
        struct pattern_rule *r = &t->rules[i];

        if (r->glob != NULL) {
            size_t size = glob_size(r->glob);

            memcpy(at, r->glob, size);
            free(r->glob);
            r->glob = (struct glob *) at;
            at += units(size);
        }
        if (r->result != NULL) {
            size_t size = strlen(r->result) + 1;

            memcpy(at, r->result, size);
            free(r->result);
            r->result = (char *) at;
            at += units(size);
        }
    }
}

/* "{ { rule }, { rule } }" in the place of a file's name: a line for each. */
static int rules_in_name(const char *name, struct buf *out, struct err *err)
{
    struct slice rest;
    struct slice word;
    struct slice rule;

    if (map_in_braces(slice_str(name), &rest) == -1)
        return err_input(err, "no \"}\" at the end of \"%s\"", name);
    while (slice_token_braces(&rest, ", \t\r\n", &word)) {
        if (map_in_braces(word, &rule) == -1)
            return err_input(err, "\"%.*s\" is no { rule }", SLICE_FMT(word));
        buf_put_slice(out, slice_trim(rule, NULL));
        buf_putc(out, '\n');
    }
    return 0;
}

static int read_rules(struct pattern_table *t, struct buf *text, struct err *err)
{
    return t->path[0] == '{' ? rules_in_name(t->path, text, err)
                             : file_read_stamped(t->path, text, &t->stamp, err);
}

int pattern_map_open(const char *path, const struct pattern_ops *ops, void **impl, struct err *err)
{
    struct pattern_table *t = xcalloc(1, sizeof(*t));
    struct loading l = {.table = t,
                        .ops = ops,
                        .strict = map_open_is_strict(),
                        .filter = prefilter_builder_new(),
                        .room = ROOM};
    struct buf text = BUF_INIT(TABLE_MAX);
    int ret = -1;

    t->ops = ops;
    t->path = xstrdup(path);
    if (read_rules(t, &text, err) == 0)
        ret = map_lines_each(buf_view(&text), take_line, &l, err);
    while (ret == 0 && l.open_ifs.len > 0) {
        size_t open = (size_t) (uintptr_t) vec_pop(&l.open_ifs);

        t->rules[open - 1].end = t->count; /* to the end of the table */
        if (l.strict)
            ret = err_input(err, "%s, line %d: if without endif", path, t->rules[open - 1].line);
        else
            log_warning("%s map %s, line %d: if without endif", ops->type, path,
                        t->rules[open - 1].line);
    }
    vec_fini(&l.open_ifs);
    buf_fini(&text);
    set_filter(t, &l.filter);
    if (ret == -1) {
        pattern_map_close(t);
        return -1;
    }
    if (ops->prepare != NULL)
        prepare(t);
    pack(t);
    if (ops->index_new != NULL)
        t->index = ops->index_new(t);
    *impl = t;
    return 0;
}

/* The rules that are to be looked at for a key. */
struct walk {
    const struct pattern_table *t;
    const struct prefilter_hits *hits; /* NULL: all rules */
    size_t hit, other;                 /* the next ones */
};

/* The first of n rising numbers, from `at` on, that is `least` or more. */
static size_t skip_to(const uint32_t *numbers, size_t n, size_t at, size_t least)
{
    if (at < n && numbers[at] >= least)
        return at;
    while (at < n) {
        size_t half = at + (n - at) / 2;

        if (numbers[half] < least)
            at = half + 1;
        else
            n = half;
    }
    return at;
}

/* The next one from i on, or the number of rules. */
static size_t walk_to(struct walk *w, size_t i)
{
    size_t hit = SIZE_MAX;
    size_t other = SIZE_MAX;

    if (w->hits == NULL)
        return i;
    w->hit = skip_to(w->hits->rules, w->hits->count, w->hit, i);
    w->other = skip_to(w->t->others, w->t->nothers, w->other, i);
    if (w->hit < w->hits->count)
        hit = w->hits->rules[w->hit];
    if (w->other < w->t->nothers)
        other = w->t->others[w->other];
    i = hit < other ? hit : other;
    return i < w->t->count ? i : w->t->count;
}

/* Does its expression need to be asked? walk_to() gave i. */
static bool walk_may_match(const struct walk *w, size_t i)
{
    return w->hits == NULL || !prefilter_knows(w->t->filter, (uint32_t) i) ||
           (w->hit < w->hits->count && w->hits->rules[w->hit] == i);
}

static enum map_result look_up(const struct pattern_table *t, const struct prefilter_hits *hits,
                               struct slice key, struct buf *value, struct err *err)
{
    const struct pattern_ops *ops = t->ops;
    struct walk w = {.t = t, .hits = hits};
    _Alignas(16) char space[512];
    void *match = ops->match_size <= sizeof(space) ? space : xmalloc(ops->match_size);
    enum map_result result = MAP_NOTFOUND;

    for (size_t i = walk_to(&w, 0); i < t->count && result == MAP_NOTFOUND;
         i = walk_to(&w, i + 1)) {
        const struct pattern_rule *r = &t->rules[i];
        int yes = 0;
        bool holds;

        if (r->kind == RULE_ENDIF)
            continue;
        if (walk_may_match(&w, i))
            yes = r->glob != NULL ? glob_matches(r->glob, key)
                                  : ops->matches(r->pattern, key, match, err);
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
            if (r->is_plain) {
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

enum map_result pattern_map_lookup_plain(const struct pattern_table *t, struct slice key,
                                         struct buf *value, struct err *err)
{
    return look_up(t, NULL, key, value, err);
}

enum map_result pattern_map_lookup(void *impl, struct slice key, struct buf *value, struct err *err)
{
    const struct pattern_table *t = impl;
    struct prefilter_hits hits;
    enum map_result result;

    if (t->filter == NULL)
        return look_up(t, NULL, key, value, err);
    prefilter_find(t->filter, key, &hits);
    result = look_up(t, &hits, key, value, err);
    prefilter_hits_fini(&hits);
    return result;
}

static bool note_group(unsigned n, struct slice *out, void *arg)
{
    unsigned *highest = arg;

    if (n > *highest)
        *highest = n;
    *out = SLICE_EMPTY;
    return true;
}

unsigned pattern_highest_group(const char *text)
{
    struct buf out = BUF_INIT(SIZE_MAX);
    unsigned highest = 0;

    /* what is wrong in it is told when it is used */
    if (pattern_expand(text, note_group, &highest, &out, NULL) == -1)
        highest = UINT_MAX;
    buf_fini(&out);
    return highest;
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
