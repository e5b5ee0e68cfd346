"""From an `Ending` to the rows of its picture, the same for every medium."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bowout._summary import what_goes_on
from bowout._text import clip, clock, escape, size, step
from bowout.ending import Ending, Event, EventKind, How, Inbound, Outbound, Role, Side
from bowout.ladder._rows import Arrow, Band, Break, Exchange, Fate, Ladder, Note, Party, Row, Tone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

#: Maximum length of a peer's text, in columns: no peer may fill the page.
_DETAIL_ROOM: Final = 240
_VERDICT_ROOM: Final = 600
_NAME_ROOM: Final = 120
#: Duration, in seconds, from which a wait is shown as an event of its own.
_LONG_WAIT: Final = 1.0
#: Duration of a connection, in seconds, from which times are shown in whole seconds.
_LONG_LIFE: Final = 100.0
#: Duration, in seconds, below which a run of data does not show its duration.
_LONG_RUN: Final = 0.0005


def lay_out(ending: Ending) -> Ladder:
    """Convert an ending to rows; all text in them is escaped and of limited length."""
    how, _, story = _said(str(ending), _VERDICT_ROOM).partition(": ")
    their_role = Role.SERVER if ending.role is Role.CLIENT else Role.CLIENT
    return Ladder(
        we=Party("we", ending.role.value, ending.started_by is Side.WE),
        peer=Party(_said(ending.peer, _NAME_ROOM) or "peer", their_role.value, ending.started_by is Side.PEER),
        rows=tuple(_rows(ending)),
        how=how,
        story=story,
        facts=tuple(_facts(ending)),
        tone={How.CLEAN: Tone.GOOD, How.UNANSWERED: Tone.WARN}.get(ending.how, Tone.BAD),
    )


def _said(text: str, room: int = _DETAIL_ROOM) -> str:
    # Marks without a width of their own can be many in few columns.
    return clip(escape(text), room)[: 4 * room]


def _facts(ending: Ending) -> Iterator[str]:
    if ending.tls_version:
        yield _said(ending.tls_version)
    if ending.sent or ending.received:
        yield f"{size(ending.sent)} sent"
        yield f"{size(ending.received)} received"
    if ending.duration:
        yield f"{clock(ending.duration)}"


def _rows(ending: Ending) -> Iterator[Row]:
    events = ending.events
    missing = _missing(ending)
    break_at = min(max(ending.omitted_after, 0), len(events)) if ending.omitted else None
    before, last = 0.0, events[0].at if events else 0.0
    for index, event in enumerate(events):
        if index == break_at:
            yield _omission(ending)
            before = 0.0
        elif event.at - last >= _LONG_WAIT:
            yield Break(f"{_wait(event.at - last)} later")
        last = max(event.at, event.until)
        yield from (row for place, row in missing if place == index)
        if not _is_superseded(ending, event):
            yield _row(_Moment(ending, index, _when(event.at, before)))
            before = event.at
    if break_at == len(events):
        yield _omission(ending)
    yield from (row for place, row in missing if place == len(events))


def _when(at: float, before: float) -> str:
    """Format a time; late in a long connection, as the time since the line above."""
    return step(at - before) if before >= _LONG_LIFE and 0 <= at - before < 1 else clock(at)


def _wait(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < _LONG_LIFE else clock(seconds)


def _omission(ending: Ending) -> Break:
    return Break(f"… {ending.omitted:,} {'event' if ending.omitted == 1 else 'events'} more …")


# What is missing


def _missing(ending: Ending) -> list[tuple[int, Row]]:
    """Return what a side had to send and never sent, each with the index of the event before which it was due."""
    if ending.how is How.FAILED_HANDSHAKE:
        if any(event.kind is EventKind.HANDSHAKE_DONE for event in ending.events):
            return []
        return [(_first(ending, _ENDS_HANDSHAKE), Band("", "handshake never done", missing=True))]
    return [
        (_due(ending, side), Arrow("", side, "no close_notify", "", _blame(ending), Fate.MISSING))
        for side in Side
        if _owes(ending, side)
    ]


_ENDS_HANDSHAKE: Final = frozenset(EventKind) - {
    EventKind.CONNECTED,
    EventKind.HANDSHAKE_MESSAGE,
    EventKind.TICKET,
    EventKind.DATA,
}
_GIVES_UP: Final = frozenset({EventKind.DEADLINE, EventKind.CAP, EventKind.CONNECTION_LOST})


def _owes(ending: Ending, side: Side) -> bool:
    if _sent_close_notify(ending, side):
        return False
    if side is Side.PEER:
        return ending.how in {How.UNANSWERED, How.TRUNCATED, How.RESET} or (
            ending.how is How.UNFLUSHED and _sent_close_notify(ending, Side.WE)
        )
    queued = any(event.kind is EventKind.CLOSE_NOTIFY_QUEUED and event.by is Side.WE for event in ending.events)
    return ending.how in {How.ABORTED, How.UNFLUSHED} and not queued


def _sent_close_notify(ending: Ending, side: Side) -> bool:
    if any(event.kind is EventKind.CLOSE_NOTIFY and event.by is side for event in ending.events):
        return True
    if side is Side.WE:
        sent = ending.outbound in {Outbound.CLOSE_NOTIFY_SENT, Outbound.FIN_SENT}
        return sent or ending.close_notify_sent_at is not None
    return ending.inbound is Inbound.CLOSE_NOTIFY or ending.close_notify_received_at is not None


def _due(ending: Ending, side: Side) -> int:
    """Return the index: before the side's FIN or RST, else when we gave up waiting for it, else at the end."""
    ended = _first(ending, frozenset({EventKind.FIN, EventKind.RST}), side)
    if ended < len(ending.events):
        return ended
    gave_up = _first(ending, _GIVES_UP)
    return gave_up if gave_up < len(ending.events) else _first(ending, frozenset({EventKind.RELEASED}))


