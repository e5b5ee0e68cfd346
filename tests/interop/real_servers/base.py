"""What a recipe tells of its server, and how it is probed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bowout.check import Report
from bowout.check._opener import Pace
from helpers.checking import full, prepared
from helpers.starttls_servers import Home
from helpers.wire import Version, client_context
from interop.stacks.base import Stack

LOOPBACK: Final = "127.0.0.1"
#: Length, in bytes, of a large answer: the least for which the probes that need one are made.
LARGE: Final = 8 << 20
LARGE_PATH: Final = "/large.bin"
#: Seconds in which a server has ended an idle connection, if it does: those here do so after 5 s to 75 s.
IDLE: Final = 120.0
PAGE: Final = b"<!doctype html><title>A page</title><p>" + b"It is complete. " * 20 + b"</p>\n"

#: The times of `bowout.check.check`, without the gap that is politeness on the internet.
USUAL: Final = Pace(total=60.0, gap=0.0)
#: Four times as long: a busy machine makes a server late.
SLOW: Final = Pace(
    total=240.0, opening=30.0, connection=12.0, gap=0.0, settle=0.8, after=8.0, close=2.0, pause=2.0, large=80.0
)

#: Starts the server in a directory with a certificate, and one for what is compiled; gives its port.
Start = Callable[[Home, Path], AbstractContextManager[int]]


@dataclass(frozen=True, kw_only=True)
class RealServer:
    """One server as people run it.

    Attributes:
        name: its key in the data.
        stack: the programs that it needs; the first one tells its version.
        configuration: how it runs, for people to read.
        start: starts it.
        protocol: the protocol over TLS.
        starttls: the protocol in which TLS is requested; None for TLS at once.
        large: the path of a large answer; None if it has none.
        ends_idle: whether it ends an idle connection by itself, within `IDLE`.
        own: its version, where no program of others tells it.
    """

    name: str
    stack: Stack
    configuration: str
    start: Start
    protocol: Any = "http"
    starttls: Any = None
    large: str | None = None
    ends_idle: bool = False
    own: str | None = None

    @property
    def version(self) -> str:
        """The version that is here."""
        return self.stack.here if self.own is None else self.own

    @property
    def release(self) -> str:
        """The part of its version that its verdicts depend on: corrections of a distribution do not count."""
        numbers = ".".join(self.version.split(".")[:2])
        library = self.own is None and not self.stack.version
        return f"{numbers} on CPython {sys.version_info[0]}.{sys.version_info[1]}" if library else numbers

    async def check(self, port: int, pace: Pace = USUAL, *, tls: Version | None = None, idle: bool = False) -> Report:
        """Make every probe; with `idle`, also the one that waits until the server ends a connection, if it does."""
        probes = prepared(
            port,
            client_context(tls),
            protocol=self.protocol,
            starttls=self.starttls,
            pace=pace,
            large=self.large,
            idle=IDLE if idle and self.ends_idle else None,
        )
        return await full(probes, intrusive=True)


def fill(home: Home) -> None:
    """Write the files that a server of files has."""
    (home.path / "www").mkdir()
    (home.path / "www" / "index.html").write_bytes(PAGE)
    (home.path / "www" / LARGE_PATH[1:]).write_bytes(bytes(LARGE))
