"""From facts to verdicts, as a table: each row is what a probe saw, and what it has to be called."""

from __future__ import annotations

from typing import Any, Final

import pytest

from bowout.check import PROBES, Verdict
from bowout.check._answer import Completeness
from bowout.check._judge import JUDGES, LARGE, Run, finding, judge
from bowout.check._wire import ServerEnd

CN, FIN, CUT, RST = ServerEnd.CLOSE_NOTIFY, ServerEnd.FIN, ServerEnd.CUT, ServerEnd.RST
ALERT, VIOLATION, SILENCE = ServerEnd.ALERT, ServerEnd.VIOLATION, ServerEnd.SILENCE
OK, NOTE, SKIPPED, UNKNOWN = Verdict.OK, Verdict.NOTE, Verdict.SKIPPED, Verdict.UNKNOWN
WARN, FAIL, LOSS = Verdict.WARN, Verdict.FAIL, Verdict.DATA_LOSS

WHOLE: Final = Completeness(complete=True, missing=0, declared=100, status=200)
PART: Final = Completeness(complete=False, missing=60, declared=100, status=200)
ENDLESS: Final = Completeness(complete=None, status=200)
BIG: Final = Completeness(complete=True, missing=0, declared=LARGE, status=200)
BIG_PART: Final = Completeness(complete=False, missing=5, declared=LARGE, status=200)
CHUNKS: Final = Completeness(complete=True, status=200)
FEW_CHUNKS: Final = Completeness(complete=False, status=200)
OTHER: Final = Completeness(complete=None, status=429)
OTHER_PART: Final = Completeness(complete=False, missing=60, declared=100, status=429)
REFUSED: Final = Completeness(complete=True, missing=0, declared=0, status=400)

Row = tuple[str, dict[str, Any], Verdict]

