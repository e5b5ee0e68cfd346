"""bowout meets an entry of the catalogue: it does what `Entry.you` says, and tells what it met."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import bowout
from bowout.testing import GREETING, Entry, Outcome, Peer, PeerRole, TLSVersion, You
from helpers.tasks import in_thread, jobs, settle

#: Seconds for a close that cannot end before its deadline.
SHORT: Final = 0.3
#: Seconds for every other close: the end of a hang.
LONG: Final = 10.0
#: What is sent where the entry wants something to be.
REPLY: Final = b"thank you\n"
#: More than the buffers of any two kernels hold.
MUCH: Final = bytes(32 << 20)
UPLOAD: Final = bytes(range(256)) * 4096

_OUTCOMES: Final[dict[type[BaseException], Outcome]] = {
    bowout.Truncated: Outcome.TRUNCATED,
    bowout.Reset: Outcome.RESET,
    bowout.AlertReceived: Outcome.ALERT,
    bowout.ProtocolViolation: Outcome.VIOLATION,
}


@dataclass
class Met:
    """What the application saw on one connection."""

    ending: bowout.Ending
    outcome: Outcome
    data: bytes = b""
    plaintext: bytes = b""


@dataclass
class Scene:
    """One connection of ours to a peer."""

    peer: Peer
    sock: socket.socket
    stream: bowout.Stream
    entry: Entry

    def wait_full(self) -> None:
        """In a thread: wait until the kernels take no more from us."""
        while select.select([], [self.sock], [], 0.1)[1]:
            pass


@contextlib.contextmanager
def meeting(
    entry: Entry, tls: TLSVersion, role: PeerRole, **options: Any
) -> Iterator[tuple[Peer, list[socket.socket]]]:
    """The peer, and our connected sockets to it, one for each of the entry's connections."""
    with contextlib.ExitStack() as stack:
        count = entry.connections
        if role == "server":
            peer = stack.enter_context(Peer(entry, tls=tls, connections=count, **options))
            socks = [stack.enter_context(socket.create_connection(peer.address)) for _ in range(count)]
        else:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            address = listener.getsockname()
            peer = stack.enter_context(
                Peer(entry, role="client", tls=tls, connect_to=address, connections=count, **options)
            )
            socks = [stack.enter_context(listener.accept()[0]) for _ in range(count)]
        yield peer, socks


def our_stream(peer: Peer, sock: socket.socket, role: PeerRole, **options: Any) -> bowout.Stream:
    """Our end as a stream, with the role that the peer does not have."""
    if role == "server":
        return bowout.wrap(sock, peer.client_context(), server_hostname="localhost", **options)
    return bowout.wrap(sock, peer.server_context(), server_side=True, **options)


async def meet(peer: Peer, socks: list[socket.socket], entry: Entry, role: PeerRole) -> list[Met]:
    """Do what the entry says, on every connection."""
    if entry.you is You.DRAIN:
        scenes = [Scene(peer, sock, our_stream(peer, sock, role), entry) for sock in socks]
        async with jobs() as group:
            running = [group.start(_MOVES[You.CLOSE_IN_TIME], scene) for scene in scenes]
        return [await job.result() for job in running]
    patience = {"handshake_timeout": SHORT} if entry.you is You.LEAVE_HANDSHAKE else {}
    stream = our_stream(peer, socks[0], role, **patience)
    return [await _MOVES[entry.you](Scene(peer, socks[0], stream, entry))]


async def _no_handshake(scene: Scene) -> Met:
    try:
        await scene.stream.handshake()
    except bowout.HandshakeError:
        return Met(await scene.stream.close(), Outcome.HANDSHAKE_ERROR)
    return Met(await scene.stream.close(LONG), Outcome.EOF)


async def _read_to_end(stream: bowout.Stream) -> tuple[bytes, Outcome]:
    data = b""
    try:
        while chunk := await stream.receive():
            data += chunk
    except bowout.PeerError as error:
        return data, _OUTCOMES[type(error)]
    return data, Outcome.EOF


async def _read(scene: Scene) -> Met:
    data, outcome = await _read_to_end(scene.stream)
    return Met(await scene.stream.close(LONG), outcome, data)


async def _reply(scene: Scene) -> Met:
    data, outcome = await _read_to_end(scene.stream)
    await scene.stream.send(REPLY)
    return Met(await scene.stream.close(LONG), outcome, data)


async def _half_close(scene: Scene) -> Met:
    await scene.stream.handshake()
    await scene.stream.send_eof()
    data, outcome = await _read_to_end(scene.stream)
    return Met(await scene.stream.close(LONG), outcome, data)


def _close(timeout: float) -> Callable[[Scene], Awaitable[Met]]:
    async def close(scene: Scene) -> Met:
        data = await scene.stream.receive_exactly(len(scene.entry.sends))
        return Met(await scene.stream.close(timeout), Outcome.CLOSED, data)

    return close


async def _close_in_read(scene: Scene) -> Met:
    data = b""
    async for chunk in scene.stream:
        data += chunk
        await scene.stream.close(LONG)
    return Met(await scene.stream.wait_ended(), Outcome.CLOSED, data)


async def _cancel_read(scene: Scene) -> Met:
    data = await scene.stream.receive_exactly(len(scene.entry.sends))
    async with jobs() as group:
        receiving = group.start(scene.stream.receive)
        await settle()
        receiving.cancel()
    return Met(await scene.stream.close(LONG), Outcome.CLOSED, data)


async def _cancel_close(scene: Scene) -> Met:
    data = await scene.stream.receive_exactly(len(scene.entry.sends))
    async with jobs() as group:
        closing = [group.start(scene.stream.close, LONG) for _ in range(2)]
        await settle()
        closing[0].cancel()
        await settle()
        scene.peer.go()
    return Met(await scene.stream.wait_ended(), Outcome.CLOSED, data)


async def _blocked_send(scene: Scene) -> Met:
    data = await scene.stream.receive_exactly(len(scene.entry.sends))

    async with jobs() as group:
        sending = group.start(scene.stream.send, MUCH)
        await in_thread(scene.wait_full)
        ending = await scene.stream.close(SHORT)
        sending.cancel()
    return Met(ending, Outcome.CLOSED, data)


async def _upload(scene: Scene) -> Met:
    await scene.stream.send(UPLOAD)
    return Met(await scene.stream.close(LONG), Outcome.CLOSED, GREETING)


async def _unwrap(scene: Scene) -> Met:
    data = await scene.stream.receive_exactly(len(scene.entry.sends))
    sock, rest = await scene.stream.unwrap(LONG)
    with sock:
        sock.send(REPLY)
    ending = scene.stream.ending
    assert ending is not None
    return Met(ending, Outcome.EOF, data, rest)


_MOVES: Final[dict[You, Callable[[Scene], Awaitable[Met]]]] = {
    You.HANDSHAKE: _no_handshake,
    You.LEAVE_HANDSHAKE: _no_handshake,
    You.READ: _read,
    You.REPLY: _reply,
    You.CLOSE: _close(LONG),
    You.CLOSE_IN_TIME: _close(SHORT),
    You.HALF_CLOSE: _half_close,
    You.CLOSE_IN_READ: _close_in_read,
    You.CANCEL_READ: _cancel_read,
    You.CANCEL_CLOSE: _cancel_close,
    You.BLOCKED_SEND: _blocked_send,
    You.UPLOAD: _upload,
    You.UNWRAP: _unwrap,
}
