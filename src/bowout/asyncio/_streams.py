"""asyncio's streams over TLS: with half-close, and with the data before the error that followed them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from bowout.asyncio._connections import TLSOptions, start_tls
from bowout.asyncio._functions import create_connection, create_server, create_unix_connection, create_unix_server
from bowout.asyncio._policy import DEFAULT_POLICY

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from bowout.asyncio._policy import Policy
    from bowout.ending import Ending

    StreamCallback = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]

#: asyncio's own limit of a stream's buffer, in bytes.
LIMIT: Final = 1 << 16


class TLSStreamReader(asyncio.StreamReader):
    """A reader that gives what was received before it raises the error that came after.

    asyncio's own raises the error at once, and the data are lost. What a call needs and does not get stays readable:
    after the error of a ``readexactly``, for example, ``read`` returns what there is, and then raises.
    """

    _late_error: BaseException | None = None

    def set_exception(self, exc: BaseException) -> None:
        """Raise `exc` from reads, after the data."""
        if self._buffer:  # type: ignore[attr-defined]
            self._late_error = exc
            self._wakeup_waiter()  # type: ignore[attr-defined]
        else:
            super().set_exception(exc)  # type: ignore[arg-type]

    def exception(self) -> Any:
        """Return the error, also if there are data before it."""
        return self._late_error or super().exception()

    async def _wait_for_data(self, func_name: str) -> None:
        """Wait for more data than there are; asyncio's reads call this."""
        if self._late_error is None:
            await super()._wait_for_data(func_name)  # type: ignore[misc]
        if self._late_error is not None:
            raise self._late_error

    def take_all(self) -> bytes:
        """Remove and return what was received and not read."""
        data = bytes(self._buffer)  # type: ignore[attr-defined]
        self._buffer.clear()  # type: ignore[attr-defined]
        self._maybe_resume_transport()  # type: ignore[attr-defined]
        return data

    def set_underlying(self, transport: asyncio.BaseTransport) -> None:
        """Pause and resume `transport` from now on."""
        self._transport = transport

    async def read(self, n: int = -1) -> bytes:
        """Read up to `n` bytes; all up to the end if it is negative. After an error, the data stay readable."""
        if n >= 0:
            return await super().read(n)
        parts: list[bytes] = []
        try:
            while part := await super().read(LIMIT):
                parts.append(part)
        except BaseException:
            self._buffer[:0] = b"".join(parts)  # type: ignore[attr-defined]
            if (error := super().exception()) is not None and self._late_error is None:
                self._late_error = error
                self._exception = None  # The data come first.
            raise
        return b"".join(parts)


