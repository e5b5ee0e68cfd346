"""A TLS connection as a byte stream of anyio."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
import anyio.abc
from anyio.streams.tls import TLSAttribute

from bowout._adapters import (
    ErrorTranslation,
    StreamKeywords,
    check_carrier,
    check_keywords,
    checked_stream,
    leave_block,
    stream_options,
    stream_over,
    stream_sharing,
)
from bowout._arguments import check_flag, check_type
from bowout._carriers.tls import StreamFace
from bowout._client import default_context
from bowout.ending import Role
from bowout.errors import HandshakeReset, HandshakeTruncated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Unpack

    from bowout._options import StreamOptions
    from bowout._stream import Stream
    from bowout.ending import Ending

#: The argument in place of ``truncation``.
TRUNCATION: Final = "standard_compatible=False, where a FIN without close_notify may be the end"

#: What a call does that may be in progress in one task at a time; anyio says the rest of the sentence.
_RECEIVING: Final = "receiving from"

translated: Final = ErrorTranslation(
    busy=lambda _: anyio.BusyResourceError(_RECEIVING),
    closed=anyio.ClosedResourceError,
    broken=anyio.BrokenResourceError,
)


class _HandshakeTranslation:
    """Raises anyio's error where the peer left during the handshake; the others are an `ssl.SSLError` there, too."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, HandshakeTruncated | HandshakeReset):
            raise anyio.BrokenResourceError(str(error)) from error


handshake_translated: Final = _HandshakeTranslation()


