"""The lane in C under asyncio's protocol: the application and the peer notice no difference, nor does the ending."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from bowout import How, Inbound, MisuseError, _lane
from bowout._backends import forks
from bowout._core.winddown import SLICE
from bowout._lane import HEADROOM
from bowout.asyncio import Policy
from bowout.asyncio._protocol import TLSProtocol
from helpers.asyncio_apps import BufferedApp, RecordingApp, ending_of
from helpers.endings import told
from helpers.runners import Runner
from helpers.wire import NAME, Role, Version, client_context, our_context, peer_context

native: Any = pytest.importorskip("bowout._lane._native", reason="it was built without a C compiler")
pytestmark = pytest.mark.backends("asyncio", "uvloop")

MUCH: Final = bytes(range(256)) * 1200  # 300 KiB, in records that do not end where the transport's pieces do.
SIZES: Final = (1, 100, 20_000, 3, 50_000, 7, 64, 64, 64)


class TalkingApp(RecordingApp):
    """Calls `on_data` after all data that are delivered."""

    on_data: Callable[[], object] | None = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.on_data is not None:
            self.on_data()


class MemoryCarrier(asyncio.Transport):
    """A transport in memory, which passes on what the test lets it.

    Attributes:
        passed: what has left it and the peer has not got.
        room: the number of bytes that may leave before it buffers; None: all.
        on_write: called in each write.
        reading: whether the protocol wants data.
    """

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Any = None
        self.passed = bytearray()
        self.waiting = bytearray()
        self.room: int | None = None
        self.on_write: Callable[[], None] = lambda: None
        self.closing = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closing
        self.waiting += data
        self.on_write()
        if not self.closing:
            self._pass_on()

    def _pass_on(self) -> None:
        count = len(self.waiting) if self.room is None else min(self.room, len(self.waiting))
        self.passed += self.waiting[:count]
        del self.waiting[:count]
        if self.room is not None:
            self.room -= count

    def let_pass(self, room: int | None) -> None:
        self.room = room
        self._pass_on()
        if not self.waiting:
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close


class LaneTalk:
    """A connection of asyncio over a `MemoryCarrier`, and its peer, which is the standard library's.

    Attributes:
        used: whether the lane was ever entered.
        last: what the peer sent after its handshake: a server's session tickets.
    """

    def __init__(
        self,
        app: TalkingApp,
        version: Version,
        we: Role,
        *,
        size: int = 0,
        context: ssl.SSLContext | None = None,
        keep_last: bool = False,
    ) -> None:
        self.app = app
        self.carrier = MemoryCarrier()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        they: Role = "server" if we == "client" else "client"
        self.far = peer_context(version, they).wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=they == "server",
            server_hostname=NAME if they == "client" else None,
        )
        self.protocol = TLSProtocol(
            asyncio.get_running_loop(),
            BufferedApp(app, size) if size else app,
            context or our_context(version, we),
            None,
            server_side=we == "server",
            server_hostname=NAME if we == "client" else None,
            ssl_shutdown_timeout=30,
            policy=Policy(truncation="raise"),
        )
        self.carrier.protocol = self.protocol
        self.protocol.connection_made(self.carrier)
        self.used = False
        self.heard = bytearray()
        self.last = b""
        self._shake_hands(keep_last=keep_last)

    def _shake_hands(self, *, keep_last: bool) -> None:
        for _ in range(4):
            self.incoming.write(bytes(self.carrier.passed))
            self.carrier.passed.clear()
            try:
                self.far.do_handshake()
            except ssl.SSLWantReadError:
                self.give(self.outgoing.read())
            else:
                self.last = self.last or self.outgoing.read()
        if not keep_last:
            self.give(self.last)
            self.app.transport.write(b"")  # The lane is entered with the first use.
            self.used = self.in_lane
        assert self.app.told == ["made"]

    @property
    def in_lane(self) -> bool:
        return self.protocol._lane.entered is not None

    def encrypt(self, *messages: bytes) -> bytes:
        for message in messages:
            self.far.write(message)
        return self.outgoing.read()

    def give(self, ciphertext: bytes, piece: int = 1 << 20) -> None:
        """Deliver `ciphertext`, at most `piece` bytes at once."""
        left = memoryview(ciphertext)
        while left:
            memory = self.protocol.get_buffer(-1)
            count = min(len(left), len(memory), piece)
            memory[:count] = left[:count]
            left = left[count:]
            self.protocol.buffer_updated(count)
            self.used = self.used or self.in_lane

    def hear(self) -> bytes:
        """Decrypt what has left the carrier, and return all data so far."""
        self.incoming.write(bytes(self.carrier.passed))
        self.carrier.passed.clear()
        try:
            while data := self.far.read(1 << 20):
                self.heard += data
        except ssl.SSLError:  # It wants more, or has the end.
            pass
        return bytes(self.heard)

    async def end(self) -> None:
        """Close, with a polite peer."""
        self.app.transport.close()
        self.hear()
        with contextlib.suppress(ssl.SSLWantReadError):
            self.far.unwrap()
        self.give(self.outgoing.read())
        self.protocol.eof_received()
        await self.app.lost


Play = Callable[[LaneTalk], Awaitable[object]]


async def pieces(talk: LaneTalk) -> None:
    """Messages both ways, in pieces of several sizes."""
    for size in SIZES:
        for piece in (1, 999, 30_000, 1 << 20):
            talk.app.transport.write(bytes(size))
            talk.give(talk.encrypt(bytes(size), b"x" * size), piece if size < 1000 or piece > 900 else 10_000)
    assert talk.hear() == bytes(4 * sum(SIZES))
    await talk.end()


async def kinds_of_bytes(talk: LaneTalk) -> None:
    memory = bytearray(b"as it was")
    talk.carrier.room = 0
    for data in (memory, memoryview(memory), b"", memoryview(b"x" * 8)[::1], memoryview(bytearray(16)).cast("I")):
        talk.app.transport.write(data)
    memory[:] = b"now wrong"
    with pytest.raises(TypeError, match="a bytes-like object is required, not str"):
        talk.app.transport.write("text")
    talk.carrier.let_pass(None)
    assert talk.hear() == b"as it was" * 2 + b"x" * 8 + bytes(16)
    talk.app.transport.write(bytearray(b"1"))
    talk.app.transport.writelines([b"2", b"3"])
    assert talk.hear().endswith(b"123")
    await talk.end()


async def slow_carrier(talk: LaneTalk) -> None:
    """Bytes that the carrier buffers are sent when they have left it, record by record."""
    transport = talk.app.transport
    for room in (0, 10, 20_000, 40_000, 70_000, 200_000):
        talk.carrier.room = room
        transport.write(MUCH)
        transport.write(b"small")
        talk.hear()
        talk.carrier.let_pass(100)
        while transport.get_write_buffer_size():
            talk.carrier.let_pass(30_000)
        talk.carrier.let_pass(None)
    assert talk.hear() == (MUCH + b"small") * 6
    await talk.end()


async def more_than_a_slice(talk: LaneTalk) -> None:
    talk.app.transport.write(MUCH * 10)
    while talk.app.transport.get_write_buffer_size():  # noqa: ASYNC110  (nothing tells of it)
        await asyncio.sleep(0)
    assert talk.hear() == MUCH * 10
    await talk.end()


def given_up(room: int) -> Play:
    """An abort while the carrier has a part of a send."""

    async def play(talk: LaneTalk) -> None:
        talk.carrier.room = room
        talk.app.transport.write(MUCH)
        talk.hear()
        talk.carrier.waiting.clear()
        talk.app.transport.abort()
        await talk.app.lost
        ending = ending_of(talk.app.transport)
        assert ending.sent + ending.unsent == len(MUCH)
        assert len(talk.heard) <= ending.sent
        assert ending.sent - len(talk.heard) < 1 << 14

    return play


def failing_carrier(error: BaseException, after: int) -> Play:
    async def play(talk: LaneTalk) -> None:
        def fail() -> None:
            if len(talk.carrier.passed) >= after:
                raise error

        talk.carrier.on_write = fail
        with pytest.raises(type(error)):
            talk.app.transport.write(MUCH)
        talk.carrier.on_write = lambda: None
        await talk.app.lost

    return play


async def closing_carrier(talk: LaneTalk) -> None:
    talk.app.transport.write(b"sent")
    talk.carrier.closing = True
    talk.app.transport.write(b"not sent")
    talk.app.transport.write(b"either")
    assert talk.hear() == b"sent"
    talk.protocol.connection_lost(ConnectionResetError("gone"))
    await talk.app.lost


def paused(size: int) -> Play:
    async def play(talk: LaneTalk) -> None:
        """Data that come while reading is paused are delivered later, and in order."""
        transport = talk.app.transport
        talk.app.on_data = transport.pause_reading
        talk.give(talk.encrypt(MUCH[:size]), 40_000)
        talk.app.on_data = None
        assert not talk.carrier.reading
        talk.give(talk.encrypt(b"more"))
        transport.write(b"still")
        assert talk.hear() == b"still"
        while len(talk.app.data) < size + 4:
            transport.resume_reading()
            await asyncio.sleep(0)
        assert talk.app.data == MUCH[:size] + b"more"
        talk.give(talk.encrypt(b"again"))
        await talk.end()

    return play


def within(call: Callable[[LaneTalk], object], *, ends: bool = False) -> Play:
    """Call something in each callback with data."""

    async def play(talk: LaneTalk) -> None:
        talk.app.on_data = lambda: call(talk)
        talk.give(talk.encrypt(b"one", b"two", MUCH, b"three"), 1 << 16)
        talk.give(talk.encrypt(b"four"))
        talk.app.on_data = None
        talk.hear()
        if ends:
            talk.protocol.eof_received()
            await talk.app.lost
        else:
            await talk.end()

    return play


def fail_in_callback(talk: LaneTalk) -> None:
    raise RuntimeError("of the application")


def replace_protocol(talk: LaneTalk) -> None:
    transport = talk.app.transport
    is_buffered = isinstance(transport.get_protocol(), BufferedApp)
    transport.set_protocol(talk.app if is_buffered else BufferedApp(talk.app, 5000))


def at_the_end(end: Callable[[LaneTalk], bytes], *, clean: bool = False) -> Play:
    """The peer's end, of whatever kind, just behind data."""

    async def play(talk: LaneTalk) -> None:
        talk.app.transport.write(b"?")
        talk.give(talk.encrypt(b"one"))
        talk.give(talk.encrypt(MUCH, b"two") + end(talk))
        assert talk.app.data == b"one" + MUCH + b"two"
        if clean:
            await talk.end()
        else:
            talk.protocol.eof_received()
            await talk.app.lost

    return play


