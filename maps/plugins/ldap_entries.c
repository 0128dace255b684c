/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ldap_entries.c - from the entries of a search to results, through the entries that they refer to. Source: ldap_table(5).
 *
 * An entry with a terminal attribute gives that alone. Else its special attributes name further entries, by DN or URL; its leaf
 * attributes count only if it has no special ones; its result attributes always. Results keep the order of entries and
 * attributes, what a reference gives stands in its place. References nest as deep as recursion_limit says, so the searches
 * under way are a list, and not calls within calls.
 */
#include "maps/plugins/map_ldap.h"

#include <stdlib.h>

/* What an entry gives: a value, or the name of other entries. */
struct item {
    bool is_reference;
    char *text; /* NUL-terminated */
    size_t len;
};

/* The items of one search that are still to be taken. */
struct found {
    struct vec items;
    size_t at;
};

struct search {
    const char *base, *filter;
    int scope;
    bool must_exist; /* the base is the same for all keys: without it nothing would ever be found */
    char **attributes; /* ends with NULL */
};

/* --- attributes ----------------------------------------------------------------------------------- */

static size_t find_attribute(const struct vec *attributes, struct slice name)
{
    size_t i = 0;

    while (i < attributes->len && attributes->items[i] != NULL &&
           !slice_caseeq_str(name, attributes->items[i]))
        i++;
    return i;
}

/* The last role counts: an attribute that is listed as result, too, is harmless. */
static void add_attributes(struct ldap_table *t, const char *names, enum ldap_role role)
{
    struct slice rest = slice_str(names);
    struct slice name;

    while (slice_token(&rest, ", \t\r\n", &name)) {
        size_t i = find_attribute(&t->attributes, name);

        if (i == t->attributes.len) {
            vec_push(&t->attributes, slice_dup(name));
            vec_push(&t->roles, NULL);
        }
        t->roles.items[i] = (void *) (uintptr_t) role;
    }
}

void ldap_attributes_init(struct ldap_table *t)
{
    add_attributes(t, t->o.result_attribute, LDAP_ROLE_RESULT);
    add_attributes(t, t->o.special_attribute, LDAP_ROLE_SPECIAL);
    add_attributes(t, t->o.leaf_attribute, LDAP_ROLE_LEAF);
    add_attributes(t, t->o.terminal_attribute, LDAP_ROLE_TERMINAL);
    if (t->attributes.len == 0) /* no list at all would mean all attributes */
        add_attributes(t, LDAP_NO_ATTRS, LDAP_ROLE_RESULT);
    vec_push(&t->attributes, NULL);
}

void ldap_attributes_fini(struct ldap_table *t)
{
    for (size_t i = 0; i < t->attributes.len; i++)
        free(t->attributes.items[i]);
    vec_fini(&t->attributes);
    vec_fini(&t->roles);
}

/* Is a the attribute b with options, "b;option"? */
static bool is_subtype(const char *a, const char *b)
{
    size_t len = strlen(b);

    return slice_case_starts_with(slice_str(a), slice_str(b)) && a[len] == ';';
}

/* False: an attribute that was not asked for. */
static bool role_of(const struct ldap_table *t, const char *name, enum ldap_role *role)
{
    for (size_t i = 0; t->attributes.items[i] != NULL; i++) {
        const char *known = t->attributes.items[i];

        if (slice_caseeq_str(slice_str(name), known) || is_subtype(name, known)) {
            *role = (enum ldap_role)(uintptr_t) t->roles.items[i];
            return true;
        }
    }
    return false;
}

/* Those that both the URL and the table name, with options if either has them; borrowed. */
static void common_attributes(const struct ldap_table *t, char **of_url, struct vec *out)
{
    for (size_t i = 0; t->attributes.items[i] != NULL; i++) {
        char *ours = t->attributes.items[i];

        if (of_url == NULL)
            vec_push(out, ours);
        for (char **u = of_url; u != NULL && *u != NULL; u++) {
            if (slice_caseeq_str(slice_str(*u), ours) || is_subtype(ours, *u))
                vec_push(out, ours);
            else if (is_subtype(*u, ours))
                vec_push(out, *u);
        }
    }
    vec_push(out, NULL);
}

/* --- entries -------------------------------------------------------------------------------------- */

static void item_free(void *p)
{
    struct item *i = p;

    free(i->text);
    free(i);
}

