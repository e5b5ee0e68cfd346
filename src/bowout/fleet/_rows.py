"""Runs, targets and reports as rows of a store, and back: the same for each store."""

from __future__ import annotations

import itertools
import json
import platform
import random
import time
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import bowout
from bowout.check import Verdict
from bowout.fleet._schema import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bowout.check import Report
    from bowout.fleet._targets import Endpoint

#: The id of the run: a store has one.
RUN: Final = 1
RUN_COLUMNS: Final = ("id", "began", "tool", "probes", "vantage", "options", "loaded")
#: Columns of a target, in the order of `endpoint_of`.
TARGET_COLUMNS: Final = ("id", "host", "port", "starttls", "protocol", "address", "network", "attempts", "addresses")
#: Columns of a new target.
NEW_TARGET_COLUMNS: Final = ("id", "host", "port", "starttls", "protocol", "address", "network")
#: Columns of a result, after `run` and `target`.
COLUMNS: Final = ("probe", "at", "verdict", "says", "rule", "runs", "lost", "seconds", "facts", "ending")
#: Verdicts whose endings are always kept.
_ALWAYS_KEPT: Final = frozenset(str(each) for each in Verdict if each >= Verdict.WARN)
#: Targets that one transaction adds.
_BATCH: Final = 1000
#: Bits of a random id: a store's integers have 63 without the sign.
_ID_BITS: Final = 62
#: One endpoint of this number keeps the endings of its other verdicts, too, as a sample.
_SAMPLE: Final = 100
#: The level of zlib that is fastest for its size on 1 KB of JSON.
_LEVEL: Final = 6

Row = tuple[Any, ...]
#: A target, and its report.
Finished = tuple["Endpoint", "Mapping[str, Any]"]


def insert(table: str, columns: Sequence[str], mark: str) -> str:
    """Return the SQL that inserts a row, with `mark` in the place of each value."""
    return f"INSERT INTO {table}({', '.join(columns)}) VALUES({', '.join([mark] * len(columns))})"


def run_row(options: Mapping[str, Any], probes: str) -> Row:
    """Return the row of a run that begins now, here, in the order of `RUN_COLUMNS`, with no target loaded."""
    tool = f"bowout {bowout.__version__}"
    return RUN, time.time(), tool, probes, platform.node(), json.dumps(dict(options)), 0


def run_of(row: Row | None) -> dict[str, Any] | None:
    """Return a run by the names of its columns, with its options as a dict; None if there is none."""
    if row is None:
        return None
    run = dict(zip(RUN_COLUMNS, row, strict=True))
    return {**run, "options": json.loads(run["options"])}


def new_targets(endpoints: Iterable[Endpoint]) -> Iterator[list[Row]]:
    """Yield the rows of new targets, a batch for each transaction, in the order of `NEW_TARGET_COLUMNS`."""
    iterator = iter(endpoints)
    while batch := list(itertools.islice(iterator, _BATCH)):
        yield [(random.getrandbits(_ID_BITS), *each.key, each.address, each.network) for each in batch]


def counts_of(row: Row | None, verdicts: Iterable[Row]) -> dict[str, Any]:
    """Return the counts of a store.

    Args:
        row: the numbers of its targets, of those that are finished, and of those that are to be tried again.
        verdicts: each verdict, and the number of its endpoints.
    """
    targets, finished, again = row or (0, 0, 0)
    return {
        "targets": targets,
        "finished": finished,
        "waiting": targets - finished,
        "to_retry": again,
        "verdicts": dict(verdicts),
    }


def reports_of(rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    """Yield the report of each target; the first column of `rows` is its id, and its rows come together."""
    for _, group in itertools.groupby(rows, key=lambda row: row[0]):
        yield report_of(row[1:] for row in group)


def rows_of(endpoint: Endpoint, report: Mapping[str, Any], at: float) -> Iterator[Row]:
    """Yield the rows of one report, JSON of version 1: itself, then each of its findings."""
    findings = report.get("findings") or []
    whole = {key: value for key, value in report.items() if key != "findings"}
    worst: Mapping[str, Any] = next((each for each in findings if each["probe"] == report.get("worst")), {})
    verdict = str(report["verdict"])
    yield (
        WHOLE,
        at,
        verdict,
        _plain(worst.get("says", "")),
        "",
        0,
        0,
        report.get("seconds") or 0.0,
        _json(whole),
        None,
    )
    for each in findings:
        keep = _keeps_ending(endpoint, each) and each.get("ending")
        ending = zlib.compress(_json(each["ending"]).encode(), _LEVEL) if keep else None
        yield (
            _plain(each["probe"]),
            at,
            str(each["verdict"]),
            _plain(each["says"]),
            _plain(each.get("rule") or ""),
            each.get("runs") or 0,
            each.get("lost") or 0,
            each.get("seconds") or 0.0,
            _json(each.get("facts") or {}),
            ending,
        )


def stored_report(endpoint: Endpoint, report: Report) -> dict[str, Any]:
    """Return `report` as JSON of version 1, without the endings that the store does not keep: these are most of it."""
    findings = (
        each
        if each.ending is None or _keeps_ending(endpoint, {"verdict": str(each.verdict)})
        else replace(each, ending=None)
        for each in report.findings
    )
    return replace(report, findings=tuple(findings)).to_dict()


def slim(endpoint: Endpoint, report: Mapping[str, Any]) -> dict[str, Any]:
    """Return `report` without the endings that the store does not keep: they need not travel to it."""
    findings = report.get("findings") or []
    kept = [each if _keeps_ending(endpoint, each) else {**each, "ending": None} for each in findings]
    return {**report, "findings": kept}


def _keeps_ending(endpoint: Endpoint, finding: Mapping[str, Any]) -> bool:
    return endpoint.id % _SAMPLE == 0 or finding["verdict"] in _ALWAYS_KEPT


def report_of(rows: Iterable[Row]) -> dict[str, Any]:
    """Return the report, JSON of version 1, whose rows these are; an ending that was not kept is null."""
    report: dict[str, Any] = {}
    findings = []
    for probe, _, verdict, says, rule, runs, lost, seconds, facts, ending in rows:
        if probe == WHOLE:
            report = json.loads(facts)
            continue
        findings.append(
            {
                "probe": probe,
                "verdict": verdict,
                "says": says,
                "rule": rule,
                "runs": runs,
                "lost": lost,
                "seconds": seconds,
                "facts": json.loads(facts),
                "ending": json.loads(zlib.decompress(ending)) if ending is not None else None,
            }
        )
    return {**report, "findings": findings}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _plain(text: object) -> str:
    r"""Return `text` as every store can keep it: without halves of surrogate pairs, and without ``\0``."""
    return str(text).encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
