# SPDX-License-Identifier: Apache-2.0
"""Parameters of the SMTP server and of delivery that change answers: each with the effect that a client or a log reader sees."""
import re
import smtplib

import pytest


def rcpt(inst, recipient, sender="s@example.org", helo="c.test"):
    """The answer to RCPT."""
    with inst.smtp() as client:
        client.ehlo(helo)
        client.mail(sender)
        code, text = client.rcpt(recipient)
        return code, text.decode()


def test_soft_bounce(instance, sink):
    hop = sink(reply=lambda verb, argument, number: b"550 5.1.1 no such user\r\n" if verb == "RCPT" else None)
    inst = instance(main={"soft_bounce": "yes", "relayhost": f"[127.0.0.1]:{hop.port}",
                          "smtpd_sender_restrictions": "check_sender_access inline:{ {bad@example.org = 554 5.7.9 go away} }"})
    code, text = rcpt(inst, "nosuch@mx.example.test")
    assert code == 450 and text.startswith("4.1.1 ")
    assert inst.wait_log(r"NOQUEUE: reject: RCPT from .*: 450 4\.1\.1 <nosuch@mx.example.test>")
    assert rcpt(inst, "x@far.test", sender="bad@example.org") == (454, "4.7.9 <bad@example.org>: Sender address rejected: go away")
    with inst.smtp() as client:
        client.ehlo("c.test")
        assert client.docmd("NOSUCH") == (400, b"4.5.2 Error: command not recognized")
    inst.send("x@far.test")
    inst.wait_log(r"to=<x@far.test>.* dsn=4\.1\.1, status=SOFTBOUNCE \(host .* said: 550 5.1.1 no such user")
    assert "x@far.test" in inst.mailq()


def test_soft_bounce_of_content(instance):
    inst = instance(main={"soft_bounce": "yes", "header_checks": "regexp:{etc}/checks"}, files={"checks": "/^X-Bad/ REJECT 5.7.7 bad\n"})
    with pytest.raises(smtplib.SMTPDataError) as e:
        inst.send("root@mx.example.test", headers="X-Bad: 1\n")
    assert e.value.smtp_code == 450 and e.value.smtp_error.startswith(b"4.7.7 ")


@pytest.mark.parametrize("places", [0, 4])
def test_places_of_delays(instance, sink, places):
    hop = sink()
    inst = instance(main={"relayhost": f"[127.0.0.1]:{hop.port}", "delay_logging_resolution_limit": places})
    inst.send("x@far.test")
    delays = inst.wait_log(r"to=<x@far.test>.* delay=([\d.]+), delays=([\d./]+),")
    longest = max(len(n.partition(".")[2]) for n in (delays[1], *delays[2].split("/")))
    assert longest <= places and (longest > 2) == (places == 4)


def test_command_filter(instance):
    inst = instance(main={"smtpd_command_filter": "regexp:{etc}/commands"},
                    files={"commands": "/^(RCPT TO:.*) NOTIFY=\\S+$/ $1\n/^BYE$/ QUIT\n"})
    with inst.smtp() as client:
        client.ehlo("c.test")
        client.mail("s@example.org")
        assert client.docmd("RCPT TO:<x@mx.example.test> NOTIFY=BROKEN")[0] == 550  # unknown user, not 501
        assert client.docmd("BYE")[0] == 221


@pytest.mark.parametrize("main, wanted", [
    ({"smtpd_relay_before_recipient_restrictions": "yes"}, "Relay access denied"),
    ({"smtpd_relay_before_recipient_restrictions": "no"}, "from the recipient list"),
    ({"compatibility_level": "3.5"}, "from the recipient list"),
])
def test_order_of_relay_and_recipient_restrictions(instance, main, wanted):
    inst = instance(main={"smtpd_relay_restrictions": "reject_unauth_destination",
                          "smtpd_recipient_restrictions": "check_recipient_access inline:{ {far.test = REJECT from the recipient list} }", **main})
    assert wanted in rcpt(inst, "x@far.test")[1]


def test_key_of_the_null_sender(instance):
    table = "inline:{ {nobody@home = REJECT it is nobody} }"
    inst = instance(main={"smtpd_null_access_lookup_key": "nobody@home", "smtpd_sender_restrictions": f"check_sender_access {table}"})
    assert "it is nobody" in rcpt(inst, "root@mx.example.test", sender="")[1]


@pytest.mark.parametrize("main, code, wanted", [
    ({}, 554, "later"),  # what comes later may refuse
    ({"reject_tempfail_action": "defer"}, 450, "Domain not found"),
    ({"unknown_address_tempfail_action": "defer"}, 450, "Domain not found"),
    ({"unknown_helo_hostname_tempfail_action": "defer"}, 554, "later"),
    ({"smtpd_recipient_restrictions": ""}, 450, "Domain not found"),  # nothing refused: deferred at the end
])
def test_action_without_an_answer(instance, names, main, code, wanted):
    inst = instance(main={"dns_servers": names.address, "dns_timeout": "1s", "dns_attempts": "1",
                          "smtpd_sender_restrictions": "reject_unknown_sender_domain",
                          "smtpd_recipient_restrictions": "check_recipient_access inline:{ {root@mx.example.test = REJECT later} }", **main})
    got = rcpt(inst, "root@mx.example.test", sender="a@b.silent")
    assert got[0] == code and wanted in got[1]


