"""Bars with whiskers, as an SVG for light and dark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from compare_figures import FIGURES, FLOOR, OURS_IN_PYTHON, Value, number

if TYPE_CHECKING:
    from compare_figures import Figures

#: The charts, and the figures of their panels.
CHARTS: Final = {
    "compare": ("receive", "send", "echo64", "idle"),
    "compare-more": ("receive_into", "echo4k", "many1000", "handshake", "p50", "p95", "burst"),
}

_WIDTH: Final = 760
_LABEL: Final = 210
_BAR: Final = 440
_ROW: Final = 20
_LIMITS: Final = ("C on libssl", "Boost.Asio", FLOOR)
_STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .head { font-weight: 600 } .small { font-size: 11px }
.plain { fill-opacity: 0.55 }
.ours { fill: #0969da } .other { fill: #afb8c1 } .limit { fill: #1a7f37 } .spread { stroke: #1f2328; stroke-width: 1.5 }
.page { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .ours { fill: #4493f8 } .other { fill: #57606a } .limit { fill: #3fb950 }
  .spread { stroke: #e6edf3 } .page { fill: #0d1117 } }
"""


def chart(keys: tuple[str, ...], figures: Figures, caption: str) -> str:
    """Draw a panel for each figure, its contenders from the lowest to the highest; lower is better in all of them."""
    parts: list[str] = []
    top = 16
    for key in keys:
        values = [(name, value) for name in figures.contenders if (value := figures.get(key, name)) is not None]
        if not values:
            continue
        values.sort(key=lambda item: item[1].median)
        parts += _panel(top, f"{FIGURES[key].title}: {FIGURES[key].unit}", values)
        top += _ROW * (len(values) + 1) + 26
    parts.append(f'<text class="small" x="12" y="{top + 4}">{escape(_LEGEND)}</text>')
    parts.append(f'<text class="small" x="12" y="{top + 20}">{escape(caption)}</text>')
    height = top + 34
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">\n'
        f'<style>{_STYLE}</style>\n<rect class="page" width="{_WIDTH}" height="{height}"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


_LEGEND: Final = "Medians, less is better; whiskers: the lowest and the highest sample. Green: no event loop of Python."


def _panel(top: int, title: str, values: list[tuple[str, Value]]) -> list[str]:
    scale = _BAR / max(*(value.high for _, value in values), 1e-9)
    parts = [f'<text class="head" x="12" y="{top + 12}">{escape(title)}</text>']
    for place, (name, value) in enumerate(values, 1):
        y = top + place * _ROW
        width = max(0.0, value.median * scale)
        low, high = (max(0.0, end * scale) for end in (value.low, value.high))
        parts += [
            f'<text x="12" y="{y + 14}">{escape(name)}</text>',
            f'<rect class="{_kind(name)}" x="{_LABEL}" y="{y + 3}" width="{width:.1f}" height="13" rx="2"/>',
        ]
        if value.high > value.low:
            middle = y + 9.5
            parts.append(
                f'<path class="spread" d="M{_LABEL + low:.1f} {middle}H{_LABEL + high:.1f}'
                f'M{_LABEL + low:.1f} {middle - 3}v6M{_LABEL + high:.1f} {middle - 3}v6"/>'
            )
        parts.append(f'<text x="{_LABEL + high + 6:.1f}" y="{y + 14}">{number(value.median)}</text>')
    return parts


def _kind(name: str) -> str:
    if name.startswith("bowout "):
        return "ours plain" if name in OURS_IN_PYTHON else "ours"
    return "limit" if name in _LIMITS else "other"
