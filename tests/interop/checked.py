"""Servers as people run them, for `bowout check`: each a short recipe on loopback; those of HTTPS have two files."""

from __future__ import annotations

import functools
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bowout import StartTLSName
from bowout.check import ProtocolName
from helpers.compiled import go_program
from helpers.peers import require_module, require_program
from helpers.starttls_servers import Home, Recipe, dovecot, exim, free_ports, postgres, running
from reach.daemons import redis

PROGRAMS: Final = Path(__file__).with_name("programs")
SMALL: Final = b"<p>hello</p>" * 10
BIG: Final = bytes(8 << 20)

_NGINX: Final = """
    daemon off;
    master_process off;
    pid @DIR@/NAME.pid;
    error_log stderr info;
    user @USER@;
    events { worker_connections 512; }
    http {
        access_log off;
        client_body_temp_path @DIR@/body;
        proxy_temp_path @DIR@/proxy;
        fastcgi_temp_path @DIR@/fastcgi;
        scgi_temp_path @DIR@/scgi;
        uwsgi_temp_path @DIR@/uwsgi;
        keepalive_timeout 1s;
        server {
            listen 127.0.0.1:PORT TLS;
            root @DIR@/www;
            EXTRA
        }
    }
"""
_CERTIFICATE: Final = "ssl_certificate @CERT@; ssl_certificate_key @KEY@; ssl_protocols TLSv1.2 TLSv1.3;"
_HAPROXY: Final = """
    global
        maxconn 256
    defaults
        mode http
        timeout connect 20s
        timeout client 60s
        timeout server 60s
        timeout http-keep-alive 60s
    frontend tls
        bind 127.0.0.1:PORT ssl crt @DIR@/both.pem
        default_backend plain
    backend plain
        server one 127.0.0.1:BEHIND
"""
_STUNNEL: Final = """
    foreground = yes
    pid =
    debug = info
    syslog = no
    [https]
    accept = 127.0.0.1:PORT
    connect = 127.0.0.1:BEHIND
    cert = @DIR@/both.pem
"""

Start = Callable[[Home, Path], AbstractContextManager[int]]
"""Start it in its home; the path is a directory for what is made once in a session. It gives the port."""


@dataclass(frozen=True)
class CheckedServer:
    """One server.

    Attributes:
        name: its key in the data.
        start: starts it.
        needs: a program of ``.ci/packages.txt``, with how it tells its version; or a Python module.
        version: that word; empty for a module.
        idle: whether it ends an idle connection after a short time.
        protocol: what it speaks.
        starttls: the protocol in which TLS has to be requested; None if TLS comes first.
    """

    name: str
    start: Start
    needs: str
    version: str = ""
    idle: bool = False
    protocol: ProtocolName = "http"
    starttls: StartTLSName | None = None

    def require(self) -> None:
        """Skip the test, or fail it in CI, where it is missing."""
        if self.version:
            require_program(self.needs)
        else:
            require_module(self.needs)

    @functools.cached_property
    def here(self) -> str:
        """Its version here."""
        if not self.version:
            return importlib.metadata.version(self.needs)
        command = [require_program(self.needs), self.version]
        done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
        found = re.search(rb"(?:^|[^.\d])(\d+(?:\.\d+)+)", done.stdout + done.stderr)
        return found[1].decode() if found else "?"


def prepare(home: Home) -> None:
    """Write the files to serve, and the key with its certificates in one file."""
    www = home.path / "www"
    www.mkdir()
    (www / "index.html").write_bytes(SMALL)
    (www / "big").write_bytes(BIG)
    home.path.joinpath("both.pem").write_bytes(home.key.read_bytes() + home.cert.read_bytes())


def _config(home: Home, name: str, text: str, **words: object) -> str:
    for word, value in words.items():
        text = text.replace(word, str(value))
    return home.write(name, "\n".join(line.strip() for line in text.splitlines()) + "\n")


@contextmanager
def _nginx(home: Home, _shared: Path, *, tls: bool = True) -> Iterator[int]:
    (port,) = free_ports(1)
    name = "tls" if tls else "plain"
    config = _config(
        home, f"{name}.conf", _NGINX, NAME=name, PORT=port, TLS="ssl" if tls else "", EXTRA=_CERTIFICATE if tls else ""
    )
    with running(home, [port], require_program("nginx"), "-c", config, "-e", "stderr"):
        yield port


