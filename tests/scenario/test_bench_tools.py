# SPDX-License-Identifier: Apache-2.0
"""bench/: smtp-source, smtp-sink and floor, against each other, plain sockets, and an instance."""
import contextlib
import json
import os
import pty
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import threading
import time

import pytest

from instance import DEADLINE, STAGE, free_port, wait_for

BENCH = STAGE / "bench"
ROOT = os.geteuid() == 0


class SinkProcess:
    """A running smtp-sink. out: its counters; err: what it said, after end()."""

    def __init__(self, tmp_path, *options, where=None, backlog="1000", ready=True, env=None):
        self.port = free_port()
        self.where = where or f"127.0.0.1:{self.port}"
        self.files = [open(tmp_path / f"sink-{self.port}.{name}", "w+b") for name in ("out", "err")]
        user = ["-u", "daemon"] if ROOT and "-u" not in options else []
        self.process = subprocess.Popen([BENCH / "smtp-sink", "-c", *user, *map(str, options), self.where, backlog], stdin=subprocess.DEVNULL,
                                        stdout=self.files[0], stderr=self.files[1], env=dict(os.environ, **(env or {})))
        if ready:
            wait_for("smtp-sink", self.listens)

    def listens(self):
        """Looks without connecting: that would be a session."""
        assert self.process.poll() is None, self.text(1)
        for table in ("tcp", "tcp6"):
            if re.search(r"^ *\d+: [0-9A-F]+:%04X [0-9A-F:]+ 0A" % self.port, open(f"/proc/net/{table}").read(), re.M):
                return True
        return self.where.startswith("unix:") and os.path.exists(self.where[5:])

    def text(self, which):
        self.files[which].seek(0)
        return self.files[which].read().decode("latin-1")

    def ended(self):
        """By itself: its counters."""
        self.process.wait(DEADLINE)
        return self.counters()

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(DEADLINE)
        return self.counters()

    def counters(self):
        found = re.findall(r"sess=(\d+) quit=(\d+) mesg=(\d+) rcpt=(\d+) last=[\d.]+[\r]", self.text(0))
        return dict(zip(("sess", "quit", "mesg", "rcpt"), map(int, found[-1]))) if found else {}


@pytest.fixture
def sinks(tmp_path):
    tmp_path.chmod(0o777)  # for dumps, as another user
    made = []

    def make(*options, **more):
        made.append(SinkProcess(tmp_path, *options, **more))
        return made[-1]

    yield make
    for one in made:
        one.end()
        assert one.process.returncode == 0, one.text(1)
        for f in one.files:
            f.close()


