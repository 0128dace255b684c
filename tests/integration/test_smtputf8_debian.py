# SPDX-License-Identifier: Apache-2.0
"""SMTPUTF8 (RFC 6531, RFC 6533) beside Debian's Postfix: what the server takes, what the client says to servers that know it and to those
that do not, what the reports look like."""
import email
import os
import pathlib
import re
import smtplib
import socket
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "scenario"))
from debian_postfix import DebianPostfix  # noqa: E402
from instance import Instance, Sink, wait_for  # noqa: E402
from test_postconf_debian import reference  # noqa: E402, F401 (a fixture)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix starts as root only")

KEYWORDS = {"u8": ["8BITMIME", "DSN", "SMTPUTF8"], "plain": ["8BITMIME", "DSN"], "bare": []}


class Hop(Sink):
    """A next hop with these keywords; keeps the commands of each message."""

    def __init__(self, keywords):
        self.keywords, self.lines = keywords, []
        super().__init__(self.answer)

    def answer(self, verb, argument, number):
        argument = argument.encode("latin-1").decode("utf-8")
        if verb in ("MAIL", "RCPT"):
            self.lines.append(f"{verb} {argument}")
        if verb == "EHLO":
            return "".join(f"250-{word}\r\n" for word in ["sink", *self.keywords]).encode() + b"250 PIPELINING\r\n"
        if verb == "RCPT" and "refuse" in argument:
            return b"550 5.1.1 no such user\r\n"
        return None


class System:
    def __init__(self, daemon):
        self.daemon, self.port = daemon, daemon.port
        self.hops = {name: Hop(words) for name, words in KEYWORDS.items()}
        names = {"u8.test": "u8", "plain.test": "plain", "bare.test": "bare", "bücher.test": "u8", "süß.test": "plain"}
        self.daemon.main.update(
            transport_maps="inline:{" + ", ".join(f"{n}=smtp:[127.0.0.1]:{self.hops[h].port}" for n, h in names.items()) + "}",
            mydestination="", myhostname="mx.example.test", myorigin="u8.test", local_recipient_maps="", smtputf8_enable="yes",
            smtp_tls_security_level="", smtpd_recipient_restrictions="permit_mynetworks, reject")

    def start(self, **main):
        self.daemon.main.update(main)
        if isinstance(self.daemon, Instance):
            self.daemon.write_main()
        self.daemon.start()

    def settle(self):
        """All commands that next hops got, and how deliveries ended, since the last time; in no particular order."""
        wait_for(self.daemon.log, self.is_empty)
        said = sorted(line for hop in self.hops.values() for line in hop.lines)
        ends = sorted(re.sub(r"127\.0\.0\.1:\d+", "HOP", " ".join(m)) for m in re.findall(
            r"(to=<[^>]*>),.* (dsn=[\d.]+), (status=.*)", self.daemon.log()[self.seen:]))
        self.seen = len(self.daemon.log())
        mail = [m[2] for hop in self.hops.values() for m in hop.messages]
        for hop in self.hops.values():
            hop.lines.clear()
            hop.messages.clear()
        return said, ends, mail

    seen = 0

    def is_empty(self):
        out = self.daemon.run("postqueue", "-p").stdout
        return "is empty" in (out if isinstance(out, str) else out.decode())

    def send(self, sender, recipients, text, options="", rcpt_options=""):
        """Replies to MAIL and each RCPT."""
        replies = []
        with smtplib.SMTP("127.0.0.1", self.port, timeout=30, local_hostname="client.test") as s:
            s.command_encoding = "utf-8"
            s.ehlo()
            replies.append(s.docmd(f"MAIL FROM:<{sender}>{options}"))
            if replies[0][0] == 250:
                replies += [s.docmd(f"RCPT TO:<{r}>{rcpt_options}") for r in recipients]
            if any(code == 250 for code, _ in replies[1:]):
                assert s.data(text.replace("\n", "\r\n").encode())[0] == 250
        return replies

    def talk(self, *commands):
        """The last line of the reply to each."""
        replies = []
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as s, s.makefile("rb") as f:
            f.readline()
            for command in commands:
                s.sendall(command + b"\r\n")
                while (line := f.readline())[3:4] == b"-":
                    pass
                replies.append((command, line))
        return replies


@pytest.fixture
def both(tmp_path, reference):  # noqa: F811
    """Not started yet."""
    ours, theirs = System(Instance(tmp_path / "ours")), System(DebianPostfix(reference, tmp_path / "theirs"))
    try:
        yield ours, theirs
    finally:
        theirs.daemon.stop()
        problems = ours.daemon.close()
        for hop in (*ours.hops.values(), *theirs.hops.values()):
            hop.close()
    assert not problems, problems


