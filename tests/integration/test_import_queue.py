# SPDX-License-Identifier: Apache-2.0
"""postfix import-queue on queues that Debian's Postfix made: what its postcat tells of them is what ours has, and delivers."""
import json
import os
import pathlib
import re
import shutil
import smtplib
import struct
import subprocess
import sys
import tempfile
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "scenario"))
from debian_postfix import DebianPostfix, Milter  # noqa: E402
from instance import Instance, Sink, wait_for  # noqa: E402
from test_postconf_debian import reference  # noqa: E402, F401 (a fixture)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix starts as root only")

HEADER_CHECKS = """\
/^Subject: held/ HOLD
/^Subject: prepend/ PREPEND X-Added: by a rule
/^Subject: replace/ REPLACE Subject: a subject that is much longer than the one before
/^Subject: filter/ FILTER smtp:[127.0.0.1]:9
/^Subject: redirect/ REDIRECT elsewhere@dest.example
"""
ALIASES = "list@alias.example first@dest.example second@dest.example\n"
LONG_LINES = b"".join(bytes([97 + i % 26]) * 9000 + b"\r\n" for i in range(4))


def change(send, subject):
    if subject.startswith(b"milter"):
        send(b"m", struct.pack("!I", 1) + b"Subject\0changed by a milter to something that has no room\0")
        send(b"i", struct.pack("!I", 0) + b"X-First\0put in front\0")
        send(b"h", b"X-Last\0appended\0")
        send(b"m", struct.pack("!I", 1) + b"X-Gone\0\0")
        send(b"m", struct.pack("!I", 1) + b"X-Short\0no\0")
        send(b"+", b"<added@dest.example>\0")
        send(b"-", b"<taken@dest.example>\0")
        send(b"e", b"<changed@src.example>\0")
    if subject.startswith(b"milter short body"):
        send(b"b", b"another body\r\nof two lines\r\n")
    if subject.startswith(b"milter long body"):
        for i in range(4):
            send(b"b", b"%d: a longer body %s\r\n" % (i, b"y" * 60) * 500)


def next_hop(verb, argument, number):
    """Of the old system: takes what is for done@, refuses fails@ for good, has all others wait."""
    if verb != "RCPT" or "done" in argument:
        return None
    return b"550 5.1.1 no such user\r\n" if "fails" in argument else b"451 4.2.0 come back later\r\n"


def fill(old):
    with smtplib.SMTP("127.0.0.1", old.port, timeout=30, local_hostname="client.example") as s:
        def send(subject, rcpts, *, sender="s@src.example", head="", body=b"Hello\r\n.dot\r\n", mail=(), rcpt=()):
            text = f"Subject: {subject}\r\n{head}From: s@src.example\r\n\r\n".encode() + body
            s.sendmail(sender, rcpts, text, mail_options=list(mail), rcpt_options=list(rcpt))

        send("deferred", ["r@dest.example"])
        send("dsn", ["r@dest.example", "list@alias.example"], mail=["ENVID=an+2Bid", "RET=HDRS", "BODY=8BITMIME"],
             rcpt=["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;asked+2Bfor@dest.example"], body="K\u00f6rper\r\n".encode())
        send("utf8 \u00fc", ["j\u00f6@dest.example"], sender="\u00fc@src.example", mail=["SMTPUTF8", "BODY=8BITMIME"])
        send("null sender", ["r@dest.example"], sender="")
        send("partly", ["done1@dest.example", "later@dest.example", "done2@dest.example"])
        send("partly failed", ["fails@dest.example", "later@dest.example"])
        send("expire", ["r@dest.example"])
        send("long lines", ["r@dest.example"], body=LONG_LINES)
        send("unfinished", ["r@dest.example"], body=b"bare\nline\nends")
        send("large", ["r@dest.example"], body=b"%s\r\n" % (b"z" * 76) * 150000)
        for kind in ("plain", "short body", "long body"):
            send("milter " + kind, ["r@dest.example", "taken@dest.example"],
                 head="X-Gone: x\r\nX-Short: a value that is long\r\n", body=b"z\r\n" * 2000)
        for kind in ("held", "prepend", "replace", "filter", "redirect"):
            send(kind, ["r@dest.example", "r2@dest.example"])


