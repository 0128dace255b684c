# SPDX-License-Identifier: Apache-2.0
"""master(8), postfix(1), postlog(1), postkick(1): supervision, judged with small test daemons in place of the real ones.

The daemons are the program test_master_worker under other names; see there for what a client may ask.
"""
import os
import pathlib
import re
import signal
import socket
import sqlite3
import subprocess
import threading
import time

import pytest
from instance import MASTER_CF, STAGE, free_port, is_alive, wait_for

WORKER = STAGE.parent / "tests" / "test_master_worker"

SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
echo    unix n - n - - echo
single  unix n - n - - single
looper  unix n - n 300 1 looper
qmgr    unix n - n - 1 looper
cleanup unix n - n - - echo
"""


class Client:
    """A connection to a test daemon, by port or path."""

    def __init__(self, where, timeout=10):
        if isinstance(where, int):
            self.s = socket.create_connection(("127.0.0.1", where), timeout=timeout)
        else:
            self.s = socket.socket(socket.AF_UNIX)
            self.s.settimeout(timeout)
            directory = os.open(pathlib.Path(where).parent, os.O_PATH)
            try:  # the path may be longer than an address takes
                self.s.connect(f"/proc/self/fd/{directory}/{pathlib.Path(where).name}")
            finally:
                os.close(directory)
        self.f = self.s.makefile("rb")

    def line(self):
        return self.f.readline().decode().strip()

    def greeting(self):
        assert self.line() == "220 hello"
        return self

    def ask(self, text):
        self.s.sendall(text.encode() + b"\n")
        return self.line()

    def pid(self):
        return int(self.ask("pid"))

    def is_silent(self, seconds=0.3):
        self.s.settimeout(seconds)
        try:
            return not self.s.recv(1, socket.MSG_PEEK) and False
        except TimeoutError:
            return True
        finally:
            self.s.settimeout(10)

    def close(self):
        self.f.close()
        self.s.close()

    def __enter__(self):
        return self.greeting()

    def __exit__(self, *_):
        self.close()


@pytest.fixture
def system(instance, tmp_path):
    """A factory like instance, with the test daemons."""
    daemons = tmp_path / "daemons"
    daemons.mkdir()
    for name in ("echo", "single", "looper", "smtpd"):
        (daemons / name).symlink_to(WORKER)
    (daemons / "master").symlink_to(STAGE / "libexec/postrider/master")

    def make(master=SERVICES, main=None, **options):
        return instance(master=master, main={"daemon_directory": daemons, **(main or {})}, **options)

    return make


def fails(inst, *argv):
    """Runs a command that must exit 1, and gives what it printed."""
    inst.expect_fatal = True
    done = inst.run(*argv, check=False)
    assert done.returncode == 1, done
    return done.stdout + done.stderr


# --- start, stop, status ---------------------------------------------------------------------------


@pytest.mark.parametrize("as_user", [False, True])
def test_start_status_stop(system, as_user):
    inst = system(as_user=as_user)
    pid_file = (inst.spool / "pid/master.pid").read_bytes()
    assert len(pid_file) == 32 and pid_file == b"%31d\n" % inst.master_pid()
    assert f"is running: PID: {inst.master_pid()}" in inst.run("postfix", "status").stderr
    assert "already running" in fails(inst, "postfix", "start")
    with Client(inst.port) as c:
        uid = int(c.ask("uid"))
    if as_user and os.geteuid() == 0:
        assert uid == inst.user.pw_uid
    elif os.geteuid() == 0:
        assert uid != 0
    inst.stop()
    assert inst.pids() == {} or not is_alive(inst.master_pid())
    assert "is not running" in fails(inst, "postfix", "status")
    assert "is not running" in fails(inst, "postfix", "stop")
    assert "is not running" in fails(inst, "postfix", "reload")
    inst.wait_log(r"postfix/postfix-script\[\d+\]: starting the Postfix mail system")
    inst.wait_log(r"postfix/master\[\d+\]: daemon started -- version [\d.]+, configuration /")
    inst.wait_log(r"postfix/postfix-script\[\d+\]: stopping the Postfix mail system")


def test_modes_of_directories(system):
    inst = system()
    wanted = {"public": 0o2710, "private": 0o700, "maildrop": 0o3730, "pid": 0o755}
    assert {d: (inst.spool / d).stat().st_mode & 0o7777 for d in wanted} == wanted


@pytest.mark.parametrize("main, master, reason", [
    ({"max_use": "many"}, None, r"main\.cf, line \d+: .*max_use"),
    ({"header_checks": "regexp:/nonexistent/table"}, None, r"main\.cf, line \d+: header_checks: .*/nonexistent/table"),
    ({"queue_minfree": "$queue_minfree"}, None, r"queue_minfree"),
    ({"maillog_file_prefixes": "/nowhere"}, None, "maillog_file_prefixes"),
    (None, SERVICES + "bad line\n", r"master\.cf, line 7: "),
    (None, SERVICES + "x unix n - n - - echo\n  -o max_use=0\n", r"master\.cf, line 7: service x: .*max_use"),
    (None, SERVICES + "nohost.invalid:25 inet n - n - - smtpd\n", r"master\.cf, line 7: service nohost"),
    ({"test_start": "no"}, None, r"master\.cf, line 1: service 127.*: start was told to fail: no"),
    ({"test_start": "crash"}, None, r"master\.cf, line 1: service 127.*: it crashes at its start"),
    (None, SERVICES + "localhost:{port} inet n - n - - echo\n", r"master\.cf, line 7: service localhost:.*already"),
], ids=["value", "table", "recursion", "log-prefix", "line", "override", "host", "daemon", "crash", "same-address"])
def test_start_refuses(system, main, master, reason):
    inst = system(main=main, master=master or SERVICES, start=False)
    out = fails(inst, "postfix", "start")
    assert re.search(reason, out), out
    assert "is not running" in fails(inst, "postfix", "status")
    assert inst.pids() == {}


def test_start_refuses_a_port_in_use(system):
    inst = system(start=False)
    with socket.create_server(("127.0.0.1", inst.port)):
        out = fails(inst, "postfix", "start")
    assert re.search(rf"master\.cf, line 1: service .*: listen on \[127.0.0.1\]:{inst.port}: Address already in use", out)
    inst.start()  # nothing is left behind that would hinder


def test_check_reports_without_starting(system):
    inst = system(main={"smtpd_banr": "x"}, master=SERVICES + "y unix n - n - - nosuch\nt unix - - y 1000? 1 tlsmgr\n"
                  "echo unix n - n - - echo\n",
                  start=False)
    done = inst.run("postfix", "check")
    assert re.search(r"main\.cf, line \d+: unknown parameter smtpd_banr: did you mean smtpd_banner", done.stderr)
    assert re.search(r"master\.cf, line 7: service y is not started: there is no program nosuch", done.stderr)
    assert re.search(r"warning: \S+master\.cf, line \d+: .*echo", done.stderr)
    assert "tlsmgr" not in done.stderr


def test_start_in_the_foreground(system):
    inst = system(main={"maillog_file": "/dev/stdout", "maillog_file_prefixes": "/dev/stdout"}, start=False)
    assert "start-fg" in fails(inst, "postfix", "start")
    fg = subprocess.Popen([STAGE / "sbin/postfix", "-c", inst.etc, "start-fg"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    try:
        wait_for("the port", inst.answers)
        inst.run("postlog", "said on standard output")
        assert inst.master_pid() == fg.pid
    finally:
        fg.send_signal(signal.SIGTERM)
        out, _ = fg.communicate(timeout=20)
    assert fg.returncode == 0
    assert "daemon started" in out and "said on standard output" in out


def test_stop_does_not_wait_for_silent_clients(system):
    inst = system(main={"stop_grace_time": "3600s"})
    clients = [Client(inst.port).greeting(), Client(inst.spool / "public/single").greeting(),
               Client(inst.spool / "public/looper").greeting()]
    inst.stop()  # has a time limit of its own
    assert [c.line() for c in clients] == ["", "", ""]


def test_stop_lets_work_end_but_not_for_ever(system):
    inst = system(main={"stop_grace_time": "3s"})
    busy, stuck = Client(inst.port).greeting(), Client(inst.port).greeting()
    for client, ms in ((busy, 500), (stuck, 60000)):
        assert client.ask(f"begin {ms}") == "begun"
    inst.stop()
    assert busy.line() == "done"
    assert stuck.line() == ""


def test_workers_leave_when_master_is_killed(system):
    inst = system()
    with Client(inst.port) as c, Client(inst.spool / "public/looper") as l, Client(inst.spool / "public/single") as s:
        pids = [c.pid(), l.pid(), s.pid()]
        os.kill(inst.master_pid(), signal.SIGKILL)
        wait_for("the workers' end", lambda: not any(is_alive(p) for p in pids))
    inst.run("postfix", "start")
    with Client(inst.port) as c:
        assert c.pid() not in pids


# --- workers --------------------------------------------------------------------------------------


def test_clients_share_a_process(system):
    inst = system()
    with Client(inst.port) as a, Client(inst.port) as b:
        assert a.pid() == b.pid()


def test_process_limit(system):
    inst = system(master=SERVICES + "few unix n - n - 2 echo\n", main={"sessions_per_process": "1"})
    path = inst.spool / "public/few"
    with Client(path) as a, Client(path) as b:
        assert a.pid() != b.pid()
        third = Client(path)
        assert third.is_silent()
        inst.wait_log(r'warning: service "few" \(public/few\) has reached its process limit "2": new clients may')
        a.s.sendall(b"quit\n")
        assert third.greeting().pid() != b.pid()
        third.close()


def test_killed_workers_are_replaced_at_once(system):
    inst = system()
    for path in (inst.port, inst.spool / "public/single", inst.spool / "public/looper"):
        for _ in range(10):
            with Client(path) as c:
                os.kill(c.pid(), signal.SIGKILL)
                assert c.line() == ""
    assert "throttling" not in inst.log()
    assert re.search(r"warning: process \S+/smtpd pid \d+ killed by signal 9$", inst.log(), re.M)


def test_a_service_that_fails_at_its_start_is_throttled(system):
    for how, end in (("no", "exit status 1"), ("crash", "killed by signal 6")):
        inst = system(master=SERVICES + f"bad unix n - n - - echo\n  -o test_ready={how}\n",
                      main={"service_throttle_time": "3600"})
        inst.expect_fatal = inst.expect_killed = True
        c = Client(inst.spool / "public/bad")
        inst.wait_log(r"warning: \S+/echo: bad command startup -- throttling")
        assert c.is_silent()
        assert len(re.findall(end, inst.log())) == 1
        inst.write("master.cf", (SERVICES + "bad unix n - n - - echo\n").format(port=inst.port))
        inst.reload()
        c.greeting()  # mended: the client that waited is served without waiting for the throttle's end


def test_wake_ups(system):
    inst = system(master=SERVICES + "often unix n - n 1 1 echo\nused unix n - n 1? - single\n")
    wait_for("wake-ups", lambda: inst.log().count("postfix/echo") >= 3)
    assert "postfix/single" not in inst.log()
    with Client(inst.spool / "public/used"):
        pass
    inst.wait_log(r"postfix/single\[\d+\]: woken up")


def test_an_unused_worker_leaves(system):
    inst = system(main={"max_idle": "1s"})
    with Client(inst.port) as c:
        pid = c.pid()
    wait_for("its end", lambda: not is_alive(pid))
    with Client(inst.port) as c:
        assert c.pid() != pid


# --- reload ---------------------------------------------------------------------------------------


def test_reload_takes_effect_and_cuts_nobody(system):
    inst = system(main={"test_answer": "old", "test_other": "$test_answer"})
    with Client(inst.port) as old, Client(inst.spool / "public/looper") as loop, \
            Client(inst.spool / "public/single") as single:
        pids = old.pid(), loop.pid(), single.pid()
        inst.write_main(test_answer="new")
        inst.reload()
        assert old.ask("get test_answer") == "old"
        with Client(inst.port) as c:
            assert c.ask("get test_answer") == "new" and c.pid() != pids[0]
        wait_for("the reload in place", lambda: loop.ask("get test_answer") == "new")
        assert loop.pid() == pids[1]
        assert single.line() == ""  # between two requests
        old.s.sendall(b"quit\n")
        wait_for("the old worker's end", lambda: not is_alive(pids[0]))


@pytest.mark.parametrize("name, text, reason", [
    ("main.cf", "junk", r"main\.cf, line \d+: "),
    ("main.cf", "max_use = -3", r"main\.cf, line \d+: .*max_use"),
    ("main.cf", "virtual_alias_maps = hash:/nonexistent/virtual", r"main\.cf, line \d+: virtual_alias_maps: "),
    ("main.cf", "header_checks = regexp:{etc}/bad_table", r"main\.cf, line \d+: header_checks: .*bad_table"),
    ("master.cf", "x unix n - n - - echo\n  -o max_idle=soon", r"master\.cf, line 7: service x: .*max_idle"),
    ("main.cf", "test_start = no", r"master\.cf, line 1: service 127.*: start was told to fail: no"),
    ("master.cf", "x y z", r"master\.cf, line 7: "),
    ("master.cf", "192.0.2.1:25 inet n - n - - echo", r"master\.cf, line 7: .*192.0.2.1"),
], ids=["line", "value", "missing-table", "bad-table", "override", "daemon", "master-line", "address"])
def test_refused_reload_changes_nothing(system, name, text, reason):
    inst = system(main={"test_answer": "old"}, files={"bad_table": "/(/ x\n"})
    with Client(inst.port) as c:
        pid = c.pid()
        before = (inst.etc / name).read_text()
        inst.write(name, before.replace("test_answer = old", "test_answer = new") + text.replace(
            "{etc}", str(inst.etc)) + "\n")
        out = fails(inst, "postfix", "reload")
        assert re.search(reason, out), out
        assert c.pid() == pid
        # a worker that is started now has the configuration that runs, not the files
        os.kill(pid, signal.SIGKILL)
    with Client(inst.port) as c:
        assert c.pid() != pid and c.ask("get test_answer") == "old"
    inst.write(name, before)
    inst.reload()


def test_reload_by_signal(system):
    inst = system(main={"test_answer": "one"})
    inst.write_main(test_answer="two")
    os.kill(inst.master_pid(), signal.SIGHUP)
    inst.wait_log("reloaded with two")
    inst.write_main(queue_directory="/nonexistent/queue")
    os.kill(inst.master_pid(), signal.SIGHUP)
    inst.wait_log("error: reload refused, the old configuration goes on: queue_directory has changed")
    inst.write_main(queue_directory=inst.spool)


def test_reload_opens_and_closes_sockets(system):
    port = free_port()
    inst = system()
    with Client(inst.port) as kept:
        inst.write("master.cf", (SERVICES.replace("echo    unix n", "echo2   unix n") +
                                 f"127.0.0.1:{port} inet n - n - - echo\n").format(port=inst.port))
        inst.reload()
        with Client(port), Client(inst.spool / "public/echo2"):
            pass
        assert not (inst.spool / "public/echo").exists()
        # the first address goes to another service, the second is given up while it has a client
        with Client(port) as last:
            inst.write("master.cf", SERVICES.replace("- - smtpd", "- - single").format(port=inst.port))
            inst.reload()

            def refused():
                try:
                    Client(port).close()
                except ConnectionError:  # reset: it was closed while we waited in it
                    return True
                return False

            wait_for("the port to be closed", refused)
            assert last.pid() > 0
        with Client(inst.port) as c:
            assert c.pid() != kept.pid()


def test_a_changed_entry_replaces_a_resident_worker(system):
    inst = system()
    with Client(inst.spool / "public/looper") as c:
        pid = c.pid()
    inst.write("master.cf", SERVICES.replace("1 looper\nqmgr", "1 looper\n  -o test_answer=own\nqmgr").format(port=inst.port))
    inst.reload()
    wait_for("its end", lambda: not is_alive(pid))
    with Client(inst.spool / "public/looper") as c:
        assert c.pid() != pid and c.ask("get test_answer") == "own"
    inst.write("master.cf", SERVICES.replace("1 looper\nqmgr", "1 single\nqmgr").format(port=inst.port))
    inst.reload()  # another program of another shape
    wait_for("the new one", lambda: "single" in inst.pids().values())
    with Client(inst.spool / "public/looper") as c:
        assert c.ask("get test_answer") != "own"


def test_reload_at_the_limit_goes_on_serving(system):
    inst = system(master=SERVICES + "few unix n - n - 3 echo\n")
    path = inst.spool / "public/few"
    with Client(path) as a, Client(path) as b:
        inst.reload()
        with Client(path) as c:
            assert c.pid() != a.pid()
            fourth = Client(path)
            assert fourth.is_silent()
            b.s.sendall(b"quit\n")
            assert fourth.greeting().pid() == c.pid()  # the place that got free was given to the new worker
            fourth.close()


def test_reload_under_load(system):
    inst = system(master=SERVICES + "few unix n - n - 20 echo\n", main={"sessions_per_process": "7"})
    done = threading.Event()
    failures = []
    served = [0, 0, 0]

    def load(i, where):
        while not done.is_set():
            try:
                with Client(where) as c:
                    assert c.pid() > 0
                    c.s.sendall(b"quit\n")
                    assert c.line() == ""
                served[i] += 1
            except (OSError, AssertionError, ValueError) as e:
                failures.append((where, repr(e)))

    threads = [threading.Thread(target=load, args=(i % 3, where)) for i, where in
               enumerate((inst.port, inst.port, inst.spool / "public/looper") * 2)]
    for t in threads:
        t.start()
    n, begun = 0, time.monotonic()
    while not failures and (n < 5 or min(served) <= 20 or time.monotonic() - begun < 4):
        inst.write_main(test_answer=str(n))
        inst.reload()
        n += 1
    done.set()
    for t in threads:
        t.join()
    assert not failures


# --- logs, other commands -------------------------------------------------------------------------


def test_postlog(system):
    inst = system()
    inst.run("postlog", "-t", "my/script", "-p", "warn", "some", "words")
    inst.wait_log(r"^\w{3} [ \d]\d \d\d:\d\d:\d\d \S+ my/script\[\d+\]: warning: some words$")
    inst.run("postlog", input="one\ntwo\n")
    inst.wait_log(r"postfix/postlog\[\d+\]: one$")
    inst.wait_log(r"postfix/postlog\[\d+\]: two$")
    assert fails(inst, "postlog", "-p", "loud", "x")
    inst.stop()
    inst.run("postlog", "nobody listens")
    inst.wait_log("nobody listens")


def test_log_lines_of_others_are_kept_apart(system):
    inst = system()
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect(str(inst.spool / "public/postlog"))
    s.send(b"one\nNov 1 00:00:00 forged line\x1b\n")
    s.send(b"x" * 9000)
    s.send(b"")
    s.close()
    inst.wait_log(r"^one\?Nov 1 00:00:00 forged line\?$")
    inst.run("postlog", "still there")
    inst.wait_log("still there")


def test_logrotate(system):
    inst = system(main={"maillog_file_compressor": "gzip"})
    with Client(inst.port), Client(inst.spool / "public/looper") as l:
        inst.run("postfix", "logrotate")
        rotated = list(inst.log_path.parent.glob("mail.log.*.gz"))
        assert len(rotated) == 1
        inst.write_main(test_answer="logged by a worker that is older than the file")
        inst.reload()
        assert l.pid() > 0
    inst.wait_log("reloaded with logged by a worker")


@pytest.mark.parametrize("compressor", ["gzip", ""])
def test_logrotate_keeps_what_was_rotated(system, compressor):
    """Twice within the suffix's time: the second is refused, and both logs are as they were."""
    inst = system(main={"maillog_file_compressor": compressor, "maillog_file_rotate_suffix": "%Y"})
    inst.expect_fatal = True
    inst.run("postfix", "logrotate")
    inst.reload()  # something in the new file
    before = {path.name: path.read_bytes() for path in inst.log_path.parent.glob("mail.log*")}
    assert len(before) == 2
    done = inst.run("postfix", "logrotate", check=False)
    assert done.returncode == 1 and "is there already" in done.stderr
    after = {path.name: path.read_bytes() for path in inst.log_path.parent.glob("mail.log*")}
    assert after.keys() == before.keys() and all(after[name].startswith(text) for name, text in before.items())


