"""Reports as rows of the table `result`, and back."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from bowout.check import Verdict
from bowout.fleet._schema import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bowout.check import Report
    from bowout.fleet._targets import Endpoint

#: Columns of a row, after `run` and `target`.
COLUMNS: Final = ("probe", "at", "verdict", "says", "rule", "runs", "lost", "seconds", "facts", "ending")
#: Verdicts whose endings are always kept.
_ALWAYS_KEPT: Final = frozenset(str(each) for each in Verdict if each >= Verdict.WARN)
#: One endpoint of this number keeps the endings of its other verdicts, too, as a sample.
_SAMPLE: Final = 100
#: The level of zlib that is fastest for its size on 1 KB of JSON.
_LEVEL: Final = 6

Row = tuple[Any, ...]
#: A target, and its report.
Finished = tuple["Endpoint", "Mapping[str, Any]"]


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
