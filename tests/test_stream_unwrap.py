"""Unwrapping: TLS ends, the TCP connection goes on, and what follows is the caller's."""

from __future__ import annotations

import socket

import pytest

import bowout
from bowout import How, NoCloseNotify, Reset, StreamClosed, Truncated
from helpers.runners import Runner
from helpers.tasks import in_thread, jobs, settle
from helpers.wire import PATIENCE, ROLES, VERSIONS, Role, Script, Version, Wire, deaf, flooding, peer, silent

both_versions = pytest.mark.parametrize("version", VERSIONS)
both_roles = pytest.mark.parametrize("we", ROLES)

SOON = 0.3
"""A deadline that is meant to be reached, in seconds."""


def talk_on(wire: Wire) -> bytes:
    """Answer our close_notify, with plain text on its heels; then read plain text."""
    wire.handshake()
    wire.read_to_end()
    wire.sock.sendall(wire.encrypt_close_notify() + b"plain")
    return wire.sock.recv(100)


async def say_goodbye(sock: socket.socket) -> None:
    """Use the socket that was unwrapped."""
    assert sock.gettimeout() == 0.0
    sock.setblocking(True)  # noqa: ASYNC100,RUF100
    await in_thread(lambda: sock.sendall(b"goodbye in plain"))
    sock.close()


@both_versions
@both_roles
def test_what_follows_the_peers_close_notify_is_ours(run: Runner, version: Version, we: Role) -> None:
    async def main() -> tuple[bytes, bowout.Ending | None]:
        stream = link.stream()
        await stream.handshake()
        sock, leftover = await stream.unwrap()
        while len(leftover) < 5:  # it may have come in a segment of its own
            leftover += await in_thread(lambda: receive_blocking(sock))
            sock.setblocking(False)
        await say_goodbye(sock)
        return leftover, stream.ending

    with peer(talk_on, version=version, we=we) as link:
        leftover, ending = run(main)
    assert leftover == b"plain"
    assert link.result == b"goodbye in plain"
    assert ending is not None
    assert (ending.how, ending.unwrapped, ending.ignored) == (How.CLEAN, True, 0)


def receive_blocking(sock: socket.socket) -> bytes:
    sock.settimeout(PATIENCE)
    return sock.recv(100)


@both_versions
def test_the_peer_may_have_begun(run: Runner, version: Version) -> None:
    def begin(wire: Wire) -> tuple[str, bytes]:
        wire.handshake()
        wire.sock.sendall(wire.encrypt_close_notify() + b"plain")
        end = wire.read_to_end()
        return end, wire.sock.recv(100)

    async def main() -> bytes:
        stream = link.stream()
        assert await stream.receive() == b""
        sock, leftover = await stream.unwrap()
        await say_goodbye(sock)
        return leftover

    with peer(begin, version=version) as link:
        leftover = run(main)
    assert link.result[0] == "close_notify"
    assert leftover in {b"plain", b""}  # or it is in the socket still


def test_much_plain_text_in_one_segment_is_not_lost(run: Runner) -> None:
    plain = bytes(range(256)) * 400

    def begin(wire: Wire) -> None:
        wire.handshake()
        wire.sock.sendall(wire.encrypt(b"last") + wire.encrypt_close_notify() + plain)
        wire.link.ready.set()
        wire.read_to_end()

    async def main() -> bytes:
        stream = link.stream()
        await stream.handshake()
        await in_thread(link.await_ready)
        assert await stream.receive_exactly(4) == b"last"
        sock, leftover = await stream.unwrap()
        while len(leftover) < len(plain):
            leftover += await in_thread(lambda: receive_blocking(sock))
        sock.close()
        return leftover

    with peer(begin) as link:
        assert run(main) == plain


def test_unread_data_is_discarded_and_counted(run: Runner) -> None:
    def talk(wire: Wire) -> None:
        wire.handshake()
        wire.send(b"line\nunread")
        wire.link.ready.set()
        wire.read_to_end()
        wire.close_notify()

    async def main() -> bowout.Ending | None:
        stream = link.stream()
        await stream.handshake()
        await in_thread(link.await_ready)
        await stream.receive_until(b"\n")
        sock, _ = await stream.unwrap()
        sock.close()
        return stream.ending

    with peer(talk) as link:
        ending = run(main)
    assert ending is not None
    assert (ending.how, ending.discarded) == (How.CLEAN, 6)


