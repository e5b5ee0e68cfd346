"""Write the table of docs/reference/check.md from tests/interop/check.toml; ``--check`` only compares."""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "tests" / "interop" / "check.toml"
TARGET: Final = ROOT / "docs" / "reference" / "check.md"
BEGIN: Final = "<!-- from tests/interop/check.toml, by scripts/generate_check.py -->\n"
END: Final = "<!-- end -->\n"


def table() -> str:
    """The table, in Markdown."""
    data = tomllib.loads(SOURCE.read_text(encoding="utf-8"))
    lines = ["| server | not OK | |", "|---|---|---|"]
    for name, about in data.items():
        cells = ", ".join(_cells(about)) or "nothing"
        lines.append(f"| {name} {about['version']} | {cells} | {about.get('note', '')} |")
    return "\n".join(lines) + "\n"


def _cells(about: Mapping[str, Any]) -> Iterator[str]:
    for probe, cell in about["cells"].items():
        if cell == "SKIPPED":
            continue
        others = [
            f"{_told(about[f'tls {tls}'][probe])} in TLS {tls}"
            for tls in ("1.2", "1.3")
            if probe in about.get(f"tls {tls}", {})
        ]
        yield f"`{probe}` " + "; ".join([_told(cell), *others])


def _told(cell: str | Mapping[str, Mapping[str, int]]) -> str:
    if isinstance(cell, str):
        return cell
    odds = cell["odds"]
    whole = sum(odds.values())
    return " or ".join(f"{verdict} ({count} of {whole} runs)" for verdict, count in odds.items())


def page(text: str) -> str:
    """The page with the table of today."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only tell whether the page is up to date")
    checking = parser.parse_args().check
    text = TARGET.read_text(encoding="utf-8")
    wanted = page(text)
    if checking and text != wanted:
        print(f"{TARGET.relative_to(ROOT)} is out of date: run scripts/generate_check.py", file=sys.stderr)
        return 1
    if not checking:
        TARGET.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
