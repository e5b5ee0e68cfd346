"""The programs in native/, compiled on demand; one of them is the peer, a process for each sample."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_HERE: Final = Path(__file__).parent
#: Where programs are kept once they are compiled; somewhere else where the checkout is not to be written to.
BUILD: Final = Path(os.environ.get("BOWOUT_BENCH_BUILD") or _HERE.parent / "build" / "bench")
_PATIENCE: Final = 10.0


@dataclass(frozen=True, slots=True)
class NativeProgram:
    """A source file, and how to compile it."""

    source: str
    compiler: str
    flags: tuple[str, ...]
    libraries: tuple[str, ...]
    #: Debian's packages for it.
    packages: str

    def build(self) -> Path:
        """Compile the program unless that was done, and return its path.

        Raises:
            CannotBuild: no compiler, or no library; its text says what to install.
        """
        source = _HERE / "native" / self.source
        target = BUILD / source.stem
        if target.exists() and target.stat().st_mtime > source.stat().st_mtime:
            return target
        if shutil.which(self.compiler) is None:
            raise CannotBuild(f"there is no {self.compiler}; on Debian: apt-get install {self.packages}")
        BUILD.mkdir(parents=True, exist_ok=True)
        command = [self.compiler, *self.flags, str(source), "-o", str(target), *self.libraries]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            complaint = next((line for line in done.stderr.splitlines() if "error" in line), "no reason given")
            raise CannotBuild(f"{complaint.strip()}; on Debian: apt-get install {self.packages}")
        return target


class CannotBuild(Exception):
    """A compiler or a library is missing."""


_SSL: Final = ("-lssl", "-lcrypto")
PEER: Final = NativeProgram("peer.c", "cc", ("-O2", "-Wall", "-Wextra"), _SSL, "gcc libssl-dev")
NATIVE: Final = {
    "C on libssl": NativeProgram("client.c", "cc", ("-O2", "-Wall", "-Wextra"), _SSL, "gcc libssl-dev"),
    "Boost.Asio": NativeProgram(
        "asio.cpp", "c++", ("-O2", "-Wall", "-Wextra", "-std=c++20"), (*_SSL, "-pthread"), "g++ libssl-dev libboost-dev"
    ),
}


class NativePeer:
    """peer.c, as a process that ends with the block.

    Attributes:
        port: its listening port.
        tls: the version and cipher of the last handshake; known after the end of the block.
        cpu: the CPU seconds that it used; known after the end of the block.
    """

    def __init__(self, certificate: str, version: str) -> None:
        self._process = subprocess.Popen(
            [str(PEER.build()), certificate, version], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.tls = ""
        self.cpu = 0.0

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], _PATIENCE)[0]:
            self._process.kill()
            self._process.wait()
            raise TimeoutError("the peer does not listen")
        self.port = int(self._process.stdout.readline().removeprefix("port "))
        return self

    def __exit__(self, *_exception: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # It ends.
        for line in self._process.stdout:
            self.tls = line.removeprefix("tls ").strip()
        self._process.stdout.close()
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu = usage.ru_utime + usage.ru_stime
