"""A real ``openssl s_server -state``, and what it says."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.peers import require_program
from helpers.wire import PATIENCE, Version, certificate


class OpenSSLServer:
    """Its standard input is sent to the client; beware of lines that begin with one of its commands, such as q.

    Attributes:
        port: where it listens.
    """

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self._process = process
        self._terminal = terminal
        self._changed = threading.Condition()
        self._text = ""
        self._ended = False
        self._reader = threading.Thread(target=self._read, name="s_server's output")
        self._reader.start()
        self.port = int(self.expect(r"ACCEPT \S*:(\d+)")[1])

    @property
    def text(self) -> str:
        """All that it has said so far, on either stream."""
        with self._changed:
            return self._text

    def expect(self, pattern: str, *, times: int = 1) -> re.Match[str]:
        """Wait until it has said `pattern`, so many times."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._ended or self._find(pattern, times), PATIENCE), self._text
            found = self._find(pattern, times)
            assert found, self._text
            return found

    def say(self, line: str) -> None:
        """Send a line to its client."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        os.close(self._terminal)
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _find(self, pattern: str, times: int) -> re.Match[str] | None:
        found = list(re.finditer(pattern, self._text))
        return found[times - 1] if len(found) >= times else None

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: nobody holds the other end of the terminal any more
            while chunk := os.read(self._terminal, 1 << 16):
                with self._changed:
                    self._text += chunk.decode(errors="replace")
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


@contextmanager
def openssl_server(version: Version, directory: Path) -> Iterator[OpenSSLServer]:
    """Run one on a port of the loopback."""
    program = require_program("openssl")
    leaf = certificate()
    leaf.private_key_and_cert_chain_pem.write_to_path(directory / "server.pem")
    ours, theirs = os.openpty()  # to a pipe it would say what it has to say a block later
    process = subprocess.Popen(
        [program, "s_server", "-state", "-accept", "127.0.0.1:0", "-cert", str(directory / "server.pem"),
         "-tls" + version.replace(".", "_")],
        stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, bufsize=0,
    )  # fmt: skip
    os.close(theirs)
    server = OpenSSLServer(process, ours)
    try:
        yield server
    finally:
        server.stop()
