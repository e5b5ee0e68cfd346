"""The results of `compare.py`, as tables and charts, and in docs/evidence/benchmarks.md.

python bench/compare_report.py          make the charts and the tables of the document again, from the JSON
python bench/compare_report.py --check  tell whether they agree with it
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any, Final

from compare_charts import CHARTS, chart
from compare_figures import FIGURES, Document, Figures, number, verdicts

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "bench" / "results"
JSON: Final = RESULTS / "compare.json"
#: The page whose blocks come from the JSON.
DOCUMENT: Final = ROOT / "docs" / "evidence" / "benchmarks.md"

_TABLES: Final = {
    "bulk": ("receive", "receive_into", "send"),
    "both": ("receive_both", "send_both", "receive_rate", "send_rate"),
    "round-trips": ("echo64", "echo64_wall", "echo4k", "many100", "many1000", "many10000"),
    "connections": ("handshake", "rate", "p50", "p95"),
    "memory": ("idle", "burst"),
    "tls12": ("receive12", "send12"),
}


def tables(document: Document) -> str:
    """Return all tables in Markdown, which is readable on a terminal, too."""
    figures = Figures(document)
    parts = [_figures_table(figures, keys) for keys in _TABLES.values()]
    return "\n".join(part for part in (*parts, aims_table(figures), without(document)) if part)


def _figures_table(figures: Figures, keys: tuple[str, ...]) -> str:
    head, rows = [""], [[name] for name in figures.contenders]
    for key in keys:
        values = [figures.get(key, name) for name in figures.contenders]
        if not any(values):
            continue
        head.append(f"{FIGURES[key].title}, {FIGURES[key].unit}")
        for row, value in zip(rows, values, strict=True):
            row.append(_with_spread(value.median, value.low, value.high) if value else "")
    rows = [row for row in rows if any(row[1:])]
    return _markdown(head, rows) if rows else ""


def aims_table(figures: Figures) -> str:
    """Return the table of the aims, each with its result."""
    rows = [
        [verdict.aim, verdict.contender, verdict.measured, "met" if verdict.met else "**missed**"]
        for verdict in sorted(verdicts(figures), key=lambda verdict: _place(verdict.aim))
    ]
    return _markdown(["aim", "", "measured", ""], rows) if rows else ""


def _place(aim: str) -> int:
    subjects = ("receive:", "receive into", "send", "64-byte", "idle", "memory after", "connect and", "echo among")
    return next(number for number, subject in enumerate(subjects) if aim.startswith(subject))


def without(document: Document) -> str:
    """Return the contenders that did not take part, and what failed."""
    lines = [f"* {name} did not take part: {why}" for name, why in document["missing"].items()]
    lines += [
        f"* {failure['contender']} failed at {failure['job']}: {failure['why']}" for failure in document["failures"]
    ]
    return "".join(f"{line}\n" for line in lines)


def how(document: Document) -> str:
    """Return the machine, the versions, the command, and the agreed TLS parameters."""
    machine = document["machine"]
    versions = ", ".join(f"{name} {machine[name]}" for name in machine if name not in _MACHINE)
    ciphers = ", ".join(sorted({sample["tls"] for sample in document["samples"] if sample["tls"]}))
    pinned = "Peer and contender shared one CPU." if document["cpu"] is not None else "All CPUs were used."
    rounds = max(job["rounds"] for job in document["jobs"].values())
    return (
        f"```\n{document['command']}\n```\n\n"
        f"on {machine['cores']} cores ({machine['cpu']}, {machine['kernel']}), CPython {machine['python']}, "
        f"{machine['openssl']}; {versions}. {pinned} Up to {rounds} rounds; medians, with the lowest "
        f"and the highest sample in brackets. Agreed on: {ciphers}.\n"
    )


_MACHINE: Final = ("cpu", "cores", "kernel", "python", "openssl")


def caption(document: Document) -> str:
    """Return the same in one line, for below a chart."""
    machine = document["machine"]
    return (
        f"{document['command']} · {machine['cores']} cores ({machine['cpu']}) · CPython {machine['python']} · "
        f"{machine['openssl'].rsplit(' ', 3)[0]}"
    )


def _with_spread(median: float, low: float, high: float) -> str:
    if low == high:
        return number(median)
    return f"{number(median)} ({number(low)}–{number(high)})"


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * max(3, width) for width in widths], *rows]
    return "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |\n"
        for line in lines
    )


# -- the files that are made -------------------------------------------------------------------------------------------


def dump(document: Document) -> str:
    """Return JSON with one sample per line."""
    samples = ",\n".join(f"  {json.dumps(sample)}" for sample in document["samples"])
    rest = json.dumps({key: value for key, value in document.items() if key != "samples"}, indent=1)
    return f'{rest[:-2]},\n "samples": [\n{samples}\n ]\n}}\n'


def blocks(document: Document) -> dict[str, str]:
    """Return the text between the marks of a document, by the name in the mark."""
    figures = Figures(document)
    made = {name: _figures_table(figures, keys) for name, keys in _TABLES.items()}
    return made | {"aims": aims_table(figures), "how": how(document), "without": without(document)}


def outputs(document: Document) -> dict[Path, str]:
    """Return the correct contents of every file that depends on the JSON."""
    figures, below = Figures(document), caption(document)
    made = {RESULTS / f"{name}.svg": chart(panels, figures, below) for name, panels in CHARTS.items()}
    texts = blocks(document)
    text = DOCUMENT.read_text(encoding="utf-8")
    return made | {DOCUMENT: _BLOCK.sub(lambda mark: f"{mark[1]}\n\n{texts[mark[2]]}\n{mark[3]}", text)}


_BLOCK: Final = re.compile(r"(<!-- from compare\.json: ([\w-]+) -->).*?(<!-- end -->)", re.DOTALL)


def save(document: Document) -> None:
    """Write the JSON, and all files that depend on it."""
    JSON.write_text(dump(document), encoding="utf-8")
    for path, text in outputs(document).items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


def differing(document: Document) -> list[str]:
    """Return the files that do not agree with the JSON."""
    return [
        str(path.relative_to(ROOT))
        for path, text in outputs(document).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    arguments = parser.parse_args()
    document: dict[str, Any] = json.loads(JSON.read_text(encoding="utf-8"))
    if not arguments.check:
        save(document)
    elif names := differing(document):
        raise SystemExit(f"error: not as {JSON.name} says: {', '.join(names)}\nhint:  python bench/compare_report.py")


if __name__ == "__main__":
    main()
