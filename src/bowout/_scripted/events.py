"""What a scripted connection sees of the other side, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bowout._tls_numbers import CLOSE_NOTIFY

if TYPE_CHECKING:
    from bowout.ending import EventKind


@dataclass(frozen=True, slots=True)
class HandshakeSeen:
    """The handshake is done."""

    version: str
    cipher: str


@dataclass(frozen=True, slots=True)
class RecordSeen:
    """A complete record came after the handshake; its content follows, if it can be read."""

    content_type: int
    size: int


@dataclass(frozen=True, slots=True)
class DataSeen:
    """Application data came."""

    data: bytes


@dataclass(frozen=True, slots=True)
class AlertSeen:
    """An alert came; close_notify is one of them."""

    level: int
    code: int

    @property
    def is_close_notify(self) -> bool:
        """Whether it ends the other side's direction of TLS."""
        return self.code == CLOSE_NOTIFY


@dataclass(frozen=True, slots=True)
class MessageSeen:
    """A handshake message came after the handshake: a session ticket, a key update, or another one."""

    kind: EventKind
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SealedSeen:
    """A record came in a stopped handshake, encrypted with unknown keys."""

    size: int


@dataclass(frozen=True, slots=True)
class UndecryptableSeen:
    """A record came that is not the next one with the connection's keys."""

    detail: str


@dataclass(frozen=True, slots=True)
class PlaintextSeen:
    """Bytes came in plain text, after TLS."""

    data: bytes


@dataclass(frozen=True, slots=True)
class EndSeen:
    """The transport's input has ended: FIN."""


@dataclass(frozen=True, slots=True)
class ResetSeen:
    """The transport is reset."""

    detail: str = ""


Seen = (
    HandshakeSeen
    | RecordSeen
    | DataSeen
    | AlertSeen
    | MessageSeen
    | SealedSeen
    | UndecryptableSeen
    | PlaintextSeen
    | EndSeen
    | ResetSeen
)
