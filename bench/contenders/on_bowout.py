"""bowout, on each of its backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bowout
import bowout.asyncio
from contenders.base import (
    BUFFER_SIZE,
    CHUNK,
    HOST,
    READ_SIZE,
    AsyncioRuns,
    Contender,
    TrioRuns,
    chunks_of,
    client_context,
)
from contenders.base import order as order_of
from contenders.on_asyncio import CountingProtocol, Protocols

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from bowout import Stream
    from contenders.base import Result


class Bowout(Contender["Stream"]):
    """`bowout.connect` and the verbs of its `Stream`."""

    def __init__(self, port: int, ca: str, loop: str) -> None:
        super().__init__(port, ca)
        self._context = client_context(ca)
        self._runs: AsyncioRuns | TrioRuns
        if loop == "trio":
            self._runs = TrioRuns()
        else:
            self._runs = AsyncioRuns()
            self._runs.choose_loop(loop)

    def run(self, main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        return self._runs.run(main)

    async def together(self, jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
        await self._runs.together(jobs)

    async def open(self) -> Stream:
        return await bowout.connect(HOST, self.port, context=self._context)

    async def receive(self, connection: Stream, count: int) -> None:
        await connection.send(order_of("S", count))
        while count:
            count -= len(await connection.receive(READ_SIZE))

    async def receive_into(self, connection: Stream, count: int) -> None:
        buffer = bytearray(BUFFER_SIZE)
        await connection.send(order_of("S", count))
        while count:
            count -= await connection.receive_into(buffer)

    async def send(self, connection: Stream, count: int) -> None:
        await connection.send(order_of("R", count))
        whole, rest = chunks_of(count)
        for _ in range(whole):
            await connection.send(CHUNK)
        await connection.send(rest)
        await connection.receive_exactly(1)

    async def echo(self, connection: Stream, size: int, rounds: int) -> None:
        message = CHUNK[:size]
        await connection.send(order_of("E", size * rounds))
        for _ in range(rounds):
            await connection.send(message)
            await connection.receive_exactly(size)

    async def close(self, connection: Stream) -> None:
        await connection.close()


class BowoutProtocols(Protocols):
    """`bowout.asyncio.create_connection`, with the protocols that asyncio's own gets."""

    async def open(self) -> CountingProtocol:
        protocol = self.protocol()
        await bowout.asyncio.create_connection(lambda: protocol, HOST, self.port, ssl=self.context)
        return protocol
