# SPDX-License-Identifier: Apache-2.0
"""Who is told what of mail that comes back: DSN parameters, notify_classes, double bounces. Field by field as Debian's Postfix 3.7 did it."""
import email
import email.policy

import pytest

from instance import wait_for


@pytest.fixture
def system(instance, sink):
    """Mail for bad@ is refused by the next hop; all else, reports too, arrives there."""
    def make(ehlo=None, **main):
        def reply(verb, argument, number):
            if verb == "EHLO":
                return ehlo
            return b"550 5.1.1 no such user\r\n" if verb == "RCPT" and "bad@" in argument else None

        hop = sink(reply=reply)
        return instance(main={"relayhost": f"[127.0.0.1]:{hop.port}", "mydestination": "", **main}), hop
    return make


def talk(inst, sender, rcpt, body=b"Subject: t\r\n\r\nhello\r\n"):
    with inst.smtp() as client:
        client.ehlo("client.test")
        for line in (f"MAIL FROM:{sender}", f"RCPT TO:{rcpt}"):
            code, text = client.docmd(line)
            assert code == 250, (line, code, text)
        assert client.data(body)[0] == 250


def reports(hop):
    """(envelope sender, recipient, fields of the status part, type and text of what came back)"""
    out = []
    for sender, rcpts, content in list(hop.messages):
        m = email.message_from_bytes(content, policy=email.policy.default)
        if m.get_content_type() != "multipart/report":
            continue
        _, status, returned = m.iter_parts()
        fields = {}
        for block in status.get_payload():
            fields |= dict(block.items())
        text = returned.get_payload()
        out.append((sender, rcpts[0], fields, returned.get_content_type(), text if isinstance(text, str) else text[0].as_string()))
    return out


