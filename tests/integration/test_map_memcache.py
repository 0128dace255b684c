# SPDX-License-Identifier: Apache-2.0
"""memcache: tables against a real memcached: options, the backup behind it, hostile keys, outages; wrong replies of a false one."""
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import time

import pytest
from lookup import HOSTILE_KEYS, Asker, Server, free_port, load_with_outage, wait_for


class Memcached:
    """Keeps its place (port or UNIX socket) over restarts."""

    def __init__(self, path=None):
        self.port, self.path, self.process = (None if path else free_port()), path, None
        self.start()

    def start(self):
        where = ["-s", str(self.path)] if self.path else ["-l", "127.0.0.1", "-p", str(self.port)]
        user = ["-u", pwd.getpwuid(os.geteuid()).pw_name]
        self.process = subprocess.Popen(["memcached", "-U", "0", "-m", "8", *user, *where], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        try:
            wait_for("memcached", self.answers)
        except AssertionError:
            self.stop()
            raise

    def connect(self):
        s = socket.socket(socket.AF_UNIX if self.path else socket.AF_INET)
        s.settimeout(5)
        s.connect(str(self.path) if self.path else ("127.0.0.1", self.port))
        return s

    def answers(self):
        try:
            self.connect().close()
            return True
        except OSError:
            return False

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def command(self, data, end=b"\r\n"):
        with self.connect() as s:
            s.sendall(data)
            out = b""
            while not out.endswith(end):
                piece = s.recv(65536)
                assert piece, out
                out += piece
            return out

    def set(self, key, value):
        assert self.command(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value)) == b"STORED\r\n"

    def get(self, key):
        """(flags, value), or None"""
        head, _, rest = self.command(b"get %s\r\n" % key, b"END\r\n").partition(b"\r\n")
        if head == b"END":
            return None
        _, _, flags, size = head.split()
        return int(flags), rest[:int(size)]

    def ttl(self, key):
        """Seconds until it expires."""
        for word in self.command(b"mg %s t\r\n" % key).split():
            if word.startswith(b"t"):
                return int(word[1:])
        return None

    def flush(self):
        self.command(b"flush_all\r\n")


@pytest.fixture(scope="module")
def cache():
    one = Memcached()
    yield one
    one.stop()


@pytest.fixture(autouse=True)
def empty(cache):
    cache.flush()


def table(tmp_path, server, **options):
    path = tmp_path / "cache.cf"
    where = f"inet:127.0.0.1:{server if isinstance(server, int) else server.port}"
    path.write_text("".join(f"{k} = {v}\n" for k, v in {"memcache": where, **options}.items()))
    return f"memcache:{path}"


def asker(tmp_path, server, threads=1, **options):
    return Asker(tmp_path / "etc", table(tmp_path, server, **options), threads)


def test_lookup(cache, tmp_path):
    cache.set(b"joe", b"at home")
    cache.set(b"empty", b"")
    cache.set(b"bytes", b"a\0b\r\nEND\r\n\xff")
    with asker(tmp_path, cache) as a:
        assert a.found("joe") == b"at home"
        assert a.found("JOE") == b"at home"  # keys are folded
        assert a.found("empty") == b""
        assert a.found("bytes") == b"a\0b\r\nEND\r\n\xff"
        assert a.ask("nobody").result == "notfound"


def test_hostile_keys(cache, tmp_path):
    stored = {}
    for key in HOSTILE_KEYS:
        folded = key.lower() if key.isascii() else key
        if len(key) <= 250 and all(c > 32 and c != 127 for c in folded):
            stored[key] = b"v%d" % len(stored)
            cache.set(folded, stored[key])
    assert len(stored) > 5
    with asker(tmp_path, cache) as a:
        for key in HOSTILE_KEYS:
            answer = a.ask(key)
            assert (answer.result, answer.value) == (("found", stored[key]) if key in stored else ("notfound", None)), answer
    assert cache.get(b"a") is None


def test_backup_fills_the_cache(cache, tmp_path):
    with asker(tmp_path, cache, backup="inline:{joe=home, {long = " + "x" * 200 + "}, {sp ace = y}}", ttl=100, flags=5,
               key_format="pre:%s", data_size_limit=100) as a:
        assert cache.get(b"pre:joe") is None
        assert a.found("joe") == b"home"
        assert cache.get(b"pre:joe") == (5, b"home")
        assert 90 <= cache.ttl(b"pre:joe") <= 100
        cache.set(b"pre:joe", b"cached")
        assert a.found("joe") == b"cached"
        assert a.ask("nobody").result == "notfound"
        assert cache.get(b"pre:nobody") is None
        assert a.found("long") == b"x" * 200  # more than could be read back
        assert cache.get(b"pre:long") is None
    with asker(tmp_path, cache, backup="static:there") as a:
        for key in HOSTILE_KEYS:
            assert a.found(key) == b"there"


