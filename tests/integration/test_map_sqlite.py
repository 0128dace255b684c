# SPDX-License-Identifier: Apache-2.0
"""sqlite: tables: results, options, hostile keys, a database in use, one that is replaced; modules that are not there."""
import os
import shutil
import sqlite3
import subprocess
import time

import pytest
from database_servers import write_table
from lookup import HOSTILE_KEYS, STAGE, Asker

SELECT = "SELECT v FROM a WHERE k = '%s' ORDER BY rowid"


def storable(key):
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in key


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "t.db"
    with sqlite3.connect(path) as db:
        db.execute("create table a(k text, v text)")
        db.executemany("insert into a values(?, ?)", [("one", "1"), ("multi", "x"), ("multi", ""), ("multi", None), ("multi", "y@b.test")])
        db.executemany("insert into a values(?, ?)", [(key.decode(), f"hostile{i}") for i, key in enumerate(HOSTILE_KEYS) if storable(key)])
    db.close()
    return path


def table(path, **more):
    return f"sqlite:{write_table(path.parent / 't.cf', **({'dbpath': path, 'query': SELECT} | more))}"


@pytest.mark.parametrize("key, options, wanted", [
    ("one", {}, b"1"),
    ("multi", {}, b"x,y@b.test"),
    ("none", {}, None),
    ("multi", {"expansion_limit": 2}, b"x,y@b.test"),
    ("multi", {"expansion_limit": 1}, "expansion_limit"),
    ("multi", {"result_format": "%d"}, b"b.test"),
    ("u@b.test", {"query": "select '%u|%d|%2|%1', 'second column'"}, b"u|b.test|b|test"),
    ("u@c.test", {"query": "select 1", "domain": "b.test"}, None),
    ("one", {"query": None, "table": "a", "select_field": "v", "where_field": "k"}, b"1"),
    ("multi", {"query": None, "table": "a", "select_field": "v", "where_field": "k", "additional_conditions": "and v like '%%@%%'"}, b"y@b.test"),
    ("one", {"query": None, "table": "a"}, "query is not set"),
    ("one", {"query": "update a set v = 1"}, "readonly"),
    ("one", {"query": "selec"}, "syntax"),
    ("one", {"dbpath": "/nonexistent/x.db"}, "No such file"),
    ("one", {"dbpath": "/etc/hostname"}, "not a database"),
    ("one", {"dbpath": None}, "dbpath"),
    ("one", {"query": "with recursive r(n) as (select 1 union all select n + 1 from r) select max(n) from r"}, "too long"),
])
def test_results(path, key, options, wanted):
    with Asker(path.parent / "etc", table(path, **options), main="table_query_timeout = 1\n") as asker:
        answer = asker.ask(key)
    if wanted is None:
        assert answer.result == "notfound", answer
    elif isinstance(wanted, str):
        assert answer.result == "retry" and wanted in answer.text, answer
    else:
        assert answer.value == wanted, answer


def test_hostile_keys(path):
    with Asker(path.parent / "etc", table(path), main="smtputf8_enable = no\n") as asker:
        for i, key in enumerate(HOSTILE_KEYS):
            answer = asker.ask(key)
            if storable(key) and key == bytes(c + 32 if 65 <= c <= 90 else c for c in key):
                assert answer.value == f"hostile{i}".encode(), answer
            else:
                assert answer.result == "notfound", answer


def test_locked_and_replaced(path):
    """While another holds the database it is "try again"; one that is renamed into its place serves within seconds."""
    with Asker(path.parent / "etc", table(path), threads=4, main="table_query_timeout = 1\n") as asker:
        assert asker.found("one") == b"1"
        writer = sqlite3.connect(path, isolation_level=None)
        writer.execute("begin exclusive")
        answer = asker.ask("one")
        assert answer.result == "retry" and "locked" in answer.text, answer
        writer.execute("update a set v = '2' where k = 'one'")
        writer.execute("commit")
        writer.close()
        assert asker.found("one") == b"2"
        for answer in asker.load([b"one"] * 2000):
            assert answer.value == b"2", answer
        fresh = path.with_name("fresh.db")
        shutil.copy(path, fresh)
        with sqlite3.connect(fresh) as db:
            db.execute("update a set v = '3' where k = 'one'")
        db.close()
        fresh.rename(path)
        begun = time.monotonic()
        while asker.found("one") != b"3":
            assert time.monotonic() - begun < 3
            time.sleep(0.02)


def run(stage, etc, *command):
    done = subprocess.run([stage / "sbin" / command[0], *command[1:]], capture_output=True, text=True, timeout=20,
                          env=os.environ | {"MAIL_CONFIG": str(etc)})
    return done.returncode, done.stdout, done.stderr


def test_modules(path, tmp_path):
    """Present: listed and used. Absent: an error that says so, and not listed. Writable by others, or another's: not loaded."""
    stage = tmp_path / "stage"
    for where in ("sbin", "libexec/postrider"):
        (stage / where).mkdir(parents=True)
    for program in ("postmap", "postconf"):
        shutil.copy(STAGE / "sbin" / program, stage / "sbin")
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "main.cf").write_text(f"myhostname = h.test\nshlib_directory = {tmp_path}/nothing-here\n")
    name = table(path)

    status, _, text = run(stage, etc, "postmap", "-q", "one", name)
    assert status == 1 and "unsupported dictionary type: sqlite: plug-in postrider-sqlite.so is not installed" in text, text
    assert "sqlite" not in run(stage, etc, "postconf", "-m")[1].split()

    module = stage / "libexec/postrider/postrider-sqlite.so"
    shutil.copy(STAGE / "libexec/postrider/postrider-sqlite.so", module)
    assert run(stage, etc, "postmap", "-q", "one", name)[:2] == (0, "1\n")
    types = run(stage, etc, "postconf", "-m")[1].split()
    assert "sqlite" in types and "mysql" not in types and types == sorted(types)

    module.chmod(0o777)
    status, _, text = run(stage, etc, "postmap", "-q", "one", name)
    assert status == 1 and "can be written by others" in text, text
    module.chmod(0o755)
    module.write_bytes(b"no module")
    status, _, text = run(stage, etc, "postmap", "-q", "one", name)
    assert status == 1 and "unsupported dictionary type: sqlite" in text, text

    (etc / "main.cf").write_text(f"myhostname = h.test\nshlib_directory = {STAGE}/libexec/postrider\n")
    assert run(stage, etc, "postmap", "-q", "one", name)[:2] == (0, "1\n")
    status, _, text = run(stage, etc, "postmap", "-q", "one", "nosuch:x")
    assert status == 1 and "unsupported dictionary type: nosuch" in text, text
