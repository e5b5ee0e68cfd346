"""Where what arrives during a close goes: to the function that asked for it, in order, or nowhere, and counted."""

from __future__ import annotations

import socket

import pytest

from bowout import How
from helpers.runners import Runner
from helpers.wire import VERSIONS, Version, Wire, peer, polite

LATE = b"0123456789" * 5000


def answering_the_fin(wire: Wire) -> None:
    """Answer in many records when the close has begun, and end well."""
    wire.handshake()
    wire.read_to_end()
    wire.read_to_tcp_end()
    for start in range(0, len(LATE), 1000):
        wire.send(LATE[start : start + 1000])
    wire.close_notify()
    wire.sock.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("version", VERSIONS)
def test_it_gets_what_arrives(version: Version, run: Runner) -> None:
    async def main() -> tuple[How, int, bytes]:
        async with link.stream() as stream:
            came: list[bytes] = []
            ending = await stream.close(late=came.append)
            return ending.how, ending.discarded, b"".join(came)

    with peer(answering_the_fin, version=version) as link:
        assert run(main) == (How.CLEAN, 0, LATE)


def test_it_gets_what_was_unread_first(run: Runner) -> None:
    def sending(wire: Wire) -> str:
        wire.handshake()
        wire.send(b"line\nbuffered")
        wire.read_exactly(1)
        wire.send(b", unread")
        wire.link.ready.set()
        end = wire.read_to_end()
        wire.send(b", late")
        wire.close_notify()
        return end

    async def main() -> tuple[int, bytes]:
        async with link.stream() as stream:
            came: list[bytes] = []
            await stream.receive_until(b"\n")
            await stream.send(b"!")
            link.await_ready()
            ending = await stream.close(late=came.append)
            return ending.discarded, b"".join(came)

    with peer(sending) as link:
        assert run(main) == (0, b"buffered, unread, late")


def test_the_byte_cap_holds_for_it(run: Runner) -> None:
    def flooding(wire: Wire) -> None:
        wire.handshake()
        with pytest.raises(OSError):  # noqa: PT011, PT012  (which one is the kernel's affair)
            while True:
                wire.send(bytes(1 << 14))

    async def main() -> tuple[bool, bool, int]:
        async with link.stream(linger_bytes=1 << 18) as stream:
            count = 0

            def take(data: bytes) -> None:
                nonlocal count
                count += len(data)

            ending = await stream.close(late=take)
            return ending.cap_hit, 0 < count <= 1 << 18, ending.discarded

    with peer(flooding) as link:
        assert run(main) == (True, True, 0)


def test_what_it_raises_cuts_the_close_short(run: Runner) -> None:
    async def main() -> tuple[str, bool]:
        stream = link.stream()
        await stream.handshake()

        def refuse(data: bytes) -> None:
            raise ValueError(len(data))

        with pytest.raises(ValueError, match="1000"):
            await stream.close(late=refuse)
        assert stream.ending is not None
        return stream.ending.reason, stream.ending.inbound.value == "open"

    def answering(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.send(bytes(1000))
        wire.hold()

    with peer(answering) as link:
        assert run(main) == ("the close was cut short by ValueError", True)


def test_what_it_raises_about_what_was_held_cuts_the_close_short_as_well(run: Runner) -> None:
    async def main() -> str:
        stream = link.stream()
        assert await stream.receive_until(b"\n") == b"a\n"

        def refuse(data: bytes) -> None:
            assert data == b"rest"
            raise ValueError

        with pytest.raises(ValueError):  # noqa: PT011  (it is this one)
            await stream.close(late=refuse)
        assert stream.ending is not None
        return stream.ending.reason

    def talking(wire: Wire) -> None:
        wire.handshake()
        wire.send(b"a\nrest")
        wire.read_to_end()

    with peer(talking) as link:
        assert run(main) == "the close was cut short by ValueError"


def test_of_two_closes_the_first_ones_counts(run: Runner) -> None:
    async def main() -> list[bytes]:
        async with link.stream() as stream:
            await stream.close()
            came: list[bytes] = []
            await stream.close(late=came.append)
            return came

    with peer(polite) as link:
        assert run(main) == []
