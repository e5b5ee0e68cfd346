"""The command line run as its users do: in a process of its own, against a peer that a script drives.

with listening(polite) as server:
    done = bowout("connect", server.address, *TRUSTING, stdin=b"hello")
assert done.status == 0
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from helpers.wire import PATIENCE, Link, Version, Wire, authority, server_context

COMMAND: Final = (sys.executable, "-W", "error", "-m", "bowout")
#: The same as the console script runs it.
SCRIPT: Final = (sys.executable, "-W", "error", "-c", "import sys; from bowout_command import main; sys.exit(main())")
#: The command on a machine whose kernel takes little from a sender: `listening` with ``small`` is the other half. Then
#: whatever is larger than that cannot be sent to a peer that does not read, however long it takes.
SMALL_SEND_BUFFER: Final = (
    sys.executable,
    "-c",
    """
import socket, sys
plain = socket.socket.__init__
def small(self, *arguments, **options):
    plain(self, *arguments, **options)
    self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 10)
socket.socket.__init__ = small
from bowout.cli import main
sys.exit(main())
""",
)
#: More than the small buffers hold.
MUCH: Final = bytes(1 << 18)
#: What a command must never show.
UNWANTED: Final = ("Traceback", "Exception ignored", "Warning:")

#: A file, a descriptor, or one of subprocess's constants.
Stream = int | IO[bytes]


@functools.cache
def ca_file() -> str:
    """The authority of the tests as a file, for ``--cafile``."""
    directory = tempfile.mkdtemp(prefix="bowout-tests-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    path = Path(directory) / "ca.pem"
    authority().cert_pem.write_to_path(path)
    return str(path)


def environment(**more: str) -> dict[str, str]:
    """The environment of a command: nobody's preferences for colours, widths or languages."""
    unwanted = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "PYTHONWARNINGS"}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {**kept, "TERM": "xterm", "PYTHONUTF8": "1", **more}


@dataclass(frozen=True)
class Done:
    """What a command did."""

    status: int
    out: bytes
    err: str

    @property
    def last(self) -> str:
        """The last line on stderr."""
        return self.err.splitlines()[-1]


class Running:
    """A command that runs.

    Attributes:
        process: its process; the ends of its pipes are there.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def type(self, data: bytes) -> None:
        """Write to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)

    def end_input(self) -> None:
        """End its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def read(self, count: int) -> bytes:
        """Read exactly so much of its stdout."""
        assert self.process.stdout is not None
        data = b""
        while len(data) < count and (more := self.process.stdout.read(count - len(data))):
            data += more
        return data

    def stop_reading(self) -> None:
        """Close our end of its stdout, as ``head`` does."""
        assert self.process.stdout is not None
        self.process.stdout.close()

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def finish(self) -> Done:
        """Wait for its end. Its stdin is left as it is: a command must not need its end."""
        stdin, self.process.stdin = self.process.stdin, None
        try:
            out, err = self.process.communicate(timeout=PATIENCE)
        finally:
            if stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    stdin.close()
        done = Done(self.process.returncode, out or b"", (err or b"").decode())
        assert not any(word in done.err for word in UNWANTED), done.err
        return done


@contextlib.contextmanager
def started(
    *arguments: str,
    stdin: Stream | None = subprocess.PIPE,
    stdout: Stream | None = subprocess.PIPE,
    command: tuple[str, ...] = COMMAND,
    **options: Any,
) -> Iterator[Running]:
    """Start a command, and see that it is gone at the end."""
    process = subprocess.Popen(
        [*command, *arguments], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, bufsize=0,
        **{"env": environment(), **options},
    )  # fmt: skip
    with process:
        try:
            yield Running(process)
        finally:
            if process.poll() is None:
                process.kill()


def bowout(
    *arguments: str,
    stdin: bytes | None = None,
    stdout: Stream | None = subprocess.PIPE,
    command: tuple[str, ...] = COMMAND,
    **options: Any,
) -> Done:
    """Run a command to its end, with these bytes on a pipe as its stdin, or with an open and empty pipe."""
    with started(*arguments, stdout=stdout, command=command, **options) as running:
        if stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                running.type(stdin)
            running.end_input()
        return running.finish()


class ScriptedServer:
    """A port of the loopback on which a script plays the peer, connection after connection.

    Attributes:
        results: what the script returned, one for each connection.
        link: the events by which a test and its scripts talk.
    """

    def __init__(self, listener: socket.socket, script: Callable[[Wire], object], context: ssl.SSLContext) -> None:
        self._listener = listener
        self._script = script
        self._context = context
        self.port: int = listener.getsockname()[1]
        self.address = f"localhost:{self.port}"
        self.link = Link(listener, "1.3", "client")
        self.results: list[object] = []
        self.failures: list[BaseException] = []

    def serve(self) -> None:
        """Take connections until the listener is shut."""
        with contextlib.suppress(OSError):
            while True:
                self._serve_one(self._listener.accept()[0])

    def _serve_one(self, sock: socket.socket) -> None:
        with sock:
            wire = Wire(sock, self._context, server_side=True, link=self.link)
            try:
                self.results.append(self._script(wire))
            except BaseException as error:  # noqa: BLE001 it is raised again where the block is left
                self.failures.append(error)


@contextlib.contextmanager
def listening(
    script: Callable[[Wire], object],
    *,
    version: Version | None = None,
    context: ssl.SSLContext | None = None,
    small: bool = False,
) -> Iterator[ScriptedServer]:
    """Run `script` for whoever connects; what it raises is raised where the block is left.

    `small` makes the kernel's buffer so: a peer that does not read then blocks its sender soon and for good.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if small:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
        server = ScriptedServer(listener, script, context or server_context(version))
        thread = threading.Thread(target=server.serve, name="server")
        thread.start()
        try:
            yield server
        finally:
            server.link.over.set()
            server.link.go.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)
    if server.failures:
        raise server.failures[0]
    assert not thread.is_alive(), "the server's script did not end"


def connect(server: ScriptedServer | str, *options: str, stdin: bytes | None = b"") -> Done:
    """Connect to `server`, whose certificate is trusted, and send `stdin`; None is a stdin that stays open."""
    address = server if isinstance(server, str) else server.address
    return bowout("connect", address, "--cafile", ca_file(), *options, stdin=stdin)


def deaf(wire: Wire) -> None:
    """A script that sends ``!``, says when something has come, and reads nothing of it."""
    wire.handshake()
    wire.send(b"!")
    wire.sock.recv(1, socket.MSG_PEEK)
    wire.link.ready.set()
    wire.hold()


def answering(data: bytes) -> Callable[[Wire], str]:
    """A script that sends `data` at once, and then is polite."""

    def script(wire: Wire) -> str:
        wire.handshake()
        wire.send(data)
        return politely(wire)

    return script


def politely(wire: Wire) -> str:
    """Read to the end, and answer it."""
    end = wire.read_to_end()
    wire.close_notify()
    return end


def echoing(wire: Wire) -> str:
    """A script that sends back what it gets."""
    wire.handshake()
    while data := wire.read():
        wire.received.clear()
        wire.send(data)
    wire.close_notify()
    return "close_notify"
