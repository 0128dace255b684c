# SPDX-License-Identifier: Apache-2.0
"""smtp-source and smtp-sink as processes, and a client that talks to the latter line by line."""
import contextlib
import json
import os
import re
import socket
import subprocess

import pytest

from instance import DEADLINE, STAGE, free_port, wait_for

BENCH = STAGE / "bench"
ROOT = os.geteuid() == 0


class SinkProcess:
    """A running smtp-sink. out: its counters; err: what it said, after end()."""

    def __init__(self, tmp_path, *options, where=None, backlog="1000", ready=True, env=None):
        self.port = free_port()
        self.where = where or f"127.0.0.1:{self.port}"
        self.files = [open(tmp_path / f"sink-{self.port}.{name}", "w+b") for name in ("out", "err")]
        user = ["-u", "daemon"] if ROOT and "-u" not in options else []
        self.process = subprocess.Popen([BENCH / "smtp-sink", "-c", *user, *map(str, options), self.where, backlog], stdin=subprocess.DEVNULL,
                                        stdout=self.files[0], stderr=self.files[1], env=dict(os.environ, **(env or {})))
        if ready:
            wait_for("smtp-sink", self.listens)

    def listens(self):
        """Looks without connecting: that would be a session."""
        assert self.process.poll() is None, self.text(1)
        for table in ("tcp", "tcp6"):
            if re.search(r"^ *\d+: [0-9A-F]+:%04X [0-9A-F:]+ 0A" % self.port, open(f"/proc/net/{table}").read(), re.M):
                return True
        return self.where.startswith("unix:") and os.path.exists(self.where[5:])

    def text(self, which):
        self.files[which].seek(0)
        return self.files[which].read().decode("latin-1")

    def ended(self):
        """By itself: its counters."""
        self.process.wait(DEADLINE)
        return self.counters()

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(DEADLINE)
        return self.counters()

    def counters(self):
        found = re.findall(r"sess=(\d+) quit=(\d+) mesg=(\d+) rcpt=(\d+) last=[\d.]+[\r]", self.text(0))
        return dict(zip(("sess", "quit", "mesg", "rcpt"), map(int, found[-1]))) if found else {}


@pytest.fixture
def sinks(tmp_path):
    tmp_path.chmod(0o777)  # for dumps, as another user
    made = []

    def make(*options, **more):
        made.append(SinkProcess(tmp_path, *options, **more))
        return made[-1]

    yield make
    for one in made:
        one.end()
        assert one.process.returncode == 0, one.text(1)
        for f in one.files:
            f.close()


def source(*arguments, check=True, timeout=DEADLINE * 3):
    done = subprocess.run([BENCH / "smtp-source", *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=timeout)
    if check:
        assert done.returncode == 0, done.stderr
    return done


def figures(*arguments):
    return json.loads(source("--json", *arguments).stdout)


def accepts(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE):
            return True
    except OSError:
        return False


class Talk:
    """A client that says one line and gets one reply."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.file = self.socket.makefile("rb")

    def reply(self):
        lines = []
        while line := self.file.readline().decode():
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                break
        return lines

    def say(self, line):
        self.socket.sendall(line.encode() + b"\r\n")
        return (self.reply() or [""])[-1]

    def close(self):
        self.file.close()
        self.socket.close()


@contextlib.contextmanager
def talk(port):
    client = Talk(port)
    try:
        yield client
    finally:
        client.close()


def dumped(tmp_path, prefix):
    """The dumps, as lists of lines, in the order of their recipients."""
    texts = [p.read_bytes().decode("latin-1").split("\n") for p in tmp_path.glob(prefix + "*")]
    return sorted(texts, key=lambda lines: [x for x in lines if x.startswith("X-Rcpt-Args")])


def field(lines, name):
    return [x[len(name) + 2:] for x in lines if x.startswith(name + ": ")]


def pushed(send):
    """How many bytes go out before the other side takes no more."""
    total = 0
    while True:
        try:
            total += send(b"x" * 65536)
        except BlockingIOError:
            return total
