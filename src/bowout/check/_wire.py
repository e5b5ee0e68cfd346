"""One connection of a probe: it can stay silent, or leave badly, where a `bowout.Stream` would end well."""

from __future__ import annotations

import contextlib
import enum
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bowout.check._answer import Received
from bowout.errors import (
    AlertReceived,
    BowoutError,
    HandshakeError,
    HandshakeTimeout,
    ProtocolViolation,
    Reset,
    Truncated,
)
from bowout.sansio import SansIOConnection, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bowout._backends import Backend, Transport
    from bowout.ending import Ending

#: Number of bytes to receive at once.
_CHUNK: Final = 1 << 16


class _Scratch(threading.local):
    """Memory to receive into, one for each thread: no connection keeps anything in it from one call to the next."""

    def __init__(self) -> None:
        self.memory = memoryview(bytearray(_CHUNK))


_SCRATCH: Final = _Scratch()


class ServerEnd(enum.StrEnum):
    """How a server's direction of a connection ended, or did not."""

    CLOSE_NOTIFY = "close_notify"
    FIN = "bare FIN"
    CUT = "FIN inside a record"
    RST = "RST"
    ALERT = "a fatal alert"
    VIOLATION = "a record that breaks TLS"
    #: It had not ended when the time was over.
    SILENCE = "no end"


@dataclass(slots=True)
class Heard:
    """What a server sent up to its end.

    Attributes:
        answer: the application data.
        end: how it ended.
        alert: name of its fatal alert.
        seconds: time until the end, in seconds since the beginning of the reading.
    """

    answer: Received = field(default_factory=Received)
    end: ServerEnd = ServerEnd.SILENCE
    alert: str = ""
    seconds: float = 0.0


