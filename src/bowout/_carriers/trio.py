"""The streams of trio as carriers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import trio

from bowout._backends.sockets import address_of, is_unix, reset_on_close, unacknowledged_bytes

if TYPE_CHECKING:
    from bowout.transport import ByteStream


def adapt(stream: object) -> ByteStream | None:
    """Return a carrier over `stream`; None if it is no stream of trio."""
    if isinstance(stream, trio.SocketStream):
        return TrioSocketCarrier(stream)
    if isinstance(stream, trio.abc.HalfCloseableStream):
        return TrioHalfCloseableCarrier(stream)
    return TrioCarrier(stream) if isinstance(stream, trio.abc.Stream) else None


class TrioCarrier:
    """A ``trio.abc.Stream``."""

    __slots__ = ("_stream",)

    library = "trio"

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def receive(self, max_bytes: int) -> bytes:
        return bytes(await self._stream.receive_some(max_bytes))

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def aclose(self) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await self._stream.aclose()


class TrioHalfCloseableCarrier(TrioCarrier):
    """A ``trio.abc.HalfCloseableStream``."""

    __slots__ = ()

    _stream: trio.abc.HalfCloseableStream

    async def send_eof(self) -> None:
        await self._stream.send_eof()


class TrioSocketCarrier(TrioHalfCloseableCarrier):
    """A ``trio.SocketStream``."""

    __slots__ = ()

    _stream: trio.SocketStream

    def abort(self) -> bool:
        sock: Any = self._stream.socket
        reset_on_close(sock)
        sock.close()
        return not is_unix(sock)

    def unacknowledged(self) -> int | None:
        sock: Any = self._stream.socket
        count = unacknowledged_bytes(sock)
        return None if count and is_unix(sock) else count  # Of a Unix socket the kernel counts the memory.

    def get_extra_info(self, name: str) -> Any:
        sock: Any = self._stream.socket
        ask = {"peername": sock.getpeername, "sockname": sock.getsockname}.get(name)
        return None if ask is None else address_of(ask)
