"""What a byte stream must do to carry TLS, and what it may do besides.

`bowout.wrap` takes every stream that has the three methods of `ByteStream`. The other protocols here are abilities: a
stream that has their method is used accordingly. What a stream cannot do is never assumed, and its `bowout.Ending` says
so.

    class Pipe:
        async def receive(self, max_bytes: int) -> bytes: ...
        async def send(self, data: bytes) -> None: ...
        async def aclose(self) -> None: ...

    stream = bowout.wrap(Pipe(), context, server_hostname="example.org")

bowout calls `receive` and `send` at the same time, but each of them never twice at once, and from tasks of its own: a
cancelled call of the application cancels neither. Both are cancelled only at the end. Any exception that they raise
means that the connection is lost.
"""

from __future__ import annotations

import socket
from typing import Any, Protocol, runtime_checkable

__all__ = [
    "ByteStream",
    "Carrier",
    "CountsUnacknowledged",
    "EndsOutput",
    "HasExtraInfo",
    "ObjectByteStream",
    "Resets",
    "TrioByteStream",
]


@runtime_checkable
class ByteStream(Protocol):
    """A reliable stream of bytes in both directions."""

    async def receive(self, max_bytes: int, /) -> bytes:
        """Receive bytes, as soon as there are any.

        Args:
            max_bytes: the most bytes to return, 1 or more.

        Returns:
            The bytes; ``b""`` at the end of the peer's direction, and at every later call.

        Cancelling it must lose no byte: `Stream.unwrap` cancels the last one before it returns the stream.
        """

    async def send(self, data: bytes, /) -> object:
        """Send all of `data`, at most 64 KiB; return when the next bytes may follow.

        It should wait for a slow peer: what a stream buffers without a limit, bowout cannot limit either. If it raises
        or is cancelled, it is unknown how much was sent, and nothing is sent after it.
        """

    async def aclose(self) -> object:
        """Close both directions: the peer sees the end of the stream. No other call is in progress.

        If it is cancelled, it must close at once nevertheless, and may discard what was not sent yet.
        """


@runtime_checkable
class EndsOutput(Protocol):
    """A stream that can end one direction alone, as TCP does by a FIN."""

    async def send_eof(self) -> object:
        """End our direction; receiving goes on. NotImplementedError: not on this stream."""


@runtime_checkable
class Resets(Protocol):
    """A stream that can end with an error at the peer, as TCP does by an RST."""

    def abort(self) -> object:
        """End both directions at once and drop what is queued; `aclose` follows.

        Returns:
            Whether the peer was sent an RST, or the like; a false value means that it was not.
        """


@runtime_checkable
class CountsUnacknowledged(Protocol):
    """A stream that knows what has arrived at the other end of it."""

    def unacknowledged(self) -> int | None:
        """Count the bytes that were sent and have not arrived at the peer's kernel; None if unknown.

        Without it, a close waits up to half a second for the end of the peer's direction after both close_notify.
        """


@runtime_checkable
class HasExtraInfo(Protocol):
    """A stream that knows its addresses."""

    def get_extra_info(self, name: str, /) -> Any:
        """Return what is known under `name`, or None: ``"peername"`` and ``"sockname"``, as `socket` has addresses."""


class ObjectByteStream(Protocol):
    """An object stream of anyio whose objects are bytes. Only subclasses of ``anyio.abc.ObjectStream`` are taken."""

    async def receive(self) -> bytes:
        """Receive one object."""

    async def send(self, data: bytes, /) -> None:
        """Send one object."""

    async def aclose(self) -> None:
        """Close the stream."""


class TrioByteStream(Protocol):
    """A stream of trio. Only subclasses of ``trio.abc.Stream`` are taken."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive bytes."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`."""

    async def aclose(self) -> None:
        """Close the stream."""


Carrier = socket.socket | ByteStream | ObjectByteStream | TrioByteStream | tuple[Any, Any]
"""What `bowout.wrap` takes: a socket, one of the streams above, a `bowout.Stream`, or a pair ``(reader, writer)``."""
