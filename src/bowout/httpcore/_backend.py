"""The network interface of httpcore: how connections are made."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

import httpcore

from bowout import _backends
from bowout._names import host_port
from bowout.httpcore._calls import raised_as, within
from bowout.httpcore._policy import CLOSE_TIMEOUT, CONNECT_TIMEOUT, ConnectionPolicy, HostTruncation
from bowout.httpcore._streams import NetworkStream, PlainNetworkStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from bowout._backends import Backend

#: Interval, in seconds, at which a Unix socket with a full backlog is tried again: no loop can wait for that.
_UNIX_INTERVAL: Final = 0.01


class AsyncBackend(httpcore.AsyncNetworkBackend):
    """A network backend for httpcore whose TLS connections end properly, under asyncio (uvloop too) or trio.

        pool = httpcore.AsyncConnectionPool(network_backend=bowout.httpcore.AsyncBackend())

    One backend may serve several pools, and event loops.

    Args:
        truncation, close_timeout: as for `bowout.httpcore.transport`.
        local_address, socket_options: used where a call gives none, such as httpcore's calls for a proxy.

    Raises:
        TypeError, ValueError: invalid arguments.
    """

    def __init__(
        self,
        *,
        truncation: HostTruncation = "raise",
        close_timeout: float = CLOSE_TIMEOUT,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> None:
        self._policy = ConnectionPolicy(truncation, close_timeout)
        self._policy.check()
        self._local_address = local_address
        self._socket_options = None if socket_options is None else list(socket_options)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        """Connect to `host`, by Happy Eyeballs (RFC 8305); `start_tls` of the result begins TLS.

        Args:
            host: a name or an address.
            port: the TCP port.
            timeout: seconds for resolving and connecting; None for 30, since nothing waits forever.
            local_address: the address to connect from; ``"0.0.0.0"`` and ``"::"`` choose the family alone.
            socket_options: arguments of ``setsockopt``, for the connected socket.

        Raises:
            httpcore.ConnectTimeout, httpcore.ConnectError: there is no connection.

        Cancelling it leaves no descriptor open.
        """
        backend = _backends.current()
        local = self._local_address if local_address is None else local_address
        return await self._connect(
            backend,
            lambda: backend.connect(host, port, local_address=local),
            where=host_port(host, port),
            timeout=timeout,
            socket_options=socket_options,
        )

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        """Connect to the Unix socket at `path`; everything else is as for `connect_tcp`."""
        backend = _backends.current()
        return await self._connect(
            backend, lambda: _connect_unix(backend, path), where=path, timeout=timeout, socket_options=socket_options
        )

    async def sleep(self, seconds: float) -> None:
        """Wait for that time."""
        backend = _backends.current()
        await backend.sleep_until(backend.time() + seconds)

    async def _connect(
        self,
        backend: Backend,
        connect: Callable[[], Awaitable[socket.socket]],
        *,
        where: str,
        timeout: float | None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> NetworkStream:
        limit = CONNECT_TIMEOUT if timeout is None else timeout
        with raised_as(httpcore.ConnectError, f"no connection to {where}: "):
            sock = await within(limit, connect, late=httpcore.ConnectTimeout)
            try:
                for option in self._socket_options or () if socket_options is None else socket_options:
                    sock.setsockopt(*option)
                transport = backend.transport(sock, "")
            except BaseException:
                sock.close()
                raise
        return PlainNetworkStream(backend, transport, self._policy)


async def _connect_unix(backend: Backend, path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(0)
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:
                await backend.sleep_until(backend.time() + _UNIX_INTERVAL)
            else:
                return sock
    except BaseException:
        sock.close()
        raise
