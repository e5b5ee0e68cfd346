"""The verdicts of `bowout.check` on real servers: each as its row in ``verdicts.toml`` says."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from pathlib import Path

import pytest

from bowout.check import Finding, Report, Verdict
from helpers.compiled import shared_directory
from helpers.peers import in_ci
from helpers.starttls_servers import Home
from helpers.wire import authority
from interop.real_servers import SERVERS
from interop.real_servers.base import SLOW, RealServer
from interop.verdicts import EXPECTED_VERDICTS, as_toml, load, stale


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_directory(tmp_path_factory)


@pytest.mark.parametrize("server", SERVERS.values(), ids=lambda server: server.name.replace(" ", "_"))
def test_a_server_has_its_verdicts(server: RealServer, shared: Path) -> None:
    server.stack.require()
    expected = EXPECTED_VERDICTS.get(server.name)
    with Home.create(authority()) as home, server.start(home, shared) as port:
        report = asyncio.run(server.check(port))
        if expected is not None and expected.differs(report):
            # A busy machine makes a server late: what it does is certain only with time enough.
            report = asyncio.run(server.check(port, SLOW))
    problem = stale(server.name, server.release, expected, report)
    if problem and expected is not None and expected.release != server.release and not in_ci():
        pytest.skip(problem)
    if problem:
        pytest.fail(problem, pytrace=False)


def test_the_rows_are_of_servers_that_are_probed() -> None:
    assert EXPECTED_VERDICTS.keys() == SERVERS.keys()


REPORT = Report(
    endpoint="localhost:443",
    findings=(
        Finding(probe="reply-end", verdict=Verdict.OK, says="close_notify after its answer"),
        Finding(probe="half-close", verdict=Verdict.WARN, says="the whole answer, then FIN"),
    ),
)
ROW = as_toml("Server", "1.2", REPORT)


def test_a_row_is_what_was_seen() -> None:
    assert stale("Server", "1.2", load(ROW)["Server"], REPORT) == ""


@pytest.mark.parametrize(("version", "release"), [("2.4.71", "2.4"), ("15.18", "15.18"), ("5", "5")])
def test_a_release_is_the_first_two_numbers_of_a_version(version: str, release: str) -> None:
    assert dataclasses.replace(SERVERS["bowout serve"], own=version).release == release


def test_the_release_of_a_library_names_its_python() -> None:
    server = SERVERS["hypercorn"]
    server.stack.require()
    assert re.fullmatch(r"\d+\.\d+ on CPython \d+\.\d+", server.release)


def test_another_release_makes_a_row_stale() -> None:
    problem = stale("Server", "1.3", load(ROW)["Server"], REPORT)
    assert "the row is of release 1.2, and 1.3 is here" in problem
    assert as_toml("Server", "1.3", REPORT) in problem


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('"WARN"', '"OK"', "half-close: WARN (the whole answer, then FIN), and not OK"),
        ('half-close = "WARN"', "", "half-close: WARN (the whole answer, then FIN), and not nothing"),
        ('"WARN"', '"WARN"\nidle = "OK"', "idle: was not made"),
    ],
)
def test_another_verdict_makes_a_row_stale(before: str, after: str, told: str) -> None:
    assert told in stale("Server", "1.2", load(ROW.replace(before, after))["Server"], REPORT)


def test_a_server_without_a_row_is_told_its_row() -> None:
    problem = stale("Server", "1.2", None, REPORT)
    assert "there is no row of it" in problem
    assert ROW in problem


RACY = ROW.replace('"WARN"', '["OK", "WARN"]') + '\n["Server".odds]\nhalf-close = "Two threads: OK in 3 of 30."\n'


def test_a_racy_cell_allows_each_of_its_verdicts_and_keeps_its_odds() -> None:
    row = load(RACY)["Server"]
    assert row.differs(REPORT) == []
    assert load(as_toml("Server", "1.2", REPORT, row)) == {"Server": row}


@pytest.mark.parametrize("wrong", [ROW.replace('"WARN"', '["OK", "WARN"]'), ROW + '\n["Server".odds]\nreply-end = "x"'])
def test_a_racy_cell_must_state_its_odds(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"Server: .* must have several verdicts and their odds, or neither"):
        load(wrong)