def source(*arguments, check=True, timeout=DEADLINE * 3):
    done = subprocess.run([BENCH / "smtp-source", *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=timeout)
    if check:
        assert done.returncode == 0, done.stderr
    return done


def figures(*arguments):
    return json.loads(source("--json", *arguments).stdout)


def accepts(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE):
            return True
    except OSError:
        return False


class Talk:
    """A client that says one line and gets one reply."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.file = self.socket.makefile("rb")

    def reply(self):
        lines = []
        while line := self.file.readline().decode():
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                break
        return lines

    def say(self, line):
        self.socket.sendall(line.encode() + b"\r\n")
        return (self.reply() or [""])[-1]

    def close(self):
        self.file.close()
        self.socket.close()


@contextlib.contextmanager
def talk(port):
    client = Talk(port)
    try:
        yield client
    finally:
        client.close()


def dumped(tmp_path, prefix):
    """The dumps, as lists of lines, in the order of their recipients."""
    texts = [p.read_bytes().decode("latin-1").split("\n") for p in tmp_path.glob(prefix + "*")]
    return sorted(texts, key=lambda lines: [x for x in lines if x.startswith("X-Rcpt-Args")])


def field(lines, name):
    return [x[len(name) + 2:] for x in lines if x.startswith(name + ": ")]


# --- both: what is sent arrives, and is counted ---

@pytest.mark.parametrize("options, sessions, rcpts", [
    (["-s", 5, "-N"], 60, 60), (["-s", 5, "-d"], 5, 60), (["-r", 3, "-d"], 1, 180), (["-o"], 60, 60), (["-s", 100], 60, 60),
    (["-s", 4, "-d", "--pipelining", "-r", 7], 4, 420)])
def test_messages_and_sessions_are_counted(sinks, options, sessions, rcpts):
    sink = sinks("-n", sessions)
    got = figures(*options, "-m", 60, sink.where)
    assert sink.ended() == {"sess": sessions, "quit": sessions, "mesg": 60, "rcpt": rcpts}
    assert (got["accepted"], got["refused"], got["recipients"], got["connections"]) == (60, 0, rcpts, sessions)


@pytest.mark.parametrize("option", ["-M", "-n"])
def test_the_sink_ends_after_so_many(sinks, option):
    sink = sinks(option, 3)
    source("-m", 3, sink.where)
    assert sink.ended()["mesg"] == 3 and sink.process.returncode == 0


def test_unix_domain_sockets(sinks, tmp_path):
    sink = sinks("-n", 2, where=f"unix:{tmp_path}/socket")
    source("-m", 2, sink.where)
    assert sink.ended()["mesg"] == 2


def test_unix_domain_sockets_with_a_full_backlog(sinks, tmp_path):
    sink = sinks("-n", 200, where=f"unix:{tmp_path}/socket", backlog="1")
    source("-s", 50, "-m", 200, sink.where)
    assert sink.ended()["mesg"] == 200
    assert source("-C", 2, sink.where, check=False).stderr == "smtp-source: fatal: connect: Connection refused\n"


def test_ipv6_and_the_choice_of_a_family(sinks):
    port = free_port()
    one = sinks("-6", where=f"[::1]:{port}", ready=False)
    one.port = port
    wait_for("smtp-sink", one.listens)
    source(f"[::1]:{port}")
    source("-6", f"[::1]:{port}")
    assert source("-4", f"[::1]:{port}", check=False).stderr.startswith(f"smtp-source: fatal: ::1:{port}: ")
    assert one.end()["mesg"] == 2


def test_lmtp_has_a_reply_for_each_recipient(sinks, tmp_path):
    sink = sinks("-L", "-d", tmp_path / "m.")
    assert figures("-L", "-d", "-r", 3, "-m", 5, sink.where)["recipients"] == 15
    with talk(sink.port) as t:
        assert t.reply() == ["220 smtp-sink"]
        assert t.say("EHLO x")[:3] == "500" and t.say("HELO x")[:3] == "500" and t.say("LHLO x")[:3] == "250"
        for line in ("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "RCPT TO:<e@d>", "DATA"):
            t.say(line)
        assert t.say("x\r\n.")[:3] == "250" and t.reply()[0][:3] == "250"
    assert {*field(dumped(tmp_path, "m.")[0], "X-Client-Proto")} == {"LMTP"}


def test_an_instance_passes_everything_on(sinks, instance):
    sink = sinks("-m", 100)
    inst = instance(main={"relayhost": f"[127.0.0.1]:{sink.port}"})
    got = figures("-s", 10, "-m", 200, "-l", 3000, "-N", "-t", "u@far.test", "-f", "s@near.test", f"127.0.0.1:{inst.port}")
    assert got["accepted"] == 200
    wait_for("200 messages at the sink", lambda: sink.counters().get("mesg") == 200)
    inst.wait_empty()


def test_the_floor_passes_everything_on(sinks, tmp_path):
    sink = sinks("-m", 100, "-d", tmp_path / "m.")
    port = free_port()
    for options in ([], ["-q", "-s", "5", "-o", "3"]):
        floor = subprocess.Popen([BENCH / "floor", *options, f"127.0.0.1:{port}", sink.where, tmp_path / "journal"], stdin=subprocess.DEVNULL)
        try:
            wait_for("floor", lambda: accepts(port))
            before = sink.counters().get("mesg", 0)
            source("-s", 5, "-m", 100, "-r", 2, "-l", 5000, "-t", "u@far.test", f"127.0.0.1:{port}")
            wait_for("100 messages at the sink", lambda: sink.counters().get("mesg") == before + 100)
        finally:
            floor.kill()
            floor.wait()
    one = dumped(tmp_path, "m.")[0]
    assert field(one, "X-Rcpt-Args") == ["<1u@far.test>", "<2u@far.test>"]
    assert b"To: <u@far.test>\n" in "\n".join(one).encode()
    assert len("\n".join(one).split("\n\n", 1)[1]) == 5000 - 63 + 1  # CRLF became LF 63 times; the line that ends a dump


# --- smtp-source: what it sends ---

def test_the_parts_of_a_message(sinks, tmp_path):
    sink = sinks("-d", tmp_path / "m.")
    source("-f", "from@a", "-t", "to@b", "-M", "me.test", "-S", "a subject", "-l", 200, sink.where)
    lines, = dumped(tmp_path, "m.")
    assert field(lines, "X-Client-Addr") == ["127.0.0.1"] and field(lines, "X-Client-Proto") == ["SMTP"]
    assert field(lines, "X-Helo-Args") == ["me.test"] and field(lines, "X-Mail-Args") == ["<from@a>"]
    assert field(lines, "X-Rcpt-Args") == ["<to@b>"]
    assert field(lines, "From") == ["<from@a>"] and field(lines, "To") == ["<to@b>"] and field(lines, "Subject") == ["a subject"]
    assert field(lines, "Message-Id")[0].endswith("@me.test>")
    assert re.fullmatch(r"\w{3}, +\d+ \w{3} \d{4} [\d:]{8} [+-]\d{4} \(\w+\)", field(lines, "Date")[0])
    body = lines[lines.index("") + 1:]
    assert [len(x) for x in body] == [78, 78, 38, 0, 0] and body[0][:2] == "1X" and body[1][:2] == "2X"


@pytest.mark.parametrize("length", [1, 2, 79, 80, 81, 82, 4096, 65534, 3_000_001])  # the last are sent from a file
def test_the_length_is_that_of_the_body_on_the_wire(sinks, tmp_path, length):
    sink = sinks("-d", tmp_path / "m.")
    source("-l", length, sink.where)
    text = "\n".join(dumped(tmp_path, "m.")[0]).split("\n\n", 1)[1][:-1]  # less the line that ends a dump
    assert len(text) + text.count("\n") == max(length, 2)


@pytest.mark.parametrize("options, wanted", [
    (["-m", 2], [["<u@d>"], ["<u@d>"]]),
    (["-m", 2, "-N"], [["<1u@d>"], ["<2u@d>"]]),
    (["-m", 2, "-r", 2], [["<1u@d>", "<2u@d>"]] * 2),
    (["-m", 2, "-r", 2, "-N"], [["<1u@d>", "<2u@d>"], ["<3u@d>", "<4u@d>"]]),
    (["-r", 4, "--domains", 3], [["<1u@d0.d>", "<2u@d1.d>", "<3u@d2.d>", "<4u@d0.d>"]]),
])
def test_recipients_are_numbered(sinks, tmp_path, options, wanted):
    sink = sinks("-d", tmp_path / "m.")
    source(*options, "-t", "u@d", sink.where)
    assert [field(lines, "X-Rcpt-Args") for lines in dumped(tmp_path, "m.")] == wanted


def test_a_message_from_a_file(sinks, tmp_path):
    (tmp_path / "message").write_bytes(b"Subject: mine\r\n\n.\n..two\nlast without end")
    sink = sinks("-d", tmp_path / "m.")
    source("-F", tmp_path / "message", sink.where)
    lines, = dumped(tmp_path, "m.")
    at = lines.index("Subject: mine")
    assert lines[at:] == ["Subject: mine", "", ".", "..two", "last without end", "", ""]
    assert lines[at - 1].startswith("\t"), "a header was added"


def test_old_mode_says_no_helo_and_sends_no_header(sinks, tmp_path):
    sink = sinks("-d", tmp_path / "m.")
    source("-o", sink.where)
    lines, = dumped(tmp_path, "m.")
    assert not field(lines, "X-Helo-Args") and not field(lines, "From")
    assert "Received: from [127.0.0.1] ([127.0.0.1])" in lines


def test_a_pause_between_messages(sinks):
    sink = sinks()
    for options in (["-d"], []):
        began = time.monotonic()
        source("-w", 1, "-m", 2, *options, sink.where)
        assert time.monotonic() - began >= 1
    assert sink.end()["mesg"] == 4


def test_random_pauses_do_not_stop_other_sessions(sinks):
    sink = sinks()
    source("-R", 1, "-s", 20, "-m", 40, sink.where)
    assert sink.end()["mesg"] == 40


def test_connecting_is_tried_again(sinks):
    port = free_port()
    failed = source("-C", 2, f"127.0.0.1:{port}", check=False)
    assert failed.returncode == 1 and failed.stderr == "smtp-source: fatal: connect: Connection refused\n"
    waiting = subprocess.Popen([BENCH / "smtp-source", "-C", "1000", f"127.0.0.1:{port}"], stdin=subprocess.DEVNULL)
    sink = sinks("-M", 1, where=f"127.0.0.1:{port}", ready=False)
    assert waiting.wait(DEADLINE) == 0 and sink.ended()["mesg"] == 1


def test_commands_are_sent_together_if_the_server_announces_it():
    seen = []

    def serve(server, announced):
        conn, _ = server.accept()
        with conn:
            conn.sendall(b"220 x\r\n")
            conn.recv(4096)
            conn.sendall(b"250-x\r\n250 PIPELINING\r\n" if announced else b"250 x\r\n")
            text = b""
            while not text.endswith(b"DATA\r\n") and b"\r\n" not in text[:-2] * (not announced):
                text += conn.recv(4096)
                if not announced:
                    break
            seen.append(text)

    for announced in (True, False):
        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=serve, args=(server, announced))
            thread.start()
            source("--pipelining", "-r", 2, "-f", "s@a", "-t", "r@b", "127.0.0.1:%d" % server.getsockname()[1], check=False)
            thread.join(DEADLINE)
    assert seen == [b"MAIL FROM:<s@a>\r\nRCPT TO:<1r@b>\r\nRCPT TO:<2r@b>\r\nDATA\r\n", b"MAIL FROM:<s@a>\r\n"]


def test_the_counter_and_the_conversation(sinks):
    sink = sinks("-v")
    done = subprocess.run([BENCH / "smtp-source", "-c", "-m", "3", sink.where], stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE)
    assert done.stdout == b"1\r2\r3\r\n"
    said = source("-v", "-f", "s@a", sink.where).stderr
    assert "0: MAIL FROM:<s@a>\n0: <<< 250 2.1.0 Ok\n" in said
    sink.end()
    assert "127.0.0.1: MAIL FROM:<s@a>\n127.0.0.1: >>> 250 2.1.0 Ok\n" in sink.text(1)


def test_latencies_are_ordered_and_cover_the_delay(sinks):
    sink = sinks("-W", ".:1", "-m", 100)
    got = figures("-s", 30, "-m", 30, sink.where)
    for name in ("message_ms", "final_ms"):
        assert list(got[name]) == ["p50", "p90", "p99", "p99.9", "max"]
        values = list(got[name].values())
        assert values == sorted(values) and values[0] >= 990
    assert got["seconds"] * 1000 >= got["message_ms"]["max"] >= got["final_ms"]["max"]
    text = source("--latency", sink.where).stdout
    assert re.fullmatch(r"1 messages accepted, 0 refused, in [\d.]+ s: [\d.]+/s, 1 connections\n"
                        r"latency, ms +p50 +p90 +p99 +p99.9 +max\nmessage( +\d+\.\d{3}){5}\nfinal reply( +\d+\.\d{3}){5}\n", text), text


@pytest.mark.parametrize("options", [[], ["-o"], ["-F"], ["--pipelining"]])
def test_the_final_reply_is_timed_from_the_last_byte(sinks, tmp_path, options):
    (tmp_path / "message").write_text("Subject: x\n\nx\n")
    sink = sinks("-w", 1)
    got = figures(*options, *([tmp_path / "message"] if options == ["-F"] else []), sink.where)
    assert got["message_ms"]["max"] >= 990 and got["final_ms"]["max"] < 900


@pytest.mark.parametrize("options, shown", [([], True), (["--quiet"], False)])
def test_progress_on_a_terminal(sinks, options, shown):
    sink = sinks()
    ours, theirs = pty.openpty()
    try:
        subprocess.run([BENCH / "smtp-source", "-m", "50", *options, sink.where], stdin=subprocess.DEVNULL, stderr=theirs, check=True,
                       timeout=DEADLINE)
        os.write(theirs, b"end")
        text = os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (b"\r50/50 100%" in text) == shown, text


# --- bad replies ---

@pytest.mark.parametrize("rules, what", [
    (["-r", "CONNECT"], "the greeting: 450 4.3.0"), (["-f", "HELO"], "HELO: 500 5.3.0"), (["-r", "MAIL"], "MAIL FROM: 450 4.3.0"),
    (["-f", "RCPT", "-B", "550 no such"], "RCPT TO: 550 no such"), (["-r", "DATA", "-b", "451 later"], "DATA: 451 later"),
    (["-f", "."], "the end of the message: 500 5.3.0"), (["-Q", "RCPT"], "RCPT TO: 421 4.0.0")])
def test_a_bad_reply_ends_the_source_unless_it_may_not(sinks, rules, what):
    sink = sinks(*rules)
    done = source(sink.where, check=False)
    assert done.returncode == 1 and done.stderr.startswith(f"smtp-source: fatal: reply to {what}") and done.stderr.count("\n") == 1
    for keep in ([], ["-d"]):
        done = source("-A", "-m", 6, "-s", 2, "--json", *keep, sink.where)
        assert json.loads(done.stdout)["refused"] == 6 and json.loads(done.stdout)["accepted"] == 0
        assert "6 messages" in done.stderr and what.split(": ")[1] in done.stderr
    assert sink.end()["mesg"] == 0


def test_a_refused_recipient_is_not_a_refused_message(sink):
    one = sink(reply=lambda verb, argument, number: b"550 no\r\n" if verb == "RCPT" and "2u@" in argument else None)
    for options in ([], ["--pipelining"]):
        got = figures("-A", "-r", 3, "-t", "u@d", *options, f"127.0.0.1:{one.port}")
        assert (got["accepted"], got["recipients"], got["refused_recipients"]) == (1, 2, 1)
    assert [rcpts for _, rcpts, _ in one.messages] == [["1u@d", "3u@d"]] * 2


@pytest.mark.parametrize("moment", ["CONNECT", "MAIL", "DATA", "."])
def test_a_lost_connection(sinks, moment):
    sink = sinks("-q", moment)
    done = source(sink.where, check=False)
    assert done.returncode == 1 and "fatal: connection lost while waiting for" in done.stderr and done.stderr.count("\n") == 1
    assert figures("-A", "-m", 3, sink.where)["refused"] == 3


# --- smtp-sink: what it announces, refuses, and delays ---

@pytest.mark.parametrize("options, without", [
    ([], ""), (["-8"], "8BITMIME"), (["-a"], "AUTH"), (["-C"], "XCLIENT"), (["-F"], "XFORWARD"), (["-E"], "ENHANCEDSTATUSCODES"), (["-N"], "DSN"),
    (["-p"], "PIPELINING"), (["-r", "VRFY"], "PIPELINING"), (["-f", "VRFY"], "PIPELINING"), (["-q", "VRFY"], "")])
def test_what_is_announced(sinks, options, without):
    sink = sinks(*options, "-h", "host.test")
    with talk(sink.port) as t:
        assert t.reply() == ["220 host.test ESMTP"]
        t.socket.sendall(b"EHLO x\r\n")
        lines = t.reply()
        assert lines[0] == "250-host.test"
        words = {x[4:].split()[0] for x in lines[1:]}
        assert words == {"PIPELINING", "8BITMIME", "AUTH", "XCLIENT", "XFORWARD", "ENHANCEDSTATUSCODES", "DSN"} - {without}
        for name in ("AUTH", "XCLIENT", "XFORWARD"):
            assert (t.say(f"{name} PLAIN x")[:3] == "500") == (name == without)


@pytest.mark.parametrize("options, greeting", [(["-e"], "220 smtp-sink"), (["-P"], "220 ********")])
def test_without_esmtp(sinks, options, greeting):
    sink = sinks(*options)
    with talk(sink.port) as t:
        assert t.reply() == [greeting]
        assert t.say("EHLO x")[:3] == "500" and t.say("HELO x")[:3] == "250"


def test_the_order_of_commands(sinks):
    sink = sinks()
    with talk(sink.port) as t:
        t.reply()
        for line, code in (("RCPT TO:<a@b>", "503"), ("DATA", "503"), ("MAIL <a@b>", "501"), ("MAIL FROM:<a@b>", "250"), ("MAIL FROM:<a@b>", "503"),
                           ("DATA", "503"), ("rcpt to:<a@b>", "250"), ("RSET", "250"), ("RCPT TO:<a@b>", "503"), ("", "500"), ("HELP", "500"),
                           (".", "500"), ("CONNECT", "500"), ("STARTTLS", "500"), ("NOOP x", "250"), ("VRFY x", "250"), ("AUTH LOGIN", "334"),
                           ("dQ==", "334"), ("cA==", "235"), ("AUTH X", "504"), ("QUIT", "221")):
            assert t.say(line)[:3] == code, line
        assert t.reply() == []


def test_content_in_pieces_of_any_size(sinks, tmp_path):
    """The end is found wherever the pieces are cut, in lines longer than any buffer, and not in what only looks like it."""
    sink = sinks("-d", tmp_path / "m.")
    content = b".\r\r\n..\r\n.x\r\n" + b"y" * 200000 + b".\r\n" + b"\0\xff\r\nlast\r\n.\r\n"
    for size in (1, 7, len(content)):
        with talk(sink.port) as t:
            t.reply()
            for line in ("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA"):
                t.say(line)
            for at in range(0, len(content), size) if size > 1 else [*range(20), 20]:
                t.socket.sendall(content[at:at + size] if at < 20 or size > 1 else content[20:])
            assert t.reply() == ["250 2.0.0 Ok"] and t.say("QUIT") == "221 Bye"
    bodies = {p.read_bytes().split(b"(UTC)\n" if b"(UTC)\n" in p.read_bytes() else b")\n", 1)[1] for p in tmp_path.glob("m.*")}
    assert bodies == {b"\r\n.\nx\n" + b"y" * 200000 + b".\n\0\xff\nlast\n\n"}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000000])
def test_the_end_of_content_that_is_not_kept(sinks, size):
    """Without a dump, content is not cut into lines; its end is where it was."""
    sink = sinks()
    content = b".\r\r\n..\r\n.x\r\n." + b"y" * 300 + b".\r\n\r.\r\n" + b"\0.\xff.\r\n..\r\nlast\r\n.\r\n"
    with talk(sink.port) as t:
        t.reply()
        for _ in range(2):  # the commands behind it are commands again
            for line in ("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA"):
                assert t.say(line)[:1] in ("2", "3")
            for at in range(0, len(content), size):
                t.socket.sendall(content[at:at + size])
            assert t.reply() == ["250 2.0.0 Ok"]
        for line in ("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA"):
            assert t.say(line)[:1] in ("2", "3")
        t.socket.sendall(b".\r\nQUIT\r\n")
        assert t.reply() == ["250 2.0.0 Ok"] and t.reply() == ["221 Bye"]


def test_a_dump_file_for_many(sinks, tmp_path):
    sink = sinks("-D", tmp_path / "%Y/all", "-S", r"From x\012\t\\.\n")
    source("-s", 10, "-m", 30, "-l", 100000, sink.where)
    text = (tmp_path / time.strftime("%Y") / "all").read_text()
    assert len(re.findall(r"^From x\n\t\\\.\nX-Client-Addr: 127\.0\.0\.1\nX-Client-Proto: SMTP\n", text, re.M)) == 30
    assert len(re.findall(r"\n1X{77}\n2X{77}\n(X{78}\n){1248}\n", text)) >= 29  # the last line differs in length


def test_a_dump_that_cannot_be_written_is_not_accepted(sinks, tmp_path):
    sink = sinks("-d", "/dev/null/m.")
    done = source(sink.where, check=False)
    assert "reply to DATA: 451 4.3.0" in done.stderr
    assert sink.end()["mesg"] == 0 and "/dev/null/m." in sink.text(1)


@pytest.mark.parametrize("options, line", [(["-w", 1], "DATA"), (["-W", "noop:1"], "NOOP"), (["-W", "NOOP:1:50"], "NOOP"), (["-W", "CONNECT:1"], None)])
def test_a_delay_before_a_reply(sinks, options, line):
    sink = sinks(*options)
    began = time.monotonic()
    with talk(sink.port) as t:
        t.reply()
        if line:
            assert time.monotonic() - began < 1 or DEADLINE > 20
            for other in ("MAIL FROM:<a@b>", "RCPT TO:<c@d>"):
                t.say(other)
            t.say(line)
        assert time.monotonic() - began >= 0.99


def test_what_is_sent_during_a_delay_is_answered_after_it(sinks):
    sink = sinks("-W", "NOOP:1")
    with talk(sink.port) as t:
        t.reply()
        t.socket.sendall(b"NOOP\r\nVRFY x\r\nMAIL FROM:<a@b>\r\n")
        assert [t.reply()[0][:9] for _ in range(3)] == ["250 2.0.0", "250 2.0.0", "250 2.1.0"]


def test_reading_is_delayed_after_data(sinks):
    sink = sinks("-H", 1)
    assert figures(sink.where)["final_ms"]["max"] >= 990


def test_giving_up_after_data(sinks):
    sink = sinks("-A", 0)
    with talk(sink.port) as t:
        t.reply()
        for line in ("MAIL FROM:<a@b>", "RCPT TO:<c@d>"):
            t.say(line)
        assert t.say("DATA")[:3] == "354" and t.reply()[0][:3] == "550" and t.reply() == []


def test_no_more_sessions_than_allowed(sinks):
    sink = sinks("-m", 2)
    first, second, third = (Talk(sink.port) for _ in range(3))
    assert first.reply() and second.reply()
    third.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        third.socket.recv(1)
    first.close()
    third.socket.settimeout(DEADLINE)
    assert third.socket.recv(3) == b"220"
    second.close()
    third.close()


def pushed(send):
    """How many bytes go out before the other side takes no more."""
    total = 0
    while True:
        try:
            total += send(b"x" * 65536)
        except BlockingIOError:
            return total


def test_the_window_of_the_sink(sinks):
    got = {}
    for window in (None, 2000):
        sink = sinks("-A", 60, *(["-T", window] if window else []))
        with talk(sink.port) as t:
            t.reply()
            for line in ("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA"):
                t.say(line)
            t.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            t.socket.setblocking(False)
            got[window] = pushed(t.socket.send)
    assert got[2000] * 2 < got[None], got


def test_the_window_of_the_source():
    got = {}
    for window in (None, 2000):
        with socket.create_server(("127.0.0.1", 0)) as server:
            process = subprocess.Popen([BENCH / "smtp-source", *(["-T", str(window)] if window else []), "127.0.0.1:%d" % server.getsockname()[1]],
                                       stdin=subprocess.DEVNULL)
            try:
                conn, _ = server.accept()
                process.send_signal(signal.SIGSTOP)
                with conn:
                    conn.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                    conn.setblocking(False)
                    got[window] = pushed(conn.send)
            finally:
                process.kill()
                process.wait()
    assert got[2000] * 2 < got[None], got


def test_more_sessions_than_descriptors_by_default(sinks):
    sink = sinks("-m", 1500)
    command = f"ulimit -Sn 200; exec {BENCH}/smtp-source --json -s 400 -m 400 -d {sink.where}"
    done = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0 and json.loads(done.stdout)["connections"] == 400, done.stderr
    assert sink.end()["mesg"] == 400


def test_a_silent_client_is_hung_up_on(sinks):
    sink = sinks("-t", 1)
    with talk(sink.port) as t:
        t.reply()
        assert t.reply() == []


def test_commands_are_logged(sinks):
    sink = sinks("-s", "MAIL, .")
    source("-f", "s@a", sink.where)
    sink.end()
    assert re.findall(r"127\.0\.0\.1: (.*)", sink.text(1)) == ["MAIL FROM:<s@a>", "."]


def test_privileges_are_dropped(sinks, tmp_path):
    if not ROOT:
        pytest.fail("needs root")
    (tmp_path / "in").mkdir(mode=0o777)
    (tmp_path / "in").chmod(0o777)
    sink = sinks("-R", tmp_path, "-u", "nobody", "-d", "/in/m.", env={"ASAN_OPTIONS": "detect_leaks=0"})  # a chroot has no /proc for it
    source(sink.where)
    found, = (tmp_path / "in").iterdir()
    assert found.owner() == "nobody"


# --- TLS ---

@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=sink.test",
                    "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    with open(path, "a") as f:
        f.write(open(f"{path}.crt").read())
    return path


@pytest.mark.parametrize("wrapped", [False, True])
def test_tls(sinks, certificate, tmp_path, wrapped):
    sink = sinks("--tls-cert", certificate, *(["--tls-wrapper"] if wrapped else []), "-d", tmp_path / "m.")
    option = "--tls-wrapper" if wrapped else "--tls"
    got = figures(option, "-s", 3, "-m", 20, "-l", 300000, sink.where)
    assert (got["accepted"], got["connections"], got["resumed"]) == (20, 20, 0)
    assert figures(option, "--tls-resume", "-s", 2, "-m", 20, sink.where)["resumed"] == 18
    assert figures(option, "--pipelining", "-d", "-r", 500, "-m", 3, "--tls-cafile", f"{certificate}.crt", sink.where)["recipients"] == 1500
    assert sink.end()["mesg"] == 43
    assert all(field(lines, "X-Client-Proto") == ["ESMTP"] for lines in dumped(tmp_path, "m."))


def test_another_client_speaks_tls_too(sinks, certificate):
    sink = sinks("--tls-cert", f"{certificate}.crt", "--tls-key", certificate)
    context = ssl.create_default_context(cafile=f"{certificate}.crt")
    context.check_hostname = False
    with smtplib.SMTP("127.0.0.1", sink.port, timeout=DEADLINE) as client:
        client.starttls(context=context)
        client.ehlo()
        assert not client.has_extn("starttls")
        client.sendmail("a@b", ["c@d"], "Subject: x\n\nx\n")
    assert sink.end()["mesg"] == 1


def test_what_follows_starttls_in_clear_is_dropped(sinks, certificate):
    sink = sinks("--tls-cert", certificate)
    with talk(sink.port) as t:
        t.reply()
        t.socket.sendall(b"STARTTLS\r\nMAIL FROM:<a@b>\r\n")
        assert t.reply()[0][:3] == "220"
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(t.socket) as inside:
            inside.sendall(b"RCPT TO:<a@b>\r\n")
            assert inside.recv(100).startswith(b"503")


def test_tls_that_fails(sinks, certificate, tmp_path):
    plain = sinks()
    assert source("--tls", plain.where, check=False).stderr == "smtp-source: fatal: the server does not announce STARTTLS\n"
    other = tmp_path / "other.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=other.test",
                    "-keyout", "/dev/null", "-out", other], check=True, capture_output=True)
    sink = sinks("--tls-cert", certificate)
    done = source("--tls", "--tls-cafile", other, sink.where, check=False)
    assert done.returncode == 1 and "certificate verify failed" in done.stderr
    done = source("--tls-wrapper", plain.where, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1


# --- wrong input ---

@pytest.mark.parametrize("arguments, said", [
    (["-m", "0", "x:1"], "-m: "), (["-m", "1x", "x:1"], "-m: "), (["-s", "-1", "x:1"], "-s: "), (["-l", "99999999999", "x:1"], "-l: "),
    (["-T", "65536", "x:1"], "-T: "), (["-w", "1", "-R", "1", "x:1"], "specify one of -w -R"), (["-F", "/nonexistent", "x:1"], "-F: "),
    (["-F", "/dev/null", "-l", "1", "x:1"], "specify one of -F -l"), (["--tls-resume", "x:1"], "--tls-resume"), (["-o", "--tls", "x:1"], "with -o"),
    (["[::1", ], "[::1: want"), (["127.0.0.1:"], "127.0.0.1:: want"), (["127.0.0.1:nosuchport"], "127.0.0.1:nosuchport: "), (["unix:"], "unix:: want"),
    (["unix:/nonexistent"], "connect: No such file"), (["--domains", "2", "-t", "u", "127.0.0.1:1"], "--domains"), ([":25"], ":25: want"),
    (["--latency", "--json", "x:1"], "specify one of --latency --json")])
def test_wrong_input_of_the_source(arguments, said):
    done = source(*arguments, check=False)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.startswith("smtp-source: fatal: " + said), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments, said", [
    (["-f", "FOO"], "-f: unknown command: FOO"), (["-s", "x"], "-s: unknown command: x"), (["-W", "NOOP"], "-W: want"), (["-W", "NOOP:1:100"], "-W: "),
    (["-W", "NOOP:1:2:3"], "-W: want"), (["-b", "550 x"], "-b: want"), (["-B", "5"], "-B: want"), (["-m", "x"], "-m: "), (["-A", "-1"], "-A: "),
    (["-S", r"\q"], "-S: "), (["-d", "a", "-D", "b"], "specify one of -d -D"), (["--tls-key", "x"], "--tls-key"), (["--tls-cert", "/nonexistent"], "--tls-cert: "),
    (["-u", "nosuchuser"], "-u: unknown user")])
def test_wrong_input_of_the_sink(arguments, said):
    user = ["-u", "daemon"] if ROOT and "-u" not in arguments else []
    done = subprocess.run([BENCH / "smtp-sink", *user, *arguments, f"127.0.0.1:{free_port()}", "10"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=DEADLINE)
    assert done.returncode == 1 and done.stderr.startswith("smtp-sink: fatal: " + said) and done.stderr.count("\n") == 1, done.stderr


def test_addresses_that_cannot_be_listened_on():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for where, said in ((f"127.0.0.1:{taken.getsockname()[1]}", "Address already in use"), ("127.0.0.1", "want"), ("unix:/nonexistent/x", "No such file")):
            done = subprocess.run([BENCH / "smtp-sink", "-u", "daemon", where, "10"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE)
            assert done.returncode == 1 and said in done.stderr and where in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("name", ["smtp-source", "smtp-sink", "floor"])
def test_usage(name):
    for arguments, status, stream in ((["--help"], 0, "stdout"), ([], 1, "stderr"), (["--nonsense"], 1, "stderr")):
        done = subprocess.run([BENCH / name, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == status and f"usage: {name} " in getattr(done, stream)


def test_every_option_is_in_the_manual():
    for name in ("smtp-source", "smtp-sink"):
        usage = subprocess.run([BENCH / name, "--help"], capture_output=True, text=True).stdout
        page = open(os.path.join(os.path.dirname(__file__), f"../../man/{name}.1")).read().replace("\\-", "-")
        letters = "".join(re.findall(r"\[-(\w{3,})\]", usage)) + "".join(re.findall(r"\[-(\w) ", usage))
        assert len(letters) > 15
        for option in [*(f"-{c}" for c in letters), *re.findall(r"--[\w-]+", usage)]:
            assert re.search(rf"^\.I?[BP].*{option}\b", page, re.M), f"{name}: {option}"
