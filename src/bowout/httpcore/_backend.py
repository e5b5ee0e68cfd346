"""The network interface of httpcore: how connections are made."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

import httpcore

from bowout import _backends
from bowout._arguments import check_type, checked_host, checked_local_address, checked_port, checked_timeout
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
        self._local_address = _checked_local(local_address)
        self._socket_options = None if socket_options is None else _checked_options(socket_options)

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
            httpcore.ConnectTimeout, httpcore.ConnectError: there is no connection; `host` and `port`, which may come
                from a server's redirect, can be none.
            TypeError, ValueError: another argument is not valid.

        Cancelling it leaves no descriptor open.
        """
        try:
            checked_host(host, port)
            checked_port(port)
        except ValueError as error:
            raise httpcore.ConnectError(f"no connection to {host}:{port}: {error}") from error
        local = self._local_address if local_address is None else _checked_local(local_address)
        backend = _backends.current()
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
        check_type("path", path, str, "a str")
        if not path:
            raise ValueError("path is empty: give the path of a Unix socket")
        backend = _backends.current()
        return await self._connect(
            backend, lambda: _connect_unix(backend, path), where=path, timeout=timeout, socket_options=socket_options
        )

    async def sleep(self, seconds: float) -> None:
        """Wait for that time."""
        checked_timeout("seconds", seconds)
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
        limit = CONNECT_TIMEOUT if timeout is None else checked_timeout("timeout", timeout)
        options = self._socket_options if socket_options is None else _checked_options(socket_options)
        with raised_as(httpcore.ConnectError, f"no connection to {where}: "):
            sock = await within(limit, connect, late=httpcore.ConnectTimeout)
            try:
                for option in options or ():
                    sock.setsockopt(*option)
                transport = backend.transport(sock, "")
            except BaseException:
                sock.close()
                raise
        return PlainNetworkStream(backend, transport, self._policy)


def _checked_local(address: str | None) -> str | None:
    """Return `address`, to connect from; raise TypeError or ValueError if it can be none."""
    checked = checked_local_address(address)
    return None if checked is None else checked[0]


def _checked_options(options: Any) -> list[httpcore.SOCKET_OPTION]:
    """Return the arguments of ``setsockopt`` as a list; raise TypeError if they are none."""
    try:
        if not isinstance(options, str | bytes):
            return [(*option,) for option in options]
    except TypeError:
        pass
    raise TypeError(
        f"socket_options must be a list of tuples for setsockopt(), not {options!r}: "
        "write [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)], for example"
    )


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
