# SPDX-License-Identifier: Apache-2.0
"""How the SMTP client waits for replies: without a thread for each, for every piece as long as the limit says, and through a reload."""
import re
import socket
import threading
import time

import pytest

THREADS, DELIVERIES = 2, 12


class Held:
    """A sink's reply function: the final dot is answered when `go` is set; counts those that wait."""

    def __init__(self):
        self.waiting, self.all, self.go, self.lock = 0, threading.Event(), threading.Event(), threading.Lock()

    def __call__(self, verb, argument, number):
        if verb == "DOT":
            with self.lock:
                self.waiting += 1
                if self.waiting >= DELIVERIES:
                    self.all.set()
            assert self.go.wait(60)
        return None


def test_a_delivery_that_waits_holds_no_thread(instance, sink):
    held = Held()
    hop = sink(reply=held)
    inst = instance(main={"relayhost": f"[127.0.0.1]:{hop.port}", "worker_threads": str(THREADS),
                          "initial_destination_concurrency": str(DELIVERIES), "default_destination_concurrency_limit": str(DELIVERIES)})
    for n in range(DELIVERIES):
        inst.send(f"u{n}@far.test")
    assert held.all.wait(60), f"{held.waiting} of {DELIVERIES} deliveries are under way"
    held.go.set()
    hop.wait(DELIVERIES)
    inst.wait_empty()
    assert sorted(rcpts for _, rcpts, _ in hop.messages) == sorted([f"u{n}@far.test"] for n in range(DELIVERIES))


def test_a_reload_does_not_cut_off(instance, sink):
    held = Held()
    hop = sink(reply=held)
    inst = instance(main={"relayhost": f"[127.0.0.1]:{hop.port}", "initial_destination_concurrency": str(DELIVERIES),
                          "default_destination_concurrency_limit": str(DELIVERIES)})
    for n in range(DELIVERIES):
        inst.send(f"u{n}@far.test")
    assert held.all.wait(60), f"{held.waiting} of {DELIVERIES} deliveries are under way"
    inst.reload()
    inst.send("later@far.test")
    held.go.set()
    hop.wait(DELIVERIES + 1)
    inst.wait_empty()
    assert len(hop.messages) == DELIVERIES + 1
    assert len(re.findall(r"status=sent", inst.log())) == DELIVERIES + 1


def converse(server, mail_reply):
    """One session; mail_reply: pieces of the reply to MAIL, and the seconds before each. What came after MAIL."""
    server.settimeout(60)
    conn, _ = server.accept()
    conn.settimeout(60)
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    seen = []
    with conn, conn.makefile("rb") as lines:
        conn.sendall(b"220 hop ESMTP\r\n")
        for line in lines:
            seen.append(line)
            if line.startswith(b"MAIL"):
                for seconds, piece in mail_reply:
                    time.sleep(seconds)
                    conn.sendall(piece)
            elif line.startswith(b"DATA"):
                conn.sendall(b"354 go\r\n")
            elif line.startswith((b"EHLO", b"RCPT")) or line == b".\r\n":
                conn.sendall(b"250 ok\r\n")
            elif line.startswith(b"QUIT"):
                break
    return seen


@pytest.mark.parametrize("pieces", [
    [(0, bytes([byte])) for byte in b"250-one\r\n250-two\r\n250 2.1.0 three\r\n"],
    [(2, b"25"), (2, b"0-one\r\n"), (2, b"250 2.1.0 ")] + [(2, b"two\r\n")],  # together longer than the limit
], ids=["bytes", "slow"])
def test_a_reply_in_pieces(instance, pieces):
    with socket.create_server(("127.0.0.1", 0)) as server:
        inst = instance(main={"relayhost": f"[127.0.0.1]:{server.getsockname()[1]}", "smtp_mail_timeout": "6s", "smtp_connection_cache_on_demand": "no"})
        inst.run("sendmail", "-f", "s@example.org", "x@far.test", input="Subject: x\n\nhello\n")
        assert b"hello\r\n" in converse(server, pieces)
        inst.wait_log(r"to=<x@far\.test>, .*status=sent \(250 ok\)")


@pytest.mark.parametrize("pieces, log", [
    ([], r"conversation with \S+ timed out while sending MAIL FROM"),
    ([(0, b"250-one\r\n250 tw")], r"conversation with \S+ timed out while sending MAIL FROM"),
    ([(0, b"nonsense\r\n")], r"Protocol error: host \S+ gave no SMTP reply while sending MAIL FROM"),
    ([(0, b"250 " + b"x" * 5000 + b"\r\n")], r"Protocol error: host \S+ gave no SMTP reply while sending MAIL FROM"),
    ([(0, b"250-more\r\n" * 600)], r"Protocol error: host \S+ gave no SMTP reply while sending MAIL FROM"),
], ids=["nothing", "a part", "nonsense", "a long line", "many lines"])
def test_a_reply_that_is_none(instance, pieces, log):
    with socket.create_server(("127.0.0.1", 0)) as server:
        inst = instance(main={"relayhost": f"[127.0.0.1]:{server.getsockname()[1]}", "smtp_mail_timeout": "1s"})
        inst.run("sendmail", "-f", "s@example.org", "x@far.test", input="Subject: x\n\nhello\n")
        try:
            assert converse(server, pieces)[-1].startswith(b"MAIL")
        except (ConnectionResetError, BrokenPipeError):  # the client has left while there was more to read
            pass
        inst.wait_log(r"to=<x@far\.test>, .*status=deferred \(" + log)
