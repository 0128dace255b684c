# SPDX-License-Identifier: Apache-2.0
"""postmap and postalias side by side with Debian's: same sources, keys and messages; same answers, status and warnings; and each
reads what the other has built.

The reference is Debian's postfix, postfix-lmdb, postfix-cdb and postfix-pcre, fetched with apt-get and unpacked in a temporary directory.
Where they cannot be had the tests fail.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import quick

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "scenario"))
from instance import reachable_directory  # noqa: E402

STAGE = pathlib.Path(os.environ.get("POSTRIDER_STAGE", pathlib.Path(__file__).parents[2] / "build/test/stage"))
PACKAGES = ["postfix", "postfix-lmdb", "postfix-cdb", "postfix-pcre"]
FILE_TYPES = ["hash", "btree", "lmdb", "cdb"]
SUFFIX = {"hash": "db", "btree": "db", "lmdb": "lmdb", "cdb": "cdb"}


def unpack(where):
    """Debian's packages below where; POSTRIDER_REFERENCE_PACKAGES may name a directory that holds them."""
    given = os.environ.get("POSTRIDER_REFERENCE_PACKAGES")
    if given:
        debs = [next(pathlib.Path(given).glob(f"{name}_*.deb")) for name in PACKAGES]
    else:
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=where, check=True, capture_output=True, timeout=120)
        debs = list(where.glob("*.deb"))
    for deb in debs:
        subprocess.run(["dpkg", "-x", deb, where / "root"], check=True, capture_output=True, timeout=60)
    quick.build(where / "root")
    return where / "root"


def common(text):
    """The warnings, without what is ours on purpose: the line's number where Postfix has none, and what becomes of the line."""
    found = []
    for line in text.splitlines():
        if "warning:" not in line:
            continue
        line = line.split("warning: ", 1)[1]
        line = re.sub(r"( -- ignoring this line|: skipping this entry)$", "", line)
        line = re.sub(r"^\S+, line \d+: (duplicate entry|logical line must)", r"\1", line)
        line = re.sub(r"^\S+: (duplicate entry|logical line must)", r"\1", line)
        line = line.replace(".db: ", ": ").replace(".lmdb: ", ": ").replace(".cdb: ", ": ")
        found.append(line)
    return found


