"""A reader and a writer of asyncio, or of a library that imitates them (asyncssh), as a carrier."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any, Final

from bowout._backends.sockets import is_unix, reset_on_close, unacknowledged_bytes

#: Methods of both parts.
_READER: Final = ("read",)
_WRITER: Final = ("write", "drain", "close", "wait_closed")
_OF_A_TUNNEL: Final = {"peername": "remote_peername", "sockname": "local_peername"}


class PairCarrier:
    """An asyncio pair ``(reader, writer)``."""

    __slots__ = ("_buffers", "_reader", "_writer")

    library = "asyncio"

    def __init__(self, reader: Any, writer: Any) -> None:
        self._reader = reader
        self._writer = writer
        self._buffers = True

    @classmethod
    def of(cls, pair: tuple[Any, ...]) -> PairCarrier:
        """Return a carrier over `pair`, of a socket one that can do more.

        Raises:
            TypeError: `pair` is no reader with a writer.
        """
        if len(pair) == 2 and _has(pair[0], _READER) and _has(pair[1], _WRITER):
            reader, writer = pair
            return (SocketPairCarrier if _is_over_socket(writer) else cls)(reader, writer)
        swapped = len(pair) == 2 and _has(pair[1], _READER) and _has(pair[0], _WRITER)
        kinds = ", ".join(type(part).__name__ for part in pair)
        raise TypeError(
            f"the tuple ({kinds}) cannot carry TLS: give an asyncio pair (reader, writer){', in this order' * swapped}"
        )

    async def receive(self, max_bytes: int) -> Any:
        return await self._reader.read(max_bytes)

    async def send(self, data: bytes) -> None:
        if self._buffers:
            self._buffers = False
            self._call_below("set_write_buffer_limits", 0)  # So `drain` returns when everything has left.
        self._writer.write(data)
        await self._writer.drain()

    async def send_eof(self) -> None:
        if not self._writer.can_write_eof():
            raise NotImplementedError
        self._writer.write_eof()

    async def aclose(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except Exception:  # noqa: BLE001, S110  (the connection was lost: the other calls have reported it)
            pass
        except BaseException:
            self._call_below("abort")  # It discards what is not sent yet.
            raise

    def _call_below(self, method: str, *args: Any) -> None:
        """Call a method of what the writer writes to, if it has it: asyncio's transport, or asyncssh's channel."""
        for name in ("transport", "channel"):
            call = getattr(getattr(self._writer, name, None), method, None)
            if call is not None:
                call(*args)
                return

    def get_extra_info(self, name: str) -> Any:
        find = getattr(self._writer, "get_extra_info", None)
        if find is None:
            return None
        # Under its own names a channel of asyncssh has the other end of a tunnel, and not the SSH server.
        return find(_OF_A_TUNNEL.get(name, name)) or find(name)


class SocketPairCarrier(PairCarrier):
    """An asyncio pair directly over a TCP or Unix socket."""

    __slots__ = ()

    def abort(self) -> bool:
        sent = False
        with contextlib.suppress(OSError), self._copy() as sock:
            reset_on_close(sock)  # The option belongs to the connection, whichever descriptor sets it.
            sent = not is_unix(sock)
        self._call_below("abort")
        return sent

    def unacknowledged(self) -> int | None:
        count: int | None = None
        with contextlib.suppress(OSError), self._copy() as sock:
            count = unacknowledged_bytes(sock)
            if count is None or (count and is_unix(sock)):  # Of a Unix socket the kernel counts the memory.
                return None
            count += self._writer.transport.get_write_buffer_size()
        return count

    def _copy(self) -> socket.socket:
        """Return the socket with another descriptor: uvloop's has not all methods. Raises OSError."""
        return socket.socket(fileno=os.dup(self._writer.get_extra_info("socket").fileno()))


def _has(part: object, names: tuple[str, ...]) -> bool:
    return all(callable(getattr(part, name, None)) for name in names)


def _is_over_socket(writer: Any) -> bool:
    if not isinstance(writer, asyncio.StreamWriter) or writer.get_extra_info("ssl_object") is not None:
        return False
    return writer.get_extra_info("socket") is not None
