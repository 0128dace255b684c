# SPDX-License-Identifier: Apache-2.0
"""postconf side by side with Debian's: same files, same arguments, same output, status, and edited files.

The reference is the tree that POSTRIDER_REFERENCE names (an unpacked postfix package); without it the package is fetched
with apt-get and unpacked in a temporary directory. Where neither works the tests fail.
"""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

import pytest
import quick
from postconf_cases import CASES, LATER, STRICTER, WARNINGS_DIFFER

STAGE = pathlib.Path(os.environ.get("POSTRIDER_STAGE", pathlib.Path(__file__).parents[2] / "build/test/stage"))
DATA = pathlib.Path(__file__).parents[1] / "data"

MAIN_CF = """\
# comment
myhostname = mail.example.com

mydestination = $myhostname,
   localhost
# inner comment

\tfoo.example
foo=bar
used = 1
relayhost = [x]:$used
compatibility_level=3.6
smtpd_hard_error_limit = ${stress?{1}:{20}}
a_service_destination_recipient_limit = 3
relay_destination_recipient_limit = 4
myhostname = mail2.example.com
smtpd_restriction_classes = cls, cls2
cls = reject
mynetworks = 127.0.0.0/8 [::1]/128
virtual_alias_maps = hash:/etc/x ldap:myldap
myldap_server_host = foo
myldap_bogus = foo
two = ${{$compatibility_level} <level {3.6} ? {old} : {new}} $$ $(used)   ${nothing?{x}:{y}}
myorigin = $two
long = aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb, ccccccccccccccccccccccccccccc ddddddddddddd
mail_name = $long
"""

MASTER_CF = """\
smtp      inet  n       -       y       -       -       smtpd
# c
#smtps    inet  n       -       y       -       -       smtpd
submission inet n       -       y       -       -       smtpd
  -o syslog_name=postfix/submission -o smtpd_tls_security_level=encrypt
  -o { smtpd_client_restrictions = permit_sasl_authenticated, reject }
  -o mydestination=$used

127.0.0.1:10025 inet n - - - 10 smtpd -v
pickup    unix  n       -       y       60      1       pickup
qmgr      unix  n       -       n       300?     1       qmgr
relay     unix  -       -       y       -       -       smtp
        -o syslog_name=postfix/$service_name
scache-with-a-long-name unix-dgram - - n - 1 scache
runner    unix  -       n       n       -       0       spawn user=nobody argv=/bin/sh -c {a b}
maildrop  unix  -       n       n       -       -       pipe
  flags=DRXhu user=vmail argv=/usr/bin/maildrop -d ${recipient} aaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbb
"""

# The rows whose defaults are meant to differ, and why; all others are equal.
OWN_VALUES = {
    "command_directory": "the staged tree's",
    "daemon_directory": "the staged tree's",
    "sendmail_path": "the staged tree's",
    "process_id": "another process",
    "smtpd_forbid_bare_newline": "normalize, as in current releases",
    "alias_maps": "no NIS",
    "local_recipient_maps": "contains alias_maps",
    "proxy_read_maps": "contains alias_maps",
}


def unpack(where):
    """Debian's package below where; its root, or None."""
    given = os.environ.get("POSTRIDER_REFERENCE")
    if given:
        return pathlib.Path(given)
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        return None
    try:
        subprocess.run(["apt-get", "download", "postfix"], cwd=where, check=True, capture_output=True, timeout=60)
        package = next(where.glob("postfix_*.deb"))
        subprocess.run(["dpkg", "-x", package, where / "root"], check=True, capture_output=True, timeout=60)
    except (subprocess.SubprocessError, StopIteration, OSError):
        return None
    return where / "root"


