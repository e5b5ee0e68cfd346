"""The demo's own server: bowout on the server's side, and real sockets on loopback."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import bowout
from bowout import _backends

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from bowout.cli.demo.loop import SideTasks

LOCALHOST: Final = "127.0.0.1"
#: The name in the certificate.
HOSTNAME: Final = "localhost"
#: Longest time for the server's part of an exchange, in seconds.
_PATIENCE: Final = 15.0


class Stuck(Exception):
    """An event that the story waits for did not happen."""


@dataclass(frozen=True, slots=True)
class ServerReport:
    """The server's report on the end of a connection.

    Attributes:
        lines: its text, escaped.
        content: whether it got the client's close_notify, and no error.
    """

    lines: tuple[str, ...]
    content: bool


class DemoServer(Protocol):
    """The server of an act: it accepts one connection after the other. Its coroutines may raise `Stuck`."""

    name: str
    port: int

    def open(self, jobs: SideTasks) -> None:
        """Begin to accept connections, in the running loop."""

    async def connected(self) -> None:
        """Wait until the server has finished the handshake of the current connection, too."""

    async def say(self, data: bytes) -> None:
        """Have the server send `data`."""

    async def report(self) -> ServerReport:
        """Wait until the current connection has ended, and return its report; then the next one is current."""


class _Visit:
    """One connection to the embedded server."""

    def __init__(self) -> None:
        backend = _backends.current()
        self.established = backend.event()
        self.ended = backend.event()
        self.stream: bowout.Stream | None = None
        self.error: bowout.BowoutError | None = None


class EmbeddedServer:
    """Accepts connections, one after the other, in its own task."""

    name = "server"

    def __init__(self, context: ssl.SSLContext, listener: socket.socket) -> None:
        self._context = context
        self._listener = listener
        self.port: int = listener.getsockname()[1]

    def open(self, jobs: SideTasks) -> None:
        """See `DemoServer`."""
        self._visit = _Visit()
        jobs.start(self._serve)

    async def connected(self) -> None:
        """See `DemoServer`."""
        await self._visit.established.wait()

    async def say(self, data: bytes) -> None:
        """See `DemoServer`."""
        await self.connected()
        if (stream := self._visit.stream) is not None:
            await stream.send(data)

    async def report(self) -> ServerReport:
        """See `DemoServer`."""
        visit = self._visit
        await visit.ended.wait()
        self._visit = _Visit()
        ending = visit.stream.ending if visit.stream is not None else None
        lines = [str(ending)] if ending is not None else []
        if visit.error is not None:
            lines.append(f"its read raised {type(visit.error).__name__}: {visit.error}")
        return ServerReport(
            lines=tuple(lines),
            content=visit.error is None and ending is not None and ending.clean,
        )

    async def _serve(self) -> None:
        backend = _backends.current()
        while True:
            connection = await backend.accept(self._listener)
            await self._receive_all(connection, self._visit)

    async def _receive_all(self, connection: socket.socket, visit: _Visit) -> None:
        visit.stream = bowout.wrap(
            connection, self._context, server_side=True, handshake_timeout=_PATIENCE, close_timeout=_PATIENCE
        )
        try:
            async with visit.stream as stream:
                visit.established.set()
                async for _ in stream:
                    pass
        except bowout.BowoutError as error:
            visit.error = error
        finally:
            visit.established.set()
            visit.ended.set()


@contextmanager
def listening() -> Iterator[socket.socket]:
    """Provide a listening socket on a free port of loopback."""
    with socket.create_server((LOCALHOST, 0)) as listener:
        listener.setblocking(False)
        yield listener
