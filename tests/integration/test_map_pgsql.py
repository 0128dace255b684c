# SPDX-License-Identifier: Apache-2.0
"""pgsql: tables against a real PostgreSQL: options, connection URIs, hostile keys, failover, outages."""
import time

import pytest
from database_servers import PostgreSQL, write_table
from lookup import HOSTILE_KEYS, Asker, free_port, freeze_and_thaw, load_with_outage

ROWS = 500
SETUP = """\
create table a(id serial, k text, v text, w text);
insert into a(k, v, w) values ('one', '1', null), ('multi', 'x', 'y'), ('multi', '', 'z'), ('addr', 'joe@a.test', null), ('addr', 'bare', null);
create function lk(p text) returns setof text language sql as 'select v from a where k = p order by id';
create index on a(md5(k));
"""
SELECT = "SELECT v, w FROM a WHERE md5(k) = md5('%s') and k = '%s' ORDER BY id"


def storable(key):
    """PostgreSQL's text is UTF-8 without NUL."""
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in key


@pytest.fixture(scope="module")
def db():
    one = PostgreSQL()
    one.sql(SETUP)
    rows = [(b"key%d" % i, f"value{i}") for i in range(ROWS)]
    rows += [(key, f"hostile{i}") for i, key in enumerate(HOSTILE_KEYS) if storable(key)]
    one.sql("insert into a(k, v) values " + ",".join(f"(convert_from('\\x{key.hex()}', 'UTF8'), '{value}')" for key, value in rows))
    yield one
    one.remove()


def table(db, where, **more):
    options = {"hosts": f"unix:{db.directory}:{db.port}", "user": "postgres", "dbname": "postgres", "query": SELECT} | more
    if options["hosts"] == f"unix:{db.directory}:{db.port}":  # not at the usual number
        options["hosts"] = f"postgresql:///postgres?host={db.directory}&port={db.port}&user=postgres"
    return f"pgsql:{write_table(where / 't.cf', **options)}"


def ask(db, where, key, **more):
    with Asker(where / "etc", table(db, where, **more)) as asker:
        return asker.ask(key), asker.log()


RESULTS = [
    ("one", {}, b"1"),
    ("multi", {}, b"x,y,z"),
    ("none", {}, None),
    ("multi", {"expansion_limit": 3}, b"x,y,z"),
    ("multi", {"expansion_limit": 2}, "expansion_limit"),
    ("multi", {"result_format": "<%s>"}, b"<x>,<y>,<z>"),
    ("addr", {"result_format": "%d"}, b"a.test"),
    ("one@b.test", {"query": "select '%u|%d|%2|%1|%%'"}, b"one|b.test|b|test|%"),
    ("one", {"query": "select '%d'"}, None),
    ("one@c.test", {"query": "select 1", "domain": "b.test"}, None),
    ("one", {"query": None, "select_function": "lk"}, b"1"),
    ("one", {"query": None, "table": "a", "select_field": "v", "where_field": "k", "additional_conditions": "and v = '1'"}, b"1"),
    ("one", {"query": "selec"}, "syntax"),
    ("one", {"query": "set a.b = 1"}, None),
    ("one", {"query": "select 1; select 2"}, b"2"),
    ("one", {"query": "copy a to stdout"}, "copies"),
    ("grüße", {"query": "select '%s' || length('%s')"}, "grüße5".encode()),
    ("grüße", {"query": "select length('%s')", "encoding": "LATIN1"}, b"7"),
    (b"\xe4", {"query": "select '%s' || encode(convert_to('%s', 'UTF8'), 'hex')", "encoding": "LATIN1"}, b"\xe4c3a4"),
    (b"\xe4", {"query": "select '%s'"}, None),
    ("one", {"encoding": "NOPE"}, "NOPE"),
    ("one", {"query": "select repeat('x', 1000000), repeat('y', 100000)"}, "longer"),
]


@pytest.mark.parametrize("key, options, wanted", RESULTS)
def test_results(db, tmp_path, key, options, wanted):
    answer, _ = ask(db, tmp_path, key, **options)
    if wanted is None:
        assert answer.result == "notfound", answer
    elif isinstance(wanted, str):
        assert answer.result == "retry" and wanted in answer.text and "t.cf" in answer.text, answer
    else:
        assert answer.value == wanted, answer


