"""Listening, serving and connecting under the names that trio has for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import trio

from bowout._adapters import StreamKeywords, check_keywords, stream_options
from bowout._arguments import check_flag, check_has, check_type, checked_count, checked_port
from bowout._backends.sockets import HAPPY_EYEBALLS_DELAY
from bowout._client import connect
from bowout._server.handlers import check_handler
from bowout.trio._stream import TRUNCATION, SSLStream, StreamT

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable
    from typing import Unpack


class SSLListener(trio.abc.Listener[SSLStream[StreamT]]):
    """A listener whose connections are TLS, in place of `trio.SSLListener`.

    Args:
        transport_listener: any listener of trio.
        ssl_context: the server's TLS configuration.
        https_compatible: as for `SSLStream`.
        options: see `StreamKeywords`.

    Raises:
        TypeError, ValueError: invalid arguments.

    Attributes:
        transport_listener: the given listener.
    """

    __slots__ = ("_context", "_https_compatible", "_options", "transport_listener")

    def __init__(
        self,
        transport_listener: trio.abc.Listener[StreamT],
        ssl_context: ssl.SSLContext,
        *,
        https_compatible: bool = False,
        **options: Unpack[StreamKeywords],
    ) -> None:
        _check_server(ssl_context, options, https_compatible=https_compatible)
        check_has("transport_listener", transport_listener, "accept", "a listener of trio")
        self.transport_listener: trio.abc.Listener[StreamT] = transport_listener
        self._context = ssl_context
        self._https_compatible = https_compatible
        self._options = options

    async def accept(self) -> SSLStream[StreamT]:
        """Accept the next connection; the first use of its stream performs the handshake.

        Raises:
            As the ``accept`` of the transport listener.
        """
        transport_stream = await self.transport_listener.accept()
        try:
            return SSLStream(
                transport_stream,
                self._context,
                server_side=True,
                https_compatible=self._https_compatible,
                **self._options,
            )
        except BaseException:
            await trio.aclose_forcefully(transport_stream)
            raise

    async def aclose(self) -> None:
        """Close the transport listener; accepted connections go on."""
        await self.transport_listener.aclose()


async def open_ssl_over_tcp_stream(  # noqa: D417  (`bowout.connect` has the other descriptions)
    host: str,
    port: int,
    *,
    https_compatible: bool = False,
    ssl_context: ssl.SSLContext | None = None,
    happy_eyeballs_delay: float | None = HAPPY_EYEBALLS_DELAY,
    connect_timeout: float = 30.0,
    **options: Unpack[StreamKeywords],
) -> SSLStream[trio.SocketStream]:
    """Connect to a TLS server, and perform the handshake.

    Args:
        host: a name or an address, which the certificate must be for.
        port: the TCP port.
        https_compatible: as for `SSLStream`.
        ssl_context: the TLS configuration; None for the system's trust store.
        happy_eyeballs_delay, connect_timeout: as for `bowout.connect`; a delay of None is the default, as in trio.
        options: see `StreamKeywords`.

    Raises:
        TypeError, ValueError: invalid arguments; raised before anything is opened.
        OSError: there is no connection, as `bowout.connect` reports it: a `bowout.ConnectError`, or a
            `bowout.HandshakeError`.

    Cancelling it leaves no descriptor open.
    """
    check_keywords(options, TRUNCATION)
    check_flag("https_compatible", https_compatible)
    connecting = connect(
        host,
        port,
        context=ssl_context,
        happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY if happy_eyeballs_delay is None else happy_eyeballs_delay,
        connect_timeout=connect_timeout,
        truncation="tolerate" if https_compatible else "raise",
        **options,
    )
    return SSLStream.from_stream(await connecting)


async def open_ssl_over_tcp_listeners(  # noqa: D417  (trio has the other descriptions)
    port: int,
    ssl_context: ssl.SSLContext,
    *,
    host: str | bytes | None = None,
    https_compatible: bool = False,
    backlog: int | None = None,
    **options: Unpack[StreamKeywords],
) -> list[SSLListener[trio.SocketStream]]:
    """Listen for TLS connections, on every address of `host`.

    Args:
        port, host, backlog: as for `trio.open_tcp_listeners`.
        ssl_context, https_compatible, options: as for `SSLListener`.

    Raises:
        TypeError, ValueError: invalid arguments; raised before anything is opened.
        OSError: an address cannot be used.
    """
    _check_server(ssl_context, options, https_compatible=https_compatible)
    checked_port(port, least=0)
    if backlog is not None:
        checked_count("backlog", backlog, least=1)
    if host is not None:
        check_type("host", host, (str, bytes), "a str, or None for every address")
        if not host:
            raise ValueError("host is empty: give a name or an address, or None for every address")
    return [
        SSLListener(listener, ssl_context, https_compatible=https_compatible, **options)
        for listener in await trio.open_tcp_listeners(port, host=host, backlog=backlog)
    ]


async def serve_ssl_over_tcp(  # noqa: D417  (likewise)
    handler: Callable[[SSLStream[trio.SocketStream]], Awaitable[object]],
    port: int,
    ssl_context: ssl.SSLContext,
    *,
    host: str | bytes | None = None,
    https_compatible: bool = False,
    backlog: int | None = None,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[list[SSLListener[trio.SocketStream]]] = trio.TASK_STATUS_IGNORED,
    **options: Unpack[StreamKeywords],
) -> NoReturn:
    """Serve TLS connections until cancelled, each in a task that runs ``handler(stream)``.

    A stream that its handler has not closed is ended when the handler returns, like an ``async with`` block. As with
    trio, an exception of a handler ends the server, and a peer's fault is one, too, if the handler lets it pass.
    `bowout.serve` has limits, a drain, and handlers that may fail.

    Args:
        handler: a coroutine function.
        port, host, backlog: as for `trio.open_tcp_listeners`.
        ssl_context, https_compatible, options: as for `SSLListener`.
        handler_nursery, task_status: as for `trio.serve_listeners`.

    Raises:
        TypeError, ValueError: invalid arguments; raised before anything is opened.
        OSError: an address cannot be used.
    """
    check_handler(handler)
    check_has("task_status", task_status, "started", "what a nursery's start() gives")
    if handler_nursery is not None:
        check_has("handler_nursery", handler_nursery, "start_soon", "a nursery of trio")
    listeners = await open_ssl_over_tcp_listeners(
        port, ssl_context, host=host, https_compatible=https_compatible, backlog=backlog, **options
    )

    async def handle(stream: SSLStream[trio.SocketStream]) -> None:
        async with stream:
            await handler(stream)

    await trio.serve_listeners(handle, listeners, handler_nursery=handler_nursery, task_status=task_status)


def _check_server(ssl_context: ssl.SSLContext, options: StreamKeywords, *, https_compatible: bool) -> None:
    check_keywords(options, TRUNCATION)
    check_flag("https_compatible", https_compatible)
    stream_options(ssl_context, server_side=True, server_hostname=None, tolerant=False, options=options)
