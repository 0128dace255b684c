# SPDX-License-Identifier: Apache-2.0
"""Small configurations for test_postconf_debian.py: name -> (main.cf, master.cf)."""

SMTP = "smtp inet n - y - - smtpd\n"
RELAY = "relay unix - - n - - smtp\n"

# What main.cf may look like: lines, comments, continuation, white space.
LINES = {
    "empty": "",
    "only comments": "# a\n#b\n  # c\n",
    "only white space": " \n\t\n\n",
    "no newline at the end": "relayhost = a",
    "no blanks": "relayhost=a",
    "many blanks": "relayhost   =     a    b   ",
    "tabs": "relayhost\t=\ta\tb\t",
    "carriage returns": "relayhost = a\r\nmyorigin = b\r\n",
    "continued": "relayhost = a\n b\n\tc\n",
    "continued with nothing first": "relayhost =\n  a\n",
    "comment inside": "relayhost = a\n# x\n  b\n",
    "indented comment inside": "relayhost = a\n   # x\n  b\n",
    "empty line inside": "relayhost = a\n\n  b\n",
    "white line inside": "relayhost = a\n   \n  b\n",
    "hash in value": "relayhost = a # b\n",
    "hash glued": "relayhost = a#b\n",
    "equal in value": "relayhost = a=b=c\n",
    "empty value": "relayhost =\n",
    "empty value, more": "relayhost =\nmyorigin = x\n",
    "backslash": "relayhost = a\\\n b\n",
    "quotes": "relayhost = \"a b\" 'c'\n",
    "commas": "mydestination = a, b,c ,, d\n",
    "twice": "relayhost = a\nrelayhost = b\n",
    "three times": "relayhost = a\nrelayhost = b\nrelayhost = c\n",
    "twice the same": "relayhost = a\nrelayhost = a\n",
    "twice, one empty": "relayhost = a\nrelayhost =\n",
    "starts continued": "  relayhost = a\nmyorigin = b\n",
    "starts continued after comment": "# x\n  relayhost = a\nmyorigin = b\n",
    "long line": "mydestination = " + " ".join(f"host{i}.example.com" for i in range(60)) + "\n",
    "long words": "mydestination = " + "a" * 100 + " " + "b" * 100 + "\n",
    "8-bit": "relayhost = gr\u00fc\u00df.example\n",
    "upper case name": "RelayHost = a\n",
    "digits first": "2bounce_notice_recipient = me\n",
    "brackets": "relayhost = [mx.example.com]:587\n",
    "braces": "smtpd_client_restrictions = { a = b }, { c }\n",
}

