"""The style of ladders: the terminal's width and characters."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    import pytest

#: The characters that ladders are drawn with.
_STROKES: Final = "│─╍━►◄✓✗·"
_KEY: Final = "bowout_paper"


@dataclass(frozen=True, slots=True)
class TerminalStyle:
    """A terminal's width in columns, and whether it can show the characters of ladders."""

    width: int = 80
    unicode: bool = True

    @classmethod
    def of(cls, config: pytest.Config) -> Self:
        """Return the style of this process's terminal; in a worker of pytest-xdist, of its parent's."""
        told = getattr(config, "workerinput", {}).get(_KEY)
        if told is not None:
            return cls(*told)
        return cls(shutil.get_terminal_size().columns, _has_strokes(getattr(sys.stdout, "encoding", None)))

    def tell(self, workerinput: dict[str, Any]) -> None:
        """Store the style in `workerinput`, where a worker finds it."""
        workerinput[_KEY] = (self.width, self.unicode)


def _has_strokes(encoding: str | None) -> bool:
    try:
        _STROKES.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
