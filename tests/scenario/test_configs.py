# SPDX-License-Identifier: Apache-2.0
"""Configurations as administrators have them (tests/data/configs): check names what is not effective and nothing else, and
what is left starts and passes mail."""
import pathlib
import re
import smtplib

import pytest
from instance import STAGE, Instance, NameServer, free_port

DATA = pathlib.Path(__file__).parents[1] / "data"
CONFIGS = sorted(p.name for p in (DATA / "configs").iterdir() if p.is_dir())
KEPT = ("queue_directory", "data_directory", "daemon_directory", "command_directory", "maillog_file", "maillog_file_prefixes", "mail_owner",
        "setgid_group", "import_environment")


class Configured(Instance):
    """An instance with one of the configurations, moved to where a test may be."""

    def __init__(self, root, name, names, hop=0, amavis=0):
        super().__init__(root)
        self.expect_fatal = True
        self.ports = {}
        source = DATA / "configs" / name
        for path in (p for p in source.rglob("*") if p.is_file() and p.name != "findings"):
            text = self.moved(path.read_text(), hop).replace("[127.0.0.1]:10024", f"[127.0.0.1]:{amavis or 10024}")
            if path.name == "master.cf":
                text = re.sub(r"^((?:127\.0\.0\.1:)?[\w.]+)(\s+inet\s)", self.listen, text, flags=re.M)
            (self.etc / path.relative_to(source)).parent.mkdir(exist_ok=True)
            self.write(path.relative_to(source), text)
        self.write("mailname", "example.org\n")
        # at the end, so that the lines before keep their numbers
        self.text = (self.etc / "main.cf").read_text()
        self.write("main.cf", self.text + "".join(f"{k} = {self.main[k]}\n" for k in KEPT if k in self.main) + f"dns_servers = {names}\n")
        for table in set(re.findall(r"(?:hash|btree):(/\S+?)(?:,|\s|$)", self.text)):
            self.run("postalias" if table.endswith("aliases") else "postmap", f"hash:{table}")

    def moved(self, text, hop):
        for old, new in (("/etc/postfix", self.etc), ("/etc/aliases", f"{self.etc}/aliases"), ("/etc/mailname", f"{self.etc}/mailname"),
                         ("/etc/ssl/certs/ca-certificates.crt", DATA / "tls/ca.pem"), ("/etc/ssl/private/submit.example.org.pem", DATA / "tls/chain.pem")):
            text = text.replace(old, str(new))
        text = re.sub(r"/etc/ssl/certs/[\w.-]+\.pem", str(DATA / "tls/good.pem"), text)
        text = re.sub(r"/etc/ssl/private/[\w.-]+\.key", str(DATA / "tls/good.key"), text)
        text = text.replace("/etc/ssl/certs", str(DATA / "tls"))
        if hop:  # whatever mail is handed to
            text = re.sub(r"\[(192\.0\.2\.\d+|smtp\.example\.net|mx-out\.example\.org)\](:\d+)?", f"[127.0.0.1]:{hop}", text)
        return text

    def listen(self, match):
        self.ports[match[1]] = free_port()
        return f"127.0.0.1:{self.ports[match[1]]}{match[2]}"

    def check(self):
        done = self.run("postfix", "check", check=False)
        text = (done.stdout + done.stderr).replace(str(self.etc), "/etc/postfix").replace(str(self.root), "").replace(str(DATA), "/data").replace(str(STAGE), "")
        for name, port in self.ports.items():
            text = text.replace(f"127.0.0.1:{port}", name)
        return re.sub(r"^postfix-script: ", "", text, flags=re.M).splitlines(), done.returncode

    def take_out(self, *changes):
        """What an administrator does about the errors: (file, pattern, replacement)."""
        for name, pattern, replacement in changes:
            text, count = re.subn(pattern, replacement, (self.etc / name).read_text())
            assert count > 0, pattern
            self.write(name, text)


@pytest.fixture
def configured(tmp_path):
    made = []
    names = NameServer(("smtp.example.net", "mx-out.example.org"))

    def make(name, **options):
        made.append(Configured(tmp_path / f"c{len(made)}", name, names.address, **options))
        return made[-1]

    yield make
    names.close()
    problems = [problem for inst in made for problem in inst.close()]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("name", CONFIGS)
