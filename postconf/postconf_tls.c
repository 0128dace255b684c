/* SPDX-License-Identifier: Apache-2.0 */
/* postconf_tls.c - postconf -T: which OpenSSL this is, and what it can do. */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/opensslv.h>
#include <stdio.h>

#include "base/log.h"
#include "postconf/postconf_int.h"

static int compile_version(void)
{
    puts(OPENSSL_VERSION_TEXT);
    return 0;
}

static int run_version(void)
{
    puts(OpenSSL_version(OPENSSL_VERSION));
    return 0;
}

/* Those that a server's certificate may have: Postfix's names, and what the library calls them. */
static int public_key_algorithms(void)
{
    static const struct {
        const char *name, *in_library;
    } algorithms[] = {{"dsa", "DSA"}, {"ecdsa", "EC"}, {"rsa", "RSA"}};

    for (size_t i = 0; i < ARRAY_LEN(algorithms); i++) {
        EVP_KEYMGMT *method = EVP_KEYMGMT_fetch(NULL, algorithms[i].in_library, NULL);

        if (method != NULL)
            puts(algorithms[i].name);
        EVP_KEYMGMT_free(method);
    }
    return 0;
}

int postconf_tls(const char *mode)
{
    static const struct {
        const char *name;
        int (*print)(void);
    } modes[] = {
        {"compile-version", compile_version},
        {"run-version", run_version},
        {"public-key-algorithms", public_key_algorithms},
    };

    for (size_t i = 0; i < ARRAY_LEN(modes); i++)
        if (slice_eq_str(slice_str(mode), modes[i].name))
            return modes[i].print();
    log_warning("unknown 'postconf -T' mode: %s", mode);
    return 1;
}
