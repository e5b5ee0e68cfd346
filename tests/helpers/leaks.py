"""What a test must not leave behind: file descriptors and threads.

Tasks are the runners' business (`helpers.runners`), and unclosed sockets and files name themselves: each is a
ResourceWarning, and a warning is an error here.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

FDS: Final = Path("/proc/self/fd")

#: Seconds that a thread which was told to stop may take to be gone.
PATIENCE: Final = 60.0

#: trio keeps idle workers for the next `to_thread.run_sync`; a busy one has another name.
IDLE_WORKER: Final = "Trio thread"


class Leak(AssertionError):
    """A test left something open."""


@contextmanager
def no_leaks(unless: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Expect the block to leave no more file descriptors and threads than it found; do not look if `unless()`."""
    fds, threads = open_fds(), set(threading.enumerate())
    yield
    if unless():
        return
    gc.collect()  # a descriptor that only garbage holds is a ResourceWarning, not a leak
    left = [f"descriptor {fd}: {kind}" for fd, kind in open_fds().items() if fds.get(fd) != kind]
    left += [f"thread {thread.name}" for thread in _threads_left(threads)]
    if left:
        raise Leak("left open: " + ", ".join(left))


def open_fds() -> dict[int, str]:
    """Each open descriptor of this process with its kind and identity, such as ``socket:[4711]``."""
    if not FDS.is_dir():
        return {}  # not Linux: the ResourceWarnings must do
    kinds = {}
    for name in os.listdir(FDS):  # noqa: PTH208 Path.iterdir would list its own descriptor too, and keep it open
        try:
            kinds[int(name)] = os.readlink(FDS / name)  # noqa: PTH115 the text of the link, no path
        except FileNotFoundError:  # the one that listed the directory
            continue
    return kinds


def _threads_left(before: set[threading.Thread]) -> list[threading.Thread]:
    deadline = time.monotonic() + PATIENCE
    left = [thread for thread in set(threading.enumerate()) - before if not thread.name.startswith(IDLE_WORKER)]
    for thread in left:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [thread for thread in left if thread.is_alive()]
