"""What an adapter tells of its stack."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import re
import subprocess
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from helpers.peers import require_module, require_program
from helpers.serving import cert_file
from interop.far import Far
from interop.scenarios import SCENARIOS, By

#: Their part.
Role = Literal["server", "client"]

END_OF_INPUT: Final[Mapping[str, By]] = {"end of input": None}


@dataclass(frozen=True)
class Bench:
    """Where a stack works.

    Attributes:
        directory: of its own.
        shared: one for what is made once in a session.
    """

    directory: Path
    shared: Path

    @property
    def identity(self) -> str:
        """A file with a key and its certificates."""
        return cert_file()


#: Start it; a client gets the port to connect to. The string is the way to end.
Server = Callable[[Bench, str], AbstractContextManager[Far]]
Client = Callable[[Bench, int, str], AbstractContextManager[Far]]


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One implementation of TLS as people run it.

    Attributes:
        name: its key in the data.
        needs: programs of ``.ci/packages.txt``, of which the first tells its version; or Python modules.
        version: how that program tells it; empty for a Python module.
        server, client: how to start it.
        ways: how it can be made to end; the first is its most graceful.
        shows: what it says of an ending, in its log: a pattern.
        ordered: whether the order of what it says is the same every time; it is not where two threads say it.
        takes: the scenarios that it can take part in.
    """

    name: str
    needs: tuple[str, ...]
    version: tuple[str, ...] = ()
    server: Server | None = None
    client: Client | None = None
    ways: Mapping[str, By] = field(default_factory=lambda: END_OF_INPUT)
    shows: str
    ordered: bool = True
    takes: tuple[str, ...] = tuple(SCENARIOS)

    def require(self) -> None:
        """Skip the test, or fail it in CI, where something is missing."""
        for name in self.needs:
            if self.version:
                require_program(name)
            elif name != "asyncio":
                require_module(name)

    @functools.cached_property
    def here(self) -> str:
        """The version that is here."""
        if not self.version:
            module = self.needs[0]
            return platform.python_version() if module == "asyncio" else importlib.metadata.version(module)
        command = [require_program(self.needs[0]), *self.version]
        told = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
        found = re.search(rb"(?:^|[^.\d])(\d+(?:\.\d+)+)", told.stdout + told.stderr)
        return found[1].decode() if found else "?"

    def saw(self, log: str) -> str:
        """What its log says of the ending, without what differs from run to run."""
        said = [match[0].strip() for match in re.finditer(self.shows, log, re.MULTILINE)]
        return "; ".join(_plain(text) for text in (said if self.ordered else sorted(said)))


def _plain(text: str) -> str:
    text = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", text)
    return re.sub(r"\b[0-9A-F]{12,16}:", "", text)  # OpenSSL's thread
