"""Endings in which every record is legal, but the order or the time is wrong, or something is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bowout.ending import How
from bowout.testing._catalogue import Outcome, You
from bowout.testing._define import (
    AT_BOUNDARY,
    CLEAN,
    CLOSED,
    GREETING,
    INSIDE,
    LATE,
    NO_HANDSHAKE,
    PLAIN,
    UNANSWERED,
    begin,
    begin_closing,
    end,
    ending,
    expect,
)

if TYPE_CHECKING:
    from bowout.testing._act import Act

#: Bytes of a flood: more than the other side can receive within a peer's timeout.
_FLOOD: int = 1 << 40
_DRIP: int = 1 << 20
_PROGRESS: bytes = b"so far so good\n" * 4096
_BOTH: str = "RFC 5246 section 7.2.1, RFC 8446 section 6.1"

# -- row 1


@ending(1, You.READ, CLEAN)
def close_notify_then_fin(act: Act) -> None:
    """It sends close_notify, then FIN: as it should be."""
    begin(act)
    end(act)


@ending(1, You.CLOSE, CLOSED)
def answers_close_notify(act: Act) -> None:
    """It answers close_notify with its own, then sends FIN: as it should be, when you begin."""
    begin_closing(act)
    end(act)


# -- row 2


@ending(2, You.READ, CLEAN, rfc=_BOTH)
def close_notify_tcp_open(act: Act) -> None:
    """It sends close_notify, and leaves the TCP connection open."""
    begin(act)
    act.close_notify()
    act.silence()


@ending(2, You.REPLY, CLEAN, tls=("1.3",))
def close_notify_then_reads_on(act: Act) -> None:
    """It sends close_notify, and reads on what is still sent to it: a half-close."""
    begin(act)
    act.close_notify()
    act.silence()


# -- row 3


@ending(3, You.CLOSE, CLOSED)
def close_notify_crossing(act: Act) -> None:
    """It sends close_notify while you close, so that the two cross, and FIN when it has read yours."""
    begin(act)
    act.close_notify()
    act.wait_for("close_notify")
    act.fin()


# -- row 4


@ending(4, You.READ, AT_BOUNDARY)
def fin_at_boundary(act: Act) -> None:
    """It sends FIN between two records, without close_notify."""
    begin(act)
    act.fin()


# -- row 5


@ending(5, You.READ, INSIDE)
def fin_inside_record(act: Act) -> None:
    """It sends FIN in the middle of a record of data."""
    begin(act)
    act.cut_record(LATE)
    act.fin()


@ending(5, You.READ, INSIDE)
def fin_inside_header(act: Act) -> None:
    """It sends FIN in the middle of a record's header."""
    begin(act)
    act.cut_record(LATE, at=3)
    act.fin()


@ending(5, You.READ, INSIDE)
def fin_inside_close_notify(act: Act) -> None:
    """It sends FIN one byte before the end of its close_notify."""
    begin(act)
    act.cut_close_notify(at=-1)
    act.fin()


# -- row 6


@ending(6, You.READ, expect(How.RESET, Outcome.RESET, close_notify=None))
def rst_before_close_notify(act: Act) -> None:
    """It resets the connection, without close_notify."""
    begin(act)
    act.rst()


@ending(6, You.CLOSE, expect(How.RESET, Outcome.CLOSED))
def rst_answers_close_notify(act: Act) -> None:
    """It answers close_notify with RST."""
    begin_closing(act)
    act.rst()


@ending(6, You.READ, expect({How.CLEAN, How.RESET}, Outcome.EOF, close_notify=None))
def rst_right_after_close_notify(act: Act) -> None:
    """It sends close_notify and resets the connection at once, whatever you still have to send."""
    begin(act)
    act.close_notify()
    act.rst()


@ending(6, You.READ, CLEAN)
def rst_after_close_notify(act: Act) -> None:
    """It sends close_notify, reads yours, and resets the connection when both are exchanged."""
    begin(act)
    act.close_notify()
    act.wait_for("close_notify")
    act.rst()


# -- row 7


@ending(7, You.CLOSE_IN_TIME, UNANSWERED)
def silent_after_close_notify(act: Act) -> None:
    """It never answers close_notify, and keeps the TCP connection open."""
    begin(act)
    act.silence()


# -- row 8


@ending(8, You.BLOCKED_SEND, expect(How.UNFLUSHED, Outcome.CLOSED, close_notify=0))
def never_reads(act: Act) -> None:
    """It never reads, so that what you send fills all buffers, and close_notify cannot leave."""
    begin(act)
    act.stop_reading()
    act.silence()


# -- row 9


@ending(9, You.CLOSE, UNANSWERED)
def fin_answers_close_notify(act: Act) -> None:
    """It answers close_notify with a bare FIN."""
    begin_closing(act)
    act.fin()


@ending(9, You.CLOSE, UNANSWERED)
def fin_inside_record_answers_close_notify(act: Act) -> None:
    """It answers close_notify with half a record, and FIN."""
    begin_closing(act)
    act.cut_record(LATE)
    act.fin()


# -- row 10


@ending(10, You.HALF_CLOSE, expect(How.CLEAN, Outcome.EOF, data=GREETING + LATE), rfc=_BOTH)
def data_after_half_close(act: Act) -> None:
    """It reads close_notify, and sends the rest of its data before its own: a half-close is for that."""
    begin_closing(act)
    act.send(LATE)
    end(act)


