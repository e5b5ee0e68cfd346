"""The transition tables, the joint rules, the verdict on every pair of half-states, and the next step of a close."""

from __future__ import annotations

import itertools
import runpy
from pathlib import Path
from typing import Final

import pytest

from bowout._core.states import (
    INBOUND,
    INBOUND_ENDED,
    INBOUND_TRUNCATED,
    JOINT,
    JOINT_TLS12,
    OUTBOUND,
    OUTBOUND_WRITABLE,
    Halves,
    Signal,
    verdict,
)
from bowout._core.winddown import Step, next_step
from bowout.ending import How, Inbound, Outbound

ROOT: Final = Path(__file__).resolve().parents[1]
ENDS: Final = sorted(INBOUND_ENDED)


def halves(outbound: Outbound, inbound: Inbound, *, sent: bool = False) -> Halves:
    made = Halves()
    made.outbound, made.inbound, made.close_notify_sent = outbound, inbound, sent
    return made


def opened() -> Halves:
    made = Halves()
    made.apply(Signal.HANDSHAKE_DONE)
    return made


def judge(
    outbound: Outbound, inbound: Inbound, *, sent: bool = False, leaving: bool = False, unsent: bool = False
) -> How:
    return verdict(
        halves(outbound, inbound, sent=sent), handshake_completed=True, leaving_when_cut=leaving, unsent=unsent
    )


# -- the tables ------------------------------------------------------------------------------------------------------


def test_every_outbound_state_has_a_row() -> None:
    assert set(OUTBOUND) == set(Outbound)


def test_every_inbound_state_has_a_row() -> None:
    assert set(INBOUND) == set(Inbound)


def test_every_signal_moves_some_direction() -> None:
    assert {signal for table in (OUTBOUND, INBOUND) for row in table.values() for signal in row} == set(Signal)


def test_every_outbound_state_but_the_first_is_reached() -> None:
    assert {state for row in OUTBOUND.values() for state in row.values()} == set(Outbound) - {Outbound.HANDSHAKE}


def test_every_inbound_state_but_the_first_is_reached() -> None:
    assert {state for row in INBOUND.values() for state in row.values()} == set(Inbound) - {Inbound.HANDSHAKE}


def test_no_row_moves_a_state_to_itself() -> None:
    rows = itertools.chain(OUTBOUND.items(), INBOUND.items())
    assert [state for state, row in rows if state in row.values()] == []


def test_both_tables_share_no_signal_but_the_handshake() -> None:
    out = {signal for row in OUTBOUND.values() for signal in row}
    inward = {signal for row in INBOUND.values() for signal in row}
    assert out & inward == {Signal.HANDSHAKE_DONE}


def test_the_first_end_of_the_peers_direction_is_its_end() -> None:
    assert set(Inbound) - {Inbound.HANDSHAKE, Inbound.OPEN} == INBOUND_ENDED


def test_both_truncations_are_ends() -> None:
    assert INBOUND_TRUNCATED < INBOUND_ENDED


def test_only_an_open_direction_is_writable() -> None:
    assert {Outbound.OPEN} == OUTBOUND_WRITABLE


def test_close_notify_is_queued_from_the_open_state_only() -> None:
    assert [state for state, row in OUTBOUND.items() if Signal.QUEUE_CLOSE_NOTIFY in row] == [Outbound.OPEN]


def test_no_alert_follows_close_notify() -> None:
    with_alert = {state for state, row in OUTBOUND.items() if Signal.SEND_FATAL_ALERT in row}
    assert with_alert == {Outbound.HANDSHAKE, Outbound.OPEN}


def test_the_page_about_the_states_is_what_the_tables_say() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "generate_states.py"))["page"]
    assert (ROOT / "docs" / "reference" / "states.md").read_text(encoding="utf-8") == page()


# -- moving ----------------------------------------------------------------------------------------------------------


def test_the_handshake_opens_both_directions() -> None:
    made = opened()
    assert (made.outbound, made.inbound) == (Outbound.OPEN, Inbound.OPEN)


@pytest.mark.parametrize("signal", Signal)
def test_each_direction_goes_where_its_table_says_or_stays(signal: Signal) -> None:
    went, said = {}, {}
    for outbound, inbound in itertools.product(Outbound, Inbound):
        made = halves(outbound, inbound)
        made.apply(signal)
        went[outbound, inbound] = made.outbound, made.inbound
        ended = INBOUND[inbound].get(signal, inbound)
        left = OUTBOUND[outbound].get(signal, outbound)
        joint = JOINT.get(ended) if ended is not inbound else None
        said[outbound, inbound] = OUTBOUND[left].get(joint, left) if joint else left, ended
    assert went == said


