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

CASES: Final = [
    pytest.param(case, id=str(case), marks=[pytest.mark.nightly] if case.repeats else []) for case in cases()
]

_ARRIVES: Final = {You.UPLOAD: UPLOAD, You.REPLY: REPLY}
_SENT: Final = frozenset({Outbound.CLOSE_NOTIFY_SENT, Outbound.FIN_SENT})


#: So often a case is played again that ended right, and not as its record says: the scheduler may decide a detail.
_AGAIN: Final = 2


@pytest.mark.parametrize("case", CASES)
def test_it_ends_right(case: Case) -> None:
    require_module(case.backend)
    before = recorded(case)
    rounds = observe(case)
    for _ in range(_AGAIN):
        if not same(before, seen(case, rounds)):
            rounds = observe(case)
    what = seen(case, rounds)
    note(case, what)
    assert same(before, what), (
        f"not as it was: see why, and run scripts/generate_conformance.py\n{rounds[-1].ladders()}"
    )


def observe(case: Case) -> list[Round]:
    """Let it happen. What has to be right is right every time."""
    rounds = play(Runner(case.backend), case)
    for played in rounds:
        expect_the_right_ending(case, played)
        expect_honesty(played)
        expect_all_that_was_sent(case, played)
    return rounds


def expect_the_right_ending(case: Case, played: Round) -> None:
    """As the catalogue has it."""
    right = case.right
    for met in played.mets:
        assert (met.ending.how in right.how, met.outcome, met.data) == (True, right.outcome, right.data), (
            played.picture()
        )
        assert right.inbound in {None, met.ending.inbound}, played.picture()
        assert met.plaintext == right.plaintext
        assert met.ending.discarded >= right.discarded, played.picture()
        assert (met.ending.alert and met.ending.alert.name) == right.alert or right.alert is None, played.picture()
    for report in played.reports:
        assert right.close_notify is None or report.close_notify in right.close_notify, played.picture()
    assert len(played.mets) == len(played.reports)


def expect_honesty(played: Round) -> None:
    """In every case, whatever the catalogue says: at most one close_notify, nothing after it, and no false verdict."""
    for report in played.reports:
        assert report.close_notify <= 1, played.picture()
        assert (report.after_close_notify, report.undecryptable) == (0, 0), played.picture()
    for met in played.mets:
        ending = met.ending
        if ending.how is How.CLEAN:
            assert (ending.inbound, ending.outbound in _SENT) == (Inbound.CLOSE_NOTIFY, True), played.picture()
            assert ending.close_notify_sent_at is not None, played.picture()
            assert ending.close_notify_received_at is not None, played.picture()
        if ending.how in {How.CLEAN, How.UNANSWERED}:
            assert ending.unsent == 0, played.picture()
    if len(played.mets) == 1:
        # Only a peer that may still say something is worth the whole deadline.
        ending = played.mets[0].ending
        assert not ending.deadline_hit or ending.inbound is Inbound.OPEN, played.picture()
        claimed = played.mets[0].ending.close_notify_sent_at is not None
        # What left may be lost on the way, but what is seen there has left.
        assert played.reports[0].close_notify <= claimed, played.picture()


def expect_all_that_was_sent(case: Case, played: Round) -> None:
    """A close loses nothing of what was sent before it."""
    arrives = _ARRIVES.get(case.entry.you)
    if arrives is not None:
        assert played.reports[0].data == arrives, played.picture()
    if case.way is Way.SENDING:
        ending = played.mets[0].ending
        assert ending.sent + ending.unsent in {0, len(BLOCKING)}, played.picture()
        if ending.how in {How.CLEAN, How.UNANSWERED, How.TRUNCATED} and not ending.late_reset:
            assert played.reports[0].received == ending.sent, played.picture()
    if case.way is Way.TOGETHER:
        assert played.reports[0].received == played.mets[0].ending.sent, played.picture()


def test_every_situation_is_met() -> None:
    # There is nothing to cross in a handshake: each side waits for the other there.
    missing = [(start, state) for start in STARTS for state in STATES if not rows().get((start, state))]
    assert missing == [("both at once", "in handshake")]


def test_every_row_is_met() -> None:
    assert set().union(*rows().values()) == set(range(1, 31))


def test_what_is_left_for_the_night_differs_by_its_loop_alone() -> None:
    """Each ending is met in each way, on each version and as each side, and is met on each loop, in every run."""

    def facts(case: Case) -> tuple[str, str, str, str]:
        return case.entry.name, case.way, case.tls, case.role

    often = [case for case in cases() if not case.repeats]
    assert len(often) < len(cases())
    assert {facts(case) for case in often} == {facts(case) for case in cases()}
    ends = {(case.entry.name, case.role, case.backend) for case in cases()}
    assert {(case.entry.name, case.role, case.backend) for case in often} == ends


def test_the_page_is_what_the_records_say() -> None:
    script = runpy.run_path(str(RECORDS.parents[2] / "scripts" / "generate_conformance.py"))
    page = (RECORDS.parent / "conformance.md").read_text(encoding="utf-8")
    assert page == script["page"](), "run scripts/generate_conformance.py --page"
    assert "not explained" not in page
