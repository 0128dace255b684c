# SPDX-License-Identifier: Apache-2.0
"""What an ordinary user may do with the queue; and whose its files are: found by postfix check, set right by postsuper -s."""
import grp
import os
import pwd
import re
import shutil
import subprocess

import pytest
from instance import STAGE, wait_for
from test_instances import host  # noqa: F401  a fixture

NOBODY = 65534


class User:
    """Commands as an ordinary user, with the set-gid bits of set-permissions."""

    def __init__(self, host):
        self.sbin = host.root / "sbin"
        shutil.copytree(STAGE / "sbin", self.sbin, symlinks=True)
        host.run("postconf", "-e", f"command_directory={self.sbin}", "relayhost=", "default_transport=retry:later", "transport_retry_time=1h")
        host.run("postfix", "set-permissions")
        sanitizers = {name: value for name, value in ({"ASAN_OPTIONS": ""} | dict(os.environ)).items() if name.endswith("SAN_OPTIONS")}
        if sanitizers["ASAN_OPTIONS"]:
            sanitizers["ASAN_OPTIONS"] += ":detect_leaks=0"  # where the user changes, the leak checker may not look at the process
        self.prefix = ["nsenter", "-t", host.inside, "-m", "-p", "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env", "-i",
                       *(f"{name}={value}" for name, value in sanitizers.items())]

    def run(self, command, *args, input=""):
        return subprocess.run([*self.prefix, self.sbin / command, *args], input=input, capture_output=True, text=True, timeout=60)

    def send(self, subject):
        done = self.run("sendmail", "-f", "me@example.test", "x@far.test", input=f"Subject: {subject}\n\nx\n")
        assert done.returncode == 0, done


def test_ordinary_user(host):  # noqa: F811
    user = User(host)
    host.run("postfix", "start")
    user.send("one")
    # while it is in maildrop/ it has another id
    wait_for("the mail in the queue", lambda: '"queue_name": "maildrop"' not in user.run("postqueue", "-j").stdout
             and "x@far.test" in user.run("postqueue", "-p").stdout)
    (queue_id,) = re.findall(r"^([0-9A-F]{6,})", user.run("postqueue", "-p").stdout, re.M)
    assert user.run("postqueue", "-j").returncode == 0 and user.run("postqueue", "-f").returncode == 0
    assert user.run("postqueue", "-i", queue_id).returncode == 0
    # sendmail -bp and -q go the same way
    assert queue_id in user.run("sendmail", "-bp").stdout and user.run("sendmail", "-q").returncode == 0

    for args, what in ((["-d", queue_id], "postsuper"), (["-h", "ALL"], "postsuper"), (["-s"], "postsuper")):
        done = user.run("postsuper", *args)
        assert done.returncode != 0 and "fatal: use of this command is reserved for the superuser" in done.stderr, (what, done)
        assert len(done.stderr.splitlines()) == 1, done
    done = user.run("postcat", "-q", queue_id)
    assert done.returncode != 0 and "x@far.test" not in done.stdout and re.search("Permission denied|not allowed|superuser", done.stderr), done
    assert len(done.stderr.splitlines()) == 1, done
    spool = host.root / "spool/postfix"
    for path in ("journal", "deferred", "maildrop"):
        assert subprocess.run([*user.prefix, "ls", spool / path], capture_output=True, check=False).returncode != 0, path

    host.run("postconf", "-e", "authorized_mailq_users=!nobody, static:anyone", "authorized_flush_users=root", "authorized_submit_users=root")
    for args, what in ((["-p"], "view"), (["-j"], "view"), (["-f"], "flush"), (["-i", queue_id], "flush"), (["-s", "far.test"], "flush")):
        done = user.run("postqueue", *args)
        assert done.returncode == 77 and done.stdout == "", done  # EX_NOPERM
        assert f"fatal: User nobody({NOBODY}) is not allowed to {what} the mail queue" in done.stderr, done
    done = user.run("sendmail", "x@far.test", input="\n")
    assert done.returncode != 0 and f"User {NOBODY}" in done.stderr and "not allowed to submit mail" in done.stderr, done
    assert queue_id in host.run("postqueue", "-p")  # root may


