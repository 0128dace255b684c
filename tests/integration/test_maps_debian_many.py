# SPDX-License-Identifier: Apache-2.0
"""Tables that are not built, and their combinations, through Debian's postmap and ours: hundreds of keys for each type.

Keys and tables are generated (with a seed, so that a failure comes again), around the edges that matter: of networks, of patterns, of
quoting. The types that are built are in test_maps_debian.py, those that ask servers in test_map_*_debian.py.
"""
import collections
import grp
import ipaddress
import os
import pathlib
import pwd
import random
import sys

import pytest
from test_maps_debian import SOURCES, STAGE, Both
from test_maps_debian import both, reference  # noqa: F401 (fixtures)

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "scenario"))
from debian_postfix import DebianPostfix  # noqa: E402
from instance import Instance, free_port  # noqa: E402

asked = collections.Counter()  # by type


def ask(both, kind, spec, keys, env=None):  # noqa: F811
    """All keys in one run, then the first few alone, which tells the status."""
    keys = [k for k in dict.fromkeys(keys) if "\n" not in k]
    answer = both.same(["-q", "-", spec], "".join(f"{k}\n" for k in keys), warnings=False, env=env)
    asked[kind] += len(keys)
    for key in keys[:3]:
        both.same(["-q", key, spec], warnings=False, env=env)
    return answer


def words(seed, count):
    pick = random.Random(seed)
    signs = "abcXYZ019.-_+=@%!#$&'*/?^`|~()<>[]:;,"
    out = ["a", "A", "two words", "a  b", "tab\tin it", "gr\u00fc\u00df", "\u00c9COLE", "\u30e6@\u4f8b.test", "x" * 300, "@", "a@", "@b", "a@b@c", "100%", "$1", "${x}",
           "{a}", "a=b", "a,b", '"q"', '"q r"@x', "\\", "a\\b", "<>", "10.0.0.1", "::1", "0", "-1", "joe+x@Example.COM", "joe@example.com"]
    while len(out) < count:
        out.append("".join(pick.choice(signs) for _ in range(pick.randint(1, 30))))
    return out


# --- values that stand in the name --------------------------------------------------------------------------

def test_static(both):  # noqa: F811
    for spec in ("static:a", "static:{two words}", "static:{ spaces }", "static:a,b", "static:$x", "static:{a}b", "static:\u00fc"):
        ask(both, "static", spec, words(1, 60))


def test_inline(both):  # noqa: F811
    rows = [w for w in words(2, 200) if not set(w) & set("{}=,\\\"'") and " " not in w and "\t" not in w]
    for spec in ("inline:{" + ",".join(f"{k}=v{n}" for n, k in enumerate(rows)) + "}", "inline:{a=1,A=2,b=3}", "inline:{ a = 1 , { two words = x y } }",
                 "inline:{{a=1},{b=2 3},{ c = 4 }}", "inline:{a==b,c=d=e}", "inline:{a=1 b=2\tc=3}"):
        ask(both, "inline", spec, words(2, 200) + ["b", "c", "two words"])


def test_environ(both):  # noqa: F811
    env = {f"N{n}": f"value {n}" for n in range(200)} | {f"n{n}": "" for n in range(50)} | {"lower": "l", "UTF": "\u00fc", "odd-name": "x", "a.b": "y"}
    ask(both, "environ", "environ:x", [f"N{n}" for n in range(220)] + [f"n{n}" for n in range(60)] + list(env)[-4:] + words(3, 60) + ["LOWER", "utf"], env)


def test_internal(both):  # noqa: F811
    ask(both, "internal", "internal:x", words(4, 320))


def test_fail(both):  # noqa: F811
    """Whatever it is asked; the first key ends the command."""
    for n, key in enumerate(words(5, 300)):
        both.same(["-q", key, f"fail:{'x' * (n % 30)}a"], warnings=False)
        asked["fail"] += 1
    both.same(["-q", "-", "fail:x"], "a\nb\n", warnings=False)


def test_unix(both):  # noqa: F811
    users = [p.pw_name for p in pwd.getpwall()]
    groups = [g.gr_name for g in grp.getgrall()]
    ask(both, "unix", "unix:passwd.byname", users + [u.upper() for u in users] + [f" {u}" for u in users] + words(6, 150) + groups)
    ask(both, "unix", "unix:group.byname", groups + [g.title() for g in groups] + words(7, 150) + users)


# --- combinations ---------------------------------------------------------------------------------------------

