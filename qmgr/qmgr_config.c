/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_config.c - one generation of the queue manager's configuration: parameters, routing tables, limits.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/num.h"
#include "qmgr/notify_classes.h"
#include "qmgr/qmgr_int.h"

static const struct param rows[] = {
    PARAM_INT("qmgr_message_active_limit", struct qmgr_params, active_limit, .def = "20000",
              .min = 1, .services = "qmgr",
              .doc = "Messages that are being delivered at once; the others wait on disk."),
    PARAM_INT(
        "qmgr_message_recipient_limit", struct qmgr_params, recipient_limit, .def = "20000",
        .min = 1, .services = "qmgr",
        .doc =
            "Recipients in memory; beyond it they are read from disk when others are done with."),
    PARAM_INT("qmgr_message_recipient_minimum", struct qmgr_params, recipient_minimum, .def = "10",
              .min = 1, .services = "qmgr",
              .doc =
                  "So many recipients of each message are in memory whether there is room or not."),
    PARAM_TIME(
        "minimal_backoff_time", struct qmgr_params, minimal_backoff_s, .def = "300s", .min = 1,
        .services = "qmgr",
        .doc = "The least time between two attempts; how long a dead destination is left alone."),
    PARAM_TIME("maximal_backoff_time", struct qmgr_params, maximal_backoff_s, .def = "4000s",
               .min = 1, .services = "qmgr", .doc = "The longest time between two attempts."),
    PARAM_TIME("maximal_queue_lifetime", struct qmgr_params, maximal_lifetime_s, .def = "5d",
               .unit = 'd', .max = 8640000, .services = "qmgr",
               .doc = "Mail that is older than this after a failed attempt is returned."),
    PARAM_TIME("bounce_queue_lifetime", struct qmgr_params, bounce_lifetime_s, .def = "5d",
               .unit = 'd', .max = 8640000, .services = "qmgr",
               .doc = "The same for mail with the null sender."),
    PARAM_TIME("delay_warning_time", struct qmgr_params, delay_warning_s, .def = "0h", .unit = 'h',
               .services = "cleanup,sendmail",
               .doc = "The sender is told once when mail is delayed for so long; 0 for never."),
    PARAM_BOOL(
        "confirm_delay_cleared", struct qmgr_params, confirm_delay_cleared, .def = "no",
        .services = "qmgr",
        .doc = "Whoever was told of a delay is told, too, when the mail was delivered after all."),
    PARAM_TIME("transport_retry_time", struct qmgr_params, transport_retry_s, .def = "60s",
               .min = 1, .services = "qmgr",
               .doc = "How long a delivery service that does not answer is left alone."),
    PARAM_TIME("qmgr_clog_warn_time", struct qmgr_params, clog_warn_s, .def = "300s",
               .services = "qmgr",
               .doc = "Between two warnings that the mail for one destination fills the active "
                      "queue; 0 for none."),
    PARAM_BOOL("helpful_warnings", struct qmgr_params, helpful_warnings, .def = "yes",
               .services = "trivial-rewrite,qmgr",
               .doc = "Whether the queue manager gives the warnings of qmgr_clog_warn_time; what "
                      "postfix check, start and reload warn of is said in any case."),
    PARAM_INT("initial_destination_concurrency", struct qmgr_params, initial_concurrency,
              .def = "5", .min = 1, .services = "qmgr",
              .doc = "Deliveries at once to a destination of which nothing is known yet."),
    PARAM_INT("qmgr_resolver_threads", struct qmgr_params, resolver_threads, .def = "8", .min = 1,
              .max = 256, .services = "qmgr",
              .doc = "Threads that ask routing tables which may have to wait for a server."),
    PARAM_STRING("defer_transports", struct qmgr_params, defer_transports, .def = "",
                 .services = "qmgr",
                 .doc = "Transports whose mail waits until it is sent for with a flush."),
    PARAM_STRING("fast_flush_domains", struct qmgr_params, flush_domains, .def = "$relay_domains",
                 .services = "qmgr,smtpd,sendmail,postqueue",
                 .doc = "Destinations whose mail may be sent for with ETRN, sendmail -qR and "
                        "postqueue -s."),
    PARAM_STRING("retry_schedule_maps", struct qmgr_params, retry_schedule_maps, .def = "",
                 .services = "qmgr",
                 .doc = "Tables with the times of further attempts, by domain, next hop or "
                        "transport; see qmgr(8)."),
    PARAM_STRING("bounce_service_name", struct qmgr_params, bounce_service_name, .def = "bounce",
                 .not_empty = true, .doc = "The service that makes delivery status reports."),
    PARAM_STRING(
        "default_filter_nexthop", struct qmgr_params, filter_nexthop, .def = "", .services = "qmgr",
        .doc = "The next hop of a content filter that names none; empty: the recipient's domain."),
    PARAM_BOOL("destination_concurrency_feedback_debug", struct qmgr_params, feedback_debug,
               .def = "no", .services = "qmgr",
               .doc = "Log what each delivery does to its destination's concurrency."),
};

