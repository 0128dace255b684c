/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_certificate.h - certificates and keys from PEM files, checked when they are loaded: what loads can be shown to a peer.
 *
 * A certificate is loaded once for a configuration generation, by the process's start (which may be root, as keys are its
 * alone), and is read-only afterwards: threads share it. Files are read whole, so a renewed one is never seen half.
 */
#ifndef PR_TLS_CERTIFICATE_H
#define PR_TLS_CERTIFICATE_H

#include <openssl/ssl.h>

#include "base/err.h"
#include "base/vec.h"

struct tls_certificate;

/*
 * cert_file  the certificate, then those of its issuers, each certifying the one before (the root may be left out)
 * key_file   its private key, without passphrase; may be the same file. NULL: none is loaded, for looking at the rest
 *
 * -1 when a file cannot be read (temporary), is not PEM, or lacks what it must hold, or when the key is not the certificate's.
 * That it has expired is no error: see tls_certificate_valid_from().
 */
NODISCARD int tls_certificate_load(const char *cert_file, const char *key_file,
                                   struct tls_certificate **out, struct err *err);
/*
 * From files (separated by commas or white space) in the form of smtpd_tls_chain_files: read one after the other, they hold
 * for each certificate its key, then the certificate, then its issuers. Appends struct tls_certificate * to out; nothing on
 * failure.
 */
NODISCARD int tls_certificate_load_chains(const char *files, struct vec *out, struct err *err);
void tls_certificate_free(struct tls_certificate **c);

/* The file that the certificate came from. */
const char *tls_certificate_file(const struct tls_certificate *c);
/* Seconds since 1970 between which it is valid. */
int64_t tls_certificate_valid_from(const struct tls_certificate *c);
int64_t tls_certificate_valid_until(const struct tls_certificate *c);

/* What a server, or a client that is asked, shows. Certificates of different key types stand beside each other. */
NODISCARD int tls_certificate_use(const struct tls_certificate *c, SSL_CTX *ctx, struct err *err);

/* Adds the certificates of a file (smtp_tls_CAfile) to those that are trusted. A file without any is an error. */
NODISCARD int tls_trust_file(const char *file, X509_STORE *store, struct err *err);

#endif
