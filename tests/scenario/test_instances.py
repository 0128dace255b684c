# SPDX-License-Identifier: Apache-2.0
"""Several instances on one host, as postmulti(1) makes and runs them: in a mount namespace where /etc/postfix is ours."""
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest
from instance import STAGE, free_port, wait_for

MAIN_CF = """\
compatibility_level = 3.6
command_directory = {stage}/sbin
daemon_directory = {stage}/libexec/postrider
queue_directory = {root}/spool/postfix
data_directory = {root}/lib/postfix
mail_owner = daemon
setgid_group = games
myhostname = mx.example.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
maillog_file = {root}/mail.log
maillog_file_prefixes = {root}
"""


class Host:
    """A process that keeps the namespaces; commands run in them."""

    def __init__(self, root):
        self.root = root
        self.etc = root / "etc"
        self.keeper = None
        self.port = free_port()
        for d in (self.etc / "postfix", root / "spool", root / "lib"):
            d.mkdir(parents=True)
        for p in (root, *root.parents):
            if p != pathlib.Path("/"):
                os.chmod(p, os.stat(p).st_mode | 0o011)
        for name in ("passwd", "group", "nsswitch.conf", "hosts", "services", "resolv.conf", "ld.so.cache", "localtime"):
            if os.path.exists(f"/etc/{name}"):
                shutil.copy(f"/etc/{name}", self.etc / name)
        (self.etc / "postfix/main.cf").write_text(MAIN_CF.format(stage=STAGE, root=root))
        (self.etc / "postfix/master.cf").write_text(
            f"127.0.0.1:{self.port} inet n - n - - smtpd\n"
            "pickup unix n - n 60 1 pickup\ncleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\n"
            "bounce unix - - n - 0 bounce\nsmtp unix - - n - - smtp\nerror unix - - n - - error\nretry unix - - n - - error\n")
        # with a process-id namespace, everything that was started there goes with its first process
        self.keeper = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
             f"mount --bind {self.etc} /etc && echo ready && exec sleep 600"], stdout=subprocess.PIPE, text=True)
        assert self.keeper.stdout.readline() == "ready\n"
        children = pathlib.Path(f"/proc/{self.keeper.pid}/task/{self.keeper.pid}/children")
        self.inside = children.read_text().split()[0]

    def run(self, program, *args, status=0, as_user=None):
        user = ["setpriv", f"--reuid={as_user}", "--clear-groups"] if as_user else []
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}}
        done = subprocess.run(["nsenter", "-t", self.inside, "-m", "-p", *user, STAGE / "sbin" / program, *args],
                              env=environment, capture_output=True, text=True, timeout=90)
        assert done.returncode == status, (program, args, done)
        return done.stdout + done.stderr

    def main_cf(self, name):
        return (self.etc / name / "main.cf").read_text()

    def close(self):
        self.keeper.send_signal(signal.SIGKILL)
        self.keeper.wait(10)
        self.keeper.stdout.close()


@pytest.fixture
def host(tmp_path):
    if os.geteuid() != 0:
        pytest.fail("needs root: a mount namespace of its own")
    made = Host(tmp_path / "host")
    yield made
    made.close()


