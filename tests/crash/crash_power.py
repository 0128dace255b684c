# SPDX-License-Identifier: Apache-2.0
"""Power loss on the running system: its store's and mailboxes' changes are recorded under load, and rebuilt as a cut at random points may
leave them.

  crash_power.py [--cuts N] [--seed N] [--seconds S] [--group yes|no] [--keep]

At each cut (replay.py says what is lost or torn) the store is opened by postsuper -s, as its owner, and listed. Every message that was
acknowledged before the cut must have reached each recipient before it, or be queued for that recipient, with its content. To have
reached a mailbox (Maildir or mbox, virtual's with virtual_maildir_group_sync = --group, or local's) means to lie there whole after the cut, too; and
in new/ of a Maildir nothing lies that is not whole. Duplicates, recipients
that are queued and had their copy already, are counted; their copy must be younger than WINDOW_S. postsuper -s may report one thing
only: bytes that were being written, never acknowledged, with others behind them that reached the disk (store_scan.c).
"""
import json
import os
import random
import re
import shutil
import sys
import time

from ledger import BOXES, STAGE, Ledger, Load, Setup
from instance import wait_for
from reckoning import main
from replay import SYNC_FS_END, Replay

STORES = ("journal", "large", "deferred", "hold", "corrupt")
KINDS = ("local", "relayed", "mixed", "deferred", "held", "deleted", "large", "many", "file", "mbox")  # postdrop is not recorded
WINDOW_S = 2.0  # STORE.md, "The completion window": 0.2 s and one sync; and what a busy machine adds


def present(inst):
    """{inode: (path, bytes, or None for a directory)}"""
    assert not any(inst.home.iterdir())
    return {inst.home.stat().st_ino: (inst.home.name, None)} | {
        p.stat().st_ino: (str(p.relative_to(inst.spool)), None if p.is_dir() else p.read_bytes())
        for s in STORES for p in (inst.spool / s, *(inst.spool / s).rglob("*"))}


def record(root, ledger, seconds, group):
    """Runs the load with the recorder in each daemon. Returns the instance, stopped, the log and what there was at its beginning."""
    log = root.parent / "record.log"
    log.touch()
    log.chmod(0o666)
    module = STAGE / "tests/record_io.so"
    assert module.exists(), module
    environment = f"MAIL_CONFIG TZ LANG=C ASAN_OPTIONS LD_PRELOAD={module} RECORD_LOG={log} RECORD_ROOT={root / 'spool'} RECORD_MAIL={root / 'mail'}"
    setup = Setup(root, ledger, start=False, import_environment=environment, journal_segment_size="262144", journal_large_message_size="100000",
                  virtual_maildir_group_sync=group)
    setup.inst.run("postfix", "check")
    setup.inst.run("postsuper", "-s")  # makes what is missing
    before = present(setup.inst)
    assert ("journal/free", None) in before.values(), before
    setup.inst.start()
    load = Load(setup, kinds=list(KINDS))
    time.sleep(seconds)
    wait_for("enough mail, on a busy machine", lambda: len(ledger.acknowledged()) >= 60, 120)
    load.stop()
    setup.inst.stop()
    setup.read_mailboxes()
    return setup, log, before


def rebuild(spool, tree):
    owner = os.stat(spool / "journal")
    for s in STORES:
        for p in (spool / s).iterdir():
            shutil.rmtree(p) if p.is_dir() else p.unlink()
    for path in sorted(tree):
        if path.partition("/")[0] not in STORES:
            continue
        p = spool / path
        if tree[path] is None:
            if not p.is_dir():
                p.mkdir(mode=0o700)
        else:
            p.write_bytes(tree[path])
            p.chmod(0o600)
        os.chown(p, owner.st_uid, owner.st_gid)


def was_being_written(line, tree, unsure):
    """A report of damage: are those bytes, as far as they are not zero, of a write that no sync had covered?"""
    found = re.search(r"journal segment ([0-9A-F]{16}): (\d+) bytes at (\d+) are damaged, kept", line)
    if not found:
        return False
    path, length, at = f"journal/{found[1]}", int(found[2]), int(found[3])
    return any(a <= at < b for a, b in unsure.get(path, ()))


def read_boxes(ledger, tree, cut, name, figures):
    """{recipient: ids of the messages that are whole in his mailbox}"""
    whole = {}
    for rcpt, box in BOXES.items():
        found = whole[rcpt] = set()
        path = f"{name}/{box}"
        if not box.endswith("/"):
            data = bytes(tree.get(path, b""))
            found |= {m.id for m in ledger.messages.values() if rcpt in m.rcpts and m.body().encode() in data}
            continue
        for file, data in tree.items():
            if not file.startswith(f"{path}new/"):
                continue
            head, _, body = bytes(data).partition(b"\n\n")
            if b"\nAuto-Submitted:" in head:
                continue
            m = ledger.messages.get((re.findall(rb"^X-Crash-Id: (\S+)$", head, re.M) or [b""])[0].decode())
            if m is None or body != m.body().encode():
                ledger.problem(f"cut at {cut:.3f}: {file} is not whole: {len(data)} bytes, of {m and m.id}")
            else:
                found.add(m.id)
                figures["whole in Maildirs"] += 1
    return whole


