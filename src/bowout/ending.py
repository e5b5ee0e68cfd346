"""How a connection ended: plain values that only describe themselves."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from bowout._tls_numbers import ALERT_NAMES, LEVEL_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Version of the format of `Ending.to_dict`. It is raised when a key changes its meaning or is removed; new keys may be
#: added without it.
SCHEMA_VERSION: Final = 1

#: What a receive does at a FIN that comes at a record boundary, without close_notify.
TruncationPolicy = Literal["raise", "tolerate"]

#: What the peer is told when an ``async with`` block is left by an error.
OnError = Literal["truncate", "close"]


class Side(enum.StrEnum):
    """The side that acted."""

    WE = "we"
    PEER = "peer"

    @property
    def other(self) -> Side:
        """The opposite side."""
        return Side.PEER if self is Side.WE else Side.WE


class Role(enum.StrEnum):
    """Our role in the handshake."""

    CLIENT = "client"
    SERVER = "server"


class How(enum.StrEnum):
    """The verdict on a connection's end."""

    #: Both close_notify alerts were exchanged: nothing is missing on either side.
    CLEAN = "clean"
    #: Ours was sent; the peer left without its own, or stayed silent until the deadline. RFC 8446 allows it.
    UNANSWERED = "unanswered"
    #: The peer's FIN came without close_notify while we still wanted to read.
    TRUNCATED = "truncated"
    #: The connection was reset, or the network lost it, before the exchange was done.
    RESET = "reset"
    #: A fatal alert, received or sent, ended it.
    ALERT = "alert"
    #: Our close_notify, or bytes that `send` accepted, never left: the peer did not read, or it ended TLS 1.2 first.
    UNFLUSHED = "unflushed"
    #: We ended it abruptly: `abort()`, or an error that left our last message incomplete.
    ABORTED = "aborted"
    #: There was never a TLS connection.
    FAILED_HANDSHAKE = "failed handshake"


class Outbound(enum.StrEnum):
    """The progress of ending our direction."""

    #: The handshake was not done.
    HANDSHAKE = "handshake"
    #: We could send.
    OPEN = "open"
    #: Ours is made, and the kernel has not taken all of it.
    CLOSE_NOTIFY_QUEUED = "close_notify queued"
    #: The kernel took all of it; before that, nothing counts as "sent".
    CLOSE_NOTIFY_SENT = "close_notify sent"
    #: After close_notify, the FIN of TCP.
    FIN_SENT = "close_notify and FIN sent"
    #: FIN without close_notify: the peer sees a truncation, as it should.
    CUT = "FIN sent without close_notify"
    #: We detected a fault of the peer and queued or sent a fatal alert.
    FATAL_ALERT = "fatal alert"
    #: We sent RST.
    RESET = "RST sent"
    #: The peer's RST or fatal alert, or the network, ended our direction.
    LOST = "lost"


class Inbound(enum.StrEnum):
    """How the peer's direction ended."""

    #: The handshake was not done.
    HANDSHAKE = "handshake"
    #: It had not ended when we left.
    OPEN = "open"
    #: The peer said that nothing of its own is missing.
    CLOSE_NOTIFY = "close_notify"
    #: A FIN without close_notify, after whole records: what was received may not be all.
    TRUNCATED_AT_BOUNDARY = "truncated at a record boundary"
    #: A FIN without close_notify, in the middle of a record: the rest of it is missing.
    TRUNCATED_INSIDE_RECORD = "truncated inside a record"
    #: The peer's RST, or the network, ended it.
    RESET = "reset"
    #: The peer's fatal alert ended it.
    FATAL_ALERT = "fatal alert"
    #: The peer sent what TLS does not allow, or what could not be decrypted.
    UNDECRYPTABLE = "undecryptable"


