# SPDX-License-Identifier: Apache-2.0
"""The queue commands beside a queue of known mail, with the system running and stopped: postqueue's selections, what each message
says that it waits for, mail in maildrop/."""
import json
import re

import pytest

from instance import free_port, wait_for

MAIL = [  # sender, recipient
    ("ann@x.test", "one@a.test"),
    ("ann@x.test", "two@b.test"),
    ("bob@y.test", "three@b.test"),
    ("", "four@sub.b.test"),
]


@pytest.fixture
def waiting(instance):
    """Four deferred messages for a host that refuses connections, and their names."""
    inst = instance(main={"relayhost": f"[127.0.0.1]:{free_port()}", "minimal_backoff_time": "600s"})
    for sender, recipient in MAIL:
        inst.send(recipient, sender=sender)
    wait_for(lambda: inst.mailq(), lambda: len(listing(inst, "--queue", "deferred")) == 4)
    return inst


def listing(inst, *select):
    return [json.loads(line) for line in inst.run("postqueue", "-j", *select).stdout.splitlines()]


def recipients(inst, *select):
    """By JSON, and the same by name and as text."""
    found = listing(inst, *select)
    names = inst.run("postqueue", *select).stdout.split()
    names = inst.run("postqueue", *select).stdout.split()
    assert sorted(names) == sorted(m["queue_id"] for m in found)
    text = inst.run("postqueue", "-p", *select).stdout
    assert sorted(re.findall(r"^([0-9A-F]+)[*!#]* ", text, re.M)) == sorted(names)
    return sorted(r["address"].split("@")[0] for m in found for r in m["recipients"])


def check_selections(inst, stopped=False):
    for select, wanted in [
        (["--sender", "ANN@x.test"], ["one", "two"]),
        (["--sender", "@y.test"], ["three"]),
        (["--sender", "<>"], ["four"]),
        (["--recipient", "two@b.test"], ["two"]),
        (["--domain", "b.test"], ["three", "two"]),
        (["--domain", ".b.test"], ["four", "three", "two"]),
        (["--domain", "b.test", "--sender", "ann@x.test"], ["two"]),
        (["--reason", "connection REFUSED"], ["four", "one", "three", "two"]),
        (["--reason", "timed out"], []),
        (["--older", "1h"], []),
        (["--older", "0s"], ["four", "one", "three", "two"]),
        (["--queue", "hold"], []),
        (["--queue", "hold,deferred", "--domain", "a.test"], ["one"]),
    ]:
        assert recipients(inst, *select) == wanted, select
    name = listing(inst, "--domain", "a.test")[0]["queue_id"]
    assert recipients(inst, "--id", name) == ["one"]


def test_selections(waiting):
    check_selections(waiting)
    waiting.stop()
    check_selections(waiting)
    names = waiting.run("postqueue", "--domain", "b.test").stdout
    done = waiting.run("postsuper", "-d", "-", input=names)
    assert "Deleted: 2 messages" in done.stderr
    assert sorted(m["recipients"][0]["address"] for m in listing(waiting)) == ["four@sub.b.test", "one@a.test"]


@pytest.mark.parametrize("args", [
    ["--sender", ""], ["--queue", "nope"], ["--older", "x"], ["--id", "../x"], ["-f", "--sender", "a@b"], ["--sender", "a", "b"], []])
def test_wrong_use(waiting, args):
    waiting.expect_fatal = True
    assert waiting.run("postqueue", *args, check=False).returncode == 69


def test_says_what_it_waits_for(waiting):
    held = listing(waiting, "--domain", "a.test")[0]["queue_id"]
    waiting.run("postsuper", "-h", held)
    by_name = {m["queue_id"]: m for m in listing(waiting)}
    assert (by_name[held]["waits_for"], by_name[held]["waits_text"]) == ("hold", "on hold, by postsuper -h")
    others = [m for name, m in by_name.items() if name != held]
    for m in others:
        assert m["waits_for"] == "retry" and 300 < m["waits_until"] - m["arrival_time"] < 1200
    text = waiting.mailq()
    assert len(re.findall(r"[(]waits until .*: next attempt[)]", text)) == 3 and text.count("(waits: on hold, by postsuper -h)") == 1
    # as postsuper's manual takes a list apart: the remarks are like reasons
    blocks = "\n".join(line for line in text.splitlines()[1:] if not re.match(" *[(]", line)).split("\n\n")
    assert sorted(tuple(b.split()[6:]) for b in blocks[:-1]) == sorted((s or "MAILER-DAEMON", r) for s, r in MAIL)
    waiting.stop()
    assert {m["queue_id"]: m["waits_for"] for m in listing(waiting)} == {
        name: "hold" if name == held else "start" for name in by_name}


