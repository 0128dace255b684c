/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtpd.c - the SMTP server's process, and the life of a session: woken by input, it handles all that is there, writes all
 * answers at once, and parks again. See smtpd_int.h for its states.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "base/share.h"
#include "mail/content.h"
#include "qmgr/notify_classes.h"
#include "smtpd/smtpd_int.h"

extern const struct worker_service smtpd_service;

#define READ_SIZE 16384
#define READ_SIZE_CONTENT                                                                          \
    122880                /* while a large message comes in: with the begin of a line, 128 KiB */
#define READS_IN_A_ROW 16 /* of one session, before others have their turn */
#define OUT_MAX        65536

static const char *const command_names[CMD_COUNT] = {"helo", "ehlo", "mail", "rcpt",
                                                     "data", "bdat", "rset", "noop",
                                                     "vrfy", "etrn", "quit", "unknown"};

static void log_disconnect(struct session *s)
{
    struct buf line = BUF_INIT(1024);
    unsigned good = 0;
    unsigned total = 0;

    buf_printf(&line, "disconnect from %.*s", SLICE_FMT(s->namaddr));
    for (int i = 0; i < CMD_COUNT; i++) {
        good += s->good[i];
        total += s->total[i];
        if (s->total[i] == 0)
            continue;
        if (s->good[i] == s->total[i])
            buf_printf(&line, " %s=%u", command_names[i], s->good[i]);
        else
            buf_printf(&line, " %s=%u/%u", command_names[i], s->good[i], s->total[i]);
    }
    if (good == total)
        buf_printf(&line, " commands=%u", total);
    else
        buf_printf(&line, " commands=%u/%u", good, total);
    log_event(LOG_LEVEL_INFO, "disconnect", SLICE_EMPTY, LF_RAW("text", buf_view(&line)));
    buf_fini(&line);
}

/* Who is it? Blocks in the name service; for local clients that is a file. */
static void identify(struct session *s, const struct worker_client *c)
{
    struct buf addr = BUF_INIT(256);
    struct buf name = BUF_INIT(1024);
    struct err err = ERR_INIT;
    int port = 0;

    if (c->peer.ss_family == AF_INET || c->peer.ss_family == AF_INET6) {
        dns_addr_print((const struct sockaddr *) &c->peer, &addr);
        port = ntohs(c->peer.ss_family == AF_INET
                         ? ((const struct sockaddr_in *) &c->peer)->sin_port
                         : ((const struct sockaddr_in6 *) &c->peer)->sin6_port);
        if (s->g->p.peername_lookup) {
            enum dns_result res = dns_client_name(s->g->dns, (const struct sockaddr *) &c->peer,
                                                  c->peer_len, &name, &s->name_verified, &err);

            s->name_tempfail = res == DNS_RETRY;
        }
    } else {
        buf_puts(&addr, "127.0.0.1");
        buf_puts(&name, "localhost");
        s->name_verified = true;
    }
    s->addr = arena_slice(s->arena, buf_view(&addr));
    s->reverse_name = name.len > 0 ? arena_slice(s->arena, buf_view(&name)) : SLICE_LIT("unknown");
    s->name = s->name_verified ? s->reverse_name : SLICE_LIT("unknown");
    s->port = slice_str(arena_printf(s->arena, "%d", port));
    s->namaddr = slice_str(
        s->g->p.client_port_logging
            ? arena_printf(s->arena, "%.*s[%.*s]:%d", SLICE_FMT(s->name), SLICE_FMT(s->addr), port)
            : arena_printf(s->arena, "%.*s[%.*s]", SLICE_FMT(s->name), SLICE_FMT(s->addr)));
    buf_fini(&addr);
    buf_fini(&name);
}

static bool matches(struct match_list *l, struct session *s)
{
    struct err err = ERR_INIT;

    /* a table that cannot say counts as no: what hangs on it is a favour */
    return match_list_host(l, s->name_verified ? s->name : SLICE_EMPTY, s->addr, &err) == MAP_FOUND;
}

