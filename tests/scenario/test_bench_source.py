# SPDX-License-Identifier: Apache-2.0
"""smtp-source: what it sends, measures and shows, and what it makes of bad replies."""
import json
import os
import pty
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from bench_tools import BENCH, dumped, field, figures, pushed, sinks, source  # noqa: F401 (a fixture)
from instance import DEADLINE, free_port


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
    finals = []
    while min(finals, default=900) >= 900 and len(finals) < 10:  # others may have the processor meanwhile
        got = figures(*options, *([tmp_path / "message"] if options == ["-F"] else []), sink.where)
        assert got["message_ms"]["max"] >= 990
        finals.append(got["final_ms"]["max"])
    assert min(finals) < 900


@pytest.mark.parametrize("options, shown", [([], True), (["--quiet"], False)])
def test_progress_on_a_terminal(sinks, options, shown):
    sink = sinks()
    ours, theirs = pty.openpty()
    try:
        subprocess.run([BENCH / "smtp-source", "-m", "50", *options, sink.where], stdin=subprocess.DEVNULL, stderr=theirs, check=True,
                       timeout=DEADLINE)
        os.write(theirs, b"end")
        text = b""
        while not text.endswith(b"end"):
            text += os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (b"\r50/50 100%" in text) == shown, text


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
