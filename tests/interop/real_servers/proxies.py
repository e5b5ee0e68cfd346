"""Proxies that end TLS. What is behind them decides with them; here, a server that ends its own connections well."""

from __future__ import annotations

import functools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from helpers.peers import require_program
from helpers.starttls_servers import Home, free_ports, running
from interop.real_servers.base import LARGE_PATH, LOOPBACK, CheckedServer, Start, fill
from interop.stacks.base import Stack

#: Seconds for which the backend reads what a proxy still sends after its own end.
_LINGER: Final = 10.0

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
_BEHIND: Final = "# behind it: files over HTTP/1.1 in plain TCP, by a server that sends FIN and then reads to the end\n"


class FilesInPlain(SimpleHTTPRequestHandler):
    """Files over plain HTTP/1.1."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class's name)
        """Say nothing."""


class BackendServer(ThreadingHTTPServer):
    """A server that never resets a connection whose data it did not read."""

    daemon_threads = True
    block_on_close = False

    def shutdown_request(self, request: Any) -> None:
        """Send FIN, and read to the end of the other side."""
        with suppress(OSError):
            request.shutdown(1)
            request.settimeout(_LINGER)
            while request.recv(1 << 16):
                pass
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a proxy may leave at any time."""


@contextmanager
def backend(folder: Path) -> Iterator[int]:
    """Serve the files in `folder` over plain HTTP/1.1."""
    handler = functools.partial(FilesInPlain, directory=str(folder))
    with BackendServer((LOOPBACK, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _proxy(program: str, text: str, command: Callable[[str, str], list[str]]) -> Start:
    @contextmanager
    def start(home: Home, _shared: Path) -> Iterator[int]:
        path, (port,) = require_program(program), free_ports(1)
        fill(home)
        pem = home.path / "both.pem"
        pem.touch(0o600)
        pem.write_bytes(home.key.read_bytes() + home.cert.read_bytes())
        with backend(home.path / "www") as behind:
            words = {"@PORT@": port, "@BEHIND@": behind, "@PEM@": pem}
            filled = functools.reduce(lambda made, word: made.replace(word, str(words[word])), words, text)
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
    CheckedServer(
        name="HAProxy",
        stack=Stack(name="HAProxy", needs=("haproxy",), version=("-v",), shows=""),
        configuration=_BEHIND + _HAPROXY,
        start=_proxy("haproxy", _HAPROXY, lambda path, config: [path, "-db", "-f", config]),
        large=LARGE_PATH,
    ),
    CheckedServer(
        name="stunnel",
        stack=Stack(name="stunnel", needs=("stunnel",), version=("-version",), shows=""),
        configuration=_BEHIND + _STUNNEL,
        start=_proxy("stunnel", _STUNNEL, lambda path, config: [path, config]),
        large=LARGE_PATH,
    ),
    CheckedServer(
        name="hitch",
        stack=Stack(name="hitch", needs=("hitch",), version=("--version",), shows=""),
        configuration=_BEHIND + _HITCH,
        start=_proxy("hitch", _HITCH, lambda path, config: [path, f"--config={config}"]),
        large=LARGE_PATH,
    ),
)
