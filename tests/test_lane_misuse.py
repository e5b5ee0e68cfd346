"""The lane in C where something fails, or is called as it must not be: nothing received is lost, and nobody hangs."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import gc
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bowout
from bowout import _lane
from helpers.asyncio_apps import ending_of
from helpers.lanes import HandLane, LaneTask, LoopOfOne, hand_lane, ssl_of
from helpers.wire import Wire, client_context, peer
from test_lane_asyncio import MUCH, LaneTalk, TalkingApp

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


# -- waiting


def read_amid(call: Callable[[], object], read: Callable[..., Any], *arguments: Any) -> Any:
    """Call `read`, which meets a message of TLS, and `call` in the middle of it: when the message is noted.

    Up to CPython 3.11 the collector runs there, and then any code may. It stands for another thread, too, that comes
    while much is decrypted without the GIL.
    """

    def collects(phase: str, _: object) -> None:
        if calls and phase == "start":
            calls.pop()()

    calls = [call]
    gc.disable()
    kept = [(number, number, number) for number in range(5000)]  # No tuple of three is left to be used again.
    gc.callbacks.append(collects)
    try:
        gc.enable()
        result = read(*arguments)
    finally:
        gc.callbacks.remove(collects)
    assert len(kept) == 5000
    assert not calls
    return result


collects_amid_a_read = pytest.mark.skipif(sys.version_info >= (3, 12), reason="the collector runs between bytecodes")


@collects_amid_a_read
@pytest.mark.parametrize(("verb", "argument", "again"), [("wait", 100, True), ("wait_into", bytearray(9), -2)])
def test_a_wait_is_ended_when_another_thread_uses_the_lane(
    hand: HandLane, verb: str, argument: Any, again: object
) -> None:
    """The loop may not call again: uvloop tells an error once."""
    loop = use_loop(hand)
    task = LaneTask(hand.lane, lambda: getattr(hand.lane, verb)(argument))
    hand.say_key_update()

    assert read_amid(loop.readers[hand.ours.fileno()], hand.lane.read, 100_000) is False
    assert [call() for call in loop.soon] == [None]
    assert task.woken
    assert task.result == again


@collects_amid_a_read
@pytest.mark.parametrize(("verb", "argument", "again"), [("wait", 100, True), ("wait_into", bytearray(9), -2)])
@pytest.mark.parametrize("by", ["leave", "on_readable"])
def test_a_wait_is_ended_when_the_lane_cannot_be_left(
    hand: HandLane, by: str, verb: str, argument: Any, again: object
) -> None:
    """While the loop's thread receives for it: what comes is held."""
    loop = use_loop(hand)
    task = LaneTask(hand.lane, lambda: getattr(hand.lane, verb)(argument))
    hand.say(b"data")
    hand.say_key_update()
    read_amid(lambda: misuses(getattr(hand.lane, by)), loop.readers[hand.ours.fileno()])
    assert not task.woken
    assert [call() for call in loop.soon] == [None]
    assert task.result == again
    hand.lane.rested()
    assert hand.lane.read(100) == b"data"
    assert hand.lane.read(100) is False


def misuses(call: Callable[[], object]) -> None:
    with contextlib.suppress(RuntimeError):
        call()


@collects_amid_a_read
def test_nothing_else_is_done_amid_a_read(hand: HandLane) -> None:
    hand.say_key_update()
    refused: list[str] = []

    def misuse() -> None:
        for verb, arguments in (("leave", ()), ("read", (1,)), ("read_into", (bytearray(1),)), ("send", (b"1",))):
            with pytest.raises(RuntimeError, match="used by another thread"):
                getattr(hand.lane, verb)(*arguments)
            refused.append(verb)

    assert read_amid(misuse, hand.lane.read, 100) is False
    assert len(refused) == 4
    hand.lane.leave()


