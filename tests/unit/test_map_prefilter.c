/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_map_prefilter.c - what is read off expressions, and that large regexp and pcre tables answer as going through their rules does: by
 * hand for the odd cases, and for random tables and keys. SEED=n makes a run again; KEYS=n sets how many keys (200,000).
 */
#include "test_patterns.h"

#include <stdio.h>

#include "base/log.h"
#include "maps/map_glob.h"
#include "maps/map_prefilter.h"

extern const struct map_type map_type_regexp, map_type_pcre;

/* "a,b c": a or b, and c. "": nothing is known. */
static void print(const struct literals *l, struct buf *out)
{
    buf_reset(out);
    for (size_t i = 0; l != NULL && i < l->choices.len; i++) {
        const struct literal_choice *c = l->choices.items[i];

        for (size_t k = 0; k < c->strings.len; k++) {
            buf_puts(out, k > 0 ? "," : i > 0 ? " " : "");
            buf_put_slice(out, *(const struct slice *) c->strings.items[k]);
        }
    }
}

static void test_literals(void **unused)
{
    static const struct {
        const char *expression, *pcre, *ere; /* ere NULL: the same */
    } cases[] = {
        {"abc", "abc", NULL},
        {"ABC", "abc", NULL},
        {"^abc$", "abc", NULL},
        {"a.b", "a b", NULL},
        {"ab*c", "a c", NULL},
        {"ab?c", "a c", NULL},
        {"ab+c", "ab c", NULL},
        {"ab{0,3}c", "a c", NULL},
        {"ab{2}c", "ab c", NULL},
        {"ab{2,}c", "ab c", NULL},
        {"ab{,2}c", "", NULL},
        {"ab{x}c", "", NULL},
        {"ab{2", "", NULL},
        {"ab+?c", "ab c", "a c"},
        {"ab++c", "ab c", NULL},
        {"ab??c", "a c", NULL},
        {"a\\.b", "a.b", NULL},
        {"a[.]b", "a.b", NULL},
        {"a[^.]b", "a b", NULL},
        {"a[b-d]e", "a e", NULL},
        {"a[]b]c", "a c", NULL},
        {"a[^]b]c", "a c", NULL},
        {"a[\\]b]c", "a c", "a\\b]c"},
        {"a[\\d]c", "a c", NULL},
        {"a[[:alpha:]]c", "a c", NULL},
        {"a[[:a]b:]c", "", NULL},
        {"a[[.x.]]c", "", NULL},
        {"a[\\Q]\\E]b", "", NULL}, /* POSIX: the class ends at the first ] */
        {"a[b", "", NULL},
        {"(abc)d", "abc d", NULL},
        {"(abc)?d", "d", NULL},
        {"(abc){0}d", "d", NULL},
        {"(abc)+d", "abc d", NULL},
        {"(?:abc)d", "abc d", ""},
        {"(?i)abc", "", NULL},
        {"(?!abc)d", "", NULL},
        {"(?<x>abc)d", "", NULL},
        {"(*UTF)abc", "", NULL},
        {"a|b", "a,b", NULL},
        {"abc|d*", "", NULL},
        {"x(abc|def)y", "x abc,def y", NULL},
        {"x(abc|de(f|gh)i)y", "x abc,de y", NULL},
        {"x(a|)y", "x y", NULL},
        {"\\Qabc\\Ed", "", NULL},
        {"a\\db", "a b", ""},
        {"a\\sb", "a b", NULL},
        {"a\\1b", "", NULL},
        {"a\\x41b", "", NULL},
        {"a\\N{U+41}b", "", NULL},
        {"a\\<b", "a<b", "a b"},
        {"*abc", "", NULL},
        {"abc)", "", NULL},
        {"(abc", "", NULL},
        {"abc\\", "", NULL},
        {"", "", NULL},
        {"\xC3\x84x", "\xC3\x84x", NULL},
    };
    struct buf got = BUF_INIT(4096);

    (void) unused;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (int syntax = 0; syntax < 2; syntax++) {
            const char *wanted = syntax == 1 && cases[i].ere != NULL ? cases[i].ere : cases[i].pcre;
            struct literals *l = literals_of(slice_str(cases[i].expression),
                                             syntax == 1 ? LITERAL_ERE : LITERAL_PCRE);

            print(l, &got);
            if (strcmp(buf_cstr(&got), wanted) != 0)
                fail_msg("%s \"%s\": got \"%s\", wanted \"%s\"", syntax == 1 ? "ere" : "pcre",
                         cases[i].expression, buf_cstr(&got), wanted);
            literals_free(&l);
        }
    }
    buf_fini(&got);
}

