"""Servers of files, from Debian."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import bowout
from helpers.peers import require_program
from helpers.serving import serving
from helpers.starttls_servers import Home, free_ports, running
from interop.real_servers.base import LARGE_PATH, RealServer, Start, fill
from interop.stacks.base import Stack

_NGINX: Final = """\
daemon off;
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
        listen 127.0.0.1:@PORT@ ssl;
        ssl_certificate @CERT@;
        ssl_certificate_key @KEY@;
        ssl_protocols TLSv1.2 TLSv1.3;
        root @DIR@/www;
    }
}
"""
_APACHE: Final = """\
ServerRoot @DIR@
ServerName localhost
PidFile @DIR@/apache.pid
DefaultRuntimeDir @DIR@
ErrorLog /dev/stderr
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
Listen 127.0.0.1:@PORT@
User www-data
Group www-data
DocumentRoot @DIR@/www
SSLEngine on
SSLCertificateFile @CERT@
SSLCertificateKeyFile @KEY@
"""
_LIGHTTPD: Final = """\
server.modules = ("mod_openssl", "mod_indexfile")
server.bind = "127.0.0.1"
server.port = @PORT@
server.document-root = "@DIR@/www"
index-file.names = ("index.html")
server.errorlog = "/dev/stderr"
ssl.engine = "enable"
ssl.pemfile = "@CERT@"
ssl.privkey = "@KEY@"
"""
_CADDY: Final = """\
{
    admin off
    auto_https off
    storage file_system @DIR@/caddy
    servers {
        protocols h1
    }
}
https://localhost:@PORT@ {
    bind 127.0.0.1
    tls @CERT@ @KEY@
    root * @DIR@/www
    file_server
}
"""

#: Makes the command from the program and its configuration.
Command = Callable[[str, str], list[str]]


def _daemon(program: str, text: str, command: Command) -> Start:
    @contextmanager
    def start(home: Home, _shared: Path) -> Iterator[int]:
        path, (port,) = require_program(program), free_ports(1)
        fill(home)
        config = home.write(f"{program}.conf", text.replace("@PORT@", str(port)))
        with running(home, [port], *command(path, config)):
            yield port

    return start


@contextmanager
def _bowout(home: Home, _shared: Path) -> Iterator[int]:
    fill(home)
    with serving("--www", str(home.path / "www")) as server:
        yield server.port
        server.stop()


SERVERS: Final = (
    RealServer(
        name="nginx",
        stack=Stack(name="nginx", needs=("nginx",), version=("-v",), shows=""),
        configuration=_NGINX,
        start=_daemon("nginx", _NGINX, lambda path, config: [path, "-c", config, "-e", "stderr"]),
        large=LARGE_PATH,
        ends_idle=True,
    ),
    RealServer(
        name="Apache",
        stack=Stack(name="Apache", needs=("apache2",), version=("-v",), shows=""),
        configuration=_APACHE,
        start=_daemon("apache2", _APACHE, lambda path, config: [path, "-X", "-f", config]),
        large=LARGE_PATH,
        ends_idle=True,
    ),
    RealServer(
        name="lighttpd",
        stack=Stack(name="lighttpd", needs=("lighttpd", "mod_openssl.so"), version=("-v",), shows=""),
        configuration=_LIGHTTPD,
        start=_daemon("lighttpd", _LIGHTTPD, lambda path, config: [path, "-D", "-f", config]),
        large=LARGE_PATH,
        ends_idle=True,
    ),
    RealServer(
        name="Caddy",
        stack=Stack(name="Caddy", needs=("caddy",), version=("version",), shows=""),
        configuration=_CADDY,
        start=_daemon(
            "caddy", _CADDY, lambda path, config: [path, "run", "--adapter", "caddyfile", "--config", config]
        ),
        large=LARGE_PATH,
    ),
    RealServer(
        name="bowout serve",
        stack=Stack(name="bowout serve", needs=("asyncio",), shows=""),
        configuration="bowout serve --www @DIR@/www --cert @CERT@",
        start=_bowout,
        own=bowout.__version__,
        large=LARGE_PATH,
    ),
)
