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
            gate.wait(120)

    hop = sink(reply=reply)
    inst = instance(main={"relayhost": f"[127.0.0.1]:{hop.port}", "qmgr_message_active_limit": 3, "in_flow_delay": delay})

    sent = []

    def send(count):
        begun = time.monotonic()
        for _ in range(count):
            inst.send("user@far.test")
            sent.append("user@far.test")
        return time.monotonic() - begun

    def passes_quickly():
        """Two messages without a pause. Others may have the machine for that long, once or twice."""
        return any(send(2) < 1 for _ in range(5))

    send(3)  # they fill the active queue
    inst.wait_log(r"(?s)(queue active.*){3}")
    send(1)  # the first that waits; at the latest with it there is a backlog
    inst.wait_log(r"(?s)(message-id.*){4}")
    if delay:
        assert send(2) >= 2 * delay
    else:
        assert passes_quickly()
    inst.run("sendmail", "-f", "me@example.org", "local@far.test", input="Subject: x\n\nx\n")
    gate.set()
    hop.wait(len(sent) + 1)
    inst.wait_empty()
    assert passes_quickly()  # the backlog is over, and so are the pauses
