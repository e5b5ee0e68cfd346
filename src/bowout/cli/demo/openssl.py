"""A real ``openssl s_server -state`` as the demo's server: its start, its input, and its output."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from bowout._text import escape
from bowout.cli.demo.loop import pause
from bowout.cli.demo.server import LOCALHOST, ServerReport, Stuck

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bowout.cli.demo.loop import SideTasks
    from bowout.cli.shared.credentials import Credentials

#: Seconds until it must listen, and until it must have ended after it was killed.
_PATIENCE: Final = 15.0
#: Interval, in seconds, at which its output is polled: not every loop can watch a pseudo-terminal.
_TICK: Final = 0.005
_READ: Final = 1 << 16

_LISTENING: Final = re.compile(r"ACCEPT\b.*:(\d+)$")
#: Its output after a handshake; other versions print it slightly differently.
_CONNECTED: Final = re.compile(r"CIPHER is ")
_CLOSED: Final = re.compile(r"CONNECTION CLOSED$")
#: Its output about an ending. All other lines are about the handshake.
_OF_INTEREST: Final = re.compile(r"SSL3 alert |shutting down SSL$|CONNECTION CLOSED$|DONE$|ERROR$|.*:error:")
_TROUBLE: Final = re.compile(r"SSL3 alert (read|write):fatal:|ERROR$|.*:error:")

_GOT_CLOSE_NOTIFY: Final = "SSL3 alert read:warning:close notify"
_IN_PEACE: Final = "shutting down SSL"


class NoOpenssl(Exception):
    """There is no ``openssl`` here that can play the server."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class OpensslServer:
    """A running s_server. Its output is polled, so that no thread is needed.

    Attributes:
        version: its name and version, as it prints them.
    """

    name = "s_server"

    def __init__(self, process: subprocess.Popen[bytes], words: _Words, version: str) -> None:
        self._process = process
        self._words = words
        self.version = version
        self.port: int = _await_port(process, words)
        self._begin = len(words.lines)

    def open(self, jobs: SideTasks) -> None:
        """See `DemoServer`; it already accepts connections."""

    async def connected(self) -> None:
        """See `DemoServer`."""
        await self._heard(_CONNECTED)

    async def say(self, data: bytes) -> None:
        """See `DemoServer`; it sends its stdin, except lines that begin with one of its commands, such as ``q``."""
        await self.connected()
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended, which the next wait for its output reports
            self._process.stdin.write(data)
            self._process.stdin.flush()

    async def report(self) -> ServerReport:
        """See `DemoServer`."""
        end = await self._heard(_CLOSED)
        said, self._begin = self._words.lines[self._begin : end], end
        lines = tuple(line for line in said if _OF_INTEREST.match(line))
        in_peace = _GOT_CLOSE_NOTIFY in lines and _IN_PEACE in lines
        return ServerReport(lines, content=in_peace and not any(map(_TROUBLE.match, lines)))

    async def _heard(self, what: re.Pattern[str]) -> int:
        """Wait until a line of the current connection matches `what`; return the index of the next line."""
        while True:
            gone = self._process.poll() is not None
            self._words.listen()
            for index in range(self._begin, len(self._words.lines)):
                if what.match(self._words.lines[index]):
                    return index + 1
            if gone:
                raise Stuck("openssl s_server has ended")
            await pause(_TICK)


class _Words:
    """Its output, line by line, escaped. It writes to a pseudo-terminal: to a pipe it would write in blocks."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._rest = b""
        self.lines: list[str] = []

    def listen(self) -> None:
        """Read the output so far."""
        try:
            while data := os.read(self._descriptor, _READ):
                *lines, self._rest = (self._rest + data).split(b"\n")
                self.lines += (escape(line.rstrip(b"\r")) for line in lines)
        except OSError:  # no output now, or no more output: every wait has a deadline
            pass


@contextmanager
def openssl_server(credentials: Credentials, *, connections: int) -> Iterator[OpensslServer]:
    """Run an s_server for `connections` connections; it has ended at the end of the block.

    Raises:
        NoOpenssl: it is not installed, or does not work as expected.
    """
    program = shutil.which("openssl")
    if program is None:
        raise NoOpenssl(
            "openssl is not installed", "install it (on Debian: apt-get install openssl), or leave out --against"
        )
    if not hasattr(os, "openpty"):
        raise NoOpenssl("--against openssl needs a pseudo-terminal, which this system lacks", "leave out --against")
    version = _version(program)
    ours, its = os.openpty()
    try:
        try:
            process = _started(program, credentials, its, connections)
        finally:
            os.close(its)
        try:
            yield OpensslServer(process, _Words(ours), version)
        finally:
            _stop(process)
    finally:
        os.close(ours)


def _started(program: str, credentials: Credentials, terminal: int, connections: int) -> subprocess.Popen[bytes]:
    command = [program, "s_server", "-state", "-accept", f"{LOCALHOST}:0", "-naccept", str(connections)]
    command += ["-key", str(credentials.key), "-cert", str(credentials.certificate)]
    # It has its own process group: a Ctrl-C goes to us, and we end it.
    return subprocess.Popen(  # noqa: S603  (every argument is ours)
        command, stdin=subprocess.PIPE, stdout=terminal, stderr=terminal, process_group=0
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    assert process.stdin is not None
    process.stdin.close()
    process.wait(_PATIENCE)


def _version(program: str) -> str:
    """Return its name and version, such as ``OpenSSL 3.0.19``."""
    try:
        told = subprocess.run(  # noqa: S603  (no argument is from outside)
            [program, "version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NoOpenssl(f"{escape(program)} does not run: {error}", "see the output of `openssl version`") from error
    return " ".join(escape(told.stdout.strip()).split()[:2])


def _await_port(process: subprocess.Popen[bytes], words: _Words) -> int:
    deadline = time.monotonic() + _PATIENCE
    gone = False
    while time.monotonic() < deadline and not gone:
        gone = process.poll() is not None
        words.listen()
        for line in words.lines:
            if found := _LISTENING.match(line):
                return int(found[1])
        time.sleep(_TICK)
    said = words.lines[-1] if words.lines else "it printed nothing"
    raise NoOpenssl(f"openssl s_server does not listen: {said}", "it must be OpenSSL 1.1.1 or newer")
