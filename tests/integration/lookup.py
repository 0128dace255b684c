# SPDX-License-Identifier: Apache-2.0
"""Lookups for tests that break servers meanwhile: map_ask run beside the test, small servers, free ports."""
import os
import pathlib
import signal
import socket
import socketserver
import subprocess
import threading
import time

STAGE = pathlib.Path(os.environ.get("POSTRIDER_STAGE", pathlib.Path(__file__).parents[2] / "build/test/stage"))
MAP_ASK = os.environ.get("POSTRIDER_MAP_ASK", pathlib.Path(__file__).parents[2] / "build/test/tests/map_ask")
DEADLINE = float(os.environ.get("POSTRIDER_DEADLINE", "20"))

HOSTILE_KEYS = [
    b"x' OR '1'='1", b"*)(uid=*", b"a\\b\"c`d", b"tab\tnew\nline\rcr", b"nul\0inside", b"\0", b" ", b"  two  spaces ",
    b"%s%n%00%", b"100%", b"\xff\xfe\x80\x81", "grüße@bücher.example".encode(), b"get x\nget y", b"4:a,b,", b"$1 ${1} `id`",
    b"k" * 250, b"k" * 251, b"L" * 10240, b"\r\nset a 0 0 1\r\nx\r\n",
]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, condition, deadline=DEADLINE):
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"timed out waiting for {what}"
        time.sleep(0.01)


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


class Answer:
    def __init__(self, line):
        key, micros, rest = line.rstrip(b"\n").split(b" ", 2)
        self.key = bytes.fromhex(key.decode())
        self.seconds = int(micros) / 1e6
        self.result, _, text = rest.partition(b" ")
        self.result = self.result.decode()
        self.value = bytes.fromhex(text.decode()) if self.result == "found" else None
        self.text = text.decode(errors="replace")

    def __repr__(self):
        return f"<{self.key[:40]!r} {self.result} {self.value if self.value is not None else self.text!r}>"


class Asker:
    """A process that looks up keys in one table; ask() is one lookup, load() many meanwhile."""

    def __init__(self, etc, table, threads=1, main="", write=False):
        """main: what main.cf has; None: it is there. write: for put(), remove() and so on."""
        etc = pathlib.Path(etc)
        etc.mkdir(parents=True, exist_ok=True)
        if main is not None:
            (etc / "main.cf").write_text(f"myhostname = h.test\nshlib_directory = {STAGE}/libexec/postrider\n" + main)
        self.log_path = etc / f"log{time.monotonic_ns()}"
        self.log_file = self.log_path.open("wb")
        self.process = subprocess.Popen([MAP_ASK, etc, str(threads), table, *["write"] * write], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.log_file)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.process.stdin.close()
        try:
            status = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.process.stdout.close()
        self.log_file.close()
        if kind is None:
            assert status == 0, self.log()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def send(self, key):
        self.process.stdin.write(key.hex().encode() + b"\n")

    def receive(self):
        line = self.process.stdout.readline()
        assert line, self.log()
        return Answer(line)

    def ask(self, key):
        self.send(key.encode() if isinstance(key, str) else key)
        self.process.stdin.flush()
        return self.receive()

    def found(self, key):
        answer = self.ask(key)
        assert answer.result == "found", (answer, self.log())
        return answer.value

    def command(self, line):
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()
        return self.receive()

    def put(self, key, value):
        return self.command(b"+" + key.hex().encode() + b" " + value.hex().encode())

    def remove(self, key):
        return self.command(b"-" + key.hex().encode())

    def load(self, keys):
        """Asks for all keys as fast as answers come; yields the answers."""
        def feed():
            for key in keys:
                self.send(key)
            self.process.stdin.flush()

        feeder = threading.Thread(target=feed)
        feeder.start()
        for _ in range(len(keys)):
            yield self.receive()
        feeder.join()

    def until_found(self, key, seconds):
        """Asks until there is an answer, which must be found, within seconds of the first try."""
        begun = time.monotonic()
        while True:
            answer = self.ask(key)
            if answer.result == "found":
                return answer.value
            assert answer.result == "retry", answer
            assert time.monotonic() - begun < seconds, answer
            time.sleep(0.005)


