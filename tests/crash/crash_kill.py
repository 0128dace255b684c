# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random moments, of random daemons and of the whole tree, under mixed load; then the reckoning.

  crash_kill.py [--rounds N] [--seed N] [--keep]

At the end: every acknowledged message has arrived with the content that it was sent with, or is on hold as postsuper said, or was
deleted by postsuper; the queue is in order (postsuper -s on the stopped system); nothing was reported as damaged. What arrived
twice is counted, and must have arrived the first time within WINDOW_S of a kill.
"""
import argparse
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import time

from ledger import Ledger, Load, Setup
from instance import wait_for

WINDOW_S = 1.0  # STORE.md, "The completion window": milliseconds; and what a busy machine puts between a delivery and its report
TARGETS = ("one", "tree", "several", "one", "master", "tree", "one", "several")


def kill_all(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def strike(inst, target, pick):
    """Kills; returns the names of what was killed, or nothing if there was nothing to kill."""
    master = inst.master_pid()
    daemons = {pid: name for pid, name in inst.pids().items() if pid != master}
    if target in ("tree", "master"):
        os.kill(master, signal.SIGSTOP)  # so that nothing is started meanwhile
        daemons = {pid: name for pid, name in inst.pids().items() if pid != master}
        kill_all([master, *daemons] if target == "tree" else [master])
        return ["master", *(daemons.values() if target == "tree" else ())]
    names = sorted(set(daemons.values()))
    if not names:
        return []
    # a program first, so that the queue manager is as likely as one of forty clients
    chosen = pick.sample(names, min(len(names), 1 if target == "one" else 3))
    victims = [pick.choice(sorted(p for p in daemons if daemons[p] == name)) for name in chosen]
    kill_all(victims)
    return chosen


def restart(inst):
    def started():
        return inst.run("postfix", "start", check=False).returncode == 0  # the master may take a moment to die
    wait_for(lambda: "postfix start to succeed:\n" + inst.log()[-3000:], started)
    wait_for(lambda: "the SMTP port:\n" + inst.log()[-3000:], inst.answers)


def check(ledger, kills):
    """Every acknowledged message against what arrived. Returns figures."""
    duplicates = came_back = unanswered = 0
    latest = 0.0
    for m in ledger.messages.values():
        copies = {r: sorted(m.delivered.get(r, [])) for r in m.rcpts}
        if m.fate != "acknowledged":
            unanswered += any(copies.values())
            continue
        for r, times in copies.items():
            if not times and not (m.deleted or m.maybe_deleted):
                ledger.problem(f"{m.id} ({m.kind}, {m.queue_id}) was acknowledged and has not reached {r}")
            for t in times[:-1]:
                duplicates += 1
                distance = min((abs(t - k) for k in kills), default=float("inf"))
                latest = max(latest, distance)
                if distance > WINDOW_S:
                    ledger.problem(f"{m.id} ({m.kind}, {m.queue_id}) reached {r} twice, first {distance:.2f} s from the next kill")
        if m.deleted and any(copies.values()):
            came_back += 1
            distance = min((abs(m.acted - k) for k in kills), default=float("inf"))
            if distance > WINDOW_S:
                ledger.problem(f"{m.id} ({m.queue_id}) was deleted {distance:.2f} s from the next kill and was delivered")
    return {"duplicates": duplicates, "first copy at most s from a kill": round(latest, 2), "deleted, came back": came_back,
            "delivered without an answer to the client": unanswered}


def structure(inst):
    """The stopped system's queue: problems, and the ids on hold."""
    done = inst.run("postsuper", "-s", check=False)
    problems = [] if done.returncode == 0 and "warning" not in done.stderr else [f"postsuper -s: {done.stderr}"]
    problems += [f"in corrupt/: {p.name}" for p in (inst.spool / "corrupt").iterdir()]
    listed = inst.run("postqueue", "-j").stdout.splitlines()
    return problems, {re.search(r'"queue_id": "([^"]+)"', x)[1] for x in listed if '"queue_name": "hold"' in x}, len(listed)


def run(root, seed, rounds, out=print):
    ledger = Ledger(seed)
    pick = random.Random(f"{seed}/kills")
    setup = Setup(root, ledger)
    inst = setup.inst
    inst.expect_fatal = True  # postsuper while a killed qmgr still has its lock; others: below
    load = Load(setup)
    kills, victims = [], {}
    try:
        for i in range(rounds):
            time.sleep(pick.uniform(0.2, 1.2))
            target = TARGETS[i % len(TARGETS)]
            kills.append(time.time())
            for name in strike(inst, target, pick):
                victims[name] = victims.get(name, 0) + 1
            if target in ("tree", "master"):
                restart(inst)
                kills.append(time.time())  # up to now, what had survived the master came to its end
        time.sleep(0.5)
        load.stop()
        inst.stop()
        problems, held, queued = structure(inst)
        for text in problems:
            ledger.problem(text)
        for m in ledger.messages.values():
            if m.held and m.queue_id not in held:
                ledger.problem(f"{m.id} ({m.queue_id}) was put on hold, and is not there")
        ledger.draining = True
        inst.start()
        inst.run("postsuper", "-H", "ALL")

        def drained():
            inst.run("postqueue", "-f")
            return inst.queue_is_empty()
        wait_for(lambda: f"the queue to drain:\n{inst.mailq()[-3000:]}\n{inst.log()[-3000:]}", drained, 60)
        inst.stop()
        setup.read_mailboxes()
        problems, _, _ = structure(inst)
        for text in problems:
            ledger.problem(text)
        for line in re.findall(r".*(?:damaged|corrupt/|cannot be read|panic:).*|.*(?<!postsuper)(?<!postfix-script)\[\d+\]: fatal:.*", inst.log()):
            ledger.problem(f"log: {line}")
        figures = check(ledger, kills)
    finally:
        load.stopped = True
        ledger.problems += setup.close()
    out(f"seed {seed}: {rounds} rounds, {len(ledger.messages)} messages sent, {len(ledger.acknowledged())} acknowledged, {queued} queued after the "
        f"last round, {sum(m.deleted for m in ledger.messages.values())} deleted, {sum(m.held for m in ledger.messages.values())} put on hold")
    out(", ".join(f"{k}: {v}" for k, v in figures.items()))
    out("killed: " + ", ".join(f"{n} {name}" for name, n in sorted(victims.items())))
    return ledger.problems


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=8)
    options.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options.add_argument("--keep", action="store_true", help="leave the instance's files")
    args = options.parse_args()
    root = pathlib.Path(tempfile.mkdtemp(prefix="postrider-crash-"))
    root.chmod(0o755)
    print(f"seed {args.seed}", flush=True)
    problems = run(root / "i", args.seed, args.rounds)
    for text in problems[:20]:
        print(text)
    if problems:
        print(f"{len(problems)} problems; the instance is in {root}; again with --seed {args.seed}")
    elif not args.keep:
        shutil.rmtree(root, ignore_errors=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
