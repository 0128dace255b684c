# SPDX-License-Identifier: Apache-2.0
"""bench/preload/slow_flush.c: each flush takes its time, and those that wait together share one."""
import os
import pathlib
import struct
import subprocess
import sys
import time

import pytest

MODULE = pathlib.Path(os.environ["POSTRIDER_STAGE"]) / "bench/slow_flush.so"
MS = 50

PROGRAM = """
import ctypes, os, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
path, call, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
fd = os.open(path, os.O_RDWR | os.O_CREAT | (getattr(os, call) if call.startswith("O_") else 0), 0o600)
calls = {
    "fsync": lambda: os.fsync(fd),
    "fdatasync": lambda: os.fdatasync(fd),
    "syncfs": lambda: libc.syncfs(fd),
    "sync": os.sync,
    "range-wait": lambda: libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), 7),
    "range-start": lambda: libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), 2),
    "write": lambda: os.write(fd, b"x"),
    "O_SYNC": lambda: os.write(fd, b"x"),
    "O_DSYNC": lambda: os.pwrite(fd, b"x", 0),
}
def run():
    for _ in range(3):
        calls[call]()
each = [threading.Thread(target=run) for _ in range(threads)]
start = time.monotonic()
for t in each: t.start()
for t in each: t.join()
print(time.monotonic() - start)
"""


def command(tmp_path, call, threads=1):
    return [sys.executable, "-c", PROGRAM, str(tmp_path / "file"), call, str(threads)]


def environment(tmp_path, **change):
    env = dict(os.environ, LD_PRELOAD=str(MODULE), SLOW_FLUSH_MS=str(MS), SLOW_FLUSH_FILE=str(tmp_path / "device"))
    env.update(change)
    return env


def seconds(tmp_path, call, threads=1):
    done = subprocess.run(command(tmp_path, call, threads), env=environment(tmp_path), capture_output=True, text=True, check=True,
                          timeout=30)
    return float(done.stdout)


@pytest.mark.parametrize("call", ["fsync", "fdatasync", "syncfs", "sync", "range-wait", "O_SYNC", "O_DSYNC"])
def test_each_flush_takes_its_time(tmp_path, call):
    assert seconds(tmp_path, call) >= 3 * MS / 1000


@pytest.mark.parametrize("call", ["write", "range-start"])
def test_what_waits_for_no_flush_is_not_delayed(tmp_path, call):
    assert any(seconds(tmp_path, call) < 3 * MS / 1000 for _ in range(20))  # others may have the processor meanwhile


def test_requests_that_wait_share_the_next_flush(tmp_path):
    # 60 requests one by one would take 3 s; shared, a thread's three take at most two flushes each
    for _ in range(10):
        took = seconds(tmp_path, "fdatasync", 20)
        assert took >= 3 * MS / 1000
        if took < 60 * MS / 1000 / 2:
            return
    pytest.fail(f"at last {took} seconds")


def test_processes_share_one_device(tmp_path):
    # a flush that another process has booked and that has not begun serves this one's request too
    booked = time.monotonic() + 1
    (tmp_path / "device").write_bytes(struct.pack("q", int(booked * 1e6)))
    seconds(tmp_path, "fdatasync")
    assert time.monotonic() >= booked + 2 * MS / 1000  # the first shares it, two more follow


@pytest.mark.parametrize("change", [{"SLOW_FLUSH_MS": "0"}, {"SLOW_FLUSH_MS": "5x"}, {"SLOW_FLUSH_FILE": "relative"},
                                    {"SLOW_FLUSH_FILE": "/nonexistent/x"}])
def test_settings_that_cannot_be_used_end_the_program(tmp_path, change):
    done = subprocess.run(["true"], env=environment(tmp_path, **change), capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("slow_flush: SLOW_FLUSH_")
