# SPDX-License-Identifier: Apache-2.0
"""Under a service manager, and as the first process of a container."""
import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import pytest
from instance import STAGE, wait_for

POSTFIX = STAGE / "sbin/postfix"


class Manager:
    """A service manager's end of sd_notify(3): what it was told, one dictionary a message."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        self.socket.setblocking(False)
        self.told = []

    def has(self, **wanted):
        with contextlib.suppress(BlockingIOError):
            while True:
                text = self.socket.recv(65536).decode()
                self.told.append(dict(line.split("=", 1) for line in text.splitlines()))
        return [message for message in self.told if wanted.items() <= message.items()]

    def wait(self, **wanted):
        return wait_for(lambda: f"{wanted} in {self.told}", lambda: self.has(**wanted))[0]


@contextlib.contextmanager
def foreground(inst, environment=None, prefix=(), **options):
    """`postfix start-fg` as a child of ours, ended at the end."""
    child = subprocess.Popen([*prefix, POSTFIX, "-c", inst.etc, "start-fg"], env={**os.environ, **(environment or {})},
                             start_new_session=True, **options)
    try:
        yield child
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait(10)
        for stream in (child.stdout, child.stderr):
            if stream:
                stream.close()


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_service_manager_is_told(instance, tmp_path, abstract):
    """Ready when it serves, reloading and ready again, the reason of a refused reload, stopping; signs of life in between."""
    inst = instance(start=False)
    name = f"@postrider-{os.getpid()}" if abstract else str(tmp_path / "notify")
    manager = Manager(name)
    with foreground(inst, {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "400000"}) as child:
        ready = manager.wait(READY="1")
        assert re.match(r"\d+ services$", ready["STATUS"])
        with inst.smtp() as client:
            assert client.helo()[0] == 250
        wait_for("signs of life", lambda: len(manager.has(WATCHDOG="1")) >= 3)
        inst.running = True
        inst.reload()
        reloading = manager.wait(RELOADING="1")
        assert 0 <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) / 1000 - int(reloading["MONOTONIC_USEC"]) < 60e6
        wait_for("ready again", lambda: len(manager.has(READY="1")) == 2)
        inst.write_main(smtpd_timeout="soon")
        done = inst.reload(check=False)
        assert done.returncode == 1 and "smtpd_timeout" in done.stderr
        wait_for("ready with the old configuration", lambda: len(manager.has(READY="1")) == 3)
        assert re.search(r"services; reload refused: .*main\.cf, line \d+: smtpd_timeout", manager.has(READY="1")[2]["STATUS"])
        inst.write_main(smtpd_timeout="300s")
        os.kill(child.pid, signal.SIGTERM)
        manager.wait(STOPPING="1")
        assert child.wait(30) == 0
        inst.running = False


def test_watchdog_of_another_process_and_a_bad_socket(instance, tmp_path):
    """WATCHDOG_PID names whom it is for; a NOTIFY_SOCKET that cannot be used is reported and keeps nobody from starting."""
    inst = instance(start=False)
    manager = Manager(str(tmp_path / "notify"))
    with foreground(inst, {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}):
        manager.wait(READY="1")
        inst.running = True
        inst.run("postfix", "status")
        inst.running = False
    assert not manager.has(WATCHDOG="1")
    with foreground(inst, {"NOTIFY_SOCKET": "relative"}):
        inst.wait_log(r'warning: NOTIFY_SOCKET is "relative"')
        wait_for("the server", inst.answers)


def test_workers_know_nothing_of_the_service_manager(instance, tmp_path):
    inst = instance(start=False)
    manager = Manager(str(tmp_path / "notify"))
    with foreground(inst, {"NOTIFY_SOCKET": str(tmp_path / "notify"), "SECRET": "x"}) as child:
        manager.wait(READY="1")
        with inst.smtp() as client:
            client.helo()
            for pid in inst.pids():
                environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
                assert (b"NOTIFY_SOCKET" in environment) == (pid == child.pid)
                assert b"SECRET" not in environment


def test_units():
    """systemd has nothing to say about the units; a reload's failure is the command's."""
    units = sorted((STAGE / "lib/systemd/system").iterdir())
    assert [unit.name for unit in units] == ["postrider.service", "postrider@.service"]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", units[0], units[1].with_name("postrider@postfix-out.service")],
                          capture_output=True, text=True, timeout=60)
    # what other packages' units have wrong is theirs
    mine = [line for line in done.stderr.splitlines() if "postrider" in line]
    assert done.returncode == 0 and not mine, done.stderr
    for unit in units:
        text = unit.read_text()
        assert f"ExecReload={POSTFIX} " in text and "Type=notify\n" in text and "@POSTFIX@" not in text


def test_first_process_of_a_container(instance, tmp_path):
    """start-fg as process 1: the log on standard output, orphans of others reaped, HUP reloads, TERM and INT stop."""
    if os.geteuid() != 0:
        pytest.fail("needs root: a process-id namespace of its own")
    inst = instance(start=False, main={"maillog_file": "/dev/stdout", "maillog_file_prefixes": "/dev/stdout"})
    log = tmp_path / "stdout"
    for sig in (signal.SIGTERM, signal.SIGINT):
        with log.open("wb") as out, foreground(inst, prefix=["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"],
                                               stdout=out, stderr=subprocess.STDOUT) as child:
            wait_for("the server", inst.answers)
            master = int(pathlib.Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text())
            assert re.search(r"NSpid:\s+\d+\s+1$", pathlib.Path(f"/proc/{master}/status").read_text(), re.M)
            enter = ["nsenter", "-t", str(master), "-p", "-m"]
            # a grandchild that is left alone becomes process 1's, and must not stay as a zombie
            orphan = subprocess.run([*enter, "sh", "-c", "(sleep 0.2 & echo $!) | cat"], capture_output=True, text=True, timeout=20)
            assert orphan.stdout.strip().isdigit()
            state = ["sh", "-c", f"cat /proc/{orphan.stdout.strip()}/stat 2>/dev/null || echo gone"]
            wait_for("the orphan to be reaped",
                     lambda: "gone" in subprocess.run([*enter, *state], capture_output=True, text=True, timeout=20).stdout)
            with inst.smtp() as client:
                client.helo()
            wait_for("log lines", lambda: re.search(r"postfix/smtpd\[\d+\]: connect from ", log.read_text()))
            os.kill(master, signal.SIGHUP)
            wait_for("the reload", lambda: "reload -- version" in log.read_text())
            os.kill(master, sig)
            assert child.wait(30) == 0
        assert f"terminating on signal {int(sig)}" in log.read_text()


def test_main_cf_on_a_read_only_file_system(instance):
    """Nothing is written to the configuration directory: not at the start, not by check, not by reload."""
    if os.geteuid() != 0:
        pytest.fail("needs root: a mount namespace of its own")
    inst = instance(start=False)
    script = f"mount --bind {inst.etc} {inst.etc} && mount -o remount,ro,bind {inst.etc} && ! touch {inst.etc}/x 2>/dev/null && " \
             f"{POSTFIX} -c {inst.etc} check && exec {POSTFIX} -c {inst.etc} start-fg"
    child = subprocess.Popen(["unshare", "-m", "sh", "-c", script], start_new_session=True)
    try:
        wait_for("the server", inst.answers)
        inst.running = True
        inst.reload()
    finally:
        inst.running = False
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait(30) == 0


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_log_on_a_stream(instance, name):
    """In the foreground the log may go to the caller's own descriptor, a socket included; in the background that is refused."""
    inst = instance(start=False, main={"maillog_file": f"/dev/{name}", "maillog_file_prefixes": "/var, /dev/stdout, /dev/stderr"})
    refused = inst.run("postfix", "start", check=False)
    assert refused.returncode == 1 and f'"maillog_file = /dev/{name}" is for "postfix start-fg"' in refused.stderr
    ours, theirs = socket.socketpair()
    with ours, theirs, foreground(inst, **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, name: theirs}):
        wait_for("the server", inst.answers)
        ours.setblocking(False)
        text = b""

        def has_line():
            nonlocal text
            with contextlib.suppress(BlockingIOError):
                text += ours.recv(65536)
            return re.search(rb"postfix/smtpd\[\d+\]: connect from ", text)

        wait_for(lambda: f"a line of smtpd in {text}", has_line)


def test_log_file(instance):
    """maillog_file_permissions at its making; a compressor that fails is reported, and the file is kept; a prefix that does not fit."""
    inst = instance(main={"maillog_file_permissions": "0640", "maillog_file_compressor": "false"})
    assert inst.log_path.stat().st_mode & 0o7777 == 0o640
    inst.expect_fatal = True
    done = inst.run("postfix", "logrotate", check=False)
    assert done.returncode == 1 and re.search(r"mail\.log\.\d+-\d+ could not be compressed with false", done.stderr)
    assert len(list(inst.log_path.parent.glob("mail.log.*"))) == 1
    assert inst.log_path.stat().st_mode & 0o7777 == 0o640
    for change, reason in (({"maillog_file_prefixes": "/nowhere"}, "matches none of maillog_file_prefixes"),
                           ({"maillog_file_permissions": "0999"}, "maillog_file_permissions: ")):
        kept = {k: inst.main.get(k) for k in change}
        inst.write_main(**change)
        done = inst.reload(check=False)
        assert done.returncode == 1 and reason in done.stderr, done.stderr
        inst.write_main(**kept)
