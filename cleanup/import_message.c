/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import_message.c - see import_message.h.
 *
 * Segments, each begun by a record: envelope, content ('M'), what was found in or done to the content ('X'), end ('E'). Only a file with
 * all of them is a message: one without was never acknowledged, or is cut off.
 */
#include "cleanup/import_message.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"

#define PIECE_BYTES (64U << 10) /* of content handed on at once */

enum segment { SEGMENT_ENVELOPE, SEGMENT_CONTENT, SEGMENT_EXTRACTED };

struct reading {
    struct import_message *m;
    import_content_fn fn;
    void *arg;
    enum segment segment;
    bool has_sender;
    /* of the next recipient */
    struct slice orig, orcpt;
    uint32_t notify;
    /* content */
    struct buf piece;
    bool last_cr;
    bool at_line_start;
    bool in_header;
    bool in_message_id;
    struct buf message_id;
};

void import_message_init(struct import_message *m, struct arena *arena)
{
    *m = (struct import_message){.arena = arena};
    content_facts_init(&m->facts);
}

void import_message_fini(struct import_message *m)
{
    vec_fini(&m->rcpts);
    vec_fini(&m->lost);
}

void import_message_lose(struct import_message *m, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    (void) vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (size_t i = 0; i < m->lost.len; i++)
        if (strcmp(m->lost.items[i], text) == 0)
            return;
    vec_push(&m->lost, arena_strdup(m->arena, text));
}

static struct slice keep(struct import_message *m, struct slice s)
{
    return s.len > 0 ? arena_slice(m->arena, s) : SLICE_EMPTY;
}

/* --- envelope ---------------------------------------------------------------------------------- */

#define TEXT(name, member, max)                                                                    \
    {                                                                                              \
        name, offsetof(struct mail_envelope, member), max                                          \
    }
/* Attributes that are a string of our envelope. Of two for one member the first that comes counts: what the mail system logged, and told
 * the next one, stands before what the connection had. */
static const struct text_attribute {
    const char *name;
    size_t member;
    size_t max;
} texts[] = {
    TEXT("log_client_name", client_name, 512),
    TEXT("log_client_address", client_addr, 512),
    TEXT("log_client_port", client_port, 16),
    TEXT("log_helo_name", helo, 512),
    TEXT("log_protocol_name", protocol, 32),
    TEXT("client_name", client_name, 512),
    TEXT("client_address", client_addr, 512),
    TEXT("client_port", client_port, 16),
    TEXT("helo_name", helo, 512),
    TEXT("protocol_name", protocol, 32),
    TEXT("reverse_client_name", client_reverse_name, 512),
    TEXT("sasl_method", sasl_method, 512),
    TEXT("sasl_username", sasl_username, 512),
    TEXT("sasl_sender", sasl_sender, MAIL_ADDR_MAX),
    TEXT("envelope_id", dsn_envid, 512),
};

/* Made anew from others, or of no use once a message is in the queue. */
static const char *const passed_over[] = {
    "create_time",         "log_ident",      "log_message_origin",
    "client_address_type", "server_address", "server_port",
};

static bool get_text(struct import_message *m, struct slice name, struct slice value)
{
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct slice *member;

        if (!slice_eq_str(name, texts[i].name))
            continue;
        member = (struct slice *) (void *) ((char *) &m->env + texts[i].member);
        if (value.len > texts[i].max)
            import_message_lose(m, "%s (too long)", texts[i].name);
        else if (member->len == 0)
            *member = keep(m, value);
        else if (!slice_eq(*member, value))
            import_message_lose(m, "%s", texts[i].name);
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(passed_over); i++)
        if (slice_eq_str(name, passed_over[i]))
            return true;
    return false;
}

static int get_number(struct slice value, int64_t max, uint32_t *out, struct err *err)
{
    int64_t n;

    if (num_parse_i64(slice_trim(value, NULL), 0, max, &n, err) == -1)
        return -1;
    *out = (uint32_t) n;
    return 0;
}

/* "rfc822;decoded", into the form of RFC 3461 that the next system is told. */
static struct slice encode_orcpt(struct import_message *m, struct slice value)
{
    struct buf out = BUF_INIT(MAIL_ADDR_MAX);
    ptrdiff_t semicolon = slice_find(value, ';');
    struct slice ret = SLICE_EMPTY;

