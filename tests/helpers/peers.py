"""Real programs to talk to: found, or the test is skipped, or fails in CI, where each must be there.

The programs and the packages that hold them are listed in ``.ci/packages.txt``.
"""

from __future__ import annotations

import functools
import glob
import importlib.util
import os
import shutil
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


def require_module(name: str) -> None:
    """Skip the test, or fail it in CI, unless a Python module can be imported."""
    if importlib.util.find_spec(name) is None:
        _missing(f"the Python module {name} is not installed")


@functools.cache
def listed_programs() -> dict[str, tuple[str, str]]:
    """What ``.ci/packages.txt`` lists: a program's name to its name or glob, and its package."""
    programs = {}
    for line in PACKAGES.read_text(encoding="utf-8").splitlines():
        fields = line.partition("#")[0].split()
        if fields:
            package, patterns = fields
            programs.update({Path(pattern).name: (pattern, package) for pattern in patterns.split(",")})
    return programs


def find_program(pattern: str) -> str | None:
    """Find a program by a glob of its path, or else by its name; of several, the last in order (the newest version)."""
    if found := glob.glob(pattern):  # noqa: PTH207 an absolute pattern is none of Path.glob
        return max(found)
    return shutil.which(Path(pattern).name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *SBIN]))


def _missing(what: str) -> NoReturn:
    if in_ci():
        pytest.fail(f"{what}, and in CI every peer must be there", pytrace=False)
    pytest.skip(what)
