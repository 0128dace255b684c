# SPDX-License-Identifier: Apache-2.0
"""Somebody sets the clock, by days, while mail is in the queue. tests/crash/faults.c shows the daemons another wall clock; what measures
durations is right, as on a real machine."""
import json
import os
import pathlib
import re
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "crash"))
from faults import Faults  # noqa: E402
from instance import wait_for  # noqa: E402

DAY = 86400
JUMPS = pytest.mark.parametrize("jump", [10 * DAY, -DAY, None], ids=["ten days forward", "a day back", "to 1970"])


@pytest.fixture
def faults(tmp_path):
    return Faults(tmp_path / "faults")


def seconds(jump):
    return -time.time() + 5 if jump is None else jump


class Hop:
    """A next hop that says not now until it is told otherwise."""

    def __init__(self, sink):
        self.open = False
        self.sink = sink(reply=lambda verb, argument, number: None if self.open or verb != "RCPT" else b"450 4.2.0 not now\r\n")


def begin(instance, faults, hop, **main):
    return instance(main={
        "import_environment": faults.environment(), "relay_domains": "relay.test",
        "transport_maps": f"inline:{{ {{relay.test = smtp:[127.0.0.1]:{hop.sink.port}}} }}",
        "minimal_backoff_time": "1s", "maximal_backoff_time": "2s", "queue_run_delay": "1s",
        "maximal_queue_lifetime": "2d", "delay_warning_time": "4h", "default_destination_concurrency_failed_cohort_limit": "0", **main})


def listed(inst):
    return [json.loads(x) for x in inst.run("postqueue", "-j").stdout.splitlines()]


def attempts(inst):
    return len(re.findall(r"status=deferred", inst.log()))


def check_log(inst):
    log = inst.log()
    assert not re.search(r"delays?=[^,]*-\d", log), log
    assert "status=expired" not in log and "status=bounced" not in log and "sender non-delivery" not in log, log
    assert "delayed" not in log, log  # no warning to the sender, four hours were not over
    ids = re.findall(r"qmgr\[\d+\]: (\w+): from=<", log)
    taken = re.findall(r"cleanup\[\d+\]: (\w+): message-id=", log)
    assert len(set(taken)) == len(taken) and set(ids) <= set(taken), log


@JUMPS
def test_jump_while_running(instance, sink, faults, jump):
    """Deferred mail goes on being tried, is not returned as too old, nor warned of; new mail passes; so when the clock is set right again."""
    hop = Hop(sink)
    inst = begin(instance, faults, hop)
    inst.send("one@relay.test")
    wait_for("the first attempt", lambda: attempts(inst) >= 1)
    for offset in (seconds(jump), 0):
        faults.set(offset_s=offset)
        word = "forward" if (offset or -seconds(jump)) > 0 else "back"
        inst.wait_log(rf"qmgr\[\d+\]: warning: the clock was set {word} by \d{{5,}} seconds")
        count = attempts(inst)
        wait_for(lambda: f"another attempt:\n{inst.log()}", lambda: attempts(inst) > count)
        inst.send("two@relay.test", subject=f"at {offset}")
        count = attempts(inst)
        # what people are shown is what their clock says: the next attempt is soon, also after a jump
        (first, *_), now = listed(inst), time.time() + offset
        if first["waits_for"] == "retry":
            assert abs(first["waits_until"] - now) < 60, (first, now)
        wait_for(lambda: f"attempts of both:\n{inst.log()}", lambda: attempts(inst) > count + 2)
    hop.open = True
    inst.wait_empty()
    assert len(hop.sink.messages) == 3
    check_log(inst)


@JUMPS
def test_jump_while_stopped(instance, sink, faults, jump):
    """The queue manager that is started then knows how late it is: the machine has not been started anew."""
    hop = Hop(sink)
    inst = begin(instance, faults, hop)
    inst.send("one@relay.test")
    wait_for("the first attempt", lambda: attempts(inst) >= 1)
    inst.stop()
    faults.set(offset_s=seconds(jump))
    inst.start()
    inst.wait_log(r"qmgr\[\d+\]: warning: the clock was set (forward|back) by \d{5,} seconds")
    count = attempts(inst)
    wait_for(lambda: f"attempts:\n{inst.log()}", lambda: attempts(inst) > count + 1)
    inst.stop()
    faults.set(offset_s=0)
    inst.start()
    count = attempts(inst)
    wait_for(lambda: f"attempts:\n{inst.log()}", lambda: attempts(inst) > count + 1)
    hop.open = True
    inst.wait_empty()
    assert len(hop.sink.messages) == 1
    check_log(inst)


def test_qmgr_killed_meanwhile(instance, sink, faults):
    """What the clock did before a crash is known after it."""
    hop = Hop(sink)
    inst = begin(instance, faults, hop)
    inst.send("one@relay.test")
    wait_for("the first attempt", lambda: attempts(inst) >= 1)
    kept = inst.spool / "journal/clock"
    wait_for("the clock to be kept", kept.exists)
    before = kept.read_bytes()
    faults.set(offset_s=10 * DAY)
    inst.wait_log(r"the clock was set forward")
    wait_for("what it did to be kept", lambda: kept.read_bytes() != before)
    (pid,) = inst.pids("qmgr")
    os.kill(pid, 9)
    count = attempts(inst)
    wait_for(lambda: f"attempts:\n{inst.log()}", lambda: attempts(inst) > count + 1)
    hop.open = True
    inst.wait_empty()
    check_log(inst)


def test_ids_are_given_once(instance, sink, faults):
    """Under load, while the clock goes to and fro by less than what one sees, and by days."""
    hop = Hop(sink)
    hop.open = True
    inst = begin(instance, faults, hop)
    total = 0
    with inst.smtp() as client:
        for i in range(200):
            faults.set(offset_s=(0, -1, 2, DAY, -DAY, -20)[i % 6])
            client.sendmail("sender@example.org", ["x@relay.test"], f"Subject: {i}\n\nhello\n")
            total += 1
    hop.sink.wait(total)
    inst.wait_empty()
    ids = re.findall(r"cleanup\[\d+\]: (\w+): message-id=", inst.log())
    assert len(ids) == total and len(set(ids)) == total
    assert not re.search(r"delays?=[^,]*-\d", inst.log())