static void found_free(void *p)
{
    struct found *f = p;

    vec_clear(&f->items, item_free);
    vec_fini(&f->items);
    free(f);
}

static void take_values(LDAP *ld, LDAPMessage *entry, const char *name, bool is_reference,
                        struct found *out)
{
    struct berval **values = ldap_get_values_len(ld, entry, name);

    for (struct berval **v = values; v != NULL && *v != NULL; v++) {
        struct item *i = xcalloc(1, sizeof(*i));

        i->is_reference = is_reference;
        i->len = (*v)->bv_len;
        i->text = xstrndup((*v)->bv_val, (*v)->bv_len);
        vec_push(&out->items, i);
    }
    ldap_value_free_len(values);
}

/* Calls fn with each attribute that the table knows. */
static void each_attribute(LDAP *ld, LDAPMessage *entry, const struct ldap_table *t,
                           void (*fn)(const char *name, enum ldap_role role, void *arg), void *arg)
{
    BerElement *place = NULL;
    char *name;
    enum ldap_role role;

    for (name = ldap_first_attribute(ld, entry, &place); name != NULL;
         name = ldap_next_attribute(ld, entry, place)) {
        if (role_of(t, name, &role))
            fn(name, role, arg);
        ldap_memfree(name);
    }
    if (place != NULL)
        ber_free(place, 0);
}

struct reading {
    LDAP *ld;
    LDAPMessage *entry;
    struct found *out;
    bool has[LDAP_ROLE_TERMINAL + 1];
};

static void note_role(const char *name, enum ldap_role role, void *arg)
{
    (void) name;
    ((struct reading *) arg)->has[role] = true;
}

static void read_attribute(const char *name, enum ldap_role role, void *arg)
{
    struct reading *r = arg;

    if (r->has[LDAP_ROLE_TERMINAL] && role != LDAP_ROLE_TERMINAL)
        return;
    if (role == LDAP_ROLE_LEAF && r->has[LDAP_ROLE_SPECIAL])
        return;
    take_values(r->ld, r->entry, name, role == LDAP_ROLE_SPECIAL, r->out);
}

static void read_entries(LDAP *ld, LDAPMessage *reply, const struct ldap_table *t,
                         struct found *out)
{
    for (LDAPMessage *e = ldap_first_entry(ld, reply); e != NULL; e = ldap_next_entry(ld, e)) {
        struct reading r = {.ld = ld, .entry = e, .out = out};

        each_attribute(ld, e, t, note_role, &r);
        each_attribute(ld, e, t, read_attribute, &r);
    }
}

/* --- searches ------------------------------------------------------------------------------------- */

static enum map_servers_answer broken(const char *why, struct err *err)
{
    (void) err_temporary(err, "search: %s", why);
    return MAP_SERVERS_BROKEN;
}

/* What a search that did not work says about the server and the lookup. */
static enum map_servers_answer trouble(int code, struct ldap_lookup *l, struct err *err)
{
    switch (code) {
    case LDAP_SERVER_DOWN:
    case LDAP_LOCAL_ERROR:
    case LDAP_DECODING_ERROR:
    case LDAP_ENCODING_ERROR:
    case LDAP_TIMEOUT:
    case LDAP_CONNECT_ERROR:
    case LDAP_BUSY:
    case LDAP_UNAVAILABLE:
    case LDAP_OPERATIONS_ERROR:
        return broken(ldap_err2string(code), err);
    default:
        l->result = MAP_RETRY;
        (void) err_temporary(l->err, "search failed: %s", ldap_err2string(code));
        return MAP_SERVERS_DONE;
    }
}

/* *out: NULL unless the search worked. What does not exist gives nothing. */
static enum map_servers_answer run(LDAP *ld, const struct search *s, struct mono_time deadline,
                                   struct ldap_lookup *l, struct found **out, struct err *err)
{
    struct timeval left = ldap_connection_time_left(deadline);
    LDAPMessage *reply = NULL;
    int id;
    int parsed;
    int code = ldap_search_ext(ld, s->base, s->scope, s->filter, s->attributes, 0, NULL, NULL,
                               &left, (int) l->table->o.size_limit, &id);

