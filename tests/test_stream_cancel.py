"""Cancellation at every await: nothing hangs, nothing leaks, no byte is lost, and there is always an ending."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import bowout
from bowout import How, SendInterrupted, Stream
from helpers.runners import Runner
from helpers.tasks import Awaits, cancelled, in_thread, jobs, settle
from helpers.wire import (
    NAME,
    PATIENCE,
    VERSIONS,
    Link,
    Script,
    Version,
    Wire,
    client_context,
    deaf,
    flooding,
    peer,
    polite,
    server_context,
    silent,
)

MOST_AWAITS = 60
"""A verb that waits more often than this in these tests spins."""

both_versions = pytest.mark.parametrize("version", VERSIONS)


def answering(wire: Wire) -> str:
    """Answer a close_notify with another, once somebody waits for it."""
    wire.handshake()
    end = wire.read_to_end()
    wire.link.await_go()
    with contextlib.suppress(ConnectionError):  # we are gone where the close was cancelled
        wire.close_notify()
    return end


def chatty(wire: Wire) -> str:
    """Answer a close_notify with data, in pieces, and then with another."""
    wire.handshake()
    end = wire.read_to_end()
    wire.link.await_go()
    with contextlib.suppress(ConnectionError):  # we are gone where the close was cancelled
        for _ in range(3):
            wire.send(b"x" * 10_000)
        wire.close_notify()
    return end


def cancel_everywhere(
    run: Runner,
    script: Script,
    scenario: Callable[[Stream, Awaits], Coroutine[Any, Any, None]],
    *,
    expect: Callable[[Link, Stream], None] = lambda link, stream: None,
    **options: Any,
) -> int:
    """Play `scenario` with a cancellation at its first await, its second… until it has no more; count them."""
    version = options.pop("version", "1.3")
    small = options.pop("small", False)
    for at in range(1, MOST_AWAITS):
        streams: list[Stream] = []

        async def main(awaits: Awaits, streams: list[Stream] = streams) -> None:
            stream = link.stream(**options)
            streams.append(stream)
            await scenario(stream, awaits)

        with peer(script, version=version, small=small) as link:
            awaits = Awaits(cancel_at=at, at_first=link.go.set)
            run(main, awaits)
            assert link.sock.fileno() == -1, f"cancelled at await {at}: the descriptor is open"
        assert streams[0].ending is not None
        expect(link, streams[0])
        if awaits.count < at:
            return at - 1
    raise AssertionError(f"more than {MOST_AWAITS} awaits")


# -- close -----------------------------------------------------------------------------------------------------------


async def just_close(stream: Stream, awaits: Awaits) -> None:
    await stream.handshake()
    await awaits.drive(lambda: stream.close(0.2))


async def close_with_a_blocked_send(stream: Stream, awaits: Awaits) -> None:
    await stream.handshake()
    async with jobs() as group:
        sender = group.start(stream.send, b"s" * 8_000_000)
        await settle()
        await awaits.drive(lambda: stream.close(0.2))
        assert isinstance(await sender.ended(), bowout.StreamClosed)


async def close_with_a_pending_receive(stream: Stream, awaits: Awaits) -> None:
    await stream.handshake()
    async with jobs() as group:
        reader = group.start(stream.receive)
        await settle()
        await awaits.drive(lambda: stream.close(0.2))
        assert isinstance(await reader.ended(), bowout.StreamClosed)


@both_versions
@pytest.mark.parametrize("script", [answering, silent, chatty])
@pytest.mark.parametrize("scenario", [just_close, close_with_a_pending_receive])
def test_a_close_cancelled_at_any_await_has_sent_close_notify(
    run: Runner, script: Script, scenario: Any, version: Version
) -> None:
    def expect(link: Link, stream: Stream) -> None:
        assert link.result == "close_notify"
        assert stream.ending is not None
        assert stream.ending.close_notify_sent_at is not None

    assert cancel_everywhere(run, script, scenario, expect=expect, version=version) > 0


def test_a_close_cancelled_at_any_await_under_a_flood_is_released(run: Runner) -> None:
    def expect(link: Link, stream: Stream) -> None:
        assert stream.ending is not None
        assert stream.ending.how in {How.UNANSWERED, How.UNFLUSHED}

    assert cancel_everywhere(run, flooding, just_close, expect=expect, linger_bytes=2 << 20) > 0


def test_a_close_cancelled_with_a_send_blocked_sends_no_close_notify(run: Runner) -> None:
    def expect(link: Link, stream: Stream) -> None:
        ending = stream.ending
        assert ending is not None
        assert ending.how in {How.ABORTED, How.UNFLUSHED}
        assert ending.close_notify_sent_at is None
        assert ending.sent + ending.unsent == 8_000_000

    assert cancel_everywhere(run, deaf, close_with_a_blocked_send, expect=expect) > 0


def test_a_cancelled_close_leaves_its_ending_to_another(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            first = group.start(stream.close, 10_000)
            await settle()
            second = group.start(stream.close, 10_000)
            await settle()
            first.cancel()
            assert await second.result() is stream.ending

    with peer(silent) as link:
        run(main)


def test_a_cancelled_second_close_leaves_the_first_alone(run: Runner) -> None:
    async def main() -> How:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            first = group.start(stream.close, 20)
            await settle()
            second = group.start(stream.close, 20)
            await settle()
            second.cancel()
            await second.ended()
            link.go.set()
            return (await first.result()).how

    def answer_late(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        link.await_go()
        wire.close_notify()

    with peer(answer_late) as link:
        assert run(main) is How.CLEAN


# -- the other ends --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [silent, chatty])
def test_an_unwrap_cancelled_at_any_await_is_released(run: Runner, script: Script) -> None:
    async def scenario(stream: Stream, awaits: Awaits) -> None:
        await stream.handshake()
        await awaits.drive(lambda: unwrap(stream))

    assert cancel_everywhere(run, script, scenario) > 0


async def unwrap(stream: Stream) -> None:
    try:
        sock, _ = await stream.unwrap(0.2)
    except bowout.NoCloseNotify:
        return
    sock.close()


@both_versions
def test_a_half_close_cancelled_at_any_await_can_be_made_up_for(run: Runner, version: Version) -> None:
    async def scenario(stream: Stream, awaits: Awaits) -> None:
        await awaits.drive(stream.send_eof)  # the handshake as well
        if stream.ending is None:
            await stream.send_eof()
            assert await stream.receive() == b""
        await stream.close()

    assert cancel_everywhere(run, forgiving(polite), scenario, version=version) > 0


def forgiving(script: Script) -> Script:
    """Begin when somebody waits for it; and our end may go in the handshake."""

    def forgive(wire: Wire) -> object:
        wire.link.await_go()
        try:
            return script(wire)
        except (AssertionError, ConnectionError):
            return "left in the handshake"

    return forgive


@both_versions
def test_a_handshake_cancelled_at_any_await_closes_the_descriptor(run: Runner, version: Version) -> None:
    async def scenario(stream: Stream, awaits: Awaits) -> None:
        await awaits.drive(stream.handshake)
        await stream.close()

    assert cancel_everywhere(run, forgiving(polite), scenario, version=version) > 0


def test_connect_cancelled_at_any_await_leaves_nothing_open(run: Runner) -> None:
    """The guard against leaks, and the runner's against tasks, are what would fail here."""

    async def main(awaits: Awaits) -> None:
        stream = await awaits.drive(lambda: connect(port))
        if stream is not None:
            await stream.close()

    for at in range(1, MOST_AWAITS):
        with listening() as port:
            awaits = Awaits(cancel_at=at)
            run(main, awaits)
        if awaits.count < at:
            break
    assert 1 < at < MOST_AWAITS - 1


