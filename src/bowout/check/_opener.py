"""Opens the connections of one check: one after the other, always to the same address, and counted."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from bowout._backends.sockets import begin_to_connect, check_connected, new_socket, peer_name
from bowout._carriers import adapted
from bowout._client import connect_error
from bowout._names import host_of, host_port
from bowout.check._wire import ProbeConnection
from bowout.sansio import SansIOConnection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bowout._backends import Backend, Transport
    from bowout._backends.sockets import Endpoint
    from bowout._client import Plan
    from bowout._options import StreamOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The times of a check, in seconds, and its sizes.

    Attributes:
        total: for all polite probes together.
        opening: for TCP and STARTTLS of one connection, and again for its handshake.
        connection: for each wait of one connection after that.
        gap: between the end of one connection and the beginning of the next.
        settle: silence before a probe acts on an idle connection.
        after: how long the end of TCP is waited for.
        close: for ending a connection whose probe is done.
        pause: for requests to arrive that the server shall not read.
        large: for a large answer.
        buffer: receive buffer for a large answer, in bytes.
        unread: requests that the server shall not read, in bytes.
    """

    total: float = 10.0
    opening: float = 3.0
    connection: float = 3.0
    gap: float = 0.1
    settle: float = 0.2
    after: float = 2.0
    close: float = 0.5
    pause: float = 0.5
    large: float = 20.0
    buffer: int = 8 << 10
    unread: int = 64 << 10

    @classmethod
    def within(cls, total: float) -> Pace:
        """Return the times for polite probes that may take `total` seconds: above the default, each wait is longer."""
        usual = cls()
        factor = max(1.0, total / usual.total)
        return cls(
            total=total,
            opening=usual.opening * factor,
            connection=usual.connection * factor,
            after=usual.after * factor,
        )


class Opener:
    """Opens connections to one endpoint.

    Args:
        backend: the event loop.
        plan: how to reach the endpoint, with its STARTTLS.
        options: context and name for TLS.
        connect: opens what carries TLS, instead of our own TCP connection; None for that.
        pace: the times.

    Attributes:
        connections: number of connections opened.
        address: address of the endpoint, with its port; None before there was a connection.
        tls: version of TLS of the last connection; None before there was one.
    """

    def __init__(
        self,
        backend: Backend,
        plan: Plan,
        options: StreamOptions,
        *,
        connect: Callable[[], Awaitable[Any]] | None,
        pace: Pace,
    ) -> None:
        self.backend: Final = backend
        self.pace: Final = pace
        self._plan = replace(plan, timeout=pace.opening)
        self._options = options
        self._connect = connect
        self._open: Transport | None = None
        self.connections: int = 0
        self.address: str | None = None
        self.tls: str | None = None

    @property
    def options(self) -> StreamOptions:
        """Context and name for TLS."""
        return self._options

    async def transport(self, *, small_buffer: bool = False) -> Transport:
        """Open a connection on which TLS can begin.

        Args:
            small_buffer: let our kernel hold little of what comes, so that the server's kernel cannot send it ahead.

        The check closes it with `abandon`, unless its probe does.

        Raises:
            ConnectError, StartTLSError: that is impossible.
        """
        if self.connections:
            await self.backend.sleep_until(self.backend.time() + self.pace.gap)
        self.connections += 1
        over = await self._carrier(small_buffer=small_buffer)
        transport = await self._plan.carry_out(self.backend, over)
        self._open = transport
        self._remember(transport)
        return transport

    async def open(self, *, small_buffer: bool = False) -> ProbeConnection:
        """Open a TLS connection.

        Raises:
            ConnectError, StartTLSError, HandshakeError: that is impossible.
        """
        transport = await self.transport(small_buffer=small_buffer)
        connection = ProbeConnection(self.backend, transport, self._tls)
        await connection.handshake(self.pace.opening)
        self.tls = connection.version
        return connection

    def sibling(self) -> Opener:
        """Return another opener to the same address, for connections beside this one's."""
        return Opener(self.backend, self._plan, self._options, connect=self._connect, pace=self.pace)

    def abandon(self) -> None:
        """Close the last connection, if its probe did not: it failed, was cancelled, or had no more time."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _tls(self, backend: Backend, transport: Transport) -> SansIOConnection:
        return SansIOConnection(
            self._options.context,
            server_hostname=self._options.server_hostname,
            peer=transport.peer,
            clock=backend.time,
            unacknowledged=transport.unacknowledged,
        )

    def _remember(self, transport: Transport) -> None:
        """Connect to the same address from now on: another one may be another server."""
        sock = transport.sock
        self.address = self.address or (peer_name(sock) if sock is not None else transport.peer) or None
        if self._connect is None and sock is not None:
            with contextlib.suppress(OSError):  # It is reset already, which the probe will find.
                self._plan = replace(self._plan, host=host_of(sock.getpeername()))

    async def _carrier(self, *, small_buffer: bool) -> Any:
        if self._connect is None:
            return await self._small() if small_buffer else None
        carrier = await self._connect()
        adapted(carrier)  # It raises TypeError if this cannot carry TLS.
        if small_buffer and isinstance(carrier, socket.socket):
            carrier.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.pace.buffer)
        return carrier

    async def _small(self) -> socket.socket:
        """Connect a socket whose receive buffer is small from the first byte on, to the first address that answers.

        Raises:
            ConnectError: that is impossible.
        """
        plan, start = self._plan, self.backend.time()
        failure: OSError | UnicodeError = OSError(errno.EHOSTUNREACH, "it has no address")
        try:
            endpoints = await self.backend.resolve(plan.host, plan.port)
        except (OSError, UnicodeError) as error:
            endpoints, failure = [], error
        for number, endpoint in enumerate(endpoints, 1):
            # An address that does not answer leaves time for the others.
            deadline = start + self.pace.opening * number / len(endpoints)
            try:
                return await self._connect_small(endpoint, deadline)
            except OSError as error:
                failure = error
        raise connect_error(failure, plan.host, host_port(plan.host, plan.port)) from failure

    async def _connect_small(self, endpoint: Endpoint, deadline: float) -> socket.socket:
        sock, address = new_socket(endpoint)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.pace.buffer)
            if not begin_to_connect(sock, address):
                async with self.backend.move_on_at(deadline) as scope:
                    waiting = self.backend.transport(sock, self._plan.host)
                    await waiting.wait(read=False, write=True)
                    sock, _ = await waiting.detach()
                    check_connected(sock)
                if scope.expired:
                    raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        except BaseException:
            sock.close()
            raise
        return sock
