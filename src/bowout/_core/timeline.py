"""The timeline of a connection: every event in order, and bounded for any duration of the connection."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from bowout.ending import Alert, Event, EventKind, Side

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST: Final = 24
_LAST: Final = 40
#: Maximum number of runs of data between two other events; more are folded into one two-way exchange.
_RUNS: Final = 6

Observer = "Callable[[Event], None]"
Counts = tuple[int, int, int, float, float, bool]
"""Application data in one direction, as the lane counts them: bytes sent, bytes received, how often, how many seconds
ago the first and the last of them passed, and whether the last were sent."""


class _Record(NamedTuple):
    """The attributes of an `Event`, in its order. A record costs a third of an event, which few ask for."""

    kind: EventKind
    by: Side
    at: float
    detail: str
    sent: int
    received: int
    times: int
    until: float
    alert: Alert | None


class Timeline:
    """Records events, folds runs of data together, and passes each event to an observer as it happens.

    Args:
        clock: returns the time in seconds, monotonic; only differences matter.
        observer: called with every event, and with each read and write, before anything is folded.
    """

    def __init__(self, clock: Callable[[], float], observer: Callable[[Event], None] | None = None) -> None:
        self._clock = clock
        self._began = clock()
        self.observe(observer)
        self._counts: Callable[[], list[Counts]] | None = None
        self._first: list[_Record] = []
        self._last: list[_Record] = []
        #: Number of events that were dropped between the first and the last.
        self.omitted: int = 0
        self._run: _Run | None = None
        self._runs = 0
        self.sent: int = 0
        self.received: int = 0
        #: In seconds by the clock, not since the beginning.
        self.last_data_at: float = self._began
        #: Nothing was received since our last send.
        self.quiet: bool = True

    @property
    def omitted_after(self) -> int:
        """The number of events before the dropped ones."""
        return len(self._first)

    def now(self) -> float:
        """Return the seconds since the connection began."""
        return self._clock() - self._began

    def observe(self, observer: Callable[[Event], None] | None) -> None:
        """Call `observer` with each event from now on."""
        self._observer = observer
        #: There is an observer, which also gets what is not kept.
        self.observed: bool = observer is not None

    def count_by(self, counts: Callable[[], list[Counts]] | None) -> None:
        """Get what `counts` returns, from now on, before anything else is recorded; None: data are told to `data`."""
        self.settle()
        self._counts = counts

    def settle(self) -> None:
        """Add the data that the lane has counted: call it before you read an attribute."""
        if self._counts is None or not (counts := self._counts()):
            return
        now = self._clock()
        for sent, received, count, began, until, sent_last in counts:
            self.sent += sent
            self.received += received
            self.last_data_at = now - until
            self.quiet = sent_last
            run = self._run
            continues = run is not None and (run.exchange or (sent > 0) == (run.sent > 0))
            if run is None or not continues or (sent and received and not run.exchange):
                run = self._next_run(now - began - self._began)
            run.sent += sent
            run.received += received
            run.count += count
            run.until = self.last_data_at - self._began

    def record(self, kind: EventKind, by: Side, detail: str = "", *, alert: Alert | None = None) -> float:
        """Add an event at the current time; return that time."""
        if self._counts is not None:
            self.settle()
        at = self._clock() - self._began
        if self._run is not None:
            self._end_run(self._run)
        self._runs = 0
        record = _Record(kind, by, at, detail, 0, 0, 1, at, alert)
        self._add(record)
        if self._observer:
            self._observer(Event(*record))
        return at

    def mention(self, kind: EventKind, by: Side, detail: str) -> None:
        """Pass an event to the observer that is too small to keep."""
        if self._observer:
            self._observer(Event(kind, by, self.now(), detail))

    def data(self, *, sent: int = 0, received: int = 0) -> None:
        """Count application bytes, and add them to the current run of data."""
        if self._counts is not None:
            self.settle()
        self.last_data_at = now = self._clock()
        at = now - self._began
        self.sent += sent
        self.received += received
        self.quiet = sent > 0
        run = self._run
        if run is None or not (run.exchange or (sent > 0) == (run.sent > 0)):
            run = self._next_run(at)
        run.sent += sent
        run.received += received
        run.count += 1
        run.until = at
        if self._observer:
            by = Side.WE if sent else Side.PEER
            self._observer(Event(EventKind.DATA, by, at, sent=sent, received=received, until=at))

    def more_data(self, received: int) -> None:
        """Count application bytes that came at the same time as the last: the clock is not read for them."""
        run = self._run
        if run is None or self.quiet or self._observer:
            self.data(received=received)
            return
        self.received += received
        run.received += received
        run.count += 1

    def events(self) -> tuple[Event, ...]:
        """Return the timeline so far."""
        return self.snapshot()()

    def snapshot(self) -> Callable[[], tuple[Event, ...]]:
        """Return a function that returns the timeline so far, whatever is recorded later."""
        self.settle()
        tail = () if self._run is None else (self._run.record(),)
        return partial(_events_of, (*self._first, *self._last, *tail))

    def _next_run(self, at: float) -> _Run:
        if self._run is not None:
            self._end_run(self._run)
        self._runs += 1
        self._run = _Run(at, exchange=self._runs > _RUNS)
        return self._run

    def _end_run(self, run: _Run) -> None:
        self._add(run.record())
        self._run = None

    def _add(self, record: _Record) -> None:
        kept = self._last or self._first
        if kept and kept[-1].kind is record.kind and _same(kept[-1], record):
            kept[-1] = _again(kept[-1], record.at)
        elif len(self._first) < _FIRST:
            self._first.append(record)
        else:
            if len(self._last) == _LAST:
                del self._last[0]
                self.omitted += 1
            self._last.append(record)


class _Run:
    """A run of data that still grows."""

    __slots__ = ("at", "count", "exchange", "received", "sent", "until")

    def __init__(self, at: float, *, exchange: bool) -> None:
        self.at = self.until = at
        self.exchange = exchange
        self.sent = self.received = self.count = 0

    def record(self) -> _Record:
        by = Side.WE if self.sent else Side.PEER
        return _Record(EventKind.DATA, by, self.at, "", self.sent, self.received, self.count, self.until, None)


def _events_of(records: tuple[_Record, ...]) -> tuple[Event, ...]:
    return tuple(Event(*record) for record in records)


def _same(a: _Record, b: _Record) -> bool:
    """Tell whether `a` and `b`, of one kind, are the same, so that many in a row become one event with a count."""
    return a.kind is not EventKind.DATA and (a.by, a.detail, a.alert) == (b.by, b.detail, b.alert)


def _again(record: _Record, at: float) -> _Record:
    """Return `record` with its repetition at the time `at` counted."""
    kind, by, first, detail, sent, received, times, _, alert = record
    return _Record(kind, by, first, detail, sent, received, times + 1, at, alert)
