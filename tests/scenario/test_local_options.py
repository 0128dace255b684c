# SPDX-License-Identifier: Apache-2.0
"""Parameters of local(8), judged by mailboxes and by what commands see."""
import os
import pwd
import re
import socket

import pytest
from instance import DEADLINE, wait_for

# a user of every Debian system, whose mail goes to an mbox file or a command here
USER = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() else "games"


@pytest.fixture
def local(instance):
    def make(aliases="", files=None, **main):
        inst = instance(main={"alias_maps": "texthash:{etc}/aliases", "mail_spool_directory": "{root}/mail", "biff": "no", "recipient_delimiter": "+",
                              "local_destination_concurrency_limit": "1", **main},
                        files={"aliases": aliases or "none nobody\n", **(files or {})})
        return inst

    return make


def submit(inst, to, text="Subject: x\n\nhello\n"):
    inst.run("sendmail", "-f", "s@example.org", to, input=text)


def report(inst, name="report"):
    """What a command wrote to mail/NAME, when all has been delivered."""
    inst.wait_log(r"status=sent \(delivered to command")
    inst.wait_empty()
    return (inst.home / name).read_text()


def test_mail_to_dev_null(local):
    inst = local(aliases="void /dev/null\n")
    submit(inst, "void@mx.example.test")
    inst.wait_log(r"to=<void@mx.example.test>, relay=local, .*status=sent \(delivered to file\)")


@pytest.mark.parametrize("strict", ["yes", "no"])
@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has no other's mailbox")
def test_strict_mailbox_ownership(local, strict):
    inst = local(strict_mailbox_ownership=strict)
    box = inst.home / USER
    box.write_text("")
    box.chmod(0o666)
    submit(inst, f"{USER}@mx.example.test")
    if strict == "yes":
        inst.wait_log(rf"to=<{USER}@mx.example.test>.*dsn=4\.2\.0, status=deferred \(destination \S+ is not owned by recipient\)")
        os.chown(box, pwd.getpwnam(USER).pw_uid, -1)
        inst.run("postqueue", "-f")
    inst.wait_log(rf"to=<{USER}@mx.example.test>.*status=sent \(delivered to mailbox\)")
    assert "hello" in box.read_text()


@pytest.mark.parametrize("value, file, command, forward", [
    ("command, file, forward", True, True, True), ("file", True, False, False), ("command forward", False, True, True), ("", False, False, False)])
def test_prepend_delivered_header(local, sink, value, file, command, forward):
    hop = sink()
    inst = local(aliases="f {root}/mail/file\nc |cat >{root}/mail/report\ng x@far.test\n", prepend_delivered_header=value,
                 relayhost=f"[127.0.0.1]:{hop.port}", default_privs=USER)
    inst.write("aliases", (inst.etc / "aliases").read_text().replace("{root}", str(inst.root)))
    inst.reload()
    for name in "fgc":
        submit(inst, f"{name}@mx.example.test")
        inst.wait_log(rf"to=<{name}@mx.example.test>.*status=sent")
    assert ("Delivered-To: c@" in report(inst)) == command
    assert ("Delivered-To: f@" in (inst.home / "file").read_text()) == file
    assert (b"Delivered-To: g@" in hop.wait(1)[0][2]) == forward


def commanded(local, **main):
    """What a user's mailbox command sees of its surroundings."""
    inst = local(mailbox_command="{ pwd; echo $0; env; } >{root}/mail/report", **main)
    submit(inst, f"{USER}+a'b`c@mx.example.test")
    lines = report(inst).splitlines()
    return inst, lines[0], lines[1], dict(line.split("=", 1) for line in lines[2:] if "=" in line)


def test_environment_of_commands(local):
    inst, _, shell, env = commanded(local, export_environment="LANG FOO=bar")
    assert shell == "/bin/sh"
    assert (env["SENDER"], env["USER"], env["LOGNAME"], env["DOMAIN"], env["FOO"], env["LANG"]) == (
        "s@example.org", USER, USER, "mx.example.test", "bar", "C")
    assert env["EXTENSION"] == "a_b_c" and env["HOME"] == pwd.getpwnam(USER).pw_dir and "MAIL_CONFIG" not in env


