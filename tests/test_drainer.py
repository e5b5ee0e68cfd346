"""`Drainer`: ending thousands at once, and still looking at the clock in between."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bowout import _backends, _drainer
from bowout._drainer import Drainer
from bowout._roster import Roster, Served
from helpers.runners import Runner

#: A deadline that a drain here reaches only when something is wrong.
FAR = 20.0


class Idle:
    """A stream whose handler waits for its next request."""

    idle = True
    silent = False


class Crowd:
    """So many idle connections, and what a drainer did with them: how many were ended when it let others run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int, *, leaving: bool = True) -> None:
        self.backend = backend = _backends.current()
        checkpoint = backend.checkpoint

        async def counted() -> None:
            self.at_checkpoints.append(len(self.closed) + len(self.cut))
            await checkpoint()

        monkeypatch.setattr(backend, "checkpoint", counted)
        self.closed: list[Served] = []
        self.cut: list[Served] = []
        self.at_checkpoints: list[int] = []
        self.leaving = leaving
        self.roster = Roster(backend)
        for _ in range(count):
            self.roster.established[Served(cast("Any", Idle()), late=False)] = None
        self.drainer = Drainer(backend, self.roster, "close", close=self._close, cut_off=self._cut_off)
        self.drainer.deadline = backend.time() + FAR

    def _close(self, served: Served) -> None:
        self.closed.append(served)
        served.closer = cast("Any", object())
        if self.leaving:
            self.roster.remove(served)

    def _cut_off(self, served: Served, reason: str) -> None:
        assert reason == "the drain's deadline"
        self.cut.append(served)
        self.roster.remove(served)

    def largest_step(self) -> int:
        return max(after - before for before, after in zip(self.at_checkpoints, self.at_checkpoints[1:], strict=False))


def test_it_lets_the_loop_go_round_between_small_parts_of_a_crowd(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Crowd:
        crowd = Crowd(monkeypatch, 3 * _drainer.BATCH)
        await crowd.drainer.run()
        return crowd

    crowd = run(main)
    assert (len(crowd.closed), crowd.largest_step()) == (3 * _drainer.BATCH, _drainer.BATCH)


def test_it_does_so_when_it_cuts_them_off(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Crowd:
        crowd = Crowd(monkeypatch, 3 * _drainer.BATCH)
        crowd.drainer.deadline = 0
        await crowd.drainer.run()
        return crowd

    crowd = run(main)
    assert (crowd.closed, len(crowd.cut), crowd.largest_step()) == ([], 3 * _drainer.BATCH, _drainer.BATCH)
    assert all(served.slow for served in crowd.cut)


def test_it_keeps_the_time_that_cutting_off_the_rest_takes(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten that do not leave, and cutting off each takes a tenth of the time: the deadline is not waited for."""

    async def main() -> tuple[Crowd, float]:
        crowd = Crowd(monkeypatch, 10, leaving=False)
        await crowd.drainer.run()
        return crowd, crowd.drainer.deadline - _backends.current().time()

    monkeypatch.setattr(_drainer, "_CUT_COST", FAR / 10)
    crowd, left = run(main)
    assert len(crowd.cut) == 10
    assert left > 0


def test_it_learns_what_ending_one_takes_here(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing the first batch takes a third of the time: so cutting off both would take two thirds."""
    soon = 1.0
    each = soon / (3 * _drainer.BATCH)

    async def main() -> tuple[Crowd, float]:
        crowd = Crowd(monkeypatch, 2 * _drainer.BATCH, leaving=False)
        time = crowd.backend.time
        crowd.drainer.deadline = time() + soon
        monkeypatch.setattr(crowd.backend, "time", lambda: time() + each * min(len(crowd.closed), _drainer.BATCH))
        await crowd.drainer.run()
        return crowd, crowd.drainer.deadline - crowd.backend.time()

    monkeypatch.setattr(_drainer, "_CUT_COST_CAP", soon)
    crowd, left = run(main)
    assert len(crowd.cut) == 2 * _drainer.BATCH
    assert left > 0


def test_nobody_is_closed_twice(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Crowd:
        crowd = Crowd(monkeypatch, 3, leaving=False)
        crowd.drainer.deadline = _backends.current().time() + 3 * _drainer.DRAIN_TICK
        await crowd.drainer.run()
        return crowd

    crowd = run(main)
    assert (len(crowd.closed), len(crowd.cut)) == (3, 3)
