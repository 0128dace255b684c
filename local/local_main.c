/* SPDX-License-Identifier: Apache-2.0 */
/* local_main.c - the local(8) agent: mail for the users and aliases of this host. */
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>

#include "local/local_int.h"
#include "mail/address.h"
#include "mail/content.h"
#include "master/agent.h"

static int start(struct worker *w, struct err *err)
{
    struct local *l = xcalloc(1, sizeof(*l));
    const struct config *cfg = worker_config(w);
    const struct passwd *pw;
    struct buf path = BUF_INIT(512);

    worker_set_data(w, l);
    if (config_bind(cfg, &local_params, &l->p, err) == -1 ||
        local_mailbox_options(cfg, "mailbox_delivery_lock", &l->mailbox, err) == -1 ||
        map_list_open_plain(worker_maps(w), config_get(cfg, "alias_maps"), &l->aliases, err) ==
            -1 ||
        map_list_open_plain(worker_maps(w), l->p.mailbox_command_maps, &l->mailbox_commands, err) ==
            -1 ||
        map_list_open_plain(worker_maps(w), l->p.mailbox_transport_maps, &l->mailbox_transports,
                            err) == -1 ||
        map_list_open_plain(worker_maps(w), l->p.fallback_transport_maps, &l->fallback_transports,
                            err) == -1 ||
        route_new(worker_maps(w), &l->route, err) == -1)
        return -1;
    l->mailbox.size_limit = l->p.mailbox_size_limit;
    l->myorigin = config_get(cfg, "myorigin");
    l->myhostname = config_get(cfg, "myhostname");
    l->mail_name = config_get(cfg, "mail_name");
    l->delimiter = config_get(cfg, "recipient_delimiter");
    l->long_ids = slice_caseeq_str(slice_str(config_get(cfg, "enable_long_queue_ids")), "yes");
    pw = getpwnam(l->p.default_privs); /* NOLINT(concurrency-mt-unsafe): single-threaded */
    if (pw == NULL)
        return err_permanent(err, "default_privs: no such user: %s", l->p.default_privs);
    l->default_privs = (struct mailbox_owner){pw->pw_uid, pw->pw_gid};
    worker_service_path(w, "public", "cleanup_service_name", &path);
    l->intake = intake_pool_new(buf_cstr(&path), "local");
    buf_fini(&path);
    return 0;
}

/* Has the message been here before for this recipient? Looks at Delivered-To: fields. */
static bool is_loop(const struct local_job *j)
{
    size_t len = j->r->msg.header_bytes < (1U << 20) ? j->r->msg.header_bytes : 1U << 20;
    char *text = xmalloc(len + 1);
    struct err err = ERR_INIT;
    ssize_t n = deliver_content(j->r, 0, text, len, &err);
    struct slice rest = n > 0 ? slice_of(text, (size_t) n) : SLICE_EMPTY;
    struct slice field;
    struct slice name;
    struct slice value;
    bool loop = false;

    while (!loop && header_next(&rest, &field, &name, &value))
        loop = slice_caseeq_str(name, "Delivered-To") &&
               slice_caseeq(slice_trim(value, NULL), j->delivered_to);
    free(text);
    return loop;
}

static void deliver_one(struct local *l, struct deliver_request *r, size_t i)
{
    struct local_job j = {.l = l,
                          .r = r,
                          .rcpt = &r->rcpts[i].r,
                          .arena = arena_new(0),
                          .sender = r->msg.sender,
                          .how = BUF_INIT(4096)};
    struct dsn_status st = {.outcome = OUTCOME_SENT, .code = SLICE_LIT("2.0.0")};
    struct err err = ERR_INIT;

    j.delivered_to = arena_slice(j.arena, j.rcpt->addr);
    if (is_loop(&j)) {
        err_set(&j.err, ERR_PERMANENT, "5.4.6", "mail forwarding loop for %.*s",
                SLICE_FMT(j.rcpt->addr));
    } else {
        local_recipient(&j, address_local(j.rcpt->addr), 0);
        /* nothing is sent on while something else is to be tried again: it would be sent twice */
        if (j.forward.len > 0 && j.err.kind == ERR_NONE && local_forward(&j, &err) == -1)
            local_fail(&j, &err);
    }
    if (j.err.kind == ERR_NONE && j.delivered == 0)
        err_set(&j.err, ERR_PERMANENT, "5.3.5", "alias or forward file of %.*s leads nowhere",
                SLICE_FMT(j.rcpt->addr));
    if (j.err.kind != ERR_NONE) {
        bool permanent = j.err.kind == ERR_PERMANENT;

        st.outcome = permanent ? OUTCOME_BOUNCED : OUTCOME_DEFERRED;
        st.code = slice_str(j.err.dsn[0] != '\0' ? j.err.dsn : permanent ? "5.3.0" : "4.3.0");
        st.text = slice_str(j.err.text);
    } else {
        st.text = buf_view(&j.how);
    }
    /* all that was done is what another agent has done, and logged */
    if (j.passes == 1 && j.delivered + (j.err.kind != ERR_NONE) == 1)
        deliver_passed(r, i, &j.passed);
    else
        deliver_status(r, i, SLICE_LIT("local"), 0, &st, false);
    vec_fini(&j.forward);
    buf_fini(&j.how);
    arena_free(&j.arena);
}

static void deliver(struct worker *w, struct deliver_request *r)
{
    r->connected = r->agent_start;
    for (size_t i = 0; i < r->nrcpts; i++)
        deliver_one(worker_data(w), r, i);
}

int main(int argc, char **argv)
{
    static const struct agent agent = {
        .program = "local",
        .shape = WORKER_SINGLE,
        .keep_root = true,
        .start = start,
        .deliver = deliver,
    };

    return agent_main(argc, argv, &agent);
}
