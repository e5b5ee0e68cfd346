"""Aborting: a reset, at once, whoever waits for what."""

from __future__ import annotations

import pytest

import bowout
from bowout import How, Outbound, Side, StreamClosed
from helpers.runners import Runner
from helpers.tasks import in_thread, jobs, settle, turn
from helpers.wire import VERSIONS, Version, Wire, deaf, flooding, peer, polite

both_versions = pytest.mark.parametrize("version", VERSIONS)


@both_versions
def test_an_abort_is_a_reset_at_the_peer(run: Runner, version: Version) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        await stream.send(b"hello")
        await in_thread(link.await_ready)
        return stream.abort()

    def read(wire: Wire) -> str:
        wire.handshake()
        wire.read_exactly(5)
        link.ready.set()
        return wire.read_to_end()

    with peer(read, version=version) as link:
        ending = run(main)
    assert link.result == "RST"
    assert (ending.how, ending.outbound, ending.started_by) == (How.ABORTED, Outbound.RESET, Side.WE)


def test_an_abort_ends_a_close_that_waits(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            closer = group.start(stream.close, 10_000)
            await settle()
            ending = stream.abort()
            assert ending.how is How.ABORTED
            assert await closer.result() is ending

    with peer(deaf) as link:
        run(main)


def test_an_abort_ends_a_close_that_waits_for_a_send(run: Runner) -> None:
    events: list[bowout.Event] = []

    async def main() -> None:
        stream = link.stream(on_event=events.append)
        await stream.handshake()
        async with jobs() as group:
            sender = group.start(stream.send, b"x" * 12_000_000)
            await settle()
            closer = group.start(stream.close, 10_000)
            await settle()
            ending = stream.abort()
            assert isinstance(await sender.ended(), StreamClosed)
            assert await closer.result() is ending
        assert ending.sent + ending.unsent == 12_000_000

    with peer(deaf) as link:
        run(main)
    assert events[-1].kind is bowout.EventKind.RELEASED  # nothing happens to a connection that is gone


def test_an_abort_ends_whoever_waits(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            reader, sender = group.start(stream.receive), group.start(stream.send, b"x" * 12_000_000)
            await settle()
            stream.abort()
            assert isinstance(await reader.ended(), StreamClosed)
            assert isinstance(await sender.ended(), StreamClosed)

    with peer(deaf) as link:
        run(main)


def test_an_abort_after_the_end_changes_nothing(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        ending = await stream.close()
        assert stream.abort() is ending

    with peer(polite) as link:
        run(main)


def test_an_abort_ends_a_close_that_reads_a_flood(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream(linger_bytes=1 << 40)
        await stream.handshake()
        async with jobs() as group:
            closer = group.start(stream.close, 10_000)
            for _ in range(5):
                await turn()
            ending = stream.abort()
            assert await closer.result() is ending
        assert ending.how is How.ABORTED

    with peer(flooding) as link:
        run(main)


def abort_at_the_next_slice(stream: bowout.Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have somebody abort it as soon as it lets others run between two slices of what it reads."""
    backend = stream._connection.backend
    real = backend.checkpoint

    async def abort_meanwhile() -> None:
        stream.abort()
        await real()

    monkeypatch.setattr("bowout._core.winddown.SLICE", 1)
    monkeypatch.setattr(backend, "checkpoint", abort_meanwhile)


@pytest.mark.parametrize("verb", ["close", "unwrap"])
def test_an_abort_between_two_slices_of_a_flood_is_not_waited_for(
    run: Runner, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """The descriptor is gone then: there is nothing to wait for, and the loop would refuse to."""

    async def main() -> None:
        stream = link.stream(linger_bytes=1 << 40)
        await stream.handshake()
        async with jobs() as group:
            sender = group.start(stream.send, b"x" * 12_000_000)
            await settle()
            abort_at_the_next_slice(stream, monkeypatch)
            leaver = group.start(getattr(stream, verb), 10_000)
            error = await leaver.ended()
            assert isinstance(error, StreamClosed if verb == "unwrap" else type(None))
            assert isinstance(await sender.ended(), StreamClosed)
        assert stream.ending is not None
        assert stream.ending.how is How.ABORTED

    with peer(flooding) as link:
        run(main)


def test_an_abort_while_unwrap_reads_a_flood_is_not_waited_for(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        stream = link.stream(linger_bytes=1 << 40)
        await stream.handshake()
        abort_at_the_next_slice(stream, monkeypatch)
        with pytest.raises(StreamClosed):
            await stream.unwrap(10_000)
        assert stream.ending is not None
        assert stream.ending.how is How.ABORTED

    with peer(flooding) as link:
        run(main)


def test_an_abort_and_a_cancellation_at_once_leave_one_ending(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            closer = group.start(stream.close, 10_000)
            await settle()
            ending = stream.abort()
            closer.cancel()
            await closer.ended()
            assert stream.ending is ending

    with peer(deaf) as link:
        run(main)
