"""What a process that does nothing but probe sets for itself."""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Objects that are made before the collector of cycles looks at the youngest; hundreds of connections live at once, so
#: that the default of 700 looks at the same ones again and again.
_YOUNGEST: Final = 20_000
#: Collections of one generation before the next older one is looked at, too.
_OLDER: Final = 20


@contextlib.contextmanager
def collecting_less() -> Iterator[None]:
    """Let the collector of cycles run less often in the block: it took a fifth of the CPU of a fleet."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_YOUNGEST, _OLDER, _OLDER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
