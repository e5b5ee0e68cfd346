"""A running server: accepting, serving, draining."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from bowout._arguments import check_callable, check_choice, checked_count, checked_period, checked_timeout
from bowout._core import hook
from bowout._exception_groups import consists_of
from bowout._server import certificates
from bowout._server.accept import Acceptor
from bowout._server.connections import Connections, ServedConnection
from bowout._server.drain import Drain, settle
from bowout._server.drain_log import DrainLog
from bowout._server.handlers import call_handler
from bowout._server.preface import receive_proxy_header, turn_away
from bowout._server.served_stream import ServedStream
from bowout._server.sni import sni_name
from bowout._text import escape
from bowout.ending import How
from bowout.errors import BowoutError, LimitExceeded, MisuseError, PeerError, StreamClosed

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import PurePath

    from bowout._backends import Backend, Task, TaskGroup, Transport
    from bowout._options import StreamOptions
    from bowout._server.certificates import Password
    from bowout._server.drain import OnDrain
    from bowout._server.drain_log import DrainReport
    from bowout._server.listen import Listener
    from bowout._stream import Stream
    from bowout.ending import Ending, Event

_log = logging.getLogger("bowout.server")

#: Sweeps per idle timeout: an idle connection is found at most 1/8 of the timeout late.
_SWEEP_PART: Final = 8
#: Exceptions of a handler that are no failure: the peer's fault, or a drain. The ending reports it.
_NO_FAILURE: Final = (PeerError, StreamClosed, LimitExceeded)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a server, besides the options of its streams; `bowout.serve` documents them."""

    max_connections: int | None
    max_handshakes: int
    idle_timeout: float | None
    drain_timeout: float
    on_drain: OnDrain
    on_ending: Callable[[Ending], None] | None
    on_event: Callable[[str, Event], None] | None
    proxy_protocol: bool | Callable[[str], bool] = False

    def check(self) -> None:
        """Raise TypeError or ValueError for an invalid setting."""
        if self.max_connections is not None:
            checked_count("max_connections", self.max_connections, least=1)
        checked_count("max_handshakes", self.max_handshakes, least=1)
        checked_period("idle_timeout", self.idle_timeout)
        check_choice("on_drain", self.on_drain, ("close", "end_receive", "wait"))
        check_callable("on_ending", self.on_ending)
        check_callable("on_event", self.on_event)


