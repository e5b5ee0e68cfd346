"""What an ending is drawn up from, fact by fact."""

from __future__ import annotations

import copy
import pickle
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import trustme

from bowout._core import hook
from bowout._core import timeline as timeline_module
from bowout._core.buffers import ChunkKind, OutputQueue
from bowout._core.engine import Engine
from bowout._core.facts import Facts
from bowout._core.openssl_errors import handshake_cut, handshake_failure, words_of
from bowout._core.states import Halves, Signal
from bowout._core.timeline import Timeline
from bowout._tls_numbers import ALERT, HANDSHAKE, KEY_UPDATE, NEW_SESSION_TICKET
from bowout.ending import Alert, Ending, Event, EventKind, How, Inbound, Outbound, Role, Side
from bowout.errors import HandshakeError, HandshakeReset, HandshakeTruncated, NotTLS, Reset, Truncated
from helpers.engines import (
    NAME,
    Clock,
    EnginePair,
    close_notify,
    contexts,
    cut,
    engine,
    established,
    flipped,
    kinds,
    pair,
    read_out,
    send,
    take,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.now = 100.0
    return clock


@pytest.fixture
def evidence(clock: Clock) -> Facts:
    """A client's, two seconds after the beginning."""
    made = Facts(Timeline(clock), Role.CLIENT)
    clock.now += 2.0
    return made


def drawn_up(evidence: Facts, **changes: Any) -> Ending:
    facts: dict[str, Any] = {
        "sent_in_part": 0,
        "unsent": 0,
        "message_cut": False,
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
    return evidence.ending.build(**facts | changes)


def test_an_ending_has_every_fact_in_its_place(evidence: Facts) -> None:
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


def test_without_a_failure_there_is_no_reason(evidence: Facts) -> None:
    assert drawn_up(evidence).reason == ""


def test_a_failed_handshake_is_the_reason(evidence: Facts) -> None:
    evidence.fail(lambda: HandshakeError("no"))
    assert drawn_up(evidence).reason == "no"


def test_a_later_failure_is_not_the_reason(evidence: Facts) -> None:
    evidence.fail(lambda: Reset("gone"))
    assert drawn_up(evidence).reason == ""


def test_the_timeline_tells_everything_in_order(evidence: Facts) -> None:
    evidence.complete_handshake("TLSv1.3", "")
    evidence.on_message(outgoing=False, content_type=HANDSHAKE, data=bytes([NEW_SESSION_TICKET]))
    evidence.on_message(outgoing=True, content_type=HANDSHAKE, data=bytes([KEY_UPDATE]))
    evidence.record_call("close()", leaving=True)
    evidence.send_close_notify()
    evidence.on_message(outgoing=False, content_type=ALERT, data=b"\2\x50")
    evidence.on_message(outgoing=False, content_type=ALERT, data=b"\1\0")
    evidence.receive_close_notify()
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


def test_a_close_notify_that_nobody_reported_is_of_the_usual_level(evidence: Facts) -> None:
    evidence.receive_close_notify()
    assert evidence.timeline.events()[-1].detail == ""


@pytest.mark.parametrize("by", list(Side))
def test_whose_fatal_alert_it_is_ended_it(evidence: Facts, by: Side) -> None:
    evidence.on_message(outgoing=by is Side.WE, content_type=ALERT, data=b"\2\x50")
    ending = drawn_up(evidence)
    assert (ending.started_by, ending.alert) == (by, Alert(80, 2, by))


@pytest.mark.parametrize(("outgoing", "seen"), [(False, True), (True, False)])
def test_the_peers_close_notify_is_seen(evidence: Facts, outgoing: bool, seen: bool) -> None:
    evidence.on_message(outgoing=outgoing, content_type=ALERT, data=b"\1\0")
    assert evidence.close_notify_seen is seen


def test_a_close_notify_that_was_never_queued_is_not_sent() -> None:
    halves = Halves()
    halves.apply(Signal.HANDSHAKE_DONE)
    halves.apply(Signal.CLOSE_NOTIFY_TAKEN)
    assert (halves.outbound, halves.close_notify_sent) == (Outbound.OPEN, False)


def test_output_carries_no_data_unless_it_says_so() -> None:
    queue = OutputQueue()
    queue.append(b"\x16\3\3\0\1x", ChunkKind.HANDSHAKE)
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


def test_an_ending_keeps_the_events_of_its_time(evidence: Facts) -> None:
    evidence.timeline.record(EventKind.FIN, Side.PEER)
    ending = drawn_up(evidence)
    evidence.timeline.record(EventKind.RST, Side.PEER)
    assert [event.kind for event in ending.events] == [EventKind.FIN]


def test_events_are_made_once_and_only_when_they_are_looked_at(
    evidence: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Event] = []

    def make(*attributes: Any) -> Event:
        made.append(Event(*attributes))
        return made[-1]

    monkeypatch.setattr(timeline_module, "Event", make)
    evidence.timeline.record(EventKind.FIN, Side.PEER)
    ending = drawn_up(evidence)
    before = len(made)
    assert (before, ending.events, ending.events is ending.events) == (0, tuple(made), True)
    assert len(made) == 1


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, replace, lambda it: pickle.loads(pickle.dumps(it))])
def test_an_ending_that_nobody_has_looked_at_is_copied_with_its_events(
    evidence: Facts, again: Callable[[Ending], Ending]
) -> None:
    evidence.timeline.record(EventKind.FIN, Side.PEER)
    ending = drawn_up(evidence)
    copied = again(ending)
    assert copied == ending
    assert copied.events == (Event(EventKind.FIN, Side.PEER, 2.0),)


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

    dispatcher = hook._dispatcher(before)
    dispatcher("conn", "read", 771, 22, 1, b"data")
    assert got == [("conn", "read", 771, 22, 1, b"data")]
    assert vars(dispatcher)["user_function"] is before


