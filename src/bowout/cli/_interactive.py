"""``--interactive``: somebody at stdin talks to whoever came last."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

from bowout.cli import _say
from bowout.cli._console import finish, open_console
from bowout.cli._serving import Mode
from bowout.cli._terminal import UserLeft
from bowout.errors import BowoutError

if TYPE_CHECKING:
    from bowout.cli._serving import Leaving
    from bowout.cli._terminal import Console
    from bowout.stream import Stream


class Interactive(Mode):
    """What is typed goes to the latest client; what any client sends is shown."""

    _console: Console
    _typing: asyncio.Task[None]

    def __init__(self) -> None:
        self._clients: list[Stream] = []
        self._came = asyncio.Event()
        self._input_ended = False

    async def start(self, leaving: Leaving) -> Self:
        """See `Mode`."""
        self._leaving = leaving
        self._console = open_console(self._output_failed, leaving.signals)
        self._typing = asyncio.create_task(self._type())
        return self

    async def stop(self) -> None:
        """See `Mode`."""
        self._console.stop_reading()
        self._typing.cancel()
        await asyncio.wait([self._typing])
        try:
            if not await finish(self._console, self._leaving.signals, self._leaving.patience):
                self._leaving.failed = True
        finally:
            await self._console.close()

    async def handle(self, stream: Stream) -> None:
        """See `Mode`."""
        self._clients.append(stream)
        self._came.set()
        _say.note(f"talking to {stream.peer} now, {stream.tls_version}")
        # The server does not take for idle whoever sends while it receives.
        leaving = asyncio.create_task(_leave_with_the_drain(stream))
        try:
            if self._input_ended:
                await stream.send_eof()
            async for chunk in stream:
                await self._console.write(chunk)
            if stream.draining.is_set():
                await leaving
        finally:
            leaving.cancel()
            self._clients.remove(stream)
            if not self._clients:
                self._came.clear()

    def _output_failed(self, error: OSError) -> None:
        """Take note that nobody sees what clients send."""
        if not isinstance(error, BrokenPipeError):
            self._leaving.failed = True
            _say.error(f"cannot write to stdout: {error.strerror}")
        self._leaving.now.set()

    async def _type(self) -> None:
        try:
            while data := await self._console.read():
                while not self._clients:  # Whoever came may have left before we are told.
                    await self._came.wait()
                await self._send(data)
            self._input_ended = True
            if self._clients:
                await self._end(self._clients[-1])
        except UserLeft:
            self._leaving.now.set()
        except OSError as error:
            self._leaving.failed = True
            _say.error(f"cannot read stdin: {error.strerror}")
            self._leaving.now.set()

    async def _send(self, data: bytes) -> None:
        client = self._clients[-1]
        try:
            await client.send(data)
        except BowoutError as error:
            _say.note(f"{client.peer} did not get that: {error}")

    @staticmethod
    async def _end(client: Stream) -> None:
        with contextlib.suppress(BowoutError):  # It has ended otherwise, which its ending tells.
            await client.send_eof()


async def _leave_with_the_drain(stream: Stream) -> None:
    await stream.draining.wait()
    await stream.close()
