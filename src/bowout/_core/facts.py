"""The state that both directions of a connection share: the half-states, the transport's end, the first failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bowout._core.ending_builder import EndingBuilder
from bowout._core.states import Halves
from bowout._tls_numbers import (
    ALERT,
    CLOSE_NOTIFY,
    FATAL,
    HANDSHAKE,
    HANDSHAKE_NAMES,
    KEY_UPDATE,
    NEW_SESSION_TICKET,
    NO_RENEGOTIATION,
    TLS13_NAME,
    WARNING,
    is_fatal,
)
from bowout.ending import Alert, EventKind, Inbound, Side

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout._core.states import Signal
    from bowout._core.timeline import Timeline
    from bowout.ending import Role
    from bowout.errors import BowoutError

_ALERT_SIZE: Final = 2
#: Messages after the handshake that an ending reports.
_KEPT: Final = {NEW_SESSION_TICKET: EventKind.TICKET, KEY_UPDATE: EventKind.KEY_UPDATE}


class Facts:
    """Records what happens: in the timeline, for the ending, and for the decisions that depend on it.

    Attributes:
        timeline: every event in order.
        halves: the two half-states; `apply` moves them.
        ending: builds the ending.
        failed: whether there is a failure.
        tls12: whether the handshake agreed on TLS 1.2, or an older version.
        leaving: whether the application has called a verb that ends both directions.
        input_ended: how the transport's input ended, if it has.
        connection_lost: whether the connection is lost, even if only a failed send has shown it.
        close_notify_seen: whether OpenSSL has read the peer's close_notify.
    """

    __slots__ = (
        "_close_notify_level",
        "close_notify_seen",
        "connection_lost",
        "ending",
        "failed",
        "halves",
        "input_ended",
        "leaving",
        "timeline",
        "tls12",
    )

    def __init__(self, timeline: Timeline, role: Role) -> None:
        self.timeline: Timeline = timeline
        self.halves: Halves = Halves()
        self.ending: EndingBuilder = EndingBuilder(timeline, self.halves, role)
        self.failed: bool = False
        self.tls12: bool = False
        self.leaving: bool = False
        self.input_ended: Signal | None = None
        self.connection_lost: bool = False
        self.close_notify_seen: bool = False
        self._close_notify_level = WARNING

    # -- what is known -------------------------------------------------------------------------------------------

    def make_failure(self) -> BowoutError:
        """Make a fresh copy of the failure."""
        failure = self.ending.failure
        assert failure is not None, "asked for only where `failed` says so"
        return failure

    @property
    def answering(self) -> bool:
        """Whether the peer ended first, in a version in which that ends both directions."""
        return self.tls12 and self.halves.inbound is Inbound.CLOSE_NOTIFY and self.ending.started_by is Side.PEER

    def broken_off(self, when: str) -> str:
        """Return words for the side that broke the connection off."""
        loss = self.ending.loss
        return f"the connection was lost {when}: {loss}" if loss else f"the peer reset the connection {when}"

    # -- what happens --------------------------------------------------------------------------------------------

    def apply(self, signal: Signal, *, answered: bool = True) -> None:
        """Move the half-states."""
        self.halves.apply(signal, tls12=self.tls12, answered=answered)

    def fail(self, failure: Callable[[], BowoutError]) -> None:
        """Record the first failure; OpenSSL reports wrong errors after it."""
        if self.ending.failed(failure):
            self.failed = True
            error = failure()
            self.timeline.record(EventKind.ERROR, Side.WE, f"{type(error).__name__}: {error}")

    def record_call(self, verb: str, *, leaving: bool) -> None:
        """Record that the application called `verb`, which ends our direction, or both if `leaving`."""
        self.leaving = self.leaving or leaving
        self.ending.ended_by(Side.WE)
        self.timeline.record(EventKind.CALL, Side.WE, verb)

    def complete_handshake(self, version: str, cipher: str) -> None:
        """Record the result of the handshake."""
        self.tls12 = version != TLS13_NAME
        self.ending.handshake_completed(version, cipher)
        self.timeline.record(EventKind.HANDSHAKE_DONE, Side.WE, f"{version} {cipher}".rstrip())

    def send_close_notify(self) -> None:
        """Record that the kernel has our close_notify."""
        self.ending.close_notify_sent(self.timeline.record(EventKind.CLOSE_NOTIFY, Side.WE))

    def receive_close_notify(self) -> None:
        """Record the peer's close_notify."""
        detail = "at level fatal" if self._close_notify_level == FATAL else ""
        self.ending.close_notify_received(self.timeline.record(EventKind.CLOSE_NOTIFY, Side.PEER, detail))
        self.ending.ended_by(Side.PEER)

    def lose(self, loss: str) -> None:
        """Record that the connection is lost; `loss` is "" if the peer reset it."""
        if not self.connection_lost:
            self.connection_lost = True
            self.ending.lost(loss)
            if loss:
                self.timeline.record(EventKind.CONNECTION_LOST, Side.WE, loss)

    def cut(self, signal: Signal) -> None:
        """Record that the peer's FIN has truncated its direction."""
        self.ending.cut(leaving=self.leaving)
        self.apply(signal)

    # -- messages, from the hook ---------------------------------------------------------------------------------

    def on_message(self, *, outgoing: bool, content_type: int, data: bytes) -> None:
        """Record a handshake message or an alert as OpenSSL reports it."""
        if content_type == HANDSHAKE:
            # A handshake consists of many messages; only observers see them.
            if data and (data[0] in _KEPT or self.timeline.observed):
                self._on_handshake_message(Side.WE if outgoing else Side.PEER, data[0])
        elif content_type == ALERT and len(data) == _ALERT_SIZE:
            self._on_alert(Alert(code=data[1], level=data[0], by=Side.WE if outgoing else Side.PEER))

    def _on_handshake_message(self, by: Side, message: int) -> None:
        kind = _KEPT.get(message)
        if kind is not None:
            self.timeline.record(kind, by)
        else:
            name = HANDSHAKE_NAMES.get(message, f"message {message}")
            self.timeline.mention(EventKind.HANDSHAKE_MESSAGE, by, name)

    def _on_alert(self, alert: Alert) -> None:
        fatal = is_fatal(alert.code, alert.level, self.ending.version)
        if alert.code == CLOSE_NOTIFY and not fatal:
            if alert.by is Side.PEER:
                self._close_notify_level = alert.level
                self.close_notify_seen = True
            return
        if alert.code == NO_RENEGOTIATION and alert.by is Side.WE:
            self.ending.renegotiation_refused()
        self.timeline.record(EventKind.ALERT, alert.by, alert=alert)
        if fatal and self.ending.alert is None:
            self.ending.fatal_alert(alert)
            self.ending.ended_by(alert.by)
