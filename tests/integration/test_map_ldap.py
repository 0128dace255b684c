# SPDX-License-Identifier: Apache-2.0
"""ldap: tables against a real slapd: options, references, quoting, bind, TLS, failover, outages."""
import base64
import shutil
import socket
import time

import pytest
from database_servers import Slapd, run, write_table
from lookup import HOSTILE_KEYS, Asker, free_port, freeze_and_thaw, load_with_outage

ROWS = 300


def is_text(key):
    try:
        return bool(key.decode().strip())
    except UnicodeDecodeError:
        return False


def value(data):
    return ":: " + base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


def entry(cn, *attributes, below="dc=t"):
    lines = [f"dn: cn={cn},{below}", "objectClass: inetOrgPerson", "objectClass: mailthing", f"cn: {cn}", "sn: x"]
    return "\n".join(lines + [name + value(data) for name, data in attributes]) + "\n\n"


ELSEWHERE = """\
dn: dc=u
objectClass: dcObject
objectClass: organization
o: u
dc: u

dn: ou=aliases,dc=u
objectClass: organizationalUnit
ou: aliases

dn: cn=real,dc=u
objectClass: inetOrgPerson
objectClass: mailthing
cn: real
sn: x
mail: real@a.test
maildrop: 1

dn: cn=alias,ou=aliases,dc=u
objectClass: alias
objectClass: extensibleObject
cn: alias
aliasedObjectName: cn=real,dc=u

dn: ou=referrals,dc=u
objectClass: organizationalUnit
ou: referrals

dn: cn=there,ou=referrals,dc=u
objectClass: referral
objectClass: extensibleObject
cn: there
ref: ldap://127.0.0.1:@PORT@/cn=one,dc=t??base

"""


def ldif():
    top = "dn: dc=t\nobjectClass: dcObject\nobjectClass: organization\no: t\ndc: t\n\n"
    closed = "dn: ou=closed,dc=t\nobjectClass: organizationalUnit\nou: closed\n\n"
    people = [
        entry("reader", ("userPassword", "pw")),
        entry("one", ("mail", "one@a.test"), ("maildrop", "1")),
        entry("multi", ("mail", "multi@a.test"), ("maildrop", "x"), ("maildrop", "y"), ("maildrop", "z")),
        entry("dup", ("mail", "dup@a.test"), ("maildrop", "d1")),
        entry("dup2", ("mail", "dup@a.test"), ("maildrop", "d2")),
        entry("group", ("mail", "group@a.test"), ("maildrop", "own"), ("memberdn", "cn=one,dc=t"), ("memberdn", "cn=gone,dc=t"),
              ("memberdn", "ldap:///dc=t??sub?(mail=multi@a.test)")),
        entry("nest", ("mail", "nest@a.test"), ("memberdn", "cn=group,dc=t")),
        entry("loop", ("mail", "loop@a.test"), ("maildrop", "l"), ("memberdn", "cn=loop,dc=t")),
        entry("url", ("mail", "url@a.test"), ("memberdn", "ldap:///cn=one,dc=t?mail?base")),
        entry("badurl", ("mail", "badurl@a.test"), ("memberdn", "ldap://[x")),
        entry("baddn", ("mail", "baddn@a.test"), ("memberdn", "no dn")),
        entry("secret", ("mail", "secret@a.test"), ("maildrop", "s"), below="ou=closed,dc=t"),
        entry(r"a\2Cb\3D\2B\22c", ("mail", "odd@a.test"), ("maildrop", "odd")),
    ]
    people += [entry(f"key{i}", ("maildrop", f"value{i}"), ("mail", f"key{i}")) for i in range(ROWS)]
    # sn is compared without regard to case and spaces, description as well: one with an exact rule
    people += [entry(f"h{i}", ("memberdn", key), ("maildrop", f"hostile{i}")) for i, key in enumerate(HOSTILE_KEYS) if is_text(key)]
    return top + closed + "".join(people), ELSEWHERE


@pytest.fixture(scope="module")
def directory():
    one = Slapd(*ldif())
    yield one
    one.remove()


def table(directory, where, **more):
    options = {"server_host": f"ldap://127.0.0.1:{directory.port}", "search_base": "dc=t", "query_filter": "mail=%s"} | more
    return f"ldap:{write_table(where / 't.cf', **options)}"


def ask(directory, where, key, **more):
    with Asker(where / "etc", table(directory, where, **more)) as asker:
        return asker.ask(key), asker.log()


SPECIAL = {"special_result_attribute": "memberdn"}
READER = {"bind_dn": "cn=reader,dc=t", "bind_pw": "pw"}
SASL = {"bind": "sasl", "sasl_mechs": "DIGEST-MD5", "bind_dn": "reader", "bind_pw": "pw"}

