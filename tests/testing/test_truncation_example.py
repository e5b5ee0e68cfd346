"""The example of docs/how-to/pytest-plugin.md, and the tables that are made of it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from helpers.peers import ROOT, require_module

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def clients() -> None:
    require_module("requests")
    require_module("aiohttp")


def test_the_example_tells_what_each_client_hides(pytester: pytest.Pytester) -> None:
    folder = ROOT / "examples" / "truncation"
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", folder, timeout=250)
    outcomes = result.parseoutcomes()
    assert outcomes.keys() - {"xpassed"} == {"passed", "xfailed"}, result.stdout.str()
    assert outcomes.get("xpassed", 0) in {0, 2}  # what hangs on the version of CPython


def test_the_tables_are_up_to_date(tmp_path: Path) -> None:
    """A client that behaves otherwise, or an ending that is not in the tables."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "generate_truncations.py", "--check"],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
