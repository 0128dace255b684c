# SPDX-License-Identifier: Apache-2.0
"""Database servers of a test's own: private directories, free ports on loopback; they keep both over restarts."""
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile

from lookup import free_port, wait_for

PROGRAMS = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def run(*command, text=None, **more):
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, **more)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


class Database:
    account = None  # that it runs as, when root starts it
    end_signal = signal.SIGKILL

    def __init__(self):
        # not below pytest's directories, which only their owner enters
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="pr-db-"))
        self.directory.chmod(0o755)
        self.port = free_port()
        self.process = None
        self.user = self.account if self.account and os.geteuid() == 0 else None
        if self.user:
            os.chown(self.directory, pwd.getpwnam(self.user).pw_uid, -1)
        try:
            self.create()
            self.start()
        except BaseException:
            self.remove()
            raise

    def start(self):
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            cwd=self.directory, user=self.user)
        wait_for("the database", self.is_up, 30)

    def is_up(self):
        assert self.process.poll() is None, (self.directory / "log").read_text(errors="replace")
        return subprocess.run(self.ping(), capture_output=True, timeout=10).returncode == 0

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(self.end_signal)
            self.process.wait(30)

    def remove(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class MariaDB(Database):
    # what was committed is in the files, if not on the disk: it outlives the kill of the process
    account = "mysql"

    def __init__(self, connections=20):
        self.connections = connections
        super().__init__()

    def create(self):
        self.socket = self.directory / "s"
        run(shutil.which("mariadb-install-db", path=PROGRAMS), "--no-defaults", f"--datadir={self.directory}/data",
            "--auth-root-authentication-method=normal", "--skip-test-db", *[f"--user={self.user}"] * bool(self.user))
        make_certificate(self.directory)
        if self.user:
            os.chown(self.directory / "key.pem", pwd.getpwnam(self.user).pw_uid, -1)

    def command(self):
        return [shutil.which("mariadbd", path=PROGRAMS), "--no-defaults", f"--datadir={self.directory}/data", f"--socket={self.socket}",
                f"--port={self.port}", "--bind-address=127.0.0.1", "--innodb-buffer-pool-size=8M", f"--pid-file={self.directory}/pid",
                f"--ssl-ca={self.directory}/cert.pem", f"--ssl-cert={self.directory}/cert.pem", f"--ssl-key={self.directory}/key.pem", f"--max-connections={self.connections}",
                "--innodb-flush-log-at-trx-commit=2"]

    def ping(self):
        return ["mariadb-admin", "--no-defaults", "-u", "root", "-S", str(self.socket), "ping"]

    def sql(self, text, database="mysql"):
        return run("mariadb", "--no-defaults", "-u", "root", "-S", str(self.socket), "-N", "--default-character-set=utf8mb4",
                   database, text=text)


class PostgreSQL(Database):
    account = "postgres"
    end_signal = signal.SIGQUIT  # "immediate": no goodbyes; after SIGKILL, memory that others share outlives it

    def create(self):
        self.programs = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        run(self.programs / "initdb", "-D", self.directory / "data", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-N",
            user=self.user, cwd=self.directory)
        make_certificate(self.directory)
        if self.user:
            os.chown(self.directory / "key.pem", pwd.getpwnam(self.user).pw_uid, -1)

    def command(self):
        return [self.programs / "postgres", "-D", self.directory / "data", "-k", self.directory, "-p", str(self.port),
                "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "ssl=on", "-c", f"ssl_cert_file={self.directory}/cert.pem",
                "-c", f"ssl_key_file={self.directory}/key.pem"]

    def ping(self):
        return [self.programs / "pg_isready", "-q", "-h", str(self.directory), "-p", str(self.port)]

    def sql(self, text):
        return run("psql", "-qAt", "-v", "ON_ERROR_STOP=1", "-h", str(self.directory), "-p", str(self.port), "-U", "postgres",
                   "postgres", text=text)


SLAPD_CONF = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
attributetype ( 1.1.1.1 NAME 'maildrop' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.1.1.2 NAME 'memberdn' EQUALITY caseExactMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectclass ( 1.1.2.1 NAME 'mailthing' SUP top AUXILIARY MAY ( maildrop $ memberdn $ mail ) )
TLSCertificateFile {d}/cert.pem
TLSCertificateKeyFile {d}/key.pem
TLSCACertificateFile {d}/cert.pem
TLSVerifyClient try
sasl-auxprops slapd
authz-regexp cn=localhost cn=reader,dc=t
authz-regexp uid=([^,]*),cn=[^,]*,cn=auth cn=$1,dc=t
password-hash {{CLEARTEXT}}
allow bind_v2
pidfile {d}/pid
database mdb
suffix dc=t
directory {d}/db
dbnosync
index mail eq
access to attrs=userPassword by anonymous auth
access to dn.subtree=ou=closed,dc=t by dn.exact=cn=reader,dc=t read by * none
access to * by * read
database mdb
suffix dc=u
directory {d}/db-u
dbnosync
index mail eq
"""


class Slapd(Database):
    def __init__(self, ldif, more):
        """ldif: of dc=t; more: of dc=u, with @PORT@ for the port."""
        self.ldif, self.more = ldif, more
        self.tls_port = free_port()
        super().__init__()

    def create(self):
        for name in ("db", "db-u"):
            (self.directory / name).mkdir()
        make_certificate(self.directory)
        (self.directory / "slapd.conf").write_text(SLAPD_CONF.format(d=self.directory))
        for suffix, ldif in (("dc=t", self.ldif), ("dc=u", self.more.replace("@PORT@", str(self.port)))):
            run(shutil.which("slapadd", path=PROGRAMS), "-q", "-b", suffix, "-f", self.directory / "slapd.conf", text=ldif)

    @property
    def socket_url(self):
        return "ldapi://" + str(self.directory / "s").replace("/", "%2F")

    def command(self):
        return [shutil.which("slapd", path=PROGRAMS), "-h",
                f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port} {self.socket_url}",
                "-f", self.directory / "slapd.conf", "-d", "0"]

    def ping(self):
        return ["ldapsearch", "-x", "-H", f"ldap://127.0.0.1:{self.port}", "-b", "dc=t", "-s", "base"]


def make_certificate(where):
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", where / "key.pem", "-out", where / "cert.pem")


def write_table(path, **options):
    """A .cf file; options with None are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name} = {value}\n" for name, value in options.items() if value is not None))
    return path
