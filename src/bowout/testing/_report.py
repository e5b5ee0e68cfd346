"""The report of a misbehaving peer about the code under test: a plain value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bowout._text import escape

if TYPE_CHECKING:
    from bowout.ending import Alert, Ending, Event, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReport:
    """The report of one peer about the code under test on one connection, in the order of reading.

        >>> with Peer("close_notify_then_fin") as peer:
        ...     ...
        >>> print(peer.report)
        close_notify_then_fin (server, TLSv1.3): handshake, 5 B, 1 close_notify, FIN

    In its events, *we* are the code under test, and *peer* is the script: the same sides as in the `Ending` that
    bowout gives for such a connection.

    Attributes:
        name: the script's name.
        role: the role of the peer; the code under test had the other.
        number: the index of the connection among the peer's connections, from 0.
        connected: whether there was a TCP connection at all.
        tls_version, cipher: as the handshake agreed; None if it was not completed.
        close_notify: the number of close_notify received. A good application sends one, and never two.
        fin: whether its FIN was received.
        rst: whether its RST was received, or nothing more could be sent to it.
        received: the number of bytes of application data received; handshake messages do not count, encrypted or not.
        data: the first of them, up to the peer's ``data_cap``.
        alerts: every alert received, including close_notify, in order; the first hundred.
        after_close_notify: the number of records received after its first close_notify. There should be none.
        plaintext: the bytes received in plain text after its close_notify, once TLS had ended; capped like `data`.
        undecryptable: the number of records that could not be decrypted, including plain text after the handshake.
        finished: whether the script ran to its end.
        error: why it did not: an expectation that was not met, an early end by the code under test, a mistake in it.
        duration: seconds from the TCP connection to the end of the peer.
        ending: the `Ending` as it looked on the wire from the side of the code under test. The peer cannot see what the
            application there read, or was told: of ``how``, trust only *clean*, *unanswered* and *failed handshake*,
            as facts of the wire.
        events: everything in order, with times in seconds since the connection; data is folded into runs.
    """

    name: str
    role: Role
    number: int = 0
    connected: bool = False
    tls_version: str | None = None
    cipher: str | None = None
    close_notify: int = 0
    fin: bool = False
    rst: bool = False
    received: int = 0
    data: bytes = field(default=b"", repr=False)
    alerts: tuple[Alert, ...] = ()
    after_close_notify: int = 0
    plaintext: bytes = b""
    undecryptable: int = 0
    finished: bool = False
    error: str | None = None
    duration: float = 0.0
    ending: Ending = field(repr=False)

    @property
    def events(self) -> tuple[Event, ...]:
        """All events, in order."""
        return self.ending.events

    @property
    def handshake(self) -> bool:
        """Whether the handshake was completed."""
        return self.tls_version is not None

    def __str__(self) -> str:
        version = f", {self.tls_version}" if self.tls_version else ""
        number = f" #{self.number}" if self.number else ""
        return f"{escape(self.name)}{number} ({self.role}{version}): {', '.join(self._clauses())}"

    def _clauses(self) -> list[str]:
        if not self.connected:
            return [escape(self.error or "no connection")]
        said = [("handshake", self.handshake), ("no handshake", not self.handshake)]
        clauses = [words for words, holds in said if holds]
        if self.received:
            clauses.append(f"{self.received:,} B")
        clauses.append(f"{self.close_notify or 'no'} close_notify")
        clauses += [str(alert) for alert in self.alerts if alert.code]
        if self.after_close_notify:
            clauses.append(f"{self.after_close_notify} records after it")
        if self.plaintext:
            clauses.append(f"{len(self.plaintext):,} B in plain")
        if self.undecryptable:
            clauses.append(f"{self.undecryptable} undecryptable")
        clauses += [words for words, holds in [("FIN", self.fin), ("RST", self.rst)] if holds]
        if not (self.fin or self.rst):
            clauses.append("still there")
        if self.error:
            clauses.append(f"the script stopped: {escape(self.error)}")
        return clauses

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; the data is in hexadecimal."""
        return {
            "name": self.name,
            "role": self.role.value,
            "number": self.number,
            "summary": str(self),
            "connected": self.connected,
            "tls_version": self.tls_version,
            "cipher": self.cipher,
            "close_notify": self.close_notify,
            "fin": self.fin,
            "rst": self.rst,
            "received": self.received,
            "data": self.data.hex(),
            "alerts": [alert.to_dict() for alert in self.alerts],
            "after_close_notify": self.after_close_notify,
            "plaintext": self.plaintext.hex(),
            "undecryptable": self.undecryptable,
            "finished": self.finished,
            "error": self.error,
            "duration": round(self.duration, 6),
            "events": [event.to_dict() for event in self.events],
        }

    def ladder(self, *, width: int = 80, color: bool = False, unicode: bool = True) -> str:
        """Draw what happened as a two-party sequence diagram in text: the code under test left, the script right."""
        return self.ending.ladder(width=width, color=color, unicode=unicode)

    def ladder_svg(self) -> str:
        """Draw the same as a self-contained SVG document."""
        return self.ending.ladder_svg()
