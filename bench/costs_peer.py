"""A TLS peer in the same thread as the measured connection: it moves only when it is called."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio
import trustme

import bowout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from bowout import Stream

Result = TypeVar("Result")

#: Largest number of bytes that it puts into the socket at once: the client finds this at each wake-up, on every kernel.
_GIVE: Final = 1 << 17
_READ: Final = 1 << 18
_CHUNK: Final = bytes(1 << 14)
#: Far more than is ever in flight.
_SOCKET_BUFFER: Final = 1 << 22


class CountedPeer:
    """The peer of one connection.

    Attributes:
        echoes: whether it sends back the data that it receives.
        to_send: the number of its own bytes that it still has to send.
        received: the number of bytes received.
        keeps_up: whether it moves after every send, so that no send finds the socket full: the capacity of a socket
            depends on the kernel.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "localhost"
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=name)
        self._shaken = False
        self._ended = False
        self._unsent = b""
        self.echoes = False
        self.to_send = 0
        self.received = 0
        self.keeps_up = False

    def pump(self) -> None:
        """Do all that can be done now."""
        if self._sock.fileno() < 0:
            return
        with contextlib.suppress(BlockingIOError):
            while data := self._sock.recv(_READ):
                self._incoming.write(data)
        if not self._shaken:
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
                self._shaken = True
        if self._shaken:
            self._read()
            self._give()
        self._flush()

    def _read(self) -> None:
        while not self._ended:
            try:
                data = self._tls.read(_READ)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:
                data = b""
            self.received += len(data)
            if not data:
                self._end()
            elif self.echoes:
                self._tls.write(data)

    def _give(self) -> None:
        given = 0
        while self.to_send and given < _GIVE:
            given += self._tls.write(_CHUNK[: self.to_send])
            self.to_send = max(0, self.to_send - len(_CHUNK))

    def _end(self) -> None:
        """Answer close_notify, and FIN."""
        self._ended = True
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()
        self._sock.shutdown(socket.SHUT_WR)

    def _flush(self) -> None:
        self._unsent += self._outgoing.read()
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while self._unsent:
                self._unsent = self._unsent[self._sock.send(self._unsent) :]


@functools.cache
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the client's and the server's context."""
    authority = trustme.CA()
    client, server = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(client)
    authority.issue_cert("localhost").configure_cert(server)
    return client, server


@asynccontextmanager
async def connected(*, server_side: bool = False) -> AsyncIterator[tuple[Stream, CountedPeer]]:
    """Return a stream before its handshake, and its peer; `server_side`: the stream is the server's."""
    client, server = _contexts()
    context, name, other = (server, None, client) if server_side else (client, "localhost", server)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
            sock.settimeout(0)
        stream = bowout.wrap(ours, context, server_side=server_side, server_hostname=name)
        try:
            yield stream, CountedPeer(theirs, other, server_side=not server_side)
        finally:
            if stream.ending is None:
                stream.abort()


def run_on(backend: str, main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a function on ``"asyncio"`` or ``"trio"``."""
    return trio.run(main) if backend == "trio" else asyncio.run(main())
