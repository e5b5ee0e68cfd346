"""No loop: the blocking `ssl.SSLSocket`, and as the floor of memory the bare `ssl.SSLObject`."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any

from contenders.base import BUFFER_SIZE, CHUNK, HOST, READ_SIZE, Contender, chunks_of, client_context
from contenders.base import order as order_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from contenders.base import Result


def connect(port: int) -> socket.socket:
    """Return a connected socket with the same options for all contenders."""
    sock = socket.create_connection((HOST, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class _NoLoop:
    """Verbs whose coroutines never suspend: the first step is the last."""

    def run(self, main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        try:
            main().send(None)
        except StopIteration as end:
            result: Result = end.value
            return result
        raise AssertionError("a blocking verb waited")

    async def together(self, jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
        raise NotImplementedError(f"{len(jobs)} blocking connections need as many threads")


class Blocking(_NoLoop, Contender[ssl.SSLSocket]):
    """`ssl.SSLContext.wrap_socket`."""

    def __init__(self, port: int, ca: str) -> None:
        super().__init__(port, ca)
        self._context = client_context(ca)

    async def open(self) -> ssl.SSLSocket:
        return self._context.wrap_socket(connect(self.port), server_hostname=HOST)

    async def receive(self, connection: ssl.SSLSocket, count: int) -> None:
        connection.sendall(order_of("S", count))
        while count:
            count -= len(connection.recv(READ_SIZE))

    async def receive_into(self, connection: ssl.SSLSocket, count: int) -> None:
        buffer = bytearray(BUFFER_SIZE)
        connection.sendall(order_of("S", count))
        while count:
            count -= connection.recv_into(buffer)

    async def send(self, connection: ssl.SSLSocket, count: int) -> None:
        connection.sendall(order_of("R", count))
        whole, rest = chunks_of(count)
        for _ in range(whole):
            connection.sendall(CHUNK)
        connection.sendall(rest)
        connection.recv(1)

    async def echo(self, connection: ssl.SSLSocket, size: int, rounds: int) -> None:
        message = CHUNK[:size]
        connection.sendall(order_of("E", size * rounds))
        for _ in range(rounds):
            connection.sendall(message)
            left = size
            while left:
                left -= len(connection.recv(left))

    async def close(self, connection: ssl.SSLSocket) -> None:
        connection.unwrap().close()


class _Bare:
    """A socket, an `ssl.SSLObject` and its two BIOs: the smallest connection over BIOs."""

    __slots__ = ("_incoming", "_outgoing", "_sock", "_tls")

    def __init__(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=HOST)

    def shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._incoming.write(self._sock.recv(1 << 14))
            else:
                self._flush()
                return

    def write(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def read(self, size: int) -> bytes:
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._incoming.write(self._sock.recv(1 << 14))

    def close(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._flush()
        self._sock.close()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._sock.sendall(self._outgoing.read())


class MemoryFloor(_NoLoop, Contender[_Bare]):
    """The floor of memory; only memory is measured."""

    def __init__(self, port: int, ca: str) -> None:
        super().__init__(port, ca)
        self._context = client_context(ca)

    async def open(self) -> _Bare:
        bare = _Bare(self._context, connect(self.port))
        bare.shake_hands()
        return bare

    async def receive(self, connection: _Bare, count: int) -> None:
        connection.write(order_of("S", count))
        while count:
            count -= len(connection.read(READ_SIZE))

    async def send(self, connection: _Bare, count: int) -> None:
        connection.write(order_of("R", count))
        whole, rest = chunks_of(count)
        for _ in range(whole):
            connection.write(CHUNK)
        if rest:
            connection.write(rest)
        connection.read(1)

    async def echo(self, connection: _Bare, size: int, rounds: int) -> None:
        connection.write(order_of("E", size * rounds))
        for _ in range(rounds):
            connection.write(CHUNK[:size])
            left = size
            while left:
                left -= len(connection.read(left))

    async def close(self, connection: _Bare) -> None:
        connection.close()
