/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup_rcpt.c - the envelope: sender and recipients completed, mapped, expanded, copied, and freed of
 * duplicates. canonical(5), virtual(5) and the *_bcc_maps describe the tables.
 *
 * Order for each recipient: complete, canonical maps, bcc maps, virtual aliases (recursively), duplicates.
 */
#include <stdio.h>

#include "base/log.h"
#include "cleanup/cleanup_int.h"
#include "mail/address.h"

#define CANONICAL_ROUNDS 10 /* a table that maps its own results for ever is stopped here */

unsigned cleanup_classes_parse(const char *value, struct err *err)
{
    static const struct {
        const char *name;
        unsigned bit;
    } names[] = {
        {"envelope_sender", CLASS_ENVELOPE_SENDER},
        {"envelope_recipient", CLASS_ENVELOPE_RECIPIENT},
        {"header_sender", CLASS_HEADER_SENDER},
        {"header_recipient", CLASS_HEADER_RECIPIENT},
    };
    struct slice rest = slice_str(value);
    struct slice word;
    unsigned bits = 0;

    while (slice_token(&rest, ", \t\r\n", &word)) {
        size_t i = 0;

        while (i < ARRAY_LEN(names) && !slice_eq_str(word, names[i].name))
            i++;
        if (i == ARRAY_LEN(names)) {
            err_input(err, "unknown address class \"%.*s\"", SLICE_FMT(word));
            return 0;
        }
        bits |= names[i].bit;
    }
    if (bits == 0)
        err_input(err, "no address class named");
    return bits;
}

void cleanup_add_rcpt(struct cleanup_msg *m, struct vec *list, const struct mail_rcpt *r)
{
    struct mail_rcpt *own = arena_alloc(m->arena, sizeof(*own));

    *own = *r;
    own->addr = arena_slice(m->arena, r->addr);
    own->orig = r->orig.len > 0 ? arena_slice(m->arena, r->orig) : SLICE_EMPTY;
    own->orcpt = r->orcpt.len > 0 ? arena_slice(m->arena, r->orcpt) : SLICE_EMPTY;
    vec_push(list, own);
}

static void lookup_failed(struct cleanup_msg *m, struct slice addr, const struct err *err)
{
    log_warning("%.*s: %.*s: %s", SLICE_FMT(m->env.queue_id), SLICE_FMT(addr), err->text);
    cleanup_fail(m, 451, "4.3.0", "Temporary lookup failure");
}

/* user+ext@domain, user@domain, user+ext, user, @domain; ext (may be NULL): the extension that the key lacked. */
static enum map_result address_lookup(struct cleanup_msg *m, struct map_list *maps,
                                      struct slice addr, struct buf *value, struct buf *ext,
                                      struct err *err)
{
    struct slice domain = address_domain(addr);
    bool is_local = domain.len == 0 || slice_caseeq_str(domain, m->c->p.myorigin) ||
                    route_domain_is_local(m->c->route, domain);

    return map_address_lookup(
        maps, addr,
        MAP_KEY_FULL | MAP_KEY_NOEXT | MAP_KEY_LOCAL_FULL | MAP_KEY_LOCAL | MAP_KEY_AT_DOMAIN,
        route_recipient_delimiter(m->c->route), is_local, false, value, ext, err);
}

/*
 * Makes a table's result an address: "@new" keeps the local part, a missing domain is completed, the extension
 * that the key lacked is added where `feature` propagates it.
 */
static void complete_result(struct cleanup_msg *m, struct slice key, struct slice result,
                            struct slice ext, const char *feature, struct buf *out)
{
    struct buf plain = BUF_INIT(MAIL_ADDR_MAX);

    if (result.len > 0 && result.ptr[0] == '@') {
        buf_put_slice(&plain, address_local(key));
        buf_put_slice(&plain, result);
    } else if (ext.len > 0 && route_propagates_extension(m->c->route, feature)) {
        buf_put_slice(&plain, address_local(result));
        buf_putc(&plain, route_recipient_delimiter(m->c->route)[0]);
        buf_put_slice(&plain, ext);
        if (address_domain(result).len > 0) {
            buf_putc(&plain, '@');
            buf_put_slice(&plain, address_domain(result));
        }
    } else {
        buf_put_slice(&plain, result);
    }
    if (buf_ok(&plain))
        route_rewrite(m->c->route, buf_view(&plain), slice_str(m->c->p.myorigin), out);
    buf_fini(&plain);
}

