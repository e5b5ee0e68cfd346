"""Truncation, reset, alerts and what cannot be decrypted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme

from bowout.ending import Alert, EventKind, How, Inbound, Outbound, Side
from bowout.errors import (
    AlertReceived,
    ProtocolViolation,
    Reset,
    StreamClosed,
    Truncated,
)
from helpers.engines import (
    BUFFER,
    alerted,
    close_notify,
    cut,
    established,
    flipped,
    kinds,
    read,
    read_all,
    read_out,
    send,
    take,
)

if TYPE_CHECKING:
    from bowout._core.engine import Engine


# -- truncation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [3, 5, 6, -1], ids=["in its header", "a bare header", "a byte", "all but a byte"])
def test_a_fin_inside_a_record(us: Engine, them: Engine, kept: int, version: str) -> None:
    size = 6 + {"1.2": 29, "1.3": 22}[version]
    data, error = read_out(cut(us, them, size - kept if kept > 0 else -kept))
    assert (data, isinstance(error, Truncated) and error.inside_record) == (b"first", True)
    assert us.inbound is Inbound.TRUNCATED_INSIDE_RECORD


def test_a_fin_at_a_record_boundary(us: Engine, them: Engine) -> None:
    data, error = read_out(cut(us, them, 0))
    assert (data, isinstance(error, Truncated) and not error.inside_record) == (b"firstsecond", True)
    assert us.inbound is Inbound.TRUNCATED_AT_BOUNDARY


def test_a_truncation_is_called_so(us: Engine, them: Engine) -> None:
    read_out(cut(us, them, 0))
    assert us.verdict() is How.TRUNCATED


def test_a_truncation_sends_no_alert(us: Engine, them: Engine) -> None:
    read_out(cut(us, them, 1))
    assert us.outgoing.size == 0


def test_a_truncation_is_sticky(us: Engine, them: Engine) -> None:
    read_out(cut(us, them, 1))
    with pytest.raises(Truncated, match="bytes are missing"):
        read(us)


def test_after_a_truncation_we_may_still_answer(us: Engine, them: Engine) -> None:
    read_out(cut(us, them, 0))
    send(us, b"what was that?")
    them.receive_data(take(us))
    assert read(them) == b"what was that?"


@pytest.mark.parametrize("tolerated", [True, False])
def test_after_close_notify_a_truncation_explains_a_failed_write(ca: trustme.CA, version: str, tolerated: bool) -> None:
    us = established(ca, version, truncation="tolerate" if tolerated else "raise").client
    us.receive_eof()
    read_out(us)
    us.queue_close_notify()
    with pytest.raises(StreamClosed if tolerated else Truncated):
        us.outgoing.write(memoryview(b"x"))


def tolerant(ca: trustme.CA, version: str, missing: int) -> Engine:
    two = established(ca, version, truncation="tolerate")
    return cut(two.client, two.server, missing)


def test_a_tolerated_truncation_is_an_end(ca: trustme.CA, version: str) -> None:
    us = tolerant(ca, version, 0)
    assert (read_all(us), read(us), us.failure) == (b"firstsecond", b"", None)


def test_a_tolerated_truncation_is_still_called_so(ca: trustme.CA, version: str) -> None:
    us = tolerant(ca, version, 0)
    read_all(us)
    close_notify(us)
    assert us.verdict() is How.TRUNCATED


def test_a_truncation_inside_a_record_is_never_tolerated(ca: trustme.CA, version: str) -> None:
    with pytest.raises(Truncated):
        read_all(tolerant(ca, version, 1))


@pytest.mark.parametrize("missing", [0, 1])
def test_a_fin_that_answers_our_close_is_unanswered(us: Engine, them: Engine, missing: int) -> None:
    us.record_call("close()", leaving=True)
    close_notify(us)
    cut(us, them, missing)
    while us.discard(BUFFER):
        pass
    assert (us.verdict(), us.build_ending().discarded) == (How.UNANSWERED, 5 if missing else 11)


def test_a_fin_that_answers_our_half_close_is_a_truncation(us: Engine, them: Engine) -> None:
    us.record_call("send_eof()", leaving=False)
    close_notify(us)
    read_out(cut(us, them, 0))
    assert us.verdict() is How.TRUNCATED


def test_silence_after_our_close_notify_is_unanswered(us: Engine) -> None:
    close_notify(us)
    assert us.verdict() is How.UNANSWERED


def test_a_close_notify_that_did_not_leave_is_unflushed(us: Engine) -> None:
    us.queue_close_notify()
    assert us.verdict() is How.UNFLUSHED


def test_input_ends_once(us: Engine) -> None:
    us.receive_eof()
    us.receive_eof()
    assert (us.input_ended, kinds(us, EventKind.FIN)) == (True, [EventKind.FIN])


# -- resets ----------------------------------------------------------------------------------------------------------


def test_what_was_held_is_delivered_before_a_reset(us: Engine, them: Engine) -> None:
    send(them, b"held")
    us.receive_data(take(them))
    us.receive_reset()
    data, error = read_out(us)
    assert (data, type(error), us.verdict()) == (b"held", Reset, How.RESET)


def test_a_reset_ends_input(us: Engine) -> None:
    us.receive_reset()
    assert us.input_ended


def test_a_reset_loses_our_direction(us: Engine) -> None:
    us.receive_reset()
    with pytest.raises(Reset, match="while we were sending"):
        us.outgoing.write(memoryview(b"x"))


def test_a_reset_is_sticky(us: Engine) -> None:
    us.receive_reset()
    read_out(us)
    assert isinstance(read_out(us)[1], Reset)


def test_once_it_was_read_a_reset_explains_a_failed_write(us: Engine) -> None:
    us.receive_reset()
    read_out(us)
    with pytest.raises(Reset, match="before close_notify came"):
        us.outgoing.write(memoryview(b"x"))


def test_a_reset_drops_the_output(us: Engine) -> None:
    send(us, b"x")
    us.receive_reset()
    assert (us.outgoing.head(), us.build_ending().unsent) == (None, 1)


def test_a_close_notify_before_the_reset_is_still_read(us: Engine, them: Engine) -> None:
    us.receive_data(close_notify(them))
    us.receive_reset()
    assert (read(us), us.inbound) == (b"", Inbound.CLOSE_NOTIFY)


def test_a_reset_after_the_exchange_is_clean_with_a_late_reset(us: Engine, them: Engine) -> None:
    close_notify(us)
    us.receive_data(close_notify(them))
    us.receive_reset()
    read(us)
    end = us.build_ending()
    assert (end.how, end.late_reset) == (How.CLEAN, True)


def test_a_reset_before_our_close_notify_left_is_no_late_one(us: Engine, them: Engine) -> None:
    us.receive_data(close_notify(them))
    read(us)
    us.receive_reset()
    end = us.build_ending()
    assert (end.how, end.late_reset) == (How.RESET, False)


def test_a_reset_after_our_close_notify(us: Engine) -> None:
    close_notify(us)
    us.receive_reset()
    read_out(us)
    assert (us.verdict(), us.outbound, us.inbound) == (How.RESET, Outbound.CLOSE_NOTIFY_SENT, Inbound.RESET)


def test_a_failed_send_then_a_fin_is_a_reset(us: Engine) -> None:
    us.send_failed()
    us.receive_eof()
    assert isinstance(read_out(us)[1], Reset)


def test_a_reset_after_a_fin_is_no_second_end(us: Engine) -> None:
    us.receive_eof()
    us.receive_reset()
    assert isinstance(read_out(us)[1], Truncated)


def test_an_abort_after_a_reset_is_still_a_reset(us: Engine) -> None:
    us.receive_reset()
    read_out(us)
    us.sent_rst()
    assert us.verdict() is How.RESET


# -- alerts and what cannot be decrypted -----------------------------------------------------------------------------


def test_a_flipped_bit_is_a_violation(us: Engine, them: Engine) -> None:
    send(them, b"hello")
    us.receive_data(flipped(take(them)))
    with pytest.raises(ProtocolViolation) as caught:
        read(us)
    assert caught.value.alert == Alert(code=20, level=2, by=Side.WE)


def test_a_violation_is_an_alert_ending(us: Engine, them: Engine) -> None:
    send(them, b"hello")
    us.receive_data(flipped(take(them)))
    read_out(us)
    assert (us.verdict(), us.outbound, us.inbound) == (How.ALERT, Outbound.FATAL_ALERT, Inbound.UNDECRYPTABLE)


def test_the_peer_hears_of_its_violation(us: Engine, them: Engine) -> None:
    send(them, b"hello")
    us.receive_data(flipped(take(them)))
    read_out(us)
    them.receive_data(take(us))
    with pytest.raises(AlertReceived) as caught:
        read(them)
    assert caught.value.alert == Alert(code=20, level=2, by=Side.PEER)


def test_data_before_the_violation_is_delivered(us: Engine, them: Engine) -> None:
    send(them, b"good")
    good = take(them)
    send(them, b"bad")
    us.receive_data(good + flipped(take(them)))
    assert read_out(us)[0] == b"good"


def test_a_violation_is_sticky(us: Engine, them: Engine) -> None:
    send(them, b"hello")
    us.receive_data(flipped(take(them)))
    assert str(read_out(us)[1]) == str(read_out(us)[1]) != "None"


def test_a_violation_ends_our_writing(us: Engine, them: Engine) -> None:
    send(them, b"hello")
    us.receive_data(flipped(take(them)))
    read_out(us)
    with pytest.raises(ProtocolViolation):
        us.outgoing.write(memoryview(b"x"))


def test_after_our_close_notify_no_alert_leaves(us: Engine, them: Engine) -> None:
    close_notify(us)
    send(them, b"hello")
    us.receive_data(flipped(take(them)))
    read_out(us)
    assert (us.outgoing.head(), us.build_ending().alert, us.outbound) == (None, None, Outbound.CLOSE_NOTIFY_SENT)


def test_while_our_close_notify_is_queued_no_alert_follows_it(us: Engine, them: Engine) -> None:
    us.queue_close_notify()
    size = us.outgoing.size
    send(them, b"hello")
    us.receive_data(flipped(take(them)))
    read_out(us)
    assert (us.outgoing.size, us.outbound) == (size, Outbound.CLOSE_NOTIFY_QUEUED)


def test_a_fatal_alert_is_received(us: Engine, them: Engine) -> None:
    with pytest.raises(AlertReceived, match="bad_record_mac"):
        read(alerted(us, them))


def test_a_fatal_alert_ends_both_directions(us: Engine, them: Engine) -> None:
    read_out(alerted(us, them))
    assert (us.outbound, us.inbound, us.verdict()) == (Outbound.LOST, Inbound.FATAL_ALERT, How.ALERT)


def test_after_a_fatal_alert_nothing_more_is_sent(us: Engine, them: Engine) -> None:
    send(us, b"queued")
    read_out(alerted(us, them))
    assert (us.outgoing.head(), us.build_ending().unsent) == (None, 6)


def test_a_fatal_alert_after_our_close_notify_is_no_success(us: Engine, them: Engine) -> None:
    close_notify(us)
    read_out(alerted(us, them))
    end = us.build_ending()
    assert (end.how, end.outbound, end.alert) == (How.ALERT, Outbound.CLOSE_NOTIFY_SENT, Alert(20, 2, Side.PEER))


def test_a_fatal_alert_from_the_peer_is_its_doing(us: Engine, them: Engine) -> None:
    read_out(alerted(us, them))
    assert us.build_ending().started_by is Side.PEER


def test_a_violation_is_ended_by_us(us: Engine, them: Engine) -> None:
    send(them, b"hello")
    us.receive_data(flipped(take(them)))
    read_out(us)
    assert us.build_ending().started_by is Side.WE