def test_dsn_parameters(system):
    inst, hop = system()
    talk(inst, "<s@remote.test> RET=HDRS ENVID=QQ+2B1", "<bad@far.test> NOTIFY=FAILURE ORCPT=rfc822;orig+40x.test")
    wait_for("the report", lambda: reports(hop))
    (sender, to, fields, returned, text), = reports(hop)
    assert (sender, to, returned) == ("", "s@remote.test", "text/rfc822-headers")
    assert fields["Original-Envelope-Id"] == "QQ+1"
    assert fields["Original-Recipient"] == "rfc822;orig@x.test"
    assert fields["Final-Recipient"] == "rfc822; bad@far.test"
    assert (fields["Action"], fields["Status"], fields["Remote-MTA"]) == ("failed", "5.1.1", "dns; 127.0.0.1")
    assert fields["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"
    assert fields["X-Postfix-Sender"] == "rfc822; s@remote.test"
    assert text.startswith("Return-Path: <s@remote.test>\n") or text.startswith("Return-Path: <s@remote.test>\r\n")
    assert "hello" not in text


@pytest.mark.parametrize("sender, rcpt, classes, wanted", [
    # sender, NOTIFY..., notify_classes, (envelope recipient, type of what came back, X-Postfix-Sender) of each report
    ("<s@remote.test>", "<bad@far.test>", "resource, software", [("s@remote.test", "message/rfc822", "s@remote.test")]),
    ("<s@remote.test>", "<bad@far.test>", "bounce", [
        ("postmaster@mx.example.test", "text/rfc822-headers", "s@remote.test"), ("s@remote.test", "message/rfc822", "s@remote.test")]),
    ("<s@remote.test>", "<bad@far.test> NOTIFY=NEVER", "bounce", [("postmaster@mx.example.test", "text/rfc822-headers", "s@remote.test")]),
    ("<s@remote.test>", "<bad@far.test> NOTIFY=NEVER", "2bounce", []),
    ("<>", "<bad@far.test>", "resource", []),
    ("<>", "<bad@far.test>", "2bounce", [("postmaster@mx.example.test", "message/rfc822", "MAILER-DAEMON@mx.example.test")]),
    ("<>", "<bad@far.test>", "bounce", [("postmaster@mx.example.test", "message/rfc822", "MAILER-DAEMON@mx.example.test")]),
    # our own notification for bad@ comes back
    ("<bad@far.test>", "<bad@far.test>", "2bounce", [
        ("postmaster@mx.example.test", "message/rfc822", "MAILER-DAEMON@mx.example.test")]),
    ("<bad@far.test>", "<bad@far.test>", "resource", []),
])
def test_who_is_told(system, sender, rcpt, classes, wanted):
    inst, hop = system(notify_classes=classes)
    talk(inst, sender, rcpt)
    wait_for(lambda: f"{len(wanted)} reports, have {reports(hop)}", lambda: len(reports(hop)) >= len(wanted))
    inst.wait_empty()
    got = sorted((to, returned, fields["X-Postfix-Sender"].removeprefix("rfc822; ")) for _, to, fields, returned, _ in reports(hop))
    assert got == wanted
    for report in reports(hop):
        assert report[0] == ("double-bounce@mx.example.test" if report[1].startswith("postmaster") else "")


def test_postmaster_who_cannot_be_told(system):
    """What comes back of a postmaster's copy is dropped: nothing circles."""
    inst, hop = system(notify_classes="bounce, 2bounce", bounce_notice_recipient="bad@far.test")
    talk(inst, "<s@remote.test>", "<bad@far.test>")
    inst.wait_log(r"undeliverable postmaster notification discarded")
    inst.wait_empty()
    assert [r[1] for r in reports(hop)] == ["s@remote.test"]


def test_size_limit(system):
    inst, hop = system(bounce_size_limit=5000)
    talk(inst, "<s@remote.test>", "<bad@far.test>", b"Subject: big\r\n\r\n" + b"x" * 70 + (b"\r\n" + b"y" * 70) * 100 + b"\r\n")
    wait_for("the report", lambda: reports(hop))
    assert reports(hop)[0][3] == "text/rfc822-headers" and "yyy" not in reports(hop)[0][4]


def test_success(system):
    inst, hop = system(ehlo=b"250 sink\r\n")  # who cannot be asked for the report
    talk(inst, "<s@remote.test>", "<ok@far.test> NOTIFY=SUCCESS,FAILURE")
    wait_for("the report", lambda: reports(hop))
    (_, to, fields, returned, _), = reports(hop)
    assert (to, fields["Action"], fields["Status"][0], returned) == ("s@remote.test", "relayed", "2", "text/rfc822-headers")


def test_delay(instance, sink):
    """A delay warning, and with class delay a copy for the postmaster, both without the message's body."""
    hop = sink(reply=lambda verb, argument, number: b"450 4.2.0 later\r\n" if verb == "RCPT" and "wait@" in argument else None)
    inst = instance(main={"relayhost": f"[127.0.0.1]:{hop.port}", "mydestination": "", "notify_classes": "delay",
                          "delay_notice_recipient": "dn@far.test", "delay_warning_time": "1s", "minimal_backoff_time": "1s",
                          "maximal_backoff_time": "1s", "queue_run_delay": "1s"})
    talk(inst, "<s@remote.test>", "<wait@far.test>")
    wait_for("the reports", lambda: len(reports(hop)) >= 2)
    assert sorted((sender, to, fields["Action"], returned) for sender, to, fields, returned, _ in reports(hop)) == [
        ("", "s@remote.test", "delayed", "text/rfc822-headers"),
        ("double-bounce@mx.example.test", "dn@far.test", "delayed", "text/rfc822-headers")]
    assert all("hello" not in text for *_, text in reports(hop))


def test_delay_is_over(instance, sink):
    """confirm_delay_cleared, enable_threaded_bounces, as Debian's Postfix does: who was told of the delay is told of its end, no one else."""
    state = {"down": True}
    hop = sink(reply=lambda verb, argument, number: b"450 4.2.0 later\r\n" if state["down"] and verb == "RCPT" and "wait" in argument else None)
    inst = instance(main={"relayhost": f"[127.0.0.1]:{hop.port}", "mydestination": "", "delay_warning_time": "1s", "minimal_backoff_time": "1s",
                          "maximal_backoff_time": "1s", "queue_run_delay": "1s", "confirm_delay_cleared": "yes", "enable_threaded_bounces": "yes"})
    content = b"Message-ID: <1@x>\r\nSubject: x\r\n\r\nhello\r\n"
    for i, notify in enumerate(("", " NOTIFY=DELAY", " NOTIFY=FAILURE", " NOTIFY=NEVER")):
        talk(inst, "<s@remote.test>", f"<wait{i}@far.test>{notify}", content)
    talk(inst, "<s@remote.test>", "<prompt@far.test>", content)
    wait_for("the warnings", lambda: len(reports(hop)) >= 2)
    inst.wait_log(r"to=<wait3@far\.test>.*status=deferred(.*\n)+.*to=<wait3@far\.test>.*status=deferred")
    state["down"] = False
    inst.wait_empty()
    hop.wait(2 + 5 + 2)
    inst.wait_empty()
    assert sorted((fields["Final-Recipient"].split()[-1], fields["Action"]) for _, _, fields, _, _ in reports(hop)) == [
        ("wait0@far.test", "delayed"), ("wait0@far.test", "relayed"), ("wait1@far.test", "delayed"), ("wait1@far.test", "relayed")]
    for sender, _, report in hop.messages:
        assert (b"\r\nReferences: <1@x>\r\nIn-Reply-To: <1@x>\r\n" in report) == (sender == "")
        assert b"Action: relayed" not in report or b"delivery via 127.0.0.1[127.0.0.1]:%d: 250 2.0.0 queued" % hop.port in b" ".join(report.split())
