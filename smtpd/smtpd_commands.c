/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtpd_commands.c - the table of SMTP commands: verb, handler, and what a client gets for the wrong time.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/utf8.h"
#include "mail/address.h"
#include "qmgr/notify_classes.h"
#include "smtpd/smtpd_int.h"

void smtpd_reset_transaction(struct session *s)
{
    struct transaction *t = &s->t;

    intake_free(&t->intake);
    if (!t->begun && t->arena == NULL)
        return;
    vec_clear(&t->rcpts, NULL);
    vec_clear(&t->prepends, NULL);
    vec_clear(&t->bccs, NULL);
    arena_free(&t->arena);
    *t = (struct transaction){.rcpts = t->rcpts, .prepends = t->prepends, .bccs = t->bccs};
}

static void count_junk(struct session *s)
{
    if (++s->junk > s->g->p.junk_command_limit)
        smtpd_error(s);
}

/* The policy that is due when HELO or connection are judged at once. */
static bool judge_now(struct session *s, enum policy_list list, const char *stage)
{
    return policy_delays_reject(s->g->policy) ||
           smtpd_judge(s, &list, 1, stage, SLICE_EMPTY, false);
}

static bool take_helo(struct session *s, struct slice args, bool esmtp)
{
    struct slice name = slice_trim(args, NULL);

    if (name.len == 0) {
        smtpd_reply(s, 501, "5.5.4", "Syntax: %s hostname", esmtp ? "EHLO" : "HELO");
        return false;
    }
    smtpd_reset_transaction(s);
    s->esmtp = esmtp;
    s->helo = arena_slice(s->arena, slice_sub(name, 0, 255));
    return judge_now(s, LIST_CLIENT, "CONNECT") && judge_now(s, LIST_HELO, esmtp ? "EHLO" : "HELO");
}

static void cmd_helo(struct session *s, struct slice args)
{
    struct buf line = BUF_INIT(1024);

    if (take_helo(s, args, false)) {
        buf_printf(&line, "250 %s", s->g->p.myhostname);
        smtpd_reply_line(s, buf_cstr(&line));
    }
    buf_fini(&line);
}

static bool is_discarded(struct slice list, const char *keyword)
{
    struct slice rest = list;
    struct slice word;

    while (slice_token(&rest, ", \t", &word))
        if (slice_caseeq_str(word, keyword))
            return true;
    return false;
}

static void cmd_ehlo(struct session *s, struct slice args)
{
    struct buf size = BUF_INIT(64);
    struct buf discard = BUF_INIT(4096);
    struct vec lines = VEC_INIT;
    struct err err = ERR_INIT;
    size_t from;

    if (!take_helo(s, args, true))
        return;
    buf_printf(&size, "SIZE %lld", (long long) s->g->p.message_size_limit);
    if (!map_list_is_empty(s->g->discard_ehlo_maps) &&
        map_list_lookup(s->g->discard_ehlo_maps, s->addr, 0, &discard, NULL, &err) == MAP_RETRY)
        log_warning("smtpd_discard_ehlo_keyword_address_maps: %s", err.text);
    if (discard.len == 0)
        buf_puts(&discard, s->g->p.discard_ehlo_keywords);
    const struct {
        const char *keyword, *line;
        bool on;
    } offers[] = {
        {"PIPELINING", "PIPELINING", true},
        {"SIZE", buf_cstr(&size), true},
        {"ETRN", "ETRN", true},
        {"VRFY", "VRFY", !s->g->p.disable_vrfy},
        {"ENHANCEDSTATUSCODES", "ENHANCEDSTATUSCODES", true},
        {"8BITMIME", "8BITMIME", true},
        {"DSN", "DSN", true},
        {"SMTPUTF8", "SMTPUTF8", s->g->p.smtputf8_enable},
        {"CHUNKING", "CHUNKING", true},
    };
    vec_push(&lines, (void *) (uintptr_t) s->g->p.myhostname);
    for (size_t i = 0; i < ARRAY_LEN(offers); i++)
        if (offers[i].on && !is_discarded(buf_view(&discard), offers[i].keyword))
            vec_push(&lines, (void *) (uintptr_t) offers[i].line);
    from = s->out.len;
    for (size_t i = 0; i < lines.len; i++)
        buf_printf(&s->out, "250%c%s\r\n", i + 1 < lines.len ? '-' : ' ',
                   (const char *) lines.items[i]);
    smtpd_transcript_out(s, from);
    vec_fini(&lines);
    buf_fini(&size);
    buf_fini(&discard);
}

