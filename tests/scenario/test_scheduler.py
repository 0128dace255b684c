# SPDX-License-Identifier: Apache-2.0
"""The scheduler's parameters, as next hops and the log see them: pace, concurrency, requests, dead destinations, deferred transports."""
import json
import re
import socket
import threading
import time

import pytest

from instance import DEADLINE, wait_for


class Watched:
    """Notes of a sink when mail came, and how many sessions had mail under way at once; each message takes `seconds`, and until as many as
    `together` had mail under way at once."""

    def __init__(self, sink, seconds=0.0, refuse=lambda: False, together=1):
        self.seconds, self.refuse, self.together = seconds, refuse, together
        self.enough = threading.Event()
        self.lock = threading.Lock()
        self.at_once = 0
        self.began = []  # (when, how many were under way, itself included)
        self.sink = sink(reply=self.reply)
        self.port = self.sink.port

    def reply(self, verb, argument, number):
        if verb == "CONNECT" and self.refuse():
            return b"421 4.3.2 not now\r\n"
        if verb != "DOT":
            return None
        with self.lock:
            self.at_once += 1
            self.began.append((time.monotonic(), self.at_once))
            if self.at_once >= self.together:
                self.enough.set()
        self.enough.wait(DEADLINE)
        time.sleep(self.seconds)
        with self.lock:
            self.at_once -= 1
        return None

    def wait(self, count, deadline=None):
        return self.sink.wait(count, deadline)

    def most(self):
        return max(n for _, n in self.began)


@pytest.fixture
def system(instance):
    def make(hops, **main):
        """hops: destination -> port."""
        return instance(main={
            "mydestination": "", "relay_domains": " ".join(hops), "transport_maps": "texthash:{etc}/transport", "relay_transport": "smtp",
            "smtp_connection_cache_on_demand": "no", "minimal_backoff_time": "300s", **main},
            files={"transport": "".join(f"{name} smtp:[127.0.0.1]:{port}\n" for name, port in hops.items())})
    return make


