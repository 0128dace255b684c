#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A very long queue: how much memory the queue manager needs for it, how fast it starts, lists, flushes and deletes.

    cmake --preset release && ninja -C build/release
    bench/million.py [-n 1000000] [--stage build/release/stage]

Makes a private instance in a temporary directory (about 1 KiB a message), and removes it."""
import argparse
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOMAINS = 1000


def status(pid, name):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next((int(line.split()[1]) for line in f if line.startswith(name + ":")), 0) // 1024  # 0: it has just ended


def timed(fn, *args):
    begin = time.monotonic()
    value = fn(*args)
    return time.monotonic() - begin, value


def say(what, value):
    print(f"| {what} | {value} |", flush=True)


class Bench:
    def __init__(self, inst, stage, count):
        self.inst, self.stage, self.count = inst, stage, count
        self.env = dict(os.environ, MAIL_CONFIG=str(inst.etc))

    def popen(self, *args, **options):
        return subprocess.Popen([str(self.stage / "sbin" / args[0]), *args[1:]], env=self.env, stdout=subprocess.PIPE, **options)

    def fill(self):
        owner = pwd.getpwnam("daemon") if os.geteuid() == 0 else None
        options = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if owner else {}
        subprocess.run([str(self.stage / "bench/fill-queue"), "-n", str(self.count), "-d", str(DOMAINS)], env=self.env,
                       check=True, **options)

    def first(self):
        """Until one message that was put in is told."""
        return self.inst.run("postqueue", "--queue", "deferred", "--id", self.one).stdout

    def qmgr(self):
        (pid,) = self.inst.pids("qmgr")
        return pid

    def head(self):
        """mailq | head"""
        p = self.popen("postqueue", "-p")
        lines = [p.stdout.readline() for _ in range(10)]
        p.stdout.close()
        p.wait()
        assert all(lines)

    def listing(self):
        """All of mailq; the memory that it took."""
        p = self.popen("postqueue", "-p")
        size, most = 0, 0
        while lines := p.stdout.readlines(1 << 20):
            size += sum(b" user" in line for line in lines)
            most = max(most, status(p.pid, "VmHWM"))
        assert p.wait() == 0 and size >= self.count, (size, p.returncode)
        return most

    def deliver_meanwhile(self):
        """Sends mail while the queue is listed: the longest delay of a message, from the first command to its delivery."""
        worst, stop = 0.0, threading.Event()
        done = []
        lister = threading.Thread(target=lambda: (done.append(self.listing()), stop.set()))
        lister.start()
        n = 0
        while not stop.is_set():
            begin = time.monotonic()
            self.inst.send(f"x{n}@gone.test")
            self.inst.wait_log(rf"to=<x{n}@gone.test>.*status=sent", deadline=60)
            worst = max(worst, time.monotonic() - begin)
            n += 1
        lister.join()
        return worst, n, done

    def active(self):
        return self.inst.log().count("(queue active)")


def run(bench):
    inst, count = bench.inst, bench.count
    fill, _ = timed(bench.fill)
    say("messages, and to how many domains", f"{count:,}, {DOMAINS:,}")
    say("fill-queue", f"{fill:.1f} s")
    inst.start()
    wait, text = timed(lambda: bench.popen("postqueue", "--domain", "d3.test").communicate()[0])
    bench.one = text.split()[0].decode()
    inst.stop()
    size = sum(f.stat().st_blocks * 512 for f in inst.spool.rglob("*") if f.is_file())
    say("queue on disk", f"{size / 2**20:,.0f} MiB")
    begin = time.monotonic()
    inst.start()
    assert bench.first().split() == [bench.one]
    say("restart: `postfix start` until the queue is known and told", f"{time.monotonic() - begin:.1f} s")
    say("qmgr, resident", f"{status(bench.qmgr(), 'VmRSS')} MiB ({status(bench.qmgr(), 'VmRSS') * 2**20 // count} bytes a message)")
    say("`mailq \\| head`", f"{timed(bench.head)[0] * 1000:.0f} ms")
    before = bench.active()
    flush, _ = timed(inst.run, "postqueue", "-s", "d3.test")
    again = count // DOMAINS
    deadline = time.monotonic() + 120
    while bench.active() - before < again and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2)  # what is not meant would come now
    say("`postqueue -s` of one domain, the first since the start", f"{flush:.1f} s; {bench.active() - before} messages tried, {again} are for it")
    whole, most = timed(bench.listing)
    say("`mailq`, all of it", f"{whole:.1f} s, {most} MiB resident")
    worst, n, _ = bench.deliver_meanwhile()
    say("mail delivered one by one while `mailq` runs", f"{n} messages, the slowest took {worst * 1000:.0f} ms")
    flush, _ = timed(inst.run, "postqueue", "-s", "d4.test")
    say("the same of another domain, after `mailq`", f"{flush * 1000:.0f} ms")
    select, names = timed(lambda: inst.run("postqueue", "--domain", "d5.test").stdout)
    say("`postqueue --domain`", f"{select:.1f} s, {len(names.split())} names")
    delete, done = timed(lambda: inst.run("postsuper", "-d", "-", input=names))
    assert f"Deleted: {again} messages" in done.stderr, done.stderr
    say("`postsuper -d -` of these", f"{delete * 1000:.0f} ms")
    shape, out = timed(lambda: bench.popen("qshape", "-n", "5", "deferred").communicate()[0]) if (
        bench.stage / "sbin/qshape").exists() else (None, None)
    if out:
        say("`qshape deferred`", f"{shape:.1f} s")
    say("qmgr, resident at the end (and at most)", f"{status(bench.qmgr(), 'VmRSS')} MiB ({status(bench.qmgr(), 'VmHWM')} MiB)")


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("-n", type=int, default=1000000)
    args.add_argument("--stage", type=pathlib.Path, default=ROOT / "build/release/stage")
    args = args.parse_args()
    stage = args.stage.resolve()
    os.environ["POSTRIDER_STAGE"] = str(stage)
    sys.path.insert(0, str(ROOT / "tests/scenario"))
    from instance import Instance, free_port
    top = tempfile.mkdtemp(prefix="million.")
    os.chmod(top, 0o755)
    inst = Instance(pathlib.Path(top) / "i", main={
        "relayhost": f"[127.0.0.1]:{free_port()}", "fast_flush_domains": "static:all",
        "transport_maps": "inline:{ gone.test=discard: }", "queue_minfree": "0",
        "maximal_backoff_time": "3d"})  # or what is due in a day would count as the mistake of a clock
    try:
        inst.run("postfix", "check", check=False)
        inst.start()
        inst.stop()
        print("| | |\n|---|---|")
        run(Bench(inst, stage, args.n))
    finally:
        inst.close()
        shutil.rmtree(top, ignore_errors=True)


if __name__ == "__main__":
    main()
