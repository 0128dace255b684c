# SPDX-License-Identifier: Apache-2.0
"""smtp-source, smtp-sink and floor: against each other, an instance and other clients; TLS; wrong input."""
import os
import re
import smtplib
import socket
import ssl
import subprocess

import pytest

from bench_tools import accepts, BENCH, dumped, field, figures, ROOT, sinks, source, talk  # noqa: F401 (a fixture)
from instance import DEADLINE, HAS_IPV6, free_port, wait_for


@pytest.mark.parametrize("options, sessions, rcpts", [
    (["-s", 5, "-N"], 60, 60), (["-s", 5, "-d"], 5, 60), (["-r", 3, "-d"], 1, 180), (["-o"], 60, 60), (["-s", 100], 60, 60),
    (["-s", 4, "-d", "--pipelining", "-r", 7], 4, 420)])
def test_messages_and_sessions_are_counted(sinks, options, sessions, rcpts):
    sink = sinks("-n", sessions)
    got = figures(*options, "-m", 60, sink.where)
    assert sink.ended() == {"sess": sessions, "quit": sessions, "mesg": 60, "rcpt": rcpts}
    assert (got["accepted"], got["refused"], got["recipients"], got["connections"]) == (60, 0, rcpts, sessions)


@pytest.mark.parametrize("option", ["-M", "-n"])
def test_the_sink_ends_after_so_many(sinks, option):
    sink = sinks(option, 3)
    source("-m", 3, sink.where)
    assert sink.ended()["mesg"] == 3 and sink.process.returncode == 0


def test_unix_domain_sockets(sinks, tmp_path):
    sink = sinks("-n", 2, where=f"unix:{tmp_path}/socket")
    source("-m", 2, sink.where)
    assert sink.ended()["mesg"] == 2


def test_unix_domain_sockets_with_a_full_backlog(sinks, tmp_path):
    sink = sinks("-n", 200, where=f"unix:{tmp_path}/socket", backlog="1")
    source("-s", 50, "-m", 200, sink.where)
    assert sink.ended()["mesg"] == 200
    assert source("-C", 2, sink.where, check=False).stderr == "smtp-source: fatal: connect: Connection refused\n"


@pytest.mark.skipif(not HAS_IPV6, reason="this host has no IPv6")
def test_ipv6_and_the_choice_of_a_family(sinks):
    port = free_port()
    one = sinks("-6", where=f"[::1]:{port}", ready=False)
    one.port = port
    wait_for("smtp-sink", one.listens)
    source(f"[::1]:{port}")
    source("-6", f"[::1]:{port}")
    assert source("-4", f"[::1]:{port}", check=False).stderr.startswith(f"smtp-source: fatal: ::1:{port}: ")
    assert one.end()["mesg"] == 2


