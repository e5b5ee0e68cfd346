"""Making connections in blocking code: `connect` to a host, `wrap` a connected socket."""

from __future__ import annotations

import errno
import socket
import time
from typing import TYPE_CHECKING, Any

from bowout._arguments import checked_bytes, checked_period
from bowout._backends.sockets import HAPPY_EYEBALLS_DELAY, not_blocking, take_over
from bowout._client import check_socket, connect_error, planned, wrapping
from bowout._names import host_port
from bowout._options import KEEPALIVE, LINGER_BYTES
from bowout.blocking._connection import BlockingConnection
from bowout.blocking._dialling import dial
from bowout.blocking._starttls import negotiate
from bowout.blocking._stream import SyncStream
from bowout.errors import ConnectTimeout, StartTLSError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from bowout._client import Plan
    from bowout._options import StreamOptions
    from bowout._starttls import StartTLSName
    from bowout.ending import Event, OnError, TruncationPolicy


def connect(  # noqa: D417  (the other arguments are those of `bowout.connect`)
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
    local_address: str | tuple[str, int] | None = None,
    happy_eyeballs_delay: float = HAPPY_EYEBALLS_DELAY,
    timeout: float | None = None,
    connect_timeout: float = 30.0,
    handshake_timeout: float = 30.0,
    close_timeout: float = 5.0,
    keepalive: float | None = KEEPALIVE,
    linger_bytes: int = LINGER_BYTES,
    truncation: TruncationPolicy = "raise",
    on_error: OnError = "truncate",
    on_event: Callable[[Event], None] | None = None,
) -> SyncStream:
    """Connect to a TLS server, and perform the handshake, in code without an event loop.

        with bowout.blocking.connect("example.org", 443) as stream: ...

    Args:
        host, port: the server; every address of a name is tried, by Happy Eyeballs (RFC 8305).
        over: a connected TCP or Unix socket to use instead of making a connection; the stream owns it from then on.
        timeout: longest time, in seconds, that a receive or a send goes on without progress, see `SyncStream.timeout`.
            None: no limit; keepalive then finds that the peer's machine is gone.
        connect_timeout: seconds for resolving, connecting and STARTTLS.
        handshake_timeout: seconds for the TLS handshake.
        close_timeout: default of `SyncStream.close`, in seconds.
        context, server_hostname, alpn, starttls, starttls_name, session, local_address, happy_eyeballs_delay,
            keepalive, linger_bytes, truncation, on_error, on_event: as for `bowout.connect`.

    Raises:
        TypeError, ValueError: invalid arguments; raised before anything is opened.
        NameNotResolved, ConnectRefused, ConnectTimeout, ConnectError: no TCP connection could be made.
        StartTLSError: the server did not agree to change to TLS.
        CertificateError, NotTLS, HandshakeAlert, HandshakeTruncated, HandshakeReset, HandshakeTimeout,
        HandshakeError: no TLS connection could be made. Each is chained to the original error.

    After every exception, KeyboardInterrupt included, the descriptor is closed.
    """
    timeout = checked_period("timeout", timeout)
    if over is not None:
        check_socket(over)
    plan, options = planned(
        host, port, over=over, starttls=starttls, starttls_name=starttls_name, local_address=local_address,
        happy_eyeballs_delay=happy_eyeballs_delay, connect_timeout=connect_timeout,
        context=context, server_hostname=server_hostname, alpn=alpn, session=session,
        handshake_timeout=handshake_timeout, close_timeout=close_timeout, keepalive=keepalive,
        linger_bytes=linger_bytes, truncation=truncation, on_error=on_error, on_event=on_event,
    )  # fmt: skip
    sock = _carry_out(plan, over)
    stream = _stream(sock, "" if _is_local(sock) else host_port(host, port), options, timeout)
    try:
        stream.handshake()
    except BaseException:
        stream.abort()  # After an error of the handshake, it has ended already.
        raise
    return stream


