"""The secrets of a connection, as OpenSSL logs them for its context (the format of SSLKEYLOGFILE)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from pathlib import Path


class KeyLog:
    """A context's key log, in a file that is read back.

    Args:
        context: the context; its ``keylog_filename`` is set, unless it has one already.
        path: a file in a directory that no other user can read; the context keeps it open.
    """

    def __init__(self, context: ssl.SSLContext, path: Path) -> None:
        self._context = context
        self._ours = context.keylog_filename is None
        if self._ours:
            context.keylog_filename = str(path)
        self._path = context.keylog_filename

    def close(self) -> None:
        """Close the file, if it is ours."""
        if self._ours:
            # CPython then closes the file, although typeshed does not allow None.
            self._context.keylog_filename = None  # type: ignore[assignment]

    def secrets(self, client_random: bytes) -> dict[str, bytes]:
        """Return the logged secrets, by label, of the connection whose ClientHello has this random."""
        wanted = client_random.hex()
        found = {}
        with open(self._path, encoding="ascii") as file:  # noqa: PTH123  (a str or a path, as the context has it)
            for line in file:
                label, _, rest = line.partition(" ")
                random, _, secret = rest.strip().partition(" ")
                if random == wanted:
                    found[label] = bytes.fromhex(secret)
        return found