def member(pick, depth):
    kinds = ["static", "inline", "inline", "environ"] + ["unionmap", "pipemap"] * (depth > 0)
    kind = pick.choice(kinds)
    letters = "abcdef"
    if kind == "static":
        return f"static:{pick.choice(letters)}"
    if kind == "environ":
        return "environ:x"
    if kind == "inline":
        rows = ",".join(f"{key}={pick.choice(letters)}" for key in pick.sample(letters, pick.randint(1, 4)))
        return f"inline:{{{rows}}}"
    return f"{kind}:{{{','.join(member(pick, depth - 1) for _ in range(pick.randint(1, 3)))}}}"


@pytest.mark.parametrize("kind", ["unionmap", "pipemap"])
def test_combined(both, kind):  # noqa: F811
    pick = random.Random(kind)
    for _ in range(40):
        spec = f"{kind}:{{{','.join(member(pick, 2) for _ in range(pick.randint(1, 4)))}}}"
        ask(both, kind, spec, ["a", "b", "c", "d", "e", "f", "A", "F", "x", "ab"], {"a": "b", "c": "e", "A": "x"})


def test_randmap(both):  # noqa: F811
    """Of one value, so that the answer is known; which one it is of many is left to chance."""
    for value in ("a", "b@c.test", "{two words}", "{ x }", "{a,b}", "same same"):
        ask(both, "randmap", f"randmap:{{{value}}}", words(8, 60))
    for side in ("theirs", "ours"):
        many = both.run(side, ["-q", "-", "randmap:{one,two,three}"], "k\n" * 300)[1].split()
        assert set(many[1::2]) == {b"one", b"two", b"three"}


# --- networks -------------------------------------------------------------------------------------------------

def cidr_table(pick):
    """Networks in and beside each other, with conditions; and the addresses at their edges."""
    lines, edges, depth = [], [], 0
    for n in range(pick.randint(5, 60)):
        version = pick.choice([4, 4, 6])
        bits = 32 if version == 4 else 128
        near = ipaddress.ip_network("10.20.0.0/16" if version == 4 else "2001:db8::/32")
        length = pick.choice([0, bits, pick.randint(near.prefixlen, bits), pick.randint(near.prefixlen, bits), pick.randint(1, bits)])
        address = int(near.network_address) + pick.getrandbits(bits - near.prefixlen)
        network = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network
        net = network((address >> (bits - length) << (bits - length), length))
        name = str(net) if pick.random() < 0.8 or length < bits else str(net.network_address)
        what = pick.random()
        sign = "!" if pick.random() < 0.15 else ""
        if what < 0.12:
            lines.append(f"if {sign}{name}")
            depth += 1
        elif what < 0.2 and depth:
            lines.append("endif")
            depth -= 1
        else:
            lines.append(f"{sign}{name} r{n}" + pick.choice(["", "", " more", "\n  continued"]))
        first, last = int(net.network_address), int(net.broadcast_address)
        kind = type(net.network_address)
        edges += [kind(i).exploded if pick.random() < 0.1 else str(kind(i)) for i in (first, last, first - 1, last + 1, pick.randint(first, last)) if 0 <= i < 1 << bits]
    return "\n".join(lines + ["endif"] * depth) + "\n", edges


def test_cidr(both):  # noqa: F811
    pick = random.Random(9)
    odd = ["10.20.0.1.", "10.20.0", "010.20.0.1", "10.20.0.256", "::ffff:10.20.0.1", "::", "x", "", "10.20.0.1/32", "[::1]", "2001:DB8::1", "2001:db8:0:0::1",
           "0.0.0.0", "255.255.255.255", "unknown", "10.20.0.1 ", "1e3", "0x0a.1.1.1"]
    for n in range(25):
        text, edges = cidr_table(pick)
        both.put(f"c{n}", text)
        ask(both, "cidr", f"cidr:c{n}", [k for k in edges + odd if k])


WRONG_NETWORKS = """\
10.20.0.1/16 host bits
10.20.0.0/33 too long
10.20.0.0/ none
/8 none
10.20.0 short
300.1.1.1 big
2001:db8::/129 long
2001:db8::1/32 host bits
10.20.0.0/16
if 10.0.0.0/8 text
if
endif x
endif
10.20.1.0/24 good
"""


def test_wrong_networks(both):  # noqa: F811
    both.put("t", WRONG_NETWORKS)
    ask(both, "cidr", "cidr:t", ["10.20.1.1", "10.20.0.1", "300.1.1.1", "2001:db8::1"])


# --- patterns -------------------------------------------------------------------------------------------------

PIECES = ["a", "b", "ab", "^", "$", ".", ".*", "[a-c]", "[^a]", "(a|b)", "(ab)+", "a?", "b{1,2}", "@", "\\.", "x", "[[:digit:]]", "example", "(.*)@", "Sub", "JECT"]
PCRE_PIECES = PIECES + ["\\d+", "\\s", "(?:ab)", "(?=a)", "a++", "\\bx", "(?i)A", "[\\w.]+"]
FLAGS = {"regexp": ["", "", "i", "m", "x", "ix", "ii", "mx"], "pcre": ["", "", "i", "m", "s", "x", "A", "E", "U", "X", "ix", "sm"]}


