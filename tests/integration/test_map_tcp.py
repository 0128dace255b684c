# SPDX-License-Identifier: Apache-2.0
"""tcp: and socketmap: tables against small servers: protocol, hostile keys, wrong replies, outages, bounds."""
import re
import threading
import time
import urllib.parse

import pytest
from lookup import HOSTILE_KEYS, Asker, Server, free_port, load_with_outage, wait_for


def read_line(stream):
    line = stream.readline(200000)
    return line if line.endswith(b"\n") else None


def read_netstring(stream):
    digits = b""
    while (c := stream.read(1)) not in (b":", b""):
        digits += c
    if not c:
        return None
    body = stream.read(int(digits))
    assert stream.read(1) == b","
    return body


def netstring(body):
    return str(len(body)).encode() + b":" + body + b","


def tcp_echo(request):
    """found with the key backwards; a key that begins with "no" is not found"""
    assert re.fullmatch(rb"get [!-~]+\n", request), request
    key = urllib.parse.unquote_to_bytes(request[4:-1])
    if key.startswith(b"no"):
        return b"500 no%20such%20key\n"
    return b"200 " + urllib.parse.quote_from_bytes(key[::-1]).encode() + b"\n"


def socketmap_echo(request):
    name, _, key = request.partition(b" ")
    assert name == b"names"
    return netstring(b"NOTFOUND ") if key.startswith(b"no") else netstring(b"OK " + key[::-1])


class Kind:
    def __init__(self, name, frame, echo, reply):
        self.name, self.frame, self.echo, self.reply = name, frame, echo, reply

    def table(self, port):
        return f"tcp:127.0.0.1:{port}" if self.name == "tcp" else f"socketmap:inet:127.0.0.1:{port}:names"

    def __repr__(self):
        return self.name


TCP = Kind("tcp", read_line, tcp_echo, lambda text: text)
SOCKETMAP = Kind("socketmap", read_netstring, socketmap_echo, netstring)
KINDS = pytest.mark.parametrize("kind", [TCP, SOCKETMAP], ids=repr)


@KINDS
def test_hostile_keys(kind, tmp_path):
    with Server(kind.frame, kind.echo) as server, \
            Asker(tmp_path / "etc", kind.table(server.port), main="socketmap_max_query_size = 10240\n") as asker:
        for key in HOSTILE_KEYS + [bytes([c]) for c in range(256)]:
            if kind is TCP and len(key) > 1300:
                key = key[:1300]  # the reply's limit is 4096 bytes
            assert asker.found(key) == key[::-1]
        assert asker.ask("nobody").result == "notfound"
        assert asker.found("Joe") == b"eoJ"  # case is kept
        assert server.connections == 1


def test_tcp_long_reply(tmp_path):
    def reply(request):
        return b"200 " + b"x" * int(request[4:]) + b"\n"

    with Server(read_line, reply) as server, Asker(tmp_path / "etc", TCP.table(server.port)) as asker:
        assert asker.found("4091") == b"x" * 4091
        answer = asker.ask("4092")
        assert answer.result == "retry" and "longer than 4096 bytes" in answer.text


def test_socketmap_long_reply(tmp_path):
    def reply(request):
        return netstring(b"OK " + b"x" * int(request.split()[1]))

    with Server(read_netstring, reply) as server, Asker(tmp_path / "etc", SOCKETMAP.table(server.port)) as asker:
        assert asker.found("99997") == b"x" * 99997
        answer = asker.ask("99998")
        assert answer.result == "retry" and "longer than 100000 bytes" in answer.text


def test_socketmap_limits(tmp_path):
    """Of main.cf: what is just within them, and one byte more."""
    with Server(read_netstring, socketmap_echo) as server, \
            Asker(tmp_path / "etc", SOCKETMAP.table(server.port),
                  main="socketmap_max_query_size = 20\nsocketmap_max_reply_size = 15\n") as asker:
        assert asker.found("a" * 12) == b"a" * 12
        answer = asker.ask("a" * 13)
        assert answer.result == "retry" and "longer than 15 bytes (socketmap_max_reply_size)" in answer.text
        assert asker.ask("no" + "x" * 18).result == "notfound"
        requests = len(server.requests)
        assert asker.ask("a" * 21).result == "notfound"
        assert len(server.requests) == requests, "it should not have been asked"
        assert "a key of 21 bytes is not asked for: socketmap_max_query_size is 20" in asker.log_path.read_text()


