"""``--interactive``: the user at stdin talks to the latest client."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

from bowout.cli.console import output
from bowout.cli.console.standard import finish, open_console
from bowout.cli.console.terminal import UserLeft
from bowout.cli.serve.serving import Mode
from bowout.errors import BowoutError

if TYPE_CHECKING:
    from bowout._stream import Stream
    from bowout.cli.console.terminal import Console
    from bowout.cli.serve.serving import Shutdown


class Interactive(Mode):
    """Sends stdin to the latest client, and shows the data of all clients."""

    _console: Console
    _typing: asyncio.Task[None]

    def __init__(self) -> None:
        self._clients: list[Stream] = []
        self._came = asyncio.Event()
        self._input_ended = False

    async def start(self, shutdown: Shutdown) -> Self:
        """See `Mode`."""
        self._shutdown = shutdown
        self._console = open_console(self._output_failed, shutdown.signals)
        self._typing = asyncio.create_task(self._type())
        return self

    async def stop(self) -> None:
        """See `Mode`."""
        self._console.stop_reading()
        self._typing.cancel()
        await asyncio.wait([self._typing])
        try:
            if not await finish(self._console, self._shutdown.signals, self._shutdown.patience):
                self._shutdown.failed = True
        finally:
            await self._console.close()

    async def handle(self, stream: Stream) -> None:
        """See `Mode`."""
        self._clients.append(stream)
        self._came.set()
        output.note(f"talking to {stream.peer} now, {stream.tls_version}")
        # The server does not take a connection for idle that sends while it receives.
        shutdown = asyncio.create_task(_leave_with_the_drain(stream))
        try:
            if self._input_ended:
                await stream.send_eof()
            async for chunk in stream:
                await self._console.write(chunk)
            if stream.draining.is_set():
                await shutdown
        finally:
            shutdown.cancel()
            self._clients.remove(stream)
            if not self._clients:
                self._came.clear()

    def _output_failed(self, error: OSError) -> None:
        """Shut down, since stdout failed: the clients' data cannot be shown."""
        if not isinstance(error, BrokenPipeError):
            self._shutdown.failed = True
            output.error(f"cannot write to stdout: {error.strerror}")
        self._shutdown.now.set()

    async def _type(self) -> None:
        try:
            while data := await self._console.read():
                while not self._clients:  # A client may have left again before this task runs.
                    await self._came.wait()
                await self._send(data)
            self._input_ended = True
            if self._clients:
                await self._end(self._clients[-1])
        except UserLeft:
            self._shutdown.now.set()
        except OSError as error:
            self._shutdown.failed = True
            output.error(f"cannot read stdin: {error.strerror}")
            self._shutdown.now.set()

    async def _send(self, data: bytes) -> None:
        client = self._clients[-1]
        try:
            await client.send(data)
        except BowoutError as error:
            output.note(f"{client.peer} did not get that: {error}")

    @staticmethod
    async def _end(client: Stream) -> None:
        with contextlib.suppress(BowoutError):  # It has ended in another way, which its ending shows.
            await client.send_eof()


async def _leave_with_the_drain(stream: Stream) -> None:
    await stream.draining.wait()
    await stream.close()
