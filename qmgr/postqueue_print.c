/* SPDX-License-Identifier: Apache-2.0 */
/* postqueue_print.c - see postqueue_print.h. */
#include "qmgr/postqueue_print.h"

#include <stdlib.h>

#include "base/mtime.h"
#include "mail/address.h"

#define REASON_COLUMN 76   /* a reason ends here, if it is shorter */
#define WAITS_MAX     4096 /* bytes of what is said about recipients that wait */

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

void queue_print_text(FILE *out, struct slice text)
{
    struct buf shown = BUF_INIT(SIZE_MAX);

    fputs(printable(text, &shown), out);
    buf_fini(&shown);
}

/* A remark in parentheses: what reads mailq's output takes those for reasons, or leaves them out. */
static void put_remark(FILE *out, const char *text)
{
    int pad = strlen(text) < REASON_COLUMN ? (int) (REASON_COLUMN - strlen(text)) : 0;

    fprintf(out, "%*s(%s)\n", pad, "", text);
}

/* What a message or recipient waits for, as text behind the recipients. */
static void text_wait(struct queue_printer *p, struct slice text, uint64_t until_us)
{
    struct buf line = BUF_INIT(SIZE_MAX);
    struct buf shown = BUF_INIT(SIZE_MAX);

    if (text.len == 0 || p->waits.len > WAITS_MAX)
        return;
    buf_puts(&line, "waits");
    if (until_us != 0) {
        buf_puts(&line, " until ");
        wall_mailq((struct wall_time){(int64_t) until_us}, &line);
    }
    buf_printf(&line, ": %.*s", SLICE_FMT(text));
    (void) printable(buf_view(&line), &shown);
    buf_putc(&shown, '\0');
    if (!slice_eq(buf_view(&shown), buf_view(&p->last_wait)))
        buf_put_slice(&p->waits, buf_view(&shown));
    buf_reset(&p->last_wait);
    buf_put_slice(&p->last_wait, buf_view(&shown));
    buf_fini(&line);
    buf_fini(&shown);
}

static void end_item(struct queue_printer *p)
{
    if (!p->in_item)
        return;
    if (p->json) {
        fputs("]", p->out);
        if (p->waits.len > 0)
            fwrite(p->waits.ptr, 1, p->waits.len, p->out);
        fputs("}\n", p->out);
    } else {
        for (size_t at = 0; at < p->waits.len; at += strlen(p->waits.ptr + at) + 1)
            put_remark(p->out, p->waits.ptr + at);
        fputs("\n", p->out);
    }
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

void queue_print_json(FILE *out, const char *name, struct slice value)
{
    const unsigned char *s = (const unsigned char *) value.ptr;

    fprintf(out, "\"%s\": \"", name);
    for (size_t i = 0; i < value.len; i++) {
        size_t len;

        if (s[i] == '"' || s[i] == '\\') {
            fprintf(out, "\\%c", s[i]);
        } else if (s[i] >= 32 && s[i] < 127) {
            fputc(s[i], out);
        } else if ((len = utf8_len(s + i, value.len - i)) > 0) {
            fwrite(s + i, 1, len, out);
            i += len - 1;
        } else {
            fprintf(out, "\\u%04X", s[i]);
        }
    }
    fputc('"', out);
}

/* Members of ours: "waits_for" and what belongs to it. */
static void json_wait(FILE *out, struct slice word, struct slice text, uint64_t until_us)
{
    if (word.len == 0)
        return;
    fputs(", ", out);
    queue_print_json(out, "waits_for", word);
    fputs(", ", out);
    queue_print_json(out, "waits_text", text);
    if (until_us != 0)
        fprintf(out, ", \"waits_until\": %llu", (unsigned long long) (until_us / 1000000));
}

static void json_item(struct queue_printer *p, const struct proto_queue_item *item,
                      struct slice sender)
{
    fputc('{', p->out);
    queue_print_json(p->out, "queue_name", item->queue);
    fputs(", ", p->out);
    queue_print_json(p->out, "queue_id", item->queue_id);
    fprintf(p->out, ", \"arrival_time\": %lld, \"message_size\": %llu, \"forced_expire\": %s, ",
            (long long) (item->arrival_us / 1000000), (unsigned long long) item->size,
            item->forced_expire != 0 ? "true" : "false");
    queue_print_json(p->out, "sender", sender);
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
                 p->long_ids ? "--Sender/Recipient------" : "-Sender/Recipient-------");
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

/* It goes behind the recipients: readers that know Postfix's members only find them where they were. */
static void json_keep_wait(struct queue_printer *p, const struct proto_queue_item *item)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out;

    if (item->waits_for.len == 0)
        return;
    out = open_memstream(&text, &len);
    if (out == NULL)
        return;
    json_wait(out, item->waits_for, item->waits_text, item->waits_until_us);
    if (fclose(out) == 0)
        buf_put(&p->waits, text, len);
    free(text);
}

