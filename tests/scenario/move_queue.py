# SPDX-License-Identifier: Apache-2.0
"""What the tests of postqueue --move-to share: a host that takes mail over, and a queue that waits."""
import collections
import json
import os
import re
import subprocess
import threading

import pytest

from instance import STAGE, Sink, free_port, wait_for

STAYS = 75  # exit status


class Host(Sink):
    """A sink that keeps the arguments of MAIL and RCPT, too. answer(verb, argument, number): as reply() of a Sink."""

    def __init__(self, answer=None, **options):
        self.commands = collections.defaultdict(list)
        self.answer = answer or (lambda verb, argument, number: None)
        super().__init__(self.note, **options)

    def note(self, verb, argument, number):
        self.commands[verb].append(argument)
        return self.answer(verb, argument, number)

    @property
    def name(self):
        return f"[127.0.0.1]:{self.port}"

    def subjects(self):
        return sorted(subject(body) for _, _, body in self.messages)

    def recipients(self):
        return sorted(r for _, recipients, _ in self.messages for r in recipients)


def subject(body):
    return re.search(rb"^Subject: (.*?)\r?$", body, re.M).group(1).decode()


@pytest.fixture
def host():
    made = []

    def make(answer=None, **options):
        made.append(Host(answer, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def deferring(instance, **main):
    """Nobody listens where its mail is to go, and it is not tried again by itself."""
    return instance(main={"relayhost": f"[127.0.0.1]:{free_port()}", "minimal_backoff_time": "3000s", "maximal_backoff_time": "4000s",
                          **main})


@pytest.fixture
def inst(instance):
    return deferring(instance)


def listing(inst):
    """The queue, without what changes by itself."""
    return {m["queue_id"]: m for m in map(json.loads, inst.run("postqueue", "-j").stdout.splitlines())}


def wait_deferred(inst, count):
    def look():
        have = listing(inst).values()
        return len(have) == count and all(m["queue_name"] == "deferred" and "delay_reason" in r for m in have for r in m["recipients"])
    wait_for(lambda: f"{count} deferred messages\n{inst.mailq()}\n{inst.log()}", look)
    return listing(inst)


def move(inst, host, *options, code=0, **more):
    done = inst.run("postqueue", "--move-to", getattr(host, "name", host), *options, check=False, **more)
    assert done.returncode == code, f"exit {done.returncode}: {done.stdout}{done.stderr}\n{inst.log()}"
    return done


def begin_move(inst, host, *options):
    return subprocess.Popen([STAGE / "sbin/postqueue", "--move-to", host.name, *options], env=dict(os.environ, MAIL_CONFIG=str(inst.etc)),
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end_move(process, code):
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, f"exit {process.returncode}: {out}{err}"
    return out, err


def fill(inst, count, sender="s@example.org", domain="a.test"):
    with inst.smtp() as client:
        for i in range(count):
            client.sendmail(sender, [f"r{i}@{domain}"], f"Subject: m{i}\n\nhello {i}\n".encode())


def gated(host, verbs=("DOT",), **options):
    """Answers these when told to."""
    gate = threading.Event()

    def answer(verb, argument, number):
        if verb in verbs:
            gate.wait(30)
    to = host(answer, **options)
    to.gate = gate
    return to
