# SPDX-License-Identifier: Apache-2.0
"""A private instance of the built system, and next hops for it.

POSTRIDER_STAGE names the staged tree (sbin/, libexec/postrider/). Everything lies below one directory that
each test gets; nothing outside is touched. As root the instance drops to "daemon" as a real one drops to
"postfix"; as_user=True runs it as an ordinary user would.
"""
import email
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import tempfile
import threading
import time

STAGE = pathlib.Path(os.environ.get("POSTRIDER_STAGE", pathlib.Path(__file__).parents[2] / "build/test/stage"))
DEADLINE = float(os.environ.get("POSTRIDER_DEADLINE", "20"))  # seconds; raised under sanitizers

SANITIZERS = ("ASAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS")

MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix n - n 60   1 pickup
cleanup   unix n - n -    0 cleanup
qmgr      unix n - n 300  1 qmgr
bounce    unix - - n -    0 bounce
defer     unix - - n -    0 bounce
trace     unix - - n -    0 bounce
smtp      unix - - n -    - smtp
relay     unix - - n -    - smtp
error     unix - - n -    - error
retry     unix - - n -    - error
discard   unix - - n -    - discard
local     unix - n n -    - local
virtual   unix - n n -    - virtual
proxymap  unix - - n -    - proxymap
proxywrite unix - - n -   1 proxymap
"""


def _has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError:
        return False
    return True


HAS_IPV6 = _has_ipv6()
_reserved = []  # sockets that keep the ports of free_port()


def free_port():
    """A port on which nobody listens, at no address, and which nobody else gets as long as this process lives: it is not of the range from which the kernel
    gives ports to clients and to who asks for port 0, and a name in the abstract namespace keeps other tests away."""
    low, high = map(int, pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = [*range(10000, low), *range(high + 1, 65536)] or [*range(10000, 65536)]
    while True:
        port = random.choice(ports)
        keeper = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            keeper.bind(f"\0postrider-test-port-{port}")
            for family in (socket.AF_INET, *([socket.AF_INET6] if HAS_IPV6 else [])):
                with socket.create_server(("", port), family=family):
                    pass
        except OSError:
            keeper.close()
            continue
        _reserved.append(keeper)
        return port


if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what runs in the background: our children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def is_alive(pid):
    """A zombie is not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(what, condition, deadline=None):
    """Polls until condition() is true and returns its value; fails with `what` when the deadline passes."""
    end = time.monotonic() + (deadline or DEADLINE)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"timed out waiting for {what() if callable(what) else what}")
        time.sleep(0.02)


