# SPDX-License-Identifier: Apache-2.0
"""redis: tables against a real Redis: commands, options, hostile keys, passwords, failover, outages; wrong replies of a false one."""
import signal
import socket
import subprocess
import time

import pytest
from lookup import HOSTILE_KEYS, Asker, Server, free_port, load_with_outage, wait_for


class Redis:
    """Keeps its port and its data directory over restarts."""

    def __init__(self, directory):
        self.directory, self.port = directory, free_port()
        self.path = directory / "redis.sock"
        directory.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.path), "--dir",
             str(self.directory), "--appendonly", "yes", "--appendfsync", "no", "--save", ""],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for("redis", self.is_up)
        except AssertionError:
            self.stop()
            raise

    def is_up(self):
        try:
            return self.command(b"PING")[:1] in (b"+", b"-")
        except OSError:
            return False

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def command(self, *words, before=None):
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
            for one in filter(None, (before, words)):
                s.sendall(b"*%d\r\n" % len(one) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in one))
                out = s.recv(65536)
            return out

    def set(self, key, value, **more):
        assert self.command(b"SET", key, value, **more) == b"+OK\r\n"


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    one = Redis(tmp_path_factory.mktemp("redis"))
    yield one
    one.stop()


@pytest.fixture(autouse=True)
def empty(redis):
    redis.command(b"FLUSHALL")


def table(tmp_path, server, **options):
    path = tmp_path / "redis.cf"
    where = f"127.0.0.1:{server if isinstance(server, int) else server.port}"
    path.write_text("".join(f"{k} = {v}\n" for k, v in {"hosts": where, **options}.items()))
    return f"redis:{path}"


def asker(tmp_path, server, threads=1, **options):
    return Asker(tmp_path / "etc", table(tmp_path, server, **options), threads)


def test_lookup(redis, tmp_path):
    redis.set(b"joe", b"at home")
    redis.set(b"bytes", b"a\0b\r\n+OK\r\n\xff")
    redis.set(b"empty", b"")
    redis.set(b"long", b"x" * 1000000)
    redis.command(b"RPUSH", b"list", b"a")
    with asker(tmp_path, redis) as a:
        assert a.found("joe") == b"at home"
        assert a.found("JOE") == b"at home"  # keys are folded
        assert a.found("bytes") == b"a\0b\r\n+OK\r\n\xff"
        assert a.found("long") == b"x" * 1000000
        assert a.ask("nobody").result == "notfound"
        assert a.ask("empty").result == "notfound"  # as with SQL: an empty result is skipped
        answer = a.ask("list")
        assert answer.result == "retry" and "the server says: WRONGTYPE" in answer.text
        assert a.found("joe") == b"at home"
        assert "is down" not in a.log()


def test_hostile_keys(redis, tmp_path):
    for i, key in enumerate(HOSTILE_KEYS):
        redis.set(b"k:" + (key.lower() if key.isascii() else key), b"v%d" % i)
    with asker(tmp_path, redis, command="GET k:%s") as a:
        for i, key in enumerate(HOSTILE_KEYS):
            assert a.found(key) == b"v%d" % i
            assert a.ask(b"not-" + key).result == "notfound"


