"""The addresses of ``bowout serve``: a port, a path, or the sockets from systemd."""

from __future__ import annotations

import errno
import os
import shlex
import socket
from dataclasses import dataclass
from typing import Any, Final

import bowout
from bowout.cli.shared.usage import UsageError

_PORT: Final = 4433
_HOST: Final = "localhost"
_EVERYWHERE: Final = "*"

_HINTS: Final = {
    errno.EADDRINUSE: "another program listens there: choose another PORT, or 0 for any free one",
    errno.EACCES: "ports below 1024 are for root: choose another PORT",
    errno.EADDRNOTAVAIL: "--host needs an address of this machine",
}
_PATH_HINTS: Final = {
    errno.EADDRINUSE: "another program listens there, or it is not a socket: choose another FILE",
    errno.ENOENT: "its directory has to exist",
}


@dataclass(frozen=True, slots=True)
class Where:
    """The values of the options; None for those not given.

    Raises:
        UsageError: they contradict each other.
    """

    host: str | None
    port: int | None
    path: str | None
    systemd: bool

    def __post_init__(self) -> None:
        ways = {"PORT": self.port is not None, "--host": self.host is not None}
        others = {"--path": self.path is not None, "--systemd": self.systemd}
        given = [name for name, value in (ways | others).items() if value]
        if len(given) > 1 and any(others.values()):
            raise UsageError(f"{' and '.join(given)} contradict each other", "a server listens in one way")
        if self.path is not None and not hasattr(socket, "AF_UNIX"):
            raise UsageError("--path: this system has no Unix sockets")

    @property
    def name(self) -> str:
        """The name in the throw-away certificate."""
        return "*" if self.systemd else self.host if self.host is not None else _HOST

    def listening(self) -> dict[str, Any]:
        """Return the arguments of `bowout.serve` for these addresses.

        Raises:
            MisuseError: systemd has passed no sockets.
        """
        if self.systemd:
            return {"sockets": bowout.systemd_sockets()}
        if self.path is not None:
            return {"path": self.path}
        return {"host": self._host, "port": _PORT if self.port is None else self.port}

    @property
    def _host(self) -> str | None:
        return None if self.name == _EVERYWHERE else self.name

    def why_not(self, error: OSError) -> tuple[str, str | None]:
        """Return why the server cannot listen here, and a remedy if there is one."""
        text = error.strerror or str(error)
        if self.path is not None:
            return f"cannot listen on '{self.path}': {text}", _PATH_HINTS.get(error.errno or 0)
        port = _PORT if self.port is None else self.port
        where = f"{self._host or 'every address'}, port {port}"
        told = text if text.startswith("cannot listen") else f"cannot listen on {where}: {text}"
        if isinstance(error, socket.gaierror):
            return told, "--host needs a name or an address of this machine"
        return told, _HINTS.get(error.errno or 0)

    def to_dial(self, addresses: list[Any]) -> str | None:
        """Return the arguments with which ``bowout connect`` reaches this server, or None if it cannot."""
        if self.path is not None:
            return f"--path {shlex.quote(self.path)}"
        ports = [address[1] for address in addresses if isinstance(address, tuple)]
        if not ports:
            return None
        host = self._host
        name = host if host is not None and host not in {"0.0.0.0", "::"} else _HOST  # noqa: S104  (no address to dial)
        return f"[{name}]:{ports[0]}" if ":" in name else f"{name}:{ports[0]}"


def shown(address: Any) -> str:
    """Return an address of `bowout.Server.addresses` as text."""
    if not isinstance(address, tuple):
        return os.fsdecode(address).replace("\0", "@")  # Linux's abstract names begin with a NUL.
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