async def connect(port: int) -> Stream:
    return await bowout.connect("localhost", port, context=client_context(), server_hostname=NAME)


@contextlib.contextmanager
def listening() -> Iterator[int]:
    """A server for one connection, which may leave whenever it likes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                sock = listener.accept()[0]
                sock.settimeout(PATIENCE)
                with contextlib.suppress(OSError), server_context().wrap_socket(sock, server_side=True) as tls:
                    while tls.recv(1000):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes an accept that nobody came to
            thread.join()


# -- receiving and sending -------------------------------------------------------------------------------------------


@both_versions
def test_a_receive_cancelled_at_any_await_loses_no_byte(run: Runner, version: Version) -> None:
    pieces = [b"%06d" % number * 700 for number in range(12)]

    def talk(wire: Wire) -> None:
        wire.handshake()
        for piece in pieces:
            records = wire.encrypt(piece)
            for start in range(0, len(records), 1000):
                wire.sock.sendall(records[start : start + 1000])
        wire.close_notify()
        wire.read_to_end()

    async def scenario(stream: Stream, awaits: Awaits) -> None:
        await stream.handshake()
        first = await awaits.drive(lambda: stream.receive_exactly(20_000))
        rest = [chunk async for chunk in stream]
        assert (first or b"") + b"".join(rest) == b"".join(pieces)
        await stream.close()

    cancel_everywhere(run, talk, scenario, version=version)


def test_a_cancelled_receive_does_not_stop_the_next(run: Runner) -> None:
    async def main() -> bytes:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            reader = group.start(stream.receive)
            await settle()
            reader.cancel()
            await reader.ended()
            link.go.set()
            data = await stream.receive_exactly(5)
        await stream.close()
        return data

    def talk(wire: Wire) -> None:
        wire.handshake()
        link.await_go()
        wire.send(b"hello")
        wire.read_to_end()

    with peer(talk) as link:
        assert run(main) == b"hello"


def test_a_send_cut_short_lets_no_later_send_through(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        await cut_a_send_short(stream)
        with pytest.raises(SendInterrupted):
            await stream.send(b"more")
        with pytest.raises(SendInterrupted):
            await stream.send_eof()
        with pytest.raises(SendInterrupted):
            await stream.unwrap()
        stream.abort()

    with peer(deaf) as link:
        run(main)


async def cut_a_send_short(stream: Stream, size: int = 12_000_000) -> None:
    async with jobs() as group:
        sender = group.start(stream.send, b"s" * size)
        await settle()
        sender.cancel()
        await sender.ended()


@both_versions
def test_a_close_after_a_send_cut_short_sends_a_fin_alone(run: Runner, version: Version) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        await cut_a_send_short(stream)
        link.go.set()
        return await stream.close()

    def read_late(wire: Wire) -> tuple[str, int]:
        wire.handshake()
        link.await_go()
        return wire.read_to_end(), len(wire.received)

    with peer(read_late, version=version) as link:
        ending = run(main)
    assert link.result == ("FIN", ending.sent)
    assert (ending.how, ending.sent + ending.unsent) == (How.ABORTED, 12_000_000)


def test_on_error_close_vouches_for_a_send_cut_short_as_well(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream(on_error="close")
        await stream.handshake()
        await cut_a_send_short(stream)
        link.go.set()
        return await stream.close()

    def read_late(wire: Wire) -> str:
        wire.handshake()
        link.await_go()
        end = wire.read_to_end()
        wire.close_notify()
        return end

    with peer(read_late) as link:
        ending = run(main)
    assert link.result == "close_notify"
    assert (ending.how, ending.unsent > 0) == (How.UNFLUSHED, True)


def test_a_send_cancelled_before_its_turn_was_never_sent(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            first = group.start(stream.send, b"1" * 4_000_000)
            await settle()
            second = group.start(stream.send, b"2" * 1_000)
            third = group.start(stream.send, b"3" * 1_000)
            await settle()
            second.cancel()
            await second.ended()
            link.go.set()
            await first.result()
            await third.result()
        return await stream.close()

    def read_late(wire: Wire) -> bytes:
        wire.handshake()
        link.await_go()
        wire.read_to_end()
        wire.close_notify()
        return bytes(wire.received)

    with peer(read_late, small=True) as link:
        ending = run(main)
    assert link.result == b"1" * 4_000_000 + b"3" * 1_000
    assert ending.how is How.CLEAN


def test_a_send_cancelled_when_all_of_it_is_encrypted_still_leaves(run: Runner) -> None:
    """Then nothing is cut short: the rest goes with whatever is done next."""

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        total = 0
        async with jobs() as group:
            while True:
                sender = group.start(stream.send, b"x" * 1000)
                await settle()
                total += 1000
                if not sender.done:
                    sender.cancel()
                    await sender.ended()
                    break
        link.go.set()
        ending = await stream.close()
        assert ending.sent == total
        return ending

    def read_late(wire: Wire) -> str:
        wire.handshake()
        link.await_go()
        end = wire.read_to_end()
        wire.close_notify()
        return end

    with peer(read_late, small=True) as link:
        ending = run(main)
    assert (link.result, ending.how, ending.unsent) == ("close_notify", How.CLEAN, 0)


def test_sends_that_are_cancelled_one_after_the_other_do_not_pile_up(run: Runner) -> None:
    async def main() -> int:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            while True:  # until the kernel takes no more
                sender = group.start(stream.send, b"x" * 10_000)
                await settle()
                if not sender.done:
                    break
            for _ in range(50):
                sender.cancel()
                await sender.ended()
                sender = group.start(stream.send, b"x" * 10_000)
                await settle()
            sender.cancel()
            await sender.ended()
        size = stream._connection.engine.outgoing.size
        stream.abort()
        return size

    with peer(deaf, small=True) as link:
        assert run(main) < 50_000


def test_a_cancelled_wait_for_the_end_ends_nothing(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            waiter = group.start(stream.wait_ended)
            await settle()
            waiter.cancel()
            await waiter.ended()
        assert (await stream.close()).clean

    with peer(polite) as link:
        run(main)


@pytest.mark.parametrize("stage", ["handshake", "receive"])
def test_a_cancellation_while_an_alert_waits_for_the_kernel_closes_the_descriptor(run: Runner, stage: str) -> None:
    async def main() -> None:
        stream = link.stream()
        if stage == "receive":
            await stream.handshake()
        transport = stream._connection._transport
        async with jobs() as group:
            job = group.start(getattr(stream, stage))
            await settle()
            wait = transport.wait
            transport.send = lambda data: None  # type: ignore[method-assign]
            transport.wait = lambda *, read, write: wait(read=read, write=False)  # type: ignore[method-assign]
            link.go.set()
            await in_thread(link.await_ready)
            while not stream._connection.engine.failure:
                await settle()
                await in_thread(lambda: link.over.wait(0.01))
            assert not job.done
            job.cancel()
            assert isinstance(await job.ended(), cancelled())
        assert stream.ending is not None
        assert link.sock.fileno() == -1

    def babble(wire: Wire) -> None:
        if stage == "receive":
            wire.handshake()
        else:
            wire.sock.recv(1000)
        wire.link.await_go()
        wire.garbage()
        wire.link.ready.set()
        wire.hold()

    with peer(babble) as link:
        run(main)
