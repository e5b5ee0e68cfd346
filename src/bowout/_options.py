"""The options of a stream, common to clients and servers."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bowout import _sessions
from bowout._arguments import check_callable, check_choice, checked_count, checked_period, checked_timeout, wrong_side
from bowout._backends.sockets import keep_alive
from bowout._connection.connection import Connection
from bowout._core import hook
from bowout._core.client_hello import HelloGate
from bowout._stream import Stream
from bowout.ending import Role

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from bowout._backends import Backend, Transport
    from bowout.ending import Event, OnError, TruncationPolicy

_log = logging.getLogger("bowout")

#: Maximum number of bytes that a close reads and discards: more than any kernel buffers on the path, but a small
#: amount.
LINGER_BYTES: Final = 16 << 20
#: Silence, in seconds, after which the kernel sends TCP keepalive probes: less than the few minutes after which address
#: translators forget a connection.
KEEPALIVE: Final = 60.0

#: Contexts of the other role. OpenSSL refuses them, but only at the first connection.
_OTHER_SIDE: Final = {Role.SERVER: ssl.PROTOCOL_TLS_CLIENT, Role.CLIENT: ssl.PROTOCOL_TLS_SERVER}


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """The options of one stream; `bowout.connect` documents them."""

    context: ssl.SSLContext
    role: Role
    server_hostname: str | None = None
    session: ssl.SSLSession | None = None
    alpn: Sequence[str] | None = None
    handshake_timeout: float = 30.0
    close_timeout: float = 5.0
    keepalive: float | None = KEEPALIVE
    linger_bytes: int = LINGER_BYTES
    truncation: TruncationPolicy = "raise"
    on_error: OnError = "truncate"
    on_event: Callable[[Event], None] | None = None

    def check(self) -> None:
        """Raise TypeError or ValueError for an invalid option."""
        if not isinstance(self.context, hook.BASE):
            raise TypeError(f"context must be an ssl.SSLContext, not {type(self.context).__name__}")
        if self.context.protocol == _OTHER_SIDE[self.role]:
            raise wrong_side(self.role, self.context)
        checked_timeout("handshake_timeout", self.handshake_timeout)
        checked_timeout("close_timeout", self.close_timeout)
        checked_period("keepalive", self.keepalive)
        checked_count("linger_bytes", self.linger_bytes, least=0)
        check_choice("truncation", self.truncation, ("raise", "tolerate"))
        check_choice("on_error", self.on_error, ("truncate", "close"))
        check_callable("on_event", self.on_event)
        if self.role is Role.CLIENT:
            self._check_name()
        if self.session is not None:
            self._check_session()

    def _check_name(self) -> None:
        """Raise ValueError if the context checks the name and there is none: nothing would be checked."""
        if self.server_hostname is None and self.context.check_hostname:
            raise ValueError(
                "this context checks the server's name: give server_hostname, or set check_hostname = False on it first"
            )

    def _check_session(self) -> None:
        if self.role is not Role.CLIENT:
            raise ValueError("session is for clients: a server resumes what its clients ask for")
        if not isinstance(self.session, ssl.SSLSession):
            raise TypeError(f"session must be an ssl.SSLSession, not {type(self.session).__name__}")
        try:
            self.context.wrap_bio(
                ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=self.server_hostname, session=self.session
            )
        except ValueError as error:
            raise ValueError(
                "the session belongs to another context: use the context of the stream that it comes from"
            ) from error
        if self.server_hostname is not None and self.context.check_hostname:
            _sessions.check(hook.underlying(self.context), self.session, self.server_hostname)

    def stream(self, backend: Backend, transport: Transport, *, received: bytes | memoryview = b"") -> Stream:
        """Make the stream; `received` is as for `connection`."""
        return Stream(
            self.connection(backend, transport, received=received),
            handshake_timeout=self.handshake_timeout,
            close_timeout=self.close_timeout,
        )

    def connection(self, backend: Backend, transport: Transport, *, received: bytes | memoryview = b"") -> Connection:
        """Make the connection under the stream.

        Args:
            backend: the event loop.
            transport: the byte stream under TLS.
            received: ciphertext that was already read from it; `Connection.take_received` takes more of it later.
        """
        self.apply(transport.sock)
        connection = Connection(
            backend,
            transport,
            self.context,
            role=self.role,
            server_hostname=self.server_hostname,
            session=self.session,
            truncation=self.truncation,
            linger_bytes=self.linger_bytes,
            notify_on_error=self.on_error == "close",
            on_event=self.observer(),
            gate=self.gate(),
        )
        if received:
            connection.take_received(received)
        return connection

    def apply(self, sock: socket.socket | None) -> None:
        """Set what is set on the context and on `sock`."""
        hook.prepare(self.context)
        if self.keepalive is not None and sock is not None:
            keep_alive(sock, self.keepalive)
        if self.alpn is not None:
            hook.underlying(self.context).set_alpn_protocols(list(self.alpn))

    def observer(self) -> Callable[[Event], None] | None:
        """Return `on_event` in a form that raises no exception."""
        return None if self.on_event is None else _harmless(self.on_event)

    def gate(self) -> HelloGate | None:
        """Make the check of a client's first message; None if not needed, since it scans each byte of the message."""
        if self.role is Role.CLIENT:
            return None
        if self.alpn is None and hook.underlying(self.context).sni_callback is None:
            return None
        return HelloGate(self.alpn)


def _harmless(on_event: Callable[[Event], None]) -> Callable[[Event], None]:
    def observe(event: Event) -> None:
        try:
            on_event(event)
        except Exception:  # noqa: BLE001  (it is logged, and touches no connection)
            _log.exception("on_event failed")

    return observe
