"""The stacks of the matrix, each a small adapter.

A new one is a `Stack` in one of these modules, its package in ``.ci/packages.txt`` or ``pyproject.toml``, and its lines
in ``expectations.toml``: a case without a line fails, and prints it. Then run ``scripts/generate_interop.py``.
"""

from __future__ import annotations

from typing import Final

from interop.stacks import daemons, programs, tools
from interop.stacks.base import Stack

STACKS: Final[dict[str, Stack]] = {stack.name: stack for stack in (*tools.STACKS, *daemons.STACKS, *programs.STACKS)}
