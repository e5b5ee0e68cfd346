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
            self.roster.established[Served(cast("Any", Idle()))] = None
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


class SlowCrowd(Crowd):
    """Two batches that do not leave. With a close, and with a cut if that is slow, the clock is `each` seconds on."""

    SOON = 2.0
    each = SOON / (6 * _drainer.BATCH)

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, slow_cuts: bool) -> None:
        super().__init__(monkeypatch, 2 * _drainer.BATCH, leaving=False)
        monkeypatch.setattr(_drainer, "_CUT_COST_CAP", self.SOON)
        time, move_on_at = self.backend.time, self.backend.move_on_at
        self.drainer.deadline = time() + self.SOON
        self.left: list[float] = []

        def now() -> float:
            return time() + self.each * (len(self.closed) + slow_cuts * len(self.cut))

        self.now = now
        monkeypatch.setattr(self.backend, "time", self.now)
        monkeypatch.setattr(self.backend, "move_on_at", lambda when: move_on_at(when - self.now() + time()))

    def _cut_off(self, served: Served, reason: str) -> None:
        self.left.append(self.drainer.deadline - self.now())
        super()._cut_off(served, reason)


def test_it_learns_what_ending_one_takes_here(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing them takes a third of the time: so cutting them off begins when there is more than a third left."""

    async def main() -> SlowCrowd:
        crowd = SlowCrowd(monkeypatch, slow_cuts=True)
        await crowd.drainer.run()
        return crowd

    crowd = run(main)
    assert len(crowd.left) == 2 * _drainer.BATCH
    assert crowd.left[0] > crowd.SOON / 3


def test_it_learns_that_cutting_them_off_takes_less(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cutting off the first batch takes no time: the second has nearly all that there is."""

    async def main() -> SlowCrowd:
        crowd = SlowCrowd(monkeypatch, slow_cuts=False)
        await crowd.drainer.run()
        return crowd

    crowd = run(main)
    assert crowd.left[0] > crowd.SOON / 3
    assert crowd.left[_drainer.BATCH] < crowd.SOON / 6


def test_nobody_is_closed_twice(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Crowd:
        crowd = Crowd(monkeypatch, 3, leaving=False)
        crowd.drainer.deadline = _backends.current().time() + 3 * _drainer.DRAIN_TICK
        await crowd.drainer.run()
        return crowd

    crowd = run(main)
    assert (len(crowd.closed), len(crowd.cut)) == (3, 3)
