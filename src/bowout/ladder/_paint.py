"""The elements of an SVG picture: its colours, its shapes, and an estimate of the width of a text."""

from __future__ import annotations

import unicodedata
from typing import Final
from xml.sax.saxutils import escape as quoted

from bowout.ladder._rows import Fate

_FONT: Final = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif"

#: Each colour in the light and in the dark look.
_COLORS: Final = {
    "ground": ("#ffffff", "#0d1117"),
    "panel": ("#f6f8fa", "#161b22"),
    "edge": ("#d1d9e0", "#30363d"),
    "life": ("#b7bfc8", "#484f58"),
    "plain": ("#1f2328", "#e6edf3"),
    "dim": ("#59636e", "#9198a1"),
    "data": ("#0969da", "#58a6ff"),
    "good": ("#1a7f37", "#3fb950"),
    "warn": ("#9a6700", "#d29922"),
    "bad": ("#cf222e", "#ff7b72"),
    "good-ground": ("#eefbf1", "#0f2417"),
    "good-edge": ("#aceebb", "#1f6f35"),
    "warn-ground": ("#fff8e3", "#272115"),
    "warn-edge": ("#ecd28a", "#7a5a12"),
    "bad-ground": ("#fff1f0", "#2b1618"),
    "bad-edge": ("#ffc4c0", "#8e3631"),
}

#: Half the size of a head or a cross, in pixels; the path of a zigzag, and its width.
_HEAD: Final = 5
_ZIGZAG: Final = "l5 -6 l7 12 l7 -12 l7 12 l5 -6"
_ZIGZAG_WIDTH: Final = 31


def opening(wide: float, high: float) -> str:
    """Make the tag that opens the document."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:g}" height="{high:g}" viewBox="0 0 {wide:g} {high:g}" '
        f'class="bowout" role="img" font-family="{_FONT}">'
    )


def style() -> str:
    """Make the dark look; the light one is in the shapes themselves, for renderers that ignore styles."""
    rules = "".join(
        f".bowout .f-{name}{{fill:{dark}}}.bowout .s-{name}{{stroke:{dark}}}" for name, (_, dark) in _COLORS.items()
    )
    return f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"


def width(text: str, size: float, *, bold: bool = False) -> float:
    """Estimate the width of a text, in pixels: in the widest of the usual fonts, since the reader's is unknown."""
    return size * (1.1 if bold else 1.0) * sum(map(_advance, text))


def _advance(char: str) -> float:
    if char in " .,:;'|!()[]/filjtrI":
        return 0.44
    if char in "mwMW@%":
        return 1.0
    if char.isascii():
        return 0.8 if char.isupper() or char in "+<>=~#^" else 0.62
    # A ligature or an abbreviation is as wide as its full form.
    return max(1.0, 0.62 * len(unicodedata.normalize("NFKD", char)))


def box(
    x: float, y: float, wide: float, high: float, *, radius: int, fill: str, stroke: str, dashed: bool = False
) -> str:
    """Draw a rectangle with round corners."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{wide:g}" height="{high:g}" rx="{radius}" '
        f'class="f-{fill} s-{stroke}" fill="{_light(fill)}" stroke="{_light(stroke)}"'
        + (' stroke-dasharray="2 5" stroke-linecap="round"/>' if dashed else "/>")
    )


def dot(x: float, y: float, color: str) -> str:
    """Draw a mark on a lifeline."""
    return (
        f'<circle cx="{x:g}" cy="{y:g}" r="4.5" class="f-{color} s-ground" '
        f'fill="{_light(color)}" stroke="{_light("ground")}" stroke-width="2"/>'
    )


def line(path: str, color: str, *, wide: float = 1.6, dashes: str = "") -> str:
    """Draw an open path."""
    dashed = f' stroke-dasharray="{dashes}" stroke-linecap="round"' if dashes else ""
    return f'<path d="{path}" class="s-{color}" fill="none" stroke="{_light(color)}" stroke-width="{wide:g}"{dashed}/>'


def text(x: float, y: float, words: str, color: str, *, size: float, anchor: str = "start", bold: bool = False) -> str:
    """Draw a line of text at a baseline."""
    looks = ' font-weight="600"' if bold else ""
    if anchor != "start":
        looks += f' text-anchor="{anchor}"'
    return (
        f'<text x="{x:g}" y="{y:g}" class="f-{color}" fill="{_light(color)}" font-size="{size:g}"{looks}>'
        f"{quoted(words)}</text>"
    )


def shaft(start: float, end: float, y: float, color: str, fate: Fate) -> list[str]:
    """Draw a line between the lifelines, or as far as it goes, and its head."""
    way = 1 if end > start else -1
    tip = end - 2 * way
    if fate is Fate.NEVER_LEFT:
        return [line(f"M{start:g} {y:g}H{end:g}", color), _cross(end, y, color)]
    if fate is Fate.CRASHED:
        at = tip - (_HEAD + 1) * way
        return [line(f"M{start:g} {y:g}H{at:g}", color, wide=3), _cross(at, y, color)]
    if fate is Fate.MISSING:
        back = tip - 2 * _HEAD * way
        return [line(f"M{start:g} {y:g}H{back:g}", color, dashes="0.1 7", wide=2), _head(tip, y, way, color, "ground")]
    middle = ""
    if fate is Fate.TORN:
        # Beside the label, which is in the middle.
        tear = start + (end - start) * 0.8 - _ZIGZAG_WIDTH / 2 * way
        middle = f"H{tear:g}" + (_ZIGZAG if way > 0 else _ZIGZAG.replace("l", "l-"))
    return [line(f"M{start:g} {y:g}{middle}H{tip - way:g}", color), _head(tip, y, way, color, color)]


def _head(tip: float, y: float, way: int, color: str, fill: str) -> str:
    back = tip - 2 * _HEAD * way
    return (
        f'<path d="M{tip:g} {y:g}L{back:g} {y - _HEAD:g}V{y + _HEAD:g}Z" class="f-{fill} s-{color}" '
        f'fill="{_light(fill)}" stroke="{_light(color)}" stroke-linejoin="round"/>'
    )


def _cross(x: float, y: float, color: str) -> str:
    low, high = y - _HEAD, y + _HEAD
    left, right = x - _HEAD, x + _HEAD
    return line(f"M{left:g} {low:g}L{right:g} {high:g}M{left:g} {high:g}L{right:g} {low:g}", color, wide=2.5)


def _light(name: str) -> str:
    return _COLORS[name][0]
