"""TLS connections that end properly: no data lost, no truncation undetected, no hang, and every ending reported."""

from types import FunctionType

from bowout import _as_command  # noqa: F401  (before all others)
from bowout._backends import LoopEvent
from bowout._client import Connecting, connect, wrap
from bowout._server.drain import OnDrain
from bowout._server.drain_log import DrainReport
from bowout._server.listen import systemd_sockets
from bowout._server.serve import Serving, serve
from bowout._server.server import Server
from bowout._starttls import PROTOCOLS as STARTTLS
from bowout._starttls import StartTLSName, StartTLSProtocol
from bowout._stream import Stream, Unwrapped
from bowout.ending import (
    Alert,
    Ending,
    Event,
    EventKind,
    How,
    Inbound,
    OnError,
    Outbound,
    Role,
    Side,
    TruncationPolicy,
)
from bowout.errors import (
    AlertReceived,
    BowoutError,
    BusyError,
    CertificateError,
    ConnectError,
    ConnectRefused,
    ConnectTimeout,
    HandshakeAlert,
    HandshakeError,
    HandshakeReset,
    HandshakeTimeout,
    HandshakeTruncated,
    IncompleteRead,
    LimitExceeded,
    MisuseError,
    NameNotResolved,
    NoCloseNotify,
    NotTLS,
    PeerClosed,
    PeerError,
    ProtocolViolation,
    ReceiveInterrupted,
    Reset,
    SendInterrupted,
    SendTimeout,
    StartTLSError,
    StreamClosed,
    TimedOut,
    Truncated,
)

__version__ = "0.1.0"

__all__ = [
    "STARTTLS",
    "Alert",
    "AlertReceived",
    "BowoutError",
    "BusyError",
    "CertificateError",
    "ConnectError",
    "ConnectRefused",
    "ConnectTimeout",
    "Connecting",
    "DrainReport",
    "Ending",
    "Event",
    "EventKind",
    "HandshakeAlert",
    "HandshakeError",
    "HandshakeReset",
    "HandshakeTimeout",
    "HandshakeTruncated",
    "How",
    "Inbound",
    "IncompleteRead",
    "LimitExceeded",
    "LoopEvent",
    "MisuseError",
    "NameNotResolved",
    "NoCloseNotify",
    "NotTLS",
    "OnDrain",
    "OnError",
    "Outbound",
    "PeerClosed",
    "PeerError",
    "ProtocolViolation",
    "ReceiveInterrupted",
    "Reset",
    "Role",
    "SendInterrupted",
    "SendTimeout",
    "Server",
    "Serving",
    "Side",
    "StartTLSError",
    "StartTLSName",
    "StartTLSProtocol",
    "Stream",
    "StreamClosed",
    "TimedOut",
    "Truncated",
    "TruncationPolicy",
    "Unwrapped",
    "connect",
    "serve",
    "systemd_sockets",
    "wrap",
]

# The public names belong to this package: in tracebacks, in `help()`, in pickles.
for _public in [globals()[name] for name in __all__]:
    if isinstance(_public, type | FunctionType):
        _public.__module__ = "bowout"
del _public
