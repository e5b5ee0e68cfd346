"""Our side of a connection, in both roles."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import AsyncIterator

import bowout
from bowout import Stream
from helpers.served import gate
from helpers.tasks import in_thread
from helpers.wire import PATIENCE, Version, client_context, server_context
from interop.far import LOOPBACK

#: Seconds between two looks at whether a daemon listens.
_LOOK = 0.02


@contextlib.asynccontextmanager
async def connected(port: int, version: Version, close_timeout: float) -> AsyncIterator[Stream]:
    """As a client, as soon as there is a server: the connection that tells so is the one that is used."""
    context = client_context(version)
    deadline = time.monotonic() + PATIENCE
    stream: Stream | None = None
    while stream is None:
        try:
            stream = await bowout.connect(LOOPBACK, port, context=context, close_timeout=close_timeout)
        except bowout.ConnectRefused:
            if time.monotonic() > deadline:
                raise
            await in_thread(lambda: time.sleep(_LOOK))
    async with stream:
        yield stream


@contextlib.asynccontextmanager
async def accepted(listener: socket.socket, version: Version, close_timeout: float) -> AsyncIterator[Stream]:
    """As a server, for one client."""
    came, over = gate(), gate()
    streams: list[Stream] = []

    async def handler(stream: Stream) -> None:
        streams.append(stream)
        came.set()
        await over.wait()

    context = server_context(version)
    async with bowout.serve(handler, sockets=[listener], context=context, close_timeout=close_timeout):
        await came.wait()
        try:
            yield streams[0]
        finally:
            over.set()
