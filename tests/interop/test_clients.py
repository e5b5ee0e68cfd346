"""The clients of the scoreboard: each runs and is judged; the scoreboard has the rest of what they do."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from bowout.check import Verdict
from bowout.testing import Peer, PeerReport
from helpers.compiled import shared_directory
from interop.clients import CLIENTS, COLUMNS, OWN_END, PROGRAMS, RealClient, judge
from reach.observing import HANGS, HIDDEN, WHOLE

OPEN_ENDED = COLUMNS["to the end, FIN"]
BY_LENGTH = COLUMNS["by length, FIN"]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_directory(tmp_path_factory)


@pytest.mark.parametrize("client", PROGRAMS, ids=lambda client: client.name.replace(" ", "_"))
def test_the_user_of_a_program_learns_of_a_reset(client: RealClient, shared: Path) -> None:
    client.require()
    result = client.run(COLUMNS["to the end, RST"], shared)
    assert result.verdict is Verdict.OK, result.says
    assert result.says.startswith("its user sees exit status ")
    assert result.report is not None
    assert result.report.handshake


def test_curl_takes_a_cut_answer_of_no_length_for_the_whole(shared: Path) -> None:
    curl = CLIENTS["curl"]
    curl.require()
    result = curl.run(OPEN_ENDED, shared)
    assert (result.verdict, result.rule) == (Verdict.FAIL, "RFC 8446 §6.1")


@pytest.mark.parametrize(("name", "verdict"), [("http.client", Verdict.WARN), ("http.client with bowout", Verdict.OK)])
def test_a_client_sends_close_notify_or_not(name: str, verdict: Verdict, shared: Path) -> None:
    assert CLIENTS[name].run(OWN_END, shared).verdict is verdict


def test_a_pipe_is_not_asked_about_lengths(shared: Path) -> None:
    assert CLIENTS["ncat"].run(BY_LENGTH, shared).verdict is Verdict.SKIPPED


def test_every_library_is_there_with_bowout_and_without() -> None:
    names = set(CLIENTS)
    for library in ("aiohttp", "httpx", "requests", "urllib3", "urllib.request", "http.client"):
        assert {library, f"{library} with bowout"} <= names


@pytest.fixture(scope="module")
def report() -> PeerReport:
    """A report of nothing, to make others from."""
    with Peer(lambda act: None, timeout=60) as peer:
        pass
    return peer.report


@pytest.mark.parametrize(
    ("column", "saw", "seen", "verdict"),
    [
        (OPEN_ENDED, HIDDEN, {}, Verdict.FAIL),
        (OPEN_ENDED, "nothing, and no error", {}, Verdict.FAIL),
        (OPEN_ENDED, "ssl.SSLError", {}, Verdict.OK),
        (OPEN_ENDED, HANGS, {}, Verdict.WARN),
        (OPEN_ENDED, WHOLE, {}, Verdict.UNKNOWN),
        (BY_LENGTH, HIDDEN, {}, Verdict.FAIL),
        (OWN_END, WHOLE, {"close_notify": 1}, Verdict.OK),
        (OWN_END, WHOLE, {"close_notify": 2, "after_close_notify": 1}, Verdict.WARN),
        (OWN_END, WHOLE, {"fin": True}, Verdict.WARN),
        (OWN_END, WHOLE, {"rst": True}, Verdict.WARN),
        (OWN_END, "ssl.SSLError", {"close_notify": 1}, Verdict.FAIL),
    ],
)
def test_what_a_user_sees_is_judged(
    report: PeerReport, column: Any, saw: str, seen: dict[str, Any], verdict: Verdict
) -> None:
    assert judge(column, saw, dataclasses.replace(report, **seen)).verdict is verdict