class TLSStreamReaderProtocol(asyncio.StreamReaderProtocol):
    """The protocol under a reader; it leaves the connection half-open at the peer's close_notify.

    Args:
        reader: gets the data.
        connected: a server's function for each connection; None for a client.
        loop: the event loop.
    """

    def __init__(
        self, reader: TLSStreamReader, connected: StreamCallback | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.is_server: bool = connected is not None
        self._reader = reader
        self._writers: tuple[asyncio.StreamWriter, ...] = ()
        super().__init__(reader, None if connected is None else self._call(connected, loop), loop=loop)

    def _call(self, connected: StreamCallback, loop: asyncio.AbstractEventLoop) -> StreamCallback:
        def call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
            ours = TLSStreamWriter(writer.transport, self, reader, loop)
            # A handler may return without closing, and Python 3.13 closes the transport of a writer that is forgotten:
            # asyncio's own, too, which nobody else keeps.
            self._writers = (writer, ours)
            return connected(reader, ours)

        return call

    @property
    def closed(self) -> asyncio.Future[None]:
        """The result of the connection, once it is closed."""
        closed: asyncio.Future[None] = self._closed  # type: ignore[attr-defined]
        return closed

    def eof_received(self) -> bool:
        """Tell the reader; stay open for writing."""
        super().eof_received()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the reader and whoever waits for the end."""
        super().connection_lost(exc)
        self._writers = ()

    def take_received(self) -> bytes:
        """Remove and return what was received and not read."""
        return self._reader.take_all()

    def replace_transport(self, transport: asyncio.Transport) -> None:
        """Use `transport` from now on."""
        self._transport = transport
        self._over_ssl = True
        self._reader.set_underlying(transport)


class TLSStreamWriter(asyncio.StreamWriter):
    """A writer with the ending of its connection, and whose `start_tls` is ours on every loop."""

    _protocol: TLSStreamReaderProtocol
    _transport: asyncio.WriteTransport

    @property
    def ending(self) -> Ending | None:
        """How the TLS connection ended; None before the end."""
        ending: Ending | None = self.get_extra_info("ending")
        return ending

    async def wait_closed(self) -> None:
        """Wait until the connection is closed; a cancellation ends only this wait."""
        closed = self._protocol.closed
        await asyncio.wait([closed])
        closed.result()

    async def start_tls(
        self,
        sslcontext: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        policy: Policy = DEFAULT_POLICY,
    ) -> None:
        """Upgrade the connection to TLS.

        What was received and not read before is taken for TLS: a peer may send its first message early, and an attacker
        on the path cannot insert data before TLS that are read as if they had come over it.

        Raises:
            HandshakeError: its subclass says why. The connection is closed then, and after a cancellation.
        """
        await self.drain()
        loop = asyncio.get_running_loop()
        protocol: TLSStreamReaderProtocol = self._protocol
        options = TLSOptions(
            sslcontext,
            policy,
            server_hostname,
            server_side=protocol.is_server,
            handshake_timeout=ssl_handshake_timeout,
            shutdown_timeout=ssl_shutdown_timeout,
        )
        received = protocol.take_received()
        transport = cast("asyncio.Transport", self.transport)
        upgraded = await start_tls(loop, transport, protocol, options, received=received)
        self._transport = upgraded
        protocol.replace_transport(upgraded)


async def open_connection(  # noqa: D417  (the others are those of asyncio)
    host: str | None = None,
    port: int | str | None = None,
    *,
    limit: int = LIMIT,
    policy: Policy = DEFAULT_POLICY,
    **kwds: Any,
) -> tuple[TLSStreamReader, TLSStreamWriter]:
    """Connect as `asyncio.open_connection` does; with ``ssl``, the TLS is ours.

        reader, writer = await bowout.asyncio.open_connection("example.org", 443, ssl=context)

    * ``writer.write_eof()`` half-closes in TLS 1.3: the answer can still be read.
    * After data, a truncation raises `bowout.errors.Truncated` from the read that comes to it; no data are lost.
    * ``writer.close(); await writer.wait_closed()`` ends gracefully, and ``writer.ending`` says how it was.

    Args:
        limit: limit of the reader's buffer, in bytes.
        policy: how the connection ends.
        host, port, kwds: as for `create_connection`: ``ssl``, ``server_hostname``, ``sock``…

    Raises:
        TypeError, ValueError: an argument is wrong; nothing was opened.
        OSError: no connection could be made.
        HandshakeError: no TLS connection came of it; its subclass says why.

    Cancelling it leaves no descriptor open.
    """
    return await _open(create_connection, (host, port), limit, policy, kwds)


async def open_unix_connection(
    path: Any = None, *, limit: int = LIMIT, policy: Policy = DEFAULT_POLICY, **kwds: Any
) -> tuple[TLSStreamReader, TLSStreamWriter]:
    """Connect as `asyncio.open_unix_connection` does; otherwise like `open_connection`."""
    return await _open(create_unix_connection, (path,), limit, policy, kwds)


async def _open(
    connect: Callable[..., Awaitable[tuple[Any, Any]]],
    args: tuple[Any, ...],
    limit: int,
    policy: Policy,
    kwds: dict[str, Any],
) -> tuple[TLSStreamReader, TLSStreamWriter]:
    loop = asyncio.get_running_loop()
    reader = TLSStreamReader(limit=limit, loop=loop)
    protocol = TLSStreamReaderProtocol(reader, None, loop)
    transport, _ = await connect(lambda: protocol, *args, policy=policy, **kwds)
    return reader, TLSStreamWriter(transport, protocol, reader, loop)


async def start_server(
    client_connected_cb: StreamCallback,
    host: Any = None,
    port: int | str | None = None,
    *,
    limit: int = LIMIT,
    policy: Policy = DEFAULT_POLICY,
    **kwds: Any,
) -> asyncio.Server:
    """Listen as `asyncio.start_server` does; with ``ssl``, the TLS is ours, as in `open_connection`.

        server = await bowout.asyncio.start_server(serve_client, "127.0.0.1", 8443, ssl=context)

    `drain` ends the connections of the server.
    """
    factory = _server_protocols(client_connected_cb, limit)
    return cast("asyncio.Server", await create_server(factory, host, port, policy=policy, **kwds))


async def start_unix_server(
    client_connected_cb: StreamCallback,
    path: Any = None,
    *,
    limit: int = LIMIT,
    policy: Policy = DEFAULT_POLICY,
    **kwds: Any,
) -> asyncio.Server:
    """Listen as `asyncio.start_unix_server` does; otherwise like `start_server`."""
    factory = _server_protocols(client_connected_cb, limit)
    return cast("asyncio.Server", await create_unix_server(factory, path, policy=policy, **kwds))


def _server_protocols(connected: StreamCallback, limit: int) -> Callable[[], TLSStreamReaderProtocol]:
    loop = asyncio.get_running_loop()
    return lambda: TLSStreamReaderProtocol(TLSStreamReader(limit=limit, loop=loop), connected, loop)
