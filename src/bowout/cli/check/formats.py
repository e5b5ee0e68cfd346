"""The formats of a report, each a writer: `one` after each endpoint, `all` at the end.

They take reports as dictionaries, by `bowout.check.Report.to_dict`, so that stored ones can be written as well. Text in
them that came from a server was escaped, but it is escaped here again for its new place.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO
from xml.etree import ElementTree as ET

from bowout._text import cell, escape
from bowout.check import Verdict
from bowout.cli.check.text import TextWriter
from bowout.cli.console import output
from bowout.cli.shared.usage import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Style:
    """How to write for a file.

    Attributes:
        width: columns of its terminal, or the default.
        colours: whether it shows colours.
        unicode: whether its encoding has the characters of the pictures.
        ladders: whether to draw the endings of bad findings.
        fail_on: the verdict from which a finding is a failure; None for no failures.
    """

    width: int = 80
    colours: bool = False
    unicode: bool = True
    ladders: bool = True
    fail_on: Verdict | None = Verdict.FAIL

    @classmethod
    def of(cls, file: TextIO, *, ladders: bool, fail_on: Verdict | None) -> Style:
        """Return the style for `file`."""
        return cls(output.width(file), output.colours(file), output.draws(file), ladders, fail_on)


class ReportWriter(Protocol):
    """One format."""

    def one(self, report: Data) -> str:
        """Return what to write as soon as there is this report."""

    def all(self, reports: Sequence[Data]) -> str:
        """Return what to write at the end, when there are all reports."""


class AllAtOnce:
    """A document that is complete only when there are all reports."""

    def one(self, report: Data) -> str:  # noqa: ARG002  (all at once)
        """Return nothing."""
        return ""


class OneByOne:
    """A document to which each report is added as soon as it is there."""

    def all(self, reports: Sequence[Data]) -> str:  # noqa: ARG002  (they are written)
        """Return nothing."""
        return ""


class JsonWriter(AllAtOnce):
    """One object for one endpoint, an array for several."""

    def __init__(self, _style: Style) -> None:
        """Need no style."""

    def all(self, reports: Sequence[Data]) -> str:
        """Return the whole document."""
        return json.dumps(reports[0] if len(reports) == 1 else list(reports), indent=2) + "\n"


class JsonLinesWriter(OneByOne):
    """One line for each endpoint, as soon as it is checked."""

    def __init__(self, _style: Style) -> None:
        """Need no style."""

    def one(self, report: Data) -> str:
        """Return what belongs to this report."""
        return json.dumps(report) + "\n"


#: Columns of the table: those of the endpoint, and those of the finding.
_ENDPOINT: Final = ("endpoint", "address", "starttls", "protocol", "tls")
_FINDING: Final = ("probe", "verdict", "says", "rule", "runs", "lost", "seconds")


class CsvWriter(OneByOne):
    """A table with one line for each finding (RFC 4180)."""

    def __init__(self, _style: Style) -> None:
        self._begun = False

    def one(self, report: Data) -> str:
        """Return what belongs to this report."""
        rows = [[report[name] for name in _ENDPOINT] + [each[name] for name in _FINDING] for each in report["findings"]]
        if not self._begun:
            rows.insert(0, [*_ENDPOINT, *_FINDING])
            self._begun = True
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\r\n").writerows([cell(value) for value in row] for row in rows)
        return text.getvalue()


class JUnitWriter(AllAtOnce):
    """The XML that systems for continuous integration read: a suite for each endpoint, a case for each probe."""

    def __init__(self, style: Style) -> None:
        self._fail_on = style.fail_on

    def all(self, reports: Sequence[Data]) -> str:
        """Return the whole document."""
        root = ET.Element("testsuites", name="bowout check")
        for report in reports:
            self._suite(root, report)
        ET.indent(root)
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'

    def _suite(self, root: ET.Element, report: Data) -> None:
        findings = report["findings"]
        kinds = [self._kind(each) for each in findings]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=escape(report["endpoint"]),
            tests=str(len(findings)),
            failures=str(kinds.count("failure")),
            errors=str(kinds.count("error")),
            skipped=str(kinds.count("skipped")),
            time=f"{report['seconds']:.3f}",
        )
        for finding, kind in zip(findings, kinds, strict=True):
            case = ET.SubElement(
                suite,
                "testcase",
                classname=escape(report["endpoint"]),
                name=escape(finding["probe"]),
                time=f"{finding['seconds']:.3f}",
            )
            text = escape(sentence(finding))
            if kind == "passed":
                ET.SubElement(case, "system-out").text = text
            else:
                attributes = {"message": text} if kind == "skipped" else {"message": text, "type": finding["verdict"]}
                ET.SubElement(case, kind, attributes)

    def _kind(self, finding: Data) -> str:
        verdict = Verdict(finding["verdict"])
        if verdict is Verdict.SKIPPED:
            return "skipped"
        if self._fail_on is not None and verdict >= self._fail_on and verdict is not Verdict.UNKNOWN:
            return "failure"
        return "error" if verdict is Verdict.UNKNOWN else "passed"


def sentence(finding: Data) -> str:
    """Return a finding in one sentence, with its rule and its runs."""
    rule = f" [{finding['rule']}]" if finding["rule"] else ""
    return f"{finding['verdict']}: {finding['says']}{often(finding)}{rule}"


def often(finding: Data) -> str:
    """Say in how many of several runs something was lost; empty for one run."""
    if finding["runs"] < 2:
        return ""
    return f" ({finding['lost']} of {finding['runs']} runs lost bytes)" if finding["lost"] else ""


#: Exit status of a plugin that knows nothing: wrong arguments, too, and failures of its own.
NAGIOS_UNKNOWN: Final = 3


class NagiosWriter(AllAtOnce):
    """The output of a plugin of Nagios: the summary first, then a line for each finding."""

    def __init__(self, _style: Style) -> None:
        """Need no style."""

    def all(self, reports: Sequence[Data]) -> str:
        """Return the whole document."""
        worst = max(reports, key=lambda report: Verdict(report["verdict"]))
        several = f"{len(reports)} endpoints, the worst: " if len(reports) > 1 else ""
        count = sum(report["connections"] for report in reports)
        spent = sum(report["seconds"] for report in reports)
        lines = [
            f"TLS ENDING {worst['verdict']} - {several}{_plain(_told(worst))} | time={spent:.3f}s connections={count}"
        ]
        for report in reports:
            lines += [_plain(f"{report['endpoint']} {each['probe']} {sentence(each)}") for each in report["findings"]]
        return "\n".join(lines) + "\n"


def nagios_error(message: str, hint: str | None) -> str:
    """Return the output of a plugin that could do nothing: its exit status is `NAGIOS_UNKNOWN`."""
    return f"TLS ENDING UNKNOWN - {_plain(message)}\n" + (f"hint: {_plain(hint)}\n" if hint else "")


def _told(report: Data) -> str:
    worst = next((each for each in report["findings"] if each["probe"] == report["worst"]), None)
    if worst is None:
        return f"{report['endpoint']} ends its connections well"
    return f"{report['endpoint']} {worst['probe']}: {worst['says']}"


def _plain(text: str) -> str:
    """Return `text` in one line, without the bar that begins Nagios' figures."""
    return escape(text.replace("§", "section "), ascii_only=True).replace("|", "/")


class HtmlWriter(AllAtOnce):
    """One static page."""

    def __init__(self, _style: Style) -> None:
        try:
            from bowout.check.html import page  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415
        except ModuleNotFoundError as error:
            hint = f"pip install {error.name}" if error.name and not error.name.startswith("bowout") else None
            raise UsageError("--format html cannot be used here", hint) from error
        self._page: Callable[[Sequence[Data]], str] = page

    def all(self, reports: Sequence[Data]) -> str:
        """Return the whole document."""
        return self._page(reports)


#: The formats by the names of ``--format``.
FORMATS: Final[dict[str, Callable[[Style], ReportWriter]]] = {
    "text": TextWriter,
    "json": JsonWriter,
    "jsonl": JsonLinesWriter,
    "junit": JUnitWriter,
    "nagios": NagiosWriter,
    "csv": CsvWriter,
    "html": HtmlWriter,
}
