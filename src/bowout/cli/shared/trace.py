"""``--trace``: the events of a connection on stderr, one per line, in the style of ``openssl s_client -state``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from bowout._text import clock, escape, size
from bowout._tls_numbers import CLOSE_NOTIFY, FATAL, WARNING
from bowout.cli.console import output
from bowout.ending import Alert, Event, EventKind, Side

if TYPE_CHECKING:
    from collections.abc import Callable

#: Local events, which neither side sent: they have no arrow.
_HERE: Final = frozenset(
    {
        EventKind.CONNECTED,
        EventKind.HANDSHAKE_DONE,
        EventKind.CLOSE_NOTIFY_QUEUED,
        EventKind.CALL,
        EventKind.CONNECTION_LOST,
        EventKind.DEADLINE,
        EventKind.CAP,
        EventKind.ERROR,
        EventKind.RELEASED,
    }
)


class Trace:
    """Prints events as they happen. Data is summed up, and printed before the next other event.

    Args:
        whose: the peer's name at the beginning of every line; empty for a single connection.
    """

    def __init__(self, whose: str = "") -> None:
        self._head = f"{escape(whose)} " if whose else ""
        self._sent = self._received = 0
        self._data_at = 0.0

    def __call__(self, event: Event) -> None:
        """Print one event, or add it to the sums."""
        if event.kind is EventKind.DATA:
            if not self._sent and not self._received:
                self._data_at = event.at
            self._sent += event.sent
            self._received += event.received
            return
        self._tell_data()
        ours = event.by is Side.WE
        arrow = " " if event.kind in _HERE else _arrow(">" if ours else "<")
        self._line(event.at, arrow, _WORDS.get(event.kind, _plain)(event))

    def _tell_data(self) -> None:
        if self._sent or self._received:
            parts = (("sent", self._sent), ("received", self._received))
            told = ", ".join(f"{verb} {size(count)}" for verb, count in parts if count)
            self._line(self._data_at, " ", f"data: {told}")
            self._sent = self._received = 0

    def _line(self, at: float, arrow: str, text: str) -> None:
        output.hanging(f"{self._head}{clock(at):>8} {arrow}", text, indent=4 if self._head else None)


def _arrow(ascii_arrow: str) -> str:
    return {">": "→", "<": "←"}[ascii_arrow] if output.draws(sys.stderr) else ascii_arrow


def _plain(event: Event) -> str:
    return f"{event.kind.value}: {event.detail}" if event.detail else event.kind.value


def _alert(event: Event) -> str:
    alert = event.alert or Alert(code=CLOSE_NOTIFY, level=FATAL if event.detail else WARNING, by=event.by)
    return f"alert {'write' if event.by is Side.WE else 'read'}:{alert.level_name}:{alert.name}"


_WORDS: Final[dict[EventKind, Callable[[Event], str]]] = {
    EventKind.CONNECTED: lambda event: f"TCP connection to {event.detail}",
    EventKind.HANDSHAKE_MESSAGE: lambda event: f"handshake: {event.detail}",
    EventKind.ALERT: _alert,
    EventKind.CLOSE_NOTIFY: _alert,
    EventKind.CALL: lambda event: event.detail,
    EventKind.ERROR: lambda event: event.detail,
    EventKind.DEADLINE: lambda _: "deadline reached",
    EventKind.CAP: lambda _: "byte cap reached",
    EventKind.RELEASED: lambda _: "descriptor closed",
}