RESULTS = [
    ("one@a.test", {}, b"1"),
    ("multi@a.test", {}, b"x,y,z"),
    ("none@a.test", {}, None),
    ("dup@a.test", {}, b"d1,d2"),
    ("multi@a.test", {"expansion_limit": 3}, b"x,y,z"),
    ("multi@a.test", {"expansion_limit": 2}, "expansion_limit"),
    ("dup@a.test", {"size_limit": 2}, b"d1,d2"),
    ("dup@a.test", {"size_limit": 1}, "Size limit"),
    ("dup@a.test", {"expansion_limit": 1}, "Size limit"),
    ("multi@a.test", {"result_format": "<%s>"}, b"<x>,<y>,<z>"),
    ("multi@a.test", {"result_filter": "<%s>"}, b"<x>,<y>,<z>"),
    ("multi@a.test", {"result_filter": "<%s>", "result_format": "%s"}, b"x,y,z"),
    ("one@a.test", {"result_attribute": "mail, maildrop"}, b"one@a.test,1"),
    ("one@a.test", {"result_attribute": "mail", "result_format": "%u/%d/%S/%2"}, b"one/a.test/one@a.test/a"),
    ("one@a.test", {"result_attribute": ""}, None),
    ("group@a.test", SPECIAL, b"own,1,x,y,z"),
    ("group@a.test", SPECIAL | {"result_attribute": "", "leaf_result_attribute": "maildrop"}, b"1,x,y,z"),
    ("group@a.test", SPECIAL | {"result_attribute": "", "terminal_result_attribute": "maildrop"}, b"own"),
    ("group@a.test", SPECIAL | {"terminal_result_attribute": "maildrop"}, b"own"),
    ("nest@a.test", SPECIAL, b"own,1,x,y,z"),
    ("nest@a.test", SPECIAL | {"recursion_limit": 3}, b"own,1,x,y,z"),
    ("nest@a.test", SPECIAL | {"recursion_limit": 2}, "recursion_limit"),
    ("nest@a.test", SPECIAL | {"recursion_limit": 1}, "recursion_limit"),
    ("loop@a.test", SPECIAL, "recursion_limit"),
    ("url@a.test", SPECIAL, None),  # the URL wants another attribute
    ("url@a.test", SPECIAL | {"result_attribute": "mail"}, b"url@a.test,one@a.test"),
    ("badurl@a.test", SPECIAL, "malformed"),
    ("baddn@a.test", SPECIAL, "DN"),
    ("one@a.test", {"scope": "one"}, b"1"),
    ("one@a.test", {"scope": "base"}, None),
    ("one@a.test", {"scope": "nonsense"}, b"1"),
    ("secret@a.test", {"scope": "one"} | READER, None),
    ("one@a.test", {"search_base": "cn=%u,dc=t", "query_filter": "objectClass=*", "scope": "base"}, b"1"),
    ('a,b=+"c@a.test', {"search_base": "cn=%u,dc=t", "query_filter": "objectClass=*", "scope": "base"}, b"odd"),
    ("none@a.test", {"search_base": "cn=%u,dc=t", "query_filter": "objectClass=*", "scope": "base"}, None),
    ("one@a.test", {"search_base": "dc=nope"}, "No such object"),
    ("one@a.test", {"search_base": "nonsense"}, "DN"),
    ("one@a.test", {"query_filter": "(mail=%u@%2.%1)"}, b"1"),
    ("one@a.test", {"query_filter": "(mail="}, "filter"),
    ("one", {"query_filter": "(mail=%u@%d)"}, None),
    ("one@a.test", {"domain": "a.test"}, b"1"),
    ("one@a.test", {"domain": "b.test"}, None),
    ("secret@a.test", {}, None),
    ("secret@a.test", READER, b"s"),
    ("secret@a.test", {"bind": "simple"} | READER, b"s"),
    ("secret@a.test", {"bind": "no"} | READER, None),
    ("secret@a.test", READER | {"bind_pw": "bad"}, "Invalid credentials"),
    ("secret@a.test", SASL, b"s"),
    ("secret@a.test", SASL | {"sasl_minssf": 1}, b"s"),
    ("secret@a.test", SASL | {"sasl_minssf": 4000}, "SASL bind"),
    ("secret@a.test", SASL | {"bind_pw": "bad"}, "Invalid credentials"),
    ("secret@a.test", SASL | {"sasl_mechs": "NOPE"}, "SASL bind"),
    ("secret@a.test", SASL | {"sasl_authz_id": "u:nobody"}, "SASL bind"),
    # asked for by mechanisms, and for DIGEST-MD5 by servers, that offer several
    ("secret@a.test", SASL | {"sasl_realm": "realm.test"}, b"s"),
    ("one@a.test", {"version": 2}, b"1"),
    ("one@a.test", {"chase_referrals": "yes"}, b"1"),
    ("one@a.test", {"search_base": "ou=referrals,dc=u", "chase_referrals": "yes"}, b"1"),
    ("one@a.test", {"search_base": "ou=referrals,dc=u", "chase_referrals": "no"}, None),
    ("real@a.test", {"search_base": "ou=aliases,dc=u", "dereference": 0}, None),
    ("real@a.test", {"search_base": "ou=aliases,dc=u", "dereference": 1}, b"1"),
    ("real@a.test", {"search_base": "ou=aliases,dc=u", "dereference": 2}, None),
    ("real@a.test", {"search_base": "cn=alias,ou=aliases,dc=u", "scope": "base", "dereference": 1}, None),
    ("real@a.test", {"search_base": "cn=alias,ou=aliases,dc=u", "scope": "base", "dereference": 2}, b"1"),
    ("real@a.test", {"search_base": "ou=aliases,dc=u", "dereference": 3}, b"1"),
    ("one@a.test", {"dereference": 9}, b"1"),
    ("one@a.test", {"timeout": 3}, b"1"),
    ("one@a.test", {"cache": "yes", "cache_size": 1, "cache_expiry": 1}, b"1"),
    ("one@a.test", {"tls_random_file": "/dev/urandom"}, b"1"),
    ("one@a.test", {"debuglevel": 0}, b"1"),
]