#define BUILT_IN(name_, type_, def_, note_)                                                        \
    PARAM_BY_NAME(name_, PARAM_TYPE_##type_, .def = (def_), .services = "qmgr",                    \
                  .status = PARAM_BUILT_IN, .note = (note_))
#define MEMORY                                                                                     \
    "qmgr_message_recipient_limit bounds the recipients of all transports; what is missing is read when there is room"
#define HEAP    "each deferred message has its own time, no queue scan is needed"
#define NO_LOGS "what became of a recipient is kept with its message"

static const struct param built_in[] = {
    BUILT_IN("qmgr_fudge_factor", INT, "100",
             "default_delivery_slot_cost says how much bulk mail gives way"),
    BUILT_IN("default_recipient_limit", INT, "20000", MEMORY),
    BUILT_IN("default_extra_recipient_limit", INT, "1000", MEMORY),
    BUILT_IN("default_recipient_refill_limit", INT, "100", MEMORY),
    BUILT_IN("default_recipient_refill_delay", TIME, "5s", MEMORY),
    BUILT_IN("*_recipient_limit", INT, "$default_recipient_limit", MEMORY),
    BUILT_IN("*_extra_recipient_limit", INT, "$default_extra_recipient_limit", MEMORY),
    BUILT_IN("*_recipient_refill_limit", INT, "$default_recipient_refill_limit", MEMORY),
    BUILT_IN("*_recipient_refill_delay", TIME, "$default_recipient_refill_delay", MEMORY),
    BUILT_IN("queue_run_delay", TIME, "300s", HEAP),
    BUILT_IN("backwards_bounce_logfile_compatibility", BOOL, "yes", NO_LOGS),
    BUILT_IN("defer_service_name", STRING, "defer", NO_LOGS),
    BUILT_IN("trace_service_name", STRING, "trace", NO_LOGS),
};

struct no_members {
    char unused;
};
const struct param_set qmgr_built_in_params =
    PARAM_SET("queue manager, built in", struct no_members, built_in);

const struct param_set qmgr_params = PARAM_SET("queue manager", struct qmgr_params, rows);

static int time_param(const struct config *cfg, const char *name, int64_t *out, struct err *err)
{
    const char *value = config_get(cfg, name);

    if (value == NULL)
        return err_input(err, "parameter %s has no value", name);
    if (num_parse_time(slice_str(value), 's', INT32_MAX, out, err) == -1)
        return err_prefix(err, "parameter %s: ", name);
    return 0;
}

static void check_limits(const struct qmgr_config *g, struct err *err, int *ret)
{
    for (size_t i = 0; i < g->services->services.len && *ret == 0; i++) {
        const struct master_service *s = g->services->services.items[i];
        struct sched_limits limits;

        if (s->type == SERVICE_UNIX)
            *ret = qmgr_config_limits(g, s->name, &limits, err);
    }
}

