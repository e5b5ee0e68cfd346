"""The stacks of the matrix, each a small adapter."""

from __future__ import annotations

from typing import Final

from interop.stacks import daemons, programs, tools
from interop.stacks.base import Stack

STACKS: Final[dict[str, Stack]] = {stack.name: stack for stack in (*tools.STACKS, *daemons.STACKS, *programs.STACKS)}
