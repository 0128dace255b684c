/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_config.c - one generation of the queue manager's configuration: parameters, routing tables, limits.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/num.h"
#include "qmgr/qmgr_int.h"

#define BY_NAME(name_, type_, def_, doc_)                                                          \
    PARAM_BY_NAME(name_, PARAM_TYPE_##type_, .def = (def_), .services = "qmgr", .doc = (doc_))

static const struct param rows[] = {
    PARAM_INT("qmgr_message_active_limit", struct qmgr_params, active_limit, .def = "20000",
              .min = 1, .services = "qmgr",
              .doc = "Messages that are being delivered at once; the others wait on disk."),
    PARAM_INT(
        "qmgr_message_recipient_limit", struct qmgr_params, recipient_limit, .def = "20000",
        .min = 1, .services = "qmgr",
        .doc =
            "Recipients in memory; beyond it messages with many recipients wait until there is room."),
    PARAM_INT("qmgr_message_recipient_minimum", struct qmgr_params, recipient_minimum, .def = "10",
              .min = 1, .services = "qmgr",
              .doc = "Messages with at most so many recipients need not wait for room in memory."),
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
    PARAM_TIME("transport_retry_time", struct qmgr_params, transport_retry_s, .def = "60s",
               .min = 1, .services = "qmgr",
               .doc = "How long a delivery service that does not answer is left alone."),
    PARAM_INT("initial_destination_concurrency", struct qmgr_params, initial_concurrency,
              .def = "5", .min = 1, .services = "qmgr",
              .doc = "Deliveries at once to a destination of which nothing is known yet."),
    PARAM_INT("qmgr_resolver_threads", struct qmgr_params, resolver_threads, .def = "8", .min = 1,
              .max = 256, .services = "qmgr",
              .doc = "Threads that ask routing tables which may have to wait for a server."),
    PARAM_STRING("defer_transports", struct qmgr_params, defer_transports, .def = "",
                 .services = "qmgr",
                 .doc = "Transports whose mail waits until it is sent for with a flush."),
    PARAM_STRING("bounce_service_name", struct qmgr_params, bounce_service_name, .def = "bounce",
                 .not_empty = true, .doc = "The service that makes delivery status reports."),
    PARAM_STRING(
        "default_filter_nexthop", struct qmgr_params, filter_nexthop, .def = "", .services = "qmgr",
        .doc = "The next hop of a content filter that names none; empty: the recipient's domain."),
    BY_NAME("default_destination_concurrency_limit", INT, "20",
            "Deliveries at once to one destination."),
    BY_NAME("default_destination_recipient_limit", INT, "50",
            "Recipients of one message that are delivered together."),
    BY_NAME(
        "default_destination_concurrency_failed_cohort_limit", INT, "1",
        "A destination is taken for dead after so many rounds of failures in a row; 0 for never."),
    BY_NAME("default_destination_concurrency_positive_feedback", STRING, "1",
            "How much a successful delivery adds to a destination's concurrency."),
    BY_NAME("default_destination_concurrency_negative_feedback", STRING, "1",
            "How much a failed one takes from it."),
    BY_NAME("default_destination_rate_delay", TIME, "0s",
            "The time between two deliveries to one destination, which then go one by one."),
    BY_NAME("*_destination_concurrency_limit", INT, "$default_destination_concurrency_limit",
            "default_destination_concurrency_limit for one transport."),
    BY_NAME("*_destination_recipient_limit", INT, "$default_destination_recipient_limit",
            "default_destination_recipient_limit for one transport."),
    BY_NAME("*_destination_concurrency_failed_cohort_limit", INT,
            "$default_destination_concurrency_failed_cohort_limit",
            "default_destination_concurrency_failed_cohort_limit for one transport."),
    BY_NAME("*_destination_concurrency_positive_feedback", STRING,
            "$default_destination_concurrency_positive_feedback",
            "default_destination_concurrency_positive_feedback for one transport."),
    BY_NAME("*_destination_concurrency_negative_feedback", STRING,
            "$default_destination_concurrency_negative_feedback",
            "default_destination_concurrency_negative_feedback for one transport."),
    BY_NAME("*_destination_rate_delay", TIME, "$default_destination_rate_delay",
            "default_destination_rate_delay for one transport."),
    BY_NAME("*_initial_destination_concurrency", INT, "$initial_destination_concurrency",
            "initial_destination_concurrency for one transport."),
    BY_NAME(
        "local_destination_concurrency_limit", INT, "2",
        "Deliveries at once to one local recipient (or domain, if the recipient limit is not 1)."),
    BY_NAME("local_destination_recipient_limit", INT, "1",
            "Recipients that local(8) gets in one request."),
    BY_NAME("relay_destination_concurrency_limit", INT, "$default_destination_concurrency_limit",
            "Deliveries at once to one destination of the relay transport."),
    BY_NAME("relay_destination_recipient_limit", INT, "$default_destination_recipient_limit",
            "Recipients in one delivery of the relay transport."),
    BY_NAME("smtp_destination_concurrency_limit", INT, "$default_destination_concurrency_limit",
            "Deliveries at once to one destination of the smtp transport."),
    BY_NAME("smtp_destination_recipient_limit", INT, "$default_destination_recipient_limit",
            "Recipients in one delivery of the smtp transport."),
    BY_NAME("lmtp_destination_concurrency_limit", INT, "$default_destination_concurrency_limit",
            "Deliveries at once to one destination of the lmtp transport."),
    BY_NAME("lmtp_destination_recipient_limit", INT, "$default_destination_recipient_limit",
            "Recipients in one delivery of the lmtp transport."),
    BY_NAME("virtual_destination_concurrency_limit", INT, "$default_destination_concurrency_limit",
            "Deliveries at once to one destination of the virtual transport."),
    BY_NAME("virtual_destination_recipient_limit", INT, "$default_destination_recipient_limit",
            "Recipients in one delivery of the virtual transport."),
};

#define BUILT_IN(name_, type_, def_, note_)                                                        \
    PARAM_BY_NAME(name_, PARAM_TYPE_##type_, .def = (def_), .services = "qmgr",                    \
                  .status = PARAM_BUILT_IN, .note = (note_))
#define LANES "small messages and bulk mail take turns, destinations and messages in each"
#define MEMORY                                                                                     \
    "the recipients of a message are read at once, qmgr_message_recipient_limit bounds them"
#define HEAP    "each deferred message has its own time, no queue scan is needed"
#define NO_LOGS "what became of a recipient is kept with its message"

static const struct param built_in[] = {
    BUILT_IN("default_delivery_slot_cost", INT, "5", LANES),
    BUILT_IN("default_delivery_slot_discount", INT, "50", LANES),
    BUILT_IN("default_delivery_slot_loan", INT, "3", LANES),
    BUILT_IN("default_minimum_delivery_slots", INT, "3", LANES),
    BUILT_IN("*_delivery_slot_cost", INT, "$default_delivery_slot_cost", LANES),
    BUILT_IN("*_delivery_slot_discount", INT, "$default_delivery_slot_discount", LANES),
    BUILT_IN("*_delivery_slot_loan", INT, "$default_delivery_slot_loan", LANES),
    BUILT_IN("*_minimum_delivery_slots", INT, "$default_minimum_delivery_slots", LANES),
    BUILT_IN("qmgr_fudge_factor", INT, "100", LANES),
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
    int ret = -1;

    atomic_init(&g->refs, 1);
    g->cfg = config_ref((struct config *) cfg);
    if (config_bind(g->cfg, &qmgr_params, &g->p, err) == -1 ||
        time_param(g->cfg, "daemon_timeout", &g->daemon_timeout_s, err) == -1 ||
        time_param(g->cfg, "max_idle", &g->max_idle_s, err) == -1 ||
        master_cf_load(config_dir(g->cfg), &g->services, err) == -1)
        goto done;
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

static int feedback_param(const struct qmgr_config *g, const char *transport, const char *suffix,
                          struct sched_feedback *out, struct err *err)
{
    const char *value = config_get_service_str(g->cfg, transport, suffix);

    if (value == NULL)
        return err_input(err, "parameter %s_%s has no value", transport, suffix);
    if (sched_feedback_parse(slice_str(value), out, err) == -1)
        return err_prefix(err, "parameter %s_%s: ", transport, suffix);
    return 0;
}

int qmgr_config_limits(const struct qmgr_config *g, const char *transport, struct sched_limits *out,
                       struct err *err)
{
    int64_t concurrency = 20;
    int64_t recipients = 50;
    int64_t initial = g->p.initial_concurrency;
    int64_t cohorts = 1;
    int64_t delay = 0;
    int ret = 0;

    *out =
        (struct sched_limits){.positive = {FEEDBACK_NUMBER, 1}, .negative = {FEEDBACK_NUMBER, 1}};
    if (config_get_service_int(g->cfg, transport, "destination_concurrency_limit", &concurrency,
                               err) == -1 ||
        config_get_service_int(g->cfg, transport, "destination_recipient_limit", &recipients,
                               err) == -1 ||
        config_get_service_int(g->cfg, transport, "initial_destination_concurrency", &initial,
                               err) == -1 ||
        config_get_service_int(g->cfg, transport, "destination_concurrency_failed_cohort_limit",
                               &cohorts, err) == -1 ||
        config_get_service_int(g->cfg, transport, "destination_rate_delay", &delay, err) == -1 ||
        feedback_param(g, transport, "destination_concurrency_positive_feedback", &out->positive,
                       err) == -1 ||
        feedback_param(g, transport, "destination_concurrency_negative_feedback", &out->negative,
                       err) == -1)
        ret = -1;
    if (ret == 0 && (concurrency < 0 || recipients < 0 || cohorts < 0 || initial < 1))
        ret = err_input(err, "transport %s: a destination limit is out of range", transport);
    out->processes = qmgr_config_processes(g, transport);
    out->concurrency = (unsigned) (concurrency < 0 ? 20 : concurrency);
    out->recipients = (unsigned) (recipients < 0 ? 50 : recipients);
    out->initial = (unsigned) (initial < 1 ? 1 : initial);
    out->failed_cohorts = (unsigned) (cohorts < 0 ? 1 : cohorts);
    out->rate_delay_ms = delay * 1000;
    return ret;
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
