"""Carriers that fail, lie, hang or end at the wrong time, and calls that give something that is no carrier."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.abc
import anyio.streams.tls
import pytest
import trio

import bowout
from bowout import Ending, EventKind, How, Inbound, MisuseError, Outbound, Stream
from bowout._backends.byte_stream import CHUNK, MOMENT
from bowout.transport import ByteStream
from helpers.carriers import WHERE, Kind, carry, ends
from helpers.peers import require_module
from helpers.runners import BACKENDS, Backend, Runner
from helpers.served import gate
from helpers.tasks import in_thread, jobs, on_trio, settle
from helpers.wire import NAME, PATIENCE, Wire, our_context, peer, polite, tcp_pair

everywhere = pytest.mark.parametrize(("loop", "kind"), WHERE)
on_every_loop = pytest.mark.parametrize("loop", BACKENDS)


@pytest.fixture
def run(loop: Backend) -> Runner:
    """As elsewhere, but a test chooses the event loops together with the carriers that they have."""
    require_module(loop)
    return Runner(loop)


class Queue:
    """Bytes from one end of `Wires` to the other, without a limit."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.news = gate()

    def put(self, data: bytes) -> None:
        self.data += data
        self.ended = self.ended or not data
        self.news.set()

    async def get(self, count: int) -> bytes:
        while not (self.data or self.ended):
            await self.news.wait()
            self.news = gate()
        data = bytes(self.data[:count])
        del self.data[:count]
        return data


class Faulty:
    """A carrier whose methods a test replaces.

    Attributes:
        sends, receives: how many calls there were.
        calls: how many are in progress.
    """

    def __init__(self, there: Queue, back: Queue) -> None:
        self.there, self.back = there, back
        self.receives = self.sends = self.calls = 0
        self.closed = False

    async def receive(self, max_bytes: int) -> bytes:
        self.receives += 1
        return await self.back.get(max_bytes)

    async def send(self, data: bytes) -> None:
        self.sends += 1
        self.there.put(data)

    async def aclose(self) -> None:
        self.closed = True
        self.there.put(b"")


def faulty_pair() -> tuple[Faulty, Faulty]:
    there, back = Queue(), Queue()
    return Faulty(there, back), Faulty(back, there)


def client(carrier: Any, **options: Any) -> Stream:
    return bowout.wrap(carrier, our_context("1.3", "client"), server_hostname=NAME, **options)


def server(carrier: Any, **options: Any) -> Stream:
    return bowout.wrap(carrier, our_context("1.3", "server"), server_side=True, **options)


async def connected() -> tuple[Faulty, Stream, Stream]:
    """Our carrier, our stream over it, and the other end's."""
    ours, theirs = faulty_pair()
    mine, others = client(ours), server(theirs)
    async with jobs() as group:
        group.start(others.handshake)
        await mine.handshake()
    await settle()
    return ours, mine, others


def details(ending: Ending, kind: EventKind) -> list[str]:
    return [event.detail for event in ending.events if event.kind is kind]


async def ended(stream: Stream) -> Ending:
    return await stream.close(0)


# -- carriers that fail


async def use_up(stream: Stream) -> None:
    """Send and receive until that fails."""
    while True:
        await stream.send(b"x")
        await stream.receive()


@on_every_loop
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(113, "No route to host"), "No route to host"),
        (ValueError("the pigeon is lost"), "ValueError: the pigeon is lost"),
        (RuntimeError(), "RuntimeError"),
        (anyio.BrokenResourceError(), "BrokenResourceError"),
        (bowout.Reset("the peer reset the connection"), "Reset: the peer reset the connection"),
        (OSError(5, "\x1b[2J" + "x" * 1000), "\\x1b[2J" + "x" * 196),
    ],
    ids=["an OSError", "with words", "without words", "anyio's", "ours", "long and rude"],
)
@pytest.mark.parametrize("verb", ["receive", "send"])
def test_what_a_carrier_raises_is_the_loss_of_the_connection(
    run: Runner, verb: str, error: Exception, text: str
) -> None:
    async def fail(*_: object) -> bytes:
        raise error

    async def main() -> Ending:
        ours, mine, others = await connected()
        setattr(ours, verb, fail)
        await others.send(b"x" * CHUNK * 2)
        with pytest.raises(bowout.Reset, match="the connection was lost") as caught:
            await use_up(mine)
        ending = await mine.close()
        assert caught.value.ending is not None
        assert ours.closed
        await ended(others)
        return ending

    ending = run(main)
    assert ending.how is How.RESET
    assert details(ending, EventKind.CONNECTION_LOST) == [text]
    assert str(ending).startswith("reset: the connection was lost (")


