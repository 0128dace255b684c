/* SPDX-License-Identifier: Apache-2.0 */
/* tls_certificate.c - certificates and keys from PEM files. See tls_certificate.h. */
#include "tls/tls_certificate.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <time.h>

#include "base/file.h"
#include "base/log.h"

#define FILE_MAX (4U << 20) /* a bundle of all public issuers has some 200 KiB */

struct tls_certificate {
    X509 *cert; /* NULL while only its key has been seen */
    STACK_OF(X509) * issuers;
    EVP_PKEY *key;
    char *file; /* the certificate's, for messages */
};

/* What OpenSSL says of its last error; forgets the others. */
static const char *reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *text = code != 0 ? ERR_reason_error_string(code) : NULL;

    ERR_clear_error();
    return text != NULL ? text : "unknown error";
}

static struct tls_certificate *certificate_new(const char *file)
{
    struct tls_certificate *c = xcalloc(1, sizeof(*c));

    c->issuers = sk_X509_new_null();
    if (c->issuers == NULL)
        fatal("out of memory");
    c->file = xstrdup(file);
    return c;
}

void tls_certificate_free(struct tls_certificate **c)
{
    if (*c == NULL)
        return;
    X509_free((*c)->cert);
    sk_X509_pop_free((*c)->issuers, X509_free);
    EVP_PKEY_free((*c)->key);
    free((*c)->file);
    free(*c);
    *c = NULL;
}

/* --- objects of a PEM file ------------------------------------------------------------------------ */

/* Gets each object, and owns it: one of cert and key is NULL. */
typedef int (*object_fn)(const char *file, X509 *cert, EVP_PKEY *key, void *arg, struct err *err);

static bool is_certificate(const char *label)
{
    return strcmp(label, PEM_STRING_X509) == 0 || strcmp(label, PEM_STRING_X509_OLD) == 0 ||
           strcmp(label, PEM_STRING_X509_TRUSTED) == 0;
}

static int decode(const char *file, const char *label, const char *header,
                  const unsigned char *data, long len, object_fn fn, void *arg, struct err *err)
{
    if (is_certificate(label)) {
        X509 *cert = strcmp(label, PEM_STRING_X509_TRUSTED) == 0 ? d2i_X509_AUX(NULL, &data, len)
                                                                 : d2i_X509(NULL, &data, len);

        if (cert == NULL)
            return err_input(err, "%s: a certificate that is damaged: %s", file, reason());
        return fn(file, cert, NULL, arg, err);
    }
    if (slice_ends_with(slice_str(label), SLICE_LIT("PRIVATE KEY"))) {
        EVP_PKEY *key;

        if (strcmp(label, PEM_STRING_PKCS8) == 0 || strstr(header, "ENCRYPTED") != NULL)
            return err_input(err, "%s: the private key has a passphrase, which nobody can enter",
                             file);
        key = d2i_AutoPrivateKey(NULL, &data, len);
        if (key == NULL)
            return err_input(err, "%s: a private key that is damaged: %s", file, reason());
        return fn(file, NULL, key, arg, err);
    }
    return 0; /* parameters, requests and the like do no harm */
}

static int each_object(const char *file, object_fn fn, void *arg, struct err *err)
{
    struct buf text = BUF_INIT(FILE_MAX);
    BIO *bio = NULL;
    int ret = -1;

    if (file_read(file, &text, err) == -1)
        goto done;
    ERR_clear_error();
    bio = BIO_new_mem_buf(buf_cstr(&text), (int) text.len);
    if (bio == NULL) {
        err_temporary(err, "%s: %s", file, reason());
        goto done;
    }
    for (;;) {
        char *label = NULL;
        char *header = NULL;
        unsigned char *data = NULL;
        long len = 0;

        if (PEM_read_bio(bio, &label, &header, &data, &len) != 1) {
            if (ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE)
                ret = 0;
            else
                err_input(err, "%s: not PEM: %s", file, reason());
            ERR_clear_error();
            break;
        }
        ret = decode(file, label, header, data, len, fn, arg, err);
        OPENSSL_free(label);
        OPENSSL_free(header);
        OPENSSL_clear_free(data, (size_t) len);
        if (ret == -1)
            break;
        ret = -1;
    }
done:
    BIO_free(bio);
    if (text.ptr != NULL)
        explicit_bzero(text.ptr, text.cap);
    buf_fini(&text);
    return ret;
}

/* --- one certificate ------------------------------------------------------------------------------ */

static void put_issuer(struct tls_certificate *c, X509 *cert)
{
    if (sk_X509_push(c->issuers, cert) == 0)
        fatal("out of memory");
}

static int take_certificates(const char *file, X509 *cert, EVP_PKEY *key, void *arg,
                             struct err *err)
{
    struct tls_certificate *c = arg;

    (void) file;
    (void) err;
    EVP_PKEY_free(key);
    if (cert != NULL && c->cert == NULL)
        c->cert = cert;
    else if (cert != NULL)
        put_issuer(c, cert);
    return 0;
}

