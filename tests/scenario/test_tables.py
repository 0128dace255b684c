# SPDX-License-Identifier: Apache-2.0
"""Tables of a running system: files that change in use, daemons that may not read them again, what is loaded, what is counted."""
import json
import os
import re
import subprocess
import threading
import time

import pytest

from instance import MASTER_CF, STAGE, wait_for

TYPES = subprocess.run([STAGE / "sbin/postconf", "-m"], capture_output=True, text=True).stdout.split()
KINDS = [kind for kind in ("hash", "btree", "lmdb", "cdb", "texthash", "regexp", "cidr") if kind in TYPES]
BUILT = ("hash", "btree", "lmdb", "cdb")


@pytest.fixture
def chroot(monkeypatch):
    """master.cf with these daemons in the queue directory."""
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0")  # which needs /proc
    return in_chroot


def in_chroot(names):
    return re.sub(rf"^(\S+\s+\S+\s+\S+\s+\S+\s+)[n-](\s+\S+\s+\S+\s+({names})\b)", r"\1y\2", MASTER_CF, flags=re.M)


class Tables:
    """One table of each type, all with the same answer: "REJECT version N" for a recipient, or for the client's address."""

    def __init__(self, inst, mode=0o644):
        self.inst, self.mode = inst, mode

    def path(self, kind):
        return self.inst.etc / f"access-{kind}"

    def write(self, kind, number):
        key = {"regexp": f"/^{kind}@/", "cidr": "127.0.0.1"}.get(kind, f"{kind}@v.test")
        path = self.inst.write(f"access-{kind}", f"{key} REJECT version {number}\n")
        path.chmod(self.mode)
        if kind in BUILT:
            self.inst.postmap(f"{kind}:{path}")

    def write_all(self, number):
        for kind in KINDS:
            self.write(kind, number)

    def main(self):
        checks = " ".join(f"check_recipient_access {k}:{{etc}}/access-{k}," for k in KINDS if k != "cidr")
        return {"virtual_mailbox_domains": "v.test", "virtual_mailbox_maps": "static:x", "virtual_mailbox_base": "{root}/mail",
                "virtual_uid_maps": "static:2000", "virtual_gid_maps": "static:2000", "smtpd_delay_reject": "yes",
                "smtpd_error_sleep_time": "0",
                "smtpd_recipient_restrictions": checks + " check_client_access cidr:{etc}/access-cidr"}


def answer(inst, kind):
    with inst.smtp() as client:
        client.helo("c.test")
        client.mail("s@example.org")
        code, text = client.rcpt(f"{'any' if kind == 'cidr' else kind}@v.test")
    return code, text.decode()


@pytest.mark.parametrize("how", ["plain", "chroot", "only root reads them"])
def test_changed_files_serve_soon(instance, chroot, how):
    """New content answers within a second; no lookup fails meanwhile, and none is answered by anything but an old or new row."""
    if os.geteuid() != 0:
        pytest.fail("needs root")
    inst = instance(master=chroot("smtpd") if how == "chroot" else MASTER_CF, start=False)
    tables = Tables(inst, 0o600 if how == "only root reads them" else 0o644)
    inst.write_main(**tables.main())
    tables.write_all(0)
    inst.start()
    for kind in KINDS:
        assert answer(inst, kind)[1].endswith("version 0"), inst.log()
    known = dict.fromkeys(KINDS, 0)
    done = threading.Event()
    seen = []

    def ask():
        while not done.is_set():
            for kind in KINDS:
                before = known[kind]
                code, text = answer(inst, kind)
                seen.append((kind, code, text, before))

    thread = threading.Thread(target=ask)
    thread.start()
    waits = {}
    try:
        for number in (1, 2) if how == "plain" else (1,):
            for kind in KINDS if how == "plain" else ("hash", "cdb", "regexp"):
                tables.write(kind, number)
                known[kind] = number
                begun = time.monotonic()
                wait_for(lambda: f"version {number} of {kind}: {answer(inst, kind)}\n{inst.log()}",
                         lambda: answer(inst, kind)[1].endswith(f"version {number}"))
                waits[kind, number] = time.monotonic() - begun
    finally:
        done.set()
        thread.join()
    print(f"{how}: {len(seen)} lookups, new content after {max(waits.values()):.2f} s at most")
    assert max(waits.values()) < 5, waits  # a loaded machine; a second is promised
    for kind, code, text, before in seen:
        assert code == 554 and re.search(rf"version ({before}|{before - 1}|{before + 1})$", text), (kind, code, text, before)
    assert ("another one takes its place" in inst.log()) == (how != "plain")
    assert not re.findall(r".*(?:warning|error|fatal): .*", inst.log())