@on_every_loop
@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), BrokenPipeError(32, "broken")])
def test_a_reset_of_the_carrier_is_the_peers(run: Runner, error: OSError) -> None:
    async def reset(max_bytes: int) -> bytes:
        raise anyio.BrokenResourceError from error

    async def main() -> Ending:
        ours, mine, others = await connected()
        ours.receive = reset  # type: ignore[method-assign]
        await others.send(b"x" * CHUNK * 2)
        with pytest.raises(bowout.Reset, match="the peer reset the connection"):
            await mine.receive_exactly(CHUNK * 3)
        await ended(others)
        return await mine.close()

    ending = run(main)
    assert (ending.how, ending.inbound) == (How.RESET, Inbound.RESET)


@on_every_loop
@pytest.mark.parametrize("what", ["text", None, 7])
def test_what_is_no_bytes_is_a_loss_that_says_so(run: Runner, what: object) -> None:
    async def receive(max_bytes: int) -> Any:
        return what

    async def main() -> Ending:
        ours, mine, others = await connected()
        ours.receive = receive  # type: ignore[method-assign]
        await others.send(b"x" * CHUNK)
        with pytest.raises(bowout.Reset, match=f"{type(what).__name__} was received, not bytes"):
            await mine.receive_exactly(CHUNK * 2)
        await ended(others)
        return await mine.close()

    assert run(main).how is How.RESET


@on_every_loop
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_more_than_was_asked_for_is_taken_all_the_same(run: Runner, kind: Callable[[bytes], bytes]) -> None:
    async def main() -> Ending:
        ours, mine, others = await connected()

        async def receive(max_bytes: int) -> bytes:
            return kind(await ours.back.get(1 << 30))

        ours.receive = receive  # type: ignore[method-assign]
        async with jobs() as group:
            group.start(others.send, b"x" * CHUNK * 10)
            assert await mine.receive_exactly(CHUNK * 10) == b"x" * CHUNK * 10
            closing = group.start(others.close)
            ending = await mine.close()
            await closing.result()
        return ending

    assert run(main).how is How.CLEAN


@on_every_loop
@pytest.mark.parametrize("kind", ["every second byte", "one buffer for all"])
def test_what_is_received_may_lie_in_memory_of_any_kind(run: Runner, kind: str) -> None:
    async def main() -> None:
        ours, mine, others = await connected()
        buffer = bytearray()

        async def receive(max_bytes: int) -> Any:
            if kind == "one buffer for all":
                buffer.clear()  # It may not be in use any more.
                buffer.extend(await ours.back.get(max_bytes))
                return buffer
            data = await ours.back.get(max_bytes)
            spread = bytearray(2 * len(data))
            spread[::2] = data
            return memoryview(spread)[::2]

        ours.receive = receive  # type: ignore[method-assign]
        await others.send(b"x" * CHUNK * 3)
        assert await mine.receive_exactly(CHUNK * 3) == b"x" * CHUNK * 3
        await ended(others)
        await ended(mine)

    run(main)


class TextlessError(Exception):
    def __str__(self) -> str:
        raise ValueError


@on_every_loop
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TextlessError(), "TextlessError"),
        (OSError("five", 5), r"[Errno five] 5"),
        (OSError(5, ""), "[Errno 5] "),
        (OSError(), "OSError"),
    ],
    ids=["without text", "odd fields", "an empty text", "no fields"],
)
@pytest.mark.parametrize("verb", ["receive", "send"])
def test_an_odd_exception_is_a_loss_too(run: Runner, verb: str, error: Exception, text: str) -> None:
    async def fail(*_: object) -> bytes:
        raise error

    async def main() -> Ending:
        ours, mine, others = await connected()
        setattr(ours, verb, fail)
        await others.send(b"x" * CHUNK * 2)
        with pytest.raises(bowout.Reset, match="the connection was lost"):
            await use_up(mine)
        await ended(others)
        return await mine.close()

    assert details(run(main), EventKind.CONNECTION_LOST) == [text]