def test_mail_that_nobody_picked_up(instance):
    inst = instance(main={"relayhost": f"[127.0.0.1]:{free_port()}"})
    inst.stop()
    inst.run("sendmail", "-f", "ann@x.test", "later@a.test", "too@b.test", input="Subject: x\n\nhello\n")
    (m,) = listing(inst)
    assert (m["queue_name"], m["sender"], [r["address"] for r in m["recipients"]]) == (
        "maildrop", "ann@x.test", ["later@a.test", "too@b.test"])
    assert m["message_size"] > 0 and m["waits_for"] == "start"
    assert recipients(inst, "--queue", "maildrop") == ["later", "too"]
    assert recipients(inst, "--sender", "bob@y.test", "--queue", "maildrop") == []
    assert "later@a.test" in inst.mailq()
    inst.start()
    wait_for(lambda: inst.mailq(), lambda: [m["queue_name"] for m in listing(inst)] == ["deferred"])


def test_qshape(waiting):
    """The table itself: unit/test_qshape."""
    def rows(*args):
        lines = waiting.run("qshape", *args).stdout.splitlines()
        assert lines[0].split()[0] == "T" and {len(line) for line in lines} == {80}
        return {line.split()[0]: int(line.split()[1]) for line in lines[1:]}

    def check():
        assert rows() == {"TOTAL": 0}
        assert rows("deferred", "hold") == {"TOTAL": 4, "b.test": 2, "a.test": 1, "sub.b.test": 1}
        assert rows("-s", waiting.spool / "deferred") == {"TOTAL": 4, "x.test": 2, "y.test": 1, "MAILER-DAEMON": 1}
        assert rows("-p", "-m", "1", "deferred") == {"TOTAL": 4, "b.test": 2, "a.test": 1, "sub.b.test": 1, ".b.test": 1}

    check()
    waiting.expect_fatal = True
    for args in (["nope"], ["-b", "0", "deferred"], ["-x"]):
        assert waiting.run("qshape", *args, check=False).returncode == 64
    waiting.run("postsuper", "-h", "ALL")
    waiting.stop()
    assert rows("deferred") == {"TOTAL": 0}
    waiting.run("postsuper", "-H", "ALL")
    check()


def test_postsuper_tells_what_it_did(waiting):
    """Counts as Debian's postsuper tells them, also when there was nothing to do."""
    def said(*args, **options):
        done = waiting.run("postsuper", *args, **options)
        return [line.removeprefix("postsuper: ") for line in done.stderr.splitlines() if "accessing" not in line]

    def check():
        assert said("-d", "NOSUCH1") == ["Deleted: 0 messages"]
        assert said("-d", "../x") == ["warning: invalid mail queue id: ../x", "Deleted: 0 messages"]
        assert said("-H", "NOSUCH1", "-d", "NOSUCH2") == ["Deleted: 0 messages", "Released from hold: 0 messages"]
        assert said("-h", "ALL", "hold") == ["Placed on hold: 0 messages"]
        assert said("-e", "NOSUCH1") == ["Force-expired: 0 messages"]
        assert said("-f", "NOSUCH1") == ["Force-expired: 0 messages", "Released from hold: 0 messages"]
        assert said("-d", "-", input="\nbad/id\n") == [
            "warning: invalid mail queue id: ", "warning: invalid mail queue id: bad/id", "Deleted: 0 messages"]
        name = listing(waiting, "--queue", "deferred")[0]["queue_id"]
        assert said("-h", name) == [f"{name}: placed on hold", "Placed on hold: 1 message"]
        assert said("-H", name) == [f"{name}: released from hold", "Released from hold: 1 message"]
        assert said("-d", name) == [f"{name}: removed", "Deleted: 1 message"]

    check()
    waiting.stop()
    waiting.run("postsuper", "-s")  # does, and tells, what was asked of a message that an agent had until the end
    check()


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_postsuper_expires_what_is_on_hold(waiting, running):
    """-f of one queue, and of messages that are to be returned already: counted as Debian's postsuper counts."""
    waiting.run("postsuper", "-h", "ALL")
    if not running:
        waiting.stop()
    first, second, *_ = [m["queue_id"] for m in listing(waiting)]

    def said(*args):
        return [line.removeprefix("postsuper: ") for line in waiting.run("postsuper", *args).stderr.splitlines() if "accessing" not in line]

    assert said("-e", first) == [f"{first}: expired", "Force-expired: 1 message"]
    assert said("-e", first) == ["Force-expired: 0 messages"]
    assert said("-f", "ALL", "deferred") == ["Force-expired: 0 messages", "Released from hold: 0 messages"]
    assert said("-f", second, "hold") == [f"{second}: expired", f"{second}: released from hold", "Force-expired: 1 message", "Released from hold: 1 message"]
    assert said("-f", "ALL", "hold") == ["Force-expired: 2 messages", "Released from hold: 3 messages"]
    if not running:
        waiting.start()
    wait_for(waiting.log, lambda: waiting.log().count("status=force-expired, returned to sender") == 4)
