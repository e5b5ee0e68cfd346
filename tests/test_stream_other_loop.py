"""Streams outside their event loop, and descriptors that others close: an error of ours, bounded, and an ending."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

import bowout
from bowout import How, MisuseError, Reset, Stream, StreamClosed
from helpers.tasks import in_thread, jobs, settle, turn
from helpers.wire import VERSIONS, Version, deaf, leaving, peer, polite, silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from helpers.runners import Runner

both_versions = pytest.mark.parametrize("version", VERSIONS)


def made_in_a_loop_that_is_over(run: Runner, make: Callable[[], Stream]) -> Stream:
    async def main() -> Stream:
        stream = make()
        await stream.handshake()
        return stream

    return run(main)


@both_versions
def test_a_stream_whose_loop_is_over_is_closed_at_once(run: Runner, version: Version) -> None:
    with peer(polite, version=version) as link:
        stream = made_in_a_loop_that_is_over(run, link.stream)
        ending = run(stream.close)
    assert link.result == "close_notify"
    assert "when its event loop was over" in ending.reason
    assert link.sock.fileno() == -1


@pytest.mark.backends("asyncio", "uvloop")
def test_a_receive_that_would_wait_says_that_the_loop_is_over(run: Runner) -> None:
    """Under trio a wait needs nothing of the loop that is over."""
    with peer(silent) as link:
        stream = made_in_a_loop_that_is_over(run, link.stream)
        with pytest.raises(MisuseError, match="another event loop, which is over"):
            run(stream.receive)
        stream.abort()


@pytest.mark.parametrize("verb", ["send_eof", "unwrap", "wait_ended"])
def test_what_would_wait_says_that_the_loop_is_over(run: Runner, verb: str) -> None:
    with peer(silent) as link:
        stream = made_in_a_loop_that_is_over(run, link.stream)
        with pytest.raises(MisuseError, match="another event loop, which is over"):
            run(getattr(stream, verb))
        stream.abort()


def test_a_stream_whose_loop_is_over_can_be_aborted_anywhere(run: Runner) -> None:
    with peer(leaving) as link:
        stream = made_in_a_loop_that_is_over(run, link.stream)
        assert stream.abort().how is How.ABORTED
    assert link.result == "RST"


def test_a_running_loops_stream_is_not_ended_from_another_thread(run: Runner) -> None:
    """The reader would wait on: nobody may touch another thread's loop."""

    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        for verb in (lambda: asyncio.run(stream.close()), stream.abort):
            with pytest.raises(MisuseError, match="outside the thread of this stream's event loop"):
                await in_thread(verb)
        assert (await stream.close()).how is How.CLEAN

    with peer(polite) as link:
        run(main)


def test_the_callers_socket_is_taken_over(run: Runner) -> None:
    """Like ssl.wrap_socket, so that closing it does not close the descriptor behind the stream."""

    async def main() -> bowout.Ending:
        sock = link.sock
        stream = link.stream()
        await stream.handshake()
        assert sock.fileno() == -1
        sock.close()
        await stream.send(b"still here")
        return await stream.close()

    with peer(polite) as link:
        assert run(main).how is How.CLEAN


def test_a_descriptor_that_was_closed_by_its_number_is_no_traceback_of_others(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        os.close(link.sock.fileno())
        with pytest.raises(Reset, match=r"the connection was lost .*: Bad file descriptor"):
            await stream.send(b"x")
        ending = await stream.close()
        assert (ending.how, ending.started_by) == (How.RESET, None)

    with peer(leaving) as link:
        run(main)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("end", ["abort", "close"])
def test_a_receive_with_output_queued_hears_of_an_end_at_any_turn(run: Runner, end: str, turns: int) -> None:
    """It waits for both directions, and the descriptor may be gone before both waits have begun."""

    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            sender = group.start(stream.send, bytes(8 << 20))
            await settle()
            sender.cancel()
        async with jobs() as group:
            reader = group.start(stream.receive)
            for _ in range(turns):
                await turn()
            if end == "abort":
                stream.abort()
            else:
                await stream.close(0)
        assert type(reader.error) is StreamClosed

    with peer(deaf) as link:
        run(main)
