"""An ending in one line of words."""

from __future__ import annotations

import re
from typing import Final

from bowout.ending import Ending, EventKind, How, Inbound, Outbound, Side

#: Sequence numbers that a FIN takes (RFC 9293 section 3.4), in bytes.
_FIN_SIZE: Final = 1

#: The detail of the event that ends a connection which goes on without TLS.
_GOES_ON: Final = re.compile(r"the (.+) goes on")

#: What tells who sent close_notify first.
_EXCHANGE: Final = frozenset({EventKind.CLOSE_NOTIFY_QUEUED, EventKind.CLOSE_NOTIFY})


def summarize(ending: Ending) -> str:
    """Say how the connection ended: the verdict, what led to it, and what was lost or ignored."""
    return f"{ending.how.value}: {', '.join(_clauses(ending))}"


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
        return f"both sent close_notify, and the {what_goes_on(ending)} goes on in plain"
    return _exchange(ending)


def what_goes_on(ending: Ending) -> str:
    """Name what carried TLS and goes on without it: the TCP connection, or a stream of another kind."""
    details = [event.detail for event in ending.events if event.kind is EventKind.RELEASED]
    found = _GOES_ON.fullmatch(details[-1]) if details else None
    return found[1] if found else "TCP connection"


def _exchange(ending: Ending) -> str:
    """Say who sent close_notify first. An answer is what was queued after the other's had come."""
    steps = [event for event in ending.events if event.kind in _EXCHANGE]
    theirs = next((i for i, event in enumerate(steps) if event.by is Side.PEER), None)
    if theirs is None:  # The timeline does not tell.
        before = frozenset() if ending.started_by is Side.PEER else _EXCHANGE
    else:
        before = frozenset(event.kind for event in steps[:theirs])
    if EventKind.CLOSE_NOTIFY in before:
        return "we sent close_notify, the peer answered"
    return "both sent close_notify" if before else "the peer sent close_notify, we answered"


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
