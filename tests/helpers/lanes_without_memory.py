"""A program: it uses lanes while one allocation after the other fails, and checks that all data are there."""

from __future__ import annotations

import errno
import gc
import importlib
from collections.abc import Callable
from typing import Any, Final

from bowout._lane import HEADROOM
from bowout._lane import _native as native
from helpers.lanes import HandLane, LoopOfOne, hand_lane

_testcapi: Any = importlib.import_module("_testcapi")
#: More than the allocations of any call here.
_MOST: Final = 12
_DATA: Final = bytes(range(256)) * 3


def attempt(number: int, call: Callable[..., Any], *arguments: Any) -> Any:
    """Call with one failing allocation, the one with that number; return None after a MemoryError."""
    _testcapi.set_nomemory(number, number + 1)
    try:
        return call(*arguments)
    except MemoryError:
        return None
    finally:
        _testcapi.remove_mem_hooks()


def data_of(result: Any) -> bytes:
    return result[0] if isinstance(result, tuple) else result if isinstance(result, bytes) else b""


def reads(hand: HandLane) -> None:
    for number in range(_MOST):
        hand.say(_DATA)
        data = data_of(attempt(number, hand.lane.read, 700))
        for _ in range(30):
            hand.lane.arrived()
            data += data_of(attempt(number, hand.lane.read, 40)) or data_of(hand.lane.read(700))
        assert data == _DATA


def reads_the_last(hand: HandLane) -> None:
    """With a message behind it."""
    for number in range(_MOST):
        with hand_lane(native) as other:
            other.say(_DATA)
            other.say_key_update()
            data = data_of(attempt(number, other.lane.read, 1000)) + data_of(other.lane.read(1000))
            assert data == _DATA
            assert other.lane.read(1000) is False


def reads_into(hand: HandLane) -> None:
    buffer = bytearray(len(_DATA))
    for number in range(_MOST):
        hand.say(_DATA)
        hand.lane.arrived()
        count = attempt(number, hand.lane.read_into, buffer) or hand.lane.read_into(buffer)
        assert count == len(_DATA)
        assert buffer == _DATA
        buffer[:] = bytes(len(_DATA))


def leaves(hand: HandLane) -> None:
    for number in range(_MOST):
        with hand_lane(native) as other:
            other.say(b"one", b"two")
            assert other.lane.read(3) == b"one"
            raw = (attempt(number, other.lane.leave) or other.lane.leave())[0]
            other.incoming.write(raw)


def waits(hand: HandLane) -> None:
    for into in (False, True):
        for number in range(_MOST):
            with hand_lane(native) as other:
                other.lane.use_loop(LoopOfOne(), False, False, False)
                buffer = bytearray(1000)
                other.lane.wait_into(buffer) if into else other.lane.wait(1000)
                other.say(_DATA)
                attempt(number, other.lane.on_readable)
                assert other.lane.done(), "the task would wait for ever"
                other.lane.forget_wait()
                assert other.lane.read(1000) == _DATA


def sends(hand: HandLane) -> None:
    """More than the kernel takes."""
    much = bytes(1 << 20)
    for number in range(_MOST):
        with hand_lane(native) as other:
            while (result := attempt(number, other.lane.send, much)) is None:
                pass
            assert isinstance(result, tuple), result
            if result == (0, [], 0, errno.ENOMEM, False):
                assert other.lane.send(b"after it") is False


def takes(hand: HandLane) -> None:
    for size in (300, 5000, 30_000):
        for into in (False, True):
            for number in range(_MOST):
                with hand_lane(native) as other:
                    _take(other, number, bytes(range(250)) * (size // 250), into=into)


def _take(hand: HandLane, number: int, data: bytes, *, into: bool) -> None:
    cipher = hand.encrypt(data, b"more")
    hand.ciphertext[HEADROOM : HEADROOM + len(cipher)] = cipher
    if into:
        buffer = bytearray(len(data) + 10)
        came = attempt(number, hand.lane.take_into, len(cipher), buffer)
        got = bytes(buffer[: abs(came)])
    else:
        came = attempt(number, hand.lane.take, len(cipher))
        got = data_of(came)
    assert came is not None
    raw, held, *_ = hand.lane.leave()
    hand.incoming.write(raw)
    got += held
    while len(got) < len(data) + 4:
        got += hand.tls.read(1 << 16)
    assert got == data + b"more"


def writes(hand: HandLane) -> None:
    for size in (100, 5000, 200_000):
        for number in range(_MOST):
            with hand_lane(native) as other:
                written: list[bytes] = []
                other.lane.use_transport(written.append, int, bool)  # these return 0 and False
                told = attempt(number, other.lane.write, bytes(size))
                assert told is None or told is False or told[4] is MemoryError or isinstance(told[4], MemoryError)


def main() -> None:
    gc.disable()  # The collector, as the interpreter's loop, is CPython's: in want of memory it may crash by itself.
    for use in (reads, reads_the_last, reads_into, leaves, waits, sends, takes, writes):
        with hand_lane(native) as hand:
            use(hand)


if __name__ == "__main__":
    main()
