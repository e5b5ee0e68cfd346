"""Making TLS connections and servers with a loop's own, plain ones."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from bowout._arguments import checked_server_hostname, wrong_side
from bowout._core import hook
from bowout.asyncio._protocol import TLSProtocol
from bowout.asyncio._servers import ServerConnections, remember

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Awaitable, Callable

    from bowout.asyncio._policy import Policy
    from bowout.asyncio._transport import TLSTransport

    ProtocolFactory = Callable[[], asyncio.BaseProtocol]
    Plain = Callable[..., Awaitable[Any]]

#: Contexts of the other role. OpenSSL refuses them, but only at the first connection.
_OTHER_SIDE: Final = {True: ssl.PROTOCOL_TLS_CLIENT, False: ssl.PROTOCOL_TLS_SERVER}
#: What TLS needs of a transport; uvloop's do not inherit from `asyncio.Transport`.
_NEEDED: Final = ("write", "set_protocol", "pause_reading", "resume_reading", "is_closing", "abort")


@dataclass(frozen=True, slots=True)
class TLSOptions:
    """The TLS arguments of asyncio's functions, checked before anything is opened.

    Attributes:
        context: an `ssl.SSLContext`; True: a client's default.
        server_hostname: the name for SNI and for checking the certificate; clients only.
        server_side: whether we are the server.
        handshake_timeout, shutdown_timeout: seconds; None: the default.
        policy: how the connections end.
    """

    context: ssl.SSLContext | bool
    policy: Policy
    server_hostname: str | None = None
    server_side: bool = False
    handshake_timeout: float | None = None
    shutdown_timeout: float | None = None

    def __post_init__(self) -> None:
        for name, seconds in (
            ("ssl_handshake_timeout", self.handshake_timeout),
            ("ssl_shutdown_timeout", self.shutdown_timeout),
        ):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} should be a positive number, got {seconds}")
        if self.server_hostname and not self.server_side:
            checked_server_hostname(self.server_hostname)
        if self.context is True and not self.server_side:
            return
        if not isinstance(self.context, hook.BASE):
            needed = "an SSLContext" if self.server_side else "an SSLContext, or True for the default one"
            raise TypeError(f"ssl must be {needed}, not {type(self.context).__name__}")
        context = cast("ssl.SSLContext", self.context)
        if context.protocol == _OTHER_SIDE[self.server_side]:
            role = "server" if self.server_side else "client"
            raise wrong_side(role, context)
        if not self.server_side and context.check_hostname and not self.server_hostname:
            raise ValueError(
                "this context checks the server's name: give server_hostname, or set check_hostname = False on it first"
            )

    def protocol(
        self,
        loop: asyncio.AbstractEventLoop,
        application: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None,
        *,
        call_connection_made: bool = True,
    ) -> TLSProtocol:
        """Make the protocol of one connection."""
        return TLSProtocol(
            loop,
            application,
            None if self.context is True else cast("ssl.SSLContext", self.context),
            waiter,
            self.server_side,
            self.server_hostname,
            call_connection_made,
            self.handshake_timeout,
            self.shutdown_timeout,
            policy=self.policy,
        )


async def client(  # noqa: D417  (the others are named there, or by their types)
    loop: asyncio.AbstractEventLoop,
    plain: Plain,
    factory: ProtocolFactory,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    policy: Policy,
    host: str | None = None,
) -> tuple[Any, Any]:
    """Connect with `plain`, a loop's method without TLS, and with TLS of ours if ``ssl`` is given.

    Args:
        args, kwargs: the arguments of the loop's method after the factory, the TLS arguments included.
        host: the default of ``server_hostname``; None: there is none.
    """
    if not kwargs.get("ssl"):
        return await plain(factory, *args, **kwargs)  # type: ignore[no-any-return]
    name = kwargs.pop("server_hostname", None)
    if name is None and not host:
        raise ValueError("give server_hostname: with ssl and without a host, there is no name to check")
    options = _options(kwargs, policy, name=host if name is None else name)
    return await _connect(loop, factory, options, lambda make: plain(make, *args, **kwargs))


async def accepted(
    loop: asyncio.AbstractEventLoop,
    plain: Plain,
    factory: ProtocolFactory,
    sock: socket.socket,
    kwargs: dict[str, Any],
    *,
    policy: Policy,
) -> tuple[Any, Any]:
    """Take over an accepted socket with `plain`, as `client` connects."""
    if not kwargs.get("ssl"):
        return await plain(factory, sock, **kwargs)  # type: ignore[no-any-return]
    options = _options(kwargs, policy, server_side=True)
    return await _connect(loop, factory, options, lambda make: plain(make, sock, **kwargs))


async def server(
    loop: asyncio.AbstractEventLoop,
    plain: Plain,
    factory: ProtocolFactory,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    policy: Policy,
) -> Any:
    """Listen with `plain`, as `client` connects."""
    if not kwargs.get("ssl"):
        return await plain(factory, *args, **kwargs)
    options = _options(kwargs, policy, server_side=True)
    connections = ServerConnections()

    def make() -> TLSProtocol:
        protocol = options.protocol(loop, factory(), None)
        connections.add(protocol)
        return protocol

    listening = await plain(make, *args, **kwargs)
    remember(listening, connections)
    return listening


def _options(
    kwargs: dict[str, Any], policy: Policy, *, name: str | None = None, server_side: bool = False
) -> TLSOptions:
    """Take the TLS arguments out of `kwargs`."""
    return TLSOptions(
        kwargs.pop("ssl"),
        policy,
        name,
        server_side=server_side,
        handshake_timeout=kwargs.pop("ssl_handshake_timeout", None),
        shutdown_timeout=kwargs.pop("ssl_shutdown_timeout", None),
    )


async def _connect(
    loop: asyncio.AbstractEventLoop, factory: ProtocolFactory, options: TLSOptions, plain: Callable[..., Awaitable[Any]]
) -> tuple[TLSTransport, asyncio.BaseProtocol]:
    waiter: asyncio.Future[None] = loop.create_future()
    made: list[tuple[TLSProtocol, TLSTransport, asyncio.BaseProtocol]] = []

    def make() -> TLSProtocol:
        application = factory()
        protocol = options.protocol(loop, application, waiter)
        made.append((protocol, protocol.transport, application))
        return protocol

    try:
        await plain(make)
    except BaseException:
        waiter.cancel()
        for protocol, *_ in made:  # uvloop has closed its transport, and does not tell the protocol.
            protocol.connection_lost(None)
        raise
    ((protocol, transport, application),) = made
    await _wait_for_handshake(transport, waiter)
    return transport, application


async def start_tls(
    loop: asyncio.AbstractEventLoop,
    transport: Any,
    application: asyncio.BaseProtocol,
    options: TLSOptions,
    *,
    received: bytes = b"",
) -> TLSTransport:
    """Upgrade `transport`, which is open, to TLS; `received`: bytes of TLS that came before that."""
    if not all(hasattr(transport, name) for name in _NEEDED):
        raise TypeError(f"TLS needs a transport of a stream, not {type(transport).__name__}")
    if transport.is_closing():
        raise ConnectionAbortedError("the transport is closing: it cannot be upgraded to TLS")
    waiter: asyncio.Future[None] = loop.create_future()
    protocol = options.protocol(loop, application, waiter, call_connection_made=False)
    transport.pause_reading()  # No bytes may come before connection_made().
    transport.set_protocol(protocol)
    loop.call_soon(_begin, protocol, transport, received)
    upgraded = protocol.transport
    await _wait_for_handshake(upgraded, waiter)
    return upgraded


def _begin(protocol: TLSProtocol, transport: asyncio.Transport, received: bytes) -> None:
    if not transport.is_closing():
        protocol.connection_made(transport)
        while received and not protocol.closing:
            buffer = protocol.get_buffer(len(received))
            count = min(len(buffer), len(received))
            buffer[:count] = received[:count]
            received = received[count:]
            protocol.buffer_updated(count)
        if not protocol.closing:
            transport.resume_reading()


async def _wait_for_handshake(transport: TLSTransport, waiter: asyncio.Future[None]) -> None:
    try:
        await waiter
    except BaseException:  # GeneratorExit too, where a forked child drops the task: then the transport does nothing.
        transport.close()
        raise
