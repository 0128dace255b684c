/* SPDX-License-Identifier: Apache-2.0 */
/* map_ldap.c - ldap:FILE, searches in an LDAP directory. Source: ldap_table(5). Connecting is ldap_connection.c's, what entries mean ldap_entries.c's. */
#include "maps/plugins/map_ldap.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/utf8.h"
#include "maps/map_int.h"
#include "maps/map_plugin.h"

static const struct param rows[] = {
    PARAM_STRING("server_host", struct ldap_options, server_host, .def = "localhost",
                 .not_empty = true),
    PARAM_INT("server_port", struct ldap_options, server_port, .def = "389", .min = 1,
              .max = 65535),
    PARAM_INT("version", struct ldap_options, version, .def = "3", .min = 2, .max = 3),
    PARAM_INT("timeout", struct ldap_options, timeout, .def = "10", .min = 1, .max = 3600),
    PARAM_STRING("search_base", struct ldap_options, search_base, .def = ""),
    PARAM_STRING("query_filter", struct ldap_options, query_filter,
                 .def = "mailacceptinggeneralid=%s", .not_empty = true),
    PARAM_STRING("result_format", struct ldap_options, result_format, .def = NULL),
    PARAM_STRING("result_filter", struct ldap_options, result_filter, .def = "%s",
                 .not_empty = true),
    PARAM_STRING("domain", struct ldap_options, domain, .def = ""),
    PARAM_STRING("result_attribute", struct ldap_options, result_attribute, .def = "maildrop"),
    PARAM_STRING("special_result_attribute", struct ldap_options, special_attribute, .def = ""),
    PARAM_STRING("leaf_result_attribute", struct ldap_options, leaf_attribute, .def = ""),
    PARAM_STRING("terminal_result_attribute", struct ldap_options, terminal_attribute, .def = ""),
    PARAM_STRING("scope", struct ldap_options, scope, .def = "sub"),
    PARAM_STRING("bind", struct ldap_options, bind, .def = "yes"),
    PARAM_STRING("bind_dn", struct ldap_options, bind_dn, .def = ""),
    PARAM_STRING("bind_pw", struct ldap_options, bind_pw, .def = ""),
    PARAM_STRING("sasl_mechs", struct ldap_options, sasl_mechs, .def = ""),
    PARAM_STRING("sasl_realm", struct ldap_options, sasl_realm, .def = ""),
    PARAM_STRING("sasl_authz_id", struct ldap_options, sasl_authz_id, .def = ""),
    PARAM_INT("sasl_minssf", struct ldap_options, sasl_minssf, .def = "0", .max = 4096),
    PARAM_STRING("cache", struct ldap_options, cache, .def = NULL),
    PARAM_STRING("cache_expiry", struct ldap_options, cache_expiry, .def = NULL),
    PARAM_STRING("cache_size", struct ldap_options, cache_size, .def = NULL),
    PARAM_INT("recursion_limit", struct ldap_options, recursion_limit, .def = "1000", .min = 1),
    PARAM_INT("expansion_limit", struct ldap_options, expansion_limit, .def = "0",
              .min = INT32_MIN),
    PARAM_INT("size_limit", struct ldap_options, size_limit, .def = "-1", .min = -1),
    PARAM_INT("dereference", struct ldap_options, dereference, .def = "0", .min = INT32_MIN),
    PARAM_STRING("chase_referrals", struct ldap_options, chase_referrals, .def = "0"),
    PARAM_INT("debuglevel", struct ldap_options, debuglevel, .def = "0", .min = -1),
    PARAM_BOOL("start_tls", struct ldap_options, start_tls, .def = "no"),
    PARAM_STRING("tls_ca_cert_dir", struct ldap_options, tls_ca_cert_dir, .def = ""),
    PARAM_STRING("tls_ca_cert_file", struct ldap_options, tls_ca_cert_file, .def = ""),
    PARAM_STRING("tls_cert", struct ldap_options, tls_cert, .def = ""),
    PARAM_STRING("tls_key", struct ldap_options, tls_key, .def = ""),
    PARAM_BOOL("tls_require_cert", struct ldap_options, tls_require_cert, .def = "no"),
    PARAM_STRING("tls_random_file", struct ldap_options, tls_random_file, .def = ""),
    PARAM_STRING("tls_cipher_suite", struct ldap_options, tls_cipher_suite, .def = ""),
};

/* --- quoting -------------------------------------------------------------------------------------- */

