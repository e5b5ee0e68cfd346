"""The ways in which the other side of a library ends a connection, in the middle of a message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bowout.testing import Act

#: The name of an alert by which implementations say that they failed.
ALERT: Final = "internal_error"


@dataclass(frozen=True)
class End:
    """One way to end.

    Attributes:
        name: for the tables.
        do: ends the connection; its second argument is the part of the message that was not sent.
        vouches: close_notify says that the sender had nothing more to say. A message that only the end of the
            connection ends is whole then, however short it is.
        answers: the first part of the message is sent before.
    """

    name: str
    do: Callable[[Act, bytes], None]
    vouches: bool = False
    answers: bool = True

    def __str__(self) -> str:
        return self.name


def _close_notify(act: Act, _rest: bytes) -> None:
    act.close_notify()
    act.fin()


def _fin(act: Act, _rest: bytes) -> None:
    act.fin()


def _cut_record(act: Act, rest: bytes) -> None:
    act.cut_record(rest)
    act.fin()


def _cut_close_notify(act: Act, _rest: bytes) -> None:
    act.cut_close_notify(at=-1)
    act.fin()


def _rst(act: Act, _rest: bytes) -> None:
    act.rst()


def _alert(act: Act, _rest: bytes) -> None:
    act.alert("fatal", ALERT)
    act.fin()


AT_ONCE: Final = End("close_notify instead of an answer", _close_notify, vouches=True, answers=False)
VOUCHED: Final = End("close_notify", _close_notify, vouches=True)
FIN: Final = End("FIN between two records", _fin)
CUT_RECORD: Final = End("FIN inside a record", _cut_record)
CUT_CLOSE_NOTIFY: Final = End("FIN inside close_notify", _cut_close_notify)
RST: Final = End("RST", _rst)
ALERTED: Final = End(f"the fatal alert {ALERT}", _alert)

#: After the first part of a message.
ENDS: Final[tuple[End, ...]] = (VOUCHED, FIN, CUT_RECORD, CUT_CLOSE_NOTIFY, RST, ALERTED, AT_ONCE)
