"""A TLS connection as a stream of trio."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import trio

from bowout._adapters import (
    ErrorTranslation,
    StreamKeywords,
    check_carrier,
    check_keywords,
    checked_stream,
    leave_block,
    stream_options,
    stream_over,
)
from bowout._arguments import check_flag
from bowout._carriers.tls import StreamFace
from bowout.errors import MisuseError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self, Unpack

    from bowout._stream import Stream
    from bowout.ending import Ending

StreamT = TypeVar("StreamT", bound=trio.abc.Stream)

#: The argument in place of ``truncation``.
TRUNCATION: Final = "https_compatible=True, where a FIN without close_notify may be the end"

#: Facts of `ssl.SSLObject` that a stream shows; of these, the second group is unknown before the handshake.
_FACTS: Final = frozenset({"context", "server_hostname", "server_side", "session", "pending"})
_NEGOTIATED: Final = frozenset({
    *("cipher", "compression", "get_channel_binding", "getpeercert", "selected_alpn_protocol"),
    *("selected_npn_protocol", "session_reused", "shared_ciphers", "version"),
})  # fmt: skip

_translated: Final = ErrorTranslation(
    busy=trio.BusyResourceError, closed=trio.ClosedResourceError, broken=trio.BrokenResourceError
)


class _OneSender:
    """Raises trio's error for a second task that sends."""

    __slots__ = ("_busy",)

    def __init__(self) -> None:
        self._busy = False

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._busy = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._busy = False


