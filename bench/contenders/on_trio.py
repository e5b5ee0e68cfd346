"""trio's own `SSLStream`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from contenders.base import CHUNK, HOST, Contender, TrioRuns, chunks_of, client_context
from contenders.base import order as order_of

if TYPE_CHECKING:
    Stream = trio.SSLStream[trio.SocketStream]


class Trio(TrioRuns, Contender["Stream"]):
    """`trio.open_ssl_over_tcp_stream`; `receive_some` chooses by itself how much it reads."""

    def __init__(self, port: int, ca: str) -> None:
        super().__init__(port, ca)
        self._context = client_context(ca)

    async def open(self) -> Stream:
        stream = await trio.open_ssl_over_tcp_stream(HOST, self.port, ssl_context=self._context)
        await stream.do_handshake()
        return stream

    async def receive(self, connection: Stream, count: int) -> None:
        await connection.send_all(order_of("S", count))
        while count:
            count -= len(await connection.receive_some())

    async def send(self, connection: Stream, count: int) -> None:
        await connection.send_all(order_of("R", count))
        whole, rest = chunks_of(count)
        for _ in range(whole):
            await connection.send_all(CHUNK)
        await connection.send_all(rest)
        await connection.receive_some(1)

    async def echo(self, connection: Stream, size: int, rounds: int) -> None:
        message = CHUNK[:size]
        await connection.send_all(order_of("E", size * rounds))
        for _ in range(rounds):
            await connection.send_all(message)
            left = size
            while left:
                left -= len(await connection.receive_some(left))

    async def close(self, connection: Stream) -> None:
        await connection.aclose()
