# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random moments, of random daemons and of the whole tree, under mixed load; then the reckoning.

  crash_kill.py [--rounds N] [--seed N] [--keep]

At the end: every acknowledged message has arrived with the content that it was sent with, or is on hold as postsuper said, or was
deleted by postsuper; the queue is in order (postsuper -s on the stopped system); nothing was reported as damaged. What arrived
twice is counted, and must have arrived the first time within WINDOW_S of a kill.
"""
import os
import random
import signal
import sys
import time

from ledger import Ledger, Load, Setup
from instance import wait_for
from reckoning import main, settle, sums

# postsuper may find that a killed qmgr still has its lock
BAD_LOG = r".*(?:damaged|corrupt/|cannot be read|panic:).*|.*(?<!postsuper)(?<!postfix-script)\[\d+\]: fatal:.*"
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
            begin = time.time()
            for name in strike(inst, target, pick):
                victims[name] = victims.get(name, 0) + 1
            if target in ("tree", "master"):
                restart(inst)  # by then, what survives the master has come to its end
            kills.append((begin, time.time()))
        time.sleep(0.5)
        load.stop()
        inst.stop()
        figures = settle(setup, ledger, kills, BAD_LOG)
    finally:
        load.stopped = True
        ledger.problems += setup.close()
    out(f"{rounds} rounds; " + sums(seed, ledger, figures))
    out("killed: " + ", ".join(f"{n} {name}" for name, n in sorted(victims.items())))
    return ledger.problems


if __name__ == "__main__":
    sys.exit(main("crash", lambda root, args: run(root, args.seed, args.rounds), [("--rounds", int, 8)]))
