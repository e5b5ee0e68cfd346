"""Which lane application data take through an open connection: C, which is faster, or Python.

    python -c "import bowout.lane; print(bowout.lane.name, bowout.lane.why_python)"

It is C where the lane in C was built: a wheel has it if there were a C compiler and Python's headers. The environment
variable ``BOWOUT_LANE`` chooses before bowout is imported: ``c`` or ``python``. Every connection ends alike on both,
and its `bowout.Ending` is the same. It is for streams over sockets on
asyncio, uvloop and trio, and for the transports of `bowout.asyncio`; streams over other byte streams do without it, as
do connections with ``on_event``.
"""

from __future__ import annotations

from typing import Final, Literal

from bowout import _lane

__all__ = ["name", "why_python"]

name: Final[Literal["c", "python"]] = "python" if _lane.native is None else "c"
"""``c`` or ``python``."""
why_python: Final[str] = _lane.why_python
"""The reason for Python; "" for C."""
