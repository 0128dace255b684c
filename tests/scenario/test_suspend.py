# SPDX-License-Identifier: Apache-2.0
"""postqueue suspend, resume, suspended: what is suspended is not tried, by a flush neither, over restarts; then it is tried at once."""
import contextlib
import datetime
import grp
import json
import os
import pwd
import re
import subprocess
import time

import pytest

from instance import MASTER_CF, STAGE, Sink, wait_for

REASON = "their host is down"


@pytest.fixture
def sink():
    s = Sink()
    yield s
    s.close()


@pytest.fixture
def inst(instance, sink):
    """Deferred mail would not be tried again by itself while the test runs."""
    return instance(main={"relayhost": f"[127.0.0.1]:{sink.port}", "minimal_backoff_time": "600s"})


def listing(inst):
    return [json.loads(line) for line in inst.run("postqueue", "-j").stdout.splitlines()]


def suspended(inst):
    return [json.loads(line) for line in inst.run("postqueue", "-j", "suspended").stdout.splitlines()]


def suspend(inst, kind, name, until="2h", reason=REASON):
    inst.run("postqueue", "suspend", kind, name, "--reason", reason, "--until", until)


def to_whom(sink):
    return sorted(r for _, recipients, _ in sink.messages for r in recipients)


def wait_delivered(inst, sink, *recipients):
    wait_for(lambda: f"{recipients}, have {to_whom(sink)}\n{inst.mailq()}\n{inst.log()}",
             lambda: to_whom(sink) == sorted(recipients))


def wait_waiting(inst, *recipients):
    """They lie deferred, and say why."""
    def look():
        found = {r["address"]: r for m in listing(inst) if m["queue_name"] == "deferred" for r in m["recipients"]}
        return sorted(found) == sorted(recipients) and all(r.get("waits_for") == "suspended" for r in found.values())
    wait_for(lambda: f"{recipients}\n{inst.mailq()}\n{inst.log()}", look)


def test_destination(inst, sink):
    suspend(inst, "destination", "b.test")
    (s,) = suspended(inst)
    assert (s["kind"], s["name"], s["reason"]) == ("destination", "b.test", REASON)
    assert s["until"] - s["since"] in (7199, 7200, 7201) and abs(s["since"] - time.time()) < 60
    text = inst.run("postqueue", "suspended").stdout
    assert re.fullmatch(rf"destination b\.test until \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ by {s['by']}: {REASON}\n", text)
    inst.send(["one@a.test", "two@B.test", "three@sub.b.test"])
    wait_delivered(inst, sink, "one@a.test", "three@sub.b.test")
    wait_waiting(inst, "two@B.test")
    (m,) = listing(inst)
    (r,) = m["recipients"]
    assert r["waits_text"] == f"suspended destination b.test by {s['by']}: {REASON}" and r["waits_until"] == s["until"]
    assert "suspended destination b.test until " in r["delay_reason"]
    assert re.search(rf"[(]waits until .*: suspended destination b\.test by {s['by']}: {REASON}[)]", inst.mailq())

    def refused_again(times):
        wait_for(lambda: inst.log(), lambda: len(re.findall(r"to=<two@B.test>.*status=deferred [(]suspended", inst.log())) >= times)
        wait_waiting(inst, "two@B.test")

    # a flush tries, and comes to the same
    inst.run("postqueue", "-f")
    refused_again(2)
    inst.stop()
    checked = inst.run("postsuper", "-s")
    assert "suspended" not in checked.stderr, checked.stderr
    assert (inst.spool / "journal/suspended").stat().st_mode & 0o777 == 0o600
    inst.start()
    inst.wait_log("1 suspensions in force")
    assert suspended(inst) == [s]
    wait_waiting(inst, "two@B.test")
    inst.run("postqueue", "-i", m["queue_id"])
    refused_again(3)
    # as the next queue manager finds it, with nothing tried by it yet
    inst.stop()
    inst.start()
    wait_waiting(inst, "two@B.test")
    assert to_whom(sink) == ["one@a.test", "three@sub.b.test"]
    inst.run("postqueue", "resume", "destination", "b.test")
    wait_delivered(inst, sink, "one@a.test", "three@sub.b.test", "two@B.test")
    inst.wait_empty()
    assert suspended(inst) == []
    inst.wait_log(r"qmgr\[\d+\]: suspended destination b.test until \S+Z by \S+: " + REASON)
    inst.wait_log(r"qmgr\[\d+\]: resumed destination b.test by " + s["by"])


