"""The lane in C where something fails, or is called as it must not be: nothing received is lost, and nobody hangs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

import bowout
from bowout import _lane
from helpers.lanes import HandLane, LaneTask, LoopOfOne, hand_lane
from helpers.wire import Wire, peer

native: Any = pytest.importorskip("bowout._lane._native", reason="it was built without a C compiler")


@pytest.fixture
def hand() -> Iterator[HandLane]:
    with hand_lane(native) as hand:
        yield hand


@pytest.fixture
def lane_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lane, "native", native)


def use_loop(hand: HandLane, *, tells_once: bool = False, at_once: bool = True) -> LoopOfOne:
    loop = LoopOfOne()
    hand.lane.use_loop(loop, tells_once, at_once, False)
    return loop


# -- leaving


@pytest.mark.parametrize(
    ("failure", "told"), [(RuntimeError("Event loop is closed"), None), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_a_wake_that_fails_does_not_keep_the_lane_from_being_left(
    hand: HandLane, failure: BaseException, told: Any
) -> None:
    loop = use_loop(hand)
    task = LaneTask(hand.lane, lambda: hand.lane.wait(100))
    hand.say(b"one", b"two")
    assert hand.lane.read(3) == b"one"
    loop.failure = failure
    raw, *_, error = hand.lane.leave()
    assert error is told or isinstance(error, told)
    assert not task.woken
    hand.incoming.write(raw)
    assert hand.tls.read() == b"two"
    with pytest.raises(ssl.SSLWantReadError):
        hand.tls.read()
    with pytest.raises(RuntimeError, match="the lane was left"):
        hand.lane.read(1)


def test_a_stream_is_closed_after_its_loop_although_a_task_waits_in_it(lane_in_c: None) -> None:
    """Nothing can wake that task any more."""

    def says_more(wire: Wire) -> str:
        wire.handshake()
        wire.send(b"one")
        return wire.read_to_end()

    with peer(says_more) as link:
        loop = asyncio.new_event_loop()

        async def begin() -> bowout.Stream:
            stream = link.stream()
            await stream.send(b"?")
            assert await stream.receive() == b"one"
            return stream

        stream = loop.run_until_complete(begin())
        reader = loop.create_task(stream.receive())
        loop.run_until_complete(asyncio.sleep(0))
        assert stream._connection.channel.lane is not None
        loop.close()
        ending = asyncio.run(stream.close())
        del reader
    assert ending.sent == 1
    assert link.result == "close_notify"
