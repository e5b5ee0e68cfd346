"""`Stream.message`: close_notify never vouches for half a message, though no send was cut short."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import pytest

import bowout
from bowout import How, MisuseError, PeerClosed, SendInterrupted, Stream
from helpers.runners import Runner
from helpers.served import dialled, gate, serve
from helpers.tasks import in_thread, jobs
from helpers.wire import VERSIONS, Version, Wire, peer, polite

both_versions = pytest.mark.parametrize("version", VERSIONS)

Leaver = Callable[[Stream], Awaitable[object]]


def reading(wire: Wire) -> tuple[str, bytes]:
    """Read to the end, and tell which it was."""
    wire.handshake()
    return wire.read_to_end(), bytes(wire.received)


@both_versions
def test_whoever_is_cancelled_between_two_sends_does_not_vouch(run: Runner, version: Version) -> None:
    async def main() -> bowout.Ending:
        async with jobs() as group:
            stream = link.stream()
            at_half = gate()

            async def two_halves() -> None:
                async with stream:
                    with stream.message():
                        await stream.send(b"half")
                        at_half.set()
                        await gate().wait()

            job = group.start(two_halves)
            await at_half.wait()
            job.cancel()
            await job.ended()
        assert stream.ending is not None
        return stream.ending

    with peer(reading, version=version) as link:
        assert run(main).how is How.ABORTED
    assert link.result == ("FIN", b"half")


@both_versions
def test_another_tasks_close_does_not_vouch_for_half_a_message(run: Runner, version: Version) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        with stream.message():
            await stream.send(b"half")
            return await stream.close()

    with peer(reading, version=version) as link:
        assert run(main).how is How.ABORTED
    assert link.result == ("FIN", b"half")


def test_a_drain_does_not_vouch_for_half_a_message(run: Runner) -> None:
    """The handler is at neither a send nor a receive when it is cut off."""

    def client(port: int) -> tuple[str, bytes]:
        with dialled(port) as wire:
            return wire.read_to_end(), bytes(wire.received)

    async def main() -> tuple[str, bytes]:
        async def handler(stream: Stream) -> None:
            with stream.message():
                await stream.send(b"half")
                at_half.set()
                await gate().wait()

        at_half = gate()
        async with serve(handler) as server, jobs() as group:
            job = group.start(in_thread, lambda: client(server.port))
            await at_half.wait()
            report = await server.drain(0)
            assert (dict(report.counts), report.cut) == ({How.ABORTED: 1}, 1)
            result: tuple[str, bytes] = await job.result()
            return result

    assert run(main) == ("FIN", b"half")


@pytest.mark.parametrize("nested", [False, True])
def test_a_whole_message_is_vouched_for(run: Runner, nested: bool) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        with stream.message():
            await stream.send(b"one, ")
            if nested:
                with stream.message():
                    await stream.send(b"two, ")
            await stream.send(b"three")
        return await stream.close()

    with peer(polite) as link:
        assert run(main).how is How.CLEAN


@both_versions
def test_what_waits_for_the_kernel_counts_as_sent(run: Runner, version: Version) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        with contextlib.suppress(LookupError), stream.message():
            # As much as a send does that is cancelled while it waits for the kernel.
            stream._connection.engine.outgoing.write(memoryview(b"half"))
            raise LookupError
        return await stream.close()

    with peer(reading, version=version) as link:
        assert run(main).how is How.ABORTED
    assert link.result == ("FIN", b"half")


@pytest.mark.parametrize("fails", [False, True])
def test_the_messages_of_two_tasks_are_each_their_own(run: Runner, fails: bool) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        first_done, second_begun = gate(), gate()

        async def first() -> None:
            with contextlib.suppress(LookupError), stream.message():
                await stream.send(b"1")
                await second_begun.wait()
                if fails:
                    raise LookupError
            first_done.set()

        async def second() -> None:
            with stream.message():
                await stream.send(b"2")
                second_begun.set()
                await first_done.wait()
                if not fails:
                    await gate().wait()

        async with jobs() as group:
            tasks = group.start(first), group.start(second)
            await first_done.wait()
            if fails:
                await tasks[1].ended()
            ending = await stream.close()
            tasks[1].cancel()
            return ending

    with peer(reading) as link:
        assert run(main).how is How.ABORTED
    end, received = link.result
    assert (end, set(received)) == ("FIN", set(b"12"))


def test_a_close_notify_that_tls_1_2_makes_us_send_in_a_message_is_not_clean(run: Runner) -> None:
    """It vouches for half a message (RFC 5246 section 7.2.1 wants it at once), and the verdict says so."""

    def leaving(wire: Wire) -> str:
        wire.handshake()
        wire.read_exactly(4)
        wire.close_notify()
        return wire.read_to_end()

    async def main() -> bowout.Ending:
        stream = link.stream()
        with contextlib.suppress(PeerClosed):
            async with stream:
                with stream.message():
                    await stream.send(b"half")
                    assert await stream.receive() == b""
                    await stream.send(b"the other half")
        assert stream.ending is not None
        return stream.ending

    with peer(leaving, version="1.2") as link:
        ending = run(main)
    assert (ending.how, ending.unsent) == (How.UNFLUSHED, 0)
    assert str(ending).startswith("unflushed: the peer sent close_notify, we answered, and a send was cut short")


def test_what_comes_after_a_block_within_belongs_to_the_outer_one(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        with stream.message():
            with stream.message():
                await stream.send(b"half")
            return await stream.close()

    with peer(reading) as link:
        assert run(main).how is How.ABORTED
    assert link.result == ("FIN", b"half")


def test_a_message_that_failed_halfway_stays_unfinished(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        with contextlib.suppress(LookupError), stream.message():
            await stream.send(b"half")
            raise LookupError
        with pytest.raises(SendInterrupted):
            await stream.send(b"more")
        return await stream.close()

    with peer(reading) as link:
        assert run(main).how is How.ABORTED
    assert link.result == ("FIN", b"half")


def test_a_message_that_failed_before_its_first_byte_harms_nothing(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.send(b"a message before it")
        with pytest.raises(LookupError), stream.message():
            raise LookupError
        await stream.send(b"and one after it")
        return await stream.close()

    with peer(polite) as link:
        assert run(main).how is How.CLEAN


@pytest.mark.parametrize("verb", [Stream.send_eof, Stream.unwrap])
def test_our_direction_cannot_end_within_a_message(run: Runner, verb: Leaver) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        with stream.message():
            await stream.send(b"all of it")
            with pytest.raises(MisuseError, match=r"message\(\) is in progress"):
                await verb(stream)
        return await stream.close()

    with peer(polite) as link:
        assert run(main).how is How.CLEAN