static void cmd_data(struct session *s, struct slice args)
{
    if (args.len > 0) {
        smtpd_reply(s, 501, "5.5.4", "Syntax: DATA");
    } else if (s->t.rcpts.len == 0) {
        if (!s->t.begun)
            smtpd_reply(s, 503, "5.5.1", "Error: need RCPT command");
        else
            smtpd_reply(s, 554, "5.5.1", "Error: no valid recipients");
    } else if (s->t.intake != NULL || s->t.bytes > 0) {
        smtpd_reply(s, 503, "5.5.1", "Error: DATA after BDAT");
    } else {
        smtpd_data_begin(s);
    }
}

static void cmd_rset(struct session *s, struct slice args)
{
    (void) args;
    count_junk(s);
    smtpd_reset_transaction(s);
    smtpd_reply(s, 250, "2.0.0", "Ok");
}

static void cmd_noop(struct session *s, struct slice args)
{
    (void) args;
    count_junk(s);
    smtpd_reply(s, 250, "2.0.0", "Ok");
}

static void cmd_quit(struct session *s, struct slice args)
{
    (void) args;
    smtpd_reply(s, 221, "2.0.0", "Bye");
    s->state = STATE_CLOSING;
}

/* RFC 6531, 3.7.4.2: the last word may be SMTPUTF8. True: it was, and is taken off. */
static bool take_utf8(struct slice *args)
{
    static const struct slice keyword = {"SMTPUTF8", 8};
    struct slice before;

    if (!slice_case_ends_with(*args, keyword))
        return false;
    before = slice_sub(*args, 0, args->len - keyword.len);
    if (before.len > 0 && !ascii_is_space((unsigned char) before.ptr[before.len - 1]))
        return false;
    *args = slice_trim(before, NULL);
    return true;
}

static void cmd_vrfy(struct session *s, struct slice args)
{
    struct buf addr = BUF_INIT(MAIL_ADDR_MAX);
    struct buf full = BUF_INIT(MAIL_ADDR_MAX);
    struct slice rest = slice_trim(args, NULL);
    bool with_utf8 = s->g->p.smtputf8_enable;
    bool requested = with_utf8 && take_utf8(&rest);
    const char *table = "";
    struct err err = ERR_INIT;

    count_junk(s);
    if (s->g->p.disable_vrfy) {
        s->troubles |= NOTIFY_POLICY;
        smtpd_reply(s, 502, "5.5.1", "VRFY command is disabled");
    } else if (rest.len == 0) {
        smtpd_reply(s, 501, "5.5.4", "Syntax: VRFY address%s", with_utf8 ? " [SMTPUTF8]" : "");
    } else if (address_parse_path(&rest, false, true, &addr, &err) == -1 || addr.len == 0 ||
               rest.len > 0) {
        smtpd_reply(s, 501, "5.1.3", "Bad recipient address syntax");
    } else if (smtpd_check_utf8(s, buf_view(&addr), requested, "VRFY") == 0) {
        route_rewrite(s->g->route, buf_view(&addr), slice_str(s->g->p.myhostname), &full);
        switch (route_recipient_exists(s->g->route, buf_view(&full), &table, &err)) {
        case MAP_FOUND:
            smtpd_reply(s, 252, "2.0.0", "%.*s", SLICE_FMT(buf_view(&addr)));
            break;
        case MAP_NOTFOUND:
            smtpd_reply(s, 550, "5.1.1", "<%.*s>: Recipient address rejected: User unknown in %s",
                        SLICE_FMT(buf_view(&addr)), table);
            break;
        case MAP_RETRY:
            log_warning("VRFY: %s", err.text);
            smtpd_reply(s, 451, "4.3.0", "<%.*s>: Temporary lookup failure",
                        SLICE_FMT(buf_view(&addr)));
            break;
        }
    }
    buf_fini(&addr);
    buf_fini(&full);
}

static const struct {
    const char *verb;
    void (*handler)(struct session *s, struct slice args);
    enum smtpd_command index;
} commands[] = {
    {"HELO", cmd_helo, CMD_HELO},   {"EHLO", cmd_ehlo, CMD_EHLO},
    {"MAIL", smtpd_mail, CMD_MAIL}, {"RCPT", smtpd_rcpt, CMD_RCPT},
    {"DATA", cmd_data, CMD_DATA},   {"BDAT", smtpd_bdat_begin, CMD_BDAT},
    {"RSET", cmd_rset, CMD_RSET},   {"NOOP", cmd_noop, CMD_NOOP},
    {"VRFY", cmd_vrfy, CMD_VRFY},   {"ETRN", smtpd_etrn, CMD_ETRN},
    {"QUIT", cmd_quit, CMD_QUIT},
};