def wrap(  # noqa: D417  (the other arguments are those of `connect`)
    sock: socket.socket,
    context: ssl.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    session: ssl.SSLSession | None = None,
    received: bytes | bytearray | memoryview = b"",
    timeout: float | None = None,
    handshake_timeout: float = 30.0,
    close_timeout: float = 5.0,
    keepalive: float | None = KEEPALIVE,
    linger_bytes: int = LINGER_BYTES,
    truncation: TruncationPolicy = "raise",
    on_error: OnError = "truncate",
    on_event: Callable[[Event], None] | None = None,
) -> SyncStream:
    """Make a stream over a connected socket, as client or server; the first use performs the handshake.

    Args:
        sock: a connected TCP or Unix socket. The stream owns its descriptor from now on, and `sock` itself is closed.
            Its own timeout is not used.
        server_side: whether we are the server.
        server_hostname: as for `connect`; without it, a client's context must have ``check_hostname`` False.
        received: bytes of TLS that were already read from `sock`. They are processed as if they arrived now.
        context, session, timeout, …: as for `connect`.

    Raises:
        TypeError, ValueError: invalid arguments: `sock` is not a connected stream socket, `server_hostname` is missing
            or is not a valid name. The caller still owns the socket.
    """
    timeout = checked_period("timeout", timeout)
    check_socket(sock)
    first = checked_bytes("received", received)
    options = wrapping(
        context, server_side=server_side, server_hostname=server_hostname, session=session,
        handshake_timeout=handshake_timeout, close_timeout=close_timeout, keepalive=keepalive,
        linger_bytes=linger_bytes, truncation=truncation, on_error=on_error, on_event=on_event,
    )  # fmt: skip
    return _stream(take_over(sock), "", options, timeout, received=first)


def _stream(
    sock: socket.socket, peer: str, options: StreamOptions, timeout: float | None, *, received: bytes | memoryview = b""
) -> SyncStream:
    """Make a stream that owns `sock`."""
    try:
        not_blocking(sock)
        connection = BlockingConnection(sock, peer, options, exact=False)
        if len(received):
            connection.take_received(received)
        return SyncStream(
            connection,
            timeout=timeout,
            handshake_timeout=options.handshake_timeout,
            close_timeout=options.close_timeout,
        )
    except BaseException:
        sock.close()
        raise


def _carry_out(plan: Plan, over: socket.socket | None) -> socket.socket:
    """Return a socket on which TLS can begin."""
    where = host_port(plan.host, plan.port)
    deadline = time.monotonic() + plan.timeout
    sock = take_over(over) if over is not None else _dial(plan, where, deadline)
    try:
        _start_tls(sock, plan, deadline)
    except BaseException:
        sock.close()
        raise
    return sock


def _dial(plan: Plan, where: str, deadline: float) -> socket.socket:
    try:
        return dial(plan.host, plan.port, deadline, local=plan.local, delay=plan.delay)
    except TimeoutError as error:
        if time.monotonic() < deadline:  # The kernel gave up before us.
            raise connect_error(error, plan.host, where) from error
        raise ConnectTimeout(errno.ETIMEDOUT, f"{where} did not answer within {plan.timeout:g} s") from None
    except (OSError, UnicodeError) as error:
        raise connect_error(error, plan.host, where) from error


def _start_tls(sock: socket.socket, plan: Plan, deadline: float) -> None:
    if plan.starttls is None:
        return
    try:
        negotiate(sock, plan.starttls, host=plan.domain, name=plan.starttls_name, deadline=deadline)
    except TimeoutError:
        late = StartTLSError(f"{plan.starttls}: no agreement to change to TLS within {plan.timeout:g} s")
        late.why = "not spoken"
        raise late from None
    except OSError as error:
        raise StartTLSError(f"{plan.starttls}: the connection was lost: {error.strerror or error}") from error


def _is_local(sock: socket.socket) -> bool:
    """Tell whether `sock` is a Unix socket, which has a name of its own."""
    family: Any = sock.family
    return family not in {socket.AF_INET, socket.AF_INET6}
