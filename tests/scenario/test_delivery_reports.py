# SPDX-License-Identifier: Apache-2.0
"""sendmail -bv (what would become of mail for them?) and -v (what has become of the first attempt?)."""
import email
import email.policy
import re

import pytest
from instance import MASTER_CF, wait_for

SENDER = "asks@reports.test"


def answers(verb, argument, number):
    if verb != "RCPT" or SENDER in argument:
        return None
    return b"550 5.1.1 no such user\r\n" if "bad" in argument else b"450 4.2.0 later\r\n" if "later" in argument else None


@pytest.fixture
def asked(instance, sink):
    hop = sink(reply=answers)
    inst = instance(
        main={"relayhost": f"[127.0.0.1]:{hop.port}", "mydestination": "mx.example.test", "local_recipient_maps": "", "home_mailbox": "Maildir/",
              "virtual_mailbox_domains": "v.test", "virtual_mailbox_base": "{root}/mail", "virtual_mailbox_maps": "inline:{bob@v.test=bob/}",
              "virtual_uid_maps": "static:2000", "virtual_gid_maps": "static:2000", "virtual_alias_maps": "inline:{ali@v.test=good@far.test}",
              "transport_maps": "inline:{ {err.test=error:5.7.9 gone} {disc.test=discard:x} {void.test=nosuch:} }", "always_bcc": "copies@far.test",
              "alias_maps": "inline:{ {cmd=\"|cat\"} {file=/tmp/f} {two=x@far.test, y@far.test} {inc=:include:{etc}/list} }",
              "maximal_backoff_time": "1h", "minimal_backoff_time": "1h", "soft_bounce": "no"},
        files={"list": "z@far.test\n"}, master=MASTER_CF)
    return inst, hop


def reports(hop, count=1):
    """{final recipient: its fields}, and the letter, of the first report; all that came."""
    found = lambda: [m for m in hop.messages if m[1] == [SENDER]]  # noqa: E731
    wait_for(lambda: f"{count} reports, have {hop.messages}", lambda: len(found()) >= count)
    told = []
    for sender, _, text in found():
        assert sender == ""
        message = email.message_from_bytes(text, policy=email.policy.SMTP)
        letter, status = message.get_payload()[:2]
        fields = [part for part in status.get_payload() if "Final-Recipient" in part]
        told.append((message["Subject"], letter.get_payload(), {str(f["Final-Recipient"]).split("; ")[1]: f for f in fields}))
    return told


def test_a_probe_delivers_nothing(asked):
    inst, hop = asked
    outcomes = {
        "good@far.test": ("deliverable", "2.1.5", r"delivery via 127\.0\.0\.1\[127\.0\.0\.1\]:\d+: 250 2\.1\.5 ok"),
        "bad@far.test": ("undeliverable", "5.1.1", r"delivery via .*: host .* said: 550 5\.1\.1 no such user \(in reply to RCPT TO command\)"),
        "later@far.test": ("undeliverable", "4.2.0", r"delivery via .* said: 450 4\.2\.0 later"),
        "bob@v.test": ("deliverable", "2.0.0", r"delivery via virtual: delivers to maildir"),
        "none@v.test": ("undeliverable", "5.1.1", r"unknown user: \"none@v\.test\""),
        "x@err.test": ("undeliverable", "5.7.9", r"gone"),
        "y@disc.test": ("deliverable", "2.0.0", r"x"),
        "y@void.test": ("undeliverable", "4.3.0", r"mail transport unavailable"),
        "daemon@mx.example.test": ("deliverable", "2.0.0", r"delivery via local: delivers to maildir"),
        "nobodyhere@mx.example.test": ("undeliverable", "5.1.1", r"delivery via local: unknown user: \"nobodyhere\""),
        "cmd@mx.example.test": ("deliverable", "2.0.0", r"delivers to command: cat"),
        "file@mx.example.test": ("deliverable", "2.0.0", r"delivers to file: /tmp/f"),
        "two@mx.example.test": ("deliverable", "2.0.0", r"forwards to x@far\.test, y@far\.test"),
        "inc@mx.example.test": ("deliverable", "2.0.0", r"forwards to z@far\.test"),
    }
    inst.run("sendmail", "-bv", "-f", SENDER, *outcomes)
    subject, letter, told = reports(hop)[0]
    assert subject == "Mail Delivery Status Report"
    assert set(told) == set(outcomes)
    words = " ".join(letter.split())
    for address, (action, status, text) in outcomes.items():
        assert (told[address]["Action"], told[address]["Status"]) == (action, status), address
        assert re.search(f"<{re.escape(address)}>: [^<]*{text}", words), (address, words)
        inst.wait_log(rf"to=<{re.escape(address)}>, .*dsn={re.escape(status)}, status={action} \(")
    wait_for("an empty queue", lambda: "empty" in inst.mailq())
    assert [m for m in hop.messages if m[1] != [SENDER]] == []
    assert not (inst.home / "bob").exists()
    assert "bounced" not in inst.log() and "copies@far.test" not in inst.log()


