# SPDX-License-Identifier: Apache-2.0
"""proxy: tables of a running system: one process asks for all, approval, reload, outage, commands."""
import asyncio
import collections
import os
import pathlib
import re
import smtplib
import subprocess
import sys
import threading
import urllib.parse

import pytest

from instance import MASTER_CF, STAGE, wait_for

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "integration"))
from lookup import Asker, Server  # noqa: E402


def mailboxes(request):
    """A tcp_table server that knows every user whose name begins with "u"."""
    key = urllib.parse.unquote(request[4:-1].decode())
    return b"200 here/\n" if key.startswith("u") else b"500 unknown\n"


def line(stream):
    return stream.readline() or None


@pytest.fixture
def server():
    with Server(line, mailboxes) as s:
        yield s


def system(instance, table, **options):
    main = {
        "virtual_mailbox_domains": "v.test",
        "virtual_mailbox_base": "{root}/mail",
        "virtual_mailbox_maps": table,
        "virtual_uid_maps": "static:2000",
        "virtual_gid_maps": "static:2000",
        **options.pop("main", {}),
    }
    return instance(main=main, **options)


def rcpt(inst, user):
    with inst.smtp() as client:
        client.helo("c.test")
        client.mail("s@example.org")
        return client.rcpt(f"{user}@v.test")


