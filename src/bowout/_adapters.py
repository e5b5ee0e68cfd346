"""The common part of the adapters for trio and anyio: options, making a stream, and errors of another library."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, TypedDict

from bowout import _backends, _carriers
from bowout._arguments import checked_bytes, checked_server_hostname
from bowout._exception_groups import consists_of
from bowout._options import StreamOptions
from bowout._stream import Stream
from bowout.ending import Role
from bowout.errors import (
    BowoutError,
    BusyError,
    HandshakeError,
    PeerError,
    ReceiveInterrupted,
    SendInterrupted,
    StreamClosed,
)

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from bowout.ending import Event, OnError


class EndKeywords(TypedDict, total=False):
    """Options of `bowout.connect`, with its defaults, that decide about the end of a connection.

    The adapters take them besides the arguments of their library.
    """

    close_timeout: float
    keepalive: float | None
    linger_bytes: int
    on_error: OnError
    on_event: Callable[[Event], None] | None


class StreamKeywords(EndKeywords, total=False):
    """The options of `EndKeywords`, and those that decide about the beginning.

    Attributes:
        session: session to resume; only for clients.
        handshake_timeout: seconds for the handshake.
    """

    session: ssl.SSLSession | None
    handshake_timeout: float


def check_keywords(options: Mapping[str, object], truncation: str) -> None:
    """Raise TypeError if one of `options` is not in `StreamKeywords`.

    Args:
        options: the keyword arguments of a caller.
        truncation: name of the argument that the adapter has in place of ``truncation``.
    """
    for name in options:
        if name not in StreamKeywords.__annotations__:
            known = {"truncation": truncation, "alpn": "ssl_context.set_alpn_protocols()"}
            close = difflib.get_close_matches(name, StreamKeywords.__annotations__, n=1)
            meant = known.get(name) or (close[0] if close else "")
            raise TypeError(f"there is no argument {name!r}{f'; use {meant}' if meant else ''}")


def stream_options(
    context: ssl.SSLContext,
    *,
    server_side: bool,
    server_hostname: str | None,
    tolerant: bool,
    options: Mapping[str, Any],
) -> StreamOptions:
    """Check the arguments for a stream; return its options.

    Args:
        context: the TLS configuration.
        server_side: whether we are the server.
        server_hostname: a client's name of its server; None or empty for none.
        tolerant: whether a FIN without close_notify is the end of the stream.
        options: what `check_keywords` has passed.

    Raises:
        TypeError, ValueError: invalid arguments.
    """
    if server_hostname == "":
        server_hostname = None  # For their libraries it is the same.
    if server_side and server_hostname is not None:
        raise ValueError("server_hostname is for clients: a server's name is in its certificate")
    checked = StreamOptions(
        context=context,
        role=Role.SERVER if server_side else Role.CLIENT,
        server_hostname=None if server_hostname is None else checked_server_hostname(server_hostname),
        truncation="tolerate" if tolerant else "raise",
        **options,
    )
    checked.check()
    return checked


def check_carrier(stream: object) -> None:
    """Raise TypeError if `stream` cannot carry TLS."""
    _carriers.adapted(stream)


def stream_over(carrier: object, options: StreamOptions, received: bytes) -> Stream:
    """Make a stream over `carrier`, which it owns from now on; the handshake is still to come.

    A connection that was reset already is no error here: the stream's first use raises it.

    Raises:
        TypeError: `carrier` cannot carry TLS, or `received` is not bytes.
        MisuseError: `carrier` belongs to another library than the one that runs the event loop.
        RuntimeError: no event loop is running.
    """
    first = checked_bytes("received", received)
    backend = _backends.current()
    return options.stream(backend, _carriers.transport(backend, carrier, ""), received=first)


def stream_sharing(sock: socket.socket, options: StreamOptions, received: bytes) -> Stream:
    """Make a stream over `sock` itself, an object that a stream of another library shows and closes, too.

    Raises:
        TypeError: `received` is not bytes.
        RuntimeError: no event loop is running.
    """
    first = checked_bytes("received", received)
    backend = _backends.current()
    return options.stream(backend, backend.transport(sock, ""), received=first)


def checked_stream(stream: object) -> Stream:
    """Return `stream` if it is a `bowout.Stream`; raise TypeError if not."""
    if not isinstance(stream, Stream):
        raise TypeError(f"stream must be a bowout.Stream, not {type(stream).__name__}")
    return stream


async def leave_block(  # noqa: D417  (the last three have one description)
    stream: Stream,
    closed: type[Exception],
    kind: type[BaseException] | None,
    error: BaseException | None,
    traceback: TracebackType | None,
) -> None:
    """Leave the block of an adapter's stream like that of `stream`, which is under it.

    Args:
        stream: the connection.
        closed: the error of the adapter's library for a stream that we closed. It leaves the block of a task that was
            receiving, and must not hurry the close in progress.
        kind, error, traceback: as for ``__aexit__``.
    """
    if error is not None and stream.is_closing and consists_of(error, (closed,)):
        kind = error = traceback = None
    await stream.__aexit__(kind, error, traceback)


class ErrorTranslation:
    """Raises the errors of a library in place of bowout's, which become their causes. It may be entered any time.

    Errors that tell of a wrong call in a way that the library has no class for stay as they are.

    Args:
        busy: makes the library's error for a second task in the same direction.
        closed: makes its error for a stream that we closed.
        broken: makes its error for a stream of which nothing more is to be had.
    """

    __slots__ = ("_broken", "_busy", "_closed")

    def __init__(
        self,
        *,
        busy: Callable[[str], Exception],
        closed: Callable[[str], Exception],
        broken: Callable[[str], Exception],
    ) -> None:
        self._busy = busy
        self._closed = closed
        self._broken = broken

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, BowoutError) and (make := self._maker(error)) is not None:
            raise make(str(error)) from error

    def _maker(self, error: BowoutError) -> Callable[[str], Exception] | None:
        if isinstance(error, BusyError):
            return self._busy
        if isinstance(error, StreamClosed):
            return self._closed
        if isinstance(error, PeerError | HandshakeError | SendInterrupted | ReceiveInterrupted):
            return self._broken
        return None
