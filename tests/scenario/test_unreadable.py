# SPDX-License-Identifier: Apache-2.0
"""The disk does not give back what is in the queue (EIO, by tests/crash/faults.c), for a while or for good: the rest is served."""
import pathlib
import re
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "crash"))
from faults import Faults  # noqa: E402
from instance import wait_for  # noqa: E402

ALL = (0, 1 << 40)


@pytest.fixture
def faults(tmp_path):
    return Faults(tmp_path / "faults")


def begin(instance, sink, faults):
    """Three messages that wait, each in a file of its own; the second has its content in another. Their ids, and the next hop's switch."""
    hop = {"open": False}
    server = sink(reply=lambda verb, argument, number: b"450 4.2.0 not now\r\n" if verb == "RCPT" and not hop["open"] else None)
    inst = instance(main={"import_environment": faults.environment(), "relayhost": f"[127.0.0.1]:{server.port}", "journal_large_message_size": "20000",
                          "minimal_backoff_time": "1s", "maximal_backoff_time": "2s", "default_destination_concurrency_failed_cohort_limit": "0"})
    inst.send("a@far.test")
    inst.send("b@far.test", body="large\n" * 10000)
    inst.send("c@far.test")
    wait_for("files of their own", lambda: len(list(inst.spool.glob("deferred/*/*"))) == 3)
    return inst, server, hop, [re.search(rf"(\w+): to=<{x}@far.test>", inst.log())[1] for x in "abc"]


def test_at_the_start(instance, sink, faults):
    inst, server, hop, (a, b, c) = begin(instance, sink, faults)
    inst.stop()
    faults.set(unreadable=f"/{a}", pages=ALL)
    hop["open"] = True
    inst.start()
    inst.wait_log(rf"qmgr\[\d+\]: warning: queue: \S+/{a}: message file cannot be read: I/O error; it stays where it is")
    server.wait(2)
    inst.wait_empty()
    assert len(list(inst.spool.glob(f"deferred/*/{a}"))) == 1 and not list((inst.spool / "corrupt").iterdir())
    inst.stop()
    faults.set(unreadable="")
    inst.start()
    server.wait(3)
    inst.wait_empty()
    assert not list(inst.spool.glob("large/*"))


def test_while_running(instance, sink, faults):
    """Large content that comes back after two attempts is mail as before; after three in a row it lies in corrupt/, all of it."""
    inst, server, hop, (a, b, c) = begin(instance, sink, faults)

    def attempts(pattern, count):
        """Has all mail tried until the log says so; mail that could not be read is tried again after a minute otherwise."""
        def enough():
            inst.run("postqueue", "-f")
            return len(re.findall(pattern, inst.log())) >= count
        wait_for(lambda: f"{pattern}\n{inst.log()[-3000:]}", enough)
    unread = rf"qmgr\[\d+\]: warning: {b}: cannot be read: \S+ cannot be read: I/O error"
    faults.set(unreadable="/large/", pages=ALL)
    inst.run("postqueue", "-f")
    inst.wait_log(unread)
    tried = len(re.findall(rf"{b}: to=<b@far.test>.*status=deferred", inst.log()))
    faults.set(unreadable="")
    attempts(rf"{b}: to=<b@far.test>.*status=deferred", tried + 1)
    assert not list((inst.spool / "corrupt").iterdir())
    content = next(inst.spool.glob("large/*")).read_bytes()
    faults.set(unreadable="/large/")
    attempts(rf"{b}: set aside in corrupt/", 1)
    hop["open"] = True
    inst.run("postqueue", "-f")
    server.wait(2)
    inst.wait_empty()
    faults.set(unreadable="")
    assert sorted(p.name for p in (inst.spool / "corrupt").iterdir()) == [b, f"{b}.content"]
    assert (inst.spool / f"corrupt/{b}.content").read_bytes() == content
    assert len(re.findall(unread, inst.log())) <= 6  # two or one, and three
