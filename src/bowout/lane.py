"""Which lane application data take through an open connection: C, which is faster, or Python.

    BOWOUT_LANE=c python -c "import bowout.lane; print(bowout.lane.name)"

The environment variable ``BOWOUT_LANE`` chooses it before bowout is imported: ``c`` or ``python``. Without it, it is
Python: the lane in C is new. Every connection ends alike on both, and its `bowout.Ending` is the same. The lane in C is
for streams over sockets on asyncio, uvloop and trio, and for the transports of `bowout.asyncio`; connections over other
byte streams do without, as do those with ``on_event``. It is part of a wheel that was built where there was a C
compiler.
"""

from __future__ import annotations

from typing import Final, Literal

from bowout import _lane

__all__ = ["name", "why_python"]

name: Final[Literal["c", "python"]] = "python" if _lane.native is None else "c"
"""``c`` or ``python``."""
why_python: Final[str] = _lane.why_python
"""The reason for Python; "" for C."""