def test_life_of_an_instance(host):
    """init, create, assign, enable, run, disable, destroy: the files that postmulti writes and takes away again."""
    assert host.run("postmulti", "-l") == "-               -               n         /etc/postfix\n"
    host.run("postmulti", "-e", "init")
    assert "multi_instance_wrapper = ${command_directory}/postmulti -p --\n" in host.main_cf("postfix")
    host.run("postmulti", "-I", "postfix-out", "-G", "relay", "-e", "create")
    text = host.main_cf("postfix-out")
    for line in (f"queue_directory = {host.root}/spool/postfix-out", f"data_directory = {host.root}/lib/postfix-out",
                 "multi_instance_name = postfix-out", "multi_instance_group = relay", "multi_instance_enable = no",
                 "master_service_disable = inet", "authorized_submit_users =", "mail_owner = daemon",
                 f"daemon_directory = {STAGE}/libexec/postrider"):
        assert f"{line}\n" in text, line
    assert "myhostname" not in text
    assert "multi_instance_directories = /etc/postfix-out\n" in host.main_cf("postfix")
    assert host.run("postmulti", "-l").splitlines()[1] == "postfix-out     relay           n         /etc/postfix-out"
    # in front of it, and of its group
    host.run("postmulti", "-a", "-I", "postfix-in", "-e", "create", f"queue_directory={host.root}/inq")
    host.run("postmulti", "-g", "relay", "-I", "postfix-mid", "-e", "create")
    assert [line.split()[0] for line in host.run("postmulti", "-l").splitlines()] == ["-", "postfix-in", "postfix-mid", "postfix-out"]
    assert [line.split()[0] for line in host.run("postmulti", "-lR").splitlines()] == ["postfix-out", "postfix-mid", "postfix-in", "-"]
    assert f"queue_directory = {host.root}/inq\n" in host.main_cf("postfix-in")
    host.run("postmulti", "-i", "postfix-mid", "-I", "postfix-new", "-G", "-", "-e", "assign")
    assert "multi_instance_name = postfix-new\nmulti_instance_group = \n" in host.main_cf("postfix-mid")
    host.run("postmulti", "-i", "postfix-new", "-e", "deport")
    assert [line.split()[0] for line in host.run("postmulti", "-l").splitlines()] == ["-", "postfix-in", "postfix-out"]
    host.run("postmulti", "-i", "postfix-in", "-I", "postfix-mid", "-e", "import")
    assert [line.split()[0] for line in host.run("postmulti", "-l").splitlines()] == ["-", "postfix-mid", "postfix-in", "postfix-out"]


def test_life_of_an_instance_refused(host):
    """What is wrong is said in a line, and nothing has changed."""
    host.run("postmulti", "-I", "postfix-out", "-e", "create")
    before = host.main_cf("postfix"), host.main_cf("postfix-out"), sorted(p.name for p in host.etc.iterdir())
    for args, why in (
            (["-I", "out", "-e", "create"], "begins with postfix-"),
            (["-I", "postfix-", "-e", "create"], "begins with postfix-"),
            (["-I", "postfix-a/b", "-e", "create"], "has no slash"),
            (["-e", "create"], "give the instance a name with -I, or config_directory=/some/path"),
            (["-I", "postfix-out", "-e", "create"], "there is an instance postfix-out already"),
            (["-I", "postfix-x", "-e", "create", f"queue_directory={host.root}/spool/postfix"], "is that of the instance in /etc/postfix"),
            (["-I", "postfix-x", "-e", "create", f"data_directory={host.root}/lib/postfix-out"], "is that of the instance in /etc/postfix-out"),
            (["-I", "postfix-x", "-e", "create", "queue_directory=spool"], "an absolute path is wanted"),
            (["-I", "postfix-x", "-e", "create", "mail_owner=x"], "config_directory=, queue_directory= or data_directory="),
            (["-I", "postfix-x", "-i", "postfix-y", "-e", "create"], "no secondary instance is called postfix-y"),
            (["-I", "postfix-x", "-e", "import"], "/etc/postfix-x has no main.cf and master.cf"),
            (["-i", "postfix-y", "-e", "enable"], "no instance is called postfix-y"),
            (["-e", "enable"], "option -i is needed"),
            (["-i", "postfix-y", "-p", "status"], "no instance is called postfix-y"),
            (["-i", "postfix-y", "-l"], "no instance is called postfix-y"),
            (["-g", "nosuch", "-x", "true"], "no instance is in group nosuch"),
            (["-i", "-", "-e", "destroy"], "/etc/postfix is the primary instance"),
            (["-i", "-", "-e", "deport"], "/etc/postfix is the primary instance"),
            (["-i", "postfix-out", "-e", "assign"], "option -I or -G is needed"),
            (["-e", "bogus"], "init, create, import"),
            (["-e", "init", "x"], "takes no more arguments"),
            (["-l", "-p", "status"], "specify only one of -e, -l, -p, -x"),
            (["-a", "-i", "-", "-l"], "specify only one of -a, -g, -i"),
            ([], "usage: postmulti"), (["-p"], "usage: postmulti"), (["-Z"], "usage: postmulti"),
    ):
        assert why in host.run("postmulti", *args, status=1), args
    assert before == (host.main_cf("postfix"), host.main_cf("postfix-out"), sorted(p.name for p in host.etc.iterdir()))