ANSWERS: Final[list[Row]] = [
    # After the answer to a request.
    ("reply-end", {"received": 140, "answer": WHOLE, "end": CN}, OK),
    ("reply-end", {"received": 140, "answer": WHOLE, "end": FIN}, WARN),
    ("reply-end", {"received": 140, "answer": WHOLE, "end": RST}, WARN),
    ("reply-end", {"received": 140, "answer": WHOLE, "end": CUT}, WARN),
    ("reply-end", {"received": 140, "answer": WHOLE, "end": ALERT, "alert": "internal_error"}, WARN),
    ("reply-end", {"received": 140, "answer": WHOLE, "end": VIOLATION}, WARN),
    ("reply-end", {"received": 140, "answer": WHOLE, "end": SILENCE}, NOTE),
    ("reply-end", {"received": 80, "answer": PART, "end": CN}, LOSS),
    ("reply-end", {"received": 80, "answer": PART, "end": FIN}, LOSS),
    ("reply-end", {"received": 80, "answer": PART, "end": RST}, LOSS),
    ("reply-end", {"received": 80, "answer": PART, "end": CUT}, LOSS),
    ("reply-end", {"received": 80, "answer": PART, "end": ALERT, "alert": "internal_error"}, LOSS),
    ("reply-end", {"received": 80, "answer": PART, "end": SILENCE}, UNKNOWN),
    ("reply-end", {"received": 80, "answer": ENDLESS, "end": CN}, OK),
    ("reply-end", {"received": 80, "answer": ENDLESS, "end": FIN}, FAIL),
    ("reply-end", {"received": 80, "answer": ENDLESS, "end": RST}, FAIL),
    ("reply-end", {"received": 80, "answer": ENDLESS, "end": CUT}, LOSS),
    ("reply-end", {"received": 80, "answer": ENDLESS, "end": ALERT, "alert": "internal_error"}, WARN),
    ("reply-end", {"received": 80, "answer": ENDLESS, "end": SILENCE}, NOTE),
    ("reply-end", {"received": 0, "end": CN}, NOTE),
    ("reply-end", {"received": 0, "end": FIN}, WARN),
    ("reply-end", {"received": 0, "end": FIN, "delimited": False}, FAIL),
    ("reply-end", {"received": 0, "end": SILENCE}, UNKNOWN),
    ("reply-end", {"received": 0, "end": SILENCE, "asked": False}, SKIPPED),
    ("reply-end", {"received": 0, "end": CN, "asked": False}, OK),
    ("refusal", {"received": 60, "answer": REFUSED, "end": CN}, OK),
    ("refusal", {"received": 60, "answer": REFUSED, "end": FIN}, WARN),
    ("refusal", {"received": 60, "answer": ENDLESS, "end": FIN}, FAIL),
    ("refusal", {"received": 60, "answer": REFUSED, "end": SILENCE}, NOTE),
    ("refusal", {"skipped": "why"}, SKIPPED),
]
NOTIFIED: Final[list[Row]] = [
    ("answers", {"end": CN}, OK),
    ("answers", {"end": SILENCE}, NOTE),
    ("answers", {"end": SILENCE, "tls13": False}, WARN),
    ("answers", {"end": SILENCE, "received": 5}, NOTE),
    *[("answers", {"end": each}, WARN) for each in (FIN, CUT, RST, ALERT, VIOLATION)],
    ("answers", {"end": CN, "early": True}, OK),
    ("answers", {"end": FIN, "early": True}, WARN),
    ("answers", {"end": CUT, "early": True}, LOSS),
    ("answers", {"end": FIN, "early": True, "received": 9, "delimited": False}, FAIL),
    ("half-close", {"received": 140, "answer": WHOLE, "expected": 140, "end": CN}, OK),
    ("half-close", {"received": 140, "answer": WHOLE, "expected": 140, "end": FIN}, WARN),
    # Another answer than before, such as a 429, is judged by itself.
    ("half-close", {"received": 60, "answer": REFUSED, "status": 200, "expected": 900, "end": CN}, NOTE),
    ("half-close", {"received": 60, "answer": OTHER, "status": 200, "expected": 900, "end": CN}, NOTE),
    ("half-close", {"received": 60, "answer": OTHER, "status": 200, "expected": 900, "end": FIN}, FAIL),
    ("half-close", {"received": 60, "answer": OTHER_PART, "status": 200, "expected": 900, "end": CN}, LOSS),
    ("half-close", {"received": 60, "answer": OTHER, "status": 429, "expected": 900, "end": CN}, LOSS),
    ("half-close", {"received": 0, "status": 200, "expected": 900, "end": CN}, LOSS),
    # An answer that was cut, or lasts until the end, was never idle.
    ("idle", {"received": 80, "answer": PART, "end": CN}, LOSS),
    ("idle", {"received": 80, "answer": PART, "end": FIN}, LOSS),
    ("idle", {"received": 80, "answer": PART, "end": SILENCE}, UNKNOWN),
    ("idle", {"received": 80, "answer": PART, "end": SILENCE, "asked": False}, OK),
    ("idle", {"received": 80, "answer": ENDLESS, "end": FIN}, FAIL),
    ("idle", {"received": 80, "answer": ENDLESS, "end": CN}, OK),
    ("half-close", {"received": 140, "answer": WHOLE, "expected": 140, "end": SILENCE}, NOTE),
    ("half-close", {"received": 140, "answer": WHOLE, "expected": 140, "end": SILENCE, "tls13": False}, WARN),
    # The ending is clean, and the data is lost.
    ("half-close", {"received": 0, "expected": 362, "end": CN}, LOSS),
    ("half-close", {"received": 0, "expected": 362, "end": FIN}, LOSS),
    ("half-close", {"received": 0, "expected": 362, "end": RST}, LOSS),
    ("half-close", {"received": 0, "expected": 362, "end": CN, "tls13": False}, NOTE),
    ("half-close", {"received": 0, "expected": 362, "end": SILENCE}, UNKNOWN),
    ("half-close", {"received": 80, "answer": PART, "expected": 140, "end": CN}, LOSS),
    # An answer that says it is complete is complete, however long the first one was.
    ("half-close", {"received": 110, "answer": WHOLE, "expected": 1000, "end": CN}, OK),
    ("half-close", {"received": 300, "answer": ENDLESS, "expected": 362, "end": CN}, OK),
    ("half-close", {"received": 200, "answer": ENDLESS, "expected": 362, "end": CN}, LOSS),
    ("half-close", {"received": 362, "answer": ENDLESS, "expected": 362, "end": CUT}, LOSS),
    ("half-close", {"skipped": "why"}, SKIPPED),
]
TCP: Final[list[Row]] = [
    ("tcp-after", {"end": CN, "then": "FIN"}, OK),
    ("tcp-after", {"end": CN, "then": "RST"}, NOTE),
    ("tcp-after", {"end": CN, "then": "open"}, NOTE),
    ("tcp-after", {"end": FIN}, SKIPPED),
    *[("bare-fin", {"end": each}, OK) for each in (CN, FIN, RST, ALERT)],
    ("bare-fin", {"end": SILENCE}, NOTE),
    ("bare-fin", {"end": FIN, "early": True}, WARN),
    ("idle", {"end": SILENCE}, OK),
    ("idle", {"end": CN}, OK),
    ("idle", {"end": FIN}, WARN),
    ("idle", {"end": RST}, WARN),
    ("idle", {"end": FIN, "received": 5, "delimited": False}, FAIL),
]
LARGE_ONES: Final[list[Row]] = [
    ("in-flight", {"received": LARGE + 40, "answer": BIG, "end": CN}, OK),
    ("in-flight", {"received": LARGE + 40, "answer": BIG, "end": FIN}, WARN),
    ("in-flight", {"received": LARGE, "answer": BIG_PART, "end": CN}, LOSS),
    ("in-flight", {"received": LARGE, "answer": BIG_PART, "end": CN, "tls13": False}, NOTE),
    ("in-flight", {"received": LARGE, "answer": BIG_PART, "end": SILENCE}, UNKNOWN),
    ("in-flight", {"received": 140, "answer": WHOLE, "end": CN}, SKIPPED),
    ("in-flight", {"received": 140, "answer": ENDLESS, "end": CN}, SKIPPED),
    ("in-flight", {"received": LARGE, "answer": CHUNKS, "end": CN}, OK),
    ("in-flight", {"received": 140, "answer": CHUNKS, "end": CN}, SKIPPED),
    ("in-flight", {"received": 5000, "answer": FEW_CHUNKS, "end": CN}, LOSS),
    ("unread-input", {"received": LARGE + 40, "answer": BIG, "end": CN, "status": 200}, OK),
    ("unread-input", {"received": LARGE + 40, "answer": BIG, "end": RST, "status": 200}, WARN),
    ("unread-input", {"received": LARGE, "answer": BIG_PART, "end": RST, "status": 200}, LOSS),
    ("unread-input", {"received": LARGE, "answer": BIG_PART, "end": RST, "status": 200, "tls13": False}, LOSS),
    ("unread-input", {"received": 0, "end": RST, "status": 200, "expected": LARGE}, LOSS),
    # A server may refuse what is pipelined: then its refusal is compared with what it declares itself.
    ("unread-input", {"received": 60, "answer": REFUSED, "end": CN, "status": 200}, NOTE),
    ("unread-input", {"received": 60, "answer": REFUSED, "end": FIN, "status": 200}, WARN),
    ("unread-input", {"received": 140, "answer": WHOLE, "end": CN, "status": 200}, SKIPPED),
]
ILLEGAL: Final[list[Row]] = [
    ("bad-record", {"end": ALERT, "alert": "bad_record_mac"}, OK),
    ("bad-record", {"end": ALERT, "alert": "decode_error"}, WARN),
    *[("bad-record", {"end": each}, WARN) for each in (CN, FIN, RST, SILENCE)],
    ("fatal-alert", {"end": FIN}, OK),
    ("fatal-alert", {"end": RST}, OK),
    ("fatal-alert", {"end": CN}, WARN),
    ("fatal-alert", {"end": SILENCE}, WARN),
    ("fatal-alert", {"end": FIN, "received": 5}, WARN),
    *[("close-in-handshake", {"end": each}, OK) for each in (CN, FIN, RST, ALERT)],
    ("close-in-handshake", {"end": SILENCE}, NOTE),
    ("close-in-handshake", {"end": CN, "received": 5}, FAIL),
]
TABLE: Final = [*ANSWERS, *NOTIFIED, *TCP, *LARGE_ONES, *ILLEGAL]


