"""anyio's `TLSStream`, on asyncio and on trio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from anyio.streams.tls import TLSStream

from contenders.base import CHUNK, HOST, Contender, chunks_of, client_context
from contenders.base import order as order_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from contenders.base import Result


class Anyio(Contender[TLSStream]):
    """`anyio.connect_tcp(…, tls=True)`; `receive` chooses by itself how much it reads."""

    def __init__(self, port: int, ca: str, backend: str) -> None:
        super().__init__(port, ca)
        self._context = client_context(ca)
        self._backend = backend

    def run(self, main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        return anyio.run(main, backend=self._backend)

    async def together(self, jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
        async def await_(job: Coroutine[Any, Any, None]) -> None:
            await job

        async with anyio.create_task_group() as group:
            for job in jobs:
                group.start_soon(await_, job)

    async def open(self) -> TLSStream:
        return await anyio.connect_tcp(HOST, self.port, tls=True, ssl_context=self._context)

    async def receive(self, connection: TLSStream, count: int) -> None:
        await connection.send(order_of("S", count))
        while count:
            count -= len(await connection.receive())

    async def send(self, connection: TLSStream, count: int) -> None:
        await connection.send(order_of("R", count))
        whole, rest = chunks_of(count)
        for _ in range(whole):
            await connection.send(CHUNK)
        if rest:
            await connection.send(rest)
        await connection.receive(1)

    async def echo(self, connection: TLSStream, size: int, rounds: int) -> None:
        message = CHUNK[:size]
        await connection.send(order_of("E", size * rounds))
        for _ in range(rounds):
            await connection.send(message)
            left = size
            while left:
                left -= len(await connection.receive(left))

    async def close(self, connection: TLSStream) -> None:
        await connection.aclose()