class Pair:
    """The same directory twice, one for each postconf."""

    def __init__(self, root, where, preload):
        self.root, self.preload = root, preload
        self.dirs = {"theirs": where / "a", "ours": where / "b"}  # of one length, as lines are folded
        for path in self.dirs.values():
            path.mkdir(parents=True)
        self.write(MAIN_CF, MASTER_CF)

    def write(self, main_cf, master_cf):
        """Files of a minute ago: Debian's waits for those that may still be written."""
        for path in self.dirs.values():
            for name, text in (("main.cf", main_cf), ("master.cf", master_cf)):
                (path / name).write_bytes(text.encode())
                os.utime(path / name, (time.time() - 60,) * 2)

    def run(self, side, args):
        # without LANG and the like, and without a MAIL_CONFIG of the caller's
        env = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(self.root / "usr/lib/postfix"), "LD_PRELOAD": str(self.preload)}
        program = self.root / "usr/sbin/postconf" if side == "theirs" else STAGE / "sbin/postconf"
        if side == "ours":
            env = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")} | {"PATH": os.environ["PATH"]}
        done = subprocess.run(
            [program, "-c", self.dirs[side], *args], env=env, capture_output=True, text=True, timeout=60)
        out = done.stdout.replace(str(self.dirs[side]), "DIR")
        text = done.stderr.replace(str(program) + ":", "postconf:").replace(str(self.dirs[side]), "DIR")
        # Debian's looks at the file several times, and warns each time, of the other entry too; the order of names is that
        # of a hash table.
        warnings = {line for line in text.splitlines()
                    if "not yet effective" not in line and "line 2: overriding" not in line}
        return done.returncode, out, warnings

    def files(self, side):
        return {name: (self.dirs[side] / name).read_text() for name in ("main.cf", "master.cf")}


@pytest.fixture(scope="module")
def reference():
    # below /tmp itself: its daemons must reach it, and pytest closes its own directory to them with each run
    where = pathlib.Path(tempfile.mkdtemp(prefix="postfix-package-"))
    where.chmod(0o755)
    root = unpack(where)
    if root is None or not (root / "usr/sbin/postconf").exists():
        pytest.fail("no reference: Debian's postfix package cannot be fetched or run; POSTRIDER_REFERENCE may name an unpacked one")
    yield root
    shutil.rmtree(where, ignore_errors=True)


@pytest.fixture(scope="module")
def preload(tmp_path_factory):
    return quick.build(tmp_path_factory.mktemp("quick"))


@pytest.fixture
def pair(reference, tmp_path, preload):
    return Pair(reference, tmp_path, preload)


@pytest.mark.parametrize("args", [
    ["-n"], ["-nf"], ["-nx"], ["-nfx"], ["-nh"], ["-nH"], ["-nhf"],
    ["myhostname", "used", "mydestination"], ["-h", "mydestination"], ["-x", "mydestination", "two"],
    ["-d", "mydestination", "mydomain", "smtpd_hard_error_limit"], ["-dx", "mydestination", "smtpd_hard_error_limit"],
    ["-o", "relayhost=z", "relayhost"], ["-x", "-o", "stress=yes", "smtpd_hard_error_limit"],
    ["-C", "user"], ["-C", "service"], ["-C", "user,service", "-n"], ["-nC", "builtin"],
    ["-M"], ["-Mf"], ["-Mx"], ["-Mfx"], ["-M", "smtp"], ["-M", "smtp/inet"], ["-M", "*/unix"], ["-M", "nosuch"],
    ["-F"], ["-Ff"], ["-FH"], ["-F", "smtp/inet"], ["-F", "*/*/chroot"], ["-F", "maildrop/unix/command"],
    ["-P"], ["-Pf"], ["-Ph"], ["-PH"], ["-Px"], ["-P", "submission/inet/syslog_name"],
    ["-l"],
], ids=" ".join)
def test_show(pair, args):
    theirs, ours = pair.run("theirs", args), pair.run("ours", args)
    assert ours[:2] == theirs[:2]
    assert ours[2] == theirs[2]


def rows(text):
    """name -> value, folded lines included."""
    found, name = {}, None
    for line in text.splitlines():
        if line.startswith("    ") and name:
            found[name] += "\n" + line
        else:
            name, _, found[name] = line.partition(" =")
    return found


@pytest.mark.parametrize("args", [["-d"], ["-df"], ["-dx"], ["-p"], ["-x"], ["-f"]], ids=" ".join)
def test_everything(pair, args):
    """Each of Debian's rows is there with its value; what is more is newer, or our own."""
    theirs, ours = rows(pair.run("theirs", args)[1]), rows(pair.run("ours", args)[1])
    assert len(theirs) > 800
    wrong = {name: (value, ours.get(name)) for name, value in theirs.items()
             if ours.get(name) != value and name not in OWN_VALUES}
    assert wrong == {}
    later = {line.split("\t")[0] for line in (DATA / "main.cf-parameters.tsv").read_text().splitlines()
             if line.split("\t")[4] and tuple(map(int, line.split("\t")[4].split("."))) >= (3, 8)}
    known = {line.split("\t")[0] for line in (DATA / "main.cf-parameters.tsv").read_text().splitlines()}
    assert {name for name in ours if name not in theirs and name in known and name not in later} == set()


