"""PendingSend on a blocking connection: whole messages, one after the other, and the end of our direction."""

from __future__ import annotations

import enum
from functools import partial
from typing import TYPE_CHECKING, Final

from bowout._connection.channel import MIN_READ
from bowout._core.records import MAX_PLAINTEXT
from bowout.blocking._monitor import Token, Turn
from bowout.blocking._steps import MAX_PIECES
from bowout.ending import Outbound
from bowout.errors import BowoutError, MisuseError, SendInterrupted, StreamClosed, TimedOut, Truncated

if TYPE_CHECKING:
    from bowout._connection.channel import Channel
    from bowout.blocking._closer import BlockingCloser
    from bowout.blocking._limit import Limit
    from bowout.blocking._steps import Steps

#: States in which our direction cannot be used again.
DEAD: Final = frozenset({Outbound.LOST, Outbound.FATAL_ALERT, Outbound.RESET})
_NOTHING: Final = memoryview(b"")


class Progress(enum.Enum):
    """How far a step of a send has come."""

    #: The kernel has all of it.
    DONE = enum.auto()
    #: The kernel must take something first.
    BLOCKED = enum.auto()
    #: OpenSSL must read the rest of a handshake message first.
    HELD_UP = enum.auto()


class PendingSend:
    """One send.

    Attributes:
        data: what is to be sent.
        count: number of its bytes.
        begun: whether some of it was encrypted.
    """

    __slots__ = ("begun", "count", "data")

    def __init__(self, data: memoryview) -> None:
        self.data: memoryview = data
        self.count: int = len(data)
        self.begun: bool = False


class BlockingSender:
    """Our direction of a connection.

    Args:
        steps: the connection's steps and waits.
        channel: moves the bytes.
        closer: ends the connection.
        turn: the right of the sending thread.

    Attributes:
        turn: the same.
    """

    __slots__ = ("_channel", "_closer", "_engine", "_steps", "_unfinished", "turn")

    def __init__(self, steps: Steps, channel: Channel, closer: BlockingCloser, turn: Turn) -> None:
        self._steps = steps
        self._channel = channel
        self._engine = channel.engine
        self._closer = closer
        self._unfinished: PendingSend | None = None
        self.turn: Turn = turn

    def send(self, view: memoryview, limit: Limit) -> None:
        """Encrypt all of `view` and pass it to the kernel, after the earlier sends."""
        token = Token()
        try:
            self._steps.take_turn(self.turn, token, limit)
            self._send_all(PendingSend(view), limit)
        finally:
            self._end_send(token)

    def write(self, view: memoryview, limit: Limit) -> int:
        """Encrypt the first bytes of `view`, one record at most, and pass them to the kernel; return their number.

        After TimedOut the caller may try again with the same bytes, as with OpenSSL's ``SSL_write``. If it ends the
        connection instead, the message counts as interrupted.

        Raises:
            ValueError: the caller tried again with fewer bytes.
        """
        token = Token()
        try:
            self._steps.take_turn(self.turn, token, limit)
            sending = self._resumed(view)
            try:
                self._send_all(sending, limit)
            except TimedOut:
                if sending.begun:
                    sending.data = _NOTHING  # It was encrypted; and the caller's memory is its own.
                    self._unfinished = sending
                    self._engine.outgoing.interrupted = True
                raise
            return sending.count
        finally:
            self._end_send(token)

    def _resumed(self, view: memoryview) -> PendingSend:
        sending, self._unfinished = self._unfinished, None
        if sending is None:
            return PendingSend(view[:MAX_PLAINTEXT])
        self._engine.outgoing.interrupted = False
        if len(view) < sending.count:
            self._unfinished, self._engine.outgoing.interrupted = sending, True
            raise ValueError(f"an earlier send of {sending.count} bytes was not complete: try it again first")
        return sending

    def _end_send(self, token: Token) -> None:
        if self.turn.holder is token:
            try:
                self._steps.run(self._engine.outgoing.interrupt)
            finally:
                self._steps.give_back(self.turn, token)

    def _send_all(self, sending: PendingSend, limit: Limit) -> None:
        outgoing = self._engine.outgoing
        before = None
        try:
            while True:
                seen = self._steps.generation
                progress = self._steps.run(partial(self._send_some, sending))
                if progress is Progress.DONE:
                    return
                now = outgoing.size, len(outgoing.unencrypted)
                if now != before:
                    before = now
                    limit.restart()
                held_up = progress is Progress.HELD_UP
                self._steps.wait(seen, limit, read=held_up, write=not held_up)
                if held_up:
                    self._steps.run(self._receive_other_half)
        except (StreamClosed, TimedOut, MisuseError):
            raise
        except BowoutError as error:
            raise self._closer.with_ending(error)  # noqa: B904  (it is the same error)

    def _send_some(self, sending: PendingSend) -> Progress:
        """Send without waiting, as much as possible."""
        outgoing = self._engine.outgoing
        self._check_sending(sending)
        for _ in range(MAX_PIECES):
            if not self._channel.flush():
                return Progress.BLOCKED
            rest = outgoing.unencrypted if sending.begun else sending.data
            if not rest:
                if self._engine.outbound is Outbound.LOST:
                    raise outgoing.why_not_writable()
                return Progress.DONE
            if not outgoing.write(rest):
                self._channel.send_held_up = True
                return Progress.HELD_UP
            sending.begun = True
        return Progress.BLOCKED

    def _check_sending(self, sending: PendingSend) -> None:
        outgoing = self._engine.outgoing
        if not sending.begun:
            self._closer.check_staying()
            if outgoing.interrupted and self._engine.outbound is Outbound.OPEN:
                raise SendInterrupted("an earlier send or message() was interrupted: later data would be garbled")
            return
        whole = not (outgoing.interrupted or outgoing.unencrypted or outgoing.size)
        if not whole or self._engine.outbound in DEAD:
            self._closer.check_not_ended()

    def _receive_other_half(self) -> None:
        """Receive the rest of the handshake message of which OpenSSL has one half, so that it writes again."""
        self._closer.check_not_ended()
        if self._engine.input_ended:
            raise self._engine.failure or Truncated("the peer left within a handshake message", inside_record=False)
        self._channel.receive(self._steps.wanted() or MIN_READ)
        self._engine.incoming.hold()

    def check_whole(self) -> None:
        """Raise if close_notify would be false, after half a message."""
        if self._engine.outgoing.interrupted:
            raise SendInterrupted("a send or message() was interrupted: close_notify would mark it as complete")
        if self._engine.outgoing.amid_message:
            raise MisuseError("a message() is in progress: close_notify would mark it as complete")

    def send_eof(self, limit: Limit) -> None:
        """Queue our close_notify after the earlier sends, and pass it to the kernel."""
        token = Token()
        try:
            self._steps.take_turn(self.turn, token, limit)
            self._steps.run(self._queue_eof)
            self._steps.flush(limit)
            if self._engine.outbound in DEAD:
                raise self._closer.with_ending(self._engine.outgoing.why_not_writable())
        finally:
            self._steps.give_back(self.turn, token)

    def _queue_eof(self) -> None:
        self._closer.check_staying()
        if self._engine.outbound is Outbound.OPEN:
            self.check_whole()
            self._engine.record_call("send_eof()", leaving=False)
            self._engine.queue_close_notify()