def reachable_directory():
    """A new directory that daemons without privilege can reach. pytest's own lies below one that each run of pytest closes to them
    again, while others still use it."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="postrider-"))
    path.chmod(0o755)
    return path


class Instance:
    def __init__(self, root, main=None, master=None, files=None, as_user=False, **_):
        self.root = pathlib.Path(root)
        self.etc = self.root / "etc"
        self.spool = self.root / "spool"
        self.data = self.root / "data"
        self.home = self.root / "mail"
        self.log_path = self.root / "log" / "mail.log"
        self.port = free_port()
        self.is_root = os.geteuid() == 0 and not as_user
        self.user = pwd.getpwnam("nobody") if as_user and os.geteuid() == 0 else None
        self.running = False
        self.reports = self.root / "reports"  # of sanitizers: see close()
        for d in (self.etc, self.home, self.log_path.parent, self.reports):  # the others are made at the start
            d.mkdir(parents=True)
        self.main = {
            "compatibility_level": "3.6",
            "queue_directory": self.spool,
            "data_directory": self.data,
            "daemon_directory": STAGE / "libexec/postrider",
            "command_directory": STAGE / "sbin",
            "maillog_file": self.log_path,
            "maillog_file_prefixes": self.root,
            "myhostname": "mx.example.test",
            "mydestination": "localhost, mx.example.test",
            "mynetworks": "127.0.0.0/8",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "alias_maps": "",
            "alias_database": "",
            "biff": "no",
            "import_environment": "MAIL_CONFIG TZ LANG=C " + " ".join(SANITIZERS),
        }
        if os.geteuid() == 0:
            self.main.update(mail_owner="daemon", setgid_group="games")
            if as_user:
                self.main.update(mail_owner="nobody")
        else:
            self.main.update(mail_owner=pwd.getpwuid(os.geteuid()).pw_name)
        self.main.update(main or {})
        self.master = master or MASTER_CF
        for name, text in (files or {}).items():
            self.write(name, text)
        self.write_main()
        self.write("master.cf", self.master.format(port=self.port, etc=self.etc, root=self.root))
        if os.geteuid() == 0:
            owner = self.user or pwd.getpwnam("daemon")
            for p in (self.root, *self.root.rglob("*")):
                os.chown(p, owner.pw_uid if self.user else 0, owner.pw_gid if self.user else 0)
            os.chmod(self.home, 0o777)
            os.chmod(self.reports, 0o777)
            self._open_path()

    def _open_path(self):
        """Daemons without privilege must reach the tree, but pytest makes its directories private."""
        for p in self.root.parents:
            if p.owner() == pwd.getpwuid(os.geteuid()).pw_name and p != pathlib.Path("/"):
                os.chmod(p, os.stat(p).st_mode | 0o011)

    def write(self, name, text):
        """Writes etc/NAME by rename, as a careful administrator would."""
        path = self.etc / name
        temporary = path.with_name(path.name + ".new")
        temporary.write_text(text)
        temporary.rename(path)
        return path

    def write_main(self, **changes):
        self.main.update(changes)
        text = "".join(f"{k} = {v}\n" for k, v in self.main.items() if v is not None)
        self.write("main.cf", text.replace("{port}", str(self.port)).replace("{etc}", str(self.etc))
                   .replace("{root}", str(self.root)))

    # --- commands ---
    def run(self, command, *args, input=None, check=True, timeout=60):
        argv = [str(STAGE / "sbin" / command), *map(str, args)]
        if command in ("mailq", "newaliases"):
            argv[0] = str(STAGE / "bin" / command)
        if self.user:
            argv = ["setpriv", f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--clear-groups", *argv]
        env = dict(os.environ, MAIL_CONFIG=str(self.etc))
        for name in SANITIZERS:
            env[name] = ":".join(filter(None, [os.environ.get(name), f"log_path={self.reports}/sanitizer"]))
        if isinstance(input, str):
            input = input.encode()
        done = subprocess.run(argv, input=input, stdin=subprocess.DEVNULL if input is None else None,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, env=env)
        done.stdout, done.stderr = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}\n{self.log()}")
        return done

    def postmap(self, *specs):
        for spec in specs:
            self.run("postmap", spec.replace("{etc}", str(self.etc)))

    def start(self):
        try:
            self.run("postfix", "start")
        finally:
            self.running = bool(self.pids())  # a command that failed late may have left something that runs
        wait_for(lambda: "the SMTP port; log:\n" + self.log(), self.answers)

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
                return s.recv(3) == b"220"
        except OSError:
            return False

    def stop(self):
        self.run("postfix", "stop")
        self.running = False

    def reload(self, check=True):
        return self.run("postfix", "reload", check=check)

    def master_pid(self):
        return int((self.spool / "pid/master.pid").read_text())

    def pids(self, program=None):
        """Processes of this instance: the master and what it started, {pid: program}."""
        try:
            top = self.master_pid()
        except (OSError, ValueError):
            return {}
        found = {}
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                text = stat.read_text()
            except OSError:
                continue
            pid, name = int(text.split(" ", 1)[0]), text[text.index("(") + 1:text.rindex(")")]
            parent = int(text[text.rindex(")") + 2:].split()[1])
            if (pid == top or parent == top) and (program is None or name == program):
                found[pid] = name
        return found

    # --- what shows ---
    def log(self):
        try:
            return self.log_path.read_text(errors="replace")
        except OSError:
            return ""

    def wait_log(self, pattern, deadline=None):
        return wait_for(lambda: f"log line {pattern!r}; log:\n{self.log()}",
                        lambda: re.search(pattern, self.log(), re.M), deadline)

    def mailq(self):
        return self.run("postqueue", "-p").stdout

    def queue_is_empty(self):
        return "Mail queue is empty" in self.mailq()

    def wait_empty(self, deadline=None):
        wait_for(lambda: f"an empty queue:\n{self.mailq()}\n{self.log()}", self.queue_is_empty, deadline)

    def maildir(self, path):
        """Messages in a Maildir below mail/, parsed."""
        new = pathlib.Path(path) if os.path.isabs(str(path)) else self.home / path
        return [email.message_from_bytes(p.read_bytes()) for p in sorted((new / "new").glob("*"))] if (
            new / "new").is_dir() else []

    def wait_maildir(self, path, count=1, deadline=None):
        wait_for(lambda: f"{count} messages in {path}, have {len(self.maildir(path))}\n{self.log()}",
                 lambda: len(self.maildir(path)) >= count, deadline)
        return self.maildir(path)

    # --- clients ---
    def smtp(self):
        return smtplib.SMTP("127.0.0.1", self.port, timeout=30)

    def send(self, to, sender="sender@example.org", subject="test", body="hello\n", headers=""):
        recipients = [to] if isinstance(to, str) else to
        text = f"From: <{sender}>\nTo: <{recipients[0]}>\nSubject: {subject}\n{headers}\n{body}"
        with self.smtp() as client:
            client.sendmail(sender, recipients, text.encode())

    def raw(self, data, pause=0.0):
        """Sends raw bytes (or a list of them, with QUIT at the end), reads until the server closes; it may do so before it has read all."""
        pieces = [data] if isinstance(data, bytes) else data
        assert pieces[-1].endswith(b"QUIT\r\n")
        out = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE) as s:
            out += s.recv(4096)
            try:
                for piece in pieces:
                    s.sendall(piece)
                    time.sleep(pause)
            except ConnectionError:
                pass  # what it said before can still be read
            try:
                while chunk := s.recv(65536):
                    out += chunk
            except ConnectionError:
                pass
        return out

    def close(self, keep=False):
        """Stops it; returns complaints (sanitizer reports, panics). Its files stay if there are any, or with `keep`."""
        problems = []
        if self.running:
            try:
                self.stop()
            except (AssertionError, subprocess.TimeoutExpired) as e:
                problems.append(f"postfix stop failed: {e}")
                for pid in self.pids():
                    os.kill(pid, 9)
        log = self.log()
        for pattern in (r"panic: .*", r"fatal: .*", r"killed by signal (?!9\b|15\b).*", r"AddressSanitizer.*"):
            found = re.search(pattern, log)
            if found and not getattr(self, "expect_" + pattern.split(":")[0].split(" ")[0], False):
                problems.append(f"log has: {found.group(0)}")
        for report in list(self.root.glob("**/sanitizer.*")) + list(self.root.glob("**/asan.*")):
            problems.append(report.read_text(errors="replace")[:4000])
        if not problems and not keep:
            shutil.rmtree(self.root, ignore_errors=True)
        return problems


def stop_accepting(server, thread):
    """Ends a thread that accepts from `server`, then closes it. The other way round the thread may find its descriptor's number again in the
    listening socket of the next test's server, and take a connection away from it."""
    server.shutdown(socket.SHUT_RDWR)
    thread.join(DEADLINE)
    assert not thread.is_alive()
    server.close()


