# SPDX-License-Identifier: Apache-2.0
"""Where mail goes: mailboxes, aliases, next hops, refusals, deferrals, reports."""
import os
import pwd
import re
import smtplib
import socket

import pytest

from instance import free_port, wait_for

TABLES = {
    "vmailbox": "bob@v.test bob/\nsender@v.test sender/\n@catch.test all/\nmbox@v.test box.mbox\n",
    "virtual": "team@v.test bob@v.test, sender@v.test\n@alias.test @v.test\nout@v.test x@far.test\nloop@v.test loop@v.test\n",
    "checks": "/^Subject: bad/ REJECT 5.7.7 not here\n/^Subject: more/ PREPEND X-More: yes\n/^X-Secret:/ IGNORE\n",
}
MAIN = {
    "virtual_mailbox_domains": "v.test, catch.test, alias.test",
    "virtual_mailbox_base": "{root}/mail",
    "virtual_mailbox_maps": "texthash:{etc}/vmailbox",
    "virtual_alias_maps": "texthash:{etc}/virtual",
    "virtual_uid_maps": "static:2000",
    "virtual_gid_maps": "static:2000",
}


@pytest.fixture
def system(instance, sink):
    def make(reply=None, **main):
        hop = sink(reply=reply)
        inst = instance(main={**MAIN, "relayhost": f"[127.0.0.1]:{hop.port}", **main}, files=TABLES)
        return inst, hop
    return make


def test_mailboxes_and_aliases(system):
    inst, hop = system()
    inst.send(["bob@v.test", "any@catch.test", "mbox@v.test"], subject="one")
    inst.send("team@v.test", subject="two")
    inst.send("bob@alias.test", subject="three")
    inst.send("out@v.test", subject="four")
    messages = inst.wait_maildir("bob", 3)
    assert sorted(m["Subject"] for m in messages) == ["one", "three", "two"]
    assert all(m["Return-Path"] == "<sender@example.org>" for m in messages)
    assert {m["Delivered-To"] for m in messages} == {"bob@v.test"}
    assert "team@v.test" in {m["X-Original-To"] for m in messages}
    inst.wait_maildir("all", 1)
    inst.wait_maildir("sender", 1)
    assert hop.wait(1)[0][1] == ["x@far.test"]
    inst.wait_empty()
    assert "Subject: one" in (inst.home / "box.mbox").read_text()
    assert (inst.home / "box.mbox").read_text().startswith("From sender@example.org ")


def test_refusals(system):
    inst, _ = system(mynetworks="10.0.0.0/8")
    with inst.smtp() as client:
        client.helo()
        client.mail("s@example.org")
        assert client.rcpt("nobody@v.test")[0] == 550
        code, text = client.rcpt("x@far.test")
        assert code == 454 and b"4.7.1" in text and b"Relay access denied" in text
        assert client.rcpt("bob@v.test")[0] == 250
        assert client.rcpt("no-such-user@mx.example.test")[1].endswith(b"User unknown in local recipient table")
    inst.wait_log(r"(NOQUEUE|[0-9A-F]+): reject: RCPT from localhost\[127.0.0.1\]: 550 5.1.1 <nobody@v.test>: Recipient address rejected: "
                  r"User unknown in virtual mailbox table; from=<s@example.org> to=<nobody@v.test> proto=SMTP helo=<")


