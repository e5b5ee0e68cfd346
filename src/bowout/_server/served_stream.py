"""The stream of a server's connection, with the facts that the server needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bowout._stream import Stream

if TYPE_CHECKING:
    from bowout._stream import BytesLike
    from bowout.ending import Ending


class ServedStream(Stream):
    """A `Stream` for the handler; the additions are for the server alone."""

    _sending = 0
    _two_way = False

    async def send(self, data: BytesLike) -> None:
        # A task that sends while another waits in a receive may be in the middle of an answer at any time.
        self._two_way = self._two_way or self._receiving
        self._sending += 1
        try:
            await super().send(data)
        finally:
            self._sending -= 1

    @property
    def idle(self) -> bool:
        """Whether the handler waits for a new request: it receives, and nothing has come since it last sent.

        If it has ever sent while it received, that cannot be known, and it is never idle.
        """
        return (
            self._receiving and not self._sending and not self._two_way and not self._buffer and self._connection.quiet
        )

    @property
    def waits_for_peer(self) -> bool:
        """Whether the handler waits for the peer, in a receive or a send."""
        return self._receiving or self._sending > 0

    @property
    def last_data_at(self) -> float:
        """Time when application data last passed, or the connection began, in seconds on the event loop's clock."""
        return self._connection.last_data_at

    @property
    def silent(self) -> bool:
        """Whether no application data has come yet."""
        return self._connection.no_data_received

    @property
    def unheard(self) -> bool:
        """Whether nothing at all has come yet, not even the first byte of a handshake."""
        return self._connection.silent

    def look(self) -> None:
        """Process what has arrived, if no task is receiving, so that `silent` is up to date."""
        self._connection.look()

    def end_receive(self) -> None:
        """Make the waiting receive return the end of the stream, as if the peer had ended it."""
        self._connection.end_receive()

    def begin_close(self) -> bool:
        """Begin to close while the handler waits in a receive, which then fails: its task carries the close on.

        Returns:
            False if nothing was begun: a task of its own must close the stream.
        """
        closer = self._connection.closer
        if closer.leaving or not self._receiving or self._sending:
            return False
        self._drop_buffer()
        closer.begin_close("close()", self._connection.backend.time() + self._close_timeout)
        return True

    @property
    def unattended(self) -> bool:
        """Whether `begin_close` was called, and the handler has not carried the close on so far."""
        return self._connection.closer.unattended

    def leave(self, reason: str) -> Ending:
        """End the connection at once, without an await, as a cancellation does: with close_notify if possible and true.

        Args:
            reason: the reason, for the ending.
        """
        return self._leave(reason)