@collects_amid_a_read
@pytest.mark.parametrize("size", [10, 5000])
def test_nothing_else_is_written_amid_a_write(hand: HandLane, size: int) -> None:
    """Otherwise its records would come before ours."""
    library, pointer = ssl_of(hand.tls)
    library.SSL_key_update(pointer, 0)
    written: list[bytes] = []
    hand.lane.use_transport(lambda data: written.append(bytes(data)), lambda: 0, lambda: False)

    def misuse() -> None:
        for verb, arguments in (("write", (b"before",)), ("leave", ())):
            with pytest.raises(RuntimeError, match="used by another thread"):
                getattr(hand.lane, verb)(*arguments)

    assert read_amid(misuse, hand.lane.write, bytes(size))[0] == size
    hand.ours.sendall(b"".join(written))
    assert hand.hear() == bytes(size)


@collects_amid_a_read
@pytest.mark.parametrize(("verb", "argument"), [("wait", 100), ("wait_into", bytearray(9))])
def test_what_a_wait_gets_that_is_cancelled_meanwhile_is_held(hand: HandLane, verb: str, argument: Any) -> None:
    loop = use_loop(hand)
    task = LaneTask(hand.lane, lambda: getattr(hand.lane, verb)(argument))
    hand.say(b"data")
    hand.say_key_update()
    read_amid(lambda: hand.lane.cancel(msg="why"), loop.readers[hand.ours.fileno()])
    loop.soon.pop()()
    assert isinstance(task.failure, asyncio.CancelledError)
    hand.lane.forget_wait()
    assert hand.lane.read(2) == b"da"
    assert hand.lane.read(100) == b"ta"
    assert hand.lane.read(100) is False


@pytest.mark.parametrize("size", [3, 100])
def test_a_wait_into_memory_that_is_forgotten_loses_nothing(hand: HandLane, size: int) -> None:
    loop, memory = use_loop(hand, at_once=False), bytearray(size)
    task = LaneTask(hand.lane, lambda: hand.lane.wait_into(memory))
    hand.say(b"data")
    loop.readers[hand.ours.fileno()]()
    assert len(loop.soon) == 1
    assert not task.woken
    hand.lane.forget_wait()
    memory.append(0)  # Nothing holds it any more.
    assert hand.lane.read(3) + hand.lane.read(3) == b"data"
    hand.say(b"more")
    hand.lane.arrived()
    assert hand.lane.read_into(memory) == min(len(memory), 4)


def test_a_wait_for_what_is_held_already_is_over_at_once(hand: HandLane) -> None:
    use_loop(hand, at_once=False)
    hand.say(b"data")
    LaneTask(hand.lane, lambda: hand.lane.wait(100))
    hand.lane.on_readable()
    hand.lane.forget_wait()
    assert LaneTask(hand.lane, lambda: hand.lane.wait(100)).result is True
    assert LaneTask(hand.lane, lambda: hand.lane.wait_into(bytearray(1))).result == -2
    assert hand.lane.leave()[1] == b"data"


@pytest.mark.parametrize(
    ("verb", "arguments"), [("read", (0,)), ("read", (-1,)), ("wait", (0,)), ("wait_into", (b"",))]
)
def test_nothing_is_read_without_room(hand: HandLane, verb: str, arguments: tuple[Any, ...]) -> None:
    use_loop(hand)
    with pytest.raises((ValueError, BufferError)):
        getattr(hand.lane, verb)(*arguments)
    hand.say(b"data")
    for _ in range(40):
        assert hand.lane.read_into(bytearray()) in {0, -2}
    hand.lane.rested()
    assert hand.lane.read(100) == b"data"


def test_a_reader_that_is_called_late_does_nothing(hand: HandLane) -> None:
    use_loop(hand)
    hand.lane.leave()
    assert hand.lane.on_readable() is None


def test_a_descriptor_that_cannot_be_watched_is_left_to_the_engine(hand: HandLane) -> None:
    loop = use_loop(hand)

    def fail(*_: object) -> None:
        raise OSError(9, "Bad file descriptor")

    loop.add_reader = fail  # type: ignore[assignment, method-assign]
    assert LaneTask(hand.lane, lambda: hand.lane.wait(1)).result is False
    assert LaneTask(hand.lane, lambda: hand.lane.wait_into(bytearray(1))).result == -1
    hand.lane.use_loop(loop, False, True, True)
    assert LaneTask(hand.lane, lambda: hand.lane.wait(1)).result is False


