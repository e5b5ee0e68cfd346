"""A socket for code that is written for `ssl.SSLSocket`: it is one, and its TLS is ours."""

from __future__ import annotations

import contextlib
import errno
import operator
import socket
import ssl
import time
import weakref
from typing import TYPE_CHECKING, Any, Self, TypeVar

from bowout._core import hook
from bowout._core.chain import sent_chain, verified_chain
from bowout._stream_facts import session_of
from bowout.blocking._connection import BlockingConnection
from bowout.blocking._limit import Limit
from bowout.blocking._policy import log_tolerated, policy_of
from bowout.blocking._transport import Underneath
from bowout.ending import Inbound
from bowout.errors import ReceiveInterrupted, SendInterrupted, StreamClosed, TimedOut

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout.ending import Ending

T = TypeVar("T")


class TLSSocket(ssl.SSLSocket):
    """An `ssl.SSLSocket` that ends correctly. The ``wrap_socket`` of a prepared context makes it.

    It does what the standard library's does, with these differences:

    * `close` sends close_notify, and waits for the peer's, for the policy's ``close_timeout`` at most, and not longer
      than the socket's own timeout; a socket that does not block sends what can be sent at once.
    * A receive returns ``b""`` at the peer's close_notify alone. At a FIN without it, it raises
      `bowout.errors.Truncated`, which is an `ssl.SSLEOFError`; at an RST `bowout.errors.Reset`, a ConnectionResetError;
      both after the data that came before. ``suppress_ragged_eofs`` is True by default and decides nothing; False makes
      a policy that tolerates truncation strict.
    * ``shutdown(SHUT_WR)`` is half-close: close_notify is sent, and receiving goes on. ``shutdown(SHUT_RD)`` makes each
      receive raise, also one that waits in another thread. ``SHUT_RDWR`` does both, without waiting.
    * A ``with`` block that is left by an error ends with a FIN alone, and so does a connection with an interrupted
      ``sendall``: the peer must not take half a message for a whole one.
    * A handshake has the policy's ``handshake_timeout`` if the socket has no timeout.

    One thread may send while another receives and a third closes, or shuts down; a receive that waits then ends. After
    `unwrap` the socket goes on in plain text.
    """

    _connection: BlockingConnection | None = None
    _timeout: float | None = None
    _sslobj: Any
    _session: ssl.SSLSession | None
    do_handshake_on_connect: bool
    suppress_ragged_eofs: bool

    @classmethod
    def _create(  # noqa: PLR0917  (the standard library's)
        cls,
        sock: socket.socket,
        server_side: bool = False,  # noqa: FBT001, FBT002
        do_handshake_on_connect: bool = True,  # noqa: FBT001, FBT002
        suppress_ragged_eofs: bool = True,  # noqa: FBT001, FBT002
        server_hostname: str | None = None,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
    ) -> Self:
        """Make the socket that ``wrap_socket`` returns."""
        if do_handshake_on_connect and sock.gettimeout() == 0 and _is_connected(sock):
            raise ValueError("do_handshake_on_connect should not be specified for non-blocking sockets")
        create = super()._create  # type: ignore[misc]
        self: Self = create(
            sock=sock,
            server_side=server_side,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=suppress_ragged_eofs,
            server_hostname=server_hostname,
            context=context,
            session=session,
        )
        try:
            self.do_handshake_on_connect = do_handshake_on_connect
            if self._sslobj is not None:
                self._begin()
                if do_handshake_on_connect:
                    self.do_handshake()
        except BaseException:
            self.close()
            raise
        return self

    def _begin(self) -> BlockingConnection:
        """Put our TLS in the place of the standard library's, on a socket that is connected."""
        self.getpeername()
        context = self.context
        hook.prepare(context)
        policy = policy_of(context)
        options = policy.options(
            context,
            server_side=self.server_side,
            server_hostname=self.server_hostname,
            session=self._session,
            strict=not self.suppress_ragged_eofs,
        )
        timeout = super().gettimeout()
        super().settimeout(0)
        connection = BlockingConnection(Underneath(self).as_socket(), "", options, exact=True)
        connection.closer.on_ending = policy.report
        weakref.finalize(self, connection.closer.drop).atexit = False
        tls = connection.engine.tls
        # The methods of the base class that ask for facts, such as `getpeercert`, ask this object.
        self._sslobj = getattr(tls, "_sslobj", tls)
        self._timeout = timeout
        self._connection = connection
        return connection

    def _tls(self) -> BlockingConnection | None:
        """Return the TLS connection; None while the socket is a plain one: not connected, unwrapped or closed."""
        if self._sslobj is None:
            return None
        # It was connected since, and the handshake is not to be performed by `connect`.
        return self._connection or self._begin()

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def ending(self) -> Ending | None:
        """How the connection ended; None before the end, and without TLS."""
        return None if self._connection is None else self._connection.closer.ending

    @property
    def session(self) -> ssl.SSLSession | None:
        """A client's TLS session, to be given to ``wrap_socket``; None if there is none to resume (yet)."""
        connection = self._connection
        return None if connection is None or self._sslobj is None else session_of(connection.engine)

    @session.setter
    def session(self, session: ssl.SSLSession | None) -> None:
        self._session = session
        if self._sslobj is not None:
            self._sslobj.session = session

    def get_verified_chain(self) -> list[bytes]:
        """Return the certificates from the peer's own up to the trusted authority, as DER."""
        connection = self._tls()
        return [] if connection is None else verified_chain(connection.engine.tls)

    def get_unverified_chain(self) -> list[bytes]:
        """Return the certificates that the peer sent, its own first, as DER."""
        connection = self._tls()
        return [] if connection is None else sent_chain(connection.engine.tls)

    def pending(self) -> int:
        """Return the number of bytes that a receive returns without waiting for the kernel."""
        connection = self._tls()
        return 0 if connection is None else len(connection.engine.incoming.held) + connection.engine.tls.pending()

    # -- timeouts ------------------------------------------------------------------------------------------------

    @property
    def _is_plain(self) -> bool:
        return self._connection is None or self._sslobj is None

    @property
    def _secured(self) -> BlockingConnection:
        assert self._connection is not None, "the caller has looked"
        return self._connection

    @property
    def timeout(self) -> float | None:
        """The socket's timeout, in seconds."""
        return self.gettimeout()

    def gettimeout(self) -> float | None:
        """Return the socket's timeout, in seconds; None: no limit; 0: the socket does not block."""
        return super().gettimeout() if self._connection is None else self._timeout

    def settimeout(self, value: float | None) -> None:
        """Set the socket's timeout, in seconds; None: no limit; 0: the socket does not block."""
        if self._is_plain:
            super().settimeout(value)
            self._timeout = super().gettimeout()
            return
        given: Any = value
        seconds = given if given is None or isinstance(given, float) else float(operator.index(given))
        if seconds is not None and not seconds >= 0:
            raise ValueError("Timeout value out of range")
        self._timeout = seconds

    def getblocking(self) -> bool:
        """Tell whether the socket blocks."""
        return self.gettimeout() != 0

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001  (the standard library's)
        """Set whether the socket blocks."""
        self.settimeout(None if flag else 0.0)

    def _close_seconds(self) -> float:
        """Return the time of a close, in seconds."""
        seconds = policy_of(self.context).close_timeout
        return seconds if self._timeout is None else min(seconds, self._timeout)

    # -- the operations ------------------------------------------------------------------------------------------

    def _do(self, connection: BlockingConnection, operate: Callable[[Limit], T], *, receives: bool = False) -> T:
        """Run an operation, after the handshake, and raise what the caller of an `ssl.SSLSocket` expects."""
        try:
            if not connection.engine.handshake_done:
                self._shake_hands(connection)
            return operate(Limit(self._timeout))
        except TimedOut as error:
            if self._timeout == 0:
                raise _would_block(error) from None
            raise
        except StreamClosed as error:
            raise _why_closed(connection, error, receives=receives) from error
        except SendInterrupted as error:
            raise BrokenPipeError(errno.EPIPE, str(error)) from error
        except ReceiveInterrupted as error:
            raise ConnectionAbortedError(errno.ECONNABORTED, str(error)) from error

    def _shake_hands(self, connection: BlockingConnection, *, block: bool = False) -> None:
        seconds = self._timeout
        if seconds is None or (block and seconds == 0):
            seconds = policy_of(self.context).handshake_timeout
        connection.handshake(Limit(seconds), resumable=seconds == 0)
        policy_of(self.context).remember(self)

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002  (the standard library's)
        """Perform the handshake.

        Args:
            block: whether to wait although the socket does not block.

        Raises:
            bowout.errors.HandshakeError: it failed; its subclass says why, and the connection has ended.
            ssl.SSLWantReadError, ssl.SSLWantWriteError: the socket does not block: wait, and call it again.
        """
        connection = self._tls()
        if connection is None:
            self.getpeername()  # It tells that the socket is not connected, or is closed.
            raise ValueError("No SSL wrapper around " + str(self))
        try:
            self._shake_hands(connection, block=block)
        except TimedOut as error:
            raise _would_block(error) from None
        except StreamClosed as error:
            raise _why_closed(connection, error) from error

    # -- receiving -----------------------------------------------------------------------------------------------

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive up to `buflen` bytes; ``b""`` at the peer's close_notify."""
        connection = self._tls()
        if connection is None:
            return super().recv(buflen, flags)
        _refuse_flags("recv", flags)
        data: bytes = self.read(buflen)
        return data

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Receive into `buffer`; return the number of bytes, 0 at the peer's close_notify."""
        connection = self._tls()
        if connection is None:
            return super().recv_into(buffer, nbytes, flags)
        _refuse_flags("recv_into", flags)
        return self._read_into(connection, buffer, nbytes)

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002  (the standard library's)
        """Receive up to `len` bytes and return them; or receive into `buffer`, and return their number."""
        connection = self._tls()
        if connection is None:
            return super().read(len, buffer)  # It raises, as on every plain socket.
        if buffer is not None:
            return self._read_into(connection, buffer, len)
        size = operator.index(len)
        if size < 0:
            raise ValueError("size should not be negative")
        if not size:
            return b""
        data: bytes = self._do(connection, lambda limit: connection.read(size, limit), receives=True)
        if not data:
            self._log_tolerated(connection)
        return data

    def _read_into(self, connection: BlockingConnection, buffer: Any, size: int | None) -> int:
        view = memoryview(buffer).cast("B")
        if view.readonly:
            raise TypeError(f"the buffer to receive into must be writable, not {type(buffer).__name__}")
        if size is not None and 0 < operator.index(size) < len(view):
            view = view[:size]
        if not len(view):
            return 0
        count = self._do(connection, lambda limit: connection.read_into(view, limit), receives=True)
        if not count:
            self._log_tolerated(connection)
        return count

    def _log_tolerated(self, connection: BlockingConnection) -> None:
        if connection.engine.inbound is Inbound.TRUNCATED_AT_BOUNDARY and not connection.tolerated:
            connection.tolerated = True
            log_tolerated(connection.peer, self.server_hostname)

    # -- sending -------------------------------------------------------------------------------------------------

    def send(self, data: Any, flags: int = 0) -> int:
        """Send the first bytes of `data`, one record at most; return their number when the kernel has them."""
        connection = self._tls()
        if connection is None:
            return super().send(data, flags)
        _refuse_flags("send", flags)
        return self.write(data)

    def write(self, data: Any) -> int:
        """Send the first bytes of `data`, one record at most; return their number when the kernel has them."""
        connection = self._tls()
        if connection is None:
            return super().write(data)
        view = memoryview(data).cast("B")
        return self._do(connection, lambda limit: connection.sender.write(view, limit)) if len(view) else 0

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of `data`. After an exception no close_notify follows, unless all of it was encrypted."""
        connection = self._tls()
        if connection is None:
            super().sendall(data, flags)
            return
        _refuse_flags("sendall", flags)
        view = memoryview(data).cast("B")
        self._do(connection, lambda limit: connection.sender.send(view, limit))

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send `file`, or a part of it; return the number of bytes. It is one message, as for `sendall`."""
        connection = self._tls()
        if connection is None:
            return super().sendfile(file, offset, count)
        outgoing = connection.engine.outgoing
        began = outgoing.begin_message()
        whole = False
        try:
            sent = super().sendfile(file, offset, count)
            whole = True
        finally:
            outgoing.end_message(began, whole=whole)
        return sent

    # -- ending --------------------------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        """End one direction or both; see the class."""
        connection = self._tls()
        if connection is None:
            super().shutdown(how)
            return
        if how not in {socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR}:
            raise OSError(errno.EINVAL, "how must be SHUT_RD, SHUT_WR or SHUT_RDWR")
        if self.ending is not None:
            raise OSError(errno.ENOTCONN, "the connection has ended")
        if how != socket.SHUT_WR:
            connection.shut_receiving()
        if how == socket.SHUT_WR:
            self._do(connection, connection.sender.send_eof)
        elif how == socket.SHUT_RDWR:
            with contextlib.suppress(TimedOut, StreamClosed, SendInterrupted, OSError):  # close() goes on from there.
                connection.sender.send_eof(Limit(0))

    def unwrap(self) -> socket.socket:
        """End TLS in both directions, within the time of a close; return the socket, which goes on in plain text.

        Raises:
            bowout.errors.PeerError: the peer did not end TLS properly, or not in time. The connection is closed then.
            BrokenPipeError: a send was interrupted: close_notify would be false.
            ssl.SSLWantReadError, ssl.SSLWantWriteError: the socket does not block: wait, and call it again.
        """
        connection = self._tls()
        if connection is None:
            raise ValueError("No SSL wrapper around " + str(self))
        wait = self._timeout != 0
        limit = Limit(self._close_seconds() if wait else policy_of(self.context).close_timeout)
        self._do(connection, lambda _: connection.unwrap(limit, wait=wait))
        self._sslobj = None
        super().settimeout(self._timeout)
        return self

    def abort(self) -> None:
        """End the connection at once with an RST: the peer sees an error. Then close the socket."""
        if not self._is_plain:
            self._secured.closer.abort()
        self.close()

    def _real_close(self) -> None:
        """Close the socket, when no file that `makefile` made needs it any more."""
        try:
            if not self._is_plain and self.ending is None and (seconds := self._close_seconds()):
                self._secured.closer.close("close()", time.monotonic() + seconds, notify=True)
        finally:
            try:
                if not self._is_plain:  # It did not wait; or an exception came before the close began.
                    self._secured.closer.leave_at_once("close()", notify=True)
            finally:
                super()._real_close()  # type: ignore[misc]

    def detach(self) -> int:
        """Give the descriptor away, without ending TLS. It blocks if the socket has no timeout."""
        if not self._is_plain and self.fileno() >= 0:
            super().settimeout(self._timeout)
        self._sslobj = None
        return super().detach()

    def __exit__(self, *exception: object) -> None:
        try:
            error = exception[1] if len(exception) > 1 else None
            if isinstance(error, BaseException) and not self._is_plain and self.ending is None:
                self._secured.leave_block(error, self._close_seconds())
        finally:
            self.close()


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _refuse_flags(method: str, flags: int) -> None:
    if flags:
        raise ValueError(f"non-zero flags not allowed in calls to {method}() on {TLSSocket}")


def _why_closed(connection: BlockingConnection, error: StreamClosed, *, receives: bool = False) -> OSError:
    """Return what the caller of an `ssl.SSLSocket` expects where we have ended the connection or a direction."""
    closer = connection.closer
    if closer.leaving or closer.ending is not None:
        return OSError(errno.EBADF, str(error))
    if receives:
        return ConnectionAbortedError(errno.ECONNABORTED, str(error))
    return BrokenPipeError(errno.EPIPE, str(error))


def _would_block(error: TimedOut) -> ssl.SSLError:
    if error.writing:
        return ssl.SSLWantWriteError(ssl.SSL_ERROR_WANT_WRITE, "The operation did not complete (write)")
    return ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "The operation did not complete (read)")
