# SPDX-License-Identifier: Apache-2.0
"""The queue's file system becomes read-only in the middle of load, as ext4's does after an error on its device.

  crash_readonly.py [--seed N] [--keep]

Three times: for a while, and service must return by itself; again, and qmgr is killed meanwhile: another must not come and go until it can
work (both with faults.c, since no kernel makes a file system that is in use read-only and back); at last on a real ext4, aborted
(mount -o remount,abort), which only unmounting ends; there a qmgr that is started must wait, too. Root is needed, and a loop device. Clients
must have been told to come again, the log must say why, without a flood, and nothing begins that cannot be noted. Then the reckoning: all that was acknowledged has arrived, twice only
if it was noted within the window before somebody lost his memory.
"""
import os
import re
import signal
import subprocess
import sys
import time

from ledger import Ledger, Load, Setup, TIMED
from instance import wait_for
from faults import Faults
from reckoning import main, own_mounts, settle, sums

HOLD_S = 3.0
SYNC_S = 0.5  # notes are synced every 0.2 s: STORE.md
LINES_MOST = 60  # about it, for each time, of all daemons and commands
BAD_LOG = (r".*(?:damaged|corrupt/|cannot be read:|panic:|throttl|bad command startup).*"
           r"|.*fatal: (?!.*(?:Read-only file system|Input/output error|the queue manager does not answer)).*|.*(?<!postsuper)\[\d+\]: fatal:.*")


def judge(ledger, what, refused, log, deliveries):
    """What clients were told, what the log says, which deliveries began when nothing could be noted any more."""
    for code, texts in refused.items():
        if not 450 <= code <= 452:
            ledger.problem(f"{what}: a client was told {code} {texts[0]}")
    if not refused:
        ledger.problem(f"{what}: nobody was refused")
    if not re.search(r"qmgr\[\d+\]: warning: queue: what was done cannot be noted: .*; no delivery begins", log):
        ledger.problem(f"{what}: the log does not say that notes fail:\n{log[-2000:]}")
    about = [x for x in log.splitlines() if re.search("Read-only file system|Input/output error", x)]
    if len(about) > LINES_MOST:
        ledger.problem(f"{what}: {len(about)} lines of log, as\n" + "\n".join(about[-10:]))
    if deliveries:
        ledger.problem(f"{what}: {len(deliveries)} deliveries began when nothing could be noted, as\n" + "\n".join(deliveries[-5:]))
    return len(about)


class Books:
    """What happened from a moment on."""

    def __init__(self, setup, load):
        self.setup, self.load = setup, load
        with setup.ledger.lock:
            load.replies.clear()
        self.logged = len(setup.inst.log())

    def refused(self):
        with self.setup.ledger.lock:
            return {code: list(texts) for code, texts in self.load.replies.items()}

    def log(self):
        return self.setup.inst.log()[self.logged:]


def delivered(setup):
    return len(re.findall(r"status=sent", setup.inst.log()))


def begun_after(log, when):
    """Lines of deliveries that certainly began after this time: an agent that was at work by then, on a busy machine, ends what it has. The log
    knows whole seconds, and from the last two of delays= how long the agent had been at work."""
    found = []
    for stamp, line, connecting, sending in re.findall(r"^(\S+ +\d+ [\d:]{8})( .* delays=[^/]+/[^/]+/([\d.]+)/([\d.]+), .*status=sent.*)$", log, re.M):
        logged = time.mktime(time.strptime(f"{time.localtime(when).tm_year} {stamp}", "%Y %b %d %H:%M:%S"))
        if logged - float(connecting) - float(sending) > when:
            found.append(stamp + line)
    return found


