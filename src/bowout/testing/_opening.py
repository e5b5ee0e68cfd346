"""The plain-text dialogue before TLS begins: STARTTLS, a proxy's CONNECT, a database's request for TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bowout.testing._arguments import octets
from bowout.testing._wire import Gone

if TYPE_CHECKING:
    from bowout.ending import Role
    from bowout.testing._recorder import Recorder
    from bowout.testing._wire import PeerSocket

_LIMIT: Final = 1 << 16


class Opening:
    r"""A connection before TLS: the argument for the function `opening` of `Peer`.

        def smtp(opening: Opening) -> None:
            opening.send(b"220 peer.test\r\n")
            opening.read_until(b"\r\n")  # EHLO
            opening.send(b"250-peer.test\r\n250 STARTTLS\r\n")
            opening.read_until(b"\r\n")  # STARTTLS
            opening.send(b"220 go ahead\r\n")

    When it returns, the peer's script begins. No verb waits longer than those of an `Act`. A verb that cannot go on,
    since the other side has left or the time is over, ends the peer's part, and ``report.error`` says where.

    Attributes:
        role: the role of this peer, ``"server"`` or ``"client"``.
        number: the index of this connection among the peer's connections, from 0.
    """

    def __init__(self, wire: PeerSocket, recorder: Recorder, *, role: Role, number: int) -> None:
        self._wire, self._recorder = wire, recorder
        self._sent = self._received = 0
        self.role: Final = role.value
        self.number: Final = number

    def send(self, data: bytes) -> None:
        """Send `data` in plain text."""
        data = octets(data, "send()")
        self._wire.put(data)
        self._sent += len(data)

    def read_exactly(self, count: int) -> bytes:
        """Return the next `count` bytes of plain text."""
        data = bytearray()
        while len(data) < count:
            data += self._next(f"read_exactly({count})")
        return bytes(data)

    def read_until(self, separator: bytes, *, limit: int = _LIMIT) -> bytes:
        """Return plain text up to and including the next `separator`.

        Args:
            separator: the last bytes to read.
            limit: the largest number of bytes to read; more without `separator` ends the peer's part.
        """
        data, separator = bytearray(), octets(separator, "read_until()")
        while not data.endswith(separator):
            if len(data) >= limit:
                raise Gone(f"{separator!r} did not come in {limit:,} bytes of the opening")
            data += self._next(f"read_until({separator!r})")
        return bytes(data)

    def finish(self) -> None:
        """Record that TLS begins. The peer calls it, not an opening."""
        self._recorder.did(f"opened in plain: {self._sent:,} B sent, {self._received:,} B received")

    def _next(self, verb: str) -> bytes:
        """Receive one byte at a time: the bytes after the last one wanted belong to TLS."""
        try:
            byte = self._wire.get(1)
        except Gone as gone:
            self._recorder.saw_rst(str(gone))
            raise
        if not byte:
            self._recorder.saw_fin()
            raise Gone(f"the other side left, and the opening was in {verb}")
        self._received += 1
        return byte
