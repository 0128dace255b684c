# SPDX-License-Identifier: Apache-2.0
"""Parameters of cleanup(8) that change messages: seen at the next hop."""
import re
import smtplib

import pytest


def passed(inst, hop, recipient="x@far.test", sender="s@example.org", **headers):
    """What the next hop gets of a message that sendmail(1) was given."""
    count = len(hop.messages)
    text = "".join(f"{k}: {v}\n" for k, v in headers.items())
    inst.run("sendmail", "-f", sender, recipient, input=f"Subject: x\n{text}\nhello\n")
    return hop.wait(count + 1)[count]


def header(text, name):
    found = re.search(rb"(?mi)^" + name.encode() + rb": *(.*?)\r$", text)
    return found and found[1].decode()


@pytest.mark.parametrize("main, sender, expected", [
    ({}, "a@host.dept.example.com", "a@example.com"),
    ({}, "a@example.com", "a@example.com"),
    ({}, "a@myexample.com", "a@myexample.com"),
    ({}, "root@host.example.com", "root@host.example.com"),
    ({"masquerade_domains": "dept.example.com example.com"}, "a@host.dept.example.com", "a@dept.example.com"),
    ({"masquerade_domains": "!dept.example.com example.com"}, "a@host.dept.example.com", "a@host.dept.example.com"),
    ({"masquerade_domains": "!dept.example.com example.com"}, "a@host.Example.COM", "a@example.com"),
    ({"masquerade_classes": "header_sender"}, "a@host.example.com", "a@host.example.com"),
    ({"sender_canonical_maps": "inline:{ {a@host.example.com = b@other.example.com} }"}, "a@host.example.com", "b@example.com"),
])
def test_masquerade_envelope_sender(instance, sink, main, sender, expected):
    hop = sink()
    inst = instance(main={"relayhost": f"[127.0.0.1]:{hop.port}", "masquerade_domains": "example.com", "masquerade_exceptions": "root, mail", **main})
    assert passed(inst, hop, sender=sender)[0] == expected


def test_masquerade_headers(instance, sink):
    hop = sink()
    inst = instance(main={"relayhost": f"[127.0.0.1]:{hop.port}", "masquerade_domains": "example.com"})
    sender, rcpts, text = passed(inst, hop, "r@h1.example.com", "s@h2.example.com", From="Me <s@h2.example.com>", To="r@h1.example.com")
    assert rcpts == ["r@h1.example.com"]  # the envelope's recipients stay, by default
    assert (header(text, "From"), header(text, "To")) == ("Me <s@example.com>", "r@example.com")


@pytest.mark.parametrize("value, headers, expected", [
    ("To: undisclosed-recipients:;", {}, "undisclosed-recipients:;"),
    ("To: undisclosed-recipients:;", {"To": "me@example.org"}, "me@example.org"),
    ("To: undisclosed-recipients:;", {"Cc": "me@example.org"}, None),
    ("", {}, None),
])
def test_undisclosed_recipients(instance, sink, value, headers, expected):
    hop = sink()
    inst = instance(main={"relayhost": f"[127.0.0.1]:{hop.port}", "undisclosed_recipients_header": value})
    assert header(passed(inst, hop, **headers)[2], "To") == expected


def test_characters(instance, sink):
    hop = sink()
    inst = instance(main={"relayhost": f"[127.0.0.1]:{hop.port}", "message_reject_characters": "\\0\\a", "message_strip_characters": "\\177"})
    for bad in (b"\0", b"\a"):
        with inst.smtp() as client, pytest.raises(smtplib.SMTPDataError) as e:
            client.sendmail("s@example.org", ["x@far.test"], b"Subject: x\r\n\r\nA" + bad + b"B\r\n")
        assert (e.value.smtp_code, e.value.smtp_error) == (550, b"5.7.1 disallowed character")
    with inst.smtp() as client:
        client.sendmail("s@example.org", ["x@far.test"], b"Subject: x\x7fy\r\n\r\n\x7fA\x7f\x7fB\r\n")
    text = hop.wait(1)[0][2]
    assert header(text, "Subject") == "xy" and text.endswith(b"\r\n\r\nAB\r\n") and len(hop.messages) == 1


@pytest.mark.parametrize("main", [{"masquerade_classes": "all"}, {"message_strip_characters": "\\q"}, {"message_reject_characters": "\\777"}])
def test_values_that_make_no_sense(instance, main):
    inst = instance(main=main, start=False)
    done = inst.run("postfix", "check", check=False)
    assert done.returncode == 1 and re.search(rf"main\.cf, line \d+: {list(main)[0]}: ", done.stderr)
