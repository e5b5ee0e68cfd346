"""The timeline of a connection: every event in order, and bounded for any duration of the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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


class Timeline:
    """Records events, folds runs of data together, and passes each event to an observer as it happens.

    Args:
        clock: returns the time in seconds, monotonic; only differences matter.
        observer: called with every event, and with each read and write, before anything is folded.
    """

    def __init__(self, clock: Callable[[], float], observer: Callable[[Event], None] | None = None) -> None:
        self._clock = clock
        self._began = clock()
        self._observer = observer
        self._counts: Callable[[], list[Counts]] | None = None
        self._first: list[Event] = []
        self._last: list[Event] = []
        self._omitted = 0
        self._run: _Run | None = None
        self._runs = 0
        self.sent: int = 0
        self.received: int = 0
        #: In seconds by the clock, not since the beginning.
        self.last_data_at: float = self._began
        #: Nothing was received since our last send.
        self.quiet: bool = True

    @property
    def observed(self) -> bool:
        """Whether there is an observer, which also gets what is not kept."""
        return self._observer is not None

    @property
    def omitted(self) -> int:
        """The number of events that were dropped between the first and the last."""
        return self._omitted

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
        at = self.now()
        event = Event(kind, by, at, detail, alert=alert, until=at)
        self._end_run()
        self._runs = 0
        self._add(event)
        if self._observer:
            self._observer(event)
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
        self.settle()
        tail = () if self._run is None else (self._run.event(),)
        return (*self._first, *self._last, *tail)

    def _next_run(self, at: float) -> _Run:
        self._end_run()
        self._runs += 1
        self._run = _Run(at, exchange=self._runs > _RUNS)
        return self._run

    def _end_run(self) -> None:
        if self._run is not None:
            self._add(self._run.event())
            self._run = None

    def _add(self, event: Event) -> None:
        last = self._last[-1] if self._last else self._first[-1] if self._first else None
        if last is not None and _same(last, event):
            (self._last or self._first)[-1] = _again(last, event.at)
        elif len(self._first) < _FIRST:
            self._first.append(event)
        else:
            if len(self._last) == _LAST:
                del self._last[0]
                self._omitted += 1
            self._last.append(event)


class _Run:
    """A run of data that still grows."""

    __slots__ = ("at", "count", "exchange", "received", "sent", "until")

    def __init__(self, at: float, *, exchange: bool) -> None:
        self.at = self.until = at
        self.exchange = exchange
        self.sent = self.received = self.count = 0

    def event(self) -> Event:
        by = Side.WE if self.sent else Side.PEER
        return Event(
            EventKind.DATA, by, self.at, sent=self.sent, received=self.received, count=self.count, until=self.until
        )


def _same(a: Event, b: Event) -> bool:
    """Tell whether `a` and `b` are the same, so that many of them in a row become one event with a count."""
    return a.kind is b.kind is not EventKind.DATA and (a.by, a.detail, a.alert) == (b.by, b.detail, b.alert)


def _again(event: Event, at: float) -> Event:
    """Return `event` with its repetition at the time `at` counted."""
    return Event(event.kind, event.by, event.at, event.detail, count=event.count + 1, until=at, alert=event.alert)
