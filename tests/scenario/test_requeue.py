# SPDX-License-Identifier: Apache-2.0
"""postsuper -r: mail goes through cleanup again, also when the system is stopped; what kill -9 interrupts is not lost."""
import json
import os
import random
import re
import signal
import subprocess
import time

import pytest

from instance import STAGE, Sink, free_port, is_alive, wait_for

RECIPIENTS = ["one@a.test", "two@a.test", "three@b.test", "four@b.test"]


@pytest.fixture
def sink():
    s = Sink()
    yield s
    s.close()


def listing(inst):
    return [json.loads(line) for line in inst.run("postqueue", "-j").stdout.splitlines()]


def queues(inst):
    """{first recipient: queue}"""
    return {m["recipients"][0]["address"]: m["queue_name"] for m in listing(inst)}


def ids(inst):
    return {m["recipients"][0]["address"]: m["queue_id"] for m in listing(inst)}


def delivered(sink):
    return sorted(r for _, recipients, _ in sink.messages for r in recipients)


@pytest.fixture
def waiting(instance):
    """Stopped, with a deferred message for each recipient, the last one on hold."""
    inst = instance(main={"relayhost": f"[127.0.0.1]:{free_port()}", "minimal_backoff_time": "600s",
                          "virtual_alias_maps": "texthash:{etc}/virtual"}, files={"virtual": ""})
    for r in RECIPIENTS:
        inst.send(r, subject=f"for {r}")
    wait_for(lambda: inst.mailq(), lambda: list(queues(inst).values()) == ["deferred"] * 4)
    inst.run("postsuper", "-h", ids(inst)[RECIPIENTS[-1]])
    inst.stop()
    return inst


def start_relay(inst, sink):
    inst.write_main(relayhost=f"[127.0.0.1]:{sink.port}")
    inst.start()


def test_one_while_stopped(waiting, sink):
    inst = waiting
    old = ids(inst)
    done = inst.run("postsuper", "-r", old["one@a.test"])
    assert re.findall("^postsuper: (.*)", done.stderr, re.M) == [f"{old['one@a.test']}: requeued", "Requeued: 1 message"]
    assert queues(inst) == {"one@a.test": "maildrop", "two@a.test": "deferred", "three@b.test": "deferred", "four@b.test": "hold"}
    (m,) = [m for m in listing(inst) if m["queue_name"] == "maildrop"]
    assert m["waits_for"] == "requeue" and m["queue_id"] == old["one@a.test"]
    # it is in maildrop/, where Postfix does nothing but delete it
    for option in ("-h", "-H", "-e", "-r"):
        assert re.search(": 0 messages$", inst.run("postsuper", option, old["one@a.test"]).stderr)
    assert "Requeued: 0 messages" in inst.run("postsuper", "-r", "ALL", "maildrop").stderr
    inst.write("virtual", "one@a.test first@c.test\ntwo@a.test second@c.test\n")
    start_relay(inst, sink)
    # that one alone is tried at once, through today's tables, and under another name
    wait_for(lambda: inst.log(), lambda: delivered(sink) == ["first@c.test"])
    (_, _, content), = sink.messages
    new = re.search(rb"^Received: by mx\.example\.test \(Postfix, from userid \d+\)\r\n\tid (\w+);", content).group(1).decode()
    assert new != old["one@a.test"] and b"Subject: for one@a.test" in content
    inst.wait_log(rf"{new}: uid=\d+ from=<sender@example\.org> orig_id={old['one@a.test']}")
    wait_for(lambda: inst.mailq(), lambda: queues(inst) == {"two@a.test": "deferred", "three@b.test": "deferred", "four@b.test": "hold"})


@pytest.mark.parametrize("args, names, moved", [
    (["ALL"], None, {"one@a.test", "two@a.test", "three@b.test", "four@b.test"}),
    (["ALL", "deferred"], None, {"one@a.test", "two@a.test", "three@b.test"}),
    (["ALL", "hold"], None, {"four@b.test"}),
    (["-"], ["two@a.test", "four@b.test"], {"two@a.test", "four@b.test"})], ids=["all", "deferred", "hold", "stdin"])
