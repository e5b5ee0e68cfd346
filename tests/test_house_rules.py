"""The rules of the house that no linter knows: names, sizes, and who may touch what."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from helpers.peers import ROOT

SOURCES: Final = ROOT / "src"
#: Lines of a file in src, at most.
MOST_LINES: Final = 500
#: Documented functions of the standard library: ``os._exit``, ``sys._getframe``.
_FOREIGN: Final = frozenset({"_exit", "_getframe"})
_OWN: Final = re.compile(r"(?:self|cls|super\(\))\.(_\w+)|def (_\w+)|^\s+(_\w+)(?::| =)|\"(_\w+)\"", re.MULTILINE)


def files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def classes(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            yield node.name


def test_each_class_has_a_name_of_its_own() -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for path in files("src", "tests", "bench", "scripts", "examples"):
        for name in classes(path):
            places[name].add(str(path.relative_to(ROOT)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_file_is_long() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files("src")}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_no_module_touches_the_private_attributes_of_another() -> None:
    """What a module does not define itself is private to somebody else: for those who use it, it is public."""
    strangers = []
    for path in files("src"):
        text = path.read_text(encoding="utf-8")
        known = {name for names in _OWN.findall(text) for name in names if name} | _FOREIGN
        strangers += [
            f"{path.relative_to(ROOT)}:{node.lineno}: {node.attr}"
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
            and node.attr not in known
        ]
    assert strangers == []
