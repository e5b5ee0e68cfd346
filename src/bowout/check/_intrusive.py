"""The probes with records that no client should send: only for one's own servers."""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bowout._client import default_context
from bowout._core.records import record_header
from bowout._scripted.connection import HandshakeFailed, HandshakeStep, ScriptedConnection
from bowout._scripted.events import AlertSeen, DataSeen, EndSeen, HandshakeSeen, ResetSeen
from bowout._scripted.keylog import KeyLog
from bowout._tls_numbers import (
    ALERT,
    ALERT_CODES,
    ALERT_NAMES,
    APPLICATION_DATA,
    CLOSE_NOTIFY,
    FATAL,
    TLS13_NAME,
    WARNING,
)
from bowout.check._judge import Run
from bowout.check._wire import ServerEnd
from bowout.ending import Role
from bowout.errors import HandshakeError, HandshakeTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from bowout._backends import Backend, Transport
    from bowout._scripted.connection import HandshakeStage
    from bowout.check._probes import Check

_CHUNK: Final = 1 << 16
#: Length, in bytes, of a record that decrypts to nothing.
_BAD_LENGTH: Final = 48
_ENDED: Final = "the server ended the connection before anything was sent"


class _ScriptedProbe:
    """A scripted connection over a transport of the event loop.

    Attributes:
        tls: the connection.
        tls13: whether TLS 1.3 was agreed on.
    """

    def __init__(self, backend: Backend, transport: Transport, tls: ScriptedConnection) -> None:
        self._backend = backend
        self._transport = transport
        self._scratch = memoryview(bytearray(_CHUNK))
        self._ended = False
        self.tls = tls
        self.tls13: bool = True
        self.received: int = 0
        self.end: ServerEnd | None = None
        self.alert: str = ""

    async def handshake(self, stop_at: HandshakeStage | None, timeout: float) -> None:
        """Perform the handshake, up to `stop_at`.

        Raises:
            HandshakeError: it failed, or was not done in time.
        """
        self.tls.begin_handshake(stop_at)
        async with self._backend.move_on_at(self._backend.time() + timeout) as scope:
            try:
                while (step := self.tls.handshake_step()) is not HandshakeStep.DONE:
                    if step is HandshakeStep.SEND:
                        await self.send()
                    else:
                        await self._receive()
            except HandshakeFailed as error:
                raise HandshakeError(str(error)) from error
            await self.send()
        if scope.expired:
            raise HandshakeTimeout(f"the handshake was not done within {timeout:g} s")
        self._look()

    async def send(self) -> None:
        """Send what is queued; a server that has gone is found in reading."""
        rest = memoryview(self.tls.data_to_send())
        with contextlib.suppress(OSError):
            while rest:
                count = self._transport.send(rest)
                if count is None:
                    await self._transport.wait(read=False, write=True)
                else:
                    rest = rest[count:]

    async def read_to_end(self, timeout: float, *, until_data: bool = False) -> float:
        """Read until the server has ended the connection, for `timeout` seconds at most; return the time it took.

        Args:
            timeout: the longest time, in seconds.
            until_data: stop at the first data, too.
        """
        began = self._backend.time()
        async with self._backend.move_on_at(began + timeout):
            while not self._ended and not (until_data and self.received):
                if not self.tls.read_record():
                    await self._receive()
                self._look()
        return self._backend.time() - began

    async def _receive(self) -> None:
        try:
            while (count := self._transport.receive_into(self._scratch)) is None:
                await self._transport.wait(read=True, write=False)
        except OSError as error:
            self.tls.receive_reset(error.strerror or "")
        else:
            if count:
                self.tls.receive_data(bytes(self._scratch[:count]))
                await (
                    self._backend.checkpoint()
                )  # A server that always has more must not keep the loop from its timers.
            else:
                self.tls.receive_eof()

    def _look(self) -> None:
        for event in self.tls.take_events():
            match event:
                case HandshakeSeen(version):
                    self.tls13 = version == TLS13_NAME
                case DataSeen(data):
                    self.received += len(data)
                case AlertSeen(code=code) if self.end is None:
                    self.end = ServerEnd.CLOSE_NOTIFY if code == CLOSE_NOTIFY else ServerEnd.ALERT
                    self.alert = "" if code == CLOSE_NOTIFY else ALERT_NAMES.get(code, f"unknown_alert_{code}")
                case EndSeen() | ResetSeen():
                    self._ended = True
                    if self.end is None:
                        self.end = ServerEnd.FIN if isinstance(event, EndSeen) else ServerEnd.RST
                case _:
                    pass

    async def settle(self, check: Check) -> bool:
        """Wait until the server is silent, after its greeting; return whether it has not ended the connection.

        The data that came so far is forgotten: it is no answer to what the probe sends next.
        """
        if check.talk.greeting is not None:
            await self.read_to_end(check.pace.connection, until_data=True)
        await self.read_to_end(check.pace.settle)
        self.received = 0
        return self.end is None


async def bad_record(check: Check) -> list[Run]:
    """Send a record that cannot be decrypted."""
    async with _connection(check) as probe:
        await probe.handshake(None, check.pace.opening)
        if not await probe.settle(check):
            return [Run(skipped=_ENDED)]
        probe.tls.queue(record_header(APPLICATION_DATA, _BAD_LENGTH) + os.urandom(_BAD_LENGTH))
        return [await _result(check, probe)]


async def fatal_alert(check: Check) -> list[Run]:
    """Send a fatal alert."""
    async with _connection(check) as probe:
        await probe.handshake(None, check.pace.opening)
        if not await probe.settle(check):
            return [Run(skipped=_ENDED)]
        probe.tls.queue(probe.tls.seal(ALERT, bytes([FATAL, ALERT_CODES["internal_error"]])))
        return [await _result(check, probe)]


async def close_in_handshake(check: Check) -> list[Run]:
    """Send close_notify in plain text right after the ClientHello."""
    async with _connection(check) as probe:
        await probe.handshake("hello", check.pace.opening)
        probe.tls.queue(record_header(ALERT, 2) + bytes([WARNING, CLOSE_NOTIFY]))
        return [await _result(check, probe)]


async def _result(check: Check, probe: _ScriptedProbe) -> Run:
    await probe.send()
    seconds = await probe.read_to_end(check.pace.connection)
    return Run(
        tls13=probe.tls13,
        received=probe.received,
        end=probe.end or ServerEnd.SILENCE,
        alert=probe.alert,
        seconds=seconds,
    )


@contextlib.asynccontextmanager
async def _connection(check: Check) -> AsyncIterator[_ScriptedProbe]:
    opener = check.opener
    with _key_log(opener.options.context) as (context, log):
        transport = await opener.transport()
        name = opener.options.server_hostname
        tls = ScriptedConnection(context, Role.CLIENT, server_hostname=name, secrets=log.secrets)
        yield _ScriptedProbe(opener.backend, transport, tls)


@contextlib.contextmanager
def _key_log(context: ssl.SSLContext) -> Iterator[tuple[ssl.SSLContext, KeyLog]]:
    """Log the keys of `context` in a file that only we can read; of the shared default context, use a copy."""
    if context is default_context():
        context = ssl.create_default_context()
    with tempfile.TemporaryDirectory(prefix="bowout-") as folder:
        log = KeyLog(context, Path(folder, "keys"))
        try:
            yield context, log
        finally:
            log.close()


#: The intrusive probes, in their order.
INTRUSIVE: Final[dict[str, Callable[[Check], Awaitable[list[Run]]]]] = {
    "bad-record": bad_record,
    "fatal-alert": fatal_alert,
    "close-in-handshake": close_in_handshake,
}
