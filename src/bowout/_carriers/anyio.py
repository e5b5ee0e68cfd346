"""The streams of anyio as carriers."""

from __future__ import annotations

import asyncio
import contextlib
import types
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.abc

from bowout._backends.sockets import address_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from bowout.transport import ByteStream

_ADDRESSES: Final = {
    "peername": anyio.abc.SocketAttribute.remote_address,
    "sockname": anyio.abc.SocketAttribute.local_address,
}


def adapt(stream: object) -> ByteStream | None:
    """Return a carrier over `stream`; None if it is no stream of anyio.

    Raises:
        TypeError: it is one, but messages may be lost or come in another order on it.
    """
    if isinstance(stream, anyio.abc.SocketStream):
        return AnyioSocketCarrier(stream)
    if isinstance(stream, anyio.abc.ByteStream):
        return AnyioCarrier(stream)
    if isinstance(stream, anyio.abc.ObjectStream):
        return AnyioObjectCarrier(stream)
    if isinstance(stream, anyio.abc.UnreliableObjectStream):
        raise TypeError(
            f"{type(stream).__name__} cannot carry TLS: give an anyio.abc.ByteStream or ObjectStream[bytes]"
        )
    return None


class AnyioCarrier:
    """An ``anyio.abc.ByteStream``."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def receive(self, max_bytes: int) -> Any:
        try:
            return await self._stream.receive(max_bytes)
        except anyio.EndOfStream:
            return b""

    async def send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        with contextlib.suppress(anyio.BrokenResourceError, OSError):
            await self._stream.aclose()

    def get_extra_info(self, name: str) -> Any:
        attribute = _ADDRESSES.get(name)
        return None if attribute is None else address_of(lambda: self._stream.extra(attribute, None))  # noqa: S610  (no Django)


class AnyioSocketCarrier(AnyioCarrier):
    """An ``anyio.abc.SocketStream``, which closes without waiting for the peer."""

    __slots__ = ()

    async def aclose(self) -> None:
        closing = super().aclose()
        if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
            # Cancelled where it lets others run, one of anyio up to 4.15 stays open until the peer has read everything.
            await _run_to_its_end(closing)
        else:
            await closing


@types.coroutine
def _run_to_its_end(call: Coroutine[Any, Any, None]) -> Generator[Any, None, None]:
    """Run `call` on asyncio; if it is cancelled where it only lets others run, raise that after its end."""
    cancellation: asyncio.CancelledError | None = None
    step = partial(call.send, None)
    while True:
        try:
            waits_for = step()
        except StopIteration:
            break
        step = partial(call.send, None)
        try:
            yield waits_for
        except asyncio.CancelledError as error:
            if waits_for is None:
                cancellation = error
            else:
                step = partial(call.throw, error)
    if cancellation is not None:
        raise cancellation


class AnyioObjectCarrier(AnyioCarrier):
    """An ``anyio.abc.ObjectStream`` of bytes."""

    __slots__ = ()

    async def receive(self, max_bytes: int) -> Any:  # noqa: ARG002  (the sender has chosen the size)
        try:
            while not (data := await self._stream.receive()):
                pass  # An object without bytes is not the end.
        except anyio.EndOfStream:
            return b""
        return data
