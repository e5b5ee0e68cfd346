"""Endings with records that no TLS library sends on request: illegal ones, unusual ones, and too many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bowout._core.records import record_header
from bowout._tls_numbers import APPLICATION_DATA
from bowout.ending import How
from bowout.testing._catalogue import Outcome, You
from bowout.testing._define import (
    CLEAN,
    CLOSED,
    GREETING,
    LATE,
    TRUNCATED,
    VIOLATION,
    begin,
    begin_closing,
    end,
    ending,
    expect,
)

if TYPE_CHECKING:
    from bowout.testing._act import Act

_ALERTS: str = "RFC 8446 section 6"
_ERRORS: str = "RFC 8446 section 6.2"
_RECORDS: str = "RFC 8446 section 5.1"
_GARBAGE: bytes = record_header(APPLICATION_DATA, 64) + b"\x5a" * 64

# -- row 12


@ending(12, You.READ, CLEAN)
def data_after_close_notify(act: Act) -> None:
    """It sends data after its own close_notify, which has to be ignored."""
    begin(act)
    act.close_notify()
    act.send(LATE)
    act.fin()


@ending(12, You.READ, CLEAN)
def garbage_after_close_notify(act: Act) -> None:
    """It sends a record that cannot be decrypted after its close_notify."""
    begin(act)
    act.close_notify()
    act.send_raw(_GARBAGE)
    act.fin()


@ending(12, You.READ, CLEAN)
def second_close_notify(act: Act) -> None:
    """It sends close_notify twice."""
    begin(act)
    act.close_notify()
    end(act)


# -- row 13


@ending(13, You.READ, expect(How.ALERT, Outcome.ALERT, alert="internal_error", close_notify=0), rfc=_ERRORS)
def fatal_alert_before_close_notify(act: Act) -> None:
    """It sends a fatal alert, and FIN."""
    begin(act)
    act.alert("fatal", "internal_error")
    act.fin()


@ending(13, You.CLOSE, expect(How.ALERT, Outcome.CLOSED, alert="internal_error"), rfc=_ERRORS)
def fatal_alert_after_close_notify(act: Act) -> None:
    """It answers close_notify with a fatal alert, and FIN: it has not taken all that was sent."""
    begin_closing(act)
    act.alert("fatal", "internal_error")
    act.fin()


# -- row 14

_WARNED = expect(How.ALERT, Outcome.ALERT, alert="unrecognized_name", close_notify=0)
_NOTED = expect(How.CLEAN, Outcome.EOF, data=GREETING + LATE)


@ending(14, You.READ, _WARNED, rfc=_ALERTS, otherwise={("1.2", "server"): _NOTED, ("1.2", "client"): _NOTED})
def warning_alert(act: Act) -> None:
    """It sends an alert at level warning, more data and close_notify; in TLS 1.3 that level means nothing."""
    begin(act)
    act.alert("warning", "unrecognized_name")
    act.send(LATE)
    end(act)


@ending(14, You.READ, VIOLATION, rfc="RFC 5246 section 7.2.2", tls=("1.2",))
def warning_alert_storm(act: Act) -> None:
    """It sends warnings without end, more than a receiver has to accept."""
    begin(act)
    for _ in range(100):
        act.alert("warning", "unrecognized_name")
    act.silence()


# -- row 15


@ending(15, You.READ, CLEAN)
def user_canceled_then_close_notify(act: Act) -> None:
    """It sends user_canceled, then close_notify, as TLS 1.3 allows."""
    begin(act)
    act.alert("warning", "user_canceled")
    end(act)


@ending(15, You.READ, TRUNCATED)
def user_canceled_then_fin(act: Act) -> None:
    """It sends user_canceled, then FIN, without close_notify."""
    begin(act)
    act.alert("warning", "user_canceled")
    act.fin()


# -- row 16


@ending(16, You.READ, expect(How.ALERT, Outcome.ALERT, alert="unknown_alert_200", close_notify=0), rfc=_ERRORS)
def unknown_alert(act: Act) -> None:
    """It sends a fatal alert that no RFC defines."""
    begin(act)
    act.alert("fatal", 200)
    act.fin()


_REFUSED = expect(How.ALERT, Outcome.ALERT, alert="close_notify", close_notify=0)


@ending(16, You.READ, CLEAN, rfc=_ALERTS, otherwise={("1.2", "server"): _REFUSED, ("1.2", "client"): _REFUSED})
def fatal_close_notify(act: Act) -> None:
    """It sends close_notify at level fatal, which in TLS 1.3 means nothing."""
    begin(act)
    act.close_notify("fatal")
    act.fin()


# -- row 17


@ending(17, You.READ, VIOLATION, rfc=_RECORDS, tls=("1.3",))
def two_alerts_in_a_record(act: Act) -> None:
    """It sends close_notify twice in one record."""
    begin(act)
    act.doubled_alert()
    act.fin()


@ending(17, You.READ, VIOLATION, rfc=_RECORDS, tls=("1.3",))
def split_alert(act: Act) -> None:
    """It sends close_notify in two records."""
    begin(act)
    act.split_alert()
    act.fin()


@ending(17, You.READ, VIOLATION, rfc=_RECORDS, tls=("1.3",))
def empty_alert(act: Act) -> None:
    """It sends a record of type alert with nothing in it."""
    begin(act)
    act.empty_alert()
    act.fin()


# -- row 18


@ending(18, You.READ, VIOLATION, rfc="RFC 8446 section 5.2")
def plaintext_close_notify(act: Act) -> None:
    """An attacker on the path injects a close_notify that is not encrypted."""
    begin(act)
    act.plaintext_close_notify()
    act.fin()


# -- row 19

_TICKETS: str = "RFC 8446 section 4.6.1"


@ending(19, You.READ, CLEAN, rfc=_TICKETS, tls=("1.3",), roles=("server",))
def tickets_before_close_notify(act: Act) -> None:
    """It sends session tickets before its data, and before its close_notify."""
    act.handshake()
    act.session_ticket()
    act.send(GREETING)
    act.session_ticket()
    end(act)


@ending(19, You.CLOSE, CLOSED, rfc=_TICKETS, tls=("1.3",), roles=("server",))
def tickets_between_close_notify(act: Act) -> None:
    """It reads close_notify, and sends session tickets before its own."""
    begin_closing(act)
    act.session_ticket()
    act.session_ticket()
    end(act)


@ending(19, You.READ, CLEAN, rfc=_TICKETS, tls=("1.3",), roles=("server",))
def tickets_after_close_notify(act: Act) -> None:
    """It sends session tickets after its close_notify."""
    begin(act)
    act.close_notify()
    act.session_ticket()
    act.session_ticket()
    act.fin()


# -- row 20

_KEYS: str = "RFC 8446 section 4.6.3"
_ALL = expect(How.CLEAN, Outcome.EOF, data=GREETING + LATE)


@ending(20, You.READ, _ALL, rfc=_KEYS, tls=("1.3",))
def key_update_then_data(act: Act) -> None:
    """It changes its keys, and goes on sending with the new ones."""
    begin(act)
    act.key_update()
    act.send(LATE)
    end(act)


@ending(20, You.READ, CLEAN, rfc=_KEYS, tls=("1.3",))
def key_update_requested_then_close_notify(act: Act) -> None:
    """It changes its keys, asks you to do the same, and sends close_notify."""
    begin(act)
    act.key_update(request=True)
    end(act)


@ending(20, You.CLOSE, CLOSED, rfc=_KEYS, tls=("1.3",))
def key_update_after_our_close_notify(act: Act) -> None:
    """It reads close_notify, asks you to change your keys, and sends its own; nothing may follow yours."""
    begin_closing(act)
    act.key_update(request=True)
    end(act)


@ending(20, You.READ, _ALL, rfc=_KEYS, tls=("1.3",))
def key_update_storm(act: Act) -> None:
    """It changes its keys a hundred times before its last data."""
    begin(act)
    for _ in range(100):
        act.key_update()
    act.send(LATE)
    end(act)


# -- row 21

_RENEGOTIATION: str = "RFC 5246 section 7.4.1.1"


@ending(21, You.READ, CLEAN, rfc=_RENEGOTIATION, tls=("1.2",))
def renegotiation_then_close_notify(act: Act) -> None:
    """It asks for a new handshake, and sends close_notify without waiting for one."""
    begin(act)
    act.renegotiate()
    end(act)


@ending(21, You.CLOSE, CLOSED, rfc=_RENEGOTIATION, tls=("1.2",))
def renegotiation_while_closing(act: Act) -> None:
    """It reads close_notify, asks for a new handshake, and sends its own close_notify."""
    begin_closing(act)
    act.renegotiate()
    end(act)


# -- row 25


@ending(25, You.READ, CLEAN, rfc=_RECORDS)
def empty_records_before_close_notify(act: Act) -> None:
    """It sends a few records without data before close_notify."""
    begin(act)
    act.empty_record(8)
    end(act)


@ending(25, You.READ, VIOLATION, rfc=_RECORDS)
def empty_record_storm(act: Act) -> None:
    """It sends records without data, more than a receiver has to accept."""
    begin(act)
    act.empty_record(1000)
    act.silence()
