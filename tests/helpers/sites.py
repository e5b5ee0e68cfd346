"""HTTP servers under `bowout.serve`, for tests of HTTP clients: they count connections and requests."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import h2.config
import h2.connection
import h2.events

from bowout import BowoutError, Ending, IncompleteRead, Server, Stream
from helpers.served import Endings, serve
from helpers.wire import Version, server_context

BODY: Final = b"all that there is to say"

Answer = Callable[[Stream, bytes], Awaitable[None]]
"""Answers a request, given its head."""


async def by_length(stream: Stream, head: bytes) -> None:
    """Answer, on a connection that is kept."""
    await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)


async def to_the_end(stream: Stream, head: bytes) -> None:
    """Answer up to our close_notify."""
    await stream.send(b"HTTP/1.1 200 OK\r\n\r\n" + BODY)
    await stream.close()


async def in_silence(stream: Stream, head: bytes) -> None:
    """Never answer."""
    with contextlib.suppress(BowoutError):
        await stream.receive()


class Site:
    """A server.

    Args:
        answer: called for each request.
        reads_bodies: it reads the whole request first.

    Attributes:
        url: where it is.
        requests: the numbers of the requests by the connections on which they came, in order.
    """

    def __init__(self, answer: Answer, *, reads_bodies: bool = True) -> None:
        self._answer = answer
        self._reads_bodies = reads_bodies
        self._endings = Endings()
        self.requests: list[int] = []
        self.server: Server
        self.url: str

    @property
    def endings(self) -> list[Ending]:
        """The endings so far."""
        return self._endings.all

    async def ended(self, count: int = 1) -> list[Ending]:
        """Wait for so many endings of its connections."""
        return await self._endings.wait(count)

    async def handle(self, stream: Stream) -> None:
        """Serve one connection."""
        number = len(self.requests)
        self.requests.append(0)
        while True:
            try:
                head = await stream.receive_until(b"\r\n\r\n", limit=1 << 16)
                _, has_body, rest = head.lower().partition(b"content-length: ")
                if has_body and self._reads_bodies:
                    await stream.receive_exactly(int(rest.partition(b"\r\n")[0]))
            except IncompleteRead:
                return
            self.requests[number] += 1
            await self._answer(stream, head)

    async def handle_h2(self, stream: Stream) -> None:
        """Serve one connection of HTTP/2."""
        number = len(self.requests)
        self.requests.append(0)
        http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        http.initiate_connection()
        await stream.send(http.data_to_send())
        async for data in stream:
            ended = [one for event in http.receive_data(data) if (one := _take(http, event)) is not None]
            for stream_id in ended:
                self.requests[number] += 1
                http.send_headers(stream_id, [(":status", "200")])
                http.send_data(stream_id, BODY, end_stream=True)
            await stream.send(http.data_to_send())
            if ended:
                await self._answer(stream, b"")


def _take(http: h2.connection.H2Connection, event: h2.events.Event) -> int | None:
    """Take note of a part of a request; give the number of its stream if it was the last part."""
    if isinstance(event, h2.events.DataReceived):
        assert event.stream_id is not None
        http.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
    return event.stream_id if isinstance(event, h2.events.StreamEnded) else None


async def nothing_more(stream: Stream, head: bytes) -> None:
    """After an answer of HTTP/2: stay."""


async def then_leave(stream: Stream, head: bytes) -> None:
    """After an answer of HTTP/2: leave."""
    await stream.close()


@contextlib.asynccontextmanager
async def site(
    answer: Answer = by_length,
    *,
    version: Version | None = "1.3",
    http2: bool = False,
    reads_bodies: bool = True,
    **options: Any,
) -> AsyncIterator[Site]:
    """Run a server with this way to answer."""
    made = Site(answer, reads_bodies=reads_bodies)
    handler = made.handle_h2 if http2 else made.handle
    context = server_context(version)
    context.set_alpn_protocols(["h2"] if http2 else ["http/1.1"])
    async with serve(handler, on_ending=made._endings, context=context, **options) as server:
        made.server = server
        made.url = f"https://localhost:{server.port}/"
        yield made
