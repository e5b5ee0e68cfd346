"""How the sockets of a context end their connections."""

from __future__ import annotations

import logging
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bowout._arguments import (
    check_callable,
    check_choice,
    check_flag,
    check_host_names,
    checked_count,
    checked_duration,
    checked_timeout,
)
from bowout._options import LINGER_BYTES, StreamOptions
from bowout.ending import Role

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection

    from bowout.blocking._socket import TLSSocket
    from bowout.ending import Ending, Event, OnError, TruncationPolicy

_log = logging.getLogger("bowout.blocking")


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketPolicy:
    """How connections end; `bowout.blocking.prepare_context` documents it."""

    truncation: TruncationPolicy = "raise"
    tolerant_hosts: Collection[str] = ()
    handshake_timeout: float = 30.0
    close_timeout: float = 5.0
    linger_bytes: int = LINGER_BYTES
    on_error: OnError = "truncate"
    resume: bool = False
    on_ending: Callable[[Ending], object] | None = None
    on_event: Callable[[Event], None] | None = None
    #: A client's socket for each name, while it is open.
    _open: weakref.WeakValueDictionary[str, TLSSocket] = field(
        default_factory=weakref.WeakValueDictionary, init=False, repr=False, compare=False
    )

    def check(self) -> None:
        """Raise TypeError or ValueError for an invalid value."""
        check_choice("truncation", self.truncation, ("raise", "tolerate"))
        check_host_names("tolerant_hosts", self.tolerant_hosts)
        checked_duration("handshake_timeout", self.handshake_timeout)
        checked_timeout("close_timeout", self.close_timeout)
        checked_count("linger_bytes", self.linger_bytes, least=0)
        check_choice("on_error", self.on_error, ("truncate", "close"))
        check_flag("resume", self.resume)
        check_callable("on_ending", self.on_ending)
        check_callable("on_event", self.on_event)

    def options(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None,
        session: ssl.SSLSession | None,
        strict: bool,
    ) -> StreamOptions:
        """Return the options of one connection.

        Args:
            context: already prepared.
            server_side: whether we are the server.
            server_hostname: as the context's ``wrap_socket`` was given it.
            session: likewise; without one, and with `resume`, that of an open connection to the same name.
            strict: whether a truncation is an error, whatever the policy is.
        """
        if session is None and self.resume and not server_side:
            session = self._session_for(_folded(server_hostname or ""))
        options = StreamOptions(
            context=context,
            role=Role.SERVER if server_side else Role.CLIENT,
            server_hostname=server_hostname,
            session=session,
            handshake_timeout=self.handshake_timeout,
            close_timeout=self.close_timeout,
            keepalive=None,  # The socket is its owner's.
            linger_bytes=self.linger_bytes,
            truncation="raise" if strict else self._truncation_for(server_hostname),
            on_error=self.on_error,
            on_event=self.on_event,
        )
        options.check()
        return options

    def _truncation_for(self, host: str | None) -> TruncationPolicy:
        """Return what applies to the server `host`; None: we are the server, or its name is unknown."""
        if host is not None and _folded(host) in set(map(_folded, self.tolerant_hosts)):
            return "tolerate"
        return self.truncation

    def remember(self, sock: TLSSocket) -> None:
        """Remember a client's socket, whose session later ones may resume, unless another is open."""
        name = _folded(sock.server_hostname or "")
        known = self._open.get(name)
        if self.resume and not sock.server_side and (known is None or known.ending is not None):
            self._open[name] = sock

    def _session_for(self, name: str) -> ssl.SSLSession | None:
        sock = self._open.get(name)
        return None if sock is None else sock.session

    def report(self, ending: Ending) -> None:
        """Call `on_ending`."""
        if self.on_ending is not None:
            try:
                self.on_ending(ending)
            except Exception:  # noqa: BLE001  (it is logged, and touches no connection)
                _log.exception("on_ending failed")


def log_tolerated(peer: str, host: str | None) -> None:
    """Log that a truncation was taken for an end."""
    name = f"{host} ({peer})" if host else peer or "a peer"
    _log.warning("truncation tolerated: %s ended without close_notify: what it sent may not be all", name)


def _folded(host: str) -> str:
    return host.casefold().removesuffix(".")


#: The policy of sockets whose context was not prepared.
DEFAULT_POLICY: Final = SocketPolicy()

_policies: weakref.WeakKeyDictionary[ssl.SSLContext, SocketPolicy] = weakref.WeakKeyDictionary()


def set_policy(context: ssl.SSLContext, policy: SocketPolicy) -> None:
    """Let the sockets of `context` follow `policy`."""
    _policies[context] = policy


def policy_of(context: ssl.SSLContext) -> SocketPolicy:
    """Return the policy of the sockets of `context`."""
    return _policies.get(context, DEFAULT_POLICY)
