"""Real servers that can change to TLS, each a short recipe: a daemon on loopback, in a directory of its own."""

from __future__ import annotations

import grp
import os
import pwd
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from helpers.peers import find_program, is_installed, require_program, require_programs

Recipe = Callable[["Home"], AbstractContextManager[dict[str, int]]]

#: Seconds after which a daemon that is not up is lost: no time that a test measures, only the end of a hang.
_START_TIMEOUT = 60.0
#: The same of one that was told to stop; it is killed then.
_STOP_TIMEOUT = 10.0
#: The ports that the kernel hands out to whoever connects, and those to choose from.
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_PORTS = range(15000, 65000)


@dataclass(frozen=True)
class Home:
    """What a recipe has: a directory that other users may enter, and a certificate for ``localhost`` in it.

    Daemons of mail and databases change to users of their own, who could not enter pytest's private tmp_path.
    """

    path: Path
    cert: Path
    key: Path

    @classmethod
    @contextmanager
    def create(cls, authority: trustme.CA) -> Iterator[Home]:
        """Make one; it is gone when the block is left."""
        leaf = authority.issue_cert("localhost", "127.0.0.1")
        folder = tempfile.TemporaryDirectory(prefix="bowout-", dir=_open_to_all(), ignore_cleanup_errors=True)
        with folder as directory:
            home = cls(Path(directory), Path(directory, "cert.pem"), Path(directory, "key.pem"))
            home.path.chmod(0o755)
            home.cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
            home.key.touch(0o600)
            home.key.write_bytes(leaf.private_key_pem.bytes())
            yield home

    def write(self, name: str, text: str) -> str:
        """Write a configuration file, with DIR, CERT, KEY and USER filled in; return its path."""
        for word, value in (("DIR", self.path), ("CERT", self.cert), ("KEY", self.key), ("USER", _user())):
            text = text.replace(f"@{word}@", str(value))
        file = self.path / name
        file.write_text(text)
        return str(file)