static void *session_open(struct worker *w, struct worker_session *ws,
                          const struct worker_client *c)
{
    struct session *s = xcalloc(1, sizeof(*s));

    s->g = worker_data(w);
    s->worker = w;
    s->ws = ws;
    s->fd = c->fd;
    s->arena = arena_new(512);
    buf_init(&s->in, READ_SIZE_CONTENT + SHARE_SLOT_BYTES);
    buf_init(&s->out, OUT_MAX * 4);
    buf_init(&s->transcript, SIZE_MAX); /* smtpd_notify.c keeps it short */
    s->where = "CONNECT";
    identify(s, c);
    s->is_mynetwork = matches(s->g->mynetworks, s);
    s->rewrites_headers = matches(s->g->rewrite_clients, s);
    s->bare_excluded = matches(s->g->bare_exclusions, s);
    log_event(LOG_LEVEL_INFO, "connect", SLICE_EMPTY,
              LF_RAW("text", slice_str(arena_printf(s->arena, "connect from %.*s",
                                                    SLICE_FMT(s->namaddr)))));
    return s;
}

static void session_close(void *arg)
{
    struct session *s = arg;

    if (s->state == STATE_RESULT)
        log_warning("%s: client %.*s left while its message was being stored", s->t.queue_id,
                    SLICE_FMT(s->namaddr));
    smtpd_reset_transaction(s);
    log_disconnect(s);
    vec_fini(&s->t.rcpts);
    vec_fini(&s->t.prepends);
    vec_fini(&s->t.bccs);
    arena_free(&s->t.arena);
    arena_free(&s->arena);
    buf_fini(&s->in);
    buf_fini(&s->out);
    buf_fini(&s->transcript);
    free(s);
}

/* Small messages and commands are read into little; who sends much gets more room, as long as it lasts. */
static size_t read_size(const struct session *s)
{
    bool much = (s->state == STATE_DATA || s->state == STATE_BDAT) && s->t.bytes >= READ_SIZE;

    return much ? READ_SIZE_CONTENT : READ_SIZE;
}

/* For much content: into memory that is shared with cleanup, where whole lines that need no change stay. What is behind them is copied. */
static ssize_t fill_room(struct session *s, char *room)
{
    size_t before = s->in.len - s->in_at; /* a part of a line */
    size_t size = SHARE_SLOT_BYTES - before;
    ssize_t n;

    if (before > 0)
        memcpy(room, s->in.ptr + s->in_at, before);
    do
        n = recv(s->fd, room + before, size, MSG_DONTWAIT);
    while (n == -1 && errno == EINTR);
    s->drained = n < (ssize_t) size;
    if (n > 0) {
        struct slice filled = slice_of(room, before + (size_t) n);
        size_t plain = content_plain_lines(filled);

        buf_reset(&s->in);
        s->in_at = 0;
        buf_put_slice(&s->in, slice_sub(filled, plain, filled.len));
        if (plain > 0)
            smtpd_data_room_filled(s, plain);
    }
    return n;
}

/* Reads what is there. False: the client has gone. full: there may be more. */
static bool fill(struct session *s, bool *full)
{
    size_t size = read_size(s);
    char *room;
    ssize_t n;

    if (s->in_at == s->in.len)
        buf_reset(&s->in);
    else if (s->in_at > 0)
        buf_consume(&s->in, s->in_at);
    s->in_at = 0;
    *full = false;
    if (s->in.len >= (size_t) READ_SIZE * 4)
        return true; /* enough to work on */
    room = s->in.len <= READ_SIZE ? smtpd_data_room(s) : NULL;
    if (room != NULL) {
        n = fill_room(s, room);
        *full = n > 0 && !s->drained;
        return n > 0 || (n == -1 && errno == EAGAIN);
    }
    room = buf_reserve(&s->in, size);
    if (room == NULL)
        return true;
    do
        n = recv(s->fd, room, size, MSG_DONTWAIT);
    while (n == -1 && errno == EINTR);
    *full = n == (ssize_t) size;
    s->drained = n < (ssize_t) size;
    if (n > 0)
        buf_advance(&s->in, (size_t) n);
    return n > 0 || (n == -1 && errno == EAGAIN);
}

