# SPDX-License-Identifier: Apache-2.0
"""The queue's file system becomes read-only (tests/crash/faults.c) while nothing is under way, so that no note fails: nothing begins then, either."""
import pathlib
import re
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "crash"))
from faults import Faults  # noqa: E402
from instance import wait_for  # noqa: E402


@pytest.fixture
def faults(tmp_path):
    return Faults(tmp_path / "faults")


def test_nothing_begins_that_cannot_be_noted(instance, sink, faults):
    tried, is_open = [], []

    def reply(verb, argument, number):
        if verb == "RCPT":
            tried.append(argument)
        return b"450 4.2.0 not now\r\n" if verb == "RCPT" and not is_open else None

    server = sink(reply=reply)
    inst = instance(main={"import_environment": faults.environment(), "relayhost": f"[127.0.0.1]:{server.port}", "minimal_backoff_time": "1h",
                          "default_destination_concurrency_failed_cohort_limit": "0"})
    for name in "abc":
        inst.send(f"{name}@far.test")

    def deferred(count):
        wait_for(lambda: f"{count} attempts:\n" + inst.log(), lambda: len(re.findall("status=deferred", inst.log())) == count)

    def said(text, count):
        wait_for(lambda: f"{text!r}:\n" + inst.log(), lambda: inst.log().count(text) == count)

    deferred(3)
    for n in (1, 2):  # the second time after it was well in between
        faults.set(read_only=inst.spool)
        time.sleep(0.5)  # for a tenth of a second qmgr relies upon what it knew
        before = len(tried)
        inst.run("postqueue", "-f", check=False)  # refused if a note of the attempts before was late, and failed
        said("; no delivery begins until it can", n)
        assert len(tried) == before
        if n == 2:
            is_open.append(True)
        faults.set(read_only="")
        said("what was done is noted again", n)
        if n == 1:
            deferred(6)
    server.wait(3)
    inst.wait_empty()
