# SPDX-License-Identifier: Apache-2.0
"""Parameters of routing: users who have moved, addresses that look like options, keys for the null sender."""
import pytest


def rcpt(inst, recipient, sender="s@example.org"):
    with inst.smtp() as client:
        client.ehlo("c.test")
        code, text = client.mail(sender)
        if code != 250:
            return code, text.decode()
        code, text = client.rcpt(recipient)
        return code, text.decode()


MOVED = "inline:{ {gone@far.test = gone@new.test} {mail = 3 Main Street} {@old.test = new.test} }"


@pytest.mark.parametrize("main, recipient, wanted", [
    ({}, "gone@far.test", "5.1.6 <gone@far.test>: Recipient address rejected: User has moved to gone@new.test"),
    ({}, "gone+ext@far.test", "5.1.6 <gone+ext@far.test>: Recipient address rejected: User has moved to gone@new.test"),
    ({}, "mail@mx.example.test", "User has moved to 3 Main Street"),
    ({}, "any@old.test", "User has moved to new.test"),
    ({"relocated_prefix_enable": "no", "relocated_maps": "inline:{ {x@far.test = 5.2.1 on leave} }"}, "x@far.test",
     "5.2.1 <x@far.test>: Recipient address rejected: on leave"),
])
def test_relocated_is_refused(instance, main, recipient, wanted):
    inst = instance(main={"relocated_maps": MOVED, "recipient_delimiter": "+", **main})
    code, text = rcpt(inst, recipient)
    assert code == 550 and wanted in text


def test_relocated_mail_that_is_in_comes_back(instance, sink):
    hop = sink()
    inst = instance(main={"relocated_maps": MOVED, "relayhost": f"[127.0.0.1]:{hop.port}"})
    inst.run("sendmail", "-f", "s@example.org", "gone@far.test", input="Subject: x\n\nhello\n")
    inst.wait_log(r"to=<gone@far.test>, relay=none, .*dsn=5\.1\.6, status=bounced \(User has moved to gone@new.test\)")
    sender, rcpts, text = hop.wait(1)[0]
    assert (sender, rcpts) == ("", ["s@example.org"]) and b"User has moved to gone@new.test" in text


def test_a_table_that_cannot_be_asked_defers(instance):
    inst = instance(main={"relocated_maps": "fail:now"})
    assert rcpt(inst, "root@mx.example.test")[0] == 451
    inst.run("sendmail", "-f", "s@example.org", "x@far.test", input="Subject: x\n\nhello\n")
    inst.wait_log(r"to=<x@far.test>, .*status=deferred")


@pytest.mark.parametrize("allowed", ["no", "yes"])
def test_addresses_that_look_like_options(instance, sink, allowed):
    hop = sink()
    inst = instance(main={"allow_min_user": allowed, "relayhost": f"[127.0.0.1]:{hop.port}"})
    if allowed == "yes":
        assert rcpt(inst, "-x@far.test", sender="-y@example.org")[0] == 250
        return
    assert rcpt(inst, "-x@far.test") == (501, "5.1.3 Bad recipient address syntax")
    assert rcpt(inst, "x@far.test", sender="-y@example.org") == (501, "5.1.7 Bad sender address syntax")
    inst.run("sendmail", "-f", "s@example.org", "--", "-x@far.test", input="Subject: x\n\nhello\n")
    inst.wait_log(r"to=<-x@far.test>, relay=none, .*dsn=5\.1\.3, status=bounced")


def test_keys_of_the_null_sender(instance, sink):
    hop, other = sink(), sink()
    inst = instance(main={"relayhost": f"[127.0.0.1]:{other.port}", "empty_address_relayhost_maps_lookup_key": "null@key",
                          "sender_dependent_relayhost_maps": f"inline:{{ {{null@key = [127.0.0.1]:{hop.port}}} }}"})
    inst.send("x@far.test", sender="")
    inst.send("x@far.test")
    assert (hop.wait(1)[0][0], other.wait(1)[0][0]) == ("", "sender@example.org")


def test_transport_of_the_null_sender(instance, sink):
    hop, other = sink(), sink()
    inst = instance(main={"default_transport": f"smtp:[127.0.0.1]:{other.port}", "empty_address_default_transport_maps_lookup_key": "null@key",
                          "sender_dependent_default_transport_maps": f"inline:{{ {{null@key = smtp:[127.0.0.1]:{hop.port}}} }}"})
    inst.send("x@far.test", sender="")
    inst.send("x@far.test")
    assert (hop.wait(1)[0][0], other.wait(1)[0][0]) == ("", "sender@example.org")
