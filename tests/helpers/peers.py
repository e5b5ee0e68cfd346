"""Real programs to talk to: found, or the test is skipped, or fails in CI, where each must be there.

The programs and the packages that hold them are listed in ``.ci/packages.txt``.
"""

from __future__ import annotations

import functools
import glob
import importlib.util
import os
import re
import shutil
import socket
from pathlib import Path
from typing import Final, NoReturn

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = ROOT / ".ci" / "packages.txt"

#: Daemons live here, and an ordinary user's PATH does not name it.
SBIN: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def in_ci() -> bool:
    """Whether a missing peer is a failure: in CI it is, on a developer's machine it is a skip."""
    return os.environ.get("CI", "").lower() not in {"", "0", "false", "no"}


def require_program(name: str) -> str:
    """Give the path of a program of ``.ci/packages.txt``, or skip the test; fail it in CI."""
    patterns = listed_programs()
    if name not in patterns:
        pytest.fail(f"{name} is not listed in {PACKAGES.relative_to(ROOT)}: CI would not install it", pytrace=False)
    pattern, package = patterns[name]
    path = find_program(pattern)
    if path is None:
        _missing(f"{name} is not installed (Debian's package: {package})")
    return path


def require_programs(*names: str) -> None:
    """The same for each part of a peer that comes in several packages: a daemon and its modules."""
    for name in names:
        require_program(name)


def is_installed(name: str) -> bool:
    """Whether a program of ``.ci/packages.txt`` is there."""
    return find_program(listed_programs()[name][0]) is not None


def require_module(name: str, where: str = "") -> None:
    """Skip the test, or fail it in CI, unless a Python module can be imported; `where` says what brings it."""
    if not _is_there(name):
        _missing(f"the Python module {name} is not installed" + (f" ({where})" if where else ""))


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package that it is in
        return False


def require_ipv6() -> None:
    """Skip the test where the loopback has no IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")


@functools.cache
def listed_programs() -> dict[str, tuple[str, str]]:
    """What ``.ci/packages.txt`` lists: a program's name to its name or glob, and its package."""
    return parse_packages(PACKAGES.read_text(encoding="utf-8"))


def parse_packages(text: str) -> dict[str, tuple[str, str]]:
    """Read the text of such a list.

    Raises:
        ValueError: two packages list the same program, so that it could not tell which of them is missing.
    """
    programs: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        package, patterns = fields
        for pattern in patterns.split(","):
            name = Path(pattern).name
            if name in programs:
                raise ValueError(
                    f"{name} stands for {programs[name][1]} and for {package}: list what each alone brings"
                )
            programs[name] = pattern, package
    return programs


def find_program(pattern: str) -> str | None:
    """Find a program by a glob of its path, or else by its name; of several, the one with the highest version.

    An empty file is none: that is how one is hidden.
    """
    if os.path.isabs(pattern):  # noqa: PTH117 no path, a pattern
        matches = [Path(match) for match in glob.glob(pattern)]  # noqa: PTH207 Path.glob takes no absolute pattern
        there = [str(path) for path in matches if path.is_file() and path.stat().st_size]
        return max(there, key=_by_version, default=None)
    return shutil.which(pattern, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *SBIN]))


def _by_version(path: str) -> list[tuple[int, str]]:
    """Its parts, numbers by their value: 9.6 comes before 15."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path)]


def _missing(what: str) -> NoReturn:
    if in_ci():
        pytest.fail(f"{what}, and in CI every peer must be there", pytrace=False)
    pytest.skip(what)
