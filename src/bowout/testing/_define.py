"""The notation for entries of the catalogue: a decorated script, whose docstring's first line is the summary."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, get_args

from bowout.ending import How, Inbound
from bowout.testing._catalogue import Entry, Expect, Outcome, PeerRole, Script, You
from bowout.testing._identity import TLSVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bowout.testing._act import Act

#: The data that most peers send first.
GREETING: Final = b"hello, and well met\n"
#: The data that some peers send after they should have stopped.
LATE: Final = b"one more thing\n"
#: The plain text that some peers send after TLS.
PLAIN: Final = b"220 in plain again\r\n"

RFC13: Final = "RFC 8446 section 6.1"

_VERSIONS: Final[tuple[TLSVersion, ...]] = get_args(TLSVersion)
_ROLES: Final[tuple[PeerRole, ...]] = get_args(PeerRole)


def expect(how: How | Iterable[How], outcome: Outcome, **facts: Any) -> Expect:
    """Return a correct result with the usual data; `close_notify` may be one number or several."""
    hows = frozenset({how} if isinstance(how, How) else how)
    if "close_notify" in facts:
        seen = facts["close_notify"]
        facts["close_notify"] = frozenset({seen} if isinstance(seen, int) else seen) if seen is not None else None
    return Expect(how=hows, outcome=outcome, **({"data": GREETING} | facts))


CLEAN: Final = expect(How.CLEAN, Outcome.EOF)
CLOSED: Final = expect(How.CLEAN, Outcome.CLOSED)
UNANSWERED: Final = expect(How.UNANSWERED, Outcome.CLOSED)
#: RFC 8446 requires close_notify unless an error alert was sent, and a truncation may be reported by such an alert.
TRUNCATED: Final = expect(How.TRUNCATED, Outcome.TRUNCATED, close_notify={0, 1})
INSIDE: Final = dataclasses.replace(TRUNCATED, inbound=Inbound.TRUNCATED_INSIDE_RECORD)
AT_BOUNDARY: Final = dataclasses.replace(TRUNCATED, inbound=Inbound.TRUNCATED_AT_BOUNDARY)
VIOLATION: Final = expect(How.ALERT, Outcome.VIOLATION, close_notify=0)
NO_HANDSHAKE: Final = expect(How.FAILED_HANDSHAKE, Outcome.HANDSHAKE_ERROR, data=b"", close_notify=0)


def ending(
    row: int,
    you: You,
    right: Expect,
    *,
    rfc: str = RFC13,
    sends: bytes = GREETING,
    connections: int = 1,
    tls: tuple[TLSVersion, ...] = _VERSIONS,
    roles: tuple[PeerRole, ...] = _ROLES,
    otherwise: dict[tuple[TLSVersion, PeerRole], Expect] | None = None,
) -> Callable[[Script], Entry]:
    """Make an entry of a script: `right` is correct for all `tls` and `roles`, except those in `otherwise`."""
    if sends != GREETING and right.data == GREETING:
        right = dataclasses.replace(right, data=sends)
    expectations = {(version, role): right for version in tls for role in roles} | (otherwise or {})

    def make(script: Script) -> Entry:
        return Entry(
            name=script.__name__,
            row=row,
            summary=(script.__doc__ or "").strip().partition("\n")[0],
            rfc=rfc,
            you=you,
            sends=sends,
            connections=connections,
            script=script,
            expectations=MappingProxyType(expectations),
        )

    return make


def begin(act: Act) -> None:
    """Perform the handshake, and send the greeting."""
    act.handshake()
    act.send(GREETING)


def begin_closing(act: Act) -> None:
    """Do the same, and wait for the other side's close_notify."""
    begin(act)
    act.wait_for("close_notify")


def end(act: Act) -> None:
    """End TLS and TCP: send close_notify and FIN."""
    act.close_notify()
    act.fin()