def test_command_expansion_filter(local):
    _, _, _, env = commanded(local, command_expansion_filter="abc'@.exmplorgts")
    assert env["EXTENSION"] == "a'b_c"


def test_directory_and_shell_of_commands(local):
    _, directory, shell, _ = commanded(local, command_execution_directory="/usr/share/$nothing", local_command_shell="/bin/bash -c")
    assert directory == "/usr/share"
    assert shell == "/bin/bash"


def test_a_directory_that_is_not_there_defers(local):
    inst = local(mailbox_command="cat >/dev/null", command_execution_directory="/nonexistent/$user")
    submit(inst, f"{USER}@mx.example.test")
    inst.wait_log(rf"to=<{USER}@mx.example.test>.*dsn=4\.3\.0, status=deferred .*cannot change to directory /nonexistent/{USER}")


def test_filter_of_directories(local):
    inst = local(mailbox_command="cat >/dev/null", command_execution_directory="/nonexistent/$extension", execution_directory_expansion_filter="abc")
    submit(inst, f"{USER}+a.b@mx.example.test")
    inst.wait_log(r"cannot change to directory /nonexistent/a_b:")


@pytest.mark.parametrize("user, wanted", [(USER, "by the table"), ("other", "by default")])
def test_mailbox_command_maps(local, user, wanted):
    inst = local(mailbox_command="echo by default >{root}/mail/report", mailbox_command_maps="texthash:{etc}/commands", files={"commands": "x y\n"})
    inst.write("commands", f"{user} echo by the table >{inst.root}/mail/report\n")
    inst.reload()
    submit(inst, f"{USER}@mx.example.test")
    assert report(inst).strip() == wanted


def test_mailbox_command_maps_trouble_defers(local):
    inst = local(mailbox_command_maps="fail:now")
    submit(inst, f"{USER}@mx.example.test")
    inst.wait_log(r"dsn=4\.3\.0, status=deferred \(mailbox_command_maps: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can listen where comsat does")
@pytest.mark.parametrize("biff", ["yes", "no"])
def test_biff(local, biff):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as comsat:
        comsat.bind(("127.0.0.1", 512))
        comsat.settimeout(DEADLINE if biff == "yes" else 0.1)
        inst = local(biff=biff)
        sizes = []
        for _ in range(2):
            submit(inst, f"{USER}@mx.example.test")
            wait_for("the delivery", lambda: inst.log().count("status=sent") > len(sizes))
            sizes.append((inst.home / USER).stat().st_size)
            if biff == "yes":
                assert comsat.recv(100).decode() == f"{USER}@{([0] + sizes)[len(sizes) - 1]}"
        if biff == "no":
            with pytest.raises(TimeoutError):
                comsat.recv(100)


def test_forward_path_and_its_filter(local):
    inst = local(forward_path="{root}/mail/forward/$extension", forward_expansion_filter="abc")
    (inst.home / "forward").mkdir()
    (inst.home / "forward/a_b").write_text(f"|cat >{inst.home}/report\n")
    submit(inst, f"{USER}+a.b@mx.example.test")
    assert "hello" in report(inst)


@pytest.mark.parametrize("template, path", [
    ("{root}/mail/no, {root}/mail/f${extension?-$extension}", "f-a"),
    ("{root}/mail/f${recipient_delimiter:none}$extension", "fa"),
    ("{root}/mail/f${shell?{-${extension}}:{-none}}$(extension)$nosuch", "f-aa"),
    ("{root}/mail/${nosuch?{no}:{f ,}}$$", "f ,$"),
])
def test_conditions_in_templates(local, template, path):
    inst = local(forward_path=template)
    (inst.home / path).write_text(f"|cat >{inst.home}/report\n")
    submit(inst, f"{USER}+a@mx.example.test")
    assert "hello" in report(inst)