/* True: all is out. */
static bool flush(struct session *s)
{
    while (s->out_at < s->out.len) {
        ssize_t n = send(s->fd, s->out.ptr + s->out_at, s->out.len - s->out_at,
                         MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n == -1 && errno == EINTR)
            continue;
        if (n == -1) {
            s->lost |= errno != EAGAIN;
            return false;
        }
        s->out_at += (size_t) n;
    }
    buf_reset(&s->out);
    s->out_at = 0;
    return true;
}

static void end_log(struct session *s, const char *what)
{
    if (s->logged_end || s->state == STATE_CLOSING)
        return;
    s->logged_end = true;
    s->aborted = what;
    log_info("%s after %s from %.*s", what, s->state == STATE_DATA ? "DATA" : s->where,
             SLICE_FMT(s->namaddr));
}

static void too_long(struct session *s)
{
    smtpd_reply(s, 500, "5.5.2", "Error: command line too long");
    s->state = STATE_CLOSING;
}

/* Handles everything that is in the buffer, as long as the state lets it. */
static void handle(struct session *s)
{
    for (;;) {
        struct slice have = slice_sub(buf_view(&s->in), s->in_at, s->in.len);
        ptrdiff_t nl;

        if (s->state == STATE_DATA && smtpd_data_feed(s))
            continue;
        if (s->state == STATE_BDAT && smtpd_bdat_feed(s))
            continue;
        if (s->state != STATE_COMMAND || s->out.len - s->out_at > OUT_MAX)
            return;
        nl = slice_find(have, '\n');
        if (nl == -1) {
            if (have.len > (size_t) s->g->p.line_length_limit)
                too_long(s);
            return;
        }
        s->in_at += (size_t) nl + 1;
        have = slice_sub(have, 0, (size_t) nl);
        if (have.len > 0 && have.ptr[have.len - 1] == '\r')
            have.len--;
        if (have.len > (size_t) s->g->p.line_length_limit)
            too_long(s);
        else
            smtpd_command(s, have);
    }
}

/* Who waits keeps what is not handled, and no more. */
static void give_room_back(struct session *s)
{
    struct buf kept = BUF_INIT(s->in.limit);

    if (s->in_at == s->in.len && s->state != STATE_COMMAND && s->in.cap <= (size_t) READ_SIZE * 2) {
        buf_reset(&s->in);
        s->in_at = 0;
    } else if (s->in_at == s->in.len || s->in.cap > (size_t) READ_SIZE * 2) {
        buf_put_slice(&kept, slice_sub(buf_view(&s->in), s->in_at, s->in.len));
        buf_fini(&s->in);
        s->in = kept;
        s->in_at = 0;
    }
}

static enum worker_verdict park(struct session *s)
{
    bool out_done = flush(s);

    if (s->lost) {
        end_log(s, "lost connection");
        return WORKER_CLOSE;
    }
    if (!out_done) {
        worker_wait_for(s->ws, s->fd, POLLER_WRITE, s->deadline);
        return WORKER_WAIT;
    }
    if (s->state == STATE_CLOSING)
        return WORKER_CLOSE;
    give_room_back(s);
    if (s->state == STATE_COMMAND)
        buf_fini(&s->out);
    if (s->state == STATE_RESULT)
        worker_wait_for(s->ws, intake_fd(s->t.intake), POLLER_READ, s->deadline);
    else if (s->state == STATE_SLEEP)
        worker_wait_for(s->ws, -1, 0, s->wake_at);
    else
        worker_wait_for(s->ws, s->fd,
                        POLLER_READ | POLLER_STAYS | (s->drained ? (unsigned) POLLER_DRAINED : 0),
                        s->deadline);
    return WORKER_WAIT;
}

