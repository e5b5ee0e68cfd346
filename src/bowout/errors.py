"""Everything bowout raises, by blame.

    BowoutError
    ├── MisuseError               you: the call cannot work now, in the state that the object is in
    │   ├── BusyError             two tasks receive from one stream at once
    │   ├── SendInterrupted       an earlier send or message() was interrupted; later data would be garbled
    │   ├── ReceiveInterrupted    an exception interrupted the decryption of a record, which is lost
    │   └── LimitExceeded         receive_until() found no separator within its limit
    ├── TimedOut                  an operation of bowout.blocking made no progress in time (also a TimeoutError)
    ├── StreamClosed              we ended it: close(), abort(), unwrap() or send_eof() came first
    ├── ConnectError              no TCP connection (also an OSError)
    │   ├── NameNotResolved       the name has no address
    │   ├── ConnectRefused        the port is closed
    │   └── ConnectTimeout        no address answered in time (also a TimeoutError)
    ├── HandshakeError            a TCP connection, but no TLS connection (also an ssl.SSLError)
    │   ├── CertificateError      we do not trust the peer's certificate, or it is for another name
    │   │                         (also an ssl.SSLCertVerificationError)
    │   ├── NotTLS                the peer answered in plain text
    │   ├── HandshakeAlert        the peer refused us with a fatal alert
    │   ├── HandshakeTruncated    the peer left in the middle of it (also an EOFError)
    │   ├── HandshakeReset        the peer reset the connection (also a ConnectionResetError)
    │   └── HandshakeTimeout      the peer stayed silent (also a TimeoutError)
    ├── StartTLSError             the server did not agree to change to TLS
    └── PeerError                 the peer ended an established connection badly, or too early
        ├── Truncated             FIN without close_notify (also an ssl.SSLEOFError and an EOFError)
        ├── Reset                 RST (also a ConnectionResetError)
        ├── AlertReceived         the peer sent a fatal alert (also an ssl.SSLError)
        ├── ProtocolViolation     the peer broke TLS, and we told it so with a fatal alert (also an ssl.SSLError)
        ├── PeerClosed            the peer's close_notify ended our direction, too (also a ConnectionError)
        ├── SendTimeout           the peer did not take all that was written in time (also a TimeoutError)
        ├── NoCloseNotify         unwrap(): the peer did not end TLS in time (also a TimeoutError)
        └── IncompleteRead        a clean end, but before you had what you asked for (also an EOFError)

Each error is also an instance of the error that the standard library raises for the same event, so that code which
catches ``OSError``, ``ssl.SSLError``, ``TimeoutError`` or ``EOFError`` continues to work.

Invalid arguments raise what Python raises for them: ValueError for a value, TypeError for a type. They are reported
before anything is opened, sent or closed.

Every error can be copied and pickled with its attributes, including its `Ending`, so that another process can return
it (``concurrent.futures.ProcessPoolExecutor``). Its cause is not pickled: Python pickles the cause of no exception.

An error that the end of a connection caused carries that `Ending` as ``error.ending``, as far as it is known when the
error is raised. A `StreamClosed` that is raised while our close still waits for the peer carries none.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bowout.ending import Alert, Ending


class BowoutError(Exception):
    """The root of everything that bowout raises on purpose.

    Attributes:
        ending: how the connection ended; None if there was none, or if it had not ended.
    """

    ending: Ending | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle without calling ``__init__``: the attributes hold its keyword arguments."""
        return _restore, (type(self), super().__reduce__()[1]), self.__dict__ or None


def _restore(kind: type[BowoutError], args: tuple[Any, ...]) -> BowoutError:
    """Make an error of `kind` again; the caller sets its attributes afterwards."""
    error = kind.__new__(kind, *args)
    super(BowoutError, error).__init__(*args)  # An OSError takes its errno and strerror from `args`.
    return error


class MisuseError(BowoutError):
    """The call cannot work now, in the state that the object is in; the connection is unharmed."""


class BusyError(MisuseError):
    """Another task is receiving from this stream."""


class SendInterrupted(MisuseError):
    """An earlier ``send()`` or ``message()`` was interrupted: anything sent now would be garbled."""


class ReceiveInterrupted(MisuseError):
    """An exception from a signal handler interrupted OpenSSL in the middle of a record: that record is lost.

    That exception itself was raised where it occurred. Nothing is received after it, since a part would be missing.
    """


class LimitExceeded(MisuseError):
    """``receive_until()`` held ``limit`` bytes and no separator among them. They stay readable."""


class TimedOut(BowoutError, TimeoutError):
    """An operation of `bowout.blocking` made no progress within its ``timeout``. The connection goes on.

    Attributes:
        writing: whether it waited for the peer to take bytes, and not for bytes of the peer.
    """

    def __init__(self, message: str, *, writing: bool) -> None:
        super().__init__(message)
        self.writing = writing


