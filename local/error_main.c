/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error_main.c - the error(8) agent: bounces (or, as service "retry", defers) with the next hop as the reason.
 */
#include "master/agent.h"

static void error_deliver(struct worker *w, struct deliver_request *r)
{
    bool retry = slice_eq_str(slice_str(worker_service_name(w)), "retry");
    struct slice text = SLICE_EMPTY;
    struct slice code = dsn_code_split(r->msg.nexthop, &text);
    struct dsn_status status = {.code = code, .text = text};

    if (code.len == 0) {
        status.code = retry ? SLICE_LIT("4.3.0") : SLICE_LIT("5.3.0");
        status.text = r->msg.nexthop;
    }
    status.outcome = retry || status.code.ptr[0] == '4' ? OUTCOME_DEFERRED : OUTCOME_BOUNCED;
    if (status.text.len == 0)
        status.text =
            SLICE_LIT("mail to this recipient is refused by the mail system's configuration");
    deliver_status_all(r, SLICE_LIT("none"), &status, false);
}

int main(int argc, char **argv)
{
    static const struct agent agent = {
        .program = "error",
        .shape = WORKER_THREADED,
        .deliver = error_deliver,
    };

    return agent_main(argc, argv, &agent);
}
