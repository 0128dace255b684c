# SPDX-License-Identifier: Apache-2.0
"""mysql:, pgsql:, sqlite:, ldap: lookups through Debian's postmap and ours, against the same servers: same answers, same exit codes."""
import concurrent.futures
import os
import shutil
import sqlite3
import subprocess
import time

import pytest
from database_servers import MariaDB, PostgreSQL, Slapd, write_table
from test_map_ldap import RESULTS as LDAP_RESULTS
from test_map_ldap import ldif
from test_map_network_debian import keys
from test_map_network_debian import pair as network_pair  # noqa: F401 (a fixture)
from test_postconf_debian import reference  # noqa: F401 (a fixture)

TYPES = ["mysql", "pgsql", "sqlite", "ldap"]
ROWS = [("one", "1", None), ("multi", "x", "y"), ("multi", "", "z"), ("addr", "joe@a.test", None), ("addr", "bare", "@b.test")]


@pytest.fixture(scope="module")
def modules(reference, tmp_path_factory):  # noqa: F811
    """Debian's modules of these types, and the file that tells its programs where they are."""
    where = tmp_path_factory.mktemp("modules")
    names = [f"postfix-{name}" for name in TYPES]
    if all((reference / f"usr/lib/postfix/{name}.so").exists() for name in names):
        root = reference
    else:
        root = where / "root"
        try:
            subprocess.run(["apt-get", "download", *names], cwd=where, check=True, capture_output=True, timeout=60)
            for package in where.glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, root], check=True, capture_output=True, timeout=60)
        except (subprocess.SubprocessError, OSError) as e:
            pytest.fail(f"no reference: Debian's packages {names} cannot be fetched: {e}")
    # a newer version of one package than of the other would not fit
    for name in names:
        target = reference / f"usr/lib/postfix/{name}.so"
        if not target.exists():
            shutil.copy(root / f"usr/lib/postfix/{name}.so", target)
    return "".join(f"{name}\t{reference}/usr/lib/postfix/postfix-{name}.so\tdict_{name}_open\n" for name in TYPES)


@pytest.fixture
def pair(network_pair, modules, tmp_path):  # noqa: F811
    network_pair.write("dynamicmaps.cf", modules)
    network_pair.write("main.cf", (tmp_path / "main.cf").read_text() + f"meta_directory = {tmp_path}\n"
                       f"shlib_directory = {network_pair.root}/usr/lib/postfix\n")
    return network_pair


def literal(text):
    return "null" if text is None else "'" + text.replace("'", "''") + "'"


def insert():
    rows = ROWS + [(key, f"v{i}" if i % 3 else f"u{i}@d.test", None) for i, key in enumerate(storable())]
    return "insert into a(k, v, w) values " + ",".join(f"({', '.join(map(literal, row))})" for row in rows) + ";"


def storable():
    """Half of the keys that are asked for; the others are not found."""
    return [key.lower() for key in keys()[::2] if "\\" not in key]


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    """The options of a table of each type, but for the query."""
    create = "create table a(k varchar(300), v varchar(300), w varchar(300));"
    path = tmp_path_factory.mktemp("sqlite") / "t.db"
    with sqlite3.connect(path) as db:
        db.executescript(create + insert())
    db.close()
    mariadb, postgres, slapd = MariaDB(), PostgreSQL(), Slapd(*ldif())
    try:
        mariadb.sql("create database m character set utf8mb4 collate utf8mb4_bin; use m;" + create + insert() +
                    "create user p@'%' identified by 'pw'; grant all on m.* to p@'%';")
        postgres.sql(create + insert())
        yield {
            "mysql": {"hosts": f"unix:{mariadb.socket}", "user": "p", "password": "pw", "dbname": "m"},
            "pgsql": {"hosts": f"127.0.0.1:{postgres.port}", "user": "postgres", "dbname": "postgres",
                      "encoding": "LATIN1"},  # what Postfix 3.7 always has
            "sqlite": {"dbpath": path},
            "ldap": {"server_host": f"ldap://127.0.0.1:{slapd.port}", "search_base": "dc=t", "query_filter": "mail=%s", "version": 3},
        }
    finally:
        for one in (mariadb, postgres, slapd):
            one.remove()


def table(kind, databases, tmp_path, **options):
    """A file of a minute ago: Debian's waits for one that may still be written."""
    path = write_table(tmp_path / "t.cf", **(databases[kind] | options))
    os.utime(path, (time.time() - 60,) * 2)
    return f"{kind}:{path}"


