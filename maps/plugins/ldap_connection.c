/* SPDX-License-Identifier: Apache-2.0 */
/* ldap_connection.c - connections to a directory: options, TLS, bind. Source: ldap_table(5), ldap_set_option(3). */
#include "maps/plugins/map_ldap.h"

#include <sasl/sasl.h>

static int failed(const char *what, int code, struct err *err)
{
    return err_temporary(err, "%s: %s", what, ldap_err2string(code));
}

struct timeval ldap_connection_time_left(struct mono_time deadline)
{
    int64_t ms = mono_diff_ms(deadline, mono_now());

    if (ms < 1)
        ms = 1;
    return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
}

static int set(LDAP *ld, int option, const void *value, const char *what, struct err *err)
{
    int code = ldap_set_option(ld, option, value);

    return code == LDAP_OPT_SUCCESS ? 0 : failed(what, code, err);
}

static int set_text(LDAP *ld, int option, const char *value, const char *what, struct err *err)
{
    return value[0] == '\0' ? 0 : set(ld, option, value, what, err);
}

static int set_options(LDAP *ld, const struct ldap_table *t, const struct timeval *left,
                       struct err *err)
{
    int version = (int) t->o.version;
    int dereference = (int) t->o.dereference;
    int debuglevel = (int) t->o.debuglevel;

    if (set(ld, LDAP_OPT_PROTOCOL_VERSION, &version, "version", err) == -1 ||
        set(ld, LDAP_OPT_NETWORK_TIMEOUT, left, "timeout", err) == -1 ||
        set(ld, LDAP_OPT_TIMEOUT, left, "timeout", err) == -1 ||
        set(ld, LDAP_OPT_DEREF, &dereference, "dereference", err) == -1 ||
        set(ld, LDAP_OPT_REFERRALS, t->chase_referrals ? LDAP_OPT_ON : LDAP_OPT_OFF,
            "chase_referrals", err) == -1)
        return -1;
    /* the library has one level for all its connections */
    return debuglevel == 0 ? 0 : set(NULL, LDAP_OPT_DEBUG_LEVEL, &debuglevel, "debuglevel", err);
}

static int set_tls(LDAP *ld, const struct ldap_table *t, struct err *err)
{
    int require = t->o.tls_require_cert ? LDAP_OPT_X_TLS_DEMAND : LDAP_OPT_X_TLS_NEVER;
    int of_client = 0;

    if (set(ld, LDAP_OPT_X_TLS_REQUIRE_CERT, &require, "tls_require_cert", err) == -1 ||
        set_text(ld, LDAP_OPT_X_TLS_CACERTDIR, t->o.tls_ca_cert_dir, "tls_ca_cert_dir", err) ==
            -1 ||
        set_text(ld, LDAP_OPT_X_TLS_CACERTFILE, t->o.tls_ca_cert_file, "tls_ca_cert_file", err) ==
            -1 ||
        set_text(ld, LDAP_OPT_X_TLS_CERTFILE, t->o.tls_cert, "tls_cert", err) == -1 ||
        set_text(ld, LDAP_OPT_X_TLS_KEYFILE, t->o.tls_key, "tls_key", err) == -1 ||
        set_text(ld, LDAP_OPT_X_TLS_CIPHER_SUITE, t->o.tls_cipher_suite, "tls_cipher_suite", err) ==
            -1)
        return -1;
    /* the options take effect in a context of this connection's own */
    return set(ld, LDAP_OPT_X_TLS_NEWCTX, &of_client, "TLS: certificates, keys or ciphers", err);
}

