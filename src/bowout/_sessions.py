"""The server of each session: a resumed connection checks no certificate, and so no name."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl

#: Maximum number of sessions per context whose server is remembered; for older ones the caller has to know it.
CAPACITY: Final = 4096

_servers: weakref.WeakKeyDictionary[ssl.SSLContext, dict[bytes, str]] = weakref.WeakKeyDictionary()


def remember(context: ssl.SSLContext, session: ssl.SSLSession, server_hostname: str) -> None:
    """Remember the name for which the server of `session` was checked, on a connection of `context`; "" for none."""
    known = _servers.setdefault(context, {})
    known.pop(session.id, None)
    known[session.id] = server_hostname.lower()
    if len(known) > CAPACITY:
        del known[next(iter(known))]


def check(context: ssl.SSLContext, session: ssl.SSLSession, server_hostname: str) -> None:
    """Refuse a `session` with another server.

    Raises:
        ValueError: the session belongs to another server.
    """
    of = _servers.get(context, {}).get(session.id)
    if of is not None and of != server_hostname.lower():
        whose = f"is of {of!r}" if of else "is of a server whose name was not checked"
        raise ValueError(
            f"the session {whose}, not of {server_hostname!r}: a resumed connection checks no certificate again"
        )
