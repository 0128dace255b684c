# SPDX-License-Identifier: Apache-2.0
"""postfix check: findings about what a configuration means, each with its place and what to do."""
import os
import pathlib
import re
import time

import pytest
from instance import DEADLINE, MASTER_CF, STAGE


def checked(inst):
    """What check says, one finding a line, with etc/ in place of the directory; and its exit status."""
    inst.expect_fatal = True
    done = inst.run("postfix", "check", check=False)
    text = done.stdout + done.stderr
    return re.sub(r"^postfix(-script)?: ", "", text.replace(str(inst.etc), "etc"), flags=re.M).splitlines(), done.returncode


def only(inst, *wanted, status=None):
    """Each finding matches its pattern, and there is no other."""
    found, code = checked(inst)
    assert len(found) == len(wanted), found
    for pattern in wanted:
        assert any(re.search(pattern, line) for line in found), (pattern, found)
    assert code == (status if status is not None else int(any(line.startswith("error:") for line in found)))


@pytest.fixture
def stopped(instance):
    """A factory of instances that are not started."""
    return lambda **options: instance(start=False, **options)


def test_a_plain_configuration_is_clean(stopped):
    only(stopped())


RELAY = "permit_mynetworks, reject_unauth_destination"


@pytest.mark.parametrize("main, wanted", [
    ({"smtpd_client_restrictions": "permit_mynetworks, reject, permit_sasl_authenticated"},
     r"^warning: etc/main.cf, line \d+: smtpd_client_restrictions: permit_sasl_authenticated is never reached, as reject before"),
    ({"smtpd_sender_restrictions": "warn_if_reject reject, permit, reject_non_fqdn_sender"},
     r"smtpd_sender_restrictions: reject_non_fqdn_sender is never reached, as permit before it"),
    ({"smtpd_helo_restrictions": "defer check_helo_access inline:{x=reject}"},
     r"smtpd_helo_restrictions: check_helo_access inline:\S+ is never reached, as defer before"),
    ({"smtpd_restriction_classes": "closed", "closed": "permit_mynetworks, reject",
      "smtpd_recipient_restrictions": "closed, reject_unauth_destination"},
     r"smtpd_recipient_restrictions: reject_unauth_destination is never reached, as closed before"),
    ({"smtpd_restriction_classes": "closed", "closed": "reject, permit"}, r"line \d+: closed: permit is never reached"),
    ({"smtpd_sender_restrictions": "reject_non_fqdn_sender, permit_mynetworks, reject_non_fqdn_sender"},
     r"smtpd_sender_restrictions: reject_non_fqdn_sender stands in it twice"),
    ({"smtpd_sender_restrictions": "check_sender_access static:dunno, check_sender_access static:dunno"},
     r"check_sender_access static:dunno stands in it twice"),
    ({"smtpd_relay_restrictions": "permit_mynetworks"},
     r"^error: etc/main.cf, line \d+: smtpd_relay_restrictions: no restriction keeps strangers .*open relay.*add reject_unauth"),
    ({"smtpd_relay_restrictions": "warn_if_reject reject_unauth_destination"},
     r"^warning: .*open relay\): put reject_unauth_destination before what permits them"),
    ({"smtpd_relay_restrictions": "permit_mynetworks", "smtpd_recipient_restrictions": "permit_mynetworks"}, r"^error: .*open relay"),
    ({"smtpd_relay_restrictions": "", "smtpd_recipient_restrictions": "reject_non_fqdn_recipient"},
     r"^error: etc/main.cf, line \d+: smtpd_recipient_restrictions: no restriction keeps strangers"),
    ({"smtpd_relay_restrictions": ""}, r"^warning: .*smtpd_relay_restrictions: it is empty, and smtpd_recipient_restrictions too"),
    ({"mynetworks": "127.0.0.0/8, 0.0.0.0/0"}, r"^warning: etc/main.cf, line \d+: mynetworks: 0.0.0.0/0 trusts clients all over"),
    ({"mynetworks": "127.0.0.0/8, [::]/0"}, r"mynetworks: \[::\]/0 trusts clients all over"),
    ({"smtpd_client_restrictions": "permit_mynetwork"},
     r'^error: etc/main.cf, line \d+: smtpd_client_restrictions: unknown restriction: "permit_mynetwork"'),
    ({"smtpd_client_restrictions": "reject_rbl_client zen.spamhaus.test"},
     r"^error: etc/main.cf, line \d+: smtpd_client_restrictions: reject_rbl_client is not yet effective"),
    ({"smtpd_restriction_classes": "greylist"}, r"^error: .*smtpd_restriction_classes: class greylist is not defined"),
    ({"canonical_classes": "envelope_sendr"}, r"^error: etc/main.cf, line \d+: canonical_classes: .*envelope_sendr"),
])
def test_restrictions(stopped, main, wanted):
    only(stopped(main=main), wanted)


