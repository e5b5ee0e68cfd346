"""The limits that keep a fleet polite."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowout.fleet import Endpoint, Limits
from bowout.fleet._limits import Schedule, TokenBucket


def test_a_bucket_gives_at_its_rate() -> None:
    bucket = TokenBucket(10)
    assert bucket.wait(0.0) == 0
    bucket.spend(1)
    assert round(bucket.wait(0.0), 9) == 0.1
    assert round(bucket.wait(0.04), 9) == 0.06
    assert bucket.wait(100.0) == 0
    bucket.spend(1)  # It does not pile up more than one.
    assert round(bucket.wait(100.0), 9) == 0.1


def test_what_is_spent_at_once_is_waited_for_and_what_is_not_used_comes_back() -> None:
    bucket = TokenBucket(10)
    assert bucket.wait(0.0) == 0
    bucket.spend(8)
    assert round(bucket.wait(0.0), 9) == 0.8
    bucket.spend(-7)
    assert round(bucket.wait(0.0), 9) == 0.1
    bucket.spend(-100)
    bucket.spend(1)
    assert round(bucket.wait(0.0), 9) == 0.1


@given(st.lists(st.tuples(st.integers(0, 8), st.floats(0, 1)), min_size=1, max_size=40), st.integers(1, 100))
def test_no_more_connections_are_made_than_the_rate_allows(checks: list[tuple[int, float]], rate: int) -> None:
    bucket = TokenBucket(rate)
    now, made = 0.0, 0
    for connections, later in checks:
        now += bucket.wait(now)
        assert made <= rate * now + 1e-6
        bucket.spend(8)
        made += 8
        now += later
        bucket.wait(now)
        bucket.spend(connections - 8)
        made += connections - 8


@pytest.mark.parametrize(("name", "value"), [("rate", 0), ("rate", float("inf")), ("per_host", 0), ("at_once", -1)])
def test_a_limit_is_a_number_above_zero(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=60),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 8),
    st.randoms(use_true_random=False),
)
def test_a_schedule_keeps_every_limit_and_loses_no_endpoint(
    targets: list[tuple[int, int]], per_host: int, per_network: int, at_once: int, random: object
) -> None:
    schedule = Schedule(Limits(per_host=per_host, per_network=per_network, at_once=at_once))
    endpoints = [
        Endpoint("h", 1, None, number, f"10.0.{net}.{host}", f"10.0.{net}.0/24")
        for number, (net, host) in enumerate(targets)
    ]
    for endpoint in endpoints:
        schedule.add(endpoint)
    running: list[Endpoint] = []
    done: list[int] = []
    while len(done) < len(endpoints):
        while (endpoint := schedule.begin()) is not None:  # type: ignore[assignment]
            running.append(endpoint)
        assert running, "nothing runs, and something waits"
        assert len(running) <= at_once
        for key, limit in (("address", per_host), ("network", per_network)):
            values = [getattr(each, key) for each in running]
            assert max(map(values.count, values)) <= limit
        ended = running.pop(random.randrange(len(running)))  # type: ignore[attr-defined]
        schedule.end(ended)
        done.append(ended.id)
    assert sorted(done) == [each.id for each in endpoints]
    assert (schedule.waiting, schedule.running) == (0, 0)


def test_a_busy_network_keeps_no_other_from_its_turn() -> None:
    schedule = Schedule(Limits(per_network=1))
    for number in range(100):
        schedule.add(Endpoint("h", 1, None, number, f"10.0.0.{number}", "10.0.0.0/24"))
    schedule.add(Endpoint("h", 1, None, 100, "10.0.1.0", "10.0.1.0/24"))
    begun = [schedule.begin(), schedule.begin()]
    assert {each.network for each in begun if each} == {"10.0.0.0/24", "10.0.1.0/24"}
    assert schedule.begin() is None