class Both:
    def __init__(self, root, where):
        self.root = root
        self.dirs = {}
        for side in ("theirs", "ours"):
            self.dirs[side] = where / side
            self.dirs[side].mkdir()
            shlib = root / "usr/lib/postfix"
            (self.dirs[side] / "main.cf").write_text(
                f"compatibility_level = 3.6\nmail_owner = daemon\nsetgid_group = games\n"
                f"meta_directory = {self.dirs[side]}\nshlib_directory = {shlib}\n")
            (self.dirs[side] / "dynamicmaps.cf").write_text(
                "lmdb\tpostfix-lmdb.so\tdict_lmdb_open\tmkmap_lmdb_open\n"
                "cdb\tpostfix-cdb.so\tdict_cdb_open\tmkmap_cdb_open\npcre\tpostfix-pcre.so\tdict_pcre_open\n")
            for name in ("main.cf", "dynamicmaps.cf"):  # as put() does
                os.utime(self.dirs[side] / name, (1, 1))

    def put(self, name, text):
        for path in self.dirs.values():
            (path / name).write_bytes(text.encode() if isinstance(text, str) else text)
            os.utime(path / name, (1, 1))  # Debian's waits until the source is a second old

    def run(self, side, args, stdin=b"", program="postmap", env=None):
        base = {"PATH": os.environ["PATH"], "MAIL_CONFIG": str(self.dirs[side]), **(env or {})}
        if side == "theirs":
            base["LD_PRELOAD"] = str(self.root / "quick.so")
            base["LD_LIBRARY_PATH"] = str(self.root / "usr/lib/postfix")
            path = self.root / "usr/sbin" / program
        else:
            base |= {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
            path = STAGE / "sbin" / program
        done = subprocess.run([path, *args], cwd=self.dirs[side], env=base, timeout=60, capture_output=True,
                              input=stdin.encode() if isinstance(stdin, str) else stdin)
        return done.returncode, done.stdout, common(done.stderr.decode("utf-8", "replace"))

    def same(self, args, stdin=b"", program="postmap", sort=False, warnings=True, env=None):
        theirs, ours = (self.run(side, args, stdin, program, env) for side in ("theirs", "ours"))
        order = (lambda out: sorted(out.splitlines())) if sort else (lambda out: out)
        assert (ours[0], order(ours[1])) == (theirs[0], order(theirs[1]))
        if warnings:
            assert ours[2] == theirs[2]
        return theirs

    def swap(self, name):
        """Each gets the file that the other has made."""
        one, two = (path / name for path in self.dirs.values())
        spare = one.with_suffix(".spare")
        one.rename(spare)
        two.rename(one)
        spare.rename(two)


@pytest.fixture(scope="module")
def reference():
    where = reachable_directory()
    try:
        root = unpack(where)
    except (subprocess.SubprocessError, StopIteration, OSError) as error:
        pytest.fail(f"no reference: Debian's postfix packages cannot be fetched: {error}; "
                    "POSTRIDER_REFERENCE_PACKAGES may name a directory with them")
    yield root
    shutil.rmtree(where, ignore_errors=True)


@pytest.fixture
def both(reference, tmp_path):
    return Both(reference, tmp_path)


# --- sources of tables --------------------------------------------------------------------------------------

SOURCES = {
    "plain": "a 1\nb two words\nc\t3\n",
    "no line feed at the end": "a 1\nb 2",
    "empty": "",
    "comments": "# one\na 1\n  # inner\nb 2 # not a comment\n#c 3\n",
    "continued": "a 1\n  more\n\n  after empty\n# comment\n\tafter comment\nb 2\n",
    "spaces at ends": "a 1  \n  more \nb\t 2\t\n",
    "starts continued": "  x y\na 1\n",
    "only continued": "  x y\n",
    "carriage returns": "a 1\r\nb 2\r\n\r\nc 3\r\n",
    "vertical white space": "a 1\n\vmore\n\fmore\nb\f2\nc\v3\n",
    "no value": "a\nb \nc 3\n",
    "colon": "a: 1\n: 2\nb 3:\n",
    "colon without value": "a:\nb 1\n",
    "duplicates": "a 1\nb 2\na 3\nA 4\n",
    "upper case": "ABC Def\nUser@Example.COM X@Y\n",
    "quoted key": '"a b" 1\n"c"d 2\n"e f"@g 3\n',
    "quotes in key": 'a"b c"d 1\nx"y" 2\n"p\\" q" 3\n',
    "unbalanced": '"a b 1\nc 2\nd"e 3\n',
    "backslash": "a\\ b 1\nc\\\\ 2\n\\d 3\ne\\\n",
    "empty quotes": '"" 1\na 2\n',
    "quoted value": 'a "x y"\nb "x\nc x"\n',
    "not UTF-8": b"a 1\n\xff 2\nb \xff\nc\xc3 3\n",
    "UTF-8": "\u00e9t\u00e9 1\n\u00c9COLE 2\n\u65e5\u672c 3\n\u03a3\u03c2 4\n\u00df 5\n\u0416 6\n",
    "NUL": b"a 1\nb\0c 2\nd 3\n",
    "addresses": "joe@example.com a\n@example.com b\njoe+x@example.com c\n.example.com d\n10.0.0 e\n[::1] f\n",
    "long value": "a " + "x" * 5000 + "\nb 1\n",
    "many continuations": "a 0\n" + "".join(f" {i}\n" for i in range(200)),
    "hash in value": "a #1\nb x#y\n",
    "tabs": "a\t\t1\tx\n\tb\n",
    "only spaces": "   \n\t\na 1\n \n",
    "empty key in angle": "<> null\n",
    "many rows": "".join(f"key{i} value {i}\n" for i in range(2000)),
}
KEYS = ["a", "A", "b", "c", "d", "x", "abc", "ABC", "user@example.com", '"a b"', "a b", '"c"d', '"e f"@g', 'a"b c"d', "a\\ b", "c\\\\", "\\d",
        "a:", ":", "", '""', "\u00e9cole", "\u00c9COLE", "\u00e9t\u00e9", "\u03c3\u03c3", "\u03a3\u03a3", "ss", "\u00df", "\u0436", "key77", "key1999", "<>",
        "10.0.0", "[::1]", "@example.com", "nosuch", " a", "a ", "e\\", "k" * 600]


def build_all(both, kind, sources, program="postmap"):
    """All sources in one run: the warnings name the table."""
    tables = {}
    for number, (name, text) in enumerate(sources.items()):
        both.put(f"t{number}", text)
        tables[name] = f"{kind}:t{number}"
    both.same(list(tables.values()), program=program)
    return tables


def ask_all(both, tables, keys, program="postmap", **how):
    answers = {}
    for name, spec in tables.items():
        try:
            answers[name] = both.same(["-q", "-", spec], keys, program=program, **how)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
    return answers


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_build(both, kind):
    tables = build_all(both, kind, SOURCES)
    # the empty key ends Debian's on lmdb
    keys = "".join(f"{k}\n" for k in KEYS if k or kind != "lmdb")
    answers = ask_all(both, tables, keys)
    for number in range(len(tables)):
        both.swap(f"t{number}.{SUFFIX[kind]}")
    if kind == "cdb":  # which Debian's cannot list
        assert ask_all(both, tables, keys) == answers
    else:
        for spec in tables.values():  # Debian's lists the first one only
            both.same(["-s", spec], sort=True)


def test_texthash(both):
    tables = {}
    for number, (name, text) in enumerate(SOURCES.items()):
        both.put(f"t{number}", text)
        tables[name] = f"texthash:t{number}"
    for spec in tables.values():
        both.same(["-s", spec], sort=True, warnings=False)
    keys = "".join(f"{k}\n" for k in KEYS)
    for name, spec in tables.items():
        theirs, ours = (both.run(side, ["-q", "-", spec], keys) for side in ("theirs", "ours"))
        assert (name, ours[:2]) == (name, theirs[:2])
        assert (name, set(ours[2])) == (name, set(theirs[2]))


@pytest.mark.parametrize("kind", ["hash", "lmdb"])
@pytest.mark.parametrize("flags", [["-f"], ["-u"], ["-r"], ["-w"], ["-N"], ["-n"], ["-p"], ["-o"], ["-fu"], ["-v"]], ids="".join)
def test_flags(both, kind, flags):
    both.put("t", "A 1\na 2\nB 3\nb 4\nB 5\nc 6\n" + ("\u00c9 7\n" if "-u" in flags else ""))
    both.same([*flags, f"{kind}:t"])
    keys = "A\na\nB\nb\nc\nC\n\u00c9\n\u00e9\n"
    both.same(["-q", "-", f"{kind}:t"], keys)
    both.same([*[f for f in flags if f in ("-f", "-u", "-fu")], "-q", "-", f"{kind}:t"], keys)
    both.swap(f"t.{SUFFIX[kind]}")
    both.same(["-q", "-", f"{kind}:t"], keys)


@pytest.mark.parametrize("kind", ["hash", "btree", "lmdb"])
@pytest.mark.parametrize("flags", [["-i"], ["-ir"], ["-iw"], ["-if"]], ids="".join)
def test_increment(both, kind, flags):
    both.put("t", "a 1\nb 2\n")
    both.same([f"{kind}:t"])
    both.same([*flags, f"{kind}:t"], "a 9\nc 3\nA 8\nd\n")
    both.same(["-s", f"{kind}:t"], sort=True)
    both.same(["-d", "b", f"{kind}:t"])
    both.same(["-d", "b", f"{kind}:t"])
    both.same(["-d", "-", f"{kind}:t"], "nosuch\nA\n")
    both.same(["-d", "-", f"{kind}:t"], "nosuch\n")
    both.same(["-s", f"{kind}:t"], sort=True)
    both.swap(f"t.{SUFFIX[kind]}")
    both.same(["-i", f"{kind}:t"], "z 26\n")
    both.same(["-s", f"{kind}:t"], sort=True)


def test_increment_makes_the_table(both):
    for kind in ("hash", "lmdb"):
        both.same(["-i", f"{kind}:new"], "a 1\n")
        both.same(["-q", "a", f"{kind}:new"])


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o666, 0o755, 0o400, 0o444, 0o664])
def test_mode(both, mode):
    for flags in ([], ["-p"]):
        names = [f"{kind}{''.join(flags)}" for kind in FILE_TYPES if kind != "btree"]
        for name in names:
            both.put(name, "a 1\n")
            for path in both.dirs.values():
                (path / name).chmod(mode)
        both.same([*flags, *(f"{name.split('-')[0]}:{name}" for name in names)])
        for name in names:
            assert len({(path / f"{name}.{SUFFIX[name.split('-')[0]]}").stat().st_mode for path in both.dirs.values()}) == 1


