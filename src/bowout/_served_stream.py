"""The stream of a server's connection, with what the server has to know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bowout.stream import Stream

if TYPE_CHECKING:
    from bowout.ending import Ending
    from bowout.stream import BytesLike


class ServedStream(Stream):
    """A `Stream` for the handler; what is added here is for the server alone."""

    _sending = 0
    _two_way = False

    async def send(self, data: BytesLike) -> None:
        # Whoever sends while another task waits in a receive may be in the middle of an answer at any time.
        self._two_way = self._two_way or self._receiving
        self._sending += 1
        try:
            await super().send(data)
        finally:
            self._sending -= 1

    @property
    def idle(self) -> bool:
        """The handler waits for a new request: it receives, and nothing has come since it last sent.

        Where it was seen to send while it received, that cannot be known, and it is never idle.
        """
        return (
            self._receiving and not self._sending and not self._two_way and not self._buffer and self._connection.quiet
        )

    @property
    def waits_for_peer(self) -> bool:
        """Somebody here waits for the peer to send, or to take what is sent."""
        return self._receiving or self._sending > 0

    @property
    def last_data_at(self) -> float:
        """When application data last passed, or the connection began, on the clock of the event loop; in seconds."""
        return self._connection.last_data_at

    @property
    def silent(self) -> bool:
        """No application data has come yet."""
        return self._connection.silent_above

    @property
    def unheard(self) -> bool:
        """Nothing at all has come yet, not even the first byte of a handshake."""
        return self._connection.silent

    def look(self) -> None:
        """See what has arrived while nobody receives, so that `silent` is true now."""
        self._connection.look()

    def end_receive(self) -> None:
        """Have the receive that is waiting now give the end of the stream, as if the peer had ended it."""
        self._connection.end_receive()

    def leave(self, reason: str) -> Ending:
        """End the connection at once, without an await, as a cancellation does: close_notify is tried where it is true.

        Args:
            reason: for the ending.
        """
        return self._leave(reason)