class Sink:
    """A small SMTP server. reply(verb, argument, number) -> bytes or None chooses other answers than success. taken(message, since): that
    it was taken, at that time, has been said, or could not be."""

    def __init__(self, reply=None, port=0, pipelining=True, ehlo_extra=(), taken=lambda message, since: None):
        self.reply = reply or (lambda verb, argument, number: None)
        self.taken = taken
        self.messages = []  # (sender, [recipients], bytes)
        self.connections = 0
        self.pipelining = pipelining
        self.ehlo_extra = ehlo_extra
        self.server = socket.create_server(("127.0.0.1", port), backlog=200, reuse_port=False)
        self.port = self.server.getsockname()[1]
        self.closed = False
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while not self.closed:
            try:
                conn, _ = self.server.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                number = self.connections
            threading.Thread(target=self._session, args=(conn, number), daemon=True).start()

    def _session(self, conn, number):
        with conn, conn.makefile("rb") as f:
            def say(verb, argument, default):
                text = self.reply(verb, argument, number)
                if text == b"":
                    raise ConnectionError
                conn.sendall(text or default)
                return (text or default)[:1] in b"23"
            try:
                say("CONNECT", "", b"220 sink ESMTP\r\n")
                sender, rcpts = None, []
                while line := f.readline():
                    verb, _, argument = line.decode("latin-1").strip().partition(" ")
                    verb = verb.upper()
                    if verb in ("EHLO", "HELO"):
                        lines = ["sink", *(["PIPELINING"] if self.pipelining else []), "8BITMIME", "ENHANCEDSTATUSCODES",
                                 "DSN", *self.ehlo_extra]
                        text = "".join(f"250{'-' if i < len(lines) - 1 else ' '}{x}\r\n" for i, x in enumerate(lines))
                        say(verb, argument, text.encode())
                    elif verb == "MAIL":
                        if say(verb, argument, b"250 2.1.0 ok\r\n"):
                            sender, rcpts = argument[argument.index("<") + 1:argument.index(">")], []
                    elif verb == "RCPT":
                        if say(verb, argument, b"250 2.1.5 ok\r\n"):
                            rcpts.append(argument[argument.index("<") + 1:argument.index(">")])
                    elif verb == "DATA":
                        if not rcpts:
                            conn.sendall(b"554 5.5.1 no valid recipients\r\n")
                            continue
                        if not say(verb, argument, b"354 go\r\n"):
                            continue
                        body = []
                        while (line := f.readline()) and line != b".\r\n":
                            body.append(line[1:] if line.startswith(b".") else line)
                        if not line:
                            return
                        text = self.reply("DOT", "", number)
                        if text == b"":
                            return
                        if (text or b"2")[:1] != b"2":
                            conn.sendall(text)
                        else:
                            message, since = (sender, rcpts, b"".join(body)), time.time()
                            with self.lock:
                                self.messages.append(message)
                            try:
                                conn.sendall(text or b"250 2.0.0 queued\r\n")
                            finally:
                                self.taken(message, since)
                        sender, rcpts = None, []
                    elif verb == "QUIT":
                        conn.sendall(b"221 bye\r\n")
                        return
                    else:
                        say(verb, argument, b"250 ok\r\n")
            except (OSError, ConnectionError, ValueError):
                return

    def wait(self, count, deadline=None):
        wait_for(lambda: f"{count} messages at the sink, have {len(self.messages)}",
                 lambda: len(self.messages) >= count, deadline)
        return self.messages

    def close(self):
        if not self.closed:
            self.closed = True
            stop_accepting(self.server, self.thread)