def _open_to_all() -> str:
    """A directory for temporary files that every user may enter; TMPDIR may be one's own."""
    for path in map(Path, (tempfile.gettempdir(), "/tmp", "/var/tmp")):
        if path.is_dir() and all(folder.stat().st_mode & 0o001 for folder in (path, *path.resolve().parents)):
            return str(path)
    pytest.skip("there is no directory for temporary files that a daemon's user may enter")


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        pytest.skip("who runs the tests has no name, and this daemon wants one for its configuration")


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listened on a moment ago.

    They lie outside those that the kernel hands out, so that no other test's connection takes one before the daemon
    does, and no attempt to reach the daemon connects to itself.
    """
    ports: list[int] = []
    handed_out = _ephemeral()
    candidates = [port for port in _PORTS if port not in handed_out] or _PORTS
    for port in random.sample(candidates, min(1000, len(candidates))):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.append(port)
        if len(ports) == count:
            return ports
    pytest.fail("no free port")


def _ephemeral() -> range:
    try:
        first, last = map(int, _EPHEMERAL.read_text(encoding="ascii").split())
    except FileNotFoundError:  # not Linux
        return range(32768, 65536)
    return range(first, last + 1)


@contextmanager
def running(home: Home, ports: list[int], *command: str, user: str | None = None, says: str = "") -> Iterator[None]:
    """Run a daemon in the foreground until the block is left.

    It is up when it listens on all `ports`, and has said what it `says` then: some listen before they serve.
    """
    log = home.path / "output.log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            command,
            cwd=home.path,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            user=user,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + _START_TIMEOUT
        for port in ports:
            while not (_listens(port) and says in log.read_text(errors="replace")):
                if daemon.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.02)  # nothing else tells when a daemon of any kind is up
        yield
    finally:
        _stop(daemon)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:  # refused; or a machine too busy to answer in time
        return False
    return True


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    """Ask it to go, wait for it; then kill what is left of its session."""
    daemon.terminate()
    try:
        daemon.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
    with suppress(ProcessLookupError):
        os.killpg(daemon.pid, signal.SIGKILL)


@contextmanager
def exim(home: Home) -> Iterator[dict[str, int]]:
    """SMTP."""
    program, (port,) = require_program("exim4"), free_ports(1)
    config = home.write(
        "exim.conf",
        f"""
        local_interfaces = <; [127.0.0.1]:{port}
        primary_hostname = localhost
        spool_directory = @DIR@/spool
        log_file_path = @DIR@/exim-%slog
        pid_file_path = @DIR@/exim.pid
        exim_user = {os.getuid()}
        exim_group = {os.getgid()}
        keep_environment =
        tls_advertise_hosts = *
        tls_certificate = @CERT@
        tls_privatekey = @KEY@
        """,
    )
    with running(home, [port], program, "-C", config, "-bdf"):
        yield {"smtp": port}


@contextmanager
def dovecot(home: Home) -> Iterator[dict[str, int]]:
    """IMAP, POP3, LMTP, ManageSieve: as many of them as are installed."""
    program = require_program("dovecot")
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    if not told.startswith("2.3."):
        pytest.skip(f"this is a configuration for Dovecot 2.3, and {told.strip() or 'an unknown version'} is installed")
    ports = dict(zip(DOVECOT, free_ports(len(DOVECOT)), strict=True))
    ports = {protocol: port for protocol, port in ports.items() if is_installed(DOVECOT[protocol].program)}
    services = "\n".join(DOVECOT[protocol].listening_on(port) for protocol, port in ports.items())
    # Run by root, Dovecot has users of its own; run by anybody else, it has to be content with that user.
    alone = "" if os.getuid() == 0 else _unprivileged(ports)
    config = home.write(
        "dovecot.conf",
        f"""
        base_dir = @DIR@/run
        state_dir = @DIR@/state
        log_path = /dev/stderr
        protocols = {" ".join(ports)}
        listen = 127.0.0.1
        ssl = yes
        ssl_cert = <@CERT@
        ssl_key = <@KEY@
        mail_location = maildir:@DIR@/mail
        passdb {{
          driver = static
          args = nopassword=y
        }}
        {services}
        {alone}
        """,
    )
    with running(home, list(ports.values()), program, "-F", "-c", config):
        yield ports


@dataclass(frozen=True)
class DovecotService:
    """What one of Dovecot's packages brings.

    Attributes:
        program: the part of it that listens.
        service: its name in the configuration.
        listener: the name of its port in the clear.
        implicit: the name of its port that begins with TLS, which it opens by itself; or nothing.
    """

    program: str
    service: str
    listener: str
    implicit: str = ""

    def listening_on(self, port: int) -> str:
        """Its configuration."""
        listeners = [(self.listener, port), *([(self.implicit, 0)] if self.implicit else [])]
        inside = "\n".join(f"inet_listener {name} {{\n port = {number}\n }}" for name, number in listeners)
        return f"service {self.service} {{\n {inside}\n }}"


#: Each in a package of its own: the daemon alone serves none of them.
DOVECOT = {
    "imap": DovecotService("imap-login", "imap-login", "imap", "imaps"),
    "pop3": DovecotService("pop3-login", "pop3-login", "pop3", "pop3s"),
    "lmtp": DovecotService("lmtp", "lmtp", "lmtp"),
    "sieve": DovecotService("managesieve-login", "managesieve-login", "sieve"),
}


def _unprivileged(protocols: Iterable[str]) -> str:
    services = ["anvil", *(DOVECOT[name].service for name in protocols if name != "lmtp")]
    return "\n".join(
        [
            "default_internal_user = @USER@",
            "default_internal_group =",
            "default_login_user = @USER@",
            *(f"service {service} {{\n chroot =\n }}" for service in services),
        ]
    )


@contextmanager
def vsftpd(home: Home) -> Iterator[dict[str, int]]:
    """FTP; anybody may fetch what is in the folder ``files``, over data connections that resume the session."""
    program, (port,) = require_program("vsftpd"), free_ports(1)
    (home.path / "empty").mkdir()
    (home.path / "files").mkdir()
    settings = {
        "listen": "YES",
        "background": "NO",
        "listen_address": "127.0.0.1",
        "listen_port": str(port),
        "run_as_launching_user": "YES",
        "seccomp_sandbox": "NO",
        "secure_chroot_dir": "@DIR@/empty",
        "isolate": "NO",
        "isolate_network": "NO",
        "anonymous_enable": "YES",
        "no_anon_password": "YES",
        "anon_root": "@DIR@/files",
        "pasv_address": "127.0.0.1",
        "ssl_enable": "YES",
        "allow_anon_ssl": "YES",
        "require_ssl_reuse": "YES",
        "strict_ssl_read_eof": "YES",
        "ssl_ciphers": "HIGH",
        "rsa_cert_file": "@CERT@",
        "rsa_private_key_file": "@KEY@",
    }
    # Its parser takes neither blanks nor indentation.
    config = home.write("vsftpd.conf", "".join(f"{key}={value}\n" for key, value in settings.items()))
    with running(home, [port], program, config):
        yield {"ftp": port}


@contextmanager
def prosody(home: Home) -> Iterator[dict[str, int]]:
    """XMPP, for clients and between servers."""
    program, ports = require_program("prosody"), free_ports(2)
    config = home.write(
        "prosody.cfg.lua",
        f"""
        daemonize = false
        run_as_root = true
        pidfile = "@DIR@/prosody.pid"
        data_path = "@DIR@"
        log = {{ info = "*console" }}
        interfaces = {{ "127.0.0.1" }}
        c2s_ports = {{ {ports[0]} }}
        s2s_ports = {{ {ports[1]} }}
        c2s_direct_tls_ports = {{}}
        s2s_direct_tls_ports = {{}}
        modules_enabled = {{ "tls", "saslauth", "dialback" }}
        ssl = {{ key = "@KEY@", certificate = "@CERT@" }}
        VirtualHost "localhost"
        """,
    )
    with running(home, ports, program, "--config", config):
        yield {"xmpp": ports[0], "xmpp-server": ports[1]}


@contextmanager
def slapd(home: Home) -> Iterator[dict[str, int]]:
    """LDAP; without a database it still answers for its root DSE."""
    program, (port,) = require_program("slapd"), free_ports(1)
    config = home.write("slapd.conf", "TLSCertificateFile @CERT@\nTLSCertificateKeyFile @KEY@\n")
    with running(home, [port], program, "-f", config, "-h", f"ldap://127.0.0.1:{port}", "-d", "0"):
        yield {"ldap": port}


@contextmanager
def postgres(home: Home) -> Iterator[dict[str, int]]:
    """PostgreSQL, which does not run as root."""
    require_programs("initdb", "postgres")
    initdb, (port,) = require_program("initdb"), free_ports(1)
    program = str(Path(initdb).with_name("postgres"))  # of the same version, where there are several
    user = "postgres" if os.getuid() == 0 else None
    if user:
        try:
            owner = pwd.getpwnam(user)
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        for path in (home.path, home.cert, home.key):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    data = str(home.path / "data")
    quick = ("-A", "trust", "-U", "bowout", "--no-sync", "--locale=C", "-E", "UTF8")
    subprocess.run((initdb, "-D", data, *quick), cwd=home.path, user=user, check=True, capture_output=True)
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "fsync": "off",
        "ssl": "on",
        "ssl_cert_file": home.cert,
        "ssl_key_file": home.key,
    }
    options = [f"--{key}={value}" for key, value in settings.items()]
    # Until then it answers every StartupMessage that it is starting up.
    ready = "ready to accept connections"
    with running(home, [port], program, "-D", data, *options, user=user, says=ready):
        yield {"postgres": port}


@contextmanager
def mariadb(home: Home) -> Iterator[dict[str, int]]:
    """MySQL's protocol, with no system tables and so no passwords."""
    program, (port,) = require_program("mariadbd"), free_ports(1)
    (home.path / "data").mkdir()
    with running(
        home,
        [port],
        program,
        "--no-defaults",
        f"--user={_user()}",
        f"--datadir={home.path / 'data'}",
        f"--socket={home.path / 'mariadb.sock'}",
        "--bind-address=127.0.0.1",
        f"--port={port}",
        "--skip-grant-tables",
        "--skip-innodb",
        "--default-storage-engine=Aria",
        f"--ssl-cert={home.cert}",
        f"--ssl-key={home.key}",
    ):
        yield {"mysql": port}


