"""The scenarios as parameters of tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeVar

import pytest

from helpers.wire import VERSIONS
from reach.registry import ClientScenario, ServerScenario
from reach.ways import LibraryWay

Scenario = TypeVar("Scenario", ClientScenario, ServerScenario)

#: The names of the parameters; tests/helpers/tiers.py goes by `loop` and `version`.
PARAMETERS: Final = ("scenario", "means", "loop", "version")


def cases(scenarios: Iterable[ClientScenario] | Iterable[ServerScenario], *, ours: bool) -> list[Any]:
    """Each scenario in each of its ways, with bowout or without, and in each version of TLS."""
    return [
        pytest.param(scenario, way.means, way.loop, version, id=f"{scenario}-{way.means}-{way.loop}-{version}")
        for scenario in scenarios
        for way in scenario.ways
        if way.ours == ours
        for version in VERSIONS
    ]


def way_of(scenario: ClientScenario | ServerScenario, means: str, loop: str) -> LibraryWay:
    """The way that a case names."""
    (way,) = [way for way in scenario.ways if (way.means, way.loop) == (means, loop)]
    return way
