"""How the TLS connections of asyncio end, if their makers do not say it themselves."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bowout._arguments import check_callable, check_choice, check_host_names, checked_count, checked_timeout
from bowout._names import ascii_name, without_root
from bowout._options import LINGER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from bowout.ending import Ending, TruncationPolicy

_log = logging.getLogger("bowout.asyncio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How TLS connections end.

        policy = bowout.asyncio.Policy(tolerant_hosts={"old.example.org"}, on_ending=print)
        bowout.asyncio.run(main(), policy=policy)

    Attributes:
        truncation: what the application is told when the peer's FIN comes without close_notify. ``"raise"``:
            ``connection_lost`` gets `bowout.errors.Truncated`, after all data. ``"tolerate"``: ``eof_received`` is
            called, as if the peer had sent close_notify. An attacker on the path can forge such a FIN, so tolerate it
            only where the application's protocol itself shows that a message is complete. A FIN inside a record is
            always reported.
        tolerant_hosts: names of servers whose truncation is tolerated, whatever `truncation` says. They are compared
            with ``server_hostname``, without regard to case.
        close_timeout: seconds for a close, if the maker of the connection gives no ``ssl_shutdown_timeout``; asyncio's
            own default unless given. What was written has to leave in this time, too.
        linger_bytes: maximum number of bytes that a close reads and discards while it waits for the peer's end.
        on_ending: called with the `bowout.Ending` of each connection when it has ended. It must return quickly. Its
            exceptions are logged, except for KeyboardInterrupt and SystemExit, which end the loop's run; the transport
            is closed in any case.

    A tolerated truncation is logged as a warning of the logger ``bowout.asyncio``.

    Raises:
        TypeError, ValueError: a value is not valid.
    """

    truncation: TruncationPolicy = "raise"
    tolerant_hosts: Collection[str] = ()
    close_timeout: float = 30.0
    linger_bytes: int = LINGER_BYTES
    on_ending: Callable[[Ending], object] | None = None
    _tolerant: frozenset[str] = field(init=False, repr=False, compare=False, default=frozenset())

    def __post_init__(self) -> None:
        check_choice("truncation", self.truncation, ("raise", "tolerate"))
        check_host_names("tolerant_hosts", self.tolerant_hosts)
        checked_timeout("close_timeout", self.close_timeout)
        checked_count("linger_bytes", self.linger_bytes, least=0)
        check_callable("on_ending", self.on_ending)
        object.__setattr__(self, "_tolerant", frozenset(map(_folded, self.tolerant_hosts)))

    def truncation_for(self, host: str | None) -> TruncationPolicy:
        """Return what applies to the server `host`; None: we are the server."""
        if host is not None and _folded(host) in self._tolerant:
            return "tolerate"
        return self.truncation

    def report(self, ending: Ending) -> None:
        """Call `on_ending`."""
        if self.on_ending is not None:
            try:
                self.on_ending(ending)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException:  # noqa: BLE001  (it is logged, and touches no connection)
                _log.exception("on_ending failed")


def log_tolerated(peer: str, host: str | None) -> None:
    """Log that a truncation was taken for an end."""
    _log.warning("truncation tolerated: %s ended without close_notify: what it sent may not be all", _named(peer, host))


def _named(peer: str, host: str | None) -> str:
    return f"{host} ({peer})" if host else peer or "a peer"


def _folded(host: str) -> str:
    try:
        return without_root(ascii_name(host)).lower()
    except UnicodeError:
        return host.lower()


#: asyncio's connections without a policy of their own.
DEFAULT_POLICY: Final = Policy()
