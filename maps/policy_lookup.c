/* SPDX-License-Identifier: Apache-2.0 */
/* policy_lookup.c - the keys that a table is asked for an address, a domain, a client. See policy.h. */
#include "maps/policy.h"

#include "mail/address.h"

struct query {
    struct map_list *l;
    struct buf *value;
    struct err *err;
    enum map_result result;
};

/* True when the answer ends the search. */
static bool ask(struct query *q, struct slice key, unsigned only)
{
    if (key.len == 0)
        return false;
    q->result = map_list_lookup(q->l, key, only, q->value, NULL, q->err);
    return q->result != MAP_NOTFOUND;
}

static bool ask_joined(struct query *q, struct slice a, const char *mid, struct slice b)
{
    struct buf key = BUF_INIT(MAP_KEY_MAX);
    bool done;

    buf_put_slice(&key, a);
    buf_puts(&key, mid);
    buf_put_slice(&key, b);
    done = buf_ok(&key) && ask(q, buf_view(&key), MAP_FLAG_FIXED);
    buf_fini(&key);
    return done;
}

static bool ask_parents(struct query *q, struct slice domain, bool plain)
{
    struct slice rest = domain;

    for (;;) {
        ptrdiff_t dot = slice_find(rest, '.');

        if (dot == -1 || (size_t) dot + 1 == rest.len)
            return false;
        /* ".parent", or "parent" where subdomains are meant by it */
        rest = slice_sub(rest, (size_t) dot + (plain ? 1 : 0), rest.len);
        if (ask(q, rest, MAP_FLAG_FIXED))
            return true;
        if (!plain)
            rest = slice_sub(rest, 1, rest.len);
    }
}

enum map_result map_address_lookup(struct map_list *l, struct slice addr, unsigned keys,
                                   const char *delimiters, bool domain_is_local, bool parents_plain,
                                   struct buf *value, struct buf *ext, struct err *err)
{
    struct query q = {l, value, err, MAP_NOTFOUND};
    struct slice local = address_local(addr);
    struct slice domain = address_domain(addr);
    struct slice user;
    struct slice extension;
    bool has_ext = address_split_extension(local, delimiters, &user, &extension);

    if (map_list_is_empty(l) || addr.len == 0)
        return MAP_NOTFOUND;
    if ((keys & MAP_KEY_FULL) != 0 && ask(&q, addr, 0))
        return q.result;
    if ((keys & MAP_KEY_NOEXT) != 0 && has_ext && domain.len > 0 &&
        ask_joined(&q, user, "@", domain))
        goto without_ext;
    if (domain_is_local) {
        if ((keys & MAP_KEY_LOCAL_FULL) != 0 && domain.len > 0 && ask(&q, local, MAP_FLAG_FIXED))
            return q.result;
        if ((keys & MAP_KEY_LOCAL) != 0 && has_ext && ask(&q, user, MAP_FLAG_FIXED))
            goto without_ext;
    }
    if ((keys & MAP_KEY_AT_DOMAIN) != 0 && domain.len > 0 &&
        ask_joined(&q, SLICE_EMPTY, "@", domain))
        return q.result;
    if ((keys & MAP_KEY_DOMAIN) != 0 && domain.len > 0 && ask(&q, domain, MAP_FLAG_FIXED))
        return q.result;
    if ((keys & MAP_KEY_PARENTS) != 0 && domain.len > 0 && ask_parents(&q, domain, parents_plain))
        return q.result;
    if ((keys & MAP_KEY_USER_AT) != 0) {
        if (ask_joined(&q, local, "@", SLICE_EMPTY))
            return q.result;
        if (has_ext && ask_joined(&q, user, "@", SLICE_EMPTY))
            return q.result;
    }
    return q.result;
without_ext:
    if (q.result == MAP_FOUND && ext != NULL)
        buf_put_slice(ext, extension);
    return q.result;
}

enum map_result map_domain_lookup(struct map_list *l, struct slice domain, bool parents_plain,
                                  struct buf *value, struct err *err)
{
    struct query q = {l, value, err, MAP_NOTFOUND};

    if (map_list_is_empty(l))
        return MAP_NOTFOUND;
    if (!ask(&q, domain, 0))
        (void) ask_parents(&q, domain, parents_plain);
    return q.result;
}

enum map_result map_client_lookup(struct map_list *l, struct slice addr, struct buf *value,
                                  struct err *err)
{
    struct query q = {l, value, err, MAP_NOTFOUND};
    bool v6 = slice_find(addr, ':') != -1;
    struct slice rest = addr;

    if (map_list_is_empty(l) || ask(&q, addr, 0))
        return q.result;
    for (;;) {
        ptrdiff_t cut = slice_rfind(rest, v6 ? ':' : '.');

        if (cut <= 0)
            return q.result;
        rest = slice_sub(rest, 0, (size_t) cut);
        while (v6 && rest.len > 0 && rest.ptr[rest.len - 1] == ':')
            rest.len--;
        if (ask(&q, rest, MAP_FLAG_FIXED))
            return q.result;
    }
}
