"""What is said in plain before TLS begins: STARTTLS, a proxy's CONNECT, a database's request for TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bowout.testing._arguments import octets
from bowout.testing._wire import Gone

if TYPE_CHECKING:
    from bowout.ending import Role
    from bowout.testing._wire import Wire
    from bowout.testing._witness import Witness

_LIMIT: Final = 1 << 16


class Opening:
    r"""A connection that does not speak TLS yet: what the argument `opening` of `Peer` is called with.

        def smtp(opening: Opening) -> None:
            opening.send(b"220 peer.test\r\n")
            opening.read_until(b"\r\n")  # EHLO
            opening.send(b"250-peer.test\r\n250 STARTTLS\r\n")
            opening.read_until(b"\r\n")  # STARTTLS
            opening.send(b"220 go ahead\r\n")

    When it returns, the peer's script begins. No verb waits longer than those of an `Act`; one that cannot go on, since
    the other side has left or the time is over, ends the peer's part, and ``report.error`` says where.

    Attributes:
        role: the part of this peer, ``"server"`` or ``"client"``.
        number: which of the peer's connections this is, from 0.
    """

    def __init__(self, wire: Wire, witness: Witness, *, role: Role, number: int) -> None:
        self._wire, self._witness = wire, witness
        self._sent = self._received = 0
        self.role: Final = role.value
        self.number: Final = number

    def send(self, data: bytes) -> None:
        """Send bytes in plain."""
        data = octets(data, "send()")
        self._wire.put(data)
        self._sent += len(data)

    def read_exactly(self, count: int) -> bytes:
        """The next `count` bytes, in plain."""
        data = bytearray()
        while len(data) < count:
            data += self._next(f"read_exactly({count})")
        return bytes(data)

    def read_until(self, separator: bytes, *, limit: int = _LIMIT) -> bytes:
        """Bytes in plain up to and with the next `separator`.

        Args:
            separator: what they end with.
            limit: bytes; if it has not come by then, it is as if it never came.
        """
        data, separator = bytearray(), octets(separator, "read_until()")
        while not data.endswith(separator):
            if len(data) >= limit:
                raise Gone(f"{separator!r} did not come in {limit:,} bytes of the opening")
            data += self._next(f"read_until({separator!r})")
        return bytes(data)

    def finish(self) -> None:
        """TLS begins. The peer's own verb."""
        self._witness.did(f"opened in plain: {self._sent:,} B sent, {self._received:,} B received")

    def _next(self, verb: str) -> bytes:
        """One byte: what comes after the last one that is wanted belongs to TLS."""
        try:
            byte = self._wire.get(1)
        except Gone as gone:
            self._witness.saw_rst(str(gone))
            raise
        if not byte:
            self._witness.saw_fin()
            raise Gone(f"the other side left, and the opening was in {verb}")
        self._received += 1
        return byte
