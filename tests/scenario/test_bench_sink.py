# SPDX-License-Identifier: Apache-2.0
"""smtp-sink: what it announces, refuses, delays and dumps."""
import re
import socket
import time

import pytest

from bench_tools import figures, pushed, ROOT, sinks, source, Talk, talk  # noqa: F401 (a fixture)
from instance import DEADLINE


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

    def greeted():
        began = time.monotonic()
        with talk(sink.port) as t:
            t.reply()
        return time.monotonic() - began

    if line:  # it is that reply alone; others may have the processor meanwhile
        assert any(greeted() < 1 for _ in range(20))
    began = time.monotonic()
    with talk(sink.port) as t:
        t.reply()
        if line:
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
