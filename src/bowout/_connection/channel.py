"""The bytes of one TLS connection, between its engine, its transport and the tasks that wait for them.

The invariant of every loop here, and in the other modules of this package: use the engine without an await in between,
pass its output to the kernel, then await exactly one thing and check the whole state again. So no lock guards the
engine, and a cancelled wait loses nothing.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bowout.errors import BowoutError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bowout._backends import Backend, Transport
    from bowout._core.engine import Engine

T = TypeVar("T")

#: Bytes of a thread's scratch memory for ciphertext, and of that for plaintext.
SCRATCH_SIZE: Final = 1 << 18
#: Minimum number of bytes that a read asks for: a full record and its frame.
MIN_READ: Final = 17 << 10
#: Operations after which a task lets others run: each operation may have succeeded without waiting.
_FAIR: Final = 32
#: Number of waits after which one read is tried without waiting: the peer's next message may have arrived.
_PROBE_INTERVAL: Final = 4
#: Maximum number of times that a last look lets a transport catch up: a peer that never stops must not delay the end.
#: With 64 KiB each time, it is more than a kernel buffers for one connection.
CATCH_UPS: Final = 256

_scratch = threading.local()


def shared_scratch() -> tuple[memoryview, memoryview]:
    """Return a thread's memory for ciphertext and for plaintext: all its connections use it, between two awaits."""
    try:
        return _scratch.views  # type: ignore[no-any-return]
    except AttributeError:
        _scratch.views = (memoryview(bytearray(SCRATCH_SIZE)), memoryview(bytearray(SCRATCH_SIZE)))
        return _scratch.views  # type: ignore[no-any-return]


def _loss(error: OSError) -> str:
    """Return the system's error text for a lost connection; "" if it was an RST of the peer."""
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return ""
    return error.strerror or type(error).__name__


def loss_of_number(number: int) -> str:
    """Return the system's error text for a lost connection; "" if it was an RST of the peer."""
    return _loss(OSError(number, os.strerror(number)))


