# SPDX-License-Identifier: Apache-2.0
"""Content that is broken off must not go on flowing: the socket has pages of a queue file that may be written over. The next hop here stops reading
in the middle of the content, lets the connection end, and only then reads what is still there."""
import socket
import threading

import pytest

from instance import wait_for

SIZE = 700_000  # more than goes out by a copy, less than what is stored in a file of its own


class Stuck:
    """A next hop that reads `first` bytes of content, says `reply` (b"": nothing), and goes on when `resume` is set."""

    def __init__(self, reply):
        self.reply = reply
        self.resume = threading.Event()
        self.server = socket.socket()
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.server.bind(("127.0.0.1", 0))
        self.server.listen(5)
        self.server.settimeout(30)
        self.port = self.server.getsockname()[1]
        self.end, self.content, self.after = None, 0, b""
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        conn, _ = self.server.accept()
        conn.settimeout(30)
        with conn:
            conn.sendall(b"220 stuck ESMTP\r\n")
            seen = b""
            for end, answer in ((b"\r\n", b"250 stuck\r\n"), (b"\r\n", b"250 ok\r\n"), (b"\r\n", b"250 ok\r\n"), (b"\r\n", b"354 go\r\n")):
                while end not in seen:
                    seen += conn.recv(1024)
                seen = seen.partition(end)[2]
                conn.sendall(answer)
            conn.sendall(self.reply)
            assert self.resume.wait(30)
            try:
                while data := conn.recv(65536):
                    self.content += len(data)
                    self.after = (self.after + data)[-100:]
                self.end = "closed"
            except ConnectionResetError:
                self.end = "reset"

    def close(self):
        self.resume.set()
        self.thread.join(60)
        self.server.close()
        assert not self.thread.is_alive()


@pytest.mark.parametrize("reply, log", [
    (b"", r"status=(deferred|uncertain) .*timed out"),
    (b"552 5.3.4 too big\r\n", r"status=bounced .*552 5\.3\.4 too big"),
    (b"450 4.3.1 not now\r\n", r"status=deferred .*450 4\.3\.1 not now"),
])
def test_nothing_flows_after_the_end(instance, reply, log):
    hop = Stuck(reply)
    try:
        inst = instance(main={"relayhost": f"[127.0.0.1]:{hop.port}", "mydestination": "", "smtp_data_xfer_timeout": "1s", "smtp_data_done_timeout": "1s",
                              "smtp_quit_timeout": "1s", "notify_classes": "", "soft_bounce": "no"})
        inst.send("u@far.test", sender="", body=("x" * 70 + "\n") * (SIZE // 71))
        inst.wait_log(r"to=<u@far\.test>.*" + log)
        wait_for("the connection's end", lambda: str(hop.port) not in connections(hop.port))
        hop.resume.set()
        hop.thread.join(30)
        assert hop.end == "reset" and hop.content < SIZE
    finally:
        hop.close()


def connections(port):
    """Ports of this host's established or closing connections to it, sender's side."""
    out = []
    with open("/proc/net/tcp") as f:
        for line in list(f)[1:]:
            _, local, remote, state = line.split()[:4]
            if int(remote.split(":")[1], 16) == port and state in ("01", "04", "05"):
                out.append(str(port))
    return out


def test_a_slow_next_hop_gets_all(instance, sink):
    """And nothing of that happens to one that is slow."""
    def slow(verb, argument, number):
        if verb == "DOT":
            threading.Event().wait(0.5)

    hop = sink(reply=slow)
    inst = instance(main={"relayhost": f"[127.0.0.1]:{hop.port}", "mydestination": ""})
    body = ("x" * 70 + "\n") * (SIZE // 71)
    for i in range(3):
        inst.send(f"u{i}@far.test", body=body)
    hop.wait(3)
    inst.wait_empty()
    assert all(content.count(b"x" * 70 + b"\r\n") == SIZE // 71 for _, _, content in hop.messages) and len(hop.messages) == 3