class StreamClosed(BowoutError):
    """We ended this stream, or this direction of it; if the peer ended it, the error is `PeerClosed`."""


class ConnectError(BowoutError, OSError):
    """No TCP connection could be made."""


class NameNotResolved(ConnectError):
    """The host name has no address, or the resolver did not answer."""


class ConnectRefused(ConnectError):
    """Every address of the host refused the connection."""


class ConnectTimeout(ConnectError, TimeoutError):
    """No address of the host answered within ``connect_timeout``."""


class _SSLError(BowoutError, ssl.SSLError):
    """An error that the standard library would raise as an `ssl.SSLError`.

    Attributes:
        library, reason: OpenSSL's names for the place and the cause of the failure, as in the standard library; empty
            here.
    """

    library = reason = ""

    def __str__(self) -> str:
        """Return the message; an `ssl.SSLError` without a number would return the tuple of its arguments."""
        return str(self.args[0]) if self.args else ""


class HandshakeError(_SSLError):
    """A TCP connection was made, but no TLS connection came of it."""


class CertificateError(HandshakeError, ssl.SSLCertVerificationError):
    """The peer's certificate is not trusted, not valid now, or for another name.

    Attributes:
        verify_code: OpenSSL's error number, an ``X509_V_ERR_…`` value.
        verify_message: OpenSSL's text for it.
    """

    def __init__(self, message: str, *, verify_code: int = 0, verify_message: str = "") -> None:
        super().__init__(message)
        self.verify_code = verify_code
        self.verify_message = verify_message


class NotTLS(HandshakeError):
    """The peer answered in plain text.

    Attributes:
        sample: the first bytes that it sent, unchanged; escape them before you show them.
    """

    def __init__(self, message: str, *, sample: bytes) -> None:
        super().__init__(message)
        self.sample = sample


class HandshakeAlert(HandshakeError):
    """The peer refused the handshake with a fatal alert (RFC 8446 section 6.2)."""

    def __init__(self, message: str, *, alert: Alert) -> None:
        super().__init__(message)
        self.alert = alert


class HandshakeTruncated(HandshakeError, EOFError):
    """The peer ended the TCP connection in the middle of the handshake."""


class HandshakeReset(HandshakeError, ConnectionResetError):
    """The TCP connection was reset, or the network lost it, in the middle of the handshake."""


class HandshakeTimeout(HandshakeError, TimeoutError):
    """The handshake was not done within ``handshake_timeout``."""


class StartTLSError(BowoutError):
    """The server did not agree to change to TLS, or did not speak the requested protocol.

    Attributes:
        why: ``"not offered"`` or ``"refused"``: the server speaks the protocol, but no TLS in it. ``"turned away"``: it
            refused the whole connection, not TLS alone. ``"not spoken"``: its reply was not in the protocol, or there
            was none. Empty if none of these applies.
    """

    why: str = ""


class PeerError(BowoutError):
    """The peer ended an established connection badly, or earlier than you needed."""


class Truncated(PeerError, _SSLError, ssl.SSLEOFError, EOFError):
    """The peer's FIN came without its close_notify: what was received may not be all (RFC 8446 section 6.1).

    Attributes:
        inside_record: the FIN came in the middle of a TLS record, so bytes are certainly missing.
    """

    def __init__(self, message: str, *, inside_record: bool) -> None:
        super().__init__(message)
        self.inside_record = inside_record


class Reset(PeerError, ConnectionResetError):
    """The TCP connection was reset, or the network lost it, before the peer's close_notify."""


class AlertReceived(PeerError, _SSLError):
    """The peer ended the connection with a fatal alert."""

    def __init__(self, message: str, *, alert: Alert) -> None:
        super().__init__(message)
        self.alert = alert


class ProtocolViolation(PeerError, _SSLError):
    """The peer sent what TLS does not allow, or what could not be decrypted.

    Attributes:
        alert: the fatal alert that we sent in answer; None if unknown.
    """

    def __init__(self, message: str, *, alert: Alert | None) -> None:
        super().__init__(message)
        self.alert = alert


class PeerClosed(PeerError, ConnectionError):
    """The peer's close_notify has ended our direction, too: in TLS 1.2 it ends both (RFC 5246 section 7.2.1)."""


class SendTimeout(PeerError, TimeoutError):
    """The peer did not take all that was written before the close was over (`bowout.asyncio`)."""


class NoCloseNotify(PeerError, TimeoutError):
    """``unwrap()``: the peer did not answer with its close_notify before the deadline."""


class IncompleteRead(PeerError, EOFError):
    """The peer ended the stream cleanly before all requested bytes had come.

    Attributes:
        partial: the bytes that did come.
        expected: the number of requested bytes; None if a separator was requested.
    """

    def __init__(self, message: str, *, partial: bytes, expected: int | None) -> None:
        super().__init__(message)
        self.partial = partial
        self.expected = expected