struct first_address {
    struct buf *out;
    bool found;
};

static void take_first(struct slice raw, struct slice addr, void *arg)
{
    struct first_address *f = arg;

    (void) raw;
    if (!f->found)
        buf_put_slice(f->out, addr);
    f->found = true;
}

/* One table list, until its results stand still. *addr is in the arena; true if it changed. */
static bool map_rounds(struct cleanup_msg *m, struct map_list *maps, struct slice *addr)
{
    bool changed = false;

    if (map_list_is_empty(maps))
        return false;
    for (int round = 0; round < CANONICAL_ROUNDS && !cleanup_failed(m); round++) {
        struct buf value = BUF_INIT(MAP_VALUE_MAX);
        struct buf ext = BUF_INIT(MAIL_ADDR_MAX);
        struct buf first = BUF_INIT(MAIL_ADDR_MAX);
        struct buf result = BUF_INIT(MAIL_ADDR_MAX);
        struct first_address f = {&first, false};
        struct err err = ERR_INIT;
        bool again = false;

        switch (address_lookup(m, maps, *addr, &value, &ext, &err)) {
        case MAP_NOTFOUND:
            break;
        case MAP_RETRY:
            lookup_failed(m, *addr, &err);
            break;
        case MAP_FOUND:
            if (slice_starts_with(slice_trim(buf_view(&value), NULL), SLICE_LIT("@"))) {
                buf_put_slice(&first, slice_trim(buf_view(&value), NULL));
                f.found = true;
            } else {
                address_header_each(buf_view(&value), take_first, &f);
            }
            if (!f.found || !buf_ok(&first)) {
                log_warning("%.*s: canonical map gives no address for %.*s",
                            SLICE_FMT(m->env.queue_id), SLICE_FMT(*addr));
                break;
            }
            complete_result(m, *addr, buf_view(&first), buf_view(&ext), "canonical", &result);
            if (buf_ok(&result) && !slice_eq(buf_view(&result), *addr)) {
                *addr = arena_slice(m->arena, buf_view(&result));
                changed = again = true;
            }
            break;
        }
        buf_fini(&value);
        buf_fini(&ext);
        buf_fini(&first);
        buf_fini(&result);
        if (!again)
            break;
    }
    return changed;
}

bool cleanup_map_address(struct cleanup_msg *m, struct slice addr, unsigned class_, struct buf *out)
{
    const struct cleanup *c = m->c;
    struct slice now = addr;
    bool sender = (class_ & (CLASS_ENVELOPE_SENDER | CLASS_HEADER_SENDER)) != 0;
    bool changed = false;

    if ((m->env.flags & MAIL_NO_ADDRESS_MAPS) != 0 || addr.len == 0)
        return false;
    if (sender && (c->sender_canonical_classes & class_) != 0)
        changed |= map_rounds(m, c->sender_canonical, &now);
    if (!sender && (c->recipient_canonical_classes & class_) != 0)
        changed |= map_rounds(m, c->recipient_canonical, &now);
    if ((c->canonical_classes & class_) != 0)
        changed |= map_rounds(m, c->canonical, &now);
    if (cleanup_masquerade(c, now, class_, out))
        return true;
    if (changed)
        buf_put_slice(out, now);
    return changed;
}

/* Completes and maps an envelope address; the result is in the arena. */
static struct slice envelope_address(struct cleanup_msg *m, struct slice addr, unsigned class_)
{
    struct buf full = BUF_INIT(MAIL_ADDR_MAX);
    struct buf mapped = BUF_INIT(MAIL_ADDR_MAX);
    struct slice result;

    route_rewrite(m->c->route, addr, slice_str(m->c->p.myorigin), &full);
    result = arena_slice(m->arena, buf_ok(&full) ? buf_view(&full) : addr);
    if (cleanup_map_address(m, result, class_, &mapped))
        result = arena_slice(m->arena, buf_view(&mapped));
    buf_fini(&full);
    buf_fini(&mapped);
    return result;
}

/* --- virtual aliases ---------------------------------------------------------------------------- */

