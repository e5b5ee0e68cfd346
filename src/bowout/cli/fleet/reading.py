"""What a store says: its status, reports, files and differences."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Final

from bowout._text import escape
from bowout.check import Verdict
from bowout.cli.console import output
from bowout.cli.shared.usage import UsageError
from bowout.fleet import export

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bowout.fleet import FleetStore, Store

#: Verdicts from the worst to the best.
_WORST_FIRST: Final = tuple(str(each) for each in sorted(Verdict, reverse=True))
#: Endpoints that a report has unless it is told otherwise: a screen, and a page that a browser still sorts at once.
_LIMITS: Final = {"text": 20, "html": 1000, "json": -1}


def show_status(store: FleetStore) -> None:
    """Print how far the run is."""
    for line in _status(store):
        _print(line)


def write_report(store: FleetStore, kind: str, limit: int | None, out: Path | None) -> None:
    """Write a report of `kind` to the file `out`, or to stdout.

    Raises:
        UsageError: the file cannot be written.
    """
    most = _LIMITS[kind] if limit is None else limit
    with _writing(out) as file:
        if kind == "json":
            _write_json(store, most, file)
        elif kind == "html":
            file.write(_page()([*store.reports(_WORST_FIRST, most)]))
        else:
            _write_text(store, most, file)


def _page() -> Callable[[Sequence[Mapping[str, Any]]], str]:
    try:
        from bowout.check.html import page  # noqa: PLC0415  (an extra)
    except ModuleNotFoundError as error:
        raise UsageError("--format html needs jinja2", "pip install 'bowout[html]'") from error
    return page


def export_to(store: FleetStore, path: Path) -> None:
    """Export every report to the file `path`."""
    export(store.reports(), path)


def show_differences(store: Store, other: Path) -> int:
    """Print what is different in the store `other`; return the number of differences."""
    count = 0
    for endpoint, probe, before, after in store.differences(other):
        count += 1
        _print(f"{endpoint}  {probe}: {before or 'not there'} -> {after or 'not there'}")
    return count


def _status(store: FleetStore) -> Iterator[str]:
    run, counts = store.run(), store.counts()
    if run is not None:
        began = datetime.fromtimestamp(run["began"], UTC).isoformat(sep=" ", timespec="seconds")
        yield f"begun {began} by {run['tool']} on {run['vantage']}"
        if not run["loaded"]:
            yield "its targets were not all read: give them again with bowout fleet run"
    again = f" ({counts['to_retry']:,} for a second attempt)" if counts["to_retry"] else ""
    yield (f"{counts['finished']:,} of {counts['targets']:,} endpoints are finished, {counts['waiting']:,} wait{again}")
    for verdict in _WORST_FIRST:
        if number := counts["verdicts"].get(verdict):
            yield f"{verdict:>9}  {number:,}"


def _write_text(store: FleetStore, limit: int, file: IO[str]) -> None:
    for line in _status(store):
        file.write(escape(line) + "\n")
    bad = _WORST_FIRST[: _WORST_FIRST.index(str(Verdict.UNKNOWN)) + 1]
    for number, report in enumerate(store.reports(bad, limit)):
        says = next((each["says"] for each in report["findings"] if each["probe"] == report.get("worst")), "")
        head = "\n" if not number else ""
        starttls = f" {report['starttls']}" if report.get("starttls") else ""
        line = f"{report['verdict']:>9}  {report['endpoint']}{starttls}  {report.get('worst') or ''}: {says}"
        file.write(head + escape(line) + "\n")


def _write_json(store: FleetStore, limit: int, file: IO[str]) -> None:
    """Write one document, report by report: a large fleet never is in memory."""
    head = json.dumps({"version": 1, "run": store.run(), "counts": store.counts()})
    file.write(head[:-1] + ', "reports": [')
    reports: Iterator[dict[str, Any]] = store.reports(_WORST_FIRST, limit)
    for number, report in enumerate(reports):
        file.write((",\n" if number else "\n") + json.dumps(report))
    file.write("\n]}\n")


@contextmanager
def _writing(out: Path | None) -> Iterator[IO[str]]:
    if out is None:
        yield sys.stdout
        return
    try:
        with out.open("w", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise UsageError(f"--out: cannot write '{out}': {error.strerror}") from error


def _print(text: str) -> None:
    sys.stdout.write(escape(text, ascii_only=not output.draws(sys.stdout)) + "\n")
