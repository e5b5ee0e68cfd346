"""Connections that a forked child has inherited: they are their parent's, and a child must not end them."""

from __future__ import annotations

import math
import os
import time
import weakref
from typing import Final, Protocol


class Inheritable(Protocol):
    """What is told that it has been inherited, in the child."""

    def inherit(self) -> None:
        """Leave the connection to the parent from now on."""


_made: Final[weakref.WeakSet[Inheritable]] = weakref.WeakSet()

_forked_at = -math.inf


class Generation:
    """Tells a process from one that it was forked from: cheaper than to ask the system for the number of the process.

    Attributes:
        number: a process and a child that it forks have different ones.
    """

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number: int = 0


generation: Final = Generation()


def watch(made: Inheritable) -> None:
    """Call ``made.inherit()`` in every child that this process forks while `made` exists."""
    _made.add(made)


def seconds_since() -> float:
    """Return for how long this process has existed, if it was forked since this module was imported; else infinity."""
    return time.monotonic() - _forked_at


def _begin_child() -> None:
    global _forked_at  # noqa: PLW0603  (it belongs to the process)
    _forked_at = time.monotonic()
    generation.number += 1
    for made in list(_made):
        made.inherit()
    _made.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_begin_child)
