# SPDX-License-Identifier: Apache-2.0
"""postqueue --move-to: another host gets what waits in the queue, as it stands there; what it has not taken stays as it was."""
import json
import os
import pwd
import re
import subprocess

import pytest

from instance import STAGE, free_port, wait_for
from move_queue import STAYS, subject, host, deferring, inst, listing, wait_deferred, move, fill, gated  # noqa: F401


# --- all of it ----------------------------------------------------------------------------------------

def test_envelopes(instance, host):
    """Sender, recipients, DSN, SMTPUTF8, BODY; addresses as rewritten once here; local mail, too; content to the last byte."""
    inst = deferring(instance, defer_transports="local", smtp_generic_maps="inline:{s@example.org=other@example.org}",
                     virtual_alias_maps="inline:{{list@mx.example.test=one@a.test, two@b.test}}",
                     smtputf8_enable="yes", transport_maps="inline:{c.test=smtp:[127.0.0.1]:1}")
    with inst.smtp() as client:
        client.ehlo("client.test")
        client.mail("s@example.org", ["BODY=8BITMIME", "RET=HDRS", "ENVID=e+2B1"])
        client.rcpt("list@mx.example.test", ["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;who+2B@z.test"])
        client.rcpt("three@c.test", ["NOTIFY=NEVER"])
        client.data("Subject: dsn\r\n\r\ngr\u00fc\u00dfe\r\n.dot\r\n".encode())
        client.mail("\u00fc@example.org", ["SMTPUTF8", "BODY=8BITMIME"])
        client.rcpt("j\u00fc@d.test")
        client.data("Subject: utf8\r\n\r\nx\r\n".encode())
        client.mail("", ["RET=FULL"])
        client.rcpt("root@mx.example.test")
        client.data(b"Subject: bounce\r\n\r\nx\r\n")
    before = wait_deferred(inst, 3)
    contents = {m: inst.run("postcat", "-q", "-h", "-b", m).stdout for m in before}
    to = host(ehlo_extra=("SMTPUTF8",))
    out = move(inst, to).stdout
    assert out == f"moved 3 of 3 messages to {to.name}\n"
    assert inst.queue_is_empty()
    mail = [re.sub(r" SIZE=\d+", "", a) for a in to.commands["MAIL"]]
    assert sorted(mail) == sorted([
        "FROM:<s@example.org> BODY=8BITMIME ENVID=e+2B1 RET=HDRS",
        "FROM:<\u00fc@example.org> BODY=8BITMIME SMTPUTF8".encode().decode("latin-1"),
        "FROM:<> RET=FULL"])
    assert sorted(to.commands["RCPT"]) == sorted([
        "TO:<one@a.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;who+2B@z.test",
        "TO:<two@b.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;who+2B@z.test",
        "TO:<three@c.test> NOTIFY=NEVER",
        "TO:<j\u00fc@d.test>".encode().decode("latin-1"),
        "TO:<root@mx.example.test>"])
    got = sorted(body.replace(b"\r\n", b"\n").decode() for _, _, body in to.messages)
    assert got == sorted(contents.values())
    inst.wait_log(rf"to=<one@a.test>, orig_to=<list@mx.example.test>, relay=127.0.0.1\[127.0.0.1\]:{to.port}, .*status=sent [(]250 2.0.0 queued[)]")
    inst.wait_log(rf"qmgr\[\d+\]: moving mail to \[127.0.0.1\]:{to.port} by \S+")
    inst.wait_log(rf"qmgr\[\d+\]: moved 3 messages to \[127.0.0.1\]:{to.port} by \S+, 0 stay$")
    assert len(to.messages) == 3, "a report of a delivery that the other host will report itself"