@pytest.mark.parametrize("key, options, wanted", RESULTS)
def test_results(directory, tmp_path, monkeypatch, key, options, wanted):
    if options.get("bind") == "sasl":  # the library's DIGEST-MD5 keeps memory of OpenSSL's
        monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0")
    answer, log = ask(directory, tmp_path, key, **options)
    if wanted is None:
        assert answer.result == "notfound", answer
    elif isinstance(wanted, str):
        assert answer.result == "retry" and wanted in answer.text and "t.cf" in answer.text, answer
    else:
        assert answer.value == wanted, answer
    for name in ("cache", "tls_random_file"):  # no silence about what has no effect
        assert (name in options) == (name in log), log


@pytest.mark.parametrize("options, text", [
    ({"bind": "maybe"}, "bind"),
    ({"version": 4}, "version"),
    ({"version": 2, "start_tls": "yes"}, "version = 3"),
    ({"server_port": 0}, "server_port"),
    ({"server_host": "http://x"}, "not an LDAP URL"),
    ({"server_host": "ldaps://x", "start_tls": "yes"}, "start_tls"),
    ({"query_filter": "mail=%x"}, "query_filter"),
    ({"search_base": "dc=%"}, "search_base"),
    ({"result_format": "%z"}, "result_format"),
    ({"recursion_limit": 0}, "recursion_limit"),
    ({"chase_referrals": "perhaps"}, "chase_referrals"),
])
def test_wrong_options(directory, tmp_path, options, text):
    answer, _ = ask(directory, tmp_path, "one@a.test", **options)
    assert answer.result == "retry" and text in answer.text and "t.cf" in answer.text, answer


def test_servers(directory, tmp_path):
    port = directory.port
    cases = [
        {"server_host": "127.0.0.1", "server_port": port},
        {"server_host": f"127.0.0.1:{port}"},
        {"server_host": directory.socket_url},
        {"server_host": f"ldaps://127.0.0.1:{directory.tls_port}"},
        {"server_host": f"127.0.0.1:{free_port()} ldap://127.0.0.1:{free_port()}, ldap://127.0.0.1:{port}"},
    ]
    for n, options in enumerate(cases):
        for _ in range(2):
            assert ask(directory, tmp_path / str(n), "one@a.test", **options)[0].value == b"1", options