@pytest.mark.parametrize(("end", "signal"), list(itertools.product(ENDS, Signal)))
def test_a_late_signal_does_not_move_an_ended_inbound(end: Inbound, signal: Signal) -> None:
    made = halves(Outbound.OPEN, end)
    made.apply(signal, tls12=True)
    assert made.inbound is end


@pytest.mark.parametrize("signal", sorted(set(Signal) - {Signal.SEND_FIN, Signal.SEND_RST}))
def test_only_our_fin_and_rst_move_a_sent_close_notify(signal: Signal) -> None:
    made = halves(Outbound.CLOSE_NOTIFY_SENT, Inbound.OPEN, sent=True)
    made.apply(signal, tls12=True)
    assert made.outbound is Outbound.CLOSE_NOTIFY_SENT


@pytest.mark.parametrize("signal", Signal)
def test_nothing_takes_away_that_close_notify_was_sent(signal: Signal) -> None:
    made = halves(Outbound.CLOSE_NOTIFY_SENT, Inbound.OPEN, sent=True)
    made.apply(signal)
    assert made.close_notify_sent


@pytest.mark.parametrize("signal", sorted(set(Signal) - {Signal.CLOSE_NOTIFY_TAKEN}))
def test_a_queued_close_notify_is_not_sent_before_the_kernel_has_it(signal: Signal) -> None:
    made = halves(Outbound.CLOSE_NOTIFY_QUEUED, Inbound.OPEN)
    made.apply(signal)
    assert not made.close_notify_sent


def test_the_kernel_taking_it_makes_close_notify_sent() -> None:
    made = halves(Outbound.CLOSE_NOTIFY_QUEUED, Inbound.OPEN)
    made.apply(Signal.CLOSE_NOTIFY_TAKEN)
    assert made.close_notify_sent


# -- the joint rules -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signal", "tls12", "outbound"),
    [
        (Signal.CLOSE_NOTIFY, True, Outbound.CLOSE_NOTIFY_QUEUED),
        (Signal.CLOSE_NOTIFY, False, Outbound.OPEN),
        (Signal.FIN_AT_BOUNDARY, True, Outbound.OPEN),
        (Signal.FIN_INSIDE_RECORD, False, Outbound.OPEN),
        (Signal.RST, False, Outbound.LOST),
        (Signal.FATAL_ALERT, False, Outbound.LOST),
        (Signal.BAD_RECORD, False, Outbound.FATAL_ALERT),
    ],
)
def test_an_end_of_the_peers_direction_takes_an_open_one_of_ours_along(
    signal: Signal, tls12: bool, outbound: Outbound
) -> None:
    made = opened()
    made.apply(signal, tls12=tls12)
    assert made.outbound is outbound


def test_tls12_adds_one_joint_rule() -> None:
    assert dict(set(JOINT_TLS12.items()) - set(JOINT.items())) == {Inbound.CLOSE_NOTIFY: Signal.QUEUE_CLOSE_NOTIFY}


def test_a_joint_rule_does_not_answer_twice() -> None:
    made = halves(Outbound.CLOSE_NOTIFY_SENT, Inbound.OPEN, sent=True)
    made.apply(Signal.CLOSE_NOTIFY, tls12=True)
    assert made.outbound is Outbound.CLOSE_NOTIFY_SENT


# -- the verdict -----------------------------------------------------------------------------------------------------


def test_without_a_handshake_it_failed() -> None:
    every = itertools.product(Outbound, Inbound, [False, True])
    hows = {
        verdict(halves(o, i, sent=sent), handshake_completed=False, leaving_when_cut=False, unsent=False)
        for o, i, sent in every
    }
    assert hows == {How.FAILED_HANDSHAKE}


_OPEN_OR_QUEUED: Final = (Outbound.OPEN, Outbound.CLOSE_NOTIFY_QUEUED)
_SENT: Final = (Outbound.CLOSE_NOTIFY_SENT, Outbound.FIN_SENT)
_CUT: Final = (Outbound.CUT, Outbound.RESET)
_ALERT: Final = (Outbound.FATAL_ALERT,)
_LOST: Final = (Outbound.LOST,)

