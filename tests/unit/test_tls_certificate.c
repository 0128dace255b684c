/* SPDX-License-Identifier: Apache-2.0 */
/* test_tls_certificate.c - what loads as certificate, key, chain and trust; on the files of tests/data/tls. */
#include "test_base.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "tls/tls_certificate.h"

#define DATA SOURCE_DIR "/tests/data/tls/"

static void test_pairs(void **state)
{
    static const struct {
        const char *cert;
        const char *key;    /* NULL: not wanted */
        const char *wanted; /* of the error; NULL: it loads */
    } rows[] = {
        {DATA "good.pem", DATA "good.key", NULL},
        {DATA "good.pem", NULL, NULL},
        {DATA "chain.pem", DATA "chain.pem", NULL},
        {DATA "expired.pem", DATA "good.key", NULL},
        {DATA "missing.pem", DATA "good.key", "missing.pem: No such file or directory"},
        {DATA "good.pem", DATA "missing.key", "missing.key: No such file or directory"},
        {DATA "text.pem", DATA "good.key", "text.pem: no certificate in PEM form"},
        {"/dev/null", DATA "good.key", "/dev/null: no certificate in PEM form"},
        {DATA "good.key", DATA "good.key", "good.key: no certificate in PEM form"},
        {DATA "good.pem", DATA "good.pem", "good.pem: no private key in PEM form"},
        {DATA "damaged.pem", DATA "good.key", "damaged.pem: "},
        {DATA "good.pem", DATA "other.key",
         "other.key: the private key is not that of the certificate in " DATA "good.pem"},
        {DATA "ca.pem", DATA "good.key", "is not that of the certificate"},
        {DATA "good.pem", DATA "encrypted.key", "encrypted.key: the private key has a passphrase"},
        {DATA "good.pem", DATA "encrypted-old.key", "the private key has a passphrase"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct tls_certificate *c = NULL;
        struct err err = ERR_INIT;
        int ret = tls_certificate_load(rows[i].cert, rows[i].key, &c, &err);

        check_int(rows[i].cert, ret, rows[i].wanted == NULL ? 0 : -1);
        check_int(rows[i].cert, c != NULL, rows[i].wanted == NULL);
        if (rows[i].wanted != NULL)
            check_contains(rows[i].cert, err.text, rows[i].wanted);
        tls_certificate_free(&c);
    }
}

static void test_dates(void **state)
{
    static const struct {
        const char *file;
        int64_t from, until; /* 0: not looked at */
    } rows[] = {
        {DATA "expired.pem", 1577836800, 1609459200},
        {DATA "future.pem", 32472144000, 32503680000},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct tls_certificate *c = NULL;
        struct err err = ERR_INIT;

        assert_int_equal(tls_certificate_load(rows[i].file, NULL, &c, &err), 0);
        check_int(rows[i].file, tls_certificate_valid_from(c), rows[i].from);
        check_int(rows[i].file, tls_certificate_valid_until(c), rows[i].until);
        check_str(rows[i].file, tls_certificate_file(c), rows[i].file);
        tls_certificate_free(&c);
    }
}

static void test_chains(void **state)
{
    static const struct {
        const char *files;
        size_t count;       /* of certificates */
        const char *wanted; /* of the error; NULL: they load */
    } rows[] = {
        {"", 0, NULL},
        {DATA "chain.pem", 1, NULL},
        {DATA "good.key, " DATA "good.pem", 1, NULL},
        {DATA "chain.pem " DATA "good.key " DATA "expired.pem", 2, NULL},
        {DATA "chain.pem, " DATA "ca.pem", 1, NULL},
        {DATA "good.pem", 0, "good.pem: a certificate without its private key before it"},
        {DATA "good.pem " DATA "good.key", 0, "a certificate without its private key before it"},
        {DATA "good.key", 0, "good.key: a private key without its certificate after it"},
        {DATA "good.key " DATA "good.key", 0, "a private key without its certificate after it"},
        {DATA "chain.pem " DATA "other.key", 0, "other.key: a private key without its certificate"},
        {DATA "other.key " DATA "good.pem", 0, "good.pem: the private key is not that of"},
        {DATA "text.pem", 0, "text.pem: no key or certificate in PEM form"},
        {DATA "chain.pem " DATA "text.pem", 0, "text.pem: no key or certificate in PEM form"},
        {DATA "chain.pem " DATA "missing.pem", 0, "missing.pem: No such file or directory"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct vec made = VEC_INIT;
        struct err err = ERR_INIT;

        check_int(rows[i].files, tls_certificate_load_chains(rows[i].files, &made, &err),
                  rows[i].wanted == NULL ? 0 : -1);
        check_int(rows[i].files, (long long) made.len, (long long) rows[i].count);
        if (rows[i].wanted != NULL)
            check_contains(rows[i].files, err.text, rows[i].wanted);
        while (made.len > 0) {
            struct tls_certificate *c = vec_pop(&made);

            tls_certificate_free(&c);
        }
        vec_fini(&made);
    }
}

/* What was loaded is what a server shows: the chain too, which verifies against its issuer. */
static void test_use(void **state)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    STACK_OF(X509) *issuers = NULL;
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *verify = X509_STORE_CTX_new();
    struct tls_certificate *c = NULL;
    struct err err = ERR_INIT;

    (void) state;
    assert_int_equal(tls_certificate_load(DATA "good.pem", DATA "good.key", &c, &err), 0);
    assert_int_equal(tls_certificate_use(c, ctx, &err), 0);
    tls_certificate_free(&c); /* the context has its own references */
    assert_int_equal(SSL_CTX_check_private_key(ctx), 1);
    SSL_CTX_get0_chain_certs(ctx, &issuers);
    assert_int_equal(sk_X509_num(issuers), 1);
    assert_int_equal(tls_trust_file(DATA "ca.pem", store, &err), 0);
    assert_int_equal(X509_STORE_CTX_init(verify, store, SSL_CTX_get0_certificate(ctx), NULL), 1);
    assert_int_equal(X509_verify_cert(verify), 1);
    X509_STORE_CTX_free(verify);
    X509_STORE_free(store);
    SSL_CTX_free(ctx);
}

static void test_trust(void **state)
{
    X509_STORE *store = X509_STORE_new();
    struct err err = ERR_INIT;

    (void) state;
    assert_int_equal(tls_trust_file(DATA "text.pem", store, &err), -1);
    check_contains("text", err.text, "text.pem: no certificate in PEM form");
    assert_int_equal(tls_trust_file(DATA "good.key", store, &err), -1);
    assert_int_equal(tls_trust_file(DATA "missing.pem", store, &err), -1);
    assert_int_equal(tls_trust_file(DATA "good.pem", store, &err), 0);
    assert_int_equal(sk_X509_OBJECT_num(X509_STORE_get0_objects(store)), 2);
    X509_STORE_free(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs), cmocka_unit_test(test_dates), cmocka_unit_test(test_chains),
        cmocka_unit_test(test_use),   cmocka_unit_test(test_trust),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
