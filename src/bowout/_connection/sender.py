"""Sending on one TLS connection: its turns, and what a send does until the kernel has every byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bowout._connection.channel import MIN_READ, loss_of_number
from bowout.ending import Outbound
from bowout.errors import BowoutError, MisuseError, SendInterrupted, Truncated

if TYPE_CHECKING:
    from bowout._backends import Backend
    from bowout._backends.lock import FifoLock
    from bowout._connection.channel import Channel
    from bowout._connection.closer import Closer

#: States in which our direction cannot be used again.
DEAD: Final = frozenset({Outbound.LOST, Outbound.FATAL_ALERT, Outbound.RESET})


class StreamSender:
    """Sends, for one task after the other.

    Args:
        backend: the event loop.
        channel: moves the bytes.
        closer: ends the connection.
        sends: lock that the sending task holds.
    """

    __slots__ = ("_backend", "_channel", "_closer", "_engine", "_sends")

    def __init__(self, backend: Backend, channel: Channel, closer: Closer, sends: FifoLock) -> None:
        self._backend = backend
        self._channel = channel
        self._engine = channel.engine
        self._closer = closer
        self._sends = sends

    @property
    def busy(self) -> bool:
        """Whether a task is sending."""
        return self._sends.locked

    def enter_lane(self) -> None:
        """Let data pass through the lane, if that is possible now; sends, if no task is sending."""
        channel = self._channel
        if channel.has_lane:
            if channel.lane is None:
                channel.enter_lane()
            if channel.lane is not None and not (self._sends.locked or self._engine.outgoing.size):
                channel.send_lane = channel.lane

    async def flush(self) -> None:
        """Pass all of the engine's output to the kernel."""
        while not self._channel.flush():
            await self._channel.transport.wait_writable(self._channel.flush)
            self._closer.check_not_ended()

    async def send(self, view: memoryview) -> None:
        """Encrypt all of `view` and pass it to the kernel, after the earlier sends."""
        if self._channel.overdue():
            await self._channel.let_others_run(self._backend)
        if not self._sends.acquire_nowait():
            await self._acquire_sends()
        self._channel.send_lane = None
        try:
            if self._closer.leaving or self._closer.ending is not None:
                self._closer.check_staying()
            if self._engine.outgoing.interrupted and self._engine.outbound is Outbound.OPEN:
                raise SendInterrupted("an earlier send or message() was interrupted: later data would be garbled")
            if self._engine.outgoing.size:
                await self.flush()  # The rest of cancelled sends: so it does not pile up.
            if self._channel.has_lane and self._channel.lane is None:
                self._channel.enter_lane()  # Only now: many a connection ends before any data pass.
            await self._send_all(view)
        finally:
            self._release_sends()

    async def finish_send(self, view: memoryview, sent: Any) -> None:
        """Send what the lane has not sent of `view`; `sent` is what it returned."""
        if sent is True or sent is False:
            if sent:
                await self._channel.let_others_run(self._backend)
            await self.send(view)
            return
        self._sends.acquire_nowait()  # It is free: otherwise the lane had not sent.
        self._channel.send_lane = None
        try:
            self._take_over(view, sent)
            await self._send_all(view[:0])
        finally:
            self._release_sends()

    def _take_over(self, view: memoryview, sent: tuple[int, list[tuple[bytes, int]], int, int, bool]) -> None:
        count, chunks, taken, error, noted = sent
        if noted:
            self._channel.leave_lane()
        self._engine.outgoing.take_over(view[count:], count, chunks, taken)
        if error:
            self._engine.send_failed(loss=loss_of_number(error))

    async def _send_all(self, view: memoryview) -> None:
        try:
            while view and not (self._write_in_lane(view) or self._write(view)):
                await self._receive_other_half()
            while True:
                if not self._channel.flush():
                    await self._flush_send()
                elif self._engine.outgoing.unencrypted and self._channel.overdue():
                    await self._channel.let_others_run(self._backend)
                    self._check_sending()
                rest = self._engine.outgoing.unencrypted
                if not rest:
                    break
                if not (self._write_in_lane(rest) or self._write(rest)):
                    await self._receive_other_half()
            if self._engine.outbound is Outbound.LOST:
                raise self._engine.outgoing.why_not_writable()
        except BowoutError as error:
            raise self._closer.with_ending(error)  # noqa: B904  (it is the same error)
        finally:
            self._engine.outgoing.interrupt()

    def _write_in_lane(self, view: memoryview) -> bool:
        """Encrypt and send `view` through the lane, as much as the kernel takes; return False if it could not begin."""
        lane, engine = self._channel.lane, self._engine
        if lane is None or engine.outgoing.size or engine.outbound is not Outbound.OPEN:
            return False
        lane.rested()
        sent = lane.send(view)
        if sent is False:
            return False
        self._take_over(view, sent or (len(view), [], 0, 0, False))
        return True

    def _write(self, view: memoryview) -> int:
        try:
            return self._engine.outgoing.write(view)
        except BowoutError:
            raise
        except BaseException as error:
            self._engine.outgoing.unencrypted = view  # It is unknown how much of it was encrypted.
            self._channel.tear(error)
            raise

    async def _flush_send(self) -> None:
        while not self._channel.flush():
            await self._channel.transport.wait_writable(self._channel.flush)
            self._check_sending()

    def _check_sending(self) -> None:
        """Raise if the connection has ended, unless the kernel has all of the send: the last step passed it on."""
        whole = not (
            self._engine.outgoing.interrupted or self._engine.outgoing.unencrypted or self._engine.outgoing.size
        )
        if not whole or self._engine.outbound in DEAD:
            self._closer.check_not_ended()

    async def _receive_other_half(self) -> None:
        """Receive the other half of a handshake message of which OpenSSL has one half, so that it writes again."""
        if self._engine.input_ended:
            raise self._engine.failure or Truncated("the peer left within a handshake message", inside_record=False)
        self._channel.leave_lane()
        self._channel.send_held_up = True
        await self._channel.transport.wait(read=True, write=False)
        self._closer.check_not_ended()
        # The reader may have been woken for it after us, and will find it where it is held.
        if self._channel.reading or self._channel.receive(MIN_READ) is not None:
            self._channel.safely(self._engine.incoming.hold)

    def check_whole(self) -> None:
        """Raise if close_notify would be false, after half a message."""
        if self._engine.outgoing.interrupted:
            raise SendInterrupted("a send or message() was interrupted: close_notify would mark it as complete")
        if self._engine.outgoing.amid_message:
            raise MisuseError("a message() is in progress: close_notify would mark it as complete")

    async def wait_writable(self) -> None:
        """Wait for the earlier sends, and until the kernel has all of the engine's output."""
        await self._acquire_sends()
        try:
            self._closer.check_staying()
            if self._engine.outbound is not Outbound.OPEN:
                raise self._closer.with_ending(self._engine.outgoing.why_not_writable())
            await self.flush()
        finally:
            self._release_sends()

    async def send_eof(self) -> None:
        """Queue our close_notify after the earlier sends, and pass it to the kernel."""
        await self._acquire_sends()
        try:
            self._channel.leave_lane()
            self._closer.check_staying()
            if self._engine.outbound is Outbound.OPEN:
                self.check_whole()
                self._engine.record_call("send_eof()", leaving=False)
                self._channel.safely(self._engine.queue_close_notify)
            await self.flush()
            if self._engine.outbound in DEAD:
                raise self._closer.with_ending(self._engine.outgoing.why_not_writable())
        finally:
            self._release_sends()

    async def _acquire_sends(self) -> None:
        self._closer.check_loop()
        try:
            await self._sends.acquire()
            self._channel.send_lane = None
        except BaseException:
            self._wake_closer()  # The lock may have been acquired and released already.
            raise

    def _release_sends(self) -> None:
        self._sends.release()
        self.enter_lane()
        self._wake_closer()

    def _wake_closer(self) -> None:
        """Wake a close that waits for the last sender."""
        if self._closer.leaving:
            self._channel.transport.wake()