int qmgr_config_new(const struct config *cfg, struct qmgr_config **out, struct err *err)
{
    struct qmgr_config *g = xcalloc(1, sizeof(*g));
    const char *limit;
    unsigned classes;
    int ret = -1;

    atomic_init(&g->refs, 1);
    g->cfg = config_ref((struct config *) cfg);
    if (config_bind(g->cfg, &qmgr_params, &g->p, err) == -1 ||
        time_param(g->cfg, "daemon_timeout", &g->daemon_timeout_s, err) == -1 ||
        time_param(g->cfg, "max_idle", &g->max_idle_s, err) == -1 ||
        master_cf_load(config_dir(g->cfg), &g->services, err) == -1)
        goto done;
    if (notify_classes_parse(config_get(g->cfg, "notify_classes"), &classes, err) == -1) {
        err_prefix(err, "notify_classes: ");
        goto done;
    }
    g->tells_postmaster = (classes & NOTIFY_2BOUNCE) != 0; /* bounce comes with it */
    limit = config_get(g->cfg, "default_process_limit");
    if (num_parse_i64(slice_str(limit), 1, 1000000, &g->default_process_limit, err) == -1) {
        err_prefix(err, "parameter default_process_limit: ");
        goto done;
    }
    if (g->p.maximal_backoff_s < g->p.minimal_backoff_s) {
        log_warning("maximal_backoff_time is less than minimal_backoff_time: using the latter");
        g->p.maximal_backoff_s = g->p.minimal_backoff_s;
    }
    ret = 0;
    check_limits(g, err, &ret);
    if (ret == -1)
        goto done;
    g->maps = map_env_new(g->cfg);
    map_env_set_proxy(g->maps, MAP_PROXY_ALWAYS);
    ret = route_new(g->maps, &g->route, err);
    if (ret == 0 && map_list_open(g->maps, g->p.retry_schedule_maps, &g->schedules, err) == -1)
        ret = err_prefix(err, "retry_schedule_maps: ");
    if (ret == 0 && match_list_open(g->maps, MATCH_DOMAIN, g->p.flush_domains,
                                    parent_matches_subdomains(g->cfg, "fast_flush_domains"),
                                    &g->flush_domains, err) == -1)
        ret = err_prefix(err, "fast_flush_domains: ");
    if (ret == 0)
        g->is_local_only =
            route_is_local_only(g->route) && (map_list_is_empty(g->schedules) ||
                                              (map_list_flags(g->schedules) & MAP_FLAG_LOCAL) != 0);
done:
    if (ret == -1)
        qmgr_config_unref(&g);
    else
        *out = g;
    return ret;
}

struct qmgr_config *qmgr_config_ref(struct qmgr_config *g)
{
    atomic_fetch_add(&g->refs, 1);
    return g;
}

void qmgr_config_unref(struct qmgr_config **gp)
{
    struct qmgr_config *g = *gp;

    *gp = NULL;
    if (g == NULL || atomic_fetch_sub(&g->refs, 1) > 1)
        return;
    map_list_free(&g->schedules);
    match_list_free(&g->flush_domains);
    route_free(&g->route);
    map_env_free(&g->maps);
    master_cf_free(&g->services);
    config_unref(&g->cfg);
    free(g);
}

unsigned qmgr_config_processes(const struct qmgr_config *g, const char *service)
{
    const struct master_service *s = master_cf_find(g->services, service, SERVICE_UNIX);

    if (s == NULL || s->max_processes == -1)
        return (unsigned) g->default_process_limit;
    return (unsigned) s->max_processes;
}

bool qmgr_config_defers(const struct qmgr_config *g, struct slice transport)
{
    struct slice rest = slice_str(g->p.defer_transports);
    struct slice name;

    while (slice_token(&rest, ", \t\r\n", &name))
        if (slice_eq(name, transport))
            return true;
    return false;
}