@contextmanager
def _before_nginx(home: Home, program: str, text: str, *options: str) -> Iterator[int]:
    """Run a proxy that takes TLS off, and nginx behind it."""
    require_program("nginx")
    (port,) = free_ports(1)
    with _nginx(home, home.path, tls=False) as behind:
        config = _config(home, f"{program}.conf", text, PORT=port, BEHIND=behind)
        with running(home, [port], require_program(program), *options, config):
            yield port


def _haproxy(home: Home, _shared: Path) -> AbstractContextManager[int]:
    return _before_nginx(home, "haproxy", _HAPROXY, "-db", "-f")


def _stunnel(home: Home, _shared: Path) -> AbstractContextManager[int]:
    return _before_nginx(home, "stunnel", _STUNNEL)


@contextmanager
def _s_server(home: Home, _shared: Path) -> Iterator[int]:
    (port,) = free_ports(1)
    command = [
        "sh", "-c", f'cd "{home.path}/www" && exec "$@"', "sh",
        require_program("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(home.cert),
        "-key", str(home.key), "-WWW", "-quiet",
    ]  # fmt: skip
    with running(home, [port], *command):
        yield port


@contextmanager
def _program(home: Home, *command: str) -> Iterator[int]:
    (port,) = free_ports(1)
    with running(home, [port], *command, str(port), str(home.cert), str(home.key)):
        yield port


def _go(home: Home, shared: Path) -> AbstractContextManager[int]:
    require_program("go")
    return _program(home, go_program(PROGRAMS / "https.go", shared))


def _node(home: Home, _shared: Path) -> AbstractContextManager[int]:
    return _program(home, require_program("node"), str(PROGRAMS / "https.js"))


def _uvicorn(loop: str) -> Start:
    def start(home: Home, _shared: Path) -> AbstractContextManager[int]:
        return _program(home, sys.executable, str(PROGRAMS / "on_asgi.py"), "uvicorn", loop)

    return start


def _hypercorn(home: Home, _shared: Path) -> AbstractContextManager[int]:
    return _program(home, sys.executable, str(PROGRAMS / "on_asgi.py"), "hypercorn", "asyncio")


def _daemon(recipe: Recipe, protocol: str) -> Start:
    @contextmanager
    def start(home: Home, _shared: Path) -> Iterator[int]:
        with recipe(home) as ports:
            yield ports[protocol]

    return start


SERVERS: Final = {
    server.name: server
    for server in (
        CheckedServer("nginx", _nginx, "nginx", "-v", idle=True),
        CheckedServer("HAProxy", _haproxy, "haproxy", "-v"),
        CheckedServer("stunnel", _stunnel, "stunnel", "-version"),
        CheckedServer("OpenSSL s_server", _s_server, "openssl", "version"),
        CheckedServer("Go net/http", _go, "go", "version"),
        CheckedServer("Node", _node, "node", "--version", idle=True),
        CheckedServer("uvicorn", _uvicorn("asyncio"), "uvicorn"),
        CheckedServer("uvicorn on uvloop", _uvicorn("uvloop"), "uvicorn"),
        CheckedServer("hypercorn", _hypercorn, "hypercorn"),
        CheckedServer("Redis", _daemon(redis, "redis"), "redis-server", "--version", protocol="redis"),
        CheckedServer(
            "PostgreSQL", _daemon(postgres, "postgres"), "postgres", "--version", False, "postgres", "postgres"
        ),
        CheckedServer(
            "Dovecot IMAP", _daemon(dovecot, "imap"), "dovecot", "--version", protocol="imap", starttls="imap"
        ),
        CheckedServer(
            "Dovecot POP3", _daemon(dovecot, "pop3"), "dovecot", "--version", protocol="pop3", starttls="pop3"
        ),
        CheckedServer("Exim", _daemon(exim, "smtp"), "exim4", "--version", protocol="smtp", starttls="smtp"),
    )
}