def test_file_written_in_its_place(instance):
    """An editor that empties a file before it writes it: nobody sees the empty table."""
    inst = instance(start=False)
    tables = Tables(inst)
    inst.write_main(**tables.main())
    tables.write_all(0)
    inst.start()
    for number in range(1, 6):
        with tables.path("texthash").open("w") as f:
            emptied = time.monotonic()
            for _ in range(3):
                code, text = answer(inst, "texthash")
                # it is left alone for a tenth of a second
                assert (code, text.endswith(f"version {number - 1}")) == (554, True) or time.monotonic() - emptied > 0.08, text
            f.write(f"texthash@v.test REJECT version {number}\n")
        wait_for(lambda: inst.log(), lambda: answer(inst, "texthash")[1].endswith(f"version {number}"), 5)


def test_queue_manager_in_a_chroot(instance, chroot, sink):
    """It resolves by a table that it cannot open again: another one takes over, and no message is lost."""
    if os.geteuid() != 0:
        pytest.fail("needs root")
    first, second = sink(), sink()
    inst = instance(master=chroot("qmgr"), start=False, main={"transport_maps": "texthash:{etc}/transport", "relay_domains": "far.test"})
    inst.write("transport", f"far.test smtp:[127.0.0.1]:{first.port}\n")
    inst.start()
    inst.send("a@far.test")
    first.wait(1)
    inst.write("transport", f"far.test smtp:[127.0.0.1]:{second.port}\n")
    inst.wait_log(r"qmgr\[\d+\]: table texthash:\S+/transport: there is a file that this process may not open")
    inst.send("b@far.test")
    inst.wait_log(r"to=<b@far\.test>.*status=")
    second.wait(1)
    inst.wait_empty()
    assert len(first.messages) == 1


def live(inst, *args, check=True, **more):
    done = inst.run("postmap", "--live", *args, check=check, **more)
    return done if not check else done.stdout.splitlines()


