"""Leaving ``async with``: what the peer sees is what is true of the stream."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

import bowout
from bowout import How, Stream
from helpers.runners import Runner
from helpers.tasks import cancelled, in_thread, jobs, on_trio, settle
from helpers.wire import VERSIONS, Version, Wire, peer, polite, silent

SOON = 0.05
"""A time limit that is meant to be reached, in seconds."""

both_versions = pytest.mark.parametrize("version", VERSIONS)


async def left_by(block: Callable[[Stream], Awaitable[object]], stream: Stream) -> bowout.Ending:
    """Enter the stream's block, run `block`, and give the ending, whatever it raises."""
    try:
        async with stream:
            await block(stream)
    except (Exception, KeyboardInterrupt):  # noqa: BLE001 the peer's view is what counts
        pass
    assert stream.ending is not None
    return stream.ending


async def nothing(stream: Stream) -> None:
    await stream.send(b"whole")


async def error(stream: Stream) -> None:
    await stream.send(b"half")
    raise ValueError("the other half cannot be made")


async def timed_out_inside(stream: Stream) -> None:
    """A time limit of the protocol's own: its error passes through the block like any other."""
    await stream.handshake()
    if on_trio():
        with trio.fail_after(SOON):
            await stream.receive()
    else:
        async with asyncio.timeout(SOON):
            await stream.receive()


async def interrupted(stream: Stream) -> None:
    raise KeyboardInterrupt


async def group_of_interruptions(stream: Stream) -> None:
    raise BaseExceptionGroup("all of it", [KeyboardInterrupt(), BaseExceptionGroup("", [SystemExit()])])


async def mixed_group(stream: Stream) -> None:
    raise BaseExceptionGroup("some of it", [KeyboardInterrupt(), ValueError()])


@both_versions
@pytest.mark.parametrize(
    ("block", "seen"),
    [
        (nothing, "close_notify"),
        (error, "FIN"),
        (timed_out_inside, "FIN"),
        (interrupted, "close_notify"),
    ],
)
def test_what_the_peer_sees(run: Runner, block: Any, seen: str, version: Version) -> None:
    async def main() -> bowout.Ending:
        return await left_by(block, link.stream())

    with peer(polite, version=version) as link:
        ending = run(main)
    assert link.result == seen
    assert (ending.close_notify_sent_at is not None) == (seen == "close_notify")


@pytest.mark.parametrize(("block", "seen"), [(group_of_interruptions, "close_notify"), (mixed_group, "FIN")])
def test_a_group_is_an_interruption_if_all_of_it_is(run: Runner, block: Any, seen: str) -> None:
    async def main() -> None:
        with pytest.raises(BaseExceptionGroup):
            async with link.stream() as stream:
                await block(stream)

    with peer(polite) as link:
        run(main)
    assert link.result == seen


@both_versions
def test_a_cancelled_task_still_sends_close_notify(run: Runner, version: Version) -> None:
    async def main() -> None:
        stream = link.stream()

        async def wait_in_block() -> None:
            async with stream:
                await stream.receive()

        await stream.handshake()
        async with jobs() as group:
            job = group.start(wait_in_block)
            await settle()
            job.cancel()
            assert isinstance(await job.ended(), cancelled())
        assert stream.ending is not None
        assert stream.ending.close_notify_sent_at is not None

    with peer(polite, version=version) as link:
        run(main)
    assert link.result == "close_notify"


def test_a_timeout_around_the_block_is_a_cancellation(run: Runner) -> None:
    async def on_asyncio() -> None:
        async with asyncio.timeout(None) as limit, link.stream() as stream:
            await stream.handshake()
            limit.reschedule(asyncio.get_running_loop().time() + SOON)
            await stream.receive()

    async def main() -> None:
        if on_trio():
            with trio.move_on_after(math.inf) as scope:
                async with link.stream() as stream:
                    await stream.handshake()
                    scope.deadline = trio.current_time() + SOON
                    await stream.receive()
        else:
            with pytest.raises(TimeoutError):
                await on_asyncio()

    with peer(polite) as link:
        run(main)
    assert link.result == "close_notify"


