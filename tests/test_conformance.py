"""Every entry of the catalogue, met by bowout: the right ending, no byte lost, and one close_notify at most."""

from __future__ import annotations

from typing import Final

import pytest

from bowout.testing import ENDINGS, Entry, Peer, PeerRole, TLSVersion
from helpers.meeting import Met, meet, meeting
from helpers.runners import Runner

CASES: Final = [
    pytest.param(entry, tls, role, id=f"{entry.row}-{entry.name}-{tls}-{role}")
    for entry in ENDINGS.values()
    for tls, role, _ in entry.cases()
]


def play(run: Runner, entry: Entry, tls: TLSVersion, role: PeerRole) -> tuple[list[Met], Peer]:
    with meeting(entry, tls, role) as (peer, socks):
        met = run(meet, peer, socks, entry, role)
    return met, peer


@pytest.mark.backends("asyncio")
@pytest.mark.parametrize(("entry", "tls", "role"), CASES)
def test_the_ending_is_right_on_both_sides(run: Runner, entry: Entry, tls: TLSVersion, role: PeerRole) -> None:
    right = entry.expect(tls, role)
    mets, peer = play(run, entry, tls, role)
    assert len(peer.reports) == len(mets) == entry.connections
    for met in mets:
        seen = f"{met.ending}\n{[str(report) for report in peer.reports]}\n{met.ending.ladder()}"
        assert (met.ending.how in right.how, met.outcome, met.data) == (True, right.outcome, right.data), seen
        assert right.inbound in {None, met.ending.inbound}, seen
        assert met.plaintext == right.plaintext
        assert met.ending.discarded >= right.discarded, seen
        if right.alert is not None:
            assert met.ending.alert is not None, seen
            assert met.ending.alert.name == right.alert
    for report in peer.reports:
        assert right.close_notify is None or report.close_notify in right.close_notify, report.ladder()
        assert (report.after_close_notify, report.undecryptable) == (0, 0), report.ladder()
