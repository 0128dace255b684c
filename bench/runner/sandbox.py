# SPDX-License-Identifier: Apache-2.0
"""A root directory and namespaces of its own for one life of a system: own network, processes, mounts, names, and rsyslogd."""
import os
import pathlib
import shutil
import signal
import subprocess
import time

from runner.stop import Stop

HERE = pathlib.Path(__file__).parent
PATH = "/opt/postrider/sbin:/usr/sbin:/usr/bin:/sbin:/bin"

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/:/usr/sbin/nologin
postfix:x:110:110::/var/spool/postfix:/usr/sbin/nologin
mailuser:x:2000:2000::/home:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/:/usr/sbin/nologin
"""
GROUP = """\
root:x:0:
daemon:x:1:
tty:x:5:
adm:x:4:
mail:x:8:
postfix:x:110:
postdrop:x:111:
mailuser:x:2000:
nogroup:x:65534:
"""
MAILBOXES = 100


def wait_for(what, condition, seconds, step=0.05):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Stop(f"no {what} within {seconds:g} s")
        time.sleep(step)


class Sandbox:
    def __init__(self, work, packages, stage, groups):
        self.work, self.packages, self.stage, self.groups = pathlib.Path(work), packages, stage, groups
        self.outer = None

    # --- the directories of one life ---
    def prepare(self):
        """etc/, var/ and home/ as new."""
        for name in ("etc", "var", "home"):
            shutil.rmtree(self.work / name, ignore_errors=True)
        etc, var, home = (self.work / name for name in ("etc", "var", "home"))
        for d in (self.work / "root", etc, var / "log", var / "spool", var / "lib", var / "mail", var / "tmp", home):
            d.mkdir(parents=True, exist_ok=True)
        (self.work / "ready").unlink(missing_ok=True)
        (etc / "passwd").write_text(PASSWD)
        (etc / "group").write_text(GROUP)
        (etc / "hosts").write_text("127.0.0.1 localhost mx.bench.test mx\n127.0.0.2 sink.bench.test\n")
        (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
        (etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # nobody answers there
        (etc / "mailname").write_text("mx.bench.test\n")
        for name in ("services", "protocols", "localtime"):
            if pathlib.Path("/etc", name).exists():
                shutil.copy(f"/etc/{name}", etc / name)
        text = (self.packages / "etc/rsyslog.conf").read_text()  # Debian's, without the kernel's log
        (etc / "rsyslog.conf").write_text("".join(line for line in text.splitlines(True) if "imklog" not in line))
        for n in range(MAILBOXES):
            for d in ("", "new", "cur", "tmp"):
                path = home / f"u{n:02d}" / "Maildir" / d
                path.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.chown(path, 2000, 2000)
            os.chown(home / f"u{n:02d}", 2000, 2000)

    def maildir_files(self):
        return sum(len(os.listdir(self.work / f"home/u{n:02d}/Maildir/new")) for n in range(MAILBOXES))

    def log(self):
        try:
            return (self.work / "var/log/mail.log").read_text(errors="replace")
        except OSError:
            return ""

    # --- its processes ---
    def start(self):
        init = ["setpriv", "--pdeathsig=KILL", "unshare", "-m", "-p", "-n", "-u", "-i", "--fork", "--kill-child", "sh",
                HERE / "sandbox-init.sh", self.work, self.packages, self.stage]
        out = open(self.work / "sandbox.log", "wb")
        self.outer = subprocess.Popen(self.groups.enter("log", init), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        ready = lambda: (self.work / "ready").exists() or self.outer.poll() is not None  # noqa: E731
        wait_for("sandbox", ready, 20, 0.02)
        if self.outer.poll() is not None:
            raise Stop("sandbox: " + ((self.work / "sandbox.log").read_text().strip().splitlines() or ["it ended"])[-1])
        self.pid = int(pathlib.Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()[0])

    def remove(self):
        shutil.rmtree(self.work, ignore_errors=True)

    def stop(self):
        """Kills the first process of the process namespace: all others go with it."""
        if self.outer is None:
            return
        if self.outer.poll() is None and hasattr(self, "pid"):
            os.kill(self.pid, signal.SIGKILL)
        try:
            self.outer.wait(10)
        except subprocess.TimeoutExpired:
            self.outer.kill()
            self.outer.wait()
        self.outer = None
        wait_for("end of the sandbox's processes", lambda: not self.groups.pids(), 10)

    def command(self, *argv, env=None):
        """A command of the system, inside."""
        inside = ["nsenter", "-t", self.pid, "-m", "-p", "-n", "-u", "-i", "chroot", self.work / "root", "env", "-i", f"PATH={PATH}",
                  "HOME=/root", "LC_ALL=C", *(f"{k}={v}" for k, v in (env or {}).items()), *argv]
        return self.groups.enter("mta", inside)

    def run(self, *argv, env=None, check=True):
        done = subprocess.run(self.command(*argv, env=env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True)
        if check and done.returncode != 0:
            raise Stop(f"{' '.join(map(str, argv))}: {(done.stdout.strip().splitlines() or ['failed'])[-1]}")
        return done.stdout

    def tool(self, *argv):
        """A load tool: the host's files, the sandbox's network; and its processes, so that it ends with it."""
        return self.groups.enter("load", ["nsenter", "-t", self.pid, "-n", "-p", *argv])