@pytest.mark.parametrize("lane", [None, native], ids=["python", "c"])
@pytest.mark.parametrize("message", [(), ("why",), (("a", "pair"),)])
def test_a_cancellation_keeps_its_message(monkeypatch: pytest.MonkeyPatch, lane: Any, message: tuple[Any, ...]) -> None:
    """anyio tells its own cancellations by it."""

    async def main() -> object:
        stream = link.stream()
        await stream.send(b"?")
        assert await stream.receive() == b"!"
        task = asyncio.ensure_future(stream.receive())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel(*message)
        with pytest.raises(asyncio.CancelledError) as met:
            await task
        await stream.close()
        return met.value.args

    def answers_once(wire: Wire) -> None:
        wire.handshake()
        wire.read()
        wire.send(b"!")
        wire.read_to_end()
        wire.close_notify()
        wire.fin()

    monkeypatch.setattr(_lane, "native", lane)
    with peer(answers_once) as link:
        assert asyncio.run(main()) == message


# -- wrong arguments: the same errors on both lanes

WRONG: dict[str, Callable[[], Any]] = {
    "text": lambda: "text",
    "number": lambda: 7,
    "none": lambda: None,
    "list": lambda: [1, 2],
    "not contiguous": lambda: memoryview(b"12345")[::2],
    "released": lambda: released(memoryview(b"1")),
}


