# SPDX-License-Identifier: Apache-2.0
"""mysql: tables against a real MariaDB: options, hostile keys, TLS, procedures, failover, outages."""
import shutil
import time

import pytest
from database_servers import MariaDB, run, write_table
from lookup import HOSTILE_KEYS, Asker, free_port, freeze_and_thaw, load_with_outage

ROWS = 500
SETUP = """\
create database m character set utf8mb4 collate utf8mb4_bin; use m;
create table a(id int auto_increment primary key, k varbinary(11000), v varbinary(11000), w varchar(255), index(k(100)));
insert into a(k, v, w) values ('one', '1', null), ('multi', 'x', 'y'), ('multi', '', 'z'), ('addr', 'joe@a.test', null), ('addr', 'bare', null);
create user p@'%' identified by 'pw'; grant all on m.* to p@'%';
create user x509@'%' identified by 'pw' require x509; grant all on m.* to x509@'%';
create user tls@'%' identified by 'pw' require ssl; grant all on m.* to tls@'%';
delimiter //
create procedure lk(in p varchar(255)) select v from a where k = p//
create procedure none(in p varchar(255)) set @x = p//
create procedure two(in p varchar(255)) begin select 1; select 2; end//
delimiter ;
"""
SELECT = "SELECT v, w FROM a WHERE k = '%s' ORDER BY id"


@pytest.fixture(scope="module")
def db():
    one = MariaDB()
    one.sql(SETUP)
    one.sql("insert into a(k, v) values " + ",".join(f"('key{i}', 'value{i}')" for i in range(ROWS)), "m")
    one.sql("insert into a(k, v) values " + ",".join(f"(x'{key.hex()}', 'hostile{i}')" for i, key in enumerate(HOSTILE_KEYS)), "m")
    yield one
    one.remove()


def table(db, where, **more):
    options = {"hosts": f"unix:{db.socket}", "user": "p", "password": "pw", "dbname": "m", "query": SELECT} | more
    return f"mysql:{write_table(where / 't.cf', **options)}"


def ask(db, where, key, **more):
    with Asker(where / "etc", table(db, where, **more)) as asker:
        return asker.ask(key), asker.log()


