"""A pool of httpcore that drops each connection which has ended, and leaves no descriptor of a failed one.

httpcore's own asks an idle HTTP/1.1 connection whether the server has ended it, and an HTTP/2 connection never. And it
forgets a stream whose connection failed or was cancelled between the calls that make it: in the dialogue with a SOCKS
proxy, for example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpcore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bowout.httpcore._backend import AsyncBackend
    from bowout.httpcore._streams import NetworkStream


class WatchedPool(httpcore.AsyncConnectionPool):
    """The pool.

    Args:
        backend: makes the connections.
        options: the arguments of `httpcore.AsyncConnectionPool`.
    """

    def __init__(self, backend: AsyncBackend, **options: Any) -> None:
        super().__init__(network_backend=backend, **options)
        self._watched_backend = backend
        self._options_of_each = options

    def create_connection(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        """Make the object of a new connection to `origin`; its first request connects."""
        network = ConnectionNetwork(self._watched_backend)
        # A pool is the only public way to a connection with a proxy, and it gives all connections one backend.
        maker = httpcore.AsyncConnectionPool(network_backend=network, **self._options_of_each)
        return WatchedConnection(maker.create_connection(origin), network)


class ConnectionNetwork(httpcore.AsyncNetworkBackend):
    """The network of one connection: a backend that remembers the streams that it has made."""

    def __init__(self, backend: AsyncBackend) -> None:
        self._backend = backend
        self._streams: list[NetworkStream] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Call that of the backend."""
        stream = await self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        self._streams.append(stream)
        return stream

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Call that of the backend."""
        stream = await self._backend.connect_unix_socket(path, timeout, socket_options)
        self._streams.append(stream)
        return stream

    async def sleep(self, seconds: float) -> None:
        """Call that of the backend."""
        await self._backend.sleep(seconds)

    def has_ended(self) -> bool:
        """Tell whether there was a connection, and it is of no use any more."""
        return bool(self._streams) and self._streams[-1].has_ended()

    async def aclose(self) -> None:
        """Close every stream that is still open."""
        for stream in self._streams.copy():
            await stream.aclose()


class WatchedConnection(httpcore.AsyncConnectionInterface):
    """A connection of httpcore, and the network under it.

    Several requests may wait until an HTTP/2 connection is made. If the first of them fails, the next one tries;
    httpcore's object says then that it is closed, idle and expired, and this one that it is in use.
    """

    def __init__(self, connection: httpcore.AsyncConnectionInterface, network: ConnectionNetwork) -> None:
        self._connection = connection
        self._network = network
        self._requests = 0
        self._has_answered = False
        self._is_over = False

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Pass it on. If the first requests fail, so that there is no connection, nothing is left of it.

        Raises:
            httpcore.ConnectionNotAvailable: it was closed meanwhile; the pool tries another one.
        """
        if self._is_over:
            raise httpcore.ConnectionNotAvailable
        self._requests += 1
        try:
            response = await self._connection.handle_async_request(request)
            self._has_answered = True
        finally:
            self._requests -= 1
            if not (self._requests or self._has_answered):
                self._is_over = True
                await self._network.aclose()
        return response

    async def aclose(self) -> None:
        """Close it."""
        self._is_over = True
        try:
            await self._connection.aclose()
        finally:
            await self._network.aclose()

    def info(self) -> str:
        """Describe it, as httpcore does."""
        return self._connection.info()

    def can_handle_request(self, origin: httpcore.Origin) -> bool:
        """Tell whether it leads to `origin`."""
        return self._connection.can_handle_request(origin)

    def is_available(self) -> bool:
        """Tell whether it may get another request now."""
        return not self._is_over and self._connection.is_available() and not self._network.has_ended()

    def has_expired(self) -> bool:
        """Tell whether it is idle, and is to be closed."""
        if self._requests:
            return False
        return self._connection.has_expired() or (self._connection.is_idle() and self._network.has_ended())

    def is_idle(self) -> bool:
        """Tell whether no request is in progress."""
        return not self._requests and self._connection.is_idle()

    def is_closed(self) -> bool:
        """Tell whether it was closed, or could not be made."""
        return self._is_over or (not self._requests and self._connection.is_closed())

    def __repr__(self) -> str:
        return repr(self._connection)
