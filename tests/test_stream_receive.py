"""Receiving: every byte in order, then the truth about the end."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bowout
from bowout import (
    AlertReceived,
    BusyError,
    How,
    Inbound,
    IncompleteRead,
    LimitExceeded,
    ProtocolViolation,
    Reset,
    Stream,
    StreamClosed,
    Truncated,
)
from helpers.runners import Runner
from helpers.tasks import in_thread, jobs, settle, turn
from helpers.wire import ROLES, VERSIONS, Link, Role, Script, Version, Wire, peer, polite

both_versions = pytest.mark.parametrize("version", VERSIONS)
both_roles = pytest.mark.parametrize("we", ROLES)


def talk(*pieces: bytes) -> Script:
    """A script that sends each piece in a record, then close_notify."""

    def script(wire: Wire) -> str:
        wire.handshake()
        for piece in pieces:
            wire.send(piece)
        wire.close_notify()
        wire.link.ready.set()
        return wire.read_to_end()

    return script


async def opened(link: Link) -> Stream:
    """A stream whose peer has sent all that it has to send."""
    stream = link.stream()
    await stream.handshake()
    await in_thread(link.await_ready)
    return stream


# -- the end of the peer's direction ---------------------------------------------------------------------------------


@both_versions
@both_roles
def test_the_end_is_empty_at_close_notify_and_stays_so(run: Runner, version: Version, we: Role) -> None:
    async def main() -> list[bytes]:
        stream = link.stream()
        got = [await stream.receive_exactly(4), await stream.receive(), await stream.receive()]
        await stream.close()
        return got

    with peer(talk(b"data"), version=version, we=we) as link:
        assert run(main) == [b"data", b"", b""]


def fin(wire: Wire) -> None:
    """Send data, then a bare FIN at a record boundary."""
    wire.handshake()
    wire.send(b"data")
    wire.fin()
    wire.link.ready.set()
    wire.read_to_end()


def fin_inside(wire: Wire) -> None:
    """Send data, then half a record and a FIN."""
    wire.handshake()
    wire.send(b"data")
    wire.sock.sendall(wire.encrypt(b"more data")[:-3])
    wire.fin()
    wire.link.ready.set()
    wire.read_to_end()


def fin_inside_header(wire: Wire) -> None:
    """Send data, then three bytes of a record's header and a FIN."""
    wire.handshake()
    wire.send(b"data")
    wire.sock.sendall(wire.encrypt(b"more data")[:3])
    wire.fin()
    wire.link.ready.set()
    wire.read_to_end()


def rst(wire: Wire) -> None:
    """Send data, then an RST."""
    wire.handshake()
    wire.send(b"data")
    wire.rst()
    wire.link.ready.set()


def garbage(wire: Wire) -> str:
    """Send data, then a record that cannot be decrypted."""
    wire.handshake()
    wire.send(b"data")
    wire.garbage()
    wire.link.ready.set()
    return wire.read_to_end()


def alert(wire: Wire) -> None:
    """Send data, then the fatal alert with which OpenSSL answers a corrupt record."""
    wire.handshake()
    wire.send(b"data")
    wire._in.write(b"\x17\x03\x03\x00\x40" + b"\x5a" * 64)
    wire.read_to_end()
    wire.link.ready.set()


BAD_ENDS = pytest.mark.parametrize(
    ("script", "error", "how"),
    [
        (fin, Truncated, How.TRUNCATED),
        (fin_inside, Truncated, How.TRUNCATED),
        (fin_inside_header, Truncated, How.TRUNCATED),
        (rst, Reset, How.RESET),
        (garbage, ProtocolViolation, How.ALERT),
        (alert, AlertReceived, How.ALERT),
    ],
)