def close_notify(talk: LaneTalk) -> bytes:
    with contextlib.suppress(ssl.SSLWantReadError):
        talk.far.unwrap()
    return talk.outgoing.read()


def no_record(talk: LaneTalk) -> bytes:
    return b"HTTP/1.1 400 Bad Request\r\n\r\n"


def broken_record(talk: LaneTalk) -> bytes:
    record = bytearray(talk.encrypt(b"lost"))
    record[-1] ^= 1
    return bytes(record)


def long_record(talk: LaneTalk) -> bytes:
    return b"\x17\x03\x03\xff\xff" + bytes(10)


def half_record(talk: LaneTalk) -> bytes:
    return talk.encrypt(b"lost")[:-1]


def nothing(talk: LaneTalk) -> bytes:
    return b""


async def interrupted_in_callback(talk: LaneTalk) -> None:
    """It ends the loop's run, and no connection."""

    def interrupt() -> None:
        talk.app.on_data = None
        raise KeyboardInterrupt

    talk.give(talk.encrypt(b"one"))
    talk.app.on_data = interrupt
    with pytest.raises(KeyboardInterrupt):
        talk.give(talk.encrypt(MUCH[:30_000]))
    talk.give(talk.encrypt(b"two"))
    assert talk.app.data == b"one" + MUCH[:30_000] + b"two"
    await talk.end()


