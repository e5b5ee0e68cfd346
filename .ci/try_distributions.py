"""Check the built distributions: ``try_distributions.py WHEEL SDIST BARE FULL``.

The source distribution must have every file of the repository, so that packagers can run the tests, and the wheel every
file of the packages. The README's links must be absolute for a package index. In the virtual environment BARE, the
wheel is installed without extras: the library imports, and the command names the missing extra. In FULL, with the
extras, every module imports without a warning, bash completes the command and the demo runs.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"

IMPORT_ALL = """
import importlib, pkgutil, sys, bowout
assert "site-packages" in bowout.__file__, bowout.__file__
assert bowout.__version__ == sys.argv[1], f"bowout says that it is {bowout.__version__}, its metadata {sys.argv[1]}"
for module in pkgutil.walk_packages(bowout.__path__, "bowout."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


#: A Tab in bash, after ``bowout con``.
COMPLETE = """
PATH="$1:$PATH"
source <(bowout --show-completion)
COMP_WORDS=(bowout con) COMP_CWORD=1
_bowout_completion bowout con bowout
[ "${COMPREPLY[*]}" = connect ]
"""


def main(wheel: Path, sdist: Path, bare: Path, full: Path) -> None:
    expect_whole_sdist(sdist)
    expect_whole_wheel(wheel)
    version = expect_metadata(wheel)

    run(bare / "bin" / "python", "-W", "error", "-c", "import bowout")
    lacking = subprocess.run([bare / "bin" / "bowout", "--help"], capture_output=True, text=True, check=False)
    if not (lacking.returncode != 0 and "bowout[cli]" in lacking.stderr and "Traceback" not in lacking.stderr):
        sys.exit(f"error: without its extra, the command should name it, but it gave {lacking}")

    run(full / "bin" / "python", "-W", "error", "-c", IMPORT_ALL, version)
    run("bash", "-c", COMPLETE, "bash", full / "bin")
    run(full / "bin" / "bowout", "demo")
    print(f"{wheel.name} and {sdist.name} are whole; it imports, explains a missing extra and runs its demo")


def expect_whole_sdist(sdist: Path) -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        print("note: without git, the source distribution cannot be checked for missing files")
        return
    with tarfile.open(sdist) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    lost = {name for name in done.stdout.splitlines() if (ROOT / name).is_file()} - held
    if lost:
        sys.exit(f"error: the source distribution lacks {sorted(lost)}")


def expect_whole_wheel(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    files = (path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    lost = {path.relative_to(SOURCE).as_posix() for path in files} - held
    if lost:
        sys.exit(f"error: the wheel lacks {sorted(lost)}")


def expect_metadata(wheel: Path) -> str:
    """Check the README as an index shows it, and return the version."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    links = re.findall(r'\]\(([^)]*)\)|src="([^"]*)"', str(metadata.get_payload()))
    relative = [one or other for one, other in links if not re.match("https?:", one or other)]
    if not links or relative:
        sys.exit(f"error: on a package index, these links of README.md lead nowhere: {relative or 'it has no links'}")
    return str(metadata["Version"])


def run(*command: str | Path) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(map(str, command))} exited with {done.returncode}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