def test_what_is_loaded(instance):
    """postmap --live: what the processes have, not what lies on the disk."""
    inst = instance(start=False, main={
        "virtual_alias_maps": "hash:{etc}/virtual, proxy:texthash:{etc}/proxied", "virtual_alias_domains": "v.test",
        "smtpd_recipient_restrictions": "permit"})
    inst.write("virtual", "a@v.test old@example.org\n")
    inst.write("proxied", "p@v.test old@example.org\n")
    table = f"hash:{inst.etc}/virtual"
    inst.postmap(table)
    inst.start()
    with inst.smtp() as client:
        client.helo("c.test")
        client.mail("s@example.org")
        assert client.rcpt("a@v.test")[0] == 250 and client.rcpt("p@v.test")[0] == 250
        smtpd = list(inst.pids("smtpd"))[0]

        lines = live(inst, "-q", "a@v.test", table)
        assert f"smtpd[{smtpd}]\told@example.org" in lines, lines
        assert all(line.endswith("\told@example.org") for line in lines)
        # a broken file: it is not what is asked
        built = next(inst.etc.glob("virtual.*"))
        built.unlink()
        built.write_bytes(b"no table at all" * 100)
        inst.wait_log("the old table goes on")
        assert inst.run("postmap", "-q", "a@v.test", table, check=False).returncode == 1
        assert sorted(live(inst, "-q", "a@v.test", table)) == sorted(lines)
        # main.cf as it was loaded
        inst.write_main(virtual_alias_maps="")
        rows = [json.loads(line) for line in live(inst, "-jq", "a@v.test", table)]
        assert {r["result"] for r in rows} == {"found"} and {r["value"] for r in rows} == {"old@example.org"}
        assert {r["table"] for r in rows} == {table} and smtpd in {r["pid"] for r in rows}
        assert all(abs(time.time() - time.mktime(time.strptime(r["loaded"][:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone) < 600 for r in rows)
        # through proxymap: the client and the process that has it open both say
        assert live(inst, "-q", "p@v.test", f"proxy:texthash:{inst.etc}/proxied")
        proxied = live(inst, "-q", "p@v.test", f"texthash:{inst.etc}/proxied")
        assert len(proxied) == 1 and proxied[0].startswith("proxymap["), proxied
        # many keys, one after the other
        keys = live(inst, "-q", "-", table, input="a@v.test\nnone@v.test\na@v.test\n")
        assert len(keys) == 2 * len(lines) and all(line.startswith("a@v.test\t") for line in keys)
        gone = live(inst, "-q", "none@v.test", table, check=False)
        assert (gone.returncode, gone.stdout, gone.stderr) == (1, "", "")
        other = live(inst, "-q", "a", "hash:/nonexistent/x", check=False)
        assert other.returncode == 1 and "no process of the mail system has hash:/nonexistent/x open now" in other.stderr
    inst.write_main(virtual_alias_maps=f"hash:{inst.etc}/virtual")
    inst.postmap(table)
    inst.stop()
    stopped = live(inst, "-q", "a@v.test", table, check=False)
    assert stopped.returncode == 1 and "cannot be asked" in stopped.stderr, stopped


@pytest.mark.parametrize("args, text", [
    (["texthash:x"], "goes with -q alone"), (["-s", "texthash:x"], "goes with -q alone"), (["-hq", "-", "texthash:x"], "goes with -q alone"),
    (["-q", "x", "nosuch:x"], "unsupported dictionary type: nosuch")])
def test_live_usage(instance, args, text):
    inst = instance()
    done = inst.run("postmap", "--live", *args, check=False)
    assert done.returncode == 1 and text in done.stderr, done


def test_counters(instance):
    """postfix metrics: what each table was asked, counted over all processes."""
    inst = instance(start=False, main={"virtual_alias_maps": "texthash:{etc}/virtual", "virtual_alias_domains": "v.test"})
    inst.write("virtual", "a@v.test x@mx.example.test\nmany%d/" + "x" * 100 + " y\n")
    inst.start()
    table = f"texthash:{inst.etc}/virtual"

    def metrics():
        return {name: int(value) for name, value in (line.split("\t") for line in inst.run("postfix", "metrics").stdout.splitlines())}

    for _ in range(3):
        with inst.smtp() as client:
            client.helo("c.test")
            client.mail("s@example.org")
            assert client.rcpt("a@v.test")[0] == 250
            assert client.rcpt("none@v.test")[0] == 550
    counted = metrics()
    assert counted[f"map.found {table}"] >= 3 and counted[f"map.notfound {table}"] >= 3, counted
    assert f"map.retry {table}" not in counted
    assert sum(v for k, v in counted.items() if k.startswith(("map.le_", "map.slower")) and k.endswith(table)) > 0
    assert list(counted) == sorted(counted)


def test_a_table_that_takes_long_to_open_holds_nobody_up(instance):
    """A FIFO that nobody writes to stands for it: the old table answers until the new one is whole."""
    inst = instance(files={"slow": "/^old@/ REJECT old\n"}, main={
        "local_recipient_maps": "", "smtpd_soft_error_limit": 10000, "smtpd_hard_error_limit": 10000,
        "smtpd_junk_command_limit": 10000, "smtpd_recipient_restrictions": "check_recipient_access pcre:{etc}/slow, permit_mynetworks, reject"})
    path, beside = inst.etc / "slow", inst.etc / "beside"
    new = b"/^new@/ REJECT new\n"

    def ask(user):
        client.mail("s@example.org")
        code, text = client.rcpt(f"{user}@localhost")
        client.rset()
        return code, text

    def reader():
        assert ask("old")[0] == 554
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None

    with inst.smtp() as client:
        client.helo("c.test")
        assert ask("old")[0] == 554 and ask("new")[0] == 250
        os.mkfifo(beside)
        beside.chmod(0o644)
        beside.rename(path)
        fd = wait_for("a process that opens the new table", reader)
        for _ in range(50):
            assert ask("old")[0] == 554 and ask("new")[0] == 250
        beside.write_bytes(new)  # what comes later is a file with the same rules
        beside.rename(path)
        os.write(fd, new)
        os.close(fd)
        wait_for("the new table", lambda: ask("new")[0] == 554)
        assert ask("old")[0] == 250
