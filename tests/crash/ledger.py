# SPDX-License-Identifier: Apache-2.0
"""Mixed load for an instance, and the books on it: what was acknowledged, what arrived, how often and when.

Everything about a message follows from its number and the seed: id, kind, recipients, body. So whatever arrives can be compared with
what was sent, and a run is repeated by its seed (what the machine's timing adds is not).
"""
import hashlib
import os
import pathlib
import pwd
import random
import re
import smtplib
import subprocess
import sys
import threading
import time
import typing

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "scenario"))
from instance import STAGE, Instance, Sink  # noqa: E402

USERS = 8
SENDER = "sender@example.org"
#        kind       weight, bytes of body
KINDS = {
    "local": (20, 3000),
    "relayed": (20, 3000),
    "mixed": (6, 1000),  # local and relayed recipients
    "deferred": (14, 3000),  # refused by its next hop now and then
    "held": (8, 2000),
    "deleted": (8, 2000),
    "large": (3, 2 << 20),
    "many": (3, 2000),
    "sendmail": (6, 1500),
    "file": (6, 3000),  # an alias for a Maildir: local's
    "mbox": (8, 3000),  # one of virtual's, and an alias for one. When mail came into it does not show
    "moved": (10, 3000),  # refused by its next hop; another host is to have it: postqueue --move-to
}
TIMED = [k for k in KINDS if k not in ("mbox", "moved")]
MOVED = "z@wait.test"
# recipient: mailbox below mail/
BOXES = {**{f"u{i}@box.test": f"u{i}/" for i in range(USERS)}, "b@box.test": "b", "d@mx.example.test": "d/", "f@mx.example.test": "f"}
MANY = 120


class Copy(typing.NamedTuple):
    """A delivery. A Maildir: the time of the rename to new/, twice."""
    taken: float  # by the next hop
    said: float  # the agent may know of it from then on; what lies between is the next hop's slowness, which is ours