ROWS = [line.split("\t") for line in (DATA / "main.cf-parameters.tsv").read_text().splitlines()]
FAMILIES = [line.split("\t") for line in (DATA / "main.cf-transport-parameters.tsv").read_text().splitlines()]


def test_every_row(pair):
    """Asked for one by one: a row of the data is answered as Debian's does, value and refusal, or differs for a reason."""
    services = [line.split("\t") for line in (DATA / "master.cf-services-debian12.tsv").read_text().splitlines()]
    pair.write("myhostname = mx.example.com\n", "".join(" ".join(row) + "\n" for row in services))  # some rows are their families'
    names = [row[0] for row in ROWS]
    assert len(names) == len(set(names)) == 943 and set(OWN_VALUES) <= set(names)
    theirs, ours = (pair.run(side, ["-d", *names]) for side in ("theirs", "ours"))
    unknown = {line.split()[2].rstrip(":") for line in theirs[2] if line.endswith(": unknown parameter")}
    theirs, ours = rows(theirs[1]), rows(ours[1])
    absent = set(names) - set(theirs)
    assert absent == unknown & set(names)
    equal = {name for name in theirs if ours.get(name) == theirs[name]}
    assert set(theirs) - equal <= set(OWN_VALUES)
    # what Debian's does not have is newer than it or was gone before; of that ours has at most what is newer
    newer = {row[0] for row in ROWS if row[4] and tuple(map(int, row[4].split("."))) >= (3, 8)}
    gone = {row[0] for row in ROWS if row[3] == "obsolete"}
    assert absent - newer - gone == set()
    assert {name for name in absent if name in ours} - newer == set()
    print(f"{len(equal)} equal, {len(theirs) - len(equal)} with a reason, {len(absent)} not in Debian's")


def test_every_family(pair):
    """The parameters that a service brings with it: each suffix of the data, for each agent that reads it."""
    agents = ["smtp", "lmtp", "local", "virtual", "error", "discard", "pipe", "spawn"]
    pair.write("myhostname = mx.example.com\n", "".join(f"of{a} unix - n n - - {a} argv=/x user=nobody\n" for a in agents))
    theirs, ours = (rows(pair.run(side, ["-d", "-C", "service"])[1]) for side in ("theirs", "ours"))
    assert ours == theirs
    for name, default, *_ in FAMILIES:
        own = {value for service, value in theirs.items() if service in {f"of{agent}{name[1:]}" for agent in agents}}
        assert own == {f" {default}"}, name
    assert len(FAMILIES) == 17


@pytest.mark.parametrize("args", [
    ["-e", "relayhost=c"], ["relayhost=c", "mail_name="], ["-e", "header_checks=pcre:/x"], ["-e", "mydestination = a,   b "],
    ["-e", "myhostname=once"], ["-e", "relayhost=1", "relayhost=2"], ["-e", "a b=c"], ["-e", "=c"], ["-e", "relayhost"],
    ["-e", "foo=a\nb"], ["-e"], ["-e", "foo=${"],
    ["-X", "mydestination"], ["-X", "nosuch"], ["-X", "foo", "relayhost"], ["-X"],
    ["-#", "mydestination", "foo"], ["-#", "nosuch"], ["-#", " "], ["-#", "a=b"],
    ["-M#", "submission/inet"], ["-MX", "submission/inet"], ["-M#", "submission"], ["-M#", "nosuch/inet"], ["-MX"],
    ["-Me", "relay/unix=relay unix n - n - - smtp -o a=b"], ["-Me", "new/unix=new unix - - n - - pipe flags=x argv=a"],
    ["-F", "relay/unix/chroot=n"], ["-F", "pickup/unix/command=pickup -v -o x=y"], ["-F", "relay/unix/bogus=1"],
    ["-P", "relay/unix/syslog_name=x"], ["-P", "maildrop/unix/foo=bar"], ["-PX", "relay/unix/syslog_name"],
    ["-P", "nosuch/inet/foo=1"],
    ["-d", "-n"], ["-h", "-H"], ["-M", "-P"], ["-M", "-n"], ["-e", "-X", "x"], ["-d", "-e", "x=y"], ["-C", "x"],
], ids=lambda args: " ".join(args).replace("\n", "|"))
def test_edit(pair, args):
    theirs, ours = pair.run("theirs", args), pair.run("ours", args)
    assert ours[0] == theirs[0]
    assert ours[1] == theirs[1]
    assert pair.files("ours") == pair.files("theirs")
    assert bool(ours[2]) == bool(theirs[2])


