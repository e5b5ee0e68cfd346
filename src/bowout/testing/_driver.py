"""The driver of a scripted connection over a blocking socket: it moves bytes, and passes events to the recorder."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from bowout._scripted.connection import HandshakeFailed, HandshakeStep
from bowout._scripted.events import (
    AlertSeen,
    DataSeen,
    EndSeen,
    HandshakeSeen,
    MessageSeen,
    PlaintextSeen,
    RecordSeen,
    ResetSeen,
    SealedSeen,
    UndecryptableSeen,
)
from bowout.testing._wire import Gone, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout._scripted.connection import HandshakeStage, ScriptedConnection
    from bowout.testing._recorder import Recorder
    from bowout.testing._wire import PeerSocket

_TELL: Final[dict[type, Callable[[Recorder, Any], None]]] = {
    HandshakeSeen: lambda recorder, event: recorder.handshake_completed(event.version, event.cipher),
    RecordSeen: lambda recorder, _: recorder.saw_record(),
    DataSeen: lambda recorder, event: recorder.saw_data(event.data),
    AlertSeen: lambda recorder, event: recorder.saw_alert(event.level, event.code),
    MessageSeen: lambda recorder, event: recorder.saw(event.kind, event.detail),
    SealedSeen: lambda recorder, event: recorder.saw_sealed(event.size),
    UndecryptableSeen: lambda recorder, event: recorder.saw_undecryptable(event.detail),
    PlaintextSeen: lambda recorder, event: recorder.saw_plaintext(event.data),
    EndSeen: lambda recorder, _: recorder.saw_fin(),
    ResetSeen: lambda recorder, event: recorder.saw_rst(event.detail),
}


class BlockingDriver:
    """Drives a scripted connection. Its calls wait as those of `PeerSocket` do."""

    def __init__(self, connection: ScriptedConnection, wire: PeerSocket, recorder: Recorder) -> None:
        self._connection, self._wire, self._recorder = connection, wire, recorder

    def handshake(self, stop_at: HandshakeStage | None) -> None:
        """Perform the handshake, up to `stop_at`.

        Raises:
            HandshakeFailed: OpenSSL gave up, or the other side left.
            Gone, Stopped: see `PeerSocket`.
        """
        self._connection.begin_handshake(stop_at)
        while (step := self._handshake_step()) is not HandshakeStep.DONE:
            if step is HandshakeStep.SEND:
                self.send()
            else:
                self._receive()

    def _handshake_step(self) -> HandshakeStep:
        try:
            return self._connection.handshake_step()
        except HandshakeFailed:
            with contextlib.suppress(Gone, Stopped):
                self.send()
            raise
        finally:
            self._tell()

    def send(self) -> None:
        """Send the data that the connection has queued.

        Raises:
            Gone, Stopped: see `PeerSocket`.
        """
        if data := self._connection.data_to_send():
            self._wire.put(data)

    def read(self) -> bool:
        """Process the next record, or receive data; return False when the FIN came.

        Raises:
            Gone, Stopped: see `PeerSocket`.
        """
        try:
            if self._connection.read_record():
                return True
        finally:
            self._tell()
        return self._receive()

    def _receive(self) -> bool:
        try:
            data = self._wire.get()
        except Gone as gone:
            self._connection.receive_reset(str(gone))
            self._tell()
            raise
        if data:
            self._connection.receive_data(data)
        elif self._wire.lost:
            self._connection.receive_reset()
        else:
            self._connection.receive_eof()
        self._tell()
        return bool(data)

    def _tell(self) -> None:
        for event in self._connection.take_events():
            _TELL[type(event)](self._recorder, event)