def test_ends_by_itself(inst, sink):
    suspend(inst, "sender", "bob@y.test", until="1h")
    inst.send("one@a.test", sender="ann@y.test")
    inst.send("two@a.test", sender="bob@y.test")
    wait_delivered(inst, sink, "one@a.test")
    inst.wait_log(r"to=<two@a.test>.*status=deferred [(]suspended sender bob@y.test")
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=8)
    suspend(inst, "sender", "bob@y.test", until=end.strftime("%Y-%m-%dT%H:%M:%SZ"))  # in place of the hour
    wait_delivered(inst, sink, "one@a.test", "two@a.test")
    assert time.time() >= int(end.timestamp())
    inst.wait_log("resumed sender bob@y.test: the time for which it was suspended is over")
    wait_for(lambda: "an empty file", lambda: (inst.spool / "journal/suspended").read_bytes() == b"")


def test_transport_and_line(instance):
    """What is in line when the suspension begins is taken out of it; what is with an agent comes to its end."""
    def slow(verb, argument, number):
        while verb == "DATA" and not gate:
            time.sleep(0.02)

    gate = []
    sink = Sink(slow)
    try:
        inst = instance(main={"relayhost": f"[127.0.0.1]:{sink.port}", "minimal_backoff_time": "600s",
                              "smtp_destination_concurrency_limit": "1", "initial_destination_concurrency": "1"})
        for i in range(4):
            inst.send(f"r{i}@a.test", sender=f"s{i}@y.test")
        wait_for(lambda: inst.mailq(), lambda: sorted(
            r["waits_for"] for m in listing(inst) for r in m["recipients"] if "waits_for" in r) == ["concurrency"] * 3 + ["delivery"])
        (busy,) = [r["address"] for m in listing(inst) for r in m["recipients"] if r["waits_for"] == "delivery"]
        rest = sorted({f"r{i}@a.test" for i in range(4)} - {busy})
        suspend(inst, "sender", rest[0].replace("r", "s", 1).replace("@a", "@y"))
        wait_waiting(inst, rest[0])
        suspend(inst, "transport", "smtp")
        wait_waiting(inst, *rest)
        gate.append(True)
        wait_delivered(inst, sink, busy)
        inst.run("postqueue", "resume", "transport", "smtp")
        wait_delivered(inst, sink, busy, *rest[1:])
        wait_waiting(inst, rest[0])  # another suspends it
        inst.run("postqueue", "resume", "sender", rest[0].replace("r", "s", 1).replace("@a", "@y"))
        wait_delivered(inst, sink, busy, *rest)
        inst.wait_empty()
    finally:
        gate.append(True)
        sink.close()


def test_lifetime_counts(instance, sink):
    inst = instance(main={"relayhost": f"[127.0.0.1]:{sink.port}", "maximal_queue_lifetime": "0", "bounce_queue_lifetime": "0"})
    suspend(inst, "destination", "b.test")
    inst.send("two@b.test", sender="root@localhost")
    inst.wait_log(r"from=<root@localhost>, status=expired, returned to sender")


