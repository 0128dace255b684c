# SPDX-License-Identifier: Apache-2.0
"""postqueue --move-to while other things happen: mail is being delivered, suspended, deleted; a reload, a stop, a kill."""
import collections
import os
import random
import re
import signal
import threading
import time

import pytest

from instance import wait_for
from move_queue import STAYS, subject, host, inst, listing, wait_deferred, move, begin_move, end_move, fill, gated  # noqa: F401


def test_explains_itself(inst, host):
    """Lists say so of what is on its way and what waits for it; another move is refused; what arrives meanwhile is left."""
    inst.write_main(smtp_destination_concurrency_limit="2")
    inst.reload()
    fill(inst, 4)
    before = wait_deferred(inst, 4)
    inst.run("postsuper", "-h", sorted(before)[0])
    to = gated(host)
    running = begin_move(inst, to, "--held")
    wait_for(lambda: inst.mailq(), lambda: len(to.commands["DOT"]) == 2)
    now = listing(inst)
    assert {m["waits_for"] for m in now.values()} == {"move"}
    assert {m["waits_text"] for m in now.values()} == {f"being moved to {to.name}"}
    assert f"(waits: being moved to {to.name})" in inst.mailq()
    inst.expect_fatal = True
    done = move(inst, to, code=69)
    assert f"the queue is being moved to {to.name} just now" in done.stderr
    inst.send("new@a.test", subject="new")
    wait_for(lambda: inst.mailq(), lambda: "new@a.test" in inst.mailq())
    to.gate.set()
    out, _ = end_move(running, 0)
    assert out == f"moved 4 of 4 messages to {to.name}; 1 has arrived since and was left\n"
    (left,) = listing(inst).values()
    assert [r["address"] for r in left["recipients"]] == ["new@a.test"]


def test_hanging_up_stops_it(inst, host):
    """Ctrl-C: what is under way comes to its end and counts; the others stay as they were."""
    inst.write_main(smtp_destination_concurrency_limit="3", initial_destination_concurrency="3")
    inst.reload()
    fill(inst, 800)  # more than become active at once
    before = wait_deferred(inst, 800)
    to = gated(host)
    running = begin_move(inst, to)
    wait_for(lambda: inst.mailq(), lambda: len(to.commands["DOT"]) == 3)
    assert "(waits: to be moved to" in inst.mailq()
    running.send_signal(signal.SIGINT)
    running.wait(timeout=20)
    wait_for(lambda: "what waited to be where it was\n" + inst.mailq()[:3000],
             lambda: "to be moved" not in inst.mailq() and inst.mailq().count("being moved") == 3)
    to.gate.set()
    inst.wait_log("moved 3 messages to .*, 797 stay: who asked for it has gone")
    now = listing(inst)
    assert len(now) == 797 and all(now[m] == before[m] for m in now)
    assert len(to.messages) == 3
    rest = host()
    assert move(inst, rest).stdout == f"moved 797 of 797 messages to {rest.name}\n"
    assert sorted(to.subjects() + rest.subjects()) == sorted(f"m{i}" for i in range(800))


def test_being_delivered(instance, host):
    """What agents have is waited for; what they have not delivered goes with the rest. What is in line does not wait for its turn."""
    slow = gated(host, verbs=("DOT",))
    slow.answer_of = slow.answer
    slow.answer = lambda verb, argument, number: slow.answer_of(verb, argument, number) or (
        b"451 4.3.0 later\r\n" if verb == "DOT" else None)
    inst = instance(main={"relayhost": slow.name, "minimal_backoff_time": "3000s", "smtp_destination_concurrency_limit": "1",
                          "initial_destination_concurrency": "1"})
    fill(inst, 5)
    wait_for(lambda: inst.mailq(), lambda: len(slow.commands["DOT"]) == 1 and len(listing(inst)) == 5)
    to = host()
    running = begin_move(inst, to)
    to.wait(4)
    time.sleep(0.3)
    assert running.poll() is None and len(to.messages) == 4
    slow.gate.set()
    out, _ = end_move(running, 0)
    assert out == f"moved 5 of 5 messages to {to.name}\n"
    assert to.subjects() == [f"m{i}" for i in range(5)] and slow.messages == [] and len(slow.commands["DOT"]) == 1
    assert inst.queue_is_empty()


def test_suspension_ends_meanwhile(instance, host):
    """What was suspended, stays, and is suspended no more is tried at once, not at the end that the suspension would have had."""
    real = host()
    inst = instance(main={"relayhost": real.name, "minimal_backoff_time": "3000s"})
    inst.run("postqueue", "suspend", "destination", "a.test", "--reason", "x", "--until", "1h")
    fill(inst, 2)
    wait_deferred(inst, 2)
    gate = threading.Event()

    def later(verb, argument, number):
        if verb == "DOT":
            gate.wait(30)
            return b"450 4.2.0 not now\r\n"
    to = host(later)
    running = begin_move(inst, to)
    wait_for(lambda: inst.mailq(), lambda: len(to.commands["DOT"]) == 2)
    inst.run("postqueue", "resume", "destination", "a.test")
    assert real.messages == []
    gate.set()
    end_move(running, STAYS)
    real.wait(2)
    inst.wait_empty()


