"""Contexts whose sockets end well."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from bowout._core import hook
from bowout._options import LINGER_BYTES
from bowout.blocking._policy import SocketPolicy, set_policy
from bowout.blocking._socket import TLSSocket

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from bowout.ending import Ending, Event, OnError, TruncationPolicy


def prepare_context(
    context: ssl.SSLContext | None = None,
    *,
    truncation: TruncationPolicy = "raise",
    tolerant_hosts: Collection[str] = (),
    handshake_timeout: float = 30.0,
    close_timeout: float = 5.0,
    linger_bytes: int = LINGER_BYTES,
    on_error: OnError = "truncate",
    resume: bool = False,
    on_ending: Callable[[Ending], object] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> ssl.SSLContext:
    """Make the sockets of `context` end well: its ``wrap_socket`` returns a `TLSSocket` from now on.

        context = bowout.blocking.prepare_context(ssl.create_default_context())
        http.client.HTTPSConnection("example.org", context=context)

    Nothing else of the context changes, and it may be used elsewhere as before. A second call replaces the policy for
    later sockets.

    Args:
        context: a client's or a server's. None: a new one with the system's trust store, for clients.
        truncation: the result of a receive at a FIN that comes at a record boundary without close_notify. ``"raise"``:
            `bowout.errors.Truncated`. ``"tolerate"``: the end of the stream, and a warning in the log of
            ``bowout.blocking``. An attacker on the path can forge such a FIN and so truncate a stream at any record:
            tolerate it only if the application protocol itself shows that a message is complete.
        tolerant_hosts: names of servers whose truncation is tolerated, whatever `truncation` says. They are compared
            with ``server_hostname``, without regard to case.
        handshake_timeout: seconds for a handshake, if the socket has no timeout.
        close_timeout: seconds for a close, or less if the socket's timeout is less.
        linger_bytes: maximum number of bytes that a close reads and discards while it waits for the peer's end.
        on_error: what the peer is told when a ``with`` block of a socket is left by an error, or after an interrupted
            ``sendall``; as for `bowout.connect`.
        resume: whether a client's new connection resumes the session of an open one with this context and the same
            ``server_hostname``. FTPS servers want that of their data connections.
        on_ending: called with the `bowout.Ending` of each connection when it has ended. It must return quickly, and not
            use the socket; its exceptions are logged.
        on_event: called with each `bowout.Event` as it happens, likewise.

    Returns:
        The context.

    Raises:
        TypeError, ValueError: an argument is not valid; nothing was changed.
    """
    if context is not None and not isinstance(context, hook.BASE):
        raise TypeError(f"context must be an ssl.SSLContext, not {type(context).__name__}")
    policy = SocketPolicy(
        truncation=truncation,
        tolerant_hosts=tolerant_hosts,
        handshake_timeout=handshake_timeout,
        close_timeout=close_timeout,
        linger_bytes=linger_bytes,
        on_error=on_error,
        resume=resume,
        on_ending=on_ending,
        on_event=on_event,
    )
    policy.check()
    context = ssl.create_default_context() if context is None else context
    hook.prepare(context)
    used = hook.underlying(context)  # It makes the sockets; a context that wraps it only passes them on.
    set_policy(used, policy)
    used.sslsocket_class = TLSSocket
    return context
