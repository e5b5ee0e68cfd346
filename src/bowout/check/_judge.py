"""From what a probe saw to its verdict: pure functions. docs/reference/check.md has the scale, with the rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bowout._text import escape
from bowout.check._answer import Completeness
from bowout.check._model import Finding, Verdict
from bowout.check._wire import ServerEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bowout.ending import Ending

RULE13: Final = "RFC 8446 §6.1"
RULE12: Final = "RFC 5246 §7.2.1"
RULE_HTTP: Final = "RFC 9112 §9.8"
RULE_HTTP_CLOSE: Final = "RFC 9112 §9.6"
RULE_RECORD13: Final = "RFC 8446 §5.2"
RULE_RECORD12: Final = "RFC 5246 §7.2.2"
RULE_FATAL13: Final = "RFC 8446 §6.2"

#: Difference, in bytes, that two answers of undeclared length may have: dates, counters and names in them differ.
_SAME_WITHIN: Final = 64
#: Least part of the first answer that a later one of undeclared length must have, beside those bytes.
_SAME_PART: Final = 0.9
#: Least length, in bytes, of a large answer: kernel buffers hide a smaller one.
LARGE: Final = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one connection of a probe showed.

    Attributes:
        tls13: whether it spoke TLS 1.3.
        received: bytes of application data that came.
        end: how the server's direction ended.
        alert: the name of its alert.
        seconds: time until that, or until the probe gave up.
        answer: what the answer says of itself.
        delimited: whether the protocol marks the end of an answer itself.
        asked: whether a request was sent that the server had to answer and then to end.
        expected: bytes of the answer to the same request, when nothing was wrong; None if unknown.
        status: status of that answer, in HTTP.
        early: whether the server ended before the probe did anything.
        then: what followed its close_notify: ``"FIN"``, ``"RST"`` or ``"open"``; empty if nothing was waited for.
        skipped: why the probe could not tell anything; empty if it could.
        ending: the ending of the connection.
    """

    tls13: bool = True
    received: int = 0
    end: ServerEnd = ServerEnd.CLOSE_NOTIFY
    alert: str = ""
    seconds: float = 0.0
    answer: Completeness = field(default_factory=lambda: Completeness(complete=None))
    delimited: bool = True
    asked: bool = True
    expected: int | None = None
    status: int | None = None
    early: bool = False
    then: str = ""
    skipped: str = ""
    ending: Ending | None = None

    @property
    def rule(self) -> str:
        """The section about close_notify in this version of TLS."""
        return RULE13 if self.tls13 else RULE12

    @property
    def ended(self) -> str:
        """How it ended, in words."""
        return f"{self.end} ({escape(self.alert)})" if self.alert else self.end.value

    @property
    def cut(self) -> bool:
        """Whether bytes are certainly missing: fewer came than the answer declares, or a record was cut in it."""
        if self.answer.complete is None:
            return self.end is ServerEnd.CUT
        return not self.answer.complete

    def facts(self) -> dict[str, Any]:
        """Return plain JSON values."""
        known = {
            "received": self.received,
            "end": self.end.value,
            "alert": self.alert or None,
            "complete": self.answer.complete,
            "missing": self.answer.missing,
            "declared": self.answer.declared,
            "status": self.answer.status,
            "expected": self.expected,
            "then": self.then or None,
            "after": round(self.seconds, 3),
        }
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on one run; `lost`: whether bytes were lost in it."""

    verdict: Verdict
    says: str
    rule: str = ""
    lost: bool = False


# -- an answer, and how its sender ends it -----------------------------------------------------------------------------


def _answered(run: Run, what: str = "answer") -> Judged:
    """Judge the end of an answer after which the server had to end the connection."""
    if run.end is ServerEnd.SILENCE:
        return _unended(run, what)
    if run.cut:
        return Judged(Verdict.DATA_LOSS, f"{_missing(run, what)}, then {run.ended}", run.rule, lost=True)
    if run.end is ServerEnd.CLOSE_NOTIFY:
        if not run.received and run.asked:
            return Judged(Verdict.NOTE, f"no {what}, but close_notify", run.rule)
        return Judged(Verdict.OK, f"close_notify after its {what}", run.rule)
    if run.end in {ServerEnd.ALERT, ServerEnd.VIOLATION}:
        return Judged(Verdict.WARN, f"{run.ended} instead of close_notify after its {what}", run.rule)
    if run.answer.complete:
        says = f"{run.ended} instead of close_notify; its {what} declares its own length and is complete"
        return Judged(Verdict.WARN, says, run.rule)
    if not run.received and run.delimited:
        return Judged(Verdict.WARN, f"no {what}, and {run.ended} instead of close_notify", run.rule)
    says = f"{run.ended} instead of close_notify: nobody can know whether its {what} is complete"
    return Judged(Verdict.FAIL, says, RULE_HTTP if run.answer.status else run.rule)


def _unended(run: Run, what: str) -> Judged:
    within = f"within {run.seconds:.1f} s"
    if not run.asked:
        return Judged(Verdict.SKIPPED, f"nothing was requested, and the server did not end the connection {within}")
    if not run.received:
        return Judged(Verdict.UNKNOWN, f"no {what} {within}")
    if run.answer.complete is False:
        return Judged(Verdict.UNKNOWN, f"its {what} was not complete {within}")
    rule = RULE_HTTP_CLOSE if run.answer.status else ""
    return Judged(Verdict.NOTE, f"it did not end the connection {within} after its {what}", rule)


def _missing(run: Run, what: str) -> str:
    if run.answer.missing:
        return f"{run.answer.missing:,} of {run.answer.declared:,} bytes of its {what} never came"
    return f"a part of its {what} never came after {run.received:,} bytes"


def _refusal(run: Run) -> Judged:
    return _answered(run, "refusal")


# -- what we do, and how the server answers ----------------------------------------------------------------------------


def _answers(run: Run) -> Judged:
    if run.early:
        return _ended_by_itself(run)
    if run.end is ServerEnd.CLOSE_NOTIFY:
        return Judged(Verdict.OK, "it answered our close_notify with its own", run.rule)
    if run.end is ServerEnd.SILENCE:
        # In TLS 1.3 close_notify ends one direction only; in TLS 1.2 the answer is a duty.
        verdict = Verdict.NOTE if run.tls13 else Verdict.WARN
        did = f"went on sending, {run.received:,} bytes," if run.received else "was silent"
        return Judged(verdict, f"it {did} for {run.seconds:.1f} s after our close_notify", run.rule)
    return Judged(Verdict.WARN, f"{run.ended} as the answer to our close_notify", run.rule)


def _ended_by_itself(run: Run) -> Judged:
    if run.end is ServerEnd.CLOSE_NOTIFY:
        return Judged(Verdict.OK, "it ended the idle connection itself, with close_notify", run.rule)
    if run.end is ServerEnd.CUT:
        return Judged(Verdict.DATA_LOSS, "it ended the idle connection itself, inside a record", run.rule, lost=True)
    if run.received and not run.delimited and run.end in {ServerEnd.FIN, ServerEnd.RST}:
        says = f"it ended the idle connection itself, with {run.ended}: nobody can know whether its data is complete"
        return Judged(Verdict.FAIL, says, run.rule)
    return Judged(Verdict.WARN, f"it ended the idle connection itself, with {run.ended}", run.rule)


def _half_close(run: Run) -> Judged:
    if run.status is not None and run.answer.status not in {None, run.status} and not run.cut:
        return _another(run, "answer")
    if run.end is ServerEnd.SILENCE:
        return _half_open(run)
    if _is_less(run):
        return _dropped(run, "after our close_notify")
    if run.end is ServerEnd.CLOSE_NOTIFY:
        return Judged(Verdict.OK, "the whole answer after our close_notify, then its own", run.rule)
    return Judged(Verdict.WARN, f"the whole answer after our close_notify, then {run.ended}", run.rule)


def _half_open(run: Run) -> Judged:
    within = f"within {run.seconds:.1f} s"
    if _is_less(run):
        return Judged(Verdict.UNKNOWN, f"{_part(run)} after our close_notify {within}, and no end")
    verdict = Verdict.NOTE if run.tls13 else Verdict.WARN
    return Judged(verdict, f"the whole answer after our close_notify, but no end {within}", run.rule)


def _is_less(run: Run) -> bool:
    """Tell whether fewer bytes came than the answer declares, or than came to the same request before."""
    if run.answer.complete is not None:
        return not run.answer.complete
    if run.end is ServerEnd.CUT or (run.expected and not run.received):
        return True
    return run.expected is not None and run.received < run.expected * _SAME_PART - _SAME_WITHIN


def _part(run: Run) -> str:
    if run.answer.declared is not None and run.answer.missing:
        whole = run.answer.declared
        return f"{whole - run.answer.missing:,} of {whole:,} bytes of the answer's body"
    if run.expected is None:
        return f"{run.received:,} bytes, a part of the answer"
    return f"{run.received:,} of {run.expected:,} bytes of the answer"


def _dropped(run: Run, when: str) -> Judged:
    says = f"{_part(run)} {when}, then {run.ended}"
    if run.tls13:
        return Judged(Verdict.DATA_LOSS, says, RULE13, lost=True)
    return Judged(Verdict.NOTE, f"{says}: TLS 1.2 lets it drop them", RULE12, lost=True)


def _tcp_after(run: Run) -> Judged:
    if not run.then:
        return Judged(Verdict.SKIPPED, f"there was no close_notify of its own, but {run.ended}")
    if run.then == "FIN":
        return Judged(Verdict.OK, "FIN follows its close_notify", run.rule)
    if run.then == "RST":
        return Judged(Verdict.NOTE, "RST follows its close_notify: what we still send may be lost", run.rule)
    return Judged(Verdict.NOTE, f"after its close_notify it holds TCP for {run.seconds:.1f} s and more", run.rule)


def _bare_fin(run: Run) -> Judged:
    if run.early:
        return _ended_by_itself(run)
    if run.end is ServerEnd.SILENCE:
        return Judged(Verdict.NOTE, f"it still holds the connection {run.seconds:.1f} s after our FIN", run.rule)
    return Judged(Verdict.OK, f"it ended the connection after our FIN, with {run.ended}", run.rule)


def _idle(run: Run) -> Judged:
    if run.end is ServerEnd.SILENCE:
        if run.asked and run.answer.complete is False:
            return _unended(run, "answer")
        return Judged(Verdict.OK, f"it kept the idle connection for {run.seconds:.1f} s", run.rule)
    if run.asked and run.answer.status is not None and not run.answer.complete:
        return _answered(run)  # It was never idle: the answer lasts until the end, or is cut.
    after = f"after {run.seconds:.1f} s"
    if run.end is ServerEnd.CLOSE_NOTIFY:
        return Judged(Verdict.OK, f"it ended the idle connection {after}, with close_notify", run.rule)
    judged = _ended_by_itself(run)
    return Judged(judged.verdict, f"{judged.says} ({after})", judged.rule, judged.lost)


# -- a large answer ----------------------------------------------------------------------------------------------------


def _in_flight(run: Run) -> Judged:
    if reason := _too_small(run):
        return Judged(Verdict.SKIPPED, reason)
    if run.end is ServerEnd.SILENCE:
        return Judged(Verdict.UNKNOWN, f"{run.received:,} bytes came within {run.seconds:.1f} s, and no end")
    if _is_less(run):
        return _dropped(run, "with our close_notify in the middle of it")
    verdict = Verdict.OK if run.end is ServerEnd.CLOSE_NOTIFY else Verdict.WARN
    return Judged(verdict, f"all of the large answer came after our close_notify, then {run.ended}", run.rule)


def _unread_input(run: Run) -> Judged:
    if run.answer.status is not None and run.status is not None and run.answer.status != run.status:
        return _another(run, "refusal")
    if reason := _too_small(run):
        return Judged(Verdict.SKIPPED, reason)
    if run.end is ServerEnd.SILENCE:
        return Judged(Verdict.UNKNOWN, f"{run.received:,} bytes came within {run.seconds:.1f} s, and no end")
    if _is_less(run):
        says = f"{_part(run)} while requests of ours were unread, then {run.ended}"
        return Judged(Verdict.DATA_LOSS, says, RULE_HTTP_CLOSE, lost=True)
    if run.end is ServerEnd.CLOSE_NOTIFY:
        return Judged(Verdict.OK, "the whole answer and close_notify, with requests of ours unread", RULE_HTTP_CLOSE)
    return Judged(Verdict.WARN, f"the whole answer, with requests of ours unread, then {run.ended}", run.rule)


def _another(run: Run, what: str) -> Judged:
    """Judge another answer than the first one by itself: too many requests, or some that nobody had to read."""
    judged = _answered(run, f"{what} ({run.answer.status})")
    verdict = Verdict.NOTE if judged.verdict is Verdict.OK else judged.verdict
    return Judged(verdict, f"it answered {run.answer.status} and not {run.status}: {judged.says}", judged.rule)


def _too_small(run: Run) -> str:
    """Say why the answer tells nothing; empty if it does."""
    answer = run.answer
    if not run.received and run.expected is not None:
        return ""  # Nothing came, where enough was declared before.
    if answer.complete is None:
        return "the large answer declares no length, so that nobody can know what is missing"
    size = run.received if answer.declared is None else answer.declared
    if size < LARGE and (answer.complete or answer.declared is not None):
        return f"the large answer has {size:,} bytes: buffers hide what happens to fewer than {LARGE:,}"
    return ""


# -- what no client should send ----------------------------------------------------------------------------------------


def _bad_record(run: Run) -> Judged:
    rule = RULE_RECORD13 if run.tls13 else RULE_RECORD12
    if run.end is ServerEnd.ALERT and run.alert == "bad_record_mac":
        return Judged(Verdict.OK, "bad_record_mac answers a record that cannot be decrypted", rule)
    if run.end is ServerEnd.SILENCE:
        return Judged(Verdict.WARN, f"no answer to a bad record within {run.seconds:.1f} s", rule)
    return Judged(Verdict.WARN, f"{run.ended}, and not bad_record_mac, answers a record that cannot be decrypted", rule)


def _fatal_alert(run: Run) -> Judged:
    rule = RULE_FATAL13 if run.tls13 else RULE_RECORD12
    if run.received:
        return Judged(Verdict.WARN, f"{run.received:,} bytes of data after our fatal alert, then {run.ended}", rule)
    if run.end in {ServerEnd.FIN, ServerEnd.RST}:
        return Judged(Verdict.OK, f"{run.ended} after our fatal alert, and nothing before it", rule)
    if run.end is ServerEnd.SILENCE:
        return Judged(Verdict.WARN, f"it still holds the connection {run.seconds:.1f} s after our fatal alert", rule)
    return Judged(Verdict.WARN, f"{run.ended} after our fatal alert: nothing may follow it", rule)


def _close_in_handshake(run: Run) -> Judged:
    if run.end is ServerEnd.SILENCE:
        says = f"it still holds the connection {run.seconds:.1f} s after our close_notify in the handshake"
        return Judged(Verdict.NOTE, says, run.rule)
    if run.received:
        return Judged(Verdict.FAIL, "it sent data although the handshake was never finished", run.rule)
    return Judged(Verdict.OK, f"it ended the connection after our close_notify in the handshake, with {run.ended}")


JUDGES: Final[dict[str, Callable[[Run], Judged]]] = {
    "reply-end": _answered,
    "answers": _answers,
    "half-close": _half_close,
    "tcp-after": _tcp_after,
    "bare-fin": _bare_fin,
    "refusal": _refusal,
    "idle": _idle,
    "in-flight": _in_flight,
    "unread-input": _unread_input,
    "bad-record": _bad_record,
    "fatal-alert": _fatal_alert,
    "close-in-handshake": _close_in_handshake,
}


def judge(probe: str, run: Run) -> Judged:
    """Return the verdict on one run of `probe`."""
    return Judged(Verdict.SKIPPED, run.skipped) if run.skipped else JUDGES[probe](run)


def finding(probe: str, runs: Sequence[Run], seconds: float) -> Finding:
    """Return the finding of a probe: that of its worst run, the first of these, with the number of all."""
    judged = [judge(probe, run) for run in runs]
    at = max(range(len(runs)), key=lambda number: (judged[number].verdict, -number))
    worst, run = judged[at], runs[at]
    facts = run.facts()
    if len(runs) > 1:
        facts["each"] = [each.received for each in runs]
        facts["verdicts"] = [str(each.verdict) for each in judged]
    return Finding(
        probe=probe,
        verdict=worst.verdict,
        says=worst.says,
        rule=worst.rule,
        runs=0 if run.skipped else len(runs),
        lost=sum(each.lost for each in judged),
        seconds=seconds,
        facts={} if run.skipped else facts,
        ending=run.ending,
    )