@pytest.mark.parametrize("main", [
    {"smtpd_client_restrictions": "permit_mynetworks, sleep 1, sleep 1, reject"},
    {"smtpd_sender_restrictions": "warn_if_reject reject, reject_non_fqdn_sender, warn_if_reject reject_non_fqdn_sender"},
    {"smtpd_sender_restrictions": "check_sender_access static:dunno, check_sender_access inline:{a=ok}, permit"},
    {"smtpd_relay_restrictions": "", "smtpd_recipient_restrictions": RELAY},
    {"smtpd_relay_restrictions": "permit_mynetworks", "smtpd_client_restrictions": "permit_mynetworks, reject"},
    {"mynetworks": "0.0.0.0/0", "smtpd_relay_restrictions": "reject_unauth_destination"},
    {"mynetworks": "10.0.0.0/8, 192.168.0.0/16, [fe80::]/64"},
    {"mynetworks": "0.0.0.0/0", "inet_interfaces": "loopback-only"},
])
def test_restrictions_that_are_right(stopped, main):
    only(stopped(main=main))


@pytest.mark.parametrize("broken, wanted", [
    ({"smtpd_timeout": "3x"}, [r"^error: etc/main.cf, line \d+: smtpd_timeout: "]),
    ({"mine": "${", "smtpd_helo_restrictions": "$mine"}, [r"^error: .*mine: ", r"^error: .*smtpd_helo_restrictions: "]),
    # what would follow from a list that cannot be read, an open relay, is not said: nobody knows
    ({"smtpd_recipient_restrictions": "${"}, [r"^error: .*smtpd_recipient_restrictions: "]),
    ({"smtpd_restriction_classes": "mine", "mine": "${", "smtpd_helo_restrictions": "mine"}, [r"^error: .*line \d+: mine: "]),
    ({"inet_interfaces": "127.0.0.1", "mynetworks_style": "bogus", "mynetworks": None}, [r"^error: .*bogus"]),
], ids=lambda value: next(iter(value)) if isinstance(value, dict) else "")
def test_what_can_be_read_is_checked(stopped, broken, wanted):
    """A value that cannot be read does not hide what is wrong with others, and nothing is made up of what stands in for it."""
    inst = stopped(main={"smtpd_relay_restrictions": "permit_mynetworks", **broken,
                          "smtpd_sender_restrictions": "permit, reject_non_fqdn_sender", "canonical_classes": "nosuch"})
    lines, code = checked(inst)
    assert code == 1
    for pattern in [*wanted, r"smtpd_sender_restrictions: reject_non_fqdn_sender is never reached", r"canonical_classes: .*nosuch"]:
        assert any(re.search(pattern, line) for line in lines), (pattern, lines)
    assert any("open relay" in line for line in lines) == ("smtpd_timeout" in broken), lines


def test_a_template_with_an_unknown_name(stopped):
    only(stopped(main={"smtpd_reject_footer": r"\c. Call ($client_address, ${server_name}), $$5"}))
    only(stopped(main={"smtpd_reject_footer": "from $client_name"}),
         r'^warning: etc/main.cf, line \d+: smtpd_reject_footer: it is put behind no reply, as there is no name "\$client_name" in it')


