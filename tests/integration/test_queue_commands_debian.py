# SPDX-License-Identifier: Apache-2.0
"""mailq, postqueue, postsuper and postcat beside those of Debian's Postfix: the same mail in both queues, the same wrong use."""
import difflib
import json
import os
import pathlib
import re
import smtplib
import subprocess
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "scenario"))
from debian_postfix import DebianPostfix  # noqa: E402
from instance import Instance, Sink, wait_for  # noqa: E402
from test_postconf_debian import reference  # noqa: E402, F401 (a fixture)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix starts as root only")

LONG = "l" * 64 + "@" + ".".join(["d" * 60] * 3) + ".test"
FIELDS = {"queue_name": str, "queue_id": str, "arrival_time": int, "message_size": int, "forced_expire": bool, "sender": str,
          "recipients": list}
MAIL = [  # sender, recipients, body
    ("plain@x.test", ["wait-1@a.test"], "hello\n"),
    ("many@x.test", [f"{kind}-{i}@{d}.test" for i in range(4) for kind in ("wait", "full", "odd") for d in "ab"], "hello\n"),
    ("", ["wait-null@a.test"], "hello\n"),
    (LONG, ["wait-" + LONG[5:], "full@" + "e" * 63 + ".test"], "hello\n"),
    ('"s p a c e"@x.test', ['"wait a"@a.test', '"wait\\"quote"@a.test', '"wait@at"@a.test', '"wait.plain"@a.test'], "hello\n"),
    ("jürgen@x.test", ["wait-ö@a.test", "wait-漢字@bücher.test"], "hällo\n"),
    ("big@x.test", ["wait-big@a.test"], "0123456789" * 7 + "\n"),
    ("bigger@x.test", ["wait-bigger@a.test"], ("x" * 98 + "\n") * 3000),
    ("nobody", ["wait-bare"], "hello\n"),  # without a domain
    ("held@x.test", ["wait-held@a.test", "full-held@a.test"], "hello\n"),
    ("expired@x.test", ["wait-expired@a.test"], "hello\n"),
    ("active@x.test", ["wait-done@a.test", "hang@a.test"], "hello\n"),
]
REASONS = {"full": b"452 4.2.2 <%s> mailbox is full\r\n", "odd": b"450 4.7.1 odd: (parentheses) \"quotes\" back\\slash \xc3\xa9\r\n"}


def next_hop(gate):
    def reply(verb, argument, number):
        if verb == "RCPT" and "hang@" in argument:
            gate.wait(60)
        if verb == "RCPT":
            address = argument[argument.index("<") + 1:argument.rindex(">")]
            kind = re.match(r'"?([a-z]+)', address)[1]
            return REASONS.get(kind, b"451 4.3.0 come back later\r\n").replace(b"%s", address.encode("latin-1"))
        return None
    return reply


def send_all(port):
    with smtplib.SMTP("127.0.0.1", port, timeout=30, local_hostname="client.example") as s:
        for i, (sender, recipients, body) in enumerate(MAIL):
            s.ehlo_or_helo_if_needed()
            is_utf8 = not (sender + "".join(recipients)).isascii()
            s.command_encoding = "utf-8"
            options = ["SMTPUTF8", "BODY=8BITMIME"] if is_utf8 else []
            assert s.docmd(f"MAIL FROM:<{sender}>" + "".join(" " + o for o in options))[0] == 250, sender
            for r in recipients:
                assert s.docmd(f"RCPT TO:<{r}>")[0] == 250, r
            head = f"From: <a@x.test>\nTo: <b@x.test>\nDate: Mon, 1 Jan 2024 00:00:00 +0000\nMessage-Id: <{i}@x.test>\nSubject: {i}\n\n"
            assert s.data((head + body).replace("\n", "\r\n").encode())[0] == 250


class Both:
    """run(): of both systems."""
    def __init__(self, ours, theirs):
        self.ours, self.theirs = ours, theirs

    def run(self, command, *args, **options):
        a = self.ours.run(command, *args, check=False, **options)
        if "input" in options:
            options["input"] = options["input"].encode()
        b = self.theirs.run(command, *args, check=False, **({"stdin": subprocess.DEVNULL} | options if "input" not in options else options))
        return a, subprocess.CompletedProcess(b.args, b.returncode, b.stdout.decode("utf-8", "replace"), b.stderr.decode("utf-8", "replace"))


@pytest.fixture
def both(tmp_path, reference):  # noqa: F811
    """Started, with the same settings, without mail."""
    gate = threading.Event()
    sink = Sink(next_hop(gate), ehlo_extra=["SMTPUTF8"])
    main = {"myhostname": "mx.example.test", "mydestination": "", "relayhost": f"[127.0.0.1]:{sink.port}",
            "minimal_backoff_time": "600s", "smtputf8_enable": "yes", "fast_flush_domains": "a.test", "smtp_tls_security_level": "",
            "smtp_destination_recipient_limit": "50", "local_recipient_maps": ""}
    theirs = DebianPostfix(reference, tmp_path / "theirs", **main)
    ours = Instance(tmp_path / "ours", main=main)
    try:
        theirs.start()
        ours.start()
        both = Both(ours, theirs)
        both.gate = gate
        yield both
    finally:
        gate.set()
        theirs.stop()
        sink.close()
        problems = ours.close()
    assert not problems, problems