def test_no_dsn_there(inst, host):
    """A host that reports no success itself: the sender is told that the mail was relayed, as with any relay."""
    def plain(verb, argument, number):
        return b"250-host\r\n250 PIPELINING\r\n" if verb == "EHLO" else None

    with inst.smtp() as client:
        client.ehlo("client.test")
        client.mail("s@example.org", ["ENVID=x"])
        client.rcpt("one@a.test", ["NOTIFY=SUCCESS"])
        client.data(b"Subject: mine\r\n\r\nx\r\n")
    wait_deferred(inst, 1)
    to = host(plain)
    move(inst, to)
    assert to.commands["RCPT"] == ["TO:<one@a.test>"] and to.subjects() == ["mine"]
    (report,) = wait_deferred(inst, 1)  # it is new mail, and so not moved
    text = inst.run("postcat", "-q", report).stdout
    assert "Action: relayed" in text and "Original-Envelope-Id: x" in text


def test_second_system(instance, inst):
    """A real one takes it; there it is in the queue with the same envelope."""
    other = deferring(instance, myhostname="other.example.test", mydestination="other.example.test")
    with inst.smtp() as client:
        client.ehlo("client.test")
        client.mail("s@example.org", ["RET=HDRS", "ENVID=e1"])
        client.rcpt("one@a.test", ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;first@z.test"])
        client.rcpt("two@a.test", ["NOTIFY=NEVER"])
        client.data(b"Subject: here\r\n\r\nx\r\n")
    fill(inst, 30)
    wait_deferred(inst, 31)
    move(inst, f"[127.0.0.1]:{other.port}")
    assert inst.queue_is_empty()
    there = wait_deferred(other, 31)
    (m,) = [m for m in there if len(there[m]["recipients"]) == 2]
    envelope = other.run("postcat", "-q", "-e", m).stdout
    for said in ("sender: s@example.org", "recipient: one@a.test", "recipient: two@a.test"):
        assert said in envelope, envelope
    for said in ("envelope_id=e1", "ret_flags=2", "dsn_orig_rcpt=rfc822;first@z.test\nnamed_attribute: notify_flags=6\nrecipient: one@a.test",
                 "notify_flags=1\nrecipient: two@a.test"):
        assert said in envelope, (said, envelope)
    # moved to itself a queue would never end
    out = move(other, f"[127.0.0.1]:{other.port}", "-i", m, code=STAYS).stdout
    assert re.fullmatch(rf"{m}: to=<one@a\.test>: host 127\.0\.0\.1\[127\.0\.0\.1\]:?\d* is this system itself [(]and 1 more recipient[)]\n"
                        r"moved 0 of 1 message to \S+; 1 stays\n", out), out
    assert len(listing(other)) == 31


def test_before_maintenance(inst, host):
    """As the manual says: no new mail comes in by SMTP, then the queue goes."""
    fill(inst, 5)
    wait_deferred(inst, 5)
    inst.write_main(master_service_disable="inet")
    inst.reload()
    wait_for(lambda: "the SMTP port to be closed", lambda: not inst.answers())
    to = host()
    assert move(inst, to).stdout == f"moved 5 of 5 messages to {to.name}\n"
    assert inst.queue_is_empty()


def test_large_and_many(instance, host):
    """A message of 8 MiB; one with 1,000 recipients, in transactions of no more than the limit, of which some are not taken."""
    def some(verb, argument, number):
        n = re.search(r"TO:<m(\d+)@", argument) if verb == "RCPT" else None
        return b"550 5.1.1 no\r\n" if n and int(n.group(1)) % 100 == 0 else None

    inst = deferring(instance, message_size_limit="20000000", smtpd_recipient_limit="2000", smtp_destination_recipient_limit="40",
                     qmgr_message_recipient_limit="300")
    line = b"x" * 70 + b"\r\n"
    with inst.smtp() as client:
        client.sendmail("s@example.org", ["big@a.test"], b"Subject: big\r\n\r\n" + line * 116000)
        client.sendmail("s@example.org", [f"m{i}@d{i % 7}.test" for i in range(1000)], b"Subject: many\r\n\r\nx\r\n")
    before = wait_deferred(inst, 2)
    to = host(some)
    out = move(inst, to, code=STAYS).stdout
    (big,) = [body for _, _, body in to.messages if subject(body) == "big"]
    assert big.endswith(line * 116000)
    parts = [rs for _, rs, body in to.messages if subject(body) == "many"]
    assert len(parts) >= 25 and max(map(len, parts)) <= 40
    assert sorted(sum(parts, [])) == sorted(f"m{i}@d{i % 7}.test" for i in range(1000) if i % 100 != 0)
    (m,) = listing(inst).values()
    assert sorted(r["address"] for r in m["recipients"]) == sorted(f"m{i}@d{i % 7}.test" for i in range(0, 1000, 100))
    assert re.search(rf"^{m['queue_id']}: to=<m\d+@d\d\.test>: .* said: 550 5\.1\.1 no .*[(]and 9 more recipients[)]$", out, re.M), out
    assert all(r in before[m["queue_id"]]["recipients"] for r in m["recipients"])


# --- what is not taken ----------------------------------------------------------------------------------

def test_refused(inst, host):
    """550 and 450 for recipients, 554 for a message: they stay with the reason and the next attempt that they had."""
    def answer(verb, argument, number):
        if not to.refuses:
            return None
        if verb == "RCPT":
            return {"TO:<gone": b"550 5.1.1 unknown\r\n", "TO:<full": b"450 4.2.2 full\r\n",
                    "TO:<four": b"503 5.5.1 no MAIL\r\n"}.get(argument[:8])
        return b"554 5.7.1 not this\r\n" if verb == "MAIL" and "bad@" in argument else None

    inst.send(["ok@a.test", "gone@a.test", "full@b.test"], subject="three")
    inst.send("four@c.test", sender="bad@example.org", subject="four")
    inst.send("five@c.test", subject="five")
    before = wait_deferred(inst, 3)
    to = host(answer)
    to.refuses = True
    done = move(inst, to, code=STAYS)
    assert to.recipients() == ["five@c.test", "ok@a.test"]
    lines = done.stdout.splitlines()
    (three,) = [m for m in before if len(before[m]["recipients"]) == 3]
    (four,) = [m for m in before if before[m]["sender"] == "bad@example.org"]
    assert len(lines) == 3 and lines[-1] == f"moved 1 of 3 messages to {to.name}; 2 stay"
    assert any(re.fullmatch(rf"{three}: to=<(gone@a|full@b)\.test>: host \S+ said: (550 5.1.1 unknown|450 4.2.2 full) "
                            r"[(]in reply to RCPT TO command[)] [(]and 1 more recipient[)]", x) for x in lines), lines
    assert any(re.fullmatch(rf"{four}: to=<four@c.test>: host \S+ said: 554 5.7.1 not this [(]in reply to MAIL FROM command[)]", x)
               for x in lines), lines
    now = listing(inst)
    before[three]["recipients"] = [r for r in before[three]["recipients"] if r["address"] != "ok@a.test"]
    del before[next(m for m in before if m not in (three, four))]
    assert now == before  # reasons, next attempts and all
    assert inst.log().count("status=SOFTBOUNCE") == 2 and "status=bounced" not in inst.log() and "status=expired" not in inst.log()
    to.refuses = False
    done = move(inst, to, "-j")
    assert json.loads(done.stdout) == {"moved_to": to.name, "messages": 2, "moved": 2, "stayed": 0, "untried": 0, "elsewhere": 0,
                                       "left_on_hold": 0, "arrived": 0}
    assert to.recipients() == sorted(["ok@a.test", "gone@a.test", "full@b.test", "four@c.test", "five@c.test"])
    assert inst.queue_is_empty()


def test_refuses_all(inst, host):
    fill(inst, 40)
    before = wait_deferred(inst, 40)
    to = host(lambda verb, argument, number: b"554 5.7.1 relay access denied\r\n" if verb == "RCPT" else None)
    out = move(inst, to, "-j", code=STAYS).stdout
    told = [json.loads(x) for x in out.splitlines()]
    assert {t["queue_id"] for t in told[:-1]} == set(before) and all("relay access denied" in t["reason"] for t in told[:-1])
    assert told[-1]["moved"] == 0 and told[-1]["stayed"] == 40
    assert listing(inst) == before and to.messages == []


@pytest.mark.parametrize("what, parameters", [
    ("refused", {}), ("greets with 554", {}), ("unknown", {}), ("no mail exchanger", {}),
    ("refused", {"smtp_destination_concurrency_failed_cohort_limit": "0"}),  # no destination is ever given up
    ("refused", {"smtp_destination_recipient_limit": "1"})])  # each recipient is a destination
def test_not_there(instance, host, names, what, parameters):
    """Many messages, few attempts: the host is given up, and what was not tried is not listed."""
    names.records[("null.test", 15)] = [b"\0\0\0"]
    inst = deferring(instance, dns_servers=names.address, default_process_limit="50", **parameters)
    fill(inst, 300)
    before = wait_deferred(inst, 300)
    tries = inst.log().count("status=")
    to = {"refused": f"[127.0.0.1]:{free_port()}", "unknown": "[nowhere.test]", "no mail exchanger": "null.test",
          "greets with 554": host(lambda verb, argument, number: b"554 5.3.2 not open\r\n" if verb == "CONNECT" else None)}[what]
    out = move(inst, to, code=STAYS).stdout
    text = {"refused": "Connection refused", "greets with 554": "refused to talk to me: 554 5.3.2 not open", "unknown": "nowhere.test",
            "no mail exchanger": "does not accept mail"}[what]
    assert re.search(rf"^ended early: .*{text}", out, re.M), out
    stay = int(re.search(r"^moved 0 of 300 messages to .*; (\d+) stay; (\d+) were not tried$", out, re.M).group(1))
    assert stay < 90 and out.count("\n") == stay + 2, out
    assert inst.log().count("status=") - tries < 90
    assert listing(inst) == before


def test_no_agents(inst, host):
    """The service that would bring it there is switched off, or unknown."""
    fill(inst, 30)
    before = wait_deferred(inst, 30)
    inst.write_main(master_service_disable="smtp/unix")
    inst.reload()
    to = host()
    out = move(inst, to, code=STAYS).stdout
    assert out == f"moved 0 of 30 messages to {to.name}; 30 were not tried\nended early: mail transport unavailable\n"
    assert listing(inst) == before
    cf = inst.etc / "master.cf"
    inst.write("master.cf", re.sub(r"(?m)^smtp  .*\n", "", cf.read_text()))
    inst.write_main(master_service_disable=None)
    inst.reload()
    inst.expect_fatal = True
    assert "master.cf has no service smtp" in move(inst, to, code=69).stderr
    assert listing(inst) == before and to.connections == 0


def test_dies_in_the_middle(inst, host):
    """It takes 60, says nothing to the dots of some, and is gone: each message is there or here."""
    def answer(verb, argument, number):
        if verb == "DOT" and len(to.messages) >= 60:
            to.dead = True
        return b"" if to.dead else None

    fill(inst, 200)
    before = wait_deferred(inst, 200)
    to = host(answer)
    to.dead = False
    out = move(inst, to, code=STAYS).stdout
    here = listing(inst)
    there = set(to.subjects())
    left = {subject(inst.run("postcat", "-q", "-h", m).stdout.encode()) for m in here}
    assert len(there) >= 60 and there | left == {f"m{i}" for i in range(200)} and not there & left
    assert all(here[m] == before[m] for m in here)
    moved = int(re.search(r"^moved (\d+) of 200 ", out, re.M).group(1))
    assert moved == len(there) == 200 - len(here)
    assert "ended early: " in out
    again = host()
    move(inst, again)
    assert sorted(again.subjects() + to.subjects()) == sorted(f"m{i}" for i in range(200))


def test_uncertain(inst, host):
    """No answer to the final dot: it stays, and may come twice."""
    fill(inst, 1)
    before = wait_deferred(inst, 1)
    to = host(lambda verb, argument, number: b"" if verb == "DOT" else None)
    out = move(inst, to, code=STAYS).stdout
    assert "message may be sent more than once" in out
    assert listing(inst) == before


# --- which mail ------------------------------------------------------------------------------------------

def test_selections(inst, host):
    mails = {"a": ("x@one.test", ["r@a.test", "q@b.test"]), "b": ("x@one.test", ["r@b.test"]), "c": ("y@two.test", ["r@a.test"]),
             "d": ("y@two.test", ["z@sub.c.test"]), "e": ("", ["r@e.test"])}
    for name, (sender, rcpts) in mails.items():
        inst.send(rcpts, sender=sender, subject=name)
    before = wait_deferred(inst, 5)
    ids = {subject(inst.run("postcat", "-q", "-h", m).stdout.encode()): m for m in before}
    to = host()
    move(inst, to, "--sender", "@two.test", "--domain", "a.test")
    assert to.subjects() == ["c"]
    out = move(inst, to, "--reason", "no such reason").stdout
    assert out == f"moved 0 of 0 messages to {to.name}\n"
    move(inst, to, "--older", "1h")
    move(inst, to, "--queue", "incoming,active")
    assert to.subjects() == ["c"] and len(listing(inst)) == 4
    move(inst, to, "--recipient", "q@b.test")
    assert to.subjects() == ["a", "c"]
    assert to.recipients() == ["q@b.test", "r@a.test", "r@a.test"], "all that is left of a message goes with it"
    move(inst, to, "-i", ids["b"])
    move(inst, to, "--id", ids["e"], "--sender", "<>")
    assert to.subjects() == ["a", "b", "c", "e"]
    move(inst, to, "--older", "0s", "--reason", "refused", "--queue", "deferred")
    assert to.subjects() == ["a", "b", "c", "d", "e"] and inst.queue_is_empty()


def test_held(inst, host):
    fill(inst, 3)
    before = wait_deferred(inst, 3)
    held = sorted(before)[:2]
    inst.run("postsuper", "-h", held[0])
    inst.run("postsuper", "-h", held[1])
    to = host()
    out = move(inst, to).stdout
    assert out == f"moved 1 of 1 message to {to.name}; 2 on hold were left (--held)\n"
    assert sorted(listing(inst)) == held
    refusing = host(lambda verb, argument, number: b"450 4.2.0 no\r\n" if verb == "RCPT" else None)
    was = listing(inst)
    move(inst, refusing, "--held", code=STAYS)
    assert listing(inst) == was and all(m["queue_name"] == "hold" for m in was.values())
    inst.stop()  # there on disk, too
    inst.start()
    assert listing(inst) == was
    move(inst, to, "--queue", "deferred")
    assert listing(inst) == was
    move(inst, to, "--queue", "hold", "-i", held[0])
    assert sorted(listing(inst)) == held[1:]
    out = move(inst, to, "--queue", "deferred", "--held").stdout
    assert out == f"moved 1 of 1 message to {to.name}\n"
    assert inst.queue_is_empty() and len(to.messages) == 3


def test_new_mail(instance, host):
    """What has not been tried even once. One message was to go on hold, by a rule, and does."""
    slow = gated(host)
    inst = instance(main={"relayhost": slow.name, "qmgr_message_active_limit": "1", "header_checks": "regexp:{etc}/checks"},
                    files={"checks": "/^Subject: m2/ HOLD\n"})
    fill(inst, 4)
    wait_for(lambda: inst.mailq(), lambda: len(slow.commands["DOT"]) == 1 and len(listing(inst)) == 4)
    assert [m["queue_name"] for m in listing(inst).values()].count("incoming") == 3
    to = host()
    out = move(inst, to, "--queue", "incoming").stdout
    assert out == f"moved 2 of 2 messages to {to.name}; 1 on hold was left (--held)\n"
    refusing = host(lambda verb, argument, number: b"450 4.2.0 no\r\n" if verb == "RCPT" else None)
    fill(inst, 1, domain="b.test")
    move(inst, refusing, "--queue", "incoming", code=STAYS)
    assert sorted(m["queue_name"] for m in listing(inst).values()) == ["active", "hold", "incoming"]
    slow.gate.set()
    slow.wait(2)
    move(inst, to, "--held")
    assert to.subjects() + slow.subjects() == ["m1", "m2", "m3", "m0", "m0"] and inst.queue_is_empty()


def test_what_stays_for_other_reasons(inst, host):
    """Mail that is to be returned; what is suspended or in defer_transports goes all the same."""
    fill(inst, 3)
    ids = sorted(wait_deferred(inst, 3))
    inst.write_main(defer_transports="smtp")
    inst.reload()
    inst.run("postqueue", "suspend", "destination", "a.test", "--reason", "x", "--until", "1h")
    to = host()
    move(inst, to, "-i", ids[0])
    move(inst, to, "-i", ids[1])
    assert len(to.messages) == 2
    inst.run("postsuper", "-h", ids[2])
    inst.run("postsuper", "-e", ids[2])
    out = move(inst, to, "--held", code=STAYS).stdout
    assert out == f"{ids[2]}: it is to be returned to its sender (postsuper -e)\nmoved 0 of 1 message to {to.name}; 1 stays\n"
    assert len(to.messages) == 2


# --- who, and how not ---------------------------------------------------------------------------------------

def test_usage(inst, host):
    to = host()
    for options in (["--move-to", ""], ["--move-to", "127.0.0.1"], ["--move-to", "127.0.0.1:25"], ["--move-to", "[127.0.0.1"],
                    ["--move-to", "a.test, b.test"], ["--move-to", "a.test:0"], ["--move-to", "a.test:"], ["--move-to", "[a.test]25"],
                    ["--move-to", "-x"], ["--held"], ["--held", "-p"], ["-f", "--move-to", to.name], ["-p", "--move-to", to.name],
                    ["--move-to", to.name, "extra"], ["--move-to", to.name, "--until", "1h"], ["--move-to", to.name, "-i", "no id"],
                    ["--move-to", to.name, "--queue", "maildrop"], ["--move-to", to.name, "--queue", "nothing"],
                    ["--move-to", to.name, "--sender", ""], ["--move-to", to.name, "suspended"]):
        done = inst.run("postqueue", *options, check=False)
        assert done.returncode == 69 and done.stdout == "" and done.stderr.count("\n") == 1, (options, done)
    assert to.connections == 0


def test_needs_the_system(inst, host):
    fill(inst, 1)
    before = wait_deferred(inst, 1)
    inst.stop()
    inst.expect_fatal = True
    to = host()
    done = move(inst, to, code=69)
    assert done.stderr.count("\n") == 1 and "mail system is down" in done.stderr and "while it runs" in done.stderr
    inst.start()
    assert listing(inst).keys() == before.keys() and to.messages == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_others_may_not(inst, host):
    """Not even where everybody may list and flush."""
    fill(inst, 1)
    wait_deferred(inst, 1)
    to = host()
    nobody = pwd.getpwnam("nobody")
    env = dict(os.environ, MAIL_CONFIG=str(inst.etc))
    done = subprocess.run(["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", STAGE / "sbin/postqueue",
                           "--move-to", to.name], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 77 and "only root and daemon may move the queue" in done.stderr, done
    # and mail_owner may
    daemon = pwd.getpwnam("daemon")
    done = subprocess.run(["setpriv", f"--reuid={daemon.pw_uid}", f"--regid={daemon.pw_gid}", "--clear-groups", STAGE / "sbin/postqueue",
                           "--move-to", to.name], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and len(to.messages) == 1, done
