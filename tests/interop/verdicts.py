"""What is known of how the servers end: the data of ``verdicts.toml``, and a report compared with it."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bowout.check import Report

VERDICTS: Final = Path(__file__).with_name("verdicts.toml")


@dataclass(frozen=True)
class ExpectedVerdicts:
    """What is known of one server.

    Attributes:
        release: the release that it is known of, as `RealServer.release` has it.
        verdicts: for each probe, the verdicts that it may have: several where a race decides.
        odds: for each probe with several verdicts, the reason, and how often each came.
    """

    release: str
    verdicts: dict[str, tuple[str, ...]]
    odds: dict[str, str]

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
    verdicts = {
        probe: (given,) if isinstance(given, str) else tuple(given) for probe, given in table["verdicts"].items()
    }
    odds = table.get("odds", {})
    racy = {probe for probe, allowed in verdicts.items() if len(allowed) > 1}
    if racy != odds.keys():
        raise ValueError(f"{name}: {sorted(racy ^ odds.keys())} must have several verdicts and their odds, or neither")
    return ExpectedVerdicts(release=table["release"], verdicts=verdicts, odds=odds)


def stale(name: str, release: str, expected: ExpectedVerdicts | None, report: Report) -> str:
    """Say what is wrong with a server's row, and what to do; empty if nothing is."""
    wrong = ["there is no row of it"] if expected is None else expected.differs(report)
    if expected is not None and expected.release != release:
        wrong.insert(0, f"the row is of release {expected.release}, and {release} is here")
    if not wrong:
        return ""
    return "\n".join(
        [
            f"{name}: the row in {VERDICTS.name} is stale:",
            *(f"  {line}" for line in wrong),
            "If the server does this, and the verdict is right by the rule that it names, make this its row, and run",
            "`make scoreboard`. If the verdict is wrong, mend src/bowout/check. If it is a race, allow each of its",
            "verdicts, and state the odds.",
            "",
            as_toml(name, release, report, expected),
        ]
    )


def as_toml(name: str, release: str, report: Report, expected: ExpectedVerdicts | None = None) -> str:
    """Write the row that a report makes; what was seen of racy cells before stays."""
    lines = [f"[{json.dumps(name)}]", f"release = {json.dumps(release)}", "", f"[{json.dumps(name)}.verdicts]"]
    odds = []
    for finding in report.findings:
        allowed: tuple[str, ...] = (str(finding.verdict),)
        if expected is not None and finding.probe in expected.odds:
            allowed = tuple(dict.fromkeys((*expected.verdicts[finding.probe], *allowed)))
            odds.append(f"{finding.probe} = {json.dumps(expected.odds[finding.probe], ensure_ascii=False)}")
        lines.append(f"{finding.probe} = {json.dumps(allowed[0] if len(allowed) == 1 else list(allowed))}")
    return "\n".join([*lines, *(["", f"[{json.dumps(name)}.odds]", *odds] if odds else [])]) + "\n"


EXPECTED_VERDICTS: Final = load(VERDICTS.read_text(encoding="utf-8")) if VERDICTS.exists() else {}