def parse_json(text):
    return sorted((json.loads(line) for line in text.splitlines()), key=lambda m: re.sub(r'["\\]', "", m["sender"]))


def comparable(m):
    """What must be the same in both: an id has its own length, and stands in the Received field once."""
    rest = {k: m[k] for k in FIELDS} | {"message_size": m["message_size"] - len(m["queue_id"]), "queue_id": None, "arrival_time": None}
    rest["recipients"] = sorted(({k: r[k] for k in r if k in ("address", "delay_reason")} for r in m["recipients"]),
                                key=lambda r: r["address"])  # Postfix has them in the order in which they were tried
    return rest


def parse_text(text):
    """(head, {key: (mark, size less id, lines)}, tail); times as what they look like."""
    lines = [line for line in text.splitlines() if not re.match(r" *\(waits", line)]
    messages = {}
    for block in "\n".join(lines[1:-1]).strip("\n").split("\n\n"):
        first, *rest = block.split("\n")
        name, mark, size, when, sender = re.fullmatch(
            r"([0-9A-Za-z]+)([*!# ]*?) +(\d+) (\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d) +(.*)", first).groups()
        reason, rcpts = "", []
        for line in rest:  # a reason is not repeated for the next recipient
            if re.match(r" *\(", line):
                reason = line
            else:
                rcpts.append((line, reason))
        beyond = max(0, len(name + mark) - (17 if "----Queue" in lines[0] else 11))  # a long name moves what follows
        columns = [re.search(pattern, first).start() - beyond for pattern in (r"(?<=\d) \w{3} ", r"\w{3} \w{3} [ \d]\d ", re.escape(sender) + "$")]
        messages[re.sub(r'["\\]', "", sender)] = (sender, columns, mark, int(size) - len(name), sorted(rcpts))
    return [lines[0]], sorted(messages.values()), [re.sub(r"\d+ Kbytes", "N Kbytes", lines[-1])]


def check_same(ours, theirs):
    lines = [[json.dumps(m, ensure_ascii=False, indent=1).splitlines() for m in what] for what in (ours, theirs)]
    assert ours == theirs, "\n".join(difflib.unified_diff(sum(lines[0], []), sum(lines[1], []), "ours", "theirs", lineterm="", n=1))


def compare(both):
    a, b = both.run("postqueue", "-j")
    ours, theirs = parse_json(a.stdout), parse_json(b.stdout)
    for m in ours:
        assert list(m)[:len(FIELDS)] == list(FIELDS), "ours come behind Postfix's"
        assert all(type(m[k]) is t for k, t in FIELDS.items()), m
        assert {k for k in m if k not in FIELDS} <= {"next_attempt", "waits_for", "waits_text", "waits_until"}
    check_same([comparable(m) for m in ours], [comparable(m) for m in theirs])
    a, b = both.run("postqueue", "-p")
    for part_a, part_b in zip(parse_text(a.stdout), parse_text(b.stdout)):
        check_same(part_a, part_b)
    return ours


@pytest.mark.parametrize("long_ids", ["no", "yes"])
def test_lists(both, long_ids):
    both.ours.stop()
    both.theirs.stop()
    a, b = both.run("postqueue", "-p")
    assert (a.returncode, a.stdout) == (b.returncode, b.stdout) == (0, "Mail queue is empty\n")
    both.ours.write_main(enable_long_queue_ids=long_ids)
    both.ours.start()
    both.theirs.start(enable_long_queue_ids=long_ids)
    for system in (both.ours, both.theirs):
        send_all(system.port)

    def settled(system, text):
        found = parse_json(text)
        return len(found) == len(MAIL) and [m["sender"] for m in found if m["queue_name"] != "deferred"] == ["active@x.test"]
    wait_for(lambda: both.run("postqueue", "-p")[0].stdout, lambda: settled(both.ours, both.run("postqueue", "-j")[0].stdout), 60)
    wait_for(lambda: both.run("postqueue", "-p")[1].stdout, lambda: settled(both.theirs, both.run("postqueue", "-j")[1].stdout), 60)
    for text, system in zip((r.stdout for r in both.run("postqueue", "-j")), (both.ours, both.theirs)):
        by_sender = {m["sender"]: m["queue_id"] for m in parse_json(text)}
        system.run("postsuper", "-h", by_sender["held@x.test"])
        system.run("postsuper", "-h", by_sender["expired@x.test"])
        system.run("postsuper", "-e", by_sender["expired@x.test"])
    found = compare(both)
    assert {m["queue_name"] for m in found} == {"active", "deferred", "hold"}
    assert [m["sender"] for m in found if m["forced_expire"]] == ["expired@x.test"]
    both.gate.set()
    wait_for("the end of the attempts", lambda: all(
        m["queue_name"] != "active" for r in both.run("postqueue", "-j") for m in parse_json(r.stdout)))
    compare(both)
    both.ours.stop()
    both.theirs.stop()
    compare(both)
    for r in both.run("postqueue", "-p"):
        assert "warning: Mail system is down -- accessing queue directly (" in r.stderr


