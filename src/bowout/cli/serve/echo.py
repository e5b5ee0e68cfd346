"""``--echo``: send every byte back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bowout.cli.serve.serving import Mode

if TYPE_CHECKING:
    from bowout._stream import Stream


class Echo(Mode):
    """Sends back all data, and closes when the client has ended."""

    async def handle(self, stream: Stream) -> None:
        """See `Mode`."""
        async for chunk in stream:
            await stream.send(chunk)