# Names: known, unknown, used by others.
NAMES = {
    "unknown": "nosuch = x\n",
    "unknown, used": "mine = x\nrelayhost = $mine\n",
    "unknown, used by unknown": "a1 = x\nb1 = $a1\n",
    "used in a conditional": "a1 = x\nrelayhost = ${a1?y}\n",
    "used in a conditional's branch": "a1 = x\nrelayhost = ${myorigin?$a1}\n",
    "used in a comparison": "a1 = x\nrelayhost = ${{$a1} == {x} ? {1} : {2}}\n",
    "used in parentheses": "a1 = x\nrelayhost = $(a1)\n",
    "used before": "relayhost = $a1\na1 = x\n",
    "undefined": "relayhost = $nosuch\n",
    "undefined in braces": "relayhost = ${nosuch}\n",
    "undefined conditional": "relayhost = ${nosuch?x:y}\n",
    "escaped": "relayhost = $$nosuch\n",
    "restriction class": "smtpd_restriction_classes = one two\none = reject\ntwo = permit\n",
    "restriction class, commas": "smtpd_restriction_classes = one,two\none = reject\ntwo = permit\nthree = reject\n",
    "restriction class twice": "smtpd_restriction_classes = one one\none = reject\n",
    "ldap in main.cf": "virtual_alias_maps = ldap:src\nsrc_server_host = h\nsrc_search_base = b\nsrc_nosuch = c\n",
    "mysql in main.cf": "virtual_alias_maps = mysql:src\nsrc_hosts = h\nsrc_user = b\nsrc_query = c\n",
    "pgsql in main.cf": "virtual_alias_maps = pgsql:src\nsrc_hosts = h\nsrc_dbname = b\n",
    "sqlite in main.cf": "virtual_alias_maps = sqlite:src\nsrc_dbpath = h\nsrc_query = b\n",
    "memcache in main.cf": "address_verify_map = memcache:src\nsrc_memcache = h\nsrc_ttl = 5\n",
    "proxied ldap in main.cf": "virtual_alias_maps = proxy:ldap:src\nsrc_server_host = h\n",
    "ldap as a file": "virtual_alias_maps = ldap:/etc/src\nsrc_server_host = h\n",
    "ldap in an unknown": "mine = ldap:src\nsrc_server_host = h\nvirtual_alias_maps = $mine\n",
    "service family": "relay_destination_concurrency_limit = 3\nsmtp_destination_recipient_limit = 4\n",
    "service family without service": "nosuch_destination_concurrency_limit = 3\n",
    "all of a family": "".join(f"relay_{s} = 1\n" for s in (
        "destination_concurrency_limit", "destination_recipient_limit", "initial_destination_concurrency",
        "destination_concurrency_failed_cohort_limit", "destination_concurrency_positive_feedback",
        "destination_concurrency_negative_feedback", "destination_rate_delay", "transport_rate_delay",
        "delivery_slot_cost", "delivery_slot_loan", "delivery_slot_discount", "minimum_delivery_slots",
        "recipient_limit", "extra_recipient_limit", "recipient_refill_limit", "recipient_refill_delay", "time_limit")),
    "obsolete": "reject_code = 550\nauthorized_verp_clients = x\n",
    "of templates": "smtpd_reject_footer = \\c. $client_address $client_name\nforward_path = $home/x\nmailbox_command = /x $foo\n"
                    "luser_relay = $user@x\ndefault_rbl_reply = $rbl_code $bar\ncommand_execution_directory = $home\n",
    "newer than 3.7": "smtpd_reject_filter_maps =\n",
}