    if (semicolon > 0) {
        buf_put_slice(&out, slice_sub(value, 0, (size_t) semicolon + 1));
        xtext_encode(slice_sub(value, (size_t) semicolon + 1, value.len), &out);
    }
    if (semicolon > 0 && buf_ok(&out))
        ret = keep(m, buf_view(&out));
    else if (value.len > 0)
        import_message_lose(m, "dsn_orig_rcpt");
    buf_fini(&out);
    return ret;
}

static int get_attribute(struct reading *rd, struct slice text, struct err *err)
{
    struct import_message *m = rd->m;
    ptrdiff_t eq = slice_find(text, '=');
    struct slice name = slice_sub(text, 0, eq == -1 ? text.len : (size_t) eq);
    struct slice value = eq == -1 ? SLICE_EMPTY : slice_sub(text, (size_t) eq + 1, text.len);
    int ret = 0;

    if (get_text(m, name, value))
        return 0;
    if (slice_eq_str(name, "ret_flags")) {
        ret = get_number(value, DSN_RET_HDRS, &m->env.dsn_ret, err);
    } else if (slice_eq_str(name, "notify_flags")) {
        ret = get_number(value, 15, &rd->notify, err);
    } else if (slice_eq_str(name, "dsn_orig_rcpt")) {
        rd->orcpt = encode_orcpt(m, value);
    } else if (slice_eq_str(name, "encoding")) {
        if (slice_caseeq_str(value, "8bit"))
            m->env.flags |= MAIL_8BITMIME;
        else if (!slice_caseeq_str(value, "7bit"))
            import_message_lose(m, "encoding");
    } else if (slice_eq_str(name, "rewrite_context")) {
        if (slice_eq_str(value, "local"))
            m->env.flags |= MAIL_LOCAL_ORIGIN;
    } else if (!slice_eq_str(name, "trace_flags") || !slice_eq_str(value, "0")) {
        import_message_lose(m, "attribute %.*s", SLICE_FMT(slice_sub(name, 0, 100)));
    }
    return ret == 0 ? 0 : err_prefix(err, "%.*s: ", SLICE_FMT(slice_sub(name, 0, 100)));
}

/* "seconds microseconds" */
static int get_time(struct slice s, uint64_t *out, struct err *err)
{
    struct slice rest = s;
    struct slice word;
    int64_t seconds;
    int64_t us = 0;

    if (!slice_token(&rest, " ", &word) ||
        num_parse_i64(word, 0, INT64_MAX / 2000000, &seconds, err) == -1 ||
        (slice_token(&rest, " ", &word) && num_parse_i64(word, 0, 999999, &us, err) == -1))
        return err_input(err, "the arrival time cannot be read");
    *out = (uint64_t) seconds * 1000000 + (uint64_t) us;
    return 0;
}

/*
 * "size, where the content begins, recipients, flags, content length, SMTPUTF8": older files have fewer. The last one says in its other
 * bits where there is UTF-8 (2: the header, 4: the sender), whether SMTPUTF8 was asked for or not.
 */
#define SIZE_UTF8_REQUESTED 1
static int get_size(struct import_message *m, struct slice s, struct err *err)
{
    struct slice rest = s;
    struct slice word;
    uint32_t utf8 = 0;

    for (int i = 0; slice_token(&rest, " ", &word); i++)
        if (i == 5 && get_number(word, INT32_MAX, &utf8, err) == -1)
            return err_prefix(err, "size record: ");
    if ((utf8 & SIZE_UTF8_REQUESTED) != 0)
        m->env.flags |= MAIL_SMTPUTF8;
    return 0;
}

static int add_rcpt(struct reading *rd, const struct import_record *rec, struct err *err)
{
    struct import_message *m = rd->m;
    struct import_rcpt *r;

    if (rec->data.len > MAIL_ADDR_MAX)
        return err_input(err, "a recipient of %zu bytes", rec->data.len);
    if (m->rcpts.len >= MAIL_RECIPIENTS_MAX)
        return err_input(err, "more than %d recipients", MAIL_RECIPIENTS_MAX);
    if (rec->type != IMPORT_RCPT_CANCELED) {
        r = arena_alloc(m->arena, sizeof(*r));
        r->r.addr = keep(m, rec->data);
        if (!slice_eq(rd->orig, rec->data))
            r->r.orig = rd->orig;
        r->r.orcpt = rd->orcpt;
        r->r.notify = rd->notify;
        r->at = rec->at;
        r->done = rec->type == IMPORT_RCPT_DONE;
        r->reported = true;
        vec_push(&m->rcpts, r);
    }
    rd->orig = rd->orcpt = SLICE_EMPTY;
    rd->notify = 0;
    return 0;
}

