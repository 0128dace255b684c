# SPDX-License-Identifier: Apache-2.0
"""Real clients and commands: swaks, msmtp, s-nail, sendmail; mail handed in while the system is stopped."""
import os
import subprocess

from instance import wait_for

MAIN = {"virtual_mailbox_domains": "v.test", "virtual_mailbox_base": "{root}/mail", "virtual_mailbox_maps": "inline:{bob@v.test=bob/}",
        "virtual_uid_maps": "static:2000", "virtual_gid_maps": "static:2000"}


def client(*argv, input="", **env):
    done = subprocess.run(argv, input=input.encode(), capture_output=True, timeout=60, env={**os.environ, **env})
    assert done.returncode == 0, (argv, done.stdout, done.stderr)


def subjects(inst, count):
    return sorted(m["Subject"] for m in inst.wait_maildir("bob", count))


def test_clients(instance):
    inst = instance(main=MAIN)
    client("swaks", "--silent", "2", "--server", f"127.0.0.1:{inst.port}", "--from", "a@example.org", "--to", "bob@v.test", "--header", "Subject: swaks")
    client("msmtp", "--host=127.0.0.1", f"--port={inst.port}", "--from=a@example.org", "--auth=off", "--tls=off", "--file=/dev/null",
           "bob@v.test", input="Subject: msmtp\n\nx\n")
    client("s-nail", "-n", "-S", "v15-compat", "-S", f"mta=smtp://127.0.0.1:{inst.port}", "-S", "smtp-auth=none", "-S", "from=a@example.org",
           "-S", "hostname=client.example.org", "-s", "snail", "bob@v.test", input="x\n", HOME=str(inst.root), MAILRC="/dev/null")
    assert subjects(inst, 3) == ["msmtp", "snail", "swaks"]


def test_sendmail(instance):
    inst = instance(main=MAIN)
    inst.run("sendmail", "-t", "-i", "-f", "a@example.org", input="To: bob@v.test\nBcc: bob@v.test\nSubject: extracted\n\n.\nafter the dot\n")
    inst.run("sendmail", "-f", "", "bob@v.test", input="Subject: null\n\nx\n.\nnot read\n")
    inst.run("sendmail", "-bs", input="HELO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<bob@v.test>\r\nDATA\r\nSubject: dialogue\r\n\r\nx\r\n.\r\nQUIT\r\n")
    assert subjects(inst, 3) == ["dialogue", "extracted", "null"]
    messages = {m["Subject"]: m for m in inst.maildir("bob")}
    assert "after the dot" in messages["extracted"].get_payload() and messages["extracted"]["Bcc"] is None
    assert "not read" not in messages["null"].get_payload() and messages["null"]["Return-Path"] == "<>"
    assert inst.run("sendmail", input="Subject: nobody\n\nx\n", check=False).returncode == 75
    inst.stop()
    inst.run("sendmail", "-f", "a@example.org", "bob@v.test", input="Subject: stopped\n\nx\n")
    inst.start()
    assert "stopped" in subjects(inst, 4)


def test_local_delivery(instance, tmp_path):
    inst = instance(main={"alias_maps": "texthash:{etc}/aliases", "mail_spool_directory": "{root}/mail", "local_recipient_maps": "",
                          "default_privs": "nobody" if os.geteuid() == 0 else os.environ.get("USER", "root")},
                    files={"aliases": "both games,  \"|cat >{root}/mail/piped\"\n".replace("{root}", str(tmp_path / "i0"))})
    inst.send("both@mx.example.test", subject="local")
    inst.wait_log(r"to=<both@mx.example.test>, relay=local, .*status=sent")
    inst.wait_log(r"orig_to=<both@mx.example.test>, relay=local, .*status=sent \(delivered to mailbox\)")
    assert "Subject: local" in (inst.home / "games").read_text()
    wait_for("the command's output", lambda: "Subject: local" in (inst.home / "piped").read_text())
    inst.send("no-such-user@mx.example.test", sender="games@mx.example.test")
    inst.wait_log(r"to=<no-such-user@mx.example.test>, relay=local, .*dsn=5.1.1, status=bounced \(unknown user: \"no-such-user\"\)")
    wait_for("the report", lambda: "Undelivered Mail" in (inst.home / "games").read_text())
