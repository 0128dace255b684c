/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp_hello.c - the begin and the end of a session: greeting, EHLO or HELO, what the server offers, QUIT.
 */
#include "smtp/smtp_int.h"

#include <stdio.h>
#include <string.h>

#include "base/num.h"

/* "host H[A] refused to talk to me: REPLY" and its kind by the code. */
static int refused(const struct smtp_conn *c, const struct smtp_reply *r, bool temporary,
                   struct err *err)
{
    char dsn[DSN_CODE_MAX + 1];

    (void) snprintf(dsn, sizeof(dsn), "%.*s",
                    SLICE_FMT(r->dsn.len > 0 ? r->dsn : SLICE_LIT("4.0.0")));
    if (r->dsn.len == 0 || temporary)
        dsn[0] = temporary ? '4' : '5';
    return err_set(err, temporary ? ERR_TEMPORARY : ERR_PERMANENT, dsn,
                   "host %.*s refused to talk to me: %.*s", SLICE_FMT(buf_view(&c->namaddr)),
                   SLICE_FMT(buf_view(&r->text)));
}

/* Keywords of the server's that are passed over: by its address, else those for all. */
static bool is_discarded(struct slice list, const char *keyword)
{
    struct slice word;

    while (slice_token(&list, ", \t", &word))
        if (slice_caseeq_str(word, keyword))
            return true;
    return false;
}

static void take_features(struct smtp_conn *c, struct slice text, struct slice discard)
{
    static const struct {
        const char *name;
        unsigned bit;
    } known[] = {
        {"PIPELINING", SMTP_FEATURE_PIPELINING},
        {"8BITMIME", SMTP_FEATURE_8BITMIME},
        {"DSN", SMTP_FEATURE_DSN},
        {"SMTPUTF8", SMTP_FEATURE_SMTPUTF8},
    };
    struct slice rest = text;
    struct slice word;
    bool after_size = false;
    bool first = true;

    c->features = SMTP_FEATURE_ESMTP;
    /* "250-PIPELINING 250-SIZE 100 250 DSN": a word that is a code begins a line, the next one is the keyword */
    while (slice_token(&rest, " ", &word)) {
        bool begins =
            word.len >= 4 && word.ptr[3] == '-' && slice_starts_with(word, SLICE_LIT("250"));

        if (begins || slice_eq_str(word, "250")) {
            first = false;
            after_size = false;
            if (!begins && !slice_token(&rest, " ", &word))
                break;
            if (begins)
                word = slice_sub(word, 4, word.len);
            for (size_t i = 0; i < ARRAY_LEN(known); i++)
                if (slice_caseeq_str(word, known[i].name) && !is_discarded(discard, known[i].name))
                    c->features |= known[i].bit;
            if (slice_caseeq_str(word, "SIZE") && !is_discarded(discard, "SIZE")) {
                c->features |= SMTP_FEATURE_SIZE;
                after_size = true;
            }
        } else if (after_size && !first) {
            if (num_parse_u64_base(word, 10, UINT64_MAX, &c->size_limit, NULL) == -1)
                c->size_limit = 0;
            after_size = false;
        }
    }
}

/* The first word behind the code of the answer to EHLO or HELO is the server's name. */
static bool is_self(const struct smtp *s, struct slice answer)
{
    struct slice rest = slice_sub(answer, 4, answer.len);
    struct slice name;

    return slice_token(&rest, " ", &name) && slice_caseeq_str(name, s->p.myhostname);
}

static int discarded_keywords(struct smtp *s, const struct smtp_conn *c, struct buf *out,
                              struct err *err)
{
    enum map_result res =
        map_list_is_empty(s->discard_ehlo)
            ? MAP_NOTFOUND
            : map_list_lookup(s->discard_ehlo, buf_view(&c->addr), 0, out, NULL, err);

    if (res == MAP_NOTFOUND)
        buf_puts(out, s->p.discard_ehlo_keywords);
    return res == MAP_RETRY ? err_set(err, ERR_TEMPORARY, "4.3.0",
                                      "smtp_discard_ehlo_keyword_address_maps: "
                                      "temporary lookup failure")
                            : 0;
}

int smtp_hello(struct smtp *s, struct smtp_conn *c, struct err *err)
{
    struct buf discard = BUF_INIT(4096);
    struct smtp_reply r;
    enum smtp_io io;
    int ret = -1;

    smtp_reply_init(&r);
    io = smtp_conn_reply(c, s->p.helo_timeout_s, &r);
    if (io != SMTP_IO_OK) {
        smtp_io_explain(c, io, "receiving the initial server greeting", err);
        goto done;
    }
    if (r.code / 100 != 2) {
        refused(c, &r, r.code / 100 == 4 || s->p.skip_5xx_greeting, err);
        goto done;
    }
    if (!s->p.never_send_ehlo &&
        (s->p.always_send_ehlo || memmem(r.text.ptr, r.text.len, "ESMTP", 5) != NULL)) {
        smtp_conn_put(c, "EHLO %s\r\n", s->p.helo_name);
        io = smtp_conn_reply(c, s->p.helo_timeout_s, &r);
        if (io != SMTP_IO_OK) {
            smtp_io_explain(c, io, "performing the EHLO handshake", err);
            goto done;
        }
        if (r.code / 100 == 2) {
            ret = discarded_keywords(s, c, &discard, err);
            c->is_self = is_self(s, buf_view(&r.text));
            if (ret == 0)
                take_features(c, buf_view(&r.text), buf_view(&discard));
            goto done;
        }
        if (r.code == 421) {
            refused(c, &r, true, err);
            goto done;
        }
    }
    smtp_conn_put(c, "HELO %s\r\n", s->p.helo_name);
    io = smtp_conn_reply(c, s->p.helo_timeout_s, &r);
    if (io != SMTP_IO_OK)
        smtp_io_explain(c, io, "performing the HELO handshake", err);
    else if (r.code / 100 != 2)
        refused(c, &r, r.code / 100 == 4, err);
    else
        ret = 0;
    c->is_self = ret == 0 && is_self(s, buf_view(&r.text));
done:
    buf_fini(&discard);
    smtp_reply_fini(&r);
    return ret;
}

void smtp_quit(struct smtp *s, struct smtp_conn **c)
{
    struct smtp_reply r;

    if (*c == NULL)
        return;
    smtp_conn_put(*c, "QUIT\r\n");
    if (smtp_conn_flush(*c, s->p.quit_timeout_s) == SMTP_IO_OK && !s->p.skip_quit_response) {
        smtp_reply_init(&r);
        /* what the server answers changes nothing any more */
        if (smtp_conn_reply(*c, s->p.quit_timeout_s, &r) != SMTP_IO_OK)
            r.code = 0;
        smtp_reply_fini(&r);
    }
    smtp_conn_free(c);
}
