"""`Drain`: ending thousands at once, and still looking at the clock in between."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bowout import _backends
from bowout._server import drain
from bowout._server.connections import Connections, ServedConnection
from bowout._server.drain import Drain
from helpers.runners import Runner

#: A deadline that a drain here reaches only when something is wrong.
FAR = 20.0


class Idle:
    """A stream whose handler waits for its next request."""

    idle = True
    silent = False


class Crowd:
    """So many idle connections, and what a drain_run did with them: how many were ended when it let others run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int, *, leaving: bool = True) -> None:
        self.backend = backend = _backends.current()
        checkpoint = backend.checkpoint

        async def counted() -> None:
            self.at_checkpoints.append(len(self.closed) + len(self.cut))
            await checkpoint()

        monkeypatch.setattr(backend, "checkpoint", counted)
        self.closed: list[ServedConnection] = []
        self.cut: list[ServedConnection] = []
        self.at_checkpoints: list[int] = []
        self.leaving = leaving
        self.connections = Connections(backend)
        for _ in range(count):
            self.connections.established[ServedConnection(cast("Any", Idle()))] = None
        self.drain_run = Drain(backend, self.connections, "close", close=self._close, cut_off=self._cut_off)
        self.drain_run.deadline = backend.time() + FAR

    def _close(self, served: ServedConnection) -> None:
        self.closed.append(served)
        served.closing = True
        served.closer = cast("Any", object())
        if self.leaving:
            self.connections.remove(served)

    def _cut_off(self, served: ServedConnection, reason: str) -> None:
        assert reason == "the drain's deadline"
        self.cut.append(served)
        self.connections.remove(served)

    def largest_step(self) -> int:
        return max(after - before for before, after in zip(self.at_checkpoints, self.at_checkpoints[1:], strict=False))


