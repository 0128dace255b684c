# SPDX-License-Identifier: Apache-2.0
"""Under load: daemons killed, configuration reloaded, many idle clients. POSTRIDER_LONG=1 runs the long forms."""
import os
import re
import signal
import smtplib
import socket
import threading
import time

from instance import DEADLINE, wait_for

LONG = bool(os.environ.get("POSTRIDER_LONG"))


class Load:
    """Client threads that send numbered messages to a virtual mailbox and through the next hop."""

    def __init__(self, inst, threads=4):
        self.inst, self.stopped = inst, False
        self.accepted, self.refused, self.failed = set(), 0, []
        self.lock, self.number = threading.Lock(), 0
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]
        for t in self.threads:
            t.start()

    def run(self):
        while not self.stopped:
            with self.lock:
                self.number += 1
                n = self.number
            to = "bob@v.test" if n % 2 else "x@far.test"
            try:
                with smtplib.SMTP("127.0.0.1", self.inst.port, timeout=20) as client:
                    client.sendmail("s@example.org", [to], f"Subject: n{n}\nX-N: {n}\n\n{'x' * 3000}\n")
                with self.lock:
                    self.accepted.add(n)
            except (OSError, smtplib.SMTPException) as e:
                with self.lock:
                    self.failed.append(f"{type(e).__name__}: {e}")
                time.sleep(0.02)

    def stop(self):
        self.stopped = True
        for t in self.threads:
            t.join(40)


def running(instance, sink):
    hop = sink()
    inst = instance(main={"virtual_mailbox_domains": "v.test", "virtual_mailbox_base": "{root}/mail", "virtual_mailbox_maps": "hash:{etc}/vmailbox",
                          "virtual_uid_maps": "static:2000", "virtual_gid_maps": "static:2000", "relayhost": f"[127.0.0.1]:{hop.port}",
                          "header_checks": "regexp:{etc}/checks", "service_throttle_time": "1s", "minimal_backoff_time": "1s", "default_process_limit": "1200"},
                    files={"vmailbox": "bob@v.test bob/\n", "checks": "/^X-Never/ IGNORE\n"}, start=False)
    inst.postmap("hash:{etc}/vmailbox")
    inst.start()
    return inst, hop


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def arrived(inst, hop):
    numbers = [int(m[1]) for _, _, text in list(hop.messages) if (m := re.search(rb"X-N: (\d+)", text))]
    new = inst.home / "bob/new"
    if new.is_dir():
        numbers += [int(m[1]) for p in new.iterdir() if (m := re.search(r"X-N: (\d+)", p.read_text()))]
    return numbers


def all_arrive(inst, hop, load):
    missing = lambda: load.accepted - set(arrived(inst, hop))  # noqa: E731
    wait_for(lambda: f"{len(missing())} of {len(load.accepted)} accepted messages: {sorted(missing())[:5]}\n{inst.mailq()}\n{inst.log()[-6000:]}",
             lambda: not missing(), DEADLINE * 3)
    numbers = arrived(inst, hop)
    return len(numbers) - len(set(numbers))


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


def test_a_broken_reload_changes_nothing(instance, sink):
    inst, hop = running(instance, sink)
    good = dict(inst.main)
    master = (inst.etc / "master.cf").read_text()
    taken = socket.create_server(("127.0.0.1", 0))
    cases = [
        ("main.cf", lambda: inst.write("main.cf", (inst.etc / "main.cf").read_text() + "no equals sign\n"), r"main.cf, line \d+: "),
        ("value", lambda: inst.write_main(smtpd_timeout="soon"), r"main.cf, line \d+: smtpd_timeout"),
        ("restriction", lambda: inst.write_main(smtpd_recipient_restrictions="permit_mynetwork"), r"permit_mynetwork"),
        ("regexp", lambda: inst.write("checks", "/(/ IGNORE\n"), r"checks, line 1"),
        ("table", lambda: inst.write_main(header_checks="regexp:{etc}/missing"), r"missing"),
        ("master.cf", lambda: inst.write("master.cf", master + "smtp inet n\n"), r"master.cf, line \d+"),
        ("port", lambda: inst.write("master.cf", master + f"127.0.0.1:{taken.getsockname()[1]} inet n - n - - smtpd\n"), r"in use"),
    ]
    for name, damage, reason in cases:
        damage()
        done = inst.reload(check=False)
        assert done.returncode == 1, (name, done.stderr)
        assert re.search(reason, done.stderr), (name, done.stderr)
        inst.send("bob@v.test", subject=name)
        inst.main = dict(good)
        inst.write_main()
        inst.write("master.cf", master)
        inst.write("checks", "/^X-Never/ IGNORE\n")
    inst.reload()
    inst.wait_maildir("bob", len(cases))
    taken.close()


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