async def no_memory(talk: LaneTalk) -> None:
    """What arrived when the application had no memory for it is discarded by the close, and counted."""
    if not isinstance(talk.app.transport.get_protocol(), BufferedApp):
        talk.app.transport.set_protocol(BufferedApp(talk.app, 100))
    talk.give(talk.encrypt(b"one"))
    talk.app.transport.get_protocol().get_buffer = lambda sizehint: fail_in_callback(talk)
    talk.give(talk.encrypt(b"two") + talk.encrypt(b"half")[:9])
    talk.protocol.eof_received()
    await talk.app.lost
    assert talk.app.data == b"one"


async def ended_in_get_buffer(talk: LaneTalk) -> None:
    if not isinstance(talk.app.transport.get_protocol(), BufferedApp):
        talk.app.transport.set_protocol(BufferedApp(talk.app, 100))
    app = talk.app.transport.get_protocol()
    talk.give(talk.encrypt(b"one"))

    def end(sizehint: int) -> bytearray:
        talk.app.transport.abort()
        return app.buffer  # type: ignore[no-any-return]

    app.get_buffer = end
    talk.give(talk.encrypt(b"two"))
    await talk.app.lost


async def lost_while_paused(talk: LaneTalk) -> None:
    talk.app.transport.pause_reading()
    talk.give(talk.encrypt(b"late") + talk.encrypt(b"cut")[:10])
    talk.protocol.connection_lost(ConnectionResetError("gone"))
    talk.app.transport.resume_reading()
    await talk.app.lost
    assert talk.app.data == b"late"