# --- tables that are not built ------------------------------------------------------------------------------

ASKED = [
    ("unionmap:{static:a,static:b}", "x"), ("unionmap:{static:{a b},inline:{x=1}}", "x"), ("unionmap:{}", "x"),
    ("unionmap:static:a", "x"), ("unionmap:{static:a", "x"), ("unionmap:{nosuch:a}", "x"),
    ("unionmap:{inline:{a=1} inline:{x=2},inline:{x=3}}", "x"), ("unionmap:{inline:{a=1}}", "x"),
    ("unionmap:{ static:a }", "x"), ("unionmap:{{static:a}}", "x"), ("unionmap:{static:a}x", "x"), ("unionmap:{static:}", "x"),
    ("unionmap:{static:a,fail:b}", "x"), ("unionmap:{inline:{x=1},unionmap:{static:2,static:3}}", "X"),
    ("pipemap:{inline:{x=y},inline:{y=z}}", "x"), ("pipemap:{inline:{x=y},inline:{w=z}}", "x"), ("pipemap:{}", "x"),
    ("pipemap:{inline:{x=Y},inline:{y=z}}", "X"), ("pipemap:{static:a,fail:b}", "x"), ("pipemap:{inline:{a=b},fail:b}", "x"),
    ("pipemap:{static:a}", "x"), ("pipemap:static:a", "x"),
    ("randmap:{one}", "x"), ("randmap:{}", "x"), ("randmap:x", "x"), ("randmap:{a,a a}", "x"), ("randmap:{{a b}}", "x"),
    ("randmap:{ same, same }", ""),
    ("environ:", "path"), ("environ:x", "low"), ("environ:x", "LOW"), ("environ:x", "nosuch"), ("environ:x", "PATH"), ("environ:x", "nil"),
    ("internal:x", "x"), ("internal:", "x"),
    ("static:a", "x"), ("static:a", ""),
    ("cidr:{ {10.0.0.0/8 ten}, {::/0 six} }", "10.1.2.3"), ("cidr:{{10.0.0.0/8 ten}{::/0 six}}", "::1"), ("cidr:{}", "10.1.2.3"),
    ("cidr:{ {if 10.0.0.0/8} {10.1.0.0/16 in} {endif} {!10.0.0.0/8 out} }", "10.1.2.3"), ("cidr:{10.0.0.0/8}", "10.1.2.3"),
    ("regexp:{ {/(x)/ $1$1}, {/y/ z} }", "axb"), ("regexp:{ {/(x)/ $1$1}, {/y/ z} }", "y"), ("regexp:{ {  /y{2}/ {z} z  } }", "yy"),
    ("regexp:{ {# none}, {/x/ a} }", "x"), ("regexp:{ /x/ }", "x"), ("regexp:{ {/x/ a} more }", "x"), ("regexp:{ {/x/ a}", "x"),
    ("pcre:{ {/(?<=x)y/i $$1} }", "XY"), ("pcre:{{/x/ {a b}}}", "x"), ("unionmap:{regexp:{{/x/ a}},pcre:{{/x/ b}}}", "x"),
]


