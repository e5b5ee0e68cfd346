"""The end of a connection, step by step: the driver's next step, with the time as an input.

A driver moves bytes, tells the time, and does what `WindDown.next_step` says; every decision is made here: what is sent
last, how much is read, how long, and when the end is reached. After `WindDown.begin`, it repeats until RELEASE:

1. Ask `next_step`, with the time, and do what it says: wait, send FIN, or neither.
2. Read what has arrived, `WindDown.room` bytes at most, into the engine; report the count to `WindDown.received`;
   repeat until there is no room or nothing has arrived.
3. Write: pass what `Engine.output` returns to the kernel, and repeat as long as `WindDown.write_more` makes more of it.

So a driver that could not run for a while, because its event loop was blocked or its process stopped, reads and writes
before it asks again: a deadline never discards what has already arrived, or what the kernel has room for.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Final, TypeVar

from bowout._core.states import INBOUND_SAID_ALL
from bowout.ending import EventKind, Inbound, Outbound, Side

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout._core.engine import Engine
    from bowout.ending import Ending

T = TypeVar("T")

#: Maximum bytes of one read, and bytes that are read before other tasks run.
READ_SIZE: Final = 1 << 18
SLICE: Final = 1 << 20
#: Maximum bytes that are read after the deadline, and bytes of a send in progress that are encrypted before `next_step`
#: is asked again: more than any socket buffer holds. A peer that sends as fast as we read, or reads as fast as we send,
#: must not keep us from ending.
LAST_LOOK: Final = 1 << 24
#: Limit, in bytes, of the answers (to key updates, for example) that wait for the kernel; above it, reading pauses. It
#: is more than a send ever queues: two peers that both send must not both stop reading.
OUTPUT_CAP: Final = 1 << 17
#: Interval, in seconds, at which a lingering close polls for unacknowledged bytes.
_POLL_INTERVAL: Final = 0.01
#: Time, in seconds, for the FIN of a peer that has sent close_notify, if the kernel cannot report unacknowledged bytes.
FIN_PATIENCE: Final = 0.5
#: Time, in seconds, for our fatal alert to be sent and read.
ALERT_PATIENCE: Final = 1.0

#: States in which a FIN tells the peer that something is missing, as it should.
_UNNOTIFIED: Final = frozenset({Outbound.HANDSHAKE, Outbound.OPEN})
#: States in which nothing can be sent any more.
_GONE: Final = frozenset({Outbound.LOST, Outbound.RESET})
#: States in which the kernel continues to deliver what it has taken after the descriptor is closed.
_DELIVERING: Final = frozenset({Outbound.CLOSE_NOTIFY_SENT, Outbound.FIN_SENT, Outbound.CUT})


class Step(enum.StrEnum):
    """The driver's next step."""

    #: Read and write, without waiting: there is something new to write.
    WRITE = "write"
    #: Read on, without waiting; a driver with other tasks lets them run first.
    READ = "read"
    #: Wait until something can be written or read, or until `WindDown.until`: a peer that writes before it reads must
    #: not block us.
    FLUSH = "flush"
    #: End our direction of the TCP connection, and report it with `Engine.sent_fin`.
    FIN = "FIN"
    #: Wait until something can be read, or until `WindDown.until`: unread input would make the kernel send RST, and
    #: that would destroy the last bytes we sent.
    LINGER = "linger"
    #: Close the descriptor; after `Goal.UNWRAP`, if the verdict is clean, hand it over instead.
    RELEASE = "release"


class Goal(enum.Enum):
    """The way in which a connection is to end."""

    #: Both directions, gracefully, and then TCP.
    CLOSE = enum.auto()
    #: Both directions of TLS, gracefully; the TCP connection stays open.
    UNWRAP = enum.auto()
    #: At once, and as gracefully as is possible without waiting.
    LEAVE = enum.auto()
    #: The connection has failed: wait until the peer can have read our fatal alert.
    SEE_ALERT_OFF = enum.auto()


