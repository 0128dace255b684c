# SPDX-License-Identifier: Apache-2.0
"""8-bit mail for a next hop without 8BITMIME, beside Debian's Postfix: which parts are converted, and what they say when decoded."""
import email
import re

import pytest
from test_postconf_debian import reference  # noqa: F401 (a fixture)
from test_smtputf8_debian import both, pytestmark  # noqa: F401

CTE = "Content-Transfer-Encoding: "
UTF8 = "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
MAIL = {
    "text": UTF8 + CTE + "8bit\n\nbödy = trailing space \nFrom here\n.dot\ttab\t\n" + "ö" * 60 + "\n" + "a" * 1200 + "\n",
    "no encoding": UTF8 + "\nbödy\n",
    "no MIME": "Subject: x\n\nbödy\n",
    "no MIME version": CTE + "8bit\n\nbödy\n",
    "binary": UTF8 + CTE + "binary\n\nbödy\n",
    "7bit that is not": UTF8 + CTE + "7bit\n\nbödy\n",
    "quoted-printable": UTF8 + CTE + "quoted-printable\n\nb=C3=B6dy\n",
    "header": "Subject: hëader\n" + UTF8 + CTE + "8bit\n\nbödy\n",
    "image": "MIME-Version: 1.0\nContent-Type: image/png\n" + CTE + "8bit\n\nä\n",
    "empty lines": UTF8 + CTE + "8bit\n\n\nä\n\n\n",
    "multipart": 'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b1"\n' + CTE + "8bit\n\nprämble\n--b1\n"
                 "Content-Type: text/plain; charset=utf-8\n" + CTE + "8bit\n\nbödy one\n\n--b1\nContent-Type: text/plain\n\nascii\n"
                 "--b1\nContent-Type: text/html; charset=utf-8\n\n<p>ünlabelled</p>\n--b1\nContent-Type: message/rfc822\n" + CTE +
                 "8bit\n\nSubject: ïnner\nContent-Type: text/plain; charset=utf-8\n" + CTE + "8bit\n\ninner bödy\n--b1--\nepilögue\n",
    "digest": "MIME-Version: 1.0\nContent-Type: multipart/digest; boundary=x\n" + CTE + "8bit\n\n--x\n\nSubject: a\n" + CTE +
              "8bit\n\nä\n--x--\n",
    "large": UTF8 + CTE + "8bit\n\n" + ("lïne " * 20 + "\n") * 5000,
}
IDS = "From: <f@x.test>\nDate: Mon, 1 Jan 2024 00:00:00 +0000\nMessage-Id: <1@x.test>\n"


def unwrapped(mail):
    """The message behind the fields that a system puts in front, with lines of quoted-printable joined."""
    return re.sub(rb"=\r\n", b"", mail[mail.index(b"From: <f@x.test>"):])


def tree(part):
    """What a reader sees of it."""
    if part.is_multipart():
        return [part.get_content_type(), *(tree(p) for p in part.get_payload())]
    return part.get_content_type(), part.get_payload(decode=True)


def deliver(system, text):
    assert system.send("s@u8.test", ["a@bare.test"], IDS + text)[1][0] == 250
    said, _, mail = system.settle()
    return [line.partition(" ORCPT")[0] for line in said], mail[0]


@pytest.mark.parametrize("disabled", ["no", "yes"])
def test_conversion(both, disabled):  # noqa: F811
    ours, _ = both
    for system in both:
        system.start(disable_mime_output_conversion=disabled)
    changed = set()
    for name, text in MAIL.items():
        (said, mail), (their_said, reference_mail) = (deliver(system, text) for system in both)
        assert said == their_said == ["MAIL FROM:<s@u8.test>", "RCPT TO:<a@bare.test>"]
        assert unwrapped(mail) == unwrapped(reference_mail), name
        assert max(map(len, mail.split(b"\r\n"))) <= 998
        sent = (IDS + text).replace("\n", "\r\n").encode()
        if unwrapped(mail) != sent:
            changed.add(name)
        if unwrapped(mail) != sent and disabled == "no":
            assert max(map(len, mail.split(b"\r\n"))) <= 100
            assert tree(email.message_from_bytes(mail)) == tree(email.message_from_bytes(sent))
    # a line that is too long is folded in any case
    assert changed == ({"text"} if disabled == "yes" else {"text", "no MIME version", "binary", "header", "image", "empty lines", "multipart",
                                                           "digest", "large"})


def test_header_that_changes_too(both):  # noqa: F811
    ours, _ = both
    ours.start(smtp_generic_maps="inline:{f@x.test=g@x.test}")
    assert ours.send("s@u8.test", ["a@bare.test"], IDS + MAIL["multipart"])[1][0] == 250
    mail = ours.settle()[2][0]
    assert b"From: <g@x.test>" in mail and mail.count(b"quoted-printable") == 2 and b"inner b=C3=B6dy" in mail


def test_not_for_those_who_know_8bitmime(both):  # noqa: F811
    ours, _ = both
    ours.start()
    assert ours.send("s@u8.test", ["a@plain.test"], IDS + MAIL["text"])[1][0] == 250
    said, _, mail = ours.settle()
    assert said[0] == "MAIL FROM:<s@u8.test> BODY=8BITMIME" and b"quoted-printable" not in mail[0]
