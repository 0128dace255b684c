# SPDX-License-Identifier: Apache-2.0
"""What is done to mail on its way in: content_filter, receive_override_options, and which service takes it into the queue."""
import re
import smtplib

import pytest
from instance import MASTER_CF, free_port

MAIN = {"virtual_mailbox_domains": "v.test", "virtual_mailbox_base": "{root}/mail", "virtual_mailbox_maps": "inline:{ {bob@v.test = bob/} }",
        "virtual_alias_maps": "inline:{ {alias@v.test = bob@v.test} }", "virtual_uid_maps": "static:2000", "virtual_gid_maps": "static:2000",
        "header_checks": "regexp:{etc}/checks"}
FILES = {"checks": "/^X-Secret:/ IGNORE\n"}


def with_back_door(port, *options):
    """master.cf with a second way in."""
    return MASTER_CF + f"127.0.0.1:{port} inet n - n - - smtpd\n" + "".join(f"  -o {o}\n" for o in options)


def send(port, to, headers=""):
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.sendmail("s@example.org", [to], f"Subject: x\n{headers}\nhello\n")


def test_content_filter(instance, sink):
    hop, back = sink(), free_port()
    inst = instance(main={**MAIN, "content_filter": f"smtp:[127.0.0.1]:{hop.port}"}, files=FILES, master=with_back_door(back, "content_filter="))
    send(inst.port, "bob@v.test")
    inst.run("sendmail", "-f", "l@example.org", "bob@v.test", input="Subject: x\n\nlocal\n")
    assert sorted(m[0] for m in hop.wait(2)) == ["l@example.org", "s@example.org"]
    assert inst.maildir("bob") == []
    send(back, "bob@v.test")  # what the filter gives back
    inst.wait_maildir("bob", 1)
    assert len(hop.messages) == 2
    inst.wait_empty()


def test_a_rule_s_filter_goes_before_content_filter(instance, sink):
    one, other = sink(), sink()
    inst = instance(main={**MAIN, "content_filter": f"smtp:[127.0.0.1]:{one.port}",
                          "smtpd_sender_restrictions": f"check_sender_access inline:{{ {{s@example.org = FILTER smtp:[127.0.0.1]:{other.port}}} }}"},
                    files=FILES)
    send(inst.port, "bob@v.test")
    other.wait(1)
    inst.wait_empty()
    assert one.messages == []


@pytest.mark.parametrize("options, recipient, secret", [
    ("", "bob@v.test", None),
    ("no_address_mappings", "alias@v.test", None),
    ("no_header_body_checks", "bob@v.test", "yes"),
    ("no_header_body_checks, no_milters no_address_mappings", "alias@v.test", "yes"),
])
def test_receive_override_options(instance, sink, options, recipient, secret):
    """Seen at the next hop of all mail for v.test."""
    hop = sink()
    main = {**MAIN, "virtual_transport": f"smtp:[127.0.0.1]:{hop.port}", "receive_override_options": options}
    inst = instance(main=main, files=FILES)
    send(inst.port, "alias@v.test", headers="X-Secret: yes\n")
    inst.run("sendmail", "-f", "l@example.org", "alias@v.test", input="Subject: x\nX-Secret: yes\n\nlocal\n")
    for _, rcpts, text in hop.wait(2):
        assert rcpts == [recipient]
        assert (re.search(rb"X-Secret: (\w+)", text) or [None, None])[1] == (secret and secret.encode())


def test_unknown_recipients_by_option(instance):
    back = free_port()
    inst = instance(main=MAIN, files=FILES, master=with_back_door(back, "receive_override_options=no_unknown_recipient_checks"))
    for port, code in ((inst.port, 550), (back, 250)):
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
            client.helo("c.test")
            client.mail("s@example.org")
            assert client.rcpt("nobody@v.test")[0] == code


def test_an_unknown_option_is_refused(instance):
    inst = instance(main={"receive_override_options": "no_header_checks"}, start=False)
    inst.expect_fatal = True
    done = inst.run("postfix", "start", check=False)
    assert done.returncode == 1
    assert re.search(r'main\.cf, line \d+: receive_override_options: unknown option "no_header_checks"', done.stderr)


def test_another_cleanup_service(instance):
    """A service of one's own with other checks, for one way in."""
    back = free_port()
    inst = instance(main=MAIN, files=FILES, master=with_back_door(back, "cleanup_service_name=pre-cleanup") +
                    "pre-cleanup unix n - n - 0 cleanup\n  -o header_checks=\n")
    send(inst.port, "bob@v.test", headers="X-Secret: a\n")
    inst.wait_maildir("bob", 1)
    send(back, "bob@v.test", headers="X-Secret: b\n")
    assert sorted(str(m["X-Secret"]) for m in inst.wait_maildir("bob", 2)) == ["None", "b"]


def test_other_names_of_pickup_and_qmgr(instance):
    master = MASTER_CF.replace("pickup    unix n - n 60   1", "collect   unix n - n 60   1").replace("qmgr      unix n - n 300", "manager   unix n - n 300")
    inst = instance(main={**MAIN, "pickup_service_name": "collect", "queue_service_name": "manager"}, files=FILES, master=master)
    inst.run("sendmail", "-f", "l@example.org", "bob@v.test", input="Subject: x\n\nlocal\n")
    inst.wait_maildir("bob", 1, deadline=10)  # woken, not by the minute
    inst.wait_empty()
