"""Run httpcore's own asynchronous tests over bowout: of the installed version, or those in PATH.

PATH is a source distribution of httpcore, or a folder with its ``tests``. Without it, the source distribution of the
installed version is downloaded from the package index. The tests run on asyncio, uvloop and trio;
``tests/helpers/httpcore_replay.py`` replaces their mock network, and lists the differences that are expected.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
#: Seconds after which one test hangs.
_TIMEOUT: Final = 120


def main() -> int:
    """Run them; return pytest's exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path, help="a source distribution of httpcore, or a folder")
    path: Path | None = parser.parse_args().path
    with tempfile.TemporaryDirectory(prefix="bowout-httpcore-") as temporary:
        directory = Path(temporary)
        source = path if path is not None else download(directory)
        if source.is_file():
            source = unpack(source, directory / "source")
        suite = directory / "suite"
        shutil.copytree(source / "tests", suite / "tests")  # without httpcore itself: the installed one is tested
        shutil.copy(source / "pyproject.toml", suite)
        return run(suite)


def download(directory: Path) -> Path:
    """Download the source distribution of the installed version."""
    name = f"httpcore=={version('httpcore')}"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq"]
    subprocess.run([*pip, "download", "--no-deps", "--no-binary=:all:", f"--dest={directory}", name], check=True)
    return next(directory.glob("httpcore-*.tar.gz"))


def unpack(archive: Path, directory: Path) -> Path:
    """Unpack a source distribution; return its folder."""
    shutil.unpack_archive(archive, directory)
    return next(directory.iterdir())


def run(suite: Path) -> int:
    """Run the tests in this folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    path = os.pathsep.join([*map(str, (ROOT / "src", ROOT / "tests")), *sys.path])
    plugins = ["anyio", "pytest_timeout", "helpers.httpcore_replay"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--timeout={_TIMEOUT}"]
    command += ["--disable-plugin-autoload", *(f"-p{name}" for name in plugins), "tests/_async"]
    return subprocess.run(command, cwd=suite, env={**inherited, "PYTHONPATH": path}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