def test_an_unwrap_waits_for_the_send_in_flight_and_reads_not_too_far(run: Runner) -> None:
    """While the send waits the peer's close_notify comes, with plain text that must not be taken for TLS."""

    def leave_first(wire: Wire) -> int:
        wire.handshake()
        wire.close_notify()
        wire.sock.sendall(b"plain")
        wire.link.ready.set()
        wire.link.await_go()
        wire.read_to_end()
        return len(wire.received)

    async def main() -> bytes:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            sender = group.start(stream.send, bytes(4_000_000))
            await in_thread(link.await_ready)
            await settle()
            unwrapper = group.start(stream.unwrap)
            await settle()
            link.go.set()
            await sender.result()
            sock, leftover = await unwrapper.result()
        while len(leftover) < 5:
            leftover += await in_thread(lambda: receive_blocking(sock))
        sock.close()
        return leftover

    with peer(leave_first, small=True) as link:
        assert run(main) == b"plain"
    assert link.result == 4_000_000


def test_a_silent_peer_costs_the_deadline_and_the_connection(run: Runner) -> None:
    async def main() -> bowout.Ending | None:
        stream = link.stream()
        await stream.handshake()
        with pytest.raises(NoCloseNotify) as caught:
            await stream.unwrap(SOON)
        assert caught.value.ending is stream.ending
        assert link.sock.fileno() == -1
        return stream.ending

    with peer(silent) as link:
        ending = run(main)
    assert ending is not None
    assert (ending.how, ending.deadline_hit) == (How.UNANSWERED, True)


def test_a_flood_costs_the_cap_and_the_connection(run: Runner) -> None:
    async def main() -> bowout.Ending | None:
        stream = link.stream(linger_bytes=1 << 21)
        await stream.handshake()
        with pytest.raises(NoCloseNotify):
            await stream.unwrap(20)
        return stream.ending

    with peer(flooding) as link:
        ending = run(main)
    assert ending is not None
    assert ending.cap_hit


@pytest.mark.parametrize(("end", "error"), [("fin", Truncated), ("rst", Reset)])
def test_a_peer_that_leaves_instead(run: Runner, end: str, error: type[bowout.PeerError]) -> None:
    def leave(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        getattr(wire, end)()
        if end == "fin":
            wire.hold()

    async def main() -> None:
        stream = link.stream(truncation="tolerate")
        await stream.handshake()
        with pytest.raises(error) as caught:
            await stream.unwrap(20)
        assert caught.value.ending is stream.ending
        assert link.sock.fileno() == -1

    with peer(leave) as link:
        run(main)


@pytest.mark.parametrize("verb", ["receive", "send", "unwrap"])
def test_the_stream_is_of_no_use_after_an_unwrap(run: Runner, verb: str) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        sock, _ = await stream.unwrap()
        with pytest.raises(StreamClosed):
            await getattr(stream, verb)(*((b"x",) if verb == "send" else ()))
        assert (await stream.close()).unwrapped
        await say_goodbye(sock)

    with peer(talk_on) as link:
        run(main)


def test_a_close_hurries_an_unwrap_and_shares_its_ending(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            unwrapper = group.start(stream.unwrap, 10_000)
            await settle()
            ending = await stream.close(SOON)
            assert isinstance(await unwrapper.ended(), NoCloseNotify)
        assert stream.ending is ending

    with peer(silent) as link:
        run(main)


@pytest.mark.parametrize("script", [silent, deaf])
def test_an_abort_ends_an_unwrap(run: Runner, script: Script) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            unwrapper = group.start(stream.unwrap, 10_000)
            await settle()
            ending = stream.abort()
            error = await unwrapper.ended()
        assert isinstance(error, StreamClosed)
        assert error.ending is ending

    with peer(script) as link:
        run(main)
