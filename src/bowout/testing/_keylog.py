"""The key log of a context, shared by the peers that share the context."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bowout._scripted.keylog import KeyLog

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator


@dataclass(slots=True)
class _Shared:
    """A key log, the number of peers that read it, and the resources to release after the last of them."""

    log: KeyLog
    users: int = 0
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


_lock: Final = threading.Lock()
_shared: Final[dict[ssl.SSLContext, _Shared]] = {}


@contextlib.contextmanager
def keylog_of(context: ssl.SSLContext) -> Iterator[KeyLog]:
    """Provide the key log of `context`, in a folder that only we can read. Peers that share a context share it."""
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
