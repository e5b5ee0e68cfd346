"""Byte streams of every kind over a test's sockets, for TLS to stand on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final, Literal, get_args

import anyio
import anyio.abc
import trio
import trio.testing
from anyio.streams.stapled import StapledObjectStream

from helpers.runners import Backend

Kind = Literal["pair", "anyio", "trio", "bare"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

#: The kinds of carriers on each event loop.
ON: Final[dict[Backend, tuple[Kind, ...]]] = {
    "asyncio": ("pair", "anyio", "bare"),
    "uvloop": ("pair", "anyio"),
    "trio": ("trio", "anyio", "bare"),
}
#: Every event loop with every kind that is there.
WHERE: Final = [(backend, kind) for backend, kinds in ON.items() for kind in kinds]

#: Kinds that know of an RST and of what the peer's kernel has.
ABLE: Final = frozenset({"pair", "trio"})


class Bare:
    """A carrier that can do no more than it must; what it does, another stream does for it."""

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self._stream = stream

    async def receive(self, max_bytes: int) -> bytes:
        try:
            return await self._stream.receive(max_bytes)
        except anyio.EndOfStream:
            return b""

    async def send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def aclose(self) -> None:
        await self._stream.aclose()


async def carry(kind: Kind, sock: socket.socket) -> Any:
    """A carrier over a connected socket, which belongs to it from then on."""
    sock.setblocking(False)
    if kind == "pair":
        return await asyncio.open_connection(sock=sock)
    if kind == "trio":
        return trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    unix = sock.family == socket.AF_UNIX
    stream = await (anyio.abc.UNIXSocketStream if unix else anyio.abc.SocketStream).from_socket(sock)
    return Bare(stream) if kind == "bare" else stream


# -- both ends in one event loop


def objects(most: int) -> tuple[Any, Any]:
    """Two ends over anyio's memory object streams, each of which holds `most` objects."""
    there = anyio.create_memory_object_stream[bytes](most)
    back = anyio.create_memory_object_stream[bytes](most)
    return StapledObjectStream(there[0], back[1]), StapledObjectStream(back[0], there[1])


#: What passes bytes from one end to the other without a socket; `lockstep` and `objects of nothing` buffer nothing.
IN_MEMORY: Final[dict[str, Callable[[], tuple[Any, Any]]]] = {
    "memory": trio.testing.memory_stream_pair,
    "lockstep": trio.testing.lockstep_stream_pair,
    "objects": lambda: objects(8),
    "objects of nothing": lambda: objects(0),
}
#: Every event loop with every kind that is there.
MEMORIES: Final[list[tuple[Backend, str]]] = [
    *(("trio", name) for name in IN_MEMORY),
    ("asyncio", "objects"),
    ("asyncio", "objects of nothing"),
    ("uvloop", "objects"),
]


async def ends(kind: Kind) -> tuple[Any, Any]:
    """Two ends over a pair of Unix sockets."""
    ours, theirs = socket.socketpair()
    return await carry(kind, ours), await carry(kind, theirs)
