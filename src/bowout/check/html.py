"""Reports of checks as one static page. It needs jinja2: ``pip install 'bowout[html]'``.

from bowout.check.html import page

Path("report.html").write_text(page([report.to_dict()]), encoding="utf-8")
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import jinja2
from markupsafe import Markup

from bowout._text import clip, escape
from bowout.check._model import Verdict
from bowout.ending import Ending
from bowout.ladder import render_svg

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["page"]

#: Reports up to which every ending is drawn; a larger page draws those of WARN and worse, at about 10 KB each, and this
#: number of them at most.
_ALL_DRAWN: Final = 20
_MOST_DRAWN: Final = 300
#: Characters of a permalink's name that need no encoding in an address, and mean nothing in HTML.
_NOT_IN_LINKS: Final = re.compile(r"[^A-Za-z0-9._:-]+")
#: Characters of one text of a report that the page shows at most; the JSON in it has all.
_LONGEST_TEXT: Final = 600
#: Order of the columns; probes that are not known come after them.
_PROBES: Final = (
    "reply-end", "answers", "half-close", "tcp-after", "bare-fin", "refusal",
    "idle", "in-flight", "unread-input", "bad-record", "fatal-alert", "close-in-handshake",
)  # fmt: skip
#: Names of the page's own elements.
_RESERVED: Final = ("table", "data", "q", "count", "save")
_VERDICTS: Final = {str(verdict): verdict for verdict in Verdict}


def page(reports: Sequence[Mapping[str, Any]], *, title: str = "How they end TLS") -> str:
    """Return one page of HTML with `reports`: a table of all verdicts, and each finding with its ladder.

        >>> Path("report.html").write_text(page([report.to_dict()]), encoding="utf-8")

    The page is one static file, for any browser, offline: it requests nothing, and its policy forbids it to. The table
    can be sorted and filtered (``?q=nginx+FAIL`` in its address), every finding has a permalink, and without scripts
    all of it can still be read. It is light or dark as the reader's system is. The reports are in it as JSON, too.
    Bytes from servers are escaped wherever they are shown.

    Args:
        reports: JSON of version 1 (`Report.to_dict`), in the order in which the table shows them.
        title: the heading of the page.

    Returns:
        The document, which UTF-8 can encode.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = Counter(_RESERVED)
    drawings = _Drawings(everything=len(reports) <= _ALL_DRAWN)
    rows = [_row(report, names, drawings) for report in reports]
    verdicts = Counter(row["verdict"] for row in rows)
    script, style = _source("page.js"), _source("page.css")
    return environment.get_template("page.html").render(
        title=title,
        rows=rows,
        probes=_columns(reports),
        totals=[(str(each), each.rank, verdicts[str(each)]) for each in sorted(Verdict, reverse=True)],
        reports=[_embedded(report, row) for report, row in zip(reports, rows, strict=True)],
        script=Markup(script),  # noqa: S704  (our own file)
        style=Markup(style),  # noqa: S704  (our own file)
        script_hash=_hash(script),
        style_hash=_hash(style),
    )


class _Drawings:
    """Decides which endings a page shows: all of a small page, and the bad ones of a large page, up to a number.

    Args:
        everything: whether to draw all.
    """

    def __init__(self, *, everything: bool) -> None:
        self._everything = everything
        self._left = _MOST_DRAWN

    def ending(self, finding: Mapping[str, Any]) -> Ending | None:
        """Return the ending to draw; None if there is none, it is not shown, or it is one that cannot be drawn."""
        values = finding.get("ending")
        bad = _rank(finding["verdict"]) >= Verdict.WARN.rank and self._left > 0
        if values is None or not (self._everything or bad):
            return None
        self._left -= 1
        try:
            return Ending.from_dict(values)
        except ValueError:
            return None


def _embedded(report: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return `report` for the JSON of the page: without the endings that the page does not show."""
    findings = zip(report["findings"], row["findings"], strict=True)
    return {
        **report,
        "findings": [{**each, "ending": each.get("ending") if shown["ladder"] else None} for each, shown in findings],
    }


def _source(name: str) -> str:
    return resources.files("bowout.check").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return what the page's policy calls `text`: only this script, and this style, may be used."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _shown(value: object) -> object:
    """Escape every text that the template shows, so that none can be forgotten; jinja2 then quotes its markup."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return clip(escape(value), _LONGEST_TEXT)


def _columns(reports: Iterable[Mapping[str, Any]]) -> list[str]:
    there = dict.fromkeys(finding["probe"] for report in reports for finding in report["findings"])
    return [*(name for name in _PROBES if name in there), *(name for name in there if name not in _PROBES)]


def _row(report: Mapping[str, Any], names: Counter[str], drawings: _Drawings) -> dict[str, Any]:
    """Return what the template needs of one report."""
    starttls = report.get("starttls")
    name = _name(f"{report['endpoint']}.{starttls}" if starttls else report["endpoint"], names)
    findings = [_finding(finding, name, names, drawings) for finding in report["findings"]]
    says = next((finding["says"] for finding in findings if finding["probe"] == report.get("worst")), "")
    return {
        "name": name,
        "endpoint": report["endpoint"],
        "starttls": starttls,
        "verdict": report["verdict"],
        "rank": _rank(report["verdict"]),
        "says": says,
        "facts": [(label, report.get(key)) for label, key in _FACTS if report.get(key) not in (None, "")],
        "findings": findings,
        "cells": {finding["probe"]: finding for finding in findings},
    }


_FACTS: Final = (("address", "address"), ("protocol", "protocol"), ("", "tls"), ("connections", "connections"))


def _finding(finding: Mapping[str, Any], place: str, names: Counter[str], drawings: _Drawings) -> dict[str, Any]:
    ending = drawings.ending(finding)
    runs, lost = finding.get("runs") or 0, finding.get("lost") or 0
    return {
        "name": _name(f"{place}.{finding['probe']}", names),
        "probe": finding["probe"],
        "verdict": finding["verdict"],
        "rank": _rank(finding["verdict"]),
        "says": finding["says"],
        "rule": finding.get("rule") or "",
        "odds": f"{lost} of {runs}" if lost and runs > 1 else "",
        "facts": [(name, _plain(value)) for name, value in (finding.get("facts") or {}).items()],
        "summary": str(ending) if ending is not None else "",
        "ladder": _drawn(ending) if ending is not None else None,
    }


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "none" if value is None else str(value)


def _rank(verdict: str) -> int:
    return _VERDICTS[verdict].rank if verdict in _VERDICTS else Verdict.UNKNOWN.rank


def _name(text: str, names: Counter[str]) -> str:
    """Return the name of a permalink: the same for the same report, and different from all others on the page."""
    name = _NOT_IN_LINKS.sub("-", text) or "-"
    names[name] += 1
    return name if names[name] == 1 else _name(f"{name}-{names[name]}", names)


def _drawn(ending: Ending) -> Markup:
    """Return the ladder as an address of an image, in which nothing of the page can be reached."""
    svg = render_svg(ending).encode("utf-8", "backslashreplace")
    return Markup("data:image/svg+xml;base64,") + base64.b64encode(svg).decode("ascii")
