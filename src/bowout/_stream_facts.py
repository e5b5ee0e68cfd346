"""The facts that a stream shows of its connection, read-only."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Protocol

from bowout import _sessions
from bowout._arguments import check_choice
from bowout.ending import Inbound, Outbound, Role

if TYPE_CHECKING:
    import socket as sockets  # `StreamFacts.socket` hides the name

    from bowout._core.engine import Engine
    from bowout.ending import Ending

#: States in which our direction can still be used.
_SENDABLE = frozenset({Outbound.HANDSHAKE, Outbound.OPEN})
#: States in which the peer's direction has not ended.
_OPEN = frozenset({Inbound.HANDSHAKE, Inbound.OPEN})


class EndingFacts(Protocol):
    """What ends a connection, as far as it is shown."""

    @property
    def leaving(self) -> bool:
        """Whether a verb was called that ends the connection."""

    @property
    def ending(self) -> Ending | None:
        """How the connection ended."""


class ConnectionFacts(Protocol):
    """A connection, as far as it is shown."""

    @property
    def engine(self) -> Engine:
        """The connection's TLS."""

    @property
    def closer(self) -> EndingFacts:
        """What ends the connection."""

    @property
    def peer(self) -> str:
        """The peer's name, for people."""

    @property
    def sock(self) -> sockets.socket | None:
        """The socket under the connection."""

    @property
    def local_address(self) -> Any:
        """The local address of the socket."""

    @property
    def remote_address(self) -> Any:
        """The remote address of the socket."""


def session_of(engine: Engine) -> ssl.SSLSession | None:
    """Return a client's session, if it can be resumed, and remember its server; see `StreamFacts.session`."""
    tls = engine.tls
    done = engine.role is Role.CLIENT and engine.handshake_done
    session = tls.session if done else None  # OpenSSL cannot describe a session that is not fully negotiated.
    if session is None or not (session.has_ticket or session.id):
        return None
    checked = tls.server_hostname if tls.context.check_hostname else None
    _sessions.remember(tls.context, session, checked or "")
    return session


class StreamFacts:
    """The known facts about the connection of a `bowout.Stream`, or of a `bowout.blocking.SyncStream`."""

    _connection: ConnectionFacts

    @property
    def peer(self) -> str:
        """The peer's name for people: ``host:port``, or the path of a Unix socket."""
        return self._connection.peer

    @property
    def ending(self) -> Ending | None:
        """How the connection ended; None before the end."""
        return self._connection.closer.ending

    @property
    def is_closing(self) -> bool:
        """Whether we have begun to end the connection, or it has ended: receives and sends then raise."""
        closer = self._connection.closer
        return closer.leaving or closer.ending is not None

    @property
    def can_send(self) -> bool:
        """Whether our direction is open for `send`. False after `send_eof`, and after an interrupted send."""
        engine = self._connection.engine
        return not self.is_closing and engine.outbound in _SENDABLE and not engine.outgoing.interrupted

    @property
    def peer_ended(self) -> bool:
        """Whether the end of the peer's direction was seen: its close_notify, FIN, RST or fatal alert.

        What it sent before may still be unread. A receive and `bowout.Stream.is_reusable` process what has arrived.
        """
        engine = self._connection.engine
        return engine.inbound not in _OPEN or engine.input_ended

    @property
    def tls_version(self) -> str | None:
        """``TLSv1.3``, ``TLSv1.2``…; None before the handshake."""
        return self._connection.engine.tls.version()

    @property
    def cipher(self) -> str | None:
        """The name of the cipher suite; None before the handshake."""
        cipher = self._connection.engine.tls.cipher()
        return cipher[0] if cipher else None

    @property
    def alpn(self) -> str | None:
        """The protocol agreed on by ALPN (RFC 7301), or None."""
        return self._connection.engine.tls.selected_alpn_protocol()

    @property
    def role(self) -> Role:
        """Our part in TLS: ``Role.CLIENT`` or ``Role.SERVER``."""
        return self._connection.engine.role

    @property
    def session(self) -> ssl.SSLSession | None:
        """A client's TLS session: give it to `connect` or `wrap` as ``session``, and the next handshake resumes it.

            control = await bowout.connect("ftp.example.org", 21, context=context, starttls="ftp")
            ...
            data = bowout.wrap(sock, context, server_hostname="ftp.example.org", session=control.session)

        None if there is no session to resume: on a server, before the handshake, or if the server issues none. In TLS
        1.3 the session arrives after the handshake, as a ticket, and is processed by a receive: read this property when
        you need it. A server may issue several; this is the last one, and it should not be used twice (RFC 8446
        appendix C.4).

        A session belongs to the context of its stream and to the name against which its server's certificate was
        checked, since a resumed connection does not check the certificate again: with another context or name,
        `connect` and `wrap` raise ValueError.
        """
        return session_of(self._connection.engine)

    @property
    def resumed(self) -> bool:
        """Whether the handshake resumed an earlier session; False before it."""
        return bool(self._connection.engine.tls.session_reused)

    # -- what is underneath --------------------------------------------------------------------------------------

    @property
    def ssl_object(self) -> ssl.SSLObject:
        """The standard library's object, for its information. Do not read, write, unwrap or change it."""
        return self._connection.engine.tls

    @property
    def socket(self) -> sockets.socket | None:
        """The socket, for its options. Do not read, write, shut down or close it.

        None after the end, and over a stream that is no socket.
        """
        return self._connection.sock

    @property
    def local_address(self) -> Any:
        """Our address, as ``socket.getsockname`` returns it, a link-local host with its zone; None after the end.

        Over a stream that is no socket, it is what the stream tells; None if it tells nothing.
        """
        return self._connection.local_address

    @property
    def remote_address(self) -> Any:
        """The peer's address, as ``socket.getpeername`` returns it, likewise. `peer` is for people, and stays."""
        return self._connection.remote_address

    def channel_binding(self, kind: str = "tls-unique") -> bytes | None:
        """Return the data that bind an authentication above TLS (SCRAM-…-PLUS, GSS-API) to this connection (RFC 5056).

        Args:
            kind: one of ``ssl.CHANNEL_BINDING_TYPES``; that is ``"tls-unique"`` alone up to CPython 3.14.

        Returns:
            The bytes, which both ends share; None before the handshake, and if this connection has none:
            ``"tls-unique"`` is not defined for TLS 1.3 (RFC 9266 section 3).

        Raises:
            TypeError, ValueError: the ssl module does not know this kind.
        """
        check_choice("kind", kind, ssl.CHANNEL_BINDING_TYPES)
        if kind == "tls-unique" and self.tls_version == "TLSv1.3":
            return None
        return self._connection.engine.tls.get_channel_binding(kind)

    def peer_certificate(self) -> bytes | None:
        """Return the peer's certificate as DER; None if it sent none, and before the handshake."""
        engine = self._connection.engine
        return engine.tls.getpeercert(binary_form=True) if engine.handshake_done else None

    def peer_certificate_fields(self) -> dict[str, Any] | None:
        """Return the peer's certificate as `ssl.SSLSocket.getpeercert` does: empty if it was not verified.

        None if it sent none, and before the handshake.
        """
        engine = self._connection.engine
        return engine.tls.getpeercert() if engine.handshake_done else None
