/* SPDX-License-Identifier: Apache-2.0 */
/* test_dns_client.c - the names of clients: found, verified, and kept without mixing up addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dns/dns.h"

static struct dns *new_dns(struct config **cfg)
{
    struct dns *d = NULL;

    assert_int_equal(config_load_text("/nonexistent", SLICE_LIT("myhostname = mx.example.org\n"),
                                      NULL, 0, NULL, cfg, NULL),
                     0);
    assert_int_equal(dns_new(*cfg, &d, NULL), 0);
    return d;
}

static enum dns_result ask(struct dns *d, const char *text, struct buf *name, bool *verified)
{
    struct sockaddr_storage sa;
    socklen_t len;
    struct err err = ERR_INIT;

    buf_reset(name);
    assert_int_equal(dns_addr_parse(text, 25, &sa, &len), 0);
    return dns_client_name(d, (const struct sockaddr *) &sa, len, name, verified, &err);
}

/* 127.0.0.1 has a name on every host; what is kept of it says the same, and says nothing about other addresses. */
static void loopback(void **state)
{
    struct config *cfg;
    struct dns *d = new_dns(&cfg);
    struct buf name = BUF_INIT(1024);
    struct buf again = BUF_INIT(1024);
    bool verified = false;
    bool verified_again = false;

    (void) state;
    assert_int_equal(ask(d, "127.0.0.1", &name, &verified), DNS_OK);
    assert_true(verified);
    assert_true(name.len > 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ask(d, "127.0.0.1", &again, &verified_again), DNS_OK);
        assert_true(verified_again);
        assert_string_equal(buf_cstr(&again), buf_cstr(&name));
    }
    /* the same bytes in front: another family, another address */
    for (int i = 0; i < 2; i++) {
        verified = true;
        if (ask(d, "7f00:1::", &again, &verified) != DNS_OK)
            assert_int_equal(again.len, 0);
        assert_false(verified);
    }
    buf_fini(&name);
    buf_fini(&again);
    dns_free(&d);
    dns_free(&d);
    config_unref(&cfg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(loopback)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
