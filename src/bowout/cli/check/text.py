"""A report for people: a line for each finding, and the ladder of each bad one."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from bowout._text import columns, escape, wrap
from bowout.check import Verdict
from bowout.ending import Ending
from bowout.ladder import render_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bowout.cli.check.formats import Style

    Data = Mapping[str, Any]

#: Mark and colour (ECMA-48's SGR) of each verdict.
_LOOKS: Final = {
    Verdict.OK: ("✓", "32"),
    Verdict.NOTE: ("·", "36"),
    Verdict.SKIPPED: ("-", "2"),
    Verdict.UNKNOWN: ("?", "35"),
    Verdict.WARN: ("!", "33"),
    Verdict.FAIL: ("✗", "31"),
    Verdict.DATA_LOSS: ("✗", "1;31"),
}
#: Columns of a probe's name and of its verdict.
_NAME: Final = 18
_WORD: Final = 9
_INDENT: Final = 4 + _NAME + 1 + _WORD + 1
#: Columns below which the sentence goes to lines of its own.
_WIDE: Final = 72
_LADDER_INDENT: Final = 4


class TextWriter:
    """Text, as wide as its terminal."""

    def __init__(self, style: Style) -> None:
        self._style = style

    def one(self, report: Data) -> str:
        """Return the report of one endpoint."""
        lines = self._head(report)
        findings = report["findings"]
        said = {(each["verdict"], each["says"]) for each in findings}
        if len(findings) > 1 and len(said) == 1 and said.pop()[0] == str(Verdict.UNKNOWN):
            findings = [{**findings[0], "probe": "all probes"}]  # One cause, which need not be told for each.
        for finding in findings:
            lines += self._finding(finding)
            lines += self._ladder(finding)
        return "\n".join(lines) + "\n\n"

    def all(self, reports: Sequence[Data]) -> str:
        """Return the number of endpoints by verdict, if there are several."""
        if len(reports) < 2:
            return ""
        counts = Counter(Verdict(report["verdict"]) for report in reports)
        told = ", ".join(f"{counts[each]} {each}" for each in sorted(counts, reverse=True))
        return f"{len(reports)} endpoints: {told}\n"

    def _head(self, report: Data) -> list[str]:
        known = (report["address"], report["tls"], report["protocol"], report["starttls"] and "after STARTTLS")
        about = ", ".join(self._safe(part) for part in known if part and part != report["endpoint"])
        verdict = Verdict(report["verdict"])
        count = report["connections"]
        times = f"{count} connection{'' if count == 1 else 's'}, {report['seconds']:.1f} s"
        endpoint, told = self._safe(report["endpoint"]), f"({about}; {times})"
        head = f"{endpoint}: {self._colour(str(verdict), verdict)}"
        if columns(f"{endpoint}: {verdict} {told}") <= self._style.width:
            return [f"{head} {told}"]
        return [head, *(f"  {line}" for line in wrap(told, self._style.width - 2))]

    def _finding(self, finding: Data) -> list[str]:
        verdict = Verdict(finding["verdict"])
        mark = _LOOKS[verdict][0] if self._style.unicode else " "
        name, word = self._safe(finding["probe"]), str(verdict)
        head = f"  {mark} {name:<{_NAME}} {self._colour(f'{word:<{_WORD}}', verdict)}"
        indent = _INDENT if self._style.width >= _WIDE else _LADDER_INDENT + 2
        text = wrap(self._safe(self._told(finding)), max(self._style.width - indent, 20)) or [""]
        if indent != _INDENT:
            return [head.rstrip(), *(" " * indent + line for line in text)]
        return [f"{head} {text[0]}", *(" " * indent + line for line in text[1:])]

    @staticmethod
    def _told(finding: Data) -> str:
        parts = [finding["says"]]
        if finding["runs"] > 1 and finding["lost"]:
            parts.append(f"(lost in {finding['lost']} of {finding['runs']} runs)")
        if finding["rule"] and Verdict(finding["verdict"]) not in {Verdict.OK, Verdict.UNKNOWN}:
            parts.append(f"[{finding['rule']}]")
        return " ".join(parts)

    def _ladder(self, finding: Data) -> list[str]:
        if not self._style.ladders or finding["ending"] is None or Verdict(finding["verdict"]) < Verdict.WARN:
            return []
        ending = Ending.from_dict(finding["ending"])
        width = max(self._style.width - _LADDER_INDENT, 40)
        drawn = render_text(ending, width=width, color=self._style.colours, unicode=self._style.unicode)
        return ["", *(f"{' ' * _LADDER_INDENT}{line}".rstrip() for line in drawn.splitlines()), ""]

    def _colour(self, text: str, verdict: Verdict) -> str:
        return f"\x1b[{_LOOKS[verdict][1]}m{text}\x1b[0m" if self._style.colours else text

    def _safe(self, text: object) -> str:
        return escape(str(text), ascii_only=not self._style.unicode)