async def half_closed(talk: LaneTalk) -> None:
    talk.app.transport.write(b"all")
    talk.app.transport.write_eof()
    with pytest.raises(RuntimeError, match="after write_eof"):
        talk.app.transport.write(b"more")
    talk.give(talk.encrypt(b"answer"))
    assert talk.hear() == b"all"
    await talk.end()


def aborted_in_a_write(after: int) -> Play:
    """As the loop's exception handler may, which the carrier calls."""

    async def play(talk: LaneTalk) -> None:
        def abort() -> None:
            if len(talk.carrier.passed) >= after:
                talk.app.transport.abort()

        talk.carrier.on_write = abort
        talk.app.transport.write(MUCH)
        await talk.app.lost
        ending = ending_of(talk.app.transport)
        assert ending.sent + ending.unsent == len(MUCH)

    return play


async def lost_in_a_write(talk: LaneTalk) -> None:
    """asyncio's transport drops what it has, and is told of no error before the next turn of the loop."""

    def lose() -> None:
        talk.carrier.closing = True
        talk.carrier.waiting.clear()

    talk.carrier.on_write = lose
    talk.app.transport.write(b"lost")
    talk.protocol.connection_lost(ConnectionResetError("gone"))
    await talk.app.lost
    ending = ending_of(talk.app.transport)
    assert (ending.sent, ending.unsent) == (0, 4)