def test_several_while_stopped(waiting, sink, args, names, moved):
    inst = waiting
    old = ids(inst)
    text = None if names is None else "".join(old[n] + "\n" for n in names) + "NOSUCH1\n"
    done = inst.run("postsuper", "-r", *args, input=text)
    assert f"Requeued: {len(moved)} message{'s' if len(moved) > 1 else ''}\n" in done.stderr
    assert {r for r, q in queues(inst).items() if q == "maildrop"} == moved
    start_relay(inst, sink)
    wait_for(lambda: inst.log(), lambda: delivered(sink) == sorted(moved))
    wait_for(lambda: inst.mailq(), lambda: set(queues(inst)) == set(RECIPIENTS) - moved)


def test_deleted_before_the_start(waiting, sink):
    inst = waiting
    old = ids(inst)
    done = inst.run("postsuper", "-r", "ALL", "-d", old["two@a.test"])
    assert "Requeued: 4 messages" in done.stderr and "Deleted: 1 message" in done.stderr
    start_relay(inst, sink)
    wait_for(lambda: inst.log(), lambda: delivered(sink) == ["four@b.test", "one@a.test", "three@b.test"])
    inst.wait_empty()


def test_active(instance):
    """An agent has it: it is queued anew when that is done with it, and answered at once."""
    def slow(verb, argument, number):
        while verb == "DATA" and not gate:
            time.sleep(0.02)
        return b"450 4.2.0 not now\r\n" if verb == "DATA" and number == 1 else None

    gate = []
    sink = Sink(slow)
    try:
        inst = instance(main={"relayhost": f"[127.0.0.1]:{sink.port}", "minimal_backoff_time": "600s"})
        inst.send("one@a.test")
        wait_for(lambda: inst.mailq(), lambda: [r["waits_for"] for m in listing(inst) for r in m["recipients"]] == ["delivery"])
        old = ids(inst)["one@a.test"]
        assert "Requeued: 1 message" in inst.run("postsuper", "-r", "ALL").stderr
        gate.append(True)
        inst.wait_log(f"{old}: requeued as ")
        sink.wait(1)
        inst.wait_empty()
        assert len(sink.messages) == 1
    finally:
        gate.append(True)
        sink.close()


def kill(inst):
    """Everything of the instance, at once."""
    found = inst.pids()
    for pid in sorted(found, key=lambda p: p != inst.master_pid()):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    wait_for("their end", lambda: not any(is_alive(pid) for pid in found))
    inst.running = False


def test_killed_in_the_middle(instance, sink):
    """postsuper while it notes, the queue manager and cleanup while they carry it out. Twice is allowed, lost is not."""
    inst = instance(main={"relayhost": f"[127.0.0.1]:{free_port()}", "minimal_backoff_time": "600s"})
    wanted = [f"r{i}@a.test" for i in range(120)]
    with inst.smtp() as client:
        for r in wanted:
            client.sendmail("sender@example.org", [r], f"Subject: {r}\n\nhello\n")
    wait_for(lambda: inst.mailq()[-2000:], lambda: list(queues(inst).values()) == ["deferred"] * len(wanted))
    inst.stop()
    names = "".join(f"{i}\n" for i in ids(inst).values())
    answered = set()
    for delay in (0.002, 0.01, 0.02, 0.04):
        # lines come one by one, so that there is a middle
        p = subprocess.Popen([STAGE / "sbin/postsuper", "-r", "-"], env=dict(os.environ, MAIL_CONFIG=str(inst.etc)),
                             stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            p.stdin.write(names)
            p.stdin.flush()
            time.sleep(delay)
        except BrokenPipeError:
            pass
        p.kill()
        answered |= set(re.findall(r"(\w+): requeued", p.communicate()[1]))
        found = {m["queue_id"]: m["queue_name"] for m in listing(inst)}
        assert len(found) == len(wanted)
        assert all(found[i] == "maildrop" for i in answered)
    inst.run("postsuper", "-r", "ALL")
    inst.write_main(relayhost=f"[127.0.0.1]:{sink.port}")
    inst.expect_warnings = True
    for _ in range(3):
        before = len(re.findall(": requeued as ", inst.log()))
        inst.start()
        more = random.randint(1, 25)
        wait_for(lambda: inst.log()[-2000:], lambda: len(re.findall(": requeued as ", inst.log())) >= min(before + more, len(wanted)))
        kill(inst)
    inst.start()
    wait_for(lambda: f"{sorted(set(wanted) - set(delivered(sink)))}\n{inst.mailq()}", lambda: set(delivered(sink)) == set(wanted))
    inst.wait_empty()
    assert len(sink.messages) < len(wanted) * 1.5
    done = inst.stop()
    assert "warning" not in inst.run("postsuper", "-s").stderr, done
