# SPDX-License-Identifier: Apache-2.0
"""notify_classes: transcripts of sessions with smtpd, for error_notice_recipient. Which session is of which class, and the text, as with
Debian's Postfix 3.7 (whose replies differ in places from ours)."""
import os
import re
import signal
import socket

import pytest

from instance import wait_for

EHLO, MAIL, QUIT = "EHLO c.test", "MAIL FROM:<a@b.test>", "QUIT"
POLICY = {
    "554 5.7.1 <bad@x.test>: Recipient address rejected: no": (EHLO, MAIL, "RCPT TO:<bad@x.test>"),
    "450 4.7.1 <later@x.test>: Recipient address rejected: l": (EHLO, MAIL, "RCPT TO:<later@x.test>"),
    "552 5.3.4 Message size exceeds fixed limit": (EHLO, "MAIL FROM:<a@b.test> SIZE=99999"),
    "502 5.5.1 VRFY command is disabled": (EHLO, "VRFY a"),
    "550 5.7.1 header": (EHLO, MAIL, "RCPT TO:<ok@x.test>", "DATA", "Subject: bad\r\n\r\nhello\r\n."),
}
PROTOCOL = {
    "503 5.5.1 Error: nested MAIL command": (EHLO, MAIL, MAIL),
    "500 5.5.2 Error: command not recognized": (EHLO, "FOO"),
    "501 5.5.4 Syntax: DATA": (EHLO, MAIL, "RCPT TO:<ok@x.test>", "DATA x"),
    "503 5.5.1 Error: need RCPT command": (EHLO, "DATA"),
    "555 5.5.4 Unsupported option: X=Y": (EHLO, "MAIL FROM:<a@b.test> X=Y"),
    "500 Syntax: ETRN domain": (EHLO, "ETRN"),
}
NEITHER = [
    (EHLO, MAIL, "RCPT TO:<no@r.test>"),  # class bounce
    (EHLO, MAIL, "RCPT TO:<fail@x.test>"),  # class data
    (EHLO, MAIL, "RCPT TO:<ok@x.test>", "DATA", "Subject: fine\r\n\r\nhello\r\n."),
    (EHLO, MAIL, "RCPT TO:<ok@x.test>", "DATA", "Subject: big\r\n\r\n" + ("y" * 70 + "\r\n") * 100 + "."),
    (EHLO, "ETRN nope.test"),
]


def session(inst, lines, end=QUIT):
    with socket.create_connection(("127.0.0.1", inst.port), timeout=20) as s, s.makefile("rb") as f:
        for line in ("", *lines, *([end] if end else [])):
            s.sendall(line.encode() + b"\r\n" if line else b"")
            while f.readline()[3:4] == b"-":
                pass


@pytest.fixture
def system(instance, sink):
    def make(classes, **main):
        hop = sink()
        inst = instance(main={
            "relayhost": f"[127.0.0.1]:{hop.port}", "mydestination": "", "notify_classes": classes, "error_notice_recipient": "err@far.test",
            "relay_domains": "r.test", "relay_recipient_maps": "inline:{{u@r.test=x}}", "message_size_limit": "5000",
            "disable_vrfy_command": "yes", "header_checks": "regexp:{etc}/checks",
            "smtpd_recipient_restrictions": "check_recipient_access inline:{{bad@x.test=REJECT no}, {later@x.test=DEFER l}},"
                                            " check_recipient_access inline:{{fail@x.test=fail}}, permit_mynetworks, reject", **main}, files={"checks": "/^Subject: bad/ REJECT header\n"})
        return inst, hop
    return make


def transcripts(hop):
    return [content.decode().split("Transcript of session follows.\r\n\r\n")[1]
            for _, rcpts, content in list(hop.messages) if rcpts == ["err@far.test"]]


@pytest.mark.parametrize("classes, wanted, silent", [("policy", POLICY, PROTOCOL), ("protocol, 2bounce", PROTOCOL, POLICY)])
def test_classes(system, classes, wanted, silent):
    inst, hop = system(classes)
    for lines in (*silent.values(), *NEITHER, *wanted.values()):
        session(inst, lines)
    wait_for(lambda: f"transcripts: {transcripts(hop)}", lambda: len(transcripts(hop)) >= len(wanted))  # they come after the end of the session
    inst.wait_empty()
    got = transcripts(hop)
    assert len(got) == len(wanted), got
    for reply, lines in wanted.items():
        assert any(re.search(rf" In:  {re.escape(lines[-1] if chr(10) not in lines[-1] else 'DATA')}\r\n(?: Out: 354 .*\r\n)? Out: {reply}", t)
                   for t in got), (reply, got)


def test_a_table_out_of_order(system):
    """And that of many sessions with the same trouble one is told of, but those with trouble of their own are."""
    inst, hop = system("data, policy")
    for _ in range(3):
        session(inst, (EHLO, MAIL, "RCPT TO:<fail@x.test>"))
    session(inst, POLICY["502 5.5.1 VRFY command is disabled"])
    hop.wait(2)
    inst.wait_empty()
    (table, vrfy) = sorted(transcripts(hop))
    assert " In:  RCPT TO:<fail@x.test>\r\n Out: 451 4.3." in table and " In:  VRFY a\r\n Out: 502" in vrfy


