"""``bowout serve`` run as its users do, in a process of its own, for clients of any kind.

with serving("--echo") as server:
    ...  # talk to server.port
    done = server.stop()
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from helpers.commands import Done, Running, started
from helpers.wire import certificate

_LISTENING: Final = re.compile(r"note: listening on (.*):(\d+)\n")


@functools.cache
def cert_file() -> str:
    """A certificate of the tests' authority with its key, for ``--cert``."""
    directory = tempfile.mkdtemp(prefix="bowout-tests-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    path = Path(directory) / "server.pem"
    certificate().private_key_and_cert_chain_pem.write_to_path(path)
    return str(path)


class ServeProcess:
    """A server that runs.

    Attributes:
        running: its process.
        port: where it listens, on the loopback.
        err: what was read of its stderr so far.
    """

    def __init__(self, running: Running) -> None:
        self.running = running
        self.err = ""
        self.port = int(self.expect(_LISTENING.pattern)[2])

    @property
    def address(self) -> str:
        """For ``bowout connect``."""
        return f"127.0.0.1:{self.port}"

    def expect(self, pattern: str) -> re.Match[str]:
        """Read its stderr until a line of it says `pattern`."""
        assert self.running.process.stderr is not None
        while line := self.running.process.stderr.readline().decode():
            self.err += line
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"{pattern!r} was not said: {self.err}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Done:
        """Make it drain, and wait for its end."""
        self.running.interrupt(number)
        return self.finish()

    def finish(self) -> Done:
        """Wait for its end."""
        done = self.running.finish()
        return Done(done.status, done.out, self.err + done.err)


@contextlib.contextmanager
def serving(*options: str, given: bool = True, **more: Any) -> Iterator[ServeProcess]:
    """Serve on a free port of the loopback, with the tests' certificate unless not `given`."""
    identity = ("--cert", cert_file()) if given else ()
    with started("serve", "0", "--host", "127.0.0.1", *identity, *options, **more) as running:
        yield ServeProcess(running)


def endings(text: str | bytes) -> list[dict[str, Any]]:
    """What ``--json`` wrote."""
    text = text.decode() if isinstance(text, bytes) else text
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
