"""The page about Boost.Asio: its programs, what they cost, and what it says of them."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import bowout
from bowout.testing import ENDINGS, Peer
from helpers.commands import ca_file, environment
from helpers.compiled import boost_program, shared_directory
from helpers.documents import DOCS, snippets
from helpers.openssl import openssl_server
from helpers.peers import ROOT
from helpers.wire import PATIENCE, Version

PAGE: Final = "explanation/boost-asio.md"
BOOST: Final = ROOT / "examples" / "boost"
_ROW: Final = re.compile(r"^\| `(\w+)` \| (reads|closes) \| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)
#: Seconds for a close: where the peer is silent, and otherwise.
_SHORT: Final = 0.5


def page() -> str:
    return (DOCS / PAGE).read_text(encoding="utf-8")


ROWS: Final = {found[0]: found[1:] for found in _ROW.findall(page())}


def code_lines(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip() and not line.strip().startswith(("#", "//")))


@pytest.fixture
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_directory(tmp_path_factory)


def test_the_page_shows_the_files() -> None:
    shown = {snippet.title: snippet.text for snippet in snippets(PAGE) if snippet.language == "cpp"}
    assert shown == {name: (BOOST / name).read_text() for name in ("leaving.hpp", "situation_1.cpp", "situation_2.cpp")}


def test_the_page_counts_the_lines() -> None:
    texts = {snippet.title: snippet.text for snippet in snippets(PAGE)}
    ours = [code_lines(texts[name]) for name in ("situation_1.py", "situation_2.py")]
    theirs = [code_lines(texts[name]) for name in ("situation_1.cpp", "situation_2.cpp", "leaving.hpp")]
    assert f"| bowout | {ours[0]} | {ours[1]} | 0 |" in page()
    assert "| Boost.Asio | {} | {} | {} |".format(*theirs) in page()


def command(program: str, port: int, directory: Path, programs: Path) -> list[str]:
    """What runs a program of the page in this directory, against this port."""
    if program.endswith(".cpp"):
        return [boost_program(BOOST / program, programs), "localhost", str(port), ca_file()]
    (text,) = [snippet.text for snippet in snippets(PAGE) if snippet.title == program]
    (directory / program).write_text(text.replace("8443", str(port)).replace("ca.pem", ca_file()))
    return [sys.executable, program]


@pytest.mark.parametrize(
    "program", ["situation_1.py", "situation_1.cpp", "situation_2.py", "situation_2_trio.py", "situation_2.cpp"]
)
def test_openssl_has_nothing_to_complain_about(program: str, programs: Path, tmp_path: Path) -> None:
    with openssl_server("1.3", tmp_path) as server:
        for times in (1, 2):
            client = subprocess.Popen(
                command(program, server.port, tmp_path, programs),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path,
                env=environment(PYTHONPATH=os.pathsep.join(sys.path)),
            )  # fmt: skip
            with client:
                server.expect("CIPHER is", times=times)
                if program.startswith("situation_1"):
                    server.say("please quit")
                out, _ = client.communicate("quit\n", timeout=PATIENCE)
            # s_server ends TCP without waiting, at times before its own close_notify.
            assert out.splitlines()[-1].startswith(("clean", "unanswered", "the peer left"))
            server.expect("SSL3 alert read:warning:close notify", times=times)
            server.expect("shutting down SSL", times=times)
    assert "ERROR" not in server.text


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_a_shutdown_beside_a_read_is_left_to_chance(tls: Version, programs: Path) -> None:
    with Peer("idle_until_closed", tls=tls) as peer:
        done = subprocess.run(
            [boost_program(BOOST / "naive.cpp", programs), "localhost", str(peer.port), str(peer.ca_file)],
            capture_output=True, text=True, check=True, timeout=PATIENCE,
        )  # fmt: skip
    reports = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert reports["read"] == "End of file"
    assert reports["shutdown"] in {"clean", "Operation canceled"}


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_what_both_libraries_report(name: str, tls: Version, programs: Path) -> None:
    does, read, closed, verdict = ROWS[name]
    count = len(ENDINGS[name].sends) if does == "closes" else 0
    limit = _SHORT if "deadline" in closed else PATIENCE / 2
    program = boost_program(BOOST / "endings.cpp", programs)
    with Peer(name, tls=tls) as peer:
        done = subprocess.run(
            [program, "localhost", str(peer.port), str(peer.ca_file), str(count), str(int(limit * 1000))],
            capture_output=True, text=True, check=True, timeout=PATIENCE,
        )  # fmt: skip
    first, second = done.stdout.splitlines()
    assert first == read
    assert second in closed.split(", or ")
    with Peer(name, tls=tls) as peer:
        assert str(asyncio.run(ending_of(peer, count, limit))) == verdict


async def ending_of(peer: Peer, count: int, limit: float) -> bowout.Ending | None:
    context = peer.client_context()
    stream = await bowout.connect(peer.host, peer.port, context=context, close_timeout=limit)
    try:
        while not count and await stream.receive():
            pass
        await stream.receive_exactly(count)
    except bowout.BowoutError:
        pass
    return await stream.close()


def test_the_page_has_the_rows() -> None:
    assert len(ROWS) >= 8
