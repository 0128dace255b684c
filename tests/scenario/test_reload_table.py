# SPDX-License-Identifier: Apache-2.0
"""Reload as a transaction, under load: what is broken changes nothing, what is good is in force at once, nothing is lost."""
import pathlib
import re
import smtplib
import socket
import subprocess
import time

import pytest
from instance import DEADLINE, MASTER_CF, free_port, wait_for
from load import Load, all_arrive, running

PEM = pathlib.Path(__file__).parents[1] / "data/tls"


def banner(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
        return s.recv(4096).decode()


def append(inst, name, text):
    inst.write(name, (inst.etc / name).read_text() + text)


@pytest.fixture
def loaded(instance, sink):
    """A running instance, its next hop, and clients that send until the test is done: none of them may have failed."""
    inst, hop = running(instance, sink)
    load = Load(inst, threads=2)
    wait_for("the first messages", lambda: len(load.accepted) > 5)
    yield inst
    before = len(load.accepted)
    wait_for("messages after all that", lambda: len(load.accepted) > before + 10 or load.failed)
    load.stop()
    assert not load.failed, load.failed[:5]
    assert all_arrive(inst, hop, load) == 0


def other_smtpd(inst, port):
    append(inst, "master.cf", f"127.0.0.1:{port} inet n - n - - smtpd\n")


# what is done to the files, and the reason that must be given
BROKEN = {
    "main.cf: no parameter": (lambda inst: append(inst, "main.cf", "no equals sign\n"), r"/main\.cf, line \d+: .*no equals sign"),
    "main.cf: value": (lambda inst: inst.write_main(smtpd_timeout="soon"), r"/main\.cf, line \d+: smtpd_timeout.*soon"),
    "main.cf: recursion": (lambda inst: inst.write_main(a="$b", b="$a"), r"/main\.cf, line \d+: .*refers to itself"),
    "main.cf: restriction": (lambda inst: inst.write_main(smtpd_recipient_restrictions="permit_mynetwork"),
                             r"/main\.cf, line \d+: smtpd_recipient_restrictions: unknown restriction: \"permit_mynetwork\""),
    "master.cf: columns": (lambda inst: append(inst, "master.cf", "smtp inet n\n"), r"/master\.cf, line \d+: "),
    "master.cf: override": (lambda inst: append(inst, "master.cf", "x unix - - n - - smtp -o smtp_connect_timeout=soon\n"),
                            r"/master\.cf, line \d+: service x: .*smtp_connect_timeout"),
    "regexp table": (lambda inst: inst.write("checks", "/good/ IGNORE\n/(/ IGNORE\n"), r"header_checks: .*/checks, line 2: "),
    "missing table": (lambda inst: inst.write_main(canonical_maps="hash:{etc}/missing"),
                      r"/main\.cf, line \d+: canonical_maps: .*/missing\.db: No such file or directory"),
    "certificate: missing": (lambda inst: inst.write_main(smtpd_tls_cert_file=inst.etc / "cert.pem"),
                             r"/main\.cf, line \d+: smtpd_tls_cert_file: .*/cert\.pem: No such file or directory"),
    "certificate: another's key": (lambda inst: inst.write_main(smtpd_tls_cert_file=PEM / "good.pem", smtpd_tls_key_file=PEM / "other.key"),
                                   r"/main\.cf, line \d+: smtpd_tls_key_file: .*the private key is not that of the certificate"),
    "port in use": (None, r"/master\.cf, line \d+: service 127\.0\.0\.1:\d+: listen on .*: Address already in use"),
}


def test_a_broken_reload_changes_nothing(loaded):
    inst, good = loaded, dict(loaded.main)
    master = (inst.etc / "master.cf").read_text()
    taken = socket.create_server(("127.0.0.1", 0))
    session = inst.smtp()
    session.ehlo("c.test")
    workers = {pid for pid, name in inst.pids().items() if name in ("master", "qmgr")}
    for name, (damage, reason) in BROKEN.items():
        inst.write_main(smtpd_banner="$myhostname ESMTP never seen")  # good by itself, but comes with what is not
        if damage:
            damage(inst)
        else:
            other_smtpd(inst, taken.getsockname()[1])
        lines = len(inst.log().splitlines())
        done = inst.reload(check=False)
        assert done.returncode == 1, (name, done.stderr)
        assert re.search(reason, done.stderr), (name, done.stderr)
        refused = [line for line in inst.log().splitlines()[lines:] if "postfix/master" in line and re.search(reason, line)]
        assert refused and "error: reload refused, the old configuration goes on: " in refused[0], (name, refused)
        assert "never seen" not in banner(inst.port), name
        assert session.noop()[0] == 250, name
        assert workers <= set(inst.pids()), name
        inst.main = dict(good)
        inst.write_main()
        inst.write("master.cf", master)
        inst.write("checks", "/^X-Never/ IGNORE\n")
    session.quit()
    inst.write_main(smtpd_banner="$myhostname ESMTP mended")
    inst.reload()
    assert "mended" in banner(inst.port)
    taken.close()


def test_without_main_cf_nothing_can_be_asked_and_all_goes_on(loaded):
    """Where the queue is stands in main.cf: only the command can say that it is gone."""
    inst = loaded
    text = (inst.etc / "main.cf").read_text()
    (inst.etc / "main.cf").unlink()
    try:
        done = inst.reload(check=False)
        assert done.returncode == 1 and "main.cf: No such file or directory" in done.stderr
        assert banner(inst.port).startswith("220")
    finally:
        inst.write("main.cf", text)


def test_a_broken_main_cf_does_not_keep_it_from_being_stopped(instance):
    inst = instance()
    text = (inst.etc / "main.cf").read_text()
    inst.write("main.cf", "no equals sign\n  and more\n" + text + "= no name\n")
    status = inst.run("postfix", "status")
    assert f"is running: PID: {inst.master_pid()}" in status.stderr and "main.cf, line 1: missing '='" in status.stderr
    inst.stop()
    assert inst.run("postfix", "start", check=False).returncode == 1
    inst.write("main.cf", text)
    inst.expect_fatal = True


def offered_size(inst):
    with inst.smtp() as new:
        new.ehlo("c.test")
        return int(new.esmtp_features["size"])


def test_a_good_reload_is_in_force_within_a_second(loaded):
    inst, best = loaded, DEADLINE
    for n in range(10):
        with smtplib.SMTP("127.0.0.1", inst.port, timeout=20) as old:
            old.ehlo("c.test")
            size = old.esmtp_features["size"]
            old.mail("s@example.org")
            inst.write_main(smtpd_banner=f"$myhostname ESMTP number {n}", message_size_limit=20_000_000 + n)
            inst.reload()
            done = time.monotonic()
            wait_for("the new banner", lambda: f"number {n}" in banner(inst.port))
            # a worker of before may still take a client in this moment
            wait_for("the new size", lambda: offered_size(inst) == 20_000_000 + n)
            best = min(best, time.monotonic() - done)
            # the session from before ends as it began
            assert old.rcpt("bob@v.test")[0] == 250
            assert old.data(f"Subject: old session {n}\n\nhello\n")[0] == 250
            old.ehlo("c.test")
            assert old.esmtp_features["size"] == size
        if n >= 2 and best < DEADLINE / 20:  # others may have the processor meanwhile
            break
    assert best < DEADLINE / 20  # a second, where nothing slows it down
    wait_for("the old sessions' mail", lambda: {f"old session {i}" for i in range(n + 1)} <= {m["subject"] for m in inst.maildir("bob")})


def test_listeners_come_and_go_and_the_others_stay(loaded):
    inst = loaded
    master = (inst.etc / "master.cf").read_text()
    first, second = free_port(), free_port()
    other_smtpd(inst, first)
    inst.reload()
    assert banner(first).startswith("220")
    with smtplib.SMTP("127.0.0.1", first, timeout=20) as on_first, inst.smtp() as on_main:
        on_first.ehlo("c.test")
        inst.write("master.cf", master)
        other_smtpd(inst, second)
        inst.reload()
        assert banner(second).startswith("220")

        def is_closed():
            try:
                banner(first)
            except ConnectionRefusedError:
                return True
            except ConnectionError:  # it was closed while we waited in it
                return False
            return False

        wait_for("the first to be closed", is_closed)
        # who was connected there is served to the end
        assert on_first.sendmail("s@example.org", ["bob@v.test"], "Subject: by the closed one\n\nhello\n") == {}
        assert on_main.noop()[0] == 250
    wait_for("its mail", lambda: "by the closed one" in {m["subject"] for m in inst.maildir("bob")})


def test_interfaces_change_between_all_and_some(instance, sink):
    """inet_interfaces from some addresses to all and back: a socket that is a part of another's takes over, and no client is refused."""
    inst, hop = running(instance, sink, master=MASTER_CF.replace("127.0.0.1:{port} ", "{port} "))
    load = Load(inst, threads=2)
    wait_for("the first messages", lambda: len(load.accepted) > 5)
    listening = lambda: set(subprocess.run(["ss", "-Hltn", f"sport = :{inst.port}"], capture_output=True, text=True, check=True)  # noqa: E731
                            .stdout.replace(f":{inst.port}", "").split()) & {"0.0.0.0", "127.0.0.1", "127.0.0.2"}
    for value, wanted in (("all", {"0.0.0.0"}), ("127.0.0.1, 127.0.0.2", {"127.0.0.1", "127.0.0.2"}), ("all", {"0.0.0.0"}),
                          ("127.0.0.1", {"127.0.0.1"})):
        inst.write_main(inet_interfaces=value)
        inst.reload()
        wait_for(lambda v=value: f"the sockets of {v}: {listening()}", lambda w=wanted: listening() == w)
        before = len(load.accepted)
        wait_for("messages after that", lambda: len(load.accepted) > before + 5)  # noqa: B023
    # a port that another process has is still refused
    with socket.create_server(("127.0.0.3", inst.port)):
        inst.write_main(inet_interfaces="127.0.0.1, 127.0.0.3")
        done = inst.reload(check=False)
        assert done.returncode == 1 and re.search(r"listen on \[127\.0\.0\.3\]:\d+: Address already in use", done.stderr)
    load.stop()
    assert not load.failed, load.failed[:5]
    assert all_arrive(inst, hop, load) == 0
