# SPDX-License-Identifier: Apache-2.0
"""Parameters of the SMTP client, seen by the next hop."""
import re
import socket
import threading
import time

import pytest
from instance import HAS_IPV6, free_port, stop_accepting

GENERIC = "inline:{ {root@mx.example.test = admin@example.org} {bob = robert@example.org} {@lan.test = example.org} {carl = carl@example.org} }"


def header(text, name):
    found = re.search(rb"(?mi)^" + name.encode() + rb": *(.*?)\r$", text)
    return found and found[1].decode()


def submit(inst, sender, recipient, text):
    inst.run("sendmail", "-f", sender, recipient, input=text)


@pytest.mark.parametrize("sender, expected", [
    ("root@mx.example.test", "admin@example.org"),
    ("bob@mx.example.test", "robert@example.org"),
    ("bob", "robert@example.org"),
    ("bob@far.test", "bob@far.test"),  # a user is one of this host
    ("anna@lan.test", "anna@example.org"),
    ("carl+list@mx.example.test", "carl@example.org"),
    ("", ""),
])
def test_generic_sender(instance, sink, sender, expected):
    hop = sink()
    inst = instance(main={"smtp_generic_maps": GENERIC.replace("@lan.test = example.org", "@lan.test = @example.org"),
                          "relayhost": f"[127.0.0.1]:{hop.port}", "recipient_delimiter": "+"})
    submit(inst, sender or "<>", "x@far.test", "Subject: x\n\nhello\n")
    assert hop.wait(1)[0][0] == expected


def test_generic_keeps_extensions_by_option(instance, sink):
    hop = sink()
    inst = instance(main={"smtp_generic_maps": GENERIC, "relayhost": f"[127.0.0.1]:{hop.port}", "recipient_delimiter": "+",
                          "propagate_unmatched_extensions": "canonical, virtual, generic"})
    submit(inst, "carl+list@mx.example.test", "x@far.test", "Subject: x\n\nhello\n")
    assert hop.wait(1)[0][0] == "carl+list@example.org"


@pytest.mark.parametrize("body", ["hello\n", "", ".dot\n..dots\n" + "y" * 3000 + "\n", "z" * 70 + "\n" + "line\n" * 40000],
                         ids=["short", "none", "dots and long lines", "large"])
def test_generic_header_and_recipients(instance, sink, body):
    """Whatever the body: it is sent in another way when it is large, has dots or long lines."""
    hop = sink()
    inst = instance(main={"smtp_generic_maps": GENERIC, "relayhost": f"[127.0.0.1]:{hop.port}"})
    submit(inst, "bob", "x@far.test",
           "From: Bob <bob@mx.example.test>\nTo: x@far.test,\n  root@mx.example.test\nX-Other: bob@mx.example.test\nSubject: x\n\n" + body)
    sender, rcpts, text = hop.wait(1)[0]
    assert (sender, rcpts) == ("robert@example.org", ["x@far.test"])
    assert header(text, "From") == "Bob <robert@example.org>" and header(text, "X-Other") == "bob@mx.example.test"
    assert b"admin@example.org" in text and b"root@mx.example.test" not in text
    sent = text.partition(b"\r\n\r\n")[2].replace(b"\r\n ", b"")  # long lines are folded
    assert sent == body.encode().replace(b"\n", b"\r\n")
    inst.wait_empty()


def test_generic_recipients(instance, sink):
    hop = sink()
    inst = instance(main={"smtp_generic_maps": "inline:{ {x@far.test = y@far.test} }", "relayhost": f"[127.0.0.1]:{hop.port}"})
    submit(inst, "s@example.org", "x@far.test", "Subject: x\n\nhello\n")
    assert hop.wait(1)[0][1] == ["y@far.test"]
    inst.wait_log(r"to=<x@far.test>, .*status=sent")  # its log line is of the recipient in the queue


