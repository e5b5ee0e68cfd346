"""Try the built wheel: ``try_distributions.py WHEEL BARE FULL``; `make release-check` judges what is in it.

The README's links must be absolute for a package index. In the virtual environment BARE, the wheel is installed
without extras: the library imports, and the command names the missing extra. In FULL, with the extras, every module
imports without a warning, bash completes the command and the demo runs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

IMPORT_ALL = """
import importlib, pkgutil, sys, bowout
assert "site-packages" in bowout.__file__, bowout.__file__
assert bowout.__version__ == sys.argv[1], f"bowout says that it is {bowout.__version__}, its metadata {sys.argv[1]}"
for module in pkgutil.walk_packages(bowout.__path__, "bowout."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


#: A Tab in bash, after ``bowout conn``.
COMPLETE = """
PATH="$1:$PATH"
source <(bowout completion bash)
COMP_WORDS=(bowout conn) COMP_CWORD=1
_bowout_completion bowout conn bowout
[ "${COMPREPLY[*]}" = connect ]
"""


def main(wheel: Path, bare: Path, full: Path) -> None:
    version = expect_metadata(wheel)

    run(bare / "bin" / "python", "-W", "error", "-c", "import bowout")
    lacking = subprocess.run([bare / "bin" / "bowout", "--help"], capture_output=True, text=True, check=False)
    if not (lacking.returncode != 0 and "bowout[cli]" in lacking.stderr and "Traceback" not in lacking.stderr):
        sys.exit(f"error: without its extra, the command should name it, but it gave {lacking}")

    run(full / "bin" / "python", "-W", "error", "-c", IMPORT_ALL, version)
    run("bash", "-c", COMPLETE, "bash", full / "bin")
    run(full / "bin" / "bowout", "demo")
    print(f"{wheel.name} imports, explains a missing extra and runs its demo")


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
