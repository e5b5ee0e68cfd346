"""The base of a script's verbs: one connection, its state, and its handshake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from bowout._scripted.connection import HandshakeStage
from bowout._tls_numbers import TLS13_NAME
from bowout.testing._arguments import listed

if TYPE_CHECKING:
    from bowout._scripted.connection import ScriptedConnection
    from bowout.ending import Role
    from bowout.testing._driver import BlockingDriver
    from bowout.testing._recorder import Recorder
    from bowout.testing._wire import PeerSignals, PeerSocket


class Verbs:
    """The facts and the handshake of one connection."""

    def __init__(
        self,
        connection: ScriptedConnection,
        driver: BlockingDriver,
        wire: PeerSocket,
        recorder: Recorder,
        *,
        signals: PeerSignals,
        role: Role,
        number: int,
    ) -> None:
        self._connection, self._driver = connection, driver
        self._wire, self._recorder, self._signals = wire, recorder, signals
        self._role = role
        self._in_segment = False
        self._reading = True
        self._begun = False
        self.role: Final = role.value
        self.number: Final = number

    # -- what is known ------------------------------------------------------------------------------------------

    @property
    def tls13(self) -> bool:
        """Whether the handshake agreed on TLS 1.3."""
        return self._recorder.version == TLS13_NAME

    @property
    def left(self) -> bool:
        """Whether the other side's FIN or RST was received, or the test is over. A script must read to see a FIN."""
        return self._recorder.left or self._signals.over.is_set()

    @property
    def close_notify_seen(self) -> bool:
        """Whether the other side's close_notify was read."""
        return self._recorder.close_notify > 0

    @property
    def reads(self) -> bool:
        """Whether the script reads: False after `stop_reading`."""
        return self._reading

    # -- the handshake ------------------------------------------------------------------------------------------

    def handshake(self, *, stop_at: HandshakeStage | None = None) -> None:
        """Perform the handshake; or stop in the middle of it, and go on with the script.

        Args:
            stop_at: ``"hello"``: stop after the ClientHello. ``"flight"``: stop after the server's answer.
        """
        if stop_at not in {None, *get_args(HandshakeStage)}:
            raise ValueError(f"stop_at={stop_at!r}: it must be one of {listed(get_args(HandshakeStage))}")
        if self._recorder.version is not None:
            raise RuntimeError("handshake(): it is done already")
        self._not_in_segment("handshake()")
        self._begun = True
        self._driver.handshake(stop_at)
        if stop_at is not None:
            self._recorder.did(f"stops the handshake after the {'ClientHello' if stop_at == 'hello' else 'flight'}")

    # -- how it is done -----------------------------------------------------------------------------------------

    def _needs_handshake(self, verb: str) -> None:
        """Raise RuntimeError before the handshake: without it, records would be sent in plain, and none read."""
        if not self._begun:
            raise RuntimeError(f"{verb}: call handshake() first; send_raw() sends bytes in plain")

    def _not_in_segment(self, verb: str) -> None:
        """Raise RuntimeError inside `one_segment`: the verb would wait for an answer to data that is not sent yet."""
        if self._in_segment:
            raise RuntimeError(
                f"{verb} in one_segment(): the data of its block is sent at the end; wait for answers after it"
            )