def test_postkick(system):
    inst = system()
    inst.run("postkick", "public", "looper", "W")
    assert fails(inst, "postkick", "public", "nosuch", "W")
    assert fails(inst, "postkick", "elsewhere", "looper", "W")


def hand_over(inst, name, connection=None, data=b"x"):
    """Connects to a service of type pass, and passes it a descriptor."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(inst.spool / "private" / name))
        if connection is None:
            s.sendall(data)
        else:
            socket.send_fds(s, [data], [connection.fileno()])


def test_clients_that_are_handed_over(instance):
    """Type pass: a connected client comes as a descriptor; what is none is reported, and the next one is served."""
    inst = instance(master=MASTER_CF + "hand pass - - n - - smtpd -o smtpd_banner=passed\n")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(3):
            with socket.create_connection(listener.getsockname(), timeout=10) as client:
                accepted, _peer = listener.accept()
                hand_over(inst, "hand", accepted)
                accepted.close()
                lines = client.makefile("rb")
                assert lines.readline() == b"220 passed\r\n"
                client.sendall(b"helo x\r\nmail from:<a@b.test>\r\nquit\r\n")
                assert [lines.readline()[:3] for _ in range(3)] == [b"250", b"250", b"221"]
    inst.wait_log(r"hand/smtpd\[\d+\]: connect from \S+\[127\.0\.0\.1\]|smtpd\[\d+\]: connect from \S+\[127\.0\.0\.1\]")
    hand_over(inst, "hand", data=b"no descriptor")
    inst.wait_log(r"warning: service hand: no client was handed over")
    with open("/dev/null") as not_a_socket:
        hand_over(inst, "hand", not_a_socket)
    inst.wait_log(r"warning: service hand: what was handed over is no (connection|socket)")
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname(), timeout=10) as client:
        accepted, _peer = listener.accept()
        hand_over(inst, "hand", accepted)
        accepted.close()
        assert client.recv(100) == b"220 passed\r\n"


def test_daemons_in_the_queue_directory(instance, sink, monkeypatch):
    """The chroot column: daemons that have seen nothing of the file system but the queue do all that they do outside."""
    if os.geteuid() != 0:
        pytest.fail("needs root")
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0")  # which needs /proc
    hop = sink()
    chrooted = re.sub(r"^(\S+\s+\S+\s+\S+\s+\S+\s+)n(\s+\S+\s+\S+\s+(smtpd|cleanup|smtp|bounce|qmgr|pickup|error)\b)", r"\1y\2", MASTER_CF, flags=re.M)
    assert chrooted.count(" y ") >= 5
    inst = instance(master=chrooted, main={"relay_domains": "far.test", "relay_transport": f"smtp:[127.0.0.1]:{hop.port}",
                                           "virtual_alias_maps": "hash:{etc}/virtual", "header_checks": "regexp:{etc}/checks",
                                           "sender_canonical_maps": "sqlite:{etc}/canonical.cf"},
                    files={"virtual": "a@far.test b@far.test\n", "checks": "/^X-Bad:/ REJECT bad\n"}, start=False)
    inst.write("canonical.cf", f"dbpath = {inst.etc}/canonical.db\nquery = SELECT new FROM names WHERE old = '%s'\n")
    with sqlite3.connect(inst.etc / "canonical.db") as db:
        db.execute("create table names(old text, new text)")
        db.execute("insert into names values('old@example.org', 'new@example.org')")
    db.close()
    inst.postmap(f"hash:{inst.etc}/virtual")
    inst.start()
    inst.send("a@far.test")
    hop.wait(1)
    assert hop.messages[0][1] == ["b@far.test"]
    inst.send("a@far.test", sender="old@example.org")  # a table of a type that is loaded as a module
    hop.wait(2)
    assert hop.messages[1][0] == "new@example.org"
    with pytest.raises(Exception, match="bad"):
        inst.send("a@far.test", headers="X-Bad: x\n")
    inside = {os.readlink(f"/proc/{pid}/root") for pid in inst.pids() if pid != inst.master_pid()}
    assert inside == {str(inst.spool)}
    before = {pid for pid, program in inst.pids().items() if program in ("qmgr", "pickup")}
    # what changes out of their sight reaches them all the same: a table, a file that main.cf names
    inst.write("virtual", "a@far.test c@far.test\n")
    inst.postmap(f"hash:{inst.etc}/virtual")
    inst.write("mailname", "other.test\n")
    inst.write_main(myorigin=inst.etc / "mailname")
    inst.reload()
    wait_for("the daemons of before to have gone", lambda: not {pid for pid in before if os.path.exists(f"/proc/{pid}")})
    inst.run("sendmail", "-f", "me", "c@far.test", input="Subject: x\n\nx\n")
    inst.wait_log(r"qmgr\[\d+\]: \w+: from=<me@other\.test>")
    assert "error: reload" not in inst.log()
    inst.send("a@far.test")
    hop.wait(4)
    inst.wait_log(r"to=<c@far\.test>, orig_to=<a@far\.test>, .*status=sent")