# -- what the engine adds ----------------------------------------------------------------------------------------------


def test_an_engine_draws_up_what_it_is_told(us: Engine) -> None:
    ending = us.build_ending(
        peer="them", began=6.0, reason="why", deadline_hit=True, cap_hit=True, unacknowledged=3, unwrapped=True
    )
    told = (ending.peer, ending.began, ending.reason, ending.deadline_hit, ending.cap_hit, ending.unacknowledged)
    assert (told, ending.unwrapped) == (("them", 6.0, "why", True, True, 3), True)


def test_an_engine_that_is_told_nothing_makes_nothing_up(us: Engine) -> None:
    ending = us.build_ending()
    told = (ending.peer, ending.began, ending.reason, ending.deadline_hit, ending.cap_hit, ending.unacknowledged)
    assert (told, ending.unwrapped) == (("", 0.0, "", False, False, None), False)


def test_counts_add_up(us: Engine) -> None:
    for count in (1, 2):
        us.incoming.count_discarded(count)
        us.outgoing.unencrypted = memoryview(bytes(count))
        us.outgoing.interrupt()
    ending = us.build_ending()
    assert (ending.discarded, ending.unsent) == (3, 3)


@pytest.mark.parametrize(
    ("act", "by", "kind"),
    [
        (Engine.receive_eof, Side.PEER, EventKind.FIN),
        (Engine.receive_reset, Side.PEER, EventKind.RST),
        (Engine.sent_fin, Side.WE, EventKind.FIN),
        (Engine.sent_rst, Side.WE, EventKind.RST),
    ],
)
def test_who_ends_the_transport_first_began_it(
    us: Engine, act: Callable[[Engine], None], by: Side, kind: EventKind
) -> None:
    act(us)
    last = us.timeline.events()[-1]
    assert (us.build_ending().started_by, last.by, last.kind, last.detail) == (by, by, kind, "")


def test_a_fin_after_a_failed_send_is_what_is_left_of_a_reset(us: Engine) -> None:
    us.send_failed()
    us.receive_eof()
    assert us.timeline.events()[-1].kind is EventKind.RST


def test_before_a_fin_none_was_sent(us: Engine) -> None:
    before = us.fin_sent
    us.sent_fin()
    assert (before, us.fin_sent) == (False, True)


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (0, "the peer's FIN came without close_notify: what was received may not be all"),
        (1, "the peer's FIN came inside a TLS record: bytes are missing"),
    ],
)
def test_a_truncation_is_said_in_these_words(us: Engine, them: Engine, missing: int, words: str) -> None:
    error = read_out(cut(us, them, missing))[1]
    assert isinstance(error, Truncated)
    assert (str(error), error.inside_record) == (words, missing == 1)


def test_a_reset_is_said_in_these_words(us: Engine) -> None:
    us.receive_reset()
    assert str(read_out(us)[1]) == "the peer reset the connection before close_notify came"