@BAD_ENDS
@both_versions
@both_roles
def test_a_bad_end_comes_after_the_data_and_is_told_again_and_again(
    run: Runner, script: Script, error: type[bowout.PeerError], how: How, version: Version, we: Role
) -> None:
    async def main() -> bowout.Ending:
        stream = await opened(link)
        assert await stream.receive() == b"data"
        for _ in range(3):
            with pytest.raises(error) as caught:
                await stream.receive()
            assert caught.value.ending is not None
            assert caught.value.ending.how is how
        return await stream.close()

    with peer(script, version=version, we=we) as link:
        ending = run(main)
    assert ending.how is how


@BAD_ENDS
def test_what_came_before_a_bad_end_stays_readable(
    run: Runner, script: Script, error: type[bowout.PeerError], how: How
) -> None:
    async def main() -> tuple[bytes, bytes]:
        stream = await opened(link)
        with pytest.raises(error):
            await stream.receive_exactly(100)
        with pytest.raises(error):
            await stream.receive_until(b"\n")
        rest = await stream.receive(2), await stream.receive()
        with pytest.raises(error):
            await stream.receive()
        await stream.close()
        return rest

    with peer(script) as link:
        assert run(main) == (b"da", b"ta")


def test_an_abort_after_a_bad_end_takes_nothing_away(run: Runner) -> None:
    async def main() -> tuple[bool, bytes]:
        stream = await opened(link)
        with pytest.raises(bowout.ProtocolViolation):
            await stream.receive_exactly(100)
        before = stream.ending
        return stream.abort() is before, await stream.receive()

    with peer(garbage) as link:
        assert run(main) == (True, b"data")


@pytest.mark.parametrize(
    ("script", "inside"),
    [(fin, False), (fin_inside, True), (fin_inside_header, True)],
    ids=["boundary", "body", "header"],
)
def test_a_truncation_says_where_it_is(run: Runner, script: Script, inside: bool) -> None:
    async def main() -> bowout.Ending:
        stream = await opened(link)
        await stream.receive()
        with pytest.raises(Truncated) as caught:
            await stream.receive()
        assert caught.value.inside_record is inside
        return await stream.close()

    with peer(script) as link:
        ending = run(main)
    assert ending.inbound is (Inbound.TRUNCATED_INSIDE_RECORD if inside else Inbound.TRUNCATED_AT_BOUNDARY)


@both_versions
def test_a_tolerated_truncation_is_the_end_of_the_stream_but_no_clean_one(run: Runner, version: Version) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream(truncation="tolerate")
        assert await stream.receive_exactly(4) == b"data"
        assert await stream.receive() == b""
        return await stream.close()

    with peer(fin, version=version) as link:
        assert run(main).how is How.TRUNCATED


@pytest.mark.parametrize("script", [fin_inside, fin_inside_header])
def test_a_truncation_inside_a_record_is_never_tolerated(run: Runner, script: Script) -> None:
    async def main() -> None:
        stream = link.stream(truncation="tolerate")
        assert await stream.receive_exactly(4) == b"data"
        with pytest.raises(Truncated):
            await stream.receive()
        await stream.close()

    with peer(script) as link:
        run(main)


def test_a_peer_at_fault_is_told_by_our_alert(run: Runner) -> None:
    async def main() -> None:
        stream = await opened(link)
        await stream.receive()
        with pytest.raises(ProtocolViolation) as caught:
            await stream.receive()
        assert caught.value.alert is not None
        assert caught.value.alert.name == "bad_record_mac"

    with peer(garbage) as link:
        run(main)
    assert link.result == "SSLV3_ALERT_BAD_RECORD_MAC"


@pytest.mark.parametrize("script", [rst, garbage, alert])
def test_an_end_beyond_repair_closes_the_descriptor_by_itself(run: Runner, script: Script) -> None:
    async def main() -> None:
        stream = await opened(link)
        await stream.receive()
        with pytest.raises(bowout.PeerError) as caught:
            await stream.receive()
        assert stream.ending is caught.value.ending is await stream.wait_ended()
        assert link.sock.fileno() == -1

    with peer(script) as link:
        run(main)


@pytest.mark.parametrize("script", [rst, garbage, alert])
def test_a_small_byte_cap_does_not_count_what_was_received_before(run: Runner, script: Script) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream(linger_bytes=300)
        await stream.handshake()
        await in_thread(link.await_ready)
        await stream.receive()
        with pytest.raises(bowout.PeerError):
            await stream.receive()
        return await stream.close()

    with peer(script) as link:
        assert not run(main).cap_hit


def test_a_reset_after_a_truncation_is_still_a_truncation(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        with pytest.raises(Truncated):
            await stream.receive()
        link.go.set()
        await in_thread(link.await_ready)
        with pytest.raises(Truncated):
            await stream.receive()
        return await stream.close()

    def fin_then_rst(wire: Wire) -> None:
        wire.handshake()
        wire.fin()
        link.await_go()
        wire.rst()
        link.ready.set()

    with peer(fin_then_rst) as link:
        assert run(main).how is How.TRUNCATED


# -- exactly, until, lines, chunks -----------------------------------------------------------------------------------


def test_receive_gives_at_most_what_was_asked_for(run: Runner) -> None:
    async def main() -> list[bytes]:
        stream = await opened(link)
        got = [await stream.receive(3), await stream.receive(100)]
        await stream.close()
        return got

    with peer(talk(b"abcdef")) as link:
        assert run(main) == [b"abc", b"def"]


def test_receive_into_fills_the_buffer_with_several_records(run: Runner) -> None:
    async def main() -> bytes:
        stream = await opened(link)
        buffer = bytearray(100)
        count = await stream.receive_into(memoryview(buffer)[10:])
        assert buffer[:10] == bytes(10)
        await stream.close()
        return bytes(buffer[10 : 10 + count])

    with peer(talk(b"one", b"two", b"three")) as link:
        assert run(main) == b"onetwothree"


def test_receive_into_begins_with_what_is_buffered(run: Runner) -> None:
    async def main() -> bytes:
        stream = await opened(link)
        await stream.receive_until(b"\n")
        buffer = bytearray(2)
        assert await stream.receive_into(buffer) == 2
        await stream.close()
        return bytes(buffer)

    with peer(talk(b"line\nrest")) as link:
        assert run(main) == b"re"


def test_receive_exactly_says_how_far_it_came(run: Runner) -> None:
    async def main() -> tuple[bytes, int | None]:
        stream = link.stream()
        with pytest.raises(IncompleteRead) as caught:
            await stream.receive_exactly(10)
        await stream.close()
        return caught.value.partial, caught.value.expected

    with peer(talk(b"abc", b"de")) as link:
        assert run(main) == (b"abcde", 10)


def test_receive_exactly_nothing_waits_for_nothing(run: Runner) -> None:
    async def main() -> bytes:
        stream = await opened(link)
        nothing = await stream.receive_exactly(0)
        await stream.close()
        return nothing

    with peer(talk()) as link:
        assert run(main) == b""


def test_receive_until_finds_a_separator_that_is_cut_in_two(run: Runner) -> None:
    async def main() -> tuple[bytes, bytes]:
        stream = await opened(link)
        got = await stream.receive_until(b"\r\n\r\n"), await stream.receive()
        await stream.close()
        return got

    with peer(talk(b"head\r\n", b"\r", b"\nbody")) as link:
        assert run(main) == (b"head\r\n\r\n", b"body")


def test_receive_until_without_a_separator_leaves_all_readable(run: Runner) -> None:
    async def main() -> bytes:
        stream = link.stream()
        with pytest.raises(LimitExceeded):
            await stream.receive_until(b"\n", limit=6)
        rest = await stream.receive_exactly(10)
        await stream.close()
        return rest

    with peer(talk(b"0123456789")) as link:
        assert run(main) == b"0123456789"


def test_a_separator_beyond_the_limit_is_none(run: Runner) -> None:
    async def main() -> None:
        stream = await opened(link)
        with pytest.raises(LimitExceeded):
            await stream.receive_until(b"\n", limit=4)
        assert await stream.receive_until(b"\n", limit=5) == b"0123\n"
        await stream.close()

    with peer(talk(b"0123\n")) as link:
        run(main)


def test_lines_give_the_last_one_without_its_end(run: Runner) -> None:
    async def main() -> list[bytes]:
        stream = link.stream()
        lines = [line async for line in stream.lines()]
        await stream.close()
        return lines

    with peer(talk(b"one\ntw", b"o\n\nlast")) as link:
        assert run(main) == [b"one\n", b"two\n", b"\n", b"last"]


def test_lines_stop_at_a_clean_end(run: Runner) -> None:
    async def main() -> list[bytes]:
        stream = link.stream()
        lines = [line async for line in stream.lines()]
        await stream.close()
        return lines

    with peer(talk(b"one\n")) as link:
        assert run(main) == [b"one\n"]


def test_lines_stop_when_we_close(run: Runner) -> None:
    async def main() -> list[bytes]:
        stream = link.stream()
        await stream.handshake()

        async def collect() -> list[bytes]:
            return [line async for line in stream.lines()]

        async with jobs() as group:
            reader = group.start(collect)
            await settle()
            await stream.close()
            return await reader.result()

    with peer(polite) as link:
        assert run(main) == []


@pytest.mark.parametrize("iterate", [Stream.lines, Stream.__aiter__])
def test_a_loop_that_is_left_early_leaves_nothing_to_clean_up(
    run: Runner, iterate: Callable[[Stream], AsyncIterator[bytes]]
) -> None:
    """trio warns of every async generator that is collected before its end, and asyncio makes a task for it."""

    async def main() -> bytes:
        stream = await opened(link)
        async for line in iterate(stream):
            assert line
            break
        gc.collect()
        rest = await stream.receive()
        await stream.close()
        return rest

    with peer(talk(b"one\n" + b"x" * 70_000)) as link:
        assert run(main)


def test_an_iteration_raises_at_a_bad_end(run: Runner) -> None:
    async def main() -> list[bytes]:
        stream = await opened(link)
        chunks = aiter(stream)
        got = [await anext(chunks)]
        with pytest.raises(Truncated):
            await anext(chunks)
        await stream.close()
        return got

    with peer(fin) as link:
        assert run(main) == [b"data"]


def test_two_receives_at_once_are_refused(run: Runner) -> None:
    async def main() -> None:
        stream = await opened(link)
        await stream.receive()
        async with jobs() as group:
            reader = group.start(stream.receive)
            await settle()
            for receive in (stream.receive(), stream.receive_exactly(1), stream.receive_until(b"x")):
                with pytest.raises(BusyError):
                    await receive
            link.go.set()
            assert await reader.result() == b"late"  # nobody took it from the first
        await stream.close()

    def wait_and_talk(wire: Wire) -> None:
        wire.handshake()
        wire.send(b"first")
        link.ready.set()
        link.await_go()
        wire.send(b"late")
        wire.read_to_end()

    with peer(wait_and_talk) as link:
        run(main)


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("receive", (0,)),
        ("receive_into", (bytearray(),)),
        ("receive_into", (b"read-only",)),
        ("receive_exactly", (-1,)),
        ("receive_until", (b"",)),
    ],
)
def test_what_cannot_be_received_is_refused(run: Runner, verb: str, arguments: tuple[object, ...]) -> None:
    async def main() -> None:
        stream = link.stream()
        with pytest.raises(ValueError, match=r"\S"):
            await getattr(stream, verb)(*arguments)
        stream.abort()

    with peer(lambda wire: None) as link:
        run(main)


def test_the_buffer_is_gone_after_a_close(run: Runner) -> None:
    async def main() -> None:
        stream = await opened(link)
        assert await stream.receive_until(b"\n") == b"line\n"
        await stream.close()
        with pytest.raises(StreamClosed):
            await stream.receive()

    with peer(talk(b"line\nrest")) as link:
        run(main)


# -- the peer's records, however they come ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.backends("asyncio", "trio")
def test_any_cut_of_the_wire_gives_the_same_bytes_and_end(run: Runner, version: Version) -> None:
    @given(
        st.lists(st.binary(min_size=1, max_size=300), max_size=6),
        st.lists(st.integers(1, 400), min_size=1, max_size=20),
        st.lists(st.integers(1, 200), min_size=1, max_size=5),
    )
    def check(pieces: list[bytes], cuts: list[int], asks: list[int]) -> None:
        async def main() -> bytes:
            stream = link.stream()
            got = b""
            while chunk := await stream.receive(asks[len(got) % len(asks)]):
                got += chunk
            assert (await stream.close()).how is How.CLEAN
            return got

        def send_cut(wire: Wire) -> None:
            wire.handshake()
            stream = b"".join(wire.encrypt(piece) for piece in pieces) + wire.encrypt_close_notify()
            turn = 0
            while stream:
                count = cuts[turn % len(cuts)]
                wire.sock.sendall(stream[:count])
                stream, turn = stream[count:], turn + 1
            wire.read_to_end()

        with peer(send_cut, version=version) as link:
            assert run(main) == b"".join(pieces)

    check()


# -- manners towards the rest of the program -------------------------------------------------------------------------


def test_a_stream_that_always_has_data_lets_others_run(run: Runner) -> None:
    async def main() -> int:
        stream = await opened(link)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while not done:
                turns += 1
                await turn()

        done = False
        async with jobs() as group:
            group.start(count)
            await settle_a_little()
            before = turns
            for _ in range(1000):
                await stream.receive(1)
            done = True
        await stream.close()
        return turns - before

    with peer(talk(b"x" * 2000)) as link:
        assert run(main) > 20


def test_a_buffer_that_always_has_lines_lets_others_run(run: Runner) -> None:
    async def main() -> int:
        stream = await opened(link)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while not done:
                turns += 1
                await turn()

        done = False
        async with jobs() as group:
            group.start(count)
            await settle_a_little()
            before = turns
            for _ in range(1000):
                await stream.receive_until(b"\n")
            done = True
        await stream.close()
        return turns - before

    with peer(talk(b"\n" * 2000)) as link:
        assert run(main) > 20


async def settle_a_little() -> None:
    for _ in range(3):
        await turn()


def test_a_stream_that_has_ended_is_freed_without_the_collector(run: Runner) -> None:
    """Forty kilobytes for each of ten thousand connections, until the collector comes by, is a lot."""

    async def main() -> bool:
        stream = await opened(link)
        await stream.receive()
        with pytest.raises(bowout.PeerError):
            await stream.receive()
        engine = weakref.ref(stream._connection.engine)
        await stream.close()
        del stream
        await turn()
        return engine() is None

    gc.disable()
    try:
        for script in (fin, rst, garbage, alert):
            with peer(script) as link:
                assert run(main), script.__name__
    finally:
        gc.enable()


def test_a_burst_leaves_no_large_buffer_behind(run: Runner) -> None:
    size = 10 << 20

    async def main() -> list[int]:
        stream = link.stream()
        await stream.receive_exactly(size)
        engine = stream._connection.engine
        sizes = [sys.getsizeof(stream._buffer), engine.incoming.queue.size, engine.outgoing.size]
        await stream.close()
        return sizes

    def burst(wire: Wire) -> None:
        wire.handshake()
        for _ in range(size >> 18):
            wire.send(bytes(1 << 18))
        wire.read_to_end()

    with peer(burst) as link:
        assert sum(run(main)) < 1 << 16
