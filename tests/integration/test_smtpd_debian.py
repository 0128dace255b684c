# SPDX-License-Identifier: Apache-2.0
"""The SMTP server beside Debian's Postfix: addresses that are none, and what it logs of clients that it lets pass."""
import re

import pytest
from test_postconf_debian import reference  # noqa: F401 (a fixture)
from test_smtputf8_debian import HEAD, both, pytestmark  # noqa: F401

ADDRESSES = ["a@", "a@.", "a@127.0.0.1", "a@1.2.3.4", "a@[1.2.3.4]", "a@[1.2.3]", "a@[host]", "a@[::1]", "a@[IPv6:::1]",
             "a@[1.2.3.4]x", "a@.plain.test", "a@plain.test.", "a@plain.test..", "a@-x.test", "a@x-.test", "a@x..test", "a@x_y.test", "a@123",
             "a@x.123", "a@" + "l" * 64 + ".test", "a@" + "l" * 63 + ".test", "a@b@c"]


@pytest.mark.parametrize("main", [{}, {"resolve_null_domain": "yes"}, {"resolve_numeric_domain": "yes"}], ids=str)
def test_domains(both, main):  # noqa: F811
    for system in both:
        system.start(mydestination="mx.example.test", **main)
    refused = set()
    for address in ADDRESSES:
        sender, recipient = ([system.talk(b"EHLO c", *commands)[-1] for system in both] for commands in (
            [f"MAIL FROM:<{address}>".encode()], [b"MAIL FROM:<s@u8.test>", f"RCPT TO:<{address}>".encode()]))
        assert sender[0] == sender[1] and recipient[0] == recipient[1]
        if recipient[0][1].startswith(b"501"):
            refused.add(address)
    assert ("a@" in refused) == ("resolve_null_domain" not in main)
    assert ("a@1.2.3.4" in refused) == ("resolve_numeric_domain" not in main)
    warnings = [re.findall(r"warning: (Illegal address syntax.*)", system.daemon.log())[:1] for system in both]
    assert warnings[0] == warnings[1] != []


@pytest.mark.parametrize("main, address, end", [
    ({}, "a@", "to=<a@>, relay=none.* dsn=5.1.3, status=bounced .bad address syntax."),
    ({}, "a@1.2.3.4", "to=<a@1.2.3.4>, relay=none.* dsn=5.1.3, status=bounced .bad address syntax."),
    ({}, "a@x..test", "to=<a@x..test>, relay=none.* dsn=5.1.3, status=bounced .bad address syntax."),
    ({"resolve_null_domain": "yes"}, "a@", "to=<a@mx.example.test>, orig_to=<a@>, "),
    ({"resolve_numeric_domain": "yes"}, "a@127.0.0.1", r"to=<a@\[127.0.0.1\]>, .*dsn=2.0.0"),
], ids=str)
def test_what_becomes_of_them(both, main, address, end):  # noqa: F811
    """As Postfix logs it; here the last one lacks orig_to=<a@127.0.0.1>."""
    ours, _ = both
    hop = ours.hops["plain"].port
    ours.start(mydestination="mx.example.test", local_transport=f"smtp:[127.0.0.1]:{hop}", **main)
    ours.daemon.run("sendmail", "-f", "s@u8.test", address, input=b"Subject: x\n\nx\n")
    ours.daemon.wait_log(end)


PERMITS = {
    "all": ({"smtpd_log_access_permit_actions": "static:all", "smtpd_helo_restrictions": "permit",
             "smtpd_client_restrictions": "check_client_access inline:{127.0.0.1=OK}"},
            ["ok", "number", "dunno", "relay", "word", "list", "info", "discard", "other"]),
    "some": ({"smtpd_log_access_permit_actions": "permit_mynetworks, OK"}, ["ok", "relay", "other"]),
    "but one": ({"smtpd_log_access_permit_actions": "!permit, static:all", "smtpd_delay_reject": "no"}, ["ok", "word", "other"]),
    "none": ({}, ["ok", "other"]),
}


@pytest.mark.parametrize("name", PERMITS)
def test_permits(both, name):  # noqa: F811
    main, recipients = PERMITS[name]
    rows = {"ok": "OK", "number": "1234", "dunno": "DUNNO", "relay": "RELAY", "word": "permit", "list": "permit_mynetworks", "info": "INFO",
            "discard": "DISCARD"}
    table = "inline:{" + ", ".join(f"{k}@plain.test={v}" for k, v in rows.items()) + "}"
    found = []
    for system in both:
        system.start(smtpd_recipient_restrictions=f"check_recipient_access {table}, check_sender_access inline:{{s@x.test=permit}}, "
                     "permit_mynetworks, reject", **main)
        for recipient in recipients:
            assert system.send("s@u8.test", [f"{recipient}@plain.test"], HEAD.format("x"))[1][0] == 250
        assert system.send("s@x.test", ["other@plain.test"], HEAD.format("x"))[1][0] == 250
        found.append(re.findall(r"\w+: permit: .*", system.daemon.log()))
    assert [re.sub(r"^\w+", "ID", line) for line in found[0]] == [re.sub(r"^\w+", "ID", line) for line in found[1]]
    assert bool(found[0]) == (name != "none")


@pytest.mark.parametrize("restriction", ["check_client_access inline:{127.0.0.1=REJECT}", "check_client_access inline:{localhost=REJECT}",
                                         "check_reverse_client_hostname_access inline:{localhost=REJECT}",
                                         "check_helo_access inline:{client.test=REJECT}"])
def test_clients_that_are_refused(both, restriction):  # noqa: F811
    replies = []
    for system in both:
        system.start(smtpd_recipient_restrictions=restriction)
        replies.append(system.send("s@u8.test", ["a@plain.test"], "")[1])
    assert replies[0] == replies[1] and replies[0][0] == 554