@pytest.fixture
def silent():
    """The port of a host that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as s:
        yield s.getsockname()[1]


def gaps(times):
    return [b - a for a, b in zip(times, times[1:])]


def test_rate_delay_of_a_destination(system, sink):
    slow, other = Watched(sink), Watched(sink)
    inst = system({"slow.test": slow.port, "other.test": other.port}, smtp_destination_rate_delay="1s")
    with inst.smtp() as client:
        for to in (*(f"u{i}@slow.test" for i in range(15)), "u@other.test"):
            client.sendmail("sender@example.org", [to], "Subject: x\n\nhello\n")
    other.wait(1)
    assert len(slow.began) < 15, "another destination waited for its turn"
    slow.wait(4)
    assert min(gaps([t for t, _ in slow.began])) > 0.9 and slow.most() == 1


def test_rate_delay_of_a_transport(system, sink):
    hops = [Watched(sink) for _ in range(4)]
    inst = system({f"d{i}.test": hop.port for i, hop in enumerate(hops)}, smtp_transport_rate_delay="1s")
    begun = time.monotonic()
    for i in range(4):
        inst.send(f"u@d{i}.test")
    for hop in hops:
        hop.wait(1)
    # from the beginning, as one that took long on its way may come less than a second before the next
    came = [t - begun for t in sorted(hop.began[0][0] for hop in hops)]
    assert all(t > n - 0.1 for n, t in enumerate(came)), came


def test_recipients_of_a_request(system, sink):
    hop = Watched(sink)
    inst = system({"many.test": hop.port}, smtp_destination_recipient_limit="3")
    inst.send([f"u{i}@many.test" for i in range(10)])
    messages = hop.wait(4)
    inst.wait_empty()
    assert sorted(len(rcpts) for _, rcpts, _ in messages) == [1, 3, 3, 3]
    assert sorted(r for _, rcpts, _ in messages for r in rcpts) == sorted(f"u{i}@many.test" for i in range(10))


def test_concurrency_is_limited(system, sink):
    one, two = Watched(sink, 0.3, together=2), Watched(sink, 0.3, together=2)
    inst = system({"one.test": one.port, "two.test": two.port}, smtp_destination_concurrency_limit="2")
    for i in range(8):
        inst.send(f"u{i}@one.test")
        inst.send(f"u{i}@two.test")
    one.wait(8)
    two.wait(8)
    assert one.most() == 2 and two.most() == 2


@pytest.mark.parametrize("initial, feedback, wanted", [
    (1, "1", lambda most: 3 <= most <= 20),  # one more for each delivery
    (1, "0", lambda most: most == 1),  # never
    (7, "0", lambda most: most == 7),
])
def test_concurrency_begins_and_grows(system, sink, initial, feedback, wanted):
    hop = Watched(sink, 0.2, together=initial)
    inst = system({"d.test": hop.port}, initial_destination_concurrency=initial, default_destination_concurrency_positive_feedback=feedback,
                  defer_transports="smtp")
    for i in range(20):
        inst.send(f"u{i}@d.test")
    wait_for("deferral", lambda: inst.log().count("status=deferred") == 20)
    inst.run("postqueue", "-f")  # so that all of it is there when the first goes out
    hop.wait(20)
    assert wanted(hop.most()), hop.most()
    assert hop.began[0][1] == 1 and (initial > 1 or hop.began[1][1] <= 2)


def test_dead_destination(system, sink):
    """After as many failed attempts as the cohort limit says mail for it is deferred without one, and others are not touched; when its time is over it
    is tried again."""
    state = {"down": True}
    dead, other = Watched(sink, refuse=lambda: state["down"]), Watched(sink)
    inst = system({"dead.test": dead.port, "other.test": other.port}, initial_destination_concurrency="1", minimal_backoff_time="3s",
                  maximal_backoff_time="3s", queue_run_delay="1s", default_destination_concurrency_failed_cohort_limit="1")
    inst.send("first@dead.test")
    inst.wait_log(r"to=<first@dead\.test>.*status=deferred \(host .* refused to talk to me: 421 4\.3\.2 not now")
    tried = dead.sink.connections
    with inst.smtp() as client:  # all of it before the time of the dead one is over
        for i in range(10):
            for domain in ("dead", "other"):
                client.sendmail("sender@example.org", [f"u{i}@{domain}.test"], "Subject: x\n\nhello\n")
    other.wait(10)
    wait_for("deferral", lambda: inst.log().count("status=deferred (delivery temporarily suspended: ") >= 10)
    line = re.search(r".*to=<u0@dead\.test>.*status=deferred.*", inst.log())[0]
    assert "relay=none" in line and "421 4.3.2 not now" in line, line
    assert dead.sink.connections - tried <= 2  # its time may have been over meanwhile
    state["down"] = False
    dead.wait(11, DEADLINE + 10)
    inst.wait_empty()


def test_deferred_transport(system, sink):
    """postconf(5): such a transport delivers when somebody asks for it."""
    hop = Watched(sink)
    inst = system({"d.test": hop.port}, defer_transports="smtp", minimal_backoff_time="1s", maximal_backoff_time="1s", queue_run_delay="1s")
    inst.send("u@d.test")
    wait_for("two deferrals", lambda: len(re.findall(r"to=<u@d\.test>, relay=none,.*status=deferred \(deferred transport\)", inst.log())) >= 2)
    assert hop.sink.connections == 0
    inst.run("postqueue", "-f")
    hop.wait(1)
    inst.wait_empty()


def all_active(inst, count):
    def names():
        return [json.loads(line)["queue_name"] for line in inst.run("postqueue", "-j").stdout.splitlines()]
    wait_for(lambda: f"{count} active messages\n{inst.mailq()}", lambda: names() == ["active"] * count)


CLOGGED = r"warning: mail for \[127\.0\.0\.1\]:{port} is using up {n} of {n} active queue entries"


def test_destination_fills_active_queue(system, silent):
    """qmgr_clog_warn_time: at more than a fifth of qmgr_message_active_limit; once in that time, though there is ever more."""
    inst = system({"d.test": silent}, qmgr_message_active_limit="20", qmgr_clog_warn_time="1h")
    for i in range(4):
        inst.send(f"u{i}@d.test")
    all_active(inst, 4)
    assert "active queue entries" not in inst.log()
    for i in range(4, 10):
        inst.send(f"u{i}@d.test")
        all_active(inst, i + 1)
    inst.wait_log(CLOGGED.format(port=silent, n=5))
    inst.wait_log(r"warning: you may need to reduce the timeouts of transport smtp")
    inst.wait_log(r"warning: to turn off these warnings specify: qmgr_clog_warn_time = 0")
    assert inst.log().count("active queue entries") == 1


def test_concurrency_limit_fills_active_queue(system, silent):
    """It is the limit that keeps mail waiting: so the advice says; and a second later it is said again."""
    inst = system({"d.test": silent}, qmgr_message_active_limit="20", qmgr_clog_warn_time="1s", initial_destination_concurrency="2",
                  smtp_destination_concurrency_limit="2")
    for i in range(5):
        inst.send(f"u{i}@d.test")
    inst.wait_log(CLOGGED.format(port=silent, n=5))
    inst.wait_log(r"warning: you may need to increase the main\.cf smtp_destination_concurrency_limit from 2")
    time.sleep(1.1)
    inst.send("u@d.test")
    inst.wait_log(CLOGGED.format(port=silent, n=6))


@pytest.mark.parametrize("main", [{"qmgr_clog_warn_time": "0"}, {"helpful_warnings": "no"}])
def test_no_clog_warning(system, silent, main):
    inst = system({"d.test": silent}, qmgr_message_active_limit="20", **main)
    for i in range(8):
        inst.send(f"u{i}@d.test")
    all_active(inst, 8)
    assert "active queue entries" not in inst.log()
