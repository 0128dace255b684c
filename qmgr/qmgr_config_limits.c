/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qmgr_config_limits.c - the limits of a transport: NAME_destination_..., NAME_delivery_slot_... and their defaults.
 */
#include "qmgr/qmgr_int.h"

#define SLOTS_MAX 1000000

#define BY_NAME(name_, type_, def_, doc_)                                                          \
    PARAM_BY_NAME(name_, PARAM_TYPE_##type_, .def = (def_), .services = "qmgr", .doc = (doc_))

static const struct param rows[] = {
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
    BY_NAME("default_transport_rate_delay", TIME, "0s",
            "The time between two deliveries of a transport, whatever their destinations."),
    BY_NAME("*_transport_rate_delay", TIME, "$default_transport_rate_delay",
            "default_transport_rate_delay for one transport."),
    BY_NAME("default_delivery_slot_cost", INT, "5",
            "Deliveries of bulk mail for each one by which fresh mail goes before it; 0: it waits "
            "for its turn."),
    BY_NAME("default_delivery_slot_discount", INT, "50",
            "Percent of the slots that a message needs which it has in advance."),
    BY_NAME("default_delivery_slot_loan", INT, "3",
            "Delivery slots that a message has in advance, beyond the discount."),
    BY_NAME("default_minimum_delivery_slots", INT, "3",
            "Messages that could not earn so many delivery slots are no bulk mail."),
    BY_NAME("*_delivery_slot_cost", INT, "$default_delivery_slot_cost",
            "default_delivery_slot_cost for one transport."),
    BY_NAME("*_delivery_slot_discount", INT, "$default_delivery_slot_discount",
            "default_delivery_slot_discount for one transport."),
    BY_NAME("*_delivery_slot_loan", INT, "$default_delivery_slot_loan",
            "default_delivery_slot_loan for one transport."),
    BY_NAME("*_minimum_delivery_slots", INT, "$default_minimum_delivery_slots",
            "default_minimum_delivery_slots for one transport."),
};

struct no_members {
    char unused;
};
const struct param_set qmgr_limit_params =
    PARAM_SET("queue manager, limits of transports", struct no_members, rows);

static bool is_within(int64_t n, int64_t min, int64_t max)
{
    return n >= min && n <= max;
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
    int64_t transport_delay = 0;
    int64_t cost = 5;
    int64_t discount = 50;
    int64_t loan = 3;
    int64_t minimum = 3;
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
        config_get_service_int(g->cfg, transport, "transport_rate_delay", &transport_delay, err) ==
            -1 ||
        config_get_service_int(g->cfg, transport, "delivery_slot_cost", &cost, err) == -1 ||
        config_get_service_int(g->cfg, transport, "delivery_slot_discount", &discount, err) == -1 ||
        config_get_service_int(g->cfg, transport, "delivery_slot_loan", &loan, err) == -1 ||
        config_get_service_int(g->cfg, transport, "minimum_delivery_slots", &minimum, err) == -1 ||
        feedback_param(g, transport, "destination_concurrency_positive_feedback", &out->positive,
                       err) == -1 ||
        feedback_param(g, transport, "destination_concurrency_negative_feedback", &out->negative,
                       err) == -1)
        ret = -1;
    if (ret == 0 && (concurrency < 0 || recipients < 0 || cohorts < 0 || initial < 1))
        ret = err_input(err, "transport %s: a destination limit is out of range", transport);
    if (ret == 0 && (!is_within(cost, 0, SLOTS_MAX) || !is_within(discount, 0, 100) ||
                     !is_within(loan, 0, SLOTS_MAX) || !is_within(minimum, 0, SLOTS_MAX)))
        ret = err_input(err, "transport %s: a delivery slot parameter is out of range", transport);
    out->processes = qmgr_config_processes(g, transport);
    out->concurrency = (unsigned) (concurrency < 0 ? 20 : concurrency);
    out->recipients = (unsigned) (recipients < 0 ? 50 : recipients);
    out->initial = (unsigned) (initial < 1 ? 1 : initial);
    out->failed_cohorts = (unsigned) (cohorts < 0 ? 1 : cohorts);
    out->rate_delay_ms = delay * 1000;
    out->transport_rate_delay_ms = transport_delay * 1000;
    /* 1 is no ratio that the reference knows: 2 is what gives way most */
    out->slot_cost = is_within(cost, 0, SLOTS_MAX) ? (unsigned) (cost == 1 ? 2 : cost) : 5;
    out->slot_discount = is_within(discount, 0, 100) ? (unsigned) discount : 50;
    out->slot_loan = is_within(loan, 0, SLOTS_MAX) ? (unsigned) loan : 3;
    out->minimum_slots = is_within(minimum, 0, SLOTS_MAX) ? (unsigned) minimum : 3;
    return ret;
}