@contextmanager
def inspircd(home: Home) -> Iterator[dict[str, int]]:
    """IRC."""
    program, (port,) = require_program("inspircd"), free_ports(1)
    home.write("motd", "")
    config = home.write(
        "inspircd.conf",
        f"""
        <server name="irc.localhost" description="test" network="test" id="001">
        <admin name="test" nick="test" email="test@localhost">
        <bind address="127.0.0.1" port="{port}" type="clients">
        <connect allow="*" resolvehostnames="no" useident="no">
        <module name="ssl_gnutls">
        <module name="starttls">
        <sslprofile name="test" provider="gnutls" certfile="@CERT@" keyfile="@KEY@">
        <starttls provider="test">
        <files motd="@DIR@/motd">
        <log method="file" type="*" level="default" target="@DIR@/irc.log">
        """,
    )
    as_root = ["--runasroot"] if os.getuid() == 0 else []
    with running(home, [port], program, "--nofork", "--nopid", f"--config={config}", *as_root):
        yield {"irc": port}


@contextmanager
def nnrpd(home: Home) -> Iterator[dict[str, int]]:
    """NNTP: INN's reader, alone, over an empty spool.

    Not in the list of what CI must have: Debian's inn2 cannot be installed where the host has no domain name.
    """
    program, (port,) = find_program("/usr/lib/news/bin/nnrpd"), free_ports(1)
    if program is None:
        pytest.skip("nnrpd is not installed (Debian's package: inn2)")
    if not os.access(Path(program).with_name("innbind"), os.X_OK):
        pytest.skip("INN's innbind, without which it does not listen, is for root and the group news only")
    home.write("storage.conf", "method tradspool { newsgroups: * class: 0 }\n")
    home.write("readers.conf", 'auth all { hosts: "*" default: <all> }\naccess all { users: <all> newsgroups: "*" }\n')
    for empty in ("active", "newsgroups", "expire.ctl", "group.index"):
        home.write(empty, "")
    config = home.write(
        "inn.conf",
        f"""
        domain: example.net
        pathhost: localhost
        mta: /bin/false
        hismethod: hisv6
        ovmethod: tradindexed
        enableoverview: true
        pathnews: @DIR@
        pathbin: {Path(program).parent}
        pathetc: @DIR@
        pathdb: @DIR@
        pathspool: @DIR@
        pathoverview: @DIR@
        pathlog: @DIR@
        pathrun: @DIR@
        pathtmp: @DIR@
        runasuser: @USER@
        runasgroup: {grp.getgrgid(os.getgid()).gr_name}
        tlscertfile: @CERT@
        tlskeyfile: @KEY@
        """,
    )
    command = (
        "env",
        f"INNCONF={config}",
        program,
        "-f",
        "-D",
        "-b",
        "127.0.0.1",
        "-p",
        str(port),
        "-c",
        str(home.path / "readers.conf"),
    )
    with running(home, [port], *command):
        yield {"nntp": port}


#: The recipes, and for each protocol that one serves, the programs of ``.ci/packages.txt`` that it takes.
RECIPES: dict[Recipe, dict[str, tuple[str, ...]]] = {
    exim: {"smtp": ("exim4",)},
    dovecot: {protocol: ("dovecot", service.program) for protocol, service in DOVECOT.items()},
    vsftpd: {"ftp": ("vsftpd",)},
    prosody: {"xmpp": ("prosody",), "xmpp-server": ("prosody",)},
    slapd: {"ldap": ("slapd",)},
    postgres: {"postgres": ("initdb", "postgres")},
    mariadb: {"mysql": ("mariadbd",)},
    inspircd: {"irc": ("inspircd", "m_ssl_gnutls.so", "m_starttls.so")},
    nnrpd: {"nntp": ()},
}
