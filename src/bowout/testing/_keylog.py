"""The secrets of a connection, as OpenSSL logs them for its context (the format of SSLKEYLOGFILE)."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator


class KeyLog:
    """A context's key log, in a file that is read back.

    Args:
        context: its ``keylog_filename`` is set, unless it has one already.
        path: a file in a directory that nobody else can look into; the context keeps it open.
    """

    def __init__(self, context: ssl.SSLContext, path: Path) -> None:
        self._context = context
        self._ours = context.keylog_filename is None
        if self._ours:
            context.keylog_filename = str(path)
        self._path = context.keylog_filename

    def close(self) -> None:
        """Let the file go, if it was ours."""
        if self._ours:
            # CPython closes the file then, whatever typeshed thinks of None.
            self._context.keylog_filename = None  # type: ignore[assignment]

    def secrets(self, client_random: bytes) -> dict[str, bytes]:
        """What was logged for the connection whose ClientHello has this random, by label."""
        wanted = client_random.hex()
        found = {}
        with open(self._path, encoding="ascii") as file:  # noqa: PTH123  (whatever the context says, a str or a path)
            for line in file:
                label, _, rest = line.partition(" ")
                random, _, secret = rest.strip().partition(" ")
                if random == wanted:
                    found[label] = bytes.fromhex(secret)
        return found


@dataclass(slots=True)
class _Shared:
    """A key log, how many peers read it, and what goes when the last of them does."""

    log: KeyLog
    users: int = 0
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


_lock: Final = threading.Lock()
_shared: Final[dict[ssl.SSLContext, _Shared]] = {}


@contextlib.contextmanager
def keylog_of(context: ssl.SSLContext) -> Iterator[KeyLog]:
    """The key log of a context, in a folder that only we can look into. Peers that share a context share it."""
    with _lock:
        shared = _shared.get(context) or _opened(context)
        _shared[context] = shared
        shared.users += 1
    try:
        yield shared.log
    finally:
        with _lock:
            shared.users -= 1
            if not shared.users:
                del _shared[context]
                shared.stack.close()


def _opened(context: ssl.SSLContext) -> _Shared:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bowout-"))
        log = KeyLog(context, Path(folder, "keys"))
        stack.callback(log.close)
        return _Shared(log, stack=stack.pop_all())