def test_a_loss_is_no_reset_of_the_peer(us: Engine, them: Engine) -> None:
    send(them, b"x")
    us.receive_data(take(them))
    us.receive_reset("in other words", loss="Connection timed out")
    data, error = read_out(us)
    assert data == b"x"
    assert isinstance(error, Reset)
    assert str(error) == "the connection was lost before close_notify came: Connection timed out"
    ending = us.build_ending()
    assert str(ending) == "reset: the connection was lost (Connection timed out)"
    assert (ending.inbound, ending.started_by) == (Inbound.RESET, None)
    assert [(event.kind, event.by, event.detail) for event in ending.events[-3:]] == [
        (EventKind.CONNECTION_LOST, Side.WE, "Connection timed out"),
        (EventKind.DATA, Side.PEER, ""),  # it was there before, and is read after
        (EventKind.ERROR, Side.WE, f"Reset: {error}"),
    ]


def test_a_loss_that_a_send_meets_is_no_reset_and_no_fin_of_the_peer(us: Engine) -> None:
    us.send_failed(loss="No route to host")
    assert str(us.outgoing.why_not_writable()) == "the connection was lost while we were sending: No route to host"
    us.receive_eof()  # as Linux says when the send took the error
    us.receive_eof()
    assert str(read_out(us)[1]) == "the connection was lost before close_notify came: No route to host"
    assert kinds(us, EventKind.RST, EventKind.FIN, EventKind.CONNECTION_LOST) == [EventKind.CONNECTION_LOST]


def test_what_comes_first_is_what_it_was(us: Engine) -> None:
    us.receive_reset()
    us.send_failed(loss="Connection timed out")
    assert str(us.build_ending()) == "reset: the peer reset the connection"
    assert kinds(us, EventKind.RST, EventKind.CONNECTION_LOST) == [EventKind.RST]


def test_a_loss_after_the_exchange_is_no_late_reset(us: Engine, them: Engine) -> None:
    us.receive_data(close_notify(them))
    read_out(us)
    close_notify(us)
    us.receive_reset(loss="Connection timed out")
    ending = us.build_ending()
    assert (ending.how, ending.late_reset) == (How.CLEAN, False)


def test_our_answer_to_a_broken_record_is_named(us: Engine, them: Engine) -> None:
    send(them, b"x")
    us.receive_data(flipped(take(them)))
    error = str(read_out(us)[1])
    assert error.startswith("the peer broke the TLS protocol: ")
    assert error.endswith(" (we answered with bad_record_mac)")


@pytest.mark.python_lane
def test_without_the_hook_our_answer_is_not_known(us: Engine, them: Engine) -> None:
    send(them, b"x")
    us.tls._bowout_inbox = None  # type: ignore[attr-defined]
    us.receive_data(flipped(take(them)))
    error = str(read_out(us)[1])
    assert error.startswith("the peer broke the TLS protocol: ")
    assert "answered" not in error
    assert "X" not in error


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (Engine.send_failed, "the peer reset the connection while we were sending"),
        (Engine.sent_fin, "our direction of the stream has ended: close_notify was queued, or it was cut off"),
    ],
)
def test_why_nothing_can_be_sent_is_said_in_these_words(us: Engine, act: Callable[[Engine], None], words: str) -> None:
    act(us)
    assert str(us.outgoing.why_not_writable()) == words


def test_why_nothing_can_be_sent_after_a_close_notify_in_tls12(ca: trustme.CA) -> None:
    two = established(ca, "1.2")
    two.client.receive_data(close_notify(two.server))
    read_out(two.client)
    words = "the peer sent close_notify, which in TLS 1.2 ends both directions"
    assert str(two.client.outgoing.why_not_writable()) == words


def unshaken(ca: trustme.CA) -> Engine:
    client = engine(contexts(ca, "1.3")[0], Role.CLIENT)
    assert not client.handshake()
    return client


def test_a_handshake_that_is_done_is_done_again(us: Engine) -> None:
    assert us.handshake() is True


def test_why_nothing_can_be_sent_before_the_handshake(ca: trustme.CA) -> None:
    assert str(unshaken(ca).outgoing.why_not_writable()) == "the handshake is not done"


def test_a_reset_in_the_handshake_is_said_in_these_words(ca: trustme.CA) -> None:
    client = unshaken(ca)
    client.receive_reset()
    with pytest.raises(HandshakeReset, match=r"^the peer reset the connection during the handshake$"):
        client.handshake()