/* RFC 4515, section 3. */
static void quote_filter(struct slice part, struct buf *out, void *arg)
{
    (void) arg;
    for (size_t i = 0; i < part.len; i++) {
        unsigned char c = (unsigned char) part.ptr[i];

        if (c == '*' || c == '(' || c == ')' || c == '\\' || c == '\0')
            buf_printf(out, "\\%02x", c);
        else
            buf_putc(out, part.ptr[i]);
    }
}

/* RFC 4514, section 2.4; as hex wherever a character could be taken for more. */
static void quote_dn(struct slice part, struct buf *out, void *arg)
{
    (void) arg;
    for (size_t i = 0; i < part.len; i++) {
        unsigned char c = (unsigned char) part.ptr[i];
        bool at_edge = i == 0 || i + 1 == part.len;

        if (c < ' ' || c == 0x7f || strchr("\"+,;<=>\\", c) != NULL ||
            (at_edge && (c == ' ' || c == '#')))
            buf_printf(out, "\\%02X", c);
        else
            buf_putc(out, part.ptr[i]);
    }
}

/* --- lookup --------------------------------------------------------------------------------------- */

static enum map_result ldap_table_lookup(void *impl, struct slice key, struct buf *value,
                                         struct err *err)
{
    struct ldap_table *t = impl;
    struct ldap_lookup l = {.table = t, .err = err};
    struct buf base = BUF_INIT(MAP_VALUE_MAX);
    struct buf filter = BUF_INIT(MAP_VALUE_MAX);
    enum map_result res = map_domains_ask(t->domains, key, err);

    /* values are UTF-8 in a directory */
    if (res == MAP_FOUND &&
        (key.len == 0 || !utf8_is_valid(key) || !map_query_key_fits(t->result, key) ||
         !map_query_for_key(t->base, key, quote_dn, NULL, &base) ||
         !map_query_for_key(t->filter, key, quote_filter, NULL, &filter) || !buf_ok(&base) ||
         !buf_ok(&filter)))
        res = MAP_NOTFOUND;
    if (res == MAP_FOUND) {
        l.base = buf_cstr(&base);
        l.filter = buf_cstr(&filter);
        map_results_begin(&l.results, t->result, t->o.expansion_limit, key);
        if (map_servers_ask(t->served.servers, ldap_entries_ask, &l, err) == -1)
            l.result = MAP_RETRY;
        res = map_results_end(&l.results, l.result, value);
    }
    buf_fini(&base);
    buf_fini(&filter);
    return res;
}

/* --- the options ---------------------------------------------------------------------------------- */

static int choose(const char *name, const char *value, const char *const *words, size_t n, int *out,
                  struct err *err)
{
    for (size_t i = 0; i < n; i++)
        if (slice_caseeq_str(slice_str(value), words[i])) {
            *out = (int) i;
            return 0;
        }
    return err_input(err, "%s: \"%s\" is not one of its values", name, value);
}

static int take_words(struct ldap_table *t, struct err *err)
{
    static const char *const binds[] = {"no", "none", "yes", "simple", "sasl"};
    static const char *const scopes[] = {"base", "one", "sub"};
    static const char *const flags[] = {"0", "no", "1", "yes"};
    static const int scope_of[] = {LDAP_SCOPE_BASE, LDAP_SCOPE_ONELEVEL, LDAP_SCOPE_SUBTREE};
    int n = 0;

    if (choose("bind", t->o.bind, binds, ARRAY_LEN(binds), &n, err) == -1)
        return -1;
    t->bind = n < 2 ? LDAP_BIND_NONE : n < 4 ? LDAP_BIND_SIMPLE : LDAP_BIND_SASL;
    /* for these two Postfix goes on with the default */
    n = 2;
    if (choose("scope", t->o.scope, scopes, ARRAY_LEN(scopes), &n, err) == -1)
        log_warning("%s: %s; sub is used", t->served.name, err->text);
    t->scope = scope_of[n];
    if (t->o.dereference < 0 || t->o.dereference > 3) {
        log_warning("%s: dereference: %lld is not one of its values; 0 is used", t->served.name,
                    (long long) t->o.dereference);
        t->o.dereference = 0;
    }
    if (choose("chase_referrals", t->o.chase_referrals, flags, ARRAY_LEN(flags), &n, err) == -1)
        return -1;
    t->chase_referrals = n >= 2;
    if (t->o.version < 3 && (t->bind == LDAP_BIND_SASL || t->o.start_tls || t->chase_referrals))
        return err_input(err, "bind = sasl, start_tls and chase_referrals need version = 3");
    if (t->o.size_limit == -1)
        t->o.size_limit = t->o.expansion_limit > 0 ? t->o.expansion_limit : 0;
    return 0;
}

