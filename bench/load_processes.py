"""Processes that get their orders as JSON lines, and the kernel's accounting of a process."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

_HERE: Final = Path(__file__).parent
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """The usage of a process: seconds of CPU, and KiB of memory."""

    user: float
    system: float
    cpu: float
    rss: int
    pss: int


class Child:
    """A script of this folder, in its own process, which ends with the block."""

    def __init__(self, script: str, settings: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, _HERE / script, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.kill()
        self._process.wait()

    def tell(self, do: str, **arguments: object) -> None:
        """Give an order; `reply` has its result."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")

    def reply(self, seconds: float) -> dict[str, Any]:
        """Return the next line of its output, within a number of seconds."""
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            if not select.select([self._process.stdout], [], [], seconds)[0]:
                raise TimeoutError(f"{self._process.args!r} said nothing for {seconds:.0f} s")
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            if not data:
                raise RuntimeError(f"{self._process.args!r} ended with status {self._process.wait()}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        result: dict[str, Any] = json.loads(line)
        return result

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        self._process.send_signal(number)

    def usage(self) -> Usage:
        """Return the usage so far."""
        process = Path("/proc") / str(self._process.pid)
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        memory = dict(
            line.split(":", 1) for line in (process / "smaps_rollup").read_text().splitlines()[1:] if ":" in line
        )
        return Usage(
            user=int(fields[11]) / _TICKS,
            system=int(fields[12]) / _TICKS,
            # In nanoseconds, where the two above are in ticks of 10 ms.
            cpu=sum(int(task.read_text().split()[0]) for task in process.glob("task/*/schedstat")) / 1e9,
            rss=int(memory["Rss"].split()[0]),
            pss=int(memory["Pss"].split()[0]),
        )
