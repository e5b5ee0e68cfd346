"""The benchmarks run, and what the documents say of them is what was measured."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bowout._lane import VARIABLE
from helpers.peers import ROOT, in_ci, require_program
from helpers.scripts import load_script

BENCH = ROOT / "bench"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peer is written for epoll")


@pytest.fixture(scope="module")
def report() -> ModuleType:
    return load_script(BENCH / "compare_report.py")


@pytest.fixture
def document(report: ModuleType) -> Any:
    return json.loads(report.JSON.read_text(encoding="utf-8"))


def test_documents_and_charts_say_what_was_measured(report: ModuleType, document: Any) -> None:
    assert report.differing(document) == [], "run: python bench/compare_report.py"


def test_every_contender_of_ours_has_our_colour_in_the_charts() -> None:
    for chart in (BENCH / "results").glob("compare*.svg"):
        bars = re.findall(r'>([^<]*)</text>\n<rect class="([^"]*)"', chart.read_text(encoding="utf-8"))
        assert {name for name, _ in bars if name.startswith("bowout")}, chart
        assert [name for name, kind in bars if ("ours" in kind.split()) != name.startswith("bowout")] == []


def test_other_figures_would_be_noticed(report: ModuleType, document: Any) -> None:
    other = copy.deepcopy(document)
    for sample in other["samples"]:
        sample["cpu"] *= 2
    assert "docs/evidence/benchmarks.md" in report.differing(other)
    assert "bench/results/compare.svg" in report.differing(other)


def test_every_sample_is_kept(report: ModuleType, document: Any) -> None:
    assert json.loads(report.dump(document)) == document


@pytest.mark.timeout(900)
def test_every_contender_runs(tmp_path: Path) -> None:
    for program in ("ssl.h", "asio.hpp", "g++"):
        require_program(program)
    target = tmp_path / "tiny.json"
    command = [sys.executable, str(BENCH / "compare.py"), "--tiny", "--unpinned", "--json", str(target)]
    jobs = ["--job", "memory", "--job", "receive_into", "--job", "many100"]  # every verb of every contender
    build = {} if os.access(ROOT, os.W_OK) else {"BOWOUT_BENCH_BUILD": str(tmp_path)}
    env = {**os.environ, **build}
    done = subprocess.run([*command, *jobs], env=env, capture_output=True, text=True, timeout=850, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(target.read_text())
    contenders = {sample["contender"] for sample in found["samples"]}
    assert {"bowout on asyncio", "asyncio streams", "C on libssl", "Boost.Asio"} <= contenders
    assert all(sample["tls"].startswith("TLSv1.3 ") for sample in found["samples"])
    assert not in_ci() or found["missing"] == {}


def test_the_overhead_can_be_measured() -> None:
    command = [sys.executable, str(BENCH / "overhead.py"), "--rounds", "2"]
    env = {**os.environ, VARIABLE: "python"}  # It leaves out steps in Python one by one.
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=250, check=False)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 5)
