"""How a connection ended: plain values, with no behaviour but to describe themselves."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, Final, Literal

#: The version of what `Ending.to_dict` gives. It is raised when a key changes its meaning or goes; new keys may come.
SCHEMA_VERSION: Final = 1

#: A FIN counts as one byte with TCP.
_FIN_SIZE: Final = 1

#: What to do when a FIN comes at a record boundary, without close_notify.
TruncationPolicy = Literal["raise", "tolerate"]

#: What leaving an ``async with`` by an error tells the peer.
OnError = Literal["truncate", "close"]


class Side(enum.StrEnum):
    """Who did it."""

    WE = "we"
    PEER = "peer"

    @property
    def other(self) -> Side:
        """The one at the other end."""
        return Side.PEER if self is Side.WE else Side.WE


class Role(enum.StrEnum):
    """Which part we had in the handshake."""

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
    #: We cut it off: `abort()`, or an error that left our last message incomplete.
    ABORTED = "aborted"
    #: There never was a TLS connection.
    FAILED_HANDSHAKE = "failed handshake"


class Outbound(enum.StrEnum):
    """How far the ending of our direction has come."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSE_NOTIFY_QUEUED = "close_notify queued"
    #: The kernel took all of it. Nothing is "sent" before that.
    CLOSE_NOTIFY_SENT = "close_notify sent"
    FIN_SENT = "close_notify and FIN sent"
    #: FIN without close_notify: the peer sees a truncation, as it should.
    CUT = "FIN sent without close_notify"
    #: We found the peer at fault and queued or sent a fatal alert.
    FATAL_ALERT = "fatal alert"
    #: We sent RST.
    RESET = "RST sent"
    #: The peer's RST or fatal alert took the direction from us, or the network did.
    LOST = "lost"


class Inbound(enum.StrEnum):
    """How the peer's direction ended."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSE_NOTIFY = "close_notify"
    TRUNCATED_AT_BOUNDARY = "truncated at a record boundary"
    TRUNCATED_INSIDE_RECORD = "truncated inside a record"
    RESET = "reset"
    FATAL_ALERT = "fatal alert"
    UNDECRYPTABLE = "undecryptable"


class EventKind(enum.StrEnum):
    """What can happen in the life of a connection."""

    CONNECTED = "connected"
    #: One handshake message; seen by observers only, not kept in the ending.
    HANDSHAKE_MESSAGE = "handshake message"
    HANDSHAKE_DONE = "handshake done"
    TICKET = "session ticket"
    KEY_UPDATE = "key update"
    DATA = "data"
    ALERT = "alert"
    CLOSE_NOTIFY_QUEUED = "close_notify queued"
    CLOSE_NOTIFY = "close_notify"
    FIN = "FIN"
    RST = "RST"
    #: The system gave the connection up without an RST of the peer: a timeout, no route. `detail` has its words.
    CONNECTION_LOST = "connection lost"
    #: Somebody here called a verb that ends the connection; `detail` names it.
    CALL = "call"
    DEADLINE = "deadline"
    CAP = "byte cap"
    ERROR = "error"
    #: The descriptor is closed (or handed over by `unwrap`).
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Alert:
    """A TLS alert (RFC 8446 section 6).

    Attributes:
        code: its number.
        level: 1 is warning, 2 is fatal; as it was on the wire, though TLS 1.3 derives the meaning from the code.
        by: who sent it.
    """

    code: int
    level: int
    by: Side

    @property
    def name(self) -> str:
        """The registered name, such as ``bad_record_mac``."""
        return ALERT_NAMES.get(self.code, f"unknown_alert_{self.code}")

    @property
    def level_name(self) -> str:
        """``warning`` or ``fatal``."""
        return {1: "warning", 2: "fatal"}.get(self.level, f"level {self.level}")

    def __str__(self) -> str:
        return f"{self.level_name} {self.name}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"code": self.code, "name": self.name, "level": self.level_name, "by": self.by.value}


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, or one run of data.

    Attributes:
        at: seconds since the connection began.
        by: who did it.
        detail: a few words more; may hold escaped text from the peer.
        sent: for DATA, application bytes that we handed to the kernel in this run.
        received: for DATA, application bytes that we decrypted in this run.
        count: how many reads and writes a DATA run stands for, or how often in a row the event came.
        until: when the run's last byte passed, in seconds; equal to `at` for a single event.
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
        """Plain JSON values; what is empty is left out."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one connection ended: two facts, never one flag, and a verdict drawn from them.

    ``str(ending)`` is one line; `to_dict` is stable JSON; `ladder` draws it.

    Attributes:
        how: the verdict.
        started_by: who ended it first, as seen from here; None where nobody had.
        outbound: how far our direction's ending came.
        inbound: how the peer's direction ended; ``open`` where it had not when we left.
        close_notify_sent_at: seconds since the beginning when the kernel had our close_notify, or None.
        close_notify_received_at: the same for the peer's.
        alert: the alert that ended it.
        unsent: application bytes that `send` accepted and the kernel never took.
        unacknowledged: bytes on the wire that our kernel had taken and the peer's had not acknowledged when we left;
            None where it would deliver nothing more, or this cannot be known.
        discarded: application bytes that nobody read: they were unread when `close()` came, or came after it.
        ignored: bytes that came after the peer's close_notify, which TLS says to ignore.
        late_reset: an RST came after the exchange was done.
        deadline_hit: the close ran into its deadline.
        cap_hit: the close ran into its byte cap.
        unwrapped: TLS ended and the TCP connection went on.
        reason: in words, where an error or a failed handshake has more to say.
        sent, received: application bytes of the whole connection.
        duration: seconds from the beginning to the release of the descriptor.
        began: when it began, in seconds of Unix time.
        role, peer, tls_version, cipher: whose ending this is.
        events: the timeline; data is folded into runs, and a very long life keeps its first and its last events.
        omitted: how many events were folded away in between.
        omitted_after: how many events stand before the gap: they are missing before ``events[omitted_after]``.
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
        """Both close_notify alerts were exchanged."""
        return self.how is How.CLEAN

    def __str__(self) -> str:
        return f"{self.how.value}: {', '.join(_clauses(self))}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values under stable names; ``version`` says which set of names (`SCHEMA_VERSION`)."""
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

    def ladder(self, *, width: int = 80, color: bool = False, unicode: bool = True) -> str:
        """Draw the timeline as a two-party sequence diagram in text.

        Args:
            width: columns; no line is longer.
            color: colour it with ANSI codes.
            unicode: False for plain ASCII.
        """
        from bowout.ladder import render_text  # noqa: PLC0415  (the picture is drawn one layer above the value)

        return render_text(self, width=width, color=color, unicode=unicode)

    def ladder_svg(self) -> str:
        """Draw the same as a self-contained SVG document with light and dark looks."""
        from bowout.ladder import render_svg  # noqa: PLC0415

        return render_svg(self)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _clauses(ending: Ending) -> list[str]:
    clauses = [_story(ending)]
    if ending.unsent:
        clauses.append(f"{ending.unsent:,} B unsent")
    if ending.how is How.UNANSWERED and (ending.unacknowledged or 0) > _FIN_SIZE:
        clauses.append(f"{ending.unacknowledged:,} B on the way unacknowledged")
    if ending.discarded:
        clauses.append(f"{ending.discarded:,} B discarded unread")
    if ending.ignored:
        clauses.append(f"{ending.ignored:,} B ignored after its close_notify")
    if ending.late_reset:
        clauses.append("a late reset")
    if ending.cap_hit:
        clauses.append("gave up at the byte cap")
    elif ending.deadline_hit:
        clauses.append("gave up at the deadline")
    return clauses


def _story(ending: Ending) -> str:
    story = _STORIES[ending.how](ending)
    return f"{story} ({ending.reason})" if ending.reason else story


def _clean(ending: Ending) -> str:
    if ending.unwrapped:
        return "both sent close_notify, and the TCP connection goes on in plain"
    return _exchange(ending)