@pytest.mark.parametrize("options, key, wanted", [
    ({"command": "HGET users %s"}, "joe@a.test", b"mailbox"),
    ({"command": "HGET users %s"}, "none@a.test", None),
    ({"command": "hget h:%d %u"}, "joe@a.test", b"by parts"),
    ({"command": "hget h:%d %u"}, "joe", None),
    ({"command": "HGET h:%2.%1 %u"}, "joe@a.test", b"by parts"),
    ({"command": "HGET h:%3 %u"}, "joe@a.test", None),
    ({"command": "SMEMBERS set"}, "x", {b"one", b"two"}),
    ({"command": "SMEMBERS none"}, "x", None),
    ({"command": "LRANGE list:%s 0 -1"}, "a", b"1,2,3"),
    ({"command": "LRANGE list:%s 0 -1", "result_format": "<%s@%D>"}, "u@a", None),
    ({"command": "LRANGE list:%D 0 -1", "result_format": "%s@%D"}, "u@a", b"1@a,2@a,3@a"),
    ({"command": "LRANGE list:%s 0 -1", "expansion_limit": 3}, "a", b"1,2,3"),
    ({"command": "LRANGE list:%s 0 -1", "expansion_limit": 2}, "a", "more than 2 results"),
    ({"command": "MGET none %s"}, "plain", b"value"),
    ({"command": "SISMEMBER set %s"}, "one", b"1"),
    ({"command": "SISMEMBER set %s"}, "three", None),
    ({"command": "EXISTS %s"}, "plain", b"1"),
    ({"command": "EXISTS %s"}, "none", None),
    ({"command": "GET %s", "result_format": "smtp:[%s]"}, "plain", b"smtp:[value]"),
    ({"command": "GET %s", "result_format": "%%%u"}, "address", b"%joe"),
    ({"command": "GET %s", "result_format": "%d"}, "plain", None),
    ({"command": "GET %s", "domain": "a.test"}, "joe@a.test", b"direct"),
    ({"command": "GET %s", "domain": "b.test"}, "joe@a.test", None),
    ({"command": "GET %s", "domain": "a.test"}, "plain", None),
    ({"command": "GET %s", "db": 3}, "plain", b"other database"),
])
def test_commands(redis, tmp_path, options, key, wanted):
    redis.command(b"HSET", b"users", b"joe@a.test", b"mailbox")
    redis.command(b"HSET", b"h:a.test", b"joe", b"by parts")
    redis.command(b"SADD", b"set", b"one", b"two")
    redis.command(b"RPUSH", b"list:a", b"1", b"2", b"3")
    redis.set(b"plain", b"value")
    redis.set(b"address", b"joe@a.test")
    redis.set(b"joe@a.test", b"direct")
    redis.set(b"plain", b"other database", before=(b"SELECT", b"3"))
    with asker(tmp_path, redis, **options) as a:
        answer = a.ask(key)
        if wanted is None:
            assert answer.result == "notfound", answer
        elif isinstance(wanted, str):
            assert answer.result == "retry" and wanted in answer.text, answer
        elif isinstance(wanted, set):
            assert answer.result == "found" and set(answer.value.split(b",")) == wanted
        else:
            assert answer.value == wanted, answer


def test_unix_socket(redis, tmp_path):
    redis.set(b"joe", b"home")
    with asker(tmp_path, 0, hosts=f"unix:{redis.path}") as a:
        assert a.found("joe") == b"home"


def test_passwords(tmp_path):
    server = Redis(tmp_path / "data")
    (tmp_path / "password").write_text("se cret\"\n")
    try:
        server.set(b"joe", b"home")
        server.command(b"ACL", b"SETUSER", b"mail", b"on", b">pw", b"~*", b"+@read", b"+select")
        server.command(b"CONFIG", b"SET", b"requirepass", b"se cret\"")
        for options in ({"password": "se cret\""}, {"password_file": tmp_path / "password"},
                        {"username": "mail", "password": "pw"}, {"username": "mail", "password": "pw", "db": 1}):
            with asker(tmp_path, server, **options) as a:
                assert a.ask("joe").result == ("notfound" if "db" in options else "found"), a.log()
        for options, text in (({}, "NOAUTH"), ({"password": "wrong"}, "AUTH: it says: WRONGPASS"),
                              ({"username": "x", "password": "pw"}, "AUTH: it says: WRONGPASS"),
                              ({"password": "se cret\"", "db": 99}, "SELECT: it says: ERR")):
            with asker(tmp_path, server, **options) as a:
                answer = a.ask("joe")
                assert answer.result == "retry" and text in answer.text, answer
                assert "cret" not in a.log() + answer.text
    finally:
        server.stop()


def test_failover(redis, tmp_path):
    redis.set(b"joe", b"second")
    first = Redis(tmp_path / "first")
    first.set(b"joe", b"first")
    with asker(tmp_path, 0, hosts=f"127.0.0.1:{first.port}, inet:127.0.0.1:{redis.port}") as a:
        assert a.found("joe") == b"first"
        first.stop()
        assert a.found("joe") == b"second"
        first.start()
        wait_for("the first to be asked again", lambda: a.found("joe") == b"first", 2)
    first.stop()