    *out = NULL;
    if (code != LDAP_SUCCESS)
        return trouble(code, l, err);
    switch (ldap_result(ld, id, LDAP_MSG_ALL, &left, &reply)) {
    case 0:
        (void) ldap_abandon_ext(ld, id, NULL, NULL);
        return broken("no answer within the time limit", err);
    case -1:
        (void) ldap_get_option(ld, LDAP_OPT_RESULT_CODE, &code);
        return broken(ldap_err2string(code), err);
    default:
        break;
    }
    parsed = ldap_parse_result(ld, reply, &code, NULL, NULL, NULL, NULL, 0);
    if (parsed != LDAP_SUCCESS)
        code = parsed;
    if (code == LDAP_SUCCESS || (code == LDAP_NO_SUCH_OBJECT && !s->must_exist)) {
        *out = xcalloc(1, sizeof(**out));
        read_entries(ld, reply, l->table, *out);
    }
    (void) ldap_msgfree(reply);
    return *out != NULL ? MAP_SERVERS_DONE : trouble(code, l, err);
}

/* The entries that a DN or URL names. */
static enum map_servers_answer follow(LDAP *ld, const char *reference, struct mono_time deadline,
                                      struct ldap_lookup *l, struct found **out, struct err *err)
{
    struct search s = {.base = reference,
                       .filter = "(objectClass=*)",
                       .scope = LDAP_SCOPE_BASE,
                       .attributes = (char **) l->table->attributes.items};
    struct vec common = VEC_INIT;
    LDAPURLDesc *url = NULL;
    enum map_servers_answer answer = MAP_SERVERS_DONE;

    *out = NULL;
    if (ldap_is_ldap_url(reference)) {
        if (ldap_url_parse(reference, &url) != LDAP_URL_SUCCESS) {
            l->result = MAP_RETRY;
            (void) err_temporary(l->err, "malformed LDAP URL \"%s\"", reference);
            return MAP_SERVERS_DONE;
        }
        s.base = url->lud_dn;
        if (url->lud_scope != LDAP_SCOPE_DEFAULT)
            s.scope = url->lud_scope;
        if (url->lud_filter != NULL)
            s.filter = url->lud_filter;
        common_attributes(l->table, url->lud_attrs, &common);
        s.attributes = (char **) common.items;
    }
    if (s.attributes[0] != NULL)
        answer = run(ld, &s, deadline, l, out, err);
    else
        *out = xcalloc(1, sizeof(**out));
    ldap_free_urldesc(url);
    vec_fini(&common);
    return answer;
}

/* Takes the next item of the innermost search. *stack: searches under way. */
static enum map_servers_answer step(LDAP *ld, struct vec *stack, struct mono_time deadline,
                                    struct ldap_lookup *l, struct err *err)
{
    struct found *top = stack->items[stack->len - 1];
    const struct item *item;
    struct found *inner;
    enum map_servers_answer answer;

    if (top->at == top->items.len) {
        found_free(vec_pop(stack));
        return MAP_SERVERS_DONE;
    }
    item = top->items.items[top->at++];
    if (!item->is_reference) {
        if (map_results_add(&l->results, slice_of(item->text, item->len), l->err) == -1)
            l->result = MAP_RETRY;
        return MAP_SERVERS_DONE;
    }
    if ((int64_t) stack->len >= l->table->o.recursion_limit) {
        l->result = MAP_RETRY;
        (void) err_temporary(l->err, "references nest deeper than recursion_limit, %lld, allows",
                             (long long) l->table->o.recursion_limit);
        return MAP_SERVERS_DONE;
    }
    answer = follow(ld, item->text, deadline, l, &inner, err);
    if (inner != NULL)
        vec_push(stack, inner);
    return answer;
}

enum map_servers_answer ldap_entries_ask(void *conn, struct mono_time deadline, void *arg,
                                         struct err *err)
{
    struct ldap_lookup *l = arg;
    struct search s = {.base = l->base,
                       .filter = l->filter,
                       .scope = l->table->scope,
                       .must_exist = strchr(l->table->o.search_base, '%') == NULL,
                       .attributes = (char **) l->table->attributes.items};
    struct vec stack = VEC_INIT;
    struct found *first;
    enum map_servers_answer answer;

    map_results_reset(&l->results);
    l->result = MAP_FOUND;
    answer = run(conn, &s, deadline, l, &first, err);
    if (first != NULL)
        vec_push(&stack, first);
    while (answer == MAP_SERVERS_DONE && l->result == MAP_FOUND && stack.len > 0)
        answer = step(conn, &stack, deadline, l, err);
    vec_clear(&stack, found_free);
    vec_fini(&stack);
    return answer;
}