class Message:
    def __init__(self, seed, number, kind):
        self.id = f"c{seed:x}-{number}"
        self.kind = kind
        pick = random.Random(self.id)
        self.bytes = pick.randrange(KINDS[kind][1] // 2, KINDS[kind][1] + 1)
        users = [f"u{i}@box.test" for i in pick.sample(range(USERS), 3)]
        self.rcpts = {
            "local": users[:1], "relayed": ["x@relay.test"], "mixed": [*users[:2], "y@relay.test"], "deferred": ["x@defer.test"],
            "held": ["x@wait.test"], "deleted": ["y@wait.test"], "large": [pick.choice([users[0], "x@relay.test", "x@defer.test"])],
            "many": [*users, *(f"n{i}@relay.test" for i in range(MANY))], "sendmail": users[:1],
            "file": ["d@mx.example.test"], "mbox": ["b@box.test", "f@mx.example.test"],
            "moved": [MOVED],
        }[kind]
        self.fate = "unknown"  # acknowledged, refused (4xx, 5xx, exit status), unknown (no answer)
        self.acknowledged = 0.0
        self.queue_id = None
        self.held = False  # postsuper said so
        self.deleted = False  # postsuper said so
        self.maybe_deleted = False  # postsuper was asked, and did not answer
        self.delivered = {}  # recipient: [Copy]

    def body(self):
        """Lines of at most 76 characters, `bytes` long in all, give or take a line."""
        line = hashlib.sha256(self.id.encode()).hexdigest()
        lines = [f"{self.id} {self.kind} {self.bytes}"]
        lines += [f"{line} {i}" for i in range(self.bytes // (len(line) + 8))]
        return "\n".join([*lines, f"end of {self.id}"]) + "\n"

    def text(self):
        """With the line ends of SMTP."""
        return f"From: <{SENDER}>\nTo: <{self.rcpts[0]}>\nSubject: {self.kind}\nX-Crash-Id: {self.id}\nMessage-Id: <{self.id}@crash>\n\n{self.body()}".replace("\n", "\r\n").encode()


class Ledger:
    def __init__(self, seed):
        self.seed = seed
        self.lock = threading.Lock()
        self.messages = {}
        self.problems = []
        self.draining = False  # next hops take everything now

    def new(self, kind):
        with self.lock:
            m = Message(self.seed, len(self.messages), kind)
            self.messages[m.id] = m
            return m

    def problem(self, text):
        with self.lock:
            self.problems.append(text)

    def acknowledged(self):
        with self.lock:
            return [m for m in self.messages.values() if m.fate == "acknowledged"]

    def arrived(self, text, rcpts, copy):
        """A delivery: the bytes of a message, the recipients, the times."""
        text = text.replace(b"\r\n", b"\n")
        head, _, body = text.partition(b"\n\n")
        found = re.search(rb"^X-Crash-Id: (\S+)$", head, re.M)
        if not found:
            if b"\nAuto-Submitted:" not in head:
                self.problem(f"a delivery to {rcpts} without id: {text[:300]!r}")
            return
        with self.lock:
            m = self.messages.get(found[1].decode())
        if m is None:
            self.problem(f"delivery of {found[1]!r}, which was never sent")
            return
        if body != m.body().encode():
            self.problem(f"{m.id} ({m.kind}) arrived with other content: {len(body)} bytes, sent {len(m.body())}")
        for r in rcpts:
            if r not in m.rcpts:
                self.problem(f"{m.id} ({m.kind}) arrived for {r}")
            with self.lock:
                m.delivered.setdefault(r, []).append(copy)


class Hop:
    """A next hop whose deliveries go into the ledger; `stubborn`: the share of recipients that it refuses for now."""

    def __init__(self, ledger, stubborn=0.0):
        pick = random.Random(f"{ledger.seed}/{stubborn}")

        def reply(verb, argument, number):
            if verb == "RCPT" and not ledger.draining and pick.random() < stubborn:
                return b"450 4.2.0 not now\r\n"
            return None

        self.sink = Sink(reply=reply, taken=lambda message, since: ledger.arrived(message[2], message[1], Copy(since, time.time())))
        self.port = self.sink.port

    def close(self):
        self.sink.close()


class Setup:
    """An instance with the places that the kinds of mail go to."""

    def __init__(self, root, ledger, start=True, hops=None, **main):
        """hops: another one's, who closes them."""
        self.ledger = ledger
        self.own_hops = hops is None
        self.hops = hops or [Hop(ledger), Hop(ledger, 0.7), Hop(ledger, 1.0)]
        relay, defer, wait = (f"smtp:[127.0.0.1]:{h.port}" for h in self.hops)
        self.inst = Instance(root, main={
            "virtual_mailbox_domains": "box.test", "virtual_mailbox_base": "{root}/mail",
            "virtual_mailbox_maps": "inline:{ " + ", ".join(f"{{{k} = {v}}}" for k, v in BOXES.items() if "@box" in k) + " }",
            "alias_maps": "texthash:{etc}/aliases", "default_privs": pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() else "games",
            "virtual_uid_maps": f"static:{os.geteuid() or 2000}", "virtual_gid_maps": f"static:{os.getegid() or 2000}",
            "transport_maps": f"inline:{{ {{relay.test = {relay}}}, {{defer.test = {defer}}}, {{wait.test = {wait}}} }}",
            "relay_domains": "relay.test, defer.test, wait.test", "default_process_limit": "40", "service_throttle_time": "1s",
            "minimal_backoff_time": "1s", "maximal_backoff_time": "2s", "queue_run_delay": "1s", "maximal_queue_lifetime": "1d",
            "default_destination_concurrency_failed_cohort_limit": "0", "message_size_limit": "20480000", **main},
            files={"aliases": "".join(f"{k.partition('@')[0]} {root}/mail/{v}\n" for k, v in BOXES.items() if "@box" not in k)})
        self.mailboxes_read = set()
        if start:
            self.inst.start()

    def read_mailboxes(self):
        for rcpt, box in BOXES.items():
            for path in self.inst.home.glob(f"{box}new/*") if box.endswith("/") else ():
                if path not in self.mailboxes_read:
                    self.mailboxes_read.add(path)
                    self.ledger.arrived(path.read_bytes(), [rcpt], Copy(path.stat().st_ctime, path.stat().st_ctime))

    def close(self):
        try:
            return self.inst.close(keep=True)  # whoever made the directory removes it
        finally:
            for h in self.hops if self.own_hops else ():
                h.close()


class Load:
    """Client threads: SMTP sessions of a few messages each, sendmail, and postsuper on what waits."""

    def __init__(self, setup, threads=4, kinds=None):
        self.inst, self.ledger, self.stopped = setup.inst, setup.ledger, False
        self.kinds = kinds or TIMED
        self.waiting = []  # messages for postsuper
        self.replies = {}  # code of a refusal: how many
        names = [*(("client", self._client, i) for i in range(threads)), ("admin", self._admin, 0)]
        self.threads = [threading.Thread(target=f, args=(random.Random(f"{self.ledger.seed}/{n}{i}"),), daemon=True) for n, f, i in names]
        for t in self.threads:
            t.start()

    def stop(self):
        self.stopped = True
        for t in self.threads:
            t.join(60)
            assert not t.is_alive(), "a client hangs"

    def _client(self, pick):
        while not self.stopped:
            kinds = pick.choices(self.kinds, [KINDS[k][0] for k in self.kinds], k=pick.randrange(1, 6))
            try:
                self._session([self.ledger.new(k) for k in kinds])
            except (OSError, smtplib.SMTPException):
                time.sleep(0.05)  # whatever was not answered stays "unknown"

    def _session(self, messages):
        for m in [m for m in messages if m.kind == "sendmail"]:
            self._sendmail(m)
        messages = [m for m in messages if m.kind != "sendmail"]
        if not messages:
            return
        client = smtplib.SMTP("127.0.0.1", self.inst.port, timeout=20)
        try:
            client.ehlo_or_helo_if_needed()
            for m in messages:
                self._transaction(client, m)
        finally:
            client.close()

    def _transaction(self, client, m):
        for code, text in (client.mail(SENDER), *(client.rcpt(r) for r in m.rcpts)):
            if code >= 400:
                return self._refused(client, m, code, text)
        try:
            code, text = client.data(m.text())
        except smtplib.SMTPDataError as e:
            code, text = e.smtp_code, e.smtp_error
        if code != 250:
            return self._refused(client, m, code, text)
        queued = re.search(rb"queued as (\S+)", text)
        with self.ledger.lock:
            m.fate, m.acknowledged, m.queue_id = "acknowledged", time.time(), queued[1].decode()
            if m.kind in ("held", "deleted"):
                self.waiting.append(m)

    def _refused(self, client, m, code, text):
        with self.ledger.lock:
            m.fate = "refused"
            self.replies.setdefault(code, []).append(text.decode("utf-8", "replace"))
        client.rset()

    def _sendmail(self, m):
        done = subprocess.run([STAGE / "sbin/sendmail", "-i", "-f", SENDER, *m.rcpts], input=m.text(), capture_output=True, timeout=30,
                              env=dict(os.environ, MAIL_CONFIG=str(self.inst.etc)))
        m.fate, m.acknowledged = "acknowledged" if done.returncode == 0 else "refused", time.time()
        m.acknowledged = time.time()

    def _admin(self, pick):
        while not self.stopped:
            with self.ledger.lock:
                m = self.waiting.pop(pick.randrange(len(self.waiting))) if self.waiting else None
            if m is None:
                time.sleep(0.02)
                continue
            option = "-h" if m.kind == "held" else "-d"
            m.maybe_deleted = m.kind == "deleted"
            try:
                done = self.inst.run("postsuper", option, m.queue_id, check=False, timeout=20)
            except subprocess.TimeoutExpired:
                self.ledger.problem(f"postsuper {option} hangs")
                return
            said = re.search(r"^postsuper: (Placed on hold|Deleted): 1 message", done.stderr, re.M)
            if done.returncode == 0 and said:
                m.held, m.deleted = m.kind == "held", m.kind == "deleted"
                m.acted = time.time()
