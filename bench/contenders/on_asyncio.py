"""asyncio's own two ways, on its own loop and on uvloop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from contenders.base import BUFFER_SIZE, CHUNK, HOST, READ_SIZE, AsyncioRuns, Contender, chunks_of, client_context
from contenders.base import order as order_of

if TYPE_CHECKING:
    from collections.abc import Callable

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Streams(AsyncioRuns, Contender[Pair]):
    """`asyncio.open_connection`."""

    def __init__(self, port: int, ca: str, loop: str) -> None:
        super().__init__(port, ca)
        self.choose_loop(loop)
        self._context = client_context(ca)

    async def open(self) -> Pair:
        return await asyncio.open_connection(HOST, self.port, ssl=self._context)

    async def receive(self, connection: Pair, count: int) -> None:
        reader, writer = connection
        writer.write(order_of("S", count))
        while count:
            count -= len(await reader.read(READ_SIZE))

    async def send(self, connection: Pair, count: int) -> None:
        reader, writer = connection
        writer.write(order_of("R", count))
        whole, rest = chunks_of(count)
        for _ in range(whole):
            writer.write(CHUNK)
            await writer.drain()
        writer.write(rest)
        await reader.readexactly(1)

    async def echo(self, connection: Pair, size: int, rounds: int) -> None:
        reader, writer = connection
        message = CHUNK[:size]
        writer.write(order_of("E", size * rounds))
        for _ in range(rounds):
            writer.write(message)
            await writer.drain()
            await reader.readexactly(size)

    async def close(self, connection: Pair) -> None:
        writer = connection[1]
        writer.close()
        await writer.wait_closed()


class CountingProtocol(asyncio.BaseProtocol):
    """The common part of both kinds of protocol: count the received bytes, and go on when they are enough."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = 0
        self._enough: Callable[[], None] = self._nothing
        self._writable: asyncio.Future[None] | None = None
        self._closed = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's is no asyncio.Transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (the protocol's interface)
        self._closed.set_result(None)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None

    def arrived(self, count: int) -> None:
        self._left -= count
        if not self._left:
            self._enough()

    def _nothing(self) -> None:
        raise AssertionError("unexpected bytes")

    async def receive(self, count: int) -> None:
        done = self._loop.create_future()
        self._left, self._enough = count, lambda: done.set_result(None)
        self.transport.write(order_of("S", count))
        await done

    async def send(self, count: int) -> None:
        done = self._loop.create_future()
        self._left, self._enough = 1, lambda: done.set_result(None)
        self.transport.write(order_of("R", count))
        whole, rest = chunks_of(count)
        for _ in range(whole):
            self.transport.write(CHUNK)
            if self._writable is not None:
                await self._writable
        self.transport.write(rest)
        await done

    async def echo(self, size: int, rounds: int) -> None:
        """Send each message after the first from the callback that received the one before: no task is woken."""
        done = self._loop.create_future()
        message = CHUNK[:size]

        def next_round() -> None:
            nonlocal rounds
            rounds -= 1
            if rounds:
                self._left = size
                self.transport.write(message)
            else:
                done.set_result(None)

        self._left, self._enough = size, next_round
        self.transport.write(order_of("E", size * rounds))
        self.transport.write(message)
        await done

    async def close(self) -> None:
        self.transport.close()
        await self._closed


class _DataClient(CountingProtocol, asyncio.Protocol):
    """Receives objects of bytes."""

    def data_received(self, data: bytes) -> None:
        self.arrived(len(data))


class _BufferedClient(CountingProtocol, asyncio.BufferedProtocol):
    """Receives into one buffer."""

    def __init__(self) -> None:
        super().__init__()
        self._view = memoryview(bytearray(BUFFER_SIZE))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  (the protocol's interface)
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self.arrived(nbytes)


class Protocols(AsyncioRuns, Contender[CountingProtocol]):
    """`create_connection` with a Protocol, and with a BufferedProtocol for `receive_into`."""

    def __init__(self, port: int, ca: str, loop: str) -> None:
        super().__init__(port, ca)
        self.choose_loop(loop)
        self.context = client_context(ca)
        self.protocol: type[_DataClient | _BufferedClient] = _DataClient

    def prepare(self, work: str) -> None:
        """Choose the protocol, which must be known before the connection is made."""
        if work == "receive_into":
            self.protocol = _BufferedClient

    async def open(self) -> CountingProtocol:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(self.protocol, HOST, self.port, ssl=self.context)
        return protocol

    async def receive(self, connection: CountingProtocol, count: int) -> None:
        await connection.receive(count)

    async def receive_into(self, connection: CountingProtocol, count: int) -> None:
        await connection.receive(count)

    async def send(self, connection: CountingProtocol, count: int) -> None:
        await connection.send(count)

    async def echo(self, connection: CountingProtocol, size: int, rounds: int) -> None:
        await connection.echo(size, rounds)

    async def close(self, connection: CountingProtocol) -> None:
        await connection.close()