def test_said_once(instance):
    """It is no attempt at each back-off, and no line in the log: another message shows the time that passes."""
    sink = Sink(lambda verb, argument, number: b"451 4.2.0 not now\r\n" if "clock@" in argument else None)
    try:
        inst = instance(main={"relayhost": f"[127.0.0.1]:{sink.port}", "minimal_backoff_time": "1s", "maximal_backoff_time": "1s"})
        suspend(inst, "destination", "b.test")
        inst.send("two@b.test")
        wait_waiting(inst, "two@b.test")
        (m,) = listing(inst)
        inst.send("clock@a.test")
        wait_for(inst.log, lambda: len(re.findall(r"to=<clock@a.test>.*status=deferred", inst.log())) >= 4, 60)
        lines = [line for line in inst.log().splitlines() if f" {m['queue_id']}: " in line]
        assert len([line for line in lines if "queue active" in line]) == 1, lines
        assert len([line for line in lines if "status=deferred" in line]) == 1, lines
        assert m["waits_until"] > time.time() + 3600
        # a new reason is said, when somebody asks for the attempt as well
        suspend(inst, "destination", "b.test", reason="for longer")
        inst.run("postqueue", "-i", m["queue_id"])
        inst.wait_log(r"to=<two@b.test>.*status=deferred [(]suspended destination b.test until \S+ by \S+: for longer")
        # over a restart, too
        inst.stop()
        inst.start()
        wait_for(inst.log, lambda: len(re.findall(r"to=<clock@a.test>.*status=deferred", inst.log())) >= 8, 60)
        lines = [line for line in inst.log().splitlines() if f" {m['queue_id']}: " in line]
        assert len([line for line in lines if "status=deferred" in line]) == 2, lines
        inst.run("postqueue", "resume", "destination", "b.test")
        wait_delivered(inst, sink, "two@b.test")
    finally:
        sink.close()


def test_grows_too_old_meanwhile(instance, sink):
    inst = instance(main={"relayhost": f"[127.0.0.1]:{sink.port}", "maximal_queue_lifetime": "6s", "bounce_queue_lifetime": "6s"})
    suspend(inst, "destination", "b.test")
    inst.send("two@b.test", sender="root@localhost")
    inst.wait_log(r"(?s)status=deferred [(]suspended destination b\.test.*from=<root@localhost>, status=expired, returned to sender")


def test_resumed_in_the_middle_of_an_attempt(instance):
    """It is due when the attempt is over, which is another recipient's."""
    def slow(verb, argument, number):
        while verb == "DATA" and not gate:
            time.sleep(0.02)

    gate = []
    sink = Sink(slow)
    try:
        inst = instance(main={"relayhost": f"[127.0.0.1]:{sink.port}", "minimal_backoff_time": "600s"})
        suspend(inst, "destination", "b.test")
        inst.send(["one@a.test", "two@b.test"])
        wait_for(inst.mailq, lambda: sorted(r.get("waits_for", "") for m in listing(inst) for r in m["recipients"]) == ["attempt", "delivery"])
        inst.run("postqueue", "resume", "destination", "b.test")
        assert to_whom(sink) == []
        gate.append(True)
        wait_delivered(inst, sink, "one@a.test", "two@b.test")
        inst.wait_empty()
    finally:
        gate.append(True)
        sink.close()


def test_cannot_be_kept(inst, sink):
    """What cannot be written is in force, and said not to last; the next one that can be has all of them."""
    blocker = inst.spool / "journal/suspended"
    blocker.mkdir()
    inst.expect_fatal = inst.expect_warnings = True
    done = inst.run("postqueue", "suspend", "destination", "b.test", "--reason", REASON, "--until", "1h", check=False)
    assert done.returncode == 69 and "done, but only until the queue manager starts again" in done.stderr
    inst.wait_log("warning: suspensions are not kept for the next start: ")
    assert [s["name"] for s in suspended(inst)] == ["b.test"]
    inst.send("two@b.test")
    wait_waiting(inst, "two@b.test")
    blocker.rmdir()
    suspend(inst, "sender", "bob@y.test")
    inst.stop()
    inst.start()
    assert [s["name"] for s in suspended(inst)] == ["b.test", "bob@y.test"]
    assert to_whom(sink) == []
    inst.run("postqueue", "resume", "destination", "b.test")
    wait_delivered(inst, sink, "two@b.test")


def test_damaged_file(inst, sink):
    for name in ("a.test", "b.test", "c.test"):
        suspend(inst, "destination", name)
    inst.stop()
    path = inst.spool / "journal/suspended"
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b"b.test", b"x.test")
    path.write_bytes(b"\n".join(lines))
    inst.expect_warnings = True
    inst.start()
    inst.wait_log("warning: journal/suspended line 2 is damaged, .*checksum")
    assert [s["name"] for s in suspended(inst)] == ["a.test", "c.test"]