void queue_print_item(struct queue_printer *p, const struct proto_queue_item *item)
{
    struct buf quoted = BUF_INIT(SIZE_MAX);
    struct slice sender = slice_str(p->null_sender);

    if (item->sender.len > 0) {
        address_quote(item->sender, &quoted); /* as Postfix lists, and its users search for */
        sender = buf_view(&quoted);
    }
    end_item(p);
    if (p->reason.limit == 0)
        p->reason = p->waits = p->last_wait = BUF_INIT(SIZE_MAX);
    if (p->json)
        json_item(p, item, sender);
    else
        text_item(p, item, sender);
    buf_fini(&quoted);
    p->in_item = true;
    p->messages++;
    p->bytes += item->size;
    p->rcpts = 0;
    buf_reset(&p->reason);
    buf_reset(&p->waits);
    buf_reset(&p->last_wait);
    if (p->json)
        json_keep_wait(p, item);
    else
        text_wait(p, item->waits_text, item->waits_until_us);
}

static void text_rcpt(struct queue_printer *p, const struct proto_queue_rcpt *rcpt,
                      struct slice addr)
{
    struct buf text = BUF_INIT(SIZE_MAX);

    if (rcpt->reason.len > 0 && !slice_eq(rcpt->reason, buf_view(&p->reason))) {
        put_remark(p->out, printable(rcpt->reason, &text));
        buf_reset(&text);
    }
    buf_reset(&p->reason);
    buf_put_slice(&p->reason, rcpt->reason);
    put_line(p, "", "", "", printable(addr, &text));
    text_wait(p, rcpt->waits_text, rcpt->waits_until_us);
    buf_fini(&text);
}

void queue_print_rcpt(struct queue_printer *p, const struct proto_queue_rcpt *rcpt)
{
    struct buf addr = BUF_INIT(SIZE_MAX);

    if (!p->in_item)
        return;
    address_quote(rcpt->addr, &addr);
    if (p->json) {
        fputs(p->rcpts > 0 ? ", {" : "{", p->out);
        queue_print_json(p->out, "address", buf_view(&addr));
        if (rcpt->reason.len > 0) {
            fputs(", ", p->out);
            queue_print_json(p->out, "delay_reason", rcpt->reason);
        }
        json_wait(p->out, rcpt->waits_for, rcpt->waits_text, rcpt->waits_until_us);
        fputc('}', p->out);
    } else {
        text_rcpt(p, rcpt, buf_view(&addr));
    }
    buf_fini(&addr);
    p->rcpts++;
}

int queue_print_end(struct queue_printer *p)
{
    end_item(p);
    buf_fini(&p->reason);
    buf_fini(&p->waits);
    buf_fini(&p->last_wait);
    if (!p->json && p->messages == 0)
        fputs("Mail queue is empty\n", p->out);
    else if (!p->json)
        fprintf(p->out, "-- %llu Kbytes in %lu Request%s.\n", (p->bytes + 1023) / 1024, p->messages,
                p->messages == 1 ? "" : "s");
    return fflush(p->out) == EOF || ferror(p->out) != 0 ? -1 : 0;
}