class Server:
    """Answers each request with reply(request) on a port of its own or a UNIX socket; frame cuts requests from a stream."""

    def __init__(self, frame, reply, port=0, path=None):
        self.frame, self.reply = frame, reply
        self.connections = 0
        self.now = 0
        self.most = 0
        self.requests = []
        self.lock = threading.Lock()
        self.open = set()
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                with outer.lock:
                    outer.connections += 1
                    outer.now += 1
                    outer.most = max(outer.most, outer.now)
                    outer.open.add(self.connection)
                try:
                    while (request := outer.frame(self.rfile)) is not None:
                        outer.requests.append(request)
                        answer = outer.reply(request)
                        if answer is None:
                            return
                        self.wfile.write(answer)
                except OSError:
                    pass
                finally:
                    with outer.lock:
                        outer.now -= 1
                        outer.open.discard(self.connection)

        base = socketserver.ThreadingUnixStreamServer if path else socketserver.ThreadingTCPServer
        kind = type("Kind", (base,), {"allow_reuse_address": True, "daemon_threads": True, "request_queue_size": 128})
        self.server = kind(str(path) if path else ("127.0.0.1", port), Handler)
        self.port = None if path else self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def stop(self):
        """As if killed: listening socket and connections are gone."""
        self.server.shutdown()
        self.thread.join()
        self.server.socket.close()
        with self.lock:
            for connection in self.open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def load_with_outage(asker, keys, right, stop, start, outages=3):
    """Looks up keys, over and over, while the server stops and starts, until as many as there are have been answered; each answer
    is right or "try again", and it recovers within 2 s of each return of the server."""
    counts = {"found": 0, "notfound": 0, "retry": 0}
    returns, recoveries = [], []
    done = threading.Event()
    trouble = []

    def disturb():
        try:
            for _ in range(outages):
                if done.wait(0.15):
                    return
                stop()
                done.wait(0.15)
                start()
                returns.append(time.monotonic())
        except Exception as e:  # shown by the assertion below
            trouble.append(e)

    thread = threading.Thread(target=disturb)
    thread.start()
    position = 0
    while thread.is_alive() or position - counts["retry"] < len(keys):
        batch = [keys[(position + i) % len(keys)] for i in range(200)]
        for answer in asker.load(batch):
            counts[answer.result] += 1
            if answer.result == "retry":
                assert answer.text
            else:
                assert right(answer), answer
                while len(recoveries) < len(returns):
                    recoveries.append(time.monotonic() - returns[len(recoveries)])
            assert answer.seconds < 2, answer
        position += len(batch)
    done.set()
    thread.join()
    assert not trouble, trouble
    asker.until_found(keys[0], 2)
    while len(recoveries) < len(returns):
        recoveries.append(time.monotonic() - returns[len(recoveries)])
    print(f"{position} lookups: {counts}; {len(returns)} outages, recovered {', '.join(f'{r:.3f}' for r in recoveries)} s after")
    assert all(seconds < 2 for seconds in recoveries), recoveries
    return counts, position


def process_stats():
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            yield path.read_text()
        except OSError:
            continue


def is_stopped(pid):
    """All of its threads."""
    return all(path.read_text().rpartition(")")[2].split()[0] == "T" for path in pathlib.Path(f"/proc/{pid}/task").glob("*/stat"))


def freeze_and_thaw(asker, key, process):
    """The server keeps its connections and says nothing: one lookup costs its time limit (of a second), the next ones nothing; when it
    goes on, it is asked again within 2 s."""
    asker.found(key)
    pids = [process.pid] + [int(stat.split()[0]) for stat in process_stats() if int(stat.rpartition(")")[2].split()[1]) == process.pid]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    wait_for("the server to stand still", lambda: all(is_stopped(pid) for pid in pids))
    try:
        answer = asker.ask(key)
        assert answer.result == "retry" and answer.seconds < 3.5, answer
        quick = [asker.ask(key) for _ in range(20)]
        assert all(a.result == "retry" and a.text for a in quick), quick
        assert sorted(a.seconds for a in quick)[15] < 0.1, quick  # a probe now and then takes its time
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    asker.until_found(key, 2)
