"""The catalogue: every row of the thirty endings, under one name or more."""

from __future__ import annotations

import difflib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from bowout.testing import _rows_order, _rows_records
from bowout.testing._catalogue import Entry

if TYPE_CHECKING:
    from collections.abc import Mapping

_ENTRIES: Final = [value for module in (_rows_order, _rows_records) for value in vars(module).values()]

#: All entries by name, in the order of their rows.
ENDINGS: Final[Mapping[str, Entry]] = MappingProxyType(
    {entry.name: entry for entry in sorted((e for e in _ENTRIES if isinstance(e, Entry)), key=lambda entry: entry.row)}
)


def find(name: str) -> Entry:
    """Return the entry called `name`; hyphens may stand for underscores.

    Raises:
        ValueError: there is no such entry.
    """
    entry = ENDINGS.get(name.replace("-", "_"))
    if entry is None:
        close = difflib.get_close_matches(name, ENDINGS, n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"there is no ending {name!r}{hint}")
    return entry
