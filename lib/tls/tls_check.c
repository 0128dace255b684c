/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_check.c - findings about certificates and keys: missing, unreadable, not PEM, not a pair, expired. An error, as who names
 * a file wants it used; only a warning where TLS is said to be off (..._security_level = none).
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mtime.h"
#include "postconf/findings.h"
#include "tls/tls_certificate.h"

#define PARAMETER_MAX 64

struct side {
    struct findings *f;
    const char *prefix; /* "smtpd_tls_" */
    bool is_off;
};

static const char *value(const struct side *s, const char *suffix, char *name)
{
    const char *text;

    (void) snprintf(name, PARAMETER_MAX, "%s%s", s->prefix, suffix);
    text = config_get(findings_config(s->f), name);
    return text != NULL ? text : "";
}

static void report(const struct side *s, const char *parameter, const struct err *err)
{
    if (s->is_off)
        findings_warn(s->f, parameter, "%s", err->text);
    else
        findings_error(s->f, parameter, "%s", err->text);
}

/* Names are relative to the queue directory, which daemons run in. */
static char *full_path(const struct side *s, const char *file)
{
    struct buf path = BUF_INIT(8192);

    path_join(&path, config_get(findings_config(s->f), "queue_directory"), file);
    return buf_take(&path);
}

static void check_dates(const struct side *s, const char *parameter, const char *file,
                        const struct tls_certificate *c)
{
    int64_t now = wall_seconds(wall_now());
    time_t until = (time_t) tls_certificate_valid_until(c);
    char date[32] = "";
    struct tm tm;

    if (gmtime_r(&until, &tm) != NULL)
        (void) strftime(date, sizeof(date), "%Y-%m-%d", &tm);
    if (until < now)
        findings_warn(s->f, parameter, "%s: the certificate expired on %s: renew it", file, date);
    else if (tls_certificate_valid_from(c) > now)
        findings_warn(s->f, parameter,
                      "%s: the certificate is not valid yet: look at this host's clock", file);
}

static void check_pair(const struct side *s, const char *cert_suffix, const char *key_suffix)
{
    char cert_name[PARAMETER_MAX];
    char key_name[PARAMETER_MAX];
    const char *cert = value(s, cert_suffix, cert_name);
    const char *key = value(s, key_suffix, key_name);
    struct tls_certificate *c = NULL;
    struct err err = ERR_INIT;
    char *cert_path;
    char *key_path;

    /* "none": a server that wants to have no certificate */
    if (cert[0] == '\0' || strcmp(cert, "none") == 0)
        return;
    cert_path = full_path(s, cert);
    key_path = full_path(s, key[0] != '\0' ? key : cert);
    if (tls_certificate_load(cert_path, NULL, &c, &err) == -1) {
        report(s, cert_name, &err);
    } else {
        check_dates(s, cert_name, cert_path, c);
        tls_certificate_free(&c);
        if (tls_certificate_load(cert_path, key_path, &c, &err) == -1)
            report(s, config_is_set(findings_config(s->f), key_name) ? key_name : cert_name, &err);
        tls_certificate_free(&c);
    }
    free(cert_path);
    free(key_path);
}

static void check_chains(const struct side *s, const char *parameter, const char *files)
{
    struct buf paths = BUF_INIT(65536);
    struct vec made = VEC_INIT;
    struct err err = ERR_INIT;
    struct slice rest = slice_str(files);
    struct slice word;

    while (slice_token(&rest, ", \t\r\n", &word)) {
        char *file = slice_dup(word);
        char *path = full_path(s, file);

        buf_puts(&paths, path);
        buf_putc(&paths, ' ');
        free(path);
        free(file);
    }
    if (tls_certificate_load_chains(buf_cstr(&paths), &made, &err) == -1)
        report(s, parameter, &err);
    for (size_t i = 0; i < made.len; i++) {
        struct tls_certificate *c = made.items[i];

        check_dates(s, parameter, tls_certificate_file(c), c);
        tls_certificate_free(&c);
    }
    vec_fini(&made);
    buf_fini(&paths);
}

static void check_trust(const struct side *s)
{
    char name[PARAMETER_MAX];
    const char *file = value(s, "CAfile", name);
    struct err err = ERR_INIT;
    struct stat st;
    char *path;

    if (file[0] != '\0') {
        X509_STORE *store = X509_STORE_new();

        path = full_path(s, file);
        if (store == NULL)
            err_temporary(&err, "out of memory");
        if (store == NULL || tls_trust_file(path, store, &err) == -1)
            report(s, name, &err);
        X509_STORE_free(store);
        free(path);
    }
    file = value(s, "CApath", name);
    if (file[0] != '\0') {
        path = full_path(s, file);
        if (stat(path, &st) == -1)
            err_sys(&err, "%s", path);
        else if (!S_ISDIR(st.st_mode))
            err_input(&err, "%s: not a directory", path);
        if (err.kind != ERR_NONE)
            report(s, name, &err);
        free(path);
    }
}

static void check(struct map_env *env, struct findings *f)
{
    static const char *const prefixes[] = {"smtpd_tls_", "smtp_tls_", "lmtp_tls_"};

    (void) env;
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        struct side s = {f, prefixes[i], false};
        char name[PARAMETER_MAX];
        const char *chains;

        s.is_off = strcmp(value(&s, "security_level", name), "none") == 0;
        chains = value(&s, "chain_files", name);
        if (chains[0] != '\0') { /* the others are not looked at then */
            check_chains(&s, name, chains);
        } else {
            check_pair(&s, "cert_file", "key_file");
            check_pair(&s, "eccert_file", "eckey_file");
            check_pair(&s, "dcert_file", "dkey_file");
        }
        check_trust(&s);
    }
}

struct no_members {
    char unused;
};
static const struct param_set tls_file_params = {"TLS files", sizeof(struct no_members), NULL, 0,
                                                 check};

extern const struct param_set *const tls_param_sets[];

const struct param_set *const tls_param_sets[] = {
    &tls_file_params,
    NULL,
};
