"""Everything bowout raises, by blame.

    BowoutError
    ├── MisuseError               you: the call cannot work now, in the state that the object is in
    │   ├── BusyError             two tasks receive from one stream at once
    │   ├── SendInterrupted       an earlier send or message() was cut short; what follows it would be garbled
    │   ├── ReceiveInterrupted    an exception interrupted the decryption of a record, which is lost
    │   └── LimitExceeded         receive_until() found no separator within its limit
    ├── StreamClosed              we ended it: close(), abort(), unwrap() or send_eof() came first
    ├── ConnectError              nobody there (also an OSError)
    │   ├── NameNotResolved       the name has no address
    │   ├── ConnectRefused        the port is closed
    │   └── ConnectTimeout        no address answered in time (also a TimeoutError)
    ├── HandshakeError            somebody there, but no TLS connection came of it
    │   ├── CertificateError      we do not trust the peer's certificate, or it is for another name
    │   ├── NotTLS                the peer answered in plain text
    │   ├── HandshakeAlert        the peer refused us with a fatal alert
    │   ├── HandshakeTruncated    the peer left in the middle of it (also an EOFError)
    │   ├── HandshakeReset        the peer reset the connection (also a ConnectionResetError)
    │   └── HandshakeTimeout      the peer stayed silent (also a TimeoutError)
    ├── StartTLSError             the server did not agree to change to TLS
    └── PeerError                 the peer ended an established connection badly, or too early
        ├── Truncated             FIN without close_notify (also an EOFError)
        ├── Reset                 RST (also a ConnectionResetError)
        ├── AlertReceived         the peer sent a fatal alert
        ├── ProtocolViolation     the peer broke TLS, and we told it so with a fatal alert
        ├── NoCloseNotify         unwrap(): the peer did not end TLS in time (also a TimeoutError)
        └── IncompleteRead        a clean end, but before you had what you asked for (also an EOFError)

Arguments that are wrong raise what Python raises for them: ValueError for a value, TypeError for a type. They are told
before anything is opened, sent or closed.

Every error can be copied and pickled with its attributes, its `Ending` among them, so that it survives the way out of
another process (``concurrent.futures.ProcessPoolExecutor``). Its cause is not pickled, as that of no exception is.

An error that a connection's end caused carries that `Ending` as ``error.ending``, as far as it is known when the
error is raised. A `StreamClosed` that comes while our close still waits for the peer carries none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bowout.ending import Alert, Ending


class BowoutError(Exception):
    """The root of everything that bowout raises on purpose.

    Attributes:
        ending: how the connection ended, where there was one and it has.
    """

    ending: Ending | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle without calling ``__init__``: what its keyword arguments said is in the attributes."""
        return _restore, (type(self), super().__reduce__()[1]), self.__dict__ or None


def _restore(kind: type[BowoutError], args: tuple[Any, ...]) -> BowoutError:
    """Make an error of `kind` again; its attributes are set afterwards."""
    error = kind.__new__(kind, *args)
    super(BowoutError, error).__init__(*args)  # An OSError takes its errno and strerror from them.
    return error


class MisuseError(BowoutError):
    """The call cannot work now, in the state that the object is in; the connection is unharmed."""


class BusyError(MisuseError):
    """Another task is receiving from this stream."""


class SendInterrupted(MisuseError):
    """An earlier ``send()`` or ``message()`` was cut short, so that anything sent now would be garbled."""


class ReceiveInterrupted(MisuseError):
    """A signal handler's exception interrupted OpenSSL in the middle of a record: that record is lost.

    The exception itself was raised where it came. Nothing is received after it, since a part would be missing.
    """


class LimitExceeded(MisuseError):
    """``receive_until()`` held ``limit`` bytes and no separator among them. They stay readable."""


class StreamClosed(BowoutError):
    """We ended this stream, or this direction of it."""


class ConnectError(BowoutError, OSError):
    """No TCP connection could be made."""


class NameNotResolved(ConnectError):
    """The host name has no address, or the resolver did not answer."""


class ConnectRefused(ConnectError):
    """Every address of the host refused the connection."""


class ConnectTimeout(ConnectError, TimeoutError):
    """No address of the host answered within ``connect_timeout``."""


class HandshakeError(BowoutError):
    """A TCP connection was made, but no TLS connection came of it."""


class CertificateError(HandshakeError):
    """The peer's certificate is not trusted, not valid now, or for another name.

    Attributes:
        verify_code: OpenSSL's number for what is wrong, an ``X509_V_ERR_…`` value.
        verify_message: its words for it.
    """

    def __init__(self, message: str, *, verify_code: int = 0, verify_message: str = "") -> None:
        super().__init__(message)
        self.verify_code = verify_code
        self.verify_message = verify_message


class NotTLS(HandshakeError):
    """The peer answered in plain text.

    Attributes:
        sample: the first bytes that it sent, as they came; escape them before you show them.
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
    """The server did not agree to change to TLS, or did not speak the protocol that was asked for.

    Attributes:
        why: ``"not offered"`` or ``"refused"``: the server speaks the protocol, but no TLS in it. ``"turned away"``: it
            refused the whole connection, and not TLS. ``"not spoken"``: it said what the protocol does not know, or
            nothing. Empty where none of these fits.
    """

    why: str = ""


class PeerError(BowoutError):
    """The peer ended an established connection badly, or earlier than you needed."""


class Truncated(PeerError, EOFError):
    """The peer's FIN came without its close_notify: what was received may not be all (RFC 8446 section 6.1).

    Attributes:
        inside_record: the FIN came in the middle of a TLS record, so bytes are certainly missing.
    """

    def __init__(self, message: str, *, inside_record: bool) -> None:
        super().__init__(message)
        self.inside_record = inside_record


class Reset(PeerError, ConnectionResetError):
    """The TCP connection was reset, or the network lost it, before the peer's close_notify."""


class AlertReceived(PeerError):
    """The peer ended the connection with a fatal alert."""

    def __init__(self, message: str, *, alert: Alert) -> None:
        super().__init__(message)
        self.alert = alert


class ProtocolViolation(PeerError):
    """The peer sent what TLS does not allow, or what could not be decrypted.

    Attributes:
        alert: the fatal alert with which we answered, where it is known.
    """

    def __init__(self, message: str, *, alert: Alert | None) -> None:
        super().__init__(message)
        self.alert = alert


class NoCloseNotify(PeerError, TimeoutError):
    """``unwrap()``: the peer did not answer with its close_notify before the deadline."""


class IncompleteRead(PeerError, EOFError):
    """The peer ended the stream cleanly before all that was asked for had come.

    Attributes:
        partial: what did come.
        expected: how many bytes were asked for, or None where a separator was.
    """

    def __init__(self, message: str, *, partial: bytes, expected: int | None) -> None:
        super().__init__(message)
        self.partial = partial
        self.expected = expected