def test_commands_go_to_every_instance(host):
    """postfix start, status, reload, stop for all that are enabled; mail goes from one to the other; -x knows which it is."""
    host.run("postmulti", "-e", "init")
    for name in ("postfix-out", "postfix-off"):
        host.run("postmulti", "-I", name, "-e", "create")
    port = free_port()
    out = host.etc / "postfix-out"
    host.run("postconf", "-c", "/etc/postfix-out", "-e", "master_service_disable=", "inet_interfaces=127.0.0.1", "inet_protocols=ipv4",
             "myhostname=out.example.test", "mydestination=", "alias_maps=", "alias_database=", f"maillog_file={host.root}/out.log",
             f"maillog_file_prefixes={host.root}", "relay_domains=far.test", "mynetworks=127.0.0.0/8", "authorized_submit_users=root",
             "default_transport=retry:later")
    (out / "master.cf").write_text((host.etc / "postfix/master.cf").read_text().replace(str(host.port), str(port)))
    host.run("postconf", "-e", f"relayhost=[127.0.0.1]:{port}")
    host.run("postmulti", "-i", "postfix-out", "-e", "enable")
    host.run("postfix", "start")
    status = host.run("postfix", "status", status=1)  # the one that is disabled does not run
    assert len(re.findall(r"is running: PID", status)) == 2 and len(re.findall("is not running", status)) == 1
    log = host.root / "out.log"
    assert re.search(r"^\w+ +\d+ [\d:]+ \S+ postfix-out/master\[", log.read_text(), re.M)
    subprocess.run(["nsenter", "-t", host.inside, "-m", "-p", STAGE / "sbin/sendmail", "x@far.test"], input="Subject: x\n\nx\n",
                   text=True, check=True, timeout=30)
    wait_for("the second instance to have the mail", lambda: re.search(r"postfix-out/\S+\[\d+\]: \w+: to=<x@far.test>, .*status=deferred", log.read_text()))
    assert "reload -- version" not in log.read_text()
    host.run("postfix", "reload")
    assert "reload -- version" in log.read_text()
    # one alone
    host.run("postfix", "-c", "/etc/postfix-out", "stop")
    assert "is not running" in host.run("postmulti", "-i", "postfix-out", "-p", "status", status=1)
    # what is selected, in the order that is asked for, in its own environment
    seen = host.run("postmulti", "-R", "-x", "sh", "-c", 'echo "$MAIL_CONFIG $multi_instance_name $queue_directory $multi_instance_enable"')
    assert seen.splitlines() == [f"/etc/postfix-off postfix-off {host.root}/spool/postfix-off no",
                                 f"/etc/postfix-out postfix-out {host.root}/spool/postfix-out yes",
                                 f"/etc/postfix  {host.root}/spool/postfix yes"]
    host.run("postmulti", "-x", "sh", "-c", "test $MAIL_CONFIG = /etc/postfix || exit 3", status=3)
    # an instance with mail is not destroyed, one without is
    host.run("postmulti", "-i", "postfix-out", "-e", "disable")
    assert "the queue in" in host.run("postmulti", "-i", "postfix-out", "-e", "destroy", status=1)
    host.run("postsuper", "-c", "/etc/postfix-out", "-d", "ALL")
    host.run("postmulti", "-i", "postfix-out", "-e", "destroy")
    assert not out.exists() and not (host.root / "spool/postfix-out").exists() and not (host.root / "lib/postfix-out").exists()
    assert "multi_instance_directories = /etc/postfix-off\n" in host.main_cf("postfix")
    # stop goes on although one of them is not running
    host.run("postfix", "stop")
    assert "is not running" in host.run("postfix", "status", status=1)


