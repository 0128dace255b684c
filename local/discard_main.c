/* SPDX-License-Identifier: Apache-2.0 */
/*
 * discard_main.c - the discard(8) agent: claims delivery and throws the message away; the next hop is the reason.
 */
#include "master/agent.h"

static void discard_deliver(struct worker *w, struct deliver_request *r)
{
    struct slice text = SLICE_EMPTY;
    struct slice code = dsn_code_split(r->msg.nexthop, &text);
    struct dsn_status status = {.outcome = OUTCOME_SENT, .code = code, .text = text};

    (void) w;
    if (code.len == 0) {
        status.code = SLICE_LIT("2.0.0");
        status.text = r->msg.nexthop;
    }
    deliver_status_all(r, SLICE_LIT("none"), &status, false);
}

int main(int argc, char **argv)
{
    static const struct agent agent = {
        .program = "discard",
        .shape = WORKER_THREADED,
        .deliver = discard_deliver,
    };

    return agent_main(argc, argv, &agent);
}
