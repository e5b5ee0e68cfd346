"""What an entry of the catalogue of endings is."""

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
"""What a peer does on one connection."""

PeerRole = Literal["server", "client"]


class You(enum.StrEnum):
    """What the code under test has to do, so that it meets the ending.

    Where it closes by itself, it first receives ``entry.sends``, and nothing more.
    """

    #: No TLS connection comes of it.
    HANDSHAKE = "connect or accept; the handshake fails"
    #: Leave while the peer keeps the handshake waiting.
    LEAVE_HANDSHAKE = "close, or run into the handshake's deadline, while the peer is silent in the handshake"
    READ = "receive to the end, then close"
    #: As READ, and what is sent in between has to arrive.
    REPLY = "receive to the end, send something, then close"
    CLOSE = "close"
    #: With a deadline of its own, for the peer makes it run into that one.
    CLOSE_IN_TIME = "close with a short deadline"
    HALF_CLOSE = "half-close, receive to the end, then close"
    #: From inside whatever reacts to the data: situation 1.
    CLOSE_IN_READ = "close from inside the reaction to what was received"
    #: Situation 2.
    CANCEL_READ = "begin to receive, cancel that, then close"
    CANCEL_CLOSE = "close, and cancel it at any await; or close twice, or while receiving and sending"
    BLOCKED_SEND = "send more than all buffers hold, 32 MiB, at once, and close with a short deadline while that blocks"
    UPLOAD = "send a mebibyte and receive nothing, then close"
    UNWRAP = "end TLS, and keep the TCP connection"
    DRAIN = "have one connection to each of the peers, and end them all with one short deadline"


class Outcome(enum.StrEnum):
    """What whoever receives must meet in the end."""

    EOF = "the end of the stream"
    TRUNCATED = "a truncation"
    RESET = "a reset"
    ALERT = "the peer's alert"
    VIOLATION = "a protocol error"
    HANDSHAKE_ERROR = "a handshake error"
    #: The code under test closed by itself: nobody receives any more.
    CLOSED = "nothing: it has closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """What a good application sees of an ending, and the peer of it.

    Attributes:
        how: the verdicts of a `bowout.Ending` that are right; mostly there is one.
        outcome: what whoever receives meets in the end.
        data: all application data that must have been received by then.
        inbound: how the peer's direction must have ended, where that says more than `outcome`.
        alert: the name of the peer's alert that the application should hear of.
        discarded: at least so many bytes of application data come after the close, for nobody.
        plaintext: what follows the peer's close_notify in plain, and is for whoever goes on with the TCP connection.
        close_notify: how many of the application's the peer may see; None where the peer has stopped looking.
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
        """Whoever calls this a clean end is wrong."""
        return How.CLEAN not in self.how


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One named way to end a connection.

    Attributes:
        name: as `Peer` takes it.
        row: of the thirty endings, 1 to 30.
        summary: what the peer does, in a sentence.
        rfc: the section that decides what is right.
        you: what the code under test has to do.
        sends: application data that the peer sends first of all.
        connections: with how many connections at once it makes sense.
        script: what the peer does.
        expectations: what is right, for each version of TLS and each role *of the peer* for which the ending exists.
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
        """There is such an ending with this version of TLS, and the peer in this role."""
        return (tls, role) in self.expectations

    def cases(self) -> Iterator[tuple[TLSVersion, PeerRole, Expect]]:
        """All that there are: version, role of the peer, and what is right."""
        for (tls, role), expect in self.expectations.items():
            yield tls, role, expect

    def expect(self, tls: TLSVersion, role: PeerRole) -> Expect:
        """What is right for this version of TLS and this role of the peer.

        Raises:
            ValueError: the ending does not exist there.
        """
        if not self.exists(tls, role):
            raise ValueError(f"the ending {self.name} does not exist in TLS {tls} with the peer as a {role}")
        return self.expectations[tls, role]
