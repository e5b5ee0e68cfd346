"""The two half-states of an ending, and the transition table as data.

A TLS connection has two directions, and each ends independently. The tables are the same for a client and a server:
"outbound" is what we send, "inbound" what the peer sends. A signal moves one direction; the joint rules say when the
end of one direction also ends the other. The diagrams in ``docs/reference/states.md`` are generated from these tables.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from bowout.ending import How, Inbound, Outbound

if TYPE_CHECKING:
    from collections.abc import Mapping


class Signal(enum.StrEnum):
    """What can happen to a direction."""

    HANDSHAKE_DONE = "handshake done"
    # Outbound: what we do, and what the kernel has taken.
    QUEUE_CLOSE_NOTIFY = "queue close_notify"
    CLOSE_NOTIFY_TAKEN = "kernel took close_notify"
    SEND_FIN = "send FIN"
    SEND_FATAL_ALERT = "send fatal alert"
    SEND_RST = "send RST"
    LOSE = "lose the direction"
    # Inbound: what the peer does.
    CLOSE_NOTIFY = "close_notify"
    FIN_AT_BOUNDARY = "FIN at a record boundary"
    FIN_INSIDE_RECORD = "FIN inside a record"
    RST = "RST"
    FATAL_ALERT = "fatal alert"
    BAD_RECORD = "bad record"


_ALWAYS_OUT: Final = {
    Signal.SEND_FIN: Outbound.CUT,
    Signal.SEND_RST: Outbound.RESET,
    Signal.LOSE: Outbound.LOST,
}
_BEFORE_CLOSE_NOTIFY: Final = {**_ALWAYS_OUT, Signal.SEND_FATAL_ALERT: Outbound.FATAL_ALERT}

#: Nothing follows a close_notify, not even a fatal alert. Once it was sent, no later signal changes that fact: only FIN
#: and RST still move the direction.
OUTBOUND: Final[Mapping[Outbound, Mapping[Signal, Outbound]]] = {
    Outbound.HANDSHAKE: {Signal.HANDSHAKE_DONE: Outbound.OPEN, **_BEFORE_CLOSE_NOTIFY},
    Outbound.OPEN: {Signal.QUEUE_CLOSE_NOTIFY: Outbound.CLOSE_NOTIFY_QUEUED, **_BEFORE_CLOSE_NOTIFY},
    Outbound.CLOSE_NOTIFY_QUEUED: {Signal.CLOSE_NOTIFY_TAKEN: Outbound.CLOSE_NOTIFY_SENT, **_ALWAYS_OUT},
    Outbound.CLOSE_NOTIFY_SENT: {Signal.SEND_FIN: Outbound.FIN_SENT, Signal.SEND_RST: Outbound.RESET},
    Outbound.FIN_SENT: {Signal.SEND_RST: Outbound.RESET},
    Outbound.CUT: {Signal.SEND_RST: Outbound.RESET},
    Outbound.FATAL_ALERT: {Signal.SEND_RST: Outbound.RESET},
    Outbound.RESET: {},
    Outbound.LOST: {},
}

_ALWAYS_IN: Final = {
    Signal.CLOSE_NOTIFY: Inbound.CLOSE_NOTIFY,
    Signal.FIN_AT_BOUNDARY: Inbound.TRUNCATED_AT_BOUNDARY,
    Signal.FIN_INSIDE_RECORD: Inbound.TRUNCATED_INSIDE_RECORD,
    Signal.RST: Inbound.RESET,
    Signal.FATAL_ALERT: Inbound.FATAL_ALERT,
    Signal.BAD_RECORD: Inbound.UNDECRYPTABLE,
}

#: The first end of the peer's direction is final: what comes later is an event, not a state.
INBOUND: Final[Mapping[Inbound, Mapping[Signal, Inbound]]] = {
    Inbound.HANDSHAKE: {Signal.HANDSHAKE_DONE: Inbound.OPEN, **_ALWAYS_IN},
    Inbound.OPEN: _ALWAYS_IN,
    Inbound.CLOSE_NOTIFY: {},
    Inbound.TRUNCATED_AT_BOUNDARY: {},
    Inbound.TRUNCATED_INSIDE_RECORD: {},
    Inbound.RESET: {},
    Inbound.FATAL_ALERT: {},
    Inbound.UNDECRYPTABLE: {},
}

#: When the peer's direction reaches this state, ours gets this signal too.
JOINT: Final[Mapping[Inbound, Signal]] = {
    Inbound.RESET: Signal.LOSE,
    Inbound.FATAL_ALERT: Signal.LOSE,
    Inbound.UNDECRYPTABLE: Signal.SEND_FATAL_ALERT,
}

#: RFC 5246 section 7.2.1: in TLS 1.2 the peer's close_notify must be answered at once. TLS 1.3 has no such rule.
JOINT_TLS12: Final[Mapping[Inbound, Signal]] = {**JOINT, Inbound.CLOSE_NOTIFY: Signal.QUEUE_CLOSE_NOTIFY}

#: States in which nothing more will be read.
INBOUND_ENDED: Final = frozenset(state for state, moves in INBOUND.items() if not moves)

#: States after the peer's FIN without its close_notify.
INBOUND_TRUNCATED: Final = frozenset({Inbound.TRUNCATED_AT_BOUNDARY, Inbound.TRUNCATED_INSIDE_RECORD})

#: States in which TLS carries nothing more to us, whatever may still come on TCP.
INBOUND_SAID_ALL: Final = frozenset({Inbound.CLOSE_NOTIFY, Inbound.FATAL_ALERT, Inbound.UNDECRYPTABLE})

#: States in which `send` is possible; in all others our direction has ended, or has not begun.
OUTBOUND_WRITABLE: Final = frozenset({Outbound.OPEN})


class Halves:
    """The two half-states of one connection. Only `apply` moves them.

    Attributes:
        writable, inbound_ended: membership in the sets above, computed once, since each send and each record needs it.
    """

    __slots__ = ("close_notify_sent", "inbound", "inbound_ended", "outbound", "writable")

    def __init__(self) -> None:
        self.outbound: Outbound = Outbound.HANDSHAKE
        self.inbound: Inbound = Inbound.HANDSHAKE
        self.writable: bool = False
        self.inbound_ended: bool = False
        self.close_notify_sent: bool = False

    def apply(self, signal: Signal, *, tls12: bool = False, answered: bool = True) -> None:
        """Move the directions that know `signal`, then apply the joint rule, if one fits. Late signals have no effect.

        Args:
            signal: what happened.
            tls12: whether the rules of TLS 1.2 apply.
            answered: False if OpenSSL sends no answer, as to plain text: then no joint rule applies.
        """
        self._move_outbound(signal)
        before = self.inbound
        self.inbound = INBOUND[before].get(signal, before)
        if self.inbound is not before:
            self.inbound_ended = self.inbound in INBOUND_ENDED
            joint = (JOINT_TLS12 if tls12 else JOINT).get(self.inbound)
            if joint is not None and answered:
                self._move_outbound(joint)

    def stop(self) -> None:
        """Read and write no more, whatever the states."""
        self.writable, self.inbound_ended = False, True

    def _move_outbound(self, signal: Signal) -> None:
        self.outbound = OUTBOUND[self.outbound].get(signal, self.outbound)
        self.writable = self.outbound in OUTBOUND_WRITABLE
        if signal is Signal.CLOSE_NOTIFY_TAKEN and self.outbound is Outbound.CLOSE_NOTIFY_SENT:
            self.close_notify_sent = True


def verdict(halves: Halves, *, handshake_completed: bool, leaving_when_cut: bool, unsent: bool) -> How:
    """Derive the verdict from the two facts.

    Args:
        halves: the half-states at the end.
        handshake_completed: whether the handshake was completed at any time.
        leaving_when_cut: whether the peer's FIN without close_notify came after we had begun to leave, when the
            application no longer wanted to read.
        unsent: whether bytes that `send` accepted were never sent. Our close_notify may have been sent nevertheless: in
            TLS 1.2 it has to answer the peer's at once.
    """
    if not handshake_completed:
        return How.FAILED_HANDSHAKE
    inbound, outbound = halves.inbound, halves.outbound
    if halves.close_notify_sent and inbound is Inbound.CLOSE_NOTIFY:
        # Our own RST destroys what is still in transit, possibly including our close_notify.
        if outbound is Outbound.RESET:
            return How.ABORTED
        return How.UNFLUSHED if unsent else How.CLEAN
    if inbound in {Inbound.FATAL_ALERT, Inbound.UNDECRYPTABLE} or outbound is Outbound.FATAL_ALERT:
        return How.ALERT
    # What the peer did first, and a reader was told, remains the verdict, whatever we or the network did later.
    if inbound is Inbound.RESET:
        return How.RESET
    if inbound in INBOUND_TRUNCATED and not leaving_when_cut:
        return How.TRUNCATED
    if outbound in {Outbound.RESET, Outbound.CUT}:
        return How.ABORTED
    if outbound is Outbound.LOST:
        return How.RESET
    return How.UNANSWERED if halves.close_notify_sent and not unsent else How.UNFLUSHED
