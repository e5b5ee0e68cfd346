"""The driver of the wind-down on an event loop: it moves bytes, waits and tells the time; `_core` decides."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from bowout._backends import forks
from bowout._backends.sockets import belongs_elsewhere, is_unix
from bowout._connection.channel import CATCH_UPS
from bowout._core.winddown import ALERT_PATIENCE, Goal, Step, WindDown
from bowout.ending import How, Inbound, Outbound
from bowout.errors import BowoutError, MisuseError, NoCloseNotify, PeerClosed, StreamClosed, Truncated

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout._backends import Backend, LoopEvent
    from bowout._backends.lock import FifoLock
    from bowout._connection.channel import Channel
    from bowout.ending import Ending

#: Reason for every task that uses the stream after `Engine.tear`.
_TORN: Final = "the stream was ended: an exception had interrupted it between two of its steps"
#: Reason for every use of the stream in a forked child.
_INHERITED: Final = "this stream belongs to the process that made it: in a forked child, make a connection of its own"
#: Details of events on a transport that is no socket.
_FIN_BY_CLOSING: Final = "by closing the stream under TLS"
_GOES_ON: Final = "the stream under TLS goes on"

#: Time, in seconds, for the last flight of a task that is being cancelled, if its transport does not act at once.
_LEAVE_PATIENCE: Final = 0.5

#: Steps that need no wait, on a transport that acts at once.
_AT_ONCE: Final = frozenset({Step.WRITE, Step.FIN})
#: States in which the end of the transport tells the peer that something is missing, as it should.
_UNNOTIFIED: Final = frozenset({Outbound.HANDSHAKE, Outbound.OPEN})


class Closer:
    """Ends a connection, and keeps its `Ending`.

    Args:
        backend: the event loop.
        channel: moves the bytes.
        sends: lock that the sending task holds.
        linger_bytes: maximum number of bytes that a close reads and discards.

    Attributes:
        leaving: whether a verb was called that ends the connection: then nothing new is received or sent.
        ending: how it ended; None until the descriptor is closed.
        unattended: whether a close has begun, and no task carries it on yet.
        inherited: whether this process is a forked child of the one that made the connection, and only has a copy.
    """

    __slots__ = (
        "__weakref__",
        "_backend",
        "_began",
        "_channel",
        "_ended",
        "_engine",
        "_reason",
        "_sends",
        "_winddown",
        "ending",
        "inherited",
        "leaving",
        "unattended",
    )

    def __init__(self, backend: Backend, channel: Channel, sends: FifoLock, *, linger_bytes: int) -> None:
        self._backend = backend
        self._channel = channel
        self._engine = channel.engine
        self._sends = sends
        self._winddown = WindDown(
            channel.engine,
            linger_bytes=linger_bytes,
            scratch=channel.scratch,
            unacknowledged=channel.transport.unacknowledged,
        )
        self._began = time.time()
        self._reason = ""
        self._ended: LoopEvent | None = None
        channel.on_torn = self.finish_now
        self.leaving: bool = False
        self.ending: Ending | None = None
        self.unattended: bool = False
        self.inherited: bool = False
        forks.watch(self)

    def note_reason(self, reason: str) -> None:
        """Record `reason` for the ending; the first one counts."""
        self._reason = self._reason or reason

    # -- the ways to end -----------------------------------------------------------------------------------------

    def leave(self, verb: str) -> None:
        """Receive and send nothing new from now on, and wake every waiting task."""
        self._channel.leave_lane()
        self._channel.has_lane = False
        self.leaving = True
        self._winddown.leave(verb)
        self._channel.transport.wake()

    async def close(
        self,
        verb: str,
        deadline: float,
        *,
        notify: bool,
        late: Callable[[bytes], object] | None = None,
        held: bytes = b"",
    ) -> None:
        """End both directions by `deadline`. In every case the descriptor is then closed and `ending` is set.

        `late` gets what is `held` for the reader, and what still arrives.
        """
        self._winddown.notify(allowed=notify)
        try:
            self.leave(verb)
            if late is not None and held:
                late(held)
            self._winddown.late = late
            self._winddown.begin(Goal.CLOSE, deadline=deadline)
            await self._run()
        except BaseException as error:
            await self._finish_close_cut_short(error, notify=notify)
            raise
        self._release()
        await self.wait_closed()

    def begin_close(self, verb: str, deadline: float) -> None:
        """Begin like `close`, up to the first wait: send close_notify and FIN. Then a task has to call `go_on`.

        The transport must act at once.
        """
        self.unattended = True
        self.leave(verb)
        self._winddown.begin(Goal.CLOSE, deadline=deadline)
        self._go_without_waiting()

    async def go_on(self, deadline: float) -> None:
        """Carry on the close that has begun, if no other task does; wait for its end, by `deadline` if not before."""
        self._winddown.shorten_deadline(deadline)
        if self.unattended and self.ending is None:
            self.unattended = False
            try:
                await self._run()
            except BaseException as error:
                await self._finish_close_cut_short(error, notify=True)
                raise
            self._release()
        else:
            self._channel.transport.wake()
            await self.wait_ended()
        await self.wait_closed()

    async def _finish_close_cut_short(self, error: BaseException, *, notify: bool) -> None:
        by = f"cut short by {type(error).__name__}" if isinstance(error, Exception) else "cancelled"
        self.note_reason(f"the close was {by}")
        await self.finish_soon(notify=notify)

    async def unwrap(self, deadline: float) -> tuple[Any, bytes]:
        """End TLS in both directions by `deadline`, and return the socket or the stream, and the leftover bytes."""
        transport = self._channel.transport
        try:
            self.leave("unwrap()")
            self._winddown.begin(Goal.UNWRAP, deadline=deadline)
            await self._run()
            if self.ending is None and self._engine.verdict() is How.CLEAN:
                self._winddown.release()
                carrier, rest = await transport.detach()
                if self.ending is None:
                    leftover = self._engine.incoming.leftover() + rest
                    self._end(unwrapped=True)
                    return carrier, leftover
        except BaseException:
            await self.finish_soon(notify=True)
            raise
        if self.ending is not None:
            raise self.with_ending(StreamClosed("the stream was ended while unwrap() waited"))
        self._release()
        await self.wait_closed()
        raise self.with_ending(self._why_not_unwrapped())

    def _why_not_unwrapped(self) -> BowoutError:
        if self._winddown.gave_up:
            return NoCloseNotify("the peer did not end TLS with its close_notify in time")
        if self._engine.inbound is Inbound.CLOSE_NOTIFY:
            return PeerClosed("the peer ended TLS before all that we sent had left")
        return self._engine.failure or Truncated("the peer left without close_notify", inside_record=False)

    def leave_at_once(self, verb: str, *, notify: bool) -> None:
        """End without an await: for a task that is being cancelled."""
        if self.ending is None and not self.leave_to_parent(verb):
            self.note_reason(verb)
            try:
                if not self.leaving:
                    self.leave(verb)
            finally:
                self.finish_now(notify=notify)

    async def leave_soon(self, verb: str, *, notify: bool) -> None:
        """End like `leave_at_once`; only a transport that does not act at once is waited for, for a moment."""
        if self.ending is None and not self.leave_to_parent(verb):
            self.note_reason(verb)
            try:
                if not self.leaving:
                    self.leave(verb)
            finally:
                await self.finish_soon(notify=notify)

    def leave_from_elsewhere(self, verb: str) -> None:
        """End without an await, for a caller that runs on another event loop, or on none.

        Raises:
            MisuseError: the stream's own loop is running: the stream can be ended only there.
        """
        if self.ending is None:
            self._check_thread(verb)
            self.leave_at_once(f"{verb} when its event loop was over", notify=True)

    def abort(self) -> None:
        """End at once with an RST."""
        if self.ending is None and not self.leave_to_parent("abort()"):
            self._check_thread("abort()")
            try:
                self.leave("abort()")
            finally:
                reset = self._channel.transport.reset()
                try:
                    if reset:
                        self._engine.sent_rst()
                    elif not self._engine.fin_sent:
                        self._engine.sent_fin(_FIN_BY_CLOSING)
                finally:
                    self._release()

    def drop(self) -> None:
        """Close the descriptor of a connection that was forgotten: the peer sees no close_notify."""
        self._channel.on_torn = None
        if self.inherited:
            self._channel.transport.leave_to_parent()
        else:
            self._channel.transport.drop()

    def inherit(self) -> None:
        """In a forked child: the connection stays its parent's. Every use is an error here, and no end sends anything.

        Both processes would number their records alike, and each would read a part of what comes.
        """
        self.inherited = self.leaving = True
        self._channel.give_up_lane()

    def leave_to_parent(self, verb: str) -> bool:
        """In a forked child, close its copy of the descriptor instead of ending the connection; tell whether it is."""
        if self.inherited and self.ending is None:
            self.note_reason(f"{verb} in a forked child: the connection stays its parent's")
            self._winddown.leave(verb)
            self._winddown.release(counts_bytes=not is_unix(self._channel.transport.sock))
            self._channel.transport.leave_to_parent()
            self._end()
        return self.inherited

    async def see_alert_off(self) -> None:
        """Wait for a moment, so that the peer can read our fatal alert."""
        self._channel.leave_lane()
        self._winddown.begin(Goal.SEE_ALERT_OFF, deadline=self._backend.time() + ALERT_PATIENCE)
        await self._run()

    def finish_now(self, *, notify: bool = False) -> None:
        """End as gracefully as is possible without waiting, and close the descriptor."""
        if self.ending is not None or self.leave_to_parent("left"):
            return
        try:
            self._channel.leave_lane()
            self._winddown.notify(allowed=notify)
            self._winddown.begin(Goal.LEAVE)
            self._go_without_waiting()
        finally:
            self._release()

    async def finish_soon(self, *, notify: bool = False) -> None:
        """End like `finish_now`, in the handler of an exception, which may be a cancellation.

        A transport that does not act at once gets a moment for our last flight, and another one for its own end.
        """
        transport = self._channel.transport
        if self.leave_to_parent("left"):
            return
        if transport.acts_at_once or isinstance(sys.exception(), GeneratorExit) or not self._backend.is_current():
            self.finish_now(notify=notify)
            return
        if self.ending is None:
            self._winddown.notify(allowed=notify)
            self._winddown.begin(Goal.LEAVE)
            try:
                async with self._backend.move_on_at(self._backend.time() + _LEAVE_PATIENCE, shield=True):
                    while not self._is_over() and self._winddown.next_step(self._backend.time()) is Step.WRITE:
                        self._read_and_write()
                    while not self._is_over() and not self._channel.flush():
                        await transport.wait(read=False, write=True)
            finally:
                self.finish_now(notify=notify)
        await self.wait_closed()

    def _is_over(self) -> bool:
        return self.ending is not None  # An observer may have ended the connection meanwhile.

    async def wait_ended(self) -> None:
        """Wait until `ending` is set."""
        if self.ending is not None:
            if self._backend.is_current():
                await self._backend.checkpoint()
            return
        self.check_loop()
        if self._ended is None:
            self._ended = self._backend.event()
        await self._ended.wait()

    async def wait_closed(self) -> None:
        """Wait, after the end, until a transport that does not act at once is closed, too."""
        await self._channel.transport.wait_closed()

    # -- the wind-down -------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Do what the wind-down says, until it is over, or another task has ended the connection abruptly."""
        try:
            while self.ending is None:
                step = self._winddown.next_step(self._backend.time(), sending=self._sends.locked)
                if step is Step.RELEASE or (step is Step.FIN and await self._end_output()):
                    return
                if step is not Step.FIN:
                    await self._move(step)
        except BaseException:
            self._end_if_torn()
            raise

    async def _move(self, step: Step) -> None:
        """Wait as `step` says, and move what can be moved then."""
        if step is Step.READ:
            await self._backend.checkpoint()
        elif step is not Step.WRITE:
            async with self._backend.move_on_at(self._winddown.until):
                await self._wait(step)
        if self.ending is None:
            self._read_and_write()
        if not self._channel.transport.acts_at_once and self._backend.time() >= self._winddown.deadline:
            await self._look()

    async def _look(self) -> None:
        """Move what has arrived and what can leave by now, over a transport that needs turns of the loop for it."""
        for _ in range(CATCH_UPS):
            if self._is_over() or not await self._channel.transport.catch_up() or self._is_over():
                return
            self._read_and_write()

    async def _wait(self, step: Step) -> None:
        if step is Step.LINGER:
            await self._channel.transport.wait_readable(self._read_once)
            return
        # A sending task writes by itself. A close_notify that waits for the rest of a handshake message has nothing to
        # write yet.
        write = not self._sends.locked and self._engine.outgoing.head() is not None
        await self._channel.transport.wait(read=not self._winddown.input_done, write=write)

    def _read_once(self) -> bool:
        """Read what has just arrived, perhaps outside any task; tell whether there was anything."""
        room = self._winddown.room()
        if not room:
            return True
        count = self._channel.receive(room)
        if count is None:
            return False
        self._winddown.received(count)
        return True

    def _read_and_write(self) -> None:
        """Move what can be moved without waiting."""
        self._winddown.discard()  # What the wait has read came before what is read now: a FIN, perhaps.
        while (room := self._winddown.room()) and (count := self._channel.receive(room)) is not None:
            self._winddown.received(count)
            self._winddown.discard()
        while self._channel.flush() and self._winddown.write_more():
            pass

    def _go_without_waiting(self) -> None:
        """Do what the wind-down says, until it says that something is to be waited for, or that it is over."""
        try:
            while not self._is_over() and (step := self._winddown.next_step(self._backend.time())) in _AT_ONCE:
                if step is Step.FIN:
                    self._finish_output(sent=bool(self._channel.transport.send_fin()))
                else:
                    self._read_and_write()
        except BaseException:
            self._end_if_torn()
            raise

    def _end_if_torn(self) -> None:
        """End at once if the exception that is being handled has torn the connection."""
        if self._engine.torn:
            self.finish_now()

    async def _end_output(self) -> bool:
        """Send FIN, by the deadline; tell whether the transport has to be closed at once instead."""
        transport = self._channel.transport
        sent = transport.send_fin()
        if sent is None:
            async with self._backend.move_on_at(self._winddown.until) as scope:
                await transport.wait(read=self._winddown.room() > 0, write=True)
            if self.ending is None:
                self._read_and_write()
            if self.ending is not None or not scope.expired:
                return False  # The next step is FIN again.
        return self._finish_output(sent=bool(sent))

    def _finish_output(self, *, sent: bool) -> bool:
        """Record our FIN. If the transport has `sent` none, tell whether only closing it ends our direction."""
        if sent:
            self._engine.sent_fin()
            return False
        if self._engine.outbound in _UNNOTIFIED:
            self._engine.sent_fin(_FIN_BY_CLOSING)
            return True
        self._engine.skip_fin()
        return False

    def _release(self) -> None:
        """Close the descriptor, build the ending, and wake all waiting tasks."""
        if self.ending is None:
            transport = self._channel.transport
            if self._engine.fin_sent and self._engine.outbound is Outbound.CLOSE_NOTIFY_SENT:
                self._engine.sent_fin(_FIN_BY_CLOSING)  # It was skipped.
            self._winddown.release(counts_bytes=not is_unix(transport.sock))
            self._channel.give_up_lane()  # It was left, or could not be: it must not use a descriptor that is closed.
            deadline = self._winddown.deadline
            transport.close(deadline=deadline if deadline < math.inf else 0.0)
            self._end()

    def _end(self, *, unwrapped: bool = False) -> None:
        transport = self._channel.transport
        detail = "" if transport.acts_at_once else _GOES_ON if unwrapped else transport.lacks
        try:
            self._winddown.released(unwrapped=unwrapped, detail=detail)
        finally:  # An observer may raise even what it should not, a cancellation for example.
            self.ending = self._build_ending(unwrapped=unwrapped)
            self._channel.on_torn = None
            if self._ended is not None:
                self._ended.set()

    def _build_ending(self, *, unwrapped: bool = False) -> Ending:
        return self._winddown.build_ending(
            peer=self._channel.transport.peer, began=self._began, reason=self._reason, unwrapped=unwrapped
        )

    # -- errors --------------------------------------------------------------------------------------------------

    def with_ending(self, error: BowoutError) -> BowoutError:
        """Set the ending of `error`, as far as it is known, and return `error`."""
        error.ending = self.ending or self._build_ending()
        return error

    def check_staying(self) -> None:
        """Raise if we are ending the connection, or have ended it."""
        if self.inherited and self.ending is None:
            raise MisuseError(_INHERITED)
        if self.leaving:
            closed = StreamClosed("we closed this stream")
            closed.ending = self.ending  # While the peer may still answer, the verdict is unknown.
            raise closed
        if self.ending is not None:
            self.check_not_ended()

    def check_not_ended(self) -> None:
        """Raise if the connection has ended."""
        if self.ending is not None:
            failure = self._engine.failure if not self.leaving else None
            text = _TORN if self._engine.torn else "the stream was closed before the kernel had everything"
            raise self.with_ending(failure or StreamClosed(text))

    def check_loop(self) -> None:
        """Raise if the caller runs on another event loop than the stream's: it cannot wait for anything here."""
        if self.inherited:
            raise MisuseError(_INHERITED)
        if not self._backend.is_current():
            raise belongs_elsewhere(running=self._backend.is_running())

    def _check_thread(self, verb: str) -> None:
        if not self._backend.is_current() and self._backend.is_running():
            raise MisuseError(
                f"{verb} was called outside the thread of this stream's event loop, which is running: "
                "call it there, by asyncio's run_coroutine_threadsafe() or call_soon_threadsafe(), or trio.from_thread"
            )