def test_a_cancellation_amid_a_send_sends_no_close_notify(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()

        async def send_in_block() -> None:
            async with stream:
                await stream.send(bytes(12_000_000))

        await stream.handshake()
        await in_thread(link.await_ready)  # its tickets have come: later, they would be answered with an RST
        async with jobs() as group:
            job = group.start(send_in_block)
            await settle()
            job.cancel()
            await job.ended()
        link.go.set()
        assert stream.ending is not None
        return stream.ending

    def read_late(wire: Wire) -> str:
        wire.handshake()
        link.ready.set()
        link.await_go()
        return wire.read_to_end()

    with peer(read_late) as link:
        ending = run(main)
    assert link.result == "FIN"
    assert (ending.how, ending.sent + ending.unsent) == (How.ABORTED, 12_000_000)


@pytest.mark.parametrize("block", [error, timed_out_inside])
def test_on_error_close_vouches_all_the_same(run: Runner, block: Any) -> None:
    async def main() -> bowout.Ending:
        return await left_by(block, link.stream(on_error="close"))

    with peer(polite) as link:
        ending = run(main)
    assert link.result == "close_notify"
    assert ending.how is How.CLEAN


def test_the_error_that_left_the_block_is_the_reason(run: Runner) -> None:
    async def main() -> bowout.Ending:
        return await left_by(error, link.stream())

    with peer(polite) as link:
        ending = run(main)
    assert (ending.how, ending.reason) == (How.ABORTED, "left by an exception: ValueError")


def test_a_truncation_that_leaves_the_block_keeps_its_name(run: Runner) -> None:
    async def main() -> bowout.Ending:
        return await left_by(lambda stream: stream.receive(), link.stream())

    def leave(wire: Wire) -> str:
        wire.handshake()
        wire.fin()
        return wire.read_to_end()

    with peer(leave) as link:
        ending = run(main)
    assert link.result == "FIN"
    assert ending.how is How.TRUNCATED


def test_a_close_inside_the_block_is_enough(run: Runner) -> None:
    async def main() -> None:
        async with link.stream() as stream:
            ending = await stream.close()
        assert stream.ending is ending

    with peer(polite) as link:
        run(main)


def test_a_close_by_another_task_does_not_make_the_block_an_error(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()

        async def wait_in_block() -> None:
            async with stream:
                await stream.receive()

        await stream.handshake()
        async with jobs() as group:
            job = group.start(wait_in_block)
            await settle()
            ending = await stream.close()
            assert isinstance(await job.ended(), bowout.StreamClosed)
        return ending

    with peer(polite) as link:
        assert run(main).how is How.CLEAN
    assert link.result == "close_notify"


def test_a_block_that_fails_in_the_handshake_is_closed(run: Runner) -> None:
    async def main() -> Stream:
        stream = link.stream()
        with pytest.raises(bowout.HandshakeTruncated):
            async with stream:
                raise AssertionError("never entered")
        return stream

    with peer(lambda wire: wire.fin()) as link:
        stream = run(main)
    assert stream.ending is not None
    assert stream.ending.how is How.FAILED_HANDSHAKE


def test_an_abort_inside_the_block_stays_an_abort(run: Runner) -> None:
    async def main() -> bowout.Ending:
        async with link.stream() as stream:
            stream.abort()
        assert stream.ending is not None
        return stream.ending

    with peer(polite) as link:
        assert run(main).how is How.ABORTED


def test_a_cancellation_after_the_end_changes_nothing(run: Runner) -> None:
    endings: list[bowout.Ending | None] = []

    async def close_and_be_interrupted(stream: Stream) -> None:
        endings.append(await stream.close())
        raise KeyboardInterrupt

    async def main() -> bowout.Ending:
        return await left_by(close_and_be_interrupted, link.stream())

    with peer(polite) as link:
        assert run(main) is endings[0]


def test_a_cancellation_of_the_block_cuts_a_close_that_waits(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            closer = group.start(stream.close, 10_000)
            await settle()
            with pytest.raises(KeyboardInterrupt):
                async with stream:
                    raise KeyboardInterrupt
            assert await closer.result() is stream.ending

    with peer(silent) as link:
        run(main)
    assert link.result == "close_notify"
