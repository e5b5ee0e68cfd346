"""``--echo``: every byte comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bowout.cli._serving import Mode

if TYPE_CHECKING:
    from bowout.stream import Stream


class Echo(Mode):
    """Sends back what comes, and closes when the client has ended."""

    async def handle(self, stream: Stream) -> None:
        """See `Mode`."""
        async for chunk in stream:
            await stream.send(chunk)