def pattern_table(pick, kind):
    lines, depth = [], 0
    for n in range(pick.randint(3, 25)):
        pattern = "".join(pick.choice(PIECES if kind == "regexp" else PCRE_PIECES) for _ in range(pick.randint(1, 5)))
        pattern = pattern.replace("^^", "^").replace("$$", "$")
        sign, flags = "!" if pick.random() < 0.1 else "", pick.choice(FLAGS[kind])
        what = pick.random()
        if what < 0.1:
            lines.append(f"if {sign}/{pattern}/{flags}")
            depth += 1
        elif what < 0.18 and depth:
            lines.append("endif")
            depth -= 1
        else:
            groups = pattern.count("(") - pattern.count("(?")
            result = f"r{n}" + pick.choice(["", "", " $$x"])
            if not sign or pick.random() < 0.1:  # $1 where nothing matched: the rule is passed over
                result += "".join(f" [${g}]" if g % 2 else f" [${{{g}}}]" for g in range(1, groups + 1))
            lines.append(f"{sign}/{pattern}/{flags} {result}")
    return "\n".join(lines + ["endif"] * depth) + "\n"


@pytest.mark.parametrize("kind", ["regexp", "pcre"])
def test_patterns(both, kind):  # noqa: F811
    pick = random.Random(kind)
    letters = ["a", "b", "ab", "x", "@", ".", "1", "example", "Subject", "A", " ", "B"]
    for n in range(40):
        both.put(f"p{n}", pattern_table(pick, kind))
        keys = ["".join(pick.choice(letters) for _ in range(pick.randint(1, 6))) for _ in range(30)]
        answer = both.same(["-q", "-", f"{kind}:p{n}"], "".join(f"{k}\n" for k in keys), warnings=False)
        assert answer[0] in (0, 1)
        asked[kind] += len(keys)


# --- through proxymap -----------------------------------------------------------------------------------------

def test_proxy(reference, tmp_path):  # noqa: F811
    """Each postmap asks the proxymap of its own system."""
    if os.geteuid() != 0:
        pytest.fail("needs root")
    (tmp_path / "t").write_text("".join(text for name, text in SOURCES.items() if name in ("plain", "addresses", "quoted key", "many rows")))
    (tmp_path / "p").write_text("/^key(\\d*)7$/ seven $1\n/^key/ other\n".replace("\\d", "[0-9]"))
    (tmp_path / "c").write_text("10.0.0.0/8 ten\n::/0 six\n")
    for path in (tmp_path, *tmp_path.iterdir(), *tmp_path.parents):
        if path.stat().st_uid == os.geteuid() and path.name:
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
            if not path.is_dir():
                os.utime(path, (1, 1))
    tables = [f"proxy:{spec}" for spec in (f"texthash:{tmp_path}/t", f"regexp:{tmp_path}/p", f"cidr:{tmp_path}/c", "static:x", "inline:{a=1,b=2}",
                                           "unix:passwd.byname", "unionmap:{static:a,inline:{a=b}}")]
    keys = words(10, 200) + [f"key{n}" for n in range(150)] + [p.pw_name for p in pwd.getpwall()]
    main = {"proxy_read_maps": " ".join(tables[:-1]) + " " + tables[-1], "smtputf8_enable": "yes"}
    theirs = DebianPostfix(reference, tmp_path / "theirs", **main)
    ours = Instance(tmp_path / "ours", main=main)
    for path in tmp_path.iterdir():
        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
    try:
        theirs.start()
    except AssertionError:  # somebody else took its port meanwhile
        theirs.stop()
        theirs.port = free_port()
        theirs.start()
    try:
        ours.start()
        for table in tables:
            stdin = "".join(f"{key}\n" for key in keys).encode()
            done = theirs.run("postmap", "-q", "-", table, check=False, input=stdin)
            mine = ours.run("postmap", "-q", "-", table, input=stdin, check=False)
            assert (mine.returncode, mine.stdout) == (done.returncode, done.stdout.decode("utf-8", "replace")), table
            assert "unapproved" not in ours.log() + theirs.log(), table
            asked["proxy"] += len(keys)
    finally:
        theirs.stop()
        problems = ours.close()
    assert not problems, problems


def test_enough():
    """After all others of this file."""
    print(dict(asked))
    short = {kind: n for kind, n in asked.items() if n < 300}
    assert len(asked) == 13 and not short, asked
    assert STAGE and Both
