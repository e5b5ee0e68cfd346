"""The type of the catalogue's entries."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from bowout.ending import How, Inbound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bowout.testing._act import Act
    from bowout.testing._identity import TLSVersion

Script = Callable[["Act"], object]
"""The behaviour of a peer on one connection."""

PeerRole = Literal["server", "client"]


class You(enum.StrEnum):
    """The action of the code under test that leads to the ending.

    If it closes by itself, it first receives ``entry.sends``, and nothing more.
    """

    #: No TLS connection is established.
    HANDSHAKE = "connect or accept; the handshake fails"
    #: Leave while the peer keeps the handshake waiting.
    LEAVE_HANDSHAKE = "close, or run into the handshake's deadline, while the peer is silent in the handshake"
    READ = "receive to the end, then close"
    #: As READ, and the data sent in between has to arrive.
    REPLY = "receive to the end, send something, then close"
    CLOSE = "close"
    #: With a short deadline, since the peer makes the close run into it.
    CLOSE_IN_TIME = "close with a short deadline"
    HALF_CLOSE = "half-close, receive to the end, then close"
    #: From inside the code that reacts to the data: situation 1.
    CLOSE_IN_READ = "close from inside the reaction to what was received"
    #: Situation 2.
    CANCEL_READ = "begin to receive, cancel that, then close"
    CANCEL_CLOSE = "close, and cancel it at any await; or close twice, or while receiving and sending"
    BLOCKED_SEND = "send more than all buffers hold, 32 MiB, at once, and close with a short deadline while that blocks"
    UPLOAD = "send a mebibyte and receive nothing, then close"
    UNWRAP = "end TLS, and keep the TCP connection"
    DRAIN = "have one connection to each of the peers, and end them all with one short deadline"


class Outcome(enum.StrEnum):
    """The result that a receiver must get in the end."""

    EOF = "the end of the stream"
    TRUNCATED = "a truncation"
    RESET = "a reset"
    ALERT = "the peer's alert"
    VIOLATION = "a protocol error"
    HANDSHAKE_ERROR = "a handshake error"
    #: The code under test closed by itself, and receives no more.
    CLOSED = "nothing: it has closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """The correct result of an ending, for the application and for its peer.

    Attributes:
        how: the correct verdicts of a `bowout.Ending`; mostly there is one.
        outcome: the result that a receiver gets in the end.
        data: all application data that must have been received by then.
        inbound: how the peer's direction must have ended, where that says more than `outcome`.
        alert: the name of the peer's alert that the application should be told of.
        discarded: the least number of bytes of application data that arrive after the close and are discarded.
        plaintext: the plain text after the peer's close_notify, for the next user of the TCP connection.
        close_notify: the numbers of close_notify that the peer may see; None if the peer no longer reads.
    """

    how: frozenset[How]
    outcome: Outcome
    data: bytes = b""
    inbound: Inbound | None = None
    alert: str | None = None
    discarded: int = 0
    plaintext: bytes = b""
    close_notify: frozenset[int] | None = frozenset({1})

    @property
    def never_clean(self) -> bool:
        """Whether it is wrong to call this a clean end."""
        return How.CLEAN not in self.how


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One named way to end a connection.

    Attributes:
        name: as `Peer` takes it.
        row: its number among the thirty endings, 1 to 30.
        summary: the peer's behaviour, in a sentence.
        rfc: the section that decides what is correct.
        you: the action of the code under test.
        sends: application data that the peer sends first.
        connections: the number of simultaneous connections that the ending is meant for.
        script: the peer's behaviour.
        expectations: the correct result, for each version of TLS and role *of the peer* for which the ending exists.
    """

    name: str
    row: int
    summary: str
    rfc: str
    you: You
    sends: bytes
    connections: int
    script: Script = field(repr=False)
    expectations: Mapping[tuple[TLSVersion, PeerRole], Expect] = field(repr=False, hash=False)

    def exists(self, tls: TLSVersion, role: PeerRole) -> bool:
        """Return whether the ending exists with this version of TLS, and the peer in this role."""
        return (tls, role) in self.expectations

    def cases(self) -> Iterator[tuple[TLSVersion, PeerRole, Expect]]:
        """Yield each case: the version, the role of the peer, and the correct result."""
        for (tls, role), expect in self.expectations.items():
            yield tls, role, expect

    def expect(self, tls: TLSVersion, role: PeerRole) -> Expect:
        """Return the correct result for this version of TLS and this role of the peer.

        Raises:
            ValueError: the ending does not exist there.
        """
        if not self.exists(tls, role):
            raise ValueError(f"the ending {self.name} does not exist in TLS {tls} with the peer as a {role}")
        return self.expectations[tls, role]
