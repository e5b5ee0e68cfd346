"""Draw docs/pictures again, from a real run of the demo: ``scripts/generate_pictures.py``.

Times differ from run to run, so run it only after a change of the demo or the ladder, and inspect the result.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"

#: The demo's server has a different port each time; a fixed name avoids needless changes of the pictures.
ADDRESS = re.compile(r"127\.0\.0\.1:\d+")
NAME = "localhost:4433"


def main() -> None:
    with tempfile.TemporaryDirectory() as drawn:
        subprocess.run([sys.executable, "-m", "bowout", "demo", "--svg", drawn], stdout=subprocess.DEVNULL, check=True)
        PICTURES.mkdir(parents=True, exist_ok=True)
        for picture in sorted(Path(drawn).glob("*.svg")):
            target = PICTURES / picture.name
            target.write_text(ADDRESS.sub(NAME, picture.read_text(encoding="utf-8")), encoding="utf-8")
            print(target.relative_to(PICTURES.parents[1]))


if __name__ == "__main__":
    main()
