"""The thirty endings over carriers of every kind: the verdicts are those over a socket."""

from __future__ import annotations

import os
import socket
from typing import Any, Final

import pytest

from bowout.testing import ENDINGS, Peer, You
from helpers.carriers import WHERE, Kind, carry
from helpers.conformance import Case, Round, _entry, _options, _you
from helpers.leaks import open_fds
from helpers.meeting import Met, Scene, meeting
from helpers.moves import MOVES, Way, drain
from helpers.peers import require_module
from helpers.runners import Runner
from test_conformance import expect_honesty, expect_the_right_ending

#: What has its own tests, over carriers: to cancel a close, and to go on in plain text.
_ELSEWHERE: Final = frozenset({You.CANCEL_CLOSE, You.UNWRAP})
_WAYS: Final = (Way.WHOLE, Way.UNREAD, Way.READING, Way.SENDING)


def cases() -> list[Any]:
    found = []
    for entry in ENDINGS.values():
        if entry.you in _ELSEWHERE:
            continue
        for tls, role, _ in entry.cases():
            for backend, kind in WHERE:
                for way in _WAYS if kind in {"pair", "trio"} else _WAYS[:1]:
                    if way is not Way.WHOLE and way not in MOVES.get(entry.you, {}):
                        continue
                    case = Case(entry, tls, role, way, backend)
                    marks = [] if _is_met_often(case, kind) else [pytest.mark.nightly]
                    found.append(pytest.param(case, kind, id=f"{case}-{kind}", marks=marks))
    return found


def _is_met_often(case: Case, kind: Kind) -> bool:
    """Whether a case runs by day: TLS 1.2 on two carriers, the other situations on one, and all that is left at night.

    The engine and the wind-down are the same over all of them.
    """
    if case.way is not Way.WHOLE:
        return (case.backend, case.tls) == ("asyncio", "1.3")
    return case.tls == "1.3" or (case.backend, kind) in {("asyncio", "pair"), ("trio", "trio")}


@pytest.mark.parametrize(("case", "kind"), cases())
def test_it_ends_right(case: Case, kind: Kind) -> None:
    require_module(case.backend)
    with meeting(_entry(case), case.tls, case.role) as (peer, socks):
        mets = Runner(case.backend)(meet, case, kind, peer, socks)
    played = Round(mets, peer.reports)
    expect_the_right_ending(case, played)
    expect_honesty(played)


async def meet(case: Case, kind: Kind, peer: Peer, socks: list[socket.socket]) -> list[Met]:
    inodes = {f"socket:[{os.fstat(sock.fileno()).st_ino}]" for sock in socks}
    scenes = [
        Scene(peer, sock, case.entry, case.role, _options(case), carrier=await carry(kind, sock)) for sock in socks
    ]
    if case.entry.you is You.DRAIN:
        mets = await drain(scenes)
    else:
        mets = [await MOVES[_you(case)][case.way](scenes[0])]
    assert all(scene.stream.ending is not None for scene in scenes)
    assert not inodes & set(open_fds().values()), "the close has returned, and the carrier is open"
    return mets
