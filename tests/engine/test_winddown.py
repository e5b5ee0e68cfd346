"""The wind-down, step by step, on engines in memory and a clock that only the test moves."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import pytest

from bowout._core import winddown
from bowout._core.engine import Engine
from bowout._core.outgoing import WRITE_SIZE
from bowout._core.winddown import ALERT_PATIENCE, FIN_PATIENCE, READ_SIZE, SLICE, Goal, Step, WindDown
from bowout.ending import EventKind, How, Inbound, Outbound, Side
from helpers.engines import BUFFER, EnginePair, close_notify, kinds, read_all, send, take

#: Bytes that a close may read, where a test is not about that limit.
CAP: Final = 1 << 26
DEADLINE: Final = 5.0


class Kernel:
    """What the kernel says of the bytes that the peer has not acknowledged."""

    def __init__(self, unacknowledged: int | None = 1) -> None:
        self.unacknowledged = unacknowledged
        self.asked = 0

    def __call__(self) -> int | None:
        self.asked += 1
        return self.unacknowledged


def wind_down(us: Engine, kernel: Callable[[], int | None] = lambda: 1, *, cap: int = CAP) -> WindDown:
    made = WindDown(us, linger_bytes=cap, scratch=BUFFER, unacknowledged=kernel)
    made.leave("close()")
    return made


def begun(us: Engine, kernel: Callable[[], int | None] = lambda: 1, *, goal: Goal = Goal.CLOSE) -> WindDown:
    made = wind_down(us, kernel)
    made.begin(goal, deadline=DEADLINE)
    return made


def outbound(us: Engine) -> Outbound:
    """Our half-state, which a type checker must not take for unchanged."""
    return us.outbound


def give(close: WindDown, us: Engine, data: bytes) -> None:
    """Have the driver read `data`."""
    us.receive_data(data)
    close.received(len(data))


def to_linger(close: WindDown, us: Engine, now: float = 0.0) -> bytes:
    """Do as the steps say up to the first wait for the peer; return what was sent."""
    sent = b""
    while (step := close.next_step(now)) is not Step.LINGER:
        assert step in {Step.WRITE, Step.FIN}, step
        if step is Step.FIN:
            us.sent_fin()
        sent += take(us)
    return sent


# -- a graceful close --------------------------------------------------------------------------------------------------


def test_close_notify_then_fin_then_a_wait_for_the_peer(us: Engine, them: Engine) -> None:
    close = begun(us)
    assert close.next_step(0) is Step.WRITE
    assert outbound(us) is Outbound.CLOSE_NOTIFY_QUEUED
    assert close.next_step(0) is Step.FLUSH, "the kernel has not taken it"
    them.receive_data(take(us))
    assert close.next_step(0) is Step.FIN
    us.sent_fin()
    assert close.next_step(0) is Step.LINGER
    assert close.until == DEADLINE
    give(close, us, close_notify(them))
    us.receive_eof()
    assert close.next_step(0) is Step.RELEASE
    assert (us.verdict(), close.gave_up) == (How.CLEAN, False)


def test_a_transport_without_a_fin_of_its_own_is_waited_for_all_the_same(us: Engine, them: Engine) -> None:
    """The end of our direction is recorded when there is one, and says how it came."""
    close = begun(us)
    close.next_step(0)
    them.receive_data(take(us))
    assert close.next_step(0) is Step.FIN
    us.skip_fin()
    assert close.next_step(0) is Step.LINGER
    assert (us.fin_sent, us.outbound) == (True, Outbound.CLOSE_NOTIFY_SENT)
    give(close, us, close_notify(them))
    us.receive_eof()
    assert close.next_step(0) is Step.RELEASE
    us.sent_fin("by closing")
    assert outbound(us) is Outbound.FIN_SENT
    fins = [(event.by, event.detail) for event in us.timeline.events() if event.kind is EventKind.FIN]
    assert fins == [(Side.PEER, ""), (Side.WE, "by closing")]


def test_what_is_there_already_is_read_before_anything_is_decided(us: Engine, them: Engine) -> None:
    """Both close_notify are exchanged; an RST that the kernel holds belongs to the ending."""
    us.receive_data(close_notify(them))
    assert read_all(us) == b""
    us.queue_close_notify()
    take(us)
    us.sent_fin()
    close = begun(us, Kernel(0))
    assert close.next_step(0) is Step.WRITE
    us.receive_reset()
    assert close.next_step(0) is Step.RELEASE
    close.release()
    close.released()
    assert close.build_ending(peer="", began=0, reason="").late_reset


def test_what_another_task_received_counts(us: Engine, them: Engine) -> None:
    """A reader may have read the peer's FIN just before the close began."""
    close = begun(us)
    to_linger(close, us)
    us.receive_data(close_notify(them))
    us.receive_eof()
    assert close.next_step(0) is Step.RELEASE
    assert us.inbound is Inbound.CLOSE_NOTIFY


