"""Programs in Go, Java and C++, compiled once for all workers of a test session."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from helpers.commands import environment
from helpers.peers import require_program, require_programs

#: Seconds that a first compilation may take; a newer Go compiles its standard library with it.
_TIMEOUT: Final = 250


def shared_directory(factory: pytest.TempPathFactory) -> Path:
    """A directory that all workers of pytest-xdist share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def go_program(source: Path, directory: Path) -> str:
    """The path of the executable that Go makes of a `main` package."""
    go = require_program("go")

    def compile_it(made: Path) -> None:
        offline = {"GO111MODULE": "off", "GOFLAGS": "", "GOTOOLCHAIN": "local", "GOPROXY": "off", "GOENV": "off"}
        folders = {"GOCACHE": str(directory / "go-cache"), "GOPATH": str(directory / "go-path")}  # none in a HOME
        _run([go, "build", "-o", str(made), str(source)], environment(CGO_ENABLED="0", **folders, **offline))

    return _once(source, directory, compile_it)


def java_classes(source: Path, directory: Path) -> str:
    """The directory of the classes that Java makes of a file."""
    javac = require_program("javac")
    return _once(source, directory, lambda made: _run([javac, "-d", str(made), str(source)], environment()))


def boost_program(source: Path, directory: Path) -> str:
    """The path of the executable that g++ makes of a program with Boost.Asio's TLS."""
    compiler = require_program("g++")
    require_programs("asio.hpp", "ssl.h")
    options = ["-std=c++20", "-Wall", "-Wextra", "-Werror"]
    libraries = ["-lssl", "-lcrypto", "-pthread"]

    def compile_it(made: Path) -> None:
        _run([compiler, *options, str(source), "-o", str(made), *libraries], environment())

    return _once(source, directory, compile_it)


def _once(source: Path, directory: Path, compile_it: Callable[[Path], None]) -> str:
    """Compile what is not compiled yet; whoever comes second waits for the first."""
    made = directory / f"compiled-{source.name}"
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            compile_it(made)
    return str(made)


def _run(command: list[str], env: dict[str, str]) -> None:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=_TIMEOUT)
    assert done.returncode == 0, done.stderr