def test_helo_without_an_answer(instance, names):
    inst = instance(main={"dns_servers": names.address, "dns_timeout": "1s", "dns_attempts": "1", "unknown_helo_hostname_tempfail_action": "defer",
                          "smtpd_helo_restrictions": "reject_unknown_helo_hostname", "smtpd_recipient_restrictions": "reject"})
    assert rcpt(inst, "root@mx.example.test", helo="h.silent") == (450, "4.7.1 <h.silent>: Helo command rejected: Host not found")


def test_an_unknown_action(instance):
    inst = instance(main={"reject_tempfail_action": "wait"}, start=False)
    done = inst.run("postfix", "check", check=False)
    assert done.returncode == 1 and re.search(r'main\.cf, line \d+: reject_tempfail_action: "wait" is neither defer nor', done.stderr)


def lines(inst, *commands):
    """What the server says to the last of the commands, as it stands on the wire."""
    with inst.smtp() as client:
        client.ehlo("c.test")
        for command in commands[:-1]:
            client.docmd(command)
        client.putcmd(commands[-1])
        answer = [client.file.readline().decode()]
        while answer[-1][3] == "-":
            answer.append(client.file.readline().decode())
        return [line.removesuffix("\r\n") for line in answer], client.sock.getsockname()[1]


FOOTERS = [
    ("see help", ["550-5.7.9 REPLY", "550 5.7.9 see help"]),
    (r"\c. For help, call 1", ["550 5.7.9 REPLY. For help, call 1"]),
    (r"one\ntwo\n", ["550-5.7.9 REPLY", "550-5.7.9 one", "550-5.7.9 two", "550 5.7.9 "]),
    (r"\c, one\ntwo", ["550-5.7.9 REPLY, one", "550 5.7.9 two"]),
    ("client ($client_address) and ${server_name}, $(client_port), 5$$", ["550-5.7.9 REPLY", "550 5.7.9 client (127.0.0.1) and mx.example.test, PORT, 5$"]),
    ("of $sender", ["550 5.7.9 REPLY"]),  # not a name that it knows: reported, and left out
    ("${client_address", ["550 5.7.9 REPLY"]),
]


@pytest.mark.parametrize("footer, wanted", FOOTERS)
def test_reject_footer(instance, footer, wanted):
    inst = instance(main={"smtpd_reject_footer": footer, "smtpd_sender_restrictions": "check_sender_access inline:{ {bad@example.org = 550 5.7.9 go away} }"})
    text = "<bad@example.org>: Sender address rejected: go away"
    answer, port = lines(inst, "MAIL FROM:<bad@example.org>", "RCPT TO:<root@mx.example.test>")
    assert answer == [line.replace("REPLY", text).replace("PORT", str(port)) for line in wanted]
    # what is logged is the reply alone; what is accepted has no footer
    assert inst.wait_log(rf"NOQUEUE: reject: RCPT from .*: 550 5\.7\.9 {re.escape(text)}; from=")
    assert lines(inst, "NOOP")[0] == ["250 2.0.0 Ok"]
    assert ("no such name" in inst.log()) == (len(wanted) == 1 and "$" in footer)


def test_reject_footer_by_reply(instance):
    inst = instance(main={"smtpd_reject_footer_maps": "regexp:{etc}/footers", "smtpd_reject_footer": "all others at $localtime", "smtpd_expansion_filter": r"123456789\60:\40",
                          "soft_bounce": "yes"},
                    files={"footers": "/^400 4\\.5\\.2 (.*)/ \\c: really. $$server_name ($1)\n/^4.. .*User unknown/ no such user here\n"})
    said = "Error: command not recognized"
    assert lines(inst, "NOSUCH")[0] == [f"400 4.5.2 {said}: really. {'_' * 15} ({said})"]
    first, last = lines(inst, "MAIL FROM:<>", "RCPT TO:<nosuch@mx.example.test>")[0]
    assert first.startswith("450-4.1.1 <nosuch@mx.example.test>: ") and last == "450 4.1.1 no such user here"
    assert re.fullmatch(r"403 4\.5\.1 all others at ___ [ \d]\d \d\d:\d\d:\d\d", lines(inst, "MAIL FROM:<>", "MAIL FROM:<>")[0][-1])
    (inst.etc / "footers").unlink()
    done = inst.reload(check=False)
    assert done.returncode == 1 and "smtpd_reject_footer_maps" in done.stderr


def test_dsn_parameters_are_given_once(instance):
    """RFC 3461, 4, and the answers of Debian's Postfix."""
    inst = instance(main={"relayhost": "[127.0.0.1]:9", "mydestination": ""})
    wrong = {"MAIL FROM:<s@x.test>": ["RET=FULL RET=HDRS", "RET=BAD", "RET=", "ENVID=", "ENVID=a+ZZ", "ENVID=a ENVID=b"],
             "RCPT TO:<r@far.test>": ["NOTIFY=", "NOTIFY=NEVER,SUCCESS", "NOTIFY=success,delay NOTIFY=failure", "NOTIFY=x", "ORCPT=x", "ORCPT=;x",
                                      "ORCPT=rfc822;a@x ORCPT=rfc822;b@x"]}
    with inst.smtp() as client:
        client.ehlo("c.test")
        for command, rest in wrong.items():
            for parameters in rest:
                name, error = parameters.split("=")[0], "Error: " if command[0] == "R" else ""
                assert client.docmd(f"{command} {parameters}") == (501, f"5.5.4 {error}Bad {name} parameter syntax".encode()), parameters
            assert client.docmd(command + (" ENVID=a RET=hdrs" if command[0] == "M" else " ORCPT=rfc822;a@x NOTIFY=success,delay"))[0] == 250
