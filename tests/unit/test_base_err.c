/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_err.c - lib/base/err.h: kinds, codes, the cut, control bytes. */
#include "test_base.h"

#include <errno.h>

#include "base/err.h"

static void test_kinds(void **state)
{
    struct err e = ERR_INIT;

    (void) state;
    check_int("set", err_set(&e, ERR_PERMANENT, "5.1.1", "no %s", "user"), -1);
    check_int("kind", e.kind, ERR_PERMANENT);
    check_str("dsn", e.dsn, "5.1.1");
    check_str("text", e.text, "no user");
    check_int("temporary", err_temporary(&e, "later"), -1);
    check_int("kind", e.kind, ERR_TEMPORARY);
    check_str("dsn is the new one's", e.dsn, "");
    check_int("permanent", err_permanent(&e, "never"), -1);
    check_int("kind", e.kind, ERR_PERMANENT);
    check_int("input", err_input(&e, "bad"), -1);
    check_int("kind", e.kind, ERR_BAD_INPUT);
    check_int("no code", err_set(&e, ERR_TEMPORARY, NULL, "x"), -1);
    check_str("dsn", e.dsn, "");
    err_input(&e, "again: %s", e.text);
    check_str("its own text as argument", e.text, "again: x");
}

static void test_null(void **state)
{
    (void) state;
    check_int("set", err_set(NULL, ERR_PERMANENT, "5.0.0", "x"), -1);
    check_int("sys", err_sys(NULL, "x"), -1);
    check_int("prefix", err_prefix(NULL, "x"), -1);
}

static void test_sys(void **state)
{
    struct err e = ERR_INIT;

    (void) state;
    errno = ENOENT;
    check_int("sys", err_sys(&e, "open %s", "/nowhere"), -1);
    check_str("text", e.text, "open /nowhere: No such file or directory");
    check_int("a file may come back", e.kind, ERR_TEMPORARY);
    check_str("dsn", e.dsn, "4.3.0");
    check_int("errno is kept", errno, ENOENT);
    errno = ENOSPC;
    err_sys(&e, "write");
    check_str("full disk", e.dsn, "4.3.1");
}

static void test_cut_and_clean(void **state)
{
    struct err e = ERR_INIT;
    char text[2 * ERR_TEXT_MAX];

    (void) state;
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    err_input(&e, "%s", text);
    check_int("cut", (long long) strlen(e.text), ERR_TEXT_MAX - 1);
    err_prefix(&e, "%s", "line 3: ");
    check_int("prefix keeps the limit", (long long) strlen(e.text), ERR_TEXT_MAX - 1);
    check_int("prefix is in front", strncmp(e.text, "line 3: aaa", 11), 0);
    err_input(&e, "short");
    err_prefix(&e, "%s", text);
    check_contains("a long prefix leaves room", e.text, "ashort");
    err_input(&e, "a\r\nb\tc\177\033\xc3\xa4");
    check_str("control bytes", e.text, "a??b?c??\xc3\xa4");
    err_prefix(&e, "x\ny: ");
    check_str("in a prefix", e.text, "x?y: a??b?c??\xc3\xa4");
    errno = EACCES;
    err_sys(&e, "%s", text);
    check_int("sys, cut", (long long) strlen(e.text), ERR_TEXT_MAX - 1);
}

static void test_errno_text(void **state)
{
    char buf[64];

    (void) state;
    check_str("known", err_errno_text(EPERM, buf, sizeof(buf)), "Operation not permitted");
    check_contains("unknown", err_errno_text(99999, buf, sizeof(buf)), "99999");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),      cmocka_unit_test(test_null),
        cmocka_unit_test(test_sys),        cmocka_unit_test(test_cut_and_clean),
        cmocka_unit_test(test_errno_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
