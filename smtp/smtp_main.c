/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp_main.c - the smtp(8) delivery agent's process.
 */
#include <stdlib.h>

#include "master/agent.h"
#include "smtp/smtp_int.h"

static void look_for_generic(struct slice word, void *arg)
{
    struct smtp *s = arg;

    s->generic_extensions |= slice_eq_str(word, "generic");
}

static int start(struct worker *w, struct err *err)
{
    struct smtp *s = xcalloc(1, sizeof(*s));
    const struct config *cfg = worker_config(w);

    worker_set_data(w, s);
    if (config_bind(cfg, &smtp_params, &s->p, err) == -1 || dns_new(cfg, &s->dns, err) == -1)
        return -1;
    s->p.myhostname = config_get(cfg, "myhostname");
    s->p.myorigin = config_get(cfg, "myorigin");
    s->p.recipient_delimiter = config_get(cfg, "recipient_delimiter");
    if (!s->p.randomize_addresses)
        dns_keep_order(s->dns);
    config_list_each(config_get(cfg, "propagate_unmatched_extensions"), look_for_generic, s);
    if (map_list_open(worker_maps(w), s->p.generic_maps, &s->generic, err) == -1 ||
        map_list_open(worker_maps(w), s->p.discard_ehlo_maps, &s->discard_ehlo, err) == -1 ||
        match_list_open(worker_maps(w), MATCH_DOMAIN, config_get(cfg, "mydestination"), false,
                        &s->mydestination, err) == -1)
        return -1;
    if (match_list_open(worker_maps(w), MATCH_DOMAIN, s->p.connection_cache_destinations, false,
                        &s->cache_destinations, err) == -1)
        return -1;
    s->cache =
        smtp_cache_new(s->p.cache_time_limit_s, s->p.reuse_time_limit_s, s->p.reuse_count_limit);
    return 0;
}

static bool deliver(struct worker *w, struct deliver_request *r, struct deliver_wait *wait)
{
    struct smtp_job *job = r->delivery;

    if (job == NULL)
        r->delivery = job = smtp_job_new(worker_data(w), r);
    if (!smtp_job_go(job, wait))
        return false;
    smtp_job_free(&job);
    return true;
}

static void stop(struct worker *w)
{
    struct smtp *s = worker_data(w);

    smtp_cache_free(&s->cache);
}

int main(int argc, char **argv)
{
    static const struct agent agent = {
        .program = "smtp",
        .shape = WORKER_THREADED,
        .start = start,
        .deliver_in_steps = deliver,
        .stop = stop,
    };

    return agent_main(argc, argv, &agent);
}