static enum worker_verdict work(struct session *s, unsigned events)
{
    bool alive = true;
    bool more = false;

    if (!s->greeted) {
        struct buf banner = BUF_INIT(1024);

        s->greeted = true;
        buf_printf(&banner, "220 %s", s->g->p.banner);
        smtpd_reply_line(s, buf_cstr(&banner));
        buf_fini(&banner);
    }
    if ((events & POLLER_TIMEOUT) != 0 && s->state != STATE_SLEEP) {
        if (s->state == STATE_RESULT) {
            log_warning("%s: time-out while waiting for the cleanup service", s->t.queue_id);
            s->troubles |= NOTIFY_SOFTWARE;
            smtpd_reply(s, 451, "4.3.0", "Error: queue file write error");
        } else {
            smtpd_reply(s, 421, "4.4.2", "%s Error: timeout exceeded", s->g->p.myhostname);
        }
        end_log(s, "timeout");
        (void) flush(s);
        return WORKER_CLOSE;
    }
    if (s->state == STATE_RESULT && (events & (POLLER_READ | POLLER_HANGUP)) != 0)
        smtpd_result(s);
    else if (s->state == STATE_SLEEP)
        s->state = STATE_COMMAND;
    else if ((events & (POLLER_READ | POLLER_HANGUP)) != 0)
        alive = fill(s, &more);
    if ((events & (POLLER_WOKEN)) == 0 || s->deadline.us == 0)
        s->deadline = mono_after_ms(mono_now(), s->g->p.timeout_s * 1000);
    handle(s);
    for (int n = 1;
         more && n < READS_IN_A_ROW && (s->state == STATE_DATA || s->state == STATE_BDAT); n++) {
        alive = fill(s, &more);
        handle(s);
    }
    if ((events & POLLER_HANGUP) != 0)
        s->drained = false; /* the end is still to be read */
    if (s->state == STATE_RESULT)
        s->deadline = mono_after_ms(mono_now(), 3600000);
    if (!alive && s->state != STATE_RESULT) {
        end_log(s, "lost connection");
        return WORKER_CLOSE;
    }
    return park(s);
}

static enum worker_verdict session_work(void *arg, unsigned events)
{
    struct session *s = arg;
    enum worker_verdict verdict = work(s, events);

    if (verdict == WORKER_CLOSE)
        smtpd_notify(s);
    return verdict;
}

static int open_lists(struct worker *w, struct smtpd *g, struct err *err)
{
    struct map_env *env = worker_maps(w);
    const struct config *cfg = worker_config(w);
    struct buf rewrite = BUF_INIT(65536);
    struct slice rest = slice_str(g->p.local_header_rewrite_clients);
    struct slice word;
    int ret = -1;

    /* these words stand for lists that are known by other names */
    while (slice_token_braces(&rest, ", \t", &word)) {
        if (slice_eq_str(word, "permit_mynetworks")) {
            buf_printf(&rewrite, "%s ", config_get(cfg, "mynetworks"));
        } else if (slice_eq_str(word, "permit_inet_interfaces")) {
            const char *interfaces = config_get(cfg, "inet_interfaces");

            if (interfaces != NULL && strcmp(interfaces, "all") != 0 &&
                strcmp(interfaces, "loopback-only") != 0)
                buf_printf(&rewrite, "%s ", interfaces);
            buf_puts(&rewrite, "127.0.0.0/8 [::1] ");
        } else if (slice_starts_with(word, SLICE_LIT("permit_sasl")) ||
                   slice_starts_with(word, SLICE_LIT("permit_tls"))) {
            continue; /* no client is authenticated */
        } else if (!slice_eq_str(word, "check_address_map")) {
            buf_put_slice(&rewrite, word);
            buf_putc(&rewrite, ' ');
        }
    }
    if (match_list_open(env, MATCH_HOST, buf_cstr(&rewrite), false, &g->rewrite_clients, err) ==
            0 &&
        match_list_open(env, MATCH_HOST, config_get(cfg, "mynetworks"),
                        parent_matches_subdomains(cfg, "mynetworks"), &g->mynetworks, err) == 0 &&
        match_list_open(env, MATCH_HOST, g->p.forbid_bare_newline_exclusions, true,
                        &g->bare_exclusions, err) == 0 &&
        match_list_open(env, MATCH_STRING, g->p.noop_commands, false, &g->noop, err) == 0 &&
        map_list_open(env, g->p.discard_ehlo_keyword_maps, &g->discard_ehlo_maps, err) == 0 &&
        map_list_open(env, g->p.command_filter, &g->command_filter, err) == 0 &&
        map_list_open(env, g->p.reject_footer_maps, &g->reject_footers, err) == 0)
        ret = 0;
    buf_fini(&rewrite);
    return ret;
}

