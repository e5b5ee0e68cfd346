"""Carries out a STARTTLS dialogue over a transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bowout._starttls import ReadExactly, ReadUntil, Send, dialogue
from bowout.errors import StartTLSError

if TYPE_CHECKING:
    from bowout._backends import Transport
    from bowout._starttls import Step

_CHUNK: Final = 4096


async def negotiate(transport: Transport, protocol: str, *, host: str, name: str | None) -> None:
    """Talk the server into TLS. The caller bounds the time.

    Raises:
        StartTLSError: the server does not agree, ends the connection, or injects plain text before the handshake.
        OSError: the connection is gone.
    """
    driver = _Driver(transport, protocol)
    steps = dialogue(protocol, host=host, name=name)
    answer: bytes | None = None
    try:
        while True:
            # A generator's first send must be None, which its type does not know.
            step = next(steps) if answer is None else steps.send(answer)
            driver.understood = driver.understood or bool(answer)
            answer = await driver.carry_out(step)
    except StopIteration:
        driver.refuse_injection()
    except StartTLSError as error:
        if driver.understood and error.why == "not spoken":
            error.why = ""  # It does speak the protocol, to some extent.
        raise
    finally:
        steps.close()


class _Driver:
    def __init__(self, transport: Transport, protocol: str) -> None:
        self._transport = transport
        self._protocol = protocol
        self._buffer = bytearray()
        #: The server has said something that the dialogue understood.
        self.understood = False

    async def carry_out(self, step: Step) -> bytes:
        match step:
            case Send(data):
                await self._send(memoryview(data))
                return b""
            case ReadExactly(count):
                while len(self._buffer) < count:
                    await self._read()
                return self._take(count)
            case ReadUntil(separator, limit):
                while (found := self._buffer.find(separator, 0, limit)) < 0 and len(self._buffer) < limit:
                    await self._read()
                return self._take(limit if found < 0 else found + len(separator))

    def refuse_injection(self) -> None:
        """What follows the agreement in plain text came from somebody else than it claims to (CVE-2011-0411)."""
        if self._buffer:
            raise StartTLSError(
                f"{self._protocol}: {len(self._buffer)} bytes of plain text came after the agreement to change to TLS"
            )

    async def _send(self, data: memoryview) -> None:
        while len(data):
            count = self._transport.send(data)
            if count is None:
                await self._transport.wait(read=False, write=True)
            else:
                data = data[count:]

    async def _read(self) -> None:
        chunk = memoryview(bytearray(_CHUNK))
        while (count := self._transport.receive_into(chunk)) is None:
            await self._transport.wait(read=True, write=False)
        if not count:
            error = StartTLSError(f"{self._protocol}: the server closed the connection before TLS could begin")
            error.why = "turned away" if self.understood else "not spoken"
            raise error
        self._buffer += chunk[:count]

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken
