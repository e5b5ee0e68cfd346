"""What a connection pool asks of a stream: is it closing, can it send, can it be used again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import bowout
from bowout import Stream, StreamClosed
from helpers.runners import Runner
from helpers.tasks import in_thread, jobs, settle
from helpers.wire import VERSIONS, Link, Version, Wire, peer, polite, silent

both_versions = pytest.mark.parametrize("version", VERSIONS)


def facts(stream: Stream) -> tuple[bool, bool, bool]:
    return stream.is_closing, stream.can_send, stream.is_reusable()


async def ask_idle(link: Link) -> tuple[bool, bool]:
    """Let the peer do its deed on an idle connection; tell whether it is reusable then, and whether the peer ended."""
    stream = link.stream()
    assert not stream.peer_ended
    await stream.handshake()
    assert not stream.peer_ended
    link.go.set()
    await in_thread(link.ready.wait)
    seen = stream.is_reusable(), stream.peer_ended
    stream.abort()
    return seen


def on_go(verb: Callable[[Wire], object]) -> Callable[[Wire], None]:
    """A peer that does this when it is told to, and says so."""

    def script(wire: Wire) -> None:
        wire.handshake()
        wire.link.await_go()
        verb(wire)
        wire.link.ready.set()
        wire.hold()

    return script


def unasked(wire: Wire) -> None:
    wire.send(b"unasked")


@both_versions
def test_a_new_stream_can_send_and_is_reusable_when_it_has_shaken_hands(run: Runner, version: Version) -> None:
    async def main() -> list[tuple[bool, bool, bool]]:
        stream = link.stream()
        seen = [facts(stream)]
        await stream.handshake()
        await stream.wait_writable()
        seen.append(facts(stream))
        await stream.close()
        return [*seen, facts(stream)]

    with peer(polite, version=version) as link:
        assert run(main) == [(False, True, False), (False, True, True), (True, False, False)]


@both_versions
@pytest.mark.parametrize(
    "verb",
    [unasked, Wire.close_notify, Wire.fin, Wire.rst],
    ids=["data", "cn", "fin", "rst"],
)
def test_what_the_peer_did_meanwhile_is_seen(run: Runner, version: Version, verb: Callable[[Wire], object]) -> None:
    with peer(on_go(verb), version=version) as link:
        assert run(ask_idle, link) == (False, verb is not unasked)


def then_leave(wire: Wire) -> None:
    """Like a server of HTTP/2: a last message, and then close_notify, in one segment."""
    wire.sock.sendall(wire.encrypt(b"goodbye") + wire.encrypt_close_notify())


@both_versions
def test_the_end_is_seen_behind_data(run: Runner, version: Version) -> None:
    with peer(on_go(then_leave), version=version) as link:
        assert run(ask_idle, link) == (False, True)


def test_what_came_unasked_is_still_there(run: Runner) -> None:
    async def main() -> bytes:
        stream = link.stream()
        await stream.handshake()
        link.go.set()
        await in_thread(link.ready.wait)
        assert not stream.is_reusable()
        data = await stream.receive()
        assert stream.is_reusable()
        stream.abort()
        return data

    with peer(on_go(unasked)) as link:
        assert run(main) == b"unasked"


async def half_closed(stream: Stream) -> None:
    await stream.send_eof()


async def interrupted(stream: Stream) -> None:
    with pytest.raises(LookupError):
        await stopped_in_a_message(stream)


async def stopped_in_a_message(stream: Stream) -> None:
    with stream.message():
        await stream.send(b"half")
        raise LookupError


@pytest.mark.parametrize("state", [half_closed, interrupted])
def test_a_stream_that_cannot_send_is_not_reusable(run: Runner, state: Callable[[Stream], Awaitable[None]]) -> None:
    async def main() -> tuple[bool, bool, bool]:
        stream = link.stream()
        await stream.handshake()
        await state(stream)
        seen = facts(stream)
        stream.abort()
        return seen

    with peer(silent) as link:
        assert run(main) == (False, False, False)


def test_a_stream_with_a_reader_is_in_use(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            reader = group.start(stream.receive)
            await settle()
            assert not stream.is_reusable()
            stream.abort()
            assert isinstance(await reader.ended(), StreamClosed)

    with peer(silent) as link:
        run(main)


def test_writable_means_that_the_kernel_has_everything(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            sending = group.start(stream.send, bytes(1 << 20))
            await in_thread(link.await_full)
            assert not stream.is_reusable()
            waiting = group.start(stream.wait_writable)
            await settle()
            assert not waiting.done
            link.go.set()
            await sending.result()
            await waiting.result()
        return await stream.close()

    def reading(wire: Wire) -> None:
        wire.handshake()
        wire.link.await_go()
        polite_end(wire)

    with peer(reading, small=True) as link:
        run(main)


def polite_end(wire: Wire) -> None:
    wire.read_to_end()
    wire.close_notify()


def test_after_the_end_nothing_is_writable(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        stream.abort()
        with pytest.raises(StreamClosed):
            await stream.wait_writable()

    with peer(silent) as link:
        run(main)


def test_no_other_loop_is_told_that_it_is_reusable() -> None:
    async def main() -> Stream:
        stream = link.stream()
        await stream.handshake()
        return stream

    with peer(silent) as link, asyncio.Runner() as runner:
        stream = runner.run(main())
        assert not stream.is_reusable()
        assert not asyncio.run(asks(stream))
        runner.get_loop().run_until_complete(aborts(stream))


async def asks(stream: Stream) -> bool:
    return stream.is_reusable()


async def aborts(stream: Stream) -> None:
    stream.abort()