def _first(ending: Ending, kinds: frozenset[EventKind], side: Side | None = None) -> int:
    places = (i for i, event in enumerate(ending.events) if event.kind in kinds and side in {None, event.by})
    return next(places, len(ending.events))


def _blame(ending: Ending) -> Tone:
    return Tone.WARN if ending.how is How.UNANSWERED else Tone.BAD


# What happened


@dataclass(frozen=True, slots=True)
class _Moment:
    """An event at its position in the timeline, with the texts to show."""

    ending: Ending
    index: int
    when: str

    @property
    def event(self) -> Event:
        return self.ending.events[self.index]

    @property
    def by(self) -> Side:
        return self.event.by

    @property
    def detail(self) -> str:
        return _said(self.event.detail)

    def counted(self, label: str) -> str:
        """Return the label, with the number of repetitions."""
        count = self.event.count
        return f"{label} \N{MULTIPLICATION SIGN}{count:,}" if count > 1 else label


def _is_superseded(ending: Ending, event: Event) -> bool:
    """Tell whether the event is not drawn: a close_notify that was sent is drawn at that time, not when queued."""
    return event.kind is EventKind.CLOSE_NOTIFY_QUEUED and _sent_close_notify(ending, event.by)


def _row(moment: _Moment) -> Row:
    return _DRAWN.get(moment.event.kind, _warning)(moment)


def _connected(moment: _Moment) -> Row:
    # The peer's address is in the header.
    detail = "" if moment.event.detail == moment.ending.peer else moment.detail
    return Band(moment.when, "TCP connected", detail)


def _handshake_done(moment: _Moment) -> Row:
    suite = (_said(part) for part in (moment.ending.tls_version, moment.ending.cipher) if part)
    return Band(moment.when, "handshake done", moment.detail or " ".join(suite))


def _aside(label: str) -> Callable[[_Moment], Row]:
    return lambda moment: Arrow(moment.when, moment.by, moment.counted(label), moment.detail, Tone.DIM)


def _data(moment: _Moment) -> Row:
    event = moment.event
    if event.sent and event.received:
        run = _run(moment, "reads and writes")
        return Exchange(moment.when, size(event.sent), size(event.received), run)
    by = Side.WE if event.sent else Side.PEER if event.received else event.by
    run = _run(moment, "writes" if by is Side.WE else "reads")
    return Arrow(moment.when, by, f"data, {size(event.sent or event.received)}", run, Tone.DATA)