def test_hosts(db, tmp_path):
    encrypted = "select '1' from pg_stat_ssl where ssl and pid = pg_backend_pid()"
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    (sockets / ".s.PGSQL.5432").symlink_to(db.directory / f".s.PGSQL.{db.port}")
    cases = [
        ({"hosts": f"127.0.0.1:{db.port}"}, True),
        ({"hosts": f"inet:127.0.0.1:{db.port}"}, True),
        ({"hosts": f"postgresql://postgres@127.0.0.1:{db.port}/postgres", "user": None, "dbname": None}, True),
        ({"hosts": f"postgres://postgres:secret@127.0.0.1:{db.port}/nope?password=secret"}, False),
        ({"hosts": f"unix:{sockets}", "query": "select '1'"}, True),
        ({"hosts": f"postgresql://postgres@127.0.0.1:{db.port}/postgres?sslmode=require", "query": encrypted}, True),
        ({"hosts": f"postgresql://postgres@127.0.0.1:{db.port}/postgres?sslmode=disable", "query": encrypted}, False),
        ({"hosts": f"postgresql://postgres@127.0.0.1:{db.port}/postgres?sslmode=verify-full&sslrootcert={db.directory}/cert.pem",
          "query": encrypted}, True),
        ({"hosts": f"postgresql://postgres@127.0.0.1:{db.port}/postgres?sslmode=verify-full&sslrootcert=/nonexistent/cert.pem"}, False),
        ({"hosts": f"127.0.0.1:{db.port}", "dbname": None}, False),
        ({"hosts": f"127.0.0.1:{db.port}", "user": "nobodyatall"}, False),
    ]
    for n, (options, works) in enumerate(cases):
        answer, log = ask(db, tmp_path / str(n), "one", **options)
        assert (answer.value == b"1") == works, (n, answer)
        assert works or answer.result == "retry" or "query" in options, (n, answer)
        assert "secret" not in log + answer.text


def test_hostile_keys(db, tmp_path):
    with Asker(tmp_path / "etc", table(db, tmp_path), main="smtputf8_enable = no\n") as asker:
        for i, key in enumerate(HOSTILE_KEYS):
            answer = asker.ask(key)
            if storable(key) and key == bytes(c + 32 if 65 <= c <= 90 else c for c in key):
                assert answer.value == f"hostile{i}".encode(), answer
            else:
                assert answer.result == "notfound", answer
        assert asker.found("one") == b"1"


def test_failover(db, tmp_path):
    with Asker(tmp_path / "etc", table(db, tmp_path, hosts=f"127.0.0.1:{free_port()} 127.0.0.1:{db.port}")) as asker:
        for _ in range(20):
            assert asker.found("one") == b"1"


def test_slow_query(db, tmp_path):
    begun = time.monotonic()
    with Asker(tmp_path / "etc", table(db, tmp_path, query="select pg_sleep(30)"), main="table_query_timeout = 1\n") as asker:
        answer = asker.ask("one")
    assert answer.result == "retry" and "time limit" in answer.text and time.monotonic() - begun < 3, answer


def test_stale_connection(db, tmp_path):
    """The server was restarted since the last lookup: the connection that is kept is dead, and the lookup is found at the first try."""
    with Asker(tmp_path / "etc", table(db, tmp_path)) as asker:
        for _ in range(3):
            assert asker.found("one") == b"1"
            db.stop()
            db.start()
        assert asker.found("one") == b"1"
        assert "is down" not in asker.log()


def test_frozen_server(db, tmp_path):
    with Asker(tmp_path / "etc", table(db, tmp_path), main="table_query_timeout = 1\n") as asker:
        freeze_and_thaw(asker, "one", db.process)


def test_outages(db, tmp_path):
    keys = [f"key{i % ROWS}".encode() for i in range(10000)]
    with Asker(tmp_path / "etc", table(db, tmp_path), threads=4) as asker:
        counts, asked = load_with_outage(
            asker, keys, lambda a: a.value == a.key.replace(b"key", b"value"), db.stop, db.start, outages=2)
        assert counts["notfound"] == 0 and counts["found"] > 0 and asked >= 10000, counts
