/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postdrop_main.c - postdrop(1): puts a message from standard input into the maildrop directory. Set-gid, so that everybody may
 * hand in mail and nobody can touch that of others; it believes nothing that it reads.
 *
 * The file is complete and on disk before it gets its final name; the pickup service is then told. While the system is
 * stopped the file waits.
 */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mtime.h"
#include "base/num.h"
#include "mail/maildrop.h"
#include "maps/policy.h"

static struct buf temporary = {.limit = 4096};

static void clean_up(int sig)
{
    if (temporary.ptr != NULL)
        (void) unlink(temporary.ptr);
    if (sig != 0)
        _exit(EX_TEMPFAIL);
}

NORETURN static void give_up(const char *what, const struct err *err)
{
    clean_up(0);
    fatal("%s%s%s", what, err != NULL ? ": " : "", err != NULL ? err->text : "");
}

/* authorized_submit_users: names of users, static:anyone, tables. */
static bool may_submit(const struct config *cfg)
{
    struct map_env *env = map_env_new(cfg);
    const struct passwd *pw = getpwuid(getuid()); /* NOLINT(concurrency-mt-unsafe): no threads */
    struct match_list *l = NULL;
    struct err err = ERR_INIT;
    bool yes = false;

    if (getuid() == 0)
        yes = true;
    else if (match_list_open(env, MATCH_STRING, config_get(cfg, "authorized_submit_users"), false,
                             &l, &err) == -1)
        log_warning("authorized_submit_users: %s", err.text);
    else
        yes = match_list_string(l, slice_str(pw != NULL ? pw->pw_name : "unknown"), &err) ==
              MAP_FOUND;
    match_list_free(&l);
    map_env_free(&env);
    return yes;
}

/* Copies the stream, looking at every frame; true with its END. */
static bool copy_stream(int out, int64_t limit, struct err *err)
{
    struct maildrop_reader r;
    struct buf bytes = BUF_INIT(SIZE_MAX);
    struct frame f;
    bool ended = false;
    bool begun = false;
    int64_t content = 0;
    int64_t rcpts = 0;
    int res = 0;

    maildrop_reader_init(&r, 0);
    while (!ended && (res = maildrop_read(&r, &f, err)) == 1) {
        struct mail_envelope env;
        struct mail_rcpt rcpt;

        switch (f.type) {
        case PROTO_ENVELOPE:
            if (begun || proto_decode(&f, &msg_envelope, &env, err) == -1)
                goto done;
            begun = true;
            /* what only other programs may say is left out */
            env = (struct mail_envelope){
                .queue_id = SLICE_LIT("MAILDROP"),
                .sender = env.sender,
                .flags = env.flags & (MAIL_8BITMIME | MAIL_SMTPUTF8 | MAIL_PROBE | MAIL_TRACE),
                .dsn_ret = env.dsn_ret,
                .dsn_envid = env.dsn_envid,
                .full_name = env.full_name};
            if (maildrop_put_msg(&bytes, &msg_envelope, &env, err) == -1)
                goto done;
            break;
        case PROTO_RCPT:
            if (!begun || proto_decode(&f, &msg_rcpt, &rcpt, err) == -1 ||
                ++rcpts > MAIL_RECIPIENTS_MAX)
                goto done;
            maildrop_put(&bytes, PROTO_RCPT, f.payload);
            break;
        case PROTO_DATA:
            content += (int64_t) f.payload.len;
            if (!begun || (limit > 0 && content > limit)) {
                err_input(err, "message size exceeds message_size_limit");
                goto done;
            }
            maildrop_put(&bytes, PROTO_DATA, f.payload);
            break;
        case PROTO_END:
            ended = begun && rcpts > 0;
            if (!ended)
                err_input(err, "no recipients");
            maildrop_put(&bytes, PROTO_END, SLICE_EMPTY);
            if (!ended)
                goto done;
            break;
        default:
            err_input(err, "unexpected frame of type %u", f.type);
            goto done;
        }
        if (bytes.len > 262144 || ended) {
            if (fd_write_all(out, bytes.ptr, bytes.len) == -1) {
                ended = false;
                err_sys(err, "write");
                goto done;
            }
            buf_reset(&bytes);
        }
    }
    if (!ended && res == 0)
        err_input(err, "the message has no end");
done:
    maildrop_reader_fini(&r);
    buf_fini(&bytes);
    return ended;
}

