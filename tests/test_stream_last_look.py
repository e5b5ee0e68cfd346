"""A deadline that passes while the loop is blocked or the process stopped: one last look tells what had happened."""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import sys
import termios
from typing import Final

import pytest

import bowout
from bowout import HandshakeTimeout, How, NoCloseNotify, StreamClosed
from bowout._connection.channel import Channel
from helpers.blocked import BRIEF, answers, ends_tls, meanwhile, sends_its_flight
from helpers.runners import Runner
from helpers.tasks import in_thread, jobs, settle
from helpers.wire import VERSIONS, Version, Wire, peer, silent

both_versions = pytest.mark.parametrize("version", VERSIONS)


@both_versions
def test_a_close_sees_the_answer_that_came_while_the_loop_was_blocked(run: Runner, version: Version) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream(close_timeout=BRIEF)
        await stream.handshake()
        ending: bowout.Ending = await meanwhile(link, stream.close)
        return ending

    with peer(answers, version=version) as link:
        ending = run(main)
    assert (ending.how, ending.deadline_hit) == (How.CLEAN, False), ending


def test_a_close_that_saw_no_answer_says_so_as_ever(run: Runner) -> None:
    def says_nothing(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.link.ready.set()
        wire.hold()

    async def main() -> bowout.Ending:
        stream = link.stream(close_timeout=BRIEF)
        await stream.handshake()
        ending: bowout.Ending = await meanwhile(link, stream.close)
        return ending

    with peer(says_nothing) as link:
        ending = run(main)
    assert (ending.how, ending.deadline_hit) == (How.UNANSWERED, True)


def unacknowledged(sock: socket.socket) -> int:
    """How many bytes of ours the peer's kernel does not have yet (SIOCOUTQ)."""
    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)


QUIET: Final = 5
"""For how many hundredths of a second nothing comes before a peer takes it that it has read what there was."""

PIECE: Final = 4 << 10
"""Bytes of each send. Where the peer has read everything, there is room for the rest of one."""


def test_a_close_hands_over_the_rest_of_a_send_that_has_room_by_now(run: Runner) -> None:
    """The peer read while nothing here could run: the kernel takes the rest of the message, and close_notify."""

    def reads_what_is_there(wire: Wire) -> tuple[str, int]:
        wire.handshake()
        wire.link.await_go()
        quiet = 0
        while unacknowledged(wire.link.sock) > PIECE or quiet < QUIET:
            if select.select([wire.sock], [], [], 0.01)[0]:
                assert wire.pull(), "nobody could have ended the connection"
                quiet = 0
            else:
                quiet += 1
        wire.link.ready.set()
        return wire.read_to_end(), len(wire.received)

    async def main() -> tuple[int, bowout.Ending]:
        stream = link.stream(close_timeout=BRIEF)
        await stream.handshake()
        sent = 0

        async def fill() -> None:
            nonlocal sent
            while True:
                await stream.send(bytes(PIECE))
                sent += PIECE

        async with jobs() as group:
            sender = group.start(fill)
            await in_thread(link.await_full)
            outgoing, alike, held = stream._connection.engine.outgoing, 0, (0, 0)
            while alike < 3:  # A kernel that is not writable takes a little more all the same.
                stream._connection._transport.wake()
                await settle()
                await in_thread(link.await_full)
                alike, held = alike + 1 if held == (sent, outgoing.size) else 0, (sent, outgoing.size)
            before = sent
            ending: bowout.Ending = await meanwhile(link, stream.close)
            assert isinstance(await sender.ended(), StreamClosed)
        assert sent == before + PIECE, "one send was in flight"
        return sent, ending

    with peer(reads_what_is_there, small=True) as link:
        sent, ending = run(main)
    assert (ending.unsent, link.result) == (0, ("close_notify", sent)), ending


@pytest.mark.parametrize("verb", ["close", "unwrap"])
@pytest.mark.parametrize("linger_bytes", [1 << 60, 3 << 20], ids=["no cap", "a cap"])
def test_a_peer_that_sends_as_fast_as_we_read_does_not_hold_up_the_end(
    run: Runner, monkeypatch: pytest.MonkeyPatch, verb: str, linger_bytes: int
) -> None:
    """There is more whenever the kernel is asked. Our close_notify leaves all the same."""

    async def main() -> bowout.Ending | None:
        stream = link.stream(linger_bytes=linger_bytes)
        await stream.handshake()
        monkeypatch.setattr(Channel, "receive", lambda _self, limit: limit)
        with contextlib.suppress(NoCloseNotify):
            await (stream.close(0) if verb == "close" else stream.unwrap(0))
        return stream.ending

    with peer(silent) as link:
        ending = run(main)
    assert ending is not None
    assert ending.how is How.UNANSWERED
    assert ending.deadline_hit or ending.cap_hit


@both_versions
def test_an_unwrap_sees_the_answer_that_came_while_the_loop_was_blocked(run: Runner, version: Version) -> None:
    async def main() -> bytes:
        stream = link.stream()
        await stream.handshake()
        sock, rest = await meanwhile(link, lambda: stream.unwrap(BRIEF))
        sock.close()
        return bytes(rest)

    with peer(ends_tls, version=version) as link:
        assert run(main) == b""


def test_an_unwrap_without_an_answer_fails_as_ever(run: Runner) -> None:
    def says_nothing(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.link.ready.set()
        wire.hold()

    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        with pytest.raises(NoCloseNotify):
            await meanwhile(link, lambda: stream.unwrap(BRIEF))

    with peer(says_nothing) as link:
        run(main)


def test_a_handshake_sees_what_came_while_the_loop_was_blocked(run: Runner) -> None:
    async def main() -> str | None:
        stream = link.stream(handshake_timeout=BRIEF)
        await meanwhile(link, stream.handshake)
        await stream.close()
        return stream.tls_version

    with peer(sends_its_flight) as link:
        assert run(main) == "TLSv1.3"


def test_a_handshake_without_an_answer_fails_as_ever(run: Runner) -> None:
    def says_nothing(wire: Wire) -> None:
        wire.link.ready.set()
        wire.hold()

    async def main() -> None:
        stream = link.stream(handshake_timeout=BRIEF)
        with pytest.raises(HandshakeTimeout):
            await meanwhile(link, stream.handshake)

    with peer(says_nothing) as link:
        run(main)
