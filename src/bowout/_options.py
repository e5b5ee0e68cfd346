"""The options of a stream, as clients and servers share them."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bowout._connection import Connection
from bowout._core import messages
from bowout._core.client_hello import HelloGate
from bowout.ending import Role
from bowout.errors import MisuseError
from bowout.stream import Stream, checked_timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bowout._backends import Backend, Transport
    from bowout.ending import Event, OnError, TruncationPolicy

_log = logging.getLogger("bowout")

#: How much a close reads and discards at most: more than any kernel buffers on the way, less than anyone would miss.
LINGER_BYTES: Final = 16 << 20

#: OpenSSL refuses a context that was made for the other side, but only when the first connection is there.
_OTHER_SIDE: Final = {Role.SERVER: ssl.PROTOCOL_TLS_CLIENT, Role.CLIENT: ssl.PROTOCOL_TLS_SERVER}


_LONGEST_PROTOCOL: Final = 255


def check_protocols(names: Sequence[str]) -> None:
    """Raise MisuseError where ALPN cannot carry `names` (RFC 7301 section 3.1)."""
    # One string is a sequence, too, but is not meant as one.
    if isinstance(names, str) or not all(name.isascii() and 0 < len(name) <= _LONGEST_PROTOCOL for name in names):
        raise MisuseError(f"alpn must be a sequence of names of 1 to 255 ASCII letters each, not {names!r}")


def without_root(name: str) -> str:
    """A host's name without the dot at its end, which is for resolvers and not for TLS (RFC 6066 section 3)."""
    return name.removesuffix(".")


def checked_server_hostname(name: str) -> str:
    """The name as TLS carries it; MisuseError where it cannot (RFC 6066 section 3)."""
    given, name = name, without_root(name)
    try:
        usable = bool(name) and not name.startswith(".") and "\0" not in name and bool(name.encode("idna"))
    except UnicodeError:
        usable = False
    if not usable:
        raise MisuseError(f"server_hostname cannot be {given!r}: TLS can carry a host's name or an address")
    return name


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How to be a stream on a transport; `bowout.connect` documents them."""

    context: ssl.SSLContext
    role: Role
    server_hostname: str | None = None
    alpn: Sequence[str] | None = None
    handshake_timeout: float = 30.0
    close_timeout: float = 5.0
    linger_bytes: int = LINGER_BYTES
    truncation: TruncationPolicy = "raise"
    on_error: OnError = "truncate"
    on_event: Callable[[Event], None] | None = None

    def check(self) -> None:
        """Raise MisuseError or ValueError for what cannot be meant."""
        if not isinstance(self.context, ssl.SSLContext):
            raise MisuseError(f"context must be an ssl.SSLContext, not {type(self.context).__name__}")
        if self.context.protocol == _OTHER_SIDE[self.role]:
            raise MisuseError(f"this context cannot be a {self.role}'s: it was made for {self.context.protocol.name}")
        checked_timeout("handshake_timeout", self.handshake_timeout)
        checked_timeout("close_timeout", self.close_timeout)
        if self.linger_bytes < 0:
            raise MisuseError(f"linger_bytes must be 0 or more, not {self.linger_bytes}")
        if self.truncation not in ("raise", "tolerate"):
            raise MisuseError(f'truncation must be "raise" or "tolerate", not {self.truncation!r}')
        if self.on_error not in ("truncate", "close"):
            raise MisuseError(f'on_error must be "truncate" or "close", not {self.on_error!r}')

    def stream(self, backend: Backend, transport: Transport) -> Stream:
        """Make the stream."""
        return Stream(
            self.connection(backend, transport),
            handshake_timeout=self.handshake_timeout,
            close_timeout=self.close_timeout,
        )

    def connection(self, backend: Backend, transport: Transport) -> Connection:
        """Make what is under the stream."""
        messages.prepare(self.context)
        if self.alpn is not None:
            self.context.set_alpn_protocols(list(self.alpn))
        return Connection(
            backend,
            transport,
            self.context,
            role=self.role,
            server_hostname=self.server_hostname,
            truncation=self.truncation,
            linger_bytes=self.linger_bytes,
            vouch_anyway=self.on_error == "close",
            on_event=None if self.on_event is None else _harmless(self.on_event),
            gate=self._gate(),
        )

    def _gate(self) -> HelloGate | None:
        """What looks at a client's first message, where that is needed: it costs a look at each of its bytes."""
        if self.role is Role.CLIENT or (self.alpn is None and self.context.sni_callback is None):
            return None
        return HelloGate(self.alpn)


def _harmless(on_event: Callable[[Event], None]) -> Callable[[Event], None]:
    def observe(event: Event) -> None:
        try:
            on_event(event)
        except Exception:  # noqa: BLE001  (it is logged, and touches no connection)
            _log.exception("on_event failed")

    return observe