def test_disabled_instance_is_checked_and_destroy_wants_it_stopped(host):
    host.run("postmulti", "-e", "init")
    host.run("postmulti", "-I", "postfix-off", "-e", "create")
    with (host.etc / "postfix-off/main.cf").open("a") as f:
        f.write("smtpd_timeout = soon\n")
    said = host.run("postfix", "start", status=1)
    assert "/etc/postfix-off/main.cf, line" in said and "smtpd_timeout" in said
    assert "is running" in host.run("postfix", "-c", "/etc/postfix", "status")
    host.run("postconf", "-c", "/etc/postfix-off", "-X", "smtpd_timeout")
    host.run("postfix", "-c", "/etc/postfix-off", "start")
    assert "is running: stop it first" in host.run("postmulti", "-i", "postfix-off", "-e", "destroy", status=1)
    host.run("postmulti", "-i", "postfix-off", "-e", "enable")
    assert "is enabled: disable it first" in host.run("postmulti", "-i", "postfix-off", "-e", "destroy", status=1)


def test_services_that_are_switched_off(host):
    """master_service_disable: by type, by name, and what is kept."""
    conf = host.run
    for value, listens in (("", True), ("inet", False), (f"127.0.0.1:{host.port}/inet", False), ("smtp/inet", True),
                           (f"!127.0.0.1:{host.port}/inet, inet", True), (f"inet, !127.0.0.1:{host.port}/inet", False)):
        conf("postconf", "-e", f"master_service_disable={value}")
        conf("postfix", "start")
        sockets = subprocess.run(["ss", "-Hltn", f"sport = :{host.port}"], capture_output=True, text=True, check=True).stdout
        assert bool(sockets) == listens, value
        conf("postfix", "stop")
    conf("postconf", "-e", "master_service_disable=smtp")
    assert "master_service_disable: \"smtp\" names no service type" in conf("postfix", "check", status=1)


