# SPDX-License-Identifier: Apache-2.0
"""What runs out in the middle of load: space, inodes, descriptors. Nothing is lost, and service returns by itself.

  crash_full.py [--seed N] [--keep]

The queue lies on a tmpfs of its own, in a mount namespace (root is needed). Under mixed load, one after the other: less space than
queue_minfree, no space, no inode, no descriptor for any daemon. Clients must have been refused with 452 4.3.1 when there was no space; when there is
again, mail must be taken again without anybody's help. Then the reckoning of crash_kill.py: all that was acknowledged has arrived, once.
"""
import os
import pwd
import shutil
import subprocess
import sys
import time

from ledger import Ledger, Load, Setup, TIMED
from instance import DEADLINE, wait_for
from reckoning import main, own_mounts, settle, sums

# postsuper -h may be refused, when a wish cannot be noted
BAD_LOG = r".*panic:.*|.*fatal: (?!.*(?:No space left on device|Too many open files)).*|.*(?<!postsuper)\[\d+\]: fatal: .*"
MINFREE = 2 << 20
HOLD_S = 1.5  # that long each lasts at least


def take_space(spool, leave, over):
    """Fills the file system up to `leave` bytes and keeps it so until over()."""
    with open(spool / "ballast", "wb", buffering=0) as f:
        while not over():
            st = os.statvfs(spool)
            n = st.f_bavail * st.f_frsize - leave
            try:
                if n > 0:
                    f.write(bytes(min(n, 1 << 20)))
                else:
                    time.sleep(0.01)
            except OSError:
                time.sleep(0.01)


def free_space(spool):
    (spool / "ballast").unlink()


def take_inodes(spool, over):
    (spool / "inodes").mkdir()
    n = 0
    while not over():
        try:
            (spool / "inodes" / str(n)).touch()
            n += 1
        except OSError:
            time.sleep(0.01)


def set_descriptors(inst, soft):
    """Sets the soft limit of the daemons that drop privileges, as their user: raising a limit of others would need a capability that root
    has not got in every container. Returns the programs that have it now."""
    owner = pwd.getpwnam("daemon")
    as_owner = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    done = set()
    for pid, name in inst.pids().items():
        if subprocess.run([*as_owner, "prlimit", f"--nofile={soft}:", "--pid", str(pid)], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            done.add(name)
    return done


def take_descriptors(inst, over):
    done = set()
    while not over():
        done |= set_descriptors(inst, 8)  # new processes too
    assert done >= {"smtpd", "cleanup", "qmgr"}, f"only {done} could be limited"


def phases(setup):
    spool, inst = setup.inst.spool, setup.inst
    return [
        ("less space than queue_minfree", lambda over: take_space(spool, MINFREE // 2, over), lambda: free_space(spool), True),
        ("no space", lambda over: take_space(spool, 0, over), lambda: free_space(spool), True),
        ("no inode", lambda over: take_inodes(spool, over), lambda: shutil.rmtree(spool / "inodes"), False),
        ("no descriptor", lambda over: take_descriptors(inst, over), lambda: set_descriptors(inst, 1024), False),
    ]


def run(root, seed, out=print):
    ledger = Ledger(seed)
    setup = Setup(root, ledger, start=False, queue_minfree=str(MINFREE), journal_segment_size="1048576",
                  journal_large_message_size="100000")
    inst = setup.inst
    inst.expect_fatal = True  # postsuper -h, when a wish cannot be noted; others: below
    inst.spool.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m,nr_inodes=1500,mode=755", "crash", inst.spool], check=True)
    load = None
    try:
        inst.start()
        # not sendmail, which waits for space by itself and would have the clients wait
        load = Load(setup, kinds=[k for k in TIMED if k != "sendmail"])
        wait_for("mail to be taken", lambda: len(ledger.acknowledged()) > 20)
        for what, take, give, refuses in phases(setup):
            with ledger.lock:
                load.replies.clear()
            logged = len(inst.log())
            begin = time.monotonic()

            def over(begin=begin, what=what, logged=logged, refuses=refuses):
                """When clients were refused, or daemons were short of descriptors, however long they take to come to that on a busy machine."""
                felt = "Too many open files" in inst.log()[logged:] if what == "no descriptor" else load.replies or not refuses
                return time.monotonic() > begin + (HOLD_S if felt else DEADLINE)
            take(over)
            lasted = time.monotonic() - begin
            if what == "no descriptor" and "Too many open files" not in inst.log()[logged:]:
                ledger.problem(f"no daemon was short of descriptors:\n{inst.log()[logged:][-2000:]}")
            with ledger.lock:
                refused = {code: list(texts) for code, texts in load.replies.items()}
            give()
            begin, before = time.monotonic(), len(ledger.acknowledged())
            wait_for(lambda: f"mail to be taken again after {what}:\n{inst.log()[-3000:]}", lambda: len(ledger.acknowledged()) > before + 10)
            out(f"{what}: {lasted:.1f} s; refused: {({c: len(t) for c, t in refused.items()})}; ten more messages {time.monotonic() - begin:.2f} s after its end")
            bad = [f"{c} {t}" for c, texts in refused.items() for t in texts if c >= 500 or (refuses and not (c == 452 and t.startswith("4.3.1")))]
            for text in sorted(set(bad))[:5]:
                ledger.problem(f"{what}: a client was told {text}")
            if refuses and not refused:
                ledger.problem(f"{what}: nobody was refused")
        load.stop()
        inst.stop()
        out(sums(seed, ledger, settle(setup, ledger, [], BAD_LOG)))
    finally:
        if load is not None:
            load.stopped = True
        ledger.problems += setup.close()
    return ledger.problems


if __name__ == "__main__":
    own_mounts()
    sys.exit(main("full", lambda root, args: run(root, args.seed)))