def _exchange(ending: Ending) -> str:
    """Say who sent close_notify first. An answer is what was made after the other had come."""
    sent, received = ending.close_notify_sent_at or 0.0, ending.close_notify_received_at or 0.0
    if sent <= received and ending.started_by is not Side.PEER:
        return "we sent close_notify, the peer answered"
    queued = (event.at for event in ending.events if event.kind is EventKind.CLOSE_NOTIFY_QUEUED)
    if ending.started_by is Side.PEER or next(queued, received) >= received:
        return "the peer sent close_notify, we answered"
    return "both sent close_notify"


def _unanswered(ending: Ending) -> str:
    if ending.inbound is Inbound.OPEN:
        if ending.cap_hit:
            return "we sent close_notify, the peer kept on sending"
        silent = "stayed silent" if not ending.discarded else "did not answer"
        return f"we sent close_notify, the peer {silent}"
    where = " inside a record" if ending.inbound is Inbound.TRUNCATED_INSIDE_RECORD else ""
    return f"we sent close_notify, the peer left with a bare FIN{where}"


def _truncated(ending: Ending) -> str:
    where = "inside" if ending.inbound is Inbound.TRUNCATED_INSIDE_RECORD else "at"
    of = "a record" if where == "inside" else "a record boundary"
    return f"the peer's FIN came {where} {of}, without close_notify"


def _reset(ending: Ending) -> str:
    after = " after our close_notify, before its own" if ending.close_notify_sent_at is not None else ""
    if ending.close_notify_received_at is not None:
        after = " after its close_notify, before ours was sent"
    return f"{_broken_off(ending)}{after}"


def _broken_off(ending: Ending) -> str:
    for event in ending.events:
        if event.kind is EventKind.CONNECTION_LOST:
            return f"the connection was lost ({event.detail})"
    return "the peer reset the connection"


def _alert(ending: Ending) -> str:
    if ending.alert is None:
        answered = ", we answered with a fatal alert" if ending.outbound is Outbound.FATAL_ALERT else ""
        return f"the peer broke the TLS protocol{answered}"
    who = "the peer sent" if ending.alert.by is Side.PEER else "we sent"
    after = ""
    if ending.alert.by is Side.PEER and ending.close_notify_sent_at is not None:
        after = " after our close_notify"
    return f"{who} {ending.alert}{after}"


def _unflushed(ending: Ending) -> str:
    if ending.close_notify_sent_at is None:
        return "the peer did not read, our close_notify never left"
    if ending.close_notify_received_at is not None:
        return f"{_exchange(ending)}, and a send was cut short"
    return f"{_unanswered(ending)}, and a send was cut short"


def _aborted(ending: Ending) -> str:
    if ending.outbound is Outbound.CUT:
        return "we cut it off with a FIN and no close_notify"
    return "we cut it off with RST"


def _failed_handshake(ending: Ending) -> str:
    match ending.inbound:
        case Inbound.RESET:
            return f"{_broken_off(ending)} in the handshake"
        case Inbound.FATAL_ALERT | Inbound.UNDECRYPTABLE:
            return _alert(ending)
        case Inbound.CLOSE_NOTIFY | Inbound.TRUNCATED_AT_BOUNDARY | Inbound.TRUNCATED_INSIDE_RECORD:
            return "the peer left in the handshake"
        case _:
            return "no TLS connection came of it" if ending.alert is None else _alert(ending)


_STORIES: Final = {
    How.CLEAN: _clean,
    How.UNANSWERED: _unanswered,
    How.TRUNCATED: _truncated,
    How.RESET: _reset,
    How.ALERT: _alert,
    How.UNFLUSHED: _unflushed,
    How.ABORTED: _aborted,
    How.FAILED_HANDSHAKE: _failed_handshake,
}

#: The IANA registry of TLS alerts.
ALERT_NAMES: Final = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    60: "export_restriction",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    111: "certificate_unobtainable",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    114: "bad_certificate_hash_value",
    115: "unknown_psk_identity",
    116: "certificate_required",
    117: "general_error",
    120: "no_application_protocol",
    121: "ech_required",
}
