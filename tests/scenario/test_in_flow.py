# SPDX-License-Identifier: Apache-2.0
"""in_flow_delay: intake is held back while the active queue is full and new mail waits, and only then."""
import threading
import time

import pytest


@pytest.mark.parametrize("delay", [0, 1])
def test_backlog_slows_intake(instance, sink, delay):
    gate = threading.Event()

    def reply(verb, argument, number):
        if verb == "DOT":
            gate.wait(30)

    hop = sink(reply=reply)
    inst = instance(main={"relayhost": f"[127.0.0.1]:{hop.port}", "qmgr_message_active_limit": 3, "in_flow_delay": delay})

    def send(count):
        begun = time.monotonic()
        for _ in range(count):
            inst.send("user@far.test")
        return time.monotonic() - begun

    first = send(3)  # they fill the active queue
    inst.wait_log(r"(?s)(queue active.*){3}")
    send(1)  # the first that waits; at the latest with it there is a backlog
    inst.wait_log(r"(?s)(message-id.*){4}")
    took = send(2)
    inst.run("sendmail", "-f", "me@example.org", "local@far.test", input="Subject: x\n\nx\n")
    if delay:
        assert took >= 2 * delay, took
    else:
        assert took < 1, took
    gate.set()
    hop.wait(7)
    inst.wait_empty()
    assert send(3) < first + 1  # the backlog is over, and so are the pauses