@pytest.mark.parametrize("args", [
    ["suspend"], ["suspend", "destination", "x"], ["suspend", "destination", "x", "--reason", "r"],
    ["suspend", "destination", "x", "--until", "2h"], ["suspend", "nothing", "x", "--reason", "r", "--until", "2h"],
    ["suspend", "destination", "x", "--reason", "r", "--until", "2"],
    ["suspend", "destination", "x", "--reason", "r", "--until", "2001-01-01T00:00:00Z"],
    ["suspend", "transport", "retry", "--reason", "r", "--until", "2h"],
    ["suspend", "destination", "x", "y", "--reason", "r", "--until", "2h"],
    ["suspend", "destination", "x", "--reason", "r", "--until", "2h", "--sender", "a"],
    ["-f", "suspended"], ["suspended", "x"], ["resume", "destination"], ["resume", "destination", "x", "--reason", "r"],
    ["--until", "2h"], ["-p", "--until", "2h"]])
def test_wrong_use(inst, args):
    inst.expect_fatal = True
    assert inst.run("postqueue", *args, check=False).returncode == 69
    assert suspended(inst) == []


def test_who_may(inst):
    inst.expect_fatal = True
    done = inst.run("postqueue", "resume", "destination", "x.test", check=False)
    assert done.returncode == 69 and "it is not suspended" in done.stderr
    if inst.is_root:
        # as the set-gid program runs: the group reaches the socket, the user is nobody in particular
        nobody, group = pwd.getpwnam("nobody").pw_uid, grp.getgrnam("games").gr_gid
        as_user = ["setpriv", f"--reuid={nobody}", f"--regid={group}", "--clear-groups", str(STAGE / "sbin/postqueue")]
        env = dict(os.environ, MAIL_CONFIG=str(inst.etc))
        done = subprocess.run([*as_user, "suspend", "destination", "x.test", "--reason", "r", "--until", "1h"], env=env,
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 77 and "only root and the mail system may do this" in done.stderr
        suspend(inst, "destination", "y.test")
        done = subprocess.run([*as_user, "suspended"], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout.startswith("destination y.test until ")
        assert [s["name"] for s in suspended(inst)] == ["y.test"]
    inst.stop()
    done = inst.run("postqueue", "suspended", check=False)
    assert done.returncode == 69 and "mail system is down" in done.stderr


@pytest.mark.parametrize("kind, name", [("destination", "[127.0.0.1]:{port}"), ("transport", "slow"), ("destination", "down.test")])
def test_resume_sends_what_was_deferred_before(instance, kind, name):
    """Mail that was deferred because its host was down, before that host was suspended, is tried when it is resumed: the host is back.
    Other mail keeps its time."""
    with contextlib.closing(Sink()) as host, contextlib.closing(Sink()) as other:
        state = {"down": True}
        for sink in (host, other):
            sink.reply = lambda verb, argument, number: b"421 4.3.2 not now\r\n" if verb == "CONNECT" and state["down"] else None
        inst = instance(main={"minimal_backoff_time": "3000s", "maximal_backoff_time": "4000s", "relay_domains": "down.test other.test", "mydestination": "",
                              "transport_maps": f"inline:{{{{down.test=slow:[127.0.0.1]:{host.port}}}, {{other.test=smtp:[127.0.0.1]:{other.port}}}}}"},
                        master=MASTER_CF + "slow unix - - n - - smtp\n")
        inst.send(["one@down.test", "two@down.test"])
        inst.send("three@other.test")
        wait_for(lambda: f"deferral\n{inst.mailq()}\n{inst.log()}", lambda: [m["queue_name"] for m in listing(inst)] == ["deferred"] * 2)
        name = name.format(port=host.port)
        suspend(inst, kind, name)
        state["down"] = False
        inst.run("postqueue", "resume", kind, name)
        wait_delivered(inst, host, "one@down.test", "two@down.test")
        wait_for(lambda: f"one message\n{inst.mailq()}", lambda: [m["queue_name"] for m in listing(inst)] == ["deferred"])
        assert to_whom(other) == []
