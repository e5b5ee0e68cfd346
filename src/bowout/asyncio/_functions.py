"""The functions of an event loop that take ``ssl``, with TLS of ours on any loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from bowout.asyncio import _connections as connections
from bowout.asyncio._arguments import check_ports
from bowout.asyncio._policy import DEFAULT_POLICY
from bowout.errors import MisuseError

if TYPE_CHECKING:
    import socket
    import ssl

    from bowout.asyncio._connections import ProtocolFactory
    from bowout.asyncio._policy import Policy
    from bowout.asyncio._transport import TLSTransport


async def create_connection(  # noqa: D417  (the others are those of the loop)
    protocol_factory: ProtocolFactory,
    host: str | None = None,
    port: int | str | None = None,
    *,
    policy: Policy = DEFAULT_POLICY,
    **kwargs: Any,
) -> tuple[Any, Any]:
    """Connect as ``loop.create_connection`` does, on the running loop; with ``ssl``, the TLS is ours.

    Args:
        policy: how the connection ends.
        protocol_factory, host, port, kwargs: as for the loop's method: ``ssl``, ``server_hostname``,
            ``ssl_handshake_timeout``, ``ssl_shutdown_timeout``, ``sock``… A `port` is a number from 1 to 65535, or the
            name of a service.

    Returns:
        The transport, a `TLSTransport` with TLS, and the protocol.

    Raises:
        TypeError, ValueError: an argument is wrong; nothing was opened.
        OSError: no connection could be made.
        HandshakeError: no TLS connection came of it; its subclass says why.

    Cancelling it leaves no descriptor open.
    """
    check_ports(port, kwargs.get("local_addr"))
    loop = asyncio.get_running_loop()
    return await connections.client(
        loop, _own(loop, "create_connection"), protocol_factory, (host, port), kwargs, policy=policy, host=host
    )


async def create_unix_connection(
    protocol_factory: ProtocolFactory, path: Any = None, *, policy: Policy = DEFAULT_POLICY, **kwargs: Any
) -> tuple[Any, Any]:
    """Connect as ``loop.create_unix_connection`` does; otherwise like `create_connection`."""
    loop = asyncio.get_running_loop()
    return await connections.client(
        loop, _own(loop, "create_unix_connection"), protocol_factory, (path,), kwargs, policy=policy
    )


async def connect_accepted_socket(
    protocol_factory: ProtocolFactory, sock: socket.socket, *, policy: Policy = DEFAULT_POLICY, **kwargs: Any
) -> tuple[Any, Any]:
    """Take over an accepted socket as ``loop.connect_accepted_socket`` does; otherwise like `create_connection`."""
    loop = asyncio.get_running_loop()
    return await connections.accepted(
        loop, _own(loop, "connect_accepted_socket"), protocol_factory, sock, kwargs, policy=policy
    )


async def create_server(
    protocol_factory: ProtocolFactory,
    host: Any = None,
    port: int | str | None = None,
    *,
    policy: Policy = DEFAULT_POLICY,
    **kwargs: Any,
) -> asyncio.AbstractServer:
    """Listen as ``loop.create_server`` does, on the running loop; with ``ssl``, the TLS is ours.

    `bowout.asyncio.drain` ends the connections of the server. A `port` is a number from 0 (any free port) to 65535, or
    the name of a service; another number is a ValueError.
    """
    check_ports(port, least=0)
    loop = asyncio.get_running_loop()
    made: asyncio.AbstractServer = await connections.server(
        loop, _own(loop, "create_server"), protocol_factory, (host, port), kwargs, policy=policy
    )
    return made


async def create_unix_server(
    protocol_factory: ProtocolFactory, path: Any = None, *, policy: Policy = DEFAULT_POLICY, **kwargs: Any
) -> asyncio.AbstractServer:
    """Listen as ``loop.create_unix_server`` does; otherwise like `create_server`."""
    loop = asyncio.get_running_loop()
    made: asyncio.AbstractServer = await connections.server(
        loop, _own(loop, "create_unix_server"), protocol_factory, (path,), kwargs, policy=policy
    )
    return made


async def start_tls(  # noqa: D417  (likewise)
    transport: asyncio.BaseTransport,
    protocol: asyncio.BaseProtocol,
    sslcontext: ssl.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    policy: Policy = DEFAULT_POLICY,
) -> TLSTransport:
    """Upgrade an open connection to TLS, as ``loop.start_tls`` does, over any transport of a byte stream.

    Args:
        transport: a socket's transport, a TLS transport (TLS in TLS), or one of another protocol, a channel of SSH for
            example.
        protocol: the application's protocol; its ``connection_made`` is not called again.
        sslcontext, …: as for ``loop.start_tls``.
        policy: how the connection ends.

    Returns:
        The transport to use from now on.

    Raises:
        TypeError, ValueError: an argument is wrong; nothing was begun.
        HandshakeError: its subclass says why. `transport` is closed then, and after a cancellation.
    """
    options = connections.TLSOptions(
        sslcontext,
        policy,
        server_hostname,
        server_side=server_side,
        handshake_timeout=ssl_handshake_timeout,
        shutdown_timeout=ssl_shutdown_timeout,
    )
    return await connections.start_tls(asyncio.get_running_loop(), transport, protocol, options)


def _own(loop: asyncio.AbstractEventLoop, name: str) -> Any:
    """Return the method of this name that `loop` has of its own.

    Raises:
        MisuseError: it has none.
    """
    kind = type(loop)
    if getattr(kind, name, None) in {None, getattr(asyncio.AbstractEventLoop, name)}:
        raise MisuseError(
            f"the event loop {kind.__module__}.{kind.__qualname__} has no {name}(): run under one that has it"
        )
    return getattr(loop, name)
