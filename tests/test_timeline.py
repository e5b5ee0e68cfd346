"""Events in order, runs of data folded, and a bound on it all."""

from __future__ import annotations

import dataclasses

import pytest

from bowout._core.timeline import Timeline
from bowout.ending import Alert, Event, EventKind, Side
from helpers.engines import Clock

KEPT = 64


def ticking() -> tuple[Timeline, Clock]:
    clock = Clock()
    clock.now = 100.0
    return Timeline(clock), clock


def runs(timeline: Timeline) -> list[tuple[Side, int, int, int]]:
    return [(e.by, e.sent, e.received, e.count) for e in timeline.events() if e.kind is EventKind.DATA]


def test_time_is_counted_from_the_beginning() -> None:
    timeline, clock = ticking()
    clock.now += 2.5
    assert timeline.now() == 2.5


def test_an_event_knows_when_it_was() -> None:
    timeline, clock = ticking()
    clock.now += 1.5
    assert timeline.record(EventKind.FIN, Side.PEER) == timeline.events()[0].at == 1.5


def test_an_event_keeps_its_detail_and_alert() -> None:
    timeline, _ = ticking()
    alert = Alert(code=40, level=2, by=Side.PEER)
    timeline.record(EventKind.ALERT, Side.PEER, "words", alert=alert)
    assert timeline.events() == (Event(EventKind.ALERT, Side.PEER, 0.0, "words", alert=alert),)


# -- runs of data ----------------------------------------------------------------------------------------------------


def test_reads_in_a_row_are_one_run() -> None:
    timeline, _ = ticking()
    timeline.data(received=3)
    timeline.data(received=4)
    assert runs(timeline) == [(Side.PEER, 0, 7, 2)]


def test_reads_of_the_same_moment_are_one_run() -> None:
    timeline, _ = ticking()
    timeline.data(received=3)
    timeline.more_data(4)
    assert (runs(timeline), timeline.received) == ([(Side.PEER, 0, 7, 2)], 7)


def test_what_came_between_two_reads_of_a_moment_stands_between_them() -> None:
    timeline, _ = ticking()
    timeline.data(received=3)
    timeline.record(EventKind.TICKET, Side.PEER)
    timeline.more_data(4)
    assert runs(timeline) == [(Side.PEER, 0, 3, 1), (Side.PEER, 0, 4, 1)]


def test_an_observer_hears_of_every_read_of_a_moment() -> None:
    heard: list[int] = []
    timeline = Timeline(Clock(), lambda event: heard.append(event.received))
    timeline.data(received=3)
    timeline.more_data(4)
    assert heard == [3, 4]


def test_a_run_lasts_until_its_last_byte() -> None:
    timeline, clock = ticking()
    timeline.data(sent=3)
    clock.now += 4
    timeline.data(sent=3)
    assert (timeline.events()[0].at, timeline.events()[0].until) == (0.0, 4.0)


def test_a_turn_begins_a_new_run() -> None:
    timeline, _ = ticking()
    timeline.data(sent=3)
    timeline.data(received=4)
    timeline.data(sent=5)
    assert runs(timeline) == [(Side.WE, 3, 0, 1), (Side.PEER, 0, 4, 1), (Side.WE, 5, 0, 1)]


def test_another_event_ends_a_run() -> None:
    timeline, _ = ticking()
    timeline.data(sent=3)
    timeline.record(EventKind.TICKET, Side.PEER)
    timeline.data(sent=5)
    kinds = [event.kind for event in timeline.events()]
    assert kinds == [EventKind.DATA, EventKind.TICKET, EventKind.DATA]


def test_a_long_exchange_folds_into_one_two_way_run() -> None:
    timeline, _ = ticking()
    for _ in range(50):
        timeline.data(sent=1)
        timeline.data(received=2)
    assert runs(timeline)[6:] == [(Side.WE, 47, 94, 94)]


def test_a_two_way_run_does_not_swallow_the_one_before_it() -> None:
    timeline, _ = ticking()
    for _ in range(5):
        timeline.data(received=2)
        timeline.data(sent=1)
    timeline.record(EventKind.FIN, Side.WE)
    assert runs(timeline)[5:] == [(Side.WE, 1, 0, 1), (Side.WE, 2, 4, 4)]


def test_after_another_event_runs_are_kept_apart_again() -> None:
    timeline, _ = ticking()
    for _ in range(50):
        timeline.data(sent=1)
        timeline.data(received=2)
    timeline.record(EventKind.TICKET, Side.PEER)
    timeline.data(received=1)
    timeline.data(sent=1)
    assert runs(timeline)[7:] == [(Side.PEER, 0, 1, 1), (Side.WE, 1, 0, 1)]


def test_all_bytes_are_counted_however_they_fold() -> None:
    timeline, _ = ticking()
    for _ in range(50):
        timeline.data(sent=1)
        timeline.data(received=2)
    assert (timeline.sent, timeline.received) == (50, 100)


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_a_flood_of_one_thing_is_one_event_with_a_count() -> None:
    timeline, clock = ticking()
    alert = Alert(90, 1, Side.PEER)
    for _ in range(1000):
        timeline.record(EventKind.ALERT, Side.PEER, "x", alert=alert)
        clock.now += 1
    (event,) = timeline.events()
    assert (event.count, event.at, event.until, event.alert) == (1000, 0.0, 999.0, alert)


