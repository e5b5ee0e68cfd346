"""Making connections: `connect` to a host, `wrap` a socket that is connected already."""

from __future__ import annotations

import errno
import functools
import os
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bowout import _backends
from bowout._arguments import (
    checked_bytes,
    checked_host,
    checked_port,
    checked_protocols,
    checked_server_hostname,
    checked_timeout,
)
from bowout._backends.sockets import take_over
from bowout._core import messages
from bowout._names import host_port, without_root
from bowout._options import KEEPALIVE, LINGER_BYTES, StreamOptions
from bowout._starttls import FOR_A_DOMAIN, dialogue
from bowout._starttls_driver import negotiate
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
    from bowout.ending import Event, OnError, TruncationPolicy
    from bowout.stream import Stream

#: OpenSSL and `ssl.create_default_context` look at these.
_CONTEXT_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


def connect(
    host: str,
    port: int,
    *,
    context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    alpn: Sequence[str] | None = None,
    over: socket.socket | None = None,
    starttls: StartTLSName | None = None,
    starttls_name: str | None = None,
    session: ssl.SSLSession | None = None,
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
        host: a name or an address; every address of a name is tried, by happy eyeballs (RFC 8305). A name that is not
            ASCII is looked up and checked by IDNA 2008; an IPv6 address may have a zone: ``fe80::1%eth0``.
        port: the TCP port.
        context: how to do TLS. None means the system's trust, with the certificate and the host name checked; it is
            loaded once (again where ``SSL_CERT_FILE``, ``SSL_CERT_DIR`` or ``SSLKEYLOGFILE`` have changed). On a
            context of your own, ``OP_IGNORE_UNEXPECTED_EOF`` is cleared, ``OP_NO_RENEGOTIATION`` is set, and a message
            callback is installed in front of one that is there.
        server_hostname: the name for SNI, and to check the certificate against; None for `host`. An address is checked
            and not sent (RFC 6066 section 3). ``""``: no name is sent and none is checked; only with a `context` whose
            ``check_hostname`` is False.
        alpn: protocols to offer, the best first (RFC 7301); they are set on `context`.
        over: a connected TCP or Unix socket to use instead of making a connection; it is the stream's from then on.
        starttls: change to TLS from this protocol first: ``"smtp"``, ``"imap"``, ``"postgres"``… (`bowout.STARTTLS`).
        starttls_name: what that protocol presents: our own name to SMTP and LMTP; to XMPP the domain that is wanted,
            which the certificate has then to be for, wherever `host` is (RFC 6120 section 13.7.2). None for
            `server_hostname`, or `host`.
        session: resume this one, `Stream.session` of an earlier connection with the same `context`; `Stream.session`
            has the rules.
        connect_timeout: seconds for resolving, connecting and STARTTLS.
        handshake_timeout: seconds for the TLS handshake.
        close_timeout: seconds for `Stream.close`, where it is not told otherwise.
        keepalive: when the peer has been silent for so many seconds, the kernel asks whether it is still there, so that
            a receive does not wait for ever for a machine that is gone (RFC 9293 section 3.8.4). None leaves the
            socket as it is, and so does a socket that has it already.
        linger_bytes: how much a close reads and discards at most, waiting for the peer's end.
        truncation: what a receiver meets at a FIN that comes at a record boundary without close_notify. ``"raise"``:
            `Truncated`. ``"tolerate"``: the end of the stream. Anybody on the path can forge such a FIN and so cut a
            stream where they like: tolerate it only where the protocol above says by itself how long a message is
            (HTTP with Content-Length or chunks, SMTP), and check that. A cut inside a record always raises, and
            ``ending.how`` always tells.
        on_error: what leaving the block by an error tells the peer, and leaving it with a send cut short.
            ``"truncate"``: FIN without close_notify, so that it cannot take half a message for a whole one.
            ``"close"``: close_notify as ever; only for protocols that mark the end of a message by themselves.
        on_event: called with each `Event` as it happens, for traces. It must be quick; what it raises is logged.

    Returns:
        Something to await, or to use as an async context manager, once.

    Raises:
        TypeError, ValueError: arguments that cannot be meant; at once, before anything is opened.
        NameNotResolved, ConnectRefused, ConnectTimeout, ConnectError: no TCP connection.
        StartTLSError: no agreement to change to TLS.
        CertificateError, NotTLS, HandshakeAlert, HandshakeTruncated, HandshakeReset, HandshakeTimeout,
        HandshakeError: no TLS connection. Each is chained to the original error.

    Cancelling it leaves no descriptor open.
    """
    checked_host(host, port)
    if over is not None:
        _check_socket(over)
    if alpn is not None:
        alpn = checked_protocols(alpn)
    plan = _Plan(
        host, checked_port(port), starttls, server_hostname or host, starttls_name,
        checked_timeout("connect_timeout", connect_timeout),
    )  # fmt: skip
    plan.check()
    name = server_hostname
    if name is None and starttls in FOR_A_DOMAIN:
        name = starttls_name
    if name is not None or over is not None:
        name = _name_to_check(host if name is None else name, context)
    else:
        name = _name_of_host(host)
    options = StreamOptions(
        context=context if context is not None else _default_context(alpn),
        role=Role.CLIENT,
        server_hostname=name,
        session=session,
        alpn=alpn if context is not None else None,
        handshake_timeout=handshake_timeout,
        close_timeout=close_timeout,
        keepalive=keepalive,
        linger_bytes=linger_bytes,
        truncation=truncation,
        on_error=on_error,
        on_event=on_event,
    )
    options.check()
    return Connecting(plan, options, over)


def _name_to_check(name: str, context: ssl.SSLContext | None) -> str | None:
    """The name for TLS, or None where the caller wants none.

    Raises:
        TypeError, ValueError: TLS cannot carry it, or the context is to check one.
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
        return without_root(host)  # Resolving it tells better what is wrong with it.


def _default_context(alpn: Sequence[str] | None) -> ssl.SSLContext:
    """The context for whoever gives none: loading the system's trust takes longer than a handshake."""
    return _load_context(None if alpn is None else tuple(alpn), *map(os.environ.get, _CONTEXT_VARIABLES))


@functools.lru_cache(maxsize=16)
def _load_context(alpn: tuple[str, ...] | None, *_environment: str | None) -> ssl.SSLContext:
    """Nobody changes it afterwards, so that all threads and streams can share it."""
    context = ssl.create_default_context()
    if alpn is not None:
        context.set_alpn_protocols(list(alpn))
    messages.prepare(context)
    return context


def wrap(  # noqa: D417  (the other arguments are those of `connect`)
    sock: socket.socket,
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
    """Make a stream over a connected socket, on either side; the handshake is done at its first use.

    Args:
        sock: a connected TCP or Unix socket. Its descriptor is the stream's from now on, and `sock` itself is closed.
        server_side: we are the server.
        server_hostname: as for `connect`; without one, a client's context has to have ``check_hostname`` False.
        received: what was read from `sock` already and belongs to TLS, such as what came in one piece with the header
            of a proxy, or what `Stream.unwrap` gave beside the socket. It is taken as if it came now.
        context, session, …: as for `connect`.

    Raises:
        TypeError, ValueError: arguments that cannot be meant: `sock` is no connected stream socket, `server_hostname`
            lacks or cannot be one. The socket stays the caller's.
        RuntimeError: no event loop is running.
    """
    _check_socket(sock)
    first = checked_bytes("received", received)
    if server_side and server_hostname is not None:
        raise ValueError("server_hostname is for clients: what a server is called stands in its certificate")
    options = StreamOptions(
        context=context,
        role=Role.SERVER if server_side else Role.CLIENT,
        server_hostname=None if server_hostname is None else _name_to_check(server_hostname, context),
        session=session,
        alpn=None,
        handshake_timeout=handshake_timeout,
        close_timeout=close_timeout,
        keepalive=keepalive,
        linger_bytes=linger_bytes,
        truncation=truncation,
        on_error=on_error,
        on_event=on_event,
    )
    options.check()
    backend = _backends.current()
    return options.stream(backend, backend.transport(take_over(sock), ""), received=first)


class Connecting:
    """What `connect` returns: await it for the stream, or use it as an async context manager. Once."""

    def __init__(self, plan: _Plan, options: StreamOptions, over: socket.socket | None) -> None:
        self._plan = plan
        self._options = options
        self._over = over
        self._used = False
        self._stream: Stream | None = None

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
            raise
        await stream.handshake()
        return stream


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to come to a transport on which TLS can begin."""

    host: str
    port: int
    starttls: str | None
    domain: str
    starttls_name: str | None
    timeout: float

    def check(self) -> None:
        """Raise TypeError or ValueError for a dialogue that cannot be."""
        if self.starttls is not None:
            dialogue(self.starttls, host=self.domain, name=self.starttls_name).close()
        elif self.starttls_name is not None:
            raise ValueError("starttls_name is for starttls: say which protocol is to be told it")

    async def carry_out(self, backend: Backend, over: socket.socket | None) -> Transport:
        where = host_port(self.host, self.port)
        transport: Transport | None = None
        try:
            async with backend.move_on_at(backend.time() + self.timeout) as scope:
                local = over is not None and over.family not in {socket.AF_INET, socket.AF_INET6}
                sock = take_over(over) if over is not None else await self._connect(backend, where)
                transport = backend.transport(sock, "" if local else where)  # A Unix socket has a name of its own.
                await self._start_tls(transport)
                return transport
        except BaseException:
            _close(transport, over)
            raise
        _close(transport, over)
        if scope.expired and transport is not None:
            late = StartTLSError(f"{self.starttls}: no agreement to change to TLS within {self.timeout:g} s")
            late.why = "not spoken"
            raise late
        raise ConnectTimeout(errno.ETIMEDOUT, f"{where} did not answer within {self.timeout:g} s")

    async def _connect(self, backend: Backend, where: str) -> socket.socket:
        try:
            return await backend.connect(self.host, self.port)
        except socket.gaierror as error:
            raise NameNotResolved(error.errno, f"the name {self.host!r} has no address: {error.strerror}") from error
        except UnicodeError as error:
            raise NameNotResolved(socket.EAI_NONAME, f"{self.host!r} is not a host name") from error
        except OSError as error:
            numbers = set(_error_numbers(error))
            if numbers == {errno.ECONNREFUSED}:
                raise ConnectRefused(errno.ECONNREFUSED, f"{where} refused the connection") from error
            if numbers == {errno.ETIMEDOUT}:
                raise ConnectTimeout(errno.ETIMEDOUT, f"{where} did not answer") from error
            raise ConnectError(error.errno or 0, f"no connection to {where}: {error.strerror or error}") from error

    async def _start_tls(self, transport: Transport) -> None:
        if self.starttls is None:
            return
        try:
            await negotiate(transport, self.starttls, host=self.domain, name=self.starttls_name)
        except OSError as error:
            raise StartTLSError(f"{self.starttls}: the connection was lost: {error.strerror or error}") from error


def _check_socket(sock: socket.socket) -> None:
    if not isinstance(sock, socket.socket):
        raise TypeError(
            f"a socket.socket is needed, not {type(sock).__name__}; of an asyncio transport or a trio socket, "
            "duplicate it: socket.socket(fileno=os.dup(sock.fileno()))"
        )
    if isinstance(sock, ssl.SSLSocket):
        raise TypeError("the socket is an SSLSocket already: give the plain socket that it was made from")
    if sock.type != socket.SOCK_STREAM:
        raise ValueError("a stream socket is needed")
    try:
        sock.getpeername()
    except OSError as error:
        raise ValueError(f"the socket is not connected: {error.strerror}") from error


def _close(transport: Transport | None, over: socket.socket | None) -> None:
    if transport is not None:
        transport.close()
    elif over is not None:
        over.close()


def _error_numbers(error: BaseException) -> list[int]:
    """The error numbers of all attempts to connect, however the loop's library has bundled them."""
    inner: list[BaseException] = []
    if isinstance(error, BaseExceptionGroup):
        inner = list(error.exceptions)
    elif isinstance(error.__cause__, BaseExceptionGroup | OSError):
        inner = [error.__cause__]
    if inner:
        return [number for one in inner for number in _error_numbers(one)]
    return [error.errno] if isinstance(error, OSError) and error.errno is not None else []