HEAD = "From: <f@x.test>\nSubject: {}\nDate: Mon, 1 Jan 2024 00:00:00 +0000\nMessage-Id: <1@x.test>\n\nhello\n"
SESSIONS = [
    *((b"EHLO c.test", *s) for s in (
        (b"MAIL FROM:<s@x.test> SMTPUTF8=1",), (b"MAIL FROM:<s@x.test> SMTPUTF8", b"RCPT TO:<a@plain.test>"),
        (b"MAIL FROM:<s\xfc@x.test>", b"MAIL FROM:<s\xfc@x.test> SMTPUTF8", b"MAIL FROM:<s\xc3\xbc@x.test> SMTPUTF8",
         b"RCPT TO:<\xfc@plain.test>", b"RCPT TO:<\xc3\xbc@pl\xe4.test>", b"RCPT TO:<\xc3\xbc@b\xc3\xbccher.test>"),
        (b"MAIL FROM:<s@x.test>", b"RCPT TO:<\xfc@plain.test>", b"RCPT TO:<\xc3\xbc@plain.test>", b"RCPT TO:<a@b\xc3\xbccher.test>"),
        (b"MAIL FROM:<s@b\xc3\xbccher.test>",), (b"MAIL FROM:<s@b\xc3\xbccher.test> SMTPUTF8",), (b"MAIL FROM:<\xc3\xbc@x.test>",),
        (b"VRFY \xc3\xbc@plain.test", b"VRFY \xc3\xbc@plain.test SMTPUTF8", b"VRFY a@b\xc3\xbccher.test smtputf8",
         b"VRFY a@b\xc3\xbccher.test", b"VRFY a@plain.test FOO", b"VRFY", b"VRFY \xfc@plain.test SMTPUTF8"),
        (b"MAIL FROM:<s@x.test>", *(b"RCPT TO:<a@plain.test> ORCPT=" + o for o in (
            b"utf-8;\xc3\xbc@x.test", b"utf-8;\\x{FC}@x.test", b"utf-8;\\x{zz}@x.test", b"utf-8;j+C3+BC@x.test", b"foo;x", b"rfc822",
            b"rfc822;", b"rfc822;x+"))),
    )),
    (b"HELO c.test", b"MAIL FROM:<s@x.test> SMTPUTF8"), (b"HELO c.test", b"MAIL FROM:<\xc3\xbc@x.test>"),
]


@pytest.mark.parametrize("main", [{}, {"strict_smtputf8": "yes"}, {"smtputf8_enable": "no"}], ids=str)
def test_server(both, main):
    ours, theirs = both
    for system in both:
        system.start(**main)
    for session in SESSIONS:
        if main.get("smtputf8_enable") == "no" and (session[1].startswith(b"VRFY") or b" SMTPUTF8" in session[1]):
            continue  # what does not exist is refused in another order
        assert ours.talk(*session) == theirs.talk(*session)


def compare(ours, theirs, case):
    a, b = ours.settle(), theirs.settle()
    # ours looks for 8-bit text itself; an original recipient beyond ASCII goes as UTF-8, never as RFC 822's; a report asks for none
    own = re.compile(r"ORCPT=(?:utf-8;|rfc822;(?=\S*\+[89A-F])).*| BODY=8BITMIME| NOTIFY=NEVER")
    assert [own.sub("", x) for x in a[0]] == [own.sub("", x) for x in b[0]], case
    assert a[1] == b[1], case
    return a, b


def test_relay(both):
    ours, theirs = both
    for system in both:
        system.start()
    for options in ("", " SMTPUTF8"):
        for sender in ("s@u8.test", "jürgen@u8.test", "j@bücher.test"):
            for recipients in (["a@u8.test"], ["a@plain.test"], ["ö@plain.test", "a@plain.test"], ["ö@u8.test", "a@plain.test"],
                               ["a@bücher.test"], ["a@süß.test"], ["a@bare.test"]):
                for subject in ("plain", "sübject"):
                    case = (options, sender, recipients, subject)
                    replies = [system.send(sender, recipients, HEAD.format(subject), options) for system in both]
                    assert replies[0] == replies[1], case
                    (said, ends, _), _ = compare(ours, theirs, case)
                    ascii_only = (sender + subject + "".join(recipients)).isascii()
                    if options and "a@plain.test" in recipients and len(recipients) == 1:
                        assert any("5.6.7" in end for end in ends) != ascii_only, "this case is what the test is about"


