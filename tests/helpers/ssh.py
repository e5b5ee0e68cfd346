"""A real SSH server: one process of OpenSSH for each connection, which ends with it."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from helpers.peers import require_program
from helpers.wire import PATIENCE

LOOPBACK: Final = "127.0.0.1"
#: Where sshd confines the part of it that talks to strangers. Debian's service makes it; it is lost at a reboot.
_SEPARATED: Final = Path("/run/sshd")
_CONFIG: Final = """\
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/user_key.pub
StrictModes no
PasswordAuthentication no
UsePAM no
AllowTcpForwarding yes
PermitRootLogin prohibit-password
PidFile none
LogLevel ERROR
"""


@dataclass(frozen=True)
class SSHServer:
    """What a client needs.

    Attributes:
        port: where it listens.
        user: who may log in.
        user_key: the file of the user's private key.
        host_key: the file of the server's public key.
    """

    port: int
    user: str
    user_key: Path
    host_key: Path

    @property
    def known_hosts(self) -> str:
        """A line of a file ``known_hosts``."""
        return f"[{LOOPBACK}]:{self.port} {self.host_key.read_text(encoding='ascii')}"


@contextmanager
def ssh_server(directory: Path) -> Iterator[SSHServer]:
    """Run one; what it says goes to the test's stderr."""
    sshd, keygen = require_program("sshd"), require_program("ssh-keygen")
    for name in ("host_key", "user_key"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    config = directory / "sshd_config"
    config.write_text(_CONFIG.format(directory=directory), encoding="utf-8")
    if os.geteuid() == 0:
        _SEPARATED.mkdir(mode=0o755, exist_ok=True)
    with socket.create_server((LOOPBACK, 0)) as listener:
        daemon = _SSHDaemon(listener, [sshd, "-i", "-e", "-f", str(config)])
        daemon.start()
        try:
            user = pwd.getpwuid(os.geteuid()).pw_name
            port = listener.getsockname()[1]
            yield SSHServer(port, user, directory / "user_key", directory / "host_key.pub")
        finally:
            daemon.stop()


class _SSHDaemon:
    """Accepts, as inetd does: the server has the connection as its stdin and stdout."""

    def __init__(self, listener: socket.socket, command: list[str]) -> None:
        self._listener = listener
        self._command = command
        self._processes: list[subprocess.Popen[bytes]] = []
        self._thread = threading.Thread(target=self._accept, name="sshd")

    def start(self) -> None:
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                with self._listener.accept()[0] as sock:
                    self._processes.append(subprocess.Popen(self._command, stdin=sock.fileno(), stdout=sock.fileno()))

    def stop(self) -> None:
        """End it all: connections that a client has not ended, too."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        for process in self._processes:
            process.kill()
            process.wait()