def test_backup_in_trouble(cache, tmp_path):
    cache.set(b"known", b"v")
    with asker(tmp_path, cache, backup="fail:always") as a:
        assert a.found("known") == b"v"
        answer = a.ask("other")
        assert answer.result == "retry" and "fail:always" in answer.text


def test_cache_out_of_reach(tmp_path):
    with asker(tmp_path, free_port(), backup="inline:{joe=home}", retry_pause=5) as a:
        begun = time.monotonic()
        assert a.found("joe") == b"home"
        assert a.ask("other").result == "notfound"
        assert time.monotonic() - begun < 3, "no pause for a server that takes no connection"
    with asker(tmp_path, free_port()) as a:
        answer = a.ask("joe")
        assert answer.result == "retry" and "Connection refused" in answer.text


@pytest.mark.parametrize("key_format, key, wanted", [
    ("%s", "u@mail.example.com", "u@mail.example.com"),
    ("%u", "u@mail.example.com", "u"),
    ("%u", "user", "user"),
    ("%u", "@mail.example.com", None),
    ("%d", "u@mail.example.com", "mail.example.com"),
    ("%d", "user", None),
    ("%S-%U-%D", "u@d.test", "u@d.test-u-d.test"),
    ("%3.%1.%2", "u@mail.example.com", "mail.com.example"),
    ("%4", "u@mail.example.com", None),
    ("100%%%s", "u", "100%u"),
])
def test_key_format(cache, tmp_path, key_format, key, wanted):
    if wanted:
        cache.set(wanted.encode(), b"v")
    with asker(tmp_path, cache, key_format=key_format, backup="" if wanted else "static:x") as a:
        assert a.ask(key).result == ("found" if wanted else "notfound")


def test_domain(cache, tmp_path):
    for key in (b"u@a.test", b"u@b.test", b"u@c.test", b"u", b"@a.test", b"a.test"):
        cache.set(key, b"v")
    (tmp_path / "list").write_text("b.test x\n")
    with asker(tmp_path, cache, domain=f"a.test, texthash:{tmp_path}/list", backup="static:no") as a:
        results = {key: a.ask(key).result for key in ("u@a.test", "u@b.test", "u@c.test", "u", "@a.test", "a.test")}
    assert results == {"u@a.test": "found", "u@b.test": "found", "u@c.test": "notfound", "u": "notfound",
                       "@a.test": "notfound", "a.test": "notfound"}


def test_limits(cache, tmp_path):
    cache.set(b"ten", b"x" * 10)
    cache.set(b"eleven", b"x" * 11)
    cache.set(b"k" * 100, b"v")
    with asker(tmp_path, cache, data_size_limit=10, line_size_limit=100, max_try=1) as a:
        assert a.found("ten") == b"x" * 10
        answer = a.ask("eleven")
        assert answer.result == "retry" and "data is longer than 10 bytes" in answer.text
        answer = a.ask("k" * 100)
        assert answer.result == "retry" and "line is longer than 100 bytes" in answer.text
        assert a.found("ten") == b"x" * 10  # a key that cannot be had is not a server that is down


def line(stream):
    return stream.readline() or None


@pytest.mark.parametrize("reply, text", [
    (b"SERVER_ERROR out of memory\r\n", "says: SERVER_ERROR out of memory"),
    (b"ERROR\r\n", "says: ERROR"),
    (b"VALUE other 0 1\r\nx\r\nEND\r\n", "value of another key: other"),
    (b"VALUE key 0 1\r\nx\r\nVALUE key 0 1\r\nx\r\nEND\r\n", "more than one value"),
    (b"VALUE key 0 1\r\nxx\r\nEND\r\n", "data does not end where it should"),
    (b"VALUE key 0 x\r\n", "malformed VALUE line"),
    (b"VALUE key 0 -1\r\n", "malformed VALUE line"),
    (b"VALUE key\r\n", "malformed VALUE line"),
    (b"VALUE key 0 1 2 3\r\nx\r\nEND\r\n", "malformed VALUE line"),
    (b"WHAT\r\n", "unknown reply: WHAT"),
    (b"END\r\nEND\r\n", "more than one reply"),
    (None, "closed the connection"),
])
def test_wrong_replies_are_try_again(reply, text, tmp_path):
    with Server(line, lambda _: reply) as server, asker(tmp_path, server.port, max_try=1) as a:
        answer = a.ask("key")
        assert answer.result == "retry" and text in answer.text, answer
    with Server(line, lambda _: reply) as server, asker(tmp_path, server.port, max_try=1, backup="static:b") as a:
        assert a.found("key") == b"b"


