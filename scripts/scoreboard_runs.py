"""The runs of the scoreboard: real servers under `bowout.check`, and real clients under a server that ends badly."""

from __future__ import annotations

import asyncio
import platform
import shlex
import ssl
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest
from scoreboard_page import VERSION

import bowout
from bowout import Ending
from bowout.check import PROBES, Finding, Verdict
from bowout.cli.check.explanations import PROBE_TEXTS
from helpers.starttls_servers import Home
from helpers.wire import authority
from interop.clients import CLIENTS, COLUMNS, RealClient
from interop.real_servers import SERVERS
from interop.real_servers.base import RealServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

#: The probe that is for one's patience, and no part of the board.
_LEFT_OUT: Final = frozenset({"idle"})
#: Verdicts whose ladder is kept.
_DRAWN: Final = frozenset({Verdict.NOTE, Verdict.WARN, Verdict.FAIL, Verdict.DATA_LOSS})
#: What the tests raise where a program is not installed.
_MISSING: Final = (pytest.skip.Exception, pytest.fail.Exception)

Data = dict[str, Any]
"""Plain JSON values."""


@dataclass
class CellRuns:
    """What the runs of one cell showed.

    Attributes:
        seen: number of runs with each verdict.
        ending: the ending of the first run with the worst one.
    """

    seen: Counter[Verdict] = field(default_factory=Counter)
    _worst: Verdict | None = None
    _says: str = ""
    _rule: str = ""
    ending: Ending | None = None

    def add(self, verdicts: Iterable[Verdict], says: str, rule: str, ending: Ending | None) -> None:
        """Add runs, and the words for the worst of them."""
        verdicts = list(verdicts)
        self.seen.update(verdicts)
        worst = max(verdicts)
        if self._worst is None or worst > self._worst:
            self._worst, self._says, self._rule, self.ending = worst, says, rule, ending

    def to_dict(self) -> Data:
        """Return plain JSON values: ``runs`` of ``of`` had the worst verdict."""
        assert self._worst is not None, "a cell has runs"
        drawn = self.ending is not None and self._worst in _DRAWN
        return {
            "verdict": str(self._worst),
            "runs": self.seen[self._worst],
            "of": self.seen.total(),
            "seen": {str(verdict): count for verdict, count in sorted(self.seen.items())},
            "says": self._says,
            "rule": self._rule,
            "ending": self.ending.to_dict() if self.ending is not None and drawn else None,
        }


def measured(
    *, runs: int, client_runs: int, only: frozenset[str], shared: Path, date: str, tell: Callable[[str], None]
) -> Data:
    """Run all, or those with the names in `only`; return the board.

    Args:
        runs: number of checks of each server.
        client_runs: number of runs of each client in each column.
        only: names of servers and clients; empty for all.
        shared: a directory for what is compiled.
        date: of the board.
        tell: called with each name before its runs.
    """
    rows: dict[str, list[Data]] = {"servers": [], "clients": []}
    for server in SERVERS.values():
        if not only or server.name in only:
            tell(server.name)
            rows["servers"].append(_row(server, partial(server_cells, server, runs, shared)))
    for client in CLIENTS.values():
        if not only or client.name in only:
            tell(client.name)
            rows["clients"].append(_row(client, partial(client_cells, client, client_runs, shared)))
    return {
        "version": VERSION,
        "date": date,
        "tool": f"bowout {bowout.__version__}",
        "machine": f"{platform.system()} {platform.machine()}, CPython {platform.python_version()}, "
        f"{ssl.OPENSSL_VERSION}, loopback",
        "columns": {"servers": _server_columns(), "clients": _client_columns()},
        **rows,
    }


def _row(of: RealServer | RealClient, cells: Callable[[], dict[str, CellRuns]]) -> Data:
    """Make a row; that of a program which is not here says so."""
    row: Data = {"name": of.name, "configuration": of.configuration, "version": None, "missing": None, "cells": {}}
    try:
        _require(of)
        row["version"] = of.version if isinstance(of, RealServer) else of.version()
        row["cells"] = {name: {**cell.to_dict(), "command": command(of.name, name)} for name, cell in cells().items()}
    except _MISSING as missing:
        row["missing"] = str(missing)
    return row


def _require(of: RealServer | RealClient) -> None:
    if isinstance(of, RealServer):
        of.stack.require()
    else:
        of.require()


def command(name: str, column: str) -> str:
    """Return the command that makes the runs of one cell again."""
    return f"python scripts/scoreboard.py --show {shlex.quote(name)} {shlex.quote(column)}"


def _server_columns() -> list[Data]:
    return [{"name": name, "says": PROBE_TEXTS[name].what} for name in PROBES if name not in _LEFT_OUT]


def _client_columns() -> list[Data]:
    return [{"name": column.name, "says": column.says} for column in COLUMNS.values()]


def server_cells(server: RealServer, runs: int, shared: Path) -> dict[str, CellRuns]:
    """Check a server several times."""
    cells: dict[str, CellRuns] = {}
    with Home.create(authority()) as home, server.start(home, shared) as port:
        for _ in range(runs):
            for finding in asyncio.run(server.check(port)).findings:
                cells.setdefault(finding.probe, CellRuns()).add(
                    _each(finding), finding.says, finding.rule, finding.ending
                )
    return cells


def _each(finding: Finding) -> list[Verdict]:
    """Return the verdict of each run of one finding."""
    return [Verdict(verdict) for verdict in finding.facts.get("verdicts", [str(finding.verdict)])]


def client_cells(client: RealClient, runs: int, shared: Path) -> dict[str, CellRuns]:
    """Run a client several times in each column that it takes."""
    return {column.name: client_cell(client, column.name, runs, shared) for column in COLUMNS.values()}


def client_cell(client: RealClient, column: str, runs: int, shared: Path) -> CellRuns:
    """Run a client several times in one column."""
    cell = CellRuns()
    for _ in range(runs if client.takes(COLUMNS[column]) else 1):
        result = client.run(COLUMNS[column], shared)
        cell.add([result.verdict], result.says, result.rule, result.report.ending if result.report else None)
    return cell


def unknown_names(names: Iterable[str], columns: Iterable[str]) -> str:
    """Say which of the names no server and no client has, and which of the columns there is not; empty if all are."""
    known = [*SERVERS, *CLIENTS]
    there = [column["name"] for column in (*_server_columns(), *_client_columns())]
    for name, all_names in [*((name, known) for name in names), *((column, there) for column in columns)]:
        if name not in all_names:
            return f"{name!r} is none of: {', '.join(all_names)}"
    return ""


def shown(name: str, column: str, runs: int, shared: Path) -> str:
    """Make the runs of one cell again; return what was seen, with the ladder of the worst run."""
    server = SERVERS.get(name)
    if server is not None:
        cells = server_cells(server, runs, shared)
    else:
        cells = {column: client_cell(CLIENTS[name], column, runs, shared)} if column in COLUMNS else {}
    cell = cells.get(column)
    if cell is None:
        return f"{name} has no {column}\n"
    data = cell.to_dict()
    ladder = "" if cell.ending is None else cell.ending.ladder()
    seen = ", ".join(f"{verdict} {count} of {data['of']}" for verdict, count in data["seen"].items())
    rule = f" [{data['rule']}]" if data["rule"] else ""
    return f"{name}, {column}: {seen}\n{data['says']}{rule}\n{ladder}\n"
