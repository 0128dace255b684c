# SPDX-License-Identifier: Apache-2.0
"""Clients that send all the time, and the reckoning at the end: whatever was accepted has arrived."""
import collections
import re
import smtplib
import threading
import time

from instance import DEADLINE, wait_for

FILLER = f"{'x' * 59}\n" * 50


class Client(smtplib.SMTP):
    """Keeps what the server answered to the content: it names the queue id."""

    def data(self, msg):
        self.answer = super().data(msg)
        return self.answer


class Load:
    """Client threads that send numbered messages to a virtual mailbox and through the next hop."""

    def __init__(self, inst, threads=4):
        self.inst, self.stopped = inst, False
        self.accepted, self.failed = {}, []  # number: queue id
        self.lock, self.number = threading.Lock(), 0
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]
        for t in self.threads:
            t.start()

    def run(self):
        while not self.stopped:
            with self.lock:
                self.number += 1
                n = self.number
            to = "bob@v.test" if n % 2 else "x@far.test"
            try:
                with Client("127.0.0.1", self.inst.port, timeout=20) as client:
                    try:
                        client.sendmail("s@example.org", [to], f"Subject: n{n}\nX-N: {n}\n\n{FILLER}")
                    finally:  # what it has answered for counts, however the session ends
                        code, text = getattr(client, "answer", (0, b""))
                        if code == 250:
                            with self.lock:
                                self.accepted[n] = text.decode().rpartition(" ")[2]
            except (OSError, smtplib.SMTPException) as e:
                with self.lock:
                    self.failed.append(f"{type(e).__name__}: {e}")
                time.sleep(0.02)

    def stop(self):
        self.stopped = True
        for t in self.threads:
            t.join(40)


def running(instance, sink, **options):
    hop = sink()
    inst = instance(main={"virtual_mailbox_domains": "v.test", "virtual_mailbox_base": "{root}/mail", "virtual_mailbox_maps": "hash:{etc}/vmailbox",
                          "virtual_uid_maps": "static:2000", "virtual_gid_maps": "static:2000", "relayhost": f"[127.0.0.1]:{hop.port}",
                          "header_checks": "regexp:{etc}/checks", "service_throttle_time": "1s", "minimal_backoff_time": "1s", "default_process_limit": "1200"},
                    files={"vmailbox": "bob@v.test bob/\n", "checks": "/^X-Never/ IGNORE\n"}, start=False, **options)
    inst.postmap("hash:{etc}/vmailbox")
    inst.start()
    return inst, hop


def arrived(inst, hop):
    """What has arrived where: [(number, place, content)]. A message without a number has None."""
    found = [("the next hop", text.decode(errors="replace").replace("\r\n", "\n")) for _, _, text in list(hop.messages)]
    new = inst.home / "bob/new"
    if new.is_dir():
        found += [("bob", p.read_text(errors="replace")) for p in new.iterdir()]
    return [(int(m[1]) if (m := re.search(r"^X-N: (\d+)$", text, re.M)) else None, place, text) for place, text in found]


def all_arrive(inst, hop, load):
    """Waits until every accepted message has arrived, whole and where it belongs. Returns how many came more than once."""
    missing = lambda: load.accepted.keys() - {n for n, _, _ in arrived(inst, hop)}  # noqa: E731

    def about(numbers):
        log = inst.log().splitlines()
        return "".join(f"\n{n} ({load.accepted.get(n)}):" + "".join(f"\n  {line}" for line in log if f" {load.accepted.get(n)}: " in line)
                       for n in sorted(numbers))

    def state():
        count = collections.Counter(n for n, _, _ in arrived(inst, hop))
        return (f"{len(missing())} of {len(load.accepted)} accepted messages:{about(missing())}\n"
                f"arrived, number: times: {dict(sorted(count.items(), key=str))}\n{hop.connections} connections at the next hop\n"
                f"{inst.mailq()}\nlog:\n{inst.log()}")

    wait_for(state, lambda: not missing(), DEADLINE * 3)
    found = [a for a in arrived(inst, hop) if a[0] is not None]  # a test may send others of its own
    for n, place, text in found:
        assert place == ("bob" if n % 2 else "the next hop"), f"at {place}: {about([n])}\n{text}"
        assert f"\nSubject: n{n}\nX-N: {n}\n" in text and text.endswith(f"\n\n{FILLER}"), f"changed: {about([n])}\n{text}"
    more = collections.Counter(n for n, _, _ in found)
    again = {n for n, times in more.items() if times > 1}
    if again:
        print(f"more than once: {about(again)}")
    return len(found) - len(more)
