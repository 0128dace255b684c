# SPDX-License-Identifier: Apache-2.0
"""The systems under test: how each is set up, started, asked and stopped. All take mail on 127.0.0.1:25 and pass it on to 127.0.0.2:2525."""
import os
import re
import subprocess

from runner.sandbox import MAILBOXES

LISTEN, NEXT_HOP = "127.0.0.1:25", "127.0.0.2:2525"
ADDRESSES = 20000  # 1u@local.test ...: as smtp-source -N -t u@local.test numbers them

MAIN_CF = """\
compatibility_level = 3.6
myhostname = mx.bench.test
mydestination = localhost
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
biff = no
alias_maps =
alias_database =
relayhost = [127.0.0.2]:2525
message_size_limit = 20971520
smtpd_recipient_limit = 10000
default_process_limit = {processes}
default_destination_concurrency_limit = 50
initial_destination_concurrency = 50
in_flow_delay = 0
virtual_mailbox_domains = local.test
virtual_mailbox_base = /home
virtual_mailbox_maps = hash:/etc/postfix/vmailbox
virtual_uid_maps = static:2000
virtual_gid_maps = static:2000
"""

FLUSH = {"LD_PRELOAD": "/opt/postrider/bench/slow_flush.so", "SLOW_FLUSH_FILE": "/tmp/device"}


class System:
    """name: in tables. skips: workloads that it has no part in. factor: how many more messages it needs for a run of the same length."""

    name, skips, factor = "", (), 1

    def __init__(self, sandbox, packages, slow_flush_ms=0, processes=100):
        self.sandbox, self.packages, self.processes = sandbox, packages, processes
        self.env = dict(FLUSH, SLOW_FLUSH_MS=str(slow_flush_ms)) if slow_flush_ms else {}

    def prepare(self):
        """Its files, in directories that are new."""

    def start(self):
        raise NotImplementedError


class PostfixLike(System):
    sbin = ""

    def prepare(self):
        etc = self.sandbox.work / "etc/postfix"
        etc.mkdir()
        text = MAIN_CF.format(processes=self.processes) + self.extra_parameters()
        if self.env:  # master hands on nothing else
            text += "import_environment = MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C" + "".join(f" {k}={v}" for k, v in self.env.items()) + "\n"
        (etc / "main.cf").write_text(text)
        # Debian's, without chroot and without the programs of other packages
        master = re.sub(r"\n\s+(flags|user)=.*", "", (self.packages / "usr/share/postfix/master.cf.dist").read_text())
        lines = [line for line in master.splitlines() if not line.startswith("#") and not line.endswith(" pipe")]
        (etc / "master.cf").write_text("\n".join(re.sub(r"^(\S+(?:\s+\S+){3}\s+)y", r"\1n", line) for line in lines) + "\n")
        (etc / "vmailbox").write_text("".join(f"{n}u@local.test u{n % MAILBOXES:02d}/Maildir/\n" for n in range(1, ADDRESSES + 1)))

    def extra_parameters(self):
        return ""

    def start(self):
        self.sandbox.run(f"{self.sbin}/postmap", "hash:/etc/postfix/vmailbox")
        self.sandbox.run(f"{self.sbin}/postfix", "start", env=self.env)

    def flush(self):
        self.sandbox.run(f"{self.sbin}/postqueue", "-f")

    def queued(self):
        """As mailq counts them; the listing is read to its end."""
        found = re.search(r"^-- \d+ Kbytes in (\d+) Request", self.sandbox.run(f"{self.sbin}/postqueue", "-p"), re.M)
        return int(found[1]) if found else 0


class Postfix(PostfixLike):
    """Debian's, the yardstick."""

    name, sbin = "postfix", "/usr/sbin"

    def prepare(self):
        work = self.sandbox.work
        super().prepare()
        given = [*(self.packages / "etc/postfix").iterdir(), self.packages / "usr/share/postfix/dynamicmaps.cf"]
        subprocess.run(["cp", "-a", *given, work / "etc/postfix"], check=True)
        for name in ("spool", "lib"):
            (work / "var" / name / "postfix").mkdir(exist_ok=True)
        os.chown(work / "var/lib/postfix", 110, 110)


class Postrider(PostfixLike):
    name, sbin = "postrider", "/opt/postrider/sbin"

    def extra_parameters(self):
        return "daemon_directory = /opt/postrider/libexec/postrider\ncommand_directory = /opt/postrider/sbin\n"


class Before(Postrider):
    """Another build, from --before, to see what a change is worth."""

    name = "before"


class Floor(System):
    """The bare durable relay: no product, but the bound."""

    name, skips, factor = "floor", ("local-maildir", "drain", "idle"), 3

    def start(self):
        command = self.sandbox.command("/opt/postrider/bench/floor", LISTEN, NEXT_HOP, "/var/spool/floor.journal", env=self.env)
        out = open(self.sandbox.work / "floor.log", "wb")
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)


class Direct(System):
    """No system at all: the load tools against each other. What they cost shows here."""

    name, skips, factor = "direct", ("local-maildir", "drain", "idle"), 6

    def start(self):
        pass


SYSTEMS = {s.name: s for s in (Postfix, Postrider, Before, Floor, Direct)}
