"""bowout meets every entry of the catalogue in every situation: the right ending, and nothing lost or left behind."""

from __future__ import annotations

import runpy
from typing import Final

import pytest

from bowout import How, Inbound, Outbound
from bowout.testing import You
from helpers.conformance import RECORDS, Case, Round, cases, note, play, recorded, same, seen
from helpers.meeting import BLOCKING, REPLY, UPLOAD
from helpers.moves import Way
from helpers.peers import require_module
from helpers.runners import Runner
from helpers.situations import STARTS, STATES, rows

CASES: Final = [pytest.param(case, id=str(case)) for case in cases()]

_ARRIVES: Final = {You.UPLOAD: UPLOAD, You.REPLY: REPLY}
_SENT: Final = frozenset({Outbound.CLOSE_NOTIFY_SENT, Outbound.FIN_SENT})


#: So often a case is played again that ended right, and not as its record says: the scheduler may decide a detail.
_AGAIN: Final = 2


@pytest.mark.parametrize("case", CASES)
def test_it_ends_right(case: Case) -> None:
    require_module(case.backend)
    before = recorded(case)
    what, ladders = observe(case)
    for _ in range(_AGAIN):
        if not same(before, what):
            what, ladders = observe(case)
    note(case, what)
    assert same(before, what), f"not as it was: see why, and run scripts/generate_conformance.py\n{ladders}"


def observe(case: Case) -> tuple[str, str]:
    """Let it happen; what was seen, in words and as ladders. What has to be right is right every time."""
    rounds = play(Runner(case.backend), case)
    for played in rounds:
        picture = "\n".join([*(met.ending.ladder() for met in played.mets), *(str(peer) for peer in played.reports)])
        expect_the_right_ending(case, played, picture)
        expect_honesty(played, picture)
        expect_all_that_was_sent(case, played, picture)
    return seen(case, rounds), "\n".join(met.ending.ladder() for met in rounds[-1].mets)


def expect_the_right_ending(case: Case, played: Round, picture: str) -> None:
    """As the catalogue has it."""
    right = case.right
    for met in played.mets:
        assert (met.ending.how in right.how, met.outcome, met.data) == (True, right.outcome, right.data), picture
        assert right.inbound in {None, met.ending.inbound}, picture
        assert met.plaintext == right.plaintext
        assert met.ending.discarded >= right.discarded, picture
        assert (met.ending.alert and met.ending.alert.name) == right.alert or right.alert is None, picture
    for report in played.reports:
        assert right.close_notify is None or report.close_notify in right.close_notify, picture
    assert len(played.mets) == len(played.reports)


def expect_honesty(played: Round, picture: str) -> None:
    """In every case, whatever the catalogue says: at most one close_notify, nothing after it, and no false verdict."""
    for report in played.reports:
        assert report.close_notify <= 1, picture
        assert (report.after_close_notify, report.undecryptable) == (0, 0), picture
    for met in played.mets:
        ending = met.ending
        if ending.how is How.CLEAN:
            assert (ending.inbound, ending.outbound in _SENT) == (Inbound.CLOSE_NOTIFY, True), picture
            assert ending.close_notify_sent_at is not None, picture
            assert ending.close_notify_received_at is not None, picture
        if ending.how in {How.CLEAN, How.UNANSWERED}:
            assert ending.unsent == 0, picture
    if len(played.mets) == 1:
        # Only a peer that may still say something is worth the whole deadline.
        ending = played.mets[0].ending
        assert not ending.deadline_hit or ending.inbound is Inbound.OPEN, picture
        claimed = played.mets[0].ending.close_notify_sent_at is not None
        # What left may be lost on the way, but what is seen there has left.
        assert played.reports[0].close_notify <= claimed, picture


def expect_all_that_was_sent(case: Case, played: Round, picture: str) -> None:
    """A close loses nothing of what was sent before it."""
    arrives = _ARRIVES.get(case.entry.you)
    if arrives is not None:
        assert played.reports[0].data == arrives, picture
    if case.way is Way.SENDING:
        ending = played.mets[0].ending
        assert ending.sent + ending.unsent in {0, len(BLOCKING)}, picture
        if ending.how in {How.CLEAN, How.UNANSWERED, How.TRUNCATED} and not ending.late_reset:
            assert played.reports[0].received == ending.sent, picture
    if case.way is Way.TOGETHER:
        assert played.reports[0].received == played.mets[0].ending.sent, picture


def test_every_situation_is_met() -> None:
    # There is nothing to cross in a handshake: each side waits for the other there.
    missing = [(start, state) for start in STARTS for state in STATES if not rows().get((start, state))]
    assert missing == [("both at once", "in handshake")]


def test_every_row_is_met() -> None:
    assert set().union(*rows().values()) == set(range(1, 31))


def test_the_page_is_what_the_records_say() -> None:
    script = runpy.run_path(str(RECORDS.parents[1] / "scripts" / "generate_conformance.py"))
    page = (RECORDS.parent / "conformance.md").read_text(encoding="utf-8")
    assert page == script["page"](), "run scripts/generate_conformance.py --page"
    assert "not explained" not in page
