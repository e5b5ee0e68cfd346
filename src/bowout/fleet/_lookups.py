"""The addresses of names: looked up in threads of our own, and put in the order in which a fleet tries them."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from typing import TYPE_CHECKING, Any, Final

from bowout._backends.sockets import resolvable
from bowout.fleet._targets import Endpoint

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

#: Names that are looked up at once: the resolver's cache is somebody's, too.
LOOKUPS: Final = 32
#: Addresses of one name that are tried at most.
MOST_ADDRESSES: Final = 3

#: What a lookup found: addresses, or why there are none.
Found = tuple[str, ...] | Exception
#: A lookup that waits for a thread: the target, and what takes it with its addresses.
_Job = tuple[Endpoint, "Callable[[Endpoint, Found], object]"]


class NameLookups:
    """Threads that look names up. They are daemons: the end of a run does not wait for a slow resolver.

    A loop's own threads are few, four to six on a machine with two cores.

    Args:
        loop: calls what takes the results.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = 0

    def begin(self, endpoint: Endpoint, done: Callable[[Endpoint, Found], object]) -> None:
        """Look up the host of `endpoint`; `done` is called in the loop, whatever happens."""
        failure = self._add_thread() if self._threads < LOOKUPS else None
        if failure is not None and not self._threads:
            self._loop.call_soon(done, endpoint, failure)  # No thread would ever take it.
        else:
            self._jobs.put((endpoint, done))

    def _add_thread(self) -> RuntimeError | None:
        """Start one more thread; return the error if the system has none left."""
        try:
            threading.Thread(target=self._work, name="lookup", daemon=True).start()
        except RuntimeError as error:
            return error
        self._threads += 1
        return None

    def close(self) -> None:
        """Drop what waits, and let the threads end."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._jobs.get_nowait()
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            endpoint, done = job
            found: Found
            try:
                found = in_turn(_addresses(endpoint))
            except Exception as error:  # noqa: BLE001  (the run waits for an answer to each)
                found = error
            try:
                self._loop.call_soon_threadsafe(done, endpoint, found)
            except RuntimeError:  # The loop is closed: nobody wants it any more.
                return


def _addresses(endpoint: Endpoint) -> list[str]:
    found = socket.getaddrinfo(resolvable(endpoint.host), endpoint.port, type=socket.SOCK_STREAM)
    if not found:
        raise OSError(f"the resolver has no address for {endpoint.host}")
    return [str(each[4][0]).partition("%")[0] for each in found]


def in_turn(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses to try: few, each once, and IPv6 and IPv4 by turns, in the resolver's order otherwise."""
    families: dict[bool, list[str]] = {}
    for each in dict.fromkeys(addresses):
        families.setdefault(":" in each, []).append(each)
    turns: list[str] = []
    lists: list[Any] = [*families.values()]
    for place in range(MOST_ADDRESSES):
        turns += [each[place] for each in lists if place < len(each)]
    return tuple(turns[:MOST_ADDRESSES])
