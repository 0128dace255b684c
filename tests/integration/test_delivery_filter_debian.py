# SPDX-License-Identifier: Apache-2.0
"""smtp_delivery_status_filter beside Debian's Postfix: what is logged, what becomes of the message, what its sender is told."""
import re

import pytest
from instance import wait_for
from test_postconf_debian import reference  # noqa: F401 (a fixture)
from test_smtputf8_debian import HEAD, both, parts, pytestmark  # noqa: F401

FILTERS = {  # rows of a regexp table
    "other texts": ["/^2.0.0 (.*)/ 2.9.9 renamed $1", "/^5.1.1 .*/ 5.9.9 masked", "/^4.*/ 4.8.8 later"],
    "failures for good and not": ["/^5.1.1 .*/ 4.1.1 not yet", "/^4.*/ 5.4.4 never"],
    "success and failure": ["/^2.*/ 5.0.0 no", "/^5.*/ 2.0.0 yes", "/^4.*/ 2.0.0 yes"],
    "codes": ["/^2.*/ 2.9.9", "/^5.*/ garbage", "/^4.*/ 4 4"],
    "after another": ["/./ 5.6.6 regexp"],
    "nothing": ["/^a$/ 5.0.0 no"],
}


def status_of(system, before, recipient):
    lines = re.findall(rf"to=<{recipient}>.* (dsn=[\d.]+), status=(.*)", system.daemon.log()[before:])
    return lines and lines[0]


@pytest.mark.parametrize("name", FILTERS)
def test_filter(both, tmp_path, name):  # noqa: F811
    (tmp_path / "filter").write_text("".join(row + "\n" for row in FILTERS[name]))
    (tmp_path / "first").write_text("/^2.0.0 .* queued$/ 2.7.7 first\n" if name == "after another" else "/^a$/ 2.0.0 no\n")
    tables = f"regexp:{tmp_path}/first, regexp:{tmp_path}/filter"
    for system in both:
        for hop in system.hops.values():
            answer = hop.answer
            hop.reply = lambda verb, argument, number, answer=answer: (
                b"451 4.2.1 busy\r\n" if verb == "RCPT" and "busy" in argument else answer(verb, argument, number))
        # only what goes to the hop "plain": reports go to the other one, and are not filtered
        system.start(smtp_delivery_status_filter=tables, minimal_backoff_time="600s")
    for recipient in ("fine", "refuse", "busy"):
        found, reports = [], []
        for system in both:
            before = len(system.daemon.log())
            sent = len(system.hops["u8"].messages)
            system.send("s@u8.test", [f"{recipient}@plain.test"], HEAD.format("x"))
            status = wait_for(system.daemon.log, lambda: status_of(system, before, f"{recipient}@plain.test"))
            warnings = re.findall(r"warning: (smtp_delivery_status_filter: .*)", system.daemon.log()[before:])
            found.append((status, warnings[:1]))
            if "bounced" in status[1]:
                reports.append(parts(wait_for(system.daemon.log, lambda: system.hops["u8"].messages[sent:])[0][2]))
        assert found[0] == found[1]
        if reports:
            # the letter's text is in the language of both, the encoding is said only of what is not ASCII
            assert [(p[0], p[2]) for p in reports[0]] == [(p[0], p[2]) for p in reports[1]]


def test_table_that_cannot_be_asked(both):  # noqa: F811
    """What was delivered was; a failure for good is none before the table has been asked. Postfix returns the mail."""
    ours, _ = both
    ours.start(smtp_delivery_status_filter="fail:now", minimal_backoff_time="600s")
    ours.send("s@u8.test", ["refuse@plain.test", "fine@plain.test"], HEAD.format("x"))
    refused = wait_for(ours.daemon.log, lambda: status_of(ours, 0, "refuse@plain.test"))
    assert refused[0] == "dsn=4.3.0" and refused[1].startswith(
        "deferred (smtp_delivery_status_filter: temporary lookup failure; without it: host 127.0.0.1")
    fine = wait_for(ours.daemon.log, lambda: status_of(ours, 0, "fine@plain.test"))
    assert fine == ("dsn=2.0.0", "sent (250 2.0.0 queued)")
    assert "warning: smtp_delivery_status_filter: " in ours.daemon.log()
