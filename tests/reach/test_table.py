"""docs/evidence/libraries.md says what the libraries do: a new version that does otherwise fails here first."""

from __future__ import annotations

import json
import runpy
from typing import Any, Final

import pytest

from helpers.peers import ROOT
from reach.observing import HIDDEN, require
from reach.registry import ClientScenario, ServerScenario, distributions, everything
from reach.table import cells, row, tabled

SCENARIOS: Final = [scenario for scenario in everything() if tabled(scenario)]
EVIDENCE: Final = ROOT / "docs" / "evidence"
RECORDED: Final[dict[str, Any]] = json.loads((EVIDENCE / "libraries.json").read_text(encoding="utf-8"))
ROWS: Final[list[dict[str, Any]]] = [*RECORDED["clients"], *RECORDED["servers"]]


def without_cells(recorded: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in recorded.items() if name != "cells"}


def test_the_page_is_what_is_recorded() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "generate_reach_table.py"))["page"]
    assert (EVIDENCE / "libraries.md").read_text(encoding="utf-8") == page(RECORDED)


def test_each_scenario_is_recorded() -> None:
    assert [without_cells(recorded) for recorded in ROWS] == [row(scenario) for scenario in SCENARIOS]


def test_each_library_is_recorded_with_its_version() -> None:
    assert set(distributions()) | {"CPython", "OpenSSL", "uvloop"} == RECORDED["versions"].keys()


def test_nothing_is_hidden_with_bowout_but_what_was_vouched_for() -> None:
    hidden = {
        (recorded["what"], end)
        for recorded in RECORDED["clients"]
        for end, cell in recorded["cells"].items()
        if HIDDEN in cell["bowout"]
    }
    assert {end for _, end in hidden} == {"close_notify"}
    assert {what for what, _ in hidden} == {one["what"] for one in RECORDED["clients"] if one["open_ended"]}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_a_library_does_what_is_recorded(scenario: ClientScenario | ServerScenario) -> None:
    for way in scenario.ways:
        require(scenario, way)
    (recorded,) = [one["cells"] for one in ROWS if without_cells(one) == row(scenario)]
    assert cells(scenario) == recorded
