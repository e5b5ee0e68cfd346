"""Iterators over what a stream receives. They are not generators: leaving a loop early leaves nothing to close."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from bowout.errors import IncompleteRead, StreamClosed

if TYPE_CHECKING:
    from bowout._stream_receiving import StreamReceiving


class Chunks:
    """Yields received data in chunks, up to the end of the peer's direction or of ours."""

    __slots__ = ("_stream",)

    def __init__(self, stream: StreamReceiving) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._stream.receive()
        except StreamClosed:
            raise StopAsyncIteration from None
        if not chunk:
            raise StopAsyncIteration
        return chunk


class Lines:
    """Yields received data line by line."""

    __slots__ = ("_limit", "_stream")

    def __init__(self, stream: StreamReceiving, limit: int) -> None:
        self._stream = stream
        self._limit = limit

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._stream.receive_until(b"\n", self._limit)
        except IncompleteRead as end:
            if not end.partial:
                raise StopAsyncIteration from None
            return end.partial
        except StreamClosed:
            raise StopAsyncIteration from None