def same_for_all(pair, cases):
    """Many at once: Debian's postmap waits for a second before it ends with an error."""
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        runs = [(case, pool.submit(pair.same, *case)) for case in cases]
        for case, run in runs:
            assert run.result()[0] in (0, 1), case


@pytest.mark.parametrize("kind, options", [("sqlite", {}), ("mysql", {}), ("pgsql", {})] + [("sqlite", {name: value}) for name, value in [
    ("result_format", "%u"), ("result_format", "%d"), ("result_format", "%s|%S|%U"), ("result_format", "%D %1"),
    ("domain", "d1.example.com d2.example.com")]], ids=str)
def test_many_keys(pair, databases, tmp_path, kind, options):
    name = table(kind, databases, tmp_path, query="select v from a where k = '%s'", **options)
    status, out, _ = pair.same(name, "-", "\n".join(keys()).encode() + b"\n")
    assert status == 0 and out


@pytest.mark.parametrize("kind", TYPES[:3])
def test_expansions(pair, databases, tmp_path, kind):
    """What the query becomes, as the database gives it back."""
    odd = ["user@a..b", "user@a.b.", "user@.com", "u@[1.2.3.4]", "user@", "@x", "a@b@c.d"]
    plain = [key for key in keys() if "\\" not in key]
    for n, query in enumerate(["%u", "%d", "%1", "%2.%1", "%S %U", "100%%%s"]):
        name = table(kind, databases, tmp_path / str(n), query=f"select '<{query}>'")
        status, out, _ = pair.same(name, "-", "\n".join(odd + (plain if kind == "sqlite" else plain[:60])).encode() + b"\n")
        assert status == 0 and out


OPTIONS = [
    ("one", {}), ("multi", {}), ("none", {}), ("addr", {"result_format": "%d"}), ("addr", {"result_format": "%u"}),
    ("multi", {"result_format": "OK"}), ("multi", {"expansion_limit": 1}), ("multi", {"expansion_limit": 3}),
    ("multi", {"expansion_limit": -1}), ("one", {"expansion_limit": "many"}), ("one", {"query": "select '%x'"}),
    ("one", {"result_format": "%"}), ("one", {"query": "selec"}), ("one", {"query": "select * from nope"}), ("one", {"query": None}),
    ("one", {"query": None, "table": "a", "select_field": "v", "where_field": "k"}),
    ("one", {"query": None, "table": "a", "select_field": "v", "where_field": "k", "additional_conditions": "and v <> '1'"}),
    ("one", {"unknown_option": "x"}), ("x' or '1'='1", {}), ("a\\' or 1=1 --", {}), ("one@c.test", {"domain": "c.test"}),
    ("@c.test", {"domain": "c.test"}), ("one@c.test", {"domain": "!c.test, inline:{c.test=x}"}),
]


@pytest.mark.parametrize("kind", TYPES[:3])
def test_options(pair, databases, tmp_path, kind):
    query = {"query": "select v, w from a where k = '%s'"}
    same_for_all(pair, [(table(kind, databases, tmp_path / str(n), **(query | options)), key) for n, (key, options) in enumerate(OPTIONS)])


def test_ldap(pair, databases, tmp_path, monkeypatch):
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0")  # the library's DIGEST-MD5 keeps memory of OpenSSL's
    # Debian's takes a bind that is weaker than sasl_minssf
    cases = [(key, options) for key, options, _ in LDAP_RESULTS if options.get("sasl_minssf") != 4000]
    same_for_all(pair, [(table("ldap", databases, tmp_path / str(n), **options), key) for n, (key, options) in enumerate(cases)])


@pytest.mark.parametrize("options", [{}, {"query_filter": "(|(mail=%s)(mail=%u))"}, {"result_attribute": "mail, maildrop", "result_format": "%s|%S|%U"},
                                     {"domain": "d1.example.com d2.example.com"}, {"search_base": "cn=%s,dc=t", "query_filter": "objectClass=*"}], ids=str)
def test_many_ldap_keys(pair, databases, tmp_path, options):
    asked = [f"key{i}" for i in range(0, 400, 2)] + [f"key{i}@d{i % 7}.example.com" for i in range(60)] + keys()
    status, out, _ = pair.same(table("ldap", databases, tmp_path, **options), "-", "\n".join(asked).encode() + b"\n")
    assert len(asked) > 600 and (status == 0) == (out != b"")