def test_what_is_queued_is_written_before_it_is_waited_for(us: Engine) -> None:
    """A loop that only completes calls has to have offered the bytes before it can wait."""
    us.queue_close_notify()
    close = begun(us)
    assert [close.next_step(0), close.next_step(0)] == [Step.WRITE, Step.FLUSH]


def test_a_peer_that_has_everything_need_not_hang_up(us: Engine, them: Engine) -> None:
    kernel = Kernel(7)
    close = begun(us, kernel)
    to_linger(close, us)
    assert kernel.asked == 0, "it has not said its close_notify"
    give(close, us, close_notify(them))
    assert close.next_step(1) is Step.LINGER
    assert close.until == pytest.approx(1.01)
    kernel.unacknowledged = 0
    assert close.next_step(1) is Step.RELEASE


def test_without_acknowledgements_the_peer_has_half_a_second_for_its_fin(us: Engine, them: Engine) -> None:
    close = begun(us, lambda: None)
    to_linger(close, us)
    give(close, us, close_notify(them))
    assert close.next_step(1) is Step.LINGER
    assert close.next_step(1 + FIN_PATIENCE - 0.01) is Step.LINGER
    assert close.next_step(1 + FIN_PATIENCE) is Step.RELEASE
    assert not close.gave_up


def test_the_last_poll_is_no_later_than_the_deadline(us: Engine, them: Engine) -> None:
    close = begun(us)
    to_linger(close, us)
    give(close, us, close_notify(them))
    assert close.next_step(DEADLINE - 0.001) is Step.LINGER
    assert close.until == DEADLINE


# -- the deadline ------------------------------------------------------------------------------------------------------


def test_a_silent_peer_is_left_at_the_deadline(us: Engine) -> None:
    close = begun(us)
    to_linger(close, us)
    assert close.next_step(DEADLINE - 0.001) is Step.LINGER
    assert close.next_step(DEADLINE) is Step.RELEASE
    assert (us.verdict(), close.gave_up) == (How.UNANSWERED, True)
    assert close.next_step(DEADLINE + 1) is Step.RELEASE
    assert kinds(us, EventKind.DEADLINE) == [EventKind.DEADLINE]
    assert close.build_ending(peer="", began=0, reason="").deadline_hit


def test_a_deadline_that_passed_before_anything_ran_still_sends_everything(us: Engine) -> None:
    close = begun(us)
    late = DEADLINE + 60
    assert close.next_step(late) is Step.WRITE
    assert take(us) != b""
    assert close.next_step(late) is Step.FIN
    us.sent_fin()
    assert close.next_step(late) is Step.RELEASE
    assert outbound(us) is Outbound.FIN_SENT


def test_a_deadline_can_only_come_nearer(us: Engine) -> None:
    close = begun(us)
    close.shorten_deadline(DEADLINE + 1)
    to_linger(close, us)
    assert close.until == DEADLINE
    close.shorten_deadline(1)
    assert close.next_step(0.5) is Step.LINGER
    assert close.until == 1
    assert close.next_step(1) is Step.RELEASE


def test_without_a_deadline_there_is_no_end_to_a_wait(us: Engine) -> None:
    close = wind_down(us)
    close.begin(Goal.CLOSE)
    to_linger(close, us, now=1e9)
    assert close.until == float("inf")


