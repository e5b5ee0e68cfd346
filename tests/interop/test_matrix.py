"""Other people's TLS stacks, as servers and as clients: how each ending comes out here, and what they make of it.

What another does wrong is recorded in ``expectations.toml``, not passed over: when a new version does otherwise, the
table is wrong, and a test says so. ``docs/evidence/interop.md`` is made from it.
"""

from __future__ import annotations

import contextlib
import runpy
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from helpers.compiled import shared_directory
from helpers.peers import ROOT
from helpers.runners import Runner
from helpers.wire import PATIENCE, VERSIONS, Version
from interop.expectations import EXPECTED, Key, Observation, check, observation, words_differ
from interop.far import LOOPBACK
from interop.http import HTTP_KEYS
from interop.ours import accepted, connected
from interop.relay import Relay, relaying
from interop.scenarios import SCENARIOS, By, ScenarioOutcome, ScenarioParties
from interop.stacks import STACKS
from interop.stacks.base import Bench, Role, Stack

#: Scenarios that are run in TLS 1.3 only: 1.2 adds nothing to "we end" and "they end".
ONCE: Final = {"both end", "upload", "download", "in flight"}
#: Stacks that start at once: these meet us on trio as well.
ON_TRIO: Final = {"OpenSSL s_server", "OpenSSL s_client", "GnuTLS cli", "Go", "socat"}

#: So often a scenario is played again in which only the other stack's words are not as they were.
_AGAIN: Final = 2


@dataclass(frozen=True)
class MatrixCase:
    """One cell of the matrix.

    Attributes:
        way: how they are made to end.
    """

    stack: Stack
    role: Role
    scenario: str
    way: str
    version: Version

    @property
    def named(self) -> str:
        """The scenario, as the data has it."""
        return f"{self.scenario}: {self.way}" if self.scenario == "they end" else self.scenario

    @property
    def key(self) -> Key:
        return self.stack.name, self.role, self.named, self.version

    def __str__(self) -> str:
        return "-".join(self.key).replace(" ", "_")


def _cases() -> list[MatrixCase]:
    return [
        MatrixCase(stack, role, scenario, way, version)
        for stack in STACKS.values()
        for role in ("server", "client")
        if getattr(stack, role) is not None
        for scenario in stack.takes
        for way in (stack.ways if scenario == "they end" else list(stack.ways)[:1])
        for version in (VERSIONS[-1:] if scenario in ONCE else VERSIONS)
    ]


CASES: Final = _cases()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_directory(tmp_path_factory)


@pytest.mark.backends("asyncio")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_on_asyncio(case: MatrixCase, run: Runner, tmp_path: Path, shared: Path) -> None:
    compare(case, run, tmp_path, shared)


@pytest.mark.backends("trio")
@pytest.mark.parametrize("case", [case for case in CASES if case.stack.name in ON_TRIO], ids=str)
def test_on_trio(case: MatrixCase, run: Runner, tmp_path: Path, shared: Path) -> None:
    compare(case, run, tmp_path, shared)


def compare(case: MatrixCase, run: Runner, folder: Path, shared: Path) -> None:
    """Hold what happens against the data. Our ending and what arrived must be right at once."""
    seen = observe(case, run, Bench(folder, shared))
    for number in range(_AGAIN):
        if not words_differ(case.key, case.stack.here, seen):
            break
        another = folder / str(number)
        another.mkdir()
        seen = observe(case, run, Bench(another, shared))
    check(case.key, case.stack.here, seen)


def observe(case: MatrixCase, run: Runner, bench: Bench) -> Observation:
    """Let it happen."""
    case.stack.require()
    by: By = case.stack.ways[case.way]
    with contextlib.ExitStack() as held:
        relay: Relay | None = None
        listener: socket.socket | None = None
        if case.role == "server":
            assert case.stack.server is not None
            far = held.enter_context(case.stack.server(bench, case.way))
            port = far.port
            if case.scenario == "both end":
                relay = held.enter_context(relaying(port))
                port = relay.port
        else:
            assert case.stack.client is not None
            listener = held.enter_context(socket.create_server((LOOPBACK, 0)))
            port = listener.getsockname()[1]
            if case.scenario == "both end":
                relay = held.enter_context(relaying(port))
                port = relay.port
            far = held.enter_context(case.stack.client(bench, port, case.way))

        async def talk() -> ScenarioOutcome:
            ours = (
                accepted(listener, case.version, PATIENCE)
                if listener is not None
                else connected(port, case.version, PATIENCE)
            )
            async with ours as us:
                hold = relay.hold if relay else lambda: None
                return await SCENARIOS[case.scenario](ScenarioParties(us, far, by, hold))

        outcome = run(talk)
        assert relay is None or relay.crossed, "nothing crossed"
        saw = case.stack.saw(far.finish())
    return observation(outcome.ending, saw, we_got=outcome.we_got, they_got=outcome.they_got)


def test_the_data_is_about_cases_that_run() -> None:
    assert EXPECTED.keys() - {case.key for case in CASES} - HTTP_KEYS == set()


def test_each_case_has_its_data() -> None:
    assert {case.key for case in CASES} | HTTP_KEYS == EXPECTED.keys()


def test_where_several_outcomes_may_come_the_data_says_why() -> None:
    silent = [
        key
        for key, entries in EXPECTED.items()
        for entry in entries
        if not entry.note
        and (any(isinstance(value, list) for value in entry.facts.values()) or len(entries) > 1)
        and not (entry.since or entry.before)
    ]
    assert silent == []


def test_the_page_is_what_the_data_says() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "generate_interop.py"))["page"]
    assert (ROOT / "docs" / "evidence" / "interop.md").read_text(encoding="utf-8") == page()
