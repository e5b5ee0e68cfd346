"""A byte stream of another library, or of our own, as the transport of a connection, on every event loop.

A call of such a stream takes its time, and a call that is cancelled may have moved a part of its bytes. So each runs in
a task of its own, which no wait and no cancellation of the application interrupts: one task receives, at most `CHUNK`
bytes ahead of the reader, and one sends at most as many. They are cancelled only when the stream is closed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bowout._backends.sockets import address_name, belongs_elsewhere
from bowout._text import escape
from bowout.errors import BowoutError, MisuseError
from bowout.transport import CountsUnacknowledged, EndsOutput, HasExtraInfo, Resets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from bowout._backends import Backend, Deadline, LoopEvent, Task
    from bowout.transport import ByteStream

T = TypeVar("T")

_log = logging.getLogger("bowout")

#: Maximum bytes of one receive, and of one send.
CHUNK: Final = 1 << 16
#: Time, in seconds, that a stream has to close although the deadline of the close has passed, and that a cancelled task
#: waits for it.
MOMENT: Final = 0.5
#: Turns of the event loop that a send may take to return when its bytes have left.
_TURNS: Final = 2
#: Turns of the event loop without any news after which a stream has brought what the kernel had before. A layer between
#: the kernel and us takes up to three: the loop polls the socket, calls the layer's transport, and then its reader.
_QUIET_TURNS: Final = 12
#: Maximum number of characters of an error's text in an ending.
_LONGEST_TEXT: Final = 200


class ByteStreamTransport:
    """A transport over a byte stream.

    Args:
        backend: the event loop.
        carrier: the stream.
        wrapped: what the application gave, and gets back from `detach`.
        peer: the peer's name for people; "" for the name that the stream knows.
    """

    acts_at_once = False
    carries_lane = False
    sock = None

    __slots__ = (
        "__weakref__",
        "_arrived",
        "_backend",
        "_can_end_output",
        "_carrier",
        "_changed",
        "_closed",
        "_closing",
        "_fin_sent",
        "_input_ended",
        "_limit",
        "_on_sent",
        "_receive_error",
        "_receiver",
        "_receiving",
        "_send_error",
        "_sender",
        "_sending",
        "_sent",
        "_until",
        "_wrapped",
        "peer",
    )

    def __init__(self, backend: Backend, carrier: ByteStream, wrapped: Any, peer: str) -> None:
        self._backend = backend
        self._carrier = carrier
        self._wrapped = wrapped
        self._changed: LoopEvent = backend.event()
        self._arrived = memoryview(b"")
        self._receiver: Task | None = None
        self._receiving = False
        self._receive_error: OSError | None = None
        self._input_ended = False
        self._sender: Task | None = None
        self._sending = False
        self._send_error: OSError | None = None
        self._sent = 0
        self._on_sent: Callable[[], object] = _nothing
        self._can_end_output = isinstance(carrier, EndsOutput)
        self._fin_sent = False
        self._closing = False
        self._closed: LoopEvent = backend.event()
        self._until = 0.0
        self._limit: Deadline | None = None
        self.peer: str = peer or address_name(self.get_extra_info("peername"))

    # -- receiving -----------------------------------------------------------------------------------------------

    def receive_into(self, buffer: memoryview) -> int | None:
        if not self._arrived:
            if self._receive_error is not None:
                raise self._receive_error.with_traceback(None)
            if self._input_ended:
                return 0
            self._receive_ahead()
            return None
        count = min(len(buffer), len(self._arrived))
        buffer[:count] = self._arrived[:count]
        self._arrived = self._arrived[count:]
        self._receive_ahead()
        return count

    def _receive_ahead(self) -> None:
        """Begin the next receive, if everything before it was taken and more may come."""
        over = self._closing or self._input_ended or self._receive_error is not None
        if not (over or self._receiving or self._arrived) and self._backend.is_current():
            self._receiving = True
            self._receiver = self._backend.spawn(self._receive)

    async def _receive(self) -> None:
        data: bytes | None = None
        error: Exception | None = None
        try:
            try:
                data = _copied(await self._call(self._carrier.receive, CHUNK))
            except Exception as raised:  # noqa: BLE001  (anybody's stream may raise anything)
                error = raised
            await self._let_send_return()
        finally:
            self._take(data, error)
            self._receiving, self._receiver = False, None
            self.wake()

    async def _let_send_return(self) -> None:
        """Let a send return if only that is left of it: what was received may be the answer to it."""
        for _ in range(_TURNS):
            if self._sending:
                await self._backend.checkpoint()

    def _take(self, data: bytes | None, error: Exception | None) -> None:
        """Take the result of a receive, or its error; neither if it was cancelled, and the next one carries on."""
        if error is not None:
            self._receive_error = as_loss(error)
        elif data is not None:
            self._arrived = memoryview(data)
            self._input_ended = not data

    # -- sending -------------------------------------------------------------------------------------------------

    def send(self, data: bytes | memoryview) -> int | None:
        if not (self._sending or self._sent or self._send_error):
            self._begin_output(partial(self._send, bytes(data[:CHUNK])))
        if self._send_error is not None:
            raise self._send_error.with_traceback(None)
        if self._sending or not self._sent:
            return None
        count, self._sent = self._sent, 0
        return count

    def send_fin(self) -> bool | None:
        if self._can_end_output and not (self._sending or self._fin_sent or self._send_error):
            self._begin_output(self._send_eof)
        if self._send_error is not None or not self._can_end_output:
            return False
        return self._fin_sent or None

    def _begin_output(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if not self._closing and self._backend.is_current():
            self._sending = True
            self._sender = self._backend.spawn(run)

    async def _send(self, data: bytes) -> None:
        try:
            await self._call(self._carrier.send, data)
            self._sent = len(data)
        except Exception as error:  # noqa: BLE001  (as above)
            self._send_error = as_loss(error)
        finally:
            if not self._sent and self._send_error is None:  # It is unknown how much was sent: nothing may follow.
                self._send_error = OSError(errno.ECANCELED, "a send was cancelled in the middle")
            self._end_output()

    async def _send_eof(self) -> None:
        assert isinstance(self._carrier, EndsOutput), "`send_fin` looks first"
        try:
            await self._call(self._carrier.send_eof)
            self._fin_sent = True
        except NotImplementedError:
            self._can_end_output = False
        except Exception as error:  # noqa: BLE001  (as above)
            self._send_error = as_loss(error)
        finally:
            self._end_output()

    def _end_output(self) -> None:
        self._sending, self._sender = False, None
        try:
            self._on_sent()
        except Exception:  # noqa: BLE001  (no task of the connection is here to get it; it has ended the connection)
            _log.exception("the next bytes could not be sent")
        self.wake()

    def call_when_sent(self, call: Callable[[], object]) -> None:
        self._on_sent = call

    # -- waiting -------------------------------------------------------------------------------------------------

    async def wait(self, *, read: bool, write: bool) -> None:
        if not self._backend.is_current():
            raise belongs_elsewhere(running=self._backend.is_running())
        if read:
            self._receive_ahead()
        if self._closing or (read and not self._receiving) or (write and not self._sending):
            await self._backend.checkpoint()
        else:
            await self._changed.wait()

    async def wait_readable(self, take: Callable[[], bool]) -> None:
        await self.wait(read=True, write=False)
        take()

    async def wait_writable(self, give: Callable[[], bool]) -> None:  # noqa: ARG002  (the caller calls it)
        await self.wait(read=False, write=True)

    def begin_lane(self, lane: Any) -> bool:
        raise NotImplementedError("it has no descriptor")

    def end_lane(self, *, watched: bool) -> None:
        raise NotImplementedError("it has no descriptor")

    def wake(self) -> None:
        changed, self._changed = self._changed, self._backend.event()
        changed.set()

    async def catch_up(self) -> bool:
        self._receive_ahead()
        changed = self._changed
        for _ in range(_QUIET_TURNS):
            if changed.is_set():
                break
            await self._backend.checkpoint()
        return changed.is_set()

    # -- what only some streams can do ---------------------------------------------------------------------------

    @property
    def lacks(self) -> str:
        abilities = {
            "no FIN of its own": self._can_end_output,
            "no RST": isinstance(self._carrier, Resets),
            "no acknowledgements": isinstance(self._carrier, CountsUnacknowledged),
        }
        missing = [words for words, able in abilities.items() if not able]
        return f"the stream under TLS has {', '.join(missing)}" if missing else ""

    def unacknowledged(self) -> int | None:
        if self._closing or self._sending or not isinstance(self._carrier, CountsUnacknowledged):
            return None
        return self._carrier.unacknowledged()

    def get_extra_info(self, name: str) -> Any:
        return self._carrier.get_extra_info(name) if isinstance(self._carrier, HasExtraInfo) else None

    # -- ending --------------------------------------------------------------------------------------------------

    def reset(self) -> bool:
        if self._closing:
            return False
        sent = self._abort()
        self._begin_to_close(0.0)
        return sent

    def _abort(self) -> bool:
        if isinstance(self._carrier, Resets):
            try:
                return bool(self._carrier.abort())
            except Exception:  # noqa: BLE001  (as above)
                _log.exception("a stream under TLS could not be aborted")
        return False

    def close(self, *, deadline: float = 0.0) -> None:
        if not self._closing:
            self._begin_to_close(max(deadline, self._backend.time() + MOMENT))

    def _begin_to_close(self, until: float) -> None:
        """Close the stream; the last send has time until `until`."""
        self._closing, self._until = True, until
        self._on_sent = _nothing
        if self._backend.is_current():
            self._backend.spawn(self._close)
        else:  # Its event loop is over: nothing can be awaited there.
            self._abort()
            self._closed.set()
        self.wake()

    async def _close(self) -> None:
        try:
            await self._end_tasks()
        finally:
            try:
                async with self._in_time(least=MOMENT):
                    await self._call(self._carrier.aclose)
            except Exception:  # noqa: BLE001  (as above)
                _log.exception("a stream under TLS could not be closed")
            finally:
                self._closed.set()

    async def _end_tasks(self) -> None:
        """Wait for the last send while there is time, then end both tasks."""
        try:
            async with self._in_time():
                while self._sending:
                    await self._changed.wait()
            await self._backend.checkpoint()  # A task that was cancelled before it began would not clean up.
        finally:
            for task in (self._receiver, self._sender):
                if task is not None:
                    task.cancel()
        async with self._backend.move_on_at(self._backend.time() + MOMENT):
            while self._is_busy():
                await self._changed.wait()

    def _is_busy(self) -> bool:
        return self._sending or self._receiving

    @contextlib.asynccontextmanager
    async def _in_time(self, *, least: float = 0.0) -> AsyncIterator[None]:
        """Limit a block to the time until `_until`, or to `least` seconds if that is later; 0.0 is at once."""
        until = max(self._until, self._backend.time() + least) if self._until else 0.0
        async with self._backend.move_on_at(until) as limit:
            self._limit = limit
            try:
                yield
            finally:
                self._limit = None

    async def wait_closed(self) -> None:
        if not self._closing or self._closed.is_set():
            return
        try:
            # The last send has time until `_until`, then its end, the close and this wait have a moment each.
            async with self._backend.move_on_at(max(self._until, self._backend.time()) + 3 * MOMENT):
                await self._closed.wait()
            if not self._closed.is_set():
                _log.warning("a stream under TLS does not close: it ignores the cancellation of its calls")
        except GeneratorExit:
            raise
        except BaseException:
            self._until = 0.0
            if self._limit is not None:
                self._limit.tighten(0.0)
            async with self._backend.move_on_at(self._backend.time() + MOMENT, shield=True):
                await self._closed.wait()
            raise

    async def _call(self, method: Callable[..., Awaitable[T]], *args: object) -> T:
        """Await a method of the stream. A cancellation from within it, which is not this task's, is its failure."""
        try:
            return await method(*args)
        except self._backend.cancellations as error:
            if self._backend.is_cancelled():
                raise
            raise OSError(errno.ECANCELED, "a call of the stream under TLS was cancelled from within") from error

    def drop(self) -> None:
        self._backend.call_soon(self.close)

    def leave_to_parent(self) -> None:
        self._closing = True  # The stream below is the parent's: none of its calls may send or close anything.
        self._on_sent = _nothing
        self._closed.set()

    async def detach(self) -> tuple[Any, bytes]:
        await self._backend.checkpoint()  # As in `_end_tasks`.
        async with self._backend.move_on_at(self._backend.time() + MOMENT):
            while self._receiving:
                if self._receiver is not None:
                    self._receiver.cancel()
                await self._changed.wait()
        if self._receiving:
            raise MisuseError("the stream under TLS cannot be given back: its receive() ignores cancellation")
        self._closing = True
        self._on_sent = _nothing
        self._closed.set()
        self.wake()
        return self._wrapped, bytes(self._arrived)


