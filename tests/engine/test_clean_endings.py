"""close_notify in every order, half-close, and what follows the peer's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme

from bowout.ending import EventKind, How, Outbound, Side
from bowout.errors import (
    PeerClosed,
    ProtocolViolation,
    StreamClosed,
    Truncated,
)
from helpers.engines import (
    BUFFER,
    close_notify,
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


# -- the clean endings -----------------------------------------------------------------------------------------------


def test_close_notify_ends_the_peers_reading(us: Engine, them: Engine) -> None:
    send(us, b"last")
    us.queue_close_notify()
    them.receive_data(take(us))
    assert (read(them), read(them), read(them)) == (b"last", b"", b"")


def test_it_is_sent_when_the_kernel_has_it(us: Engine) -> None:
    us.queue_close_notify()
    queued = us.outbound
    take(us)
    assert (queued, us.outbound) == (Outbound.CLOSE_NOTIFY_QUEUED, Outbound.CLOSE_NOTIFY_SENT)


def test_a_part_of_it_is_not_sent(us: Engine) -> None:
    us.queue_close_notify()
    take(us, us.outgoing.size - 1)
    assert us.outbound is Outbound.CLOSE_NOTIFY_QUEUED


def test_a_second_one_is_never_made(us: Engine) -> None:
    close_notify(us)
    assert close_notify(us) == b""


def test_tls12_answers_at_once(ca: trustme.CA) -> None:
    two = established(ca, "1.2")
    two.server.receive_data(close_notify(two.client))
    assert read(two.server) == b""
    assert two.server.outbound is Outbound.CLOSE_NOTIFY_QUEUED


def test_tls13_goes_on_sending_after_the_peers_close_notify(ca: trustme.CA) -> None:
    two = established(ca, "1.3")
    two.server.receive_data(close_notify(two.client))
    assert read(two.server) == b""
    send(two.server, b"reply")
    two.move(two.server)
    assert read(two.client) == b"reply"


def test_data_after_our_close_notify_is_read(us: Engine, them: Engine) -> None:
    close_notify(us)
    send(them, b"reply")
    us.receive_data(take(them))
    assert read(us) == b"reply"


def test_nothing_can_be_written_after_it(us: Engine) -> None:
    us.queue_close_notify()
    with pytest.raises(StreamClosed, match="our direction"):
        us.outgoing.write(memoryview(b"x"))


def test_in_tls12_the_peers_close_notify_ends_our_writing(ca: trustme.CA) -> None:
    two = established(ca, "1.2")
    two.server.receive_data(close_notify(two.client))
    read(two.server)
    with pytest.raises(PeerClosed, match=r"in TLS 1\.2 ends both directions"):
        two.server.outgoing.write(memoryview(b"x"))


def test_an_exchange_is_clean_on_both_sides(us: Engine, them: Engine) -> None:
    them.receive_data(close_notify(us))
    read(them)
    us.receive_data(close_notify(them) or b"")
    read(us)
    assert (us.verdict(), them.verdict()) == (How.CLEAN, How.CLEAN)


def test_crossing_close_notifies_are_clean_with_one_each(us: Engine, them: Engine) -> None:
    ours, theirs = close_notify(us), close_notify(them)
    us.receive_data(theirs)
    them.receive_data(ours)
    assert (read(us), read(them)) == (b"", b"")
    assert (us.verdict(), them.verdict(), us.outgoing.size, them.outgoing.size) == (How.CLEAN, How.CLEAN, 0, 0)


def test_it_is_not_clean_before_the_kernel_took_ours(us: Engine, them: Engine) -> None:
    us.receive_data(close_notify(them))
    read(us)
    us.queue_close_notify()
    assert us.verdict() is How.UNFLUSHED


def test_the_times_of_both_are_known(us: Engine, them: Engine) -> None:
    us.receive_data(close_notify(them))
    read(us)
    close_notify(us)
    take(us)
    end = us.build_ending()
    assert (end.close_notify_sent_at, end.close_notify_received_at) == (0.0, 0.0)


@pytest.mark.parametrize("first", [True, False])
def test_who_began_is_known(us: Engine, them: Engine, first: bool) -> None:
    if first:
        us.queue_close_notify()
    us.receive_data(close_notify(them))
    read(us)
    us.queue_close_notify()
    assert us.build_ending().started_by is (Side.WE if first else Side.PEER)


def test_a_call_begins_it(us: Engine) -> None:
    us.record_call("close()", leaving=True)
    assert (us.build_ending().started_by, us.timeline.events()[-1].detail) == (Side.WE, "close()")


def test_data_in_one_segment_with_close_notify(us: Engine, them: Engine) -> None:
    send(us, b"a")
    send(us, b"b")
    us.queue_close_notify()
    them.receive_data(take(us))
    assert read_out(them) == (b"ab", None)


def test_what_was_decrypted_when_we_closed_stays_readable(us: Engine, them: Engine) -> None:
    send(them, bytes(60_000))
    us.receive_data(take(them))
    close_notify(us)
    assert read_all(us) == bytes(60_000)


def test_what_is_held_is_discarded_if_nobody_reads_it(us: Engine, them: Engine) -> None:
    send(them, b"unread")
    us.receive_data(take(them))
    close_notify(us)
    assert us.build_ending().discarded == 6


def test_what_is_read_for_nobody_is_discarded(us: Engine, them: Engine) -> None:
    send(them, b"unread")
    us.receive_data(take(them))
    assert (us.discard(BUFFER), us.discard(BUFFER)) == (6, None)
    assert us.build_ending().discarded == 6


def test_held_data_comes_in_pieces_as_small_as_asked_for(us: Engine, them: Engine) -> None:
    send(them, b"unread")
    us.receive_data(take(them))
    close_notify(us)
    assert [read(us, 4), read(us, 4), read(us, 4)] == [b"unre", b"ad", None]


def test_a_second_close_keeps_what_is_held(us: Engine, them: Engine) -> None:
    send(them, b"unread")
    us.receive_data(take(them))
    close_notify(us)
    us.queue_close_notify()
    assert read(us) == b"unread"


def test_a_close_notify_found_while_closing_comes_after_what_is_held(us: Engine, them: Engine) -> None:
    send(them, b"unread")
    them.queue_close_notify()
    us.receive_data(take(them))
    close_notify(us)
    assert (us.build_ending().started_by, read(us), read(us)) == (Side.PEER, b"unread", b"")


def test_an_error_found_while_closing_is_met_by_the_reader(us: Engine, them: Engine) -> None:
    send(them, b"unread")
    first = take(them)
    send(them, b"broken")
    us.receive_data(first + flipped(take(them)))
    us.queue_close_notify()
    data, error = read_out(us)
    assert (data, type(error)) == (b"unread", ProtocolViolation)


def test_a_fin_that_was_seen_before_we_close_is_met_by_the_reader(us: Engine, them: Engine) -> None:
    send(them, b"unread")
    us.receive_data(take(them))
    us.receive_eof()
    close_notify(us)
    data, error = read_out(us)
    assert (data, type(error)) == (b"unread", Truncated)


def test_closing_loses_nothing_of_what_came_before_a_fin(us: Engine, them: Engine) -> None:
    send(them, bytes(100_000))
    us.receive_data(take(them))
    us.receive_eof()
    close_notify(us)
    data, error = read_out(us)
    assert (len(data), type(error)) == (100_000, Truncated)


def test_our_fin_is_noted(us: Engine) -> None:
    close_notify(us)
    us.sent_fin()
    assert (us.fin_sent, us.outbound, kinds(us)[-1]) == (True, Outbound.FIN_SENT, EventKind.FIN)


def test_a_fin_without_close_notify_cuts(us: Engine) -> None:
    us.sent_fin()
    assert (us.outbound, us.verdict()) == (Outbound.CUT, How.ABORTED)


def test_our_rst_is_an_abort(us: Engine) -> None:
    us.sent_rst()
    assert (us.outbound, us.verdict(), kinds(us)[-1]) == (Outbound.RESET, How.ABORTED, EventKind.RST)


# -- what follows the peer's close_notify ----------------------------------------------------------------------------


@pytest.mark.parametrize("later", [False, True])
def test_what_follows_close_notify_is_left_over(us: Engine, them: Engine, later: bool) -> None:
    plain = b"220 plain again\r\n"
    us.receive_data(close_notify(them) + (b"" if later else plain))
    read(us)
    if later:
        us.receive_data(plain)
    assert us.incoming.leftover() == plain


def test_a_long_leftover_is_whole(us: Engine, them: Engine) -> None:
    plain = bytes(range(250)) * 200
    us.receive_data(close_notify(them) + plain)
    read(us)
    us.receive_data(b"more")
    assert us.incoming.leftover() == plain + b"more"


def test_a_leftover_is_bounded(us: Engine, them: Engine) -> None:
    us.receive_data(close_notify(them))
    read(us)
    for _ in range(8):
        us.receive_data(bytes(100_000))
    assert len(us.incoming.leftover()) == 1 << 18


def test_what_a_leftover_has_no_room_for_is_counted(us: Engine, them: Engine) -> None:
    us.receive_data(close_notify(them))
    read(us)
    for _ in range(8):
        us.receive_data(bytes(100_000))
    assert us.build_ending().ignored == 800_000


def test_when_we_leave_it_is_only_counted(us: Engine, them: Engine) -> None:
    us.receive_data(close_notify(them))
    read(us)
    us.record_call("close()", leaving=True)
    us.receive_data(b"garbage")
    assert (us.build_ending().ignored, us.incoming.leftover()) == (7, b"")


def test_what_an_unwrap_hands_over_is_not_ignored(us: Engine, them: Engine) -> None:
    us.receive_data(close_notify(them) + b"plain")
    read(us)
    assert us.build_ending(unwrapped=True).ignored == 0


def test_after_a_bad_end_nothing_is_kept_or_counted(us: Engine) -> None:
    us.receive_eof()
    read_out(us)
    us.receive_data(b"ghost")
    assert (us.build_ending().ignored, us.incoming.leftover()) == (0, b"")


def test_an_answer_is_called_one_only_where_it_is_one(us: Engine, them: Engine) -> None:
    them.receive_data(close_notify(us))
    read(them)
    us.receive_data(close_notify(them))
    read(us)
    assert str(us.build_ending()).startswith("clean: we sent close_notify, the peer answered")
    assert str(them.build_ending()).startswith("clean: the peer sent close_notify, we answered")


def test_where_ours_waits_as_theirs_comes_nobody_answers(us: Engine, them: Engine) -> None:
    us.queue_close_notify()
    us.receive_data(close_notify(them))
    read(us)
    take(us)
    assert str(us.build_ending()).startswith("clean: both sent close_notify")