def judge(ledger, inst, replay, tree, unsure, pick, figures):
    cut = replay.time
    done = inst.run("postsuper", "-s", check=False)
    unacknowledged = False
    wishes = {("placed on hold" if m.kind == "held" else "removed", m.queue_id) for m in ledger.messages.values() if m.kind in ("held", "deleted")}
    for line in done.stderr.splitlines():
        if re.search(r"in order|what was damaged is told above|removed \S+/large/\S+, which belongs to no message", line) and "warning" not in line:
            continue
        wish = re.search(r"^postsuper: ([0-9A-F]+): (placed on hold|removed)$", line)
        if wish and (wish[2], wish[1]) in wishes:  # its agent did not live to be done
            continue
        if was_being_written(line, tree, unsure):
            figures["reports of unacknowledged bytes"] += 1
            unacknowledged = True
        elif not (unacknowledged and "may belong to a damaged message; moved to corrupt/" in line):
            ledger.problem(f"cut at {cut:.3f}: postsuper -s: {line}")
    if done.returncode != 0:
        ledger.problem(f"cut at {cut:.3f}: postsuper -s: exit {done.returncode}")
        return
    queued, held, ids = {}, set(), []
    for line in inst.run("postqueue", "-j").stdout.splitlines():
        item = json.loads(line)
        ids.append(item["queue_id"])
        if item["queue_id"] in queued:
            ledger.problem(f"cut at {cut:.3f}: {item['queue_id']} is listed twice")
        if item["queue_name"] == "hold":
            held.add(item["queue_id"])
        queued[item["queue_id"]] = {r["address"] for r in item["recipients"]}
    known = {m.queue_id: m for m in ledger.acknowledged()}
    boxes = read_boxes(ledger, tree, cut, inst.home.name, figures)
    for m in known.values():
        if m.acknowledged > cut or m.deleted or m.maybe_deleted:
            continue
        figures["acknowledged before"] += 1
        if m.held and m.acted < cut - WINDOW_S:
            figures["held before"] += 1
            if m.queue_id not in held:
                ledger.problem(f"cut at {cut:.3f}: {m.id} ({m.queue_id}) was put on hold {cut - m.acted:.2f} s before, and is not there")
        for r in m.rcpts:
            copies = [c.taken for c in m.delivered.get(r, ()) if c.taken <= cut]
            if r in queued.get(m.queue_id, ()):
                figures["still queued"] += 1
                if copies:
                    figures["duplicates"] += 1
                    figures["oldest"] = max(figures["oldest"], cut - min(copies))
                    if cut - min(copies) > WINDOW_S:
                        ledger.problem(f"cut at {cut:.3f}: {m.id} ({m.queue_id}) would reach {r} again, {cut - min(copies):.2f} s after its copy")
            elif r in boxes:
                figures["done, in a mailbox"] += 1
                if m.id not in boxes[r]:
                    ledger.problem(f"cut at {cut:.3f}: {m.id} ({m.kind}, {m.queue_id}) is done for {r}, and not whole in {BOXES[r]}")
            elif not copies:
                ledger.problem(f"cut at {cut:.3f}: {m.id} ({m.kind}, {m.queue_id}), acknowledged {cut - m.acknowledged:.3f} s before, is lost for {r}")
    for queue_id in pick.sample(ids, min(2, len(ids))):
        text = inst.run("postcat", "-bq", queue_id, check=False).stdout
        if queue_id in known and known[queue_id].body().strip() not in text.replace("\r\n", "\n"):
            ledger.problem(f"cut at {cut:.3f}: {queue_id} has other content than was sent")
        figures["contents compared"] += queue_id in known


def run(root, seed, cuts, seconds, group, out=print):
    ledger = Ledger(seed)
    pick = random.Random(f"{seed}/cuts")
    setup, log, before = record(root, ledger, seconds, group)
    figures = dict.fromkeys(("acknowledged before", "held before", "still queued", "duplicates", "done, in a mailbox", "whole in Maildirs", "oldest", "reports of unacknowledged bytes", "contents compared"), 0)
    try:
        replay = Replay(log, before)
        records = replay.records()
        shared = replay.count(SYNC_FS_END)
        if group == "no" and shared > 0:
            ledger.problem(f"{shared} flushes of the file system, though virtual_maildir_group_sync = no")
        if len(records) < 500 or len(ledger.acknowledged()) < 50:
            ledger.problem(f"too little was recorded: {len(records)} changes, {len(ledger.acknowledged())} messages")
        setup.inst.log_path.unlink()
        for at in sorted(pick.sample(range(len(records)), min(cuts, len(records)))):
            while replay.at <= records[at] and replay.at < len(replay.map):
                replay.step()
            tree, unsure = replay.cut(pick)
            rebuild(setup.inst.spool, tree)
            judge(ledger, setup.inst, replay, tree, unsure, pick, figures)
            if len(ledger.problems) > 20:
                break
        if not figures["done, in a mailbox"] or not figures["whole in Maildirs"]:
            ledger.problem("no cut had mail in mailboxes")
    finally:
        setup.inst.running = False
        if not ledger.problems:
            ledger.problems += setup.close()
    figures["oldest"] = f"{figures.pop('oldest'):.2f} s"
    out(f"seed {seed}: {len(records)} changes recorded, {len(ledger.acknowledged())} messages acknowledged, {shared} flushes shared, {cuts} cuts: "
        + ", ".join(f"{k} {v}" for k, v in figures.items()))
    return ledger.problems


if __name__ == "__main__":
    sys.exit(main("power", lambda root, args: run(root, args.seed, args.cuts, args.seconds, args.group), [
        ("--cuts", int, 20), ("--seconds", float, 3), ("--group", str, "yes")]))