class NameServer(threading.Thread):
    """Knows `names` (A 127.0.0.1); others do not exist; what ends in .silent is not answered."""

    def __init__(self, names=("good.test",)):
        super().__init__(daemon=True)
        self.names = names
        self.no_mx = False  # questions for MX are not answered
        self.records = {}  # (name, type): [data], beside the names' addresses
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.asked = []
        self.start()

    def run(self):
        while True:
            query, client = self.socket.recvfrom(4096)
            if not query:
                return
            end = query.index(b"\0", 12)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode())
                at += 1 + query[at]
            name, kind = ".".join(labels), int.from_bytes(query[end + 1:end + 3], "big")
            self.asked.append(name)
            if name.endswith(".silent") or (self.no_mx and kind == 15):
                continue
            data = self.records.get((name, kind), [])
            if name in self.names and kind == 1:
                data = [b"\x7f\0\0\1", *data]
            known = name in self.names or name in {n for n, _ in self.records}
            records = b"".join(b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1\0\0\0\x0a" + len(d).to_bytes(2, "big") + d for d in data)
            self.socket.sendto(query[:2] + bytes((0x81, 0x80 if known else 0x83)) + b"\0\1" + len(data).to_bytes(2, "big") + b"\0\0\0\0" +
                               query[12:end + 5] + records, client)

    def close(self):
        self.socket.sendto(b"", self.socket.getsockname())
        self.join(DEADLINE)
        self.socket.close()
