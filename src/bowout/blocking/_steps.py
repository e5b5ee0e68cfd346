"""How every operation of a blocking connection advances: in steps that do not wait, and in waits between them.

The invariant of every loop: do what can be done without waiting, within the monitor; then wait outside it for exactly
one thing, and begin again. So threads do not block each other, an interrupted wait loses nothing, and a deadline never
discards what has already arrived.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from bowout._connection.channel import MIN_READ
from bowout._core.winddown import OUTPUT_CAP
from bowout.errors import MisuseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout._connection.channel import Channel
    from bowout.blocking._closer import BlockingCloser
    from bowout.blocking._limit import Limit
    from bowout.blocking._monitor import Monitor, Token, Turn
    from bowout.blocking._transport import PolledTransport

T = TypeVar("T")

#: Maximum number of reads, or of pieces that are sent, in one step: others may need the connection meanwhile.
MAX_PIECES: Final = 32


class Steps:
    """The steps and the waits of one connection, for its operations.

    Args:
        channel: moves the bytes.
        transport: the channel's transport.
        monitor: lets one thread at a time use the connection.
        closer: ends the connection.
        exact: whether no byte is read from the kernel after the current record.
    """

    __slots__ = ("_channel", "_closer", "_exact", "_monitor", "_transport")

    def __init__(
        self, channel: Channel, transport: PolledTransport, monitor: Monitor, closer: BlockingCloser, *, exact: bool
    ) -> None:
        self._channel = channel
        self._transport = transport
        self._monitor = monitor
        self._closer = closer
        self._exact = exact

    @property
    def generation(self) -> int:
        """What `wait` must be given: read it before the step whose result the wait depends on."""
        return self._monitor.generation

    def run(self, call: Callable[[], T]) -> T:
        """Run `call` within the monitor; an exception that interrupts it tears the connection (see `Engine.tear`)."""
        return self._closer.alone(partial(self._channel.safely, call))

    def wait(self, seen: int, limit: Limit, *, read: bool, write: bool) -> None:
        """Wait until the socket is readable or writable, or until a `Monitor.wake` since the generation `seen`.

        Raises:
            TimedOut: the time of `limit` is over.
        """
        limit.check(writing=write and not read)
        self._monitor.wait(seen, self._transport.fileno(), read=read, write=write, until=limit.ends)

    def take_turn(self, turn: Turn, token: Token, limit: Limit) -> None:
        """Wait until `turn` is free, and take it for `token`.

        Raises:
            MisuseError: a signal handler wants it, and interrupted its holder.
            TimedOut: the time of `limit` is over, and the peer took nothing from the holder either.
        """
        before = self._transport.sent
        while True:
            seen = self.generation
            if turn.take(token):
                return
            holder = turn.holder
            if holder is not None and holder.is_of_this_thread:
                raise MisuseError("this thread is doing the same already: a signal handler interrupted it")
            if self._transport.sent != before:
                before = self._transport.sent
                limit.restart()
            limit.check(writing=True)
            # Only the holder waits for the socket: it may be writable all the time.
            self._monitor.wait(seen, self._transport.fileno(), read=False, write=False, until=limit.ends)

    def give_back(self, turn: Turn, token: Token) -> None:
        """Give `turn` back, if `token` has it, and wake those that wait for it."""
        if turn.give_back(token):
            self._monitor.wake()

    def flush(self, limit: Limit) -> None:
        """Pass what waits for the kernel to it.

        Raises:
            TimedOut: the time of `limit` is over.
            BowoutError: the connection has ended.
        """
        while True:
            seen = self.generation
            self._closer.check_not_ended()
            if self.run(self._channel.flush):
                return
            self.wait(seen, limit, read=False, write=True)

    def wanted(self) -> int:
        """Return how many bytes to read from the kernel; 0 while too many answers wait for it."""
        engine = self._channel.engine
        if engine.outgoing.size > OUTPUT_CAP:
            return 0
        return engine.incoming.queue.wanted if self._exact else MIN_READ

    def wake(self) -> None:
        """End every wait."""
        self._monitor.wake()
