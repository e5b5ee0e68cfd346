"""Receiving: the part of a stream that reads, from the lane or from the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bowout._arguments import checked_count
from bowout._iterators import Chunks, Lines
from bowout._stream_facts import StreamFacts
from bowout.errors import BusyError, IncompleteRead, LimitExceeded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bowout._connection.connection import Connection

CHUNK: Final = 1 << 16
#: What the lane returns to let others run first; less: it is this minus the last bytes, and is to be left.
_OTHERS_FIRST: Final = -2


class StreamReceiving(StreamFacts):
    """The verbs of a `bowout.Stream` that receive."""

    _connection: Connection
    _buffer: bytearray
    _receiving: bool
    _handshake_timeout: float

    # -- receiving -----------------------------------------------------------------------------------------------

    async def receive(self, max_bytes: int = CHUNK) -> bytes:
        """Receive up to `max_bytes` bytes, as soon as there are any.

        Returns:
            The bytes; ``b""`` at the peer's close_notify, and only then (or at a FIN that ``truncation="tolerate"``
            accepts).

        Raises:
            Truncated, Reset, AlertReceived, ProtocolViolation: the peer ended its direction without close_notify; every
                later call raises it again.
            StreamClosed: we closed, before this call or while it waited.
            BusyError: another task is receiving.

        Cancelling it loses no byte: the next call, or `close`, continues from there.
        """
        if max_bytes.__class__ is not int or max_bytes < 1:
            max_bytes = checked_count("max_bytes", max_bytes, least=1)
        lane = self._connection.channel.lane
        if lane is not None and not (self._buffer or self._receiving):
            came = lane.read(max_bytes)
            if came.__class__ is not bytes:
                came = await self._receive_in_lane(came, max_bytes)
            if came is not None:
                return came  # type: ignore[no-any-return]
        self._begin_receiving()
        try:
            if self._buffer and await self._look_into_buffer():
                return self._take(min(max_bytes, len(self._buffer)))
            connection = self._connection
            if not connection.engine.handshake_done:
                await self._connection.handshake(self._handshake_timeout)
            scratch = connection.scratch
            count = await connection.read_into(scratch[:max_bytes])
            return bytes(scratch[:count])
        finally:
            self._receiving = False

    async def receive_into(self, buffer: bytearray | memoryview) -> int:
        """Receive into `buffer` as many available records as fit; otherwise like `receive`.

        Returns:
            The number of bytes; 0 if `receive` would return ``b""``.
        """
        view = memoryview(buffer).cast("B")
        if not len(view) or view.readonly:
            raise ValueError(f"the buffer to receive into is {'empty' if not len(view) else 'read-only'}")
        lane = self._connection.channel.lane
        if lane is not None and not (self._buffer or self._receiving):
            number = lane.read_into(view)
            if number <= 0:
                number = await self._receive_into_in_lane(number, view)
            if number:
                return number  # type: ignore[no-any-return]
        self._begin_receiving()
        try:
            if self._buffer and await self._look_into_buffer():
                count = min(len(view), len(self._buffer))
                view[:count] = self._take(count)
                return count
            if not self._connection.engine.handshake_done:
                await self._connection.handshake(self._handshake_timeout)
            return await self._connection.read_into(view)
        finally:
            self._receiving = False

    async def receive_exactly(self, count: int) -> bytes:
        """Receive exactly `count` bytes.

        Raises:
            IncompleteRead: the peer ended cleanly before that; its ``partial`` has what was received.
            As `receive`: what was received before the error stays readable, and is read before it is raised again.

        Cancelling it loses no byte.
        """
        if count.__class__ is not int or count < 0:
            count = checked_count("count", count, least=0)
        lane = self._connection.channel.lane
        if lane is not None and count and not (self._buffer or self._receiving):
            came = lane.read(CHUNK)
            if came.__class__ is not bytes:
                came = await self._receive_in_lane(came, CHUNK)
            if came is not None:
                if len(came) == count:
                    return came  # type: ignore[no-any-return]
                self._buffer += came
        self._begin_receiving()
        try:
            if self._buffer or not count:
                await self._look_into_buffer()
            while len(self._buffer) < count:
                came = await self._read_some()
                if len(came) == count and not self._buffer:
                    return bytes(came)
                self._buffer += came
                if not came:
                    partial = self._take(len(self._buffer))
                    raise IncompleteRead(
                        f"the peer ended the stream after {len(partial)} of {count} bytes",
                        partial=partial,
                        expected=count,
                    )
            return self._take(count)
        finally:
            self._receiving = False

    async def receive_until(self, separator: bytes, limit: int = CHUNK) -> bytes:
        """Receive up to the next `separator`, and including it.

        Args:
            separator: not empty.
            limit: maximum number of bytes to hold during the search, the separator included.

        Raises:
            LimitExceeded: the first `limit` bytes hold no separator; they stay readable.
            IncompleteRead: the peer ended cleanly before the separator; its ``partial`` has what was received.
            As `receive`: what was received before the error stays readable, and is read before it is raised again.

        Cancelling it loses no byte.
        """
        check_separator(separator, limit)
        self._begin_receiving()
        try:
            await self._look_into_buffer()
            searched = 0
            while (found := self._buffer.find(separator, searched, limit)) < 0:
                if len(self._buffer) >= limit:
                    raise LimitExceeded(f"no {separator!r} within {limit} bytes")
                searched = max(0, len(self._buffer) - len(separator) + 1)
                came = await self._read_some()
                self._buffer += came
                if not came:
                    partial = self._take(len(self._buffer))
                    raise IncompleteRead(
                        f"the peer ended the stream before {separator!r}", partial=partial, expected=None
                    )
            return self._take(found + len(separator))
        finally:
            self._receiving = False

    def lines(self, limit: int = CHUNK) -> AsyncIterator[bytes]:
        r"""Iterate over lines, each with its ``\n``; a last line without one is yielded, too.

        The iteration stops at the peer's close_notify and when we close; otherwise it raises like `receive_until`.
        """
        return Lines(self, limit)

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the received bytes, in chunks as they arrive; the iteration stops as that of `lines` does."""
        return Chunks(self)

    async def _receive_in_lane(self, came: Any, limit: int) -> bytes | None:
        """Wait in the lane, or do what it could not do, as it said by `came`; return None to receive without it."""
        self._receiving = True
        try:
            if came is None:
                try:
                    came = await self._connection.channel.wait_in_lane(limit)
                except BaseException as error:
                    self._connection.forget_wait(error)
                    raise
            if came.__class__ is bytes:
                return came
            if came.__class__ is tuple:
                data: bytes = came[0]
                more = self._connection.scratch[: limit - len(data)]
                return data + more[: self._connection.off_lane(more)]
            await self._leave_lane(others_first=came)
            return None
        finally:
            self._receiving = False

    async def _receive_into_in_lane(self, number: int, view: memoryview) -> int:
        self._receiving = True
        try:
            if not number:
                try:
                    number = await self._connection.channel.wait_into_in_lane(view)
                except BaseException as error:
                    self._connection.forget_wait(error)
                    raise
            if number > 0:
                return number
            if number < _OTHERS_FIRST:
                count = _OTHERS_FIRST - number
                return count + self._connection.off_lane(view[count:])
            await self._leave_lane(others_first=number == _OTHERS_FIRST)
            return 0
        finally:
            self._receiving = False

    async def _leave_lane(self, *, others_first: bool) -> None:
        """Leave the lane, since the engine has to judge; or only let other tasks run before the next read."""
        channel = self._connection.channel
        if others_first:
            await channel.let_others_run(self._connection.backend)
        else:
            channel.leave_lane()

    def _begin_receiving(self) -> None:
        if self._receiving:
            raise BusyError("another task is receiving from this stream: one at a time")
        self._receiving = True

    async def _look_into_buffer(self) -> bool:
        """Tell whether bytes are buffered: readable after an error of the peer, too, but not after our own close."""
        if self._buffer and self._connection.channel.overdue():
            await self._connection.channel.let_others_run(self._connection.backend)
        if self._connection.closer.leaving:
            self._connection.closer.check_staying()
        return bool(self._buffer)

    async def _read_some(self) -> memoryview:
        """Read into the shared scratch memory: the caller must use the result before its next await."""
        connection = self._connection
        if not connection.engine.handshake_done:
            await self._connection.handshake(self._handshake_timeout)
        lane = connection.channel.lane
        if lane is not None:
            came = lane.read(CHUNK)
            if came.__class__ is not bytes:
                came = await self._receive_in_lane(came, CHUNK)
                self._receiving = True
            if came is not None:
                return memoryview(came)
        scratch = connection.scratch
        return scratch[: await connection.read_into(scratch[:CHUNK])]

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def check_separator(separator: bytes, limit: int) -> None:
    if not isinstance(separator, bytes | bytearray):
        raise TypeError(f"separator must be bytes, not {type(separator).__name__}")
    if not separator:
        raise ValueError("the separator is empty")
    checked_count("limit", limit, least=len(separator))
