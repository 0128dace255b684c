#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the queue takes on disk while mail that leaves at once passes beside mail that stays.

    cmake --preset release && ninja -C build/release
    bench/disk_use.py [-n 100000] [-d 1000] [--segment 16777216] [--stage build/release/stage]

-n messages of 4 KiB go to a next hop that takes them; evenly among them come -d for one that refuses them for now. Prints what
journal/ and deferred/ took at most and in the end. Then the other takes its mail too. Fails (exit status 1) if a message
is missing, or if the journal grew with the mail that passed: it may hold the segments that are kept for reuse and, for each cleanup process, two in
use and a few that are just being emptied. Makes a private instance in a temporary directory, and removes it."""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEPT = 8  # STORE_FREE_SEGMENTS
IN_USE = 2  # a writer's: the open one, and the next
EMPTYING = 6  # sealed, and not all of it delivered, noted, promoted and recycled yet
ROUNDS = 100
SLACK = 4 << 20  # companions


def used(directory):
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_blocks * 512 if path.is_file() else 0
        except OSError:
            pass  # renamed or removed just now
    return total


class Watch(threading.Thread):
    """What the directories take at most, looked at ten times a second."""

    def __init__(self, spool, names):
        super().__init__(daemon=True)
        self.spool, self.most, self.done = spool, dict.fromkeys(names, 0), threading.Event()
        self.start()

    def run(self):
        while not self.done.wait(0.1):
            self.look()

    def look(self):
        now = {name: used(self.spool / name) for name in self.most}
        for name, value in now.items():
            self.most[name] = max(self.most[name], value)
        return now


class Hop:
    def __init__(self, stage, port, *options):
        command = [stage / "bench/smtp-sink", *options, *(["-u", "daemon"] if os.geteuid() == 0 else []), f"127.0.0.1:{port}", "500"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def finished(self):
        return self.process.poll() is not None

    def stop(self):
        if not self.finished():
            self.process.terminate()
            self.process.wait()


def source(stage, inst, count, to):
    subprocess.run([stage / "bench/smtp-source", "-N", "-d", "-m", str(count), "-s", str(min(20, count)), "-l", "4096", "-t", to,
                    f"127.0.0.1:{inst.port}"], check=True, stdout=subprocess.DEVNULL)


def mib(n):
    return f"{n / 2**20:.0f} MiB"


def run(args, inst, stage, ports, wait_for):
    passing = Hop(stage, ports[0], "-M", str(args.n))
    refusing = Hop(stage, ports[1], "-r", "RCPT")
    taking = None
    try:
        inst.start()
        watch = Watch(inst.spool, ("journal", "deferred"))
        begin = time.monotonic()
        for i in range(ROUNDS):
            for count, to in ((args.d, "stays@stay.test"), (args.n, "passes@pass.test")):
                if share := count * (i + 1) // ROUNDS - count * i // ROUNDS:
                    source(stage, inst, share, to)
        wait_for("what passes to have passed", passing.finished, 120)
        took = time.monotonic() - begin
        writers = len(inst.pids("cleanup"))
        wait_for("nearly all of what stays to have a file", lambda: len(list(inst.spool.glob("deferred/*/*"))) >= args.d * 9 // 10, 60)
        time.sleep(6)  # what failed is recycled five seconds later
        now = watch.look()
        watch.done.set()
        files = len(list(inst.spool.glob("deferred/*/*")))
        print("| | |\n|---|---|")
        print(f"| messages that passed, that stayed; seconds | {args.n:,}, {args.d:,}; {took:.0f} |")
        print(f"| `journal/` at most, in the end | {mib(watch.most['journal'])}, {mib(now['journal'])}, of {mib(args.n * 4400)} that passed |")
        print(f"| `deferred/` in the end | {mib(now['deferred'])}, {files:,} files |")
        limit = (KEPT + max(writers, 1) * IN_USE + EMPTYING) * args.segment + SLACK
        problems = [] if watch.most["journal"] <= limit else [f"the journal took {mib(watch.most['journal'])}, more than {mib(limit)}"]
        refusing.stop()
        taking = Hop(stage, ports[1], "-M", str(args.d))

        def delivered():
            inst.run("postqueue", "-f")
            return taking.finished()
        wait_for(lambda: f"what stayed to be delivered:\n{inst.mailq()[-500:]}", delivered, 120)
        inst.wait_empty()
        sent = inst.log().count("status=sent")
        if sent != args.n + args.d:
            problems.append(f"{sent} deliveries of {args.n + args.d} messages")
        print(f"| all delivered, once | {sent:,} |")
        return problems
    finally:
        for hop in (passing, refusing, taking):
            if hop is not None:
                hop.stop()


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("-n", type=int, default=100000)
    args.add_argument("-d", type=int, default=1000)
    args.add_argument("--segment", type=int, default=16 << 20)
    args.add_argument("--stage", type=pathlib.Path, default=ROOT / "build/release/stage")
    args = args.parse_args()
    stage = args.stage.resolve()
    os.environ["POSTRIDER_STAGE"] = str(stage)
    sys.path.insert(0, str(ROOT / "tests/scenario"))
    from instance import Instance, free_port, wait_for
    top = tempfile.mkdtemp(prefix="disk-use.")
    os.chmod(top, 0o755)
    ports = (free_port(), free_port())
    inst = Instance(pathlib.Path(top) / "i", main={
        "relay_domains": "pass.test, stay.test", "journal_segment_size": str(args.segment),
        "transport_maps": f"inline:{{ {{pass.test = smtp:[127.0.0.1]:{ports[0]}}}, {{stay.test = smtp:[127.0.0.1]:{ports[1]}}} }}",
        "default_destination_concurrency_failed_cohort_limit": "0", "queue_minfree": "0"})
    try:
        problems = run(args, inst, stage, ports, wait_for)
    finally:
        complaints = inst.close(keep=True)
        shutil.rmtree(top, ignore_errors=True)
    for text in problems + complaints:
        print(text)
    return 1 if problems or complaints else 0


if __name__ == "__main__":
    sys.exit(main())
