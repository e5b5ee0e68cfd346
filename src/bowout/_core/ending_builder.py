"""The construction of a connection's `Ending` from the facts, as they become known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bowout._core.states import Halves, verdict
from bowout.ending import Alert, Ending, How, Role, Side
from bowout.errors import BowoutError, HandshakeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout._core.timeline import Timeline


class EndingBuilder:
    """Records each fact once, and builds the ending as far as it is known."""

    def __init__(self, timeline: Timeline, halves: Halves, role: Role) -> None:
        self._timeline = timeline
        self._halves = halves
        self._role = role
        self._started_by: Side | None = None
        self._failure: Callable[[], BowoutError] | None = None
        self._alert: Alert | None = None
        self._version: str | None = None
        self._cipher: str | None = None
        self._close_notify_sent_at: float | None = None
        self._close_notify_received_at: float | None = None
        self._leaving_when_cut = False
        self._lost = False
        self._loss = ""
        self._refused = ""

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def version(self) -> str | None:
        """The version of TLS; None before the handshake is done."""
        return self._version

    @property
    def started_by(self) -> Side | None:
        """The side that ended the connection first."""
        return self._started_by

    @property
    def failure(self) -> BowoutError | None:
        """A fresh copy of the first error that ended the connection, or None."""
        return self._failure() if self._failure is not None else None

    @property
    def alert(self) -> Alert | None:
        """The fatal alert that ended the connection, the first one."""
        return self._alert

    @property
    def loss(self) -> str:
        """The system's error text if the network lost the connection; otherwise ""."""
        return self._loss

    @property
    def refused(self) -> str:
        """The peer's request that we refused, in words, or ""."""
        return self._refused

    # -- the facts -----------------------------------------------------------------------------------------------

    def handshake_completed(self, version: str, cipher: str) -> None:
        """Record the result of the handshake."""
        self._version, self._cipher = version, cipher

    def ended_by(self, side: Side) -> None:
        """Record that `side` ended the connection. The first counts, unless the network lost the connection."""
        if self._started_by is None and not self._loss:
            self._started_by = side

    def failed(self, failure: Callable[[], BowoutError]) -> bool:
        """Record the function that makes the error that ended the connection; tell whether it is the first."""
        if self._failure is not None:
            return False
        self._failure = failure
        return True

    def fatal_alert(self, alert: Alert) -> None:
        """Record a fatal alert. The first counts."""
        self._alert = self._alert or alert

    def close_notify_sent(self, at: float) -> None:
        """Record when the kernel took our close_notify, in seconds since the beginning."""
        self._close_notify_sent_at = at

    def close_notify_received(self, at: float) -> None:
        """Record when the peer's close_notify was read, in seconds since the beginning."""
        self._close_notify_received_at = at

    def cut(self, *, leaving: bool) -> None:
        """Record that the peer's FIN came without close_notify; `leaving`: we were already ending the connection."""
        self._leaving_when_cut = leaving

    def lost(self, loss: str) -> None:
        """Record that the connection is lost; `loss`: the system's error text if it was not a reset by the peer."""
        self._lost, self._loss = True, loss

    def renegotiation_refused(self) -> None:
        """Record that the peer wanted to renegotiate: that may be the reason if it then ends the connection badly."""
        self._refused = "the peer had asked to renegotiate, which we refuse"

    # -- the ending ----------------------------------------------------------------------------------------------

    def verdict(self, *, unsent: bool) -> How:
        """Return the verdict that the ending would have if it ended now; `unsent`: not everything was sent."""
        return verdict(
            self._halves,
            handshake_completed=self._version is not None,
            leaving_when_cut=self._leaving_when_cut,
            unsent=unsent,
        )

    def build(
        self,
        *,
        sent_in_part: int = 0,
        unsent: int = 0,
        message_cut: bool = False,
        unacknowledged: int | None = None,
        discarded: int = 0,
        ignored: int = 0,
        peer: str = "",
        began: float = 0.0,
        reason: str = "",
        deadline_hit: bool = False,
        cap_hit: bool = False,
        unwrapped: bool = False,
    ) -> Ending:
        """Build the ending as far as it is known; this may be called before the end, too.

        The arguments are attributes of `Ending`, except for ``sent_in_part``, the number of plaintext bytes that were
        sent of a chunk that was sent only in part, and ``message_cut``: only a part of a message was sent, although no
        send was interrupted.
        """
        failure, how = self.failure, self.verdict(unsent=message_cut or unsent > 0)
        if not reason and isinstance(failure, HandshakeError):
            reason = str(failure)
        if not reason and self._peer_gave_up(how):
            reason = self._refused
        timeline = self._timeline
        timeline.settle()
        return Ending(
            how=how,
            started_by=self._started_by,
            outbound=self._halves.outbound,
            inbound=self._halves.inbound,
            close_notify_sent_at=self._close_notify_sent_at,
            close_notify_received_at=self._close_notify_received_at,
            alert=self._alert,
            unsent=unsent,
            unacknowledged=unacknowledged,
            discarded=discarded,
            ignored=ignored,
            late_reset=how is How.CLEAN and self._lost and not self._loss,
            deadline_hit=deadline_hit,
            cap_hit=cap_hit,
            unwrapped=unwrapped,
            reason=reason,
            sent=timeline.sent + sent_in_part,
            received=timeline.received,
            duration=timeline.now(),
            began=began,
            role=self._role,
            peer=peer,
            tls_version=self._version,
            cipher=self._cipher,
            events=timeline.snapshot(),  # type: ignore[arg-type]  # `Ending.events` calls it.
            omitted=timeline.omitted,
            omitted_after=timeline.omitted_after,
        )

    def _peer_gave_up(self, how: How) -> bool:
        """Tell whether the peer chose to end the connection badly: what we refused may be the reason."""
        if how is How.ALERT:
            return self._alert is not None and self._alert.by is Side.PEER
        return how in {How.TRUNCATED, How.RESET} and not self._loss
