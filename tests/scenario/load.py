# SPDX-License-Identifier: Apache-2.0
"""Clients that send all the time, and the reckoning at the end: whatever was accepted has arrived."""
import re
import smtplib
import threading
import time

from instance import DEADLINE, wait_for


class Load:
    """Client threads that send numbered messages to a virtual mailbox and through the next hop."""

    def __init__(self, inst, threads=4):
        self.inst, self.stopped = inst, False
        self.accepted, self.refused, self.failed = set(), 0, []
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
                with smtplib.SMTP("127.0.0.1", self.inst.port, timeout=20) as client:
                    client.sendmail("s@example.org", [to], f"Subject: n{n}\nX-N: {n}\n\n{'x' * 3000}\n")
                with self.lock:
                    self.accepted.add(n)
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
    numbers = [int(m[1]) for _, _, text in list(hop.messages) if (m := re.search(rb"X-N: (\d+)", text))]
    new = inst.home / "bob/new"
    if new.is_dir():
        numbers += [int(m[1]) for p in new.iterdir() if (m := re.search(r"X-N: (\d+)", p.read_text()))]
    return numbers


def all_arrive(inst, hop, load):
    missing = lambda: load.accepted - set(arrived(inst, hop))  # noqa: E731
    wait_for(lambda: f"{len(missing())} of {len(load.accepted)} accepted messages: {sorted(missing())[:5]}\n{inst.mailq()}\n{inst.log()[-6000:]}",
             lambda: not missing(), DEADLINE * 3)
    numbers = arrived(inst, hop)
    return len(numbers) - len(set(numbers))
