#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""fairness.py - how long single messages take while a list and a dead destination are in the queue.

    bench/fairness.py [--recipients 100000] [--dead 20000] [--seconds 1] [--rate 20] [--debian]

First single messages alone, at a steady rate: the idle system. Then the queue gets many messages for a destination that refuses connections (or,
with --silent, takes them and says nothing), and one message to very many recipients in 250 destinations whose next hop takes
--seconds for each delivery. While that is delivered, single messages come at the same rate, and every ten seconds the deferred mail is
flushed, so that the dead destination is tried again and again. A single message's delay is the time from the client's connection to the moment
when its next hop has it. Prints percentiles of both phases, their ratio, and the queue manager's memory. --debian measures Debian's Postfix
(fetched with apt-get, unpacked, not installed) in the same way. As root on Debian 12.
"""
import argparse
import asyncio
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
os.environ.setdefault("POSTRIDER_STAGE", str(TOP / "build/release/stage"))
sys.path[:0] = [str(TOP / "tests/integration"), str(TOP / "tests/scenario")]
from instance import STAGE, Instance, free_port, wait_for  # noqa: E402

DESTINATIONS = 250


class Single:
    """Sends single messages at a steady rate, and is their next hop."""

    def __init__(self):
        self.sent, self.taken, self.came = {}, {}, {}
        self.port = None

    async def serve(self):
        server = await asyncio.start_server(self.session, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def session(self, reader, writer):
        writer.write(b"220 hop ESMTP\r\n")
        try:
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    writer.write(b"354 go\r\n")
                    content = await reader.readuntil(b"\r\n.\r\n")
                    now = time.monotonic()
                    number = int(content.split(b"Subject: single ", 1)[1].split(b"\r\n", 1)[0])
                    self.came.setdefault(number, now)
                writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
                if verb == b"QUIT":
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        writer.close()

    async def send(self, port, number):
        self.sent[number] = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readline()
        for command in (b"HELO client.test", b"MAIL FROM:<a@client.test>", b"RCPT TO:<one@single.test>", b"DATA",
                        b"Subject: single %d\r\n\r\n%s\r\n." % (number, b"x" * 1000)):
            writer.write(command + b"\r\n")
            reply = await reader.readline()
            if reply[:1] not in b"23":
                raise SystemExit(f"single message: {command[:20]}: {reply.decode()}")
        self.taken[number] = time.monotonic()
        writer.write(b"QUIT\r\n")
        writer.close()

    async def at_rate(self, port, rate, until):
        """Until until() holds; the numbers of the messages."""
        first = len(self.sent)
        begun = time.monotonic()
        tasks = []
        while not until(time.monotonic() - begun):
            number = len(self.sent)
            self.sent[number] = None
            tasks.append(asyncio.create_task(self.send(port, number)))
            await asyncio.sleep(max(0, begun + (number - first + 1) / rate - time.monotonic()))
        await asyncio.gather(*tasks)
        for _ in range(3000):
            if all(n in self.came for n in range(first, len(self.sent))):
                break
            await asyncio.sleep(0.1)
        return range(first, len(self.sent))

    def delays(self, numbers):
        """Until the next hop has them, and of that until the 250 for them."""
        return sorted(self.came[n] - self.sent[n] for n in numbers), sorted(self.taken[n] - self.sent[n] for n in numbers)


def say(stream, line):
    stream.write(line + b"\r\n")
    stream.flush()


def converse(port, commands, wanted=b"23"):
    """Commands in one write, replies read after it."""
    with socket.create_connection(("127.0.0.1", port), timeout=600) as s:
        f = s.makefile("rwb")
        f.readline()
        for batch in commands:
            f.write(b"".join(c + b"\r\n" for c in batch))
            f.flush()
            for c in batch:
                reply = f.readline()
                assert reply[:1] in wanted, (c[:60], reply)


def put_list(port, recipients):
    rcpts = [b"RCPT TO:<user%d@d%d.bulk.test>" % (i, i % DESTINATIONS) for i in range(recipients)]
    converse(port, [[b"HELO client.test"], [b"MAIL FROM:<list@client.test>"],
                    *(rcpts[i:i + 500] for i in range(0, recipients, 500)),
                    [b"DATA"], [b"Subject: list\r\n\r\nhello\r\n."], [b"QUIT"]])


def put_dead(port, count):
    one = [[b"MAIL FROM:<a@client.test>"], [b"RCPT TO:<x@dead.test>"], [b"DATA"], [b"Subject: dead\r\n\r\nhello\r\n."]]
    threads = [threading.Thread(target=converse, args=(port, [[b"HELO client.test"], *(one * n)]))
               for n in [count // 10] * 9 + [count - count // 10 * 9] if n > 0]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def settings(where, single_port, bulk_port, dead_port):
    table = where / "transport"
    table.write_text(f"single.test smtp:[127.0.0.1]:{single_port}\ndead.test smtp:[127.0.0.2]:{dead_port}\n" + "".join(
        f"d{i}.bulk.test smtp:[127.0.1.{i + 1}]:{bulk_port}\n" for i in range(DESTINATIONS)))
    return {"transport_maps": f"texthash:{table}", "mydestination": "", "relayhost": "", "smtpd_recipient_limit": 1000000,
            "smtpd_error_sleep_time": 0, "smtp_helo_timeout": "5s", "in_flow_delay": "0", "smtpd_client_connection_count_limit": 0,
            "message_size_limit": 100000000, "header_size_limit": 1024000, "smtpd_recipient_restrictions": "permit_mynetworks, reject"}


def percentile(values, p):
    return values[min(len(values) - 1, int(len(values) * p / 100))]


def memory(pid):
    """KiB: now, and at most."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return [int(text.split(name)[1].split()[0]) for name in ("VmRSS:", "VmHWM:")]


