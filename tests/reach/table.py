"""The cells of docs/evidence/libraries.md: what each library's application sees of each end, stock and with bowout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

from bowout.testing import TLSVersion
from helpers.wire import VERSIONS
from reach import visits
from reach.ends import ENDS, End
from reach.observing import HANGS, observe_client, observe_server
from reach.registry import ClientScenario, ServerScenario
from reach.ways import LibraryWay

Column = Literal["stock", "bowout"]
COLUMNS: Final[tuple[Column, ...]] = ("stock", "bowout")

Cells = dict[str, dict[Column, str]]
"""By the name of the end, and then by the column."""


def tabled(scenario: ClientScenario | ServerScenario) -> bool:
    """Whether it is in the table: what a writing application learns of a client that has left depends on time."""
    return isinstance(scenario, ClientScenario) or scenario.visit is not visits.HTTP_DOWNLOAD


def ends_for(scenario: ClientScenario | ServerScenario) -> Iterator[End]:
    """The ends that the other side can have: a client has no answer to leave out."""
    for end in ENDS:
        if end.answers or isinstance(scenario, ClientScenario):
            yield end


def cells(scenario: ClientScenario | ServerScenario) -> Cells:
    """Run the scenario in all its ways, with each end and in both versions of TLS."""
    return {
        end.name: {column: _cell(scenario, end, column) for column in COLUMNS if _ways(scenario, column)}
        for end in ends_for(scenario)
    }


def _ways(scenario: ClientScenario | ServerScenario, column: Column) -> list[LibraryWay]:
    return [way for way in scenario.ways if way.ours == (column == "bowout")]


def _cell(scenario: ClientScenario | ServerScenario, end: End, column: Column) -> str:
    """One text where all ways and versions agree; else one for each text, with those that it is about."""
    seen: dict[str, list[str]] = {}
    for way in _ways(scenario, column):
        for tls in VERSIONS:
            seen.setdefault(_words(scenario, way, end, tls), []).append(f"{way.loop} {way.means} TLS {tls}")
    if len(seen) == 1:
        return next(iter(seen))
    return "; ".join(f"{text} ({', '.join(about)})" for text, about in sorted(seen.items()))


def _words(scenario: ClientScenario | ServerScenario, way: LibraryWay, end: End, tls: TLSVersion) -> str:
    if isinstance(scenario, ClientScenario):
        return observe_client(scenario, way, end, tls).saw
    sight = observe_server(scenario, way, end, tls)
    words = [HANGS if sight.hung else sight.saw[0]]
    if count := len(sight.played.tracebacks):
        words.append(f"{count} traceback{'s' if count > 1 else ''} logged")
    if sight.played.error is not None or sight.ending is None:
        words.append("and serves no more")
    return ", ".join(words)


def row(scenario: ClientScenario | ServerScenario) -> dict[str, Any]:
    """What identifies the scenario in the table."""
    if isinstance(scenario, ClientScenario):
        dialogue = scenario.dialogue
        return {"library": scenario.library, "what": dialogue.name, "open_ended": dialogue.open_ended}
    return {"library": scenario.library, "what": scenario.visit.name}