def test_lmtp_has_a_reply_for_each_recipient(sinks, tmp_path):
    sink = sinks("-L", "-d", tmp_path / "m.")
    assert figures("-L", "-d", "-r", 3, "-m", 5, sink.where)["recipients"] == 15
    with talk(sink.port) as t:
        assert t.reply() == ["220 smtp-sink"]
        assert t.say("EHLO x")[:3] == "500" and t.say("HELO x")[:3] == "500" and t.say("LHLO x")[:3] == "250"
        for line in ("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "RCPT TO:<e@d>", "DATA"):
            t.say(line)
        assert t.say("x\r\n.")[:3] == "250" and t.reply()[0][:3] == "250"
    assert {*field(dumped(tmp_path, "m.")[0], "X-Client-Proto")} == {"LMTP"}


def test_an_instance_passes_everything_on(sinks, instance):
    sink = sinks("-m", 100)
    inst = instance(main={"relayhost": f"[127.0.0.1]:{sink.port}"})
    got = figures("-s", 10, "-m", 200, "-l", 3000, "-N", "-t", "u@far.test", "-f", "s@near.test", f"127.0.0.1:{inst.port}")
    assert got["accepted"] == 200
    wait_for("200 messages at the sink", lambda: sink.counters().get("mesg") == 200)
    inst.wait_empty()


def test_the_floor_passes_everything_on(sinks, tmp_path):
    sink = sinks("-m", 100, "-d", tmp_path / "m.")
    port = free_port()
    for options in ([], ["-q", "-s", "5", "-o", "3"]):
        floor = subprocess.Popen([BENCH / "floor", *options, f"127.0.0.1:{port}", sink.where, tmp_path / "journal"], stdin=subprocess.DEVNULL)
        try:
            wait_for("floor", lambda: accepts(port))
            before = sink.counters().get("mesg", 0)
            source("-s", 5, "-m", 100, "-r", 2, "-l", 5000, "-t", "u@far.test", f"127.0.0.1:{port}")
            wait_for("100 messages at the sink", lambda: sink.counters().get("mesg") == before + 100)
        finally:
            floor.kill()
            floor.wait()
    one = dumped(tmp_path, "m.")[0]
    assert field(one, "X-Rcpt-Args") == ["<1u@far.test>", "<2u@far.test>"]
    assert b"To: <u@far.test>\n" in "\n".join(one).encode()
    assert len("\n".join(one).split("\n\n", 1)[1]) == 5000 - 63 + 1  # CRLF became LF 63 times; the line that ends a dump


# --- TLS ---

@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=sink.test",
                    "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    with open(path, "a") as f:
        f.write(open(f"{path}.crt").read())
    return path


@pytest.mark.parametrize("wrapped", [False, True])
def test_tls(sinks, certificate, tmp_path, wrapped):
    sink = sinks("--tls-cert", certificate, *(["--tls-wrapper"] if wrapped else []), "-d", tmp_path / "m.")
    option = "--tls-wrapper" if wrapped else "--tls"
    got = figures(option, "-s", 3, "-m", 20, "-l", 300000, sink.where)
    assert (got["accepted"], got["connections"], got["resumed"]) == (20, 20, 0)
    assert figures(option, "--tls-resume", "-s", 2, "-m", 20, sink.where)["resumed"] == 18
    assert figures(option, "--pipelining", "-d", "-r", 500, "-m", 3, "--tls-cafile", f"{certificate}.crt", sink.where)["recipients"] == 1500
    assert sink.end()["mesg"] == 43
    assert all(field(lines, "X-Client-Proto") == ["ESMTP"] for lines in dumped(tmp_path, "m."))


def test_another_client_speaks_tls_too(sinks, certificate):
    sink = sinks("--tls-cert", f"{certificate}.crt", "--tls-key", certificate)
    context = ssl.create_default_context(cafile=f"{certificate}.crt")
    context.check_hostname = False
    with smtplib.SMTP("127.0.0.1", sink.port, timeout=DEADLINE) as client:
        client.starttls(context=context)
        client.ehlo()
        assert not client.has_extn("starttls")
        client.sendmail("a@b", ["c@d"], "Subject: x\n\nx\n")
    assert sink.end()["mesg"] == 1


def test_what_follows_starttls_in_clear_is_dropped(sinks, certificate):
    sink = sinks("--tls-cert", certificate)
    with talk(sink.port) as t:
        t.reply()
        t.socket.sendall(b"STARTTLS\r\nMAIL FROM:<a@b>\r\n")
        assert t.reply()[0][:3] == "220"
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(t.socket) as inside:
            inside.sendall(b"RCPT TO:<a@b>\r\n")
            assert inside.recv(100).startswith(b"503")


def test_tls_that_fails(sinks, certificate, tmp_path):
    plain = sinks()
    assert source("--tls", plain.where, check=False).stderr == "smtp-source: fatal: the server does not announce STARTTLS\n"
    other = tmp_path / "other.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=other.test",
                    "-keyout", "/dev/null", "-out", other], check=True, capture_output=True)
    sink = sinks("--tls-cert", certificate)
    done = source("--tls", "--tls-cafile", other, sink.where, check=False)
    assert done.returncode == 1 and "certificate verify failed" in done.stderr
    done = source("--tls-wrapper", plain.where, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1


# --- wrong input ---

@pytest.mark.parametrize("arguments, said", [
    (["-m", "0", "x:1"], "-m: "), (["-m", "1x", "x:1"], "-m: "), (["-s", "-1", "x:1"], "-s: "), (["-l", "99999999999", "x:1"], "-l: "),
    (["-T", "65536", "x:1"], "-T: "), (["-w", "1", "-R", "1", "x:1"], "specify one of -w -R"), (["-F", "/nonexistent", "x:1"], "-F: "),
    (["-F", "/dev/null", "-l", "1", "x:1"], "specify one of -F -l"), (["--tls-resume", "x:1"], "--tls-resume"), (["-o", "--tls", "x:1"], "with -o"),
    (["[::1", ], "[::1: want"), (["127.0.0.1:"], "127.0.0.1:: want"), (["127.0.0.1:nosuchport"], "127.0.0.1:nosuchport: "), (["unix:"], "unix:: want"),
    (["unix:/nonexistent"], "connect: No such file"), (["--domains", "2", "-t", "u", "127.0.0.1:1"], "--domains"), ([":25"], ":25: want"),
    (["--latency", "--json", "x:1"], "specify one of --latency --json"), (["--tls", "--tls-wrapper", "x:1"], "specify one of --tls --tls-wrapper")])
def test_wrong_input_of_the_source(arguments, said):
    done = source(*arguments, check=False)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.startswith("smtp-source: fatal: " + said), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments, said", [
    (["-f", "FOO"], "-f: unknown command: FOO"), (["-s", "x"], "-s: unknown command: x"), (["-W", "NOOP"], "-W: want"), (["-W", "NOOP:1:100"], "-W: "),
    (["-W", "NOOP:1:2:3"], "-W: want"), (["-b", "550 x"], "-b: want"), (["-B", "5"], "-B: want"), (["-m", "x"], "-m: "), (["-A", "-1"], "-A: "),
    (["-S", r"\q"], "-S: "), (["-d", "a", "-D", "b"], "specify one of -d -D"), (["--tls-key", "x"], "--tls-key"), (["--tls-cert", "/nonexistent"], "--tls-cert: "),
    (["-u", "nosuchuser"], "-u: unknown user")])
