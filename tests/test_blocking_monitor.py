"""How threads share a connection: turns, waits and wakes, and what a signal handler may do in between."""

from __future__ import annotations

import gc
import math
import os
import select
import socket
import threading
import time

import pytest

from bowout import MisuseError
from bowout.blocking._monitor import Monitor, Token, Turn, Waker
from helpers.blocking import InThread
from helpers.leaks import open_fds
from helpers.wire import PATIENCE


def wait(
    monitor: Monitor, seen: int | None = None, *, seconds: float = PATIENCE, sock: socket.socket | None = None
) -> float:
    """Wait for a wake, or for something to read; how long it took."""
    began = time.monotonic()
    monitor.wait(
        monitor.generation if seen is None else seen,
        -1 if sock is None else sock.fileno(),
        read=True,
        write=False,
        until=began + seconds,
    )
    return time.monotonic() - began


def waiting(monitor: Monitor, count: int = 1) -> None:
    """Return when `count` threads wait."""
    pause, until = threading.Event(), time.monotonic() + PATIENCE
    while len(monitor._waiting) < count:
        assert time.monotonic() < until, "the threads do not wait"
        pause.wait(0.001)


def test_one_thread_at_a_time_runs() -> None:
    monitor = Monitor()
    begun, go = threading.Event(), threading.Event()

    def hold() -> str:
        begun.set()
        go.wait(PATIENCE)
        return "first"

    first = InThread(lambda: monitor.run(hold))
    begun.wait(PATIENCE)
    order: list[str] = []
    second = InThread(lambda: monitor.run(lambda: order.append("second")))
    order.append("before")
    go.set()
    assert first.result() == "first"
    second.result()
    assert order == ["before", "second"]
    monitor.close()


def test_a_call_within_a_call_of_the_same_thread_is_refused() -> None:
    monitor = Monitor()
    with pytest.raises(MisuseError, match="signal handler"):
        monitor.run(lambda: monitor.run(lambda: None))
    assert monitor.run(lambda: 1) == 1  # It is free again.
    monitor.close()


def test_a_wake_ends_every_wait() -> None:
    monitor = Monitor()
    threads = [InThread(lambda: wait(monitor)) for _ in range(3)]
    waiting(monitor, 3)
    monitor.wake()
    for thread in threads:
        assert thread.result() < PATIENCE
    assert wait(monitor, seconds=0.01) >= 0.01  # The wakes of then are over.
    monitor.close()


def test_a_wake_before_the_wait_is_not_missed() -> None:
    monitor = Monitor()
    seen = monitor.generation
    monitor.wake()
    assert wait(monitor, seen) < PATIENCE
    monitor.close()


def test_a_wait_ends_in_time_and_when_there_is_something() -> None:
    monitor = Monitor()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert wait(monitor, seconds=0.01, sock=ours) >= 0.01
        theirs.send(b"x")
        assert wait(monitor, sock=ours) < PATIENCE
    monitor.close()


def test_after_the_end_nothing_waits_and_no_descriptor_is_left() -> None:
    before = open_fds()
    monitor = Monitor()
    thread = InThread(lambda: wait(monitor))
    waiting(monitor)
    monitor.close()
    assert thread.result() < PATIENCE
    assert wait(monitor) < PATIENCE
    assert open_fds() == before


def test_a_monitor_that_never_waited_has_no_descriptor() -> None:
    before = open_fds()
    monitor = Monitor()
    monitor.wake()
    assert open_fds() == before
    monitor.close()


def test_where_there_is_no_poll_select_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "poll")
    monkeypatch.delattr(os, "eventfd")
    monitor = Monitor()
    thread = InThread(lambda: monitor.wait(0, -1, read=False, write=False, until=math.inf))
    waiting(monitor)
    monitor.wake()
    thread.result()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monitor.wait(monitor.generation, ours.fileno(), read=False, write=True, until=math.inf)
        assert wait(monitor, seconds=0.01, sock=ours) >= 0.01
    monitor.close()


@pytest.mark.parametrize("pair", [False, True])
def test_a_waker_is_readable_from_wake_to_clear(pair: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if pair:
        monkeypatch.delattr(os, "eventfd")
    waker = Waker()
    readable = [bool(select.select([waker.fileno()], [], [], 0)[0])]
    for step in (waker.wake, waker.wake, waker.clear, waker.clear):
        step()
        readable.append(bool(select.select([waker.fileno()], [], [], 0)[0]))
    waker.close()
    waker.close()
    assert readable == [False, True, True, False, False]


def test_a_waker_that_was_not_made_is_not_closed() -> None:
    Waker.__new__(Waker)  # Its finalizer must not fail: pytest would tell.
    gc.collect()


def test_a_turn_is_for_one_and_is_given_back_by_the_one_who_has_it() -> None:
    turn, first, second = Turn(), Token(), Token()
    assert turn.take(first)
    assert turn.take(first)
    assert not turn.take(second)
    assert not turn.give_back(second)
    assert turn.holder is first
    assert turn.give_back(first)
    assert not turn.give_back(first)
    assert turn.take(second)


def test_a_token_knows_its_thread() -> None:
    token = Token()
    assert token.is_of_this_thread
    assert not InThread(lambda: token.is_of_this_thread).result()
