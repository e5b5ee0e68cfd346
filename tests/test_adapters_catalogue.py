"""The thirty endings through the streams of trio and anyio: the verdicts and the errors are those of a Stream."""

from __future__ import annotations

import os
import socket
from typing import Any, Final

import pytest

from bowout.testing import ENDINGS, Peer, You
from helpers.conformance import Case, Round, _entry, _options, _you
from helpers.facades import AnyioFacade, TrioFacade
from helpers.leaks import open_fds
from helpers.meeting import LONG, Met, Scene, meeting
from helpers.moves import MOVES, Way
from helpers.peers import require_module
from helpers.runners import Backend, Runner
from test_conformance import expect_honesty, expect_the_right_ending

#: What needs no more than the verbs that trio and anyio have, too.
_SHARED: Final = {
    You.HANDSHAKE, You.READ, You.REPLY, You.CLOSE, You.HALF_CLOSE, You.CLOSE_IN_READ, You.CANCEL_READ, You.UPLOAD,
}  # fmt: skip
_WAYS: Final = (Way.WHOLE, Way.UNREAD, Way.READING, Way.SENDING, Way.CROSSING, Way.MORE)
_WHERE: Final[list[tuple[Backend, str]]] = [
    ("trio", "trio"), ("trio", "anyio"), ("asyncio", "anyio"), ("uvloop", "anyio"),
]  # fmt: skip
#: The rest of anyio's repeats what these and trio's show.
_OFTEN: Final = ("asyncio", Way.WHOLE, "1.3")
_THROUGH: Final[dict[str, Any]] = {"trio": TrioFacade, "anyio": AnyioFacade}


def cases() -> list[Any]:
    found = []
    for entry in ENDINGS.values():
        for tls, role, _ in entry.cases():
            for backend, library in _WHERE:
                for way in _WAYS:
                    if entry.you not in _SHARED or way not in MOVES[entry.you]:
                        continue
                    if library == "trio" and (entry.you, way) == (You.HALF_CLOSE, Way.SENDING):
                        continue  # By its contract, to send and to half-close at once is an error.
                    case = Case(entry, tls, role, way, backend)
                    often = backend == "trio" if library == "trio" else (backend, way, tls) == _OFTEN
                    marks = [] if often else [pytest.mark.nightly]
                    found.append(pytest.param(case, library, id=f"{case}-{library}", marks=marks))
    return found


@pytest.mark.parametrize(("case", "library"), cases())
def test_it_ends_right(case: Case, library: str) -> None:
    require_module(case.backend)
    with meeting(_entry(case), case.tls, case.role) as (peer, socks):
        met = Runner(case.backend)(meet, case, library, peer, socks[0])
    played = Round([met], peer.reports)
    expect_the_right_ending(case, played)
    expect_honesty(played)


async def meet(case: Case, library: str, peer: Peer, sock: socket.socket) -> Met:
    inode = f"socket:[{os.fstat(sock.fileno()).st_ino}]"
    scene = Scene(peer, sock, case.entry, case.role, {"close_timeout": LONG, **_options(case)})
    scene.stream = _THROUGH[library](scene.stream)
    met = await MOVES[_you(case)][case.way](scene)
    assert scene.stream.ending is not None
    assert inode not in open_fds().values(), "the close has returned, and the descriptor is open"
    return met
