"""Every interleaving of two peers: none hangs, none lies. `helpers.exploration` says what is modelled."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import pytest

from bowout._core import states, winddown
from bowout._core.states import Halves, Signal, verdict
from bowout._core.winddown import Step, next_step
from bowout.ending import How, Inbound, Outbound
from helpers.exploration import Exploration, Symbol, Violation, World

if TYPE_CHECKING:
    from collections.abc import Callable

#: What is walked, and how many worlds at least there are in it: a model that lost its events would have fewer.
WALKS: Final[dict[str, tuple[dict[str, Any], int]]] = {
    "gentle, 1.3": ({"gentle": True, "records": (2, 2)}, 9_000),
    "gentle, 1.2": ({"gentle": True, "records": (2, 2), "tls12": True}, 9_000),
    "gentle, wider": ({"gentle": True, "records": (2, 2), "capacity": 2}, 30_000),
    "data after close_notify": ({"gentle": True, "offence": Symbol.LATE}, 7_000),
    "everything, 1.3": ({}, 64_000),
    "everything, 1.2": ({"tls12": True}, 60_000),
    "a bad record, 1.3": ({"offence": Symbol.BAD, "records": (1, 0)}, 50_000),
    "a bad record, 1.2": ({"offence": Symbol.BAD, "records": (0, 1), "tls12": True}, 50_000),
    "an RST destroys what is unread": ({"purge": True}, 60_000),
}


@functools.cache
def _walked(walk: str) -> tuple[int, set[frozenset[How]]]:
    """The number of worlds, and the pairs of verdicts."""
    exploration = Exploration(**WALKS[walk][0])
    return exploration.run(), exploration.hows


@pytest.mark.parametrize("walk", WALKS)
def test_no_reachable_world_hangs_or_lies(walk: str) -> None:
    worlds, _ = _walked(walk)
    print(f"{walk}: {worlds:,} worlds")
    assert worlds >= WALKS[walk][1]


@pytest.mark.parametrize("walk", ["gentle, 1.3", "gentle, 1.2", "gentle, wider", "data after close_notify"])
def test_two_graceful_closes_are_clean_on_both_sides_in_every_order(walk: str) -> None:
    assert _walked(walk)[1] == {frozenset({How.CLEAN})}


def test_every_verdict_on_an_established_connection_is_reached() -> None:
    assert set().union(*_walked("a bad record, 1.3")[1]) == set(How) - {How.FAILED_HANDSHAKE}


def test_a_deadline_ends_a_close_wherever_it_strikes() -> None:
    exploration = Exploration()
    seen, todo, struck = {exploration.start}, [exploration.start], 0
    while todo and struck < 1_000:
        world = todo.pop()
        after = dict(exploration.events(world))
        struck += sum(name in after for name in ("a: deadline", "b: deadline"))
        assert _closing(world.a) == ("a: deadline" in after)
        assert "a: deadline" not in after or after["a: deadline"].a.ended
        todo += [new for new in after.values() if new not in seen]
        seen |= set(after.values())
    assert struck >= 1_000


def _closing(peer: Any) -> bool:
    return peer.leaving and not peer.ended


# -- it can fail -----------------------------------------------------------------------------------------------------


def _no_linger(outbound: Outbound, inbound: Inbound, **facts: bool) -> Step:
    step = next_step(outbound, inbound, **facts)
    return Step.RELEASE if step is Step.LINGER else step


def _no_flush(outbound: Outbound, inbound: Inbound, **facts: bool) -> Step:
    return next_step(outbound, inbound, **{**facts, "output_queued": False})


def _no_fin(outbound: Outbound, inbound: Inbound, **facts: bool) -> Step:
    step = next_step(outbound, inbound, **facts)
    return Step.LINGER if step is Step.FIN else step


def _no_release(outbound: Outbound, inbound: Inbound, **facts: bool) -> Step:
    step = next_step(outbound, inbound, **facts)
    return Step.LINGER if step is Step.RELEASE else step


def _arrived_or_not(outbound: Outbound, inbound: Inbound, **facts: bool) -> Step:
    return next_step(outbound, inbound, **{**facts, "all_arrived": True})


@pytest.mark.parametrize(
    ("wrong", "arguments", "found"),
    [
        (_no_linger, {"gentle": True}, "an RST, though both closed gracefully"),
        (_no_flush, {"gentle": True}, "aborted"),
        (_no_fin, {"gentle": True}, "a close waits"),
        (_no_release, {"gentle": True}, "a close waits"),
        (_arrived_or_not, {"gentle": True, "offence": Symbol.LATE}, "reset|lost"),
    ],
)
def test_a_wrong_next_step_is_found(
    monkeypatch: pytest.MonkeyPatch, wrong: Callable[..., Step], arguments: dict[str, Any], found: str
) -> None:
    monkeypatch.setattr(winddown, "next_step", wrong)
    with pytest.raises(Violation, match=found):
        Exploration(**arguments).run()


def _fin_is_clean(halves: Halves, **facts: bool) -> How:
    how = verdict(halves, **facts)
    return How.CLEAN if how is How.TRUNCATED else how


def _unanswered_is_clean(halves: Halves, **facts: bool) -> How:
    how = verdict(halves, **facts)
    return How.CLEAN if how is How.UNANSWERED else how


def _queued_is_sent(halves: Halves, **facts: bool) -> How:
    if halves.outbound is Outbound.CLOSE_NOTIFY_QUEUED and halves.inbound is Inbound.CLOSE_NOTIFY:
        return How.CLEAN
    return verdict(halves, **facts)


def _abort_comes_first(halves: Halves, **facts: bool) -> How:
    return How.ABORTED if halves.outbound is Outbound.RESET else verdict(halves, **facts)


def _abort_after_the_exchange_is_clean(halves: Halves, **facts: bool) -> How:
    exchanged = halves.close_notify_sent and halves.inbound is Inbound.CLOSE_NOTIFY
    return How.CLEAN if exchanged else verdict(halves, **facts)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (_fin_is_clean, "a FIN without close_notify is called clean"),
        (_unanswered_is_clean, "clean, but close_notify received: False"),
        (_queued_is_sent, "clean, but close_notify received: True, sent: False"),
        (_abort_comes_first, "was told TRUNCATED, but the ending says aborted"),
        (_abort_after_the_exchange_is_clean, "clean, but"),
    ],
)
def test_a_wrong_verdict_is_found(wrong: Callable[..., How], found: str) -> None:
    with pytest.raises(Violation, match=found):
        Exploration(verdict=wrong).run()


@pytest.mark.parametrize(
    ("table", "state", "signal", "wrong", "found"),
    [
        ("INBOUND", Inbound.OPEN, Signal.FIN_AT_BOUNDARY, Inbound.CLOSE_NOTIFY, "called clean"),
        ("INBOUND", Inbound.CLOSE_NOTIFY, Signal.FIN_AT_BOUNDARY, Inbound.TRUNCATED_AT_BOUNDARY, "was not the end"),
        ("OUTBOUND", Outbound.CLOSE_NOTIFY_SENT, Signal.LOSE, Outbound.OPEN, "went back"),
        ("OUTBOUND", Outbound.CLOSE_NOTIFY_SENT, Signal.QUEUE_CLOSE_NOTIFY, Outbound.CLOSE_NOTIFY_QUEUED, "went back"),
        (
            "OUTBOUND",
            Outbound.CLOSE_NOTIFY_QUEUED,
            Signal.SEND_FATAL_ALERT,
            Outbound.FATAL_ALERT,
            "follows a close_notify",
        ),
        ("OUTBOUND", Outbound.LOST, Signal.SEND_RST, Outbound.RESET, "was told RESET, but the ending says aborted"),
    ],
)
def test_a_wrong_move_in_the_table_is_found(
    monkeypatch: pytest.MonkeyPatch, table: str, state: Any, signal: Signal, wrong: Any, found: str
) -> None:
    right = getattr(states, table)
    monkeypatch.setattr(states, table, {**right, state: {**right[state], signal: wrong}})
    with pytest.raises(Violation, match=found):
        Exploration(offence=Symbol.BAD, records=(1, 0)).run()


def test_a_violation_tells_the_way_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winddown, "next_step", _no_flush)
    with pytest.raises(Violation, match=r"a: close\(\)\n"):
        Exploration(gentle=True).run()


def test_mirroring_a_world_twice_gives_it_back() -> None:
    world = World(Exploration().start.a, Exploration().start.b._replace(leaving=True), (Symbol.DATA,), ())
    assert world.mirrored().mirrored() == world != world.mirrored()