def next_step(
    outbound: Outbound,
    inbound: Inbound,
    *,
    output_queued: bool,
    fin_sent: bool,
    fin_received: bool,
    all_arrived: bool,
) -> Step:
    """Return the next step after everything was sent, from the half-states alone.

    Args:
        outbound: our half-state.
        inbound: the peer's half-state.
        output_queued: whether the engine holds bytes that the kernel has not taken.
        fin_sent: whether our FIN was sent.
        fin_received: whether the peer's FIN or RST was read, so that nothing more can come.
        all_arrived: whether the peer's TCP has acknowledged everything that we sent.
    """
    if outbound in {Outbound.LOST, Outbound.RESET} or inbound is Inbound.RESET:
        return Step.RELEASE
    if output_queued:
        return Step.FLUSH
    if not fin_sent:
        return Step.FIN
    if fin_received:
        return Step.RELEASE
    # TLS has ended in both directions and the peer's kernel has every byte we sent: we need not wait for a peer that
    # keeps the TCP connection open, whether it sent close_notify, a fatal alert, or undecryptable bytes.
    if inbound in INBOUND_SAID_ALL and all_arrived:
        return Step.RELEASE
    return Step.LINGER


class WindDown:
    """The end of one connection.

    Args:
        engine: the connection's TLS.
        linger_bytes: maximum number of bytes that are read and discarded.
        scratch: memory for plaintext that is discarded.
        unacknowledged: returns the number of bytes that the peer's kernel has not acknowledged; None if our kernel
            cannot tell.

    Attributes:
        goal: the way in which the connection is to end.
        leaving: whether the application has called a verb that ends the connection.
        until: the latest time for a wait to end.
        late: called with the plaintext that arrives from now on; None: it is discarded.
    """

    __slots__ = (
        "_cap_hit",
        "_deadline",
        "_deadline_hit",
        "_engine",
        "_facts",
        "_halves",
        "_linger_bytes",
        "_look_ends",
        "_looked",
        "_may_notify",
        "_moved",
        "_notified",
        "_patience_ends",
        "_received",
        "_scratch",
        "_slice_ends",
        "_unacknowledged",
        "_unacknowledged_at_the_end",
        "_write_room",
        "goal",
        "late",
        "leaving",
        "until",
    )

    def __init__(
        self,
        engine: Engine,
        *,
        linger_bytes: int,
        scratch: memoryview,
        unacknowledged: Callable[[], int | None],
    ) -> None:
        self._engine = engine
        self._facts = engine.facts
        self._halves = engine.facts.halves
        self._linger_bytes = linger_bytes
        self._scratch = scratch
        self._unacknowledged = unacknowledged
        self._unacknowledged_at_the_end: int | None = None
        self._deadline_hit = False
        self._cap_hit = False
        self._look_ends: int | None = None
        self._may_notify = True
        self._notified = False
        self._patience_ends: float | None = None
        self._received = 0
        self.leaving: bool = False
        self.late: Callable[[bytes], object] | None = None
        self.begin(Goal.CLOSE)

    def leave(self, verb: str) -> None:
        """Record the `verb` with which the application ends the connection. From now on no new data are sent."""
        self.leaving = True
        self._engine.record_call(verb, leaving=True)

    def notify(self, *, allowed: bool) -> None:
        """Send close_notify if it is true and `allowed`. Once disallowed, it stays so."""
        self._may_notify = self._may_notify and allowed

    def begin(self, goal: Goal, *, deadline: float = math.inf) -> None:
        """Set the goal. It may change later, to `Goal.LEAVE` for example.

        Args:
            goal: the way in which the connection is to end.
            deadline: time at which the end must be reached, on the clock of `next_step`.
        """
        self.goal: Goal = goal
        self.until: float = deadline
        self._deadline = deadline
        self._looked = False
        self._moved = False
        self._begin_pass()

    def begin_close(self, now: float, deadline: float) -> None:
        """Set the goal of a graceful end; after a failed handshake, that is the peer's reading of our fatal alert."""
        if self._halves.outbound is Outbound.FATAL_ALERT and not self._engine.handshake_done:
            self.begin(Goal.SEE_ALERT_OFF, deadline=min(deadline, now + ALERT_PATIENCE))
        else:
            self.begin(Goal.CLOSE, deadline=deadline)

    def shorten_deadline(self, deadline: float) -> None:
        """Move the deadline to `deadline`, if that is earlier. A waiting driver has to ask `next_step` again."""
        self._deadline = min(self._deadline, deadline)

    @property
    def deadline(self) -> float:
        """Time at which the end must be reached; infinite if there is none."""
        return self._deadline

    # -- what the driver moves -----------------------------------------------------------------------------------

    @property
    def input_done(self) -> bool:
        """Whether nothing more will come, or the next bytes are for the caller of `unwrap`."""
        if self._facts.input_ended is not None:
            return True
        return self.goal is Goal.UNWRAP and self._halves.inbound is not Inbound.OPEN

    def room(self) -> int:
        """Return how many bytes to read now; 0: none, for the moment or for good."""
        if self.input_done:
            return 0
        left = self._linger_bytes - self._received
        if left <= 0:
            self._hit_cap()
            return 0
        return min(READ_SIZE, left, max(0, self._slice_ends - self._received))

    def received(self, count: int) -> None:
        """Record that the engine was given `count` bytes, 0 at its end. Call `discard` to free them soon."""
        self._received += count

    def discard(self) -> None:
        """Decrypt what the engine has, for `late` if it is set; otherwise discard it."""
        incoming = self._engine.incoming
        while incoming.has_news and (count := self._safely(self._discard_once)):
            if (late := self.late) is not None:
                self.late = None  # If it raises, it is not called again.
                incoming.count_discarded(-count)
                late(bytes(self._scratch[:count]))
                self.late = late

    def _discard_once(self) -> int | None:
        return self._engine.discard(self._scratch)

    def _safely(self, call: Callable[[], T]) -> T:
        """Run `call` of the engine; report an exception that interrupts it to `Engine.tear`."""
        try:
            return call()
        except BaseException as error:
            self._engine.tear(error)
            raise

    def write_more(self) -> bool:
        """Encrypt more of a send in progress; tell whether that made more output for the kernel."""
        if self._write_room <= 0 or not self._engine.outgoing.unencrypted:
            return False
        count = self._safely(self._engine.outgoing.write_more)
        self._write_room -= count
        return count > 0

    # -- what comes next -----------------------------------------------------------------------------------------

    def next_step(self, now: float, *, sending: bool = False) -> Step:
        """Return the next step, after reading and writing.

        Args:
            now: the time, in seconds, on a clock that never goes back.
            sending: whether the driver is in the middle of a send of the application, which must be finished first.
        """
        self.discard()  # Another task of the driver's may have received something, too.
        more_to_read = self._received >= self._slice_ends
        self.until = self._deadline
        step = self._step(now, sending=sending)
        if step is Step.FIN and self._moved:
            return step
        self._begin_pass()
        if not self._moved:
            self._moved = True  # What has arrived already, an RST for example, is read before anything is decided,
            return Step.WRITE  # and what is queued already is written before anything is waited for.
        if step not in {Step.FLUSH, Step.LINGER}:
            return step
        if more_to_read and not self._has_looked(now):
            return Step.READ
        if now >= self._deadline:
            self._hit_deadline()
            return Step.RELEASE
        return step

    def _has_looked(self, now: float) -> bool:
        """Tell whether all that had arrived by the deadline was read. What comes later must not delay the end."""
        if now < self._deadline:
            return False
        if self._look_ends is None:
            self._look_ends = self._received + LAST_LOOK
        return self._received >= self._look_ends

    def _begin_pass(self) -> None:
        self._slice_ends = self._received + SLICE
        self._write_room = LAST_LOOK

    def _step(self, now: float, *, sending: bool) -> Step:
        engine, halves = self._engine, self._halves
        if self._cap_hit:
            return self._give_up()
        if halves.outbound in _GONE or halves.inbound is Inbound.RESET:
            looked, self._looked = self._looked, True
            return Step.RELEASE if looked else Step.WRITE  # What had arrived by then may explain the end.
        if self.goal is Goal.SEE_ALERT_OFF:
            return self._see_alert_off(now)
        if self.goal is Goal.LEAVE or not engine.handshake_done:
            return self._leave_now()
        has_time = now < self._deadline or not self._moved
        if not self._notified and not (has_time and self._is_sending(sending=sending)):
            self._say_goodbye()
            if engine.outgoing.queue.size:
                return Step.WRITE
        if not self._notified or (engine.outgoing.unencrypted and self._is_sending()):
            return Step.FLUSH  # No FIN: if a deadline ends this, the peer must see that something is missing.
        return self._unwrap() if self.goal is Goal.UNWRAP else self._when_all_is_said(now)

    def _is_sending(self, *, sending: bool = False) -> bool:
        return sending or (bool(self._engine.outgoing.unencrypted) and self._halves.outbound is Outbound.OPEN)

    def _say_goodbye(self) -> None:
        self._notified = True
        if self._may_notify and self._engine.handshake_done:
            self._safely(self._engine.say_goodbye)

    def _leave_now(self) -> Step:
        engine = self._engine
        if not self._looked:
            self._looked = True
            if not engine.outgoing.unencrypted:
                self._say_goodbye()
            return Step.WRITE
        if not self._notified:
            self._say_goodbye()
            if engine.outgoing.queue.size:
                return Step.WRITE
        if not engine.fin_sent and (not engine.outgoing.queue.size or self._halves.outbound in _UNNOTIFIED):
            return Step.FIN
        return Step.RELEASE

    def _give_up(self) -> Step:
        """Stop reading; still send what is true."""
        engine = self._engine
        if not self._notified:
            self._say_goodbye()
            if engine.outgoing.queue.size:
                return Step.WRITE
        ended = engine.fin_sent or self._halves.outbound in _GONE
        if ended or self._is_sending() or engine.outgoing.size or self.goal is not Goal.CLOSE:
            # No FIN after a part of a send: closing the descriptor shows that something is missing.
            return Step.RELEASE
        return Step.FIN

    def _unwrap(self) -> Step:
        if self._engine.outgoing.size:
            return Step.FLUSH
        return Step.LINGER if self._halves.inbound is Inbound.OPEN else Step.RELEASE

    def _see_alert_off(self, now: float) -> Step:
        if self._engine.outgoing.size:
            return Step.FLUSH
        return self._when_all_is_said(now) if self._halves.outbound is Outbound.FATAL_ALERT else Step.RELEASE

    def _when_all_is_said(self, now: float) -> Step:
        engine, halves = self._engine, self._halves
        step = next_step(
            halves.outbound,
            halves.inbound,
            output_queued=engine.outgoing.size > 0,
            fin_sent=engine.fin_sent,
            fin_received=self._facts.input_ended is not None,
            all_arrived=self._all_arrived(now),
        )
        if step is Step.LINGER and halves.inbound in INBOUND_SAID_ALL:
            self.until = min(self.until, now + _POLL_INTERVAL)
        return step

    def _all_arrived(self, now: float) -> bool:
        if self._halves.inbound not in INBOUND_SAID_ALL or not self._engine.fin_sent or self._facts.input_ended:
            return False  # or it does not matter any more
        if self._halves.outbound is Outbound.FATAL_ALERT:
            # Our alert has arrived but may be unread: an RST in answer to what the peer still sends would destroy it.
            return self._patience_is_over(now, ALERT_PATIENCE)
        unacknowledged = self._unacknowledged()
        if unacknowledged is not None:
            return unacknowledged == 0
        return self._patience_is_over(now, FIN_PATIENCE)

    def _patience_is_over(self, now: float, seconds: float) -> bool:
        """Tell whether the peer has had `seconds` for its FIN, since the first call."""
        if self._patience_ends is None:
            self._patience_ends = now + seconds
        return now >= self._patience_ends

    def _hit_deadline(self) -> None:
        if self.goal is not Goal.SEE_ALERT_OFF and not self._deadline_hit:
            self._deadline_hit = True
            self._engine.timeline.record(EventKind.DEADLINE, Side.WE)

    def _hit_cap(self) -> None:
        if not self._cap_hit:
            self._cap_hit = True
            self._engine.timeline.record(EventKind.CAP, Side.WE)

    # -- the ending ----------------------------------------------------------------------------------------------

    @property
    def gave_up(self) -> bool:
        """Whether the deadline passed, or the cap was reached, before the end."""
        return self._deadline_hit or self._cap_hit

    def release(self, *, counts_bytes: bool = True) -> None:
        """Record what only the descriptor can tell, just before the driver closes it or hands it over.

        Args:
            counts_bytes: whether `unacknowledged` returns a number of bytes; otherwise only its 0 is meaningful.
        """
        if self._halves.outbound in _DELIVERING:
            count = self._unacknowledged()
            self._unacknowledged_at_the_end = count if counts_bytes or not count else None
        self._engine.outgoing.give_up()

    def released(self, *, unwrapped: bool = False, detail: str = "") -> None:
        """Record that the descriptor is closed, or, if `unwrapped`, handed over; `detail`: what else to say of it."""
        detail = detail or ("the TCP connection goes on" if unwrapped else "")
        self._engine.timeline.record(EventKind.RELEASED, Side.WE, detail)

    def build_ending(self, *, peer: str, began: float, reason: str, unwrapped: bool = False) -> Ending:
        """Build the `Ending` as far as it is known; this may be called before the end, too."""
        return self._engine.build_ending(
            peer=peer,
            began=began,
            reason=f"torn by {self._engine.torn}" if self._engine.torn else reason,
            deadline_hit=self._deadline_hit,
            cap_hit=self._cap_hit,
            unacknowledged=self._unacknowledged_at_the_end,
            unwrapped=unwrapped,
        )