@pytest.mark.parametrize("classes, wanted", [(None, 1), ("data, software", 0)])
def test_no_space(system, classes, wanted):
    """By default, too."""
    inst, hop = system(classes, message_size_limit="0")
    mail = MAIL + " SIZE=900000000000000"
    session(inst, (EHLO, mail))
    inst.wait_log("disconnect from")
    if wanted:
        hop.wait(wanted)
        assert f" In:  {mail}\r\n Out: 452 4.3.1 Insufficient system storage\r\n" in transcripts(hop)[0]
    session(inst, (EHLO,))
    inst.wait_empty()
    assert len(transcripts(hop)) == wanted


def test_no_space_for_it_either(system):
    inst, hop = system("resource", queue_minfree="9000000000000000")
    session(inst, (EHLO, MAIL))
    inst.wait_log(r"smtpd\[\d+\]: warning: transcript of the session with localhost\[127\.0\.0\.1\] cannot be sent: cleanup service: .*storage")
    assert hop.messages == []


def test_cleanup_breaks_off(system):
    inst, hop = system("software", daemon_timeout="30s", message_size_limit="2000000")
    with socket.create_connection(("127.0.0.1", inst.port), timeout=20) as s, s.makefile("rb") as f:
        for line in ("", "HELO c.test", MAIL, "RCPT TO:<ok@x.test>", "DATA"):
            s.sendall(line.encode() + b"\r\n" if line else b"")
            assert f.readline()[:1] in b"23"
        s.sendall(b"Message-ID: <1@x>\r\nSubject: x\r\n\r\n" + b"hello\r\n" * 100000)  # more than smtpd keeps to itself
        inst.wait_log(r"cleanup\[\d+\]: \w+: message-id=<1@x>")
        for pid in inst.pids("cleanup"):
            os.kill(pid, signal.SIGKILL)
        s.sendall(b".\r\n")
        assert f.readline().startswith(b"451 4.3.0 Error: queue file write error")
        s.sendall(b"QUIT\r\n")
        f.readline()
    hop.wait(1, 60)
    assert "Out: 451 4.3.0 Error: queue file write error" in transcripts(hop)[0]


def test_text(system):
    inst, hop = system("policy, protocol")
    long = "x" * 30 + " " + "y" * 30 + " é\x01 " + "z" * 100
    session(inst, ("HELO c.test", MAIL, "RCPT TO:<bad@x.test>", f"FOO {long}"))
    sender, rcpts, content = hop.wait(1)[0]
    assert (sender, rcpts) == ("double-bounce@mx.example.test", ["err@far.test"])
    head, text = content.decode("ascii").split("\r\n\r\n", 1)
    for line in ("From: Mail Delivery System <MAILER-DAEMON@mx.example.test>", "To: Postmaster <err@far.test>",
                 "Subject: Postfix SMTP server: errors from localhost[127.0.0.1]", "Auto-Submitted: auto-generated"):
        assert line in head.split("\r\n")
    assert re.sub(r"Error: command[^\r]*", "Error", text).split("\r\n") == [
        "Transcript of session follows.", "",
        " Out: 220 mx.example.test ESMTP Postfix", " In:  HELO c.test", " Out: 250 mx.example.test",
        " In:  MAIL FROM:<a@b.test>", " Out: 250 2.1.0 Ok",
        " In:  RCPT TO:<bad@x.test>", " Out: 554 5.7.1 <bad@x.test>: Recipient address rejected: no",
        " In:  FOO " + "x" * 30 + " " + "y" * 30 + " ???", "     " + "z" * 72, "     " + "z" * 28, " Out: 500 5.5.2 Error",
        " In:  QUIT", " Out: 221 2.0.0 Bye", "", "", "For other details, see the local mail logfile", ""]


@pytest.mark.parametrize("errors, reason", [(3, "too many errors"), (1, "lost connection")])
def test_sessions_that_end_early(system, errors, reason):
    inst, hop = system("protocol", smtpd_hard_error_limit="3")
    session(inst, (EHLO, *["FOO"] * errors), end=None)
    hop.wait(1)
    assert f"\r\n\r\nSession aborted, reason: {reason}\r\n\r\n" in transcripts(hop)[0]


@pytest.mark.parametrize("before, after, left_out", [(0, 80, "after"), (80, 0, "before")])
def test_a_long_session_is_cut(system, before, after, left_out):
    inst, hop = system("protocol", message_size_limit="200000", smtpd_junk_command_limit="1000")
    noise = ["NOOP " + "x" * 1000]
    session(inst, (EHLO, *noise * before, "FOO", *noise * after))
    hop.wait(1)
    (text,) = transcripts(hop)
    assert 10000 < len(text) < 70000 and f"(What came {left_out} this is left out.)\r\n" in text and " In:  FOO\r\n Out: 50" in text


def test_postmaster_who_is_not_there(system):
    """What comes back of a transcript is dropped, with class 2bounce too: nothing circles."""
    inst, hop = system("policy, 2bounce", error_notice_recipient="no@r.test", transport_maps="inline:{{no@r.test=error:5.1.1 gone}}")
    session(inst, POLICY["502 5.5.1 VRFY command is disabled"])
    inst.wait_log(r"undeliverable postmaster notification discarded")
    inst.wait_empty()
    assert hop.messages == []
