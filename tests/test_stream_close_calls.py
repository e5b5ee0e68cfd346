"""Closing at any time, from several tasks, again, and what every other verb says then."""

from __future__ import annotations

import pytest

import bowout
from bowout import How, StreamClosed
from helpers.runners import Runner
from helpers.tasks import jobs, settle
from helpers.wire import Wire, leaving, peer, polite, silent

SOON = 0.3
"""A deadline that is meant to be reached, in seconds."""


def test_a_pending_receive_is_told_that_we_closed(run: Runner) -> None:
    async def main() -> BaseException | None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            reader = group.start(stream.receive)
            await settle()
            await stream.close()
            return await reader.ended()

    with peer(polite) as link:
        error = run(main)
    assert isinstance(error, StreamClosed)


def test_a_receive_that_our_close_ends_does_not_guess_at_the_ending(run: Runner) -> None:
    def hesitant(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.link.await_go()
        wire.close_notify()

    async def main() -> tuple[BaseException | None, bowout.Ending]:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            reader = group.start(stream.receive)
            await settle()
            closer = group.start(stream.close)
            error = await reader.ended()  # before the peer has answered
            link.go.set()
            return error, await closer.result()

    with peer(hesitant) as link:
        error, ending = run(main)
    assert isinstance(error, StreamClosed)
    assert (error.ending, ending.how) == (None, How.CLEAN)


def test_a_pending_iteration_just_stops(run: Runner) -> None:
    async def main() -> list[bytes]:
        stream = link.stream()
        await stream.handshake()

        async def collect() -> list[bytes]:
            return [chunk async for chunk in stream]

        async with jobs() as group:
            reader = group.start(collect)
            await settle()
            await stream.close()
            return await reader.result()

    with peer(polite) as link:
        assert run(main) == []


def test_a_second_close_gives_the_same_ending(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        first = await stream.close()
        assert await stream.close() is first
        assert await stream.aclose() is first
        assert stream.ending is first

    with peer(polite) as link:
        run(main)


def test_closes_from_two_tasks_share_one_ending(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            first, second = group.start(stream.close, SOON), group.start(stream.close, SOON)
            assert await first.result() is await second.result()

    with peer(silent) as link:
        run(main)


def test_the_shorter_of_two_deadlines_counts(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            patient = group.start(stream.close, 10_000)
            await settle()
            hasty = group.start(stream.close, SOON)
            assert await hasty.result() is await patient.result()
            return await patient.result()

    with peer(silent) as link:
        assert run(main).deadline_hit


def test_a_longer_second_deadline_changes_nothing(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            hasty = group.start(stream.close, SOON)
            await settle()
            group.start(stream.close, 10_000)
            return await hasty.result()

    with peer(silent) as link:
        assert run(main).deadline_hit


def test_a_close_with_no_time_sends_close_notify_all_the_same(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        return await stream.close(0)

    with peer(leaving) as link:
        ending = run(main)
    assert link.result == "close_notify"
    assert ending.close_notify_sent_at is not None


def test_a_close_before_the_handshake_is_a_failed_handshake(run: Runner) -> None:
    async def main() -> bowout.Ending:
        return await link.stream().close()

    with peer(lambda wire: wire.read_to_tcp_end()) as link:
        ending = run(main)
    assert ending.how is How.FAILED_HANDSHAKE
    assert link.result == "FIN"


def test_a_close_during_a_stalled_handshake_ends_it(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        async with jobs() as group:
            shaking = group.start(stream.handshake)
            waiting = group.start(stream.receive)
            await settle()
            ending = await stream.close(20)
            assert isinstance(await shaking.ended(), StreamClosed)
            assert isinstance(await waiting.ended(), StreamClosed)
        return ending

    with peer(lambda wire: wire.hold()) as link:
        ending = run(main)
    assert (ending.how, ending.deadline_hit) == (How.FAILED_HANDSHAKE, False)


def test_receive_send_and_close_at_once(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            reader = group.start(stream.receive)
            sender = group.start(stream.send, b"s" * 1_000_000)
            closer = group.start(stream.close)
            assert isinstance(await reader.ended(), StreamClosed)
            assert isinstance(await sender.ended(), StreamClosed | None)
            return await closer.result()

    with peer(polite, small=True) as link:
        ending = run(main)
    assert link.result == "close_notify"
    assert ending.how is How.CLEAN


@pytest.mark.parametrize("verb", ["receive", "send", "send_eof", "handshake", "unwrap", "receive_exactly"])
def test_every_verb_after_a_close_says_so_and_carries_the_ending(run: Runner, verb: str) -> None:
    arguments = {"send": (b"x",), "receive_exactly": (1,)}.get(verb, ())

    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        ending = await stream.close()
        if verb == "handshake":
            await stream.handshake()  # it was done
            return
        with pytest.raises(StreamClosed) as caught:
            await getattr(stream, verb)(*arguments)
        assert caught.value.ending is ending

    with peer(polite) as link:
        run(main)


def test_the_descriptor_is_closed_when_close_returns(run: Runner) -> None:
    async def main() -> int:
        stream = link.stream()
        await stream.handshake()
        await stream.close()
        return link.sock.fileno()

    with peer(polite) as link:
        assert run(main) == -1


def test_wait_ended_is_told_by_whoever_ends_it(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            waiter = group.start(stream.wait_ended)
            await settle()
            assert not waiter.done
            ending = await stream.close()
            assert await waiter.result() is ending

    with peer(polite) as link:
        run(main)
