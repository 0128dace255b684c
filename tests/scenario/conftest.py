# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a private instance of the built system, SMTP sinks and clients. See instance.py."""
import os
import shutil
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from instance import Instance, NameServer, Sink, reachable_directory  # noqa: E402


@pytest.fixture
def tmp_path():
    path = reachable_directory()
    yield path
    if not any(path.glob("*/etc")):  # an instance that had trouble leaves its files
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def instance(tmp_path):
    """A factory: instance(main={...}, master="...", files={...}, start=True) -> a running Instance."""
    made = []

    def make(**options):
        inst = Instance(tmp_path / f"i{len(made)}", **options)
        made.append(inst)
        if options.get("start", True):
            inst.start()
        return inst

    yield make
    failures = [problem for inst in made for problem in inst.close()]
    assert not failures, "\n".join(failures)


@pytest.fixture
def sink():
    """A factory: sink(handler=None) -> a listening next hop that keeps what it was given."""
    made = []

    def make(**options):
        made.append(Sink(**options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def names():
    """A name server, for dns_servers: see instance.py."""
    server = NameServer()
    yield server
    server.close()