def test_max_try(tmp_path):
    with Server(line, lambda _: b"SERVER_ERROR busy\r\n") as server, asker(tmp_path, server.port, max_try=3) as a:
        begun = time.monotonic()
        assert a.ask("key").result == "retry"
        assert len(server.requests) == 3 and 1.9 < time.monotonic() - begun < 4  # two pauses of a second
    with Server(line, lambda _: b"SERVER_ERROR busy\r\n") as server, asker(tmp_path, server.port, max_try=2, retry_pause=2) as a:
        begun = time.monotonic()
        assert a.ask("key").result == "retry"
        assert len(server.requests) == 2 and 1.9 < time.monotonic() - begun < 4
    replies = iter([b"SERVER_ERROR busy\r\n", b"END\r\n"])
    with Server(line, lambda _: next(replies)) as server, asker(tmp_path, server.port) as a:
        assert a.ask("key").result == "notfound"


def test_timeout(tmp_path):
    def late(_):
        time.sleep(5)

    with Server(line, late) as server, asker(tmp_path, server.port, timeout=1, max_try=1) as a:
        answer = a.ask("key")
        assert answer.result == "retry" and "timed out" in answer.text and 0.9 < answer.seconds < 2


def test_unix_socket(tmp_path):
    server = Memcached(tmp_path / "socket")
    try:
        server.set(b"joe", b"home")
        with asker(tmp_path, 0, memcache=f"unix:{tmp_path}/socket") as a:
            assert a.found("joe") == b"home"
    finally:
        server.stop()


def test_options_are_read_anew(cache, tmp_path):
    cache.set(b"a:k", b"first")
    cache.set(b"b:k", b"second")
    with asker(tmp_path, cache, key_format="a:%s") as a:
        assert a.found("k") == b"first"
        table(tmp_path, cache, key_format="b:%s")
        wait_for("the new options", lambda: a.found("k") == b"second", 2)


@pytest.mark.parametrize("option, text", [
    ("key_format = %x", 'key_format: "%x": %x means nothing'),
    ("timeout = 0", "line 1: timeout: 0 is less than 1"),
    ("memcache = inet:host:", "memcache: wants HOST:PORT"),
    ("backup = nothing", 'backup: "nothing" is not a table'),
    ("flags", 'line 1: not "name = value"'),
])
def test_wrong_options(option, text, tmp_path):
    (tmp_path / "cache.cf").write_text(option + "\n")
    with Asker(tmp_path / "etc", f"memcache:{tmp_path}/cache.cf") as a:
        answer = a.ask("key")
        assert answer.result == "retry" and text in answer.text, answer


def test_stale_connection(tmp_path):
    """The server was restarted since the last lookup: the connection that is kept is dead, and the lookup is answered at the first try."""
    own = Memcached()
    try:
        with asker(tmp_path, own, max_try=1) as a:
            for _ in range(3):
                own.set(b"one", b"1")
                assert a.found(b"one") == b"1"
                own.stop()
                own.start()
            assert a.ask(b"one").result == "notfound"
            assert "is down" not in a.log()
    finally:
        own.stop()


def test_outages(tmp_path):
    """With a table behind it, a cache that dies costs no lookup; it is used again when it is back, and filled."""
    own = Memcached()
    keys = [b"key%d" % i for i in range(500)]
    (tmp_path / "backup").write_text("".join(f"key{i} v-key{i}\n" for i in range(500)))

    def right(answer):
        return answer.value == b"v-" + answer.key

    try:
        with asker(tmp_path, own, threads=4, max_try=1, backup=f"texthash:{tmp_path}/backup") as a:
            counts, asked = load_with_outage(a, keys * 20, right, own.stop, own.start)
            assert asked >= 10000 and counts["found"] == asked, counts
            assert "is down: " in a.log()
            wait_for("the cache to be asked again", lambda: a.found(keys[0]) and "answers again after" in a.log(), 2)

            def used():
                a.found(b"key7")
                return own.get(b"key7") == (0, b"v-key7")

            wait_for("the cache to be filled again", used, 2)
        with asker(tmp_path, own, max_try=1) as a:
            assert a.found(b"key7") == b"v-key7"
            own.stop()
            assert a.ask(b"key7").result == "retry"
            own.start()
            own.set(b"key7", b"new")
            assert a.until_found(b"key7", 2) == b"new"
    finally:
        own.stop()