def _nothing() -> None:
    pass


def _copied(data: object) -> bytes:
    """Return `data`, which a stream has received, in memory that the stream does not use again. Raises OSError."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise OSError(0, f"{type(data).__name__} was received, not bytes")
    return bytes(data)


def as_loss(error: Exception) -> OSError:
    """Return what `error`, of any kind, says of a connection in the terms of sockets.

    A reset is a ConnectionResetError; everything else is an OSError with the text of `error`.
    """
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError) and not isinstance(cause, BowoutError):
        if isinstance(cause, ConnectionResetError | BrokenPipeError):
            return ConnectionResetError(errno.ECONNRESET, _text_of(cause))
        return OSError(cause.errno if isinstance(cause.errno, int) else 0, _text_of(cause))
    return OSError(0, _text_of(error))


def _text_of(error: Exception) -> str:
    """Return the text of `error`: the system's for an OSError, otherwise with the name of its class."""
    name, text = type(error).__name__, ""
    with contextlib.suppress(Exception):  # Anybody's exception may have a faulty __str__().
        text = str(error)
    if isinstance(error, OSError) and not isinstance(error, BowoutError):
        system = error.strerror if isinstance(error.strerror, str) else ""
        return _shown(system or text or name)
    return _shown(f"{name}: {text}" if text else name)


def _shown(text: str) -> str:
    return escape(text[:_LONGEST_TEXT])
