"""What an ending is drawn up from, fact by fact."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from bowout._core import messages
from bowout._core.evidence import Evidence
from bowout._core.failures import handshake_cut, handshake_failure, words_of
from bowout._core.output import Cargo, OutputQueue
from bowout._core.states import Halves, Signal
from bowout._core.timeline import Timeline
from bowout.ending import Alert, Ending, Event, EventKind, How, Inbound, Outbound, Role, Side
from bowout.errors import HandshakeError, Reset
from helpers.engines import Clock


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.now = 100.0
    return clock


@pytest.fixture
def evidence(clock: Clock) -> Evidence:
    """A client's, two seconds after the beginning."""
    made = Evidence(Timeline(clock), Role.CLIENT)
    clock.now += 2.0
    return made


def drawn_up(evidence: Evidence, **changes: Any) -> Ending:
    facts: dict[str, Any] = {
        "sent_in_part": 0,
        "unsent": 0,
        "unacknowledged": None,
        "discarded": 0,
        "ignored": 0,
        "peer": "",
        "began": 0.0,
        "reason": "",
        "deadline_hit": False,
        "cap_hit": False,
        "unwrapped": False,
    }
    return evidence.draw_up(**facts | changes)


def test_an_ending_has_every_fact_in_its_place(evidence: Evidence) -> None:
    evidence.timeline.data(sent=100)
    evidence.timeline.data(received=50)
    for number in range(70):
        evidence.timeline.record(EventKind.CALL, Side.WE, str(number))
    ending = drawn_up(
        evidence,
        sent_in_part=1,
        unsent=2,
        unacknowledged=3,
        discarded=4,
        ignored=5,
        peer="them",
        began=6.0,
        reason="why",
        deadline_hit=True,
        cap_hit=True,
        unwrapped=True,
    )
    assert ending == Ending(
        how=How.FAILED_HANDSHAKE,
        started_by=None,
        outbound=Outbound.HANDSHAKE,
        inbound=Inbound.HANDSHAKE,
        close_notify_sent_at=None,
        close_notify_received_at=None,
        alert=None,
        unsent=2,
        unacknowledged=3,
        discarded=4,
        ignored=5,
        late_reset=False,
        deadline_hit=True,
        cap_hit=True,
        unwrapped=True,
        reason="why",
        sent=101,
        received=50,
        duration=2.0,
        began=6.0,
        role=Role.CLIENT,
        peer="them",
        tls_version=None,
        cipher=None,
        events=evidence.timeline.events(),
        omitted=8,
        omitted_after=24,
    )


def test_without_a_failure_there_is_no_reason(evidence: Evidence) -> None:
    assert drawn_up(evidence).reason == ""


def test_a_failed_handshake_is_the_reason(evidence: Evidence) -> None:
    evidence.fail(lambda: HandshakeError("no"))
    assert drawn_up(evidence).reason == "no"


def test_a_later_failure_is_not_the_reason(evidence: Evidence) -> None:
    evidence.fail(lambda: Reset("gone"))
    assert drawn_up(evidence).reason == ""


def test_the_timeline_tells_everything_in_order(evidence: Evidence) -> None:
    evidence.shook_hands("TLSv1.3", "")
    evidence.on_message(outgoing=False, content_type=messages.HANDSHAKE, data=bytes([messages.NEW_SESSION_TICKET]))
    evidence.on_message(outgoing=True, content_type=messages.HANDSHAKE, data=bytes([messages.KEY_UPDATE]))
    evidence.call("close()", leaving=True)
    evidence.sent_close_notify()
    evidence.on_message(outgoing=False, content_type=messages.ALERT, data=b"\2\x50")
    evidence.on_message(outgoing=False, content_type=messages.ALERT, data=b"\1\0")
    evidence.received_close_notify()
    evidence.fail(lambda: Reset("gone"))
    evidence.fail(lambda: Reset("again"))
    assert [(event.kind, event.by, event.detail) for event in evidence.timeline.events()] == [
        (EventKind.HANDSHAKE_DONE, Side.WE, "TLSv1.3"),
        (EventKind.TICKET, Side.PEER, ""),
        (EventKind.KEY_UPDATE, Side.WE, ""),
        (EventKind.CALL, Side.WE, "close()"),
        (EventKind.CLOSE_NOTIFY, Side.WE, ""),
        (EventKind.ALERT, Side.PEER, ""),
        (EventKind.CLOSE_NOTIFY, Side.PEER, ""),
        (EventKind.ERROR, Side.WE, "Reset: gone"),
    ]


def test_a_close_notify_that_nobody_reported_is_of_the_usual_level(evidence: Evidence) -> None:
    evidence.received_close_notify()
    assert evidence.timeline.events()[-1].detail == ""


@pytest.mark.parametrize("by", list(Side))
def test_whose_fatal_alert_it_is_ended_it(evidence: Evidence, by: Side) -> None:
    evidence.on_message(outgoing=by is Side.WE, content_type=messages.ALERT, data=b"\2\x50")
    ending = drawn_up(evidence)
    assert (ending.started_by, ending.alert) == (by, Alert(80, 2, by))


@pytest.mark.parametrize(("outgoing", "seen"), [(False, True), (True, False)])
def test_the_peers_close_notify_is_seen(evidence: Evidence, outgoing: bool, seen: bool) -> None:
    evidence.on_message(outgoing=outgoing, content_type=messages.ALERT, data=b"\1\0")
    assert evidence.close_notify_seen is seen


def test_a_close_notify_that_was_never_queued_is_not_sent() -> None:
    halves = Halves()
    halves.apply(Signal.HANDSHAKE_DONE)
    halves.apply(Signal.CLOSE_NOTIFY_TAKEN)
    assert (halves.outbound, halves.close_notify_sent) == (Outbound.OPEN, False)


def test_output_carries_no_data_unless_it_says_so() -> None:
    queue = OutputQueue()
    queue.append(b"\x16\3\3\0\1x", Cargo.HANDSHAKE)
    assert queue.plaintext() == (0, 0)


# -- the timeline's small print ----------------------------------------------------------------------------------------


def test_the_time_of_the_last_data_is_the_clocks(clock: Clock) -> None:
    timeline = Timeline(clock)
    clock.now += 3.0
    timeline.data(received=1)
    assert timeline.last_data_at == 103.0


@pytest.mark.parametrize(("counts", "quiet"), [({"sent": 1}, True), ({"received": 1}, False)])
def test_it_is_quiet_after_what_we_sent(clock: Clock, counts: dict[str, int], quiet: bool) -> None:
    timeline = Timeline(clock)
    timeline.data(**counts)
    assert timeline.quiet is quiet


@pytest.mark.parametrize(("counts", "by"), [({"sent": 5}, Side.WE), ({"received": 7}, Side.PEER)])
def test_an_observer_hears_of_each_read_and_write(clock: Clock, counts: dict[str, int], by: Side) -> None:
    heard: list[Event] = []
    timeline = Timeline(clock, heard.append)
    clock.now += 1.0
    timeline.data(**counts)
    assert heard == [Event(EventKind.DATA, by, 1.0, **counts, until=1.0)]  # type: ignore[arg-type]


# -- words -------------------------------------------------------------------------------------------------------------


def ssl_error(text: str, reason: str = "") -> ssl.SSLError:
    error = ssl.SSLError(1, text)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ssl_error("[SSL: BAD_LENGTH] decorated (_ssl.c:1)", "BAD_LENGTH"), "bad length"),
        (ssl_error("[SSL] Internal Error (_ssl.c:1006)"), "internal error"),
    ],
    ids=["with a reason", "without"],
)
def test_openssls_words_are_in_small_letters(error: ssl.SSLError, words: str) -> None:
    assert words_of(error) == words


def test_a_cut_handshake_is_said_in_these_words() -> None:
    assert str(handshake_cut(b"\x16\3\1")) == "the peer closed the connection during the handshake"


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (b"hello", "the peer does not speak TLS here: it sent 'hello'"),
        (b"SSH-2.0", "the peer does not speak TLS here (it looks like SSH): it sent 'SSH-2.0'"),
        (b"x" * 60, f"the peer does not speak TLS here: it sent '{'x' * 40}'"),
    ],
    ids=["unknown", "known", "long"],
)
def test_plain_text_is_shown(sample: bytes, words: str) -> None:
    assert str(handshake_cut(sample)) == words


def test_a_refusal_is_named() -> None:
    error = handshake_failure(ssl_error("x"), Alert(40, 2, Side.PEER), b"\x15\3\3")
    assert str(error) == "the peer refused the handshake: handshake_failure"


def test_an_untrusted_certificate_is_explained() -> None:
    cause = ssl.SSLCertVerificationError(1, "x")
    cause.verify_code, cause.verify_message = 18, "self-signed certificate"
    error = handshake_failure(cause, None, b"\x16\3\3")
    assert str(error) == "the peer's certificate was refused: self-signed certificate"


# -- whoever watched the messages before us ----------------------------------------------------------------------------


def test_a_callback_that_was_there_gets_what_openssl_said(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[tuple[object, ...]] = []

    def before(*arguments: object) -> None:
        got.append(arguments)

    dispatcher = messages._dispatcher(before)
    dispatcher("conn", "read", 771, 22, 1, b"data")
    assert got == [("conn", "read", 771, 22, 1, b"data")]
    assert vars(dispatcher)["user_function"] is before
