"""How the TLS connections of one backend end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bowout._arguments import check_choice, check_host_names, checked_timeout
from bowout._client import wrap
from bowout.ending import TruncationPolicy

if TYPE_CHECKING:
    import socket
    import ssl

    from bowout._stream import Stream

#: Default of `ConnectionPolicy.close_timeout`, in seconds: many round trips, and an idle server has nothing else to do
#: than to answer; but not long for a request that waits until expired connections are closed.
CLOSE_TIMEOUT: Final = 1.0
#: Seconds for a TCP connection, and for a handshake, if the caller sets no timeout: the defaults of `bowout.connect`.
CONNECT_TIMEOUT: Final = 30.0

#: A `bowout.TruncationPolicy` for all hosts, or by the host's name: a mapping, or a function.
HostTruncation = TruncationPolicy | Mapping[str, TruncationPolicy] | Callable[[str], TruncationPolicy]

_POLICIES: Final = ("raise", "tolerate")


@dataclass(frozen=True, slots=True)
class ConnectionPolicy:
    """The options of `bowout.httpcore.transport` that concern the end of a connection.

    Attributes:
        truncation: as documented there.
        close_timeout: seconds that a close waits for the server.
    """

    truncation: HostTruncation
    close_timeout: float

    def check(self) -> None:
        """Raise TypeError or ValueError for an invalid option."""
        checked_timeout("close_timeout", self.close_timeout)
        if isinstance(self.truncation, Mapping):
            check_host_names("truncation", self.truncation)
            for host, policy in self.truncation.items():
                if host != host.lower():
                    raise ValueError(f"truncation must have hosts in lower case: write {host.lower()!r}, not {host!r}")
                check_choice(f"truncation[{host!r}]", policy, _POLICIES)
        elif not callable(self.truncation):
            check_choice("truncation", self.truncation, _POLICIES)

    def truncation_of(self, host: str) -> TruncationPolicy:
        """Return the policy for `host`.

        Raises:
            TypeError, ValueError: the caller's function returned no policy.
        """
        if isinstance(self.truncation, Mapping):
            return self.truncation.get(host, "raise")
        if not callable(self.truncation):
            return self.truncation
        policy = self.truncation(host)
        check_choice(f"the result of truncation({host!r})", policy, _POLICIES)
        return policy

    def wrap(
        self,
        carrier: socket.socket | Stream,
        context: ssl.SSLContext,
        server_hostname: str | None,
        *,
        timeout: float | None,
        received: bytes = b"",
    ) -> Stream:
        """Make a client's stream over `carrier`; the handshake is still to come.

        Raises:
            TypeError, ValueError: TLS cannot carry `server_hostname`, or the caller's function returned no policy.
        """
        return wrap(
            carrier,  # A Stream: TLS in TLS.
            context,
            server_hostname=server_hostname,
            received=received,
            handshake_timeout=CONNECT_TIMEOUT if timeout is None else timeout,
            close_timeout=self.close_timeout,
            truncation=self.truncation_of((server_hostname or "").lower()),
            on_error="close",  # A request marks its own end.
        )