def test_a_service_of_its_own(stopped):
    """What -o breaks is said of the service; what main.cf has wrong already is not said again for it."""
    inst = stopped(main={"mynetworks": "0.0.0.0/0"}, master=MASTER_CF + "\n".join((
        "127.0.0.2:{port} inet n - n - - smtpd -o smtpd_relay_restrictions=permit -o smtpd_recipient_restrictions=",
        "0.0.0.0:{port} inet n - n - - smtpd -o smtpd_relay_restrictions=permit", "")))
    only(inst, r"^warning: etc/main.cf, line \d+: mynetworks: 0.0.0.0/0 trusts",
         r"^error: etc/master.cf, line 18: service 0.0.0.0:\d+: smtpd_relay_restrictions: no restriction keeps strangers")


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes, wanted", [
    ("bounce, plicy", r'^error: etc/main.cf, line \d+: notify_classes: unknown class "plicy": did you mean policy\?$'),
])
def test_notify_classes(stopped, classes, wanted):
    only(stopped(main={"notify_classes": classes}), wanted)


def test_names_in_both_files(stopped):
    """What an override sets and nothing reads, and what is referred to and not defined, with the name that was meant."""
    inst = stopped(main={"smtpd_helo_restriction": "permit", "smtp_helo_name": "$myhostnam", "mine_too": "x", "smtpd_banner": "$mine_too"},
                   master=MASTER_CF + "slow unix - - n - - smtp\n  -o smtp_conect_timeout=5 -o mine=a -o smtp_helo_name=$mine\n"
                   "127.0.0.1:0 inet n - n - - smtpd -o smtpd_helo_restriction=permit\n  -o smtpd_client_restrictions=$mua_client_restrictions\n")
    only(inst,
         r"^warning: etc/main.cf, line \d+: unknown parameter smtpd_helo_restriction: did you mean smtpd_helo_restrictions\?$",
         r"^warning: etc/main.cf, line \d+: \$myhostnam is not defined, and stands for nothing: did you mean myhostname\?$",
         r"^warning: etc/master.cf, line 17: unknown parameter smtp_conect_timeout: did you mean smtp_connect_timeout\?$",
         r"^warning: etc/master.cf, line 19: unknown parameter smtpd_helo_restriction: did you mean smtpd_helo_restrictions\?$",
         r"^warning: etc/master.cf, line 19: \$mua_client_restrictions is not defined, and stands for nothing(: did you mean .*\?)?$")


def test_tables(stopped):
    inst = stopped(main={"canonical_maps": "hash:{etc}/canonical", "alias_maps": "hash:{etc}/aliases", "header_checks": "regexp:{etc}/checks",
                          "transport_maps": "hash:{etc}/nowhere", "virtual_alias_maps": "hash:{etc}/virtual"},
                    files={"canonical": "a b\n", "aliases": "a: b\n", "checks": "# good\n/(/ IGNORE\n", "virtual": "a@b.test c\n"})
    inst.postmap("hash:{etc}/canonical", "hash:{etc}/virtual")
    inst.run("postalias", f"hash:{inst.etc}/aliases")
    for name in ("canonical", "aliases"):
        os.utime(inst.etc / f"{name}.db", (1, 1))
    (inst.etc / "virtual.db").unlink()
    only(inst, r'^warning: etc/main.cf, line \d+: canonical_maps: etc/canonical is newer than etc/canonical.db: run "postmap hash:etc/canonical"',
         r'^warning: etc/main.cf, line \d+: alias_maps: .*run "postalias hash:etc/aliases"',
         r"^error: etc/main.cf, line \d+: header_checks: .*etc/checks, line 2",
         r"^error: etc/main.cf, line \d+: transport_maps: .*etc/nowhere.db: No such file or directory$",
         r'^error: etc/main.cf, line \d+: virtual_alias_maps: .*No such file or directory: run "postmap hash:etc/virtual"')


def test_tables_of_a_class(stopped):
    inst = stopped(main={"smtpd_restriction_classes": "strict", "strict": "check_client_access hash:{etc}/missing"})
    only(inst, r"^error: etc/main.cf, line \d+: strict: .*etc/missing.db")


@pytest.mark.skipif(os.geteuid() != 0, reason="root reads what others may not")
def test_a_table_that_only_root_can_read(stopped):
    """Daemons open it before they give up root, and are replaced when it changes; proxymap opens it later."""
    inst = stopped(main={"canonical_maps": "texthash:{etc}/canonical", "relocated_maps": "proxy:texthash:{etc}/canonical"},
                   files={"canonical": "a b\n"})
    (inst.etc / "canonical").chmod(0o600)
    only(inst, r"^warning: etc/main.cf, line \d+: relocated_maps: etc/canonical cannot be read by daemon \(mail_owner\), which proxymap")


