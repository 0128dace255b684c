# SPDX-License-Identifier: Apache-2.0
"""Single messages do not wait for a list or a dead destination: bench/fairness.py has the same in large, with figures."""
import re
import time

from instance import MASTER_CF, wait_for

LIST, DEAD, SINGLES = 1200, 300, 40
PROCESSES = 12  # of which the list may have 10, and would take more
SECONDS = 0.5  # that the list's next hop takes for a delivery


def test_singles_pass(instance, sink, tmp_path):
    came = {}

    def slow(verb, argument, number):
        if verb == "DOT":
            time.sleep(SECONDS)

    def quick(verb, argument, number):
        if verb == "RCPT":
            came.setdefault(re.search(r"<(\w+)@", argument)[1], time.monotonic())

    bulk, single = sink(reply=slow), sink(reply=quick)
    table = f"single.test smtp:[127.0.0.1]:{single.port}\ndead.test smtp:[127.0.0.2]:9\n" + f"list.test smtp:[127.0.0.1]:{bulk.port}\n"
    master = re.sub(r"^(smtp\s+unix(?:\s+\S+){4}\s+)-", rf"\g<1>{PROCESSES}", MASTER_CF, flags=re.M)
    assert master != MASTER_CF
    inst = instance(main={"transport_maps": "texthash:{etc}/transport", "initial_destination_concurrency": 20, "smtp_destination_recipient_limit": 10,
                          "qmgr_message_recipient_limit": 400, "qmgr_message_active_limit": 100,
                          "smtpd_recipient_limit": 2000},
                    files={"transport": table}, master=master)
    for i in range(DEAD // 50):
        inst.send([f"u{n}@dead.test" for n in range(50)])
    wait_for("deferrals", lambda: inst.log().count("@dead.test>") >= DEAD)
    inst.send([f"u{i}@list.test" for i in range(LIST)])
    wait_for("the list's first deliveries", lambda: bulk.messages)
    inst.run("postqueue", "-f")
    sent = {}
    for i in range(SINGLES):
        sent[f"s{i}"] = time.monotonic()
        inst.send(f"s{i}@single.test")
        wait_for(f"single message {i}", lambda i=i: f"s{i}" in came)
    assert sum(len(m[1]) for m in bulk.messages) < LIST, "the list was over too soon to say anything"
    delays = sorted(came[name] - sent[name] for name in sent)
    # a message that stood behind the list, or behind one of its deliveries each time, would take far longer, be it the quickest or not; that others
    # have the processor meanwhile makes some slower
    assert delays[len(delays) // 4] < SECONDS / 4, delays
    assert delays[-3] < 2, delays
    wait_for("the rest of the list", lambda: sum(len(m[1]) for m in bulk.messages) == LIST)
