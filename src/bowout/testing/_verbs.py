"""What all verbs of a script stand on: one connection, and what is held back for a segment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from bowout._core.records import RecordScanner
from bowout.testing._arguments import listed
from bowout.testing._session import Stage

if TYPE_CHECKING:
    from bowout.ending import Role
    from bowout.testing._session import Session
    from bowout.testing._wire import Signals, Wire
    from bowout.testing._witness import Witness


class Verbs:
    """One connection, as far as it is known, and its handshake."""

    def __init__(
        self, session: Session, wire: Wire, witness: Witness, *, signals: Signals, role: Role, number: int
    ) -> None:
        self._session, self._wire, self._witness, self._signals = session, wire, witness, signals
        self._role = role
        self._scanner = RecordScanner()
        self._segment: bytearray | None = None
        self._reading = True
        self._begun = False
        self.role: Final = role.value
        self.number: Final = number

    # -- what is known ------------------------------------------------------------------------------------------

    @property
    def tls13(self) -> bool:
        """The handshake agreed on TLS 1.3."""
        return self._witness.version == "TLSv1.3"

    @property
    def left(self) -> bool:
        """The other side's FIN or RST was met, or the test is over. A script that only sends does not see a FIN."""
        return self._witness.left or self._signals.over.is_set()

    @property
    def close_notify_seen(self) -> bool:
        """The other side's close_notify was read."""
        return self._witness.close_notify > 0

    @property
    def reads(self) -> bool:
        """False after `stop_reading`."""
        return self._reading

    # -- the handshake ------------------------------------------------------------------------------------------

    def handshake(self, *, stop_at: Stage | None = None) -> None:
        """Shake hands, or stop on the way and go on with whatever the script does next.

        Args:
            stop_at: ``"hello"``: the ClientHello has passed, and nothing after it. ``"flight"``: the server's answer
                has passed too, and nothing after it.
        """
        if stop_at not in {None, *get_args(Stage)}:
            raise ValueError(f"stop_at={stop_at!r}: known are {listed(get_args(Stage))}")
        if self._witness.version is not None:
            raise RuntimeError("handshake(): it is done already")
        self._not_in_segment("handshake()")
        self._begun = True
        self._session.handshake(stop_at)
        if stop_at is not None:
            self._witness.did(f"stops the handshake after the {'ClientHello' if stop_at == 'hello' else 'flight'}")

    # -- how it is done -----------------------------------------------------------------------------------------

    def _needs_handshake(self, verb: str) -> None:
        """A script that forgets it would send records in plain, and read none."""
        if not self._begun:
            raise RuntimeError(f"{verb}: call handshake() first; send_raw() is there for bytes in plain")

    def _not_in_segment(self, verb: str) -> None:
        """There it would wait out its time, for an answer to what was not sent."""
        if self._segment is not None:
            raise RuntimeError(
                f"{verb} in one_segment(): what its block sends leaves at the end; wait for answers after it"
            )