# --- certificates ---------------------------------------------------------------------------------

PEM = pathlib.Path(__file__).parents[1] / "data/tls"


@pytest.mark.parametrize("side", ["smtpd", "smtp", "lmtp"])
@pytest.mark.parametrize("files, wanted", [
    ({"cert_file": "good.pem", "key_file": "good.key"}, []),
    ({"cert_file": "chain.pem"}, []),
    ({"chain_files": "chain.pem"}, []),
    ({"cert_file": "missing.pem", "chain_files": "chain.pem"}, []),
    ({"CAfile": "ca.pem", "CApath": ""}, []),
    ({"cert_file": "missing.pem"}, [r"^error: etc/main.cf, line \d+: {side}_tls_cert_file: .*missing.pem: No such file"]),
    ({"cert_file": "good.pem"}, [r"^error: .*{side}_tls_cert_file: .*good.pem: no private key"]),
    ({"cert_file": "good.pem", "key_file": "other.key"}, [r"^error: .*{side}_tls_key_file: .*other.key: the private key is not that of"]),
    ({"cert_file": "text.pem", "key_file": "good.key"}, [r"^error: .*{side}_tls_cert_file: .*text.pem: no certificate in PEM form"]),
    ({"eccert_file": "good.pem", "eckey_file": "encrypted.key"}, [r"^error: .*{side}_tls_eckey_file: .*has a passphrase"]),
    ({"chain_files": "good.pem"}, [r"^error: .*{side}_tls_chain_files: .*without its private key before it"]),
    ({"cert_file": "expired.pem", "key_file": "good.key"}, [r"^warning: .*{side}_tls_cert_file: .*expired on 2021-01-01: renew it"]),
    ({"cert_file": "future.pem", "key_file": "good.key"}, [r"^warning: .*not valid yet"]),
    ({"CAfile": "text.pem"}, [r"^error: .*{side}_tls_CAfile: .*text.pem: no certificate"]),
    ({"CApath": "missing"}, [r"^error: .*{side}_tls_CApath: .*missing: No such file"]),
    ({"cert_file": "missing.pem", "security_level": "none"}, [r"^warning: .*{side}_tls_cert_file: .*missing.pem"]),
], ids=lambda v: ",".join(f"{k}={f}" for k, f in v.items()) if isinstance(v, dict) else "")
def test_certificates(stopped, side, files, wanted):
    main = {f"{side}_tls_{k}": v if k == "security_level" or not v else PEM / v for k, v in files.items()}
    found, status = checked(stopped(main=main))
    found = [line for line in found if "is not yet effective" not in line]  # TLS is to come
    assert len(found) == len(wanted), found
    for pattern in wanted:
        assert re.search(pattern.replace("{side}", side), found[0]), found
    assert status == int(any(p.startswith("^error") for p in wanted))


def test_a_server_without_certificate(stopped):
    found, status = checked(stopped(main={"smtpd_tls_cert_file": "none"}))
    assert status == 0 and not [line for line in found if "is not yet effective" not in line]


# --- domains and hosts ----------------------------------------------------------------------------


@pytest.mark.parametrize("main, wanted", [
    ({"virtual_alias_domains": "a.test mx.example.test"},
     r"^warning: etc/main.cf, line \d+: virtual_alias_domains: domain mx.example.test is in mydestination too"),
    ({"virtual_mailbox_domains": "hash:{etc}/domains"},
     r"^warning: etc/main.cf, line \d+: virtual_mailbox_domains: domain localhost is in mydestination too"),
    ({"mydestination": "mx.example.test hash:{etc}/domains", "relay_domains": "v.test"}, r"relay_domains: domain v.test is in mydestination too"),
    ({"virtual_mailbox_domains": "v.test", "virtual_alias_domains": "V.Test"},
     r"virtual_mailbox_domains: domain V.Test is in virtual_alias_domains too"),
    ({"myhostname": "mx", "mydestination": "$myhostname"}, r'^warning: etc/main.cf, line \d+: myhostname: "mx" is not a fully-qualified'),
    ({"mydestination": "localhost"}, r"mydestination: mail for mx.example.test, as which this system sends .*add \$myhostname"),
])
def test_domains(stopped, main, wanted):
    inst = stopped(main=main, files={"domains": "localhost x\nv.test x\n"})
    inst.postmap("hash:{etc}/domains")
    found, _ = checked(inst)
    assert len(set(found)) == len(found) and any(re.search(wanted, line) for line in found), found