@pytest.mark.parametrize("relay, wanted", [
    ("$user@other.test", "no.such@other.test"), ("all+$local@other.test", "all+No.Such+x=y@other.test"), ("catch${extension?-$extension}@$domain.test", "catch-x=y@mx.example.test.test"),
    ("${home?at-home}${home:nobody}@other.test", "nobody@other.test"),
])
def test_luser_relay(local, relay, wanted):
    """The address is made for each recipient: $user is whom the mail was for."""
    inst = local(luser_relay=relay, local_recipient_maps="", relayhost="", default_transport="discard:")
    submit(inst, "No.Such+x=y@mx.example.test")
    inst.wait_log(rf"to=<{re.escape(wanted)}>, .*relay=none, .*status=sent")
    inst.wait_empty()


# --- other transports -------------------------------------------------------------------------------


@pytest.mark.parametrize("main, recipient, wanted", [
    ({"mailbox_transport": "smtp:[127.0.0.1]:{hop}"}, USER, "hop"),
    ({"mailbox_transport": "smtp:[127.0.0.1]:{hop}"}, "nosuch", "hop"),
    ({"mailbox_transport_maps": f"inline:{{ {{{USER} = smtp:[127.0.0.1]:{{hop}}}} }}"}, USER, "hop"),
    ({"mailbox_transport_maps": "inline:{ {other = error:5.7.9 no} }"}, USER, "mailbox"),
    ({"fallback_transport": "smtp:[127.0.0.1]:{hop}"}, "nosuch", "hop"),
    ({"fallback_transport": "error:5.7.9 no"}, USER, "mailbox"),
    ({"fallback_transport_maps": "inline:{ {nosuch = smtp:[127.0.0.1]:{hop}} }", "fallback_transport": "error:5.7.9 no"}, "nosuch", "hop"),
    ({"mailbox_transport": "error:5.7.9 not here"}, USER, "5.7.9"),
    ({"mailbox_transport": "nosuch:"}, USER, "4.3.0"),
    ({"mailbox_transport_maps": "fail:now"}, USER, "4.3.0"),
])
def test_transports_of_mailboxes(local, sink, main, recipient, wanted):
    hop = sink()
    inst = local(local_recipient_maps="", **{k: v.replace("{hop}", str(hop.port)) for k, v in main.items()})
    submit(inst, f"{recipient}@mx.example.test")
    if wanted == "hop":
        assert hop.wait(1)[0][1] == [f"{recipient}@mx.example.test"]
        inst.wait_empty()
        # one line, and it is the other agent's
        assert re.findall(r"postfix/(\w+)\[\d+\]: \w+: to=.*status=sent", inst.log()) == ["smtp"]
    elif wanted == "mailbox":
        inst.wait_log(r"relay=local, .*status=sent \(delivered to mailbox\)")
    else:
        inst.wait_log(rf"to=<{recipient}@mx.example.test>.*dsn={wanted}, status={'bounced' if wanted[0] == '5' else 'deferred'}")


def test_a_mailbox_elsewhere_among_other_things(local, sink):
    """An alias for a user and a file: both are done, and the recipient's line is that of local."""
    hop = sink()
    inst = local(aliases=f"both {USER}, /dev/null\n", mailbox_transport=f"smtp:[127.0.0.1]:{hop.port}")
    submit(inst, "both@mx.example.test")
    inst.wait_log(r"to=<both@mx.example.test>, .*relay=local, .*status=sent")
    assert hop.wait(1)


def test_a_list_waits_while_its_owner_cannot_be_told(local):
    """Sent on without, reports about its members would go to whoever wrote to it."""
    inst = local(aliases="list x@far.test\n", alias_maps="texthash:{etc}/aliases, fail:down")
    submit(inst, "list@mx.example.test")
    inst.wait_log(r"to=<list@mx.example.test>, relay=local, .*dsn=4\.3\.0, status=deferred \(alias database unavailable: ")
    assert "far.test" not in inst.log()