def submit(old, *args, text=b"Subject: handed in\n\nhi\n"):
    old.run("sendmail", "-f", "me@src.example", "-F", "Full Name", *args, input=text)


DIRS = ("incoming", "active", "deferred", "hold", "maildrop", "corrupt")


class Queue:
    """A filled queue directory and what Postfix's own postcat says of each file in it."""

    def __init__(self, reference, where):
        hop, milter = Sink(reply=next_hop, ehlo_extra=("SMTPUTF8",)), Milter(change)
        self.old = old = DebianPostfix(reference, where / "old", relayhost=f"[127.0.0.1]:{hop.port}",
                                       smtpd_milters=f"inet:127.0.0.1:{milter.port}", message_size_limit=40000000,
                                       header_checks=f"regexp:{where}/old/etc/checks", virtual_alias_domains="alias.example",
                                       virtual_alias_maps=f"texthash:{where}/old/etc/aliases", minimal_backoff_time="3000s",
                                       maximal_backoff_time="4000s")
        (old.etc / "checks").write_text(HEADER_CHECKS)
        (old.etc / "aliases").write_text(ALIASES)
        self.hop = hop
        try:
            old.start()
            fill(old)
            submit(old, "x@dest.example")
            # tried once, and so were the reports of a failure and of an expansion
            wait_for(lambda: f"20 deferred: {old.files(*DIRS)}\n{old.log()}", lambda: len(old.files("deferred")) == 20 and not old.files("incoming", "active"))
            old.stop()
            self.expired = self.by_subject("Subject: expire")
            old.run("postsuper", "-c", old.etc, "-e", self.expired)
            # without queue manager mail stays where it came in
            old.start(without=("qmgr", "pickup"), enable_long_queue_ids="yes", hash_queue_depth="2",
                      hash_queue_names="incoming, active, deferred, defer, hold, bounce")
            with smtplib.SMTP("127.0.0.1", old.port, timeout=30) as s:
                for i in range(2):
                    s.sendmail("s@src.example", ["r@dest.example"], f"Subject: came in {i}\r\n\r\nx\r\n")
            old.stop()
        finally:
            old.stop()
            milter.close()
        submit(old, "-G", "-N", "success", "-V", "an id", "drop@dest.example")
        came = sorted(old.files("incoming").values())
        assert len(came) == 2 and all(len(p.name) > 12 for p in came)  # of the long form
        came[0].rename(old.spool / "active" / came[0].name)  # as its queue manager does
        self.path = old.spool

    def by_subject(self, line):
        for name, path in self.old.files("deferred").items():
            if line.encode() in path.read_bytes():
                return name
        raise AssertionError(line)

    def copy(self, where):
        subprocess.run(["cp", "-a", self.path, where], check=True)
        return where


@pytest.fixture(scope="module")
def queue(reference):  # noqa: F811
    # not below pytest's directory, which another run of it closes for daemons without privilege
    where = pathlib.Path(tempfile.mkdtemp(prefix="postrider-queue-"))
    where.chmod(0o755)
    q = Queue(reference, where)
    yield q
    q.hop.close()
    shutil.rmtree(where, ignore_errors=True)


@pytest.fixture
def system(tmp_path):
    made = []

    def make(**options):
        made.append(Instance(tmp_path / f"i{len(made)}", **options))
        return made[-1]

    yield make
    problems = [p for one in made for p in one.close()]
    assert not problems, "\n".join(problems)


def tree(path):
    return {str(p.relative_to(path)): (p.lstat().st_mode, p.lstat().st_mtime_ns, p.lstat().st_uid,
                                       p.read_bytes() if p.is_file() and not p.is_symlink() else None)
            for p in pathlib.Path(path).rglob("*")}