/* Both ways; the answer of going through the rules. */
static enum map_result compare(const struct map_type *type, struct pattern_table *t,
                               struct slice key, const char *table)
{
    static char copy[70000];
    struct buf fast = BUF_INIT(65536);
    struct buf plain = BUF_INIT(65536);
    struct err err = ERR_INIT;
    struct err other = ERR_INIT;
    enum map_result a = type->lookup(t, key, &fast, &err);
    enum map_result b;

    memcpy(copy, key.ptr, key.len); /* with a NUL behind it */
    copy[key.len] = '\0';
    b = pattern_map_lookup_plain(t, slice_of(copy, key.len), &plain, &other);
    /* where an expression takes too long for a key, it makes a difference that it is not tried */
    if (b == MAP_RETRY && strstr(other.text, "match limit exceeded") != NULL)
        b = a;
    else if (a != b || !slice_eq(buf_view(&fast), buf_view(&plain)))
        fail_msg("key \"%.*s\": %d \"%s\", rule by rule %d \"%s\" %s; table:\n%s", (int) key.len,
                 key.ptr, a, buf_cstr(&fast), b, buf_cstr(&plain), other.text, table);
    buf_fini(&fast);
    buf_fini(&plain);
    return b;
}

/* Each rule that matches, the first one or not, is among those that the filter finds. */
static unsigned long check_all_rules(struct pattern_table *t, struct slice key, const char *table)
{
    static _Alignas(16) char match[65536];
    struct prefilter_hits hits;
    struct err err = ERR_INIT;
    unsigned long matching = 0;
    size_t at = 0;

    assert_true(t->ops->match_size <= sizeof(match));
    prefilter_find(t->filter, key, &hits);
    for (size_t i = 0; i < t->count; i++) {
        while (at < hits.count && hits.rules[at] < i)
            at++;
        if (t->rules[i].kind == RULE_ENDIF || !prefilter_knows(t->filter, (uint32_t) i) ||
            (t->rules[i].glob != NULL
                 ? (int) glob_matches(t->rules[i].glob, key)
                 : t->ops->matches(t->rules[i].pattern, key, match, &err)) != 1)
            continue;
        matching++;
        if (at == hits.count || hits.rules[at] != i)
            fail_msg("key \"%.*s\": line %d matches, but its literals are not found; table:\n%s",
                     (int) key.len, key.ptr, t->rules[i].line, table);
    }
    prefilter_hits_fini(&hits);
    return matching;
}

/* Rules that no key has, so that the table is one that gets a filter. */
static void put_fillers(struct buf *out)
{
    for (int i = 0; i < 40; i++)
        buf_printf(out, "/filler-number-%d/ f%d\n", i, i);
}

