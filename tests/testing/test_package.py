"""The package: what it exports, what it needs, and that its page is that of its catalogue."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import bowout.testing
from bowout.testing import ENDINGS

ROOT: Final = Path(__file__).resolve().parents[2]


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout


def test_every_row_of_the_thirty_has_a_name() -> None:
    assert sorted({entry.row for entry in ENDINGS.values()}) == list(range(1, 31))


def test_every_name_is_that_of_its_entry_in_the_order_of_the_rows() -> None:
    assert [entry.name for entry in ENDINGS.values()] == list(ENDINGS)
    rows = [entry.row for entry in ENDINGS.values()]
    assert rows == sorted(rows)


@pytest.mark.parametrize("entry", ENDINGS.values(), ids=lambda entry: entry.name)
def test_every_entry_says_what_it_does_and_where_that_stands(entry: bowout.testing.Entry) -> None:
    assert entry.summary.endswith((".", "!"))
    assert "RFC" in entry.rfc
    assert entry.expectations


def test_the_page_is_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "generate_endings.py"))
    current = script["TARGET"].read_text(encoding="utf-8")
    assert script["page"](current) == current, "run scripts/generate_endings.py"


def test_everything_that_is_exported_exists_and_is_told() -> None:
    for name in bowout.testing.__all__:
        assert hasattr(bowout.testing, name)
    assert sorted(bowout.testing.__all__) == sorted(n for n in vars(bowout.testing) if n in bowout.testing.__all__)


def test_the_library_does_without() -> None:
    program = "import bowout, sys; print([m for m in sys.modules if m.split('.')[0] in ('trustme', 'cryptography')])"
    assert python(program) == "[]\n"


@pytest.mark.parametrize("missing", ["cryptography", "trustme"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    program = f"""
import sys
sys.modules[{missing!r}] = None
try:
    import bowout.testing
except ModuleNotFoundError as error:
    print(error)
"""
    assert python(program) == f"bowout.testing needs the package {missing}: pip install 'bowout[testing]'\n"