def test_a_loss_in_the_handshake_is_said_in_these_words(ca: trustme.CA) -> None:
    client = unshaken(ca)
    client.receive_reset(loss="No route to host")
    with pytest.raises(HandshakeReset, match=r"^the connection was lost during the handshake: No route to host$"):
        client.handshake()
    words = "failed handshake: the connection was lost (No route to host) in the handshake"
    assert str(client.build_ending()).startswith(words)


def test_a_close_notify_in_the_handshake_is_said_in_these_words(ca: trustme.CA) -> None:
    client = unshaken(ca)
    client.receive_data(b"\x15\3\3\0\2\1\0")
    with pytest.raises(HandshakeTruncated, match=r"^the peer sent close_notify during the handshake$"):
        client.handshake()


def test_of_plain_text_the_beginning_is_kept(ca: trustme.CA) -> None:
    client = unshaken(ca)
    text = bytes(range(65, 65 + 26)) * 4
    for at in range(0, len(text), 13):
        client.receive_data(text[at : at + 13])
    with pytest.raises(NotTLS) as caught:
        client.handshake()
    assert caught.value.sample == text[:64]


def test_a_truncation_is_raised_unless_told_otherwise(ca: trustme.CA) -> None:
    client_context, server_context = contexts(ca, "1.3")
    server = engine(server_context, Role.SERVER)
    client = Engine(client_context, role=Role.CLIENT, server_hostname=NAME, timeline=Timeline(Clock()))
    EnginePair(client, server).shake_hands()
    client.receive_eof()
    assert isinstance(read_out(client)[1], Truncated)


def test_what_is_ignored_while_leaving_adds_up(us: Engine, them: Engine) -> None:
    us.receive_data(close_notify(them))
    read_out(us)
    us.record_call("close()", leaving=True)
    us.receive_data(b"12")
    us.receive_data(b"345")
    assert us.build_ending().ignored == 5


def test_an_alert_in_the_handshake_ends_the_peers_direction(ca: trustme.CA) -> None:
    client = unshaken(ca)
    client.receive_data(b"\x15\3\3\0\2\2\x28")
    with pytest.raises(HandshakeError):
        client.handshake()
    assert client.inbound is Inbound.FATAL_ALERT


def test_what_is_read_where_it_was_received_is_not_copied(us: Engine, them: Engine) -> None:
    send(them, b"x")
    buffer = memoryview(bytearray(9))
    with mock.patch.object(us, "receive_data") as copied:
        assert us.receive_and_read(take(them), buffer) == 1
    assert not copied.called


def test_the_call_that_ends_the_handshake_says_so(ca: trustme.CA, version: str) -> None:
    two = pair(*contexts(ca, version))
    for _ in range(3):
        for side in (two.client, two.server):
            assert side.handshake() is side.handshake_done
            two.move(side)
    assert two.client.handshake_done
    assert two.server.handshake_done


def test_after_another_event_runs_of_data_are_told_apart_anew(clock: Clock) -> None:
    timeline = Timeline(clock)
    timeline.record(EventKind.CALL, Side.WE)
    for _ in range(9):
        timeline.data(sent=1)
        timeline.data(received=1)
    runs = [(event.sent, event.received) for event in timeline.events()[1:]]
    assert runs == [(1, 0), (0, 1)] * 3 + [(6, 6)]


def test_a_clean_end_without_a_reset_has_no_late_one(us: Engine, them: Engine) -> None:
    us.receive_data(close_notify(them))
    read_out(us)
    close_notify(us)
    ending = us.build_ending()
    assert ending.how is How.CLEAN
    assert ending.late_reset is False


def test_the_cap_after_close_notify_holds_for_what_is_read_where_it_was_received(us: Engine, them: Engine) -> None:
    us.receive_data(close_notify(them))
    read_out(us)
    assert us.receive_and_read(bytes(300_000), memoryview(bytearray(9))) == 0
    assert len(us.incoming.leftover()) == 1 << 18


def test_each_read_has_its_own_time(us: Engine, them: Engine) -> None:
    clock = us.timeline._clock
    assert isinstance(clock, Clock)
    for moment in (1.0, 2.0):
        clock.now = moment
        send(them, b"x")
        us.receive_data(take(them))
        read_out(us)
        assert us.timeline.last_data_at == moment


def test_a_handshake_that_comes_byte_by_byte_goes_on_at_the_last(ca: trustme.CA) -> None:
    two = pair(*contexts(ca, "1.3"))
    two.client.handshake()
    two.move(two.client)
    two.server.handshake()
    for byte in take(two.server):
        two.client.receive_data(bytes([byte]))
        two.client.handshake()
    assert two.client.handshake_done