def test_generic_trouble_defers(instance, sink):
    hop = sink()
    inst = instance(main={"smtp_generic_maps": "fail:now", "relayhost": f"[127.0.0.1]:{hop.port}"})
    submit(inst, "s@example.org", "x@far.test", "Subject: x\n\nhello\n")
    inst.wait_log(r"to=<x@far.test>, relay=none, .*dsn=4\.3\.0, status=deferred")
    assert hop.connections == 0


@pytest.mark.parametrize("main, offered", [
    ({}, True),
    ({"smtp_discard_ehlo_keywords": "dsn, size"}, False),
    ({"smtp_discard_ehlo_keyword_address_maps": "inline:{ {127.0.0.1 = dsn} }"}, False),
    ({"smtp_discard_ehlo_keywords": "dsn", "smtp_discard_ehlo_keyword_address_maps": "inline:{ {127.0.0.1 = size} }"}, True),
    ({"smtp_discard_ehlo_keyword_address_maps": "inline:{ {192.0.2.1 = dsn} }"}, True),
])
def test_discard_keywords(instance, sink, main, offered):
    said = []
    hop = sink(reply=lambda verb, argument, number: said.append(argument) if verb == "RCPT" else None)
    inst = instance(main={"relayhost": f"[127.0.0.1]:{hop.port}", **main})
    inst.run("sendmail", "-f", "s@example.org", "-N", "failure", "x@far.test", input="Subject: x\n\nhello\n")
    hop.wait(1)
    assert ("NOTIFY" in said[0]) == offered


