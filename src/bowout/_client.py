"""Making connections: `connect` to a host, `wrap` a connected socket."""

from __future__ import annotations

import errno
import functools
import os
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bowout import _backends, _carriers
from bowout._arguments import (
    check_flag,
    checked_bytes,
    checked_host,
    checked_local_address,
    checked_port,
    checked_protocols,
    checked_server_hostname,
    checked_timeout,
)
from bowout._backends.sockets import HAPPY_EYEBALLS_DELAY
from bowout._core import hook
from bowout._names import host_port, without_root
from bowout._options import KEEPALIVE, LINGER_BYTES, StreamOptions
from bowout._starttls import FOR_A_DOMAIN, dialogue
from bowout._starttls.driver import negotiate
from bowout.ending import Role
from bowout.errors import (
    ConnectError,
    ConnectRefused,
    ConnectTimeout,
    MisuseError,
    NameNotResolved,
    StartTLSError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from types import TracebackType

    from bowout._backends import Backend, Transport
    from bowout._starttls import StartTLSName
    from bowout._stream import Stream
    from bowout.ending import Event, OnError, TruncationPolicy
    from bowout.transport import Carrier

#: Environment variables that OpenSSL and `ssl.create_default_context` read.
_CONTEXT_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


def connect(
    host: str,
    port: int,
    *,
    context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    alpn: Sequence[str] | None = None,
    over: Carrier | None = None,
    starttls: StartTLSName | None = None,
    starttls_name: str | None = None,
    session: ssl.SSLSession | None = None,
    local_address: str | tuple[str, int] | None = None,
    happy_eyeballs_delay: float = HAPPY_EYEBALLS_DELAY,
    connect_timeout: float = 30.0,
    handshake_timeout: float = 30.0,
    close_timeout: float = 5.0,
    keepalive: float | None = KEEPALIVE,
    linger_bytes: int = LINGER_BYTES,
    truncation: TruncationPolicy = "raise",
    on_error: OnError = "truncate",
    on_event: Callable[[Event], None] | None = None,
) -> Connecting:
    """Connect to a TLS server, under asyncio (uvloop too) or trio.

        async with bowout.connect("example.org", 443) as stream: ...
        stream = await bowout.connect("example.org", 443)

    Args:
        host: a name or an address; every address of a name is tried, by Happy Eyeballs (RFC 8305). A name that is not
            ASCII is looked up and checked by IDNA 2008; an IPv6 address may have a zone: ``fe80::1%eth0``.
        port: the TCP port.
        context: the TLS configuration. None means the system's trust store, with the certificate and the host name
            checked; it is loaded once (again where ``SSL_CERT_FILE``, ``SSL_CERT_DIR`` or ``SSLKEYLOGFILE`` have
            changed). On your own context, ``OP_IGNORE_UNEXPECTED_EOF`` is cleared, ``OP_NO_RENEGOTIATION`` is set, and
            a message callback is installed that calls the existing one.
        server_hostname: the name for SNI and for the check of the certificate; None for `host`. An address is checked
            and not sent (RFC 6066 section 3). ``""``: no name is sent and none is checked; only with a `context` whose
            ``check_hostname`` is False.
        alpn: protocols to offer, the best first (RFC 7301); they are set on `context`.
        over: a connected socket to use instead of making a connection, or any other byte stream that `wrap` takes; the
            stream owns it from then on.
        starttls: the protocol to begin in plain text and to upgrade to TLS: ``"smtp"``, ``"imap"``, ``"postgres"``…
            (`bowout.STARTTLS`).
        starttls_name: the name to send in that protocol: our own name in SMTP and LMTP; in XMPP the wanted domain,
            which the certificate must then be for, whatever `host` is (RFC 6120 section 13.7.2). None for
            `server_hostname`, or `host`.
        session: session to resume: `Stream.session` of an earlier connection with the same `context`; the rules are
            documented there.
        local_address: name or address of this machine to connect from, alone or with a port: ``("192.0.2.1", 4711)``.
        happy_eyeballs_delay: seconds after which the next address of `host` is tried beside those that have not
            answered.
        connect_timeout: seconds for resolving, connecting and STARTTLS.
        handshake_timeout: seconds for the TLS handshake.
        close_timeout: default of `Stream.close`, in seconds.
        keepalive: seconds of silence after which the kernel sends TCP keepalive probes, so that a receive does not wait
            forever for a machine that is gone (RFC 9293 section 3.8.4). None leaves the socket as it is; a socket with
            keepalive already enabled is not changed either.
        linger_bytes: maximum number of bytes that a close reads and discards while it waits for the peer's end.
        truncation: the result of a receive at a FIN that comes at a record boundary without close_notify. ``"raise"``:
            `Truncated`. ``"tolerate"``: the end of the stream. An attacker on the path can forge such a FIN and so
            truncate a stream at any record: tolerate it only if the application protocol itself gives the length of a
            message (HTTP with Content-Length or chunks, SMTP), and check that length. A truncation inside a record
            always raises, and ``ending.how`` always reports both.
        on_error: what the peer is told when the block is left by an error or after an interrupted send. ``"truncate"``:
            FIN without close_notify, so that the peer cannot take half a message for a whole one. ``"close"``:
            close_notify as usual; only for protocols that mark the end of a message themselves.
        on_event: called with each `Event` as it happens, for traces. It must return quickly; its exceptions are logged.

    Returns:
        An object to await, or to use as an async context manager, once.

    Raises:
        TypeError, ValueError: invalid arguments; raised at once, before anything is opened.
        NameNotResolved, ConnectRefused, ConnectTimeout, ConnectError: no TCP connection could be made.
        StartTLSError: the server did not agree to change to TLS.
        CertificateError, NotTLS, HandshakeAlert, HandshakeTruncated, HandshakeReset, HandshakeTimeout,
        HandshakeError: no TLS connection could be made. Each is chained to the original error.

    Cancelling it leaves no descriptor open.
    """
    plan, options = planned(
        host, port, over=over, starttls=starttls, starttls_name=starttls_name, local_address=local_address,
        happy_eyeballs_delay=happy_eyeballs_delay, connect_timeout=connect_timeout,
        context=context, server_hostname=server_hostname, alpn=alpn, session=session,
        handshake_timeout=handshake_timeout, close_timeout=close_timeout, keepalive=keepalive,
        linger_bytes=linger_bytes, truncation=truncation, on_error=on_error, on_event=on_event,
    )  # fmt: skip
    return Connecting(plan, options, over)


def planned(
    host: str,
    port: int,
    *,
    over: Carrier | None,
    starttls: StartTLSName | None,
    starttls_name: str | None,
    local_address: str | tuple[str, int] | None,
    happy_eyeballs_delay: float,
    connect_timeout: float,
    context: ssl.SSLContext | None,
    server_hostname: str | None,
    alpn: Sequence[str] | None,
    **options: Any,
) -> tuple[Plan, StreamOptions]:
    """Check the arguments of a `connect`; return what to do first, and the options of the stream.

    Raises:
        TypeError, ValueError: they are not valid.
    """
    checked_host(host, port)
    if over is not None:
        _check_carrier(over)
    if alpn is not None:
        alpn = checked_protocols(alpn)
    local = checked_local_address(local_address)
    if over is not None and local is not None:
        raise ValueError("local_address is for a connection to be made: leave it out, or leave out over")
    plan = Plan(
        host, checked_port(port), starttls, server_hostname or host, starttls_name,
        checked_timeout("connect_timeout", connect_timeout), local,
        checked_timeout("happy_eyeballs_delay", happy_eyeballs_delay),
    )  # fmt: skip
    plan.check()
    name = server_hostname
    if name is None and starttls in FOR_A_DOMAIN:
        name = starttls_name
    if name is not None or over is not None:
        name = _name_to_check(host if name is None else name, context)
    else:
        name = _name_of_host(host)
    checked = StreamOptions(
        context=context if context is not None else _default_context(alpn),
        role=Role.CLIENT,
        server_hostname=name,
        alpn=alpn if context is not None else None,
        **options,
    )
    checked.check()
    return plan, checked


def _name_to_check(name: str, context: ssl.SSLContext | None) -> str | None:
    """Return the name for TLS, or None if the caller wants none.

    Raises:
        TypeError, ValueError: TLS cannot carry `name`, or it is empty and `context` checks names.
    """
    if name != "":
        return checked_server_hostname(name)
    if getattr(context, "check_hostname", True):
        raise ValueError(
            'server_hostname="" sends no name and checks none: give a context whose check_hostname is False as well'
        )
    return None


def _name_of_host(host: str) -> str:
    try:
        return checked_server_hostname(host)
    except ValueError:
        return without_root(host)  # The error of resolving it is clearer.


def _default_context(alpn: Sequence[str] | None) -> ssl.SSLContext:
    """Return the default context, cached: loading the system's trust store takes longer than a handshake."""
    return load_context(None if alpn is None else tuple(alpn), *map(os.environ.get, _CONTEXT_VARIABLES))


def default_context() -> ssl.SSLContext:
    """Return the context that `connect` uses if none is given; all share it, so it must not be changed."""
    return _default_context(None)


@functools.lru_cache(maxsize=16)
def load_context(alpn: tuple[str, ...] | None, *_environment: str | None) -> ssl.SSLContext:
    """Make a default context; it is never changed afterwards, so that all threads and streams can share it."""
    context = ssl.create_default_context()
    if alpn is not None:
        context.set_alpn_protocols(list(alpn))
    hook.prepare(context)
    return context


def wrap(  # noqa: D417  (the other arguments are those of `connect`)
    stream: Carrier,
    context: ssl.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    session: ssl.SSLSession | None = None,
    received: bytes | bytearray | memoryview = b"",
    handshake_timeout: float = 30.0,
    close_timeout: float = 5.0,
    keepalive: float | None = KEEPALIVE,
    linger_bytes: int = LINGER_BYTES,
    truncation: TruncationPolicy = "raise",
    on_error: OnError = "truncate",
    on_event: Callable[[Event], None] | None = None,
) -> Stream:
    """Make a stream over a connected socket, or any other byte stream, as client or server.

    The first use performs the handshake.

    Args:
        stream: a connected TCP or Unix socket: the new stream owns its descriptor from now on, and the socket itself is
            closed. Or one of these, which the new stream owns and closes: an ``anyio.abc.ByteStream``, or an
            ``ObjectStream`` of bytes; a ``trio.abc.Stream``; a `bowout.Stream` (TLS in TLS); a pair ``(reader,
            writer)`` of asyncio, or of a library that imitates it; an object with the methods of
            `bowout.transport.ByteStream`.
        server_side: whether we are the server.
        server_hostname: as for `connect`; without it, a client's context must have ``check_hostname`` False.
        received: bytes of TLS that were already read from `stream`, such as those that came together with a proxy's
            header, or the `leftover` of `Stream.unwrap`. They are processed as if they arrived now.
        keepalive: as for `connect`; only for a socket.
        context, session, …: as for `connect`.

    Raises:
        TypeError, ValueError: invalid arguments: `stream` cannot carry TLS, is not connected, `server_hostname` is
            missing or is not a valid name. The caller still owns the stream.
        MisuseError: `stream` belongs to another library than the one that runs the event loop.
        RuntimeError: no event loop is running.
    """
    _check_carrier(stream)
    first = checked_bytes("received", received)
    options = wrapping(
        context, server_side=server_side, server_hostname=server_hostname, session=session,
        handshake_timeout=handshake_timeout, close_timeout=close_timeout, keepalive=keepalive,
        linger_bytes=linger_bytes, truncation=truncation, on_error=on_error, on_event=on_event,
    )  # fmt: skip
    backend = _backends.current()
    return options.stream(backend, _carriers.transport(backend, stream, ""), received=first)


def wrapping(
    context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None, **options: Any
) -> StreamOptions:
    """Check the arguments of a `wrap` but what is wrapped; return the options of the stream.

    Raises:
        TypeError, ValueError: they are not valid.
    """
    check_flag("server_side", server_side)
    if server_side and server_hostname is not None:
        raise ValueError("server_hostname is for clients: a server's name is in its certificate")
    checked = StreamOptions(
        context=context,
        role=Role.SERVER if server_side else Role.CLIENT,
        server_hostname=None if server_hostname is None else _name_to_check(server_hostname, context),
        **options,
    )
    checked.check()
    return checked


class Connecting:
    """Result of `connect`: await it for the stream, or use it as an async context manager, once."""

    def __init__(self, plan: Plan, options: StreamOptions, over: Carrier | None) -> None:
        self._plan = plan
        self._options = options
        self._over = over
        self._used = False
        self._stream: Stream | None = None

    if not TYPE_CHECKING:  # A type checker knows that there is no such attribute.

        def __getattr__(self, name: str) -> Any:
            from bowout._stream import Stream  # noqa: PLC0415  (for this error only)

            hint = ": write `async with bowout.connect(…) as stream`, or await it" if hasattr(Stream, name) else ""
            message = f"'{type(self).__name__}' object has no attribute {name!r}{hint}"
            raise AttributeError(message, name=name, obj=self)

    def __await__(self) -> Generator[Any, Any, Stream]:
        return self._run().__await__()

    async def __aenter__(self) -> Stream:
        self._stream = await self._run()
        return await self._stream.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._stream is not None, "the block was entered"
        await self._stream.__aexit__(kind, error, traceback)

    async def _run(self) -> Stream:
        if self._used:
            raise MisuseError("a connect() can be used once; call it again for another connection")
        self._used = True
        backend = _backends.current()
        transport = await self._plan.carry_out(backend, self._over)
        try:
            stream = self._options.stream(backend, transport)
        except BaseException:
            transport.close()
            await transport.wait_closed()
            raise
        await stream.handshake()
        return stream


@dataclass(frozen=True, slots=True)
class Plan:
    """How to make a transport on which TLS can begin."""

    host: str
    port: int
    starttls: str | None
    domain: str
    starttls_name: str | None
    timeout: float
    local: tuple[str, int] | None
    delay: float

    def check(self) -> None:
        """Raise TypeError or ValueError for an impossible dialogue."""
        if self.starttls is not None:
            dialogue(self.starttls, host=self.domain, name=self.starttls_name).close()
        elif self.starttls_name is not None:
            raise ValueError("starttls_name needs starttls: name the protocol, too")

    async def carry_out(self, backend: Backend, over: Carrier | None) -> Transport:
        where = host_port(self.host, self.port)
        transport: Transport | None = None
        try:
            async with backend.move_on_at(backend.time() + self.timeout) as scope:
                if over is None:
                    transport = backend.transport(await self._connect(backend, where), where)
                else:
                    transport = _carriers.transport(backend, over, "" if _is_local(over) else where)
                await self._start_tls(transport)
                return transport
        except BaseException:
            await _close(transport, over)
            raise
        await _close(transport, over)
        if scope.expired and transport is not None:
            late = StartTLSError(f"{self.starttls}: no agreement to change to TLS within {self.timeout:g} s")
            late.why = "not spoken"
            raise late
        raise ConnectTimeout(errno.ETIMEDOUT, f"{where} did not answer within {self.timeout:g} s")

    async def _connect(self, backend: Backend, where: str) -> socket.socket:
        try:
            address, port = self.local or (None, 0)
            return await backend.connect(self.host, self.port, local_address=address, local_port=port, delay=self.delay)
        except (OSError, UnicodeError) as error:
            raise connect_error(error, self.host, where) from error

    async def _start_tls(self, transport: Transport) -> None:
        if self.starttls is None:
            return
        try:
            await negotiate(transport, self.starttls, host=self.domain, name=self.starttls_name)
        except OSError as error:
            raise StartTLSError(f"{self.starttls}: the connection was lost: {error.strerror or error}") from error


def connect_error(error: OSError | UnicodeError, host: str, where: str) -> ConnectError:
    """Make the error for `error`, which ended the attempt to connect to `host`; `where` names it with its port."""
    if isinstance(error, socket.gaierror):
        return NameNotResolved(error.errno, f"the name {host!r} has no address: {error.strerror}")
    if isinstance(error, UnicodeError):
        return NameNotResolved(socket.EAI_NONAME, f"{host!r} is not a host name")
    numbers = set(_error_numbers(error))
    if numbers == {errno.ECONNREFUSED}:
        return ConnectRefused(errno.ECONNREFUSED, f"{where} refused the connection")
    if numbers == {errno.ETIMEDOUT}:
        return ConnectTimeout(errno.ETIMEDOUT, f"{where} did not answer")
    return ConnectError(error.errno or 0, f"no connection to {where}: {error.strerror or error}")


def _check_carrier(stream: Carrier) -> None:
    """Raise TypeError or ValueError if `stream` cannot carry TLS."""
    if _carriers.adapted(stream) is None:
        assert isinstance(stream, socket.socket), "all else has an adapter"
        check_socket(stream)


def check_socket(sock: socket.socket) -> None:
    """Raise TypeError or ValueError if `sock` is not a connected stream socket, without TLS."""
    if not isinstance(sock, socket.socket):
        raise TypeError(f"a socket.socket is needed, not {type(sock).__name__}")
    if isinstance(sock, ssl.SSLSocket):
        raise TypeError("the socket is an SSLSocket already: give the plain socket that it was made from")
    if sock.type != socket.SOCK_STREAM:
        raise ValueError("a stream socket is needed")
    try:
        sock.getpeername()
    except OSError as error:
        raise ValueError(f"the socket is not connected: {error.strerror}") from error


def _is_local(over: Carrier) -> bool:
    """Tell whether `over` is a Unix socket, which has a name of its own."""
    return isinstance(over, socket.socket) and over.family not in {socket.AF_INET, socket.AF_INET6}


async def _close(transport: Transport | None, over: Carrier | None) -> None:
    if transport is not None:
        transport.close()
        await transport.wait_closed()
    elif isinstance(over, socket.socket):
        over.close()


def _error_numbers(error: BaseException) -> list[int]:
    """Return the error numbers of all connection attempts, however the event loop's library groups them."""
    inner: list[BaseException] = []
    if isinstance(error, BaseExceptionGroup):
        inner = list(error.exceptions)
    elif isinstance(error.__cause__, BaseExceptionGroup | OSError):
        inner = [error.__cause__]
    if inner:
        return [number for one in inner for number in _error_numbers(one)]
    return [error.errno] if isinstance(error, OSError) and error.errno is not None else []
