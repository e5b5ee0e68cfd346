"""Ending every connection of a server by a deadline."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bowout._backends import Backend
    from bowout._server.connections import Connections, ServedConnection

#: What a drain does with a connection whose handler waits for a new request.
OnDrain = Literal["close", "end_receive", "wait"]

#: Interval, in seconds, at which a drain looks for connections that have become idle.
DRAIN_TICK: Final = 0.05
#: Loop iterations to wait before judging idleness: requests that have arrived are read by then, and their connections
#: are busy.
_SETTLE: Final = 4
#: Time, in seconds after the handshake, that a drain gives a connection for its first request.
_FIRST_REQUEST: Final = 0.5
#: Time, in seconds after the drain began, that it gives a connection for its first byte: a lost first packet is sent
#: again after a second (RFC 6298 section 2).
_FIRST_BYTE: Final = 2.0
#: Time, in seconds, that a drain gives a new connection for its handshake; and for its close, if it has never sent a
#: request.
NEWCOMER: Final = 5.0
#: Connections that are ended before other tasks run: without this the clock would be read only after thousands of them.
BATCH: Final = 64
#: Minimum, and initial estimate, of the time to cut off one connection, in seconds; the last one must be gone at the
#: deadline. The second constant is the maximum, whatever else keeps the loop busy.
CUT_COST: Final = 0.0002
CUT_COST_CAP: Final = 0.001
#: Factor for the measured cost, which was measured on a few connections only.
_MARGIN: Final = 1.5
#: Time, in seconds after the deadline of a drain, for cancelled handlers to clean up.
LAST_PATIENCE: Final = 1.0


async def settle(backend: Backend) -> None:
    """Let every task continue for which something has arrived, even if the loop was blocked."""
    for _ in range(_SETTLE):
        await backend.checkpoint()


class Drain:
    """Carries out a drain.

    Args:
        close: begins to close a connection, concurrently with its handler; called again if the handler does not leave.
        cut_off: ends a connection without waiting, and cancels its handler.

    Attributes:
        deadline: time by which everything must have ended, on the loop's clock; it may become earlier during the drain.
    """

    def __init__(
        self,
        backend: Backend,
        connections: Connections,
        on_drain: OnDrain,
        *,
        close: Callable[[ServedConnection], None],
        cut_off: Callable[[ServedConnection, str], None],
    ) -> None:
        self._backend = backend
        self._connections = connections
        self._on_drain = on_drain
        self._close = close
        self._cut_off = cut_off
        self.deadline: float = math.inf
        self._began = math.inf
        self._cut_cost = CUT_COST

    async def run(self) -> None:
        """End all connections. Handlers that continue after the deadline are waited for only a little longer."""
        self._began = self._backend.time()
        await settle(self._backend)
        looked = False
        while any(self._uncut()):
            if not self._is_time_to_cut():
                await self._end_idle_ones()
                self._end_silent_newcomers()
                await self._wait(min(self._backend.time() + DRAIN_TICK, self._time_to_cut()))
            elif looked:
                await self._cut_some_off()
            else:  # A last look: the awaited bytes may have arrived.
                looked = True
                await settle(self._backend)
        patience_ends = self._backend.time() + LAST_PATIENCE
        while len(self._connections) and self._backend.time() < patience_ends:
            await self._wait(patience_ends)

    def _uncut(self) -> Iterator[ServedConnection]:
        return (served for served in self._connections.all() if not served.slow)

    def _time_to_cut(self) -> float:
        return self.deadline - len(self._connections) * self._cut_cost * _MARGIN

    def _is_time_to_cut(self) -> bool:
        return self._backend.time() >= self._time_to_cut()

    async def _wait(self, until: float) -> None:
        """Wait until all connections are gone, or the deadline is shortened."""
        deadline = self.deadline
        async with self._backend.move_on_at(until):
            while len(self._connections) and self.deadline == deadline:
                await self._connections.wait_for_change()

    async def _end_idle_ones(self) -> None:
        ended, since = 0, self._backend.time()
        for served in list(self._connections.established):
            if served in self._connections.established and self._is_to_be_ended(served):
                self._end_idle(served)
                ended += 1
                if ended % BATCH == 0:
                    await self._backend.checkpoint()
                    now = self._backend.time()
                    self._learn_cost((now - since) / BATCH)
                    since = now
                    if self._is_time_to_cut():
                        return

    def _learn_cost(self, cost: float) -> None:
        """Record the measured time of ending one connection, other work of the loop included, as the cost of a cut."""
        self._cut_cost = min(max(cost, CUT_COST), CUT_COST_CAP)

    def _is_to_be_ended(self, served: ServedConnection) -> bool:
        """Tell whether it is idle, or its handler has not left its block although its close has begun."""
        if served.closing:
            return served.closer is None and served.stream.unattended
        return self._is_idle(served)

    def _is_idle(self, served: ServedConnection) -> bool:
        """Tell whether its handler waits for a request, and no request is to be expected soon."""
        if not (served.stream.idle and served.stream.silent):
            return served.stream.idle
        # A client that has just connected is about to send a request.
        return self._has_had_its_chance(served)

    def _has_had_its_chance(self, served: ServedConnection) -> bool:
        """Tell whether it has had time to send a request."""
        return self._backend.time() >= served.since + _FIRST_REQUEST

    def _end_silent_newcomers(self) -> None:
        """End the new connections that have sent nothing, at any stage, so that they do not delay the drain."""
        since_began = self._backend.time() - self._began
        for served in list(self._connections.handshaking):
            if since_began >= (_FIRST_BYTE if served.stream.unheard else NEWCOMER):
                self._turn_away(served)
        for served in list(self._connections.waiting):
            if not served.closing and self._has_had_its_chance(served) and self._is_silent(served):
                self._close(served)
        if since_began >= NEWCOMER:
            for served in [*self._connections.waiting, *self._connections.established]:
                if served.closing and served.stream.silent and self._is_new(served):
                    self._turn_away(served)

    def _is_silent(self, served: ServedConnection) -> bool:
        served.stream.look()  # No task has received on it yet.
        return served.stream.silent

    def _is_new(self, served: ServedConnection) -> bool:
        """Tell whether it still had time for its first request when the drain began."""
        return served.since + _FIRST_REQUEST > self._began

    def _turn_away(self, served: ServedConnection) -> None:
        if served.stream.ending is None:
            self._cut_off(served, "the drain did not wait for it any longer")

    def _end_idle(self, served: ServedConnection) -> None:
        if self._on_drain == "close":
            self._close(served)
        elif self._on_drain == "end_receive":
            served.stream.end_receive()

    async def _cut_some_off(self) -> None:
        """Cut off a batch, and measure the cost: the others may have more time than estimated."""
        began, batch = self._backend.time(), list(islice(self._uncut(), BATCH))
        for served in batch:
            served.slow = True
            self._cut_off(served, "the drain's deadline")
        await self._backend.checkpoint()
        self._learn_cost((self._backend.time() - began) / len(batch))