def test_quit_timeout(instance):
    """A server that does not answer QUIT is waited for that long, not for the time of others."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        inst = instance(main={"relayhost": f"[127.0.0.1]:{server.getsockname()[1]}", "smtp_quit_timeout": "1s", "smtp_skip_quit_response": "no",
                              "smtp_connection_cache_on_demand": "no"})
        inst.run("sendmail", "-f", "s@example.org", "x@far.test", input="Subject: x\n\nhello\n")
        conn, _ = server.accept()
        with conn, conn.makefile("rb") as lines:
            conn.sendall(b"220 hi\r\n")
            for line in lines:
                if line.startswith(b"QUIT"):
                    break
                if line.startswith((b"EHLO", b"MAIL", b"RCPT")) or line == b".\r\n":
                    conn.sendall(b"250 ok\r\n")
                elif line.startswith(b"DATA"):
                    conn.sendall(b"354 go\r\n")
            begun = time.monotonic()
            conn.settimeout(60)  # the other limits are minutes
            assert lines.read(1) == b"" and time.monotonic() - begun > 0.5


@pytest.mark.parametrize("seconds, log", [
    (3.4, r"to=<x@far.test>, .*status=sent"),
    (9, r"to=<x@far.test>, .*delay=(\S+), .*status=deferred \(conversation with .* timed out while sending end of data"),
])
def test_a_longer_time_limit_after_shorter_ones(instance, sink, seconds, log):
    """The final dot has its own limit, whatever the limits of the commands before."""
    hop = sink(reply=lambda verb, argument, number: time.sleep(seconds) if verb == "DOT" else None)
    inst = instance(main={"relayhost": f"[127.0.0.1]:{hop.port}", "smtp_mail_timeout": "1s", "smtp_rcpt_timeout": "2s",
                          "smtp_data_init_timeout": "1s", "smtp_data_done_timeout": "5s"})
    inst.run("sendmail", "-f", "s@example.org", "x@far.test", input="Subject: x\n\nhello\n")
    found = inst.wait_log(log)
    if seconds > 5:
        assert 4.9 < float(found[1]) < 8


def test_a_domain_whose_exchangers_cannot_be_looked_up(instance, sink, names):
    names.names = ("trouble.test",)
    names.no_mx = True
    hop = sink()
    for wanted, log in (("no", r"to=<x@trouble.test>, relay=none, .*status=deferred"), ("yes", r"to=<x@trouble.test>, .*status=sent")):
        inst = instance(main={"dns_servers": names.address, "dns_timeout": "1s", "dns_attempts": "1", "ignore_mx_lookup_error": wanted,
                              "smtp_tcp_port": str(hop.port)})
        inst.run("sendmail", "-f", "s@example.org", "x@trouble.test", input="Subject: x\n\nhello\n")
        inst.wait_log(log)


@pytest.mark.skipif(not HAS_IPV6, reason="this host has no IPv6")
@pytest.mark.parametrize("preference", ["ipv4", "ipv6"])
def test_address_preference(instance, sink, names, preference):
    hop = sink(port=free_port())  # on 127.0.0.1; a server on ::1 takes nothing, so that the other address is tried after it
    names.records["good.test", 28] = [b"\0" * 15 + b"\1"]
    with socket.create_server(("::1", hop.port), family=socket.AF_INET6) as six:
        def refuse():
            while True:
                try:
                    conn, _ = six.accept()
                except OSError:
                    return
                tried.append(1)
                conn.sendall(b"421 not here\r\n")
                conn.close()

        tried = []
        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        inst = instance(main={"dns_servers": names.address, "relayhost": f"[good.test]:{hop.port}", "inet_protocols": "all",
                              "smtp_address_preference": preference, "smtp_connection_cache_on_demand": "no"})
        for n in range(6):
            submit(inst, "s@example.org", "x@far.test", "Subject: x\n\nhello\n")
            hop.wait(n + 1)
        stop_accepting(six, thread)
        assert len(tried) == (6 if preference == "ipv6" else 0)


@pytest.mark.skipif(not HAS_IPV6, reason="this host has no IPv6")
@pytest.mark.parametrize("balance", ["yes", "no"])
def test_both_ip_versions_within_the_limit(instance, sink, names, balance):
    """Three addresses where nobody listens come before the one that works, and two are tried."""
    hop = sink(port=free_port())  # on 127.0.0.1 alone
    names.records["good.test", 28] = [b"\0" * 15 + b"\1"] * 3
    inst = instance(main={"dns_servers": names.address, "relayhost": f"[good.test]:{hop.port}", "inet_protocols": "all",
                          "smtp_address_preference": "ipv6", "smtp_mx_address_limit": "2", "smtp_balance_inet_protocols": balance})
    submit(inst, "s@example.org", "x@far.test", "Subject: x\n\nhello\n")
    inst.wait_log(r"to=<x@far.test>, relay=good.test\[127.0.0.1\].*status=sent" if balance == "yes" else
                  r"to=<x@far.test>, relay=none, .*status=deferred \(connect to good.test\[::1\]")


@pytest.mark.parametrize("randomize", ["yes", "no"])
def test_order_of_equal_exchangers(instance, sink, names, randomize):
    hop = sink()
    names.names = ("a.test", "b.test")
    names.records["dom.test", 15] = [b"\0\x0a\1" + host + b"\4test\0" for host in (b"b", b"a")]
    inst = instance(main={"dns_servers": names.address, "smtp_tcp_port": str(hop.port), "smtp_randomize_addresses": randomize,
                          "smtp_connection_cache_on_demand": "no"})
    used = set()
    for n in range(40):
        submit(inst, "s@example.org", f"u{n}@dom.test", "Subject: x\n\nhello\n")
        used.add(inst.wait_log(rf"to=<u{n}@dom.test>, relay=(\w)\.test\[")[1])
        if randomize == "yes" and len(used) == 2:
            break
        if randomize == "no" and n == 8:
            break
    assert used == ({"a", "b"} if randomize == "yes" else {"b"})


def test_a_preference_that_is_none(instance):
    inst = instance(main={"smtp_address_preference": "ipx"}, start=False)
    done = inst.run("postfix", "check", check=False)
    assert done.returncode == 1 and re.search(r'line \d+: smtp_address_preference: "ipx" is none of', done.stderr)
