"""Servers that end their answer in every wrong way, as scripts for `bowout.testing`."""

from __future__ import annotations

from collections.abc import Callable

from bowout.testing import Act, Script

BODY = b"all that there is to say"
SAID = len(BODY) // 2

End = Callable[[Act], object]


def close_notify(act: Act) -> None:
    """Close_notify, FIN"""
    act.close_notify()
    act.fin()


def fin_at_boundary(act: Act) -> None:
    """FIN between two records"""
    act.fin()


def fin_inside_record(act: Act) -> None:
    """FIN inside a record"""
    act.cut_record(BODY[SAID:])
    act.fin()


def fin_inside_header(act: Act) -> None:
    """FIN inside a record's header"""
    act.cut_record(BODY[SAID:], at=3)
    act.fin()


def fin_inside_close_notify(act: Act) -> None:
    """FIN inside close_notify"""
    act.cut_close_notify(at=-1)
    act.fin()


def user_canceled(act: Act) -> None:
    """The alert user_canceled, FIN"""
    act.alert("warning", "user_canceled")
    act.fin()


def rst(act: Act) -> None:
    """RST"""
    act.rst()


#: The endings after half of the body; all of them are wrong.
ENDS: tuple[End, ...] = (
    fin_at_boundary,
    fin_inside_record,
    fin_inside_header,
    fin_inside_close_notify,
    user_canceled,
    rst,
)

#: The ways to mark the end of a body: by the end of the connection, or in a header.
FRAMINGS: dict[str, bytes] = {
    "the end of the connection": b"",
    "Content-Length": b"Content-Length: %d\r\n" % len(BODY),
}


def answer(framing: str, end: End, body: bytes = BODY[:SAID]) -> Script:
    """Return a script that answers a request with `body`, half of the whole by default, and then calls `end`."""

    def script(act: Act) -> None:
        act.handshake()
        act.read_until(b"\r\n\r\n")
        act.send(b"HTTP/1.0 200 OK\r\n" + FRAMINGS[framing] + b"\r\n" + body)
        end(act)

    return script