static int take_template(const char *name, const char *text, struct map_query **out,
                         struct err *err)
{
    return map_query_new(text, out, err) == -1 ? err_prefix(err, "%s: ", name) : 0;
}

/* "host", "host:port", or a URL; the library takes URLs. */
static char *url_of(struct slice word, int64_t port)
{
    struct buf url = BUF_INIT(SIZE_MAX);
    bool has_port =
        word.ptr[0] == '[' ? !slice_ends_with(word, SLICE_LIT("]")) : slice_find(word, ':') != -1;

    for (size_t i = 0; i + 2 < word.len; i++)
        if (memcmp(word.ptr + i, "://", 3) == 0)
            return slice_dup(word);
    buf_printf(&url, "ldap://%.*s", SLICE_FMT(word));
    if (!has_port)
        buf_printf(&url, ":%lld", (long long) port);
    return buf_take(&url);
}

static int list_servers(const struct ldap_options *o, struct vec *out, struct err *err)
{
    struct slice rest = slice_str(o->server_host);
    struct slice word;

    while (slice_token(&rest, ", \t\r\n", &word)) {
        char *url = url_of(word, o->server_port);

        vec_push(out, url);
        if (!ldap_is_ldap_url(url))
            return err_input(err, "server_host: \"%s\" is not an LDAP URL", url);
        if (slice_case_starts_with(slice_str(url), SLICE_LIT("ldaps://")) && o->start_tls)
            return err_input(err, "start_tls cannot be used with %s", url);
    }
    return out->len > 0 ? 0 : err_input(err, "server_host: no server");
}

static void warn_obsolete(const struct ldap_table *t)
{
    const char *const cache[] = {t->o.cache, t->o.cache_expiry, t->o.cache_size};

    for (size_t i = 0; i < ARRAY_LEN(cache); i++)
        if (cache[i] != NULL) {
            log_warning("%s: cache, cache_expiry and cache_size have no effect: the library has no "
                        "cache any more",
                        t->served.name);
            return;
        }
    if (t->o.tls_random_file[0] != '\0')
        log_warning("%s: tls_random_file has no effect: the library finds random bytes by itself",
                    t->served.name);
}

/* --- the type ------------------------------------------------------------------------------------- */

static void ldap_table_close(void *impl)
{
    struct ldap_table *t = impl;

    map_served_disconnect(&t->served);
    ldap_attributes_fini(t);
    map_query_free(&t->base);
    map_query_free(&t->filter);
    map_query_free(&t->result);
    map_domains_free(&t->domains);
    map_served_close(&t->served);
    free(t);
}

static int configure(void *table, struct map_env *env, struct map_servers_config *c,
                     struct vec *servers, struct err *err)
{
    struct ldap_table *t = table;
    const char *format = t->o.result_format != NULL ? t->o.result_format : t->o.result_filter;

    if (take_words(t, err) == -1 || list_servers(&t->o, servers, err) == -1 ||
        take_template("search_base", t->o.search_base, &t->base, err) == -1 ||
        take_template("query_filter", t->o.query_filter, &t->filter, err) == -1 ||
        take_template("result_format", format, &t->result, err) == -1)
        return -1;
    ldap_attributes_init(t);
    t->domains = map_domains_new(env, t->o.domain);
    c->query_timeout_ms = t->o.timeout * 1000;
    warn_obsolete(t);
    return 0;
}

static int ldap_table_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    static const struct map_servers_ops ops = {ldap_connection_open, ldap_connection_close};
    static const struct map_served_type type = {"ldap", rows, ARRAY_LEN(rows), &ops, configure};
    struct ldap_table *t = xcalloc(1, sizeof(*t));

    if (map_served_open(&type, path, env, &t->served, &t->o, err) == -1) {
        ldap_table_close(t);
        return -1;
    }
    *impl = t;
    return 0;
}

static const struct map_type map_type_ldap = {.name = "ldap",
                                              .flags = MAP_FLAG_FIXED,
                                              .open = ldap_table_open,
                                              .close = ldap_table_close,
                                              .lookup = ldap_table_lookup,
                                              .is_stale = map_served_is_stale};

MAP_PLUGIN(map_type_ldap);
