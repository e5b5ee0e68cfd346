"""The page about the architecture: where it sends its readers, the calls really go."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from importlib import resources
from types import FrameType
from typing import Any, Final

import pytest

import bowout
from bowout.testing import Act, Peer
from helpers.documents import DOCS
from helpers.peers import ROOT

PAGE: Final = "explanation/architecture.md"
_ROW: Final = re.compile(r"^\| `(\w+\.\w+)` \| `([\w/]+\.py)` \|", re.MULTILINE)
_FILE: Final = re.compile(r"`((?:\w+/)*\w+\.(?:py|c))`")


def page() -> str:
    return (DOCS / PAGE).read_text(encoding="utf-8")


def path_of(start: str) -> list[tuple[str, str]]:
    """The functions of the table after this sentence, each with its module."""
    rows = _ROW.findall(page().partition(start)[2].partition("\n\n|")[2].partition("\n\n")[0])
    return [(function, "bowout." + file.removesuffix(".py").replace("/", ".")) for function, file in rows]


@contextmanager
def traced() -> Iterator[list[tuple[str, str]]]:
    """The first call of each function, in order."""
    calls: dict[tuple[str, str], None] = {}

    def record(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            calls.setdefault((frame.f_code.co_qualname, frame.f_globals.get("__name__", "")))

    found: list[tuple[str, str]] = []
    before = sys.getprofile()
    sys.setprofile(record)
    try:
        yield found
    finally:
        sys.setprofile(before)
        found += calls


async def calls_of(call: Awaitable[object]) -> list[tuple[str, str]]:
    with traced() as calls:
        await call
    return calls


def echo_once(act: Act) -> None:
    act.handshake()
    act.read_until(b"\n")
    act.send(b"pong")
    act.expect_close_notify()
    act.expect_fin()
    act.close_notify()
    act.fin()


@pytest.mark.parametrize("verb", ["receive", "close"])
def test_a_call_takes_the_way_that_the_page_shows(verb: str) -> None:
    async def main(peer: Peer) -> list[tuple[str, str]]:
        # With an observer of events the lane is not used: the engine sees each record.
        context = peer.client_context()
        async with bowout.connect(peer.host, peer.port, context=context, on_event=lambda _: None) as stream:
            await stream.send(b"ping\n")
            calls = await calls_of(stream.receive())
            return calls if verb == "receive" else await calls_of(stream.close())

    with Peer(echo_once) as peer:
        calls = asyncio.run(main(peer))
    shown = path_of(f"A `{verb}` that")
    assert len(shown) >= 8
    assert [call for call in calls if call in shown] == shown


def test_each_file_exists() -> None:
    package = resources.files("bowout")
    here = {path.name for folder in _folders(package) for path in folder.iterdir()}
    for file in _FILE.findall(page()):
        if file.startswith("tests/"):
            assert (ROOT / file).is_file(), file
        elif "/" in file:
            assert package.joinpath(file).is_file() or file == "_lane/native.c", file
        else:
            assert file in here, file


def _folders(folder: Any) -> Iterator[Any]:
    yield folder
    for path in folder.iterdir():
        if path.is_dir():
            yield from _folders(path)