@pytest.mark.parametrize(("probe", "seen", "verdict"), TABLE, ids=[f"{row[0]}-{n}" for n, row in enumerate(TABLE)])
def test_a_run_has_its_verdict(probe: str, seen: dict[str, Any], verdict: Verdict) -> None:
    judged = judge(probe, Run(**seen))
    assert judged.verdict is verdict, judged.says
    assert judged.says
    assert judged.lost is (verdict is LOSS) or (verdict is NOTE and seen.get("tls13") is False)


def test_each_probe_has_a_judge_and_rows() -> None:
    assert set(JUDGES) == set(PROBES) == {probe for probe, _, _ in TABLE}


@pytest.mark.parametrize("end", [FIN, RST, CUT, CN])
@pytest.mark.parametrize("received", [0, 1, 361])
def test_lost_bytes_are_never_called_good(end: ServerEnd, received: int) -> None:
    part = Completeness(complete=False, missing=400 - received, declared=400, status=200)
    for probe in ("reply-end", "half-close", "refusal"):
        assert judge(probe, Run(received=received, answer=part, expected=400, end=end)).verdict is LOSS


def test_a_finding_is_that_of_the_worst_run_and_counts_the_others() -> None:
    whole = Run(received=140, answer=WHOLE, expected=140)
    gone = Run(received=0, expected=140)
    found = finding("half-close", [whole, gone, whole], 1.5)
    assert (found.verdict, found.runs, found.lost, found.seconds) == (LOSS, 3, 1, 1.5)
    assert found.says == "0 of 140 bytes of the answer after our close_notify, then close_notify"
    assert found.rule == "RFC 8446 §6.1"
    assert found.facts["each"] == [140, 0, 140]
    assert found.facts["verdicts"] == ["OK", "DATA-LOSS", "OK"]


def test_a_probe_that_was_not_made_has_no_runs() -> None:
    found = finding("refusal", [Run(skipped="there is none")], 0.0)
    assert (found.verdict, found.runs, found.facts, found.says) == (SKIPPED, 0, {}, "there is none")


def test_an_alert_name_from_the_server_is_escaped() -> None:
    assert "\x1b" not in judge("answers", Run(end=ALERT, alert="\x1b[2J")).says
