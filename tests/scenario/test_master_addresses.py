# SPDX-License-Identifier: Apache-2.0
"""Where services listen: the forms of the first column of master.cf, inet_interfaces, inet_protocols, and their changes at a reload."""
import os
import re
import socket
import stat

import pytest
from instance import HAS_IPV6, MASTER_CF, free_port, wait_for

REST = MASTER_CF.split("\n", 1)[1]
QUEUE = "127.0.0.1:{port} inet n - n - - smtpd\n" + REST  # what start() waits for


def banner(address, port):
    """What the server at the address says first; None: nobody listens there."""
    try:
        with socket.create_connection((address, port), timeout=10) as s:
            return s.makefile("rb").readline()
    except ConnectionError:
        return None


def listening(*addresses, port):
    return {a for a in addresses if banner(a, port)}


EVERY = ("127.0.0.1", "127.0.0.2", *(["::1"] if HAS_IPV6 else []))
NO_IPV6 = "this host has no IPv6"


@pytest.mark.parametrize("name, main, wanted", [
    ("{p}", {"inet_interfaces": "all", "inet_protocols": "all"}, {"127.0.0.1", "127.0.0.2", "::1"}),
    ("{p}", {"inet_interfaces": "all", "inet_protocols": "ipv4"}, {"127.0.0.1", "127.0.0.2"}),
    ("{p}", {"inet_interfaces": "all", "inet_protocols": "ipv4, ipv6"}, {"127.0.0.1", "127.0.0.2", "::1"}),
    ("{p}", {"inet_interfaces": "loopback-only", "inet_protocols": "ipv4"}, {"127.0.0.1"}),
    ("{p}", {"inet_interfaces": "127.0.0.2, [::1]", "inet_protocols": "all"}, {"127.0.0.2", "::1"}),
    ("{p}", {"inet_interfaces": "127.0.0.1 127.0.0.2", "inet_protocols": "all"}, {"127.0.0.1", "127.0.0.2"}),
    ("{p}", {"inet_interfaces": "$myhostname", "myhostname": "localhost", "inet_protocols": "ipv4"}, {"127.0.0.1"}),
    ("127.0.0.2:{p}", {"inet_interfaces": "127.0.0.1"}, {"127.0.0.2"}),  # an address in master.cf outranks inet_interfaces
    ("[127.0.0.2]:{p}", {}, {"127.0.0.2"}),
    ("[::1]:{p}", {"inet_protocols": "all"}, {"::1"}),
    ("localhost:{p}", {"inet_protocols": "ipv4"}, {"127.0.0.1"}),
    ("mailport", {"known_tcp_ports": "smtp=25, spare=mailport={p}", "inet_interfaces": "127.0.0.1"}, {"127.0.0.1"}),
    ("127.0.0.2:spare", {"known_tcp_ports": "smtp=25, spare=mailport={p}"}, {"127.0.0.2"}),
])
def test_address_forms(instance, name, main, wanted):
    if "::1" in wanted and not HAS_IPV6:
        pytest.skip(NO_IPV6)
    port = free_port()
    main = {k: v.replace("{p}", str(port)) for k, v in main.items()}
    inst = instance(master=QUEUE + name.replace("{p}", str(port)) + " inet n - n - - smtpd -o smtpd_banner=found\n", main=main)
    assert listening(*EVERY, port=port) == wanted
    assert {banner(a, port) for a in wanted} == {b"220 found\r\n"}