#: The verdict on every pair: rows by how we ended, columns by how the peer did. "leaving" columns: its bare FIN came
#: when we were leaving already.
_COLUMNS: Final = {
    "open": (Inbound.OPEN, False),
    "close_notify": (Inbound.CLOSE_NOTIFY, False),
    "boundary": (Inbound.TRUNCATED_AT_BOUNDARY, False),
    "inside": (Inbound.TRUNCATED_INSIDE_RECORD, False),
    "boundary, leaving": (Inbound.TRUNCATED_AT_BOUNDARY, True),
    "inside, leaving": (Inbound.TRUNCATED_INSIDE_RECORD, True),
    "reset": (Inbound.RESET, False),
    "alert": (Inbound.FATAL_ALERT, False),
    "undecryptable": (Inbound.UNDECRYPTABLE, False),
}
_TRUNCATED: Final = (How.TRUNCATED, How.TRUNCATED)
_LATE: Final = (How.RESET, How.ALERT, How.ALERT)
_VERDICTS: Final = {
    _OPEN_OR_QUEUED: (How.UNFLUSHED, How.UNFLUSHED, *_TRUNCATED, How.UNFLUSHED, How.UNFLUSHED, *_LATE),
    _SENT: (How.UNANSWERED, How.CLEAN, *_TRUNCATED, How.UNANSWERED, How.UNANSWERED, *_LATE),
    _CUT: (How.ABORTED, How.ABORTED, *_TRUNCATED, How.ABORTED, How.ABORTED, *_LATE),
    _ALERT: (How.ALERT,) * 9,
    _LOST: (How.RESET, How.RESET, *_TRUNCATED, How.RESET, How.RESET, *_LATE),
}
_PAIRS: Final = [
    (outbound, column, how)
    for group, hows in _VERDICTS.items()
    for outbound in group
    for column, how in zip(_COLUMNS, hows, strict=True)
]


@pytest.mark.parametrize(("outbound", "column", "how"), _PAIRS)
def test_the_verdict_on_every_pair(outbound: Outbound, column: str, how: How) -> None:
    inbound, leaving = _COLUMNS[column]
    assert judge(outbound, inbound, sent=outbound in _SENT, leaving=leaving) is how


def test_the_table_of_verdicts_has_every_pair_of_an_established_connection() -> None:
    assert {(out, _COLUMNS[column][0]) for out, column, _ in _PAIRS} == set(
        itertools.product(set(Outbound) - {Outbound.HANDSHAKE}, set(Inbound) - {Inbound.HANDSHAKE})
    )


def test_our_rst_after_the_exchange_is_not_clean() -> None:
    assert judge(Outbound.RESET, Inbound.CLOSE_NOTIFY, sent=True) is How.ABORTED


@pytest.mark.parametrize("inbound", sorted(set(Inbound) - {Inbound.CLOSE_NOTIFY}))
@pytest.mark.parametrize("leaving", [False, True])
def test_without_the_peers_close_notify_nothing_is_clean(inbound: Inbound, leaving: bool) -> None:
    hows = {judge(outbound, inbound, sent=True, leaving=leaving) for outbound in Outbound}
    assert How.CLEAN not in hows


# -- the next step of a close ----------------------------------------------------------------------------------------


def step(outbound: Outbound, inbound: Inbound, facts: str = "") -> Step:
    """`facts` names those that hold."""
    names = ("output_queued", "fin_sent", "fin_received", "all_arrived")
    held = facts.split()
    assert set(held) <= set(names)
    return next_step(outbound, inbound, **{name: name in held for name in names})


@pytest.mark.parametrize("outbound", [Outbound.LOST, Outbound.RESET])
@pytest.mark.parametrize("inbound", Inbound)
def test_a_lost_direction_is_released_at_once(outbound: Outbound, inbound: Inbound) -> None:
    assert step(outbound, inbound, "output_queued") is Step.RELEASE


def test_a_reset_connection_is_released_at_once() -> None:
    assert step(Outbound.CLOSE_NOTIFY_SENT, Inbound.RESET, "output_queued") is Step.RELEASE


_ALIVE: Final = sorted(set(Outbound) - {Outbound.LOST, Outbound.RESET})
_UNRESET: Final = sorted(set(Inbound) - {Inbound.RESET})
_PAIRS_ALIVE: Final = list(itertools.product(_ALIVE, _UNRESET))


def test_output_is_flushed_before_anything_else() -> None:
    assert {step(*pair, "output_queued fin_received all_arrived") for pair in _PAIRS_ALIVE} == {Step.FLUSH}


def test_then_our_fin_goes_out() -> None:
    assert {step(*pair, "fin_received all_arrived") for pair in _PAIRS_ALIVE} == {Step.FIN}


def test_the_end_of_input_releases() -> None:
    assert {step(*pair, "fin_sent fin_received") for pair in _PAIRS_ALIVE} == {Step.RELEASE}


def test_until_then_it_lingers() -> None:
    assert {step(*pair, "fin_sent") for pair in _PAIRS_ALIVE} == {Step.LINGER}


@pytest.mark.parametrize("inbound", _UNRESET)
def test_only_a_peer_with_which_tls_is_over_is_left_with_its_connection_open(inbound: Inbound) -> None:
    over = {Inbound.CLOSE_NOTIFY, Inbound.FATAL_ALERT, Inbound.UNDECRYPTABLE}
    expected = Step.RELEASE if inbound in over else Step.LINGER
    assert step(Outbound.FIN_SENT, inbound, "fin_sent all_arrived") is expected
