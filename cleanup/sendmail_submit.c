/* SPDX-License-Identifier: Apache-2.0 */
/* sendmail_submit.c - see sendmail.h. */
#include "cleanup/sendmail.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "mail/address.h"
#include "mail/content.h"
#include "mail/maildrop.h"

#define DATA_PIECE 65536

void submission_fini(struct submission *s)
{
    vec_clear(&s->rcpts, free);
    vec_fini(&s->rcpts);
    buf_fini(&s->content);
}

static void add_one(struct slice raw, struct slice addr, void *arg)
{
    struct submission *s = arg;

    (void) raw;
    vec_push(&s->rcpts, slice_dup(addr));
}

void submission_add_recipients(struct submission *s, struct slice text)
{
    address_header_each(text, add_one, s);
}

static void extract_recipients(struct submission *s)
{
    static const char *const plain[] = {"To", "Cc", "Bcc"};
    static const char *const resent[] = {"Resent-To", "Resent-Cc", "Resent-Bcc"};
    bool is_resent = false;

    for (int pass = 0; pass < 2; pass++) {
        struct slice rest = buf_view(&s->content);
        struct slice field;
        struct slice name;
        struct slice value;

        while (header_next(&rest, &field, &name, &value)) {
            for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
                if (pass == 0 && slice_caseeq_str(name, resent[i]))
                    is_resent = true;
                else if (pass == 1 && slice_caseeq_str(name, is_resent ? resent[i] : plain[i]))
                    submission_add_recipients(s, value);
            }
        }
    }
}

void submission_make_probe(struct submission *s)
{
    buf_init(&s->content, SIZE_MAX);
    buf_printf(&s->content, "From: %.*s\r\nSubject: probe\r\nTo: ", SLICE_FMT(s->sender));
    for (size_t i = 0; i < s->rcpts.len; i++)
        buf_printf(&s->content, "%s%s", i > 0 ? ",\r\n\t" : "", (const char *) s->rcpts.items[i]);
    buf_puts(&s->content, "\r\n\r\n");
}

int submission_read(struct submission *s, int fd, bool extract, bool ignore_dots, struct err *err)
{
    struct buf text = BUF_INIT(SIZE_MAX);
    struct slice rest;
    bool last_cr = false;
    bool first = true;

    buf_init(&s->content, SIZE_MAX);
    for (;;) {
        char *room = buf_reserve(&text, 65536);
        ssize_t n = room != NULL ? fd_read_some(fd, room, 65536) : -1;

        if (n == -1) {
            buf_fini(&text);
            return err_sys(err, "read the message");
        }
        if (n == 0)
            break;
        buf_advance(&text, (size_t) n);
    }
    rest = buf_view(&text);
    while (rest.len > 0) {
        ptrdiff_t nl = slice_find(rest, '\n');
        struct slice line = slice_sub(rest, 0, nl == -1 ? rest.len : (size_t) nl + 1);
        struct slice bare = slice_trim(line, "\r\n");

        rest = slice_sub(rest, line.len, rest.len);
        if (!ignore_dots && slice_eq_str(bare, "."))
            break;
        /* the envelope line of mbox files, as formail and old programs send it */
        if (first && (slice_starts_with(line, SLICE_LIT("From ")) ||
                      slice_starts_with(line, SLICE_LIT(">From "))))
            continue;
        first = false;
        content_to_wire(line, &last_cr, &s->content);
    }
    if (s->content.len > 0 && s->content.ptr[s->content.len - 1] != '\n')
        buf_puts(&s->content, "\r\n");
    buf_fini(&text);
    if (extract)
        extract_recipients(s);
    if (s->rcpts.len == 0)
        return err_input(err, "No recipient addresses found%s",
                         extract ? " in message header" : "");
    return 0;
}

/* The stream for postdrop. */
static int encode(const struct submission *s, struct buf *out, struct err *err)
{
    struct mail_envelope env = {
        .queue_id = SLICE_LIT("MAILDROP"),
        .sender = s->sender,
        .flags = s->flags,
        .dsn_ret = s->dsn_ret,
        .dsn_envid = s->envid,
        .full_name = slice_sub(s->full_name, 0, 500),
    };
    struct buf sender = BUF_INIT(MAIL_ADDR_MAX);
    struct slice rest = buf_view(&s->content);
    int ret = -1;

    /* "<>" and "<user@host>" are taken as they are meant */
    if (s->sender.len >= 2 && s->sender.ptr[0] == '<' && s->sender.ptr[s->sender.len - 1] == '>')
        env.sender = slice_sub(s->sender, 1, s->sender.len - 1);
    address_unquote(env.sender, &sender);
    env.sender = buf_view(&sender);
    if (maildrop_put_msg(out, &msg_envelope, &env, err) == -1)
        goto done;
    for (size_t i = 0; i < s->rcpts.len; i++) {
        struct mail_rcpt r = {.addr = slice_str(s->rcpts.items[i]), .notify = s->notify};

        if (maildrop_put_msg(out, &msg_rcpt, &r, err) == -1)
            goto done;
    }
    while (rest.len > 0) {
        maildrop_put(out, PROTO_DATA, slice_sub(rest, 0, DATA_PIECE));
        rest = slice_sub(rest, DATA_PIECE, rest.len);
    }
    maildrop_put(out, PROTO_END, SLICE_EMPTY);
    ret = 0;
done:
    buf_fini(&sender);
    return ret;
}

int submission_send(const struct submission *s, struct err *err)
{
    struct buf stream = BUF_INIT(SIZE_MAX);
    struct buf path = BUF_INIT(8192);
    int pair[2];
    int status;
    int wrote;
    pid_t pid;

    if (encode(s, &stream, err) == -1) {
        buf_fini(&stream);
        return -1;
    }
    path_join(&path, s->command_directory, "postdrop");
    if (pipe(pair) == -1)
        return err_sys(err, "pipe");
    pid = fork();
    if (pid == -1)
        return err_sys(err, "fork");
    if (pid == 0) {
        close(pair[1]);
        if (dup2(pair[0], 0) == -1)
            _exit(1);
        close(pair[0]);
        execl(buf_cstr(&path), "postdrop", "-r", "-c", s->config_directory, (char *) NULL);
        _exit(127);
    }
    close(pair[0]);
    wrote = fd_write_all(pair[1], stream.ptr, stream.len);
    close(pair[1]);
    buf_fini(&stream);
    while (waitpid(pid, &status, 0) == -1)
        if (errno != EINTR)
            return err_sys(err, "wait for postdrop");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        err_temporary(err, "cannot run %s", buf_cstr(&path));
    else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || wrote == -1)
        err_temporary(err, "mail was not accepted: postdrop ended with status %d",
                      WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    buf_fini(&path);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 && wrote == 0 ? 0 : -1;
}
