"""The verdicts of `bowout.check` on real servers: each as its row in ``verdicts.toml`` says."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import runpy
from pathlib import Path
from typing import Final

import pytest

from bowout.check import Finding, Report, Verdict
from bowout.check._opener import Pace
from helpers.compiled import shared_directory
from helpers.peers import ROOT, in_ci
from helpers.starttls_servers import Home
from helpers.wire import Version, authority
from interop.real_servers import SERVERS
from interop.real_servers.base import SLOW, USUAL, RealServer
from interop.verdicts import EXPECTED_VERDICTS, as_toml, load, stale


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_directory(tmp_path_factory)


#: Each server by day, in TLS 1.3; at night in TLS 1.2, too, and those that end an idle connection with one.
CASES: Final = [
    pytest.param(server, night, id=server.name.replace(" ", "_") + (f"-night-{night}" if night else ""))
    for server in SERVERS.values()
    for night in (None, "1.2", *(["1.3"] if server.ends_idle else []))
]


@pytest.mark.parametrize(("server", "night"), CASES)
def test_a_server_has_its_verdicts(server: RealServer, night: Version | None, shared: Path) -> None:
    server.stack.require()
    expected = EXPECTED_VERDICTS.get(server.name)
    with Home.create(authority()) as home, server.start(home, shared) as port:

        def check(pace: Pace) -> str:
            report = asyncio.run(server.check(port, pace, tls=night, idle=night is not None))
            return stale(server.name, server.release, expected, report, night=night)

        problem = check(USUAL)
        if problem and expected is not None:
            # A busy machine makes a server late: what it does is certain only with time enough.
            problem = check(SLOW)
    if problem and expected is not None and expected.release != server.release and not in_ci():
        pytest.skip(problem)
    if problem:
        pytest.fail(problem, pytrace=False)


def test_the_rows_are_of_servers_that_are_probed() -> None:
    assert EXPECTED_VERDICTS.keys() == SERVERS.keys()
    assert {name for name, row in EXPECTED_VERDICTS.items() if row.idle} == {
        server.name for server in SERVERS.values() if server.ends_idle
    }


def test_the_page_has_the_table_of_the_rows() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "generate_check.py"))["page"]
    text = (ROOT / "docs" / "reference" / "check.md").read_text(encoding="utf-8")
    assert page(text) == text


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


NIGHT = ROW.replace('"1.2"\n', '"1.2"\nidle = "OK"\n', 1) + '\n["Server"."tls 1.2"]\nhalf-close = "NOTE"\n'


def test_a_row_has_what_is_seen_at_night_only() -> None:
    row = load(NIGHT)["Server"]
    assert row.differs(REPORT) == []
    assert load(as_toml("Server", "1.2", REPORT, row)) == {"Server": row}
    told = stale("Server", "1.2", row, REPORT, night="1.2")
    assert "half-close: WARN (the whole answer, then FIN), and not NOTE" in told
    assert "idle: was not made" in told
    assert "in TLS 1.2, with an idle connection" in told
    assert "half-close" not in stale("Server", "1.2", row, REPORT, night="1.3")


@pytest.mark.parametrize("wrong", [ROW.replace('"WARN"', '["OK", "WARN"]'), ROW + '\n["Server".odds]\nreply-end = "x"'])
def test_a_racy_cell_must_state_its_odds(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"Server: .* must have several verdicts and their odds, or neither"):
        load(wrong)