class EventKind(enum.StrEnum):
    """What can happen during a connection."""

    #: The TCP connection is there; `detail` names the peer.
    CONNECTED = "connected"
    #: One handshake message; passed to observers only, not kept in the ending.
    HANDSHAKE_MESSAGE = "handshake message"
    #: TLS is established; `detail` has the version and the cipher.
    HANDSHAKE_DONE = "handshake done"
    #: The server sent a ticket, with which a later connection can resume this session (RFC 8446 section 4.6.1).
    TICKET = "session ticket"
    #: A side changed its keys (RFC 8446 section 4.6.3).
    KEY_UPDATE = "key update"
    #: Application data, sent or received; what follows one another is folded into one run.
    DATA = "data"
    #: An alert other than close_notify (RFC 8446 section 6.2).
    ALERT = "alert"
    #: We began our close_notify, and the kernel has not taken it yet.
    CLOSE_NOTIFY_QUEUED = "close_notify queued"
    #: The end of one direction (RFC 8446 section 6.1): the kernel took ours, or the peer's came.
    CLOSE_NOTIFY = "close_notify"
    #: The end of one direction of TCP.
    FIN = "FIN"
    #: The abrupt end of the TCP connection, in both directions.
    RST = "RST"
    #: The system gave up the connection without an RST from the peer: a timeout, no route. `detail` has its error text.
    CONNECTION_LOST = "connection lost"
    #: Our application called a verb that ends the connection; `detail` names it.
    CALL = "call"
    #: The close reached its deadline, `close_timeout`.
    DEADLINE = "deadline"
    #: The close read as many bytes as it may discard, `linger_bytes`.
    CAP = "byte cap"
    #: An error that ended the connection for us; `detail` has its name and its text.
    ERROR = "error"
    #: The descriptor is closed (or handed over by `unwrap`).
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Alert:
    """A TLS alert (RFC 8446 section 6).

    Attributes:
        code: the number of its description.
        level: 1 is warning, 2 is fatal; as it was on the wire, although TLS 1.3 derives the meaning from the code.
        by: the side that sent it.
    """

    code: int
    level: int
    by: Side

    @property
    def name(self) -> str:
        """Registered name, such as ``bad_record_mac``."""
        return ALERT_NAMES.get(self.code, f"unknown_alert_{self.code}")

    @property
    def level_name(self) -> str:
        """Level in words: ``warning`` or ``fatal``."""
        return LEVEL_NAMES.get(self.level, f"level {self.level}")

    def __str__(self) -> str:
        return f"{self.level_name} {self.name}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"code": self.code, "name": self.name, "level": self.level_name, "by": self.by.value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Make the alert again from what `to_dict` returned. Raises KeyError, TypeError or ValueError."""
        levels = {name: number for number, name in LEVEL_NAMES.items()}
        level = data["level"]
        return cls(int(data["code"]), levels.get(level) or int(level.removeprefix("level ")), Side(data["by"]))


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, or one run of data.

    Attributes:
        at: seconds since the connection began.
        by: the side that acted.
        detail: additional text; may hold escaped text from the peer.
        sent: for DATA, application bytes that we handed to the kernel in this run.
        received: for DATA, application bytes that we decrypted in this run.
        count: number of reads and writes in a DATA run, or number of times in a row that the event occurred.
        until: time of the run's last byte, in seconds since the connection began; equal to `at` for a single event.
    """

    kind: EventKind
    by: Side
    at: float
    detail: str = ""
    sent: int = 0
    received: int = 0
    count: int = 1
    until: float = 0.0
    alert: Alert | None = None

    def __post_init__(self) -> None:
        if self.until < self.at:
            object.__setattr__(self, "until", self.at)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; empty ones are left out."""
        out: dict[str, Any] = {"kind": self.kind.value, "by": self.by.value, "at": round(self.at, 6)}
        if self.detail:
            out["detail"] = self.detail
        if self.kind is EventKind.DATA:
            out |= {"sent": self.sent, "received": self.received}
        if self.count > 1:
            out |= {"count": self.count, "until": round(self.until, 6)}
        if self.alert is not None:
            out["alert"] = self.alert.to_dict()
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Make the event again from what `to_dict` returned. Raises KeyError, TypeError or ValueError."""
        return cls(
            kind=EventKind(data["kind"]),
            by=Side(data["by"]),
            at=float(data["at"]),
            detail=str(data.get("detail", "")),
            sent=int(data.get("sent", 0)),
            received=int(data.get("received", 0)),
            count=int(data.get("count", 1)),
            until=float(data.get("until", 0.0)),
            alert=Alert.from_dict(data["alert"]) if "alert" in data else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one connection ended: two facts, never one flag, and a verdict derived from them.

    ``str(ending)`` is one line; `to_dict` is stable JSON; `ladder` draws it.

    Attributes:
        how: the verdict.
        started_by: the side that ended it first, as seen from here; None if neither had.
        outbound: the progress of ending our direction.
        inbound: how the peer's direction ended; ``open`` if it had not ended when we left.
        close_notify_sent_at: time when the kernel had our close_notify, in seconds since the beginning, or None.
        close_notify_received_at: the same for the peer's.
        alert: the alert that ended it.
        unsent: application bytes that `send` accepted and the kernel never took.
        unacknowledged: bytes on the wire that our kernel had taken and the peer's kernel had not acknowledged when we
            left; None if our kernel would deliver nothing more, or if this cannot be known.
        discarded: application bytes that the application never read: unread when `close()` was called, or received
            after it.
        ignored: bytes that came after the peer's close_notify; TLS requires to ignore them.
        late_reset: whether an RST came after the exchange was done.
        deadline_hit: whether the close reached its deadline, `close_timeout`: it waited no longer for the peer's end.
        cap_hit: whether the close reached its byte cap, `linger_bytes`: it read and discarded no more than that.
        unwrapped: whether TLS ended and the TCP connection went on.
        reason: text of the error or of the failed handshake, if there is any.
        sent: application bytes of the whole connection that the kernel took.
        received: application bytes of the whole connection that were decrypted.
        duration: seconds from the beginning to the release of the descriptor.
        began: time of the beginning, in seconds of Unix time.
        role: whether we were the client or the server.
        peer: name of the peer for people: ``host:port``, or the path of a Unix socket.
        tls_version: the version that was agreed on, as `ssl` names it, such as TLSv1.3; None without a handshake.
        cipher: the cipher that was agreed on, as OpenSSL names it; None without a handshake.
        events: the timeline; data is folded into runs, and a very long connection keeps its first and its last events.
        omitted: number of events left out between those.
        omitted_after: number of events before the gap: the missing ones belong before ``events[omitted_after]``.
    """

    how: How
    started_by: Side | None
    outbound: Outbound
    inbound: Inbound
    close_notify_sent_at: float | None = None
    close_notify_received_at: float | None = None
    alert: Alert | None = None
    unsent: int = 0
    unacknowledged: int | None = None
    discarded: int = 0
    ignored: int = 0
    late_reset: bool = False
    deadline_hit: bool = False
    cap_hit: bool = False
    unwrapped: bool = False
    reason: str = ""
    sent: int = 0
    received: int = 0
    duration: float = 0.0
    began: float = 0.0
    role: Role = Role.CLIENT
    peer: str = ""
    tls_version: str | None = None
    cipher: str | None = None
    events: tuple[Event, ...] = field(default=(), repr=False)
    omitted: int = 0
    omitted_after: int = 0

    @property
    def clean(self) -> bool:
        """Whether both close_notify alerts were exchanged."""
        return self.how is How.CLEAN

    def __str__(self) -> str:
        from bowout._summary import summarize  # noqa: PLC0415  (the words are found one layer above the value)

        return summarize(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values under stable names; ``version`` identifies the set of names (`SCHEMA_VERSION`)."""
        return {
            "version": SCHEMA_VERSION,
            "how": self.how.value,
            "summary": str(self),
            "started_by": self.started_by.value if self.started_by else None,
            "outbound": self.outbound.value,
            "inbound": self.inbound.value,
            "close_notify_sent_at": _rounded(self.close_notify_sent_at),
            "close_notify_received_at": _rounded(self.close_notify_received_at),
            "alert": self.alert.to_dict() if self.alert else None,
            "unsent": self.unsent,
            "unacknowledged": self.unacknowledged,
            "discarded": self.discarded,
            "ignored": self.ignored,
            "late_reset": self.late_reset,
            "deadline_hit": self.deadline_hit,
            "cap_hit": self.cap_hit,
            "unwrapped": self.unwrapped,
            "reason": self.reason,
            "sent": self.sent,
            "received": self.received,
            "duration": _rounded(self.duration),
            "began": _rounded(self.began),
            "role": self.role.value,
            "peer": self.peer,
            "tls_version": self.tls_version,
            "cipher": self.cipher,
            "events": [event.to_dict() for event in self.events],
            "omitted": self.omitted,
            "omitted_after": self.omitted_after,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Make an ending again from what `to_dict` returned, for its ladder for example.

        Raises:
            ValueError: `data` is not an ending, or it is one of a later version.
        """
        try:
            if data["version"] != SCHEMA_VERSION:
                raise ValueError(f"version {data['version']!r} is not known")
            return cls(**_plain(data), **_read(data))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is not an ending: {type(error).__name__}: {error}") from error

    def ladder(self, *, width: int = 80, color: bool = False, unicode: bool = True) -> str:
        """Draw the timeline as a two-party sequence diagram in text.

        Args:
            width: maximum line length, in columns.
            color: whether to colour it with ANSI codes.
            unicode: False for plain ASCII.
        """
        from bowout.ladder import render_text  # noqa: PLC0415  (the picture is drawn one layer above the value)

        return render_text(self, width=width, color=color, unicode=unicode)

    def ladder_svg(self) -> str:
        """Draw the same as a self-contained SVG document with a light and a dark look."""
        from bowout.ladder import render_svg  # noqa: PLC0415

        return render_svg(self)


class _EventsSlot:
    """The attribute `Ending.events`: instead of the events it may be set to a function, which makes them when needed.

    To make them costs as much as the rest of an ending, and few are ever looked at.
    """

    def __init__(self, slot: Any) -> None:
        self._slot = slot

    def __get__(self, ending: Ending | None, owner: type | None = None) -> Any:
        if ending is None:
            return self
        events = self._slot.__get__(ending, owner)
        if callable(events):
            events = events()
            self._slot.__set__(ending, events)
        return events

    def __set__(self, ending: Ending, events: Any) -> None:
        self._slot.__set__(ending, events)


setattr(Ending, "events", _EventsSlot(vars(Ending)["events"]))  # noqa: B010  (mypy knows it as a field)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


#: The attributes of an `Ending` that are in its dictionary as they are, with their types.
_PLAIN: Final[tuple[tuple[type, tuple[str, ...]], ...]] = (
    (int, ("unsent", "discarded", "ignored", "sent", "received", "omitted", "omitted_after")),
    (bool, ("late_reset", "deadline_hit", "cap_hit", "unwrapped")),
    (str, ("reason", "peer")),
    (float, ("duration", "began")),
)
#: The same of those that may be None.
_OPTIONAL: Final[tuple[tuple[type, tuple[str, ...]], ...]] = (
    (float, ("close_notify_sent_at", "close_notify_received_at")),
    (int, ("unacknowledged",)),
    (str, ("tls_version", "cipher")),
)


def _plain(data: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: kind(data[name]) for kind, names in _PLAIN for name in names}
    optional = {name: kind(data[name]) for kind, names in _OPTIONAL for name in names if data[name] is not None}
    return found | optional


def _read(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "how": How(data["how"]),
        "started_by": None if data["started_by"] is None else Side(data["started_by"]),
        "outbound": Outbound(data["outbound"]),
        "inbound": Inbound(data["inbound"]),
        "alert": None if data["alert"] is None else Alert.from_dict(data["alert"]),
        "role": Role(data["role"]),
        "events": tuple(map(Event.from_dict, data["events"])),
    }
