# SPDX-License-Identifier: Apache-2.0
"""Options of sendmail(1), right and wrong, with the answers that Debian's Postfix 3.7 gave; commands without standard input, output or errors."""
import os
import re
import subprocess

import pytest

from instance import STAGE, wait_for


@pytest.fixture(scope="module")
def relaying(tmp_path_factory):
    """One instance for all of them; its next hop takes everything."""
    from instance import Instance, Sink, reachable_directory
    import shutil
    root = reachable_directory()
    hop = Sink()
    inst = Instance(root / "i", main={"relayhost": f"[127.0.0.1]:{hop.port}", "mydestination": ""})
    inst.start()
    yield inst, hop
    problems = inst.close()
    hop.close()
    shutil.rmtree(root, ignore_errors=True)
    assert not problems, "\n".join(problems)


def said(done):
    return (done.returncode, done.stdout, re.sub(r"^\S*sendmail: ", "", done.stderr, flags=re.M))


REFUSED = [
    (["-bp", "x@far.test"], "display queue mode requires no recipient"),
    (["-q", "30m"], "flush queue mode requires no recipient"),
    (["-bi", "x@far.test"], "alias initialization mode requires no recipient"),
    (["-I", "x@far.test"], "alias initialization mode requires no recipient"),
    (["-bs", "x@far.test"], "stand-alone mode requires no recipient"),
    (["-qf"], "-qf is not implemented"),
    (["-q!Rx"], "-q! is not implemented"),
    (["-n", "x@far.test"], "-n option not supported"),
    (["-B", "MIME", "x@far.test"], "-B option needs 8BITMIME or 7BIT"),
    (["-bv", "-N", "never", "x@far.test"], "-N option cannot be used with -bv"),
    (["-bv", "-t", "x@far.test"], "-t option cannot be used with -bv"),
    ([], "Recipient addresses must be specified on the command line or via the -t option"),
    (["-t"], "No recipient addresses found in message header"),
]


@pytest.mark.parametrize("options, text", REFUSED)
def test_refused(relaying, options, text):
    inst, _ = relaying
    assert said(inst.run("sendmail", *options, input="", check=False)) == (75, "", f"fatal: {text}\n")


@pytest.mark.parametrize("options", [
    "-e m", "-em", "-oem", "-o i", "-h 5", "-U", "-m", "-p x", "-x", "-G", "-c", "-A c", "-Ac", "-O DeliveryMode=b", "-L tag", "-bm", "-B 7bit"])
def test_without_effect(relaying, options):
    inst, _ = relaying
    assert said(inst.run("sendmail", *options.split(), "-f", "s@x.test", "x@far.test", input="\n")) == (0, "", "")


@pytest.mark.parametrize("options", ["-bh", "-bH", "-q", "-q30m"])
def test_nothing_to_say(relaying, options):
    inst, _ = relaying
    assert said(inst.run("sendmail", options, input="")) == (0, "", "")


@pytest.mark.parametrize("options, warning", [
    (["-N", "bogus"], "bad -N option value -- ignored"), (["-N", "never,success"], "bad -N option value -- ignored"),
    (["-R", "bogus"], "bad -R option value -- ignored"), (["-V", ""], "bad syntax in -V option value -- ignored")])
def test_ignored_with_a_warning(relaying, options, warning):
    inst, hop = relaying
    before = len(hop.messages)
    done = inst.run("sendmail", *options, "-f", "s@x.test", "ignored@far.test", input="\n")
    code, out, err = said(done)
    assert (code, out, err.count("\n")) == (0, "", 1) and err.startswith(f"warning: {warning}")
    wait_for("the message", lambda: any(rcpts == ["ignored@far.test"] for _, rcpts, _ in hop.messages[before:]))


@pytest.mark.parametrize("text, sender, warns", [
    ("s@x.test", "s@x.test", False), ("", "", False), ("<>", "", False), ("<s@x.test>", "s@x.test", False), ("A Name <s@x.test>", "s@x.test", False),
    ("s@x.test (comment)", "s@x.test", False), ("one@x.test, two@x.test", "one@x.test", True), ('"a b"@x.test', '"a b"@x.test', False), (",", "", True)])
def test_sender(relaying, text, sender, warns):
    inst, hop = relaying
    before = len(hop.messages)
    done = inst.run("sendmail", "-f", text, "who@far.test", input="\n")
    assert done.stderr.count("-f option specified malformed sender: " + text) == warns and done.stderr.count("\n") == warns
    found = wait_for("the message", lambda: [m[0] for m in hop.messages[before:] if m[1] == ["who@far.test"]])
    assert found == [sender]


@pytest.mark.parametrize("sender", ["s@x.test", ""])
@pytest.mark.parametrize("option", ["-v", "-bv"])
def test_who_gets_the_report_is_told(relaying, option, sender):
    inst, _ = relaying
    assert said(inst.run("sendmail", option, "-f", sender, "x@far.test", input="\n")) == (
        0, f"Mail Delivery Status Report will be mailed to <{sender}>.\n", "")


def closed(inst, redirection, *command):
    """The shell closes a descriptor; what is written elsewhere is caught."""
    env = dict(os.environ, MAIL_CONFIG=str(inst.etc))
    return subprocess.run(["sh", "-c", f'exec "$@" {redirection}', "sh", STAGE / "sbin" / command[0], *command[1:]], env=env, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)


def test_closed_descriptors(relaying):
    """A file or socket that takes the number of standard input or output is not taken for it."""
    inst, _ = relaying
    inst.wait_empty()  # of what the other tests have sent
    done = closed(inst, "<&-", "sendmail", "-f", "s@x.test", "x@far.test")
    assert done.returncode == 75 and "read the message: Bad file descriptor" in done.stderr
    done = closed(inst, "<&-", "postsuper", "-d", "-")
    assert (done.returncode, done.stdout) == (0, "") and "Deleted: 0 messages" in done.stderr
    for redirection in (">&-", "2>&-", "<&- >&- 2>&-"):
        done = closed(inst, redirection, "postqueue", "-p")
        assert (done.returncode, done.stdout) == (0, "Mail queue is empty\n" if redirection == "2>&-" else ""), redirection
        assert closed(inst, redirection, "postqueue", "-f").returncode == 0
    inst.run("postqueue", "-p")  # what was written went nowhere, not to the queue manager: it goes on


def test_full_output(instance, sink):
    hop = sink(reply=lambda verb, argument, number: b"450 4.2.0 later\r\n" if verb == "RCPT" else None)
    inst = instance(main={"relayhost": f"[127.0.0.1]:{hop.port}"})
    inst.send("x@far.test")
    wait_for("the deferred message", lambda: '"deferred"' in inst.run("postqueue", "-j").stdout)
    (queue_id,) = re.findall(r"^([0-9A-F]{6,})", inst.mailq(), re.M)
    inst.expect_fatal = True
    for command in (["postqueue", "-p"], ["postqueue", "-j"], ["postqueue", "--older", "0s"], ["qshape", "deferred"]):
        done = closed(inst, ">/dev/full", *command)
        assert done.returncode != 0 and done.stderr == f"{command[0]}: fatal: output write error: No space left on device\n", done
        assert command[0] == "qshape" or done.returncode == 69  # Postfix's
    done = closed(inst, ">/dev/full", "postcat", "-q", queue_id)
    assert done.returncode == 1 and "write error" in done.stderr
