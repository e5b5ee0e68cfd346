"""The pages of the scoreboard: one board, and the difference of two. They request nothing from anywhere."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bowout import Ending

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VERSION: Final = 1
KINDS: Final = (("servers", "Servers"), ("clients", "Clients"))
_TEMPLATES: Final = Path(__file__).with_name("templates")
_CELL: Final = ("verdict", "runs", "of", "seen", "says", "rule", "ending", "command")

Board = dict[str, Any]
"""What a file of the scoreboard has in it."""


class BadBoardError(ValueError):
    """A file is not a scoreboard."""


def load(path: Path) -> Board:
    """Read a board.

    Raises:
        BadBoardError: it cannot be read, or is no board.
    """
    try:
        board = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadBoardError(f"{path}: {error}") from error
    try:
        if board["version"] != VERSION:
            raise BadBoardError(f"{path} has version {board['version']!r}, and {VERSION} is known")
        for kind, _ in KINDS:
            _check_rows(board[kind], {column["name"] for column in board["columns"][kind]})
    except (AttributeError, KeyError, TypeError) as error:
        raise BadBoardError(f"{path} is not a scoreboard: {type(error).__name__}: {error}") from error
    return dict(board)


def _check_rows(rows: Any, columns: set[str]) -> None:
    for row in rows:
        _ = row["name"], row["version"], row["configuration"], row["missing"]
        for name, cell in row["cells"].items():
            if name not in columns or not cell.keys() >= set(_CELL):
                raise KeyError(name)


def board_page(board: Board) -> str:
    """Return the page of one board."""
    return _environment().get_template("board.html.j2").render(board=board, kinds=KINDS)


def diff_page(before: Board, after: Board) -> str:
    """Return the page with the differences of two boards."""
    changes = {kind: list(differences(before[kind], after[kind])) for kind, _ in KINDS}
    return _environment().get_template("diff.html.j2").render(before=before, after=after, changes=changes, kinds=KINDS)


def differences(before: list[Board], after: list[Board]) -> Iterator[Board]:
    """Yield each version and each set of verdicts that differs; how often each of them came is no difference."""
    rows = [{row["name"]: row for row in side} for side in (before, after)]
    for name in dict.fromkeys([*rows[0], *rows[1]]):
        old, new = (side.get(name) for side in rows)
        if _version(old) != _version(new):
            yield {"name": name, "what": "version", "before": _text(_version(old)), "after": _text(_version(new))}
        if old is not None and new is not None:
            yield from _cells(name, old["cells"], new["cells"])


def _cells(name: str, old: Mapping[str, Board], new: Mapping[str, Board]) -> Iterator[Board]:
    for what in dict.fromkeys([*old, *new]):
        cells = old.get(what), new.get(what)
        if _verdicts(cells[0]) != _verdicts(cells[1]):
            yield {"name": name, "what": what, "before": _side(cells[0]), "after": _side(cells[1])}


def _version(row: Board | None) -> str:
    return "absent" if row is None else str(row["version"] or "not here")


def _verdicts(cell: Board | None) -> set[str]:
    return set(cell["seen"]) if cell else set()


def _text(text: str) -> Board:
    return {"verdict": "", "text": text, "says": ""}


def _side(cell: Board | None) -> Board:
    if cell is None:
        return _text("–")
    text = ", ".join(f"{verdict} {count} of {cell['of']}" for verdict, count in cell["seen"].items())
    return {"verdict": cell["verdict"], "text": text, "says": cell["says"]}


def _picture(ending: Board) -> str:
    """Return the ladder of an ending as a data URI."""
    svg = Ending.from_dict(ending).ladder_svg()
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")


def _anchor(*parts: str) -> str:
    return ".".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.globals.update(picture=_picture, anchor=_anchor)
    return environment
