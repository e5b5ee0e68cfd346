"""The application behind the other stack: whatever the stack is, what is sent to it goes through it to us, and back."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from helpers.commands import environment
from helpers.peers import ROOT
from helpers.wire import PATIENCE

LOOPBACK: Final = "127.0.0.1"
_BLOCK: Final = 1 << 16
#: Seconds between two looks at whether a daemon listens: nothing else tells.
_LOOK: Final = 0.02


class Far:
    """A pipe with two ends in hand: one through the other stack and TLS to us, the other here. Its calls block.

    Attributes:
        port: where the stack listens for us; 0 where it is the client.
        echoes: nobody is behind the stack: it sends back what we send.
        how_read_ended: ``EOF`` or ``RST``, once it was read to its end.
    """

    port: int = 0
    echoes: bool = False

    def __init__(self) -> None:
        self._pending = b""
        self._over = False
        self.how_read_ended = ""

    # -- what the kinds differ in

    def _receive(self) -> bytes:
        raise NotImplementedError

    def _send(self, data: bytes) -> None:
        raise NotImplementedError

    def end(self) -> None:
        """End its input, as an application does that has said everything."""
        raise NotImplementedError

    def kill(self, number: signal.Signals) -> None:
        """Send the program a signal."""
        raise NotImplementedError

    def finish(self) -> str:
        """Let the stack come to its own end; give what it said."""
        raise NotImplementedError

    # -- what they share

    def write(self, data: bytes) -> None:
        """Send; a stack that has gone already takes nothing."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._send(data)

    def leave(self, by: signal.Signals | bytes | None) -> None:
        """End in some way: by a signal, by a command, or by the end of the input."""
        match by:
            case None:
                self.end()
            case bytes() as command:
                self.write(command)
            case number:
                self.kill(number)

    def read_until(self, end: bytes) -> bytes:
        """Read up to and with `end`; or all, where it never comes."""
        data, self._pending = self._pending, b""
        while end not in data and (more := self._receive()):
            data += more
        found, mark, self._pending = data.partition(end)
        return found + mark

    def read_to_end(self) -> bytes:
        """Read all there is."""
        blocks = [self._pending]
        self._pending = b""
        while not self._over:
            try:
                more = self._receive()
            except ConnectionResetError:
                self.how_read_ended, self._over = "RST", True
                break
            if not more:
                self.how_read_ended, self._over = "EOF", True
            blocks.append(more)
        return b"".join(blocks)


class Process:
    """A program with its stderr in a file, that is killed when it outlives its time, so that nobody waits for it.

    Args:
        log: the file for its stderr, and for its stdout too unless that is a pipe.
    """

    def __init__(self, command: list[str], log: Path, *, piped: bool) -> None:
        self._log = log
        with log.open("wb") as output:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else output,
                stderr=output,
                bufsize=0,
                env=environment(PYTHONPATH=str(ROOT / "tests")),
                cwd=log.parent,
                process_group=0,  # ncat 7.991 hands a Ctrl-C on to its whole group, which would be ours
            )
        self._watchdog = threading.Timer(2 * PATIENCE, self.popen.kill)
        self._watchdog.start()

    @property
    def said(self) -> str:
        """Its stderr so far."""
        return self._log.read_text(errors="replace")

    def says(self, pattern: str) -> re.Match[str]:
        """Wait until it has said it."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.said, re.MULTILINE)):
            ended = self.popen.poll() is not None
            assert not (ended and not re.search(pattern, self.said, re.MULTILINE)), f"it ended: {self.said}"
            assert time.monotonic() < deadline, f"{pattern!r} was not said: {self.said}"
            time.sleep(_LOOK)
        return found

    def wait(self) -> None:
        """Wait for its end."""
        self.popen.wait(PATIENCE)

    def close(self) -> None:
        """Kill it if it is still there, and let go of all."""
        self._watchdog.cancel()
        self._watchdog.join()
        with self.popen:
            self.popen.kill()


class PipeFar(Far):
    """A program that is a byte pipe itself: its stdin and stdout are our end.

    Args:
        stop: the signal that it needs to go.
    """

    def __init__(self, process: Process, port: int = 0, stop: signal.Signals | None = None) -> None:
        super().__init__()
        self.port = port
        self._process, self._stop = process, stop

    def _receive(self) -> bytes:
        assert self._process.popen.stdout is not None
        return os.read(self._process.popen.stdout.fileno(), _BLOCK)

    def _send(self, data: bytes) -> None:
        assert self._process.popen.stdin is not None
        view = memoryview(data)
        while view:
            view = view[self._process.popen.stdin.write(view) or 0 :]

    def end(self) -> None:
        assert self._process.popen.stdin is not None
        self._process.popen.stdin.close()

    def kill(self, number: signal.Signals) -> None:
        self._process.popen.send_signal(number)

    def finish(self) -> str:
        self.end()
        if self._stop is not None:
            self.kill(self._stop)
        self.read_to_end()
        self._process.wait()
        return self._process.said


class SocketFar(Far):
    """A daemon that passes plain TCP on as TLS, or TLS as plain TCP: the plain connection is our end.

    Args:
        sock: gives the connection, when it is needed first.
        stop: the signal at which the daemon goes, when its connections have ended.
        last_words: what it says when a connection has ended, where it does not wait for that by itself.
    """

    def __init__(
        self,
        process: Process,
        sock: Callable[[], socket.socket],
        *,
        port: int = 0,
        stop: signal.Signals = signal.SIGTERM,
        last_words: str = "",
    ) -> None:
        super().__init__()
        self.port = port
        self._process, self._connected = process, sock
        self._stop, self._last_words = stop, last_words
        self._made: socket.socket | None = None
        self._making = threading.Lock()

    @property
    def _sock(self) -> socket.socket:
        """The connection, made when it is needed first."""
        with self._making:
            if self._made is None:
                self._made = self._connected()
                self._made.settimeout(2 * PATIENCE)
            return self._made

    def _receive(self) -> bytes:
        return self._sock.recv(_BLOCK)

    def _send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def begin(self) -> None:
        """Connect now: that makes the daemon connect to us."""
        _ = self._sock

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def finish(self) -> str:
        self.end()
        self.read_to_end()
        self.close()
        if self._last_words:
            self._process.says(self._last_words)
        self._process.popen.send_signal(self._stop)
        self._process.wait()
        return f"{self._process.said}\napplication: {self.how_read_ended}\n"

    def close(self) -> None:
        if self._made is not None:
            self._made.close()


@contextlib.contextmanager
def running(command: list[str], directory: Path, *, piped: bool) -> Iterator[Process]:
    """A program that is gone when the block is left."""
    process = Process(command, directory / "stderr", piped=piped)
    try:
        yield process
    finally:
        process.close()


@contextlib.contextmanager
def pipe(
    command: list[str], directory: Path, *, port: int = 0, listening: str = "", stop: signal.Signals | None = None
) -> Iterator[PipeFar]:
    """Run a byte pipe. What it says when it is `listening` has its port."""
    with running(command, directory, piped=True) as process:
        yield PipeFar(process, int(process.says(listening)[1]) if listening else port, stop)


def dial(port: int, alive: Callable[[], bool] = lambda: True) -> socket.socket:
    """Connect to a daemon as soon as it listens: the connection that tells this is the one that is used."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection((LOOPBACK, port), PATIENCE)
        except ConnectionRefusedError:
            assert alive(), "it ended"
            assert time.monotonic() < deadline, "it never listened"
            time.sleep(_LOOK)
