/* SPDX-License-Identifier: Apache-2.0 */
/* postqueue_print.c - see postqueue_print.h. */
#include "qmgr/postqueue_print.h"

#include "base/mtime.h"

#define REASON_COLUMN 76 /* a reason ends here, if it is shorter */

/* Widths and order are those that the tools which read mailq's output know. */
static void put_line(struct queue_printer *p, const char *id, const char *size, const char *when,
                     const char *who)
{
    if (p->long_ids)
        fprintf(p->out, "%-17s %8s %-19.19s %s\n", id, size, when, who);
    else
        fprintf(p->out, "%-11s %7s %-20.20s %s\n", id, size, when, who);
}

/* Terminals are not for foreign control bytes. */
static const char *printable(struct slice s, struct buf *out)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char) s.ptr[i];

        buf_putc(out, c < 32 || c == 127 ? '?' : (char) c);
    }
    return buf_cstr(out);
}

static void end_item(struct queue_printer *p)
{
    if (!p->in_item)
        return;
    fputs(p->json ? "]}\n" : "\n", p->out);
    p->in_item = false;
}

/* Bytes as they are, if they are UTF-8 that JSON bears; else as if they were Latin-1, so that the line stays readable. */
static size_t utf8_len(const unsigned char *s, size_t n)
{
    size_t want = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
                  : s[0] >= 0xe0 && s[0] <= 0xef ? 3
                  : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                                 : 0;

    if (want == 0 || n < want)
        return 0;
    for (size_t i = 1; i < want; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return want;
}

static void put_json(struct queue_printer *p, const char *name, struct slice value)
{
    const unsigned char *s = (const unsigned char *) value.ptr;

    fprintf(p->out, "\"%s\": \"", name);
    for (size_t i = 0; i < value.len; i++) {
        size_t len;

        if (s[i] == '"' || s[i] == '\\') {
            fprintf(p->out, "\\%c", s[i]);
        } else if (s[i] >= 32 && s[i] < 127) {
            fputc(s[i], p->out);
        } else if ((len = utf8_len(s + i, value.len - i)) > 0) {
            fwrite(s + i, 1, len, p->out);
            i += len - 1;
        } else {
            fprintf(p->out, "\\u%04X", s[i]);
        }
    }
    fputc('"', p->out);
}

static void json_item(struct queue_printer *p, const struct proto_queue_item *item,
                      struct slice sender)
{
    fputc('{', p->out);
    put_json(p, "queue_name", item->queue);
    fputs(", ", p->out);
    put_json(p, "queue_id", item->queue_id);
    fprintf(p->out, ", \"arrival_time\": %lld, \"message_size\": %llu, \"forced_expire\": %s, ",
            (long long) (item->arrival_us / 1000000), (unsigned long long) item->size,
            item->forced_expire != 0 ? "true" : "false");
    put_json(p, "sender", sender);
    fputs(", \"recipients\": [", p->out);
}

static void text_item(struct queue_printer *p, const struct proto_queue_item *item,
                      struct slice sender)
{
    struct buf id = BUF_INIT(SIZE_MAX);
    struct buf size = BUF_INIT(SIZE_MAX);
    struct buf when = BUF_INIT(SIZE_MAX);
    struct buf who = BUF_INIT(SIZE_MAX);

    if (p->messages == 0)
        put_line(p, p->long_ids ? "----Queue ID-----" : "-Queue ID-", "--Size--",
                 p->long_ids ? "---Arrival Time----" : "----Arrival Time----",
                 "-Sender/Recipient-------");
    buf_put_slice(&id, item->queue_id);
    if (slice_eq_str(item->queue, "active"))
        buf_putc(&id, '*');
    else if (slice_eq_str(item->queue, "hold"))
        buf_putc(&id, '!');
    if (item->forced_expire != 0)
        buf_putc(&id, '#');
    buf_printf(&size, "%llu", (unsigned long long) item->size);
    wall_mailq((struct wall_time){(int64_t) item->arrival_us}, &when);
    put_line(p, buf_cstr(&id), buf_cstr(&size), buf_cstr(&when), printable(sender, &who));
    buf_fini(&id);
    buf_fini(&size);
    buf_fini(&when);
    buf_fini(&who);
}

void queue_print_item(struct queue_printer *p, const struct proto_queue_item *item)
{
    struct slice sender = item->sender.len > 0 ? item->sender : slice_str(p->null_sender);

    end_item(p);
    if (p->reason.limit == 0)
        p->reason = BUF_INIT(SIZE_MAX);
    if (p->json)
        json_item(p, item, sender);
    else
        text_item(p, item, sender);
    p->in_item = true;
    p->messages++;
    p->bytes += item->size;
    p->rcpts = 0;
    buf_reset(&p->reason);
}

static void text_rcpt(struct queue_printer *p, const struct proto_queue_rcpt *rcpt)
{
    struct buf text = BUF_INIT(SIZE_MAX);

    if (rcpt->reason.len > 0 && !slice_eq(rcpt->reason, buf_view(&p->reason))) {
        const char *why = printable(rcpt->reason, &text);
        int pad = strlen(why) < REASON_COLUMN ? (int) (REASON_COLUMN - strlen(why)) : 0;

        fprintf(p->out, "%*s(%s)\n", pad, "", why);
        buf_reset(&text);
    }
    buf_reset(&p->reason);
    buf_put_slice(&p->reason, rcpt->reason);
    put_line(p, "", "", "", printable(rcpt->addr, &text));
    buf_fini(&text);
}

void queue_print_rcpt(struct queue_printer *p, const struct proto_queue_rcpt *rcpt)
{
    if (!p->in_item)
        return;
    if (p->json) {
        fputs(p->rcpts > 0 ? ", {" : "{", p->out);
        put_json(p, "address", rcpt->addr);
        if (rcpt->reason.len > 0) {
            fputs(", ", p->out);
            put_json(p, "delay_reason", rcpt->reason);
        }
        fputc('}', p->out);
    } else {
        text_rcpt(p, rcpt);
    }
    p->rcpts++;
}

int queue_print_end(struct queue_printer *p)
{
    end_item(p);
    buf_fini(&p->reason);
    if (!p->json && p->messages == 0)
        fputs("Mail queue is empty\n", p->out);
    else if (!p->json)
        fprintf(p->out, "-- %llu Kbytes in %lu Request%s.\n", (p->bytes + 1023) / 1024, p->messages,
                p->messages == 1 ? "" : "s");
    return fflush(p->out) == EOF || ferror(p->out) != 0 ? -1 : 0;
}
