/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup_checks.c - header_checks and body_checks: a table's answer for a line, and what its action does.
 * Actions and their meaning: header_checks(5).
 */
#include <stdio.h>

#include "base/log.h"
#include "cleanup/cleanup_int.h"

/* "QID: reject: header Subject: x from NAME[ADDR]; from=<> to=<> proto=ESMTP helo=<>: text" */
static void log_action(const struct cleanup_msg *m, const char *what, const char *kind,
                       struct slice text, struct slice note)
{
    const struct mail_envelope *e = &m->env;
    struct buf line = BUF_INIT(4096);

    buf_printf(&line, "%s: %s ", what, kind);
    buf_put_slice(&line, slice_sub(text, 0, 200));
    if (e->client_addr.len > 0)
        buf_printf(&line, " from %.*s[%.*s];", SLICE_FMT(e->client_name),
                   SLICE_FMT(e->client_addr));
    else
        buf_puts(&line, " from local;");
    buf_puts(&line, " from=");
    log_put_address(&line, e->sender);
    if (m->rcpts.len > 0) {
        const struct mail_rcpt *r = m->rcpts.items[0];

        buf_puts(&line, " to=");
        log_put_address(&line, r->addr);
    }
    if (e->protocol.len > 0)
        buf_printf(&line, " proto=%.*s", SLICE_FMT(e->protocol));
    if (e->helo.len > 0)
        buf_printf(&line, " helo=<%.*s>", SLICE_FMT(e->helo));
    if (note.len > 0) {
        buf_puts(&line, ": ");
        buf_put_slice(&line, slice_sub(note, 0, 1000));
    }
    log_event(LOG_LEVEL_INFO, "check", e->queue_id, LF_RAW("text", buf_view(&line)));
    buf_fini(&line);
}

static void refuse(struct cleanup_msg *m, const char *kind, struct slice text, struct slice args)
{
    struct slice reason = args;
    struct slice code = dsn_code_split(args, &reason);
    char buf[DSN_CODE_MAX + 1] = "5.7.1";
    char line[ERR_TEXT_MAX];

    if (code.len > 0 && code.len < sizeof(buf))
        snprintf(buf, sizeof(buf), "%.*s", SLICE_FMT(code));
    if (reason.len == 0)
        reason = SLICE_LIT("message content rejected");
    snprintf(line, sizeof(line), "%s %.*s", buf, SLICE_FMT(reason));
    log_action(m, "reject", kind, text, slice_str(line));
    cleanup_fail(m, buf[0] == '4' ? 450 : 550, buf, "%.*s", SLICE_FMT(reason));
}

/* Actions that ask for an argument say so when it is missing; the line is then kept. */
static bool has_args(const struct cleanup_msg *m, const char *action, struct slice args)
{
    if (args.len == 0)
        log_warning("%.*s: %s action without its argument in header or body checks",
                    SLICE_FMT(m->env.queue_id), action);
    return args.len > 0;
}

enum check_verdict cleanup_check(struct cleanup_msg *m, struct map_list *maps, const char *kind,
                                 struct slice text, struct buf *replacement)
{
    struct buf value = BUF_INIT(MAP_VALUE_MAX);
    enum check_verdict verdict = CHECK_KEEP;
    struct err err = ERR_INIT;
    struct slice action;
    struct slice args;

    if (text.len == 0)
        return CHECK_KEEP;
    switch (map_list_lookup(maps, slice_sub(text, 0, MAP_KEY_MAX), 0, &value, NULL, &err)) {
    case MAP_NOTFOUND:
        goto done;
    case MAP_RETRY:
        log_warning("%.*s: %s checks: %s", SLICE_FMT(m->env.queue_id), kind, err.text);
        cleanup_fail(m, 451, "4.3.0", "Temporary lookup failure");
        goto done;
    case MAP_FOUND:
        break;
    }
    args = slice_trim(buf_view(&value), NULL);
    if (!slice_token(&args, " \t", &action))
        goto done;
    args = slice_trim(args, NULL);
    if (slice_caseeq_str(action, "REJECT")) {
        refuse(m, kind, text, args);
    } else if (slice_caseeq_str(action, "WARN")) {
        log_action(m, "warning", kind, text, args);
    } else if (slice_caseeq_str(action, "INFO")) {
        log_action(m, "info", kind, text, args);
    } else if (slice_caseeq_str(action, "IGNORE")) {
        verdict = CHECK_DROP;
    } else if (slice_caseeq_str(action, "STRIP")) {
        log_action(m, "strip", kind, text, args);
        verdict = CHECK_DROP;
    } else if (slice_caseeq_str(action, "DISCARD")) {
        log_action(m, "discard", kind, text, args);
        m->discard = true;
    } else if (slice_caseeq_str(action, "HOLD")) {
        if ((m->env.flags & MAIL_HOLD) == 0)
            log_action(m, "hold", kind, text, args);
        m->env.flags |= MAIL_HOLD;
    } else if (slice_caseeq_str(action, "FILTER")) {
        if (has_args(m, "FILTER", args)) {
            log_action(m, "filter", kind, text, args);
            m->env.filter = arena_slice(m->arena, args);
        }
    } else if (slice_caseeq_str(action, "REDIRECT")) {
        if (has_args(m, "REDIRECT", args)) {
            log_action(m, "redirect", kind, text, args);
            m->env.redirect = arena_slice(m->arena, args);
        }
    } else if (slice_caseeq_str(action, "BCC")) {
        if (has_args(m, "BCC", args)) {
            struct mail_rcpt r = {.addr = args, .notify = DSN_NOTIFY_NEVER};

            log_action(m, "bcc", kind, text, args);
            cleanup_add_rcpt(m, &m->rcpts, &r);
        }
    } else if (slice_caseeq_str(action, "PREPEND")) {
        if (has_args(m, "PREPEND", args)) {
            log_action(m, "prepend", kind, text, args);
            buf_put_slice(&m->prepend, args);
            buf_puts(&m->prepend, "\r\n");
        }
    } else if (slice_caseeq_str(action, "REPLACE")) {
        if (has_args(m, "REPLACE", args)) {
            log_action(m, "replace", kind, text, args);
            buf_put_slice(replacement, args);
            verdict = CHECK_REPLACED;
        }
    } else if (!slice_caseeq_str(action, "DUNNO") && !slice_caseeq_str(action, "OK") &&
               !slice_caseeq_str(action, "PASS")) {
        log_warning("%.*s: unknown action \"%.*s\" in %s checks", SLICE_FMT(m->env.queue_id),
                    SLICE_FMT(action), kind);
    }
done:
    buf_fini(&value);
    return verdict;
}