WRONG = [("postqueue", *args) for args in (
    [], ["-x"], ["-p", "-f"], ["-p", "x"], ["-i"], ["-i", "bad/id"], ["-i", ""], ["-s"], ["-s", "bad domain"], ["-s", ""], ["-s", "a@b.test"],
    ["-s", "-x.test"], ["-s", "a..b"], ["-s", "other.test"], ["-s", "[1.2.3.4]"], ["-p", "-j"], ["-p", "-p"], ["-fs", "x"], ["-f", "x"],
    ["-c", "/nonexistent", "-p"])
] + [("postsuper", *args) for args in (
    ["-z"], ["-d"], ["-c"], ["-c", "/nonexistent"], ["nosuch"], ["-s", "nosuch"], ["-s", "corrupt"], ["-d", "ALL", "nosuch"], ["-d", "a/b"],
    ["-d", ""], ["-d", "ID.x"], ["-d", "x" * 300], ["-h", "-"], ["-d", "all"], ["-r", "NOSUCH"], ["-f", "NOSUCH"], ["-d", "NOSUCH", "maildrop"],
    ["-d", "ALL", "-h", "ALL"], ["-s", "-d"], ["-s", "bounce", "flush"])
] + [("postcat", *args) for args in (
    ["-x"], ["-q"], ["-q", "../x"], ["-q", "NOSUCH1"], ["nofile"], ["-s", "x", "f"], ["-s", "-1", "f"], ["/etc/passwd"],
    ["-c", "/nonexistent", "x"], ["-q", "a b"])]
ONLY_RUNNING = [("postqueue", "-i", "NOSUCH1"), ("postqueue", "-f"), ("postqueue", "-s", "a.test")]


def said(done):
    """Without the program's name, and of usage that it is that."""
    text = re.sub(r"^\S*?(post\w+): ", "", done.stderr, flags=re.M)
    text = re.sub(r"usage: .*", "usage", text)
    text = re.sub(r"mail system is down \(.*\)$", "mail system is down", text, flags=re.M)
    return [line for line in text.splitlines() if not re.match("warning: (connect to|unable to look up) public/|the queue was read|the mail system runs", line)]


def test_wrong_use(both):
    both.ours.expect_fatal = True
    failures = []
    for state in ("running", "stopped"):
        for command, *args in WRONG + ONLY_RUNNING:
            if state == "stopped" and args[:1] == ["-s"] and args[1:] in (["other.test"], ["[1.2.3.4]"]):
                continue  # what fast_flush_domains has is asked of qmgr
            a, b = both.run(command, *args)
            if (a.returncode, a.stdout, said(a)) != (b.returncode, b.stdout, said(b)):
                failures.append(f"{state}: {command} {args}\n ours {a.returncode} {said(a)}\n theirs {b.returncode} {said(b)}")
        if state == "running":
            both.ours.stop()
            both.theirs.stop()
    assert not failures, "\n".join(failures)


def test_postcat_of_what_nobody_picked_up(both):
    """maildrop/: what postcat -q shows of it; and that postsuper deletes it."""
    both.ours.stop()
    both.theirs.stop()
    text = "Subject: x\nX-Long: " + "y" * 300 + "\n folded\n\nhello\n.\n\nend\n"
    for system in (both.ours, both.theirs):
        system.run("sendmail", "-f", "ann@x.test", "-F", "Ann", "later@a.test", '"too b"@b.test', input=text.encode())
    names = [m["queue_id"] for r in both.run("postqueue", "-j") for m in parse_json(r.stdout)]
    assert len(names) == 2

    def show(option):
        results = []
        for system, name in zip((both.ours, both.theirs), names):
            done = system.run("postcat", option, name)
            out = done.stdout if isinstance(done.stdout, str) else done.stdout.decode()
            results.append(re.sub(r"\w{3} \w{3} .\d \d\d:\d\d:\d\d \d{4}", "TIME", out.replace(name, "NAME")))
        return results
    for option in ("-q", "-vq", "-qb", "-qe", "-qh", "-qd", "-qbh", "-qbe"):
        a, b = show(option)
        assert a == b, option
    both.ours.run("postsuper", "-h", "ALL", "-r", "ALL", "-e", "ALL")
    a, b = both.run("postsuper", "-d", "ALL")
    assert said(a) == said(b) == ["Deleted: 1 message"]
    a, b = both.run("postqueue", "-p")
    assert a.stdout == b.stdout == "Mail queue is empty\n"
