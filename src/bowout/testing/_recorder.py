"""The peer's recorder: its own actions, what it saw of the code under test, and the report of both."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from bowout._core.states import Halves, Signal, verdict
from bowout._core.timeline import Timeline
from bowout._tls_numbers import CLOSE_NOTIFY, FATAL, is_fatal
from bowout.ending import Alert, Ending, EventKind, How, Role, Side
from bowout.testing._report import PeerReport

if TYPE_CHECKING:
    from bowout.ending import Event

_ALERTS_CAP: Final = 100


class Recorder:
    """Records the events of one connection. *We* are the code under test, and *peer* is the script."""

    def __init__(self, name: str, role: Role, number: int, data_cap: int) -> None:
        self._name, self._role, self._number = name, role, number
        self._cap = data_cap
        self._timeline = Timeline(time.monotonic)
        self._halves = Halves()
        self._began = time.time()
        self._data, self._plaintext = bytearray(), bytearray()
        self._alerts: list[Alert] = []
        self._ended_by: Side | None = None
        self._fatal: Alert | None = None
        self._we_were_leaving = False
        self.connected: bool = False
        self.version: str | None = None
        self.cipher: str | None = None
        self.close_notify: int = 0
        self.fin: bool = False
        self.rst: bool = False
        self.received: int = 0
        self.after_close_notify: int = 0
        self.undecryptable: int = 0
        self.finished: bool = False
        self.error: str | None = None

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """The alerts received so far."""
        return tuple(self._alerts)

    @property
    def left(self) -> bool:
        """Whether the code under test has ended its direction of TCP, or all of it."""
        return self.fin or self.rst

    # -- both

    def connect(self, address: str) -> None:
        """Record the TCP connection to `address`."""
        self.connected = True
        by = Side.WE if self._role is Role.SERVER else Side.PEER
        self._timeline.record(EventKind.CONNECTED, by, address)

    def handshake_completed(self, version: str, cipher: str) -> None:
        """Record the end of the handshake."""
        self.version, self.cipher = version, cipher
        self._halves.apply(Signal.HANDSHAKE_DONE)
        self._timeline.record(EventKind.HANDSHAKE_DONE, Side.WE, f"{version} {cipher}")

    # -- the script

    def did(self, verb: str) -> None:
        """Record an action of the script that has no event kind of its own."""
        self._timeline.record(EventKind.CALL, Side.PEER, verb)

    def sent_data(self, count: int) -> None:
        """Record application data sent by the script."""
        self._timeline.data(received=count)

    def sent(self, kind: EventKind, detail: str = "") -> None:
        """Record a ticket or a key update sent by the script."""
        self._timeline.record(kind, Side.PEER, detail)

    def sent_alert(self, level: int, code: int, detail: str = "") -> None:
        """Record an alert sent by the script, legal or not."""
        if code == CLOSE_NOTIFY and not detail:
            self._ends(Side.PEER, Signal.CLOSE_NOTIFY)
            self._timeline.record(EventKind.CLOSE_NOTIFY, Side.PEER, "at level fatal" if level == FATAL else "")
            return
        alert = Alert(code=code, level=level, by=Side.PEER)
        if not detail and self._is_fatal(alert):
            self._fatal = self._fatal or alert
            self._ends(Side.PEER, Signal.FATAL_ALERT)
        self._timeline.record(EventKind.ALERT, Side.PEER, detail, alert=alert)

    def sent_fin(self, *, inside_record: bool) -> None:
        """Record the end of the script's direction of TCP."""
        self._we_were_leaving = self._we_were_leaving or self.close_notify > 0
        self._ends(Side.PEER, Signal.FIN_INSIDE_RECORD if inside_record else Signal.FIN_AT_BOUNDARY)
        self._timeline.record(EventKind.FIN, Side.PEER, "inside a record" if inside_record else "")

    def sent_rst(self) -> None:
        """Record the script's reset of the connection."""
        self._ends(Side.PEER, Signal.RST)
        self._timeline.record(EventKind.RST, Side.PEER)

    # -- the code under test

    def saw_record(self) -> None:
        """Record that a TLS record came, with any content."""
        self.after_close_notify += self.close_notify > 0

    def saw_data(self, data: bytes) -> None:
        """Record application data received."""
        self.received += len(data)
        self._data += data[: self._cap - len(self._data)]
        self._timeline.data(sent=len(data))

    def saw_plaintext(self, data: bytes) -> None:
        """Record plain text received after TLS."""
        self._plaintext += data[: self._cap - len(self._plaintext)]
        self._timeline.record(EventKind.DATA, Side.WE, f"{len(data):,} B in plain")

    def saw_alert(self, level: int, code: int) -> None:
        """Record an alert received."""
        alert = Alert(code=code, level=level, by=Side.WE)
        if len(self._alerts) < _ALERTS_CAP:
            self._alerts.append(alert)
        if code == CLOSE_NOTIFY:
            self.close_notify += 1
            self._ends(Side.WE, Signal.QUEUE_CLOSE_NOTIFY)
            self._halves.apply(Signal.CLOSE_NOTIFY_TAKEN)
            self._timeline.record(EventKind.CLOSE_NOTIFY, Side.WE)
            return
        if self._is_fatal(alert):
            self._fatal = self._fatal or alert
            self._ends(Side.WE, Signal.SEND_FATAL_ALERT)
        self._timeline.record(EventKind.ALERT, Side.WE, alert=alert)

    def saw(self, kind: EventKind, detail: str = "") -> None:
        """Record a ticket, a key update or another handshake message received."""
        self._timeline.record(kind, Side.WE, detail)

    def saw_fin(self) -> None:
        """Record the FIN of the code under test."""
        if not self.fin:
            self.fin = True
            self._ends(Side.WE, Signal.SEND_FIN)
            self._timeline.record(EventKind.FIN, Side.WE)

    def saw_rst(self, detail: str = "") -> None:
        """Record an RST of the code under test, or that the kernel refuses to send."""
        if not self.rst:
            self.rst = True
            self._ends(Side.WE, Signal.SEND_RST)
            self._timeline.record(EventKind.RST, Side.WE, detail)

    def saw_sealed(self, size: int) -> None:
        """Record a TLS record of a stopped handshake, encrypted with keys that are unknown here."""
        self._timeline.record(
            EventKind.HANDSHAKE_MESSAGE, Side.WE, f"{size:,} B encrypted with keys that are not known"
        )

    def saw_undecryptable(self, detail: str) -> None:
        """Record a TLS record that does not decrypt as the next one with the connection's keys."""
        self.undecryptable += 1
        self._timeline.record(EventKind.ERROR, Side.PEER, detail)

    # -- the end

    def build(self) -> PeerReport:
        """Return the report, with the facts known so far."""
        ending = self._ending()
        return PeerReport(
            name=self._name,
            role=self._role,
            number=self._number,
            connected=self.connected,
            tls_version=self.version,
            cipher=self.cipher,
            close_notify=self.close_notify,
            fin=self.fin,
            rst=self.rst,
            received=self.received,
            data=bytes(self._data),
            alerts=self.alerts,
            after_close_notify=self.after_close_notify,
            plaintext=bytes(self._plaintext),
            undecryptable=self.undecryptable,
            finished=self.finished,
            error=self.error,
            duration=ending.duration,
            ending=ending,
        )

    def _ending(self) -> Ending:
        halves, timeline = self._halves, self._timeline
        how = verdict(
            halves, handshake_completed=self.version is not None, leaving_when_cut=self._we_were_leaving, unsent=False
        )
        events = timeline.events()
        return Ending(
            how=how,
            started_by=self._ended_by,
            outbound=halves.outbound,
            inbound=halves.inbound,
            close_notify_sent_at=_first_at(events, Side.WE),
            close_notify_received_at=_first_at(events, Side.PEER),
            alert=self._fatal if how in {How.ALERT, How.FAILED_HANDSHAKE} else None,
            late_reset=how is How.CLEAN and self.rst,
            reason="as the peer saw it",
            sent=timeline.sent,
            received=timeline.received,
            duration=timeline.now(),
            began=self._began,
            role=Role.CLIENT if self._role is Role.SERVER else Role.SERVER,
            peer=self._name,
            tls_version=self.version,
            cipher=self.cipher,
            events=events,
            omitted=timeline.omitted,
            omitted_after=timeline.omitted_after,
        )

    def _ends(self, side: Side, signal: Signal) -> None:
        self._ended_by = self._ended_by or side
        self._halves.apply(signal)

    def _is_fatal(self, alert: Alert) -> bool:
        return is_fatal(alert.code, alert.level, self.version)


def _first_at(events: tuple[Event, ...], side: Side) -> float | None:
    return next((event.at for event in events if event.kind is EventKind.CLOSE_NOTIFY and event.by is side), None)
