"""Ending every connection of a server by a deadline."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bowout._backends import Backend
    from bowout._roster import Roster, Served

#: What a drain does with a connection whose handler waits for a new request.
OnDrain = Literal["close", "end_receive", "wait"]

#: How often a drain looks for connections that have become idle, in seconds.
DRAIN_TICK: Final = 0.05
#: So many turns of the loop after a moment, what had arrived by then has been read, and its connection is busy.
_SETTLE: Final = 4
#: In a drain, a connection that has not asked anything yet gets so long for it since its handshake, in seconds.
_FIRST_REQUEST: Final = 0.5
#: One of which nothing at all has come gets so long, since the drain began: a first packet that is lost comes again
#: after a second (RFC 6298 section 2).
_FIRST_BYTE: Final = 2.0
#: One that is new then gets so long for its handshake; and for its close, if it has never asked anything.
_NEWCOMER: Final = 5.0
#: So many connections are ended before the loop goes round: else it looks at the clock when thousands have had a turn.
BATCH: Final = 64
#: What cutting off one connection takes, in seconds, for the last of them is to be gone at the deadline: at least, as
#: long as nobody knows what ending one takes here and now; and at most, whatever else keeps the loop busy.
_CUT_COST: Final = 0.0002
_CUT_COST_CAP: Final = 0.001
#: What is learned of it is what a few took.
_MARGIN: Final = 1.5
#: After the deadline of a drain, handlers that are being cancelled get so long to clean up, in seconds.
_LAST_PATIENCE: Final = 1.0


async def settle(backend: Backend) -> None:
    """Let every task go on that something has arrived for, the loop having been blocked perhaps."""
    for _ in range(_SETTLE):
        await backend.checkpoint()


class Drainer:
    """Carries out a drain.

    Args:
        close: has a connection closed, beside its handler.
        cut_off: ends a connection without waiting, and cancels its handler.

    Attributes:
        deadline: when everything is to have ended, on the loop's clock; it may come nearer while the drain goes on.
    """

    def __init__(
        self,
        backend: Backend,
        roster: Roster,
        on_drain: OnDrain,
        *,
        close: Callable[[Served], None],
        cut_off: Callable[[Served, str], None],
    ) -> None:
        self._backend = backend
        self._roster = roster
        self._on_drain = on_drain
        self._close = close
        self._cut_off = cut_off
        self.deadline: float = math.inf
        self._began = math.inf
        self._cut_cost = _CUT_COST

    async def run(self) -> None:
        """End everybody. Handlers that go on after the deadline are waited for a little, and then no more."""
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
            else:  # A last look: what has arrived may be all that was waited for.
                looked = True
                await settle(self._backend)
        patience_ends = self._backend.time() + _LAST_PATIENCE
        while len(self._roster) and self._backend.time() < patience_ends:
            await self._wait(patience_ends)

    def _uncut(self) -> Iterator[Served]:
        return (served for served in self._roster.everybody() if not served.slow)

    def _time_to_cut(self) -> float:
        return self.deadline - len(self._roster) * self._cut_cost * _MARGIN

    def _is_time_to_cut(self) -> bool:
        return self._backend.time() >= self._time_to_cut()

    async def _wait(self, until: float) -> None:
        """Wait until everybody is gone, or the drain is hurried."""
        deadline = self.deadline
        async with self._backend.move_on_at(until):
            while len(self._roster) and self.deadline == deadline:
                await self._roster.wait_for_change()

    async def _end_idle_ones(self) -> None:
        ended, since = 0, self._backend.time()
        for served in list(self._roster.established):
            if served.closer is None and served in self._roster.established and self._is_idle(served):
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
        """Take note of what ending one took just now, with all that the loop did meanwhile: so much a cut may take."""
        self._cut_cost = min(max(cost, _CUT_COST), _CUT_COST_CAP)

    def _is_idle(self, served: Served) -> bool:
        """Its handler waits for a request, and there is no reason to think that one is on its way."""
        if not (served.stream.idle and served.stream.silent):
            return served.stream.idle
        # Who has just connected has done so to ask something.
        return self._has_had_its_chance(served)

    def _has_had_its_chance(self, served: Served) -> bool:
        """It could have asked something by now."""
        return self._backend.time() >= served.since + _FIRST_REQUEST

    def _end_silent_newcomers(self) -> None:
        """Let nobody hold the drain who has said nothing, at whatever stage."""
        since_began = self._backend.time() - self._began
        for served in list(self._roster.shaking):
            if since_began >= (_FIRST_BYTE if served.stream.unheard else _NEWCOMER):
                self._turn_away(served)
        for served in list(self._roster.waiting):
            if served.closer is None and self._has_had_its_chance(served) and self._is_silent(served):
                self._close(served)
        if since_began >= _NEWCOMER:
            for served in [*self._roster.waiting, *self._roster.established]:
                if served.closer is not None and served.stream.silent and self._is_new(served):
                    self._turn_away(served)

    def _is_silent(self, served: Served) -> bool:
        served.stream.look()  # Nobody has received on it yet.
        return served.stream.silent

    def _is_new(self, served: Served) -> bool:
        """It had not had its chance yet when the drain began."""
        return served.since + _FIRST_REQUEST > self._began

    def _turn_away(self, served: Served) -> None:
        if served.stream.ending is None:
            self._cut_off(served, "the drain did not wait for it any longer")

    def _end_idle(self, served: Served) -> None:
        if self._on_drain == "close":
            self._close(served)
        elif self._on_drain == "end_receive":
            served.stream.end_receive()

    async def _cut_some_off(self) -> None:
        """Cut off a batch, and learn what that takes: the others may have more time than was thought."""
        began, batch = self._backend.time(), list(islice(self._uncut(), BATCH))
        for served in batch:
            served.slow = True
            self._cut_off(served, "the drain's deadline")
        await self._backend.checkpoint()
        self._learn_cost((self._backend.time() - began) / len(batch))