class Log:
    """Counts what is new in the log, so that looking costs little while the system is measured."""

    def __init__(self, path):
        self.file = open(path, "rb")
        self.counts = {b"to=<x@dead.test>": 0, b".bulk.test>": 0}

    def count(self, text):
        new = self.file.read()
        for one in self.counts:
            self.counts[one] += new.count(one)
        return self.counts[text]


class Ours:
    def __init__(self, where, main):
        self.inst = Instance(where / "i", main=main)
        self.inst.start()
        self.port = self.inst.port
        self.log = Log(self.inst.log_path)

    def qmgr(self):
        return next(iter(self.inst.pids("qmgr")))

    def flush(self):
        self.inst.run("postqueue", "-f")

    def longest_turn(self):
        """Of the queue manager's event loop, in ms, by the clock: so long everything else waited."""
        time.sleep(1.1)  # it tells once a second
        lines = (line.split("\t") for line in self.inst.run("postfix", "metrics").stdout.splitlines())
        return next(int(value) for name, value in lines if name == "qmgr_longest_turn_us") / 1000

    def close(self):
        for problem in self.inst.close():
            print(problem[:500])


class Debian:
    def __init__(self, where, main):
        from debian_postfix import DebianPostfix
        debs = where / "debs"
        debs.mkdir()
        subprocess.run(["apt-get", "download", "postfix"], cwd=debs, check=True, capture_output=True)
        for deb in debs.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", deb, where / "root"], check=True)
        self.p = DebianPostfix(where / "root", where / "i", **main)
        self.p.start()
        self.port = self.p.port
        self.log = Log(where / "i/log")

    def qmgr(self):
        for pid in self.p.daemons():
            if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "qmgr":
                return pid

    def flush(self):
        self.p.run("postqueue", "-f")

    def longest_turn(self):
        return None  # not known

    def close(self):
        self.p.stop()