def test_wrong_input_of_the_sink(arguments, said):
    user = ["-u", "daemon"] if ROOT and "-u" not in arguments else []
    done = subprocess.run([BENCH / "smtp-sink", *user, *arguments, f"127.0.0.1:{free_port()}", "10"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=DEADLINE)
    assert done.returncode == 1 and done.stderr.startswith("smtp-sink: fatal: " + said) and done.stderr.count("\n") == 1, done.stderr


def test_addresses_that_cannot_be_listened_on():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for where, said in ((f"127.0.0.1:{taken.getsockname()[1]}", "Address already in use"), ("127.0.0.1", "want"), ("unix:/nonexistent/x", "No such file")):
            done = subprocess.run([BENCH / "smtp-sink", "-u", "daemon", where, "10"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE)
            assert done.returncode == 1 and said in done.stderr and where in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("name", ["smtp-source", "smtp-sink", "floor"])
def test_usage(name):
    for arguments, status, stream in ((["--help"], 0, "stdout"), ([], 1, "stderr"), (["--nonsense"], 1, "stderr")):
        done = subprocess.run([BENCH / name, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == status and f"usage: {name} " in getattr(done, stream)


def test_every_option_is_in_the_manual():
    for name in ("smtp-source", "smtp-sink"):
        usage = subprocess.run([BENCH / name, "--help"], capture_output=True, text=True).stdout
        page = open(os.path.join(os.path.dirname(__file__), f"../../man/{name}.1")).read().replace("\\-", "-")
        letters = "".join(re.findall(r"\[-(\w{3,})\]", usage)) + "".join(re.findall(r"\[-(\w) ", usage))
        assert len(letters) > 15
        for option in [*(f"-{c}" for c in letters), *re.findall(r"--[\w-]+", usage)]:
            assert re.search(rf"^\.I?[BP].*{option}\b", page, re.M), f"{name}: {option}"
