"""An exception out of nowhere, a Ctrl-C for example, strikes while bytes go from hand to hand: the stream fails closed.

What was sent may have left or not, what was received may be lost: nothing that is sent after it could be decrypted for
certain. So there is a FIN alone, and the verdict blames nobody else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import pytest

import bowout
from bowout import Event, EventKind, How, Outbound, Stream, StreamClosed
from helpers.runners import Runner
from helpers.stand_ins import StandIn
from helpers.tasks import in_thread, jobs, settle
from helpers.wire import VERSIONS, Version, Wire, peer

pytestmark = pytest.mark.python_lane  # The lane in C cannot be struck: no handler of a signal runs within its calls.

Leaver = Callable[[Stream], Awaitable[object]]


class Struck(BaseException):
    """Not one that the library could know."""


async def struck_in_a_send(stream: Stream) -> None:
    """The kernel has the bytes, and nobody has noted that yet."""
    transport = stream._connection._transport
    send = transport.send

    def strike(data: bytes | memoryview) -> int | None:
        send(data)
        raise Struck

    transport.send = strike  # type: ignore[method-assign]
    with pytest.raises(Struck):
        await stream.send(b"sent")
    transport.send = send  # type: ignore[method-assign]


async def struck_in_a_receive(stream: Stream) -> None:
    """The bytes are out of the kernel, and not in the engine yet."""
    transport = stream._connection._transport
    receive_into = transport.receive_into

    def strike(buffer: memoryview) -> int | None:
        if receive_into(buffer):
            raise Struck
        return None

    transport.receive_into = strike  # type: ignore[method-assign]
    stream._connection.channel.dry = False  # or the loop would read, and meet it, instead of the task
    with pytest.raises(Struck):
        await stream.receive()
    transport.receive_into = receive_into  # type: ignore[method-assign]


async def close(stream: Stream) -> None:
    await stream.close()


async def leave(stream: Stream) -> None:
    with pytest.raises(Struck):
        async with stream:
            raise Struck


async def be_cancelled(stream: Stream) -> None:
    stream._leave("left by a cancellation")


def talking(wire: Wire) -> tuple[str, bytes]:
    wire.handshake()
    wire.link.await_go()  # Else the client could have it with the end of the handshake.
    wire.send(b"hello")
    wire.link.ready.set()
    return wire.read_to_end(), bytes(wire.received)


@pytest.mark.parametrize("leaver", [close, leave, be_cancelled])
@pytest.mark.parametrize("strike", [struck_in_a_send, struck_in_a_receive])
@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_torn_apart_sends_nothing_more(run: Runner, version: Version, strike: Leaver, leaver: Leaver) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        link.go.set()
        await in_thread(link.ready.wait)  # What comes later would be answered by RST.
        await strike(stream)
        assert stream.ending is not None
        for verb in (lambda: stream.send(b"more"), stream.send_eof, stream.unwrap, stream.receive):
            with pytest.raises(StreamClosed, match="interrupted") as caught:
                await verb()
            assert caught.value.ending is stream.ending
        await leaver(stream)
        return stream.ending

    with peer(talking, version=version) as link:
        ending = run(main)
    assert (ending.how, ending.outbound, ending.alert) == (How.ABORTED, Outbound.CUT, None)
    assert link.result in {("FIN", b""), ("FIN", b"sent")}


@pytest.mark.parametrize("error", [Struck, TimeoutError], ids=lambda kind: kind.__name__)
def test_a_timeout_of_the_programs_own_is_no_lost_connection(run: Runner, error: type[BaseException]) -> None:
    """A handler of SIGALRM raises one, which is an OSError as well."""

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()

        def strike(count: int) -> None:
            raise error

        engine = stream._connection.engine
        engine.outgoing = StandIn(engine.outgoing, taken=strike)  # type: ignore[assignment]
        with pytest.raises(error):
            await stream.send(b"sent")
        return await stream.close()

    with peer(reading) as link:
        assert run(main).how is How.ABORTED
    assert link.result == ("FIN", b"sent")


@pytest.mark.parametrize("verb", [Stream.receive, Stream.send_eof], ids=["receive", "send_eof"])
def test_data_that_was_decrypted_and_is_lost_is_not_passed_over(run: Runner, verb: Leaver) -> None:
    """The strike comes when OpenSSL has given a record away: in its reader, and where it is kept for a reader."""

    async def main() -> tuple[bowout.Ending, str]:
        def strike(happened: Event) -> None:
            if happened.kind is EventKind.DATA and armed:
                armed.clear()
                raise Struck

        armed: set[str] = set()
        stream = link.stream(on_event=strike)
        await stream.handshake()
        link.go.set()
        await in_thread(link.ready.wait)
        stream._connection.channel.receive(1 << 14)
        armed.add("now")
        with pytest.raises(Struck):
            await verb(stream)
        with pytest.raises(StreamClosed):
            await stream.receive()
        ending = await stream.close()
        return ending, ending.reason

    with peer(talking) as link:
        ending, reason = run(main)
    assert (ending.how, reason) == (How.ABORTED, "torn by Struck")
    assert link.result == ("FIN", b"")


def test_who_waits_is_told(run: Runner) -> None:
    """The strike comes in another task: a reader does not wait for ever."""

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            reader = group.start(stream.receive)
            await settle()
            await struck_in_a_send(stream)
            assert isinstance(await reader.ended(), StreamClosed)
        return await stream.wait_ended()

    with peer(reading) as link:
        assert run(main).how is How.ABORTED


def reading(wire: Wire) -> tuple[str, bytes]:
    wire.handshake()
    return wire.read_to_end(), bytes(wire.received)


@pytest.mark.parametrize("verb", ["close", "abort"])
@pytest.mark.parametrize(
    "at", [EventKind.CALL, EventKind.CLOSE_NOTIFY_QUEUED, EventKind.FIN, EventKind.RST, EventKind.RELEASED]
)
def test_an_observer_that_raises_what_no_observer_should_leaves_an_ending(
    run: Runner, at: EventKind, verb: str
) -> None:
    async def main() -> tuple[set[EventKind], bowout.Ending]:
        met: set[EventKind] = set()

        def strike(happened: Event) -> None:
            met.add(happened.kind)
            if happened.kind is at:
                raise Struck

        stream = link.stream(on_event=strike)
        await stream.handshake()
        with contextlib.suppress(Struck):
            await stream.close() if verb == "close" else stream.abort()
        return met, await stream.close()

    def reading(wire: Wire) -> str:
        wire.handshake()
        return wire.read_to_end()

    with peer(reading) as link:
        met, ending = run(main)
    assert ending.events[-1].kind is EventKind.RELEASED
    assert (at in met) == (at in {EventKind.CALL, EventKind.RELEASED} or (at is EventKind.RST) == (verb == "abort"))