int main(int argc, char **argv)
{
    struct config *cfg = NULL;
    struct config_common common;
    struct err err = ERR_INIT;
    struct buf trigger = BUF_INIT(4096);
    const char *dir = NULL;
    int c;
    int fd;

    log_fatal_status(EX_TEMPFAIL);
    log_open(&(struct log_target){
        .syslog_name = "postfix", .program = "postdrop", .maillog_fd = -1, .to_stderr = true});
    while ((c = getopt(argc, argv, "c:rv")) != -1) {
        if (c == 'c')
            dir = optarg;
        else if (c == '?')
            fatal("usage: postdrop [-c config_dir] [-rv]");
    }
    /* set-gid: a stranger's configuration is not ours to obey */
    if (getgid() != getegid() && getuid() != 0) {
        const char *given = dir != NULL ? dir : getenv("MAIL_CONFIG");

        if (given != NULL && strcmp(given, "/etc/postfix") != 0) {
            struct config *base = NULL;
            bool listed = false;

            if (config_load("/etc/postfix", NULL, 0, NULL, &base, &err) == 0) {
                struct slice rest = slice_str(config_get(base, "alternate_config_directories"));
                struct slice word;

                while (slice_token(&rest, ", \t", &word))
                    listed |= slice_eq_str(word, given);
                config_unref(&base);
            }
            if (!listed)
                fatal(
                    "configuration directory %s is not among alternate_config_directories of /etc/postfix/main.cf",
                    given);
        }
    }
    if (config_load(dir, NULL, 0, NULL, &cfg, &err) == -1 ||
        config_bind(cfg, &config_common_params, &common, &err) == -1)
        fatal("%s", err.text);
    log_open(&(struct log_target){.syslog_name = common.syslog_name,
                                  .program = "postdrop",
                                  .facility = common.syslog_facility,
                                  .maillog_fd = -1,
                                  .to_stderr = true,
                                  .no_syslog = common.maillog_file[0] != '\0'});
    if (chdir(common.queue_directory) == -1)
        fatal("chdir %s: %s", common.queue_directory, err_errno_text(errno, (char[128]){0}, 128));
    if (!may_submit(cfg))
        fatal("User %ld is not allowed to submit mail", (long) getuid());
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, clean_up);
    signal(SIGTERM, clean_up);
    signal(SIGHUP, clean_up);
    umask(077);
    struct wall_time now = wall_now();
    /* listed as a message's name; until the file is executable, pickup and lists pass it over */
    buf_printf(&temporary, "maildrop/%llX%05X", (unsigned long long) now.us, (unsigned) getpid());
    fd = open(buf_cstr(&temporary), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd == -1) {
        int code = errno;

        temporary.len = 0;
        err_sys(&err, "create a file in %s/maildrop", common.queue_directory);
        errno = code;
        free(temporary.ptr);
        temporary.ptr = NULL;
        fatal("%s", err.text);
    }
    int64_t limit = 0;
    if (num_parse_i64(slice_str(config_get(cfg, "message_size_limit")), 0, INT64_MAX, &limit,
                      &err) == -1)
        give_up("message_size_limit", &err);
    if (!copy_stream(fd, limit, &err))
        give_up("message not accepted", &err);
    /* complete: the mode says so to pickup (whose group it is), the sync to the disk */
    if (fchmod(fd, 0740) == -1 || fsync(fd) == -1) {
        err_sys(&err, "write the message");
        give_up("message not accepted", &err);
    }
    fd_close(&fd);
    if (dir_sync("maildrop", &err) == -1 && errno != EACCES)
        give_up("message not accepted", &err);
    free(temporary.ptr);
    temporary.ptr = NULL;
    /* pickup looks by itself once a minute; so this may fail */
    buf_printf(&trigger, "public/%s", config_get(cfg, "pickup_service_name"));
    fd = unix_connect(buf_cstr(&trigger), 0, &err);
    if (fd != -1)
        (void) !write(fd, "W", 1);
    fd_close(&fd);
    buf_fini(&trigger);
    config_unref(&cfg);
    return 0;
}