static void test_by_hand(void **unused)
{
    static const struct {
        const char *rules, *key, *value;
    } cases[] = {
        {"/abc/ 1\n/bcd/ 2\n", "xbcdx", "2"},
        {"/abc/ 1\n/bcd/ 2\n", "xabcdx", "1"},
        {"/bcd/ 2\n/abc/ 1\n", "xabcdx", "2"},
        {"/ABC/ 1\n", "xaBcx", "1"},
        {"/ABC/i 1\n", "xaBcx", ""}, /* the flag takes the folding away */
        {"/ABC/i 1\n", "xABCx", "1"},
        {"!/abc/ 1\n", "abd", "1"},
        {"!/abc/ 1\n/abc/ 2\n", "abc", "2"},
        {"if /abc/\n/def/ 1\nendif\n/d/ 2\n", "def", "2"},
        {"if /abc/\n/def/ 1\nendif\n/d/ 2\n", "abcdef", "1"},
        {"if !/abc/\n/def/ 1\nendif\n/d/ 2\n", "def", "1"},
        {"if !/abc/\n/def/ 1\nendif\n/d/ 2\n", "abcdef", "2"},
        {"if /abc/\nif /ghi/\n/def/ 1\nendif\n/def/ 2\nendif\n", "abcdef", "2"},
        {"if /no such thing/\n/def/ 1\n", "def", ""}, /* without endif */
        {"/^(.*)@old\\.example$/ $1@new.example\n", "joe@old.example", "joe@new.example"},
        {"/(spam|junk|offer)-mail/ $1\n", "a JUNK-mail", "JUNK"},
        {"/x/ 1\n", "x", "1"}, /* too short to be searched for */
        {"/[0-9]+/ 1\n", "a7", "1"},
        {"/ab/ 1\n", "ab", "1"},
        {"/abc/ 1\n", "abc", "1"},
        {"/abcdefg/ 1\n", "abcdefg", "1"},
        {"/abcdefgh/ 1\n", "abcdefgh", "1"},
        {"/abcdefghi/ 1\n", "abcdefgh", ""},
        {"/filler-number-7/ again\n", "filler-number-7", "again"},
    };
    static const struct map_type *const types[] = {&map_type_pcre, &map_type_regexp};
    struct buf table = BUF_INIT(65536);
    struct buf value = BUF_INIT(65536);

    (void) unused;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        for (size_t k = 0; k < ARRAY_LEN(types); k++) {
            struct pattern_table *t;
            struct err err = ERR_INIT;

            buf_reset(&table);
            buf_puts(&table, cases[i].rules);
            if (strstr(cases[i].rules, "without") == NULL &&
                strstr(cases[i].rules, "if /no such") == NULL)
                put_fillers(&table);
            else
                for (int n = 0; n < 40; n++)
                    buf_printf(&table, "/within-%d/ w\n", n);
            t = load_table(types[k], buf_view(&table));
            if (t->filter == NULL)
                fail_msg("no filter for a table of %zu rules", t->count);
            (void) compare(types[k], t, slice_str(cases[i].key), cases[i].rules);
            buf_reset(&value);
            (void) types[k]->lookup(t, slice_str(cases[i].key), &value, &err);
            if (strcmp(buf_cstr(&value), cases[i].value) != 0)
                fail_msg("%s \"%s\", key \"%s\": got \"%s\", wanted \"%s\"", types[k]->name,
                         cases[i].rules, cases[i].key, buf_cstr(&value), cases[i].value);
            types[k]->close(t);
        }
    }
    /* a few rules are tried one by one */
    struct pattern_table *t = load_table(&map_type_pcre, SLICE_LIT("/abc/ 1\n"));
    assert_null(t->filter);
    map_type_pcre.close(t);
    buf_fini(&table);
    buf_fini(&value);
}

static const char *const words[] = {
    "offer",  "viagra", "example", "domain", "mail", "Subject: ", "free",     "@",
    "list",   "money",  "number",  "00",     "17",   "x",         "ab",       "From",
    "unique", "ABC",    "-",       "\\.",    "win",  "bcd",       "\xC3\xA4",
};
#define WORDS ARRAY_LEN(words)

/* A word, or a few letters of a small alphabet, so that keys have a chance. */
static void put_text(struct buf *out)
{
    if (random_below(3) > 0) {
        buf_puts(out, words[random_below(WORDS)]);
        return;
    }
    for (uint32_t n = 1 + random_below(9); n > 0; n--)
        buf_putc(out, "abcABC"[random_below(6)]);
}

static void put_quantifier(struct buf *out, bool pcre)
{
    static const char *const all[] = {"*", "+", "?", "{0,2}", "{1,3}", "{2}", "{0}"};

    buf_puts(out, all[random_below(ARRAY_LEN(all))]);
    if (pcre && random_below(3) == 0)
        buf_putc(out, random_below(2) == 0 ? '?' : '+');
}

static void put_expression(struct buf *out, unsigned depth, bool pcre, unsigned *groups)
{
    uint32_t atoms = 1 + random_below(4);

    for (uint32_t i = 0; i < atoms; i++) {
        static const char *const classes[] = {
            "[ab]", "[^a]",  "[.]",         "[a-cx]",           "[]a]", "[[:alpha:]b]",
            "[^]]", "[0-9]", "[[:digit:]]", "[ab][[:space:]]?", "[@]"};
        static const char *const escapes[] = {"\\w", "\\s", "\\b", "\\-", "\\@", "\\B", "\\W"};
        static const char *const more[] = {"\\d",     "\\D",   "\\Qab\\E", "(?:ab|c)",
                                           "(?i:ab)", "(?=a)", "(?!b)",    "[\\d]",
                                           "[\\]a]",  "\\x61", "\\h"};

        switch (random_below(pcre ? 10 : 9)) {
        case 0:
        case 1:
        case 2:
            put_text(out);
            continue; /* a quantifier behind a word is for its last character: below, too */
        case 3:
            put_text(out);
            break;
        case 4:
            buf_putc(out, '.');
            break;
        case 5:
            buf_puts(out, classes[random_below(ARRAY_LEN(classes))]);
            break;
        case 6:
            buf_puts(out, escapes[random_below(ARRAY_LEN(escapes))]);
            continue;
        case 7:
        case 8:
            if (depth == 0)
                continue;
            buf_putc(out, '(');
            ++*groups;
            put_expression(out, depth - 1, pcre, groups);
            for (uint32_t n = random_below(3); n > 0; n--) {
                buf_putc(out, '|');
                put_expression(out, depth - 1, pcre, groups);
            }
            buf_putc(out, ')');
            break;
        default:
            buf_puts(out, more[random_below(ARRAY_LEN(more))]);
            continue;
        }
        if (random_below(3) == 0)
            put_quantifier(out, pcre);
    }
}