class Channel:
    """Moves bytes between an engine and a transport.

    Args:
        dry: whether a read before the first wait is useless.

    Attributes:
        on_torn: ends the connection at once, after an exception that interrupted a move of bytes;
            None once it has ended, so that everything is freed without the collector.
        scratch: memory for plaintext, shared by all connections of the thread; valid until the next await.
        received: number of bytes received from the kernel.
        dry: whether the kernel had nothing more at the last read.
        eager: whether to try the next read although the kernel was dry.
        send_held_up: whether a sender waits for input.
        reading: whether a task reads from the engine.
        told_to_end: whether the next read is to return the end.
        has_lane: whether the lane can be entered, while nothing unusual is under way.
        lane: the lane, if it is entered: then received data go through it alone, and the engine has none.
        send_lane: the lane, if a task that has nothing before it may send through it.
    """

    __slots__ = (
        "_lane_is_future",
        "_operations",
        "_waits",
        "ciphertext",
        "dry",
        "eager",
        "engine",
        "has_lane",
        "lane",
        "on_torn",
        "reading",
        "received",
        "scratch",
        "send_held_up",
        "send_lane",
        "told_to_end",
        "transport",
    )

    def __init__(self, engine: Engine, transport: Transport, *, dry: bool) -> None:
        self.engine: Engine = engine
        self.transport: Transport = transport
        self.ciphertext: memoryview
        self.scratch: memoryview
        self.ciphertext, self.scratch = shared_scratch()
        self.received: int = 0
        self.dry: bool = dry
        self.eager: bool = False
        self.send_held_up: bool = False
        self.has_lane: bool = engine.has_lane and transport.carries_lane
        self.lane: Any = None
        self.send_lane: Any = None
        self._lane_is_future = False
        self.reading: bool = False
        self.told_to_end: bool = False
        self._operations = 0
        self._waits = 0
        self.on_torn: Callable[[], None] | None = None
        transport.call_when_sent(self.flush)

    # -- the lane ------------------------------------------------------------------------------------------------

    def enter_lane(self) -> None:
        """Let data pass through the lane from now on, if there is one, and nothing unusual is under way."""
        if self.reading or self.told_to_end:
            return
        lane, transport = self.engine.lane_to_enter(), self.transport
        if lane is None or transport.sock is None or not transport.carries_lane:
            return
        begun = self.engine.incoming.queue.hand_over()
        lane.enter(transport.sock.fileno(), self.ciphertext, self.scratch, self.dry, begun)
        self.lane = lane
        try:
            self._lane_is_future = transport.begin_lane(lane)
            self.engine.timeline.count_by(lane.take_counts)
        except BaseException:
            self.leave_lane()
            raise

    def leave_lane(self) -> None:
        """Give the engine what the lane has, and let it judge: for all that is not usual."""
        lane = self.lane
        if lane is None:
            return
        engine = self.engine
        raw, held, rest, eof, error, dry, watched, ended, raised = lane.leave()  # If this fails, we have not left.
        self.lane = self.send_lane = None
        try:
            engine.timeline.count_by(None)
            engine.incoming.resume(raw, held, rest=rest, ended=ended)
            if error:
                failure = OSError(error, os.strerror(error))
                engine.receive_reset(failure.strerror or "", loss=_loss(failure))
            if eof:
                engine.receive_eof()
        finally:
            self.dry = dry
            self.transport.end_lane(watched=watched)
        if raised is not None:
            raise raised  # by the loop, Ctrl-C for example, when it was to wake the waiting task

    def give_up_lane(self) -> None:
        """Use the lane no more, and leave it as it is: in a forked child, where it is its parent's."""
        self.lane = self.send_lane = None
        self.has_lane = False

    def wait_in_lane(self, limit: int) -> Awaitable[Any]:
        """Return what to await for the next data, up to `limit` bytes."""
        return self.lane.wait(limit) if self._lane_is_future else self._wait_in_lane(lambda lane: lane.read(limit))

    def wait_into_in_lane(self, view: memoryview) -> Awaitable[Any]:
        """Return what to await for the next data, in `view`."""
        if self._lane_is_future:
            return self.lane.wait_into(view)  # type: ignore[no-any-return]
        return self._wait_in_lane(lambda lane: lane.read_into(view) or None)

    async def _wait_in_lane(self, read: Callable[[Any], Any]) -> Any:
        came: Any = None

        def take() -> bool:
            nonlocal came
            lane = self.lane
            if lane is None:
                came = False
            else:
                lane.arrived()
                came = read(lane)
            return came is not None

        while came is None:
            await self.transport.wait_readable(take)
        return came

    # -- bytes ---------------------------------------------------------------------------------------------------

    def take_received(self, data: bytes | memoryview) -> None:
        """Process ciphertext, `data`, that was read from the socket elsewhere, before any read here."""
        self.received += len(data)
        self.engine.receive_data(data)

    def flush(self) -> bool:
        """Pass the engine's output to the kernel, as much as it takes; return True when nothing is left."""
        engine = self.engine
        queue = engine.outgoing.queue
        while queue.size and (head := queue.head()) is not None:
            try:
                try:
                    count = self.transport.send(head)
                except OSError as error:
                    engine.send_failed(loss=_loss(error))
                    break
                if count is None:
                    return False
                engine.outgoing.taken(count)
            except BaseException as error:
                self.tear(error)  # It is unknown whether these bytes were sent.
                raise
        return True

    def receive(self, limit: int) -> int | None:
        """Move bytes from the kernel to the engine; return their number, 0 at the end of input, None if none."""
        try:
            count = self.receive_raw(limit)
            if count:
                self.engine.receive_data(self.ciphertext[:count])
        except BaseException as error:
            self.tear(error)
            raise
        return count

    def receive_raw(self, limit: int) -> int | None:
        """Receive up to `limit` bytes into `ciphertext`, like `receive`, but do not give them to the engine."""
        if self.lane is not None:
            self.leave_lane()
        try:
            count = self.transport.receive_into(self.ciphertext[:limit])
        except OSError as error:
            self.engine.receive_reset(error.strerror or "", loss=_loss(error))
            return 0
        if count is None:
            self.dry, self.eager = True, False
            return None
        # Fewer bytes than there was room for: the kernel had no more. What comes next ends a wait.
        self.dry = 0 < count < limit
        self.received += count
        if not count:
            self.engine.receive_eof()
        if self.send_held_up:
            self.send_held_up = False
            self.transport.wake()  # The sender waits for it, whichever task receives it.
        return count

    def receive_some(self) -> bool:
        """Move what has just arrived to the engine; tell whether there was anything."""
        return self.receive(MIN_READ) is not None

    def safely(self, call: Callable[[], T]) -> T:
        """Run `call` of the engine; `tear` the connection if an exception interrupts it."""
        try:
            return call()
        except BowoutError:
            raise
        except BaseException as error:
            self.tear(error)
            raise

    def tear(self, error: BaseException) -> None:
        """End the connection if `error` interrupted a move of bytes (see `Engine.tear`)."""
        if self.engine.tear(error) and self.on_torn is not None:
            self.on_torn()

    # -- turns ---------------------------------------------------------------------------------------------------

    def overdue(self) -> bool:
        """Count an operation that may not have waited; return True when it is time for `let_others_run`."""
        self._operations += 1
        return self._operations >= _FAIR

    async def let_others_run(self, backend: Backend) -> None:
        """Let other tasks run although there is work here. They may have changed the state."""
        self._operations = 0
        if self.lane is not None:
            self.lane.rested()
        await backend.checkpoint()

    def begin_wait(self) -> None:
        """Count a wait for input: after several of them, one read is tried without waiting."""
        self._waits += 1
        self.eager = self._waits % _PROBE_INTERVAL == 0
