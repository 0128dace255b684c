# SPDX-License-Identifier: Apache-2.0
"""tcp:, socketmap: and memcache: lookups through Debian's postmap and ours, against the same servers: same answers, same exit codes."""
import os
import random
import subprocess
import time
import urllib.parse
import zlib

import pytest
from lookup import STAGE, Server
from test_map_memcache import Memcached
from test_map_tcp import netstring, read_line, read_netstring
from test_postconf_debian import reference  # noqa: F401 (a fixture)

MAIN_CF = """\
compatibility_level = 3.6
mail_owner = daemon
setgid_group = games
default_privs = nobody
default_database_type = texthash
smtputf8_enable = no
myhostname = h.test
"""


def keys():
    """400 keys, of one line each: addresses, domains, words, signs, other alphabets."""
    pick = random.Random(7)
    signs = "abcXYZ019.-_+=@%!#$&'*/?^`{|}~()<>[]:;,\"\\"
    out = [f"user{i}@d{i % 7}.example.com" for i in range(80)] + [f"d{i}.example" for i in range(20)]
    out += ["".join(pick.choice(signs) for _ in range(pick.randint(1, 40))) for _ in range(200)]
    out += ["two words", "a  b", "tab\tin it", "gr\u00fc\u00df", "\u30e6\u30fc\u30b6@\u4f8b.test", "x" * 240, "@", "a@", "@b", "a@b@c", "%41", "100%"]
    out += [pick.choice("aeiou") + str(i) + pick.choice(" \u00e9%") + "z" for i in range(90)]
    # a line that postmap reads may not begin or end with white space
    return list(dict.fromkeys(k for k in out if k == k.strip()))


def value_of(key):
    """None: not found. Some values have what must be encoded."""
    n = zlib.crc32(key)
    if n % 3 == 0:
        return None
    return [b"plain", b"two words", b"100% sure", b"a,b, c", b"gr\xc3\xbc\xc3\x9f"][n % 5] + b" %d" % (n % 1000)


def tcp(request):
    value = value_of(urllib.parse.unquote_to_bytes(request[4:-1]))
    return b"500 none\n" if value is None else b"200 " + urllib.parse.quote_from_bytes(value).encode() + b"\n"


def socketmap(request):
    value = value_of(request.partition(b" ")[2])
    return netstring(b"NOTFOUND " if value is None else b"OK " + value)


class Pair:
    def __init__(self, root, where):
        self.root, self.where = root, where
        self.write("main.cf", MAIN_CF)

    def write(self, name, text):
        """A file of a minute ago: Debian's waits for one that may still be written."""
        (self.where / name).write_text(text)
        os.utime(self.where / name, (time.time() - 60,) * 2)

    def run(self, side, table, key, stdin=None):
        if side == "theirs":
            program, env = self.root / "usr/sbin/postmap", {"LD_LIBRARY_PATH": str(self.root / "usr/lib/postfix")}
        else:
            program, env = STAGE / "sbin/postmap", {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        done = subprocess.run([program, "-c", self.where, "-q", key, table], input=stdin, capture_output=True, timeout=60,
                              env=env | {"PATH": os.environ["PATH"]})
        return done.returncode, done.stdout, done.stderr

    def same(self, table, key, stdin=None):
        theirs, ours = self.run("theirs", table, key, stdin), self.run("ours", table, key, stdin)
        one, two = (set(out[1].splitlines()) for out in (theirs, ours))
        assert one == two, f"theirs only: {one - two}\nours only: {two - one}\n{theirs[2]}{ours[2]}"
        assert theirs[:2] == ours[:2], (key, theirs[0], ours[0], theirs[2], ours[2])
        return theirs


@pytest.fixture
def pair(reference, tmp_path):  # noqa: F811
    if os.geteuid() != 0:
        import grp
        import pwd
        user = pwd.getpwuid(os.geteuid()).pw_name
        global MAIN_CF
        MAIN_CF = MAIN_CF.replace("daemon", user).replace("games", grp.getgrgid(os.getegid()).gr_name)
    return Pair(reference, tmp_path)


@pytest.mark.parametrize("frame, reply, name", [(read_line, tcp, "tcp:127.0.0.1:{}"),
                                                (read_netstring, socketmap, "socketmap:inet:127.0.0.1:{}:a.name")],
                         ids=["tcp", "socketmap"])
def test_many_keys(pair, frame, reply, name):
    with Server(frame, reply) as server:
        table = name.format(server.port)
        status, out, _ = pair.same(table, "-", "\n".join(keys()).encode() + b"\n")
        assert status == 0 and 200 < out.count(b"\n") < len(keys())
        for key in keys()[::40]:
            pair.same(table, key)
        half = len(server.requests)
    assert half > 2 * len(keys())


@pytest.mark.parametrize("options", ["", "key_format = a:%s", "key_format = %u", "key_format = %d", "key_format = %u.%1.%2 %%",
                                     "key_format = %S%U%D", "domain = d1.example.com d2.example.com", "backup = static:b"])
def test_memcache(pair, tmp_path, options):
    server = Memcached()
    table = f"memcache:{tmp_path}/cache.cf"
    pair.write("cache.cf", f"memcache = inet:127.0.0.1:{server.port}\n{options}\n")
    # a key that a memcached cannot hold is not found by Debian's even when the backup has it
    asked = [k for k in keys() if not ("backup" in options and any(c.isspace() for c in k))]
    try:
        with server.connect() as s:
            for key in asked:
                local, _, domain = key.lower().rpartition("@")
                for k in {key.lower(), "a:" + key.lower(), local, domain}:
                    value = value_of(k.encode())
                    if value is not None and k and not any(c.isspace() for c in k):
                        s.sendall(b"set %s 0 0 %d noreply\r\n%s\r\n" % (k.encode(), len(value), value))
            s.sendall(b"version\r\n")
            s.recv(100)
        stdin = "\n".join(asked).encode() + b"\n"
        status, out, _ = pair.same(table, "-", stdin)
        assert (status == 0) == (out != b"")
        assert out.count(b"\n") < len(asked) or "backup" in options
    finally:
        server.stop()


@pytest.mark.parametrize("frame, reply, name", [
    (read_line, reply, "tcp:127.0.0.1:{}") for reply in
    (b"400 no\n", b"300 no\n", b"200 %zz\n", b"200 %4\n", b"500\n", b"200\n", b"\n", b"x\n", b"200 \n", b"200 a b\n", b"200 %41\n")
] + [
    (read_netstring, reply, "socketmap:inet:127.0.0.1:{}:x") for reply in
    (netstring(b"TEMP a"), netstring(b"TIMEOUT a"), netstring(b"PERM a"), netstring(b"WHAT a"), netstring(b""), b"x", b"4:OK a;",
     netstring(b"OK "), netstring(b"OK a b"), netstring(b"NOTFOUND"), netstring(b"NOTFOUND x"))
])
def test_single_replies(pair, frame, reply, name):
    with Server(frame, lambda _: reply) as server:
        status, _, errors = pair.same(name.format(server.port), "key")
        assert status == 0 or pair.run("ours", name.format(server.port), "key")[2].startswith(b"postmap: fatal") or not errors