static int get_address(struct import_message *m, const struct import_record *rec, struct slice *out,
                       struct err *err)
{
    if (rec->data.len > MAIL_ADDR_MAX)
        return err_input(err, "an address of %zu bytes", rec->data.len);
    *out = keep(m, rec->data);
    return 0;
}

static int get_envelope(struct reading *rd, const struct import_record *rec, struct err *err)
{
    struct import_message *m = rd->m;
    struct slice data = rec->data;

    switch (rec->type) {
    case IMPORT_SIZE:
        return get_size(m, data, err);
    case IMPORT_TIME:
        return get_time(data, &m->env.arrival_us, err);
    case IMPORT_FULL_NAME:
        m->env.full_name = keep(m, slice_sub(data, 0, 512));
        return 0;
    case IMPORT_SENDER:
        rd->has_sender = true;
        return get_address(m, rec, &m->env.sender, err);
    case IMPORT_REDIRECT:
        return get_address(m, rec, &m->env.redirect, err);
    case IMPORT_ORIGINAL_RCPT:
        return get_address(m, rec, &rd->orig, err);
    case IMPORT_RCPT:
    case IMPORT_RCPT_DONE:
    case IMPORT_RCPT_CANCELED:
        return add_rcpt(rd, rec, err);
    case IMPORT_ATTRIBUTE:
        return get_attribute(rd, data, err);
    case IMPORT_ORCPT:
        rd->orcpt = encode_orcpt(m, data);
        return 0;
    case IMPORT_NOTIFY:
        return get_number(data, 15, &rd->notify, err);
    case IMPORT_ENVID:
        m->env.dsn_envid = keep(m, slice_sub(data, 0, 512));
        return 0;
    case IMPORT_RET:
        return get_number(data, DSN_RET_HDRS, &m->env.dsn_ret, err);
    case IMPORT_FILTER:
        if (data.len > 4096)
            return err_input(err, "a content filter of %zu bytes", data.len);
        m->env.filter = keep(m, data); /* the last one counts */
        return 0;
    case IMPORT_WARN_TIME: /* in the past of all mail: it was sent */
        if (slice_starts_with(slice_trim(data, NULL), SLICE_LIT("-")))
            m->env.flags |= MAIL_DELAY_WARNED;
        return 0;
    case IMPORT_KILLED:
        m->killed = true;
        return 0;
    case IMPORT_VERP:
        import_message_lose(m, "VERP delimiters");
        return 0;
    case IMPORT_CREATE_TIME:
        return 0;
    default:
        import_message_lose(m, "record of type %c",
                            rec->type > ' ' && rec->type <= '~' ? rec->type : '?');
        return 0;
    }
}

/* --- content ----------------------------------------------------------------------------------- */

static int hand_on(struct reading *rd, struct err *err)
{
    content_facts_scan(&rd->m->facts, buf_view(&rd->piece));
    if (rd->piece.len > 0 && rd->fn(rd->arg, buf_view(&rd->piece), err) == -1)
        return -1;
    buf_reset(&rd->piece);
    return 0;
}

/* What the header says: where it ends, and Message-ID. `text` is a line, or its begin. */
static void look_at_header(struct reading *rd, struct slice text, bool starts, bool ends)
{
    uint64_t at = rd->m->facts.bytes + rd->piece.len;
    struct slice name;

    if (starts && text.len == 0 && ends) {
        rd->in_header = false;
        at += 2;
    } else if (starts && text.len > 0 && (text.ptr[0] == ' ' || text.ptr[0] == '\t')) {
        if (rd->in_message_id)
            buf_put_slice(&rd->message_id, text);
    } else if (starts && header_is_field(text, &name)) {
        rd->in_message_id = rd->message_id.len == 0 && slice_caseeq_str(name, "message-id");
        if (rd->in_message_id)
            buf_put_slice(&rd->message_id,
                          slice_sub(text, (size_t) slice_find(text, ':') + 1, text.len));
    } else if (starts) {
        rd->in_header = false;
    }
    if (rd->in_header && !slice_is_ascii(text))
        rd->m->env.flags |= MAIL_FACT_8BIT_HEADER;
    if (!rd->in_header)
        rd->m->env.header_bytes = at < UINT32_MAX ? (uint32_t) at : UINT32_MAX;
}

