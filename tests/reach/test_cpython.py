"""CPython's own tests of asyncio's TLS, with bowout's in its place: those that fail are listed, with their reasons."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import pytest

from helpers.peers import ROOT, require_module

DIFFERENCES: Final = Path(__file__).with_name("cpython_differences.toml")
PROGRAM: Final = Path(__file__).with_name("cpython_suite.py")
#: Seconds after which a whole module hangs: no time that a test measures, only the end of a hang.
PATIENCE: Final = 800.0

#: The modules that use TLS, and where other things are in them, what to match.
MODULES: Final[dict[str, str | None]] = {
    "test_ssl": None,
    "test_sslproto": None,
    "test_streams": None,
    "test_events": "*ssl*",
    "test_sendfile": "*ssl*",
    "test_unix_events": "*ssl*",
    "test_base_events": "*ssl*",
}


@dataclass(frozen=True)
class Difference:
    """An expected failure.

    Attributes:
        pattern: of the tests' names.
        truncation: the policies under which it is one.
        reason: why.
        sometimes: it depends on time, so the test may pass.
    """

    pattern: str
    truncation: tuple[str, ...]
    reason: str
    sometimes: bool = False


def load(text: str) -> list[Difference]:
    """Read what of the list is about this Python."""
    found = []
    for entry in tomllib.loads(text)["difference"]:
        unknown = entry.keys() - {"tests", "truncation", "since", "sometimes", "reason"}
        assert not unknown, f"unknown: {unknown}"
        if sys.version_info < tuple(map(int, entry.get("since", "3.0").split("."))):
            continue
        truncation = tuple(entry.get("truncation", ("tolerate", "raise")))
        sometimes = entry.get("sometimes", False)
        found += [Difference(pattern, truncation, entry["reason"], sometimes) for pattern in entry["tests"]]
    return found


def compare(outcomes: Mapping[str, tuple[str, str]], differences: Iterable[Difference]) -> list[str]:
    """Give a line for each unlisted failure and each listed test that passed.

    Args:
        outcomes: by a test's name: ``passed``, ``skipped``, ``failed`` or ``hung``, and the reason.
        differences: the list.
    """
    lines = []
    for test, (outcome, reason) in outcomes.items():
        listed = [one for one in differences if fnmatchcase(test, one.pattern)]
        if outcome in {"failed", "hung"} and not listed:
            lines.append(f"{test} {outcome}, and is not in {DIFFERENCES.name}:\n{reason}")
        elif outcome == "passed" and listed and not listed[0].sometimes:
            lines.append(f"{test} passed: it is stale in {DIFFERENCES.name}, where it says: {listed[0].reason}")
    return lines


def outcomes_of(output: str) -> dict[str, tuple[str, str]]:
    """Read what the program wrote; a test that only started has hung, or ended the program."""
    outcomes = {}
    lines = [json.loads(line) for line in output.splitlines()]
    for line in lines:
        outcomes[line["test"]] = line["outcome"], line["reason"]
    outcomes.pop("", None)
    return {
        test: ("hung", "it was the last that started") if outcome == "started" else (outcome, reason)
        for test, (outcome, reason) in outcomes.items()
    }


def run_module(module: str, tls: str, folder: Path) -> dict[str, tuple[str, str]]:
    """Run one module of the suite in a process of its own."""
    require_module(f"test.test_asyncio.{module}", "Debian's package: libpython3-testsuite")
    match = MODULES[module]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--tls", tls, *(["--match", match] if match else []), module],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": os.environ.get("TMPDIR", "/tmp")},
    )
    outcomes = outcomes_of(done.stdout)
    assert outcomes, done.stderr[-2000:]
    assert done.returncode == 0 or "hung" in {outcome for outcome, _ in outcomes.values()}, done.stderr[-2000:]
    return outcomes


@pytest.mark.parametrize("module", MODULES)
def test_cpython_s_own_tests_where_a_truncation_is_tolerated(module: str, tmp_path: Path) -> None:
    """They are written for a TLS that hides truncations."""
    check(module, "tolerate", tmp_path)


def test_cpython_s_own_tests_of_streams_where_a_truncation_is_raised(tmp_path: Path) -> None:
    check("test_streams", "raise", tmp_path)


def check(module: str, truncation: str, folder: Path) -> None:
    differences = [one for one in load(DIFFERENCES.read_text(encoding="utf-8")) if truncation in one.truncation]
    wrong = compare(run_module(module, truncation, folder), differences)
    assert not wrong, "\n".join(wrong)


# -- the comparison itself --------------------------------------------------------------------------------------------

LISTED = [
    Difference("test_ssl.*.test_private", ("tolerate", "raise"), "private"),
    Difference("test_ssl.*.test_racy", ("tolerate", "raise"), "racy", sometimes=True),
]


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ({"test_ssl.T.test_private": ("failed", "…"), "test_ssl.T.test_other": ("passed", "")}, []),
        ({"test_ssl.T.test_private": ("skipped", "…"), "test_ssl.T.test_other": ("skipped", "…")}, []),
        ({"test_ssl.T.test_racy": ("passed", "")}, []),
        ({"test_ssl.T.test_racy": ("failed", "…")}, []),
        ({"test_ssl.T.test_private": ("passed", "")}, ["test_ssl.T.test_private passed: it is stale"]),
        ({"test_ssl.T.test_other": ("failed", "why")}, ["test_ssl.T.test_other failed, and is not in"]),
        ({"test_ssl.T.test_other": ("hung", "why")}, ["test_ssl.T.test_other hung, and is not in"]),
    ],
    ids=["as listed", "skipped", "passes sometimes", "fails sometimes", "stale", "unlisted", "hung"],
)
def test_what_differs_is_told(outcomes: dict[str, Any], said: list[str]) -> None:
    lines = compare(outcomes, LISTED)
    assert len(lines) == len(said)
    for line, start in zip(lines, said, strict=True):
        assert line.startswith(start)


def test_a_test_that_only_started_has_hung() -> None:
    output = '{"test": "a", "outcome": "started", "reason": ""}\n'
    assert outcomes_of(output + output.replace("started", "passed")) == {"a": ("passed", "")}
    assert outcomes_of(output) == {"a": ("hung", "it was the last that started")}


def test_each_difference_has_a_reason() -> None:
    differences = load(DIFFERENCES.read_text(encoding="utf-8"))
    assert all(one.reason.endswith(".") for one in differences)
    assert {name for one in differences for name in one.truncation} == {"tolerate", "raise"}


def test_all_pass_with_asyncio_s_own_tls(tmp_path: Path) -> None:
    """The program itself adds no failure."""
    outcomes = run_module("test_unix_events", "stock", tmp_path)
    assert {outcome for outcome, _ in outcomes.values()} == {"passed"}


def test_the_program_tells_of_failures(tmp_path: Path) -> None:
    """It is given a package of the same name, in which one test of each kind is."""
    package = tmp_path / "test" / "test_asyncio"
    package.mkdir(parents=True)
    (package / "test_kinds.py").write_text(
        "import unittest\n"
        "class Kinds(unittest.TestCase):\n"
        "    def test_passes(self): pass\n"
        "    def test_fails(self): self.assertEqual(1, 2)\n"
        "    def test_raises(self): raise OSError('gone')\n"
        "    def test_skips(self): self.skipTest('no reason')\n"
        "    def test_sub(self):\n"
        "        with self.subTest(): self.fail('sub')\n"
        "    @unittest.expectedFailure\n"
        "    def test_unexpected(self): pass\n",
        encoding="utf-8",
    )
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "test_kinds"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    outcomes = outcomes_of(done.stdout)
    assert {test.rpartition(".")[2]: outcome for test, (outcome, _) in outcomes.items()} == {
        "test_passes": "passed",
        "test_fails": "failed",
        "test_raises": "failed",
        "test_skips": "skipped",
        "test_sub": "failed",
        "test_unexpected": "failed",
    }
    assert "OSError: gone" in outcomes["test_kinds.Kinds.test_raises"][1]
