"""The two streams of httpcore's network interface: plain, and TLS."""

from __future__ import annotations

import abc
import logging
import socket
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpcore

from bowout._backends.sockets import address_of
from bowout.ending import Inbound
from bowout.errors import HandshakeTimeout, MisuseError
from bowout.httpcore._calls import interruption, raised_as, within

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from bowout._backends import Backend, Transport
    from bowout._stream import Stream
    from bowout.httpcore._policy import ConnectionPolicy

T = TypeVar("T")

_log: Final = logging.getLogger("bowout")


class NetworkStream(httpcore.AsyncNetworkStream, abc.ABC):
    """A connection that an `AsyncBackend` has made, or the TLS over it that `start_tls` has begun.

    A response of httpx or httpcore has it as ``response.extensions["network_stream"]``.

    Args:
        policy: how TLS ends.
        below: the stream under this one, if it was made by `start_tls`.
    """

    def __init__(self, policy: ConnectionPolicy, below: NetworkStream | None = None) -> None:
        self._policy = policy
        self._below = below
        self._above: TLSNetworkStream | None = None
        self._timed_out = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Receive up to `max_bytes` bytes; ``b""`` at the end.

        Raises:
            httpcore.ReadTimeout: nothing came within `timeout` seconds.
            httpcore.ReadError: the connection has ended otherwise; the cause says how.
        """
        with raised_as(httpcore.ReadError):
            return await self._timed(timeout, lambda: self._receive(max_bytes), late=httpcore.ReadTimeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`; return when the kernel has it.

        Raises:
            httpcore.WriteTimeout: the kernel did not take it within `timeout` seconds.
            httpcore.WriteError: the connection has ended; the cause says how.
        """
        if buffer:
            with raised_as(httpcore.WriteError):
                await self._timed(timeout, lambda: self._send(buffer), late=httpcore.WriteTimeout)

    async def _timed(self, timeout: float | None, call: Callable[[], Awaitable[T]], *, late: type[Exception]) -> T:
        self._check_own()
        try:
            return await within(timeout, call, late=late)
        except late:
            self._timed_out = True
            raise

    def _check_own(self) -> None:
        if self._above is not None:
            raise MisuseError("this connection has changed to TLS: use the stream that start_tls() returned")

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        """Change to TLS, in which the connection continues: TLS in TLS, if it is TLS already.

        Args:
            ssl_context: as for `bowout.wrap`.
            server_hostname: likewise.
            timeout: seconds for the handshake; None for 30, since nothing waits forever.

        Raises:
            httpcore.ConnectTimeout: the handshake was not done within `timeout` seconds.
            httpcore.ConnectError: the handshake failed; the cause is the `bowout.HandshakeError`.
            TypeError, ValueError: TLS cannot carry `server_hostname`, or `ssl_context` is not fit for a client.
            bowout.MisuseError: it was called before. The connection is unharmed.

        After every other error, and if it is cancelled, the connection is closed.
        """
        self._check_own()
        try:
            stream = await self._wrap(ssl_context, server_hostname, timeout)
            self._above = TLSNetworkStream(stream, self._policy, below=self)
            await self._above.handshake()
        except BaseException:
            await self.aclose()
            raise
        return self._above

    async def aclose(self) -> None:
        """End the connection, with the TLS that was begun over this stream. Further calls do nothing.

        TLS is closed gracefully, for the backend's ``close_timeout`` at most. After a timeout of a read or a write, and
        in a task that is handling a cancellation, nothing waits: close_notify is sent if the kernel takes it at once.

        Cancelling it closes the descriptor.
        """
        if self._above is not None:
            await self._above.aclose()
        else:
            await self.close_down(patient=not self._timed_out)

    async def close_down(self, *, patient: bool) -> None:
        """Close this stream, then the one below; `patient`: wait for the peer."""
        try:
            await self._close(patient=patient)
        finally:
            if self._below is not None:
                await self._below.close_down(patient=patient)

    def has_ended(self) -> bool:
        """Process what has arrived, without waiting; tell whether the connection is of no use for another request.

        Data of the peer do not count: in HTTP/2, some may come at any time.
        """
        return self._has_ended() if self._above is None else self._above.has_ended()

    # -- what differs ----------------------------------------------------------------------------------------------

    @abc.abstractmethod
    async def _receive(self, max_bytes: int) -> bytes: ...

    @abc.abstractmethod
    async def _send(self, data: bytes) -> None: ...

    @abc.abstractmethod
    async def _wrap(self, context: ssl.SSLContext, server_hostname: str | None, timeout: float | None) -> Stream: ...

    @abc.abstractmethod
    async def _close(self, *, patient: bool) -> None: ...

    @abc.abstractmethod
    def _has_ended(self) -> bool: ...