def test_the_last_look_has_a_limit(us: Engine, them: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that sends as fast as we read must not keep us after the deadline."""
    monkeypatch.setattr(winddown, "SLICE", 1000)
    monkeypatch.setattr(winddown, "LAST_LOOK", 2000)
    send(them, bytes(8000))
    flood = take(them)
    close = begun(us)
    to_linger(close, us)
    told = []
    while (step := close.next_step(DEADLINE)) is not Step.RELEASE:
        told.append(step)
        while room := close.room():
            give(close, us, flood[:room])
            flood = flood[room:]
    assert told == []
    close = begun(us)
    while (step := close.next_step(DEADLINE)) is not Step.RELEASE:
        told.append(step)
        while room := close.room():
            give(close, us, flood[:room])
            flood = flood[room:]
    assert told == [Step.WRITE, Step.READ, Step.READ]
    assert flood != b""


# -- reading -----------------------------------------------------------------------------------------------------------


def test_reading_is_sliced(us: Engine) -> None:
    close = begun(us)
    to_linger(close, us)
    total = 0
    while room := close.room():
        assert room == READ_SIZE
        close.received(room)
        total += room
    assert total == SLICE
    assert close.next_step(0) is Step.READ
    assert close.room() == READ_SIZE
    assert close.next_step(0) is Step.LINGER


def test_a_fin_in_between_gives_reading_no_second_slice(us: Engine) -> None:
    """Others must have their turn after a slice, whatever else there is to do."""
    close = begun(us)
    assert close.next_step(0) is Step.WRITE
    while room := close.room():
        close.received(room)
    take(us)
    assert close.next_step(0) is Step.FIN
    us.sent_fin()
    assert [close.room(), close.next_step(0)] == [0, Step.READ]


def test_the_last_byte_below_the_cap_is_read(us: Engine) -> None:
    close = wind_down(us, cap=10)
    close.begin(Goal.CLOSE)
    close.received(9)
    assert (close.room(), close.gave_up) == (1, False)


def test_reading_ends_at_the_cap(us: Engine) -> None:
    close = wind_down(us, cap=READ_SIZE + 10)
    close.begin(Goal.CLOSE, deadline=DEADLINE)
    to_linger(close, us)
    assert close.room() == READ_SIZE
    close.received(READ_SIZE)
    assert close.room() == 10
    close.received(10)
    before = close.gave_up
    assert (close.room(), close.room()) == (0, 0)
    assert (before, close.gave_up) == (False, True)
    assert close.next_step(0) is Step.RELEASE
    assert kinds(us, EventKind.CAP) == [EventKind.CAP]
    ending = close.build_ending(peer="", began=0, reason="")
    assert (ending.cap_hit, ending.deadline_hit) == (True, False)


def test_at_the_cap_what_is_true_is_still_said(us: Engine) -> None:
    close = wind_down(us, cap=10)
    close.begin(Goal.CLOSE, deadline=DEADLINE)
    close.received(10)
    assert close.room() == 0
    assert close.next_step(0) is Step.WRITE
    assert outbound(us) is Outbound.CLOSE_NOTIFY_QUEUED
    take(us)
    assert close.next_step(0) is Step.FIN
    us.sent_fin()
    assert close.next_step(0) is Step.RELEASE


def test_at_the_cap_a_close_notify_that_a_send_held_up_is_written_first(us: Engine) -> None:
    close = wind_down(us, cap=10)
    close.begin(Goal.CLOSE, deadline=DEADLINE)
    assert [close.next_step(0, sending=True) for _ in range(2)] == [Step.WRITE, Step.FLUSH]
    close.received(10)
    assert close.room() == 0
    assert close.next_step(0) is Step.WRITE
    take(us)
    assert close.next_step(0) is Step.FIN


def test_at_the_cap_a_close_notify_that_cannot_leave_has_no_fin_after_it(us: Engine) -> None:
    close = wind_down(us, cap=10)
    close.begin(Goal.CLOSE, deadline=DEADLINE)
    close.received(10)
    assert close.room() == 0
    assert [close.next_step(0), close.next_step(0)] == [Step.WRITE, Step.RELEASE]


def test_nothing_is_read_after_the_end_of_input(us: Engine) -> None:
    close = begun(us)
    assert not close.input_done
    us.receive_eof()
    assert (close.input_done, close.room()) == (True, 0)


def test_what_is_late_goes_to_who_asked_for_it(us: Engine, them: Engine) -> None:
    heard: list[bytes] = []
    close = begun(us)
    close.late = heard.append
    send(them, b"late")
    send(them, b"r")
    give(close, us, take(them))
    close.discard()
    assert b"".join(heard) == b"later"
    assert close.build_ending(peer="", began=0, reason="").discarded == 0


def test_who_asked_for_what_is_late_gets_all_of_it(us: Engine, them: Engine) -> None:
    heard: list[bytes] = []
    close = begun(us)
    close.late = heard.append
    for text in (b"first", b"second"):
        send(them, text)
        give(close, us, take(them))
        close.discard()
    assert heard == [b"first", b"second"]


def test_who_raises_about_what_is_late_is_not_asked_again(us: Engine, them: Engine) -> None:
    asked: list[bytes] = []

    def refuse(data: bytes) -> None:
        asked.append(data)
        raise ValueError("refused")

    close = begun(us)
    close.late = refuse
    for text in (b"1", b"2"):
        send(them, text)
    give(close, us, take(them))
    with pytest.raises(ValueError, match="refused"):
        close.discard()
    close.discard()
    send(them, b"3")
    give(close, us, take(them))
    close.discard()
    assert asked == [b"12"]
    assert close.build_ending(peer="", began=0, reason="").discarded == 1


# -- what was being sent -----------------------------------------------------------------------------------------------


def test_a_send_of_the_application_goes_first_until_the_deadline(us: Engine) -> None:
    close = begun(us)
    assert [close.next_step(0, sending=True) for _ in range(2)] == [Step.WRITE, Step.FLUSH]
    assert outbound(us) is Outbound.OPEN
    assert close.next_step(0) is Step.WRITE
    assert outbound(us) is Outbound.CLOSE_NOTIFY_QUEUED


def test_at_the_deadline_an_unfinished_send_leaves_a_truncation(us: Engine) -> None:
    us.outgoing.write(memoryview(bytes(1 << 20)))
    close = begun(us)
    told = [close.next_step(DEADLINE, sending=True) for _ in range(3)]
    assert told == [Step.WRITE, Step.WRITE, Step.RELEASE], "no FIN, so that the peer is told of it"
    close.release()
    ending = close.build_ending(peer="", began=0, reason="")
    assert (ending.close_notify_sent_at, ending.unsent) == (None, 1 << 20)


def test_the_rest_of_a_send_is_encrypted_in_a_last_look(us: Engine, them: Engine) -> None:
    data = bytes(range(256)) * 1000
    us.outgoing.write(memoryview(data))
    close = begun(us)
    received = b""
    assert close.next_step(DEADLINE) is Step.WRITE
    while True:
        them.receive_data(take(us))
        received += read_all(them)
        if not close.write_more():
            break
    assert received == data
    assert close.next_step(DEADLINE) is Step.WRITE
    assert outbound(us) is Outbound.CLOSE_NOTIFY_QUEUED


def test_a_last_look_encrypts_no_more_than_its_limit(us: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that reads as fast as we send must not keep us either."""
    monkeypatch.setattr(winddown, "LAST_LOOK", 1)
    us.outgoing.write(memoryview(bytes(1 << 20)))
    close = begun(us)
    assert close.next_step(DEADLINE) is Step.WRITE
    assert [close.write_more(), close.write_more()] == [True, False]
    close.next_step(DEADLINE)
    assert close.write_more(), "each pass has its own"


def test_a_limit_that_is_used_up_is_over(us: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winddown, "LAST_LOOK", WRITE_SIZE)
    us.outgoing.write(memoryview(bytes(3 * WRITE_SIZE)))
    close = begun(us)
    assert close.next_step(DEADLINE) is Step.WRITE
    assert [close.write_more(), close.write_more()] == [True, False]


def test_one_last_byte_is_encrypted(us: Engine) -> None:
    us.outgoing.write(memoryview(bytes(WRITE_SIZE + 1)))
    close = begun(us)
    assert [close.write_more(), close.write_more()] == [True, False]


def test_nothing_is_encrypted_where_nothing_is_left(us: Engine) -> None:
    assert not begun(us).write_more()


# -- other goals -------------------------------------------------------------------------------------------------------


def test_no_close_notify_where_it_is_not_allowed(us: Engine) -> None:
    close = wind_down(us)
    close.notify(allowed=False)
    close.notify(allowed=True)
    close.begin(Goal.CLOSE, deadline=DEADLINE)
    assert [close.next_step(0), close.next_step(0)] == [Step.WRITE, Step.FIN]
    us.sent_fin()
    assert outbound(us) is Outbound.CUT
    assert close.next_step(0) is Step.LINGER


def test_at_the_cap_there_is_no_close_notify_where_it_is_not_allowed(us: Engine) -> None:
    close = wind_down(us, cap=10)
    close.notify(allowed=False)
    close.begin(Goal.CLOSE, deadline=DEADLINE)
    close.received(10)
    assert close.room() == 0
    assert [close.next_step(0), close.next_step(0)] == [Step.WRITE, Step.FIN]


def test_leaving_after_a_send_has_no_close_notify_where_it_is_not_allowed(us: Engine) -> None:
    us.outgoing.write(memoryview(bytes(1 << 18)))
    close = wind_down(us)
    close.notify(allowed=False)
    close.begin(Goal.LEAVE)
    assert close.next_step(0) is Step.WRITE
    while True:
        take(us)
        if not close.write_more():
            break
    assert close.next_step(0) is Step.FIN


def test_leaving_looks_once_and_waits_for_nothing(us: Engine, them: Engine) -> None:
    close = begun(us, goal=Goal.LEAVE)
    assert close.next_step(0) is Step.WRITE
    them.receive_data(take(us))
    assert close.next_step(0) is Step.FIN
    us.sent_fin()
    assert close.next_step(0) is Step.RELEASE
    assert read_all(them) == b""
    assert us.verdict() is How.UNANSWERED


def test_leaving_a_kernel_that_takes_nothing_has_no_fin(us: Engine) -> None:
    """After a close_notify that has not left, the peer must see that something is missing."""
    close = begun(us, goal=Goal.LEAVE)
    assert [close.next_step(0), close.next_step(0)] == [Step.WRITE, Step.RELEASE]


def test_leaving_with_a_send_in_progress_says_close_notify_only_when_all_of_it_has_left(us: Engine) -> None:
    us.outgoing.write(memoryview(bytes(1 << 18)))
    close = begun(us, goal=Goal.LEAVE)
    assert close.next_step(0) is Step.WRITE
    assert outbound(us) is Outbound.OPEN
    while True:
        take(us)
        if not close.write_more():
            break
    assert close.next_step(0) is Step.WRITE
    assert outbound(us) is Outbound.CLOSE_NOTIFY_QUEUED


def test_unwrapping_ends_with_both_close_notify_and_without_fin(us: Engine, them: Engine) -> None:
    close = begun(us, goal=Goal.UNWRAP)
    assert close.next_step(0) is Step.WRITE
    assert close.next_step(0) is Step.FLUSH
    them.receive_data(take(us))
    assert close.next_step(0) is Step.LINGER
    assert close.until == DEADLINE
    assert not close.input_done
    give(close, us, close_notify(them) + b"plain")
    assert (close.next_step(0), close.input_done, close.room()) == (Step.RELEASE, True, 0)
    assert us.incoming.leftover() == b"plain"
    close.release()
    close.released(unwrapped=True)
    assert close.build_ending(peer="", began=0, reason="", unwrapped=True).unwrapped


def test_our_fatal_alert_has_a_second_to_be_read(us: Engine) -> None:
    us.receive_data(b"\x17\x03\x03\x00\x20" + bytes(32))
    close = WindDown(us, linger_bytes=CAP, scratch=BUFFER, unacknowledged=lambda: 0)
    close.begin(Goal.SEE_ALERT_OFF, deadline=ALERT_PATIENCE)
    assert [close.next_step(0), close.next_step(0)] == [Step.WRITE, Step.FLUSH]
    assert outbound(us) is Outbound.FATAL_ALERT
    take(us)
    assert close.next_step(0) is Step.FIN
    us.sent_fin()
    assert close.next_step(0) is Step.LINGER
    assert close.next_step(ALERT_PATIENCE / 2) is Step.LINGER
    assert close.next_step(ALERT_PATIENCE) is Step.RELEASE
    assert not close.gave_up, "its end is no deadline of the application's"


def test_where_there_is_no_fatal_alert_there_is_nothing_to_see_off(us: Engine) -> None:
    close = begun(us, goal=Goal.SEE_ALERT_OFF)
    assert [close.next_step(0), close.next_step(0)] == [Step.WRITE, Step.RELEASE]


def test_a_fin_that_comes_after_we_began_to_leave_is_no_truncation(us: Engine) -> None:
    close = begun(us)
    us.receive_eof()
    assert close.next_step(0) is Step.WRITE
    take(us)
    assert close.next_step(0) is Step.FIN
    us.sent_fin()
    assert close.next_step(0) is Step.RELEASE
    assert us.verdict() is How.UNANSWERED


def test_what_the_wind_down_records_is_ours(us: Engine) -> None:
    close = wind_down(us, cap=0)
    close.begin(Goal.CLOSE, deadline=0)
    assert close.next_step(0) is Step.WRITE
    take(us)
    assert close.next_step(0) is Step.FIN
    us.sent_fin()
    assert close.next_step(0) is Step.RELEASE
    assert close.room() == 0
    close.released()
    told = {event.kind: event.by for event in us.timeline.events()}
    assert {told[kind] for kind in (EventKind.DEADLINE, EventKind.CAP, EventKind.RELEASED)} == {Side.WE}


def test_what_is_unacknowledged_is_bytes_unless_it_is_said_otherwise(us: Engine) -> None:
    close = begun(us, Kernel(5))
    to_linger(close, us)
    close.release()
    assert close.build_ending(peer="", began=0, reason="").unacknowledged == 5


def test_a_connection_that_is_gone_is_looked_at_once_more(us: Engine, them: Engine) -> None:
    close = begun(us)
    assert close.next_step(0) is Step.WRITE
    us.send_failed()
    assert close.next_step(0) is Step.WRITE, "what had arrived may say why"
    give(close, us, close_notify(them))
    assert close.next_step(0) is Step.RELEASE
    assert us.inbound is Inbound.CLOSE_NOTIFY


def test_a_handshake_that_is_not_done_is_left(two: EnginePair) -> None:
    assert two.client.handshake_done
    fresh = Engine(
        two.client.tls.context, role=two.client.role, server_hostname="peer.example", timeline=two.client.timeline
    )
    close = begun(fresh)
    assert [close.next_step(0), close.next_step(0)] == [Step.WRITE, Step.FIN]
    fresh.sent_fin()
    assert close.next_step(0) is Step.RELEASE
    assert fresh.verdict() is How.FAILED_HANDSHAKE


# -- the ending --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "counts_bytes", "told"), [(5, True, 5), (5, False, None), (0, False, 0), (None, True, None)]
)
def test_what_the_peer_has_not_acknowledged_is_told(
    us: Engine, said: int | None, counts_bytes: bool, told: int | None
) -> None:
    close = begun(us, Kernel(said))
    to_linger(close, us)
    close.release(counts_bytes=counts_bytes)
    assert close.build_ending(peer="", began=0, reason="").unacknowledged == told


