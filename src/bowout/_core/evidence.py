"""What is known of how a connection ends: the half-states, the alerts, the counts. The verdict is drawn from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bowout._core import messages
from bowout._core.states import Halves, verdict
from bowout.ending import Alert, Ending, EventKind, How, Inbound, Role, Side
from bowout.errors import BowoutError, HandshakeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout._core.states import Signal
    from bowout._core.timeline import Timeline

_CLOSE_NOTIFY: Final = 0
_USER_CANCELED: Final = 90
_NO_RENEGOTIATION: Final = 100
_FATAL: Final = 2
_ALERT_SIZE: Final = 2
#: Messages after the handshake, which an ending tells of.
_KEPT: Final = {messages.NEW_SESSION_TICKET: EventKind.TICKET, messages.KEY_UPDATE: EventKind.KEY_UPDATE}


class Evidence:
    """Collects what happens to one connection, in the timeline and beside it.

    Attributes:
        timeline: every event in order.
        halves: the two half-states; `apply` moves them.
        version, cipher: as the handshake agreed, or None before it.
        failed: there is a failure.
        close_notify_seen: OpenSSL has met the peer's close_notify.
        alert: the fatal alert that ended the connection, the first one.
        leaving: somebody here has called a verb that ends the connection in both directions.
        input_ended: how the transport's input ended, if it has.
        output_shut: close_notify was made; whatever OpenSSL makes after it will not be sent.
        connection_lost: there is no connection any more, though we may first have met that in a failed send.
        refused: what the peer asked for and we refused, in words: a renegotiation, in TLS 1.2; else "".
        loss: the system's words, where no RST of the peer took it away: the network gave up.
    """

    def __init__(self, timeline: Timeline, role: Role) -> None:
        self.timeline = timeline
        self._role = role
        self.halves = Halves()
        self._failure: Callable[[], BowoutError] | None = None
        self._started_by: Side | None = None
        self._close_notify_level = 1
        self.failed = False
        self.close_notify_seen = False
        self._leaving_when_cut = False
        self._sent_at: float | None = None
        self._received_at: float | None = None
        self.version: str | None = None
        self.cipher: str | None = None
        self.alert: Alert | None = None
        self.leaving = False
        self.input_ended: Signal | None = None
        self.output_shut = False
        self.connection_lost = False
        self.loss = ""
        self.refused = ""

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def failure(self) -> BowoutError | None:
        """A fresh copy of the first error that ended the connection, or None."""
        return self._failure() if self._failure is not None else None

    def make_failure(self) -> BowoutError:
        """A fresh copy of the failure that there is."""
        assert self._failure is not None, "asked for only where `failed` says so"
        return self._failure()

    @property
    def tls12(self) -> bool:
        """The handshake agreed on TLS 1.2, or an older one."""
        return self.version is not None and self.version != "TLSv1.3"

    @property
    def answering(self) -> bool:
        """The peer ended first, in a version in which that ends both directions."""
        return self.tls12 and self.halves.inbound is Inbound.CLOSE_NOTIFY and self._started_by is Side.PEER

    def verdict(self, *, unsent: bool) -> How:
        """What this ending would be called if it ended now; `unsent`: not all that was to be sent left."""
        return verdict(
            self.halves,
            shook_hands=self.version is not None,
            leaving_when_cut=self._leaving_when_cut,
            unsent=unsent,
        )

    # -- what happens --------------------------------------------------------------------------------------------

    def apply(self, signal: Signal, *, answered: bool = True) -> None:
        """Move the half-states."""
        self.halves.apply(signal, tls12=self.tls12, answered=answered)

    def blame(self, side: Side) -> None:
        """Take note of who ended the connection first: nobody did where the network gave it up."""
        if self._started_by is None and not self.loss:
            self._started_by = side

    def fail(self, failure: Callable[[], BowoutError]) -> None:
        """Latch the first failure: OpenSSL mislabels whatever it says after it."""
        if self._failure is None:
            self._failure = failure
            self.failed = True
            error = failure()
            self.timeline.record(EventKind.ERROR, Side.WE, f"{type(error).__name__}: {error}")

    def call(self, verb: str, *, leaving: bool) -> None:
        """Take note that somebody here called a verb that ends the connection."""
        self.leaving = self.leaving or leaving
        self.blame(Side.WE)
        self.timeline.record(EventKind.CALL, Side.WE, verb)

    def shook_hands(self, version: str, cipher: str) -> None:
        """Take note that the handshake is done."""
        self.version, self.cipher = version, cipher
        self.timeline.record(EventKind.HANDSHAKE_DONE, Side.WE, f"{version} {cipher}".rstrip())

    def sent_close_notify(self) -> None:
        """Take note that the kernel has our close_notify."""
        self._sent_at = self.timeline.record(EventKind.CLOSE_NOTIFY, Side.WE)

    def received_close_notify(self) -> None:
        """Take note of the peer's close_notify."""
        detail = "at level fatal" if self._close_notify_level == _FATAL else ""
        self._received_at = self.timeline.record(EventKind.CLOSE_NOTIFY, Side.PEER, detail)
        self.blame(Side.PEER)

    def lose(self, loss: str) -> None:
        """Take note that there is no connection any more; `loss` is "" where a reset of the peer took it away."""
        if not self.connection_lost:
            self.connection_lost, self.loss = True, loss
            if loss:
                self.timeline.record(EventKind.CONNECTION_LOST, Side.WE, loss)

    def broken_off(self, when: str) -> str:
        """Say in words who broke the connection off."""
        return f"the connection was lost {when}: {self.loss}" if self.loss else f"the peer reset the connection {when}"

    def cut(self, signal: Signal) -> None:
        """Take note that the peer's FIN has cut its direction off."""
        self._leaving_when_cut = self.leaving
        self.apply(signal)

    # -- messages, from the hook ---------------------------------------------------------------------------------

    def on_message(self, *, outgoing: bool, content_type: int, data: bytes) -> None:
        """Take a handshake message or an alert as OpenSSL reports it."""
        if content_type == messages.HANDSHAKE:
            # A handshake has many that nobody asked for.
            if data and (data[0] in _KEPT or self.timeline.observed):
                self._on_handshake_message(Side.WE if outgoing else Side.PEER, data[0])
        elif content_type == messages.ALERT and len(data) == _ALERT_SIZE:
            self._on_alert(Alert(code=data[1], level=data[0], by=Side.WE if outgoing else Side.PEER))

    def _on_handshake_message(self, by: Side, message: int) -> None:
        kind = _KEPT.get(message)
        if kind is not None:
            self.timeline.record(kind, by)
        else:
            name = messages.HANDSHAKE_NAMES.get(message, f"message {message}")
            self.timeline.mention(EventKind.HANDSHAKE_MESSAGE, by, name)

    def _on_alert(self, alert: Alert) -> None:
        if alert.code == _CLOSE_NOTIFY and not self._is_fatal(alert):
            if alert.by is Side.PEER:
                self._close_notify_level = alert.level
                self.close_notify_seen = True
            return
        if alert.code == _NO_RENEGOTIATION and alert.by is Side.WE:
            self.refused = "the peer had asked to renegotiate, which we refuse"
        self.timeline.record(EventKind.ALERT, alert.by, alert=alert)
        if self._is_fatal(alert) and self.alert is None:
            self.alert = alert
            self.blame(alert.by)

    def _is_fatal(self, alert: Alert) -> bool:
        """In TLS 1.3 every alert but two is fatal, whatever level it says (RFC 8446 section 6)."""
        if self.version is not None and not self.tls12:
            return alert.code not in {_CLOSE_NOTIFY, _USER_CANCELED}
        return alert.level == _FATAL

    def _peer_gave_up(self, how: How) -> bool:
        """The peer decided to end it badly: what we refused may be why."""
        if how is How.ALERT:
            return self.alert is not None and self.alert.by is Side.PEER
        return how in {How.TRUNCATED, How.RESET} and not self.loss

    # -- the ending ----------------------------------------------------------------------------------------------

    def draw_up(
        self,
        *,
        sent_in_part: int,
        unsent: int,
        message_cut: bool,
        unacknowledged: int | None,
        discarded: int,
        ignored: int,
        peer: str,
        began: float,
        reason: str,
        deadline_hit: bool,
        cap_hit: bool,
        unwrapped: bool,
    ) -> Ending:
        """Draw up the `Ending`, as far as it is known; `sent_in_part` had left of a chunk that did not leave whole."""
        failure, how = self.failure, self.verdict(unsent=message_cut or unsent > 0)
        if not reason and isinstance(failure, HandshakeError):
            reason = str(failure)
        if not reason and self._peer_gave_up(how):
            reason = self.refused
        return Ending(
            how=how,
            started_by=self._started_by,
            outbound=self.halves.outbound,
            inbound=self.halves.inbound,
            close_notify_sent_at=self._sent_at,
            close_notify_received_at=self._received_at,
            alert=self.alert,
            unsent=unsent,
            unacknowledged=unacknowledged,
            discarded=discarded,
            ignored=ignored,
            late_reset=how is How.CLEAN and self.connection_lost and not self.loss,
            deadline_hit=deadline_hit,
            cap_hit=cap_hit,
            unwrapped=unwrapped,
            reason=reason,
            sent=self.timeline.sent + sent_in_part,
            received=self.timeline.received,
            duration=self.timeline.now(),
            began=began,
            role=self._role,
            peer=peer,
            tls_version=self.version,
            cipher=self.cipher,
            events=self.timeline.events(),
            omitted=self.timeline.omitted,
            omitted_after=self.timeline.omitted_after,
        )
