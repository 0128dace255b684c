# SPDX-License-Identifier: Apache-2.0
"""postconf on its own: edits that keep what they should, errors with file and line, and what Postfix's does not have."""
import os
import pathlib
import subprocess

import pytest

STAGE = pathlib.Path(os.environ.get("POSTRIDER_STAGE", pathlib.Path(__file__).parents[2] / "build/test/stage"))
POSTCONF = STAGE / "sbin/postconf"

MASTER_CF = """\
smtp inet n - n - - smtpd
# about submission
submission inet n - n - - smtpd
  -o syslog_name=postfix/submission
# inner
  -o { mydestination = a b }

relay unix - - n - - smtp
"""


class Conf:
    def __init__(self, path):
        self.path = path
        path.mkdir()
        self.main = path / "main.cf"
        self.master = path / "master.cf"
        self.main.write_text("relayhost = [a]\n")
        self.master.write_text(MASTER_CF)

    def run(self, *args, status=0):
        env = {k: v for k, v in os.environ.items() if k != "MAIL_CONFIG"}
        done = subprocess.run([POSTCONF, "-c", self.path, *args], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stderr
        return done.stdout, done.stderr


@pytest.fixture
def conf(tmp_path):
    return Conf(tmp_path / "etc")


def test_edit_keeps_mode_and_link(conf, tmp_path):
    real = tmp_path / "real.cf"
    real.write_text("# head\nrelayhost = [a]\n")
    real.chmod(0o640)
    conf.main.unlink()
    conf.main.symlink_to(real)
    conf.run("-e", "relayhost = [b]", "myorigin = x")
    assert conf.main.is_symlink()
    assert real.read_text() == "# head\nrelayhost = [b]\nmyorigin = x\n"
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in conf.path.iterdir()) == ["main.cf", "master.cf"]


def test_edit_ends_the_last_line(conf):
    conf.main.write_text("relayhost = a\n# no line end")
    conf.run("-e", "myorigin=x")
    assert conf.main.read_text() == "relayhost = a\n# no line end\nmyorigin = x\n"


def test_edit_without_change_leaves_the_file(conf):
    before = conf.main.stat()
    conf.run("-X", "nosuch")
    conf.run("-e", "relayhost=[a]")
    after = conf.main.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_edit_that_fails_leaves_the_file(conf):
    conf.run("-F", "smtp/inet/wakeup=x", status=1)
    conf.run("-Me", "smtp/inet=smtp inet n", status=1)
    conf.run("-PX", "smtp/inet", status=1)
    assert conf.master.read_text() == MASTER_CF
    conf.run("-e", "a b = c", status=1)
    assert conf.main.read_text() == "relayhost = [a]\n"


def test_edits_at_once_lose_nothing(conf):
    env = {k: v for k, v in os.environ.items() if k != "MAIL_CONFIG"}
    running = [subprocess.Popen([POSTCONF, "-c", conf.path, "-e", f"x{n} = {n}"], env=env) for n in range(12)]
    assert [p.wait(60) for p in running] == [0] * 12
    lines = conf.main.read_text().splitlines()
    assert sorted(lines[1:]) == sorted(f"x{n} = {n}" for n in range(12))


def test_edit_master_keeps_comments(conf):
    conf.run("-P", "submission/inet/mydestination=c d")
    assert conf.master.read_text() == """\
smtp inet n - n - - smtpd
# about submission
submission inet  n       -       n       -       -       smtpd
    -o syslog_name=postfix/submission
    -o {mydestination=c d}
# inner

relay unix - - n - - smtp
"""
    conf.run("-M#", "submission/inet")
    assert conf.run("-M", "submission")[0] == ""
    assert "#submission inet" in conf.master.read_text()
    assert "#    -o syslog_name" in conf.master.read_text()


def test_what_is_wrong_names_file_and_line(conf):
    conf.main.write_text("\n# c\nrelayhost\n")
    assert f"{conf.main}, line 3: missing '='" in conf.run("-n", status=1)[1]
    conf.main.write_text("relayhost = $relayhost\n")
    assert f"{conf.main}, line 1: relayhost: a parameter refers to itself" in conf.run("-x", "relayhost", status=1)[1]
    conf.main.unlink()
    assert f"{conf.main}: No such file or directory" in conf.run("-n", status=1)[1]


def test_findings(conf):
    conf.main.write_text("relayhots = x\n  more\nsmtpd_tls_loglevel = 1\nenable_long_queue_ids = maybe\n")
    out, warnings = conf.run("-n")
    assert "enable_long_queue_ids = maybe" in out
    assert f"{conf.main}: unused parameter: relayhots=x more" in warnings
    assert f"{conf.main}, line 3: parameter smtpd_tls_loglevel is not yet effective" in warnings
    assert f"{conf.main}, line 4: enable_long_queue_ids: " in warnings
    assert "relayhots: unknown parameter: did you mean relayhost?" in conf.run("relayhots")[1]
    assert "nosuchthing: unknown parameter\n" in conf.run("nosuchthing")[1]


def test_mail_config(conf):
    env = {k: v for k, v in os.environ.items()} | {"MAIL_CONFIG": str(conf.path)}
    done = subprocess.run([POSTCONF, "-n"], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"config_directory = {conf.path}\nrelayhost = [a]\n"


def test_status_counts_each_parameter_once(conf):
    out, _ = conf.run("--status")
    *lines, last = out.splitlines()
    names = [line[19:] for line in lines]
    assert len(names) == len(set(names)) > 900
    kinds = [line[:18].strip() for line in lines]
    assert last == (f"{kinds.count('effective')} effective, {kinds.count('built in')} built in, "
                    f"{kinds.count('not yet effective')} not yet effective")


def test_explain(conf):
    out, _ = conf.run("--explain", "relayhost", "myhostname")
    assert f"relayhost = [a]\n  set in {conf.main}, line 1, as: [a]\n" in out
    assert "status: effective" in out
    conf.main.write_text("relayhots = [a]\n")
    assert conf.run("--explain", "relayhots")[0].endswith("  a name of your own: did you mean relayhost?\n")
    assert "nosuchthing: unknown parameter\n" in conf.run("--explain", "nosuchthing", status=1)[1]


def test_map_types_and_locks(conf):
    types = conf.run("-m")[0].split()
    assert {"hash", "btree", "texthash", "regexp", "pcre", "cidr", "inline", "static"} <= set(types)
    assert types == sorted(types)
    assert conf.run("-l")[0] == "flock\nfcntl\ndotlock\n"


def test_manual_has_every_parameter(conf):
    page, _ = conf.run("--manual")
    names = [line[19:] for line in conf.run("--status")[0].splitlines()[:-1]]
    for name in names:
        assert f"\n\\fB{name}\\fR (default: " in page


def test_usage(conf):
    assert "usage: postconf" in conf.run("-Z", status=1)[1]
    assert "specify one of -d -n" in conf.run("-dn", status=1)[1]
    assert "requires parameter names" in conf.run("-#", status=1)[1]


def test_output_that_cannot_be_written(conf):
    with open("/dev/full", "w") as full:
        done = subprocess.run([POSTCONF, "-c", conf.path, "-d"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert "write to standard output" in done.stderr