@pytest.mark.parametrize("spec,key", ASKED, ids=lambda v: v.replace(" ", "_"))
def test_ask(both, spec, key):
    both.same(["-q", key, spec], env={"low": "l", "nil": ""})


@pytest.mark.parametrize("spec", ["inline:{b=1,a=2}", "internal:x", "static:a", "environ:x", "unix:passwd.byname", "unionmap:{inline:{a=1}}",
                                  "pipemap:{static:a}", "randmap:{a}", "fail:x", "regexp:none", "cidr:none", "nosuch:x", "hash:none"])
def test_list(both, spec):
    both.same(["-s", spec], sort=True)


@pytest.mark.parametrize("args", [["-mq", "k", "static:x"], ["-hq", "k", "static:x"], ["static:x"], ["texthash:t"], ["regexp:t"], ["internal:x"], ["inline:{a=b}"], ["hash:nofile"], ["nosuch:x"],
                                  ["-i", "static:x"], ["-i", "cdb:t"], ["-i", "regexp:t"], ["-d", "a", "static:x"], ["-d", "a", "cdb:t"],
                                  ["-d", "a", "texthash:t"], ["-d", "a", "hash:nofile"], ["-d", "a", "internal:x"], ["-d", "-", "inline:{a=1}"],
                                  ["-d", "a", "fail:x"], ["-d", "a", "nosuch:x"]], ids=" ".join)
def test_refuse(both, args):
    both.put("t", "a 1\n")
    assert both.same(args, "x y\n", warnings=False)[0] == 1


# --- patterns -----------------------------------------------------------------------------------------------

