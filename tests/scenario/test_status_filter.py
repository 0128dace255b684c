# SPDX-License-Identifier: Apache-2.0
"""NAME_delivery_status_filter: which agents ask which tables."""
import pytest

MAIN = {"virtual_mailbox_domains": "virtual.test", "virtual_mailbox_base": "{root}/mail", "virtual_uid_maps": "static:65534",
        "virtual_gid_maps": "static:65534", "virtual_mailbox_maps": "inline:{a@virtual.test=a/}",
        "home_mailbox": "Maildir/", "local_recipient_maps": "", "alias_maps": "inline:{list=/dev/null}", "luser_relay": ""}


@pytest.mark.parametrize("name, recipient, expected", [
    ("default", "list@mx.example.test", "relay=local.* dsn=2.7.7, status=sent .marked."),
    ("default", "a@virtual.test", "relay=virtual.* dsn=2.7.7, status=sent .marked."),
    ("local", "list@mx.example.test", "relay=local.* dsn=2.7.7, status=sent .marked."),
    ("local", "a@virtual.test", "relay=virtual.* dsn=2.0.0, status=sent .delivered to maildir."),
    ("virtual", "a@virtual.test", "relay=virtual.* dsn=2.7.7, status=sent .marked."),
    ("virtual", "list@mx.example.test", "relay=local.* dsn=2.0.0, status=sent .delivered to file."),
    ("smtp", "a@virtual.test", "relay=virtual.* dsn=2.0.0, status=sent .delivered to maildir."),
])
def test_agents(instance, name, recipient, expected):
    inst = instance(main=MAIN | {f"{name}_delivery_status_filter": "regexp:{etc}/filter"}, files={"filter": "/^2/ 2.7.7 marked\n"})
    inst.send(recipient)
    inst.wait_log(f"to=<{recipient}>, {expected}")


def test_soft_bounce_is_stronger(instance, sink):
    """What a filter makes a failure for good is deferred all the same."""
    hop = sink(reply=lambda verb, argument, number: b"451 4.2.1 busy\r\n" if verb == "RCPT" else None)
    inst = instance(main={"relayhost": f"[127.0.0.1]:{hop.port}", "soft_bounce": "yes",
                          "smtp_delivery_status_filter": "regexp:{etc}/filter"}, files={"filter": "/^4/ 5.4.4 never\n"})
    inst.send("x@far.test")
    inst.wait_log(r"to=<x@far.test>, .* dsn=4.4.4, status=SOFTBOUNCE \(never\)")


def test_table_that_does_not_open(instance):
    inst = instance(main={})
    inst.write_main(smtp_delivery_status_filter="nosuch:table")
    done = inst.reload(check=False)
    assert done.returncode == 1 and "smtp_delivery_status_filter" in done.stderr, done.stderr