def test_deleted_and_held_meanwhile(inst, host):
    inst.write_main(smtp_destination_concurrency_limit="1", initial_destination_concurrency="1")
    inst.reload()
    fill(inst, 5)
    ids = sorted(wait_deferred(inst, 5))
    to = gated(host)
    running = begin_move(inst, to)
    wait_for(lambda: inst.mailq(), lambda: len(to.commands["DOT"]) == 1)
    (busy,) = [m["queue_id"] for m in listing(inst).values() if any(r.get("waits_for") == "delivery" for r in m["recipients"])]
    rest = [m for m in ids if m != busy]
    inst.run("postsuper", "-d", rest[0])
    inst.run("postsuper", "-h", rest[1])
    to.gate.set()
    out, _ = end_move(running, 0)
    assert out == f"moved 3 of 5 messages to {to.name}; 2 were delivered or dealt with otherwise meanwhile\n"
    (left,) = listing(inst).values()
    assert left["queue_id"] == rest[1] and left["queue_name"] == "hold"
    assert len(to.messages) == 3


def test_reload_goes_on(inst, host):
    inst.write_main(smtp_destination_concurrency_limit="2", initial_destination_concurrency="2")
    inst.reload()
    fill(inst, 50)
    wait_deferred(inst, 50)
    to = gated(host)
    running = begin_move(inst, to)
    wait_for(lambda: inst.mailq(), lambda: len(to.commands["DOT"]) == 2)
    inst.reload()
    to.gate.set()
    out, _ = end_move(running, 0)
    assert out == f"moved 50 of 50 messages to {to.name}\n" and to.subjects() == sorted(f"m{i}" for i in range(50))


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_queue_manager_goes(inst, host, how):
    """kill -9 of qmgr in the middle, or an orderly stop: the command says so; nothing is lost; given again, it does the rest."""
    over = threading.Event()

    def slow(verb, argument, number):  # so that it is not over before the queue manager has gone
        if verb == "DOT":
            time.sleep(0.02)
            if len(to.messages) >= 60:
                over.wait(1)

    fill(inst, 300)
    before = wait_deferred(inst, 300)
    to = host(slow)
    running = begin_move(inst, to)
    to.wait(60)
    if how == "kill":
        (pid,) = inst.pids("qmgr")
        os.kill(pid, signal.SIGKILL)
    else:
        inst.stop()
    over.set()
    inst.expect_fatal = True
    _, err = end_move(running, STAYS)
    assert re.search(r"has broken off: .* messages or more were moved, the others are still here: give the command again", err), err
    if how == "kill":
        wait_for(lambda: inst.log(), lambda: inst.run("postqueue", "-p", check=False).returncode == 0 and inst.pids("qmgr"))
    else:
        inst.start()
    here = listing(inst)
    assert 0 < len(here) < 300 and all(here[m]["recipients"] == before[m]["recipients"] for m in here)
    left = {subject(inst.run("postcat", "-q", "-h", m).stdout.encode()) for m in here}
    assert set(to.subjects()) | left == {f"m{i}" for i in range(300)}
    move(inst, to)
    got = collections.Counter(to.subjects())
    assert set(got) == {f"m{i}" for i in range(300)} and inst.queue_is_empty()
    twice = sum(got.values()) - 300
    assert twice <= (0 if how == "stop" else 40), "more than what agents had"


def test_killed_again_and_again(inst, host):
    """qmgr, its agents, or the command: in the end the other host has every recipient, with no more copies than were under way."""
    def answer(verb, argument, number):
        if verb == "DOT":
            time.sleep(0.004)
        n = re.search(r"TO:<m\d+x(\d+)r", argument) if verb == "RCPT" and not to.takes_all else None
        return {3: b"450 4.2.0 later\r\n", 7: b"550 5.1.1 no\r\n"}.get(int(n.group(1)) % 10) if n else None

    dice = random.Random(31)
    to = host(answer)
    to.takes_all = False
    sent = set()
    for r, what in enumerate(["qmgr", "smtp", "qmgr", "command", "qmgr", "qmgr"]):
        with inst.smtp() as client:
            for i in range(60):
                recipients = [f"m{r}x{i}r{k}@d.test" for k in range(dice.choice([1, 1, 1, 3, 60]))]
                client.sendmail("s@a.test", recipients, f"Subject: m{r}x{i}\n\nx\n".encode())
                sent.update(recipients)
        running = begin_move(inst, to)
        time.sleep(dice.random() * 0.3)  # a random moment
        if what == "command":
            running.kill()
        for pid in inst.pids(what):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        running.communicate(timeout=60)
        wait_for(lambda: inst.log(), lambda: inst.pids("qmgr") and inst.run("postqueue", "-p", check=False).returncode == 0)
    inst.expect_fatal = True  # of commands whose queue manager has gone
    to.takes_all = True
    # what an agent of before has yet is waited for, or the one before ends just now
    wait_for(lambda: inst.mailq(), lambda: inst.run("postqueue", "--move-to", to.name, check=False).returncode == 0)
    assert inst.queue_is_empty()
    got = collections.Counter(to.recipients())
    assert set(got) == sent and "bounced" not in inst.log() and "expired" not in inst.log()
    assert sum(got.values()) - len(got) <= 5 * 20 * 50  # five times all agents, with whole transactions
