"""What operations cost in calls, against bench/costs.json: a guard that no load on the machine can upset."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from bowout._lane import VARIABLE
from helpers.peers import ROOT, require_module
from helpers.scripts import load_script

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the counts are those of epoll")

BENCH = ROOT / "bench"


@pytest.fixture(scope="module")
def costs() -> ModuleType:
    return load_script(BENCH / "costs.py")


@pytest.fixture(scope="module")
def baseline() -> dict[str, Any]:
    text = (BENCH / "costs.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@pytest.fixture
def measured(costs: ModuleType, baseline: dict[str, Any]) -> Any:
    """What the baseline says, as a measurement."""
    version = next(key for key in baseline if key != costs.EVERYWHERE)
    both = copy.deepcopy(baseline[version])
    for backend, operations in baseline[costs.EVERYWHERE].items():
        for operation, counts in operations.items():
            both[backend][operation] |= counts
    return both, version


def test_no_operation_costs_more_than_it_did(costs: ModuleType, baseline: dict[str, Any]) -> None:
    require_module("trio")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    clean[VARIABLE] = "python"  # It counts calls of Python, and the lane in C makes its own.
    command = [sys.executable, str(BENCH / "costs.py"), "--json"]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    found = costs.complaints(json.loads(done.stdout), baseline)
    assert not found, f"operations cost otherwise than they did (if they should: {costs.UPDATE}):\n" + "\n".join(found)


@pytest.mark.parametrize("lane", ["c", "python"])
def test_a_connection_costs_no_more_calls_of_ours_than_its_limit(costs: ModuleType, lane: str) -> None:
    if lane == "c":
        pytest.importorskip("bowout._lane._native", reason="it was built without a C compiler")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, str(BENCH / "costs.py"), "--connections"]
    done = subprocess.run(
        command, env=clean | {"BOWOUT_LANE": lane}, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    counted, limits = json.loads(done.stdout), costs.LIMITS[lane]
    assert counted.keys() == limits.keys()
    dear = {role: count for role, count in counted.items() if count > limits[role]}
    assert not dear, f"more than {limits}: if that has to be, say why at LIMITS in bench/costs.py"
    lax = {role: count for role, count in counted.items() if count < limits[role] * 0.8}
    assert not lax, f"much less than {limits}: lower LIMITS in bench/costs.py, or they guard nothing"


def test_the_baseline_is_complete(costs: ModuleType, baseline: dict[str, Any]) -> None:
    for backend in costs.BACKENDS:
        calls = baseline[costs.EVERYWHERE][backend]["64-byte round trip"]
        assert calls["system call: socket.send"] >= 1
        assert calls["system call: socket.recv_into"] >= 1
        assert calls["OpenSSL: _SSLSocket.read"] >= 1
        assert calls["OpenSSL: _SSLSocket.write"] >= 1


def test_the_baseline_agrees_with_itself(costs: ModuleType, baseline: dict[str, Any], measured: Any) -> None:
    counts, version = measured
    assert costs.complaints(counts, baseline, version) == []


@pytest.mark.parametrize("what", ["system call: socket.send", "OpenSSL: _SSLSocket.read"])
@pytest.mark.parametrize(("factor", "word"), [(1.5, "dearer"), (0.5, "cheaper")])
def test_a_change_is_told_with_its_operation(
    costs: ModuleType, baseline: dict[str, Any], measured: Any, what: str, factor: float, word: str
) -> None:
    counts, version = measured
    counts["trio"]["64-byte round trip"][what] *= factor
    (complaint,) = costs.complaints(counts, baseline, version)
    assert complaint.startswith(f"64-byte round trip on trio: {word}: {what}")


def test_a_new_kind_of_system_call_is_dearer(costs: ModuleType, baseline: dict[str, Any], measured: Any) -> None:
    counts, version = measured
    counts["asyncio"]["send of 16 MiB"]["system call: socket.sendto"] = 1
    (complaint,) = costs.complaints(counts, baseline, version)
    assert "dearer: system call: socket.sendto" in complaint


def test_more_memory_is_dearer_on_the_same_python_only(
    costs: ModuleType, baseline: dict[str, Any], measured: Any
) -> None:
    counts, version = measured
    counts["asyncio"]["send of 16 MiB"]["peak of memory, KiB"] *= 2
    (complaint,) = costs.complaints(counts, baseline, version)
    assert "dearer: peak of memory, KiB" in complaint
    assert costs.complaints(counts, baseline, "3.99") == []


@pytest.mark.parametrize("what", ["all functions", "bowout's functions", "bowout's calls of C functions"])
def test_functions_are_counted_for_information(
    costs: ModuleType, baseline: dict[str, Any], measured: Any, what: str
) -> None:
    counts, version = measured
    counts["asyncio"]["send of 16 MiB"][what] *= 2
    assert costs.complaints(counts, baseline, version) == []
