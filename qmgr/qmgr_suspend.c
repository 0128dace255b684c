/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_suspend.c - see qmgr_suspend.h.
 *
 * As text, a line each: CRC-32C of the rest (8 hexadecimal digits), kind, name, since, until (microseconds since 1970), who, reason,
 * with tabs between. No part has control characters, so a line that is torn or altered is known for what it is and others stay good.
 */
#include "qmgr/qmgr_suspend.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "base/crc32c.h"
#include "base/num.h"
#include "qmgr/queue_select.h"

static const char *const kinds[] = {"destination", "sender", "transport"};

const char *suspension_kind_name(enum suspension_kind kind)
{
    return kinds[kind];
}

void suspension_time(int64_t us, struct buf *out)
{
    time_t s = (time_t) (us / 1000000);
    struct tm tm;
    char text[40];

    if (gmtime_r(&s, &tm) != NULL && strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) > 0)
        buf_puts(out, text);
}

/* --- one ------------------------------------------------------------------------------------------ */

static bool is_line(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char) s.ptr[i] < ' ' || s.ptr[i] == 127)
            return false;
    return s.len > 0;
}

static bool kind_of(struct slice name, enum suspension_kind *out)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (slice_eq_str(name, kinds[i])) {
            *out = (enum suspension_kind) i;
            return true;
        }
    }
    return false;
}

struct suspension *suspension_new(const struct proto_suspension *p, struct err *err)
{
    enum suspension_kind kind;
    struct suspension *s = NULL;

    if (!kind_of(p->kind, &kind))
        err_input(err, "what is suspended is a destination, a sender or a transport");
    else if (!is_line(p->name) || p->name.len > MAIL_ADDR_MAX || slice_find(p->name, ' ') != -1)
        err_input(err, "not the name of a %s", kinds[kind]);
    else if (kind == SUSPEND_TRANSPORT &&
             (slice_eq_str(p->name, "retry") || slice_eq_str(p->name, "error")))
        err_input(err, "transport %.*s delivers nothing: it cannot be suspended",
                  SLICE_FMT(p->name));
    else if (!is_line(p->reason) || p->reason.len > SUSPENSION_REASON_MAX)
        err_input(err, "a reason is one line of up to %d bytes", SUSPENSION_REASON_MAX);
    else if (!is_line(p->by) || p->by.len > SUSPENSION_BY_MAX)
        err_input(err, "it is not said who suspends");
    else if (p->until_us > (uint64_t) SUSPENSION_UNTIL_MAX ||
             p->since_us > (uint64_t) SUSPENSION_UNTIL_MAX || p->until_us == 0)
        err_input(err, "not a time at which it ends");
    else
        s = xcalloc(1, sizeof(*s));
    if (s == NULL)
        return NULL;
    *s = (struct suspension){
        .kind = kind,
        .name = slice_dup(p->name),
        .by = slice_dup(p->by),
        .reason = slice_dup(p->reason),
        .since_us = (int64_t) p->since_us,
        .until_us = (int64_t) p->until_us,
    };
    return s;
}

void suspension_free(struct suspension **sp)
{
    struct suspension *s = *sp;

    *sp = NULL;
    if (s == NULL)
        return;
    free(s->name);
    free(s->by);
    free(s->reason);
    free(s);
}

/* --- the list ------------------------------------------------------------------------------------- */

ptrdiff_t suspension_at(const struct vec *list, struct slice kind, struct slice name)
{
    for (size_t i = 0; i < list->len; i++) {
        const struct suspension *s = list->items[i];

        if (slice_eq_str(kind, kinds[s->kind]) &&
            (s->kind == SUSPEND_TRANSPORT ? slice_eq_str(name, s->name)
                                          : slice_caseeq_str(name, s->name)))
            return (ptrdiff_t) i;
    }
    return -1;
}

int suspension_add(struct vec *list, struct suspension *s, struct err *err)
{
    ptrdiff_t at = suspension_at(list, slice_str(kinds[s->kind]), slice_str(s->name));

    if (at != -1) {
        struct suspension *old = list->items[at];

        suspension_free(&old);
        list->items[at] = s;
        return 0;
    }
    if (list->len >= SUSPENSIONS_MAX)
        return err_permanent(err, "%d suspensions are in force: no more can be", SUSPENSIONS_MAX);
    vec_push(list, s);
    return 0;
}

bool suspension_concerns(const struct suspension *s, const struct suspension_mail *m)
{
    struct slice name = slice_str(s->name);
    struct proto_queue_select select = {0};

    switch (s->kind) {
    case SUSPEND_DESTINATION:
        select.domain = name;
        return slice_caseeq(name, m->nexthop) || queue_select_rcpt(&select, m->addr, SLICE_EMPTY);
    case SUSPEND_SENDER:
        select.sender = name;
        return m->has_sender && queue_select_envelope(&select, m->sender, 0);
    case SUSPEND_TRANSPORT:
        return slice_eq(name, m->transport);
    }
    return false;
}