/* What a mechanism asks for. Who binds is said by the mechanism, so that bind_dn is a name to log in with. */
static int answer_sasl(LDAP *ld, unsigned flags, void *arg, void *questions)
{
    const struct ldap_options *o = arg;

    (void) ld;
    (void) flags;
    for (sasl_interact_t *q = questions; q->id != SASL_CB_LIST_END; q++) {
        const char *text = "";

        if (q->id == SASL_CB_GETREALM)
            text = o->sasl_realm;
        else if (q->id == SASL_CB_AUTHNAME)
            text = o->bind_dn;
        else if (q->id == SASL_CB_USER)
            text = o->sasl_authz_id;
        else if (q->id == SASL_CB_PASS)
            text = o->bind_pw;
        q->result = text;
        q->len = (unsigned) strlen(text);
    }
    return LDAP_SUCCESS;
}

static int bind_sasl(LDAP *ld, const struct ldap_table *t, struct err *err)
{
    const struct ldap_options *o = &t->o;
    int code;

    if (o->sasl_minssf > 0) {
        struct buf properties = BUF_INIT(64);

        buf_printf(&properties, "minssf=%lld", (long long) o->sasl_minssf);
        code = ldap_set_option(ld, LDAP_OPT_X_SASL_SECPROPS, buf_cstr(&properties));
        buf_fini(&properties);
        if (code != LDAP_OPT_SUCCESS)
            return failed("sasl_minssf", code, err);
    }
    code = ldap_sasl_interactive_bind_s(ld, NULL, o->sasl_mechs[0] != '\0' ? o->sasl_mechs : NULL,
                                        NULL, NULL, LDAP_SASL_QUIET, answer_sasl,
                                        (void *) (uintptr_t) o);
    return code == LDAP_SUCCESS ? 0 : failed("SASL bind", code, err);
}

static int bind_simple(LDAP *ld, const struct ldap_table *t, struct mono_time deadline,
                       struct err *err)
{
    struct berval password = {.bv_len = strlen(t->o.bind_pw),
                              .bv_val = (char *) (uintptr_t) t->o.bind_pw};
    struct timeval left;
    LDAPMessage *reply = NULL;
    int id;
    int code = ldap_sasl_bind(ld, t->o.bind_dn, LDAP_SASL_SIMPLE, &password, NULL, NULL, &id);
    int parsed;

    if (code != LDAP_SUCCESS)
        return failed("bind", code, err);
    left = ldap_connection_time_left(deadline);
    switch (ldap_result(ld, id, LDAP_MSG_ALL, &left, &reply)) {
    case 0:
        return err_temporary(err, "bind: no answer within the time limit");
    case -1:
        (void) ldap_get_option(ld, LDAP_OPT_RESULT_CODE, &code);
        return failed("bind", code, err);
    default:
        parsed = ldap_parse_result(ld, reply, &code, NULL, NULL, NULL, NULL, 1);
        if (parsed != LDAP_SUCCESS)
            code = parsed;
        return code == LDAP_SUCCESS ? 0 : failed("bind", code, err);
    }
}

static int prepare(LDAP *ld, const struct ldap_table *t, struct mono_time deadline, struct err *err)
{
    struct timeval left = ldap_connection_time_left(deadline);
    int code;

    if (set_options(ld, t, &left, err) == -1 || set_tls(ld, t, err) == -1)
        return -1;
    if (t->o.start_tls) {
        code = ldap_start_tls_s(ld, NULL, NULL);
        if (code != LDAP_SUCCESS)
            return failed("start_tls", code, err);
    }
    if (t->bind == LDAP_BIND_SASL)
        return bind_sasl(ld, t, err);
    return t->bind == LDAP_BIND_SIMPLE ? bind_simple(ld, t, deadline, err) : 0;
}

int ldap_connection_open(const char *url, struct mono_time deadline, void *arg, void **conn,
                         struct err *err)
{
    LDAP *ld = NULL;
    int code = ldap_initialize(&ld, url);

    if (code != LDAP_SUCCESS)
        return failed("connect", code, err);
    if (prepare(ld, arg, deadline, err) == -1) {
        ldap_connection_close(ld);
        return -1;
    }
    *conn = ld;
    return 0;
}

void ldap_connection_close(void *conn)
{
    (void) ldap_unbind_ext_s(conn, NULL, NULL);
}