def _run(moment: _Moment, unit: str) -> str:
    event = moment.event
    if event.count <= 1:
        return moment.detail
    took = event.until - event.at
    words = f"{event.count:,} {unit}" + (f" in {clock(took)}" if took >= _LONG_RUN else "")
    return _joined(words, moment.detail)


def _alert(moment: _Moment) -> Row:
    alert = moment.event.alert
    warning = alert is None or alert.level == 1
    label = "alert" if alert is None else str(alert)
    return Arrow(moment.when, moment.by, moment.counted(label), moment.detail, Tone.WARN if warning else Tone.BAD)


def _close_notify(moment: _Moment) -> Row:
    return Arrow(moment.when, moment.by, moment.counted("close_notify"), moment.detail, Tone.GOOD)


def _queued(moment: _Moment) -> Row:
    unsent = moment.ending.unsent
    words = _joined("never left", f"{size(unsent)} before it unsent" if unsent else "")
    return Arrow(moment.when, Side.WE, "close_notify", words, Tone.BAD, Fate.NEVER_LEFT)


def _fin(moment: _Moment) -> Row:
    ending, detail = moment.ending, moment.detail
    if _sent_close_notify(ending, moment.by) or _fatal_before(ending, moment.index):
        return Arrow(moment.when, moment.by, moment.counted("FIN"), detail)
    if moment.by is Side.PEER and "record" not in detail:
        detail = _joined(_WHERE_CUT.get(ending.inbound, ""), detail)
    return Arrow(moment.when, moment.by, moment.counted("bare FIN"), detail, _blame(ending), Fate.TORN)


def _fatal_before(ending: Ending, index: int) -> bool:
    """Tell whether a fatal alert came before: then neither side has to send close_notify (RFC 8446 section 6.2)."""
    return any(event.alert is not None and event.alert.level != 1 for event in ending.events[:index])


_WHERE_CUT: Final = {
    Inbound.TRUNCATED_AT_BOUNDARY: "at a record boundary",
    Inbound.TRUNCATED_INSIDE_RECORD: "inside a record",
}


def _rst(moment: _Moment) -> Row:
    late = moment.ending.late_reset and moment.ending.how is How.CLEAN
    words = _joined("late, after the exchange was done" if late else "", moment.detail)
    return Arrow(moment.when, moment.by, moment.counted("RST"), words, Tone.WARN if late else Tone.BAD, Fate.CRASHED)


def _call(moment: _Moment) -> Row:
    return Note(moment.when, moment.by, moment.counted(moment.detail or "call"))


def _error(moment: _Moment) -> Row:
    return Note(moment.when, moment.by, moment.counted(moment.event.kind.value), moment.detail, Tone.BAD)


def _released(moment: _Moment) -> Row:
    label = f"TLS ended, {what_goes_on(moment.ending)} goes on" if moment.ending.unwrapped else "descriptor closed"
    return Note(moment.when, moment.by, label, moment.detail, Tone.DIM)


def _warning(moment: _Moment) -> Row:
    return Note(moment.when, moment.by, moment.counted(moment.event.kind.value), moment.detail, Tone.WARN)


_DRAWN: Final[Mapping[EventKind, Callable[[_Moment], Row]]] = {
    EventKind.CONNECTED: _connected,
    EventKind.HANDSHAKE_MESSAGE: _aside("handshake"),
    EventKind.HANDSHAKE_DONE: _handshake_done,
    EventKind.TICKET: _aside("session ticket"),
    EventKind.KEY_UPDATE: _aside("KeyUpdate"),
    EventKind.DATA: _data,
    EventKind.ALERT: _alert,
    EventKind.CLOSE_NOTIFY_QUEUED: _queued,
    EventKind.CLOSE_NOTIFY: _close_notify,
    EventKind.FIN: _fin,
    EventKind.RST: _rst,
    EventKind.CALL: _call,
    EventKind.CONNECTION_LOST: _error,
    EventKind.ERROR: _error,
    EventKind.RELEASED: _released,
}


def _joined(*words: str) -> str:
    return ", ".join(word for word in words if word)