def simulated(root, seed, out):
    ledger = Ledger(seed)
    faults = Faults(root.parent / "faults")
    setup = Setup(root, ledger, start=False, import_environment=faults.environment(), journal_segment_size="1048576",
                  journal_large_message_size="100000")
    inst = setup.inst
    inst.expect_fatal = True
    load, kills = None, []
    try:
        inst.start()
        # not sendmail: it is not preloaded
        load = Load(setup, kinds=[k for k in TIMED if k != "sendmail"])
        wait_for("mail to be taken", lambda: len(ledger.acknowledged()) > 20)
        for what in ("read-only", "read-only, qmgr killed"):
            books = Books(setup, load)
            begun = time.time()  # from here on, what ends is known to one process only
            faults.set(read_only=inst.spool)
            time.sleep(HOLD_S / 3)
            known = time.time()
            if "killed" in what:
                for pid in inst.pids("qmgr"):
                    os.kill(pid, signal.SIGKILL)
                kills.append((begun, time.time()))
                wait_for("another qmgr", lambda: inst.pids("qmgr"))
            time.sleep(HOLD_S * 2 / 3)
            pids = sorted(inst.pids("qmgr"))
            count = judge(ledger, what, books.refused(), books.log(), begun_after(books.log(), known))
            faults.set(read_only="")
            begin, taken, sent = time.monotonic(), len(ledger.acknowledged()), delivered(setup)
            wait_for(lambda: f"mail to be taken after {what}:\n{inst.log()[-3000:]}", lambda: len(ledger.acknowledged()) > taken)
            after = time.monotonic() - begin
            wait_for(lambda: f"deliveries after {what}:\n{inst.log()[-3000:]}", lambda: delivered(setup) > sent)
            out(f"{what}: {HOLD_S} s; refused: {({c: len(t) for c, t in books.refused().items()})}; {count} lines of log; "
                f"mail taken {after:.2f} s after its end, delivered {time.monotonic() - begin:.2f} s")
            if sorted(inst.pids("qmgr")) != pids:
                ledger.problem(f"{what}: qmgr did not stay: {pids}, {sorted(inst.pids('qmgr'))}")
            time.sleep(0.5)
        load.stop()
        inst.stop()
        if inst.log().count("the queue manager does not answer") > len(kills):  # postsuper, which had asked the one that was killed
            ledger.problem("the queue manager did not answer, and was not killed")
        out(sums(seed, ledger, settle(setup, ledger, kills, BAD_LOG)))
    finally:
        if load is not None:
            load.stopped = True
        ledger.problems += setup.close()
    return ledger.problems


def excuse(ledger, begun, when, out):
    """What the abort takes along, as a power cut would. A message that postsuper put on hold while an agent had it: the wish was in the page cache.
    And what was acknowledged while the abort went on: ext4 says of an fsync that it is done and then lacks the file (seen with a program that
    does nothing but write files, sync them and their directory: 4 of 6,612 lost, Linux 6.18)."""
    holds = [m for m in ledger.messages.values() if m.held and begun - SYNC_S < m.acted]
    taken = [m for m in ledger.acknowledged() if begun - 0.02 < m.acknowledged < when + 0.02]
    for m in holds:
        m.held = False
    for m in taken:
        m.fate = "unknown"
    out(f"the abort took {when - begun:.3f} s; not looked at: {len(holds)} on hold, {len(taken)} acknowledged meanwhile")


def aborted(root, seed, out):
    ledger = Ledger(seed)
    setup = Setup(root, ledger, start=False, journal_segment_size="1048576", journal_large_message_size="100000")
    inst = setup.inst
    inst.expect_fatal = True
    inst.spool.mkdir()
    image = root.parent / "image"
    with image.open("wb") as f:
        f.truncate(300 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)

    def mount():
        subprocess.run(["mount", "-o", "loop", image, inst.spool], check=True)
    mount()
    load = None
    try:
        inst.start()
        load = Load(setup)
        wait_for("mail to be taken", lambda: len(ledger.acknowledged()) > 50)
        books = Books(setup, load)
        begun = time.time()
        subprocess.run(["mount", "-o", "remount,abort", inst.spool], check=True)
        when = time.time()  # from here on, what ends is known to one process only
        time.sleep(HOLD_S / 3)
        known = time.time()
        time.sleep(HOLD_S * 2 / 3)
        count = judge(ledger, "aborted", books.refused(), books.log(), begun_after(books.log(), known))
        out(f"ext4 aborted: refused: {({c: len(t) for c, t in books.refused().items()})}; {count} lines of log")
        load.stop()
        for pid in inst.pids("qmgr"):
            os.kill(pid, signal.SIGKILL)
        killed = time.time()
        inst.wait_log(r"qmgr\[\d+\]: warning: queue: its file system is read-only; waiting for that to end")
        inst.stop()
        subprocess.run(["umount", inst.spool], check=True)
        subprocess.run(["e2fsck", "-p", image], check=False, stdout=subprocess.DEVNULL)  # exit 1: it had something to do
        mount()
        excuse(ledger, begun, when, out)
        out(sums(seed, ledger, settle(setup, ledger, [(begun, killed)], BAD_LOG)))
    finally:
        if load is not None:
            load.stopped = True
        ledger.problems += setup.close()
    return ledger.problems


def run(root, seed, out=print):
    for part in (simulated, aborted):
        own = root / part.__name__
        own.mkdir(parents=True)
        if part is aborted and subprocess.run(["losetup", "-f"], capture_output=True, check=False).returncode != 0:
            out("no loop device: a real file system is left out")
            break
        if problems := part(own / "i", seed, out):
            return problems
    return []


if __name__ == "__main__":
    own_mounts()
    sys.exit(main("readonly", lambda root, args: run(root, args.seed)))