def test_one_process_asks_for_many_clients(instance, server):
    inst = system(instance, f"proxy:tcp:127.0.0.1:{server.port}",
                  main={"sessions_per_process": 5, "table_connection_limit": 2, "smtpd_recipient_restrictions":
                        "permit_mynetworks, reject"},
                  master=re.sub(r"(?m)^(127.*|proxymap.*)-( +\w+)$", r"\g<1>0\2", MASTER_CF).replace(
                      "proxymap  unix - - n -    0", "proxymap  unix - - n -    1"))
    answers = []

    def session():
        answers.append(rcpt(inst, "user")[0])
        answers.append(rcpt(inst, "nobody")[0])

    threads = [threading.Thread(target=session) for _ in range(40)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(answers) == [250] * 40 + [550] * 40, inst.log()
    assert len(inst.pids("smtpd")) >= 2, "several processes should have asked"
    assert 1 <= server.most <= 2, "connections to the table's server"


def test_unapproved_table(instance, server):
    table = f"tcp:127.0.0.1:{server.port}"
    inst = system(instance, f"proxy:{table}", main={"proxy_read_maps": "static:x, inline:{{a=proxy:static:z}}"})
    assert rcpt(inst, "user")[0] == 451
    assert rcpt(inst, "nobody")[0] == 451
    inst.wait_log(rf'postfix/proxymap\[\d+\]: warning: request for unapproved table: "{table}"')
    inst.wait_log(rf"to approve this table for read-only access, list proxy:{table} in main.cf:proxy_read_maps")
    assert not server.requests
    assert inst.log().count("request for unapproved table") == 1
    inst.write_main(proxy_read_maps="$virtual_mailbox_maps")
    inst.reload()
    assert rcpt(inst, "user")[0] == 250
    assert rcpt(inst, "nobody")[0] == 550


def test_reload_loses_no_lookup(instance, server):
    inst = system(instance, f"proxy:tcp:127.0.0.1:{server.port}")
    stop = threading.Event()
    answers = []

    def session():
        while not stop.is_set():
            with inst.smtp() as client:
                client.helo("c.test")
                for i in range(5):
                    client.mail("s@example.org")
                    answers.append((250, client.rcpt("user@v.test")[0]))
                    answers.append((550, client.rcpt("nobody@v.test")[0]))
                    client.rset()

    threads = [threading.Thread(target=session) for _ in range(4)]
    for t in threads:
        t.start()
    for _ in range(3):
        before = len(answers)
        wait_for("lookups", lambda: len(answers) > before + 20)
        inst.reload()
    stop.set()
    for t in threads:
        t.join()
    assert all(wanted == got for wanted, got in answers), [a for a in answers if a[0] != a[1]][:5]


def test_without_the_service(instance, server):
    """A daemon says try again; a command answers by itself, and says no more than the answer."""
    table = f"proxy:tcp:127.0.0.1:{server.port}"
    inst = system(instance, table, master=re.sub(r"(?m)^proxymap.*\n", "", MASTER_CF))
    assert rcpt(inst, "user")[0] == 451
    inst.wait_log(r"warning: table proxy:: server private/proxymap is down: connect to private/proxymap: No such file")
    done = inst.run("postmap", "-q", "user", table)
    assert (done.stdout, done.stderr) == ("here/\n", "")
    assert inst.run("postmap", "-q", "nobody", table, check=False).returncode == 1


def test_command_asks_the_service(instance, server):
    table = f"proxy:tcp:127.0.0.1:{server.port}"
    inst = system(instance, table)
    assert inst.run("postmap", "-q", "user", table).stdout == "here/\n"
    assert inst.pids("proxymap"), "the command should have asked it"
    done = inst.run("postmap", "-q", "user", "proxy:static:x", check=False)
    assert done.returncode == 1 and "not listed in proxy_read_maps" in done.stderr
    inst.stop()
    assert inst.run("postmap", "-q", "user", table).stdout == "here/\n"
    assert inst.run("postmap", "-q", "x", "proxy:static:y").stdout == "y\n"


def test_no_substitution_where_a_transport_is_named(instance):
    """What a client wrote must not get into a transport: such rules are left out, for those who ask for that. Others have them."""
    table = "regexp:{etc}/transport"
    inst = instance(main={"transport_maps": f"proxy:{table}", "recipient_delimiter": ""}, files={
        "transport": "/^(.*)@a\\.test$/ error:5.1.1 named $1\n/@a\\.test$/ error:5.1.1 by rule two\n"})
    inst.send("u@a.test")
    inst.wait_log(r"to=<u@a\.test>, relay=none, .*status=bounced \(by rule two\)")
    where = inst.etc / "transport"
    inst.wait_log(rf"postfix/proxymap\[\d+\]: warning: regexp map {where}, line 1: "
                  "regular expression substitution is not allowed: skipping this rule")
    assert inst.run("postmap", "-q", "u@a.test", f"proxy:regexp:{where}").stdout == "error:5.1.1 named u\n"


def test_delivery_through_proxied_tables(instance, server):
    """The whole way; virtual runs as root and asks the table itself."""
    inst = system(instance, f"proxy:tcp:127.0.0.1:{server.port}")
    inst.send("user@v.test")
    inst.wait_maildir("here", 1)
    inst.wait_empty()


def test_partial_keys(instance):
    """A proxied table is asked as its type is: here with @domain, and in lower case."""
    inst = system(instance, "proxy:texthash:{etc}/boxes", files={"boxes": "@v.test all/\nbob@v.test bob/\n"})
    inst.send(["Bob@v.test", "any@v.test"])
    inst.wait_maildir("all", 1)
    inst.wait_maildir("bob", 1)


def test_server_of_the_table_dies(instance):
    server = Server(line, mailboxes)
    port = server.port
    inst = system(instance, f"proxy:tcp:127.0.0.1:{port}")
    try:
        assert rcpt(inst, "user")[0] == 250
        server.stop()
        assert rcpt(inst, "user")[0] == 451
        assert rcpt(inst, "nobody")[0] == 451
        inst.wait_log(rf"proxymap\[\d+\]: warning: table tcp:127.0.0.1:{port}: server 127.0.0.1:{port} is down: ")
        server = Server(line, mailboxes, port)
        wait_for("recovery", lambda: rcpt(inst, "user")[0] == 250)  # how soon: integration/lookup.py
        assert rcpt(inst, "nobody")[0] == 550
    finally:
        server.stop()
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        inst.send("user@v.test")


def test_a_thousand_sessions(instance, server):
    """All are connected at once, and cause no more connections to the table's server than table_connection_limit says."""
    count = 1000
    inst = system(instance, f"proxy:tcp:127.0.0.1:{server.port}",
                  main={"default_process_limit": 1100, "sessions_per_process": 100, "smtpd_client_connection_count_limit": 0,
                        "table_connection_limit": 8})
    codes = collections.Counter()

    async def session(arrived, everybody):
        reader, writer = await asyncio.open_connection("127.0.0.1", inst.port)

        async def say(text):
            writer.write(text)
            return int((await reader.readline())[:3])

        await reader.readline()
        await say(b"HELO c.test\r\n")
        await say(b"MAIL FROM:<s@example.org>\r\n")
        arrived.append(1)
        if len(arrived) == count:
            everybody.set()
        await everybody.wait()
        for _ in range(3):
            codes["user", await say(b"RCPT TO:<user@v.test>\r\n")] += 1
            codes["nobody", await say(b"RCPT TO:<nobody@v.test>\r\n")] += 1
        writer.close()

    async def run():
        arrived, everybody = [], asyncio.Event()
        await asyncio.wait_for(asyncio.gather(*(session(arrived, everybody) for _ in range(count))), 60)

    asyncio.run(run())
    assert codes == {("user", 250): 3 * count, ("nobody", 550): 3 * count}, (codes, inst.log()[-2000:])
    assert len(inst.pids("smtpd")) >= 10 and len(inst.pids("proxymap")) == 1
    assert 1 <= server.most <= 8


def test_writing(instance):
    """Two processes change one cache through the proxywrite service, which is the only one that has it open."""
    inst = instance(main={"address_verify_map": "proxy:btree:{root}/data/cache"})
    table = f"proxy:btree:{inst.data}/cache"
    with Asker(inst.etc, table, main=None, write=True) as one, Asker(inst.etc, table, main=None, write=True) as two:
        assert one.ask(b"k").result == "notfound"
        assert one.put(b"k", b"first").result == "found"
        assert two.found(b"K") == b"first"  # folded as the type behind does
        for i in range(200):
            (one if i % 2 else two).put(b"key%03d" % i, b"value%d" % i)
        assert two.put(b"k", b"second").result == "found"
        assert one.found(b"k") == b"second"
        assert one.command(b"!").result == "found"
        assert one.remove(b"k").result == "found"
        assert two.remove(b"k").result == "notfound"
        assert two.ask(b"k").result == "notfound"
        assert one.command(b"*").value == b"".join(b"key%03dvalue%d" % (i, i) for i in range(200))
        assert one.put(b"long", b"x" * 900000).result in ("found", "retry")  # what the type can take, or says
        inst.reload()
        assert two.found(b"key007") == b"value7"
        assert two.put(b"key007", b"new").result == "found"
        assert one.found(b"key007") == b"new"
        assert len(inst.pids("proxymap")) <= 2
    with Asker(inst.etc, f"proxy:btree:{inst.data}/other", main=None, write=True) as asker:
        answer = asker.put(b"k", b"v")
        assert answer.result == "retry" and "not listed in proxy_write_maps" in answer.text
    inst.wait_log(r"to approve this table for read-write access, list proxy:btree:.*/other in main.cf:proxy_write_maps")
    with Asker(inst.etc, table, main=None) as reader:
        answer = reader.ask(b"key007")  # the service that only looks up serves other tables
        assert answer.result == "retry" and "not listed in proxy_read_maps" in answer.text


def test_check_finds_what_is_not_approved(instance):
    inst = instance(main={"proxy_read_maps": "$virtual_alias_maps", "virtual_alias_maps": "proxy:static:fine",
                          "transport_maps": "proxy:static:one, static:two"}, start=False,
                    master=MASTER_CF.replace("- smtpd\n", "- smtpd\n -o virtual_alias_maps=proxy:static:three\n", 1))
    text = inst.run("postfix", "check", check=False).stderr
    found = [line for line in text.splitlines() if "proxymap(8) may not serve" in line]
    assert len(found) == 2, text
    assert re.search(r"main.cf, line \d+: transport_maps: proxymap\(8\) may not serve proxy:static:one: list it in proxy_read_maps", found[0])
    assert re.search(r"master.cf, line \d+: .*virtual_alias_maps: proxymap\(8\) may not serve proxy:static:three", found[1])


def test_sessions_that_ask_a_database():
    """The measurement itself, with fewer sessions: each answer is right, and MariaDB sees no more connections than are allowed."""
    if os.geteuid() != 0:
        pytest.fail("needs root")
    script = pathlib.Path(__file__).parents[2] / "bench/proxy_mysql.py"
    done = subprocess.run([script, "--sessions", "200", "--recipients", "6", "--connections", "4"], capture_output=True, text=True, timeout=200,
                          env=os.environ | {"POSTRIDER_STAGE": str(STAGE)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1200 RCPT" in done.stdout and "; 0 wrong or try again" in done.stdout, done.stdout
    most = int(re.search(r"Max_used_connections (\d+)", done.stdout)[1])
    assert 2 <= most <= 4 + 1, done.stdout  # one is the measurement's
