"""An exception out of nowhere, a Ctrl-C for example, strikes while bytes go from hand to hand: the stream fails closed.

What was sent may have left or not, what was received may be lost: nothing that is sent after it could be decrypted for
certain. So there is a FIN alone, and the verdict blames nobody else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

import bowout
from bowout import Event, EventKind, How, Outbound, ReceiveInterrupted, SendInterrupted, Stream
from helpers.runners import Runner
from helpers.tasks import in_thread
from helpers.wire import VERSIONS, Version, Wire, peer

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
    stream._connection._kernel_dry = False  # or the loop would read, and meet it, instead of the task
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
        with pytest.raises(SendInterrupted):
            await stream.send(b"more")
        with pytest.raises(SendInterrupted):
            await stream.send_eof()
        with pytest.raises(SendInterrupted):
            await stream.unwrap()
        with pytest.raises(ReceiveInterrupted):
            await stream.receive()
        await leaver(stream)
        assert stream.ending is not None
        return stream.ending

    with peer(talking, version=version) as link:
        ending = run(main)
    assert (ending.how, ending.outbound, ending.alert) == (How.ABORTED, Outbound.CUT, None)
    assert link.result in {("FIN", b""), ("FIN", b"sent")}


@pytest.mark.parametrize("at", [EventKind.CLOSE_NOTIFY_QUEUED, EventKind.FIN, EventKind.RELEASED])
def test_an_observer_that_raises_what_no_observer_should_leaves_an_ending(run: Runner, at: EventKind) -> None:
    async def main() -> bowout.Ending:
        def strike(happened: Event) -> None:
            if happened.kind is at:
                raise Struck

        stream = link.stream(on_event=strike)
        await stream.handshake()
        with pytest.raises(Struck):
            await stream.close()
        return await stream.close()

    def reading(wire: Wire) -> str:
        wire.handshake()
        return wire.read_to_end()

    with peer(reading) as link:
        assert run(main).events[-1].kind is EventKind.RELEASED
