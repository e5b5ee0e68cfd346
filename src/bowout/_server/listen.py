"""Listening sockets: TCP on every family, Unix sockets, and those that systemd passes."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bowout._names import host_of
from bowout.errors import MisuseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bowout._backends.sockets import Endpoint

#: Number of the first descriptor that systemd passes; sd_listen_fds(3).
SD_LISTEN_FDS_START: Final = 3
_PORT_TRIES: Final = 16
#: Errors of an address whose family is switched off on this machine (bpo-30945).
_FAMILY_IS_OFF: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


class Listener:
    """A listening socket and, for our own Unix socket, the path to remove.

    Attributes:
        socket: the socket, non-blocking.
        address: the address to which it is bound: ``(host, port)``, a link-local host with its zone, or a path.
    """

    def __init__(self, sock: socket.socket, path: str | Path | None = None) -> None:
        self.socket = sock
        name = sock.getsockname()
        self.address: Any = (host_of(name), name[1]) if isinstance(name, tuple) else name
        self._path = path
        self._identity = None if path is None else _identity(path)

    def remove_path(self) -> None:
        """Remove the path, unless a successor has put another socket there.

        Call it while our socket is open: after that the file system may reuse its inode number.
        """
        if self._path is not None and self._identity is not None and self.socket.fileno() >= 0:
            if _identity(self._path) == self._identity:
                Path(self._path).unlink()
            self._path = None

    def close(self) -> None:
        """Remove the path and close the socket; it may be called again."""
        self.remove_path()
        self.socket.close()


def listen_tcp(endpoints: Sequence[Endpoint], port: int, *, backlog: int, reuse_port: bool) -> list[socket.socket]:
    """Listen on the address of each of `endpoints`. Port 0 means one free port, the same for all.

    Raises:
        OSError: an address cannot be used.
    """
    families = sorted({(family, address) for family, _, _, _, address in endpoints}, key=str)
    for _ in range(_PORT_TRIES - 1):
        try:
            return _listen_on_all(families, port, backlog=backlog, reuse_port=reuse_port)
        except OSError as error:
            if port or error.errno != errno.EADDRINUSE:
                raise
    return _listen_on_all(families, port, backlog=backlog, reuse_port=reuse_port)


def _listen_on_all(
    families: Sequence[tuple[int, tuple[object, ...]]], port: int, *, backlog: int, reuse_port: bool
) -> list[socket.socket]:
    with contextlib.ExitStack() as cleanup:
        sockets: list[socket.socket] = []
        failure = OSError(errno.EADDRNOTAVAIL, "no address to listen on")
        for family, address in families:
            try:
                sock = _listen(family, (address[0], port, *address[2:]), backlog=backlog, reuse_port=reuse_port)
            except OSError as error:
                failure = OSError(error.errno, f"cannot listen on {host_of(address)}, port {port}: {error.strerror}")
                if error.errno not in _FAMILY_IS_OFF:
                    raise failure from error
            else:
                sockets.append(cleanup.enter_context(sock))
                port = port or sock.getsockname()[1]
        if not sockets:
            raise failure
        cleanup.pop_all()
        return sockets


def _listen(family: int, address: tuple[object, ...], *, backlog: int, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        _bind(sock, address, reuse_port=reuse_port)
        sock.listen(backlog)
        sock.settimeout(0)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, address: tuple[object, ...], *, reuse_port: bool) -> None:
    if sys.platform != "win32":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        if not hasattr(socket, "SO_REUSEPORT"):
            raise MisuseError("this system has no SO_REUSEPORT")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if sock.family == socket.AF_INET6:
        # IPv4 has its own socket.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(address)


def listen_unix(path: str | Path, *, backlog: int) -> socket.socket:
    """Listen on a Unix socket. A socket at `path` without a listener is replaced; anything else there is kept.

    Raises:
        OSError: `path` cannot be used.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(str(path))
        sock.bind(str(path))
        sock.listen(backlog)
        sock.settimeout(0)
    except BaseException:
        sock.close()
        raise
    return sock


def _identity(path: str | Path) -> tuple[int, int] | None:
    """Return the identity of the file at `path`, to detect later whether it was replaced; None if there is none."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            return
    except FileNotFoundError:
        return
    # A socket of another type shows whether a process holds the path, without becoming a client of its server.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
        except OSError:
            return  # The error of bind() will show what it is.


def systemd_sockets() -> list[socket.socket]:
    """Return the listening sockets that systemd, or a previous process, has passed to this one by sd_listen_fds(3).

    The environment variables are removed, so that a child process does not use the sockets.

    Raises:
        MisuseError: there are none, they are for another process, or one is not a listening stream socket. All usable
            ones are then closed.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if not count.isdecimal() or int(count) == 0:
        raise MisuseError(
            "no listening socket was passed: LISTEN_FDS is not set; is this started by socket activation?"
        )
    if pid != str(os.getpid()):
        raise MisuseError(f"the listening sockets were passed to process {pid or '?'}, not to this one")
    with contextlib.ExitStack() as cleanup:
        try:
            sockets = [
                checked_listener(cleanup.enter_context(_passed_socket(descriptor)))
                for descriptor in range(SD_LISTEN_FDS_START, SD_LISTEN_FDS_START + int(count))
            ]
        except ValueError as error:
            raise MisuseError(str(error)) from error
        cleanup.pop_all()
    return sockets


def _passed_socket(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)  # noqa: FBT003  (its only signature)
        return socket.socket(fileno=descriptor)
    except OSError as error:
        raise MisuseError(
            f"LISTEN_FDS says that descriptor {descriptor} is a listening socket, but it is not: {error.strerror}"
        ) from error


def checked_listener(sock: socket.socket) -> socket.socket:
    """Return `sock`, made non-blocking, if it is listening.

    Raises:
        ValueError: `sock` is not a listening stream socket.
    """
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError(
            "the socket given to serve() must be a bound, listening stream socket: call its listen() first"
        )
    sock.settimeout(0)
    return sock