class ProbeConnection:
    """A TLS connection whose every step a probe decides; `bowout.sansio` decides what TLS says to it.

    Args:
        backend: the event loop.
        transport: the connection; it belongs to this object from now on.
        make: makes its TLS, with the loop's clock.

    Attributes:
        tls: the connection.
        version: the version of TLS; None before the handshake. OpenSSL itself forgets it after a fatal error.
    """

    def __init__(
        self, backend: Backend, transport: Transport, make: Callable[[Backend, Transport], SansIOConnection]
    ) -> None:
        self._backend = backend
        self._transport = transport
        self._scratch = _SCRATCH.memory
        self._gone = False
        self.tls: SansIOConnection = make(backend, transport)
        self.version: str | None = None

    @property
    def is_tls13(self) -> bool:
        """Whether TLS 1.3 was agreed on."""
        return self.version == "TLSv1.3"

    # -- the ways on ---------------------------------------------------------------------------------------------

    async def handshake(self, timeout: float) -> None:
        """Perform the handshake.

        Raises:
            HandshakeError: it failed, or was not done after `timeout` seconds.
        """
        async with self._backend.move_on_at(self._backend.time() + timeout) as scope:
            try:
                while not self.tls.handshake():
                    await self._flush()
                    await self._receive()
            except HandshakeError:
                with contextlib.suppress(OSError):
                    await self._flush()  # An alert may be queued.
                raise
            self.version = self.tls.ssl_object.version()
            await self._flush()
        if scope.expired:
            raise HandshakeTimeout(f"the handshake was not done within {timeout:g} s")

    async def send(self, *parts: bytes, eof: bool = False, timeout: float = 3.0) -> bool:
        """Send `parts`, each as records of its own, and after them our close_notify if `eof`: in one flight.

        Returns:
            Whether the kernel took all of it within `timeout` seconds. If the server has ended the connection, reading
            tells how.
        """
        async with self._backend.move_on_at(self._backend.time() + timeout) as scope:
            try:
                with self._one_segment():
                    for part in filter(None, parts):
                        self.tls.write(part)
                        await self._flush()
                    if eof:
                        self.tls.write_eof()
                        await self._flush()
            except BowoutError:
                return False
        return not scope.expired

    def send_fin(self) -> None:
        """End our direction of the connection without close_notify."""
        self._transport.send_fin()
        self.tls.fin_sent()

    async def read_until(self, done: Callable[[Heard], bool], timeout: float) -> Heard:
        """Read until `done`, the server's end, or `timeout` seconds."""
        return await self._read(timeout, done)

    async def read_to_end(self, timeout: float, heard: Heard | None = None) -> Heard:
        """Read until the server's direction ends, for `timeout` seconds at most; add to what was `heard` before."""
        return await self._read(timeout, lambda _: False, heard)

    async def _read(self, timeout: float, done: Callable[[Heard], bool], heard: Heard | None = None) -> Heard:
        heard = heard or Heard()
        began = self._backend.time()
        async with self._backend.move_on_at(began + timeout):
            # What is buffered is read without a turn of the loop: the time is looked at, too.
            while not done(heard) and self._backend.time() < began + timeout:
                try:
                    data = self.tls.read()
                except (Truncated, Reset, AlertReceived, ProtocolViolation) as error:
                    heard.end, heard.alert = _end_of(error)
                    self._send_some()  # An alert that the failed read has queued.
                    break
                if data is None:
                    await self._receive()
                elif data:
                    heard.answer.add(data)
                else:
                    heard.end = ServerEnd.CLOSE_NOTIFY
                    break
        heard.seconds = self._backend.time() - began
        return heard

    async def wait_for_fin(self, timeout: float) -> str:
        """Send nothing, and wait for the end of TCP. Return ``"FIN"``, ``"RST"`` or, if it stays open, ``"open"``."""
        result = "open"
        async with self._backend.move_on_at(self._backend.time() + timeout):
            while result == "open":
                try:
                    count = self._transport.receive_into(self._scratch)
                except OSError as error:
                    self.tls.receive_reset(error.strerror or str(error))
                    result = "RST"
                else:
                    if count == 0:
                        self.tls.receive_eof()
                        result = "FIN"
                    elif count is None:
                        await self._transport.wait(read=True, write=False)
                    else:
                        await self._backend.checkpoint()  # As in `_receive`.
        return result

    # -- the end -------------------------------------------------------------------------------------------------

    async def close(self, timeout: float) -> Ending:
        """End the connection well, within `timeout` seconds."""
        self.tls.begin_close(timeout=timeout)
        return await self._wind_down()

    async def leave(self) -> Ending:
        """End the connection at once, without close_notify."""
        self.tls.leave(notify=False)
        return await self._wind_down()

    async def _wind_down(self) -> Ending:
        while (step := self.tls.next_step()) is not Step.RELEASE:
            if step is Step.FIN:
                self._transport.send_fin()
                self.tls.fin_sent()
                continue
            moved = self._send_some()
            room = min(self.tls.room, _CHUNK)
            if (self._receive_some(room) if room else False) or moved:
                await self._backend.checkpoint()  # As in `_receive`.
            else:
                async with self._backend.move_on_at(self._backend.time() + self.tls.timeout):
                    await self._transport.wait(read=bool(room), write=bool(self.tls.data_to_send()))
        self._transport.close(deadline=self._backend.time())
        await self._transport.wait_closed()
        return self.tls.released()

    # -- bytes ---------------------------------------------------------------------------------------------------

    async def _flush(self) -> None:
        while not self._gone and self.tls.data_to_send():
            if not self._send_some() and not self._gone:
                await self._transport.wait(read=False, write=True)

    def _send_some(self) -> bool:
        """Send what the kernel takes at once; tell whether that was something."""
        moved = False
        while not self._gone and (head := self.tls.data_to_send()):
            try:
                count = self._transport.send(head)
            except OSError as error:
                self._send_failed(error)
                break
            if not count:
                break
            self.tls.data_sent(count)
            moved = True
        return moved

    async def _receive(self) -> None:
        while not self._gone and not self._receive_some(_CHUNK):
            await self._transport.wait(read=True, write=False)
        # If the server sends faster than we read, nothing waits: deadlines and signals need a turn of the loop.
        await self._backend.checkpoint()

    def _receive_some(self, room: int) -> bool:
        """Receive what is there; tell whether that was something, or the end."""
        try:
            count = self._transport.receive_into(self._scratch[:room])
        except OSError as error:
            self._lost(error)
            return True
        if count is None:
            return False
        if count:
            self.tls.receive_data(self._scratch[:count])
        else:
            self.tls.receive_eof()
        return True

    def _send_failed(self, error: OSError) -> None:
        """Receive what came before the reset that a send has met: the kernel still has it."""
        with contextlib.suppress(OSError):
            while count := self._transport.receive_into(self._scratch):
                self.tls.receive_data(self._scratch[:count])
        self._lost(error)

    def _lost(self, error: OSError) -> None:
        self._gone = True
        text = error.strerror or str(error)
        reset = isinstance(error, ConnectionResetError | BrokenPipeError)
        self.tls.receive_reset(text, loss="" if reset else text)

    @contextlib.contextmanager
    def _one_segment(self) -> Iterator[None]:
        """Let the kernel hold what is sent in the block, and send it together, where it can."""
        option = getattr(socket, "TCP_CORK", None)
        sock = self._transport.sock
        if option is None or sock is None:
            yield
            return
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, option, 1)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, option, 0)


def _end_of(error: Exception) -> tuple[ServerEnd, str]:
    if isinstance(error, Truncated):
        return (ServerEnd.CUT if error.inside_record else ServerEnd.FIN), ""
    if isinstance(error, AlertReceived):
        return ServerEnd.ALERT, error.alert.name
    return (ServerEnd.RST if isinstance(error, Reset) else ServerEnd.VIOLATION), ""
