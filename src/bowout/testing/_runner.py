"""The threads of a peer: one that accepts, and one for each connection. All of them end with the peer's block.

A thread waits only in `PeerSocket` and `accept`, which end when the test is over. A script that blocks by itself
is left behind as a daemon thread with its socket closed, and is reported.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bowout._scripted.connection import HandshakeFailed, ScriptedConnection
from bowout.testing._act import Act
from bowout.testing._driver import BlockingDriver
from bowout.testing._opening import Opening
from bowout.testing._receiving import ExpectationFailed
from bowout.testing._recorder import Recorder
from bowout.testing._wire import Gone, PeerSignals, PeerSocket, Stopped, accept

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from bowout._scripted.keylog import KeyLog
    from bowout.ending import Role
    from bowout.testing._catalogue import Script
    from bowout.testing._report import PeerReport

#: Seconds that a script may still run when the test is over, unless its own timeout is shorter.
LAST_CALL: Final = 5.0
_BACKLOG: Final = 128


@dataclass(frozen=True, slots=True)
class PeerPart:
    """The script of each connection, and how to run it; the fields are the arguments of `Peer`."""

    script: Script
    opening: Callable[[Opening], object] | None
    name: str
    role: Role
    context: ssl.SSLContext
    server_hostname: str
    timeout: float
    byte_by_byte: bool
    data_cap: int


class PartPlayer:
    """Runs a part on its connections.

    Attributes:
        signals: the test's signals to the threads.
    """

    def __init__(self, part: PeerPart, keylog: KeyLog) -> None:
        self._part, self._keylog = part, keylog
        self.signals = PeerSignals()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._wires: list[PeerSocket] = []
        self._reports: dict[int, PeerReport] = {}
        self._failures: list[BaseException] = []
        self._sockets: list[socket.socket] = []

    # -- beginning ----------------------------------------------------------------------------------------------

    def listen(self, host: str, port: int, connections: int | None) -> tuple[str, int]:
        """Listen for `connections` connections (None: unlimited); return (host, port)."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._sockets.append(listener)
        bound_to, bound_port = listener.getsockname()[:2]
        self._start(lambda: self._accept(listener, connections), "accept")
        return bound_to, bound_port

    def connect(self, address: tuple[str, int], connections: int) -> None:
        """Make `connections` connections to `address`."""
        for number in range(connections):
            self._start(lambda number=number: self._connect(address, number), str(number))  # type: ignore[misc]

    def adopt(self, sock: socket.socket) -> None:
        """Take over the connection of `sock`."""
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
            self._report_absence("no client connected", 0)

    def _connect(self, address: tuple[str, int], number: int) -> None:
        try:
            sock = socket.create_connection(address, timeout=self._part.timeout)
        except OSError as error:
            self._report_absence(f"no connection to the code under test: {error}", number)
        else:
            self._play(sock, number)

    def _report_absence(self, error: str, number: int) -> None:
        recorder = self._recorder(number)
        recorder.error = error
        self._done(number, recorder)

    def _recorder(self, number: int) -> Recorder:
        return Recorder(self._part.name, self._part.role, number, self._part.data_cap)

    def _done(self, number: int, recorder: Recorder) -> None:
        with self._lock:
            self._reports[number] = recorder.build()

    def _play(self, sock: socket.socket, number: int) -> None:
        part, recorder = self._part, self._recorder(number)
        wire = PeerSocket(sock, self.signals, time.monotonic() + part.timeout, byte_by_byte=part.byte_by_byte)
        with self._lock:
            self._wires.append(wire)
        try:
            recorder.connect(part.name)
            connection = ScriptedConnection(
                part.context, part.role, server_hostname=part.server_hostname, secrets=self._keylog.secrets
            )
            driver = BlockingDriver(connection, wire, recorder)
            act = Act(connection, driver, wire, recorder, signals=self.signals, role=part.role, number=number)
            opening = Opening(wire, recorder, role=part.role, number=number)
            self._run(opening, act, recorder)
            act.finish()
        except BaseException as error:  # noqa: BLE001  (it is raised again at the end of the block)
            self._failures.append(error)
        finally:
            wire.close()
            self._done(number, recorder)

    def _run(self, opening: Opening, act: Act, recorder: Recorder) -> None:
        """Run the script. It may end early without an error, when the other side leaves or the test ends."""
        __tracebackhide__ = True
        try:
            if self._part.opening is not None:
                self._part.opening(opening)
                opening.finish()
            self._part.script(act)
            recorder.finished = True
        except (Gone, Stopped, HandshakeFailed) as stop:
            recorder.error = str(stop)
        except ExpectationFailed as failed:
            recorder.error = str(failed)
            self._failures.append(failed)
        except BaseException as error:
            recorder.error = f"{type(error).__name__}: {error}"
            raise

    # -- ending -------------------------------------------------------------------------------------------------

    def join(self, timeout: float) -> bool:
        """Wait for the threads at most `timeout` seconds; return whether all have ended."""
        deadline = time.monotonic() + timeout
        while running := self._running():  # the accepting thread may still start others
            running[0].join(max(0.0, deadline - time.monotonic()))
            if running[0].is_alive():
                return False
        return True

    def _running(self) -> list[threading.Thread]:
        with self._lock:
            return [thread for thread in self._threads if thread.is_alive()]

    def end(self) -> None:
        """End the test: let the threads receive what has been sent, and wait for them.

        Raises:
            RuntimeError: a script blocks by itself.
        """
        self.signals.end()
        with self._lock:
            for wire in self._wires:
                wire.deadline = min(wire.deadline, time.monotonic() + LAST_CALL)
        if not self.join(LAST_CALL + 1):
            names = ", ".join(thread.name for thread in self._running())
            raise RuntimeError(f"a script still runs after the end of its test: {names}")

    def close(self) -> None:
        """Close every descriptor."""
        self.signals.end()
        for sock in self._sockets:
            sock.close()
        for wire in self._wires:
            with contextlib.suppress(OSError):
                wire.close()
        self.signals.close()

    def reports(self) -> tuple[PeerReport, ...]:
        """Return the reports of the connections that are over, in their order."""
        with self._lock:
            return tuple(report for _, report in sorted(self._reports.items()))

    def raise_failure(self) -> None:
        """Raise the first failure of a script, if there is one."""
        __tracebackhide__ = True
        if self._failures:
            raise self._failures[0]
