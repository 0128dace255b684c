/* SPDX-License-Identifier: Apache-2.0 */
/* test_map_glob.c - which expressions are globs, and a million random ones beside both libraries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/buf.h"
#include "maps/map_glob.h"

#define ROUNDS         150000
#define KEYS           20
#define ANSWERS_LEAST  1000000
#define MATCHES_LEAST  50000
#define EXPRESSION_MAX 24
#define KEY_MAX        16

static uint64_t seed = 20261130;

static unsigned below(unsigned n)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (unsigned) (seed >> 33) % n;
}

static void test_kinds(void **state)
{
    static const char *const globs[] = {
        "a",     "^a",    "a$",   "^a$",        "^",    "$",       "a.*b",     ".*",
        "^.*$",  "a\\.b", "[.]b", "@(.*\\.)?d", "(a)?", "(?:a)?b", "a(.*)?b$", "^Subject: .*offer",
        "a-b_c", "()?",   "x]",
    };
    static const char *const others[] = {
        "",     "a*",     "a+",    "a?",      "a{2}",  "a|b",     "(a)",      "(a)*", "a.b",
        ".",    "a.*?b",  "a.*+b", "[ab]",    "[^a]",  "\\w",     "\\1",      "\\<a", "a^b",
        "a$b",  "(^a)?",  "(a$)?", "(a)?+",   "(a)??", "((a)?)?", "(a)?(b)?", "[[]",  "a\\",
        "[]a]", "(a|b)?", "(*F)?", "a.(*F)?", "[(])?", "a{",
    };

    (void) state;
    for (size_t i = 0; i < sizeof(globs) / sizeof(globs[0]); i++) {
        struct glob *g = glob_of(slice_str(globs[i]), 0);

        if (g == NULL)
            fail_msg("%s: not a glob", globs[i]);
        free(g);
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        struct glob *g = glob_of(slice_str(others[i]), 0);

        if (g != NULL)
            fail_msg("%s: a glob", others[i]);
    }
}

static void test_limits(void **state)
{
    struct buf b = BUF_INIT(10000);
    struct glob *g;

    (void) state;
    for (unsigned i = 0; i < 1000; i++)
        buf_putc(&b, 'a');
    g = glob_of(buf_view(&b), GLOB_FOLDS);
    assert_non_null(g);
    assert_true(glob_matches(g, buf_view(&b)));
    assert_false(glob_matches(g, slice_sub(buf_view(&b), 1, b.len)));
    free(g);
    buf_putc(&b, 'a');
    assert_null(glob_of(buf_view(&b), GLOB_FOLDS));
    buf_fini(&b);
    g = glob_of(SLICE_LIT("1.*2.*3.*4.*5.*6.*7.*8"), 0);
    assert_non_null(g);
    assert_true(glob_matches(g, SLICE_LIT("12345678")));
    assert_false(glob_matches(g, SLICE_LIT("12345687")));
    free(g);
    assert_null(glob_of(SLICE_LIT("1.*2.*3.*4.*5.*6.*7.*8.*9"), 0));
    assert_null(glob_of(slice_of("a\0b", 3), 0));
}

/* Mostly what a glob has, so that enough of them are. */
static void random_expression(char *out)
{
    static const char *const pieces[] = {"a",  "b", "A", ".*", ".*",  "\\.", "[b]", "(",
                                         ")?", "^", "$", "a",  "b",   "n",   "\n",  "*",
                                         "+",  "|", ".", "x]", "\\n", "(?:"};
    unsigned n = 1 + below(7);

    *out = '\0';
    if (below(3) == 0)
        memcpy(out, "^", 2);
    for (unsigned i = 0; i < n; i++) {
        const char *p = pieces[below(sizeof(pieces) / sizeof(pieces[0]))];

        memcpy(out + strlen(out), p, strlen(p) + 1);
    }
    if (below(3) == 0)
        memcpy(out + strlen(out), "$", 2);
}

static size_t random_key(char *out)
{
    static const char bytes[] = "aabbABn.x]\n";
    size_t n = below(KEY_MAX);

    for (size_t i = 0; i < n; i++)
        out[i] = bytes[below(sizeof(bytes))]; /* NUL too */
    out[n] = '\0';
    return n;
}

struct counts {
    unsigned answers, matches;
};

static void check(const char *expression, struct slice key, const struct glob *g, bool real,
                  struct counts *c)
{
    bool ours = glob_matches(g, key);

    if (ours != real)
        fail_msg("/%s/ on \"%.*s\": glob %d, library %d", expression, SLICE_FMT(key), ours, real);
    c->answers++;
    c->matches += real;
}

static void compare_pcre(const char *expression, bool folds, struct counts *c)
{
    struct glob *g = glob_of(slice_str(expression), GLOB_NEWLINE_END | (folds ? GLOB_FOLDS : 0));
    PCRE2_SIZE at;
    int code;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR) expression, PCRE2_ZERO_TERMINATED,
                                   PCRE2_DOTALL | (folds ? PCRE2_CASELESS : 0), &code, &at, NULL);
    pcre2_match_data *match = pcre2_match_data_create(4, NULL);

    for (unsigned i = 0; g != NULL && re != NULL && i < KEYS; i++) {
        char key[KEY_MAX + 1];
        size_t n = random_key(key);

        code = pcre2_match(re, (PCRE2_SPTR) key, n, 0, 0, match, NULL);
        check(expression, slice_of(key, n), g, code >= 0, c);
    }
    pcre2_match_data_free(match);
    pcre2_code_free(re);
    free(g);
}

static void compare_posix(const char *expression, bool folds, struct counts *c)
{
    struct glob *g = glob_of(slice_str(expression), GLOB_NO_NUL | (folds ? GLOB_FOLDS : 0));
    regex_t re;

    if (g == NULL || regcomp(&re, expression, REG_EXTENDED | (folds ? REG_ICASE : 0)) != 0) {
        free(g);
        return;
    }
    for (unsigned i = 0; i < KEYS; i++) {
        char key[KEY_MAX + 1];
        size_t n = random_key(key);
        regmatch_t where = {.rm_so = 0, .rm_eo = (regoff_t) n};

        check(expression, slice_of(key, n), g, regexec(&re, key, 0, &where, REG_STARTEND) == 0, c);
    }
    regfree(&re);
    free(g);
}

static void test_like_libraries(void **state)
{
    struct counts c = {0, 0};

    (void) state;
    for (unsigned i = 0; i < ROUNDS; i++) {
        char expression[8 * EXPRESSION_MAX];

        random_expression(expression);
        compare_pcre(expression, below(2) == 0, &c);
        compare_posix(expression, below(2) == 0, &c);
    }
    print_message("%u answers, %u of them matches\n", c.answers, c.matches);
    assert_true(c.answers >= ANSWERS_LEAST);
    assert_true(c.matches >= MATCHES_LEAST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_like_libraries),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
