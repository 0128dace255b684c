# SPDX-License-Identifier: Apache-2.0
"""Much content: it goes on as it came, whatever is in it and however it comes; and what is refused or broken off in the middle."""
import random
import socket
import threading

import pytest
from instance import wait_for

LONG = 256 << 10
MAIN = {"mydestination": "", "local_transport": "error:no"}


def text(rng, size, dots=0.0, long_lines=0.0, eight_bit=0.0):
    """Lines of a message, with what does not go straight through."""
    out, n = [], 0
    while n < size:
        line = b"%08d " % n + b"x" * (rng.randrange(70))
        if rng.random() < long_lines:
            line = b"%08d " % n + b"y" * rng.choice((2000, 9000, 100_000, LONG - 9, LONG * 2))
        if rng.random() < dots:
            line = b"." * rng.randrange(1, 4) + line
        if rng.random() < eight_bit:
            line += "ä".encode()
        out.append(line)
        n += len(line) + 2
    return out


def pieces(rng, data, sizes):
    at = 0
    while at < len(data):
        n = rng.choice(sizes)
        yield data[at:at + n]
        at += n


def converse(inst, to, data, cut):
    """One message, sent in such pieces. The answer to its end."""
    with socket.create_connection(("127.0.0.1", inst.port), timeout=60) as s, s.makefile("rb") as replies:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        replies.readline()
        for line in (b"HELO me.test", b"MAIL FROM:<s@example.org>", b"RCPT TO:<" + to.encode() + b">", b"DATA"):
            s.sendall(line + b"\r\n")
            answer = replies.readline()
            assert answer[:1] in b"23", answer
        for piece in cut(data):
            s.sendall(piece)
        s.sendall(b".\r\n")
        answer = replies.readline()
        s.sendall(b"QUIT\r\n")
        return answer


CASES = {
    "plain": ({}, (1 << 20,)),
    "small pieces": ({}, (1, 100, 1000, 5000)),
    "some dots": ({"dots": 0.0005}, (1 << 20,)),
    "all dots": ({"dots": 0.5}, (1 << 16, 10)),
    "long lines": ({"long_lines": 0.002}, (1 << 20, 77)),
    "everything": ({"dots": 0.01, "long_lines": 0.001, "eight_bit": 0.01}, (1, 1460, 65536, LONG)),
}


@pytest.mark.parametrize("case", CASES)
def test_as_it_came(instance, sink, case):
    hop = sink()
    inst = instance(main={**MAIN, "relayhost": f"[127.0.0.1]:{hop.port}", "smtp_line_length_limit": "0"})
    rng = random.Random(case)
    kinds, sizes = CASES[case]
    for i, size in enumerate((200 << 10, 3 << 20)):
        lines = text(rng, size, **kinds)
        stuffed = b"".join((b"." if line[:1] == b"." else b"") + line + b"\r\n" for line in lines)
        head = b"Subject: %d\r\n\r\n" % i
        answer = converse(inst, "u@far.test", head + stuffed, lambda data: pieces(rng, data, sizes))
        assert answer.startswith(b"250"), answer
        hop.wait(i + 1)
        got = hop.messages[i][2]
        assert got[got.index(b"\r\n\r\n") + 4:] == b"".join(line + b"\r\n" for line in lines)
    inst.wait_empty()


def test_body_checks_see_each_line(instance, sink):
    hop = sink()
    inst = instance(main={**MAIN, "relayhost": f"[127.0.0.1]:{hop.port}", "body_checks": "regexp:{etc}/checks", "body_checks_size_limit": "100000000"},
                    files={"checks": "/^secret$/ IGNORE\n"})
    lines = text(random.Random(1), 2 << 20)
    for at in (10, len(lines) // 2, len(lines) - 1):
        lines[at] = b"secret"
    answer = converse(inst, "u@far.test", b"Subject: x\r\n\r\n" + b"".join(line + b"\r\n" for line in lines), lambda data: [data])
    assert answer.startswith(b"250"), answer
    hop.wait(1)
    got = hop.messages[0][2]
    assert got[got.index(b"\r\n\r\n") + 4:] == b"".join(line + b"\r\n" for line in lines if line != b"secret")


@pytest.mark.parametrize("end, answer, log", [
    (b"a\nb\r\n.\r\n", b"521 5.5.2", None),
    (b"x" * 70 + b"\r\n" + (b"x" * 70 + b"\r\n") * 60000 + b".\r\n", b"552 5.3.4", None),
    (None, None, r"lost connection after DATA"),
], ids=["bare line feed", "too big", "broken off"])
def test_refused_in_the_middle(instance, sink, end, answer, log):
    """After much has been taken; and the next message on the same way is not touched by it."""
    hop = sink()
    inst = instance(main={**MAIN, "relayhost": f"[127.0.0.1]:{hop.port}", "message_size_limit": "5000000", "smtpd_forbid_bare_newline": "reject",
                          "smtpd_forbid_bare_newline_reject_code": "521", "smtpd_forbid_bare_newline_exclusions": ""})
    much = b"Subject: x\r\n\r\n" + (b"x" * 70 + b"\r\n") * 30000
    with socket.create_connection(("127.0.0.1", inst.port), timeout=60) as s, s.makefile("rb") as replies:
        s.sendall(b"HELO me.test\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<u@far.test>\r\nDATA\r\n")
        for _ in range(5):
            assert replies.readline()[:1] in b"23"
        s.sendall(much)
        if end is not None:
            s.sendall(end)
            assert replies.readline().startswith(answer)
    if log is not None:
        inst.wait_log(log)
    assert converse(inst, "u@far.test", much, lambda data: [data]).startswith(b"250")
    hop.wait(1)
    inst.wait_empty()
    assert len(hop.messages) == 1
    wait_for("no file of what was refused", lambda: list(inst.spool.glob("large/*")) == [])


def test_many_at_once(instance, sink):
    hop = sink()
    inst = instance(main={**MAIN, "relayhost": f"[127.0.0.1]:{hop.port}"})
    body = b"Subject: x\r\n\r\n" + (b"x" * 70 + b"\r\n") * 10000
    together = threading.Barrier(40)
    answers = []

    def halves(data):
        yield data[:600_000]
        together.wait(60)
        yield data[600_000:]

    threads = [threading.Thread(target=lambda: answers.append(converse(inst, "u@far.test", body, halves))) for _ in range(40)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    assert len(answers) == 40 and all(a.startswith(b"250") for a in answers), answers
    hop.wait(40)
    assert all(content.count(b"x" * 70 + b"\r\n") == 10000 for _, _, content in hop.messages)
