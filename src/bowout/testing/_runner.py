"""The threads of a peer: one that accepts, and one for each connection. None of them outlives the peer's block.

A thread waits only in `Wire` and `accept`, which end when the test is over. A script that blocks by itself is left
behind as a daemon with its socket closed, and is told of.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bowout.testing._act import Act
from bowout.testing._opening import Opening
from bowout.testing._receiving import ExpectationFailed
from bowout.testing._session import TLS, HandshakeFailed, Session
from bowout.testing._wire import Gone, Signals, Stopped, Wire, accept
from bowout.testing._witness import Witness

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from bowout.ending import Role
    from bowout.testing._catalogue import Script
    from bowout.testing._keylog import KeyLog
    from bowout.testing._report import Report

#: Seconds that a peer may take to the end of its script when the test is over, unless it has less time anyway.
_LAST_CALL: Final = 5.0
_BACKLOG: Final = 128


@dataclass(frozen=True, slots=True)
class Part:
    """What to play on each connection; the fields are the arguments of `Peer`."""

    script: Script
    opening: Callable[[Opening], object] | None
    name: str
    role: Role
    context: ssl.SSLContext
    server_hostname: str
    timeout: float
    byte_by_byte: bool
    data_cap: int


class Runner:
    """Plays a part on some connections.

    Attributes:
        signals: what the test tells the threads.
    """

    def __init__(self, part: Part, keylog: KeyLog) -> None:
        self._part, self._keylog = part, keylog
        self.signals = Signals()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._wires: list[Wire] = []
        self._reports: dict[int, Report] = {}
        self._failures: list[BaseException] = []
        self._sockets: list[socket.socket] = []

    # -- beginning ----------------------------------------------------------------------------------------------

    def listen(self, host: str, port: int, connections: int | None) -> tuple[str, int]:
        """Take so many connections, or any number; where they can be made."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._sockets.append(listener)
        bound_to, bound_port = listener.getsockname()[:2]
        self._start(lambda: self._accept(listener, connections), "accept")
        return bound_to, bound_port

    def connect(self, address: tuple[str, int], connections: int) -> None:
        """Make so many connections."""
        for number in range(connections):
            self._start(lambda number=number: self._connect(address, number), str(number))  # type: ignore[misc]

    def adopt(self, sock: socket.socket) -> None:
        """Take over a connection."""
        self._start(lambda: self._play(sock, 0), "0")

    def _start(self, target: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=target, name=f"bowout peer {self._part.name} {name}", daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    # -- the threads --------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket, connections: int | None) -> None:
        deadline = None if connections is None else time.monotonic() + self._part.timeout
        number = 0
        with listener:
            while connections is None or number < connections:
                sock = accept(listener, self.signals, deadline)
                if sock is None:
                    break
                self._start(lambda sock=sock, number=number: self._play(sock, number), str(number))  # type: ignore[misc]
                number += 1
        if number == 0:
            self._nobody("nobody connected", 0)

    def _connect(self, address: tuple[str, int], number: int) -> None:
        try:
            sock = socket.create_connection(address, timeout=self._part.timeout)
        except OSError as error:
            self._nobody(f"no connection to the code under test: {error}", number)
        else:
            self._play(sock, number)

    def _nobody(self, error: str, number: int) -> None:
        witness = self._witness(number)
        witness.error = error
        self._done(number, witness)

    def _witness(self, number: int) -> Witness:
        return Witness(self._part.name, self._part.role, number, self._part.data_cap)

    def _done(self, number: int, witness: Witness) -> None:
        with self._lock:
            self._reports[number] = witness.draw_up()

    def _play(self, sock: socket.socket, number: int) -> None:
        part, witness = self._part, self._witness(number)
        wire = Wire(sock, self.signals, time.monotonic() + part.timeout, byte_by_byte=part.byte_by_byte)
        with self._lock:
            self._wires.append(wire)
        try:
            witness.connect(part.name)
            tls = TLS(part.context, part.role, part.server_hostname)
            session = Session(wire, witness, tls, keylog=self._keylog, role=part.role)
            act = Act(session, wire, witness, signals=self.signals, role=part.role, number=number)
            opening = Opening(wire, witness, role=part.role, number=number)
            self._run(opening, act, witness)
            act.finish()
        except BaseException as error:  # noqa: BLE001  (it is raised again where the block is left)
            self._failures.append(error)
        finally:
            wire.close()
            self._done(number, witness)

    def _run(self, opening: Opening, act: Act, witness: Witness) -> None:
        """Run the script. It ends early without being wrong where the other side leaves, or the test does."""
        __tracebackhide__ = True
        try:
            if self._part.opening is not None:
                self._part.opening(opening)
                opening.finish()
            self._part.script(act)
            witness.finished = True
        except (Gone, Stopped, HandshakeFailed) as stop:
            witness.error = str(stop)
        except ExpectationFailed as failed:
            witness.error = str(failed)
            self._failures.append(failed)
        except BaseException as error:
            witness.error = f"{type(error).__name__}: {error}"
            raise

    # -- ending -------------------------------------------------------------------------------------------------

    def join(self, timeout: float) -> bool:
        """Wait for the threads; whether all have ended."""
        deadline = time.monotonic() + timeout
        while running := self._running():  # the one that accepts may still start others
            running[0].join(max(0.0, deadline - time.monotonic()))
            if running[0].is_alive():
                return False
        return True

    def _running(self) -> list[threading.Thread]:
        with self._lock:
            return [thread for thread in self._threads if thread.is_alive()]

    def end(self) -> None:
        """The test is over: let the threads see what there still is to see, and wait for them.

        Raises:
            RuntimeError: a script blocks by itself.
        """
        self.signals.end()
        with self._lock:
            for wire in self._wires:
                wire.deadline = min(wire.deadline, time.monotonic() + _LAST_CALL)
        if not self.join(_LAST_CALL + 1):
            names = ", ".join(thread.name for thread in self._running())
            raise RuntimeError(f"a script goes on though its test is over: {names}")

    def close(self) -> None:
        """Let every descriptor go."""
        self.signals.end()
        for sock in self._sockets:
            sock.close()
        for wire in self._wires:
            with contextlib.suppress(OSError):
                wire.close()
        self.signals.close()

    def reports(self) -> tuple[Report, ...]:
        """Those of the connections that are over, in their order."""
        with self._lock:
            return tuple(report for _, report in sorted(self._reports.items()))

    def raise_failure(self) -> None:
        """Raise what went wrong first in a script, if anything did."""
        __tracebackhide__ = True
        if self._failures:
            raise self._failures[0]