async def cancelled_from_within(*_: object) -> bytes:
    """Await what was cancelled elsewhere: this task was not."""
    future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    future.cancel()
    await asyncio.sleep(0)
    return await future


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("verb", ["receive", "send"])
def test_a_cancellation_from_within_a_carrier_is_a_loss(run: Runner, verb: str) -> None:
    async def main() -> Ending:
        ours, mine, others = await connected()
        setattr(ours, verb, cancelled_from_within)
        await others.send(b"x" * CHUNK * 2)
        with pytest.raises(bowout.Reset, match="the connection was lost"):
            await use_up(mine)
        await ended(others)
        return await mine.close()

    text = "a call of the stream under TLS was cancelled from within"
    assert details(run(main), EventKind.CONNECTION_LOST) == [text]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_end_that_is_cancelled_from_within_is_tried_once(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    class CancelledAtTheEnd(Faulty):
        ends = 0

        async def send_eof(self) -> None:
            self.ends += 1
            await cancelled_from_within()

        async def aclose(self) -> None:
            await super().aclose()
            await cancelled_from_within()

    async def main() -> int:
        there, back = Queue(), Queue()
        ours = CancelledAtTheEnd(there, back)
        mine, others = client(ours), server(Faulty(back, there))
        async with jobs() as group:
            group.start(others.handshake)
            await mine.handshake()
        async with jobs() as group:
            closing = group.start(others.close)
            await mine.close()
            await closing.result()
        return ours.ends

    assert run(main) == 1
    assert [record.getMessage() for record in caplog.records] == ["a stream under TLS could not be closed"]


@on_every_loop
def test_a_send_that_is_cancelled_in_the_middle_is_not_resumed(run: Runner) -> None:
    """Not by the application, which cannot reach it: by the end of everything."""

    async def main() -> Ending:
        ours, mine, others = await connected()
        sending = gate()

        async def send(data: bytes) -> None:
            ours.there.put(data[:10])
            sending.set()
            await gate().wait()

        ours.send = send  # type: ignore[method-assign]
        async with jobs() as group:
            group.start(mine.send, b"x" * 1000)
            await sending.wait()
            ending = await mine.close(0)
        assert ours.closed
        with pytest.raises(bowout.Truncated, match="inside a TLS record"):
            await others.receive()
        await ended(others)
        return ending

    ending = run(main)
    assert (ending.how, ending.sent, ending.unsent, ending.deadline_hit) == (How.UNFLUSHED, 0, 1000, True)


@on_every_loop
def test_an_end_of_output_that_fails_is_not_claimed(run: Runner) -> None:
    async def main() -> tuple[Ending, Ending]:
        ours, mine, others = await connected()

        async def send_eof() -> None:
            raise NotImplementedError

        ours.send_eof = send_eof  # type: ignore[attr-defined]
        mine._connection._transport._can_end_output = True  # type: ignore[attr-defined]
        async with jobs() as group:
            closing = group.start(others.close)
            return await mine.close(), await closing.result()

    ours, theirs = run(main)
    assert [ours.how, theirs.how] == [How.CLEAN, How.CLEAN]
    assert details(ours, EventKind.FIN)[-1] == "by closing the stream under TLS"


@on_every_loop
def test_an_end_of_output_that_hangs_costs_the_deadline(run: Runner) -> None:
    async def main() -> Ending:
        ours, mine, others = await connected()

        async def send_eof() -> None:
            await gate().wait()

        ours.send_eof = send_eof  # type: ignore[attr-defined]
        mine._connection._transport._can_end_output = True  # type: ignore[attr-defined]
        ending = await mine.close(0.2)
        await ended(others)
        return ending

    ending = run(main)
    assert (ending.how, ending.outbound) == (How.UNANSWERED, Outbound.FIN_SENT)
    assert details(ending, EventKind.FIN)[-1] == "by closing the stream under TLS"


# -- carriers that do not close


@on_every_loop
def test_a_carrier_that_takes_long_to_close_gets_a_moment_after_the_deadline(run: Runner) -> None:
    async def main() -> tuple[Ending, list[str]]:
        ours, mine, others = await connected()
        story: list[str] = []

        async def aclose() -> None:
            story.append("begins")
            try:
                await gate().wait()
            finally:
                story.append("stopped")

        ours.aclose = aclose  # type: ignore[method-assign]
        ending = await mine.close(0.1)
        await ended(others)
        return ending, story

    ending, story = run(main)
    assert story == ["begins", "stopped"]
    assert ending.duration < MOMENT


@on_every_loop
def test_a_carrier_gets_its_moment_after_a_send_that_took_all_the_time(run: Runner) -> None:
    async def main() -> None:
        ours, mine, others = await connected()
        story: list[str] = []

        async def send(data: bytes) -> None:
            await gate().wait()

        async def aclose() -> None:
            await settle()
            story.append("closed")

        ours.send = send  # type: ignore[method-assign]
        ours.aclose = aclose  # type: ignore[method-assign]
        assert (await mine.close(0)).deadline_hit
        assert story == ["closed"]
        await ended(others)

    run(main)


class TakesATurn(anyio.abc.SocketStream):
    """A socket stream that closes as those of anyio did up to 4.15, on asyncio."""

    def __init__(self) -> None:
        self.closed = False

    @property
    def _raw_socket(self) -> socket.socket:
        raise NotImplementedError

    @property
    def extra_attributes(self) -> dict[Any, Callable[[], Any]]:
        return {}

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await gate().wait()
        return b""

    async def send(self, item: bytes) -> None:
        await gate().wait()

    async def send_eof(self) -> None:
        await gate().wait()

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed = True


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_socket_stream_of_anyio_is_closed_though_that_is_cancelled(run: Runner) -> None:
    async def main() -> None:
        carrier = TakesATurn()
        stream = client(carrier)
        stream.abort()
        await stream.close()
        assert carrier.closed

    run(main)


@on_every_loop
def test_a_cancelled_close_stops_a_carrier_that_is_closing(run: Runner) -> None:
    async def main() -> list[str]:
        ours, mine, others = await connected()
        story: list[str] = []
        begun = gate()

        async def aclose() -> None:
            begun.set()
            try:
                await gate().wait()
            finally:
                story.append("stopped")

        ours.aclose = aclose  # type: ignore[method-assign]
        async with jobs() as group:
            closing = group.start(mine.close, PATIENCE)
            answering = group.start(others.close, PATIENCE)
            await begun.wait()
            assert mine.ending is not None
            closing.cancel()
            await closing.ended()
            assert story == ["stopped"]
            await answering.result()
        return story

    run(main)


@on_every_loop
@pytest.mark.parametrize("error", [ValueError("stuck"), OSError(5, "Input/output error")])
def test_a_carrier_that_cannot_be_closed_is_logged(
    run: Runner, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> Ending:
        ours, mine, others = await connected()

        async def aclose() -> None:
            ours.there.put(b"")
            raise error

        ours.aclose = aclose  # type: ignore[method-assign]
        async with jobs() as group:
            group.start(others.close)
            return await mine.close()

    assert run(main).how is How.CLEAN
    [record] = caplog.records
    assert (record.name, record.getMessage()) == ("bowout", "a stream under TLS could not be closed")
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@on_every_loop
def test_an_abort_that_fails_is_logged_and_closes(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    class WithAbort(Faulty):
        def abort(self) -> None:
            raise ValueError("no")

    async def main() -> Ending:
        there, back = Queue(), Queue()
        ours = WithAbort(there, back)
        stream = client(ours)
        ending = stream.abort()
        assert await stream.close() is ending
        assert ours.closed
        return ending

    assert run(main).outbound is Outbound.CUT
    assert [record.getMessage() for record in caplog.records] == ["a stream under TLS could not be aborted"]


async def ignore_cancellation(until: Any) -> None:
    """Wait for an event, whatever is done to the task."""
    if on_trio():
        with trio.CancelScope(shield=True):
            await until.wait()
    while not until.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await until.wait()


@on_every_loop
def test_a_carrier_that_ignores_cancellation_is_not_waited_for(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> Ending:
        ours, mine, others = await connected()
        released = gate()

        async def aclose() -> None:
            await ignore_cancellation(released)

        ours.aclose = aclose  # type: ignore[method-assign]
        ending = await mine.close(0)
        assert not released.is_set()
        released.set()
        await ended(others)
        await settle()
        return ending

    assert run(main).deadline_hit
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["a stream under TLS does not close: it ignores the cancellation of its calls"]


@on_every_loop
def test_a_carrier_whose_receive_ignores_cancellation_is_not_given_back(run: Runner) -> None:
    async def main() -> None:
        ours, mine, others = await connected()
        released = gate()

        async def receive(max_bytes: int) -> bytes:
            if not ours.back.data:
                await ignore_cancellation(released)
            return await ours.back.get(max_bytes)

        async with jobs() as group:
            answering = group.start(others.close, PATIENCE)
            await settle()
            ours.receive = receive  # type: ignore[method-assign]
            with pytest.raises(MisuseError, match="cannot be given back"):
                await mine.unwrap()
            assert mine.ending is not None
            assert ours.closed
            released.set()
            await answering.result()
        await settle()

    run(main)


# -- bounds


@on_every_loop
def test_no_more_than_a_chunk_waits_at_the_carrier(run: Runner) -> None:
    """A peer that does not read stops the sender; we stop a peer whose data nobody reads."""

    async def main() -> None:
        ours, mine, others = await connected()
        sizes: list[int] = []
        opened = gate()

        async def send(data: bytes) -> None:
            sizes.append(len(data))
            await opened.wait()
            ours.there.put(data)

        ours.send = send  # type: ignore[method-assign]
        async with jobs() as group:
            sending = group.start(mine.send, bytes(CHUNK * 20))
            await settle()
            assert not sending.done
            assert len(sizes) == 1
            assert mine._connection.engine.outgoing.size <= CHUNK
            before = len(ours.back.data)
            await others.send(bytes(CHUNK * 20))
            await settle()
            assert len(ours.back.data) - before >= CHUNK * 19
            opened.set()
            assert await others.receive_exactly(CHUNK * 20) == bytes(CHUNK * 20)
            assert await mine.receive_exactly(CHUNK * 20) == bytes(CHUNK * 20)
            assert max(sizes) <= CHUNK
            closing = group.start(others.close)
            await mine.close()
            await closing.result()

    run(main)


@on_every_loop
def test_calls_of_a_carrier_do_not_overlap(run: Runner) -> None:
    """One receives and one sends at a time, whatever the tasks of the application do."""

    class Counting(Faulty):
        most = 0

        async def receive(self, max_bytes: int) -> bytes:
            data: bytes = await self._count("receiving", lambda: super(Counting, self).receive(max_bytes))
            return data

        async def send(self, data: bytes) -> None:
            await self._count("sending", lambda: super(Counting, self).send(data))

        async def aclose(self) -> None:
            assert not getattr(self, "receiving", 0)
            assert not getattr(self, "sending", 0)
            await super().aclose()

        async def _count(self, name: str, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
            setattr(self, name, getattr(self, name, 0) + 1)
            Counting.most = max(Counting.most, getattr(self, name))
            try:
                await settle()
                return await call()
            finally:
                setattr(self, name, getattr(self, name) - 1)

    async def main() -> How:
        there, back = Queue(), Queue()
        mine, others = client(Counting(there, back)), server(Counting(back, there))
        async with jobs() as group:
            for stream in (mine, others):
                for _ in range(3):
                    group.start(stream.send, bytes(CHUNK))
                group.start(stream.wait_writable)
            receiving = [group.start(stream.receive_exactly, 3 * CHUNK) for stream in (mine, others)]
            assert [await received.result() for received in receiving] == [bytes(3 * CHUNK)] * 2
        async with jobs() as group:
            group.start(others.close)
            return (await mine.close()).how

    assert run(main) is How.CLEAN
    assert Counting.most == 1


# -- streams that are forgotten, reused, or used elsewhere


def forget(streams: list[Stream]) -> None:
    """Drop the only references."""
    streams.clear()
    gc.collect()


@everywhere
def test_a_stream_that_is_dropped_closes_its_carrier(run: Runner, kind: Kind) -> None:
    async def main() -> None:
        streams = [client(await carry(kind, link.sock))]
        await streams[0].handshake()
        await settle()
        with pytest.warns(ResourceWarning, match="was never closed"):
            forget(streams)
        await in_thread(link.await_ready)

    def listen(wire: Wire) -> str:
        wire.handshake()
        end = wire.read_to_end()
        link.ready.set()
        return end

    with peer(listen) as link:
        run(main)
    assert link.result in {"FIN", "RST"}


@everywhere
def test_a_pool_sees_that_the_peer_has_left(run: Runner, kind: Kind) -> None:
    async def main() -> None:
        stream = client(await carry(kind, link.sock))
        await stream.handshake()
        assert await stream.receive_exactly(5) == b"hello"
        assert stream.is_reusable()
        link.go.set()
        await in_thread(link.await_ready)
        while stream.is_reusable():
            await settle()
        assert (await stream.close()).how is How.CLEAN

    def leave(wire: Wire) -> None:
        wire.handshake()
        wire.send(b"hello")
        wire.link.await_go()
        wire.close_notify()
        wire.link.ready.set()
        wire.read_to_end()

    with peer(leave) as link:
        run(main)


@on_every_loop
def test_a_stream_whose_loop_is_over_is_ended_and_not_called_clean(run: Runner, loop: Backend) -> None:
    """Nothing can be awaited there any more, so nothing can be sent, and the ending says so."""
    _, mine, others = _run_and_leave_open(loop, connected)
    for stream in (mine, others):
        ending = run(stream.close)
        assert "when its event loop was over" in ending.reason
        assert ending.how in {How.UNFLUSHED, How.ABORTED}, ending.ladder()


def _run_and_leave_open(loop: Backend, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run it as a program does: what is left of its tasks is cancelled."""
    if loop == "trio":
        return trio.run(main)
    factory = None if loop == "asyncio" else importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


# -- what is no carrier


class NoStream:
    async def receive(self) -> bytes:
        raise NotImplementedError


@on_every_loop
@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: 7, "int cannot carry TLS: give a connected socket.socket, a byte stream of anyio or trio"),
        (lambda: None, "NoneType cannot carry TLS"),
        (NoStream, "NoStream cannot carry TLS: .* the methods of bowout.transport.ByteStream"),
        (lambda: Faulty, "type cannot carry TLS"),
        (lambda: (1, 2), r"the tuple \(int, int\) cannot carry TLS: give an asyncio pair \(reader, writer\)$"),
        (lambda: (asyncio.StreamReader,), r"the tuple \(type\) cannot carry TLS"),
        (lambda: anyio.create_memory_object_stream[bytes](0)[0], "MemoryObjectSendStream cannot carry TLS"),
        (lambda: trio.testing.memory_stream_pair()[0].send_stream, "MemorySendStream cannot carry TLS"),
    ],
)
@pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning")
def test_what_is_no_stream_is_refused(run: Runner, make: Callable[[], Any], text: str) -> None:
    async def main() -> None:
        context = our_context("1.3", "client")
        what = make()
        with pytest.raises(TypeError, match=text):
            bowout.wrap(what, context, server_hostname=NAME)
        if what is not None:
            with pytest.raises(TypeError, match=text):
                bowout.connect("localhost", 443, context=context, over=what)

    run(main)


@pytest.mark.parametrize("loop", ["asyncio"])
def test_a_pair_the_wrong_way_round(run: Runner) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        with theirs, pytest.raises(TypeError, match=r"\(reader, writer\), in this order"):
            bowout.wrap((writer, reader), our_context("1.3", "client"), server_hostname=NAME)
        writer.close()
        await writer.wait_closed()

    run(main)


@pytest.mark.parametrize("loop", ["asyncio"])
def test_a_stream_of_datagrams_is_refused(run: Runner) -> None:
    async def main() -> None:
        async with await anyio.create_connected_udp_socket("127.0.0.1", 9) as stream:
            with pytest.raises(TypeError, match=r"ConnectedUDPSocket cannot carry TLS: give an anyio\.abc\.ByteStream"):
                bowout.wrap(stream, our_context("1.3", "client"), server_hostname=NAME)

    run(main)


@on_every_loop
def test_a_carrier_may_have_an_attribute_of_any_name(run: Runner) -> None:
    class OfTheTown(Faulty):
        library = "the town's"

    async def main() -> None:
        stream = client(OfTheTown(Queue(), Queue()))
        stream.abort()
        await stream.close()

    run(main)


@on_every_loop
def test_a_carrier_of_another_event_loop_is_refused(run: Runner) -> None:
    async def main() -> None:
        context = our_context("1.3", "client")
        if on_trio():
            pair = (FakeReader(), FakeWriter())
            with pytest.raises(MisuseError, match=r"an asyncio pair .* cannot be used here: asyncio has to run"):
                bowout.wrap(pair, context, server_hostname=NAME)
            with pytest.raises(MisuseError, match="asyncio has to run"):
                await bowout.connect("localhost", 443, context=context, over=pair)
        else:
            stream, _ = trio.testing.memory_stream_pair()
            with pytest.raises(MisuseError, match="trio's StapledStream cannot be used here: trio has to run"):
                bowout.wrap(stream, context, server_hostname=NAME)

    run(main)


class FakeReader:
    async def read(self, count: int) -> bytes:
        raise NotImplementedError


class FakeWriter:
    async def drain(self) -> None: ...

    async def wait_closed(self) -> None: ...

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


def test_the_protocol_describes_what_is_needed() -> None:
    assert issubclass(Faulty, ByteStream)
    assert not issubclass(NoStream, ByteStream)


# -- what connect() takes


@everywhere
def test_connect_over_a_carrier(run: Runner, kind: Kind) -> None:
    async def main() -> tuple[str, Ending | None]:
        carrier = await carry(kind, link.sock)
        async with bowout.connect(NAME, 443, context=our_context("1.3", "client"), over=carrier) as stream:
            pass
        return stream.peer, stream.ending

    with peer(polite) as link:
        name, ending = run(main)
    assert name == f"{NAME}:443"
    assert ending is not None
    assert ending.how is How.CLEAN


@everywhere
def test_starttls_over_a_carrier(run: Runner, kind: Kind) -> None:
    def upgrade(wire: Wire) -> str:
        assert wire.sock.recv(100) == b"\x00\x00\x00\x08\x04\xd2\x16/"
        wire.sock.sendall(b"S")
        return polite(wire)

    async def main() -> Ending | None:
        carrier = await carry(kind, link.sock)
        connecting = bowout.connect(NAME, 5432, context=our_context("1.3", "client"), over=carrier, starttls="postgres")
        async with connecting as stream:
            pass
        return stream.ending

    with peer(upgrade) as link:
        ending = run(main)
    assert ending is not None
    assert ending.how is How.CLEAN


@everywhere
def test_a_starttls_that_fails_closes_the_carrier(run: Runner, kind: Kind) -> None:
    async def main() -> None:
        ours, theirs = tcp_pair()
        with theirs:
            theirs.sendall(b"N")
            carrier = await carry(kind, ours)
            with pytest.raises(bowout.StartTLSError):
                await bowout.connect(
                    NAME, 5432, context=our_context("1.3", "client"), over=carrier, starttls="postgres"
                )
            theirs.settimeout(PATIENCE)
            assert await in_thread(lambda: theirs.recv(100)) == b"\x00\x00\x00\x08\x04\xd2\x16/"
            assert await in_thread(lambda: theirs.recv(100)) == b""

    run(main)


@everywhere
def test_a_failed_handshake_closes_the_carrier(run: Runner, kind: Kind) -> None:
    async def main() -> Ending | None:
        ours, theirs = await ends(kind)
        mine = client(ours)
        others = bowout.wrap(theirs, our_context("1.3", "client"), server_hostname=NAME)
        async with jobs() as group:
            failing = group.start(others.handshake)
            with pytest.raises(bowout.HandshakeError):
                await mine.handshake()
            assert isinstance(await failing.ended(), bowout.HandshakeError)
        return mine.ending

    ending = run(main)
    assert ending is not None
    assert ending.how is How.FAILED_HANDSHAKE


@on_every_loop
@pytest.mark.parametrize("role", [client, server])
def test_a_handshake_whose_bytes_cannot_be_sent_does_not_wait_for_an_answer(
    run: Runner, role: Callable[..., Stream]
) -> None:
    """The other end waits for us, and says nothing for ever."""

    async def fail(data: bytes) -> None:
        raise OSError(0, "the output has ended")

    async def main() -> tuple[bowout.HandshakeError, Ending | None]:
        ours, theirs = faulty_pair()
        ours.send = fail  # type: ignore[method-assign]
        mine, others = role(ours, handshake_timeout=PATIENCE), (server if role is client else client)(theirs)
        async with jobs() as group:
            failing = group.start(others.handshake)
            with pytest.raises(bowout.HandshakeError) as caught:
                await mine.handshake()
            await failing.ended()
        return caught.value, mine.ending

    error, ending = run(main)
    assert "the connection was lost during the handshake: the output has ended" in str(error)
    assert ending is not None
    assert ending.how is How.FAILED_HANDSHAKE