@pytest.mark.parametrize("main", [
    {"mydestination": "mail.example.test", "myhostname": "mail.example.test", "relay_domains": "example.test",
     "parent_domain_matches_subdomains": "relay_domains"},
    {"compatibility_level": "0", "smtpd_relay_restrictions": RELAY},  # relay_domains is mydestination
    {"mydestination": "localhost", "relayhost": "[127.0.0.1]"},
    {"mydestination": "localhost", "myorigin": "example.test"},
    {"mydestination": "localhost", "virtual_alias_domains": "mx.example.test"},
    {"mydestination": "localhost", "transport_maps": "inline:{ {mx.example.test = smtp:[127.0.0.1]} }"},
    {"mydestination": "", "inet_interfaces": "loopback-only"},
])
def test_domains_that_are_right(stopped, main):
    only(stopped(main=main))


@pytest.mark.parametrize("main, wanted", [
    ({"relayhost": "[good.test]:587", "smtp_fallback_relay": "good.test"}, []),
    ({"relayhost": "[127.0.0.1]:25"}, []),
    ({"relayhost": "[mail.missing.test]:587"},
     [r'^warning: etc/main.cf, line \d+: relayhost: mail to "\[mail.missing.test\]:587" could not be sent: Host or domain name not found']),
    ({"smtp_fallback_relay": "good.test, missing.test"}, [r'smtp_fallback_relay: mail to "missing.test" could not be sent']),
    ({"default_transport": "smtp:missing.test"}, [r'default_transport: mail to "missing.test"']),
    ({"transport_maps": "inline:{ {* = :[missing.test]} }"}, [r'transport_maps: mail to "\[missing.test\]"']),
    ({"relayhost": "[good.test]:nosuchport"}, [r"relayhost: .*unknown service: nosuchport/tcp"]),
    ({"relayhost": "[missing.test]", "disable_dns_lookups": "yes"}, []),
])
def test_hosts(stopped, names, main, wanted):
    only(stopped(main={"dns_servers": names.address, **main}), *wanted, status=0)


def test_a_silent_name_server_is_not_waited_for(stopped, names):
    inst = stopped(main={"dns_servers": names.address, "dns_timeout": "30s", "relayhost": "[a.silent]", "smtp_fallback_relay": "b.silent c.silent"})
    begun = time.monotonic()
    only(inst)
    assert time.monotonic() - begun < DEADLINE and set(names.asked) == {"a.silent"}


def test_a_start_asks_no_name_server(instance, names):
    inst = instance(main={"dns_servers": names.address, "relayhost": "[missing.test]"})
    inst.reload()
    assert not names.asked


def test_main_cf_of_another_host(instance):
    """daemon_directory says where another mail system has its daemons: ours are run, and check says so; without any it does not start."""
    inst = instance(start=False, main={"daemon_directory": "/usr/libexec/elsewhere"})
    done = inst.run("postfix", "check")
    assert re.search(r"warning: \S+/main\.cf, line \d+: daemon_directory: there is no mail system in /usr/libexec/elsewhere: "
                     rf"the programs in {STAGE}/libexec/postrider are run", done.stderr)
    inst.start()
    with inst.smtp() as client:
        assert client.helo()[0] == 250


def test_queue_of_postfix_in_place(instance):
    """Mail that Postfix left in the queue directory: nothing is started, nothing is touched, and what to do is said."""
    inst = instance(start=False)
    left = inst.spool / "deferred/A/A1B2C3D4E5"
    left.parent.mkdir(parents=True)
    head = b"C_            300             551               1               0             300               0               0"
    left.write_bytes(head)
    done = inst.run("postfix", "check", check=False)
    assert done.returncode == 1
    assert re.search(r'deferred/A/A1B2C3D4E5 is mail in Postfix\'s queue: move .* "postfix import-queue"', done.stderr), done.stderr
    assert left.read_bytes() == head
    left.unlink()
    inst.start()