def loaded(server):
    try:
        server.set(b"other", b"2")
    except AssertionError:  # it says that it is loading
        return False
    return True


def test_stale_connection(tmp_path):
    """The server was restarted since the last lookup: the connection that is kept is dead, and the lookup is found at the first try."""
    server = Redis(tmp_path / "data")
    try:
        with asker(tmp_path, server) as a:
            server.set(b"one", b"1")
            assert a.found(b"one") == b"1"
            server.stop()
            server.start()
            wait_for("its data", lambda: loaded(server))
            assert a.ask(b"one").result != "retry"
            assert "is down" not in a.log()
    finally:
        server.stop()


def test_outages(tmp_path):
    server = Redis(tmp_path / "data")
    keys = [(b"no%d" if i % 5 == 0 else b"key%d") % i for i in range(500)]
    for key in keys:
        if key.startswith(b"key"):
            server.set(key, b"v-" + key)

    def right(answer):
        return answer.result == "notfound" if answer.key.startswith(b"no") else answer.value == b"v-" + answer.key

    try:
        with asker(tmp_path, server, threads=4) as a:
            keys = keys[1:] + keys[:1]
            counts, asked = load_with_outage(a, keys * 20, right, server.stop, server.start)
            assert asked >= 10000 and counts["retry"] > 0 and counts["found"] > 500, counts
            assert "is down: " in a.log() and "answers again after" in a.log()
    finally:
        server.stop()


def read_command(stream):
    head = stream.readline()
    if not head:
        return None
    words = []
    for _ in range(int(head[1:])):
        size = int(stream.readline()[1:])
        words.append(stream.read(size))
        stream.read(2)
    return words


@pytest.mark.parametrize("reply, text", [
    (b"-ERR no\r\n", "the server says: ERR no"),
    (b"-LOADING x\r\n", "it says: LOADING x"),
    (b"$3\r\nabcd\r\n", "does not end where it should"),
    (b"$-2\r\n", "length of a reply"),
    (b"$1048577\r\n", "length of a reply"),
    (b"$x\r\n", "length of a reply"),
    (b"*1\r\n*1\r\n:1\r\n", "unknown kind"),
    (b"*1\r\n-ERR\r\n", "an error within an array"),
    (b"*99999999\r\n", "length of a reply"),
    (b"VALUE\r\n", "unknown kind"),
    (b"+OK\n", "malformed reply line"),
    (b":x\r\n", "not a number"),
    (b"+a\r\n+b\r\n", "more than one reply"),
    (None, "closed the connection"),
])
def test_wrong_replies_are_try_again(reply, text, tmp_path):
    with Server(read_command, lambda _: reply) as server, asker(tmp_path, server.port) as a:
        answer = a.ask("key")
        assert answer.result == "retry" and text in answer.text, answer


def test_timeout(tmp_path):
    def late(_):
        time.sleep(5)

    with Server(read_command, late) as server, asker(tmp_path, server.port, timeout=1) as a:
        answer = a.ask("key")
        assert answer.result == "retry" and "timed out" in answer.text and 0.9 < answer.seconds < 2


@pytest.mark.parametrize("option, text", [
    ("command = DEL %s", 'command: "DEL" is not one that reads'),
    ("command = GET", "command: no word for the key"),
    ("command = GET %x", 'command: "%x": %x means nothing'),
    ("result_format = %", 'result_format: "%": a single % at the end'),
    ("hosts = a:b:c", "hosts: \"a:b:c\": an IPv6 address goes in []"),
    ("username = x", "username without a password"),
    ("password_file = /nonexistent", "/nonexistent: No such file"),
    ("db = -1", "line 1: db: -1 is less than 0"),
    ("timeout = 0", "line 1: timeout: "),
])
def test_wrong_options(option, text, tmp_path):
    (tmp_path / "redis.cf").write_text(option + "\n")
    with Asker(tmp_path / "etc", f"redis:{tmp_path}/redis.cf") as a:
        answer = a.ask("key")
        assert answer.result == "retry" and text in answer.text, answer