def test_content_is_kept_to_the_byte(system):
    inst, hop = system()
    body = b"".join([b"first\r\n", b".\r\n", b"..two\r\n", b"\xc3\xa4" * 400 + b"\r\n", b"x" * 998 + b"\r\n", b"\r\n", b"last\r\n"])
    for size in (0, 3000, 300_000, 5_000_000):
        text = b"Subject: t\r\n\r\n" + body + b"y" * 70 + b"\r\n" + (b"z" * 76 + b"\r\n") * (size // 78)
        with inst.smtp() as client:
            client.sendmail("s@example.org", ["x@far.test"], text, mail_options=["BODY=8BITMIME"])
        got = hop.wait(1, 40).pop()[2]
        assert got.split(b"\r\n\r\n", 1)[1] == text.split(b"\r\n\r\n", 1)[1]


def test_deferred_then_delivered(system):
    answers = {"RCPT": b"451 4.2.1 later\r\n"}
    inst, hop = system(reply=lambda verb, argument, number: answers.get(verb))
    inst.send(["x@far.test", "y@far.test"])
    inst.wait_log(r"to=<x@far.test>, relay=127.0.0.1\[127.0.0.1\]:\d+, .*dsn=4.2.1, status=deferred \(host 127.0.0.1\[127.0.0.1\] said: 451 4.2.1 later")
    wait_for("mailq shows it", lambda: "451 4.2.1 later" in inst.mailq())
    answers.clear()
    inst.run("postqueue", "-f")
    assert sorted(hop.wait(1)[0][1]) == ["x@far.test", "y@far.test"]
    inst.wait_empty()


def test_next_hop_is_down_then_up(instance, sink):
    port = free_port()
    inst = instance(main={"relayhost": f"[127.0.0.1]:{port}"})
    inst.send("x@far.test")
    inst.wait_log(rf"status=deferred \(connect to 127.0.0.1\[127.0.0.1\]:{port}: Connection refused\)")
    hop = sink(port=port)
    inst.run("postqueue", "-f")
    hop.wait(1)
    inst.wait_empty()


def test_bounce_is_a_delivery_status_report(system):
    inst, _ = system(reply=lambda verb, argument, number: b"550 5.7.9 go away\r\n" if verb == "RCPT" and "bad" in argument else None)
    inst.send(["bad@far.test", "good@far.test"], sender="sender@v.test", subject="original")
    report = inst.wait_maildir("sender")[0]
    assert report["Return-Path"] == "<>"
    assert report.get_content_type() == "multipart/report"
    assert report["From"] == "Mail Delivery System <MAILER-DAEMON@mx.example.test>"
    parts = report.get_payload()
    assert "go away" in parts[0].get_payload()
    status = parts[1].as_string()
    assert "Final-Recipient: rfc822; bad@far.test" in status and "Action: failed" in status and "Status: 5.7.9" in status
    assert "good@far.test" not in status
    assert "original" in parts[2].as_string()
    inst.wait_log(r"sender non-delivery notification: [0-9A-F]+")
    inst.wait_empty()


def test_bounce_templates_and_their_reload(system):
    """The letter is the file's; a file that cannot be read is refused by reload, and the old letter serves on."""
    inst, _ = system(reply=lambda verb, argument, number: b"550 5.7.9 go away\r\n" if verb == "RCPT" else None)
    inst.write("bounce.cf", "failure_template = <<XX\nCharset: utf-8\nFrom: Post <post>\nSubject: zur\u00fcck\n\nx\nXX\n"
               "failure_template = <<XX\nCharset: utf-8\nFrom: Post <post>\nSubject: back again\n\n"
               "Zur\u00fcck von $myhostname, $maximal_queue_lifetime_hours h.\nXX\n")
    inst.write_main(bounce_template_file=f"{inst.etc}/bounce.cf")
    inst.reload()
    inst.send("a@far.test", sender="sender@v.test")
    report = inst.wait_maildir("sender")[0]
    assert report["From"] == "Post <post@mx.example.test>" and report["Subject"] == "back again"
    assert "Zurück von mx.example.test, 120 h." in report.get_payload()[0].get_payload(decode=True).decode()
    inst.wait_log(r"non-ASCII text in \"Subject\" header of failure template")
    (inst.etc / "bounce.cf").unlink()
    done = inst.reload(check=False)
    assert done.returncode == 1 and "bounce_template_file: open" in done.stderr
    inst.send("b@far.test", sender="sender@v.test")
    assert [r["Subject"] for r in inst.wait_maildir("sender", 2)] == ["back again"] * 2


def test_local_user_alias_and_unknown(instance):
    inst = instance(main={"alias_maps": "texthash:{etc}/aliases", "local_recipient_maps": "$alias_maps unix:passwd.byname"},
                    files={"aliases": "list daemon2@mx.example.test, nobody2@mx.example.test\ndaemon2 /dev/null\nnobody2 |cat >/dev/null\n"})
    with inst.smtp() as client:
        client.helo()
        client.mail("s@example.org")
        assert client.rcpt("list@mx.example.test")[0] == 250
        assert client.rcpt("no-such-user@mx.example.test")[0] == 550


def test_content_ends_at_crlf_dot_crlf_only(system):
    inst, hop = system(smtpd_forbid_bare_newline_exclusions="")
    for end in (b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n"):
        smuggled = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<x@far.test>\r\nDATA\r\nSubject: smuggled\r\n\r\n"
        out = inst.raw([b"EHLO c\r\n", b"MAIL FROM:<s@example.org>\r\nRCPT TO:<x@far.test>\r\nDATA\r\n",
                        b"Subject: outer\r\n\r\ntext" + end + smuggled + b"\r\n.\r\n", b"QUIT\r\n"], pause=0.05)
        assert out.count(b"354 ") == 1, (end, out)
        if b"\n" in end.replace(b"\r\n", b""):
            assert b"550 5.5.2" in out, (end, out)
    inst.wait_empty()
    assert all(m[0] == "s@example.org" for m in hop.messages)


def test_chunking_and_limits(system):
    inst, hop = system(message_size_limit="20000", smtpd_recipient_limit="2")
    out = inst.raw([b"EHLO c\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<x@far.test>\r\nBDAT 14\r\nSubject: c\r\n\r\nBDAT 6 LAST\r\n.body\n", b"QUIT\r\n"], pause=0.1)
    assert b"Ok: queued as" in out, out
    assert hop.wait(1)[0][2].endswith(b"\r\n\r\n.body\r\n")
    assert b"552 5.3.4" in inst.raw([b"EHLO c\r\nMAIL FROM:<s@example.org> SIZE=20001\r\nQUIT\r\n"])
    out = inst.raw([b"EHLO c\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<x@far.test>\r\nDATA\r\n", b"y\r\n" * 12000 + b".\r\nQUIT\r\n"], pause=0.1)
    assert b"552 5.3.4" in out
    out = inst.raw([b"EHLO c\r\nMAIL FROM:<s@example.org>\r\n" + b"RCPT TO:<x@far.test>\r\n" * 3 + b"QUIT\r\n"])
    assert out.count(b"250 2.1.5") == 2 and b"452 4.5.3" in out


def test_headers_are_checked(system):
    inst, hop = system(header_checks="regexp:{etc}/checks")
    with pytest.raises(smtplib.SMTPDataError) as failure:
        inst.send("x@far.test", subject="bad")
    assert failure.value.smtp_code == 550 and failure.value.smtp_error == b"5.7.7 not here"
    inst.send("x@far.test", subject="more", headers="X-Secret: s\n")
    text = hop.wait(1)[0][2]
    assert b"X-More: yes\r\nSubject: more" in text and b"X-Secret" not in text
    inst.wait_log(r"reject: header Subject: bad from localhost\[127.0.0.1\]; from=<sender@example.org> to=<x@far.test> proto=ESMTP helo=<.*>: 5.7.7 not here")


def test_success_report_and_null_sender(system):
    inst, hop = system()
    out = inst.raw([b"EHLO c\r\nMAIL FROM:<sender@v.test> RET=HDRS ENVID=e1\r\nRCPT TO:<bob@v.test> NOTIFY=SUCCESS ORCPT=rfc822;o@v.test\r\nDATA\r\n",
                    b"Subject: dsn\r\n\r\nx\r\n.\r\nQUIT\r\n"], pause=0.1)
    assert b"queued as" in out
    report = inst.wait_maildir("sender")[0]
    assert "Action: delivered" in report.as_string() and "Original-Envelope-Id: e1" in report.as_string()
    with inst.smtp() as client:
        client.sendmail("", ["bob@v.test"], b"Subject: null\r\n\r\nx\r\n")
    assert "<>" in {m["Return-Path"] for m in inst.wait_maildir("bob", 2)}


def test_a_client_that_sends_byte_by_byte(system):
    inst, hop = system()
    text = b"EHLO c\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<x@far.test>\r\nDATA\r\n"
    with socket.create_connection(("127.0.0.1", inst.port), timeout=10) as s:
        for byte in text + b"Subject: slow\r\n\r\n.a\r\n.\r\nQUIT\r\n":
            s.sendall(bytes([byte]))
        out = b""
        while chunk := s.recv(4096):
            out += chunk
    assert b"queued as" in out and out.endswith(b"221 2.0.0 Bye\r\n")
    assert hop.wait(1)[0][2].endswith(b"\r\n\r\na\r\n")


def test_restrictions_at_each_stage(system):
    inst, hop = system(
        smtpd_sender_restrictions="check_sender_access inline:{{spam@example.org=REJECT 5.7.9 no_spam}, warn@example.org=WARN, {far.test=550 gone}}",
        smtpd_recipient_restrictions="check_recipient_access inline:{hold@far.test=HOLD, x@far.test=PREPEND}, permit_mynetworks, reject",
        smtpd_data_restrictions="reject_multi_recipient_bounce",
        smtpd_end_of_data_restrictions="check_sender_access inline:{end@example.org=REJECT}")
    def rcpt(sender, *recipients):
        return inst.raw([b"EHLO c\r\nMAIL FROM:<%s>\r\n" % sender + b"".join(b"RCPT TO:<%s>\r\n" % r for r in recipients) + b"DATA\r\n",
                         b"Subject: s\r\n\r\n.\r\nQUIT\r\n"], pause=0.1)
    assert b"554 5.7.9 <spam@example.org>: Sender address rejected: no_spam" in rcpt(b"spam@example.org", b"a@far.test")
    assert b"550 5.7.1 <a@sub.far.test>: Sender address rejected: gone" in rcpt(b"a@sub.far.test", b"a@far.test")
    assert b"451 4.3.5" in rcpt(b"s@example.org", b"x@far.test")  # PREPEND without its text
    assert b"Multi-recipient bounce" in rcpt(b"", b"a@far.test", b"b@far.test")
    assert b"554 5.7.1 <end@example.org>: Sender address rejected: Access denied" in rcpt(b"end@example.org", b"a@far.test")
    assert b"queued as" in rcpt(b"s@example.org", b"hold@far.test")
    inst.wait_log(r": hold: RCPT from .*triggers HOLD action; from=<s@example.org> to=<hold@far.test>")
    wait_for("a held message", lambda: re.search(r"^[0-9A-F]+! ", inst.mailq(), re.M))
    assert not hop.messages


def test_mail_for_root(instance):
    """It lies in a mailbox of root's; but what an administrator's mailbox_command does for root, it does with default_privs."""
    if os.geteuid() != 0:
        pytest.fail("needs root")
    inst = instance(main={"mail_spool_directory": "{root}/mail/", "local_recipient_maps": "unix:passwd.byname"})
    inst.send("root@mx.example.test")
    assert inst.wait_maildir("root")[0]["Delivered-To"] == "root@mx.example.test"
    assert os.stat(inst.home / "root/new").st_uid == 0
    inst.write_main(mailbox_command=f"id -u >{inst.home}/whose", default_privs="nobody")
    inst.reload()
    inst.send("root@mx.example.test")
    inst.wait_log(r"to=<root@mx\.example\.test>, relay=local, .*status=sent \(delivered to command")
    assert (inst.home / "whose").read_text() == f"{pwd.getpwnam('nobody').pw_uid}\n"