def test_tls(directory, tmp_path):
    ca = {"tls_ca_cert_file": directory.directory / "cert.pem"}
    own = {"tls_cert": directory.directory / "cert.pem", "tls_key": directory.directory / "key.pem"}
    (tmp_path / "empty").mkdir()
    ldaps = {"server_host": f"ldaps://127.0.0.1:{directory.tls_port}"}
    cases = [
        ({"start_tls": "yes"}, True),
        ({"start_tls": "yes", "tls_require_cert": "yes"}, False),
        ({"start_tls": "yes", "tls_require_cert": "yes"} | ca, True),
        ({"start_tls": "yes", "tls_require_cert": "yes", "tls_ca_cert_dir": tmp_path / "empty"}, False),
        ({"start_tls": "yes"} | ca | own, True),
        ({"start_tls": "yes", "tls_cipher_suite": "NORMAL:-VERS-TLS1.3"}, True),
        ({"start_tls": "yes", "tls_cipher_suite": "NO-SUCH-SUITE"}, False),
        ({"start_tls": "yes", "tls_key": "/nonexistent/key.pem", "tls_cert": "/nonexistent/cert.pem"}, False),
        (ldaps | {"tls_require_cert": "yes"}, False),
        (ldaps | {"tls_require_cert": "yes"} | ca, True),
    ]
    for n, (options, works) in enumerate(cases):
        answer, _ = ask(directory, tmp_path / str(n), "one@a.test", **options)
        assert (answer.value == b"1") if works else (answer.result == "retry"), (options, answer)


def test_client_certificate(directory, tmp_path, monkeypatch):
    """tls_cert and tls_key are shown to the server, which knows us by them."""
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0")  # libsasl, as above
    external = {"bind": "sasl", "sasl_mechs": "EXTERNAL", "start_tls": "yes"}
    own = {"tls_cert": directory.directory / "cert.pem", "tls_key": directory.directory / "key.pem"}
    assert ask(directory, tmp_path / "a", "secret@a.test", **external, **own)[0].value == b"s"
    answer, _ = ask(directory, tmp_path / "b", "secret@a.test", **external)
    assert answer.result == "retry" and "SASL bind" in answer.text, answer
    authorities = tmp_path / "authorities"
    authorities.mkdir()
    shutil.copy(directory.directory / "cert.pem", authorities)
    run("openssl", "rehash", authorities)
    checked = {"start_tls": "yes", "tls_require_cert": "yes", "tls_ca_cert_dir": authorities}
    assert ask(directory, tmp_path / "c", "one@a.test", **checked)[0].value == b"1"


def test_timeout(directory, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        answer, _ = ask(directory, tmp_path, "one@a.test", server_host=f"ldap://127.0.0.1:{silent.getsockname()[1]}", timeout=1)
    assert answer.result == "retry" and 0.9 < answer.seconds < 2.5 and time.monotonic() - begun < 10, answer


def test_debuglevel(directory, tmp_path):
    """The library writes to standard error what it does."""
    assert "ldap_" in ask(directory, tmp_path / "a", "one@a.test", debuglevel=1)[1]
    assert "ldap_" not in ask(directory, tmp_path / "b", "one@a.test")[1]


def test_hostile_keys(directory, tmp_path):
    main = "smtputf8_enable = no\n"
    with Asker(tmp_path / "etc", table(directory, tmp_path, query_filter="memberdn=%s"), main=main) as asker:
        for i, key in enumerate(HOSTILE_KEYS):
            answer = asker.ask(key)
            if answer.result == "found":  # its own row: the directory takes spaces at the ends for none
                assert answer.value in (f"hostile{i}".encode(), *same_but_spaces(key)), answer
            else:
                assert answer.result == "notfound", answer
            if is_text(key) and key == key.strip() and b"  " not in key and key == bytes(c + 32 if 65 <= c <= 90 else c for c in key):
                assert answer.value == f"hostile{i}".encode(), answer
        assert asker.ask("*").result == "notfound"


def same_but_spaces(key):
    return [f"hostile{i}".encode() for i, other in enumerate(HOSTILE_KEYS) if other.split() == key.split()]


def test_stale_connection(directory, tmp_path):
    """The server was restarted since the last lookup: the connection that is kept is dead, and the lookup is found at the first try."""
    with Asker(tmp_path / "etc", table(directory, tmp_path)) as asker:
        for _ in range(3):
            assert asker.found("one@a.test") == b"1"
            directory.stop()
            directory.start()
        assert asker.found("one@a.test") == b"1"
        assert "is down" not in asker.log()


def test_frozen_server(directory, tmp_path):
    with Asker(tmp_path / "etc", table(directory, tmp_path, timeout=1), main="table_query_timeout = 1\n") as asker:
        freeze_and_thaw(asker, "one@a.test", directory.process)


def test_outages(directory, tmp_path):
    keys = [f"key{i % ROWS}".encode() for i in range(10000)]
    with Asker(tmp_path / "etc", table(directory, tmp_path), threads=4) as asker:
        counts, asked = load_with_outage(
            asker, keys, lambda a: a.value == a.key.replace(b"key", b"value"), directory.stop, directory.start, outages=2)
        assert counts["notfound"] == 0 and counts["found"] > 0 and asked >= 10000, counts
