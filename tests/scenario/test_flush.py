# SPDX-License-Identifier: Apache-2.0
"""Mail that is sent for: ETRN, postqueue -s and -i, sendmail -qR and -qI; fast_flush_domains, smtpd_etrn_restrictions, defer_transports.

The replies are those that Debian's Postfix 3.7 gave to the same commands."""
import pytest

from instance import free_port

RELAYED = {"relay_domains": "relay.test, sub.example", "mynetworks": "127.0.0.0/8", "minimal_backoff_time": "600s"}


def talk(inst, *lines):
    """Replies to lines that are sent one after the other."""
    with inst.smtp() as client:
        return [b"%d %b" % client.docmd(line) for line in lines]


@pytest.mark.parametrize("line, reply", [
    ("ETRN", b"500 Syntax: ETRN domain"),
    ("ETRN a b", b"500 Syntax: ETRN domain"),
    ("ETRN relay.test", b"250 Queuing started"),
    ("ETRN RELAY.TEST", b"250 Queuing started"),
    ("ETRN @relay.test", b"250 Queuing started"),
    ("ETRN #relay.test", b"250 Queuing started"),
    ("ETRN x.relay.test", b"250 Queuing started"),
    ("ETRN other.test", b"459 <other.test>: service unavailable"),
    ("ETRN [127.0.0.1]", b"459 <[127.0.0.1]>: service unavailable"),
    ("ETRN [relay.test]", b"501 Error: invalid parameter syntax"),
    ("ETRN <relay.test>", b"501 Error: invalid parameter syntax"),
    ("ETRN @", b"501 Error: invalid parameter syntax"),
    ("ETRN bad_-domain-", b"501 Error: invalid parameter syntax"),
    ("ETRN relay..test", b"501 Error: invalid parameter syntax"),
    ("ETRN " + "a" * 300, b"501 Error: invalid parameter syntax"),
])
def test_replies(etrn_server, line, reply):
    assert talk(etrn_server, "EHLO x.test", line)[1] == reply


@pytest.fixture(scope="module")
def etrn_server(tmp_path_factory):
    from instance import Instance
    root = tmp_path_factory.mktemp("etrn")
    for path in (root, root.parent, root.parent.parent):
        path.chmod(0o755)
    inst = Instance(root / "i", main=RELAYED)
    inst.start()
    yield inst
    problems = inst.close()
    assert not problems, "\n".join(problems)


def test_order_of_commands(instance):
    inst = instance(main={**RELAYED, "smtpd_helo_required": "yes"})
    assert talk(inst, "ETRN relay.test", "EHLO x.test", "MAIL FROM:<a@x.test>", "ETRN relay.test", "RSET", "ETRN relay.test")[0::5] == [
        b"503 Error: send HELO/EHLO first", b"250 Queuing started"]
    replies = talk(inst, "EHLO x.test", "MAIL FROM:<a@x.test>", "ETRN relay.test")
    assert b"\nETRN" in replies[0] and replies[2] == b"503 Error: MAIL transaction in progress"


def test_restrictions(instance):
    inst = instance(main={
        **RELAYED, "mynetworks": "10.0.0.0/8", "fast_flush_domains": "static:all",
        "smtpd_helo_restrictions": "check_helo_access inline:{ {bad.test=REJECT} }",
        "smtpd_etrn_restrictions": "check_etrn_access inline:{ {relay.test=REJECT}, {sub.example=DEFER no}, {example=REJECT parent},"
                                   " {ok.test=OK} }, permit_mynetworks, reject"})
    assert talk(inst, "EHLO x.test", "ETRN relay.test", "ETRN sub.example", "ETRN a.example", "ETRN other.test", "ETRN ok.test",
                "EHLO bad.test", "ETRN ok.test")[1:] == [
        b"554 5.7.1 <relay.test>: Etrn command rejected: Access denied",
        b"450 4.7.1 <sub.example>: Etrn command rejected: no",
        b"554 5.7.1 <a.example>: Etrn command rejected: parent",
        b"554 5.7.1 <other.test>: Etrn command rejected: Access denied",
        b"250 Queuing started",
        talk(inst, "EHLO bad.test")[0],
        b"554 5.7.1 <bad.test>: Helo command rejected: Access denied"]
    inst.wait_log(r"NOQUEUE: reject: ETRN from localhost\[127.0.0.1\]: 554 5.7.1 <relay.test>: Etrn command rejected: Access denied;"
                  r" proto=ESMTP helo=<x.test>")


def test_table_that_cannot_be_asked(instance):
    inst = instance(main={**RELAYED, "fast_flush_domains": "fail:broken"})
    inst.expect_fatal = True
    assert talk(inst, "EHLO x.test", "ETRN relay.test")[1] == b"458 Unable to queue messages"
    assert inst.run("postqueue", "-s", "relay.test", check=False).returncode == 69


def test_mail_that_waits_to_be_sent_for(instance, sink):
    """defer_transports: nothing but a flush of one kind or another sends it, and only what was meant."""
    hop = sink()
    inst = instance(main={**RELAYED, "relay_domains": "a.test, b.test, c.test, d.test", "relayhost": f"[127.0.0.1]:{hop.port}",
                          "defer_transports": "relay", "fast_flush_domains": "$relay_domains, d.test",
                          "relay_transport": f"relay:[127.0.0.1]:{hop.port}"})
    for domain in "abcd":
        inst.send(f"user@{domain}.test")
    inst.wait_log(r"to=<user@d.test>.*status=deferred \(deferred transport\)")
    assert hop.messages == []
    assert talk(inst, "EHLO x.test", "ETRN a.test")[1] == b"250 Queuing started"
    assert hop.wait(1)[0][1] == ["user@a.test"]
    inst.run("postqueue", "-s", "b.test")
    assert hop.wait(2)[1][1] == ["user@b.test"]
    inst.run("sendmail", "-qRc.test")
    assert hop.wait(3)[2][1] == ["user@c.test"]
    (queue_id,) = [line.split()[0] for line in inst.mailq().splitlines() if "sender@example.org" in line]
    inst.run("sendmail", "-qI" + queue_id.rstrip("*!"))
    assert hop.wait(4)[3][1] == ["user@d.test"]
    inst.wait_empty()


def test_commands_refuse(instance):
    inst = instance(main={**RELAYED, "relayhost": f"[127.0.0.1]:{free_port()}"})
    inst.expect_fatal = True
    done = inst.run("postqueue", "-s", "nope.test", check=False)
    assert (done.returncode, done.stderr.strip()) == (
        69, 'postqueue: fatal: Flush service is not configured for destination "nope.test"')
    done = inst.run("postqueue", "-s", "bad_domain-", check=False)
    assert "Cannot flush mail queue - invalid destination: \"bad_domain-\"" in done.stderr and done.returncode == 69
    for queue_id in ("4ABCDE1234", "4NtQwz1TcNz9vN1"):  # of no message, or of one that has gone
        done = inst.run("postqueue", "-i", queue_id)
        assert done.stdout + done.stderr == ""
    done = inst.run("postqueue", "-i", "a/b", check=False)
    assert (done.returncode, done.stderr.rstrip()) == (69, 'postqueue: fatal: Cannot flush queue ID - invalid name: "a/b"')
    for flag, text in (("-qR", "specify: -qRsitename"), ("-qI", "specify: -qIqueueid"), ("-qSx", "-qS is not implemented")):
        done = inst.run("sendmail", flag, check=False)
        assert done.returncode == 75 and text in done.stderr, flag
    assert inst.run("sendmail", "-q15m", check=False).returncode == 0
