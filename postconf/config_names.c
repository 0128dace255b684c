/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_names.c - which names are parameters, beyond those with a row: what something refers to, what a service in
 * master.cf brings with it, and the settings of databases that are configured in main.cf itself.
 */
#include <stdlib.h>
#include <string.h>

#include "postconf/config_int.h"

struct config_names {
    const struct config *cfg;
    struct htable *referenced;
    struct htable *services;  /* service-defined names */
    struct htable *undefined; /* seen already; so that each is reported once for each file */
    struct vec missing;       /* struct undefined * */
    struct vec sources;       /* struct source *: databases that a file describes */
    bool in_master_cf;        /* what is being scanned */
    int line;
    char **overrides; /* of the service that is being scanned, or NULL */
    bool is_lenient;  /* of a default, or a text with names of its own: none of them is missing */
};

struct undefined {
    char *name;
    bool in_master_cf;
    int line;
};

struct source {
    char *spec; /* "ldap:/etc/postfix/users.cf" */
    const char *names;
};

static char present[] = "";

/* Per type, the names that SOURCE_name may have in main.cf: ldap_table(5), mysql_table(5) ... */
static const char mysql_names[] =
    "hosts user password dbname query domain result_format expansion_limit table select_field where_field "
    "additional_conditions option_file option_group require_result_set tls_cert_file tls_key_file tls_CAfile "
    "tls_CApath tls_ciphers tls_verify_cert charset";
static const char pgsql_names[] =
    "hosts user password dbname query domain result_format expansion_limit table select_field where_field "
    "additional_conditions select_function encoding";
static const char sqlite_names[] =
    "dbpath query domain result_format expansion_limit table select_field where_field "
    "additional_conditions";
static const char ldap_names[] =
    "server_host server_port timeout search_base search_timeout query_filter domain result_filter result_format "
    "result_attribute special_result_attribute terminal_result_attribute leaf_result_attribute scope bind bind_dn bind_pw "
    "cache cache_expiry cache_size dereference chase_referrals expansion_limit size_limit recursion_limit version "
    "debuglevel start_tls tls_ca_cert_file tls_ca_cert_dir tls_cert tls_key tls_require_cert tls_random_file "
    "tls_cipher_suite sasl_mechs sasl_realm sasl_authz_id sasl_minssf";
static const char memcache_names[] =
    "memcache backup flags key_format domain ttl max_try retry_pause timeout data_size_limit "
    "line_size_limit";
static const char redis_names[] =
    "hosts db username password password_file command result_format expansion_limit domain timeout";
static const struct {
    const char *type;
    const char *names;
} databases[] = {
    {"ldap", ldap_names},     {"mysql", mysql_names},       {"pgsql", pgsql_names},
    {"sqlite", sqlite_names}, {"memcache", memcache_names}, {"redis", redis_names},
};

/* True if the service that is being scanned sets the name itself. */
static bool is_overridden(const struct config_names *n, const char *name)
{
    for (char **o = n->overrides; o != NULL && *o != NULL; o++)
        if (strncmp(*o, name, strlen(name)) == 0 && (*o)[strlen(name)] == '=')
            return true;
    return false;
}

static void note_reference(struct slice name, void *arg)
{
    struct config_names *n = arg;
    struct buf key = BUF_INIT(SIZE_MAX);
    struct undefined *u;
    char *copy = slice_dup(name);

    htable_put(n->referenced, name, present);
    if (!n->is_lenient && !config_is_set(n->cfg, copy) && param_find(copy) == NULL &&
        !is_overridden(n, copy)) {
        buf_printf(&key, "%d %s", n->in_master_cf, copy);
        if (htable_put(n->undefined, buf_view(&key), present) == NULL) {
            u = xcalloc(1, sizeof(*u));
            u->name = xstrdup(copy);
            u->in_master_cf = n->in_master_cf;
            u->line = n->line;
            vec_push(&n->missing, u);
        }
    }
    free(copy);
    buf_fini(&key);
}

static void note_source(struct config_names *n, struct slice spec, const char *known)
{
    struct source *s;

    for (size_t i = 0; i < n->sources.len; i++)
        if (slice_eq_str(spec, ((const struct source *) n->sources.items[i])->spec))
            return;
    s = xcalloc(1, sizeof(*s));
    s->spec = slice_dup(spec);
    s->names = known;
    vec_push(&n->sources, s);
}

/* "ldap:NAME": the settings are in the file NAME, or, if it is no path, they are NAME_xxx in main.cf. */
static void note_database(struct config_names *n, struct slice word)
{
    struct buf name = BUF_INIT(SIZE_MAX);
    struct slice source;
    struct slice names;
    struct slice one;
    size_t i = 0;

    if (slice_starts_with(word, SLICE_LIT("proxy:")))
        word = slice_sub(word, 6, word.len);
    while (i < ARRAY_LEN(databases) &&
           !(slice_starts_with(word, slice_str(databases[i].type)) &&
             slice_find(word, ':') == (ptrdiff_t) strlen(databases[i].type)))
        i++;
    if (i == ARRAY_LEN(databases))
        return;
    source = slice_sub(word, strlen(databases[i].type) + 1, word.len);
    if (source.len == 0)
        return;
    if (source.ptr[0] == '/' || source.ptr[0] == '.') {
        note_source(n, word, databases[i].names);
        return;
    }
    names = slice_str(databases[i].names);
    while (slice_token(&names, " ", &one)) {
        buf_reset(&name);
        buf_printf(&name, "%.*s_%.*s", SLICE_FMT(source), SLICE_FMT(one));
        htable_put(n->referenced, buf_view(&name), present);
    }
    buf_fini(&name);
}

