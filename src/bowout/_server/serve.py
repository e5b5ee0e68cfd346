"""Serving: every connection ends properly, and so does the server."""

from __future__ import annotations

import signal
import socket
import threading
from contextlib import AsyncExitStack
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from bowout import _backends
from bowout._arguments import check_flag, checked_count, checked_host, checked_port, checked_protocols, checked_timeout
from bowout._core import hook
from bowout._exception_groups import consists_of
from bowout._options import KEEPALIVE, LINGER_BYTES, StreamOptions
from bowout._server.certificates import check_has_certificate
from bowout._server.handlers import check_handler
from bowout._server.listen import Listener, checked_listener, listen_tcp, listen_unix
from bowout._server.server import Server, Settings
from bowout._server.sni import sni_callback
from bowout.ending import Role
from bowout.errors import MisuseError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from bowout._backends import Backend
    from bowout._server.drain import OnDrain
    from bowout._server.drain_log import DrainReport
    from bowout._stream import Stream
    from bowout.ending import Ending, Event, OnError, TruncationPolicy

#: Largest backlog that listen() accepts (a C int); the kernel reduces what exceeds its own limit.
_MOST_BACKLOG: Final = (1 << 31) - 1


def serve(
    handler: Callable[[Stream], Awaitable[None]],
    host: str | None = None,
    port: int = 0,
    *,
    context: ssl.SSLContext,
    sni: Mapping[str, ssl.SSLContext] | Callable[[str], ssl.SSLContext | None] | None = None,
    alpn: Sequence[str] | None = None,
    proxy_protocol: bool | Callable[[str], bool] = False,
    sockets: Sequence[socket.socket] | None = None,
    path: str | Path | None = None,
    backlog: int = 1024,
    reuse_port: bool = False,
    max_connections: int | None = None,
    max_handshakes: int = 1000,
    handshake_timeout: float = 10.0,
    idle_timeout: float | None = None,
    keepalive: float | None = KEEPALIVE,
    close_timeout: float = 5.0,
    drain_timeout: float = 10.0,
    drain_on_signals: bool = False,
    on_drain: OnDrain = "close",
    linger_bytes: int = LINGER_BYTES,
    truncation: TruncationPolicy = "raise",
    on_error: OnError = "truncate",
    on_ending: Callable[[Ending], None] | None = None,
    on_event: Callable[[str, Event], None] | None = None,
) -> Serving:
    """Serve TLS connections, under asyncio (uvloop too) or trio.

        async def echo(stream):
            async for chunk in stream:
                await stream.send(chunk)

        async with bowout.serve(echo, "localhost", 8443, context=context) as server: ...
        report = await bowout.serve(echo, port=8443, context=context, drain_on_signals=True)

    As a context manager it serves while the block runs, and drains when the block is left; if an error or a
    cancellation leaves the block, every handler is cancelled, and each close_notify that is true is still tried. If it
    is awaited, it serves until it is drained, and returns the report.

    When a handler returns, its stream is closed gracefully. When it fails or is cancelled, the peer sees what `Stream`
    documents; other connections are not affected. The logger ``bowout.server`` gets the traceback of a failed handler,
    and one line at level INFO for a peer's fault.

    Args:
        handler: called with the `Stream` of each connection, in a task of its own, after the handshake.
        host: a name or an address; None for every address of this machine, IPv6 and IPv4.
        port: 0 for any free one; `Server.addresses` has its number.
        context: a server's ``ssl.SSLContext`` with its certificate, and with its settings for the certificates of
            clients. `connect` documents what is changed on it.
        sni: other contexts by the name that a client asks for (RFC 6066), in lower case: a mapping, or a function that
            returns a context or None. `context` serves every other name. Of such a context, the certificate, the trust
            store and the ALPN protocols are used; TLS versions and the requirements for a client's certificate are
            those of `context` (a context that requires more is refused). This replaces ``context.sni_callback``.
        alpn: protocols to accept, the best first (RFC 7301); they are set on `context` and on the contexts of `sni`. A
            client that offers only others is refused with the alert no_application_protocol, as section 3.2 demands; a
            client that offers none is served. Protocols that were set on a context without this argument are accepted
            likewise, but without that refusal: ``ssl`` does not refuse, and does not tell which protocols were set.
        proxy_protocol: whether every connection comes through a proxy that first names the client, by a header of the
            PROXY protocol, version 1 or 2; that client becomes the stream's ``peer``. The header has to come within
            ``handshake_timeout``; without a valid one the handshake fails. A client that can bypass the proxy can claim
            any address: block such clients, or give a function. It is called with the address of the connecting host
            (``""`` for a Unix socket) and tells whether that is a proxy; all other hosts are served without a header.
        sockets: bound, listening sockets to use instead of `host` and `port`; `systemd_sockets` returns those of a
            socket activation. The server owns them from then on.
        path: a Unix socket to listen on instead. It is removed when accepting ends, unless another process has replaced
            it.
        backlog: maximum number of connections that the kernel queues for `serve` to accept.
        reuse_port: whether to let several processes listen on the same port (``SO_REUSEPORT``).
        max_connections: maximum number of concurrent handlers; at the limit, accepting pauses: the backlog waits, and
            so do clients whose handshake was in progress by then. None: no limit.
        max_handshakes: maximum number of handshakes in progress; beyond it, the oldest is reset, so that stalled
            clients cannot block others.
        handshake_timeout: seconds for a handshake.
        idle_timeout: seconds without application data after which a connection is closed, if its handler then waits for
            the peer, in a receive or a send. A handler that computes is not interrupted. None: no limit.
        keepalive: as for `connect`.
        close_timeout: seconds for closing a connection whose handler has returned.
        linger_bytes: as for `connect`.
        truncation: as for `connect`.
        on_error: as for `connect`; the block is the handler.
        drain_timeout: seconds for the drain when the block is left, or at a signal.
        drain_on_signals: whether SIGTERM and SIGINT begin a drain; a second signal shortens its deadline.
        on_drain: what a drain does with a connection whose handler waits for a new request: it receives, and no data
            has come since it last sent. ``"close"``: it is closed at once, and the handler's receive ends with
            `StreamClosed`. ``"end_receive"``: that receive returns the end of the stream, so that the handler can send
            a last message. ``"wait"``: nothing; for protocols in which the middle of an answer can look like this. A
            handler that sends while another of its tasks receives never counts as idle: it should watch
            ``stream.draining``.
        on_ending: called with the `Ending` of each connection, also of a failed handshake. It must return quickly; its
            exceptions are logged.
        on_event: called with the peer's name and each `Event` of its connection as it happens, for traces; likewise.

    Raises:
        TypeError: an argument of the wrong type, or a handler that returns no awaitable.
        ValueError: an invalid argument, arguments that contradict each other, or a context without a certificate.
        OSError: an address cannot be used.
    """
    check_handler(handler)
    if alpn is not None:
        alpn = checked_protocols(alpn)
    options = StreamOptions(
        context=context,
        role=Role.SERVER,
        alpn=alpn,
        handshake_timeout=handshake_timeout,
        close_timeout=close_timeout,
        keepalive=keepalive,
        linger_bytes=linger_bytes,
        truncation=truncation,
        on_error=on_error,
    )
    options.check()
    settings = Settings(
        max_connections=max_connections,
        max_handshakes=max_handshakes,
        idle_timeout=idle_timeout,
        drain_timeout=checked_timeout("drain_timeout", drain_timeout),
        on_drain=on_drain,
        on_ending=on_ending,
        on_event=on_event,
        proxy_protocol=proxy_protocol,
    )
    settings.check()
    if sum((sockets is not None, path is not None, host is not None or port != 0)) > 1:
        raise ValueError("give only one of these: a host and port, sockets, a path")
    if sockets is not None:
        sockets = _checked_sockets(sockets)
    _check_address(host, port, path)
    checked_count("backlog", backlog, least=1)
    check_flag("reuse_port", reuse_port)
    check_flag("drain_on_signals", drain_on_signals)
    _check_proxy_protocol(proxy_protocol)
    _set_sni(context, sni, alpn)

    async def listen(backend: Backend) -> list[Listener]:
        if sockets is not None:
            return [Listener(checked_listener(sock)) for sock in sockets]
        if path is not None:
            return [Listener(listen_unix(path, backlog=min(backlog, _MOST_BACKLOG)), path)]
        endpoints = await backend.resolve(host, port, socket.AI_PASSIVE)
        return [
            Listener(sock)
            for sock in listen_tcp(endpoints, port, backlog=min(backlog, _MOST_BACKLOG), reuse_port=reuse_port)
        ]

    return Serving(handler, listen, options, settings, drain_on_signals=drain_on_signals)


