"""Connecting by TCP in blocking code: every address of a name is tried, by Happy Eyeballs (RFC 8305)."""

from __future__ import annotations

import errno
import itertools
import math
import queue
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from bowout._backends.sockets import (
    begin_to_connect,
    bind_to_any,
    check_connected,
    new_socket,
    numeric_address,
    resolvable,
)

if TYPE_CHECKING:
    from bowout._backends.sockets import Endpoint


def dial(host: str, port: int, deadline: float, *, local: tuple[str, int] | None, delay: float) -> socket.socket:
    """Return a non-blocking socket that is connected to `host`.

    Args:
        host: a name or an address.
        port: the TCP port.
        deadline: latest time to succeed, on the clock of ``time.monotonic``.
        local: name or address, and port, to connect from; None for the system's choice.
        delay: seconds after which the next address is tried beside the ones before (RFC 8305 section 5).

    Raises:
        OSError, UnicodeError: that is impossible.
        TimeoutError: it is not done at `deadline`.
    """
    endpoints = _in_turns(_resolve(host, port, deadline))
    if local is None:
        race = _Race(endpoints, None, delay)
    else:
        # Two sockets cannot have the same local port: then, one address after the other.
        race = _Race(endpoints, _resolve(*local, deadline), math.inf if local[1] else delay)
    try:
        return race.run(deadline)
    finally:
        race.close()


def _resolve(host: str, port: int, deadline: float) -> list[Endpoint]:
    """Return the addresses of `host`. The system's resolver has no deadline, and so gets a thread of its own."""
    if endpoints := numeric_address(host, port):
        return endpoints
    name = resolvable(host)
    answers: queue.SimpleQueue[list[Endpoint] | Exception] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            answers.put(list(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)))
        except Exception as error:  # noqa: BLE001  (it is raised in the caller's thread)
            answers.put(error)

    threading.Thread(target=resolve, name=f"bowout resolves {host}", daemon=True).start()
    try:
        answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        raise TimeoutError(errno.ETIMEDOUT, "the name was not resolved in time") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _in_turns(endpoints: list[Endpoint]) -> list[Endpoint]:
    """Return the endpoints with the two families alternating, the resolver's first choice first (section 4)."""
    families = list(dict.fromkeys(endpoint[0] for endpoint in endpoints))
    columns = [[endpoint for endpoint in endpoints if endpoint[0] == family] for family in families]
    return [endpoint for row in itertools.zip_longest(*columns) for endpoint in row if endpoint is not None]


class _Race:
    """Attempts to connect, of which the first to succeed wins."""

    def __init__(self, endpoints: list[Endpoint], local: list[Endpoint] | None, delay: float) -> None:
        self._endpoints = endpoints
        self._local = local
        self._delay = delay
        self._pending: list[tuple[socket.socket, Any]] = []
        self._errors: list[OSError] = []

    def run(self, deadline: float) -> socket.socket:
        waiting = iter(self._endpoints)
        more = True
        while True:
            if more:
                endpoint = next(waiting, None)
                more = endpoint is not None
                if endpoint is not None and (winner := self._begin(endpoint)):
                    return winner
            if not (self._pending or more):
                raise self._error()
            # An attempt that fails lets the next begin at once.
            until = time.monotonic() + self._delay if more and self._pending else deadline
            if (winner := self._wait(min(until, deadline), more=more)) is not None:
                return winner
            if time.monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, "no address answered in time")

    def close(self) -> None:
        """Close the sockets of the attempts that have not won."""
        while self._pending:
            self._pending.pop()[0].close()

    def _begin(self, endpoint: Endpoint) -> socket.socket | None:
        try:
            sock, address = new_socket(endpoint)
        except OSError as error:  # This machine has no such family.
            self._errors.append(error)
            return None
        self._pending.append((sock, address))
        return self._settle(sock, lambda: self._bind_and_begin(sock, address))

    def _bind_and_begin(self, sock: socket.socket, address: Any) -> bool:
        if self._local is not None:
            bind_to_any(sock, self._local)
        return begin_to_connect(sock, address)

    def _wait(self, until: float, *, more: bool) -> socket.socket | None:
        """Wait until an attempt succeeds, or, if there are `more` to begin, fails; or until a time."""
        while self._pending:
            before = len(self._pending)
            _, ready, failed = select.select(
                [], [sock for sock, _ in self._pending], [sock for sock, _ in self._pending],
                max(0.0, until - time.monotonic()),
            )  # fmt: skip
            for sock in {*ready, *failed}:
                if (winner := self._settle(sock, lambda sock=sock: self._is_connected(sock))) is not None:
                    return winner
            if time.monotonic() >= until or (more and len(self._pending) < before):
                return None
        return None

    @staticmethod
    def _is_connected(sock: socket.socket) -> bool:
        check_connected(sock)
        return True

    def _settle(self, sock: socket.socket, attempt: Any) -> socket.socket | None:
        """Return `sock` if `attempt` says that it is connected; drop it if it failed."""
        try:
            if not attempt():
                return None
        except OSError as error:
            self._errors.append(error)
            self._drop(sock)
            sock.close()
            return None
        self._drop(sock)
        return sock

    def _drop(self, sock: socket.socket) -> None:
        self._pending = [pair for pair in self._pending if pair[0] is not sock]

    def _error(self) -> OSError:
        if len(self._errors) == 1:
            return self._errors[0]
        error = OSError("; ".join(dict.fromkeys(str(one) for one in self._errors)))
        error.__cause__ = ExceptionGroup("every address failed", self._errors)
        return error
