/* SPDX-License-Identifier: Apache-2.0 */
/* queue_client.c - see queue_client.h. */
#include "qmgr/queue_client.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "maps/policy.h"

#define CONNECT_MS 10000
#define ANSWER_MS  3600000 /* an operation on all of a large queue */

struct no_members {
    char unused;
};
static const struct param rows[] = {
    PARAM_BY_NAME("authorized_mailq_users", PARAM_TYPE_STRING, .def = "static:anyone",
                  .services = "sendmail,postqueue", .doc = "Users that may list the mail queue."),
    PARAM_BY_NAME("authorized_flush_users", PARAM_TYPE_STRING, .def = "static:anyone",
                  .services = "sendmail,postqueue",
                  .doc = "Users that may have the queue's mail tried at once."),
};
const struct param_set queue_client_params = PARAM_SET("queue commands", struct no_members, rows);

/* Where a command's log lines go when maillog_file is set: master's socket, else the file if it may be written. -1: neither. */
static int open_maillog(const struct queue_client *q)
{
    const char *service = config_get(q->cfg, "postlog_service_name");
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct buf path = BUF_INIT(sizeof(un.sun_path) - 1);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    buf_printf(&path, "%s/public/%s", q->common.queue_directory,
               service != NULL ? service : "postlog");
    if (buf_ok(&path))
        memcpy(un.sun_path, path.ptr, path.len);
    if (fd != -1 && (!buf_ok(&path) || connect(fd, (struct sockaddr *) &un, sizeof(un)) == -1))
        fd_close(&fd);
    buf_fini(&path);
    if (fd == -1)
        fd = open(q->common.maillog_file, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY);
    return fd;
}

void queue_client_init(struct queue_client *q, const char *program, const char *config_dir)
{
    struct err err = ERR_INIT;

    *q = (struct queue_client){.program = program};
    log_open(&(struct log_target){.syslog_name = "postfix",
                                  .program = program,
                                  .maillog_fd = -1,
                                  .to_stderr = true,
                                  .no_syslog = true});
    if (config_load(config_dir, NULL, 0, NULL, &q->cfg, &err) == -1)
        fatal("%s", err.text);
    if (config_bind(q->cfg, &config_common_params, &q->common, &err) == -1)
        fatal("%s", err.text);
    log_open(
        &(struct log_target){.syslog_name = q->common.syslog_name,
                             .program = program,
                             .facility = q->common.syslog_facility,
                             .maillog_fd = q->common.maillog_file[0] != '\0' ? open_maillog(q) : -1,
                             .to_stderr = true,
                             .no_syslog = q->common.maillog_file[0] != '\0'});
}

void queue_client_fini(struct queue_client *q)
{
    config_unref(&q->cfg);
}

struct chan *queue_client_connect(const struct queue_client *q, struct err *err)
{
    struct buf path = BUF_INIT(SIZE_MAX);
    struct chan *c;

    buf_printf(&path, "%s/public/%s", q->common.queue_directory,
               config_get(q->cfg, "queue_service_name"));
    c = proto_connect(buf_cstr(&path), q->program, CONNECT_MS, err);
    buf_fini(&path);
    return c;
}

int queue_client_ask(struct chan *c, uint16_t frame_type, const struct proto_queue_op *op,
                     struct proto_result *result, struct err *err)
{
    struct buf payload = BUF_INIT(FRAME_PAYLOAD_MAX);
    struct frame f;
    int ret = -1;

    if (msg_encode(&msg_queue_op, op, &payload, err) == -1)
        goto done;
    chan_put(c, frame_type, buf_view(&payload), -1);
    if (chan_flush_wait(c, CONNECT_MS, err) != CHAN_OK)
        goto done;
    switch (proto_get_wait(c, &f, ANSWER_MS, err)) {
    case CHAN_OK:
        ret = proto_decode(&f, &msg_result, result, err);
        break;
    case CHAN_AGAIN:
    case CHAN_EOF:
        err_temporary(err, "the queue manager does not answer");
        break;
    case CHAN_ERROR:
        break;
    }
done:
    buf_fini(&payload);
    return ret;
}

static const struct passwd *owner(const struct queue_client *q)
{
    return getpwnam(q->common.mail_owner); /* NOLINT(concurrency-mt-unsafe): no threads */
}

bool queue_client_is_owner(const struct queue_client *q)
{
    const struct passwd *pw = owner(q);

    return getuid() == 0 || (pw != NULL && pw->pw_uid == getuid());
}

struct slice queue_client_who(size_t max)
{
    /* only root can pretend to be another here */
    const char *sudo =
        getuid() == 0 ? getenv("SUDO_USER") : NULL; /* NOLINT(concurrency-mt-unsafe) */
    const struct passwd *pw;

    if (sudo != NULL && sudo[0] != '\0')
        return slice_sub(slice_str(sudo), 0, max);
    pw = getpwuid(getuid()); /* NOLINT(concurrency-mt-unsafe): no threads */
    return pw != NULL ? slice_sub(slice_str(pw->pw_name), 0, max) : SLICE_LIT("unknown");
}

void queue_client_authorize(const struct queue_client *q, const char *param, const char *what)
{
    const struct passwd *pw;
    uid_t uid = getuid();
    struct match_list *list = NULL;
    struct map_env *env;
    struct err err = ERR_INIT;
    char *name;
    enum map_result res;

    if (queue_client_is_owner(q))
        return;
    pw = getpwuid(uid); /* NOLINT(concurrency-mt-unsafe): no threads */
    name = xstrdup(pw != NULL ? pw->pw_name : "unknown");
    env = map_env_new(q->cfg);
    if (match_list_open(env, MATCH_STRING, config_get(q->cfg, param), false, &list, &err) == -1)
        fatal("%s: %s", param, err.text);
    res = match_list_string(list, slice_str(name), &err);
    if (res != MAP_FOUND) {
        log_fatal_status(EX_NOPERM);
        if (res == MAP_RETRY)
            fatal("%s: %s", param, err.text);
        fatal("User %s(%ld) is not allowed to %s", name, (long) uid, what);
    }
    match_list_free(&list);
    map_env_free(&env);
    free(name);
}

void queue_client_store_options(const struct queue_client *q, struct store_options *out)
{
    struct err err = ERR_INIT;

    if (store_options_from(q->cfg, out, &err) == -1)
        fatal("%s", err.text);
}

void queue_client_owner(const struct queue_client *q, uid_t *uid, gid_t *gid)
{
    const struct passwd *pw = owner(q);

    *uid = geteuid();
    *gid = getegid();
    if (geteuid() != 0)
        return;
    if (pw == NULL)
        fatal("mail_owner: no such user: %s", q->common.mail_owner);
    *uid = pw->pw_uid;
    *gid = pw->pw_gid;
}

void queue_client_become_owner(const struct queue_client *q)
{
    const struct passwd *pw;

    if (geteuid() != 0)
        return;
    pw = owner(q);
    if (pw == NULL)
        fatal("mail_owner: no such user: %s", q->common.mail_owner);
    if (initgroups(pw->pw_name, pw->pw_gid) == -1 || setgid(pw->pw_gid) == -1 ||
        setuid(pw->pw_uid) == -1)
        fatal("cannot become %s", q->common.mail_owner);
}