static int get_content(struct reading *rd, const struct import_record *rec, struct err *err)
{
    bool ends = rec->type == IMPORT_LINE;

    if (rec->type != IMPORT_LINE && rec->type != IMPORT_LINE_PART)
        return err_input(err, "a record of type %u at %" PRIu64 " in the content", rec->type,
                         rec->at);
    if (rd->in_header)
        look_at_header(rd, rec->data, rd->at_line_start, ends);
    content_to_wire(rec->data, &rd->last_cr, &rd->piece);
    if (ends)
        content_to_wire(SLICE_LIT("\n"), &rd->last_cr, &rd->piece);
    rd->at_line_start = ends;
    return rd->piece.len < PIECE_BYTES ? 0 : hand_on(rd, err);
}

static int end_content(struct reading *rd, struct err *err)
{
    struct import_message *m = rd->m;

    if (!rd->at_line_start) /* mail has no unfinished lines */
        content_to_wire(SLICE_LIT("\n"), &rd->last_cr, &rd->piece);
    if (hand_on(rd, err) == -1)
        return -1;
    content_facts_end(&m->facts);
    if (rd->in_header)
        m->env.header_bytes = m->facts.bytes < UINT32_MAX ? (uint32_t) m->facts.bytes : UINT32_MAX;
    m->env.message_id = keep(m, slice_sub(slice_trim(buf_view(&rd->message_id), NULL), 0, 1000));
    m->env.flags |= m->facts.flags;
    m->env.longest_line = m->facts.longest_line;
    m->env.content_bytes = m->facts.bytes;
    return 0;
}

/* --- all of it --------------------------------------------------------------------------------- */

/* 0: go on; 1: the message is complete; -1 */
static int get_record(struct reading *rd, const struct import_record *rec, struct err *err)
{
    if (rec->type == IMPORT_END) {
        if (rd->segment != SEGMENT_EXTRACTED)
            return err_input(err, "the end comes at %" PRIu64 ", before all of the message",
                             rec->at);
        return 1;
    }
    if (rec->type == IMPORT_CONTENT) {
        if (rd->segment != SEGMENT_ENVELOPE)
            return err_input(err, "the content begins twice, at %" PRIu64, rec->at);
        rd->segment = SEGMENT_CONTENT;
        return 0;
    }
    if (rec->type == IMPORT_EXTRACTED) {
        if (rd->segment != SEGMENT_CONTENT)
            return err_input(err, "the content ends at %" PRIu64 " without begin", rec->at);
        rd->segment = SEGMENT_EXTRACTED;
        return end_content(rd, err);
    }
    return rd->segment == SEGMENT_CONTENT ? get_content(rd, rec, err) : get_envelope(rd, rec, err);
}

int import_message_read(struct import_message *m, struct import_reader *r, import_content_fn fn,
                        void *arg, struct err *err)
{
    struct reading rd = {.m = m, .fn = fn, .arg = arg, .at_line_start = true, .in_header = true};
    struct import_record rec;
    int ret = 0;

    rd.piece = BUF_INIT(SIZE_MAX);
    rd.message_id = BUF_INIT(65536);
    while (ret == 0) {
        switch (import_record_next(r, &rec, err)) {
        case IMPORT_RECORD:
            /* the first says what kind of file it is */
            if (rec.at == 0 && rec.type != IMPORT_SIZE && rec.type != IMPORT_TIME)
                ret = err_input(err, "not a queue file of Postfix");
            else
                ret = get_record(&rd, &rec, err);
            break;
        case IMPORT_EOF:
            ret = r->size == 0 ? err_input(err, "the file is empty")
                               : err_input(err, "the file is cut off: it has no end");
            break;
        case IMPORT_ERROR:
            ret = -1;
            break;
        }
    }
    if (ret == 1 && m->env.arrival_us == 0)
        ret = err_input(err, "the message has no arrival time");
    if (ret == 1 && !rd.has_sender)
        ret = err_input(err, "the message has no sender");
    buf_fini(&rd.piece);
    buf_fini(&rd.message_id);
    return ret == 1 ? 0 : -1;
}