static void put_pattern(struct buf *out, bool pcre, unsigned *groups)
{
    static const char *const flags[] = {"", "", "", "", "i", "m", "im"};

    *groups = 0;
    if (random_below(25) == 0)
        buf_putc(out, '!');
    buf_putc(out, '/');
    if (random_below(6) == 0)
        buf_putc(out, '^');
    put_expression(out, 2, pcre, groups);
    if (random_below(6) == 0)
        buf_putc(out, '$');
    buf_printf(out, "/%s", flags[random_below(ARRAY_LEN(flags))]);
    if (pcre && random_below(12) == 0)
        buf_putc(out, 'x');
}

static void put_table(struct buf *out, bool pcre)
{
    unsigned open = 0;
    uint32_t n = 30 + random_below(120);

    for (uint32_t i = 0; i < n; i++) {
        unsigned groups;

        if (random_below(10) == 0 && open < 4) {
            buf_puts(out, "if ");
            put_pattern(out, pcre, &groups);
            buf_puts(out, "\n");
            open++;
        } else if (open > 0 && random_below(6) == 0) {
            buf_puts(out, "endif\n");
            open--;
        } else {
            size_t start = out->len;

            put_pattern(out, pcre, &groups);
            buf_printf(out, groups > 0 && out->ptr[start] != '!' ? " r%u $1\n" : " r%u\n", i);
        }
    }
    for (; open > 0; open--)
        buf_puts(out, "endif\n");
}

static void put_key(struct buf *out)
{
    for (uint32_t n = random_below(7); n > 0; n--) {
        size_t start = out->len;

        put_text(out);
        if (random_below(6) == 0)
            buf_putc(out, " \n\t07.@]\\"[random_below(9)]);
        if (random_below(12) == 0)
            buf_putc(out, '\0');
        for (size_t i = start; i < out->len; i++)
            if (random_below(24) == 0)
                out->ptr[i] ^= 0x20; /* the other case, or another character */
    }
}

static void test_random(void **unused)
{
    uint64_t left = random_keys(200000);
    struct buf table = BUF_INIT(1 << 20);
    struct buf key = BUF_INIT(65536);
    unsigned long found = 0;
    unsigned long filtered = 0;
    unsigned long asked = 0;
    unsigned long matching = 0;

    (void) unused;
    random_begin();
    while (left > 0) {
        bool pcre = random_below(2) == 0;
        const struct map_type *type = pcre ? &map_type_pcre : &map_type_regexp;
        struct pattern_table *t;

        buf_reset(&table);
        put_table(&table, pcre);
        t = load_table(type, buf_view(&table));
        filtered += t->filter != NULL;
        for (int i = 0; i < 500 && left > 0; i++, left--, asked++) {
            buf_reset(&key);
            put_key(&key);
            struct slice k = slice_of(buf_cstr(&key), key.len);

            found += compare(type, t, k, buf_cstr(&table)) == MAP_FOUND;
            if (t->filter != NULL && i % 8 == 0)
                matching += check_all_rules(t, k, buf_cstr(&table));
        }
        type->close(t);
    }
    print_message("%lu keys, %lu found; %lu tables with a filter; %lu rules that matched\n", asked,
                  found, filtered, matching);
    assert_true(matching > asked / 20);
    assert_true(filtered > asked / 1000);
    assert_true(found > asked / 20 && found < asked);
    buf_fini(&table);
    buf_fini(&key);
}

int main(void)
{
    /* some random patterns are wrong: left out with a warning */
    static const struct log_target quiet = {.syslog_name = "test",
                                            .program = "map",
                                            .facility = "mail",
                                            .maillog_fd = -1,
                                            .no_syslog = true};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_literals),
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_random),
    };

    log_open(&quiet);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
