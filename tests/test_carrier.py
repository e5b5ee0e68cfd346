"""TLS over byte streams that are no sockets: with both ends here, and every carrier as it should be."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import bowout
from bowout import Ending, EventKind, How, Inbound, Outbound, Stream
from bowout._carriers import adapted
from helpers.carriers import ABLE, IN_MEMORY, MEMORIES, WHERE, Kind, carry, ends
from helpers.peers import require_module
from helpers.runners import BACKENDS, Backend, Runner
from helpers.served import gate
from helpers.tasks import Awaits, cancelled, in_thread, jobs, settle
from helpers.wire import (
    NAME,
    PATIENCE,
    VERSIONS,
    Version,
    Wire,
    our_context,
    peer,
    polite,
)

both_versions = pytest.mark.parametrize("version", VERSIONS)
everywhere = pytest.mark.parametrize(("loop", "kind"), WHERE)
in_memory = pytest.mark.parametrize(("loop", "memory"), MEMORIES)

on_every_loop = pytest.mark.parametrize("loop", BACKENDS)

SOON = 0.3
"""A deadline that is meant to be reached, in seconds."""
DATA = bytes(range(256)) * 200


@pytest.fixture
def run(loop: Backend) -> Runner:
    """As elsewhere, but a test chooses the event loops together with the carriers that they have."""
    require_module(loop)
    return Runner(loop)


def client(carrier: Any, version: Version = "1.3", **options: Any) -> Stream:
    return bowout.wrap(carrier, our_context(version, "client"), server_hostname=NAME, **patient(options))


def server(carrier: Any, version: Version = "1.3", **options: Any) -> Stream:
    return bowout.wrap(carrier, our_context(version, "server"), server_side=True, **patient(options))


def patient(options: dict[str, Any]) -> dict[str, Any]:
    return {"handshake_timeout": PATIENCE, "close_timeout": PATIENCE, **options}


async def echo(stream: Stream) -> Ending:
    """Echo to the end, and close; the answers may have to wait for the questions."""
    received = b""
    async for chunk in stream:
        received += chunk
    await stream.send(received)
    return await stream.close()


async def asks(stream: Stream, question: bytes) -> Ending:
    """Ask a server that echoes at the end, and close."""
    await stream.send(question)
    await stream.send_eof()
    assert await stream.receive_exactly(len(question)) == question
    assert await stream.receive() == b""
    return await stream.close()


async def converse(ours: Stream, theirs: Stream, question: bytes = DATA) -> tuple[Ending, Ending]:
    """Ask, and get the answer."""
    async with jobs() as group:
        answering = group.start(echo, theirs)
        asking = group.start(asks, ours, question)
        return await asking.result(), await answering.result()


async def part(ours: Stream, theirs: Stream) -> tuple[Ending, Ending]:
    """Shake hands, and close at both ends at once."""
    async with jobs() as group:
        closing = [group.start(shake_and_close, stream) for stream in (ours, theirs)]
        mine, others = [await close.result() for close in closing]
        return mine, others


async def shake_and_close(stream: Stream) -> Ending:
    await stream.handshake()
    return await stream.close()


def details(ending: Ending, kind: EventKind) -> list[str]:
    return [event.detail for event in ending.events if event.kind is kind]


# -- all goes well


@both_versions
@in_memory
def test_in_memory(run: Runner, memory: str, version: Version) -> None:
    async def main() -> tuple[Ending, Ending]:
        ours, theirs = IN_MEMORY[memory]()
        if version == "1.2":  # It has no half-close.
            return await part(client(ours, version), server(theirs, version))
        return await converse(client(ours), server(theirs))

    for ending in run(main):
        assert (ending.how, ending.deadline_hit, ending.unacknowledged) == (How.CLEAN, False, None), ending.ladder()
        assert ending.outbound is Outbound.FIN_SENT


@everywhere
def test_over_a_pair_of_unix_sockets(run: Runner, kind: Kind) -> None:
    async def main() -> tuple[Ending, Ending]:
        ours, theirs = await ends(kind)
        return await converse(client(ours), server(theirs), DATA * 20)

    for ending in run(main):
        assert (ending.how, ending.deadline_hit) == (How.CLEAN, False), ending.ladder()
        assert (ending.sent, ending.received) == (len(DATA) * 20, len(DATA) * 20)


class Valve:
    """A carrier of which a test opens the way out: it has taken a number of sends, and holds the next."""

    def __init__(self, carrier: Any, takes: int) -> None:
        self._carrier: Any = adapted(carrier)
        self._takes = takes
        self.opened = gate()

    async def receive(self, max_bytes: int) -> bytes:
        return bytes(await self._carrier.receive(max_bytes))

    async def send(self, data: bytes) -> None:
        self._takes -= 1
        if self._takes < 0:
            await self.opened.wait()
        await self._carrier.send(data)

    async def aclose(self) -> None:
        await self._carrier.aclose()


@in_memory
def test_a_handshake_does_not_wait_until_the_tickets_are_taken(run: Runner, memory: str) -> None:
    """Over a stream that buffers nothing they are taken when the client reads, maybe after the first answer only."""

    async def main() -> list[How]:
        ours, theirs = IN_MEMORY[memory]()
        valve = Valve(theirs, takes=1)
        mine, others = client(ours), server(valve)
        async with jobs() as group:
            shaking = group.start(others.handshake)
            await mine.send(b"question")
            await shaking.result()
            assert await others.receive_exactly(8) == b"question"
            answering = group.start(others.send, b"answer")
            await settle()
            assert not answering.done
            valve.opened.set()
            assert await mine.receive_exactly(6) == b"answer"
        return [ending.how for ending in await part(mine, others)]

    assert run(main) == [How.CLEAN, How.CLEAN]


@on_every_loop
@both_versions
@pytest.mark.parametrize("depth", [1, 3])
def test_tls_in_tls(run: Runner, depth: int, version: Version) -> None:
    """The streams above the first one are each closed by the one that they carry."""

    async def main() -> list[Ending | None]:
        ours, theirs = socket.socketpair()
        mine, others = [client(ours, version)], [server(theirs, version)]
        for _ in range(depth):
            mine.append(client(mine[-1], version))
            others.append(server(others[-1], version))
        if version == "1.3":
            await converse(mine[-1], others[-1])
        else:
            await part(mine[-1], others[-1])
        return [stream.ending for stream in (*mine, *others)]

    for ending in run(main):
        assert ending is not None
        assert (ending.how, ending.deadline_hit) == (How.CLEAN, False), ending.ladder()


@on_every_loop
def test_tls_begins_three_times_on_one_connection(run: Runner) -> None:
    """Each time the streams that are there carry the next: between, there is data."""

    async def serve(sock: socket.socket) -> list[How]:
        stream, streams = server(sock), []
        for _ in range(3):
            streams.append(stream)
            assert await stream.receive_exactly(8) == b"STARTTLS"
            await stream.send(b"go ahead")
            stream = server(stream)
        await echo(stream)
        return [how(one) for one in (*streams, stream)]

    async def main() -> list[How]:
        ours, theirs = socket.socketpair()
        async with jobs() as group:
            serving = group.start(serve, theirs)
            stream, streams = client(ours), []
            for _ in range(3):
                streams.append(stream)
                await stream.send(b"STARTTLS")
                assert await stream.receive_exactly(8) == b"go ahead"
                stream = client(stream)
            await asks(stream, DATA)
            return [*map(how, (*streams, stream)), *await serving.result()]

    assert run(main) == [How.CLEAN] * 8


def how(stream: Stream) -> How:
    assert stream.ending is not None
    return stream.ending.how


@everywhere
def test_what_was_received_before(run: Runner, kind: Kind) -> None:
    def begin(wire: Wire) -> str:
        wire.handshake()
        wire.send(b"hello")
        return polite_end(wire)

    async def main() -> How:
        carrier = await carry(kind, link.sock)
        first = await read_some(carrier, 50)
        async with server(carrier, received=first) as stream:
            assert await stream.receive_exactly(5) == b"hello"
        return how(stream)

    with peer(begin, we="server") as link:
        assert run(main) is How.CLEAN
    assert link.result == "close_notify"


def polite_end(wire: Wire) -> str:
    end = wire.read_to_end()
    wire.close_notify()
    return end


async def read_some(carrier: Any, count: int) -> bytes:
    """Read from a carrier of any kind, as its owner does; b"" at the end."""
    if isinstance(carrier, tuple):
        return bytes(await carrier[0].read(count))
    receive = getattr(carrier, "receive_some", None) or carrier.receive
    try:
        return bytes(await receive(count))
    except anyio.EndOfStream:
        return b""


async def write_all(carrier: Any, data: bytes) -> None:
    if isinstance(carrier, tuple):
        carrier[1].write(data)
        await carrier[1].drain()
    else:
        await (getattr(carrier, "send_all", None) or carrier.send)(data)


async def close_carrier(carrier: Any) -> None:
    if isinstance(carrier, tuple):
        carrier[1].close()
        await carrier[1].wait_closed()
    else:
        await carrier.aclose()


# -- the end of TLS alone


@both_versions
@everywhere
def test_an_unwrap_gives_the_carrier_back(run: Runner, kind: Kind, version: Version) -> None:
    plain = DATA * 3

    def talk_on(wire: Wire) -> bytes:
        wire.handshake()
        wire.read_to_end()
        wire.sock.sendall(wire.encrypt_close_notify() + plain)
        return wire.sock.recv(100)

    async def main() -> Stream:
        carrier = await carry(kind, link.sock)
        stream = client(carrier, version)
        await stream.handshake()
        transport, leftover = await stream.unwrap()
        assert transport is carrier
        while len(leftover) < len(plain):
            leftover += await read_some(carrier, 1 << 16)
        assert leftover == plain
        await write_all(carrier, b"goodbye in plain")
        assert await read_some(carrier, 1) == b""
        await close_carrier(carrier)
        return stream

    with peer(talk_on, version=version) as link:
        stream = run(main)
    assert link.result == b"goodbye in plain"
    ending = stream.ending
    assert ending is not None
    assert (ending.how, ending.unwrapped, ending.ignored) == (How.CLEAN, True, 0)
    assert details(ending, EventKind.RELEASED) == ["the stream under TLS goes on"]
    assert str(ending) == "clean: both sent close_notify, and the stream under TLS goes on in plain"
    assert "TLS ended, stream under TLS goes on" in ending.ladder()


@everywhere
def test_what_comes_late_after_an_unwrap_is_the_callers(run: Runner, kind: Kind) -> None:
    """A receive of ours was waiting for more when the stream was given back."""

    def talk_later(wire: Wire) -> None:
        wire.handshake()
        polite_end(wire)
        link.await_go()
        wire.sock.sendall(b"later")

    async def main() -> bytes:
        carrier = await carry(kind, link.sock)
        stream = client(carrier)
        await stream.handshake()
        _, leftover = await stream.unwrap()
        assert leftover == b""
        await settle()
        link.go.set()
        try:
            return await read_some(carrier, 100)
        finally:
            await close_carrier(carrier)

    with peer(talk_later) as link:
        assert run(main) == b"later"


@on_every_loop
def test_an_unwrap_of_tls_in_tls_gives_the_outer_stream(run: Runner) -> None:
    async def serve(sock: socket.socket) -> Ending:
        outer = server(sock)
        inner = server(outer)
        assert await inner.receive() == b""
        transport, _ = await inner.unwrap()
        assert transport is outer
        return await echo(outer)

    async def main() -> list[Ending]:
        ours, theirs = socket.socketpair()
        async with jobs() as group:
            serving = group.start(serve, theirs)
            outer = client(ours)
            inner = client(outer)
            await inner.handshake()
            transport, leftover = await inner.unwrap()
            assert transport is outer
            assert leftover == b""
            return [await asks(outer, b"still encrypted"), await serving.result()]

    assert [ending.how for ending in run(main)] == [How.CLEAN, How.CLEAN]


# -- what a carrier cannot do


@everywhere
def test_an_abort(run: Runner, kind: Kind) -> None:
    """An RST where the carrier has one; otherwise an end without close_notify, and the ending says which."""

    async def main() -> Ending:
        stream = client(await carry(kind, link.sock))
        await stream.handshake()
        await stream.send(b"never mind")
        ending = stream.abort()
        assert await stream.close() is ending
        return ending

    def listen(wire: Wire) -> str:
        wire.handshake()
        return wire.read_to_end()

    with peer(listen) as link:
        ending = run(main)
    assert ending.how is How.ABORTED
    if kind in ABLE:
        assert (link.result, ending.outbound) == ("RST", Outbound.RESET)
        assert details(ending, EventKind.FIN) == []
    else:
        assert link.result in {"FIN", "RST"}  # With something unread the kernel sends an RST by itself.
        assert ending.outbound is Outbound.CUT
        assert details(ending, EventKind.FIN) == ["by closing the stream under TLS"]
        assert "we cut it off with a FIN and no close_notify" in str(ending)


@everywhere
def test_the_ending_says_what_the_carrier_cannot_tell(run: Runner, kind: Kind) -> None:
    async def main() -> Ending:
        stream = client(await carry(kind, link.sock))
        await stream.handshake()
        return await stream.close()

    with peer(polite) as link:
        ending = run(main)
    assert (ending.how, ending.outbound) == (How.CLEAN, Outbound.FIN_SENT)
    lacks = {
        "pair": "",
        "trio": "",
        "anyio": "the stream under TLS has no RST, no acknowledgements",
        "bare": "the stream under TLS has no FIN of its own, no RST, no acknowledgements",
    }
    assert details(ending, EventKind.RELEASED) == [lacks[kind]]
    assert details(ending, EventKind.FIN)[-1] == ("by closing the stream under TLS" if kind == "bare" else "")
    assert (ending.unacknowledged is not None) == (kind in ABLE)


@everywhere
def test_a_block_left_by_an_error_is_cut_off(run: Runner, kind: Kind) -> None:
    async def main() -> Stream:
        stream = client(await carry(kind, link.sock))
        with pytest.raises(ZeroDivisionError):
            async with stream:
                raise ZeroDivisionError
        return stream

    def listen(wire: Wire) -> str:
        wire.handshake()
        return wire.read_to_end()

    with peer(listen) as link:
        stream = run(main)
    # To close a socket with a ticket unread sends an RST: where there is a FIN, what comes before the close is read.
    assert link.result == "FIN" or (link.result, kind) == ("RST", "bare")
    assert stream.ending is not None
    assert (stream.ending.how, stream.ending.outbound) == (How.ABORTED, Outbound.CUT)


@everywhere
def test_the_addresses_are_the_carriers(run: Runner, kind: Kind) -> None:
    async def main() -> None:
        address, name = link.sock.getpeername(), link.sock.getsockname()
        async with client(await carry(kind, link.sock)) as stream:
            assert stream.socket is None
            if kind != "bare":
                assert stream.peer == f"{address[0]}:{address[1]}"
                assert (stream.remote_address, stream.local_address) == (address, name)
            else:
                assert (stream.peer, stream.remote_address, stream.local_address) == ("", None, None)

    with peer(polite) as link:
        run(main)


# -- cancellation


@everywhere
def test_a_block_left_by_a_cancellation_sends_close_notify_and_leaves_nothing(run: Runner, kind: Kind) -> None:
    async def main() -> Stream:
        stream = client(await carry(kind, link.sock))

        async def wait() -> None:
            async with stream:
                await stream.receive()

        async with jobs() as group:
            waiting = group.start(wait)
            await settle()
            while not stream._connection.engine.handshake_done:
                await in_thread(lambda: None)
                await settle()
            waiting.cancel()
            await waiting.ended()
            assert stream.ending is not None
        return stream

    def listen(wire: Wire) -> str:
        wire.handshake()
        return wire.read_to_end()

    with peer(listen) as link:
        stream = run(main)
    assert link.result == "close_notify"
    assert stream.ending is not None
    assert stream.ending.how is How.UNANSWERED


@both_versions
@everywhere
@pytest.mark.parametrize("verb", ["handshake", "send", "receive", "close", "unwrap"])
def test_a_verb_cancelled_at_each_await_leaves_nothing(run: Runner, kind: Kind, version: Version, verb: str) -> None:
    """The runner finds tasks, the guard of the tests descriptors."""

    async def main(awaits: Awaits) -> Ending:
        stream = client(await carry(kind, link.sock), version)
        if verb != "handshake":
            await stream.handshake()
        call: dict[str, Callable[[], Awaitable[Any]]] = {
            "handshake": stream.handshake,
            "send": lambda: stream.send(DATA),
            "receive": lambda: stream.receive_exactly(5),
            "close": stream.close,
            "unwrap": stream.unwrap,
        }

        async def act() -> None:
            result = await call[verb]()
            if verb == "unwrap":
                await close_carrier(result[0])

        await awaits.drive(act)
        ending = await stream.close()
        assert await stream.close() is ending
        return ending

    def talk(wire: Wire) -> None:
        with contextlib.suppress(OSError, AssertionError):  # We may be gone at any time.
            wire.handshake()
            wire.send(b"hello")
            polite_end(wire)

    for number in range(1, 40):
        awaits = Awaits(number)
        with peer(talk, version=version) as link:
            ending = run(main, awaits)
        assert ending.how is not How.ALERT, ending.ladder()
        if awaits.count < number:
            return
    pytest.fail("it waits too often")


@everywhere
def test_a_cancelled_send_goes_on_at_the_carrier(run: Runner, kind: Kind) -> None:
    """All of it was encrypted, and is with the carrier: nothing is lost, and nothing garbled."""

    async def main() -> Ending:
        valve = Valve(await carry(kind, link.sock), takes=2)  # Both flights of the handshake.
        stream = client(valve)
        await stream.handshake()
        async with jobs() as group:
            sending = group.start(stream.send, b"x" * 16000)
            await settle()
            sending.cancel()
            assert isinstance(await sending.ended(), cancelled())
        valve.opened.set()
        await stream.send(b"z")
        return await stream.close()

    def listen(wire: Wire) -> bytes:
        wire.handshake()
        polite_end(wire)
        return bytes(wire.received)

    with peer(listen) as link:
        ending = run(main)
    assert (ending.how, ending.sent) == (How.CLEAN, 16001)
    assert link.result == b"x" * 16000 + b"z"


@everywhere
def test_a_send_cancelled_in_the_middle_is_not_vouched_for(run: Runner, kind: Kind) -> None:
    async def main() -> Ending:
        valve = Valve(await carry(kind, link.sock), takes=2)
        stream = client(valve)
        await stream.handshake()
        async with jobs() as group:
            sending = group.start(stream.send, bytes(1 << 20))
            await settle()
            sending.cancel()
            assert isinstance(await sending.ended(), cancelled())
        valve.opened.set()
        with pytest.raises(bowout.SendInterrupted):
            await stream.send(b"z")
        return await stream.close()

    def listen(wire: Wire) -> str:
        wire.handshake()
        return wire.read_to_end()

    with peer(listen) as link:
        ending = run(main)
    # The valve has no FIN of its own, and to close a socket with a ticket unread sends an RST.
    assert link.result in {"FIN", "RST"}
    assert ending.how is How.ABORTED
    assert 0 < ending.sent < 1 << 20 == ending.sent + ending.unsent


@everywhere
def test_a_peer_that_never_reads_costs_the_deadline(run: Runner, kind: Kind) -> None:
    async def main() -> Ending:
        stream = client(await carry(kind, link.sock))
        await stream.handshake()
        async with jobs() as group:
            sending = group.start(stream.send, bytes(8 << 20))
            await settle()
            ending = await stream.close(SOON)
            assert isinstance(await sending.ended(), bowout.StreamClosed)
        return ending

    def deaf(wire: Wire) -> None:
        wire.handshake()
        wire.hold()

    with peer(deaf, small=True) as link:
        ending = run(main)
    assert (ending.how, ending.deadline_hit, ending.inbound) == (How.UNFLUSHED, True, Inbound.OPEN)
    assert ending.sent + ending.unsent == 8 << 20
