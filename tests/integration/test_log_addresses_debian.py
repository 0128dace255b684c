# SPDX-License-Identifier: Apache-2.0
"""info_log_address_format beside Debian's Postfix: every from=<>, to=<>, orig_to=<> of the log."""
import re

import pytest
from instance import wait_for
from test_postconf_debian import reference  # noqa: F401 (a fixture)
from test_smtputf8_debian import HEAD, both, pytestmark  # noqa: F401

MAIL = [  # sender, recipient
    ('"s p"@u8.test', '"a b"@plain.test'), ("s@u8.test", '"a.b"@plain.test'), ('"x@y"@u8.test', "plain@plain.test"),
    ('"q\\"q"@u8.test', '"r;s"@plain.test'), ('"..a"@u8.test', '"a..b"@plain.test'), ("ö@u8.test", '"ö ö"@plain.test'),
    ("", "z@plain.test"), ("s@u8.test", "alias@plain.test"),
]


def addresses(system, before):
    return [tuple(re.findall(r"(?:from|to|orig_to)=<[^>]*>", line))
            for line in system.daemon.log()[before:].splitlines() if "=<" in line and "message-id" not in line]


@pytest.mark.parametrize("form", ["external", "internal"])
def test_log(both, tmp_path, form):  # noqa: F811
    (tmp_path / "checks").write_text("/^Subject: looked at/ WARN seen\n")
    (tmp_path / "access").write_text("/^reject/ REJECT\n/^.reject/ REJECT\n")
    for system in both:
        system.start(info_log_address_format=form, header_checks=f"regexp:{tmp_path}/checks",
                     virtual_alias_maps="inline:{{alias@plain.test = \"foo bar\"@plain.test}}",
                     smtpd_recipient_restrictions=f"check_recipient_access regexp:{tmp_path}/access, permit_mynetworks, reject")
    for sender, recipient in MAIL:
        found = []
        for system in both:
            before = len(system.daemon.log())
            system.send(sender, [recipient], HEAD.format("looked at"))
            wait_for(system.daemon.log, lambda: "removed" in system.daemon.log()[before:])
            found.append(addresses(system, before))
        assert found[0] == found[1] and len(found[0]) == 3, (sender, recipient)  # cleanup, qmgr, smtp
    found = []
    for system in both:
        before = len(system.daemon.log())
        assert system.send('"s p"@u8.test', ['"reject me"@plain.test'], "")[1][0] == 554
        system.daemon.run("sendmail", "-f", '"s p"@u8.test', '"a b"@plain.test', input=b"Subject: x\n\nx\n")
        wait_for(system.daemon.log, lambda: "removed" in system.daemon.log()[before:])
        found.append(addresses(system, before))
    assert found[0] == found[1] and len(found[0]) == 4  # smtpd, pickup, qmgr, smtp
    assert ('from=<"s p"@u8.test>',) in found[0] or form == "internal"
