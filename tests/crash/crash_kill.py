# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random moments, of random daemons and of the whole tree, under mixed load, while mail is moved to another host whose daemons are
killed, too; then the reckoning.

  crash_kill.py [--rounds N] [--seed N] [--keep]

At the end, when both queues were drained: every acknowledged message has arrived with the content that it was sent with, or is on hold as postsuper said, or was
deleted by postsuper; the queue is in order (postsuper -s on the stopped system); nothing was reported as damaged. What arrived
twice is counted, and must have arrived the first time within WINDOW_S of a kill.
"""
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

from ledger import MOVED, TIMED, Ledger, Load, Setup
from instance import wait_for
from reckoning import main, settle, sums

# postsuper may find that a killed qmgr still has its lock, postqueue that the mail system is down
BAD_LOG = r".*(?:damaged|corrupt/|cannot be read|panic:).*|.*(?<!postsuper)(?<!postqueue)(?<!postfix-script)\[\d+\]: fatal:.*"
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


class Mover:
    """Has the mail for MOVED handed to the other host, again and again."""

    def __init__(self, inst, ledger, host):
        self.inst, self.ledger, self.stopped, self.moved, self.ends = inst, ledger, False, 0, {}
        self.argv = ["--move-to", f"[127.0.0.1]:{host.port}", "--recipient", MOVED]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopped:
            try:
                done = self.inst.run("postqueue", *self.argv, check=False, timeout=60)
            except subprocess.TimeoutExpired:
                self.ledger.problem("postqueue --move-to hangs")
                return
            self.ends[done.returncode] = self.ends.get(done.returncode, 0) + 1
            found = re.search(r"^moved (\d+) of", done.stdout + done.stderr, re.M)
            self.moved += int(found[1]) if found else 0
            time.sleep(0.3)

    def stop(self):
        self.stopped = True
        self.thread.join(90)
        assert not self.thread.is_alive(), "postqueue hangs"


def run(root, seed, rounds, out=print):
    ledger = Ledger(seed)
    pick = random.Random(f"{seed}/kills")
    setup = Setup(root, ledger)
    other = Setup(root.with_name("other"), ledger, hops=setup.hops, myhostname="other.example.test")
    for s in (setup, other):
        s.inst.expect_fatal = True  # postsuper while a killed qmgr still has its lock; others: below
    load = Load(setup, kinds=[*TIMED, "moved"])
    mover = Mover(setup.inst, ledger, other.inst)
    kills, other_kills, victims = [], [], {}
    try:
        for i in range(rounds):
            time.sleep(pick.uniform(0.2, 1.2))
            target = TARGETS[i % len(TARGETS)]
            inst, times = (other.inst, other_kills) if i % 3 == 2 else (setup.inst, kills)
            begin = time.time()
            for name in strike(inst, target, pick):
                victims[name] = victims.get(name, 0) + 1
            if target in ("tree", "master"):
                restart(inst)  # by then, what survives the master has come to its end
            times.append((begin, time.time()))
        time.sleep(0.5)
        mover.stop()
        load.stop()
        for s in (setup, other):
            s.inst.stop()
        figures = settle(setup, ledger, kills, BAD_LOG, (other, other_kills))
    finally:
        load.stopped = mover.stopped = True
        ledger.problems += other.close() + setup.close()
    out(f"{rounds} rounds; " + sums(seed, ledger, figures))
    out(f"moves: {sum(mover.ends.values())} commands, exit codes {mover.ends}; {mover.moved} messages moved by those that came to their end")
    if not mover.moved:
        ledger.problem("nothing was moved")
    out("killed: " + ", ".join(f"{n} {name}" for name, n in sorted(victims.items())))
    return ledger.problems


if __name__ == "__main__":
    sys.exit(main("crash", lambda root, args: run(root, args.seed, args.rounds), [("--rounds", int, 8)]))