class TLSStream(StreamFace, anyio.abc.ByteStream):
    """A TLS connection as a byte stream of anyio, in place of ``anyio.streams.tls.TLSStream``.

        async with await bowout.anyio.TLSStream.wrap(byte_stream, hostname="example.org") as stream:
            await stream.send(b"hello")
            answer = await stream.receive()
        print(stream.ending)

    `wrap`, `from_stream` and `connect_tcp` make it. It has every attribute of ``anyio.streams.tls.TLSAttribute``, and
    those of the stream under it. Leaving the block ends the connection as the block of a `bowout.Stream` does: normally
    with `aclose`; by a cancellation with close_notify, if it can be sent at once; by any other error, or after an
    interrupted send, with a FIN alone (``on_error`` changes that).

    Attributes:
        stream: the `bowout.Stream` underneath, with everything that anyio's interface has no room for.
        transport_stream: the stream of anyio under TLS; None if TLS is over a socket of bowout's own, as after
            `connect_tcp`.
        standard_compatible: whether a FIN without close_notify is an error.
    """

    __slots__ = ("_closed", "standard_compatible", "transport_stream")

    def __init__(
        self, stream: Stream, transport_stream: anyio.abc.AnyByteStream | None, *, standard_compatible: bool
    ) -> None:
        self.stream: Stream = stream
        self.transport_stream: anyio.abc.AnyByteStream | None = transport_stream
        self.standard_compatible: bool = standard_compatible
        self._closed = False

    @classmethod
    async def wrap(
        cls,
        transport_stream: anyio.abc.AnyByteStream,
        *,
        server_side: bool | None = None,
        hostname: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        standard_compatible: bool = True,
        received: bytes = b"",
        **options: Unpack[StreamKeywords],
    ) -> Self:
        """Perform the TLS handshake over `transport_stream`, which the new stream owns from now on.

        Args:
            transport_stream: any byte stream of anyio, or an object stream of bytes.
            server_side: whether we are the server; None for: if there is no `hostname`.
            hostname: the name for SNI and for the check of the certificate. A server ignores it.
            ssl_context: the TLS configuration; None, for a client, for the system's trust store. `bowout.connect`
                documents what is changed on it.
            standard_compatible: False if the end of the stream may be a FIN without close_notify. `bowout.connect`
                explains the risk, at ``truncation="tolerate"``. We send close_notify in any case, and a truncation
                inside a record is an error in any case.
            received: bytes of TLS that were already read from `transport_stream`.
            options: see `StreamKeywords`.

        Raises:
            TypeError, ValueError: invalid arguments. The caller still owns the stream.
            ssl.SSLError: the handshake failed; it is a `bowout.HandshakeError`. The stream is closed then.
            anyio.BrokenResourceError: the peer left during the handshake; likewise.

        Cancelling it closes the stream.
        """
        check_carrier(transport_stream)
        checked = wrap_options(
            server_side=server_side,
            hostname=hostname,
            ssl_context=ssl_context,
            standard_compatible=standard_compatible,
            options=options,
        )
        sock = _direct_socket(transport_stream)
        if sock is None:
            stream = stream_over(transport_stream, checked, received)
        else:
            stream = stream_sharing(sock, checked, received)
        made = cls(stream, transport_stream, standard_compatible=standard_compatible)
        with handshake_translated:
            await made.stream.handshake()
        return made

    @classmethod
    def from_stream(cls, stream: Stream, *, standard_compatible: bool = True) -> Self:
        """Return `stream`, a `bowout.Stream`, as a stream of anyio; both are the same connection.

        Args:
            stream: the connection.
            standard_compatible: what the attribute of that name tells; False for a stream with
                ``truncation="tolerate"``.

        Raises:
            TypeError: `stream` is none.
        """
        check_flag("standard_compatible", standard_compatible)
        return cls(checked_stream(stream), None, standard_compatible=standard_compatible)

    def __repr__(self) -> str:
        return f"<bowout.anyio.TLSStream over {self.stream!r}>"

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def ending(self) -> Ending | None:
        """How the connection ended; None before the end."""
        return self.stream.ending

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The attributes of ``TLSAttribute``, and of the stream under TLS or its socket.

        ``channel_binding_tls_unique`` is None in TLS 1.3, which does not define it (RFC 9266 section 3).
        """
        stream, tls = self.stream, self.stream.ssl_object
        server = stream.role is Role.SERVER
        return {
            **(_socket_attributes(stream) if self.transport_stream is None else self.transport_stream.extra_attributes),
            TLSAttribute.alpn_protocol: lambda: stream.alpn,
            TLSAttribute.channel_binding_tls_unique: stream.channel_binding,
            TLSAttribute.cipher: tls.cipher,
            TLSAttribute.peer_certificate: stream.peer_certificate_fields,
            TLSAttribute.peer_certificate_binary: stream.peer_certificate,
            TLSAttribute.server_side: lambda: server,
            TLSAttribute.shared_ciphers: lambda: tls.shared_ciphers() if server else None,
            TLSAttribute.ssl_object: lambda: tls,
            TLSAttribute.standard_compatible: lambda: self.standard_compatible,
            TLSAttribute.tls_version: tls.version,
        }

    # -- anyio's interface ---------------------------------------------------------------------------------------

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Receive up to `max_bytes` bytes, as soon as there are any.

        Raises:
            anyio.EndOfStream: the peer sent close_notify (or a FIN, if not ``standard_compatible``).
            anyio.BusyResourceError: another task is receiving.
            anyio.ClosedResourceError: we closed the stream, before this call or while it waited.
            anyio.BrokenResourceError: the peer ended without close_notify. Its cause is a `bowout.Truncated`, `Reset`,
                `AlertReceived` or `ProtocolViolation`; every later call raises it again.

        Cancelling it loses no byte.
        """
        with translated:
            await self._begin()
            data = await self.stream.receive(max_bytes)
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        """Send all of `item`; return when the kernel, or the stream below, has taken it.

        Concurrent sends go out one after the other, never interleaved.

        Raises:
            anyio.ClosedResourceError: we ended our direction.
            anyio.BrokenResourceError: the peer ended it, or an earlier send was interrupted; the cause says how.

        Cancelling it is as with `bowout.Stream.send`.
        """
        with translated:
            await self._begin()
            await self.stream.send(item)

    async def send_eof(self) -> None:
        """Half-close: send close_notify; receiving goes on. A second call does nothing.

        Reliable in TLS 1.3. In TLS 1.2 the peer must answer at once, and may discard what it still had to send (RFC
        5246 section 7.2.1).

        Raises:
            As `send`.

        If it is cancelled, the close_notify stays queued, and the next call of any method sends it.
        """
        with translated:
            await self._begin()
            await self.stream.send_eof()

    async def unwrap(self) -> tuple[anyio.abc.AnyByteStream, bytes]:
        """End TLS in both directions, within ``close_timeout``, and keep the stream under it.

        Returns:
            The stream, which is the caller's again (where TLS was directly over a socket, a new ``SocketStream``), and
            the bytes that followed the peer's close_notify.

        Raises:
            anyio.BrokenResourceError: the peer did not end TLS properly, or not in time; the connection is closed.
            anyio.ClosedResourceError: we closed the stream.

        Cancelling it closes the connection.
        """
        with translated:
            await self._begin()
            transport, leftover = await self.stream.unwrap()
        if isinstance(transport, socket.socket):
            transport = await _socket_stream(transport)
        return transport, leftover

    async def aclose(self) -> None:
        """End the connection gracefully in both directions, like `bowout.Stream.close`, within ``close_timeout``.

        It raises no fault of the peer: `ending` tells them. A second call waits for the first one. If it is cancelled,
        close_notify is sent if that is possible at once, and the connection is closed.
        """
        self._closed = True
        await self.stream.close()
        await anyio.lowlevel.checkpoint()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the connection; what the peer is told depends on how the block is left."""
        self._closed = True
        await leave_block(self.stream, anyio.ClosedResourceError, kind, error, traceback)

    async def _begin(self) -> None:
        """Let others run, as every call must; raise if we closed the stream, whatever the peer had done before."""
        await anyio.lowlevel.checkpoint()
        if self._closed:
            raise anyio.ClosedResourceError


def wrap_options(
    *,
    server_side: bool | None,
    hostname: str | None,
    ssl_context: ssl.SSLContext | None,
    standard_compatible: bool,
    options: Mapping[str, Any],
) -> StreamOptions:
    """Check the arguments of `TLSStream.wrap`; return the options of the stream.

    Raises:
        TypeError, ValueError: invalid arguments.
    """
    check_keywords(options, TRUNCATION)
    check_flag("standard_compatible", standard_compatible)
    if hostname is not None:
        check_type("hostname", hostname, str, "a str")
    if server_side is None:
        server_side = not hostname
        if server_side and getattr(ssl_context, "protocol", None) is ssl.PROTOCOL_TLS_CLIENT:
            raise ValueError("a client needs hostname; without one, set server_side=False and check_hostname = False")
    check_flag("server_side", server_side)
    if ssl_context is None:
        if server_side:
            raise ValueError(
                "a server needs ssl_context, with its certificate; a client needs hostname, or server_side=False"
            )
        ssl_context = default_context()
    return stream_options(
        ssl_context,
        server_side=server_side,
        server_hostname=None if server_side else hostname,
        tolerant=not standard_compatible,
        options=options,
    )


def _direct_socket(stream: object) -> socket.socket | None:
    """Return the socket of a stream of anyio that only reads and writes it; both may use it, one after the other.

    None if there is no socket, or if something is in between that may hold bytes: a transport of asyncio, or a class of
    somebody else's.
    """
    if not isinstance(stream, anyio.abc.SocketStream) or type(stream).__module__.partition(".")[0] != "anyio":
        return None
    raw: object = stream.extra(anyio.abc.SocketAttribute.raw_socket)  # noqa: S610  (no Django)
    return raw if isinstance(raw, socket.socket) and raw.fileno() >= 0 else None


def _socket_attributes(stream: Stream) -> dict[Any, Callable[[], Any]]:
    """Return the attributes that a socket stream of anyio has; none after the end."""
    sock = stream.socket
    if sock is None:
        return {}
    attribute = anyio.abc.SocketAttribute
    found: dict[Any, Callable[[], Any]] = {
        attribute.family: lambda: sock.family,
        attribute.raw_socket: lambda: sock,
        attribute.local_address: lambda: _short(stream.local_address),
        attribute.remote_address: lambda: _short(stream.remote_address),
    }
    if sock.family in {socket.AF_INET, socket.AF_INET6}:
        found |= {
            attribute.local_port: lambda: stream.local_address[1],
            attribute.remote_port: lambda: stream.remote_address[1],
        }
    return found


def _short(address: Any) -> Any:
    """Return an address as anyio has it: of IP, the host with its zone and the port."""
    return address[:2] if isinstance(address, tuple) else address


async def _socket_stream(sock: socket.socket) -> anyio.abc.SocketStream:
    """Make a stream of anyio that owns `sock`."""
    local = sock.family == getattr(socket, "AF_UNIX", None)
    try:
        return await (anyio.abc.UNIXSocketStream if local else anyio.abc.SocketStream).from_socket(sock)
    except BaseException:
        sock.close()
        raise
