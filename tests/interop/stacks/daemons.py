"""Daemons that pass TLS on as plain TCP, and plain TCP as TLS: the application behind them is the test's."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from helpers.peers import require_program
from helpers.starttls_servers import free_ports
from helpers.wire import PATIENCE
from interop.far import LOOPBACK, Far, SocketFar, dial, running
from interop.stacks.base import Bench, Client, Server, Stack

_NGINX: Final = """
    daemon off;
    master_process off;
    pid DIR/nginx.pid;
    error_log stderr info;
    events { worker_connections 64; }
    stream {
        server {
            listen 127.0.0.1:LISTEN TLS_IN;
            proxy_pass 127.0.0.1:CONNECT;
            proxy_half_close off;
            TLS_OUT
            ssl_protocols TLSv1.2 TLSv1.3;
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
            ssl_certificate PEM;
            ssl_certificate_key PEM;
        }
    }
"""

_HAPROXY: Final = """
    global
        log stderr format raw local0 info
        maxconn 64
    defaults
        mode tcp
        log global
        log-format "termination %ts"
        timeout connect 20s
        timeout client 20s
        timeout server 20s
    listen pipe
        bind 127.0.0.1:LISTEN TLS_IN
        server other 127.0.0.1:CONNECT TLS_OUT
"""

_STUNNEL: Final = """
    foreground = yes
    pid =
    debug = info
    syslog = no
    [pipe]
    accept = 127.0.0.1:LISTEN
    connect = 127.0.0.1:CONNECT
    ROLE
"""

#: For a configuration: the words to fill in as a server, and as a client.
Words = tuple[dict[str, str], dict[str, str]]
Command = Callable[[str], list[str]]


def _filled(bench: Bench, text: str, listen: int, connect: int, words: dict[str, str]) -> str:
    path = bench.directory / "daemon.conf"
    where = {"LISTEN": str(listen), "CONNECT": str(connect), "PEM": bench.identity, "DIR": str(bench.directory)}
    for word, value in {**words, **where}.items():
        text = text.replace(word, value)
    path.write_text("\n".join(line.strip() for line in text.splitlines()) + "\n")
    return str(path)


def _daemon(
    text: str, words: Words, command: Command, *, stop: signal.Signals, last_words: str = ""
) -> tuple[Server, Client]:
    @contextmanager
    def server(bench: Bench, way: str) -> Iterator[Far]:
        (port,) = free_ports(1)
        with socket.create_server((LOOPBACK, 0)) as behind:
            behind.settimeout(2 * PATIENCE)
            config = _filled(bench, text, port, behind.getsockname()[1], words[0])
            with running(command(config), bench.directory, piped=False) as process:
                far = SocketFar(process, lambda: behind.accept()[0], port=port, stop=stop, last_words=last_words)
                try:
                    yield far
                finally:
                    far.close()

    @contextmanager
    def client(bench: Bench, port: int, way: str) -> Iterator[Far]:
        (before,) = free_ports(1)
        config = _filled(bench, text, before, port, words[1])
        with running(command(config), bench.directory, piped=False) as process:
            far = SocketFar(
                process, lambda: dial(before, lambda: process.popen.poll() is None), stop=stop, last_words=last_words
            )
            far.begin()
            try:
                yield far
            finally:
                far.close()

    return server, client


def _nginx_command(config: str) -> list[str]:
    module = f"load_module {require_program('ngx_stream_module.so')};"
    return [require_program("nginx"), "-g", module, "-c", config, "-e", "stderr"]


_nginx = _daemon(
    _NGINX,
    ({"TLS_IN": "ssl", "TLS_OUT": ""}, {"TLS_IN": "", "TLS_OUT": "proxy_ssl on;"}),
    _nginx_command,
    stop=signal.SIGQUIT,
)
_haproxy = _daemon(
    _HAPROXY,
    ({"TLS_IN": "ssl crt PEM", "TLS_OUT": ""}, {"TLS_IN": "", "TLS_OUT": "ssl verify none"}),
    lambda config: [require_program("haproxy"), "-db", "-f", config],
    stop=signal.SIGUSR1,
)
_stunnel = _daemon(
    _STUNNEL,
    ({"ROLE": "cert = PEM"}, {"ROLE": "client = yes"}),
    lambda config: [require_program("stunnel"), config],
    stop=signal.SIGTERM,
    last_words=r"Connection (closed|reset)",
)

STACKS: Final = (
    Stack(
        name="nginx stream",
        needs=("nginx", "ngx_stream_module.so"),
        version=("-v",),
        server=_nginx[0],
        client=_nginx[1],
        shows=r"SSL_\w+\(\) failed.*?(?=,)|\(\d+: [\w ]+\).*?(?=,)|^application: .*|(?:client|upstream) disconnected",
    ),
    Stack(
        name="HAProxy",
        needs=("haproxy",),
        version=("-v",),
        server=_haproxy[0],
        client=_haproxy[1],
        shows=r"termination ..|^application: .*",
    ),
    Stack(
        name="stunnel",
        needs=("stunnel",),
        version=("-version",),
        server=_stunnel[0],
        client=_stunnel[1],
        shows=r"Connection (?:closed|reset).*|SSL_\w+: .*|TLS alert.*|^application: .*|\w+ \(\d+\)$",
    ),
)
