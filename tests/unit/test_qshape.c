/* SPDX-License-Identifier: Apache-2.0 */
/* test_qshape.c - the table of qshape(1). What is wanted of the first three was printed by Debian's qshape for the same mail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "qmgr/qshape.h"

struct mail {
    const char *domain;
    int64_t age_s;
};

static const struct mail mails[] = {
    {"aa.parent.te", 10},  {"bb.parent.te", 400}, {"bb.PARENT.te", 400}, {"cc.parent.te", 100000},
    {"dd.parent.te", 310}, {"ee.parent.te", 310}, {"zzzz.tests.x", 299}, {"zzzz.tests.x", 300},
    {"yyyy.tests.x", 0},   {"zzzz.tests.x", 599}, {"zzzz.tests.x", 600}, {"zzzz.tests.x", 76799},
};

static void check(const struct qshape_options *o, size_t top, const struct mail *m, size_t n,
                  const char *wanted)
{
    struct qshape *q = qshape_new(o);
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    for (size_t i = 0; i < n; i++)
        qshape_add(q, slice_str(m[i].domain), m[i].age_s);
    qshape_print(q, top, out);
    fclose(out);
    assert_string_equal(text, wanted);
    free(text);
    qshape_free(&q);
}

static const struct qshape_options usual = {.buckets = 10, .first_s = 300, .min_subdomains = 5};

static void test_empty(void **state)
{
    const struct qshape_options linear = {
        .buckets = 3, .first_s = 600, .is_linear = true, .min_subdomains = 5};
    const struct qshape_options one = {.buckets = 1, .first_s = 300, .width = 30};

    (void) state;
    check(&usual, 0, mails, 0,
          "                                         T  5 10 20 40 80 160 320 640 1280 1280+\n"
          "                                  TOTAL  0  0  0  0  0  0   0   0   0    0     0\n");
    check(&linear, 0, mails, 0,
          "                                                                     T 10 20 20+\n"
          "                                                              TOTAL  0  0  0   0\n");
    check(&one, 0, mails, 0,
          "                                                                            T 0+\n"
          "                                                                     TOTAL  0  0\n");
}

static void test_ages(void **state)
{
    (void) state;
    check(&usual, 0, mails, ARRAY_LEN(mails),
          "                                         T  5 10 20 40 80 160 320 640 1280 1280+\n"
          "                                  TOTAL 12  3  6  1  0  0   0   0   0    1     1\n"
          "                           zzzz.tests.x  5  1  2  1  0  0   0   0   0    1     0\n"
          "                           bb.parent.te  2  0  2  0  0  0   0   0   0    0     0\n"
          "                           aa.parent.te  1  1  0  0  0  0   0   0   0    0     0\n"
          "                           cc.parent.te  1  0  0  0  0  0   0   0   0    0     1\n"
          "                           dd.parent.te  1  0  1  0  0  0   0   0   0    0     0\n"
          "                           ee.parent.te  1  0  1  0  0  0   0   0   0    0     0\n"
          "                           yyyy.tests.x  1  1  0  0  0  0   0   0   0    0     0\n");
}

static void test_parents(void **state)
{
    struct qshape_options o = usual;

    (void) state;
    o.parents = true;
    check(&o, 3, mails, ARRAY_LEN(mails),
          "                                         T  5 10 20 40 80 160 320 640 1280 1280+\n"
          "                                  TOTAL 12  3  6  1  0  0   0   0   0    1     1\n"
          "                             .parent.te  6  1  4  0  0  0   0   0   0    0     1\n"
          "                           zzzz.tests.x  5  1  2  1  0  0   0   0   0    1     0\n"
          "                           bb.parent.te  2  0  2  0  0  0   0   0   0    0     0\n");
}

static void test_names(void **state)
{
    static const struct mail odd[] = {
        {"", 1},
        {"[10.0.0.255]", 1},
        {"a.averyveryveryveryveryveryverylongdomainnameindeedaveryveryverylong.with.example", 1},
        {"x.b.test.org", 1},
        {"test.org", 1},
    };
    const struct qshape_options o = {
        .buckets = 2, .first_s = 300, .parents = true, .min_subdomains = 1, .width = 80};

    (void) state;
    check(&o, 0, odd, ARRAY_LEN(odd),
          "                                                                         T  5 5+\n"
          "                                                                  TOTAL  5  5  0\n"
          "                                                            (no domain)  1  1  0\n"
          "                                                     .+ong.with.example  1  1  0\n"
          "                                                            .b.test.org  1  1  0\n"
          "                                                              .test.org  1  1  0\n"
          "                                                          .with.example  1  1  0\n"
          "                                                           [10.0.0.255]  1  1  0\n"
          "                                                     +long.with.example  1  1  0\n"
          "                                                               test.org  1  1  0\n"
          "                                                           x.b.test.org  1  1  0\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_ages),
        cmocka_unit_test(test_parents),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
