"""Try a built wheel as a user gets it: ``try_wheel.py WHEEL VENV`` in an empty directory.

The wheel holds every file of the packages. Without extras, the library imports and the command says what it lacks. With
the extras, every module imports, bash completes the command and the demo runs.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"

IMPORT_ALL = """
import importlib, pathlib, pkgutil, bowout
assert "site-packages" in bowout.__file__, bowout.__file__
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


def main(wheel: Path, venv: Path) -> None:
    expect_whole(wheel)
    scripts = venv / "bin"

    run(scripts / "python", "-m", "pip", "install", "--quiet", wheel)
    run(scripts / "python", "-W", "error", "-c", "import bowout")
    lacking = subprocess.run([scripts / "bowout", "--help"], capture_output=True, text=True, check=False)
    if not (lacking.returncode != 0 and "bowout[cli]" in lacking.stderr and "Traceback" not in lacking.stderr):
        sys.exit(f"error: without its extra, the command should name it, but it gave {lacking}")

    run(scripts / "python", "-m", "pip", "install", "--quiet", f"{wheel}[cli,trio,uvloop,metrics,testing]")
    run(scripts / "python", "-W", "error", "-c", IMPORT_ALL)
    run(scripts / "bowout", "--help")
    run("bash", "-c", COMPLETE, "bash", scripts)
    run(scripts / "bowout", "demo")
    print(f"{wheel.name} is whole, imports, explains a missing extra and runs its demo")


def expect_whole(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    files = (path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    lost = {path.relative_to(SOURCE).as_posix() for path in files} - held
    if lost:
        sys.exit(f"error: the wheel lacks {sorted(lost)}")


def run(*command: str | Path) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(map(str, command))} exited with {done.returncode}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