@pytest.mark.parametrize("classes", ["sendmail, verify", "all", "smtpd, bounce", "notify"])
def test_autodetection(both, classes):
    ours, theirs = both
    for system in both:
        system.start(smtputf8_autodetect_classes=classes)
    found = []
    for sender, recipients, subject in (
            ("s@u8.test", ["a@plain.test"], "plain"), ("s@u8.test", ["a@plain.test"], "sübject"), ("s@u8.test", ["a@u8.test"], "sübject"),
            ("jürgen@u8.test", ["a@u8.test"], "plain"), ("jürgen@u8.test", ["refuse@plain.test"], "plain"),
            ("s@u8.test", ["ö@u8.test", "a@plain.test"], "plain"), ("s@u8.test", ["ö@plain.test", "a@plain.test"], "plain"),
            ("s@u8.test", ["a@bücher.test"], "plain")):
        case = (classes, sender, recipients, subject)
        for system in both:
            before = len(system.daemon.log())
            system.daemon.run("sendmail", "-f", sender, *recipients, input=HEAD.format(subject).encode())
            wait_for(system.daemon.log, lambda: "removed" in system.daemon.log()[before:])
        found += compare(ours, theirs, case)[0][1]
        if all(r.endswith(("@u8.test", "@plain.test")) for r in recipients):
            for system in both:
                system.send(sender, recipients, HEAD.format(subject))
            found += compare(ours, theirs, case)[0][1]
    assert any("5.6.7" in end for end in found) == (classes != "notify")


def test_report_to_where_smtputf8_is_not_known(both):
    """Only what is returned within it has a header in UTF-8: Postfix drops this report, ours arrives."""
    ours, _ = both
    ours.start()
    ours.send("s@plain.test", ["ö@plain.test"], HEAD.format("plain"), " SMTPUTF8")
    said, ends, mail = ours.settle()
    assert said[0] == "MAIL FROM:<> BODY=8BITMIME" and [end.split()[1] for end in ends] == ["dsn=2.0.0", "dsn=5.6.7"]
    assert "utf-8; ö@plain.test" in mail[0].decode()


def parts(mail):
    """(type, encoding, fields or text) of each part; without what differs by system and time."""
    message = email.message_from_bytes(mail.replace(b"\r\n", b"\n"))
    found = [(message.get_content_type(), message.get("Content-Transfer-Encoding"), message.get_param("report-type"), message["To"] and 1)]
    for part in message.get_payload():
        text = part.as_bytes().decode("utf-8", "backslashreplace")
        kind = part.get_content_type()
        if kind == "text/plain":
            text = re.search(r"^<.*", text, re.M | re.S)[0].strip()
        elif kind.endswith("delivery-status"):
            text = "".join(sorted(line + "\n" for line in text.splitlines() if line.startswith(("Final", "Original", "Action", "Status"))))
        else:
            text = None
        found.append((kind, part.get("Content-Transfer-Encoding"), text))
    return found


@pytest.mark.parametrize("options, sender, recipient, rcpt_options", [
    ("", "s@u8.test", "refuse@plain.test", ""),
    ("", "s@u8.test", "refuse-ö@plain.test", ""),
    ("", "jürgen@u8.test", "refuse@plain.test", ""),
    ("", "jürgen@plain.test", "refuse@plain.test", ""),
    ("", "s@plain.test", "refuse@plain.test", " ORCPT=utf-8;\\x{FC}@orig.test"),
    (" SMTPUTF8", "s@u8.test", "ö@plain.test", ""),
    (" SMTPUTF8", "s@u8.test", "refuse@plain.test", " ORCPT=utf-8;\\x{FC}@orig.test"),
    (" SMTPUTF8", "s@u8.test", "refuse@plain.test", ""),
    (" SMTPUTF8", "jürgen@u8.test", "refuse@plain.test", " RET=HDRS"),
    (" SMTPUTF8", "jürgen@plain.test", "refuse@u8.test", ""),
])
def test_reports(both, options, sender, recipient, rcpt_options):
    ours, theirs = both
    if "RET" in rcpt_options:
        options, rcpt_options = options + rcpt_options, ""
    for system in both:
        system.start()
        assert [code for code, _ in system.send(sender, [recipient], HEAD.format("plain"), options, rcpt_options)] == [250, 250]
    a, b = compare(ours, theirs, (options, sender, recipient))
    assert len(a[2]) == len(b[2]) <= 1
    for mine, reference_mail in zip(a[2], b[2]):
        mine, other = parts(mine), parts(reference_mail)
        if not options:
            # Postfix writes UTF-8 into a status that is ASCII by its type; ours has RFC 6533's form for that
            other[2] = (*other[2][:2], re.sub(r"(?<=: )rfc822; ?(?=.*[^\0-\x7f])", "utf-8;", other[2][2]))
            other[2] = (*other[2][:2], re.sub(r"[^\0-\x7f]", lambda c: "\\x{%02X}" % ord(c[0]), other[2][2]))
        other[2] = (*other[2][:2], re.sub(r"rfc822;(?=\S*[^\0-\x7f])", "utf-8;", other[2][2]))
        # the encoding is said only of what is not ASCII
        assert [(m[0], *m[2:]) for m in mine] == [(o[0], *o[2:]) for o in other]
