"""Proxies that end TLS. What is behind them decides with them; here, nginx, which ends its own connections well."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from helpers.peers import require_program
from helpers.starttls_servers import Home, free_ports, running
from interop.real_servers.base import LARGE_PATH, RealServer, Start, fill
from interop.stacks.base import Stack

_HAPROXY: Final = """\
global
    maxconn 64
defaults
    mode http
    timeout connect 20s
    timeout client 20s
    timeout server 20s
frontend tls
    bind 127.0.0.1:@PORT@ ssl crt @PEM@
    default_backend files
backend files
    server other 127.0.0.1:@BEHIND@
"""
_STUNNEL: Final = """\
foreground = yes
pid =
syslog = no
[pipe]
accept = 127.0.0.1:@PORT@
connect = 127.0.0.1:@BEHIND@
cert = @PEM@
"""
_HITCH: Final = """\
frontend = "[127.0.0.1]:@PORT@"
backend = "[127.0.0.1]:@BEHIND@"
pem-file = "@PEM@"
workers = 1
syslog = off
daemon = off
tls-protos = TLSv1.2 TLSv1.3
"""
_NGINX: Final = """\
daemon off;
master_process off;
pid @DIR@/nginx.pid;
error_log stderr info;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path @DIR@/body;
    proxy_temp_path @DIR@/proxy;
    fastcgi_temp_path @DIR@/fastcgi;
    uwsgi_temp_path @DIR@/uwsgi;
    scgi_temp_path @DIR@/scgi;
    server {
        listen 127.0.0.1:@BEHIND@;
        root @DIR@/www;
    }
}
"""
_BEHIND: Final = f"# behind it, nginx over plain TCP:\n{_NGINX}\n"


@contextmanager
def backend(home: Home) -> Iterator[int]:
    """Serve the files over plain HTTP/1.1."""
    program, (port,) = require_program("nginx"), free_ports(1)
    config = home.write("nginx.conf", _NGINX.replace("@BEHIND@", str(port)))
    with running(home, [port], program, "-c", config, "-e", "stderr"):
        yield port


def _proxy(program: str, text: str, command: Callable[[str, str], list[str]]) -> Start:
    @contextmanager
    def start(home: Home, _shared: Path) -> Iterator[int]:
        path, (port,) = require_program(program), free_ports(1)
        fill(home)
        pem = home.path / "both.pem"
        pem.touch(0o600)
        pem.write_bytes(home.key.read_bytes() + home.cert.read_bytes())
        with backend(home) as behind:
            filled = text
            for word, value in (("@PORT@", port), ("@BEHIND@", behind), ("@PEM@", pem)):
                filled = filled.replace(word, str(value))
            user = _user(pem) if program == "hitch" else None
            with running(home, [port], *command(path, home.write(f"{program}.conf", filled)), user=user):
                yield port

    return start


def _user(pem: Path) -> str | None:
    """Give a file to the user that a daemon runs as, which refuses to run as root."""
    if os.getuid() != 0:
        return None
    shutil.chown(pem, "nobody")
    return "nobody"


SERVERS: Final = (
    RealServer(
        name="HAProxy",
        stack=Stack(name="HAProxy", needs=("haproxy", "nginx"), version=("-v",), shows=""),
        configuration=_BEHIND + _HAPROXY,
        start=_proxy("haproxy", _HAPROXY, lambda path, config: [path, "-db", "-f", config]),
        large=LARGE_PATH,
        ends_idle=True,
    ),
    RealServer(
        name="stunnel",
        stack=Stack(name="stunnel", needs=("stunnel", "nginx"), version=("-version",), shows=""),
        configuration=_BEHIND + _STUNNEL,
        start=_proxy("stunnel", _STUNNEL, lambda path, config: [path, config]),
        large=LARGE_PATH,
    ),
    RealServer(
        name="hitch",
        stack=Stack(name="hitch", needs=("hitch", "nginx"), version=("--version",), shows=""),
        configuration=_BEHIND + _HITCH,
        start=_proxy("hitch", _HITCH, lambda path, config: [path, f"--config={config}"]),
        large=LARGE_PATH,
    ),
)