@pytest.mark.parametrize("kind, reply, text", [
    (TCP, b"400 down%20now\n", "the server says: down now"),
    (TCP, b"200 a%zz\n", "malformed reply"),
    (TCP, b"200 a%2\n", "malformed reply"),
    (TCP, b"200\n", "malformed reply"),
    (TCP, b"500\n", "malformed reply"),
    (TCP, b"\n", "malformed reply"),
    (TCP, b"300 x\n", "unknown status code"),
    (TCP, b"200 a\n200 b\n", "more than one reply"),
    (TCP, None, "closed the connection"),
    (SOCKETMAP, netstring(b"TEMP busy"), "temporary error: busy"),
    (SOCKETMAP, netstring(b"TIMEOUT late"), "timeout: late"),
    (SOCKETMAP, netstring(b"PERM never"), "permanent error: never"),
    (SOCKETMAP, netstring(b"OK"), "unknown reply"),
    (SOCKETMAP, netstring(b""), "unknown reply"),
    (SOCKETMAP, netstring(b"ok x"), "unknown reply"),
    (SOCKETMAP, b"x:OK x,", "not a netstring"),
    (SOCKETMAP, b"4:OK x;", "not a netstring"),
    (SOCKETMAP, b"04:OK x,", "not a netstring"),
    (SOCKETMAP, b":,", "not a netstring"),
    (SOCKETMAP, b"9999999999999999999999:OK x,", "longer than 100000 bytes"),
    (SOCKETMAP, netstring(b"OK a") + netstring(b"OK b"), "more than one reply"),
])
def test_wrong_replies_are_try_again(kind, reply, text, tmp_path):
    with Server(kind.frame, lambda _: reply) as server, Asker(tmp_path / "etc", kind.table(server.port)) as asker:
        answer = asker.ask("key")
        assert answer.result == "retry" and text in answer.text, answer
        assert kind.table(server.port) in answer.text


@pytest.mark.parametrize("kind, reply, value", [
    (TCP, b"200 a%20b%25\n", b"a b%"),
    (TCP, b"200 plain text\n", b"plain text"),
    (TCP, b"200 x\r\n", b"x"),
    (TCP, b"200 \n", b""),
    (SOCKETMAP, netstring(b"OK "), b""),
    (SOCKETMAP, netstring(b"OK a b\0c"), b"a b\0c"),
])
def test_values(kind, reply, value, tmp_path):
    with Server(kind.frame, lambda _: reply) as server, Asker(tmp_path / "etc", kind.table(server.port)) as asker:
        assert asker.found("key") == value


def test_socketmap_unix(tmp_path):
    path = tmp_path / "socket"
    with Server(read_netstring, socketmap_echo, path=path), \
            Asker(tmp_path / "etc", f"socketmap:unix:{path}:names") as asker:
        assert asker.found("abc") == b"cba"


@KINDS
def test_outages(kind, tmp_path):
    server = [Server(kind.frame, kind.echo)]
    port = server[0].port

    def start():
        server[0] = Server(kind.frame, kind.echo, port)

    def right(answer):
        return answer.result == ("notfound" if answer.key.startswith(b"no") else "found") and \
            answer.value in (None, answer.key[::-1])

    keys = [(b"no%d" if i % 5 == 0 else b"k%d") % i for i in range(1, 10001)]
    try:
        with Asker(tmp_path / "etc", kind.table(port), threads=4) as asker:
            counts, asked = load_with_outage(asker, keys, right, lambda: server[0].stop(), start)
            assert asked >= 10000 and counts["retry"] > 0 and counts["found"] > 1000, counts
            assert "is down: connect: Connection refused" in asker.log()
            assert "answers again after" in asker.log()
    finally:
        server[0].stop()


def test_stale_connection(tmp_path):
    """A server that hung up while nobody asked costs no lookup."""
    server = Server(read_line, tcp_echo)
    with Asker(tmp_path / "etc", TCP.table(server.port)) as asker:
        for _ in range(20):
            assert asker.found("abc") == b"cba"
            server.stop()
            server = Server(read_line, tcp_echo, server.port)
        assert "is down" not in asker.log()
    server.stop()


def test_connections_are_bounded(tmp_path):
    def slow(request):
        time.sleep(0.01)
        return tcp_echo(request)

    with Server(read_line, slow) as server, \
            Asker(tmp_path / "etc", TCP.table(server.port), threads=32, main="table_connection_limit = 3\n") as asker:
        for answer in asker.load([b"key%d" % i for i in range(200)]):
            assert answer.result == "found"
        assert 1 <= server.most <= 3


def test_silent_server(tmp_path):
    """The time limit holds, and then lookups do not wait for it again, but for the one that probes."""
    release = threading.Event()

    def silent(request):
        release.wait(20)
        return tcp_echo(request)

    with Server(read_line, silent) as server, \
            Asker(tmp_path / "etc", TCP.table(server.port), main="table_query_timeout = 1s\n") as asker:
        answer = asker.ask("abc")
        assert answer.result == "retry" and "timed out" in answer.text
        assert 0.9 < answer.seconds < 1.5
        answer = asker.ask("abc")
        assert answer.result == "retry" and answer.seconds < 0.05
        release.set()
        assert asker.until_found("abc", 2) == b"cba"


def test_slow_lookup_is_logged(tmp_path):
    def slow(request):
        time.sleep(0.2 if request == b"get slow\n" else 0)
        return tcp_echo(request)

    with Server(read_line, slow) as server, \
            Asker(tmp_path / "etc", TCP.table(server.port), main="slow_lookup_threshold = 100\n") as asker:
        asker.found("fast")
        asker.found("slow")
        wait_for("the log", lambda: "slow lookup" in asker.log())
        assert re.search(rf'warning: table tcp:127.0.0.1:{server.port}: slow lookup: 0\.[23]\d\d s for "slow"', asker.log())
        assert "fast" not in asker.log()


def test_nobody_listens(tmp_path):
    with Asker(tmp_path / "etc", f"tcp:localhost:{free_port()}") as asker:
        answer = asker.ask("abc")
        assert answer.result == "retry" and "Connection refused" in answer.text
