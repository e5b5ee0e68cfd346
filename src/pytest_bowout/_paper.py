"""What ladders are drawn on: as wide as the terminal, with the characters that it has."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    import pytest

#: Of what the ladders are drawn.
_STROKES: Final = "│─╍━►◄✓✗·"
_KEY: Final = "bowout_paper"


@dataclass(frozen=True, slots=True)
class Paper:
    """A terminal's width in columns, and whether it has more than ASCII."""

    width: int = 80
    unicode: bool = True

    @classmethod
    def of(cls, config: pytest.Config) -> Self:
        """That of this process, or of the one that has a worker of pytest-xdist work."""
        told = getattr(config, "workerinput", {}).get(_KEY)
        if told is not None:
            return cls(*told)
        return cls(shutil.get_terminal_size().columns, _has_strokes(getattr(sys.stdout, "encoding", None)))

    def tell(self, workerinput: dict[str, Any]) -> None:
        """Put it where a worker finds it."""
        workerinput[_KEY] = (self.width, self.unicode)


def _has_strokes(encoding: str | None) -> bool:
    try:
        _STROKES.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