static void scan(struct config_names *n, const char *name, const char *value)
{
    struct slice rest = slice_str(value);
    bool classes = strcmp(name, "smtpd_restriction_classes") == 0;
    const struct param *row = param_find(name);
    bool was_lenient = n->is_lenient;
    struct slice word;

    n->is_lenient |= row != NULL && row->type == PARAM_TYPE_RAW;
    config_each_reference(value, note_reference, n);
    n->is_lenient = was_lenient;
    while (slice_token(&rest, ", \t\r\n{}", &word)) {
        note_database(n, word);
        if (classes && word.ptr[0] != '$') {
            n->line = 0;
            note_reference(word, n);
        }
    }
}

static void scan_default(const struct param *p, void *arg)
{
    struct config_names *n = arg;

    n->is_lenient = true;
    if (p->def != NULL)
        scan(n, p->name, p->def);
    n->is_lenient = false;
}

struct service_of {
    struct config_names *names;
    const struct master_service *service;
    bool delivers, has_time_limit;
};

static void add_family(const struct param *p, void *arg)
{
    const struct service_of *s = arg;
    struct buf name = BUF_INIT(SIZE_MAX);

    if (p->name[0] != '*' ||
        !(strcmp(p->name, "*_time_limit") == 0 ? s->has_time_limit : s->delivers))
        return;
    buf_printf(&name, "%s%s", s->service->name, p->name + 1);
    htable_put(s->names->services, buf_view(&name), present);
    buf_fini(&name);
}

static void scan_service(struct config_names *n, const struct master_service *m)
{
    static const char *const agents[] = {"smtp", "lmtp", "local", "virtual", "pipe", "error"};
    struct service_of s = {n, m, false, strcmp(m->command, "spawn") == 0};

    for (size_t i = 0; i < ARRAY_LEN(agents) && m->type == SERVICE_UNIX; i++)
        s.delivers = s.delivers || strcmp(m->command, agents[i]) == 0;
    s.has_time_limit = s.has_time_limit || (s.delivers && strcmp(m->command, "pipe") == 0);
    if (s.delivers || s.has_time_limit)
        param_each(add_family, &s);
    n->in_master_cf = true;
    n->line = m->line;
    n->overrides = m->overrides;
    for (char **o = m->overrides; *o != NULL; o++) {
        struct slice text = slice_str(*o);
        size_t eq = (size_t) slice_find(text, '='); /* the parser saw to it that there is one */
        char *name = slice_dup(slice_sub(text, 0, eq));

        scan(n, name, *o + eq + 1);
        free(name);
    }
    n->overrides = NULL;
    n->in_master_cf = false;
}

struct config_names *config_names_new(const struct config *cfg, const struct master_cf *m)
{
    struct config_names *n = xcalloc(1, sizeof(*n));

    n->cfg = cfg;
    n->referenced = htable_new(false);
    n->services = htable_new(false);
    n->undefined = htable_new(false);
    param_each(scan_default, n);
    for (size_t i = 0; i < cfg->in_order.len; i++) {
        const struct config_entry *e = cfg->in_order.items[i];

        n->line = e->line;
        if (htable_get(cfg->entries, slice_str(e->name)) == e)
            scan(n, e->name, e->value);
    }
    for (size_t i = 0; m != NULL && i < m->services.len; i++)
        scan_service(n, m->services.items[i]);
    return n;
}

static void undefined_free(void *p)
{
    struct undefined *u = p;

    free(u->name);
    free(u);
}

static void source_free(void *p)
{
    struct source *s = p;

    free(s->spec);
    free(s);
}

void config_names_free(struct config_names **names)
{
    struct config_names *n = *names;

    *names = NULL;
    if (n == NULL)
        return;
    htable_free(&n->referenced, NULL);
    htable_free(&n->services, NULL);
    htable_free(&n->undefined, NULL);
    vec_clear(&n->missing, undefined_free);
    vec_fini(&n->missing);
    vec_clear(&n->sources, source_free);
    vec_fini(&n->sources);
    free(n);
}

bool config_names_has(const struct config_names *names, const char *name)
{
    return htable_get(names->referenced, slice_str(name)) != NULL;
}

bool config_names_is_service(const struct config_names *names, const char *name)
{
    return htable_get(names->services, slice_str(name)) != NULL;
}

struct each_service {
    void (*fn)(const char *name, void *arg);
    void *arg;
};

static bool one_service(struct slice key, void *value, void *arg)
{
    const struct each_service *e = arg;
    char *name = slice_dup(key);

    (void) value;
    e->fn(name, e->arg);
    free(name);
    return true;
}

void config_names_each_service(const struct config_names *names,
                               void (*fn)(const char *name, void *arg), void *arg)
{
    struct each_service e = {fn, arg};

    htable_each(names->services, one_service, &e);
}

void config_names_each_undefined(const struct config_names *names,
                                 void (*fn)(const char *name, bool in_master_cf, int line,
                                            void *arg),
                                 void *arg)
{
    for (size_t i = 0; i < names->missing.len; i++) {
        const struct undefined *u = names->missing.items[i];

        fn(u->name, u->in_master_cf, u->line, arg);
    }
}

void config_names_each_source(const struct config_names *names,
                              void (*fn)(const char *spec, const char *known, void *arg), void *arg)
{
    for (size_t i = 0; i < names->sources.len; i++) {
        const struct source *s = names->sources.items[i];

        fn(s->spec, s->names, arg);
    }
}