@pytest.mark.parametrize("name, main, reason", [
    ("nosuchport", {}, "nosuchport"),
    ("127.0.0.1:99999", {}, "99999"),
    ("127.0.0.1:0", {}, "port .*0"),
    ("25x", {}, "25x"),
    ("host.invalid:2525", {}, r"host\.invalid"),
    ("{p}", {"inet_interfaces": "host.invalid"}, r"host\.invalid"),
    ("{p}", {"inet_interfaces": ""}, "inet_interfaces"),
    ("{p}", {"inet_protocols": "ipv5"}, "inet_protocols"),
    ("{p}", {"inet_protocols": ""}, "inet_protocols"),
])
def test_address_forms_that_cannot_be(instance, name, main, reason):
    """The system does not start, and what runs does not reload: the reason names the word."""
    inst = instance(master=QUEUE)
    good = dict(inst.main)
    inst.write_main(**main)
    inst.write("master.cf", (QUEUE + name.replace("{p}", str(free_port())) + " inet n - n - - smtpd\n").format(port=inst.port))
    inst.expect_fatal = True
    done = inst.reload(check=False)
    assert done.returncode == 1
    assert re.search(reason, done.stderr), done.stderr
    assert inst.answers()
    inst.write_main(**good)


@pytest.mark.skipif(not HAS_IPV6, reason=NO_IPV6)
def test_ipv6_only(instance):
    port = free_port()
    inst = instance(master=f"{port} inet n - n - - smtpd\n" + REST, main={"inet_interfaces": "all", "inet_protocols": "ipv6"}, start=False)
    inst.run("postfix", "start")
    inst.running = True
    assert listening(*EVERY, port=port) == {"::1"}


@pytest.mark.skipif(not HAS_IPV6, reason=NO_IPV6)
def test_addresses_change_at_a_reload(instance):
    """Those that are wanted before and after are never closed; others come and go; sessions go on."""
    port = free_port()
    inst = instance(master=QUEUE + f"{port} inet n - n - - smtpd\n",
                    main={"inet_interfaces": "127.0.0.1", "inet_protocols": "ipv4"})
    with socket.create_connection(("127.0.0.1", port), timeout=10) as kept:
        lines = kept.makefile("rb")
        assert lines.readline().startswith(b"220 ")
        for interfaces, protocols, wanted in [
            ("127.0.0.1, 127.0.0.2", "ipv4", {"127.0.0.1", "127.0.0.2"}),
            ("127.0.0.2, ::1", "all", {"127.0.0.2", "::1"}),
            ("127.0.0.2, 127.0.0.1", "all", {"127.0.0.1", "127.0.0.2"}),
        ]:
            inst.write_main(inet_interfaces=interfaces, inet_protocols=protocols)
            inst.reload()
            wait_for(lambda: f"{wanted}: {listening(*EVERY, port=port)}", lambda: listening(*EVERY, port=port) == wanted)
        kept.sendall(b"NOOP\r\n")
        assert lines.readline().startswith(b"250 ")


def test_fifo_and_datagram_types(instance):
    """fifo is served as a stream; the stock line of postlogd is accepted and nothing is said of it; other datagram services are reported."""
    inst = instance(master=QUEUE.replace("pickup    unix", "pickup    fifo").replace("qmgr      unix", "qmgr      fifo") +
                    "postlog unix-dgram n - n - 1 postlogd\n")
    assert inst.run("postfix", "check").stderr == ""
    inst.run("postkick", "public", "pickup", "W")
    inst.run("postlog", "-t", "postfix/probe", "through the socket")
    inst.wait_log(r"postfix/probe\[\d+\]: through the socket")
    assert stat.S_ISSOCK(os.stat(inst.spool / "public/postlog").st_mode)
    inst.write("master.cf", (QUEUE + "other unix-dgram n - n - 1 smtpd\n").format(port=inst.port))
    assert "service other is not started: type unix-dgram is not served" in inst.run("postfix", "check").stderr


def test_mail_passes_services_of_type_fifo(instance):
    """Configurations of old Postfix versions have pickup and qmgr as fifo."""
    inst = instance(master=QUEUE.replace("pickup    unix", "pickup    fifo").replace("qmgr      unix", "qmgr      fifo"),
                    main={"home_mailbox": "Maildir/", "virtual_mailbox_domains": "v.test", "virtual_mailbox_base": "{root}/mail",
                          "virtual_mailbox_maps": "static:box/", "virtual_uid_maps": "static:1000", "virtual_gid_maps": "static:1000"})
    inst.run("sendmail", "-f", "a@b.test", "u@v.test", input="Subject: x\n\nhello\n")
    inst.wait_maildir("box")