def test_of_a_connection_that_is_gone_no_acknowledgement_is_told(us: Engine) -> None:
    kernel = Kernel(5)
    close = begun(us, kernel)
    us.receive_reset()
    close.release()
    assert kernel.asked == 0
    assert close.build_ending(peer="", began=0, reason="").unacknowledged is None


def test_the_release_is_told_and_so_is_what_it_was(us: Engine) -> None:
    close = begun(us)
    close.released()
    close.released(unwrapped=True)
    close.released(unwrapped=True, detail="the pipe goes on")
    assert [event.detail for event in us.timeline.events() if event.kind is EventKind.RELEASED] == [
        "",
        "the TCP connection goes on",
        "the pipe goes on",
    ]
    ending = close.build_ending(peer="them", began=3.0, reason="because")
    assert (ending.peer, ending.began, ending.reason, ending.unwrapped) == ("them", 3.0, "because", False)


def test_the_deadline_is_told_as_it_was_shortened(us: Engine) -> None:
    close = wind_down(us)
    assert close.deadline == math.inf
    close.begin(Goal.CLOSE, deadline=DEADLINE)
    close.shorten_deadline(DEADLINE - 1)
    close.shorten_deadline(DEADLINE + 1)
    assert close.deadline == DEADLINE - 1


def test_the_verb_is_told(us: Engine) -> None:
    close = WindDown(us, linger_bytes=CAP, scratch=BUFFER, unacknowledged=lambda: 1)
    assert (close.leaving, close.goal) == (False, Goal.CLOSE)
    close.leave("close()")
    assert close.leaving
    assert [event.detail for event in us.timeline.events() if event.kind is EventKind.CALL] == ["close()"]


def test_an_exception_in_the_engine_tears_it(us: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def strike(scratch: memoryview) -> int:
        raise KeyboardInterrupt

    close = begun(us)
    us.incoming.held += b"something to discard"
    monkeypatch.setattr(us, "discard", strike)
    with pytest.raises(KeyboardInterrupt):
        close.discard()
    assert us.torn == "KeyboardInterrupt"
    monkeypatch.undo()
    assert close.build_ending(peer="", began=0, reason="left").reason == "torn by KeyboardInterrupt"
    assert [close.next_step(0), close.next_step(0)] == [Step.WRITE, Step.FIN]
