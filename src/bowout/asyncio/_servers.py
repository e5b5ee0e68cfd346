"""The TLS connections of asyncio's servers, and their common end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from typing import TYPE_CHECKING, Any, Final

from bowout._arguments import check_has, checked_timeout
from bowout.errors import MisuseError

if TYPE_CHECKING:
    from bowout.asyncio._protocol import TLSProtocol
    from bowout.ending import Ending

#: Iterations of the loop after which each connection that it accepted before has its protocol, and has begun: asyncio
#: accepts in one, makes the transport in a task, and calls the protocol after that.
_ACCEPT_ROUNDS: Final = 5
#: Connections that are ended before other callbacks run.
_BATCH: Final = 64


class ServerConnections:
    """The connections of one server that have not ended.

    Attributes:
        process: the number of the process that made the server.
    """

    def __init__(self) -> None:
        self.process: int = os.getpid()
        self._protocols: weakref.WeakSet[TLSProtocol] = weakref.WeakSet()

    def add(self, protocol: TLSProtocol) -> None:
        """Add a connection; it leaves by itself when it is forgotten."""
        self._protocols.add(protocol)

    def open(self) -> list[TLSProtocol]:
        """Return those that have not ended."""
        return [protocol for protocol in self._protocols if protocol.connected]


#: The connections of each server with TLS of ours. asyncio's and uvloop's servers can both be referred to weakly.
_connections: weakref.WeakKeyDictionary[Any, ServerConnections] = weakref.WeakKeyDictionary()


def remember(server: asyncio.AbstractServer, connections: ServerConnections) -> None:
    """Record the connections of `server`, for `drain`."""
    _connections[server] = connections


async def drain(server: asyncio.AbstractServer, timeout: float = 30.0) -> list[Ending]:
    """Stop listening, and end every TLS connection of `server` gracefully.

        endings = await bowout.asyncio.drain(server)

    Each connection is closed as by its transport's ``close``: what was written is sent, then close_notify and FIN, and
    the peer's end is awaited. An application that is in the middle of an answer must finish it before this is called:
    asyncio does not tell when a connection is idle. (`bowout.serve` knows, and waits for its handlers.)

    Args:
        server: a server with TLS, from this module's functions or from a loop of `loop_factory`.
        timeout: seconds, after which the remaining connections are ended at once.

    Returns:
        The endings of the connections that were open.

    Raises:
        MisuseError: `server` has no TLS connections of ours, or belongs to the parent of this forked process.
        TypeError, ValueError: `timeout` is not a number of seconds.

    Cancelling it aborts the connections that have not ended.
    """
    checked_timeout("timeout", timeout)
    check_has("server", server, "wait_closed", "a server of asyncio")  # uvloop's is no `asyncio.AbstractServer`
    connections = _connections.get(server)
    if connections is None:
        raise MisuseError(
            "this server was not made by bowout.asyncio, or has no TLS: make it with bowout.asyncio.start_server(), or "
            "on a loop of bowout.asyncio.loop_factory()"
        )
    if connections.process != os.getpid():
        raise MisuseError("this server belongs to the process that made it: a forked child cannot drain it")
    server.close()
    for _ in range(_ACCEPT_ROUNDS):
        await asyncio.sleep(0)
    protocols = connections.open()
    try:
        async with asyncio.timeout(timeout):
            await _close_all(protocols)
    except TimeoutError:
        pass
    finally:
        _abort_all(protocols)
    await _wait_for_all(protocols)
    return [protocol.ending for protocol in protocols if protocol.ending is not None]


async def _close_all(protocols: list[TLSProtocol]) -> None:
    for number, protocol in enumerate(protocols, 1):
        if protocol.connected:
            protocol.transport.close()
        if number % _BATCH == 0:
            await asyncio.sleep(0)
    await _wait_for_all(protocols)


async def _wait_for_all(protocols: list[TLSProtocol]) -> None:
    for protocol in protocols:
        if protocol.connected:
            await protocol.wait_lost()


def _abort_all(protocols: list[TLSProtocol]) -> None:
    """Abort those that have not ended, also if a callback of one of them raises an exception."""
    with contextlib.ExitStack() as stack:
        for protocol in protocols:
            if protocol.connected:
                stack.callback(protocol.transport.abort)