/* Words of smtpd_forbidden_commands; a regexp:{{...}} element means "does not begin with a letter". */
static bool is_forbidden(const struct session *s, struct slice verb, struct slice line)
{
    struct slice rest = slice_str(s->g->p.forbidden_commands);
    struct slice word;

    while (slice_token_braces(&rest, ", \t", &word)) {
        if (slice_caseeq(word, verb))
            return true;
        if (slice_starts_with(word, SLICE_LIT("regexp:{")) && line.len > 0 &&
            !ascii_is_alpha((unsigned char) line.ptr[0]))
            return true;
    }
    return false;
}

static void unknown(struct session *s, struct slice verb, struct slice line)
{
    struct err err = ERR_INIT;

    if (is_forbidden(s, verb, line)) {
        log_warning("non-SMTP command from %.*s: %.*s", SLICE_FMT(s->namaddr),
                    SLICE_FMT(slice_sub(line, 0, 100)));
        smtpd_reply(s, 221, "2.7.0", "Error: this is a mail server, and that was no mail command");
        s->state = STATE_CLOSING;
    } else if (match_list_string(s->g->noop, verb, &err) == MAP_FOUND) {
        cmd_noop(s, SLICE_EMPTY);
    } else {
        smtpd_reply(s, 500, "5.5.2", "Error: command not recognized");
    }
}

static void after_error(struct session *s)
{
    smtpd_error(s);
    if (s->errors >= s->g->p.hard_error_limit && s->state != STATE_CLOSING) {
        s->aborted = "too many errors";
        log_info("too many errors after %s from %.*s", s->where, SLICE_FMT(s->namaddr));
        smtpd_reply(s, 421, "4.7.0", "%s Error: too many errors", s->g->p.myhostname);
        s->state = STATE_CLOSING;
    } else if (s->errors > s->g->p.soft_error_limit && s->g->p.error_sleep_s > 0 &&
               s->state == STATE_COMMAND) {
        s->wake_at = mono_after_ms(mono_now(), s->g->p.error_sleep_s * 1000);
        s->state = STATE_SLEEP;
    }
}

/* The line that smtpd_command_filter makes of a client's. False: it cannot be asked. */
static bool filter(struct session *s, struct slice line, struct buf *out)
{
    struct err err = ERR_INIT;
    enum map_result res =
        map_list_lookup(s->g->command_filter, slice_trim(line, "\r\n"), 0, out, NULL, &err);

    if (res == MAP_RETRY)
        log_warning("smtpd_command_filter: %s", err.text);
    return res != MAP_RETRY;
}

static void dispatch(struct session *s, struct slice line)
{
    struct slice rest = slice_trim(line, NULL);
    struct slice verb = SLICE_EMPTY;
    enum smtpd_command index = CMD_UNKNOWN;
    size_t i = 0;

    (void) slice_token(&rest, " \t", &verb);
    rest = slice_trim(rest, NULL);
    while (i < ARRAY_LEN(commands) && !slice_caseeq_str(verb, commands[i].verb))
        i++;
    s->last_failed = false;
    if (s->g->p.smtputf8_enable && !slice_is_ascii(line) && !utf8_is_valid(line)) {
        smtpd_reply(s, 500, "5.5.2", "Error: bad UTF-8 syntax");
        s->where = "UNKNOWN";
    } else if (i < ARRAY_LEN(commands)) {
        index = commands[i].index;
        s->where = commands[i].verb;
        commands[i].handler(s, rest);
    } else if (verb.len == 0) {
        smtpd_reply(s, 500, "5.5.2", "Error: bad syntax");
        s->where = "UNKNOWN";
    } else {
        s->where = "UNKNOWN";
        unknown(s, verb, line);
        s->last_failed = true;
    }
    s->total[index]++;
    if (s->last_failed)
        after_error(s);
    else
        s->good[index]++;
}

void smtpd_command(struct session *s, struct slice line)
{
    struct buf other = BUF_INIT((size_t) s->g->p.line_length_limit);

    smtpd_transcript_in(s, line);
    if (map_list_is_empty(s->g->command_filter)) {
        dispatch(s, line);
    } else if (filter(s, line, &other)) {
        dispatch(s, other.len > 0 ? buf_view(&other) : line);
    } else {
        smtpd_reply(s, 451, "4.3.0", "Error: the command cannot be taken now");
        s->total[CMD_UNKNOWN]++;
        after_error(s);
    }
    buf_fini(&other);
}
