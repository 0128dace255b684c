# SPDX-License-Identifier: Apache-2.0
"""Log lines on their way to syslog: an instance whose /dev/log is this test's."""
import os
import re
import signal
import smtplib
import socket
import subprocess
import threading

import pytest
from instance import STAGE, is_alive, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs a /dev of its own")

# in a mount namespace: a /dev with what programs need, and the socket
START = """
mount -t tmpfs dev "$1"
for name in null zero full random urandom tty; do : >"$1/$name"; mount --bind "/dev/$name" "$1/$name"; done
: >"$1/log"
mount --bind "$2" "$1/log"
mkdir "$1/shm"
mount --rbind "$1" /dev
exec "$3" start
"""


class Syslog:
    """A daemon that keeps the lines, without priority and stamp."""

    def __init__(self, path):
        self.path = path
        self.lines = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        os.chmod(path, 0o666)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            line = self.socket.recv(8192).decode()
            assert re.match(r"<\d+>\w{3} [ \d]\d \d\d:\d\d:\d\d postfix/", line), line
            self.lines.append(line.partition(">")[2][16:])

    def find(self, pattern):
        return [i for i, line in enumerate(list(self.lines)) if re.search(pattern, line)]

    def wait(self, pattern, count=1):
        wait_for(lambda: f"{count} lines {pattern!r}:\n" + "\n".join(self.lines), lambda: len(self.find(pattern)) >= count)
        return self.find(pattern)


@pytest.fixture
def logged(instance, tmp_path):
    """A factory: an instance that logs to syslog, and the daemon."""
    def make(**main):
        inst = instance(main={"maillog_file": None, **main}, start=False)
        dev = tmp_path / "dev"
        dev.mkdir()
        syslog = Syslog(tmp_path / "syslog")
        subprocess.run(["unshare", "--mount", "sh", "-ec", START, "sh", dev, syslog.path, STAGE / "sbin/postfix"],
                       env=dict(os.environ, MAIL_CONFIG=str(inst.etc)), stdin=subprocess.DEVNULL, check=True, timeout=60)
        inst.running = True
        wait_for("the SMTP port", inst.answers)
        return inst, syslog
    return make


def send(port, count):
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        for _ in range(count):
            client.sendmail("s@example.org", ["x@far.test"], "Subject: x\r\nMessage-Id: <m@example.org>\r\n\r\nhello\r\n")


def test_a_messages_lines_come_in_order(logged, sink):
    hop = sink()
    inst, syslog = logged(relayhost=f"[127.0.0.1]:{hop.port}")
    senders = [threading.Thread(target=send, args=(inst.port, 20)) for _ in range(5)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    syslog.wait(": removed$", 100)
    ids = {re.search(r"smtpd\[\d+\]: (\w+): client=", syslog.lines[i])[1] for i in syslog.find(r": \w+: client=")}
    assert len(ids) == 100
    for id_ in ids:
        of = [re.search(r"(\w+)\[\d+\]: \w+: ([a-z-]+)", line).groups() for line in syslog.lines if f": {id_}: " in line]
        assert of == [("smtpd", "client"), ("cleanup", "message-id"), ("qmgr", "from"), ("smtp", "to"), ("qmgr", "removed")]
    inst.stop()
    assert len(syslog.find(r"/smtpd\[\d+\]: disconnect from")) >= 5


def test_lines_without_master(logged):
    """Workers finish their clients when master is killed; what they log then they send themselves."""
    inst, syslog = logged()
    workers = [pid for pid in inst.pids() if pid != inst.master_pid()]
    with socket.create_connection(("127.0.0.1", inst.port), timeout=30) as client:
        assert client.recv(100).startswith(b"220")
        before = len(syslog.wait("/smtpd.*: connect from"))
        os.kill(inst.master_pid(), signal.SIGKILL)
        inst.running = False
    syslog.wait("/smtpd.*: disconnect from", before)
    wait_for("the workers' end", lambda: not any(is_alive(pid) for pid in workers))
