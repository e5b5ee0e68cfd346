"""Programs in Go, compiled once for all workers of a test session."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from helpers.commands import environment
from helpers.peers import require_program

#: Seconds that a first compilation may take; a newer Go compiles its standard library with it.
_TIMEOUT: Final = 100


def shared_directory(factory: pytest.TempPathFactory) -> Path:
    """A directory that all workers of pytest-xdist share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def go_program(source: str, directory: Path) -> str:
    """The path of the executable that Go makes of a `main` package; whoever comes second waits for the first."""
    go = require_program("go")
    name = f"go-{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    text, made = directory / f"{name}.go", directory / name
    with (directory / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            text.write_text(source)
            offline = {"GO111MODULE": "off", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOPROXY": "off"}
            done = subprocess.run(
                [go, "build", "-o", str(made), str(text)],
                env=environment(CGO_ENABLED="0", GOCACHE=str(directory / "go-cache"), **offline),
                capture_output=True, text=True, check=False, timeout=_TIMEOUT,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
    return str(made)