class PlainNetworkStream(NetworkStream):
    """A connection without TLS, so far.

    Args:
        backend: the event loop.
        transport: the connected socket.
        policy: how the TLS over it ends.
    """

    def __init__(self, backend: Backend, transport: Transport, policy: ConnectionPolicy) -> None:
        super().__init__(policy)
        self._backend = backend
        self._transport = transport
        self._loss: OSError | None = None

    async def _receive(self, max_bytes: int) -> bytes:
        if self._loss is not None:
            raise self._loss
        buffer = memoryview(bytearray(max_bytes))
        while (count := self._transport.receive_into(buffer)) is None:
            await self._transport.wait(read=True, write=False)
        return bytes(buffer[:count])

    async def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            count = self._transport.send(rest)
            if count is None:
                await self._transport.wait(read=False, write=True)
            else:
                rest = rest[count:]

    async def _wrap(self, context: ssl.SSLContext, server_hostname: str | None, timeout: float | None) -> Stream:
        sock, received = await self._transport.detach()
        try:
            sock.getpeername()  # A reset that has arrived already is an OSError here, and no wrong argument of ours.
            return self._policy.wrap(sock, context, server_hostname, timeout=timeout, received=received)
        except BaseException:
            sock.close()
            raise

    async def _close(self, *, patient: bool) -> None:  # noqa: ARG002  (TCP alone has nothing to wait for)
        if self._backend.is_current():
            self._transport.close()
        else:
            self._transport.drop()

    def _has_ended(self) -> bool:
        return self._peek() == b""

    def _peek(self) -> bytes | None:
        """Return the first byte that has arrived; b"" if there will be none, None if there is none yet."""
        sock = self._transport.sock
        if sock is None or not self._backend.is_current():
            return b""
        try:
            return sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            self._loss = error  # The kernel tells it once, and an end of input after that.
            return b""

    def get_extra_info(self, info: str) -> Any:
        """Return a fact about the connection; None if it is unknown, and after the change to TLS.

        Args:
            info: ``"socket"``, ``"client_addr"``, ``"server_addr"``: as in httpcore. ``"is_readable"``: whether a byte
                or the end has arrived.
        """
        sock = self._transport.sock
        match info:
            case "socket":
                return sock
            case "client_addr":
                return sock and address_of(sock.getsockname)
            case "server_addr":
                return sock and address_of(sock.getpeername)
            case "is_readable":
                return self._peek() is not None
        return None


class TLSNetworkStream(NetworkStream):
    """A connection in TLS, whose end is right.

    Args:
        stream: TLS itself.
        policy: how the TLS over this one ends.
        below: what carries it.
    """

    def __init__(self, stream: Stream, policy: ConnectionPolicy, below: NetworkStream) -> None:
        super().__init__(policy, below)
        self._stream = stream
        self._read_to_end = False

    async def handshake(self) -> None:
        """Perform the handshake.

        Raises:
            httpcore.ConnectTimeout, httpcore.ConnectError: it failed.
        """
        with raised_as(httpcore.ConnectError):
            try:
                await self._stream.handshake()
            except HandshakeTimeout as error:
                raise httpcore.ConnectTimeout(str(error)) from error

    async def _receive(self, max_bytes: int) -> bytes:
        data = await self._stream.receive(max_bytes)
        if not data:
            self._read_to_end = True
        return data

    async def _send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def _wrap(self, context: ssl.SSLContext, server_hostname: str | None, timeout: float | None) -> Stream:
        return self._policy.wrap(self._stream, context, server_hostname, timeout=timeout)

    async def _close(self, *, patient: bool) -> None:
        error = interruption()
        if error is not None:
            await self._stream.__aexit__(type(error), error, None)
        else:
            await self._stream.close(None if patient else 0)
        self._log_tolerated()

    def _log_tolerated(self) -> None:
        """Log, once, that a truncation was taken for the end of an answer."""
        ending, self._read_to_end, was_read = self._stream.ending, False, self._read_to_end
        if was_read and ending is not None and ending.inbound is Inbound.TRUNCATED_AT_BOUNDARY:
            _log.info("%s: a FIN without close_notify was taken for the end of the answer: %s", ending.peer, ending)

    def _has_ended(self) -> bool:
        stream = self._stream
        return not stream.is_reusable() and (stream.peer_ended or not stream.can_send)

    def get_extra_info(self, info: str) -> Any:
        """Return a fact about the connection; None if it is unknown.

        Args:
            info: ``"ssl_object"``, ``"socket"``, ``"client_addr"``, ``"server_addr"``: as in httpcore.
                ``"is_readable"``: whether the connection is anything else than idle and healthy. What has arrived is
                processed first, so that session tickets do not count. ``"ending"``: the `bowout.Ending`; None before
                the end.
        """
        stream = self._stream
        match info:
            case "ssl_object":
                return stream.ssl_object
            case "socket":
                return stream.socket
            case "client_addr":
                return stream.local_address
            case "server_addr":
                return stream.remote_address
            case "is_readable":
                return not stream.is_reusable()
            case "ending":
                return stream.ending
        return None
