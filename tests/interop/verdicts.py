"""What is known of how the servers end: the data of ``verdicts.toml``, and a report compared with it."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from bowout.check import Report

VERDICTS: Final = Path(__file__).with_name("verdicts.toml")


@dataclass(frozen=True)
class ExpectedVerdicts:
    """What is known of one server.

    Attributes:
        release: the release that it is known of, as `RealServer.release` has it.
        verdicts: for each probe, the verdicts that it may have in TLS 1.3: several where a race decides.
        odds: for each probe with several verdicts, the reason, and how often each came.
        older: those in TLS 1.2, where they differ.
        idle: those of the probe that waits until the server ends a connection; empty if it does not end it.
        note: what it does, in a sentence for people.
    """

    release: str
    verdicts: dict[str, tuple[str, ...]]
    odds: dict[str, str]
    older: dict[str, tuple[str, ...]] = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    note: str = ""

    def at_night(self, tls: str) -> ExpectedVerdicts:
        """Return what is known of it in this version, with the probe that waits until it ends a connection."""
        older = self.older if tls == "1.2" else {}
        return replace(self, verdicts={**self.verdicts, **older, **({"idle": self.idle} if self.idle else {})})

    def differs(self, report: Report) -> list[str]:
        """Return what is not as expected: for each probe, a line."""
        seen = {finding.probe: finding for finding in report.findings}
        lines = []
        for probe, finding in seen.items():
            allowed = self.verdicts.get(probe, ())
            if str(finding.verdict) not in allowed:
                lines.append(
                    f"{probe}: {finding.verdict} ({finding.says}), and not {' or '.join(allowed) or 'nothing'}"
                )
        return lines + [f"{probe}: was not made" for probe in self.verdicts if probe not in seen]


def load(text: str) -> dict[str, ExpectedVerdicts]:
    """Read the data.

    Raises:
        ValueError: a row is not as it has to be.
    """
    return {name: _row(name, table) for name, table in tomllib.loads(text).items()}


def _row(name: str, table: dict[str, Any]) -> ExpectedVerdicts:
    verdicts, older = _cells(table["verdicts"]), _cells(table.get("tls 1.2", {}))
    odds = table.get("odds", {})
    racy = {probe for cells in (verdicts, older) for probe, allowed in cells.items() if len(allowed) > 1}
    if racy != odds.keys():
        raise ValueError(f"{name}: {sorted(racy ^ odds.keys())} must have several verdicts and their odds, or neither")
    return ExpectedVerdicts(
        release=table["release"],
        verdicts=verdicts,
        odds=odds,
        older=older,
        idle=_cells(table).get("idle", ()),
        note=table.get("note", ""),
    )


def _cells(table: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return {probe: (given,) if isinstance(given, str) else tuple(given) for probe, given in table.items()}


def stale(
    name: str, release: str, expected: ExpectedVerdicts | None, report: Report, *, night: str | None = None
) -> str:
    """Say what is wrong with a server's row, and what to do; empty if nothing is.

    Args:
        night: the version of TLS of a report as at night; None for one as by day.
    """
    known = expected if expected is None or night is None else expected.at_night(night)
    wrong = ["there is no row of it"] if known is None else known.differs(report)
    if known is not None and known.release != release:
        wrong.insert(0, f"the row is of release {known.release}, and {release} is here")
    if not wrong:
        return ""
    row = [
        "If the server does this, and the verdict is right by the rule that it names, make this its row, and run",
        "`make scoreboard` and scripts/generate_check.py. If the verdict is wrong, mend src/bowout/check. If it is a",
        "race, allow each of its verdicts, and state the odds.",
        "",
        as_toml(name, release, report, expected),
    ]
    at_night = [f'This was in TLS {night}, with an idle connection: "tls 1.2" and idle of its row are about that.']
    return "\n".join(
        [
            f"{name}: the row in {VERDICTS.name} is stale:",
            *(f"  {line}" for line in wrong),
            *(at_night if night else row),
        ]
    )


def as_toml(name: str, release: str, report: Report, expected: ExpectedVerdicts | None = None) -> str:
    """Write the row that a report in TLS 1.3 makes; what it does not tell stays, and so do the odds of racy cells."""
    key = json.dumps(name)
    lines = [f"[{key}]", f"release = {json.dumps(release)}"]
    kept = expected or ExpectedVerdicts(release, {}, {})
    lines += [f"note = {_text(kept.note)}"] if kept.note else []
    lines += _written({"idle": kept.idle}) if kept.idle else []
    seen: dict[str, tuple[str, ...]] = {}
    for finding in report.findings:
        before = kept.verdicts.get(finding.probe, ()) if finding.probe in kept.odds else ()
        seen[finding.probe] = tuple(dict.fromkeys((*before, str(finding.verdict))))
    odds = [f"{probe} = {_text(text)}" for probe, text in kept.odds.items()]
    for table, cells in (("verdicts", _written(seen)), ('"tls 1.2"', _written(kept.older)), ("odds", odds)):
        lines += ["", f"[{key}.{table}]", *cells] if cells else []
    return "\n".join(lines) + "\n"


def _written(cells: dict[str, tuple[str, ...]]) -> list[str]:
    return [
        f"{probe} = {json.dumps(allowed[0] if len(allowed) == 1 else list(allowed))}"
        for probe, allowed in cells.items()
    ]


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


EXPECTED_VERDICTS: Final = load(VERDICTS.read_text(encoding="utf-8")) if VERDICTS.exists() else {}