async def measure(system, single, args):
    idle = await single.at_rate(system.port, args.rate, lambda t: t >= args.idle)
    before = memory(system.qmgr())
    await asyncio.to_thread(put_dead, system.port, args.dead)
    await asyncio.to_thread(wait_for, "deferral", lambda: system.log.count(b"to=<x@dead.test>") >= args.dead, 600)
    queued = memory(system.qmgr())
    await asyncio.to_thread(put_list, system.port, args.recipients)
    begun = time.monotonic()
    state = {"flush": begun, "done": False, "end": None}

    async def disturb():
        while not state["done"]:
            now = time.monotonic()
            if now >= state["flush"]:
                state["flush"] = now + args.flush
                await asyncio.to_thread(system.flush)
            await asyncio.sleep(0.5)
            if system.log.count(b".bulk.test>") >= args.recipients:
                state["end"] = time.monotonic() - begun
                state["done"] = True

    task = asyncio.create_task(disturb())
    loaded = await single.at_rate(system.port, args.rate, lambda t: state["done"] or t > 600)
    state["done"] = True
    await task
    return single.delays(idle), single.delays(loaded), before, queued, memory(system.qmgr()), state["end"], system.longest_turn()


async def run(args, where):
    single = Single()
    server = await single.serve()
    bulk_port, dead_port = free_port(), free_port()
    silent = socket.socket()
    if args.silent:
        silent.bind(("127.0.0.2", dead_port))
        silent.listen(100)
    sink = subprocess.Popen([STAGE / "bench/smtp-sink", "-u", "nobody", "-w", str(args.seconds), f"inet:0.0.0.0:{bulk_port}", "1000"])
    system = (Debian if args.debian else Ours)(where, settings(where, single.port, bulk_port, dead_port))
    try:
        return await measure(system, single, args)
    finally:
        system.close()
        sink.terminate()
        sink.wait()
        silent.close()
        server.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipients", type=int, default=100000)
    parser.add_argument("--dead", type=int, default=20000)
    parser.add_argument("--seconds", type=int, default=1, help="that the list's next hop takes for a delivery")
    parser.add_argument("--rate", type=float, default=20, help="single messages a second")
    parser.add_argument("--idle", type=float, default=10, help="seconds of the first phase")
    parser.add_argument("--flush", type=float, default=10, help="seconds between two flushes of the deferred mail")
    parser.add_argument("--silent", action="store_true")
    parser.add_argument("--debian", action="store_true")
    parser.add_argument("--limit", type=float, default=3, help="exit 1 if the ratio of the 99th percentiles is above it")
    args = parser.parse_args()
    if not STAGE.is_dir():
        parser.error(f"{STAGE} is not there: cmake --preset release && ninja -C build/release")
    where = pathlib.Path(tempfile.mkdtemp(prefix="fairness-"))
    where.chmod(0o755)
    try:
        idle, loaded, before, queued, after, end, turn = asyncio.run(run(args, where))
    finally:
        shutil.rmtree(where, ignore_errors=True)
    print(f"{'Debian' if args.debian else 'ours'}: list of {args.recipients} in {end and round(end, 1)} s, {args.dead} dead")
    for name, phase in (("idle", idle), ("loaded", loaded)):
        for what, delays in zip(("delivered", "taken"), phase):
            print(f"{name:7} {len(delays):5} singles {what:9}: " + ", ".join(
                f"{p}% {percentile(delays, p) * 1000:.1f} ms" for p in (50, 90, 99)) + f", most {delays[-1] * 1000:.1f} ms")
    ratio = percentile(loaded[0], 99) / percentile(idle[0], 99)
    print(f"ratio of the 99th percentiles: {ratio:.2f}; qmgr {before[0]} KiB idle, {queued[0]} with the dead, {after[1]} at most"
          + (f"; longest turn {turn:.1f} ms" if turn is not None else ""))
    return 0 if ratio <= args.limit else 1


if __name__ == "__main__":
    sys.exit(main())
