"""A stream of our own as a carrier: TLS in TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bowout.ending import Outbound
from bowout.errors import Truncated

if TYPE_CHECKING:
    from bowout._stream import Stream


class StreamFace:
    """A `bowout.Stream` behind the interface of another library.

    Attributes:
        stream: the `bowout.Stream` underneath, with everything that the interface has no room for.
    """

    __slots__ = ("stream",)

    stream: Stream


class TLSCarrier:
    """A `bowout.Stream` under another one."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def receive(self, max_bytes: int) -> bytes:
        try:
            return await self._stream.receive(max_bytes)
        except Truncated:
            return b""  # The inner stream judges whether that truncates it.

    async def send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def send_eof(self) -> None:
        if self._stream.tls_version != "TLSv1.3":
            raise NotImplementedError  # The peer would have to discard what it still sends (RFC 5246 section 7.2.1).
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.close()

    def abort(self) -> bool:
        return self._stream.abort().outbound is Outbound.RESET

    def get_extra_info(self, name: str) -> Any:
        return {"peername": self._stream.remote_address, "sockname": self._stream.local_address}.get(name)