const struct suspension *suspension_find(const struct vec *list, const struct suspension_mail *m)
{
    const struct suspension *found = NULL;

    for (size_t i = 0; i < list->len; i++) {
        const struct suspension *s = list->items[i];

        if (suspension_concerns(s, m) && (found == NULL || s->until_us > found->until_us))
            found = s;
    }
    return found;
}

/* --- told ----------------------------------------------------------------------------------------- */

char *suspension_text(const struct suspension *s, struct arena *a)
{
    struct buf until = BUF_INIT(64);
    char *text;

    suspension_time(s->until_us, &until);
    text = arena_printf(a, "suspended %s %s until %s by %s: %s", kinds[s->kind], s->name,
                        buf_cstr(&until), s->by, s->reason);
    buf_fini(&until);
    return text;
}

char *suspension_wait_text(const struct suspension *s, struct arena *a)
{
    return arena_printf(a, "suspended %s %s by %s: %s", kinds[s->kind], s->name, s->by, s->reason);
}

static bool skip(struct slice *text, const char *word)
{
    struct slice w = slice_str(word);

    if (!slice_case_starts_with(*text, w))
        return false;
    *text = slice_sub(*text, w.len, text->len);
    return true;
}

bool suspension_is_reason(const struct suspension *s, struct slice reason)
{
    return skip(&reason, "suspended ") && skip(&reason, kinds[s->kind]) && skip(&reason, " ") &&
           skip(&reason, s->name) && skip(&reason, " until ");
}

const struct suspension *suspension_of_reason(const struct vec *list, struct slice reason)
{
    for (size_t i = 0; i < list->len; i++)
        if (suspension_is_reason(list->items[i], reason))
            return list->items[i];
    return NULL;
}

/* --- kept ----------------------------------------------------------------------------------------- */

void suspension_write(const struct vec *list, struct buf *out)
{
    struct buf line = BUF_INIT(SIZE_MAX);

    for (size_t i = 0; i < list->len; i++) {
        const struct suspension *s = list->items[i];

        buf_reset(&line);
        buf_printf(&line, "%s\t%s\t%" PRId64 "\t%" PRId64 "\t%s\t%s", kinds[s->kind], s->name,
                   s->since_us, s->until_us, s->by, s->reason);
        buf_printf(out, "%08x\t", (unsigned) crc32c(0, line.ptr, line.len));
        buf_put_slice(out, buf_view(&line));
        buf_putc(out, '\n');
    }
    buf_fini(&line);
}

/* What stands before the next tab; the last part ends with the line. */
static struct slice next_part(struct slice *rest)
{
    ptrdiff_t tab = slice_find(*rest, '\t');
    struct slice part = tab == -1 ? *rest : slice_sub(*rest, 0, (size_t) tab);

    *rest = tab == -1 ? SLICE_EMPTY : slice_sub(*rest, (size_t) tab + 1, rest->len);
    return part;
}

static struct suspension *read_line(struct slice line, struct err *err)
{
    struct proto_suspension p = {0};
    uint64_t crc;

    if (num_parse_u64_base(next_part(&line), 16, UINT32_MAX, &crc, err) == -1)
        return NULL;
    if (line.len == 0 || crc32c(0, line.ptr, line.len) != crc) {
        err_input(err, "checksum is wrong");
        return NULL;
    }
    p.kind = next_part(&line);
    p.name = next_part(&line);
    if (num_parse_u64_base(next_part(&line), 10, INT64_MAX, &p.since_us, err) == -1 ||
        num_parse_u64_base(next_part(&line), 10, INT64_MAX, &p.until_us, err) == -1)
        return NULL;
    p.by = next_part(&line);
    p.reason = line;
    return suspension_new(&p, err);
}

void suspension_read(struct vec *list, struct slice text,
                     void (*damaged)(void *arg, unsigned line, const char *why), void *arg)
{
    for (unsigned number = 1; text.len > 0; number++) {
        ptrdiff_t end = slice_find(text, '\n');
        struct slice line = end == -1 ? text : slice_sub(text, 0, (size_t) end);
        struct err err = ERR_INIT;
        struct suspension *s = read_line(line, &err);

        text = end == -1 ? SLICE_EMPTY : slice_sub(text, (size_t) end + 1, text.len);
        if (s != NULL && suspension_add(list, s, &err) == 0)
            continue;
        suspension_free(&s);
        damaged(arg, number, err.text);
    }
}
