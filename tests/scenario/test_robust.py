# SPDX-License-Identifier: Apache-2.0
"""Under load: daemons killed, configuration reloaded, many idle clients. POSTRIDER_LONG=1 runs the long forms."""
import os
import re
import signal
import socket
import time

from instance import wait_for
from load import Load, all_arrive, running

LONG = bool(os.environ.get("POSTRIDER_LONG"))


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


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
    time.sleep(0.5)
    load.stop()
    duplicates = all_arrive(inst, hop, load)
    print(f"{rounds} rounds: {len(load.accepted)} accepted, all arrived, {duplicates} duplicates, {len(load.failed)} attempts failed")
    assert len(load.accepted) > 20


def test_reload_under_load(instance, sink):
    inst, hop = running(instance, sink)
    load = Load(inst)
    end = time.monotonic() + (30 if LONG else 6)
    n = 0
    while time.monotonic() < end:
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
    assert duplicates == 0 and len(load.accepted) > 50


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
    time.sleep(0.5)
    before, threads_before = pss(), threads()
    held = []
    for _ in range(count):
        s = socket.create_connection(("127.0.0.1", inst.port), timeout=10)
        assert s.recv(4096).startswith(b"220")
        held.append(s)
    for s in held[::10]:
        s.sendall(b"EHL")  # a command that never ends
    time.sleep(0.5)
    cost = (pss() - before) / count
    start = time.monotonic()
    assert inst.answers()
    greeted = time.monotonic() - start
    print(f"{count} idle connections: {cost:.1f} KiB each, next one greeted after {greeted * 1000:.1f} ms, {threads() - threads_before} more threads")
    for s in held:
        s.close()
    if not os.environ.get("POSTRIDER_SANITIZED"):
        assert cost <= 20
        assert greeted < (0.02 if LONG else 0.2)
    assert threads() - threads_before <= 32  # started for bursts; none is held