def test_it_lets_the_loop_go_round_between_small_parts_of_a_crowd(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Crowd:
        crowd = Crowd(monkeypatch, 3 * drain.BATCH)
        await crowd.drain_run.run()
        return crowd

    crowd = run(main)
    assert (len(crowd.closed), crowd.largest_step()) == (3 * drain.BATCH, drain.BATCH)


def test_it_does_so_when_it_cuts_them_off(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Crowd:
        crowd = Crowd(monkeypatch, 3 * drain.BATCH)
        crowd.drain_run.deadline = 0
        await crowd.drain_run.run()
        return crowd

    crowd = run(main)
    assert (crowd.closed, len(crowd.cut), crowd.largest_step()) == ([], 3 * drain.BATCH, drain.BATCH)
    assert all(served.slow for served in crowd.cut)


def test_it_keeps_the_time_that_cutting_off_the_rest_takes(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten that do not leave, and cutting off each takes a tenth of the time: the deadline is not waited for."""

    async def main() -> tuple[Crowd, float]:
        crowd = Crowd(monkeypatch, 10, leaving=False)
        await crowd.drain_run.run()
        return crowd, crowd.drain_run.deadline - _backends.current().time()

    monkeypatch.setattr(drain, "CUT_COST", FAR / 10)
    crowd, left = run(main)
    assert len(crowd.cut) == 10
    assert left > 0


class SlowCrowd(Crowd):
    """Two batches that do not leave. With a close, and with a cut if that is slow, the clock is `each` seconds on."""

    SOON = 2.0
    each = SOON / (6 * drain.BATCH)

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, slow_cuts: bool) -> None:
        super().__init__(monkeypatch, 2 * drain.BATCH, leaving=False)
        monkeypatch.setattr(drain, "CUT_COST_CAP", self.SOON)
        time, move_on_at = self.backend.time, self.backend.move_on_at
        self.drain_run.deadline = time() + self.SOON
        self.left: list[float] = []

        def now() -> float:
            return time() + self.each * (len(self.closed) + slow_cuts * len(self.cut))

        self.now = now
        monkeypatch.setattr(self.backend, "time", self.now)
        monkeypatch.setattr(self.backend, "move_on_at", lambda when: move_on_at(when - self.now() + time()))

    def _cut_off(self, served: ServedConnection, reason: str) -> None:
        self.left.append(self.drain_run.deadline - self.now())
        super()._cut_off(served, reason)


def test_it_learns_what_ending_one_takes_here(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing them takes a third of the time: so cutting them off begins when there is more than a third left."""

    async def main() -> SlowCrowd:
        crowd = SlowCrowd(monkeypatch, slow_cuts=True)
        await crowd.drain_run.run()
        return crowd

    crowd = run(main)
    assert len(crowd.left) == 2 * drain.BATCH
    assert crowd.left[0] > crowd.SOON / 3


def test_it_learns_that_cutting_them_off_takes_less(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cutting off the first batch takes no time: the second has nearly all that there is."""

    async def main() -> SlowCrowd:
        crowd = SlowCrowd(monkeypatch, slow_cuts=False)
        await crowd.drain_run.run()
        return crowd

    crowd = run(main)
    assert crowd.left[0] > crowd.SOON / 3
    assert crowd.left[drain.BATCH] < crowd.SOON / 6


def test_nobody_is_closed_twice(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Crowd:
        crowd = Crowd(monkeypatch, 3, leaving=False)
        crowd.drain_run.deadline = _backends.current().time() + 3 * drain.DRAIN_TICK
        await crowd.drain_run.run()
        return crowd

    crowd = run(main)
    assert (len(crowd.closed), len(crowd.cut)) == (3, 3)


class Newcomer:
    """A stream that has just connected."""

    def __init__(self, *, idle: bool = True, silent: bool = True, unheard: bool = False, asks: bool = False) -> None:
        self.idle = idle
        self.silent = silent
        self.unheard = unheard
        self.asks = asks
        self.ending: str | None = None

    def look(self) -> None:
        self.silent = self.silent and not self.asks


class Arrivals(Crowd):
    """Connections at every stage, on a clock that stands still but for waiting, which takes no time."""

    BEGAN = 1000.0

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, on_drain: drain.OnDrain = "close") -> None:
        super().__init__(monkeypatch, 0, leaving=False)
        self.drain_run = Drain(self.backend, self.connections, on_drain, close=self._close, cut_off=self._cut_off)
        self.drain_run.deadline = self.BEGAN + FAR
        self.now = self.BEGAN
        self.ends: dict[ServedConnection, float] = {}
        self.reasons: list[str] = []
        time, move_on_at = self.backend.time, self.backend.move_on_at

        def wait_until(when: float) -> Any:
            self.now = max(self.now, when)
            return move_on_at(time())

        monkeypatch.setattr(self.backend, "time", lambda: self.now)
        monkeypatch.setattr(self.backend, "move_on_at", wait_until)

    def add(self, stage: dict[ServedConnection, None], stream: Newcomer, since: float = 0.0) -> ServedConnection:
        served = ServedConnection(cast("Any", stream))
        served.since = self.BEGAN + since
        stage[served] = None
        return served

    def _close(self, served: ServedConnection) -> None:
        self.ends.setdefault(served, round(self.now - self.BEGAN, 1))
        super()._close(served)

    def _cut_off(self, served: ServedConnection, reason: str) -> None:
        self.reasons.append(reason)
        self.ends[served] = round(self.now - self.BEGAN, 1)
        cast("Any", served.stream).ending = reason
        self.cut.append(served)
        self.connections.remove(served)

    async def run(self) -> Arrivals:
        await self.drain_run.run()
        return self


def test_who_says_nothing_at_all_has_two_seconds(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Arrivals:
        crowd = Arrivals(monkeypatch)
        crowd.add(crowd.connections.handshaking, Newcomer(unheard=True))
        return await crowd.run()

    crowd = run(main)
    assert list(crowd.ends.values()) == [2.0]
    assert crowd.reasons == ["the drain did not wait for it any longer"]
    assert not crowd.cut[0].slow


def test_who_stops_in_the_handshake_has_five(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Arrivals:
        crowd = Arrivals(monkeypatch)
        crowd.add(crowd.connections.handshaking, Newcomer())
        return await crowd.run()

    assert list(run(main).ends.values()) == [5.0]


@pytest.mark.parametrize("stage", ["waiting", "established"])
@pytest.mark.parametrize("since", [-0.4, 0.0, 3.0])
def test_who_asks_nothing_is_closed_and_that_is_waited_for_a_while(
    run: Runner, monkeypatch: pytest.MonkeyPatch, stage: str, since: float
) -> None:
    """With a handler or waiting for room; its handshake was done just before the drain, or in it."""

    async def main() -> tuple[Arrivals, float]:
        crowd = Arrivals(monkeypatch)
        closed: list[float] = []
        close = crowd._close

        def noted(served: ServedConnection) -> None:
            closed.append(crowd.now - crowd.BEGAN)
            close(served)

        monkeypatch.setattr(crowd.drain_run, "_close", noted)
        crowd.add(getattr(crowd.connections, stage), Newcomer(), since)
        await crowd.run()
        [at] = closed
        return crowd, at

    crowd, closed_at = run(main)
    assert max(0, since + 0.5) <= closed_at <= since + 0.5 + 2 * drain.DRAIN_TICK
    assert list(crowd.ends.values()) == [5.0]


def test_whose_request_has_come_waits_for_room_as_long_as_it_takes(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> Arrivals:
        crowd = Arrivals(monkeypatch)
        crowd.add(crowd.connections.waiting, Newcomer(asks=True))
        return await crowd.run()

    crowd = run(main)
    assert (crowd.closed, crowd.reasons) == ([], ["the drain's deadline"])


def test_a_handler_that_is_busy_with_a_silent_client_goes_on(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Arrivals:
        crowd = Arrivals(monkeypatch)
        crowd.add(crowd.connections.established, Newcomer(idle=False))
        return await crowd.run()

    crowd = run(main)
    assert (crowd.closed, crowd.reasons) == ([], ["the drain's deadline"])


def test_the_close_of_one_that_was_there_before_keeps_its_time(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Arrivals:
        crowd = Arrivals(monkeypatch)
        crowd.add(crowd.connections.established, Newcomer(), since=-60.0)
        return await crowd.run()

    crowd = run(main)
    assert (len(crowd.closed), crowd.reasons) == (1, ["the drain's deadline"])


def test_told_to_wait_it_waits_for_handlers_but_for_no_handshake(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Arrivals:
        crowd = Arrivals(monkeypatch, on_drain="wait")
        crowd.add(crowd.connections.established, Newcomer())
        crowd.add(crowd.connections.handshaking, Newcomer())
        return await crowd.run()

    crowd = run(main)
    assert crowd.closed == []
    assert crowd.reasons == ["the drain did not wait for it any longer", "the drain's deadline"]
