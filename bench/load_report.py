"""The results of `load.py`, as tables and as a chart."""

from __future__ import annotations

import os
import platform
import ssl
from importlib import metadata
from typing import Any, Final
from xml.sax.saxutils import escape

Result = dict[str, Any]

#: The server without bowout on each loop, with which a drain is compared.
_PLAIN: Final = {
    "asyncio": "start_server on asyncio",
    "uvloop": "start_server on uvloop",
    "trio": "serve_ssl_over_tcp on trio",
}

#: What a bowout connection may cost, in KiB, while nothing happens on it.
AIM_KIB: Final = 48


def machine() -> dict[str, Any]:
    """Return the machine and the versions of the measurement."""
    return {
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        **{name: metadata.version(name) for name in ("uvloop", "trio", "bowout")},
    }


def table(results: list[Result]) -> str:
    """Return three tables in Markdown, which are readable on a terminal, too."""
    return "\n".join((_sizes(results), _drains("drain", results), _drains("silent", results)))


def _sizes(results: list[Result]) -> str:
    rows = [
        [
            result["server"],
            f"{step['connections']:,}",
            f"{step['rss_kib_per_connection']:.1f}",
            f"{step['pss_kib_per_connection']:.1f}",
            f"{step['rss_kib_after_echo']:.1f}" if "rss_kib_after_echo" in step else "",
            f"{step['cpu_ms_per_handshake']:.2f}",
            f"{step['user_ms_per_handshake']:.2f} + {step['system_ms_per_handshake']:.2f}",
            f"{step['handshakes_per_second']:,.0f}",
            f"{step['cpu_us_per_echo']:.0f}",
        ]
        for result in results
        for step in result["sizes"]
    ]
    head = ["server", "connections", "RSS KiB each", "Pss KiB each", "RSS after an echo each", "CPU ms/handshake"]
    head += ["user + system", "handshakes/s", "CPU µs/echo"]
    return _markdown(head, rows)


def _drains(which: str, results: list[Result]) -> str:
    head = ["drain, one in ten silent" if which == "silent" else "drain, all idle", "connections"]
    head += ["the clients saw", "last of these, s", "of the plain server's", "server done, s"]
    if which == "silent":
        head.append("the silent ones were sent")
    rows = []
    for result in results:
        drain = result[which]
        saw = dict(drain["clients_saw"])
        if drain["unended"]:
            saw["nothing"] = drain["unended"]
        row = [result["server"], f"{drain['connections']:,}", _counts(saw)]
        row += [f"{drain['seconds_to_last_end']:.2f}", _ratio(result, which, results)]
        row.append(f"{drain['seconds_to_done']:.2f}")
        if which == "silent":
            row.append(_counts(drain["silent_saw"]))
        rows.append(row)
    return _markdown(head, rows)


def _ratio(result: Result, which: str, results: list[Result]) -> str:
    """Return how the time to the last end compares with that of the plain server on the same loop in the same run."""
    plain = _PLAIN.get(result["server"].rpartition(" on ")[2])
    others = [other[which] for other in results if other["server"] == plain]
    if not others or result["server"] == plain:
        return ""
    return f"{result[which]['seconds_to_last_end'] / others[0]['seconds_to_last_end']:.2f}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {how}" for how, count in sorted(counts.items(), key=lambda item: -item[1]))


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |\n"
        for line in lines
    )


# -- the chart ---------------------------------------------------------------------------------------------------------

_WIDTH: Final = 760
_LABEL: Final = 200
_BAR: Final = 400
_ROW: Final = 22
_LABEL_WIDTH: Final = 40
_STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .head { font-weight: 600 } .ours { fill: #0969da }
.other { fill: #afb8c1 } .aim { stroke: #cf222e; stroke-dasharray: 4 3 } .page { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .ours { fill: #4493f8 } .other { fill: #57606a } .aim { stroke: #f85149 }
  .page { fill: #0d1117 } }
"""


def chart(results: list[Result]) -> str:
    """Bars: memory and CPU of a connection, as an SVG for light and dark."""
    count = f"{results[0]['sizes'][-1]['connections']:,}" if results else "0"
    panels = (
        (f"KiB (RSS) for each of {count} idle connections; the line is our aim", "rss_kib_after_echo", AIM_KIB),
        ("Server CPU for a handshake, ms", "cpu_ms_per_handshake", None),
        (f"Server CPU for an echo of 64 bytes among {count} connections, µs", "cpu_us_per_echo", None),
    )
    parts: list[str] = []
    top = 16
    for title, key, aim in panels:
        values = [(result["server"], float(result["sizes"][-1][key])) for result in results]
        parts += _panel(top, title, values, aim)
        top += _ROW * (len(values) + 1) + 28
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" role="img">\n<style>{_STYLE}</style>\n'
        f'<rect class="page" width="{_WIDTH}" height="{top}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(top: int, title: str, values: list[tuple[str, float]], aim: float | None) -> list[str]:
    scale = _BAR / max(aim or 0.0, *(value for _, value in values), 1e-9)
    parts = [f'<text class="head" x="12" y="{top + 12}">{escape(title)}</text>']
    for number, (name, value) in enumerate(values, 1):
        y = top + number * _ROW
        # Not across the line of the aim.
        label_at = aim * scale if aim is not None and value < aim < value + _LABEL_WIDTH / scale else value * scale
        kind = "ours" if name.startswith("bowout") else "other"
        parts += [
            f'<text x="12" y="{y + 14}">{escape(name)}</text>',
            f'<rect class="{kind}" x="{_LABEL}" y="{y + 3}" width="{value * scale:.1f}" height="14" rx="2"/>',
            f'<text x="{_LABEL + label_at + 6:.1f}" y="{y + 14}">{value:.3g}</text>',
        ]
    if aim is not None:
        x = _LABEL + aim * scale
        bottom = top + (len(values) + 1) * _ROW
        parts.append(f'<line class="aim" x1="{x:.1f}" x2="{x:.1f}" y1="{top + _ROW}" y2="{bottom}"/>')
    return parts
