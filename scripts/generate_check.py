"""Write the table of docs/reference/check.md from tests/interop/verdicts.toml; ``--check`` only compares."""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "tests" / "interop" / "verdicts.toml"
TARGET: Final = ROOT / "docs" / "reference" / "check.md"
BEGIN: Final = "<!-- from tests/interop/verdicts.toml, by scripts/generate_check.py -->\n"
END: Final = "<!-- end -->\n"


def table() -> str:
    """The table, in Markdown."""
    lines = ["| server | not OK | |", "|---|---|---|"]
    for name, row in tomllib.loads(SOURCE.read_text(encoding="utf-8")).items():
        odds = (f"`{probe}`: {text}" for probe, text in row.get("odds", {}).items())
        notes = " ".join([*filter(None, [row.get("note")]), *odds])
        lines.append(f"| {name} {row['release']} | {', '.join(_cells(row)) or 'nothing'} | {notes} |")
    return "\n".join(lines) + "\n"


def _cells(row: Mapping[str, Any]) -> Iterator[str]:
    older = row.get("tls 1.2", {})
    for probe, cell in {**row["verdicts"], "idle": row.get("idle", "OK")}.items():
        told = [] if cell in ("OK", "SKIPPED") else [_told(cell)]
        if probe in older:
            told.append(f"{_told(older[probe])} in TLS 1.2")
        if told:
            yield f"`{probe}` " + "; ".join(told)


def _told(cell: str | list[str]) -> str:
    return cell if isinstance(cell, str) else " or ".join(cell)


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