def test_findings(configured, name):
    inst = configured(name)
    found, status = inst.check()
    types = inst.run("postconf", "-m").stdout.split()
    wanted = []
    for line in (DATA / "configs" / name / "findings").read_text().splitlines():
        condition, kind, text = re.match(r"(?:(with|without) (\w+): )?(.*)", line).groups()
        if condition is None or (kind in types) == (condition == "with"):
            wanted.append(text)
    assert found == wanted
    assert status == int(any(line.startswith("error: ") for line in wanted))
    assert all(re.match(r"(warning|error): (/etc/postfix/(main|master)\.cf, line \d+: |table mysql:)", line) for line in found)


def pass_on(inst, hop, sender, recipient, port=None, **headers):
    """A message goes in (by SMTP, or by sendmail) and comes out at the next hop."""
    text = "".join(f"{k.replace('_', '-')}: {v}\n" for k, v in headers.items()) + "Subject: passes\n\nhello\n"
    if port:
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            client.sendmail(sender, [recipient], text)
    else:
        inst.run("sendmail", "-f", sender, recipient, input=text)
    hop.wait(1)
    return hop.messages[0]


def test_satellite_relay(configured, sink):
    hop = sink()
    inst = configured("satellite-relay", hop=hop.port)
    inst.port = inst.ports["smtp"]
    inst.start()
    inst.run("sendmail", "-f", "root", "other@example.com", input="Subject: from /etc/mailname\n\nhello\n")
    assert hop.wait(1)[0][0] == "root@example.org"
    hop.messages.clear()
    sender, rcpts, text = pass_on(inst, hop, "root@web1.example.org", "someone@example.com", X_PHP_Script="secret.php")
    assert (sender, rcpts) == ("hostmaster@example.org", ["someone@example.com"])
    assert b"secret.php" not in text
    inst.wait_empty()


def test_mailing_list_host(configured, sink):
    hop = sink()
    inst = configured("mailing-list-host", hop=hop.port)
    inst.port = inst.ports["smtp"]
    inst.start()
    assert pass_on(inst, hop, "a@example.com", "b@relayed.example.org", port=inst.port)[1] == ["b@relayed.example.org"]
    with smtplib.SMTP("127.0.0.1", inst.port, timeout=30) as client:
        client.helo("c.test")
        client.mail("a@example.com")
        assert client.rcpt("users-join@lists.example.org")[0] == 250
        assert client.rcpt("users-nobody@lists.example.org")[0] == 550
        client.rset()
        assert client.mail("noreply@example.com")[0] == 250
    inst.wait_empty()


def test_submission_gateway(configured, sink):
    hop = sink()
    inst = configured("submission-gateway", hop=hop.port)
    inst.take_out(("main.cf", r"(?m)^smtpd_sender_restrictions.*$", "#"))
    assert inst.check()[1] == 0
    inst.port = inst.ports["submission"]
    inst.start()
    with pytest.raises(smtplib.SMTPRecipientsRefused):  # nobody can log in yet: nobody may send
        pass_on(inst, hop, "alice@example.org", "someone@example.com", port=inst.port)
    assert pass_on(inst, hop, "alice@example.org", "someone@example.com", User_Agent="x")[2].find(b"User-Agent") == -1


def test_spam_filter_amavis(configured, sink):
    hop, amavis = sink(), sink()
    inst = configured("spam-filter-amavis", hop=hop.port, amavis=amavis.port)
    inst.take_out(("main.cf", r"reject_rbl_client \S+\s+check_policy_service \S+", "permit"))
    assert inst.check()[1] == 0
    inst.port = inst.ports["127.0.0.1:10025"]
    inst.start()
    sender, rcpts, text = pass_on(inst, amavis, "a@example.com", "alice@example.org")
    with smtplib.SMTP("127.0.0.1", inst.port, timeout=30) as client:  # amavis gives it back
        client.sendmail(sender, rcpts, text)
    assert hop.wait(1)[0][1] == ["alice@example.org"]
    inst.wait_empty()