def test_a_probe_through_an_alias_names_both(asked):
    inst, hop = asked
    inst.run("sendmail", "-bv", "-f", SENDER, "ali@v.test")
    _, letter, told = reports(hop)[0]
    assert "<good@far.test> (expanded from <ali@v.test>): delivery via" in " ".join(letter.split())
    assert told["good@far.test"]["Original-Recipient"] == "rfc822;ali@v.test"


def test_a_probe_reads_no_message(asked):
    inst, _ = asked
    done = inst.run("sendmail", "-bv", "-t", input="To: good@far.test\n\nx\n", check=False)
    assert done.returncode == 75 and "-bv" in done.stderr
    done = inst.run("sendmail", "-bv", check=False)
    assert done.returncode == 75 and "-bv" in done.stderr


def test_the_first_attempt_is_told(asked):
    inst, hop = asked
    inst.run("sendmail", "-v", "-f", SENDER, "good@far.test", "bad@far.test", "later@far.test", "y@disc.test", input="Subject: hi\n\nbody\n")
    told = {subject: (letter, fields) for subject, letter, fields in reports(hop, 2)}
    assert set(told) == {"Undelivered Mail Returned to Sender", "Mail Delivery Status Report"}
    letter, fields = told["Mail Delivery Status Report"]
    assert {a: (f["Action"], f["Status"]) for a, f in fields.items() if a != "copies@far.test"} == {
        "good@far.test": ("relayed", "2.0.0"), "bad@far.test": ("failed", "5.1.1"), "later@far.test": ("delayed", "4.2.0"),
        "y@disc.test": ("delivered", "2.0.0")}
    assert re.search(r"<good@far\.test>: delivery via 127\.0\.0\.1\[127\.0\.0\.1\]:\d+: 250 2\.0\.0 queued", " ".join(letter.split()))
    assert any(b"Subject: hi" in m[2] and "good@far.test" in m[1] for m in hop.messages)
    # the second attempt is nobody's business
    before = len(hop.messages)
    inst.run("postqueue", "-f")
    wait_for("the second attempt", lambda: len(re.findall(r"to=<later@far\.test>.*status=deferred", inst.log())) == 2)
    inst.run("sendmail", "-f", SENDER, "last@far.test", input="Subject: last\n\nbody\n")
    wait_for("what was sent later", lambda: any("last@far.test" in m[1] for m in hop.messages))
    assert not [m for m in hop.messages[before:] if m[1] == [SENDER]]


def test_a_report_that_cannot_be_made_is_made_later(asked):
    inst, hop = asked
    bounce = inst.spool / "private/bounce"
    bounce.rename(inst.spool / "private/away")
    try:
        inst.run("sendmail", "-bv", "-f", SENDER, "good@far.test")
        inst.wait_log(r"no report could be made")
        wait_for("the probe in the queue", lambda: "good@far.test" in inst.mailq())
    finally:
        (inst.spool / "private/away").rename(bounce)
    inst.run("postqueue", "-f")
    assert reports(hop)[0][2]["good@far.test"]["Action"] == "deliverable"