class Server:
    """A running server; `bowout.serve` makes it.

    Attributes:
        addresses: the addresses to which the server listens: ``(host, port)`` pairs, or paths.
    """

    def __init__(  # noqa: PLR0917  (there is one caller)
        self,
        backend: Backend,
        tasks: TaskGroup,
        handler: Callable[[Stream], Awaitable[None]],
        listeners: list[Listener],
        options: StreamOptions,
        settings: Settings,
    ) -> None:
        self.addresses: list[Any] = [listener.address for listener in listeners]
        self._backend = backend
        self._tasks = tasks
        self._handler = handler
        self._options = options
        self._settings = settings
        self._connections = Connections(backend)
        self._acceptors = [self._acceptor(listener) for listener in listeners]
        self._accepting: list[Task] = []
        self._chores: list[Task] = []
        self._drain = Drain(
            backend, self._connections, settings.on_drain, close=self._close_idle, cut_off=self._cut_off
        )
        self._draining = backend.event()
        self._drained = backend.event()
        self._drain_log: DrainLog | None = None
        self._drain_began = 0.0
        self._report: DrainReport | None = None
        self._endings: Counter[How] = Counter()
        self._accepted = 0
        self._evicted = 0
        self._thread = threading.get_ident()

    @property
    def port(self) -> int:
        """The TCP port on which the server listens.

        Raises:
            MisuseError: the server listens on a Unix socket.
        """
        for address in self.addresses:
            if isinstance(address, tuple):
                return int(address[1])
        raise MisuseError("this server listens on no TCP port")

    @property
    def draining(self) -> bool:
        """Whether a drain has begun."""
        return self._draining.is_set()

    def counters(self) -> dict[str, int]:
        """Return the counters for monitoring. May be called in any thread.

        Returns:
            ``handshaking``, ``waiting`` (for room under ``max_connections``) and ``established``: current numbers of
            connections. ``accepted`` and ``evicted``: totals since the start. ``ended_clean``, ``ended_truncated``…:
            numbers of ended connections, by `How`.
        """
        return {
            "established": len(self._connections.established),
            "waiting": len(self._connections.waiting),
            "handshaking": len(self._connections.handshaking),
            "accepted": self._accepted,
            "evicted": self._evicted,
            **{f"ended_{how.name.lower()}": self._endings[how] for how in How},
        }

    def reload_certificate(
        self,
        certfile: str | PurePath,
        keyfile: str | PurePath | None = None,
        password: Password | Callable[[], Password] | None = None,
        *,
        name: str = "",
    ) -> None:
        """Use another certificate for new connections. Existing connections keep theirs, even during their handshake.

        The files are read once, and their contents are tried on another context before they are loaded: so after an
        error the old certificate works as before, even if the files change meanwhile. A certificate that is not valid
        now is used nevertheless, with a warning in the log.

        A context can have one certificate for each kind of key (RSA, ECDSA, Ed25519…). The new one replaces that of its
        kind. If there is none of its kind, it replaces all.

        Call it in the thread of the event loop: from another one, use asyncio's ``loop.call_soon_threadsafe``, or
        ``trio.from_thread.run_sync``. It blocks for a few milliseconds.

        Args:
            certfile: as for `ssl.SSLContext.load_cert_chain`.
            keyfile: likewise.
            password: likewise; an encrypted key without one is an error; no password is asked for on the terminal.
            name: a name in the mapping that was given as ``sni``; empty for the main context.

        Raises:
            OSError, ssl.SSLError: the files cannot be used.
            ValueError, TypeError: an argument is invalid, or there is no context for `name`.
            MisuseError: it was called in another thread.
        """
        self._check_thread("reload_certificate()")
        context = hook.underlying(self._options.context)
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, not {type(name).__name__}")
        if name:
            found = getattr(context.sni_callback, "contexts", {}).get(sni_name(name))
            if found is None:
                raise ValueError(f"no SNI context for {name!r}")
            context = hook.underlying(found)
        certificates.reload_certificate(context, certfile, keyfile, password)

    def _check_thread(self, verb: str) -> None:
        if threading.get_ident() != self._thread:
            raise MisuseError(
                f"{verb} was called in another thread than the server's: have the event loop call it, with "
                "loop.call_soon_threadsafe() or asyncio.run_coroutine_threadsafe(), or with trio.from_thread"
            )

    async def drain(self, timeout: float | None = None) -> DrainReport:
        """Stop accepting, end every connection properly, and wait for the last.

        Connections whose handler waits for a new request are ended at once (``on_drain`` says how); the other handlers
        may finish, and ``stream.draining`` tells them to. At the deadline each remaining connection gets close_notify,
        sent without waiting and only if it is true, and its handler is cancelled.

        Args:
            timeout: seconds; None for ``drain_timeout``, 0 for what can be done at once. A second drain can only
                shorten the deadline of the first.

        Raises:
            StreamClosed: the server's block was left before the drain was done.
            MisuseError: it was called in another thread than the server's.

        Cancelling it ends the wait; the drain goes on. If a handler calls this, the drain waits for that handler, too,
        until the deadline.
        """
        self._check_thread("drain()")
        seconds = self._settings.drain_timeout if timeout is None else checked_timeout("timeout", timeout)
        self._drain.deadline = min(self._drain.deadline, self._backend.time() + seconds)
        if not (self.draining or self._drained.is_set()):
            self._begin_drain()
        self._connections.note_change()
        return await self.wait_drained()

    async def wait_drained(self) -> DrainReport:
        """Wait for the end of a drain, whatever began it, and return its report.

        Raises:
            StreamClosed: the server's block was left before the drain was done.
        """
        await self._drained.wait()
        if self._report is None:
            raise StreamClosed("the server was stopped before it was drained")
        return self._report

    # -- for Serving ---------------------------------------------------------------------------------------------

    def start(self, signals: AsyncIterator[int] | None) -> None:
        """Begin to accept connections, and to obey `signals`."""
        hook.prepare(self._options.context)
        self._accepting = [self._tasks.start(acceptor.run) for acceptor in self._acceptors]
        if self._settings.idle_timeout is not None:
            self._chores.append(self._tasks.start(self._sweep, self._settings.idle_timeout))
        if signals is not None:
            self._chores.append(self._tasks.start(self._obey, signals))

    def stop(self) -> None:
        """End everything that is left, without waiting."""
        for job in (*self._accepting, *self._chores):
            job.cancel()
        for served in self._connections.all():
            self._cut_off(served, "the server stopped")
        self._drained.set()

    # -- accepting -----------------------------------------------------------------------------------------------

    def _acceptor(self, listener: Listener) -> Acceptor:
        return Acceptor(
            self._backend,
            listener,
            admit=self._admit,
            room=self._wait_to_accept,
            serve_backlog=self._is_draining,
            done=self._connections.note_change,
        )

    def _is_draining(self) -> bool:
        return self.draining and not self._drained.is_set()

    def _is_full(self) -> bool:
        most = self._settings.max_connections
        return most is not None and len(self._connections.established) >= most

    async def _wait_to_accept(self) -> None:
        while self._is_full() or self._connections.waiting:
            await self._connections.wait_for_change()

    async def _wait_for_room(self, served: ServedConnection) -> bool:
        """Wait in order of arrival, like the backlog; return False if `served` was closed while it waited."""
        self._connections.waiting[served] = None
        while served.closer is None and (self._is_full() or self._connections.next_waiting() is not served):
            await self._connections.wait_for_change()
        if served.closer is not None:
            await served.stream.wait_ended()
            return False
        del self._connections.waiting[served]
        self._connections.note_change()
        return True

    def _admit(self, sock: socket.socket) -> None:
        self._accepted += 1
        if self._drain_log is not None:
            self._drain_log.came()
        try:
            served = ServedConnection(self._stream(sock))
        except Exception:  # noqa: BLE001  (it is logged, and must not end the accepting)
            _log.exception("an accepted connection could not be set up")
            sock.close()
            return
        self._connections.handshaking[served] = None
        self._evict()
        served.job = self._tasks.start(self._serve, served)

    def _stream(self, sock: socket.socket) -> ServedStream:
        transport = self._backend.transport(sock, "")
        transport.peer = transport.peer or f"unix#{self._accepted}"
        options = self._options
        if self._settings.on_event is not None:
            options = replace(options, on_event=partial(_tell_event, self._settings.on_event, transport))
        connection = options.connection(self._backend, transport)
        try:
            if self._expects_header(sock):
                connection.preface = partial(receive_proxy_header, transport, connection)
        except Exception:  # noqa: BLE001  (it is logged, and touches no other connection)
            _log.exception("%s: proxy_protocol failed", escape(transport.peer))
            connection.preface = partial(turn_away, connection)
        return ServedStream(
            connection,
            handshake_timeout=options.handshake_timeout,
            close_timeout=options.close_timeout,
            draining=self._draining,
        )

    def _expects_header(self, sock: socket.socket) -> bool:
        """Tell whether a header of the PROXY protocol must come first. The received bytes never decide it."""
        expected = self._settings.proxy_protocol
        if isinstance(expected, bool):
            return expected
        try:
            address = sock.getpeername()
        except OSError:
            return True  # The client is gone already; only the proxy sends a header.
        return bool(expected(address[0] if isinstance(address, tuple) else ""))

    def _evict(self) -> None:
        """Make room among the handshakes. An honest client finishes its own before it is the oldest."""
        if len(self._connections.handshaking) > self._settings.max_handshakes:
            victim = next(iter(self._connections.handshaking))
            del self._connections.handshaking[victim]
            self._evicted += 1
            victim.stream.abort()
            self._note_ending(victim)

    # -- serving -------------------------------------------------------------------------------------------------

    async def _serve(self, served: ServedConnection) -> None:
        try:
            await self._serve_stream(served)
        except BaseExceptionGroup as group:
            self._note_failure(served, group)
            _, rest = group.split(Exception)
            if rest is not None:
                raise rest from None
        except Exception as error:  # noqa: BLE001  (it is logged, and touches no other connection)
            self._note_failure(served, error)
        finally:
            try:
                served.stream.leave("left before its handler began")  # Every other stream has ended by now.
                self._note_ending(served)
            finally:
                self._connections.remove(served)

    async def _serve_stream(self, served: ServedConnection) -> None:
        stream = served.stream
        try:
            await stream.handshake()
        except BowoutError:
            return  # Its ending tells why.
        self._connections.handshaking.pop(served, None)
        served.since = self._backend.time()
        if not await self._wait_for_room(served):
            return
        self._connections.established[served] = None
        served.since = self._backend.time()
        async with stream:
            try:
                await call_handler(self._handler, stream)
            except BaseException as error:
                # In a cancelled scope of trio the close of the stream raises, and takes the place of this.
                self._note_failure(served, error)
                raise

    @staticmethod
    def _note_failure(served: ServedConnection, error: BaseException) -> None:
        """Log the exception of a handler, once; a cancellation is no failure."""
        failure, _ = error.split(Exception) if isinstance(error, BaseExceptionGroup) else (error, None)
        if served.failed or not isinstance(failure, Exception):
            return
        served.failed = True
        if not consists_of(failure, _NO_FAILURE):
            _log.error("%s: the handler failed", escape(served.stream.peer), exc_info=failure)
        elif _log.isEnabledFor(logging.DEBUG):
            peer, text = escape(served.stream.peer), escape(str(failure))
            _log.debug("%s: the handler ended with %s: %s", peer, type(failure).__name__, text)

    def _note_ending(self, served: ServedConnection) -> None:
        ending = served.stream.ending
        if ending is None or served.noted:
            return
        served.noted = True
        self._endings[ending.how] += 1
        if self._drain_log is not None:
            self._drain_log.add(ending, slow=served.slow)
        level = logging.DEBUG if ending.clean else logging.INFO
        if _log.isEnabledFor(level):  # The words cost as much as the close.
            _log.log(level, "%s: %s", escape(ending.peer), escape(str(ending)))
        if self._settings.on_ending is not None:
            try:
                self._settings.on_ending(ending)
            except Exception:  # noqa: BLE001  (likewise)
                _log.exception("on_ending failed")

    # -- chores --------------------------------------------------------------------------------------------------

    async def _sweep(self, idle_timeout: float) -> None:
        while True:
            await self._backend.sleep_until(self._backend.time() + idle_timeout / _SWEEP_PART)
            limit = self._backend.time() - idle_timeout
            await settle(self._backend)
            for served in list(self._connections.established):
                if served.stream.waits_for_peer and max(served.stream.last_data_at, served.since) < limit:
                    self._close(served)

    def _close(self, served: ServedConnection) -> None:
        if served.closer is None:
            served.closing = True
            served.closer = self._tasks.start(_close_stream, served.stream)
            self._connections.note_change()  # The handler may be waiting for room.

    def _close_idle(self, served: ServedConnection) -> None:
        """Begin to close a connection whose handler waits for a request, and leave the rest to the handler's task.

        A second call is for a handler that has not left its block: then another task does the rest.
        """
        if served.closing or not served.stream.begin_close():
            self._close(served)
        served.closing = True

    async def _obey(self, signals: AsyncIterator[int]) -> None:
        timeout: float | None = None
        async for number in signals:
            _log.info("%s: %s", signal.Signals(number).name, "draining" if timeout is None else "shortening the drain")
            self._chores.append(self._tasks.start(self._drain_for_signal, timeout))
            timeout = 0.0

    async def _drain_for_signal(self, timeout: float | None) -> None:
        with contextlib.suppress(StreamClosed):
            await self.drain(timeout)

    # -- draining ------------------------------------------------------------------------------------------------

    def _begin_drain(self) -> None:
        everyone = self._connections.all()
        self._drain_began = self._backend.time()
        self._drain_log = DrainLog(len(everyone))
        self._draining.set()
        self._chores.append(self._tasks.start(self._carry_out_drain, self._drain_log))

    async def _carry_out_drain(self, log: DrainLog) -> None:
        await self._stop_accepting()
        await self._drain.run()
        self._report = log.report(self._backend.time() - self._drain_began)
        self._drained.set()

    async def _stop_accepting(self) -> None:
        """Accept what the backlog holds, and close the listeners."""
        # A task that is cancelled before it began never runs, and so never cleans up.
        await self._backend.checkpoint()
        for job in self._accepting:
            job.cancel()
        while not all(acceptor.closed for acceptor in self._acceptors):
            await self._connections.wait_for_change()

    def _cut_off(self, served: ServedConnection, reason: str) -> None:
        served.stream.leave(reason)
        self._note_ending(served)
        for job in (served.closer, served.job):
            if job is not None:
                job.cancel()


def _tell_event(on_event: Callable[[str, Event], None], transport: Transport, event: Event) -> None:
    on_event(transport.peer, event)


async def _close_stream(stream: ServedStream) -> None:
    await stream.close()