RESULTS = [
    ("one", {}, b"1"),
    ("ONE", {}, b"1"),  # keys are folded
    ("multi", {}, b"x,y,z"),
    ("none", {}, None),
    ("multi", {"expansion_limit": 3}, b"x,y,z"),
    ("multi", {"expansion_limit": 2}, "expansion_limit"),
    ("multi", {"result_format": "<%s>"}, b"<x>,<y>,<z>"),
    ("addr", {"result_format": "%u"}, b"joe,bare"),
    ("addr", {"result_format": "%d"}, b"a.test"),
    ("one@b.test", {"query": "select v from a where k = '%u'", "result_format": "%s %S %U %D %2 %1"}, b"1 one@b.test one b.test b test"),
    ("one", {"query": "select v from a where k = '%u'", "result_format": "%s %D"}, None),
    ("one", {"query": "select '%d'"}, None),
    ("@b.test", {"query": "select '%u'"}, None),
    ("one@b.test", {"query": "select '%d %2%%'"}, b"b.test b%"),
    ("one@b.test", {"query": "select 1", "domain": "b.test"}, b"1"),
    ("one@c.test", {"query": "select 1", "domain": "b.test"}, None),
    ("one", {"query": "select 1", "domain": "b.test"}, None),
    ("@b.test", {"query": "select 1", "domain": "b.test"}, None),
    ("one@c.test", {"query": "select 1", "domain": "!c.test, inline:{c.test=x, d.test=x}"}, None),
    ("one@d.test", {"query": "select 1", "domain": "!c.test, inline:{c.test=x, d.test=x}"}, b"1"),
    ("one@d.test", {"query": "select 1", "domain": "fail:x"}, "fail:x"),
    ("one", {"query": None, "table": "a", "select_field": "v", "where_field": "k"}, b"1"),
    ("one", {"query": None, "table": "a", "select_field": "v", "where_field": "k", "additional_conditions": "and v <> '1'"}, None),
    ("one", {"query": "call lk('%s')"}, b"1"),
    ("one", {"query": "call none('%s')"}, "require_result_set"),
    ("one", {"query": "call none('%s')", "require_result_set": "no"}, None),
    ("one", {"query": "selec"}, "syntax"),
    ("one", {"query": "select * from nope"}, "nope"),
    ("grüße", {"query": "select '%s', hex('%s')"}, "grüße,".encode() + "grüße".encode().hex().upper().encode()),
    ("grüße", {"query": "select length('%s')", "charset": "latin1"}, b"7"),
    (b"\xe4", {"query": "select hex('%s')", "charset": "latin1"}, b"E4"),
    (b"\xe4", {"query": "select 1 where '%s' = 'x'"}, None),
    ("one", {"password": "bad"}, "Access denied"),
    ("one", {"dbname": "nope"}, "Access denied"),
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


def test_two_result_sets(db, tmp_path):
    """The connection serves the next lookup."""
    db.sql("grant execute on procedure m.two to p@'%'; flush privileges")
    with Asker(tmp_path / "etc", table(db, tmp_path, query="call two('%s')")) as asker:
        for _ in range(2):
            answer = asker.ask("x")
            assert answer.result == "retry" and "result sets" in answer.text, answer


WRONG = [
    ({"query": "select '%x'"}, "%x"),
    ({"query": "select '%"}, "query"),
    ({"query": None}, "query is not set"),
    ({"result_format": "%q"}, "result_format"),
    ({"dbname": None}, "dbname"),
    ({"expansion_limit": "many"}, "line 6"),
    ({"hosts": "127.0.0.1:99999"}, "port"),
    ({"hosts": "unix:"}, "no socket"),
    ({"require_result_set": "maybe"}, "require_result_set"),
]


@pytest.mark.parametrize("options, text", WRONG)
def test_wrong_options(db, tmp_path, options, text):
    answer, _ = ask(db, tmp_path, "one", **options)
    assert answer.result == "retry" and text in answer.text and "t.cf" in answer.text, answer


def test_main_cf(db, tmp_path):
    main = f"my_hosts = unix:{db.socket}\nmy_user = p\nmy_password = pw\nmy_dbname = m\nwhat = v\nmy_query = select $what from a where k = '%s'\n"
    with Asker(tmp_path / "etc", "mysql:my", main=main) as asker:
        assert asker.found("one") == b"1"


def test_hostile_keys(db, tmp_path):
    """A key stands for itself: its row is found, or nothing, and never another row; the table survives."""
    with Asker(tmp_path / "etc", table(db, tmp_path), main="smtputf8_enable = no\n") as asker:
        for i, key in enumerate(HOSTILE_KEYS):
            answer = asker.ask(key)
            lowered = bytes(c + 32 if 65 <= c <= 90 else c for c in key)
            if lowered == key and is_utf8(key):
                assert answer.value == f"hostile{i}".encode(), answer
            else:
                assert answer.result == "notfound", answer
        assert asker.found("one") == b"1"
    assert int(db.sql("select count(*) from a", "m")) >= ROWS


def is_utf8(key):
    try:
        key.decode()
        return True
    except UnicodeDecodeError:
        return False


def test_tcp_and_tls(db, tmp_path):
    hosts = {"hosts": f"127.0.0.1:{db.port}"}
    ca = {"tls_CAfile": str(db.directory / "cert.pem")}
    key = tmp_path / "key.pem"
    shutil.copy(db.directory / "key.pem", key)
    own = {"tls_cert_file": db.directory / "cert.pem", "tls_key_file": key}
    authorities, nobody = tmp_path / "authorities", tmp_path / "nobody"
    authorities.mkdir()
    nobody.mkdir()
    shutil.copy(db.directory / "cert.pem", authorities)
    run("openssl", "rehash", authorities)
    status = "select variable_value <> '' from information_schema.session_status where variable_name = 'ssl_cipher'"
    cases = [
        (hosts, b"0"),
        ({"hosts": f"inet:127.0.0.1:{db.port}", "user": "tls"}, "Access denied"),
        (hosts | ca | {"user": "tls"}, b"1"),
        (hosts | ca | {"tls_verify_cert": "yes", "hosts": f"127.0.0.1:{db.port}"}, b"1"),
        (hosts | ca | {"user": "x509"}, "Access denied"),
        (hosts | ca | own | {"user": "x509"}, b"1"),
        (hosts | own | {"user": "x509"}, b"1"),  # TLS as soon as there is something to say about it
        (hosts | ca | own | {"user": "x509", "tls_key_file": "/nonexistent/key.pem"}, "table mysql"),
        (hosts | {"tls_CApath": authorities, "tls_verify_cert": "yes"}, b"1"),
        (hosts | {"tls_CApath": nobody, "tls_verify_cert": "yes"}, "table mysql"),
        (hosts | ca | {"tls_verify_cert": "yes", "hosts": f"127.0.0.2:{db.port}"}, "table mysql"),
        (hosts | {"tls_CAfile": "/nonexistent/ca.pem"}, "table mysql"),
        (hosts | ca | {"tls_ciphers": "NO-SUCH-CIPHER"}, "table mysql"),
    ]
    for n, (options, wanted) in enumerate(cases):
        answer, _ = ask(db, tmp_path / str(n), "x", query=status, **options)
        if isinstance(wanted, bytes):
            assert answer.value == wanted, (n, answer)
        else:
            assert answer.result == "retry" and wanted in answer.text, (n, answer)


def test_option_file(db, tmp_path):
    """user and password from the library's option file, in [client] or a group of its own."""
    file = tmp_path / "my.cnf"
    file.write_text("[client]\nuser=p\npassword=wrong\n[mail]\npassword=pw\n")
    none = {"user": None, "password": None, "option_file": file}
    assert ask(db, tmp_path / "a", "one", **none)[0].result == "retry"
    assert ask(db, tmp_path / "b", "one", option_group="mail", **none)[0].value == b"1"
    # localhost is the library's own socket, with inet: in front, too
    file.write_text(f"[client]\nuser=p\npassword=pw\nsocket={db.socket}\n")
    for n, hosts in enumerate(("localhost", "inet:localhost", None)):
        assert ask(db, tmp_path / f"local{n}", "one", hosts=hosts, **none)[0].value == b"1", hosts


def test_unknown_option(db, tmp_path):
    """It has no effect, and the table works; postfix check names it with its line."""
    answer, _ = ask(db, tmp_path, "one", qeury="x")
    assert answer.value == b"1"


def test_failover(db, tmp_path):
    dead = free_port()
    with Asker(tmp_path / "etc", table(db, tmp_path, hosts=f"127.0.0.1:{dead} 127.0.0.1:{db.port} unix:{tmp_path}/none")) as asker:
        for _ in range(20):
            assert asker.found("one") == b"1"
        # the one at a socket comes first, whatever the order of the others
        assert f"server unix:{tmp_path}/none is down" in asker.log()


def test_connections(db, tmp_path):
    """As many threads as you like, as many connections as the administrator says; a change of the file serves soon."""
    with Asker(tmp_path / "etc", table(db, tmp_path), threads=16, main="table_connection_limit = 3\n") as asker:
        keys = [f"key{i % ROWS}".encode() for i in range(3000)]
        for answer in asker.load(keys):
            assert answer.value == answer.key.replace(b"key", b"value"), answer
        assert int(db.sql("select count(*) from information_schema.processlist where user = 'p'")) <= 3
        table(db, tmp_path, query="select 'changed'")
        begun = time.monotonic()
        while asker.ask("one").value != b"changed":
            assert time.monotonic() - begun < 5
            time.sleep(0.02)


def test_slow_query(db, tmp_path):
    begun = time.monotonic()
    with Asker(tmp_path / "etc", table(db, tmp_path, query="select sleep(30)"), main="table_query_timeout = 1\n") as asker:
        answer = asker.ask("one")
    assert answer.result == "retry" and time.monotonic() - begun < 5, answer


def test_stale_connection(db, tmp_path):
    """The server was restarted since the last lookup: the connection that is kept is dead, and the lookup is found at the first try."""
    with Asker(tmp_path / "etc", table(db, tmp_path)) as asker:
        assert asker.found("one") == b"1"
        db.stop()
        db.start()
        assert asker.found("one") == b"1"
        assert "is down" not in asker.log()


def test_frozen_server(db, tmp_path):
    with Asker(tmp_path / "etc", table(db, tmp_path), main="table_query_timeout = 1\n") as asker:
        freeze_and_thaw(asker, "one", db.process)


def test_outages(db, tmp_path):
    """10,000 lookups while the server is killed and started: each answer is right or "try again"."""
    keys = [f"key{i % ROWS}".encode() for i in range(10000)]
    with Asker(tmp_path / "etc", table(db, tmp_path), threads=4) as asker:
        counts, asked = load_with_outage(
            asker, keys, lambda a: a.value == a.key.replace(b"key", b"value"), db.stop, db.start, outages=2)
        assert counts["notfound"] == 0 and counts["found"] > 0 and asked >= 10000, counts
        assert "is down" in asker.log() and "answers again" in asker.log()
