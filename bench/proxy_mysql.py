#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""proxy_mysql.py - SMTP sessions that all ask MariaDB through proxymap: how fast, and how many connections the server sees.

    bench/proxy_mysql.py [--sessions 1000] [--recipients 20] [--connections 8] [--direct] [--debian]

A MariaDB and a mail system of its own, both in temporary directories, as root on Debian 12. All sessions are connected and have said MAIL
before the first says RCPT; each RCPT is one or more lookups (virtual_mailbox_maps with its partial keys). Half of the recipients do
not exist. Each reply is checked. Of the connections that MariaDB counts one is the measurement's own. --direct leaves "proxy:" out: each smtpd process asks MariaDB itself. --debian measures
Debian's Postfix (fetched with apt-get, unpacked, not installed) with the same settings.
"""
import argparse
import asyncio
import collections
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
os.environ.setdefault("POSTRIDER_STAGE", str(TOP / "build/release/stage"))
sys.path[:0] = [str(TOP / "tests/integration"), str(TOP / "tests/scenario")]
from database_servers import MariaDB, write_table  # noqa: E402
from instance import MASTER_CF, STAGE, Instance  # noqa: E402

USERS = 10000


def database():
    db = MariaDB(connections=1200)
    db.sql("create database m; use m; create table box(k varchar(100) primary key, v varchar(100)); "
           "create user p@'%' identified by 'pw'; grant all on m.* to p@'%';")
    rows = ",".join(f"('user{i}@v.test', 'here/')" for i in range(USERS))
    db.sql(f"insert into box values {rows}", "m")
    db.sql("flush status")
    return db


def settings(db, where, prefix, connections, sessions):
    box = write_table(where / "box.cf", hosts=f"unix:{db.socket}", user="p", password="pw", dbname="m", query="select v from box where k = '%s'")
    return {
        "virtual_mailbox_domains": "v.test", "virtual_mailbox_base": "/nonexistent", "virtual_uid_maps": "static:2000",
        "virtual_gid_maps": "static:2000", "virtual_mailbox_maps": f"{prefix}mysql:{box}", "virtual_alias_maps": "",
        "table_connection_limit": connections, "default_process_limit": sessions + 100, "smtpd_client_connection_count_limit": 0,
        "smtpd_recipient_limit": 100000, "smtpd_soft_error_limit": 100000, "smtpd_hard_error_limit": 100000, "smtpd_error_sleep_time": 0,
        "smtpd_recipient_restrictions": "permit_mynetworks, reject"}


class Load:
    def __init__(self, port, sessions, recipients):
        self.port, self.sessions, self.recipients = port, sessions, recipients
        self.codes, self.waits = collections.Counter(), []
        self.here = 0
        self.all_here = asyncio.Event()
        self.begun = None

    async def session(self, number, gate):
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            await reader.readline()

        async def say(text):
            writer.write(text)
            return (await reader.readline())[:3]

        await say(b"HELO c.test\r\n")
        assert await say(b"MAIL FROM:<>\r\n") == b"250"
        self.here += 1
        if self.here == self.sessions:
            self.begun = time.monotonic()
            self.all_here.set()
        await self.all_here.wait()
        for i in range(self.recipients):
            n = (number * self.recipients + i) % USERS
            known = i % 2 == 0
            began = time.monotonic()
            code = await say(b"RCPT TO:<%s%d@v.test>\r\n" % (b"user" if known else b"nobody", n))
            self.waits.append(time.monotonic() - began)
            self.codes[known, code.decode()] += 1
        writer.close()

    async def run(self):
        gate = asyncio.Semaphore(100)  # no larger than what waits to be accepted
        await asyncio.gather(*(self.session(n, gate) for n in range(self.sessions)))
        return time.monotonic() - self.begun


def measure(name, port, db, args):
    async def go():
        load = Load(port, args.sessions, args.recipients)
        return load, await load.run()

    before = queries(db)
    load, seconds = asyncio.run(asyncio.wait_for(go(), 600))
    most = status(db, "Max_used_connections")
    total = args.sessions * args.recipients
    waits = sorted(load.waits)
    lookups = queries(db) - before
    right = load.codes[True, "250"] + load.codes[False, "550"]
    print(f"{name}: {args.sessions} sessions, {total} RCPT in {seconds:.2f} s: {total / seconds:.0f} RCPT/s, {lookups / seconds:.0f} queries/s; "
          f"median {waits[len(waits) // 2] * 1000:.0f} ms, 99 % {waits[len(waits) * 99 // 100] * 1000:.0f} ms; "
          f"MariaDB's Max_used_connections {most}; {total - right} wrong or try again {dict(load.codes) if right != total else ''}")
    return right == total


def status(db, name):
    return int(db.sql(f"show global status like '{name}'").split()[1])


def queries(db):
    return status(db, "Com_select")


def ours(db, where, prefix, args):
    inst = Instance(where, main=settings(db, where.parent, prefix, args.connections, args.sessions),
                    master=MASTER_CF.replace("proxymap  unix - - n -    -", "proxymap  unix - - n -    1"))
    try:
        inst.start()
        return measure(f"postrider {prefix}mysql", inst.port, db, args)
    finally:
        problems = inst.close()
        if problems:
            print("\n".join(problems)[:2000])


def debian(db, where, prefix, args):
    from debian_postfix import SERVICES, DebianPostfix
    import debian_postfix
    debs = where / "debs"
    debs.mkdir(parents=True)
    subprocess.run(["apt-get", "download", "postfix", "postfix-mysql"], cwd=debs, check=True, capture_output=True)
    for deb in debs.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", deb, where / "root"], check=True)
    root = where / "root"
    main = settings(db, where, prefix, args.connections, args.sessions)
    del main["table_connection_limit"]
    (where / "dynamicmaps.cf").write_text(f"mysql\t{root}/usr/lib/postfix/postfix-mysql.so\tdict_mysql_open\n")
    debian_postfix.SERVICES = SERVICES.replace("proxymap unix - - n - - proxymap", f"proxymap unix - - n - {args.connections} proxymap")
    theirs = DebianPostfix(root, where / "i", meta_directory=where, shlib_directory=root / "usr/lib/postfix", **main)
    try:
        theirs.start()
        return measure(f"Debian's Postfix {prefix}mysql", theirs.port, db, args)
    finally:
        theirs.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--recipients", type=int, default=20)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--direct", action="store_true")
    parser.add_argument("--debian", action="store_true")
    args = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, args.sessions + 1000), hard))
    if not STAGE.is_dir() and not args.debian:
        parser.error(f"{STAGE} is not there: cmake --preset release && ninja -C build/release")
    where = pathlib.Path(tempfile.mkdtemp(prefix="proxy-mysql-"))
    where.chmod(0o755)
    db = database()
    try:
        return 0 if (debian if args.debian else ours)(db, where / "m", "" if args.direct else "proxy:", args) else 1
    finally:
        db.remove()
        shutil.rmtree(where, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
