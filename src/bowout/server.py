"""Serving: every connection ends well, and so does the server."""

from __future__ import annotations

import signal
import socket
import threading
from contextlib import AsyncExitStack
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from bowout import _backends
from bowout._arguments import check_flag, checked_count, checked_host, checked_port, checked_protocols, checked_timeout
from bowout._certificates import check_has_certificate
from bowout._core import messages
from bowout._handlers import check_handler
from bowout._listeners import Listener, checked_listener, listen_tcp, listen_unix
from bowout._options import KEEPALIVE, LINGER_BYTES, StreamOptions
from bowout._server import Server, Settings
from bowout._sni import sni_callback
from bowout.ending import Role
from bowout.errors import MisuseError
from bowout.stream import consists_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from bowout._backends import Backend
    from bowout._drain import DrainReport
    from bowout._drainer import OnDrain
    from bowout.ending import Ending, Event, OnError, TruncationPolicy
    from bowout.stream import Stream

#: What listen() takes; the kernel cuts more than it wants itself.
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

    As a context manager it serves while the block runs, and drains when the block is left; left by an error or a
    cancellation, every handler is cancelled, which still tries each close_notify that is true. Awaited, it serves until
    it is drained, and gives the report.

    When a handler returns, its stream is closed gracefully. When it fails or is cancelled, `Stream` says what the peer
    sees; other connections do not notice. A failing handler is logged with its traceback, a peer's bad manners in one
    line at level INFO, to the logger ``bowout.server``.

    Args:
        handler: called as a task with the `Stream` of each connection, after the handshake.
        host: a name or an address; None for every address of this machine, IPv6 and IPv4.
        port: 0 for any free one; `Server.addresses` tells which.
        context: a server's ``ssl.SSLContext`` with its certificate, and what it wants of its clients'. What is changed
            on it is said at `connect`.
        sni: other contexts by the name that a client asks for (RFC 6066), in lower case: a mapping, or a function that
            gives one or None. `context` serves every other name. Of a context chosen so, the certificate, the trust
            and the ALPN protocols count; TLS versions and what is wanted of a client's certificate are those of
            `context` (a chosen one that wants more is refused). It takes the place of ``context.sni_callback``.
        alpn: protocols to agree to, the best first (RFC 7301); they are set on `context` and on those of `sni`. A
            client that offers others only is refused with the alert no_application_protocol, as section 3.2 demands;
            one that offers none is served. Protocols that were set on a context without this argument are agreed to
            likewise, but without that refusal: ``ssl`` neither makes it nor tells which protocols they are.
        proxy_protocol: every connection comes through a proxy that says first for whom, by a header of the PROXY
            protocol, version 1 or 2; the client that it names becomes the stream's ``peer``. It has to come within
            ``handshake_timeout``; without a good one the handshake fails. Anybody who can connect past the proxy can
            claim to be anybody, so keep them out, or give a function: called with the address of who connects
            (``""`` for a Unix socket), it says whether that is such a proxy. Everybody else is served without a header.
        sockets: bound, listening sockets to use instead of `host` and `port`; `systemd_sockets` gives those of a
            socket activation. They are the server's from then on.
        path: a Unix socket to listen on instead. It is removed when accepting ends, unless somebody else has put
            another there.
        backlog: how many connections the kernel holds ready for us.
        reuse_port: let several processes listen on the same port (``SO_REUSEPORT``).
        max_connections: so many handlers at once; beyond, accepting pauses and the backlog waits, and so do clients
            whose handshake was under way by then. None: no limit.
        max_handshakes: so many handshakes in progress; beyond, the oldest is reset to make room, so that clients who
            do not go on with theirs cannot keep others out.
        handshake_timeout: seconds for a handshake.
        idle_timeout: close a connection when its handler has waited for the peer, to send or to take what is sent, and
            no application data has passed for so many seconds. A handler that computes is left alone.
        keepalive: as for `connect`.
        close_timeout: seconds for closing a connection whose handler has returned.
        linger_bytes: as for `connect`.
        truncation: as for `connect`.
        on_error: as for `connect`; the block is the handler.
        drain_timeout: seconds for the drain when the block is left, or a signal comes.
        drain_on_signals: SIGTERM and SIGINT drain; a second one hurries.
        on_drain: what a drain does with a connection whose handler waits for a new request: it receives, and nothing
            has come since it last sent. ``"close"``: it is closed at once, and the handler's receive ends with
            `StreamClosed`. ``"end_receive"``: that receive gives the end of the stream, so that the handler can say
            goodbye. ``"wait"``: nothing; for protocols in which the middle of an answer can look like that. A handler
            that sends while another of its tasks receives is never taken for idle: it should watch ``stream.draining``.
        on_ending: called with the `Ending` of each connection, failed handshakes among them. It must be quick; what it
            raises is logged.
        on_event: called with the peer's name and each `Event` of its connection as it happens, for traces; likewise.

    Raises:
        TypeError: an argument of the wrong type, or a handler that gives nothing to await.
        ValueError: one that cannot be meant, arguments that contradict each other, or a context without a certificate.
        OSError: an address cannot be had.
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
        raise ValueError("give a host and port, or sockets, or a path: one of them")
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
    """Raise ValueError or TypeError for what is no address: the system has its own words for it, or takes another."""
    if host == "":
        raise ValueError("host is empty: give a name or an address, or None for every address of this machine")
    if host is not None:
        checked_host(host, port)
    checked_port(port, least=0)
    if path is not None and not isinstance(path, str | PurePath):
        raise TypeError(f"the path must be that of a file, not {path!r}")
    # Linux binds an empty path to a name of its own choice, and one that begins with a NUL to no file.
    if path is not None and ("\0" in str(path) or str(path) in {"", "."}):
        raise ValueError(f"the path must be that of a file, not {path!r}")


def _checked_sockets(sockets: Any) -> list[socket.socket]:
    """Give them back, as a list; whether each is listening is looked at when they are taken over."""
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
    """Have `context` choose others by name, and see that there is a certificate for whoever comes."""
    callback = None if sni is None else sni_callback(sni, context, alpn)
    real = messages.underlying(context)
    check_has_certificate(real, others=callback is not None)
    if callback is not None:
        for other in callback.contexts.values():
            check_has_certificate(messages.underlying(other), others=False)
        real.sni_callback = callback


class Serving:
    """What `serve` returns: use it as an async context manager, or await it. Once."""

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
                # Here and not in a task: a signal that comes as soon as the block has begun must not kill the process.
                signals = cleanup.enter_context(backend.signals(signal.SIGTERM, signal.SIGINT))
            crew = await cleanup.enter_async_context(backend.crew())
            self._server = Server(backend, crew, self._handler, listeners, self._options, self._settings)
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
            # The block's own error is not the crew's: it would come back wrapped in a group.
            await self._cleanup.aclose()
        except BaseException as failure:
            # In a cancelled scope of trio every await raises. That must not take the place of the block's own error.
            if not (another_error and consists_of(failure, self._cancellations)):
                raise
