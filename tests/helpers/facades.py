"""The verbs of a `bowout.Stream` through the interface of another library, so that one test can be run through both.

What that library raises is taken back to bowout's error, which must be its cause.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.abc
import trio

import bowout
import bowout.anyio
import bowout.trio


class Facade:
    """Everything but the verbs is asked of the stream itself."""

    def __init__(self, stream: bowout.Stream) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        raise NotImplementedError

    async def receive_exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += (more := await self.receive(count - len(data)))
            assert more, "the end came early"
        return data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with contextlib.suppress(bowout.StreamClosed):
            while chunk := await self.receive():
                yield chunk


class TrioFacade(Facade):
    """Through `bowout.trio.SSLStream`."""

    def __init__(self, stream: bowout.Stream) -> None:
        super().__init__(stream)
        self.through = bowout.trio.SSLStream.from_stream(stream)

    async def handshake(self) -> None:
        with _back(trio):
            await self.through.do_handshake()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        with _back(trio):
            return await self.through.receive_some(max_bytes)

    async def send(self, data: bytes) -> None:
        with _back(trio):
            await self.through.send_all(data)

    async def send_eof(self) -> None:
        with _back(trio):
            await self.through.send_eof()

    async def close(self, timeout: float) -> bowout.Ending | None:
        """Close, in the time that the stream has for it."""
        await self.through.aclose()
        return self.through.ending


class AnyioFacade(Facade):
    """Through `bowout.anyio.TLSStream`."""

    def __init__(self, stream: bowout.Stream) -> None:
        super().__init__(stream)
        self.through = bowout.anyio.TLSStream.from_stream(stream)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        with _back(anyio):
            try:
                return await self.through.receive(max_bytes)
            except anyio.EndOfStream:
                return b""

    async def send(self, data: bytes) -> None:
        with _back(anyio):
            await self.through.send(data)

    async def send_eof(self) -> None:
        with _back(anyio):
            await self.through.send_eof()

    async def close(self, timeout: float) -> bowout.Ending | None:
        """Close, in the time that the stream has for it."""
        await self.through.aclose()
        return self.through.ending


@contextlib.contextmanager
def _back(library: Any) -> Iterator[None]:
    """Raise the cause of what the library knows of."""
    kinds: dict[type[Exception], tuple[type[Exception], ...]] = {
        library.BusyResourceError: (bowout.BusyError,),
        library.ClosedResourceError: (bowout.StreamClosed,),
        library.BrokenResourceError: (bowout.PeerError, bowout.HandshakeError, bowout.SendInterrupted),
    }
    try:
        yield
    except tuple(kinds) as error:
        if isinstance(error, library.ClosedResourceError) and error.__cause__ is None:
            raise bowout.StreamClosed(str(error)) from None  # It knows so by itself.
        if not isinstance(error.__cause__, kinds[type(error)]):
            raise AssertionError("an error without bowout's as its cause") from error  # noqa: TRY004
        raise error.__cause__ from None
