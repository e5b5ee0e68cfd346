"""Event loops whose TLS connections all end well, whoever makes them."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import functools
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from bowout.asyncio._arguments import check_ports
from bowout.asyncio._connections import TLSOptions, accepted, client, server, start_tls
from bowout.asyncio._policy import DEFAULT_POLICY
from bowout.asyncio._protocol import TLSProtocol
from bowout.errors import MisuseError

if TYPE_CHECKING:
    import socket
    import ssl as ssl_module
    from collections.abc import Callable, Coroutine

    from bowout.asyncio._connections import ProtocolFactory
    from bowout.asyncio._policy import Policy

T = TypeVar("T")

#: What asyncio uses itself, while `install` is in force.
_original: list[type] = []


class TLSLoopMixin:
    """A mix-in for an event loop class: its TLS connections are ours.

        class Loop(bowout.asyncio.TLSLoopMixin, uvloop.Loop): ...

    It overrides the loop's public methods that take ``ssl``, and calls the inherited ones without it.

    Attributes:
        tls_policy: how the connections end.
    """

    tls_policy: Policy = DEFAULT_POLICY

    async def create_connection(
        self, protocol_factory: ProtocolFactory, host: str | None = None, port: int | str | None = None, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Connect as the loop does, with TLS of ours."""
        if kwargs.get("ssl"):
            check_ports(port, kwargs.get("local_addr"))
        plain = super().create_connection  # type: ignore[misc]
        return await client(
            _loop(self), plain, protocol_factory, (host, port), kwargs, policy=self.tls_policy, host=host
        )

    async def create_unix_connection(
        self, protocol_factory: ProtocolFactory, path: Any = None, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Connect to a Unix socket as the loop does, with TLS of ours."""
        plain = super().create_unix_connection  # type: ignore[misc]
        return await client(_loop(self), plain, protocol_factory, (path,), kwargs, policy=self.tls_policy)

    async def connect_accepted_socket(
        self, protocol_factory: ProtocolFactory, sock: socket.socket, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Take over an accepted socket as the loop does, with TLS of ours."""
        plain = super().connect_accepted_socket  # type: ignore[misc]
        return await accepted(_loop(self), plain, protocol_factory, sock, kwargs, policy=self.tls_policy)

    async def create_server(
        self, protocol_factory: ProtocolFactory, host: Any = None, port: int | str | None = None, **kwargs: Any
    ) -> Any:
        """Listen as the loop does, with TLS of ours."""
        if kwargs.get("ssl"):
            check_ports(port, least=0)
        plain = super().create_server  # type: ignore[misc]
        return await server(_loop(self), plain, protocol_factory, (host, port), kwargs, policy=self.tls_policy)

    async def create_unix_server(self, protocol_factory: ProtocolFactory, *args: Any, **kwargs: Any) -> Any:
        """Listen on a Unix socket as the loop does, with TLS of ours."""
        plain = super().create_unix_server  # type: ignore[misc]
        return await server(_loop(self), plain, protocol_factory, args, kwargs, policy=self.tls_policy)

    async def start_tls(
        self,
        transport: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl_module.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Any:
        """Upgrade a connection to TLS of ours."""
        options = TLSOptions(
            sslcontext,
            self.tls_policy,
            server_hostname,
            server_side=server_side,
            handshake_timeout=ssl_handshake_timeout,
            shutdown_timeout=ssl_shutdown_timeout,
        )
        return await start_tls(_loop(self), transport, protocol, options)


def _loop(loop: TLSLoopMixin) -> asyncio.AbstractEventLoop:
    """Return `loop` as the event loop that it is mixed into."""
    assert isinstance(loop, asyncio.AbstractEventLoop), "it is mixed into a class of event loops"
    return loop


@functools.cache
def _loop_class(base: type[asyncio.AbstractEventLoop]) -> type[Any]:
    return type(f"TLS{base.__name__}", (TLSLoopMixin, base), {})


def loop_factory(
    base: type[asyncio.AbstractEventLoop] | None = None, *, policy: Policy = DEFAULT_POLICY
) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return a function that makes event loops whose TLS connections are ours.

        with asyncio.Runner(loop_factory=bowout.asyncio.loop_factory(uvloop.Loop)) as runner:
            runner.run(main())

    Args:
        base: the class of the event loop, `asyncio.SelectorEventLoop` or ``uvloop.Loop`` for example; None: asyncio's
            default of this system.
        policy: how the connections end.

    Raises:
        TypeError: `base` is not a class of event loops.
    """
    if base is None:
        base = _default_loop()
    given: object = base
    if not (isinstance(given, type) and issubclass(given, asyncio.AbstractEventLoop)):
        raise TypeError(f"base must be a class of event loops, such as uvloop.Loop, not {base!r}")
    if issubclass(base, TLSLoopMixin):
        raise TypeError(f"{base.__name__} is a loop of this module already: give the class that it extends")
    kind = _loop_class(base)  # type: ignore[arg-type]  # a class can be hashed

    def make() -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = kind()
        loop.tls_policy = policy  # type: ignore[attr-defined]  # of the mix-in
        return loop

    return make


def _default_loop() -> type[asyncio.AbstractEventLoop]:
    """Return the class that asyncio uses itself."""
    if sys.platform == "win32":
        return asyncio.ProactorEventLoop
    return asyncio.SelectorEventLoop


def run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None = None,
    base: type[asyncio.AbstractEventLoop] | None = None,
    policy: Policy = DEFAULT_POLICY,
) -> T:
    """Run `main` as `asyncio.run` does, on a loop of `loop_factory`: every TLS connection ends well.

    bowout.asyncio.run(main())
    """
    with asyncio.Runner(debug=debug, loop_factory=loop_factory(base, policy=policy)) as runner:
        return runner.run(main)


def install(*, policy: Policy = DEFAULT_POLICY) -> None:
    """Replace asyncio's own TLS in this process, for the loops that are written in Python.

    It reaches what `loop_factory` does not: loops that others make, and code that uses asyncio's class itself.
    Connections that exist already are not changed. uvloop has TLS of its own: use ``loop_factory(uvloop.Loop)``.

    Raises:
        MisuseError: it is installed already, or a loop of uvloop is running or is the default.
    """
    if _original:
        raise MisuseError("bowout.asyncio.install() was called already: call uninstall() first to change the policy")
    if _is_uvloop():
        raise MisuseError(
            "install() replaces the TLS of asyncio's own loops, and uvloop has its own: "
            "run under bowout.asyncio.loop_factory(uvloop.Loop) instead"
        )
    _original.append(asyncio.sslproto.SSLProtocol)

    class InstalledTLSProtocol(TLSProtocol):
        """asyncio's loops, and others, make it with asyncio's arguments."""

        __slots__ = ()

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, policy=policy, **kwargs)

    asyncio.sslproto.SSLProtocol = InstalledTLSProtocol  # type: ignore[misc, assignment]


def uninstall() -> None:
    """Undo `install`, for connections that are made from now on. Without it, this does nothing."""
    if _original:
        asyncio.sslproto.SSLProtocol = _original.pop()  # type: ignore[misc, assignment]


def _is_uvloop() -> bool:
    try:
        kind: type = type(asyncio.get_running_loop())
    except RuntimeError:
        if sys.version_info >= (3, 14):
            return False  # Policies are deprecated, and uvloop does not need one.
        kind = type(asyncio.get_event_loop_policy())
    return kind.__module__.partition(".")[0] == "uvloop"