@pytest.mark.parametrize(
    "other", [{"kind": EventKind.FIN}, {"by": Side.WE}, {"detail": "y"}, {"alert": Alert(0, 1, Side.WE)}]
)
def test_events_that_differ_are_kept_apart(other: dict[str, object]) -> None:
    timeline, _ = ticking()
    first = Event(EventKind.ALERT, Side.PEER, 0.0, "x")
    second = dataclasses.replace(first, **other)  # type: ignore[arg-type]
    for event in (first, second):
        timeline.record(event.kind, event.by, event.detail, alert=event.alert)
    assert timeline.events() == (first, second)


def test_a_flood_after_the_first_events_folds_too() -> None:
    timeline, _ = ticking()
    for number in range(30):
        timeline.record(EventKind.CALL, Side.WE, str(number))
    timeline.record(EventKind.CALL, Side.WE, "29")
    assert timeline.events()[-1].count == 2


def test_runs_of_data_that_meet_are_not_a_flood() -> None:
    timeline, _ = ticking()
    timeline.data(sent=1)
    timeline.data(received=1)
    timeline.data(received=1)
    assert len(timeline.events()) == 2


@pytest.mark.parametrize(("count", "omitted"), [(KEPT, 0), (KEPT + 1, 1), (1000, 1000 - KEPT)])
def test_a_long_life_keeps_its_first_and_last_events(count: int, omitted: int) -> None:
    timeline, _ = ticking()
    for number in range(count):
        timeline.record(EventKind.CALL, Side.WE, str(number))
    first = timeline.omitted_after
    details = [int(event.detail) for event in timeline.events()]
    assert details == [*range(first), *range(first + omitted, count)]


def test_what_is_left_out_is_counted() -> None:
    timeline, _ = ticking()
    for number in range(1000):
        timeline.record(EventKind.CALL, Side.WE, str(number))
    assert timeline.omitted == 1000 - len(timeline.events())


def test_a_short_life_leaves_nothing_out() -> None:
    timeline, _ = ticking()
    timeline.record(EventKind.FIN, Side.WE)
    assert timeline.omitted == 0


# -- observers -------------------------------------------------------------------------------------------------------


def test_an_observer_sees_each_event_unfolded() -> None:
    seen: list[Event] = []
    timeline = Timeline(Clock(), seen.append)
    timeline.data(sent=3)
    timeline.data(sent=4)
    timeline.record(EventKind.FIN, Side.PEER)
    timeline.record(EventKind.FIN, Side.PEER)
    assert [(e.kind, e.sent) for e in seen] == [
        (EventKind.DATA, 3),
        (EventKind.DATA, 4),
        (EventKind.FIN, 0),
        (EventKind.FIN, 0),
    ]


def test_an_observer_is_told_who_moved_the_data() -> None:
    seen: list[Event] = []
    timeline = Timeline(Clock(), seen.append)
    timeline.data(sent=3)
    timeline.data(received=3)
    assert [event.by for event in seen] == [Side.WE, Side.PEER]


def test_what_is_mentioned_is_not_kept() -> None:
    seen: list[Event] = []
    timeline = Timeline(Clock(), seen.append)
    timeline.mention(EventKind.HANDSHAKE_MESSAGE, Side.PEER, "Finished")
    assert ([event.detail for event in seen], timeline.events()) == (["Finished"], ())


def test_without_an_observer_a_mention_goes_nowhere() -> None:
    timeline, _ = ticking()
    timeline.mention(EventKind.HANDSHAKE_MESSAGE, Side.PEER, "Finished")
    assert timeline.events() == ()


def test_an_observer_may_come_later() -> None:
    seen: list[Event] = []
    timeline, _ = ticking()
    timeline.record(EventKind.CONNECTED, Side.WE)
    timeline.observe(seen.append)
    timeline.record(EventKind.FIN, Side.WE)
    assert [event.kind for event in seen] == [EventKind.FIN]


# -- data that the lane counts ---------------------------------------------------------------------------------------


def test_what_the_lane_counts_is_added_before_anything_else() -> None:
    timeline, clock = ticking()
    counts = [[(3, 0, 1, 2.0, 1.5, True), (0, 5, 2, 1.0, 0.5, False)]]
    clock.now += 10
    timeline.count_by(lambda: counts.pop() if counts else [])
    timeline.record(EventKind.FIN, Side.PEER)
    data = [(event.at, event.until) for event in timeline.events() if event.kind is EventKind.DATA]
    assert runs(timeline) == [(Side.WE, 3, 0, 1), (Side.PEER, 0, 5, 2)]
    assert data == [(8.0, 8.5), (9.0, 9.5)]
    assert (timeline.sent, timeline.received, timeline.quiet) == (3, 5, False)


def test_the_same_direction_goes_on_in_the_lane() -> None:
    timeline, _ = ticking()
    timeline.data(received=1)
    timeline.count_by(lambda: [(0, 5, 2, 0.0, 0.0, False)])
    timeline.count_by(None)
    assert runs(timeline) == [(Side.PEER, 0, 6, 3)]


def test_an_exchange_in_the_lane_continues_no_direction() -> None:
    """It begins with the direction that the run before it has not."""
    timeline, _ = ticking()
    one_way = [(0, 1, 1, 0.0, 0.0, False), (1, 0, 1, 0.0, 0.0, True)] * 3
    both = (8, 9, 4, 0.0, 0.0, True)
    timeline.count_by(lambda: [*one_way, both])
    timeline.count_by(lambda: [both])
    timeline.count_by(None)
    assert runs(timeline) == [(Side.PEER, 0, 1, 1), (Side.WE, 1, 0, 1)] * 3 + [(Side.WE, 16, 18, 8)]
