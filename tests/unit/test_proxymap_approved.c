/* SPDX-License-Identifier: Apache-2.0 */
/* test_proxymap_approved.c - which tables a value of proxy_read_maps approves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxymap/approved.h"

static void test_lists(void **state)
{
    static const struct {
        const char *list, *table;
        bool approved;
    } cases[] = {
        {"", "hash:/a", false},
        {"hash:/a", "hash:/a", false}, /* without proxy: it is not served */
        {"proxy:hash:/a", "hash:/a", true},
        {"proxy:hash:/a", "hash:/ab", false},
        {"proxy:hash:/a", "hash:/", false},
        {"proxy:hash:/a", "proxy:hash:/a", false},
        {"proxy:proxy:hash:/a", "hash:/a", true},
        {"x, proxy:hash:/a,proxy:mysql:/b\tproxy:c:d\n", "hash:/a", true},
        {"x, proxy:hash:/a,proxy:mysql:/b\tproxy:c:d\n", "mysql:/b", true},
        {"x, proxy:hash:/a,proxy:mysql:/b\tproxy:c:d\n", "c:d", true},
        {"check_sender_access proxy:hash:/a reject", "hash:/a", true},
        {"proxy:unionmap:{static:a, static:b}", "unionmap:{static:a, static:b}", true},
        {"proxy:unionmap:{static:a, proxy:static:b}", "static:b", false},
        {"unionmap:{static:a, proxy:static:b}", "static:b", true},
        {"unionmap:{static:a, {proxy:static:b}}", "static:b", true},
        {"{ check_client_access proxy:cidr:/x, reject }", "cidr:/x", true},
        {"proxy:", "", true}, /* no table has this name */
        {"{{{{{{{{{{{{{{{{proxy:hash:/a}}}}}}}}}}}}}}}}", "hash:/a", false},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct approved *a = approved_new(cases[i].list);

        if (approved_has(a, slice_str(cases[i].table)) != cases[i].approved)
            fail_msg("\"%s\" of \"%s\": wanted %d", cases[i].table, cases[i].list,
                     cases[i].approved);
        approved_free(&a);
        assert_null(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lists)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
