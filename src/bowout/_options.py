"""The options of a stream, as clients and servers share them."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bowout import _sessions
from bowout._arguments import check_callable, check_choice, checked_count, checked_period, checked_timeout
from bowout._backends.sockets import keep_alive
from bowout._connection import Connection
from bowout._core import messages
from bowout._core.client_hello import HelloGate
from bowout.ending import Role
from bowout.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bowout._backends import Backend, Transport
    from bowout.ending import Event, OnError, TruncationPolicy

_log = logging.getLogger("bowout")

#: How much a close reads and discards at most: more than any kernel buffers on the way, less than anyone would miss.
LINGER_BYTES: Final = 16 << 20
#: Silence, in seconds, after which the kernel asks whether the peer is still there: less than the few minutes after
#: which address translators forget a connection.
KEEPALIVE: Final = 60.0

#: OpenSSL refuses a context that was made for the other side, but only when the first connection is there.
_OTHER_SIDE: Final = {Role.SERVER: ssl.PROTOCOL_TLS_CLIENT, Role.CLIENT: ssl.PROTOCOL_TLS_SERVER}


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How to be a stream on a transport; `bowout.connect` documents them."""

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
        """Raise TypeError or ValueError for what cannot be meant."""
        if not isinstance(self.context, messages.BASE):
            raise TypeError(f"context must be an ssl.SSLContext, not {type(self.context).__name__}")
        if self.context.protocol == _OTHER_SIDE[self.role]:
            raise ValueError(f"this context cannot be a {self.role}'s: it was made for {self.context.protocol.name}")
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
        """A context that checks the name must have one, or nothing would be checked."""
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
                "the session belongs to another context: connect with the one of the stream that it comes from"
            ) from error
        if self.server_hostname is not None and self.context.check_hostname:
            _sessions.check(messages.underlying(self.context), self.session, self.server_hostname)

    def stream(self, backend: Backend, transport: Transport, *, received: bytes | memoryview = b"") -> Stream:
        """Make the stream; `received` is as for `connection`."""
        return Stream(
            self.connection(backend, transport, received=received),
            handshake_timeout=self.handshake_timeout,
            close_timeout=self.close_timeout,
        )

    def connection(self, backend: Backend, transport: Transport, *, received: bytes | memoryview = b"") -> Connection:
        """Make what is under the stream.

        Args:
            backend: the loop.
            transport: what is under TLS.
            received: ciphertext that was read from it already; `Connection.take_received` takes more of it later.
        """
        messages.prepare(self.context)
        if self.keepalive is not None and transport.sock is not None:
            keep_alive(transport.sock, self.keepalive)
        if self.alpn is not None:
            messages.underlying(self.context).set_alpn_protocols(list(self.alpn))
        connection = Connection(
            backend,
            transport,
            self.context,
            role=self.role,
            server_hostname=self.server_hostname,
            session=self.session,
            truncation=self.truncation,
            linger_bytes=self.linger_bytes,
            vouch_anyway=self.on_error == "close",
            on_event=None if self.on_event is None else _harmless(self.on_event),
            gate=self._gate(),
        )
        if received:
            connection.take_received(received)
        return connection

    def _gate(self) -> HelloGate | None:
        """What looks at a client's first message, where that is needed: it costs a look at each of its bytes."""
        if self.role is Role.CLIENT:
            return None
        if self.alpn is None and messages.underlying(self.context).sni_callback is None:
            return None
        return HelloGate(self.alpn)


def _harmless(on_event: Callable[[Event], None]) -> Callable[[Event], None]:
    def observe(event: Event) -> None:
        try:
            on_event(event)
        except Exception:  # noqa: BLE001  (it is logged, and touches no connection)
            _log.exception("on_event failed")

    return observe
