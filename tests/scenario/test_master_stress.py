# SPDX-License-Identifier: Apache-2.0
"""stress=yes: a service whose clients are as many as it may have serves those that come next under stress."""
import socket

import pytest
from instance import MASTER_CF, wait_for


def greeting(inst):
    s = socket.create_connection(("127.0.0.1", inst.port), timeout=20)
    return s, s.makefile("rb")


@pytest.mark.parametrize("per_process", ["500", "1"], ids=["shared", "apart"])
def test_new_clients_of_a_busy_service_meet_stress(instance, per_process):
    """Also when the workers that are full live on: their clients end as they began, new ones see the other values."""
    inst = instance(master=MASTER_CF.replace("inet n - n - - smtpd", "inet n - n - 3 smtpd"),
                    main={"smtpd_banner": "stress=${stress?{yes}:{no}}", "sessions_per_process": per_process})
    # who looked whether it serves has gone, else he is one of three
    wait_for("the end of that client", lambda: 0 < inst.log().count(": connect from ") == inst.log().count(": disconnect from "))
    clients = [greeting(inst) for _ in range(3)]
    try:
        assert [f.readline() for _, f in clients] == [b"220 stress=no\r\n"] * 3
        inst.wait_log(r'warning: service "127\.0\.0\.1:\d+" \(\d+\) has reached its process limit "3"')
        for _ in range(2):  # one at a time: the others stay
            clients.append(greeting(inst))
            old, f = clients.pop(0)
            old.sendall(b"QUIT\r\n")
            assert f.readline().startswith(b"221 ")
            f.close()
            old.close()
            assert clients[-1][1].readline() == b"220 stress=yes\r\n"
        kept, f = clients[0]
        kept.sendall(b"HELO x\r\n")
        assert f.readline().startswith(b"250 ")
    finally:
        for s, f in clients:
            f.close()
            s.close()
    # those that began before have gone with their clients; what is there now goes on under stress
    wait_for("the end of all clients", lambda: inst.log().count(" disconnect from ") >= 5)
    s, f = greeting(inst)
    assert f.readline() == b"220 stress=yes\r\n"
    f.close()
    s.close()
