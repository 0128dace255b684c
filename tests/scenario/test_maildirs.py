# SPDX-License-Identifier: Apache-2.0
"""Many messages at once for mailboxes of several owners, some of which cannot be delivered to: each has an outcome of its own."""
import os
import re
import shutil
import smtplib
import threading

import pytest

from instance import wait_for

OWNERS = {"a": 2001, "b": 2002, "c": 2003}
BOXES = {f"{owner}{n}": uid for owner, uid in OWNERS.items() for n in range(4)}
MAIN = {
    "virtual_mailbox_domains": "v.test",
    "virtual_mailbox_base": "{root}/mail",
    "virtual_mailbox_maps": "texthash:{etc}/vmailbox",
    "virtual_uid_maps": "texthash:{etc}/vuid",
    "virtual_gid_maps": "texthash:{etc}/vuid",
}
FILES = {
    "vmailbox": "".join(f"{box}@v.test {box}/\n" for box in BOXES) + "mbox@v.test box.mbox\n",
    "vuid": "".join(f"{box}@v.test {uid}\n" for box, uid in BOXES.items()) + "mbox@v.test 2001\n",
}


@pytest.fixture(params=["yes", "no"])
def system(request, instance):
    if os.geteuid() != 0:
        pytest.skip("mailboxes of several owners want root")
    return instance(main={**MAIN, "virtual_maildir_group_sync": request.param}, files=FILES)


def send_many(inst, addresses, each, threads=12):
    """each messages to each address, over connections of several threads."""
    work = [(address, n) for n in range(each) for address in addresses]
    lock, failures = threading.Lock(), []

    def client():
        try:
            with inst.smtp() as smtp:
                while True:
                    with lock:
                        if not work:
                            return
                        address, n = work.pop()
                    smtp.sendmail("s@example.org", [address], f"Subject: {address} {n}\r\n\r\n" + f"line of {address} {n}\r\n" * 40)
        except (OSError, smtplib.SMTPException) as e:
            failures.append(e)

    clients = [threading.Thread(target=client) for _ in range(threads)]
    for c in clients:
        c.start()
    for c in clients:
        c.join()
    assert failures == []


def outcomes(inst, box, outcome):
    return len(re.findall(rf"to=<{box}@v\.test>, relay=virtual, .*status={outcome} ", inst.log()))


def test_owners_and_trouble_of_one(system):
    """Files are their owners'; a mailbox that cannot be written to, and one that is taken away meanwhile, are nobody else's trouble."""
    inst, each = system, 12
    for box, uid in BOXES.items():
        home = inst.home / box
        home.mkdir(exist_ok=True)
        os.chown(home, uid, uid)
    shut = inst.home / "b1"
    os.chown(shut, 0, 0)  # not user 2002's
    shut.chmod(0o755)
    gone, stop = inst.home / "c2", threading.Event()

    def take_away():
        while not stop.wait(0.02):
            shutil.rmtree(gone / "new", ignore_errors=True)

    taker = threading.Thread(target=take_away)
    taker.start()
    try:
        send_many(inst, [f"{box}@v.test" for box in BOXES], each)
        good = [box for box in BOXES if box not in ("b1", "c2")]
        for box in good:
            messages = inst.wait_maildir(box, each)
            assert sorted(m["Subject"] for m in messages) == sorted(f"{box}@v.test {n}" for n in range(each))
        wait_for("all outcomes", lambda: outcomes(inst, "b1", "deferred") == each and outcomes(inst, "c2", "(?:sent|deferred)") >= each)
    finally:
        stop.set()
        taker.join()
    for box in good:
        for path in (inst.home / box / "new").iterdir():
            assert path.stat().st_uid == BOXES[box]
            assert path.read_text().count(f"line of {box}@v.test") == 40
        assert not list((inst.home / box / "tmp").iterdir())
    assert all(outcomes(inst, box, "sent") == each for box in good)
    assert "gave no status" not in inst.log()
    # what was deferred arrives when the trouble is over
    os.chown(shut, BOXES["b1"], BOXES["b1"])
    (gone / "new").mkdir(exist_ok=True)
    os.chown(gone / "new", BOXES["c2"], BOXES["c2"])
    inst.run("postqueue", "-f")
    assert {m["Subject"] for m in inst.wait_maildir("b1", each)} == {f"b1@v.test {n}" for n in range(each)}
    inst.wait_empty()


def test_several_mailboxes_of_one_message(system):
    inst = system
    addresses = [f"{box}@v.test" for box in BOXES]
    for n in range(5):
        inst.send([*addresses, "mbox@v.test"], subject=f"all {n}")
    for box in BOXES:
        assert {m["Subject"] for m in inst.wait_maildir(box, 5)} == {f"all {n}" for n in range(5)}
    inst.wait_empty()


def test_an_mbox_takes_one_message_at_a_time(system):
    """Threads of one process deliver: it is the lock of the open file that keeps them apart."""
    inst = system
    inst.home.chmod(0o777)
    send_many(inst, ["mbox@v.test"], 40)
    inst.wait_empty()
    messages = [m for m in re.split(r"^From s@example\.org .*\n", (inst.home / "box.mbox").read_text(), flags=re.M) if m]
    assert len(messages) == 40
    for m in messages:
        n = re.search(r"^Subject: mbox@v\.test (\d+)$", m, re.M)[1]
        assert m.count(f"line of mbox@v.test {n}\n") == 40 and m.count("line of") == 40