struct expansion {
    struct cleanup_msg *m;
    const struct mail_rcpt *origin; /* the recipient that is expanded */
    struct vec *out;
    struct vec todo;  /* struct pending * of this level of the table */
    struct slice key; /* what was looked up */
    struct slice ext;
    unsigned depth;
    int64_t made;
};
struct pending {
    struct slice addr;
    unsigned depth; /* DEPTH_FINAL: it gave itself, and is not looked up again */
};
#define DEPTH_FINAL UINT32_MAX

static void take_expansion(struct slice raw, struct slice addr, void *arg)
{
    struct expansion *x = arg;
    struct buf full = BUF_INIT(MAIL_ADDR_MAX);

    (void) raw;
    if (addr.len > 0 && !cleanup_failed(x->m)) {
        complete_result(x->m, x->key, addr, x->ext, "virtual", &full);
        if (!buf_ok(&full) || full.len > (size_t) x->m->c->p.virtual_alias_address_length_limit) {
            log_warning("%.*s: unreasonable virtual_alias_maps address length for %.*s",
                        SLICE_FMT(x->m->env.queue_id), SLICE_FMT(x->key));
            cleanup_fail(x->m, 451, "4.6.0", "Alias expansion error");
        } else {
            struct pending *p = arena_alloc(x->m->arena, sizeof(*p));

            p->addr = arena_slice(x->m->arena, buf_view(&full));
            p->depth = x->depth + 1;
            vec_push(&x->todo, p);
        }
    }
    buf_fini(&full);
}

static void add_expanded(struct expansion *x, struct slice addr)
{
    struct mail_rcpt r = *x->origin;

    if (++x->made > x->m->c->p.virtual_alias_expansion_limit) {
        log_warning(
            "%.*s: unreasonable virtual_alias_maps map expansion size for %.*s -- message not accepted, try again later",
            SLICE_FMT(x->m->env.queue_id), SLICE_FMT(x->origin->addr));
        cleanup_fail(x->m, 451, "4.6.0", "Alias expansion error");
        return;
    }
    if (!slice_eq(addr, x->origin->addr) && r.orig.len == 0)
        r.orig = x->origin->addr;
    r.addr = addr;
    cleanup_add_rcpt(x->m, x->out, &r);
}

/* Depth first, in the order of the table's values; an address that gives itself is final. */
static void expand(struct cleanup_msg *m, const struct mail_rcpt *r, struct vec *out)
{
    struct expansion x = {.m = m, .origin = r, .out = out};
    struct vec stack = VEC_INIT;
    struct pending first = {r->addr, 0};

    vec_push(&stack, &first);
    while (stack.len > 0 && !cleanup_failed(m)) {
        const struct pending *p = vec_pop(&stack);
        struct buf value = BUF_INIT(MAP_VALUE_MAX);
        struct buf ext = BUF_INIT(MAIL_ADDR_MAX);
        struct err err = ERR_INIT;
        enum map_result res = MAP_NOTFOUND;

        if (p->depth != DEPTH_FINAL)
            res = address_lookup(m, m->c->virtual_alias, p->addr, &value, &ext, &err);
        if (res == MAP_RETRY) {
            lookup_failed(m, p->addr, &err);
        } else if (res == MAP_NOTFOUND) {
            add_expanded(&x, p->addr);
        } else if (p->depth >= m->c->p.virtual_alias_recursion_limit) {
            log_warning(
                "%.*s: unreasonable virtual_alias_maps map nesting for %.*s -- message not accepted, try again later",
                SLICE_FMT(m->env.queue_id), SLICE_FMT(r->addr));
            cleanup_fail(m, 451, "4.6.0", "Alias expansion error");
        } else {
            struct slice text = slice_trim(buf_view(&value), NULL);

            x.key = p->addr;
            x.ext = buf_view(&ext);
            x.depth = p->depth;
            if (slice_starts_with(text, SLICE_LIT("@")) && slice_find(text, ',') == -1)
                take_expansion(text, text, &x);
            else
                address_header_each(text, take_expansion, &x);
            if (x.todo.len == 0 && !cleanup_failed(m))
                add_expanded(&x, p->addr); /* an empty value: as if it were not there */
            for (size_t i = x.todo.len; i-- > 0;) {
                struct pending *next = x.todo.items[i];

                if (slice_caseeq(next->addr, p->addr))
                    next->depth = DEPTH_FINAL;
                vec_push(&stack, next);
            }
            vec_clear(&x.todo, NULL);
        }
        buf_fini(&value);
        buf_fini(&ext);
    }
    vec_fini(&x.todo);
    vec_fini(&stack);
}

