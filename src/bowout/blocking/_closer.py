"""The driver of the wind-down for blocking code: it moves bytes, waits and tells the time; `_core` decides."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from bowout._backends import forks
from bowout._backends.sockets import is_unix
from bowout._connection.channel import shared_scratch
from bowout._core.records import MAX_PLAINTEXT
from bowout._core.winddown import ALERT_PATIENCE, Goal, Step, WindDown
from bowout.ending import How, Inbound
from bowout.errors import BowoutError, NoCloseNotify, PeerClosed, StreamClosed, TimedOut, Truncated

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout._connection.channel import Channel
    from bowout.blocking._monitor import Monitor, Turn
    from bowout.blocking._transport import PolledTransport
    from bowout.ending import Ending

T = TypeVar("T")

#: Reason for every later operation after `Engine.tear`.
_TORN: Final = "the stream was ended: an exception had interrupted it between two of its steps"


class BlockingCloser:
    """Ends a connection, and keeps its `Ending`.

    Every step is done within the monitor, and every wait outside; so any number of threads may end the connection, and
    each carries it to its end.

    Args:
        channel: moves the bytes.
        transport: the channel's transport.
        monitor: lets one thread at a time use the connection.
        sends: the right of the sending thread.
        linger_bytes: maximum number of bytes that a close reads and discards.
        exact: whether nothing after the peer's close_notify may be read.

    Attributes:
        leaving: whether a verb was called that ends the connection: then nothing new is received or sent.
        ending: how it ended; None until the descriptor is closed.
        on_ending: called with `ending`, once.
        unread: data that the application may still read. They are discarded, or given to `late`, when we leave.
    """

    __slots__ = (
        "_began",
        "_begun",
        "_channel",
        "_engine",
        "_exact",
        "_linger_bytes",
        "_monitor",
        "_reason",
        "_sends",
        "_transport",
        "ending",
        "leaving",
        "on_ending",
        "unread",
    )

    def __init__(
        self,
        channel: Channel,
        transport: PolledTransport,
        monitor: Monitor,
        sends: Turn,
        *,
        linger_bytes: int,
        exact: bool,
    ) -> None:
        self._channel = channel
        self._engine = channel.engine
        self._transport = transport
        self._monitor = monitor
        self._sends = sends
        self._linger_bytes = linger_bytes
        self._exact = exact
        self._begun: WindDown | None = None
        self._began = time.time()
        self._reason = ""
        channel.on_torn = self._finish
        self.leaving: bool = False
        self.ending: Ending | None = None
        self.on_ending: Callable[[Ending], object] | None = None
        self.unread: bytearray = bytearray()

    def alone(self, call: Callable[[], T]) -> T:
        """Run `call` within the monitor; end at once if an exception has torn the connection."""
        return self._monitor.run(partial(self._safely, call))

    def _safely(self, call: Callable[[], T]) -> T:
        # The memory is the thread's, and another thread may have used the channel since.
        self._channel.ciphertext, self._channel.scratch = shared_scratch()
        try:
            return call()
        except BaseException:
            if self._engine.torn:
                self._finish()
            raise

    @property
    def _winddown(self) -> WindDown:
        """The wind-down, made at first use: connections that are open do without its memory."""
        if self._begun is None:
            self._begun = WindDown(
                self._engine,
                linger_bytes=self._linger_bytes,
                scratch=memoryview(bytearray(MAX_PLAINTEXT)),
                unacknowledged=self._transport.unacknowledged,
            )
        return self._begun

    def note_reason(self, reason: str) -> None:
        """Record `reason` for the ending; the first one counts."""
        self._reason = self._reason or reason

    # -- the ways to end -----------------------------------------------------------------------------------------

    def close(self, verb: str, deadline: float, *, notify: bool, late: Callable[[bytes], object] | None = None) -> None:
        """End both directions by `deadline`. In every case the descriptor is then closed and `ending` is set.

        `late` gets what is unread, and what still arrives.
        """
        if self.alone(partial(self._leave_to_parent, verb)):
            return
        try:
            self.alone(partial(self._begin_close, verb, deadline, notify=notify, late=late))
            self._run()
            self.alone(self._release)
        except BaseException as error:
            by = "cut short by" if isinstance(error, Exception) else "interrupted by"
            self.note_reason(f"the close was {by} {type(error).__name__}")
            self.finish_now(notify=notify)
            raise

    def _begin_close(self, verb: str, deadline: float, *, notify: bool, late: Callable[[bytes], object] | None) -> None:
        if self.ending is not None:
            return
        self._winddown.notify(allowed=notify)
        if self.leaving and self._winddown.goal is Goal.CLOSE:
            self._winddown.shorten_deadline(deadline)
        else:
            if not self.leaving:
                unread = bytes(self.unread)
                self._leave(verb)
                if late is not None and unread:
                    self._engine.incoming.count_discarded(-len(unread))
                    late(unread)
            self._winddown.late = late
            self._winddown.begin(Goal.CLOSE, deadline=deadline)
        self._monitor.wake()

    def unwrap(self, deadline: float, *, wait: bool = True) -> bytes:
        """End TLS in both directions by `deadline`; the socket stays open. Return the bytes that followed TLS.

        Args:
            deadline: time at which the connection is closed instead.
            wait: whether to wait; without it, TimedOut is raised instead, and the next call goes on.
        """
        try:
            self.alone(partial(self._begin_unwrap, deadline))
            self._run(wait=wait)
            return self.alone(self._end_unwrap)
        except TimedOut:
            raise
        except BaseException:
            self.finish_now(notify=True)
            raise

    def _begin_unwrap(self, deadline: float) -> None:
        if not (self.leaving and self.ending is None and self._winddown.goal is Goal.UNWRAP):
            self.check_staying()
            self._leave("unwrap()")
            self._winddown.begin(Goal.UNWRAP, deadline=deadline)

    def _end_unwrap(self) -> bytes:
        if self.ending is not None or self._winddown.goal is not Goal.UNWRAP:
            raise self.with_ending(StreamClosed("the stream was ended while unwrap() waited"))
        if self._engine.verdict() is not How.CLEAN:
            self._release()
            raise self.with_ending(self._why_not_unwrapped())
        leftover = self._engine.incoming.leftover()
        self._winddown.release()
        self._end(unwrapped=True)
        return leftover

    def _why_not_unwrapped(self) -> BowoutError:
        if self._winddown.gave_up:
            return NoCloseNotify("the peer did not end TLS with its close_notify in time")
        if self._engine.inbound is Inbound.CLOSE_NOTIFY:
            return PeerClosed("the peer ended TLS before all that we sent had left")
        return self._engine.failure or Truncated("the peer left without close_notify", inside_record=False)

    def leave_at_once(self, verb: str, *, notify: bool) -> None:
        """End without waiting."""
        if self.ending is not None:
            self._monitor.close()  # An exception may have interrupted the end after the ending was built.
        elif not self.alone(partial(self._leave_to_parent, verb)):
            self.note_reason(verb)
            try:
                if not self.leaving:
                    self.alone(partial(self._leave, verb))
            finally:
                self.finish_now(notify=notify)

    def abort(self) -> None:
        """End at once with an RST."""
        self.alone(self._abort)

    def _abort(self) -> None:
        if self.ending is None and not self._leave_to_parent("abort()"):
            try:
                self._leave("abort()")
                self._engine.sent_rst()
            finally:
                self._transport.reset()
                self._release()

    def drop(self) -> None:
        """Close the descriptor of a connection that was forgotten: the peer sees no close_notify."""
        self._channel.on_torn = None
        self._transport.drop()
        self._monitor.close()

    def _leave_to_parent(self, verb: str) -> bool:
        """In a forked child that has not used the connection, close its copy of the descriptor; tell whether it was so.

        A child that has received or sent something has taken the connection over: it ends it as any process does.
        """
        since, timeline = forks.seconds_since(), self._engine.timeline
        if self.ending is not None or since == math.inf or timeline.now() - timeline.events()[-1].until < since:
            return False
        self.note_reason(f"{verb} in a forked child: the connection stays its parent's")
        self._leave(verb)
        self._winddown.release(counts_bytes=not is_unix(self._transport.sock))
        self._transport.leave_to_parent()
        self._end()
        return True

    def see_alert_off(self) -> None:
        """Wait for a moment, so that the peer can read our fatal alert."""
        self.alone(lambda: self._winddown.begin(Goal.SEE_ALERT_OFF, deadline=time.monotonic() + ALERT_PATIENCE))
        self._run()

    def finish_now(self, *, notify: bool = False) -> None:
        """End as gracefully as is possible without waiting, and close the descriptor."""
        self.alone(partial(self._finish, notify=notify))

    def _leave(self, verb: str) -> None:
        """Receive and send nothing new from now on, and wake every waiting thread."""
        self.leaving = True
        if self.ending is None:  # What came before the peer's error stays readable.
            self._engine.incoming.count_discarded(len(self.unread))
            self.unread.clear()
        self._winddown.leave(verb)
        self._monitor.wake()

    # -- the wind-down -------------------------------------------------------------------------------------------

    def _run(self, *, wait: bool = True) -> None:
        """Do what the wind-down says, until it is over, or another thread has ended the connection.

        Raises:
            TimedOut: there is something to wait for, and `wait` is False.
        """
        while True:
            seen = self._monitor.generation
            step = self.alone(self._next_step)
            if step is Step.RELEASE:
                return
            if step is Step.FIN:
                self.alone(self._send_fin)
                continue
            if step in {Step.FLUSH, Step.LINGER}:
                if not wait:
                    raise TimedOut("TLS has not ended yet", writing=step is Step.FLUSH)
                self._wait(step, seen)
            self.alone(self._read_and_write)

    def _wait(self, step: Step, seen: int) -> None:
        # A sending thread writes by itself. A close_notify that waits for the rest of a handshake message has nothing
        # to write yet.
        write = step is Step.FLUSH and not self._is_sending() and self._engine.outgoing.head() is not None
        read = not self._winddown.input_done
        self._monitor.wait(seen, self._transport.fileno(), read=read, write=write, until=self._winddown.until)

    def _is_sending(self) -> bool:
        """Tell whether another thread sends. If it is this one, a signal handler interrupted it: it cannot go on."""
        holder = self._sends.holder
        return holder is not None and not holder.is_of_this_thread

    def _next_step(self) -> Step:
        if self.ending is not None:
            return Step.RELEASE
        return self._winddown.next_step(time.monotonic(), sending=self._is_sending())

    def _read_and_write(self) -> None:
        """Move what can be moved without waiting."""
        if self.ending is not None:
            return
        while (room := self._room()) and (count := self._channel.receive(room)) is not None:
            self._winddown.received(count)
            self._winddown.discard()
        while self._channel.flush() and self._winddown.write_more():
            pass

    def _room(self) -> int:
        room = self._winddown.room()
        if self._exact and self._winddown.goal is Goal.UNWRAP:
            return min(room, self._engine.incoming.queue.wanted)
        return room

    def _send_fin(self) -> None:
        if self.ending is None:
            self._transport.send_fin()
            self._engine.sent_fin()

    def _finish(self, *, notify: bool = False) -> None:
        """End as gracefully as is possible without waiting, within the monitor."""
        if self.ending is not None:
            self._monitor.close()  # As in `leave_at_once`.
            return
        if self._leave_to_parent("left"):
            return
        try:
            self._channel.on_torn = None  # Another exception that interrupts this ends it, too.
            self._winddown.notify(allowed=notify)
            self._winddown.begin(Goal.LEAVE)
            # Without a descriptor, an exception has interrupted the release: all is said.
            while self._transport.fileno() >= 0 and (step := self._next_step()) is not Step.RELEASE:
                if step is Step.FIN:
                    self._send_fin()
                else:
                    self._read_and_write()
        finally:
            self._release()

    def _release(self) -> None:
        """Close the descriptor, build the ending, and wake all waiting threads."""
        if self.ending is None:
            self._winddown.release(counts_bytes=not is_unix(self._transport.sock))
            self._transport.close()
            self._end()

    def _end(self, *, unwrapped: bool = False) -> None:
        try:
            self._winddown.released(unwrapped=unwrapped)
        finally:  # An observer may raise even what it should not, an exit for example.
            self.ending = self._build_ending(unwrapped=unwrapped)
            self._channel.on_torn = None
            self._monitor.close()
        if self.on_ending is not None:
            self.on_ending(self.ending)

    def _build_ending(self, *, unwrapped: bool = False) -> Ending:
        return self._winddown.build_ending(
            peer=self._transport.peer, began=self._began, reason=self._reason, unwrapped=unwrapped
        )

    # -- errors --------------------------------------------------------------------------------------------------

    def with_ending(self, error: BowoutError) -> BowoutError:
        """Set the ending of `error`, as far as it is known, and return `error`."""
        error.ending = self.ending or self._build_ending()
        return error

    def check_staying(self) -> None:
        """Raise if we are ending the connection, or have ended it."""
        if self.leaving:
            closed = StreamClosed("we closed this stream")
            closed.ending = self.ending  # While the peer may still answer, the verdict is unknown.
            raise closed
        self.check_not_ended()

    def check_not_ended(self) -> None:
        """Raise if the connection has ended."""
        if self.ending is not None:
            failure = self._engine.failure if not self.leaving else None
            text = _TORN if self._engine.torn else "the stream was closed before the kernel had everything"
            raise self.with_ending(failure or StreamClosed(text))