PATTERNS = {
    "simple": "/^a/ one\n/B/ two\n/c$/ three\n",
    "groups": "/^(.*)-(.*)@(.*)$/ ${1} $2 $(3)\n/(x)(y)?/ [$1][$2]\n",
    "dollars": "/^a/ $$1\n/^b(.)/ $1$1\n",
    "negated": "!/^a/ not a\n/a/ a\n",
    "if": "if /^a/\n/b/ ab\n/c/ ac\nendif\n/./ any\n",
    "if not": "if !/^a/\n/./ not a\nendif\n/./ a\n",
    "nested": "if /a/\nif /b/\n/c/ abc\nendif\n/d/ ad\nendif\n/c/ c\n",
    "case": "/ABC/ folded\n/abd/i exact\n",
    "continued": "/a/\n one\n  two\n/b/ three\n",
    "delimiters": "|a/b| slash\n,c, comma\n",
    "escaped": "/a\\/b/ slash\n/\\./ dot\n",
    "comments": "# c\n/a/ one # two\n\n/b/ #\n",
}
PATTERN_KEYS = ["a", "b", "c", "ab", "abc", "ABC", "abd", "ABD", "acd", "x", "xy", "a-b@c", "A-B@C", "a/b", "", ".", "Subject: a spam", "X-Foo: 1", "\u00e9", "bb", ","]


@pytest.mark.parametrize("kind", ["regexp", "pcre"])
@pytest.mark.parametrize("table", PATTERNS, ids=lambda s: s.replace(" ", "-"))
def test_patterns(both, kind, table):
    both.put("t", PATTERNS[table])
    both.same(["-q", "-", f"{kind}:t"], "".join(f"{k}\n" for k in PATTERN_KEYS if "$0" not in PATTERNS[table] or k))


# --- messages -----------------------------------------------------------------------------------------------

MESSAGES = {
    "plain": "Subject: a\nFrom: b\n\nbody\n second\n\nlast\n",
    "folded": "Received: from a\n\tby b; date\nSubject: c\n  d\n\nbody\n",
    "no body": "Subject: a\n",
}


@pytest.mark.parametrize("flags", ["-h", "-b", "-hm", "-bm", "-bhm", "-bU"])
@pytest.mark.parametrize("message", MESSAGES, ids=lambda s: s.replace(" ", "-"))
def test_message(both, flags, message):
    both.put("t", "/(.*)/ <$1>\n" if message != "not UTF-8" else "/^./ found\n/^$/ empty\n")
    both.same([flags, "-q", "-", "regexp:t"], MESSAGES[message])


# --- aliases ------------------------------------------------------------------------------------------------

ALIASES = {
    "plain": "root: joe\npostmaster: root, jim\n",
    "quoted": '"quoted name": x\n"q, x" : y\n"user@dom": x\n"a"b: x\n"a" "b": x\n',
    "continued": 'root: joe, "a b"@c\n  more\n\n  still\nx: y\n',
    "upper case": "Root: JOE\nROOT: jim\n",
    "no value": "a:\n: b\nc d\n",
    "not local": "user@dom: x\nx@: y\n@x: y\n",
    "words": "a b: two\na,b: comma\n<x>: angle\n(c) com: x\n",
    "colons": "a:b:c\nb : c\ng:a,b;: x\n",
    "special": "incl: :include:/x\npipe: \"|cmd \\\"a\\\" b\"\nfile: /x/y\nbare: |cmd a b\n",
    "commas": "a: x,,y, ,z,\nb: ,\nc: x ,y\n",
    "open": '"unterm: x\nk:"v\nc: (x\nd: [x\n',
    "backslash": "\\root: x\na\\b: c\nd: user\\ name\ne: \\\"x y\\\"\n",
    "comments": "a: b (c d) e\nf: (g (h)) i\n",
    "addresses": "a: b@c, \"d e\"@f, <g@h>\ni: j@[1.2.3.4]\nk: l . m\nn: o @ p\nq: r > s < t\nu: <>\n",
    "quotes": 'a: "a\\"b\\\\" , c\nb: ""\nc: x"y"z\nd: "tab\tin"  x\n',
    "UTF-8": "\u00e9: x\n\u00c9t: \u00e9 \"\u00e9 \u00e9\"\n",
    "not UTF-8": b"a: x\n\xff: y\nb: \xff\n",
    "duplicates": "a: 1\nb: 2\nA: 3\n",
    "starts continued": "  a: b\nc: d\n",
    "hash": "a: =?x?= #c\nb: #\n",
}


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_aliases(both, kind):
    tables = build_all(both, kind, ALIASES, program="postalias")
    keys = ("root\nROOT\npostmaster\nquoted name\nq, x\nuser@dom\nab\na b\na\nb\nc\nd\ne\nf\ng\nk\nn\nq\nincl\npipe\nfile\nbare\n@\n"
            "YP_MASTER_NAME\nnosuch\n\u00e9\n\u00e9t\n")
    answers = ask_all(both, tables, keys, program="postalias")
    for number in range(len(tables)):
        both.swap(f"t{number}.{SUFFIX[kind]}")
    assert ask_all(both, tables, keys, program="postalias") == answers