def test_permissions_and_missing_services(host):
    """check says what others could change; set-permissions sets it right, so that ordinary users can submit; services are added."""
    sbin = host.root / "sbin"
    shutil.copytree(STAGE / "sbin", sbin, symlinks=True)
    host.run("postconf", "-e", f"command_directory={sbin}")
    host.run("postfix", "check")  # makes the directories
    spool = host.root / "spool/postfix"
    os.chmod(spool / "maildrop", 0o777)
    for name in ("private", "journal", "large", "corrupt"):
        os.chown(spool / name, 65534, -1)
    os.chmod(spool / "hold", 0o755)
    os.chmod(spool / "deferred", 0o777)
    os.rmdir(spool / "public")
    os.symlink("private", spool / "public")
    os.chmod(spool, 0o777)
    (host.etc / "postfix/table").touch()
    os.chmod(host.etc / "postfix/table", 0o662)
    os.chmod(host.etc / "postfix/main.cf", 0o666)
    os.chmod(host.etc / "postfix", 0o775)
    os.chown(host.etc / "postfix/master.cf", 1, -1)
    said = host.run("postfix", "check")
    assert re.search(r"warning: /etc/postfix/main\.cf: everybody can write it", said)
    assert re.search(r"warning: /etc/postfix/\.: its group can write it", said)
    assert re.search(r"warning: /etc/postfix/master\.cf: its owner is user 1", said)
    assert re.search(rf"warning: {sbin}/postdrop: not set-gid to group games.*postfix set-permissions", said)
    assert re.search(rf"warning: {sbin}/postqueue: not set-gid", said)
    assert re.search(r"warning: /etc/postfix/table: everybody can write it", said)
    assert re.search(rf"warning: {spool}/\.: everybody can write it", said)
    assert re.search(rf"warning: {spool}/maildrop: has mode 0777, not 3730: .*set-permissions", said)
    for name in ("private", "journal", "large", "corrupt"):
        assert re.search(rf"warning: {spool}/{name}: belongs to user 65534 and group \d+, not to \d+ and \d+: .*set-permissions", said)
    assert re.search(rf"warning: {spool}/hold: has mode 0755, not 0700", said) and re.search(rf"warning: {spool}/deferred: has mode 0777", said)
    assert re.search(rf"warning: {spool}/public: is a symbolic link", said)
    os.unlink(spool / "public")
    os.chmod(spool, 0o755)
    os.chmod(host.etc / "postfix/table", 0o644)
    os.chmod(host.etc / "postfix/main.cf", 0o644)
    os.chmod(host.etc / "postfix", 0o755)
    os.chown(host.etc / "postfix/master.cf", 0, 0)
    host.run("postfix", "set-permissions")
    assert (sbin / "postdrop").stat().st_mode & 0o7777 == 0o2755
    assert (host.root / "spool/postfix/maildrop").stat().st_mode & 0o7777 == 0o3730
    said = host.run("postfix", "check")
    assert "set-gid" not in said and "can write it" not in said and "has mode" not in said and "belongs to" not in said
    assert "there is nothing to be copied" in host.run("postfix", "post-install", status=1)
    said = host.run("postfix", "upgrade-configuration")
    added = re.findall(r"adding service (\S+)", said)
    assert "relay/unix" in added and "postlog/unix-dgram" in added and "smtp/inet" not in added and "qmgr/unix" not in added
    assert host.run("postfix", "upgrade-configuration") == ""
    assert "adding" not in host.run("postfix", "check")


def test_ordinary_user_submits_and_looks(host):
    """With the set-gid bits of set-permissions: sendmail and mailq for anybody, a configuration of his own for nobody."""
    sbin = host.root / "sbin"
    shutil.copytree(STAGE / "sbin", sbin, symlinks=True)
    host.run("postconf", "-e", f"command_directory={sbin}", "relayhost=", "default_transport=retry:later", "transport_retry_time=1h")
    host.run("postfix", "set-permissions")
    host.run("postfix", "start")
    run = ["nsenter", "-t", host.inside, "-m", "-p", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "-i",
           # where the user changes, the leak checker may not look at the process
           *(f"{name}={value}:detect_leaks=0" if name == "ASAN_OPTIONS" else f"{name}={value}"
             for name, value in ({"ASAN_OPTIONS": ""} | dict(os.environ)).items() if name.endswith("SAN_OPTIONS"))]
    subprocess.run([*run, sbin / "sendmail", "-f", "me@example.test", "x@far.test"], input="Subject: x\n\nx\n", text=True, check=True, timeout=30)
    wait_for("the mail in the queue", lambda: "x@far.test" in subprocess.run(
        [*run, sbin / "postqueue", "-p"], capture_output=True, text=True, timeout=30).stdout)
    assert re.search(r"pickup\[\d+\]: \w+: uid=65534 from=<me@example.test>", (host.root / "mail.log").read_text())
    own = host.root / "own"
    own.mkdir()
    shutil.copy(host.etc / "postfix/main.cf", own / "main.cf")
    for command, *words in (("postqueue", "-p"), ("postdrop",)):
        done = subprocess.run([*run, sbin / command, "-c", own, *words], input="", capture_output=True, text=True, timeout=30)
        assert done.returncode != 0 and "alternate_config_directories" in done.stderr, done
    host.run("postconf", "-e", f"alternate_config_directories={own}")
    assert subprocess.run([*run, sbin / "postqueue", "-c", own, "-p"], capture_output=True, text=True, timeout=30).returncode == 0