def listed(system):
    """What Postfix's postqueue would say, too."""
    items = map(json.loads, system.run("postqueue", "-j").stdout.splitlines())
    return {item["queue_id"]: {k: v for k, v in item.items() if not k.startswith("waits_")}
            for item in items if item["queue_name"] != "maildrop"}


def ours(system, name):
    """Fields, recipients and content of a message here."""
    text = system.run("postcat", "-e", "-q", name).stdout
    fields, rcpts, pending = {}, [], {}
    for line in text.splitlines():
        field, _, value = line.partition(": ")
        if field == "named_attribute":
            field, _, value = value.partition("=")
        if field in ("original_recipient", "dsn_orig_rcpt", "notify_flags"):
            pending[field] = value
        elif field == "recipient":
            rcpts.append({"address": value, **pending})
            pending = {}
        elif value:
            fields[field] = value
    return fields, rcpts, system.run("postcat", "-bh", "-q", name).stdout


def utf8(address):
    return address.encode("latin-1").decode()


def plain(orcpt):
    return re.sub(r"\+([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), orcpt).encode("latin-1", "replace")


def same_message(queue, system, name, path):
    fields, rcpts, content = queue.old.facts(path)
    our_fields, our_rcpts, our_content = ours(system, name)
    assert our_fields.get("sender", "") == fields["sender"][-1]
    for field in ("client_name", "client_address", "client_port", "reverse_client_name", "helo_name", "protocol_name",
                  "envelope_id", "ret_flags", "content_filter", "sender_fullname"):
        assert our_fields.get(field) == (fields.get(field) or [None])[-1], (name, field)
    assert our_fields["rewrite_context"] == fields.get("rewrite_context", ["remote"])[-1]
    if "8bit" in fields.get("encoding", ()):
        assert our_fields.get("encoding") == "8bit"
    waiting = [r for r in rcpts if r["kind"] == "recipient"]
    assert [r["address"] for r in our_rcpts] == [r["address"] for r in waiting]
    for mine, his in zip(our_rcpts, waiting):
        assert mine.get("notify_flags") == his.get("notify_flags")
        assert mine.get("original_recipient", mine["address"]) == his.get("original_recipient", his["address"])
        assert plain(mine.get("dsn_orig_rcpt", "")) == his.get("dsn_orig_rcpt", "").encode()
    assert our_content.encode() == content


def test_all_of_it(queue, system):
    """Everything that Postfix knows is here, and is delivered once."""
    hop = Sink(ehlo_extra=("SMTPUTF8",))
    s = system(main={"relayhost": f"[127.0.0.1]:{hop.port}", "message_size_limit": "40000000",
                     "maximal_queue_lifetime": "5d"})
    before = tree(queue.path)
    done = s.run("postfix", "import-queue", queue.path)
    assert tree(queue.path) == before
    assert "imported 24 messages (hold 1, deferred 20, active 1, incoming 1, maildrop 1, corrupt 0)" in done.stderr
    assert "0 not imported" in done.stderr
    here = listed(s)
    files = queue.old.files("deferred", "hold", "incoming", "active")
    assert set(here) == set(files)
    for name, path in files.items():
        same_message(queue, s, name, path)
        arrived = queue.old.facts(path)[0]["message_arrival_time"][0]
        assert here[name]["arrival_time"] == time.mktime(time.strptime(arrived, "%a %b %d %H:%M:%S %Y"))
        assert here[name]["forced_expire"] == (name == queue.expired)
    for name in queue.old.files("deferred"):
        reasons = [r.get("delay_reason") for r in here[name]["recipients"]]
        assert any(r and ("come back later" in r or "refused" in r) for r in reasons), (name, here[name])
    s.start()
    # what was deferred waits for the time of its next attempt, what is on hold for somebody
    s.wait_log("status=sent")
    wait_for(lambda: s.mailq(), lambda: len(hop.messages) == 3)
    here = listed(s)
    assert {m["queue_name"] for m in here.values()} == {"deferred", "hold"} and len(here) == 21
    # also when the queue was read anew
    s.stop()
    assert listed(s) == here
    s.start()
    assert listed(s) == here and len(hop.messages) == 3
    again = s.run("postfix", "import-queue", queue.path)
    assert "imported 0 messages" in again.stderr and "24 imported before" in again.stderr
    s.run("postsuper", "-d", queue.by_subject("Subject: filter"))
    s.run("postsuper", "-H", "ALL")
    s.run("postqueue", "-f")
    s.wait_empty()
    special = {queue.by_subject("Subject: " + s) for s in ("filter", "redirect", "expire")}
    wanted = [(fields["sender"][-1], sorted(r["address"] for r in rcpts if r["kind"] == "recipient"))
              for fields, rcpts, _ in (queue.old.facts(path) for name, path in files.items() if name not in special)]
    assert len(wanted) == 20
    got = [(utf8(sender), sorted(map(utf8, rcpts))) for sender, rcpts, _ in hop.messages]
    for one in wanted:
        assert one in got, one
        got.remove(one)
    # the report of the one that was to expire, what was handed in, the redirected one; nothing twice
    assert sorted(got) == [("", ["s@src.example"]), ("me@src.example", ["drop@dest.example"]), ("s@src.example", ["elsewhere@dest.example"])]
    assert max(len(text) for _, _, text in hop.messages) > 11000000
    hop.close()


def test_while_it_runs(queue, system):
    hop = Sink(ehlo_extra=("SMTPUTF8",))
    s = system(main={"relayhost": f"[127.0.0.1]:{hop.port}", "message_size_limit": "40000000"})
    s.start()
    done = s.run("postfix", "import-queue", queue.path)
    assert "imported 24 messages" in done.stderr
    s.run("postqueue", "-f")
    wait_for(lambda: s.mailq() + s.log(), lambda: len(listed(s)) == 2 and len(hop.messages) == 22)
    assert "24 imported before" in s.run("postfix", "import-queue", queue.path).stderr
    hop.close()


def test_what_is_refused(queue, system, tmp_path):
    """A Postfix that runs, our own queue, what is no queue."""
    s = system()
    s.expect_fatal = True
    old = queue.old
    old.start(without=("qmgr", "pickup"))
    try:
        done = s.run("postfix", "import-queue", queue.path, check=False)
    finally:
        old.stop()
    assert done.returncode == 2 and "is running: stop it first" in done.stderr
    s.spool.mkdir(exist_ok=True)
    done = s.run("postfix", "import-queue", s.spool, check=False)
    assert done.returncode == 2 and "is the queue directory of this mail system" in done.stderr
    done = s.run("postfix", "import-queue", tmp_path, check=False)
    assert done.returncode == 2 and "is not a queue directory" in done.stderr
    done = s.run("postfix", "import-queue", tmp_path / "nowhere", check=False)
    assert done.returncode == 2 and "nowhere: No such file or directory" in done.stderr
    done = s.run("postfix", "import-queue", check=False)
    assert done.returncode == 1 and "usage" in done.stderr


def test_damage(queue, system, tmp_path):
    """Each file that is wrong is named with the reason; all others come in."""
    s = system()
    spool = queue.copy(tmp_path / "copy")
    sound = next(p for p in (spool / "deferred").rglob("*") if p.name == queue.by_subject("Subject: deferred"))
    text = sound.read_bytes()
    others = len(queue.old.files("deferred", "active", "incoming", "maildrop", "hold"))
    part = spool / "deferred" / "0"
    part.mkdir(exist_ok=True)
    files = {
        "0AAAAAAAA01": (text[:len(text) // 2], "the file ends within the record|it has no end"),
        "0AAAAAAAA02": (b"", "the file is empty"),
        "0AAAAAAAA03": (b"\x80\x81\x82\x83" + b"garbage " * 500, "no length|ends within|not a queue file|no end"),
        "0AAAAAAAA04": (text[:97] + b"T\xff\xff\xff\xff\xff\xff\xff\x7f" + text[97:], "no length that can be"),
        "0AAAAAAAA05": (text[:97] + b"T\xff\xff\xff\x07" + text[97:], "no length that can be"),
        "0AAAAAAAA06": (text[:97] + b"p\x0f%15d" % 97 + text[97:], "leads in a circle"),
        "0AAAAAAAA07": (text[:97] + b"p\x0f%15d" % 9999999 + text[97:], "leads out of the file"),
        "0AAAAAAAA08": (text[:97] + b"p\x0fnot a number..." + text[97:], "pointer at 97"),
        "0AAAAAAAA09": (b"hello, world", "not a queue file|no length|ends within"),
        "0.not-an-id": (text, "its name is not a queue id"),
    }
    for name, (data, _) in files.items():
        (part / name).write_bytes(data)
        (part / name).chmod(0o700)
    (part / "0AAAAAAAA10").mkdir()
    (part / "0AAAAAAAA11").symlink_to(sound)
    os.mkfifo(part / "0AAAAAAAA12", 0o700)
    (spool / "corrupt" / "0AAAAAAAA13").write_bytes(text)
    (spool / "incoming" / "0AAAAAAAA14").write_bytes(text[:-2])
    (spool / "incoming" / "0AAAAAAAA14").chmod(0o600)
    before = tree(spool)
    done = s.run("postfix", "import-queue", spool, check=False)
    assert tree(spool) == before
    assert done.returncode == 1
    for name, (_, reason) in files.items():
        assert re.search(rf"deferred/0/{re.escape(name)}: not imported: .*({reason})", done.stderr), (name, done.stderr)
    assert "0AAAAAAAA10: not imported: it is a directory" in done.stderr
    assert "0AAAAAAAA11: not imported: it is a symbolic link" in done.stderr
    assert "0AAAAAAAA12: not imported: it is not a file" in done.stderr
    assert "0AAAAAAAA13: was set aside as corrupt, and is whole: imported on hold" in done.stderr
    assert "1 incomplete, 13 not imported" in done.stderr
    assert f"imported {others + 1} messages" in done.stderr
    assert "0AAAAAAAA13" in listed(s)
    # mended, it comes, and nothing else
    (part / "0AAAAAAAA01").write_bytes(text)
    done = s.run("postfix", "import-queue", spool, check=False)
    assert "imported 1 message (" in done.stderr and f"{others + 1} imported before" in done.stderr


def test_failures_that_nobody_was_told(queue, system, tmp_path):
    """A recipient that is marked as done and stands in bounce/: its sender gets the report, it gets nothing."""
    hop = Sink()
    s = system(main={"relayhost": f"[127.0.0.1]:{hop.port}", "message_size_limit": "40000000"})
    spool = tmp_path / "one"
    source = queue.by_subject("Subject: prepend")
    path = queue.old.files("deferred")[source]
    log = queue.old.files("defer")[source].read_text()
    paragraphs = log.strip("\n").split("\n\n")
    failed = next(p for p in paragraphs if "recipient=r2@dest.example" in p)
    (spool / "deferred").mkdir(parents=True)
    (spool / "bounce").mkdir()
    data = path.read_bytes().replace(b"R\x0fr2@dest.example", b"D\x0fr2@dest.example", 1)
    (spool / "deferred" / source).write_bytes(data)
    (spool / "deferred" / source).chmod(0o700)
    (spool / "bounce" / source).write_text("\n" + failed.replace("4.2.0", "5.7.9") + "\n\n")
    done = s.run("postfix", "import-queue", spool)
    assert re.search(rf"{source}: 1 failed recipient, not reported yet: returned by \w+", done.stderr)
    s.start()
    s.run("postqueue", "-f")
    s.wait_empty()
    assert sorted((a, b) for a, b, _ in hop.messages) == [("", ["s@src.example"]), ("s@src.example", ["r@dest.example"])]
    report = next(text for sender, _, text in hop.messages if sender == "")
    assert b"Final-Recipient: rfc822; r2@dest.example" in report and b"Status: 5.7.9" in report
    assert b"come back later" in report
    hop.close()