@pytest.mark.parametrize("release", ["", "-debian12"], ids=["current", "debian12"])
def test_stock_services(pair, release):
    """Every stock service, those that are commented out too: shown alike, and with the same families of parameters."""
    rows_of = [line.split("\t") for line in (DATA / f"master.cf-services{release}.tsv").read_text().splitlines()]
    lines = [" ".join(row) for row in rows_of if not row[0].startswith("#")]
    taken = {tuple(line.split()[:2]) for line in lines}
    for row in (row for row in rows_of if row[0].startswith("#")):
        if (row[0][1:], row[1]) not in taken:
            taken.add((row[0][1:], row[1]))
            lines.append(" ".join(row)[1:])
    assert len(lines) > 20
    pair.write("myhostname = mx.example.com\n", "\n".join(lines) + "\n")
    for args in (["-M"], ["-Mf"], ["-F"], ["-P"]):
        theirs, ours = pair.run("theirs", args), pair.run("ours", args)
        assert ours[:2] == theirs[:2], args
        # the current release's file has a parameter that is later than the reference
        assert ours[2] == {line for line in theirs[2] if "smtpd_hide_client_session" not in line}, args
    theirs, ours = (rows(pair.run(side, ["-d", "-C", "service"])[1]) for side in ("theirs", "ours"))
    assert theirs and {name: ours.get(name) for name in theirs} == theirs


def test_number_of_cases():
    assert len(CASES) >= 150
    assert len(WARNINGS_DIFFER | dict.fromkeys(STRICTER | LATER)) < len(CASES) / 10
    assert set(WARNINGS_DIFFER) | STRICTER | LATER <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_case(pair, name):
    """A small main.cf and master.cf: shown, expanded, split, with the same warnings and status."""
    pair.write(*CASES[name])
    for args in (["-n"], ["-nx"], ["-nf"], ["-M"], ["-Mxf"], ["-P"], ["-Px"], ["-F"]):
        theirs, ours = pair.run("theirs", args), pair.run("ours", args)
        if name in STRICTER:
            assert theirs[0] == 0 and ours[0] == 1
            assert any("DIR/master.cf, line 1: " in line for line in ours[2]), args
            continue
        assert ours[0] == theirs[0], (args, ours, theirs)
        if theirs[0] != 0:
            # theirs ends, after a second's sleep; ours shows what there is, names file and line, and has the same status. What is
            # wrong in main.cf keeps theirs from showing master.cf, too, which would be no service to anybody.
            assert any(re.search(r"DIR/(main|master)\.cf, line \d+: |parameter \w+: ", line) for line in ours[2]), (args, ours, theirs)
            break
        if name in LATER:
            assert all(line in ours[1] for line in theirs[1].splitlines()), args
            continue
        assert ours[1] == theirs[1], args
        if name in WARNINGS_DIFFER:
            assert bool(ours[2]) or not theirs[2], args
        else:
            assert ours[2] == theirs[2], args


@pytest.mark.parametrize("name", sorted(p.name for p in (DATA / "configs").iterdir() if p.is_dir()))
@pytest.mark.parametrize("option", ["-n", "-M", "-P"])
def test_configurations_of_administrators(pair, name, option):
    """They are valid for Debian's, which has nothing to say of them; ours shows them alike."""
    source = DATA / "configs" / name
    text = (source / "main.cf").read_text().replace("/etc/postfix", str(source)).replace("/etc/mailname", __file__)  # any that is there
    pair.write(text, (source / "master.cf").read_text())
    theirs, ours = pair.run("theirs", [option]), pair.run("ours", [option])
    assert theirs[0] == 0 and theirs[2] == set()
    assert ours[:2] == theirs[:2]