# $name in all forms.
EXPANSION = {
    "plain": "a1 = x\nrelayhost = $a1.$a1\n",
    "braces": "a1 = x\nrelayhost = ${a1}y\n",
    "parentheses": "a1 = x\nrelayhost = $(a1)y\n",
    "dollar": "relayhost = $$ $$x\n",
    "question": "a1 = x\nrelayhost = ${a1?yes}\n",
    "question, empty": "a1 =\nrelayhost = ${a1?yes}\n",
    "question, undefined": "relayhost = ${a1?yes}\n",
    "colon": "a1 = x\nrelayhost = ${a1:no}\n",
    "colon, empty": "a1 =\nrelayhost = ${a1:no}\n",
    "both": "a1 = x\nrelayhost = ${a1?yes:no}\n",
    "both in braces": "a1 = x\nrelayhost = ${a1?{yes}:{no}}\n",
    "both in braces, empty": "a1 =\nrelayhost = ${a1?{yes}:{no}}\n",
    "blanks in braces": "a1 = x\nrelayhost = ${a1 ? { yes } : { no }}\n",
    "nested": "a1 = x\nb1 = y\nrelayhost = ${a1?{${b1?{$b1$a1}:{n}}}:{m}}\n",
    "equal": "a1 = x\nrelayhost = ${{$a1} == {x} ? {1} : {2}}\n",
    "not equal": "a1 = x\nrelayhost = ${{$a1} != {x} ? {1} : {2}}\n",
    "less": "relayhost = ${{9} < {10} ? {1} : {2}}\n",
    "less or equal": "relayhost = ${{10} <= {10} ? {1} : {2}}\n",
    "greater": "relayhost = ${{9} > {10} ? {1} : {2}}\n",
    "greater or equal": "relayhost = ${{9} >= {10} ? {1} : {2}}\n",
    "text compared": "relayhost = ${{abc} < {abd} ? {1} : {2}}\n",
    "negative numbers": "relayhost = ${{-5} < {3} ? {1} : {2}}\n",
    "number and text": "relayhost = ${{10} < {9x} ? {1} : {2}}\n",
    "level less": "compatibility_level = 3.6\nrelayhost = ${{$compatibility_level} <level {3.10} ? {1} : {2}}\n",
    "level equal": "relayhost = ${{3.6} ==level {3.6.0} ? {1} : {2}}\n",
    "level greater": "relayhost = ${{3.10} >level {3.9} ? {1} : {2}}\n",
    "level not equal": "relayhost = ${{3.10} !=level {3.1} ? {1} : {2}}\n",
    "bad level": "relayhost = ${{x} <level {3.1} ? {1} : {2}}\n",
    "no else": "relayhost = ${{1} == {2} ? {1}}\n",
    "no then": "relayhost = ${{1} == {2} : {3}}\n",
    "unknown operator": "relayhost = ${{1} =~ {2} ? {1} : {3}}\n",
    "not closed": "relayhost = ${a1\n",
    "not closed parenthesis": "relayhost = $(a1\n",
    "nothing": "relayhost = $ x\n",
    "empty braces": "relayhost = ${}\n",
    "odd name": "relayhost = ${a-b}\n",
    "text after brace": "a1 = x\nrelayhost = ${a1?{y}z}\n",
    "loop": "relayhost = $relayhost\n",
    "loop of two": "a1 = $b1\nb1 = $a1\nrelayhost = $a1\n",
    "loop in a branch not taken": "a1 =\nrelayhost = ${a1?$relayhost}\n",
    "deep": "".join(f"a{i} = $a{i + 1}\n" for i in range(1, 40)) + "a40 = x\nrelayhost = $a1\n",
    "default": "relayhost = $mydestination\n",
    "computed": "myhostname = a.example.com\nrelayhost = $mydomain $myorigin\n",
    "mydomain from short name": "myhostname = a\nrelayhost = $mydomain\n",
    "mynetworks": "mynetworks = 127.0.0.0/8\nrelayhost = $mynetworks\n",
    "stress": "relayhost = ${stress?{1}:{2}}\nstress = yes\n",
}

# Values that are out of range or of the wrong kind: -n shows them as they are.
VALUES = {
    "bool": "biff = maybe\n",
    "bool, case": "biff = YES\n",
    "number": "smtpd_hard_error_limit = x\n",
    "negative": "smtpd_hard_error_limit = -1\n",
    "too large": "smtpd_hard_error_limit = 99999999999999\n",
    "time units": "smtp_connect_timeout = 30\nqueue_run_delay = 5m\nmaximal_queue_lifetime = 5\n",
    "bad unit": "queue_run_delay = 5y\n",
    "expanded number": "a1 = 5\nsmtpd_hard_error_limit = $a1\n",
    "level 2": "compatibility_level = 2\n",
    "level 9999": "compatibility_level = 9999\n",
    "level bad": "compatibility_level = x\n",
    "alias_maps": "alias_maps = hash:/etc/aliases\nalias_database = $alias_maps\n",
    "relayhost inet": "relayhost = [::1]:25\n",
    "inline": "virtual_alias_maps = inline:{ a=b, { c = d e } }\n",
    "unionmap": "virtual_alias_maps = unionmap:{inline:{a=b}, static:c}\n",
}

MAIN = {f"{group}: {name}": (text, SMTP + RELAY) for group, cases in (
    ("lines", LINES), ("names", NAMES), ("expansion", EXPANSION), ("values", VALUES)) for name, text in cases.items()}

