"""Our direction of a TLS connection of asyncio: from the application's writes to the transport under TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bowout._core.winddown import SLICE
from bowout.asyncio._backlog import WriteBacklog
from bowout.ending import Outbound

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from bowout._core.engine import Engine
    from bowout.asyncio._application import Application
    from bowout.asyncio._lane import CallbackLane
    from bowout.asyncio._underlying import UnderlyingTransport


class Sender:
    """Encrypts what the application writes, and passes it on as fast as the transport takes it.

    Args:
        loop: the event loop.
        engine: the connection's TLS.
        app: the application, which is asked to pause and to resume.
        lane: the connection's lane.
        go_on: called, soon, when there is more to do.

    Attributes:
        underlying: the transport under TLS; None before it is there.
        eof_wanted: whether our close_notify is to follow everything written.
        starved: whether OpenSSL writes nothing before the rest of a handshake message has come.
    """

    __slots__ = (
        "_app",
        "_backlog",
        "_continuing",
        "_engine",
        "_go_on",
        "_lane",
        "_loop",
        "eof_wanted",
        "starved",
        "underlying",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        engine: Engine,
        app: Application,
        lane: CallbackLane,
        *,
        go_on: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._engine = engine
        self._app = app
        self._lane = lane
        self._go_on = go_on
        self._backlog = WriteBacklog()
        self._continuing = False
        self.underlying: UnderlyingTransport | None = None
        self.eof_wanted: bool = False
        self.starved: bool = False

    @property
    def waiting_bytes(self) -> int:
        """Number of bytes that were written and have not left."""
        outgoing = self._engine.outgoing
        return self._backlog.size + len(outgoing.unencrypted) + outgoing.size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data` as soon as the transport takes them."""
        view = memoryview(data).cast("B")
        if not view:
            return
        self._lane.writing = None
        outgoing = self._engine.outgoing
        if outgoing.unencrypted or self._backlog.size or not self._engine.handshake_done:
            self._backlog.append(_kept(view, data))
        else:
            outgoing.unencrypted = view
            # Usually it is little: all of it is encrypted and passed on at once.
            done = not outgoing.size and (self._write_in_lane(view) or outgoing.write_more())
            if done and self.flush() and not outgoing.unencrypted:
                self.allow_lane()
                return
            self.run()
            if outgoing.unencrypted and not isinstance(data, bytes):
                outgoing.unencrypted = _kept(outgoing.unencrypted, data)
            return
        self._control_writing()

    def finish_write(self, data: bytes, written: Any) -> None:
        """Send what the lane has not sent of `data`; `written` is what it returned."""
        self._lane.writing = None
        if written is False:
            self.write(data)
            return
        self._take_over(memoryview(data), written)
        if self._engine.outgoing.unencrypted and not self._engine.outgoing.size:
            self._continue_soon()
        self._control_writing()

    def _take_over(self, view: memoryview, written: Any) -> int:
        """Go on where the lane stopped: it has encrypted that many bytes of `view`, which are returned."""
        count: int
        count, chunks, left, waits, error, noted = written
        if noted:
            self._lane.leave()
        if self.underlying is not None:
            self.underlying.in_flight = waits
        self._engine.outgoing.take_over(view[count:], count, chunks, left)
        if error is not None:
            raise error
        return count

    def allow_lane(self) -> None:
        """Let the application write to the lane, which may be entered, if nothing waits."""
        lane = self._lane
        if lane.entered is not None and not (self.eof_wanted or self._app.writing_paused or self.waiting_bytes):
            lane.writing = lane.entered

    def _control_writing(self) -> None:
        """Ask the application to pause or to resume writing, if how much waits calls for it."""
        size = self.waiting_bytes
        if size or self._app.writing_paused:
            self._app.control_writing(size)
        if not size and self._lane.entered is not None:
            self.allow_lane()

    def write_eof(self) -> None:
        """Send close_notify after everything written."""
        self.eof_wanted = True
        self._lane.writing = None
        self.run()

    def run(self) -> None:
        """Encrypt and pass on as much as the transport takes."""
        if self._engine.handshake_done:
            room, outgoing = SLICE, self._engine.outgoing
            while self.flush() and (outgoing.unencrypted or self._backlog.size or self.eof_wanted):
                count = self._encrypt()
                if not count:
                    break
                room -= count
                if room <= 0:
                    self._continue_soon()  # A fast peer must not keep other callbacks waiting.
                    break
        else:
            self.flush()
        self._control_writing()

    def _encrypt(self) -> int:
        """Encrypt the next data, or make our close_notify; return 0 if there is nothing to flush."""
        outgoing = self._engine.outgoing
        self._refill()
        if outgoing.unencrypted:
            count = self._write_in_lane(outgoing.unencrypted) or outgoing.write_more()
            self._refill()  # A close must see that there is more to send.
            self.starved = False
            return count or self._receive_other_half()
        if self.eof_wanted and self._engine.outbound is Outbound.OPEN:
            self._lane.leave()
            self._engine.queue_close_notify()
            return outgoing.size
        return 0

    def _write_in_lane(self, view: memoryview) -> int:
        """Encrypt and pass on `view`, as much as the transport takes; return how much was encrypted, 0: none."""
        lane = self._lane.entered
        if lane is None:
            return 0
        written = lane.write(view)
        return 0 if written is False else self._take_over(view, written or (len(view), [], 0, 0, None, False))

    def _refill(self) -> None:
        outgoing = self._engine.outgoing
        if not outgoing.unencrypted and self._backlog.size:
            outgoing.unencrypted = self._backlog.pop()

    def _receive_other_half(self) -> int:
        """Have the rest of a handshake message read of which OpenSSL has one half: it writes nothing before."""
        self._lane.leave()
        self._engine.incoming.hold()
        self.starved = self._engine.outbound is Outbound.OPEN
        if self.starved and self.underlying is not None:
            self.underlying.read(on=True)
        return 0

    def _continue_soon(self) -> None:
        if not self._continuing:
            self._continuing = True
            self._loop.call_soon(self._continue)

    def _continue(self) -> None:
        self._continuing = False
        self._go_on()

    def flush(self) -> bool:
        """Pass on what is encrypted; return True when nothing is left of it."""
        outgoing, underlying = self._engine.outgoing, self.underlying
        if underlying is None or underlying.in_flight or underlying.lost:
            return False
        while (head := outgoing.head()) is not None:
            count = underlying.write(head)
            if count:
                outgoing.taken(count)
            if count != len(head):
                return False
        return True

    def taken(self) -> None:
        """Record that the transport has passed on all that was in flight."""
        underlying = self.underlying
        if underlying is not None and underlying.in_flight:
            count, underlying.in_flight = underlying.in_flight, 0
            outgoing = self._engine.outgoing
            while count and (head := outgoing.head()) is not None:  # The lane passes on more than one at once.
                size = min(count, len(head))
                outgoing.taken(size)
                count -= size

    def forget(self) -> None:
        """Break the reference cycles."""
        self._go_on = _nothing

    def give_up(self) -> None:
        """Count what waits as unsent."""
        outgoing = self._engine.outgoing
        while self._backlog.size:
            outgoing.interrupt()
            outgoing.unencrypted = self._backlog.pop()
        outgoing.interrupt()
        if unwritten := self._lane.unwritten():
            outgoing.count_unsent(unwritten)


def _nothing() -> None:
    pass


def _kept(view: memoryview, data: bytes | bytearray | memoryview) -> memoryview:
    """Return `view` of `data` in memory that the application cannot change."""
    return view if isinstance(data, bytes) else memoryview(bytes(view))