static int start(struct worker *w, struct err *err)
{
    struct smtpd *g = xcalloc(1, sizeof(*g));
    const struct config *cfg = worker_config(w);
    struct buf path = BUF_INIT(512);
    const char *limit;

    worker_set_data(w, g);
    if (config_bind(cfg, &smtpd_params, &g->p, err) == -1)
        return -1;
    g->p.myhostname = config_get(cfg, "myhostname");
    limit = config_get(cfg, "message_size_limit");
    if (num_parse_i64(slice_str(limit), 0, INT64_MAX, &g->p.message_size_limit, err) == -1)
        return err_prefix(err, "message_size_limit: ");
    g->p.long_queue_ids =
        slice_caseeq_str(slice_str(config_get(cfg, "enable_long_queue_ids")), "yes");
    if (slice_caseeq_str(slice_str(g->p.forbid_bare_newline), "no"))
        g->bare_newline =
            BARE_NORMALIZE; /* never passed on as such: that is what smuggling needs */
    else if (slice_caseeq_str(slice_str(g->p.forbid_bare_newline), "yes") ||
             slice_caseeq_str(slice_str(g->p.forbid_bare_newline), "normalize"))
        g->bare_newline = BARE_NORMALIZE;
    else if (slice_caseeq_str(slice_str(g->p.forbid_bare_newline), "reject") ||
             slice_caseeq_str(slice_str(g->p.forbid_bare_newline), "note"))
        g->bare_newline = BARE_REJECT;
    else
        return err_input(err, "smtpd_forbid_bare_newline: unknown value \"%s\"",
                         g->p.forbid_bare_newline);
    g->double_bounce_sender = config_get(cfg, "double_bounce_sender");
    g->mail_name = config_get(cfg, "mail_name");
    g->myorigin = config_get(cfg, "myorigin");
    if (notify_classes_parse(config_get(cfg, "notify_classes"), &g->notify, err) == -1)
        return err_prefix(err, "notify_classes: ");
    g->notify &= NOTIFY_POLICY | NOTIFY_PROTOCOL | NOTIFY_DATA | NOTIFY_RESOURCE | NOTIFY_SOFTWARE;
    if (receive_options_read(cfg, &g->receive, err) == -1)
        return err_prefix(err, "receive_override_options: ");
    if (open_lists(w, g, err) == -1 || route_new(worker_maps(w), &g->route, err) == -1 ||
        dns_new(cfg, &g->dns, err) == -1 ||
        policy_new(worker_maps(w), g->route, g->dns, &g->policy, err) == -1)
        return -1;
    if (g->receive.any_recipient)
        policy_accept_unlisted(g->policy);
    worker_service_path(w, "public", "cleanup_service_name", &path);
    g->intake = intake_pool_new(buf_cstr(&path), "smtpd");
    buf_fini(&path);
    return 0;
}

const struct worker_service smtpd_service = {
    .program = "smtpd",
    .shape = WORKER_THREADED,
    .start = start,
    .session_open = session_open,
    .session_work = session_work,
    .session_close = session_close,
};
