# SPDX-License-Identifier: Apache-2.0
"""Much content from smtpd to cleanup, by way of shared memory: as it came, whatever is in it and however it comes."""
import fcntl
import mmap
import os
import random
import socket
import struct
import threading

import pytest
from instance import wait_for

SLOT, SLOTS = 256 << 10, 4  # base/share.h
HELLO, ENVELOPE, RCPT, END, RESULT, SHARE, SHARED, TAKEN = 1, 10, 11, 13, 15, 17, 18, 19  # mail/proto.h
MAIN = {"mydestination": "", "local_transport": "error:no"}


def text(rng, size, dots=0.0, long_lines=0.0, eight_bit=0.0):
    """Lines of a message, with what does not go straight through."""
    out, n = [], 0
    while n < size:
        line = b"%08d " % n + b"x" * (rng.randrange(70))
        if rng.random() < long_lines:
            line = b"%08d " % n + b"y" * rng.choice((2000, 9000, 100_000, SLOT - 9, SLOT * 2))
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
    "everything": ({"dots": 0.01, "long_lines": 0.001, "eight_bit": 0.01}, (1, 1460, 65536, SLOT)),
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


def test_more_at_once_than_share_memory(instance, sink):
    """Those over the limit go by way of the socket."""
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


# --- a client of cleanup that does what it should not ------------------------------------------------------

def frame(kind, payload=b"", flags=0):
    return struct.pack("<IHH", len(payload), kind, flags) + payload


def fields(*pairs):
    """lib/base/msg.h"""
    return b"".join(struct.pack("<HI", tag, len(value)) + value for tag, value in pairs)


def u32(n):
    return struct.pack("<I", n)


def memory(size=SLOT * SLOTS, seals=6):
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


class Client:
    def __init__(self, inst):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(60)
        self.s.connect(str(inst.spool / "public/cleanup"))
        self.s.sendall(frame(HELLO, fields((1, u32(1)), (2, b"test"))))

    def begin(self, queue_id=b"3Zabcdefgh"):
        self.s.sendall(frame(ENVELOPE, fields((1, queue_id), (2, b"s@example.org"))))
        self.s.sendall(frame(RCPT, fields((1, b"u@far.test"))))

    def share(self, fd):
        socket.send_fds(self.s, [frame(SHARE, flags=1)], [fd])
        os.close(fd)

    def answer(self):
        """The types of the frames that come, up to a result or the end."""
        kinds, data = [], b""
        while RESULT not in kinds:
            try:
                piece = self.s.recv(65536)
            except ConnectionResetError:
                break
            if not piece:
                break
            data += piece
            while len(data) >= 8 and len(data) >= 8 + struct.unpack("<I", data[:4])[0]:
                n, kind, _ = struct.unpack("<IHH", data[:8])
                kinds.append(kind)
                data = data[8 + n:]
        return [k for k in kinds if k != HELLO]


HOSTILE = {
    "another file": lambda c: c.share(os.open("/dev/zero", os.O_RDWR)),
    "memory that may shrink": lambda c: c.share(memory(seals=0)),
    "too little memory": lambda c: c.share(memory(SLOT)),
    "twice": lambda c: (c.share(memory()), c.share(memory())),
    "no descriptor": lambda c: c.s.sendall(frame(SHARE)),
    "content without memory": lambda c: c.s.sendall(frame(SHARED, fields((1, u32(1))))),
    "more than a slot": lambda c: (c.share(memory()), c.s.sendall(frame(SHARED, fields((1, u32(SLOT + 1)))))),
}


def test_clients_that_do_what_they_should_not(instance, sink):
    """It costs them their connection, and nobody else anything."""
    hop = sink()
    inst = instance(main={**MAIN, "relayhost": f"[127.0.0.1]:{hop.port}"})
    first = Client(inst)
    first.s.recv(1)
    pid = set(inst.pids("cleanup"))
    for name, what in HOSTILE.items():
        client = Client(inst)
        client.begin()
        what(client)
        assert client.answer() == [], name
    good = Client(inst)
    good.begin()
    fd = memory()
    with mmap.mmap(fd, SLOT * SLOTS) as slots:
        good.share(fd)
        slots[0:15] = b"Subject: x\r\n\r\na"
        slots[SLOT:SLOT + 3] = b"b\r\n"
        good.s.sendall(frame(SHARED, fields((1, u32(15)))) + frame(SHARED, fields((1, u32(3)))) + frame(SHARED) + frame(END))
        assert good.answer() == [TAKEN, RESULT]
    hop.wait(1)
    assert hop.messages[0][2].endswith(b"\r\n\r\nab\r\n")
    assert set(inst.pids("cleanup")) == pid and pid
    first.s.close()