def test_ordinary_user_sees_maildrop(host):  # noqa: F811
    """What pickup has not fetched yet is in the list of a running system, for everybody: postqueue's group may read that directory."""
    user = User(host)
    master = host.etc / "postfix/master.cf"
    master.write_text(master.read_text().replace("pickup unix n - n 60 1 pickup\n", ""))
    host.run("postfix", "start")
    user.send("one")
    spool = host.root / "spool/postfix"
    (name,) = os.listdir(spool / "maildrop")
    for who in (user.run("postqueue", "-p").stdout, host.run("postqueue", "-p")):
        assert "x@far.test" in who and "me@example.test" in who, who
    st = (spool / "maildrop" / name).stat()
    assert st.st_uid == NOBODY and st.st_mode & 0o077 & ~0o040 == 0, oct(st.st_mode)
    assert subprocess.run([*user.prefix, "ls", spool / "maildrop"], capture_output=True, check=False).returncode != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_groups_of_daemons(instance, sink):
    """setgid_group, whose members may read what lies in maildrop/, is pickup's and qmgr's, and nobody's who reads bytes from the network."""
    inst = instance(main={"relayhost": f"[127.0.0.1]:{sink().port}"})
    inst.run("sendmail", "-f", "s@example.org", "x@far.test", input="Subject: x\n\nx\n")
    inst.send("x@far.test")
    wait_for(inst.log, lambda: inst.log().count("status=sent") == 2)
    owner, group = pwd.getpwnam("daemon"), grp.getgrnam("games").gr_gid
    members = set()
    for pid, program in inst.pids().items():
        if program == "master":
            continue
        with open(f"/proc/{pid}/status") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        assert set(status["Uid"].split()) == {str(owner.pw_uid)} and set(status["Gid"].split()) == {str(owner.pw_gid)}, (program, status)
        if str(group) in status["Groups"].split():
            members.add(program)
    assert members == {"pickup", "qmgr"} and {"smtpd", "cleanup", "smtp"} <= set(inst.pids().values())


@pytest.mark.skipif(os.geteuid() != 0, reason="owners are root's to change")
def test_owners_and_modes(instance, sink):
    closed = sink(reply=lambda verb, argument, number: b"450 4.2.0 not now\r\n" if verb == "RCPT" and not hop["open"] else None)
    hop = {"open": False}
    inst = instance(main={"relayhost": f"[127.0.0.1]:{closed.port}", "journal_large_message_size": "20000", "minimal_backoff_time": "1s",
                          "maximal_backoff_time": "2s", "default_destination_concurrency_failed_cohort_limit": "0"})
    inst.send("a@far.test")
    inst.send("b@far.test", body="x" * 70 + "\n" + "large\n" * 10000)
    inst.send("c@far.test")
    wait_for("attempts", lambda: inst.log().count("status=deferred") >= 3)
    inst.run("postsuper", "-h", re.search(r"(\w+): to=<c@far.test>", inst.log())[1])
    wait_for("files of their own", lambda: len(list(inst.spool.glob("deferred/*/*"))) == 2)
    assert "postsuper" not in inst.run("postfix", "check").stderr  # as it is made, all is right
    inst.stop()
    owner = pwd.getpwnam("daemon")
    (held,), (large,), deferred = inst.spool.glob("hold/*"), inst.spool.glob("large/*"), sorted(inst.spool.glob("deferred/*/*"))
    os.chown(held, 0, 0)  # from a backup
    os.chmod(large, 0o644)
    os.chown(deferred[0].parent, NOBODY, 0)
    os.chmod(deferred[1].parent, 0o755)
    foreign = inst.root / "foreign"
    foreign.write_text("somebody else's\n")
    os.link(foreign, inst.spool / "corrupt/linked")
    os.symlink(foreign, inst.spool / "corrupt/symbolic")

    said = inst.run("postfix", "check", check=False).stderr
    wanted = {held: rf"belonged to user 0 and group 0, not to {owner.pw_uid} and {owner.pw_gid}", large: r"had mode 0644, not 0600",
              deferred[0].parent: rf"belonged to user {NOBODY} and group 0", deferred[1].parent: r"had mode 0755, not 0700"}
    for path, what in wanted.items():
        assert re.search(rf"warning: {path} {what}.*postsuper -s", said), (path, said)
    assert held.stat().st_uid == 0  # it only looks

    said = inst.run("postsuper", "-s").stderr
    for path, what in wanted.items():
        assert re.search(rf"warning: {path} {what}.*: set right", said), (path, said)
        st = path.stat()
        assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (owner.pw_uid, owner.pw_gid, 0o700 if path.is_dir() else 0o600), path
    # a hard link may be a trap: root would give away whatever it is
    assert "corrupt/linked has another name elsewhere, and is left alone" in said and foreign.stat().st_uid == 0
    assert "corrupt/symbolic is neither a file nor a directory, and is left alone" in said
    assert re.search(r"owners and modes: \d+ looked at, 6 wrong, 4 of them set right", said) and "is in order: 3 messages" in said, said
    (inst.spool / "corrupt/linked").unlink()
    (inst.spool / "corrupt/symbolic").unlink()
    said = inst.run("postsuper", "-s").stderr
    assert "warning" not in said and "owners" not in said, said
    hop["open"] = True
    inst.start()
    inst.run("postsuper", "-H", "ALL")
    inst.wait_empty()
    assert len(closed.messages) == 3