static int take_key(const char *file, X509 *cert, EVP_PKEY *key, void *arg, struct err *err)
{
    struct tls_certificate *c = arg;

    X509_free(cert);
    if (key != NULL && c->key != NULL) {
        EVP_PKEY_free(key);
        return err_input(err, "%s: more than one private key", file);
    }
    if (key != NULL)
        c->key = key;
    return 0;
}

static int check_pair(const struct tls_certificate *c, const char *key_file, struct err *err)
{
    if (X509_check_private_key(c->cert, c->key) == 1)
        return 0;
    ERR_clear_error();
    return err_input(err, "%s: the private key is not that of the certificate in %s", key_file,
                     c->file);
}

int tls_certificate_load(const char *cert_file, const char *key_file, struct tls_certificate **out,
                         struct err *err)
{
    struct tls_certificate *c = certificate_new(cert_file);
    int ret = -1;

    if (each_object(cert_file, take_certificates, c, err) == -1)
        goto done;
    if (c->cert == NULL) {
        err_input(err, "%s: no certificate in PEM form is in it", cert_file);
        goto done;
    }
    if (key_file != NULL) {
        if (each_object(key_file, take_key, c, err) == -1)
            goto done;
        if (c->key == NULL) {
            err_input(err, "%s: no private key in PEM form is in it", key_file);
            goto done;
        }
        if (check_pair(c, key_file, err) == -1)
            goto done;
    }
    *out = c;
    c = NULL;
    ret = 0;
done:
    tls_certificate_free(&c);
    return ret;
}

/* --- chain files ---------------------------------------------------------------------------------- */

struct chains {
    struct vec made;
    struct tls_certificate *now; /* the last of made */
    size_t objects;
};

static int take_link(const char *file, X509 *cert, EVP_PKEY *key, void *arg, struct err *err)
{
    struct chains *all = arg;

    all->objects++;
    if (key != NULL) {
        if (all->now != NULL && all->now->cert == NULL) {
            EVP_PKEY_free(key);
            return err_input(err, "%s: a private key without its certificate after it", file);
        }
        all->now = certificate_new(file);
        all->now->key = key;
        vec_push(&all->made, all->now);
        return 0;
    }
    if (all->now == NULL) {
        X509_free(cert);
        return err_input(err, "%s: a certificate without its private key before it", file);
    }
    if (all->now->cert != NULL) {
        put_issuer(all->now, cert);
        return 0;
    }
    all->now->cert = cert;
    free(all->now->file);
    all->now->file = xstrdup(file);
    return check_pair(all->now, file, err);
}

int tls_certificate_load_chains(const char *files, struct vec *out, struct err *err)
{
    struct chains all = {VEC_INIT, NULL, 0};
    struct slice rest = slice_str(files);
    struct slice word;
    int ret = 0;

    while (ret == 0 && slice_token(&rest, ", \t\r\n", &word)) {
        size_t before = all.objects;
        char *file = slice_dup(word);

        ret = each_object(file, take_link, &all, err);
        if (ret == 0 && all.objects == before)
            ret = err_input(err, "%s: no key or certificate in PEM form is in it", file);
        free(file);
    }
    if (ret == 0 && all.now != NULL && all.now->cert == NULL)
        ret = err_input(err, "%s: a private key without its certificate after it", all.now->file);
    for (size_t i = 0; i < all.made.len; i++) {
        struct tls_certificate *c = all.made.items[i];

        if (ret == 0)
            vec_push(out, c);
        else
            tls_certificate_free(&c);
    }
    vec_fini(&all.made);
    return ret;
}

/* --- use ------------------------------------------------------------------------------------------ */

const char *tls_certificate_file(const struct tls_certificate *c)
{
    return c->file;
}

static int64_t seconds(const ASN1_TIME *t)
{
    struct tm tm = {0};

    /* one that cannot be read is in the past: never valid */
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t) timegm(&tm) : 0;
}

int64_t tls_certificate_valid_from(const struct tls_certificate *c)
{
    return seconds(X509_get0_notBefore(c->cert));
}

int64_t tls_certificate_valid_until(const struct tls_certificate *c)
{
    return seconds(X509_get0_notAfter(c->cert));
}

int tls_certificate_use(const struct tls_certificate *c, SSL_CTX *ctx, struct err *err)
{
    if (SSL_CTX_use_cert_and_key(ctx, c->cert, c->key, c->issuers, 1) == 1)
        return 0;
    return err_permanent(err, "%s: the certificate cannot be used: %s", c->file, reason());
}

struct trust {
    X509_STORE *store;
    size_t count;
};

static int take_trusted(const char *file, X509 *cert, EVP_PKEY *key, void *arg, struct err *err)
{
    struct trust *t = arg;
    int added = 1;

    EVP_PKEY_free(key);
    if (cert != NULL) {
        added = X509_STORE_add_cert(t->store, cert);
        t->count++;
        X509_free(cert);
    }
    return added == 1 ? 0
                      : err_input(err, "%s: a certificate cannot be trusted: %s", file, reason());
}

int tls_trust_file(const char *file, X509_STORE *store, struct err *err)
{
    struct trust t = {store, 0};

    if (each_object(file, take_trusted, &t, err) == -1)
        return -1;
    return t.count > 0 ? 0 : err_input(err, "%s: no certificate in PEM form is in it", file);
}
