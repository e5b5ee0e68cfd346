"""Proxies for HTTP clients, in threads: CONNECT (RFC 9110 section 9.3.6) and SOCKS 5 (RFC 1928) in plain TCP."""

from __future__ import annotations

import contextlib
import inspect
import select
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from helpers.peers import require_program
from helpers.serving import cert_file
from helpers.starttls_servers import free_ports
from helpers.wire import PATIENCE, Version
from interop.far import dial

LOOPBACK: Final = "127.0.0.1"
_BLOCK: Final = 1 << 16

Opening = Callable[[socket.socket], "socket.socket | None"]
"""A proxy's part of the dialogue: gives the connection to the target, or None where it refuses."""


def by_connect(near: socket.socket) -> socket.socket | None:
    """HTTP's CONNECT."""
    target = _head(near).split()[1].decode()
    host, _, port = target.rpartition(":")
    far = socket.create_connection((host, int(port)), timeout=PATIENCE)
    near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    return far


def refusing(near: socket.socket) -> None:
    """HTTP's CONNECT, refused."""
    _head(near)
    near.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


def by_socks(near: socket.socket) -> socket.socket:
    """SOCKS 5, without a password, for a name."""
    assert _exactly(near, 3) == b"\x05\x01\x00"
    near.sendall(b"\x05\x00")
    assert _exactly(near, 4) == b"\x05\x01\x00\x03"
    host = _exactly(near, _exactly(near, 1)[0]).decode()
    (port,) = struct.unpack("!H", _exactly(near, 2))
    far = socket.create_connection((host, port), timeout=PATIENCE)
    near.sendall(b"\x05\x00\x00\x01" + bytes(6))
    return far


def refusing_socks(near: socket.socket) -> None:
    """SOCKS 5, refused by its rules."""
    _exactly(near, 3)
    near.sendall(b"\x05\x00")
    near.recv(_BLOCK)
    near.sendall(b"\x05\x02\x00\x01" + bytes(6))


def _head(sock: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        part = sock.recv(_BLOCK)
        assert part, "it left"
        head += part
    return head


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        assert part, "it left"
        data += part
    return data


class ProxyThread:
    """A proxy.

    Attributes:
        port: where it listens.
        connections: how many it has accepted.
    """

    def __init__(self, listener: socket.socket, opening: Opening) -> None:
        self.port: int = listener.getsockname()[1]
        self.connections = 0
        self._listener = listener
        self._opening = opening
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._main = threading.Thread(target=self._accept, name="proxy")

    def start(self) -> None:
        """Begin to accept."""
        self._main.start()

    def stop(self) -> None:
        """End every connection that a client has not ended."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._main.join(PATIENCE)
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=[near], name="proxied")
            self._threads.append(thread)
            thread.start()

    def _serve(self, near: socket.socket) -> None:
        near.settimeout(PATIENCE)
        self._open.add(near)
        with near, contextlib.suppress(OSError, AssertionError):
            far = self._opening(near)
            if far is not None:
                self._open.add(far)
                with far:
                    _pass_on(near, far)
                    self._open.discard(far)
            self._open.discard(near)


def _pass_on(near: socket.socket, far: socket.socket) -> None:
    """Pass on bytes and FIN until both directions have ended."""
    other = {near: far, far: near}
    reading = set(other)
    while reading:
        for sock in select.select(reading, [], [], PATIENCE)[0]:
            if data := sock.recv(_BLOCK):
                other[sock].sendall(data)
            else:
                reading.discard(sock)
                other[sock].shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def proxy(opening: Opening = by_connect) -> Iterator[ProxyThread]:
    """Run one."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        running = ProxyThread(listener, opening)
        running.start()
        try:
            yield running
        finally:
            running.stop()


_HAPROXY: Final = """
    global
        log stderr format raw local0 info
    defaults
        mode tcp
        timeout connect 20s
        timeout client 20s
        timeout server 20s
    listen tunnels
        bind 127.0.0.1:{listen} ssl crt {identity} ssl-min-ver TLSv{version} ssl-max-ver TLSv{version}
        server connect 127.0.0.1:{connect}
"""


@contextmanager
def haproxy(connect: int, directory: Path, version: Version = "1.3") -> Iterator[int]:
    """Run HAProxy in TLS before a proxy in plain TCP; give its port."""
    program = require_program("haproxy")
    (port,) = free_ports(1)
    config = directory / "haproxy.cfg"
    text = _HAPROXY.format(listen=port, connect=connect, identity=cert_file(), version=version)
    config.write_text(inspect.cleandoc(text) + "\n", encoding="ascii")
    process = subprocess.Popen([program, "-db", "-q", "-f", str(config)], stdin=subprocess.DEVNULL)
    try:
        dial(port, lambda: process.poll() is None).close()
        yield port
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