# master.cf.
SERVICES = {
    "empty": "",
    "comments": "# a\n#b\n   # c\n",
    "one": SMTP,
    "no newline": SMTP.rstrip(),
    "tabs": SMTP.replace(" ", "\t"),
    "continued": "smtp inet n - y - -\n  smtpd\n  -v\n",
    "comment inside": "smtp inet n - y - - smtpd\n# x\n  -v\n",
    "empty line inside": "smtp inet n - y - - smtpd\n\n  -v\n",
    "all types": "a inet n - n - - smtpd\nb unix n - n - - smtpd\nc fifo n - n - - smtpd\nd pass n - n - - smtpd\n"
                 "e unix-dgram n - n - - smtpd\n",
    "same name, two types": "smtp inet n - y - - smtpd\nsmtp unix - - y - - smtp\n",
    "twice": SMTP + "smtp inet n - n - 5 smtpd -v\n",
    "host and port": "127.0.0.1:10025 inet n - n - 10 smtpd\nlocalhost:smtp inet n - n - - smtpd\n",
    "IPv6": "[::1]:10025 inet n - n - 10 smtpd\n",
    "wakeup": "pickup unix n - y 60 1 pickup\nqmgr unix n - n 300? 1 qmgr\n",
    "wakeup 0": "pickup unix n - y 0? 1 pickup\n",
    "y and n": "a unix y y y - 0 smtpd\nb unix n n n - 1 smtpd\n",
    "limit": "a unix - - - - 0 smtpd\nb unix - - - - 1000 smtpd\n",
    "option": "smtp inet n - y - - smtpd -o mynetworks=x\n",
    "two options without blank": "smtp inet n - y - - smtpd -v -D\n",
    "option in braces": "smtp inet n - y - - smtpd -o { mynetworks = x y }\n",
    "option in braces, tight": "smtp inet n - y - - smtpd -o {mynetworks=x y}\n",
    "options on lines": "smtp inet n - y - - smtpd\n  -o mynetworks=x\n  -o relayhost=y -o myorigin=z\n",
    "option twice": "smtp inet n - y - - smtpd -o mynetworks=x -o mynetworks=y\n",
    "unknown option": "smtp inet n - y - - smtpd -o nosuch=x\n",
    "unknown option, used": "smtp inet n - y - - smtpd -o mine=x -o relayhost=$mine\n",
    "option refers to main.cf": "smtp inet n - y - - smtpd -o relayhost=$myhostname\n",
    "option refers to nothing": "smtp inet n - y - - smtpd -o relayhost=$nosuch\n",
    "option with conditional": "smtp inet n - y - - smtpd -o relayhost=${stress?x}${stress:y}\n",
    "option with commas": "smtp inet n - y - - smtpd -o smtpd_recipient_restrictions=permit_mynetworks,reject\n",
    "empty option": "smtp inet n - y - - smtpd -o relayhost=\n",
    "other flags": "smtp inet n - y - - smtpd -v -D -o relayhost=x -v\n",
    "pipe": "vac unix - n n - - pipe flags=DRhu user=vmail argv=/bin/vac -f ${sender} -- ${user}\n",
    "pipe with braces": "vac unix - n n - - pipe user=vmail argv=/bin/sh -c {a b c}\n",
    "pipe with option": "vac unix - n n - - pipe -o relayhost=x user=vmail argv=/bin/cat -o y=z\n",
    "spawn": "pol unix - n n - 0 spawn user=nobody argv=/usr/bin/policyd\n",
    "time limit of spawn": ("pol_time_limit = 3600\n", "pol unix - n n - 0 spawn user=nobody argv=/usr/bin/policyd\n"),
    "time limit of no spawn": ("relay_time_limit = 3600\n", RELAY),
    "family of a service": ("mine_destination_rate_delay = 1s\n", "mine unix - - n - - smtp\n"),
    "family of a pipe": ("mine_destination_recipient_limit = 1\n", "mine unix - n n - - pipe user=x argv=/bin/cat\n"),
    "family of an inet service": ("mine_destination_rate_delay = 1s\n", "mine inet n - n - - smtpd\n"),
    "user name used in master.cf": ("mua = permit_sasl_authenticated,reject\n",
                                    "submission inet n - y - - smtpd -o smtpd_client_restrictions=$mua\n"),
    "user name in braces in master.cf": ("mua = permit, reject\n",
                                         "submission inet n - y - - smtpd -o { smtpd_client_restrictions = $mua }\n"),
    "user name used in a class in master.cf": ("mua = reject\n", "a inet n - y - - smtpd -o smtpd_restriction_classes=mua\n"),
    "long": "vac unix - n n - - pipe user=vmail argv=/bin/vac " + " ".join(f"word{i}" for i in range(40)) + "\n",
    "long option": "smtp inet n - y - - smtpd -o smtpd_recipient_restrictions=" + ",".join(f"word{i}" for i in range(20)) + "\n",
    "indented first": "  smtp inet n - y - - smtpd\nrelay unix - - n - - smtp\n",
    "too few columns": "smtp inet n - y\n",
    "no command": "smtp inet n - y - -\n",
    "bad type": "smtp tcp n - y - - smtpd\n",
    "bad flag": "smtp inet x - y - - smtpd\n",
    "bad wakeup": "smtp inet n - y x - smtpd\n",
    "bad limit": "smtp inet n - y - x smtpd\n",
    "negative limit": "smtp inet n - y - -5 smtpd\n",
    "private inet": "smtp inet y - y - - smtpd\n",
    "slash in command": "smtp inet n - y - - bin/smtpd\n",
    "brace not closed": "smtp inet n - y - - smtpd -o { relayhost = x\n",
    "text after brace": "smtp inet n - y - - smtpd -o {relayhost=x}y\n",
    "option without value": "smtp inet n - y - - smtpd -o\n",
    "option without equal": "smtp inet n - y - - smtpd -o relayhost\n",
    "stock": """\
smtp      inet  n       -       y       -       -       smtpd
pickup    unix  n       -       y       60      1       pickup
cleanup   unix  n       -       y       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       y       1000?   1       tlsmgr
rewrite   unix  -       -       y       -       -       trivial-rewrite
bounce    unix  -       -       y       -       0       bounce
proxywrite unix -       -       n       -       1       proxymap
smtp      unix  -       -       y       -       -       smtp
relay     unix  -       -       y       -       -       smtp
        -o syslog_name=postfix/$service_name
error     unix  -       -       y       -       -       error
local     unix  -       n       n       -       -       local
lmtp      unix  -       -       y       -       -       lmtp
anvil     unix  -       -       y       -       1       anvil
postlog   unix-dgram n  -       n       -       1       postlogd
uucp      unix  -       n       n       -       -       pipe
  flags=Fqhu user=uucp argv=uux -r -n -z -a$sender - $nexthop!rmail ($recipient)
""",
}

CASES = MAIN | {f"services: {name}": case if isinstance(case, tuple) else ("myhostname = mx.example.com\n", case)
                for name, case in SERVICES.items()}

# Where the two are meant to differ in what they warn of; what is printed, and the status, are equal.
WARNINGS_DIFFER = {
    "lines: starts continued": "ours names the line",
    "lines: starts continued after comment": "ours names the line",
    "services: indented first": "ours names the line",
    "names: ldap as a file": "another wording",
    "values: bool": "ours says that it is neither yes nor no",
    "values: number": "ours says that it is no number",
    "values: negative": "ours says that it is out of range",
    "values: bad unit": "ours says that it is no time",
    "services: twice": "ours says that the first one is replaced",
}

# Where ours refuses what its own master would not start; theirs leaves that to master.
STRICTER = {
    "services: private inet", "services: slash in command", "services: brace not closed", "services: text after brace",
    "services: option without value", "services: option without equal",
}

# A parameter of a later release than the reference's.
LATER = {"names: newer than 3.7"}
