/* SPDX-License-Identifier: Apache-2.0 */
/* queue_select.c - see queue_select.h. */
#include "qmgr/queue_select.h"

bool queue_select_names(const struct proto_queue_select *s, const char *queue)
{
    struct slice rest = s->queues;
    struct slice name;

    while (slice_token(&rest, ", ", &name))
        if (slice_eq_str(name, queue))
            return true;
    return false;
}

bool queue_select_name(const struct proto_queue_select *s, const char *queue, struct slice id)
{
    return (s->queue_id.len == 0 || slice_eq(s->queue_id, id)) &&
           (s->queues.len == 0 || queue_select_names(s, queue));
}

static struct slice domain_of(struct slice addr)
{
    ptrdiff_t at = slice_rfind(addr, '@');

    return at == -1 ? SLICE_EMPTY : slice_sub(addr, (size_t) at + 1, addr.len);
}

/* "@domain" stands for every address there. */
static bool address_is(struct slice wanted, struct slice addr)
{
    if (slice_eq_str(wanted, "<>"))
        return addr.len == 0;
    if (wanted.ptr[0] == '@')
        return slice_caseeq(slice_sub(wanted, 1, wanted.len), domain_of(addr));
    return slice_caseeq(wanted, addr);
}

static bool domain_is(struct slice wanted, struct slice domain)
{
    if (wanted.ptr[0] == '.')
        return slice_case_ends_with(domain, wanted) ||
               slice_caseeq(domain, slice_sub(wanted, 1, wanted.len));
    return slice_caseeq(wanted, domain);
}

static bool contains(struct slice text, struct slice part)
{
    for (size_t i = 0; i + part.len <= text.len; i++)
        if (slice_case_starts_with(slice_sub(text, i, text.len), part))
            return true;
    return false;
}

bool queue_select_envelope(const struct proto_queue_select *s, struct slice sender,
                           uint64_t arrival_us)
{
    return (s->sender.len == 0 || address_is(s->sender, sender)) &&
           (s->arrived_to_us == 0 || arrival_us <= s->arrived_to_us);
}

bool queue_select_asks_rcpt(const struct proto_queue_select *s)
{
    return s->recipient.len > 0 || s->domain.len > 0 || s->reason.len > 0;
}

bool queue_select_rcpt(const struct proto_queue_select *s, struct slice addr, struct slice reason)
{
    return (s->recipient.len == 0 || address_is(s->recipient, addr)) &&
           (s->domain.len == 0 || domain_is(s->domain, domain_of(addr))) &&
           (s->reason.len == 0 || contains(reason, s->reason));
}

bool queue_select_message(const struct proto_queue_select *s, struct slice sender,
                          uint64_t arrival_us, const struct store_rcpt *rcpts, size_t n)
{
    if (!queue_select_envelope(s, sender, arrival_us))
        return false;
    if (!queue_select_asks_rcpt(s))
        return true;
    for (size_t i = 0; i < n; i++)
        if (!rcpts[i].done && queue_select_rcpt(s, rcpts[i].r.addr, rcpts[i].reason))
            return true;
    return false;
}

void queue_select_keep(struct proto_queue_select *s, struct arena *arena)
{
    struct slice *strings[] = {&s->queues,    &s->queue_id, &s->sender,
                               &s->recipient, &s->domain,   &s->reason};

    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        if (strings[i]->len > 0)
            *strings[i] = arena_slice(arena, *strings[i]);
}

struct slice queue_hold_text(const struct mail_envelope *env)
{
    return (env->flags & MAIL_HOLD) != 0 ? SLICE_LIT("on hold since it arrived, by a HOLD rule")
                                         : SLICE_LIT("on hold, by postsuper -h");
}
