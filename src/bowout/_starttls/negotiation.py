"""A dialogue with the bytes that were received for it: all that a driver of STARTTLS needs, but for the I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bowout._starttls import ReadExactly, ReadUntil, Send, dialogue
from bowout.errors import StartTLSError

if TYPE_CHECKING:
    from bowout._starttls import Step

#: Maximum number of bytes to read at once.
CHUNK: Final = 4096


class Negotiation:
    """An attempt to agree with a server to change to TLS.

        while not negotiation.done:
            if data := negotiation.advance():
                send(data)
            elif not negotiation.done:
                negotiation.receive(read(CHUNK))

    Args:
        protocol, host, name: as for `dialogue`.

    Attributes:
        done: whether they agree, so that TLS may begin.
    """

    def __init__(self, protocol: str, *, host: str, name: str | None) -> None:
        self._protocol = protocol
        self._steps = dialogue(protocol, host=host, name=name)
        self._begun = False
        self._step: Step = Send(b"")
        self._buffer = bytearray()
        #: Whether the server has sent something that the dialogue understood.
        self._understood = False
        self.done: bool = False

    def advance(self) -> bytes:
        """Go on as far as the received bytes allow; return bytes to send, or b"": then receive more, unless `done`.

        Raises:
            StartTLSError: the server does not agree, or injects plain text before the handshake.
        """
        try:
            return self._advance()
        except StopIteration:
            self._refuse_injection()
            self.done = True
            return b""
        except StartTLSError as error:
            if self._understood and error.why == "not spoken":
                error.why = ""  # It does speak the protocol, in part.
            raise

    def _advance(self) -> bytes:
        if not self._begun:
            self._begun = True
            step = next(self._steps)
        else:
            step = self._step
            if isinstance(step, Send):
                step = self._steps.send(b"")
        while not isinstance(step, Send):
            self._step = step
            if (answer := self._answer(step)) is None:
                return b""
            step = self._steps.send(answer)
            self._understood = self._understood or bool(answer)
        self._step = step
        return step.data

    def _answer(self, step: ReadExactly | ReadUntil) -> bytes | None:
        """Return the bytes for `step`, None if they have not all come."""
        match step:
            case ReadExactly(count):
                return self._take(count) if len(self._buffer) >= count else None
            case ReadUntil(separator, limit):
                found = self._buffer.find(separator, 0, limit)
                if found < 0 and len(self._buffer) < limit:
                    return None
                return self._take(limit if found < 0 else found + len(separator))

    def receive(self, data: bytes | memoryview) -> None:
        """Process bytes that were read; none: the server has closed the connection.

        Raises:
            StartTLSError: it has.
        """
        if not data:
            error = StartTLSError(f"{self._protocol}: the server closed the connection before TLS could begin")
            error.why = "turned away" if self._understood else "not spoken"
            raise error
        self._buffer += data

    def close(self) -> None:
        """End the dialogue."""
        self._steps.close()

    def _refuse_injection(self) -> None:
        """Raise StartTLSError if plain text follows the agreement: it is injected (CVE-2011-0411)."""
        if self._buffer:
            raise StartTLSError(
                f"{self._protocol}: {len(self._buffer)} bytes of plain text came after the agreement to change to TLS"
            )

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken
