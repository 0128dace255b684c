# SPDX-License-Identifier: Apache-2.0
"""Debian's Postfix as a private instance: its own directories and port, nothing installed. As root only, as it wants."""
import os
import pwd
import socket
import struct
import subprocess
import threading

from instance import free_port, stop_accepting, wait_for

SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup   unix n - n 60 1 pickup
cleanup  unix n - n - 0 cleanup
qmgr     unix n - n 300 1 qmgr
rewrite  unix - - n - - trivial-rewrite
bounce   unix - - n - 0 bounce
defer    unix - - n - 0 bounce
trace    unix - - n - 0 bounce
proxymap unix - - n - - proxymap
flush    unix n - n 1000? 0 flush
smtp     unix - - n - - smtp
showq    unix n - n - - showq
error    unix - - n - - error
retry    unix - - n - - error
scache   unix - - n - 1 scache
anvil    unix - - n - 1 anvil
postlog  unix-dgram n - n - 1 postlogd
"""
OWNER, GROUP = "bin", "man"  # of the queue: others than those of our own instances


class DebianPostfix:
    def __init__(self, reference, where, **main):
        self.reference, self.where = reference, where
        self.etc, self.spool, self.data = where / "etc", where / "spool", where / "data"
        self.library = reference / "usr/lib/postfix"
        self.port = free_port()
        self.process = None
        owner = pwd.getpwnam(OWNER).pw_uid
        for path in (self.etc, self.spool, self.data, where / "bin", self.spool / "pid"):
            path.mkdir(parents=True)
        for name in "active bounce corrupt defer deferred flush hold incoming private saved trace".split():
            (self.spool / name).mkdir(mode=0o700)
            os.chown(self.spool / name, owner, -1)
        for name, mode in (("maildrop", 0o1730), ("public", 0o2710)):
            (self.spool / name).mkdir()
            os.chown(self.spool / name, owner, -1)
            (self.spool / name).chmod(mode)
        os.chown(self.data, owner, -1)
        (where / "log").touch()  # postsuper writes to it as the owner
        os.chown(where / "log", owner, -1)
        # sendmail starts it without the environment
        drop = where / "bin/postdrop"
        drop.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={self.library} exec {reference}/usr/sbin/postdrop "$@"\n')
        drop.chmod(0o755)
        self.main = {
            "compatibility_level": "3.6", "queue_directory": self.spool, "data_directory": self.data,
            "command_directory": where / "bin", "daemon_directory": self.library / "sbin",
            "sendmail_path": reference / "usr/sbin/sendmail",
            "import_environment": f"MAIL_CONFIG={self.etc} LD_LIBRARY_PATH={self.library} TZ",
            "mail_owner": OWNER, "setgid_group": GROUP, "default_privs": "nobody", "myhostname": "old.example.test",
            "mydestination": "", "alias_maps": "", "inet_interfaces": "127.0.0.1", "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8", "maillog_file": where / "log", "maillog_file_prefixes": "/",
            "default_database_type": "texthash", "smtputf8_enable": "yes",
        } | main
        for path in (where, *where.parents):  # its daemons must reach it
            if path.stat().st_uid == os.geteuid() and path.name:
                path.chmod(path.stat().st_mode | 0o011)

    def environment(self):
        return {"PATH": os.environ["PATH"], "MAIL_CONFIG": str(self.etc), "LD_LIBRARY_PATH": str(self.library)}

    def write(self, without=(), **main):
        self.main |= main
        (self.etc / "main.cf").write_text("".join(f"{k} = {v}\n" for k, v in self.main.items()))
        (self.etc / "master.cf").write_text("".join(
            line + "\n" for line in SERVICES.format(port=self.port).splitlines() if line.split()[0] not in without))

    def start(self, without=(), **main):
        self.write(without, **main)
        self.process = subprocess.Popen([self.library / "sbin/master", "-c", self.etc], env=self.environment(),
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_for(self.log, self.answers)

    def answers(self):
        assert self.process.poll() is None, self.process.stderr.read().decode() + self.log()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
                return s.recv(3) == b"220"
        except OSError:
            return False

    def stop(self):
        """With all its daemons, which notice that their master is gone."""
        if self.process is None:
            return
        self.process.terminate()
        self.process.wait(timeout=20)
        self.process.stderr.close()
        self.process = None
        wait_for("the end of Postfix's daemons", lambda: not self.daemons())

    def daemons(self):
        found = []
        for exe in map(str, os.listdir("/proc")):
            try:
                if exe.isdigit() and os.readlink(f"/proc/{exe}/cwd").startswith(str(self.spool)):
                    found.append(exe)
            except OSError:
                continue
        return found

    def log(self):
        try:
            return (self.where / "log").read_text(errors="replace")
        except OSError:
            return ""

    def run(self, command, *args, check=True, **options):
        done = subprocess.run([self.reference / "usr/sbin" / command, *map(str, args)], env=self.environment(),
                              capture_output=True, timeout=60, **options)
        assert not check or done.returncode == 0, done.stderr.decode()
        return done

    def files(self, *queues):
        """{queue id: path} of the queue files."""
        return {p.name: p for q in queues for p in (self.spool / q).rglob("*") if p.is_file()}

    def facts(self, path):
        """What postcat says of a queue file: {field: [values]}, its recipients in order, its content."""
        out = self.run("postcat", "-e", path).stdout.decode("utf-8", "surrogateescape")
        fields, rcpts, pending = {}, [], {}
        for line in out.splitlines():
            if ": " not in line:
                continue
            name, value = line.split(": ", 1)
            name = name.strip()
            if name == "named_attribute":
                name, _, value = value.partition("=")
            if name in ("original_recipient", "dsn_orig_rcpt", "notify_flags"):
                pending[name] = value
            elif name in ("recipient", "done_recipient", "canceled_recipient"):
                rcpts.append({"address": value, "kind": name, **pending})
                pending = {}
            else:
                fields.setdefault(name, []).append(value.strip())
        content = self.run("postcat", "-bh", path).stdout
        return fields, rcpts, content


class Milter:
    """A milter that changes what its `change(send, subject)` sends at the end of a message."""

    def __init__(self, change):
        self.change = change
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                conn, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.session, args=(conn,), daemon=True).start()

    def session(self, conn):
        def send(command, data=b""):
            conn.sendall(struct.pack("!I", len(data) + 1) + command + data)
        subject = b""
        with conn, conn.makefile("rb") as f:
            while len(head := f.read(4)) == 4:
                data = f.read(struct.unpack("!I", head)[0])
                command, data = data[:1], data[1:]
                if command == b"O":
                    send(b"O", struct.pack("!III", 6, 0x1FF, 0))
                elif command == b"Q":
                    return
                elif command == b"A":
                    subject = b""
                elif command == b"L" and data.lower().startswith(b"subject\0"):
                    subject = data[8:-1].strip()
                    send(b"c")
                elif command == b"E":
                    self.change(send, subject)
                    send(b"c")
                elif command != b"D":
                    send(b"c")

    def close(self):
        stop_accepting(self.server, self.thread)