PLAYS: Final[dict[str, Play]] = {
    "pieces": pieces,
    "kinds of bytes": kinds_of_bytes,
    "slow carrier": slow_carrier,
    "more than a slice": more_than_a_slice,
    **{f"given up at {room}": given_up(room) for room in (0, 10, 17_000, 40_000, 66_000, 100_000)},
    "interrupted": failing_carrier(KeyboardInterrupt(), 0),
    "interrupted later": failing_carrier(KeyboardInterrupt(), 4 << 15),
    "carrier fails": failing_carrier(RuntimeError("carrier"), 1 << 16),
    "carrier closes": closing_carrier,
    "paused": paused(100),
    "paused amid much": paused(200_000),
    "writes": within(lambda talk: talk.app.transport.write(b"answer")),
    "closes": within(lambda talk: talk.app.transport.close(), ends=True),
    "aborts": within(lambda talk: talk.app.transport.abort(), ends=True),
    "fails": within(fail_in_callback, ends=True),
    "is replaced": within(replace_protocol),
    "close_notify": at_the_end(close_notify, clean=True),
    "plain text": at_the_end(no_record),
    "broken record": at_the_end(broken_record),
    "long record": at_the_end(long_record),
    "FIN inside a record": at_the_end(half_record),
    "FIN": at_the_end(nothing),
    "is interrupted": interrupted_in_callback,
    "has no memory": no_memory,
    "ends in get_buffer": ended_in_get_buffer,
    "lost while paused": lost_while_paused,
    "half-closed": half_closed,
    "aborted in a write": aborted_in_a_write(0),
    "aborted in a later write": aborted_in_a_write(4 << 15),
    "lost in a write": lost_in_a_write,
}