def _check_address(host: object, port: object, path: object) -> None:
    """Raise ValueError or TypeError for an invalid address: the system's error would be unclear, or absent."""
    if host == "":
        raise ValueError("host is empty: give a name or an address, or None for every address of this machine")
    if host is not None:
        checked_host(host, port)
    checked_port(port, least=0)
    if path is not None and not isinstance(path, str | PurePath):
        raise TypeError(f"the path must be that of a file, not {path!r}")
    # Linux binds an empty path to a name of its own choice, and a path that begins with a NUL to no file.
    if path is not None and ("\0" in str(path) or str(path) in {"", "."}):
        raise ValueError(f"the path must be that of a file, not {path!r}")


def _checked_sockets(sockets: Any) -> list[socket.socket]:
    """Return `sockets` as a list; whether each socket is listening is checked when the server takes it over."""
    if isinstance(sockets, socket.socket):
        raise TypeError("sockets must be a list of sockets: write sockets=[sock]")
    try:
        given = list(sockets)
    except TypeError:
        raise TypeError(f"sockets must be a list of sockets, not {type(sockets).__name__}") from None
    for sock in given:
        if not isinstance(sock, socket.socket):
            raise TypeError(f"sockets must be a list of sockets, and one of them is {type(sock).__name__}")
    if not given:
        raise ValueError("no sockets to listen on")
    return given