def released(view: memoryview) -> memoryview:
    view.release()
    return view


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_of_send_is_told_alike_on_both_lanes(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    async def main() -> list[str]:
        stream = link.stream()
        await stream.send(b"?")
        met: list[str] = []
        for verb in (stream.send, stream.receive_into):
            try:
                await verb(WRONG[name]())
            except Exception as error:  # noqa: BLE001  (any; they are compared)
                met.append(repr(error))
        await stream.send(b"!")
        await stream.close()
        with contextlib.suppress(bowout.BowoutError, TypeError, ValueError):
            await stream.send(WRONG[name]())
            met.append("sent after the close")
        return met

    told = []
    for lane in (None, native):
        monkeypatch.setattr(_lane, "native", lane)
        with peer(reads) as link:
            told.append(asyncio.run(main()))
        assert link.result == b"?!"
    assert len(told[0]) == 2
    assert told[0] == told[1]


def reads(wire: Wire) -> bytes:
    wire.handshake()
    wire.read_to_end()
    wire.close_notify()
    wire.fin()
    return bytes(wire.received)


def is_left(wire: Wire) -> None:
    wire.handshake()
    with contextlib.suppress(OSError):
        wire.read_to_end()


def test_a_send_to_a_descriptor_that_others_closed_is_told_alike_on_both_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> str:
        stream = link.stream()
        await stream.send(b"?")
        os.close(link.sock.detach())
        with pytest.raises(bowout.Reset) as met:
            await stream.send(b"1")
        stream.abort()
        return str(met.value)

    told = []
    for lane in (None, native):
        monkeypatch.setattr(_lane, "native", lane)
        with peer(is_left) as link:
            told.append(asyncio.run(main()))
    assert told[0] == told[1]


# -- buffers that run code


class LeavingBuffer:
    """Memory that leaves the lane when it is taken, or when it is released."""

    def __init__(self, lane: Any, *, late: bool) -> None:
        self._lane = lane
        self._late = late
        self.left: Any = None

    def __buffer__(self, flags: int) -> memoryview:
        if not self._late:
            self.left = self._lane.leave()
        return memoryview(bytearray(10))

    def __release_buffer__(self, view: memoryview) -> None:
        if self._late:
            self.left = self._lane.leave()
        view.release()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no class in Python has a buffer")
@pytest.mark.parametrize("verb", ["read_into", "send", "write", "take_into", "wait_into"])
def test_a_buffer_that_leaves_the_lane_is_not_used(hand: HandLane, verb: str) -> None:
    use_loop(hand)
    hand.say(b"data")
    buffer = LeavingBuffer(hand.lane, late=False)
    arguments = (0, buffer) if verb == "take_into" else (buffer,)
    with pytest.raises(RuntimeError, match="the lane was left"):
        getattr(hand.lane, verb)(*arguments)
    assert buffer.left[:2] == (b"", b"")
    assert hand.outgoing.read() == b""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no class in Python has a buffer")
@pytest.mark.parametrize(("verb", "told"), [("read_into", 4), ("send", None)])
def test_a_buffer_that_leaves_the_lane_at_last_has_been_used(hand: HandLane, verb: str, told: object) -> None:
    hand.say(b"data")
    buffer = LeavingBuffer(hand.lane, late=True)
    assert getattr(hand.lane, verb)(buffer) == told
    assert buffer.left[:2] == (b"", b"")
    assert hand.hear() == (bytes(10) if verb == "send" else b"")


# -- OpenSSL's own messages


def test_a_message_of_openssl_leaves_although_no_data_could_follow_it(hand: HandLane) -> None:
    """Padding makes the record with the data larger than the lane has room for; a key update comes before it."""
    library, pointer = ssl_of(hand.tls)
    library.SSL_set_block_padding(pointer, 4096)
    library.SSL_key_update(pointer, 0)
    written: list[bytes] = []
    hand.lane.use_transport(lambda data: written.append(bytes(data)), lambda: 0, lambda: False)
    data = bytes(range(250)) * 20
    assert hand.lane.write(data) is False
    assert len(written) == 1
    hand.lane.leave()
    assert hand.tls.write(data) == len(data)
    hand.theirs.setblocking(True)
    hand.ours.sendall(written[0] + hand.outgoing.read())
    hand.theirs.setblocking(False)
    assert hand.hear() == data


# -- which SSL it is


def test_a_connection_that_was_dropped_has_no_lane() -> None:
    """OpenSSL has freed it when it would be asked."""
    incoming = ssl.MemoryBIO()

    def drops() -> str:
        client_context("1.3").wrap_bio(incoming, ssl.MemoryBIO(), server_hostname="peer.test")
        return "no connection"

    assert native.open(drops, incoming) == ("no connection", None)


# -- no memory


def test_without_memory_nothing_is_lost_in_silence() -> None:
    """In a process of its own, whose allocations fail one after the other."""
    pytest.importorskip("_testcapi", reason="CPython's test kit is not installed")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONMALLOC": "malloc"}
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "helpers.lanes_without_memory"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def fault() -> Iterator[Any]:
    """The number of the lane's own allocation that is to fail next; 0: none."""
    if not hasattr(library := ctypes.CDLL(native.__file__), "lane_fault"):
        pytest.skip("only the build of `make sanitize` lets the lane's own allocations fail")
    fault = ctypes.c_int.in_dll(library, "lane_fault")
    yield fault
    fault.value = 0


NO_MEMORY = (b"", b"", False, False, errno.ENOMEM)


def test_ciphertext_that_cannot_be_kept_ends_the_connection(hand: HandLane, fault: Any) -> None:
    """It does not count as the peer's fault, as what is left of it would."""
    cipher = hand.encrypt(b"one", b"two")
    hand.theirs.sendall(cipher[:-3])
    fault.value = 1
    assert hand.lane.read(100) == (b"one",)
    hand.theirs.sendall(cipher[-3:])
    assert hand.lane.read(100) is False
    assert hand.lane.leave()[:5] == NO_MEMORY


def test_plaintext_that_cannot_be_held_ends_the_connection(hand: HandLane, fault: Any) -> None:
    """What would follow the gap is dropped."""
    use_loop(hand, at_once=False)
    hand.lane.wait(2)
    hand.say(b"data", b"more")
    hand.lane.on_readable()
    fault.value = 1
    hand.lane.forget_wait()
    assert fault.value == 0
    assert hand.lane.read(10) is False
    assert hand.lane.leave()[:5] == NO_MEMORY


@pytest.mark.parametrize("size", [0, 1000, 70_000], ids=["data_received", "small buffer", "large buffer"])
def test_a_transport_without_memory_says_so(lane_in_c: None, fault: Any, size: int) -> None:
    async def main() -> None:
        app = TalkingApp()
        talk = LaneTalk(app, "1.3", "client", size=size)
        app.transport.write(b"?")
        cipher = talk.encrypt(b"begun", MUCH)
        fault.value = 1
        talk.give(cipher[:40_000])
        assert fault.value == 0
        error = await app.lost
        assert "Cannot allocate memory" in str(error)
        assert (b"begun" + MUCH).startswith(app.data)
        assert app.data
        assert ending_of(app.transport).how is bowout.How.RESET

    asyncio.run(main())
