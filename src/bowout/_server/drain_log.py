"""The result of a server's drain."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bowout._text import escape
from bowout.ending import How

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bowout.ending import Ending

#: Version of the format of `DrainReport.to_dict`, like `bowout.ending.SCHEMA_VERSION`.
SCHEMA_VERSION: Final = 1
#: Maximum number of slow, and of unclean, endings that a report keeps; more are only counted.
NAMED: Final = 50
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReport:
    """How a server's last connections ended. ``str(report)`` is a few lines; `to_dict` is stable JSON.

    Attributes:
        connections: number of connections when the drain began, including those in their handshake and in the backlog.
        counts: number of endings of each kind, by `How`.
        slow: endings of connections that were still open at the deadline, the first `NAMED` of them.
        unclean: endings that were neither clean nor unanswered nor slow, likewise.
        cut: number of connections still open at the deadline.
        duration: duration of the drain, in seconds.
    """

    connections: int
    counts: Mapping[How, int]
    slow: tuple[Ending, ...]
    unclean: tuple[Ending, ...]
    cut: int
    duration: float

    def __str__(self) -> str:
        counted = ", ".join(f"{count:,} {how.value}" for how, count in self.counts.items())
        what = f"{self.connections:,} connection{'' if self.connections == 1 else 's'}"
        lines = [f"drained {what} in {self.duration:.2f} s: {counted or 'nothing to end'}"]
        if self.cut:
            lines.append(f"{self.cut:,} still there at the deadline:")
            lines += _named(self.slow, self.cut)
        if self.unclean:
            lines.append("unclean:")
            lines += _named(self.unclean, len(self.unclean))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values under stable names."""
        return {
            "version": SCHEMA_VERSION,
            "connections": self.connections,
            "counts": {how.value: count for how, count in self.counts.items()},
            "slow": [ending.to_dict() for ending in self.slow],
            "unclean": [ending.to_dict() for ending in self.unclean],
            "cut": self.cut,
            "duration": round(self.duration, 6),
        }


class DrainLog:
    """Collects the endings of a drain."""

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._counts: Counter[How] = Counter()
        self._slow: list[Ending] = []
        self._unclean: list[Ending] = []
        self._cut = 0

    def came(self) -> None:
        """Record another connection, from the backlog."""
        self._connections += 1

    def add(self, ending: Ending, *, slow: bool) -> None:
        """Record that a connection has ended; `slow`: it was still open at the deadline."""
        self._counts[ending.how] += 1
        self._cut += slow
        if slow:
            names = self._slow
        elif ending.how not in {How.CLEAN, How.UNANSWERED}:
            names = self._unclean
        else:
            return
        if len(names) < NAMED:
            names.append(ending)

    def report(self, duration: float) -> DrainReport:
        """Build the report."""
        return DrainReport(
            connections=self._connections,
            counts={how: self._counts[how] for how in How if self._counts[how]},
            slow=tuple(self._slow),
            unclean=tuple(self._unclean),
            cut=self._cut,
            duration=duration,
        )


def _named(endings: Iterable[Ending], total: int) -> list[str]:
    shown = [f"  {escape(ending.peer) or '?'}: {escape(str(ending))}" for ending in list(endings)[:_SHOWN]]
    return shown if total <= _SHOWN else [*shown, f"  … and {total - _SHOWN:,} more"]
