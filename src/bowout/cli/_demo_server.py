"""The demo's own server: bowout on the server's side, real sockets on loopback, and a certificate for one run."""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import bowout
from bowout import _backends
from bowout.cli import _tls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bowout.cli._demo_loop import Jobs

LOCALHOST: Final = "127.0.0.1"
#: The name in the certificate.
HOSTNAME: Final = "localhost"
#: The server's part of an exchange may take so long, in seconds.
_PATIENCE: Final = 15.0


class Stuck(Exception):
    """What the story waits for did not come."""


@dataclass(frozen=True, slots=True)
class Report:
    """How a connection ended, as the server tells it.

    Attributes:
        lines: its words, escaped.
        content: it met no error, and got the client's close_notify.
    """

    lines: tuple[str, ...]
    content: bool


class Server(Protocol):
    """The other party: it takes one connection after the other. Its coroutines may raise `Stuck`."""

    name: str
    port: int

    def open(self, jobs: Jobs) -> None:
        """Begin to take connections, in the running loop."""

    async def connected(self) -> None:
        """Wait until the server, too, is done with the handshake of the present connection."""

    async def say(self, data: bytes) -> None:
        """Let it send something."""

    async def report(self) -> Report:
        """Wait until it is done with the present connection; the next is the present one then."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key and a certificate that live in a temporary directory, and who vouches for them."""

    key: Path
    certificate: Path
    authority: bytes

    @classmethod
    @contextmanager
    def made(cls, *names: str) -> Iterator[Credentials]:
        """Make them for one run; their files are gone when it is over.

        Args:
            names: of the server, in its certificate; without any, those of the demo's own.

        Raises:
            ModuleNotFoundError: trustme is not installed.
        """
        import trustme  # noqa: PLC0415  (slow to import, and nothing else needs it)

        authority = trustme.CA()
        issued = authority.issue_cert(*(names or (HOSTNAME, LOCALHOST)))
        with tempfile.TemporaryDirectory(prefix="bowout-") as name:
            directory = Path(name)
            yield cls(
                key=_written(directory / "key.pem", issued.private_key_pem.bytes()),
                certificate=_written(
                    directory / "certificate.pem", b"".join(blob.bytes() for blob in issued.cert_chain_pems)
                ),
                authority=authority.cert_pem.bytes(),
            )

    def server_context(self) -> ssl.SSLContext:
        """For the party that has the key."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def client_context(self, version: str | None) -> ssl.SSLContext:
        """For a party that verifies the certificate, and insists on the version of ``--tls`` if there is one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.authority.decode("ascii"))
        _tls.pin(context, version)
        return context


def _written(path: Path, data: bytes) -> Path:
    """Write a file that only we can read, from its first byte on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    return path


class _Visit:
    """One connection to the embedded server."""

    def __init__(self) -> None:
        backend = _backends.current()
        self.established = backend.event()
        self.ended = backend.event()
        self.stream: bowout.Stream | None = None
        self.error: bowout.BowoutError | None = None


class EmbeddedServer:
    """Takes connections, one after the other, in a job of its own."""

    name = "server"

    def __init__(self, context: ssl.SSLContext, listener: socket.socket) -> None:
        self._context = context
        self._listener = listener
        self.port: int = listener.getsockname()[1]

    def open(self, jobs: Jobs) -> None:
        """See `Server`."""
        self._visit = _Visit()
        jobs.start(self._serve)

    async def connected(self) -> None:
        """See `Server`."""
        await self._visit.established.wait()

    async def say(self, data: bytes) -> None:
        """See `Server`."""
        await self.connected()
        if (stream := self._visit.stream) is not None:
            await stream.send(data)

    async def report(self) -> Report:
        """See `Server`."""
        visit = self._visit
        await visit.ended.wait()
        self._visit = _Visit()
        ending = visit.stream.ending if visit.stream is not None else None
        lines = [str(ending)] if ending is not None else []
        if visit.error is not None:
            lines.append(f"its read raised {type(visit.error).__name__}: {visit.error}")
        return Report(
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
    """A listener on a free port of loopback."""
    with socket.create_server((LOCALHOST, 0)) as listener:
        listener.setblocking(False)
        yield listener
