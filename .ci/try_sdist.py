"""Try a built source distribution: ``try_sdist.py SDIST DIRECTORY``.

It holds every file of the repository, so that its packagers can run the tests. All of them are collected where it is
unpacked, and those run that read other files than their own: pages, scripts, examples, benchmarks, the list of peers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: What reads other folders of the repository.
SELECTION = "page or document or corpus or baseline or peers or TestPeers or echo_server or names or figures"


def main(sdist: Path, directory: Path) -> None:
    shutil.unpack_archive(sdist, directory)
    unpacked = directory / sdist.name.removesuffix(".tar.gz")
    expect_whole(unpacked)
    env = {**os.environ, "PYTHONPATH": str(unpacked / "src")}
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    subprocess.run([*pytest, "--collect-only", "-qq"], cwd=unpacked, env=env, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*pytest, "-k", SELECTION], cwd=unpacked, env=env, check=True)
    print(f"{sdist.name} is whole, and its tests run")


def expect_whole(unpacked: Path) -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        print("note: no git here, so nothing tells whether it is whole")
        return
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    lost = [name for name in done.stdout.splitlines() if not (unpacked / name).is_file()]
    if lost:
        sys.exit(f"error: the source distribution lacks {lost}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
