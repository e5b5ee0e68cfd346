"""The errors of `bowout.errors` as code for asyncio expects them: a lost connection is a ConnectionError there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bowout.ending import Outbound
from bowout.errors import (
    AlertReceived,
    HandshakeTimeout,
    HandshakeTruncated,
    MisuseError,
    PeerClosed,
    ProtocolViolation,
    SendTimeout,
    Truncated,
)

if TYPE_CHECKING:
    from bowout._core.engine import Engine
    from bowout.ending import Ending
    from bowout.errors import BowoutError


class ConnectionTruncated(Truncated, ConnectionResetError):
    """`bowout.errors.Truncated`, as ``connection_lost`` gets it."""


class ConnectionAlertReceived(AlertReceived, ConnectionResetError):
    """`bowout.errors.AlertReceived`, as ``connection_lost`` gets it."""


class ConnectionViolated(ProtocolViolation, ConnectionResetError):
    """`bowout.errors.ProtocolViolation`, as ``connection_lost`` gets it."""


class ConnectionPeerClosed(PeerClosed, ConnectionResetError):
    """`bowout.errors.PeerClosed`, as ``connection_lost`` gets it."""


class ConnectionSendTimeout(SendTimeout, ConnectionResetError):
    """`bowout.errors.SendTimeout`, as ``connection_lost`` gets it."""


class ConnectionHandshakeTruncated(HandshakeTruncated, ConnectionResetError):
    """`bowout.errors.HandshakeTruncated`, as the caller of ``create_connection`` gets it."""


class ConnectionHandshakeTimeout(HandshakeTimeout, ConnectionAbortedError):
    """`bowout.errors.HandshakeTimeout`, as the caller of ``create_connection`` gets it."""


class WriteAfterEOF(MisuseError, RuntimeError):
    """`bowout.errors.MisuseError`, as the caller of ``write`` gets it; asyncio's transports raise a RuntimeError."""


_AS_RESETS: Final[dict[type[Any], type[Any]]] = {
    HandshakeTruncated: ConnectionHandshakeTruncated,
    HandshakeTimeout: ConnectionHandshakeTimeout,
    Truncated: ConnectionTruncated,
    AlertReceived: ConnectionAlertReceived,
    ProtocolViolation: ConnectionViolated,
    PeerClosed: ConnectionPeerClosed,
    SendTimeout: ConnectionSendTimeout,
}


def as_connection_error(error: BowoutError) -> BowoutError:
    """Return `error` as an error of the same kind that is also a ConnectionError; libraries catch that."""
    kind = _AS_RESETS.get(type(error))
    if kind is None:
        return error
    same: BowoutError = kind.__new__(kind, *error.args)
    same.args = error.args
    same.__dict__.update(error.__dict__)
    same.__cause__ = error.__cause__
    return same


def loss_of(error: Exception) -> str:
    """Return the system's text for a lost connection; "" if it was an RST of the peer."""
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return ""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def lost_data(ending: Ending | None, engine: Engine) -> BowoutError | None:
    """Return the error to report if not all that was written has left; None if all has, or after an abort."""
    if ending is None or not ending.unsent or engine.outbound is Outbound.RESET:
        return None
    if ending.deadline_hit or ending.cap_hit:
        return SendTimeout(f"the peer did not take the last {ending.unsent:,} bytes before the close was over")
    return engine.outgoing.why_not_writable()