def _check_proxy_protocol(proxy_protocol: object) -> None:
    if not (isinstance(proxy_protocol, bool) or callable(proxy_protocol)):
        raise TypeError(f"proxy_protocol must be a bool or a function, not {type(proxy_protocol).__name__}")


def _set_sni(
    context: ssl.SSLContext,
    sni: Mapping[str, ssl.SSLContext] | Callable[[str], ssl.SSLContext | None] | None,
    alpn: Sequence[str] | None,
) -> None:
    """Install the SNI callback on `context`, and check that there is a certificate for every client."""
    callback = None if sni is None else sni_callback(sni, context, alpn)
    real = hook.underlying(context)
    check_has_certificate(real, others=callback is not None)
    if callback is not None:
        for other in callback.contexts.values():
            check_has_certificate(hook.underlying(other), others=False)
        real.sni_callback = callback


class Serving:
    """Result of `serve`: use it as an async context manager, or await it, once."""

    def __init__(
        self,
        handler: Callable[[Stream], Awaitable[None]],
        listen: Callable[[Backend], Awaitable[list[Listener]]],
        options: StreamOptions,
        settings: Settings,
        *,
        drain_on_signals: bool,
    ) -> None:
        self._handler = handler
        self._listen = listen
        self._options = options
        self._settings = settings
        self._drain_on_signals = drain_on_signals
        self._server: Server | None = None
        self._cleanup = AsyncExitStack()
        self._cancellations: tuple[type[BaseException], ...] = ()

    if not TYPE_CHECKING:  # A type checker knows that there is no such attribute.

        def __getattr__(self, name: str) -> Any:
            hint = ": write `async with bowout.serve(…) as server`" if hasattr(Server, name) else ""
            message = f"'{type(self).__name__}' object has no attribute {name!r}{hint}"
            raise AttributeError(message, name=name, obj=self)

    def __await__(self) -> Generator[Any, Any, DrainReport]:
        return self._run().__await__()

    async def _run(self) -> DrainReport:
        async with self as server:
            return await server.wait_drained()

    async def __aenter__(self) -> Server:
        if self._server is not None:
            raise MisuseError("a serve() can be used once; call it again for another server")
        if self._drain_on_signals and threading.current_thread() is not threading.main_thread():
            raise MisuseError("drain_on_signals: signals come to the main thread only")
        backend = _backends.current()
        self._cancellations = backend.cancellations
        async with AsyncExitStack() as cleanup:
            listeners = await self._listen(backend)
            for listener in listeners:
                cleanup.callback(listener.close)
            signals = None
            if self._drain_on_signals:
                # Here and not in a task: a signal that comes directly after the block has begun must not kill the
                # process.
                signals = cleanup.enter_context(backend.signals(signal.SIGTERM, signal.SIGINT))
            tasks = await cleanup.enter_async_context(backend.task_group())
            self._server = Server(backend, tasks, self._handler, listeners, self._options, self._settings)
            cleanup.callback(self._server.stop)
            self._server.start(signals)
            self._cleanup = cleanup.pop_all()
        return self._server

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None and self._server is not None:
                await self._server.drain()
        except BaseException:
            await self._clean_up(another_error=True)
            raise
        await self._clean_up(another_error=error is not None)

    async def _clean_up(self, *, another_error: bool) -> None:
        try:
            # The block's own error does not go through the task group, which would wrap it in an exception group.
            await self._cleanup.aclose()
        except BaseException as failure:
            # In a cancelled scope of trio every await raises. That must not replace the block's own error.
            if not (another_error and consists_of(failure, self._cancellations)):
                raise
