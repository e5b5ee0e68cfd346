"""httpcore's own tests, over bowout: `scripts/run_httpcore_suite.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

import pytest

from helpers.peers import ROOT, in_ci

#: Variable with the path of httpcore's source distribution. In CI it is downloaded.
_PATH: Final = "HTTPCORE_SDIST"


def test_the_suite_of_httpcore_passes() -> None:
    path = os.environ.get(_PATH)
    if path is None and not in_ci():
        pytest.skip(f"httpcore's tests are not part of what is installed: set {_PATH} to its source distribution")
    command = [sys.executable, str(ROOT / "scripts" / "run_httpcore_suite.py"), *([path] if path else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "endings: clean" in done.stdout
