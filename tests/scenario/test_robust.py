# SPDX-License-Identifier: Apache-2.0
"""Under load: daemons killed, configuration reloaded, many idle clients. POSTRIDER_LONG=1 runs the long forms."""
import os
import re
import signal
import socket
import time

from instance import is_alive, wait_for
from load import Load, all_arrive, running

LONG = bool(os.environ.get("POSTRIDER_LONG"))


def test_kill_each_daemon_and_all_at_once(instance, sink):
    inst, hop = running(instance, sink)
    load = Load(inst)
    rounds = 20 if LONG else 4
    for n in range(rounds):
        for program in ("smtpd", "cleanup", "qmgr", "smtp", "virtual", "pickup"):
            time.sleep(0.15)
            for pid in inst.pids(program):
                os.kill(pid, signal.SIGKILL)
        if n % 2:
            time.sleep(0.3)
            pids = list(inst.pids())
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            wait_for("the killed processes to be gone", lambda: not any(is_alive(pid) for pid in pids))
            inst.start()
    wait_for("more messages", lambda: len(load.accepted) > 20)
    load.stop()
    duplicates = all_arrive(inst, hop, load)
    print(f"{rounds} rounds: {len(load.accepted)} accepted, all arrived, {duplicates} duplicates, {len(load.failed)} attempts failed")


def test_reload_under_load(instance, sink):
    inst, hop = running(instance, sink)
    load = Load(inst)
    end = time.monotonic() + (30 if LONG else 6)
    n = 0
    while not load.failed and (time.monotonic() < end or n < 3 or len(load.accepted) <= 50):
        n += 1
        inst.write("vmailbox", f"bob@v.test bob/\nuser{n}@v.test u{n}/\n")
        inst.postmap("hash:{etc}/vmailbox")
        inst.write("checks", f"/^X-Never{n}/ IGNORE\n")
        inst.reload()
        time.sleep(1)
    load.stop()
    assert not load.failed, load.failed[:5]
    duplicates = all_arrive(inst, hop, load)
    print(f"{n} reloads: {len(load.accepted)} messages, no failed attempt, {duplicates} duplicates")
    assert duplicates == 0


def test_idle_connections_cost_little(instance, sink):
    inst, _ = running(instance, sink)
    count = 1000 if LONG else 300

    def pss():
        total = 0
        for pid in inst.pids():
            with open(f"/proc/{pid}/smaps_rollup") as f:
                total += int(re.search(r"^Pss:\s+(\d+)", f.read(), re.M)[1])
        return total

    def threads():
        return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in inst.pids("smtpd"))

    inst.answers()
    time.sleep(0.5)  # what its start has yet to do: it would be counted against the connections
    before, threads_before = pss(), threads()
    held = []
    for _ in range(count):
        s = socket.create_connection(("127.0.0.1", inst.port), timeout=10)
        assert s.recv(4096).startswith(b"220")
        held.append(s)
    for s in held[::10]:
        s.sendall(b"EHL")  # a command that never ends
    if not os.environ.get("POSTRIDER_SANITIZED"):  # at last, when what was started for the burst has gone
        wait_for(lambda: f"{(pss() - before) / count} KiB each", lambda: (pss() - before) / count <= 20)
    wait_for(lambda: f"{threads()} threads, {threads_before} before", lambda: threads() - threads_before <= 32)  # none is held
    cost = (pss() - before) / count

    def greeting():
        start = time.monotonic()
        assert inst.answers()
        return time.monotonic() - start

    greeted = min(greeting() for _ in range(20))  # others may have the processor meanwhile
    print(f"{count} idle connections: {cost:.1f} KiB each, next one greeted after {greeted * 1000:.1f} ms, {threads() - threads_before} more threads")
    for s in held:
        s.close()
    if not os.environ.get("POSTRIDER_SANITIZED"):
        assert greeted < (0.02 if LONG else 0.2)
