"""Applications of asyncio that record what they are told."""

from __future__ import annotations

import asyncio
from typing import Any

from bowout.asyncio import TLSTransport


class RecordingApp(asyncio.Protocol):
    """Records what it is told, in order.

    Attributes:
        told: the names of the callbacks so far, runs of data as one.
        data: what was received.
        lost: result of ``connection_lost``.
        ended: set at the end of the peer's direction, clean or not.
    """

    def __init__(self, *, keep_open: bool = True) -> None:
        self.keep_open = keep_open
        self.told: list[str] = []
        self.data = bytearray()
        self.arrived = asyncio.Event()
        self.made = asyncio.Event()
        self.ended = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.told.append("made")
        self.made.set()

    def data_received(self, data: bytes) -> None:
        if self.told[-1] != "data":
            self.told.append("data")
        self.data += data
        self.arrived.set()

    def eof_received(self) -> bool:
        self.told.append("eof")
        self.ended.set()
        return self.keep_open

    def connection_lost(self, exc: BaseException | None) -> None:
        self.told.append("lost")
        self.ended.set()
        self.arrived.set()
        self.writable.set()
        self.lost.set_result(exc)

    def pause_writing(self) -> None:
        self.told.append("pause")
        self.writable.clear()

    def resume_writing(self) -> None:
        self.told.append("resume")
        self.writable.set()

    async def receive_exactly(self, count: int) -> bytearray:
        while len(self.data) < count and not self.ended.is_set():
            self.arrived.clear()
            await self.arrived.wait()
        return self.data


class BufferedApp(asyncio.BufferedProtocol):
    """The same with memory of its own, which takes little at a time."""

    def __init__(self, inner: RecordingApp, size: int = 1000) -> None:
        self.inner = inner
        self.buffer = bytearray(size)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.inner.connection_made(transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.inner.data_received(bytes(self.buffer[:nbytes]))

    def eof_received(self) -> bool:
        return self.inner.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()


def ending_of(transport: asyncio.BaseTransport) -> Any:
    """The ending, once it is known."""
    assert isinstance(transport, TLSTransport)
    assert transport.ending is not None
    assert transport.get_extra_info("ending") is transport.ending
    return transport.ending