class SSLStream(StreamFace, trio.abc.HalfCloseableStream, Generic[StreamT]):
    """A TLS connection as a stream of trio, in place of `trio.SSLStream`.

        async with bowout.trio.SSLStream(tcp_stream, context, server_hostname="example.org") as stream:
            await stream.send_all(b"hello")
            answer = await stream.receive_some()
        print(stream.ending)

    The first use performs the handshake. Leaving the block ends the connection as the block of a `bowout.Stream` does:
    normally with `aclose`; by a cancellation with close_notify, if it can be sent at once; by any other error, or after
    an interrupted send, with a FIN alone (``on_error`` changes that).

    Args:
        transport_stream: any stream of trio, which the new stream owns from now on. The socket of a
            `trio.SocketStream` is taken out of it, and the object itself is closed; `transport_stream` shows the socket
            again.
        ssl_context: the TLS configuration; `bowout.connect` documents what is changed on it.
        server_hostname: the name for SNI and for the check of the certificate; without it, a client's context must have
            ``check_hostname`` False.
        server_side: whether we are the server.
        https_compatible: whether the end of the stream may be a FIN without close_notify. `bowout.connect` explains the
            risk, at ``truncation="tolerate"``. We send close_notify in any case, and a truncation inside a record is an
            error in any case.
        received: bytes of TLS that were already read from `transport_stream`.
        options: see `StreamKeywords`.

    Raises:
        TypeError, ValueError: invalid arguments. The caller still owns the stream.
        trio.ClosedResourceError: `transport_stream` is closed.

    Attributes:
        stream: the `bowout.Stream` underneath, with everything that trio's interface has no room for.
    """

    __slots__ = ("__weakref__", "_closed", "_given", "_one_sender", "_shown")

    def __init__(
        self,
        transport_stream: StreamT,
        ssl_context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        server_side: bool = False,
        https_compatible: bool = False,
        received: bytes = b"",
        **options: Unpack[StreamKeywords],
    ) -> None:
        check_keywords(options, TRUNCATION)
        check_carrier(transport_stream)
        check_flag("server_side", server_side)
        check_flag("https_compatible", https_compatible)
        checked = stream_options(
            ssl_context,
            server_side=server_side,
            server_hostname=server_hostname,
            tolerant=https_compatible,
            options=options,
        )
        if isinstance(transport_stream, trio.SocketStream):
            made = _over_socket(transport_stream.socket, lambda sock: stream_over(sock, checked, received))
        else:
            made = stream_over(transport_stream, checked, received)
        self._hold(made, transport_stream)

    @classmethod
    def from_stream(cls, stream: Stream) -> SSLStream[trio.SocketStream]:
        """Return `stream`, a `bowout.Stream` under trio, as a stream of trio; both are the same connection.

        Raises:
            TypeError: it is none.
        """
        made = cast("SSLStream[trio.SocketStream]", cls.__new__(cls))
        made._hold(checked_stream(stream), None)  # noqa: SLF001  (its own)
        return made

    def _hold(self, stream: Stream, given: StreamT | None) -> None:
        self.stream: Stream = stream
        self._given = given
        self._shown: trio.SocketStream | None = None
        self._one_sender = _OneSender()
        self._closed = False

    def __repr__(self) -> str:
        return f"<bowout.trio.SSLStream over {self.stream!r}>"

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def ending(self) -> Ending | None:
        """How the connection ended; None before the end."""
        return self.stream.ending

    @property
    def transport_stream(self) -> StreamT:
        """The stream under TLS, for its addresses and options. Do not read, write or close it."""
        if self._shown is None and (sock := self.stream.socket) is not None:
            self._shown = _socket_stream(sock)
        found = self._shown or self._given
        if found is None:
            raise MisuseError("this stream was not made over a stream of trio")
        return cast("StreamT", found)

    def __getattr__(self, name: str) -> Any:
        """Return a fact of the `ssl.SSLObject`, such as the method ``getpeercert``.

        Raises:
            trio.NeedHandshakeError: it is unknown before the handshake.
        """
        if name not in _FACTS and name not in _NEGOTIATED:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        if name in _NEGOTIATED and self.stream.tls_version is None:
            raise trio.NeedHandshakeError(f"call do_handshake() before {name!r}")
        return getattr(self.stream.ssl_object, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_FACTS, *_NEGOTIATED})

    # -- trio's interface ----------------------------------------------------------------------------------------

    async def do_handshake(self) -> None:
        """Perform the handshake within ``handshake_timeout``, if it has not been done.

        Raises:
            trio.BrokenResourceError: it failed; the cause is the `bowout.HandshakeError`. The connection is closed.
            trio.ClosedResourceError: we closed the stream.

        If it is cancelled, the connection is closed.
        """
        with _translated:
            await self._begin()
            await self.stream.handshake()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; return when the kernel, or the stream below, has taken it.

        Raises:
            trio.BusyResourceError: another task is sending.
            trio.ClosedResourceError: we ended our direction.
            trio.BrokenResourceError: the peer ended it, or an earlier send was interrupted; the cause says how.

        If it is cancelled before `data` was encrypted, nothing was sent, and the stream is as before; if it is
        cancelled later, it is as with `bowout.Stream.send`.
        """
        with self._one_sender, _translated:
            await self._begin()
            await self.stream.send(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until everything sent before has been taken: a cancelled `send_all` may have left bytes.

        Raises:
            As `send_all`.

        Cancelling it changes nothing.
        """
        with self._one_sender, _translated:
            await self._begin()
            await self.stream.wait_writable()

    async def send_eof(self) -> None:
        """Half-close: send close_notify; receiving goes on. A second call does nothing.

        Reliable in TLS 1.3. In TLS 1.2 the peer must answer at once, and may discard what it still had to send (RFC
        5246 section 7.2.1).

        Raises:
            As `send_all`.

        If it is cancelled, the close_notify stays queued, and the next call of any method sends it.
        """
        with self._one_sender, _translated:
            await self._begin()
            await self.stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive bytes, as soon as there are any.

        Args:
            max_bytes: the most bytes to return; None for 64 KiB.

        Returns:
            The bytes; ``b""`` at the peer's close_notify, and only then (or at a FIN, if ``https_compatible``).

        Raises:
            trio.BusyResourceError: another task is receiving.
            trio.ClosedResourceError: we closed the stream, before this call or while it waited.
            trio.BrokenResourceError: the peer ended without close_notify. Its cause is a `bowout.Truncated`, `Reset`,
                `AlertReceived` or `ProtocolViolation`; every later call raises it again.

        Cancelling it loses no byte.
        """
        with _translated:
            await self._begin()
            return await (self.stream.receive() if max_bytes is None else self.stream.receive(max_bytes))

    async def unwrap(self) -> tuple[StreamT, bytes]:
        """End TLS in both directions, within ``close_timeout``, and keep the stream under it.

        Returns:
            The stream, which is the caller's again (a new `trio.SocketStream` if its socket was taken), and the bytes
            that followed the peer's close_notify.

        Raises:
            trio.BrokenResourceError: the peer did not end TLS properly, or not in time; the connection is closed.
            trio.ClosedResourceError: we closed the stream.

        Cancelling it closes the connection.
        """
        with _translated:
            await self._begin()
            transport, leftover = await self.stream.unwrap()
        if isinstance(transport, socket.socket):
            transport = _socket_stream(transport)
        return transport, leftover

    async def aclose(self) -> None:
        """End the connection gracefully in both directions, like `bowout.Stream.close`, within ``close_timeout``.

        It raises no fault of the peer: `ending` tells them. A second call waits for the first one. If it is cancelled,
        close_notify is sent if that is possible at once, and the connection is closed.
        """
        self._closed = True
        await self.stream.close()
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        """Return the stream; the handshake is performed by its first use."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the connection; what the peer is told depends on how the block is left."""
        self._closed = True
        await leave_block(self.stream, trio.ClosedResourceError, kind, error, traceback)

    async def _begin(self) -> None:
        """Let others run, as every call must; raise if we closed the stream, whatever the peer had done before."""
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError("we closed this stream")


def _over_socket(taken: trio.socket.SocketType, make: Callable[[socket.socket], Stream]) -> Stream:
    """Make a stream that owns the descriptor of `taken`, which is closed then.

    If that fails, `taken` stays as it is. So the descriptor is copied first: none can be put back.
    """
    if taken.fileno() < 0:
        raise trio.ClosedResourceError("the transport stream is closed already")
    sock = socket.socket(fileno=os.dup(taken.fileno()))
    try:
        stream = make(sock)
    except BaseException:
        sock.close()
        raise
    taken.close()
    return stream


def _socket_stream(sock: socket.socket) -> trio.SocketStream:
    """Return `sock` as a stream of trio; both have the same descriptor."""
    kept = None
    if sys.platform == "linux" and sock.family != socket.AF_UNIX:
        kept = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    if kept is not None:  # trio has set it.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, kept)
    return stream
