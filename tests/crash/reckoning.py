# SPDX-License-Identifier: Apache-2.0
"""The end of each of these tests: the queue is looked at, drained, and every message accounted for. And what their command lines share."""
import argparse
import ctypes
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

from faults import allow_preloading
from instance import wait_for
from ledger import MOVED

WINDOW_S = 0.5  # STORE.md, "The completion window": milliseconds; and what a busy machine puts between an agent's work and its note
CLONE_NEWNS = 0x20000


def from_kill(since, until, kills):
    """How far this is from the nearest kill, in time. kills: [(begin, end)], within each of which processes came to their end."""
    return min((max(begin - until, since - end, 0.0) for begin, end in kills), default=float("inf"))


def check_moved(ledger, m, kills, log):
    """A message that another host may have taken, in whose log its arrivals are, to the second: each copy too many came by one of those that were near a
    kill of either side. Returns how many are too many."""
    times = [time.mktime(time.strptime(f"{time.localtime(m.acknowledged).tm_year} {stamp}", "%Y %b %d %H:%M:%S"))
             for stamp in re.findall(rf"^(\S+ +\d+ [\d:]{{8}}) .*: message-id=<{re.escape(m.id)}@crash>$", log, re.M)]
    extra = len(m.delivered[MOVED]) - 1
    excused = sum(from_kill(t, t + 1, kills) <= WINDOW_S for t in times)
    if extra > excused:
        ledger.problem(f"{m.id} ({m.queue_id}) arrived {extra + 1} times; the other host took it at {times}, {excused} of them near a kill")
    return extra


def check(ledger, kills, other=None):
    """Every acknowledged message against what arrived. kills: when duplicates may have come to be. other: kills and log of the host to which mail
    was moved. Returns figures."""
    duplicates = came_back = unanswered = moved_twice = 0
    latest = 0.0
    for m in ledger.messages.values():
        copies = {r: sorted(m.delivered.get(r, [])) for r in m.rcpts}
        if m.fate != "acknowledged":
            unanswered += any(copies.values())
            continue
        for r, times in copies.items():
            if not times and not (m.deleted or m.maybe_deleted):
                ledger.problem(f"{m.id} ({m.kind}, {m.queue_id}) was acknowledged and has not reached {r}")
            if other is not None and r == MOVED and times:
                moved_twice += check_moved(ledger, m, kills + other[0], other[1])
                continue
            for copy in times[:-1]:
                duplicates += 1
                distance = from_kill(copy.taken, copy.said, kills)
                latest = max(latest, distance)
                if distance > WINDOW_S:
                    ledger.problem(f"{m.id} ({m.kind}, {m.queue_id}) reached {r} twice, first {distance:.2f} s from the next kill")
        if m.deleted and any(copies.values()):
            came_back += 1
            distance = from_kill(m.acted, m.acted, kills)
            if distance > WINDOW_S:
                ledger.problem(f"{m.id} ({m.queue_id}) was deleted {distance:.2f} s from the next kill and was delivered")
    return {"duplicates": duplicates, "first copy at most s from a kill": round(latest, 3), "deleted, came back": came_back, **({} if other is None else {"moved twice": moved_twice}),
            "delivered without an answer to the client": unanswered}


def structure(ledger, inst):
    """The stopped system's queue is in order. Returns the ids on hold, and how many messages there are."""
    done = inst.run("postsuper", "-s", check=False)
    if done.returncode != 0 or "warning" in done.stderr:
        ledger.problem(f"postsuper -s: {done.stderr}")
    for p in (inst.spool / "corrupt").iterdir():
        ledger.problem(f"in corrupt/: {p.name}")
    listed = inst.run("postqueue", "-j").stdout.splitlines()
    return {re.search(r'"queue_id": "([^"]+)"', x)[1] for x in listed if '"queue_name": "hold"' in x}, len(listed)


def drain(inst):
    """Starts it, and has all of its queue delivered."""
    inst.start()
    inst.run("postsuper", "-H", "ALL")

    def drained():
        inst.run("postqueue", "-f")
        return inst.queue_is_empty()
    wait_for(lambda: f"the queue to drain:\n{inst.mailq()[-3000:]}\n{inst.log()[-3000:]}", drained, 60)
    inst.stop()


def settle(setup, ledger, kills, bad_log, other=None):
    """The stopped instance's queue is looked at, and drained; then everything is accounted for. bad_log: lines that the log must not have. other: setup and kills
    of the host to which mail was moved, stopped, too."""
    inst = setup.inst
    if other is not None:
        structure(ledger, other[0].inst)
    held, queued = structure(ledger, inst)
    for m in ledger.messages.values():
        if m.held and m.queue_id not in held:
            ledger.problem(f"{m.id} ({m.queue_id}) was put on hold, and is not there")
    ledger.draining = True
    drain(inst)
    if other is not None:
        drain(other[0].inst)
        structure(ledger, other[0].inst)
    setup.read_mailboxes()
    structure(ledger, inst)
    for log in [inst.log()] + ([] if other is None else [other[0].inst.log()]):
        for line in re.findall(bad_log, log):
            ledger.problem(f"log: {line}")
    figures = check(ledger, kills, None if other is None else (other[1], other[0].inst.log()))
    figures["queued at the end of the load"] = queued
    return figures


def sums(seed, ledger, figures):
    """A line for people."""
    return (f"seed {seed}: {len(ledger.messages)} messages sent, {len(ledger.acknowledged())} acknowledged, "
            f"{sum(m.deleted for m in ledger.messages.values())} deleted, {sum(m.held for m in ledger.messages.values())} put on hold; "
            + ", ".join(f"{k}: {v}" for k, v in figures.items()))


def own_mounts():
    """What is mounted from now on is seen by this process and its children, and goes with them."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) == -1:
        sys.exit(f"a mount namespace is needed, so root: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def main(prefix, run, options=()):
    """Calls run(directory, args); prints what it returns, problems. options: (name, type, default)."""
    parser = argparse.ArgumentParser()
    for name, kind, default in options:
        parser.add_argument(name, type=kind, default=default)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--keep", action="store_true", help="leave the instance's files")
    args = parser.parse_args()
    allow_preloading()
    root = pathlib.Path(tempfile.mkdtemp(prefix=f"postrider-{prefix}-"))
    root.chmod(0o755)
    print(f"seed {args.seed}", flush=True)
    problems = run(root / "i", args)
    for text in problems[:20]:
        print(text)
    if problems:
        print(f"{len(problems)} problems; the instance is in {root}; again with --seed {args.seed}")
    elif not args.keep:
        for point in sorted(p for p in mounted() if p.startswith(f"{root}/")):
            subprocess.run(["umount", "-l", point], check=False)
        shutil.rmtree(root, ignore_errors=True)
    return 1 if problems else 0


def mounted():
    return [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
