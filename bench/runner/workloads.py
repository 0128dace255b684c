# SPDX-License-Identifier: Apache-2.0
"""The workloads. Each runs one life of one system and yields (metric, value)."""
import dataclasses
import json
import re
import select
import subprocess
import time
import typing

from runner.profile import Profile
from runner.sandbox import wait_for
from runner.stop import Stop
from runner.systems import LISTEN, NEXT_HOP

STALL = 40  # seconds without progress after which a run is given up


class Life:
    """A system that runs, with its next hop."""

    def __init__(self, system, workload, groups, tools, options):
        self.system, self.sandbox, self.workload = system, system.sandbox, workload
        self.groups, self.tools, self.options = groups, tools, options
        self.target = NEXT_HOP if system.name == "direct" else LISTEN
        self.sink = self.profile = None

    def sessions(self):
        return ("-s", self.options.sessions or self.workload.sessions)

    def up(self, sink=True):
        self.sandbox.prepare()
        self.system.prepare()
        self.sandbox.start()
        if sink:
            self.start_sink()
        self.system.start()
        wait_for("greeting of " + self.system.name, self.greets, 20)

    def down(self):
        if self.sink is not None:
            self.sink.kill()
            self.sink.wait()
            self.counters.close()
        self.sandbox.stop()

    def start_sink(self):
        command = [self.tools / "smtp-sink", "-c", "-u", "nobody", "-m", "2000", NEXT_HOP, "2000"]
        with open(self.sandbox.work / "sink", "wb") as out:
            self.sink = subprocess.Popen(self.sandbox.tool(*command), stdin=subprocess.DEVNULL, stdout=out)
        self.counters = open(self.sandbox.work / "sink", "rb", buffering=0)  # with an offset of its own
        wait_for("smtp-sink", lambda: self.sandbox_connects(NEXT_HOP), 10)

    def sandbox_connects(self, where):
        host, port = where.split(":")
        command = ["bash", "-c", f"exec 3<>/dev/tcp/{host}/{port} && read -r -t 5 line <&3 && [[ $line == 220* ]]"]
        return subprocess.run(self.sandbox.tool(*command), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

    def greets(self):
        return self.sandbox_connects(self.target)

    def counted(self, name="mesg", kind=int):
        """A counter of the sink's."""
        self.counters.seek(max(0, self.counters.seek(0, 2) - 400))
        found = re.findall(rb"\b%s=([\d.]+)[ \r]" % name.encode(), self.counters.read())
        return kind(found[-1]) if found else 0

    def last_message(self):
        """When the sink took it: CLOCK_MONOTONIC."""
        return self.counted("last", float)

    def wait(self, count, wanted, step=0.02, when=None):
        """Until count() is wanted. The time at which it was (as when() knows better), or of the last progress that was seen; and the count."""
        last, since = -1, time.monotonic()
        while True:
            got, now = count(), time.monotonic()
            if got >= wanted:
                return when() if when else now, got
            if got != last:
                last, since = got, now
            elif now - since > STALL:
                return since, got
            time.sleep(step)

    def source(self, *arguments):
        """A running smtp-source."""
        command = [self.tools / "smtp-source", "--json", "-M", "load.bench.test", "-f", "s@src.bench.test", *arguments, self.target]
        return subprocess.Popen(self.sandbox.tool(*command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def count_of(self, messages):
        """So many that a run takes about as long as another system's."""
        return messages * self.system.factor

    def sent(self, source):
        out, err = source.communicate()
        if source.returncode != 0:
            raise Stop(f"{self.system.name}: {err.strip() or 'smtp-source failed'}\n{self.sandbox.log()[-1500:]}")
        return json.loads(out)

    def measured(self):
        """The warm-up is over. CPU time, as cpu()."""
        self.settle()
        if self.options.profile:
            self.profile = Profile(self.groups, self.options.work)
        self.others = self.groups.others()
        return self.cpu()

    def disturbed(self):
        """Since measured(): the share of the machine that processes had which have no part in this, in percent."""
        others, there_was = (after - before for after, before in zip(self.groups.others(), self.others))
        return max(0, 100 * others / there_was)

    def cpu(self):
        """Seconds of the system with its syslog daemon, and of the latter."""
        log = self.groups.cpu("log")
        return self.groups.cpu("mta") + log, log

    def settle(self):
        """Until nothing happens any more."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            before = self.cpu()[0]
            time.sleep(0.5)
            if self.cpu()[0] - before < 0.015:
                return
        raise Stop(f"{self.system.name} does not come to rest")


def throughput(life, messages, arguments, count):
    """Rates at which messages are taken in, and arrive; CPU time of each, of the system and of the load tools."""
    warm = messages // 25 + 1
    life.sent(life.source(*arguments, "-m", warm))
    life.wait(count, warm)
    cpu, base, load = life.measured(), count(), life.groups.cpu("load")
    source = life.source(*arguments, "-m", messages)
    ended, got = life.wait(count, base + messages, when=life.last_message if life.sink else None)
    sent = life.sent(source)
    yield "others_pct", life.disturbed()
    life.settle()
    after = life.cpu()
    yield "arrive_per_s", (got - base) / (ended - sent["began"])
    yield "accept_per_s", messages / sent["seconds"]
    yield "cpu_ms", (after[0] - cpu[0]) * 1000 / messages
    yield "log_cpu_ms", (after[1] - cpu[1]) * 1000 / messages
    yield "load_cpu_ms", (life.groups.cpu("load") - load) * 1000 / messages
    for share in ("p50", "p90", "p99", "p99.9", "max"):
        yield f"final_{share}_ms", sent["final_ms"][share]
    if got - base != messages:
        yield "missing", messages - (got - base)


def relay_small(life, messages):
    life.up()
    yield from throughput(life, life.count_of(messages), (*life.sessions(), "-l", 4096, "-N", "-t", "u@dest.test"), life.counted)


def relay_reuse(life, messages):
    life.up()
    yield from throughput(life, life.count_of(messages), (*life.sessions(), "-l", 4096, "-N", "-d", "-t", "u@dest.test"), life.counted)


def local_maildir(life, messages):
    life.up(sink=False)
    yield from throughput(life, life.count_of(messages), (*life.sessions(), "-l", 4096, "-N", "-t", "u@local.test"), life.sandbox.maildir_files)


def large(life, messages):
    life.up()
    yield from throughput(life, messages, (*life.sessions(), "-l", 10 * 1024 * 1024, "-N", "-t", "u@dest.test"), life.counted)


LISTS = 5


def list_(life, recipients):
    """One message to many recipients in 50 domains, which share the next hop; and again, some times."""
    life.up()
    life.sent(life.source("-m", 1, "-t", "warm@dest.test"))
    life.wait(life.counted, 1)
    cpu, base, transactions = life.measured(), life.counted("rcpt"), life.counted()
    taking, all_ = 0, 0
    for n in range(1, LISTS + 1):
        source = life.source("--pipelining", "--domains", 50, "-r", recipients, "-l", 4096, "-t", "u@list.test")
        ended, got = life.wait(lambda: life.counted("rcpt"), base + n * recipients, when=life.last_message)
        sent = life.sent(source)
        taking, all_ = taking + sent["seconds"], all_ + ended - sent["began"]
        if got - base != n * recipients:
            yield "missing", n * recipients - (got - base)
            break
    yield "others_pct", life.disturbed()
    life.settle()
    yield "rcpts_per_s", (got - base) / all_
    yield "accept_s", taking / n
    yield "cpu_ms", (life.cpu()[0] - cpu[0]) * 1000 / (n * recipients)
    yield "transactions", (life.counted() - transactions) / n


def drain(life, messages):
    """Messages that were deferred as the next hop was down; it comes back, and the queue is flushed."""
    life.up(sink=False)
    life.sent(life.source(*life.sessions(), "-l", 4096, "-N", "-d", "-t", "u@dest.test", "-m", messages))
    life.settle()
    began = time.monotonic()
    queued = life.system.queued()
    yield "mailq_s", time.monotonic() - began
    if queued != messages:
        raise Stop(f"{life.system.name}: {queued} messages are queued, {messages} were sent")
    life.start_sink()
    cpu, base = life.measured(), life.counted()
    began = time.monotonic()
    life.system.flush()
    ended, got = life.wait(life.counted, base + messages, when=life.last_message)
    yield "others_pct", life.disturbed()
    life.settle()
    yield "drain_per_s", (got - base) / (ended - began)
    yield "cpu_ms", (life.cpu()[0] - cpu[0]) * 1000 / messages
    if got - base != messages:
        yield "missing", messages - (got - base)


HOLD = """
import socket, sys, time
held, began = [], time.monotonic()
for _ in range(int(sys.argv[1])):
    s = socket.create_connection(("127.0.0.1", 25), timeout=60)
    if not s.recv(512).startswith(b"220"):
        sys.exit("no greeting")
    held.append(s)
print(time.monotonic() - began, flush=True)
sys.stdin.read()
"""


def idle(life, connections):
    """Connections that have been greeted and say nothing."""
    life.up(sink=False)
    life.measured()
    before = life.groups.memory_kib("mta")
    holder = subprocess.Popen(life.sandbox.tool("python3", "-c", HOLD, connections), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    line = holder.stdout.readline() if select.select([holder.stdout], [], [], 120)[0] else ""
    if not line:
        holder.kill()
        raise Stop(f"{life.system.name} does not greet {connections} connections")
    yield "others_pct", life.disturbed()
    life.settle()
    yield "connect_s", float(line)
    yield "kib_each", (life.groups.memory_kib("mta") - before) / connections
    holder.stdin.close()
    holder.wait()


@dataclasses.dataclass(frozen=True)
class Workload:
    run: typing.Callable
    messages: int  # by default; or recipients, or connections
    metric: str  # that the table of ratios shows
    unit: str
    sessions: int = 20
    slow_flush_ms: int = 0  # each flush to disk takes so long


WORKLOADS = {
    "relay-small": Workload(relay_small, 5000, "arrive_per_s", "messages/s"),
    "relay-reuse": Workload(relay_reuse, 5000, "arrive_per_s", "messages/s"),
    "local-maildir": Workload(local_maildir, 5000, "arrive_per_s", "messages/s"),
    "list": Workload(list_, 5000, "rcpts_per_s", "recipients/s"),
    "drain": Workload(drain, 10000, "drain_per_s", "messages/s"),
    "large": Workload(large, 60, "arrive_per_s", "messages/s", sessions=10),
    "idle": Workload(idle, 1000, "kib_each", "KiB each"),
    "slow-disk-20": Workload(relay_small, 2000, "arrive_per_s", "messages/s", slow_flush_ms=5),
    "slow-disk-100": Workload(relay_small, 2000, "arrive_per_s", "messages/s", sessions=100, slow_flush_ms=5),
}
