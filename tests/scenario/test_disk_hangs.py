# SPDX-License-Identifier: Apache-2.0
"""A disk with mailboxes that does not answer (tests/crash/faults.c): its mail is deferred, other disks' mail goes on, nothing arrives twice."""
import collections
import os
import pathlib
import re
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "crash"))
from faults import Faults  # noqa: E402
from instance import wait_for  # noqa: E402

MANY = 60
MAIN = {
    "virtual_mailbox_domains": "h0.test, h1.test, h2.test, good.test", "virtual_mailbox_base": "{root}/mail",
    "virtual_mailbox_maps": "inline:{ {@h0.test=bad/box/}, {@h1.test=bad/box/}, {@h2.test=bad/box/}, {@good.test=good/} }",
    "virtual_uid_maps": f"static:{os.geteuid() or 2000}", "virtual_gid_maps": f"static:{os.getegid() or 2000}",
    "virtual_maildir_sync_timeout": "8s", "worker_threads": "24", "virtual_destination_concurrency_limit": "60",
    "initial_destination_concurrency": "60", "default_destination_concurrency_failed_cohort_limit": "0",
    "minimal_backoff_time": "1h", "maximal_backoff_time": "1h",
}


@pytest.fixture
def other_disk():
    """A directory on another file system than the instance's."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="postrider-disk-", dir="/dev/shm"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def logged(inst, pattern):
    return len(re.findall(pattern, inst.log(), re.M))


def arrived(inst, box):
    return collections.Counter(m["Subject"] for m in inst.maildir(box))


@pytest.mark.parametrize("group", ["yes", "no"])
def test_mail_of_other_disks_goes_on(instance, tmp_path, other_disk, group):
    if os.stat(other_disk).st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("/dev/shm is no file system of its own")
    faults = Faults(tmp_path / "faults")
    inst = instance(main={**MAIN, "import_environment": faults.environment(), "virtual_maildir_group_sync": group})
    (inst.home / "bad").symlink_to(other_disk)

    def send(to, subjects):
        with inst.smtp() as client:
            for s in subjects:
                client.sendmail("s@example.org", [to.format(len(s) % 3)], f"Subject: {s}\r\n\r\nhello\r\n")

    send("x@h{}.test", ["warm"])  # the mailbox is there
    inst.wait_log("status=sent")
    (process,) = inst.pids("virtual")
    faults.set(hanging=str(other_disk))
    stuck = [f"m{i}" + "x" * (i % 3) for i in range(MANY)]
    send("x@h{}.test", stuck)
    send("x@good.test", ["other"])  # more threads would hang by now than there are
    wait_for(lambda: "mail of another disk:\n" + inst.log()[-3000:], lambda: logged(inst, r"to=<x@good\.test>.*status=sent"))
    wait_for(lambda: "all to be deferred:\n" + inst.log()[-3000:],
             lambda: logged(inst, r"to=<x@h\d\.test>.*dsn=4\.3\.0, status=deferred \(.*does not answer") == MANY, 60)
    assert logged(inst, r"to=<x@h\d\.test>.*status=sent") == 1
    send("x@h{}.test", ["late"])  # refused without an attempt
    inst.wait_log(r"status=deferred \(the disk of \S+ does not answer\)")
    faults.set(hanging="")

    def all_arrived():
        inst.run("postqueue", "-f")
        return inst.queue_is_empty()
    wait_for(lambda: f"the queue to drain:\n{inst.log()[-3000:]}", all_arrived, 60)
    # what the disk had written after all is removed, by threads that may take their time
    wait_for(lambda: f"each message once: {arrived(inst, 'bad/box')}", lambda: arrived(inst, "bad/box") == collections.Counter(["warm", "late", *stuck]))
    assert not list((other_disk / "box/tmp").iterdir())
    assert process in inst.pids("virtual"), "it does not go on"