@pytest.fixture
def play_on(run: Runner, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Play on one lane; return all that can be told of it."""

    def play_on(lane: Any, play: Play, version: Version, we: Role, size: int = 0) -> Any:
        async def main() -> Any:
            loop = asyncio.get_running_loop()
            complaints: list[str] = []
            loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))
            app = TalkingApp()
            talk = LaneTalk(app, version, we, size=size)
            await play(talk)
            assert talk.used == (lane is not None)
            ending = told(ending_of(app.transport))
            return ending, app.told, bytes(app.data), repr(await app.lost), complaints, talk.hear()

        monkeypatch.setattr(_lane, "native", lane)
        return run(main)

    return play_on


@pytest.mark.parametrize("size", [0, 1000, 70_000], ids=["data_received", "small buffer", "large buffer"])
@pytest.mark.parametrize("name", PLAYS)
def test_everything_is_the_same_on_both_lanes(play_on: Any, name: str, size: int) -> None:
    in_python = play_on(None, PLAYS[name], "1.3", "client", size)
    in_c = play_on(native, PLAYS[name], "1.3", "client", size)
    assert in_c == in_python


@pytest.mark.parametrize(("version", "we"), [("1.2", "client"), ("1.2", "server"), ("1.3", "server")])
@pytest.mark.parametrize("name", PLAYS)
def test_in_other_versions_and_roles(play_on: Any, name: str, version: Version, we: Role) -> None:
    in_python = play_on(None, PLAYS[name], version, we)
    in_c = play_on(native, PLAYS[name], version, we)
    assert in_c == in_python


# -- when it is entered and left


@pytest.fixture
def lane_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lane, "native", native)


def test_it_is_entered_again_behind_a_ticket_although_a_record_has_begun(run: Runner, lane_in_c: None) -> None:
    """Otherwise a download that begins with the tickets, and never pauses, would go without the lane."""

    async def main() -> None:
        talk = LaneTalk(TalkingApp(), "1.3", "client", keep_last=True)
        assert talk.last
        talk.app.transport.write(b"?")
        assert talk.in_lane
        download = talk.encrypt(MUCH)
        talk.give(talk.last + download[:10_000])
        assert talk.in_lane
        talk.give(download[10_000:40_000], 7000)
        talk.give(download[40_000:])
        assert talk.app.data == MUCH
        await talk.end()
        ending = ending_of(talk.app.transport)
        assert (ending.how, ending.received) == (How.CLEAN, len(MUCH))

    run(main)


def test_a_begun_record_is_cut_by_a_fin(run: Runner, lane_in_c: None) -> None:
    async def main() -> None:
        talk = LaneTalk(TalkingApp(), "1.3", "client", keep_last=True)
        talk.give(talk.last + talk.encrypt(b"whole") + talk.encrypt(b"cut")[:9])
        assert talk.in_lane
        talk.protocol.eof_received()
        await talk.app.lost
        assert talk.app.data == b"whole"
        assert ending_of(talk.app.transport).inbound is Inbound.TRUNCATED_INSIDE_RECORD

    run(main)


def test_a_context_whose_messages_another_gets_has_no_lane(run: Runner, lane_in_c: None) -> None:
    async def main() -> None:
        context = client_context("1.3")  # Its own: others are shared.
        context._msg_callback = lambda *_: None  # type: ignore[attr-defined]
        talk = LaneTalk(TalkingApp(), "1.3", "client", context=context)
        talk.give(talk.encrypt(b"data"))
        await talk.end()
        assert not talk.used

    run(main)


def test_nothing_is_taken_beyond_the_memory(run: Runner, lane_in_c: None) -> None:
    async def main() -> None:
        talk = LaneTalk(TalkingApp(), "1.3", "client")
        lane, size = talk.protocol._lane.entered, len(talk.protocol.get_buffer(-1))
        with pytest.raises(ValueError, match="memory is smaller"):
            lane.take(size + 1)
        with pytest.raises(ValueError, match="memory is smaller"):
            lane.take_into(size + 1, bytearray(1))
        with pytest.raises(OverflowError):
            lane.take(-1)
        with pytest.raises(BufferError):
            lane.take_into(0, b"read-only")
        talk.app.transport.abort()
        for verb, arguments in (("take", (0,)), ("take_into", (0, bytearray(1))), ("write", (b"1",))):
            with pytest.raises(RuntimeError, match="the lane was left"):
                getattr(lane, verb)(*arguments)
        assert lane.unwritten() == 0
        await talk.app.lost

    run(main)


def test_a_lane_over_a_descriptor_writes_to_no_transport() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        incoming = ssl.MemoryBIO()
        context = our_context("1.3", "client")
        _, lane = native.open(lambda: context.wrap_bio(incoming, ssl.MemoryBIO(), server_hostname=NAME), incoming)
        memory = memoryview(bytearray(1 << 18))
        lane.enter(ours.fileno(), memory, memory, True)
        assert lane.write(b"1") is False


def test_a_forked_child_writes_nothing(run: Runner, lane_in_c: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/test_asyncio_forked.py does it with a real child."""

    async def main() -> None:
        talk = LaneTalk(TalkingApp(), "1.3", "client")
        with monkeypatch.context() as patch:
            patch.setattr(forks.generation, "number", 77)
            with pytest.raises(MisuseError, match="belongs to the process that made it"):
                talk.app.transport.write(b"1")
        assert talk.hear() == b""
        await talk.end()

    run(main)


def test_the_headroom_is_the_same_in_c() -> None:
    """A begun record of that size fits, and a larger one is joined elsewhere."""
    assert (native.HEADROOM, native.SLICE) == (HEADROOM, SLICE)


def test_a_connection_that_carries_nothing_does_not_enter_it(run: Runner, lane_in_c: None) -> None:
    async def main() -> None:
        talk = LaneTalk(TalkingApp(), "1.3", "client", keep_last=True)
        talk.app.transport.close()
        talk.give(talk.last)
        assert not talk.used
        await talk.end()

    run(main)


def test_connections_leave_nothing_behind(run: Runner, lane_in_c: None) -> None:
    """The collector has nothing to do: ended connections are freed at once."""

    async def main() -> Any:
        talk = LaneTalk(TalkingApp(), "1.3", "client")
        talk.app.transport.write(MUCH)
        talk.give(talk.encrypt(MUCH))
        lost = weakref.ref(talk.protocol)
        await talk.end()
        await asyncio.sleep(0)
        assert talk.used
        return lost

    gc.disable()
    try:
        assert run(main)() is None
    finally:
        gc.enable()