/* --- copies and duplicates ------------------------------------------------------------------------ */

static void add_bcc(struct cleanup_msg *m, struct slice addr, struct vec *out)
{
    struct mail_rcpt r = {.addr =
                              envelope_address(m, slice_trim(addr, NULL), CLASS_ENVELOPE_RECIPIENT),
                          .notify = DSN_NOTIFY_NEVER};

    if (r.addr.len > 0)
        cleanup_add_rcpt(m, out, &r);
}

static void add_bcc_from(struct cleanup_msg *m, struct map_list *maps, struct slice key,
                         struct vec *out)
{
    struct buf value = BUF_INIT(MAIL_ADDR_MAX);
    struct err err = ERR_INIT;

    if (map_list_is_empty(maps) || key.len == 0)
        return;
    switch (address_lookup(m, maps, key, &value, NULL, &err)) {
    case MAP_FOUND:
        add_bcc(m, buf_view(&value), out);
        break;
    case MAP_RETRY:
        lookup_failed(m, key, &err);
        break;
    case MAP_NOTFOUND:
        break;
    }
    buf_fini(&value);
}

static void drop_duplicates(struct cleanup_msg *m, struct vec *list)
{
    struct htable *seen;
    struct vec kept = VEC_INIT;
    struct buf key = BUF_INIT(2 * MAIL_ADDR_MAX + 1);
    size_t limit = (size_t) m->c->p.duplicate_filter_limit;

    if (list->len < 2)
        return;
    seen = htable_new(true);
    for (size_t i = 0; i < list->len; i++) {
        struct mail_rcpt *r = list->items[i];

        buf_reset(&key);
        buf_put_slice(&key, r->addr);
        if (m->c->p.enable_original_recipient) {
            buf_putc(&key, '\0');
            buf_put_slice(&key, r->orig.len > 0 ? r->orig : r->addr);
        }
        if (htable_get(seen, buf_view(&key)) != NULL)
            continue;
        if (limit == 0 || htable_len(seen) < limit)
            htable_put(seen, buf_view(&key), r);
        vec_push(&kept, r);
    }
    buf_fini(&key);
    htable_free(&seen, NULL);
    vec_fini(list);
    *list = kept;
}

void cleanup_envelope(struct cleanup_msg *m)
{
    const struct cleanup *c = m->c;
    bool maps = (m->env.flags & MAIL_NO_ADDRESS_MAPS) == 0;
    /* a copy of what this host has made itself, or does not send, is nobody's (postconf(5), always_bcc) */
    bool bccs = maps && (m->env.flags & (MAIL_PROBE | MAIL_BOUNCE)) == 0;
    struct vec complete = VEC_INIT;
    struct vec expanded = VEC_INIT;

    if (m->env.sender.len > 0)
        m->env.sender = envelope_address(m, m->env.sender, CLASS_ENVELOPE_SENDER);
    for (size_t i = 0; i < m->rcpts.len && !cleanup_failed(m); i++) {
        struct mail_rcpt r = *(struct mail_rcpt *) m->rcpts.items[i];
        struct slice given = r.addr.len > 0 ? r.addr : slice_str(c->p.empty_address_recipient);

        r.addr = envelope_address(m, given, CLASS_ENVELOPE_RECIPIENT);
        if (r.orig.len == 0 && !slice_eq(r.addr, given))
            r.orig = given;
        cleanup_add_rcpt(m, &complete, &r);
        if (bccs)
            add_bcc_from(m, c->recipient_bcc, r.addr, &complete);
    }
    if (bccs && !cleanup_failed(m)) {
        if (c->p.always_bcc[0] != '\0')
            add_bcc(m, slice_str(c->p.always_bcc), &complete);
        add_bcc_from(m, c->sender_bcc, m->env.sender, &complete);
    }
    for (size_t i = 0; i < complete.len && !cleanup_failed(m); i++) {
        if (maps && !map_list_is_empty(c->virtual_alias))
            expand(m, complete.items[i], &expanded);
        else
            vec_push(&expanded, complete.items[i]);
    }
    drop_duplicates(m, &expanded);
    vec_fini(&complete);
    vec_fini(&m->rcpts);
    m->rcpts = expanded;
}