@ending(10, You.CLOSE, expect(How.CLEAN, Outcome.CLOSED, discarded=len(LATE)), rfc=_BOTH)
def data_after_our_close_notify(act: Act) -> None:
    """It reads close_notify, and sends data before its own, although you have closed."""
    begin_closing(act)
    act.send(LATE)
    end(act)


# -- row 11


@ending(11, You.CLOSE_IN_TIME, expect(How.UNANSWERED, Outcome.CLOSED, discarded=1))
def floods_after_close_notify(act: Act) -> None:
    """It reads close_notify, and sends data as fast as it can, without end."""
    begin_closing(act)
    act.flood(_FLOOD)


@ending(11, You.CLOSE_IN_TIME, expect(How.UNANSWERED, Outcome.CLOSED, discarded=1))
def drips_after_close_notify(act: Act) -> None:
    """It reads close_notify, and sends a byte of data now and then, without end."""
    begin_closing(act)
    act.drip(bytes(_DRIP))


# -- row 22


def _in_handshake(act: Act) -> None:
    """Stop where the other side waits for us. In TLS 1.3, only a client's Finished is missing then."""
    act.handshake(stop_at="hello" if act.role == "server" else "flight")


@ending(22, You.HANDSHAKE, NO_HANDSHAKE, sends=b"")
def fin_in_handshake(act: Act) -> None:
    """It sends FIN in the middle of the handshake."""
    _in_handshake(act)
    act.fin()


@ending(22, You.HANDSHAKE, NO_HANDSHAKE, sends=b"")
def rst_in_handshake(act: Act) -> None:
    """It resets the connection in the middle of the handshake."""
    _in_handshake(act)
    act.rst()


@ending(22, You.HANDSHAKE, NO_HANDSHAKE, sends=b"", rfc="RFC 8446 section 6.2")
def alert_in_handshake(act: Act) -> None:
    """It refuses the handshake with a fatal alert, and sends FIN."""
    _in_handshake(act)
    act.alert("fatal", "handshake_failure")
    act.fin()


@ending(22, You.HANDSHAKE, NO_HANDSHAKE, sends=b"")
def close_notify_in_handshake(act: Act) -> None:
    """It sends close_notify in the middle of the handshake, and FIN."""
    _in_handshake(act)
    end(act)


@ending(22, You.LEAVE_HANDSHAKE, NO_HANDSHAKE, sends=b"")
def silent_in_handshake(act: Act) -> None:
    """It falls silent in the middle of the handshake, so that you have to leave."""
    _in_handshake(act)
    act.silence()


# -- row 23


@ending(23, You.READ, CLEAN)
def close_notify_with_last_data(act: Act) -> None:
    """It sends its last data and close_notify in one segment."""
    act.handshake()
    with act.one_segment():
        act.send(GREETING)
        act.close_notify()
    act.fin()


@ending(23, You.READ, CLEAN)
def close_notify_byte_by_byte(act: Act) -> None:
    """It sends its last data and close_notify one byte at a time."""
    act.handshake()
    with act.byte_by_byte():
        act.send(GREETING)
        act.close_notify()
    act.fin()


# -- row 24


@ending(24, You.UPLOAD, CLOSED)
def last_flight_unread(act: Act) -> None:
    """It sends its progress while you send, and you do not read it: all that you sent has to arrive nevertheless."""
    begin(act)
    act.send(_PROGRESS)
    act.wait_for("close_notify")
    end(act)


# -- rows 26 to 29: what is tested is what you do


@ending(26, You.CANCEL_CLOSE, expect({How.CLEAN, How.UNANSWERED}, Outcome.CLOSED))
def answers_when_told(act: Act) -> None:
    """It reads close_notify, and answers when the test calls `Peer.go`, or has ended."""
    begin_closing(act)
    act.ready()
    act.wait_for_go()
    end(act)


@ending(27, You.CANCEL_READ, CLOSED)
def idle_until_closed(act: Act) -> None:
    """It sends nothing while you wait for it, and answers your close_notify."""
    begin_closing(act)
    end(act)


@ending(28, You.CLOSE_IN_READ, CLOSED, sends=b"quit\n")
def says_quit(act: Act) -> None:
    """It tells you to quit, and answers your close_notify."""
    act.handshake()
    act.send(b"quit\n")
    act.wait_for("close_notify")
    end(act)


@ending(29, You.DRAIN, expect({How.CLEAN, How.UNANSWERED}, Outcome.CLOSED), connections=4)
def every_second_is_silent(act: Act) -> None:
    """Of its connections the first, the third and so on answer close_notify; the others never do."""
    begin_closing(act)
    if act.number % 2:
        act.silence()
    else:
        end(act)


# -- row 30


@ending(30, You.UNWRAP, expect(How.CLEAN, Outcome.EOF, plaintext=PLAIN), rfc=_BOTH)
def close_notify_then_plaintext(act: Act) -> None:
    """It sends close_notify, and goes on in plain text on the same TCP connection, in the same segment."""
    begin(act)
    with act.one_segment():
        act.close_notify()
        act.send_raw(PLAIN)
    act.silence()
