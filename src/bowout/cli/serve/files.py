"""Sending files, so that a client never takes half a file for a whole one."""

from __future__ import annotations

import os
import stat
from typing import IO, TYPE_CHECKING, Final

from bowout.cli.serve.serving import Mode
from bowout.cli.shared.usage import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from bowout._stream import Stream

_CHUNK: Final = 1 << 18


class FileShrank(Exception):
    """A file became shorter while it was sent. Raised in the stream's block, it prevents a close_notify."""


async def send_all(send: Callable[[bytes], Awaitable[None]], file: IO[bytes], size: int) -> None:
    """Send the next `size` bytes of `file`.

    Raises:
        FileShrank: the file has fewer bytes left.
    """
    left = size
    while left:
        data = file.read(min(_CHUNK, left))
        if not data:
            raise FileShrank(f"the file shrank while it was sent: {left:,} of {size:,} bytes are missing")
        await send(data)
        left -= len(data)


def regular(descriptor: int) -> tuple[IO[bytes], os.stat_result]:
    """Return `descriptor` as a file, with its status; close it if it is not a regular file.

    Raises:
        OSError: it is a directory, a pipe or a device.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError("it is not a regular file")
    return os.fdopen(descriptor, "rb", buffering=0), status


class SendFile(Mode):
    """``--file``: sends the current contents of one file to every client, and closes.

    Raises:
        UsageError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._open()[0].close()
        except OSError as error:
            raise UsageError(f"--file: cannot read '{path}': {error.strerror or error}") from error

    async def handle(self, stream: Stream) -> None:
        """See `Mode`."""
        file, status = self._open()
        with file, stream.message():
            await send_all(stream.send, file, status.st_size)

    def _open(self) -> tuple[IO[bytes], os.stat_result]:
        # Without O_NONBLOCK, open() would wait for the writer of a named pipe.
        return regular(os.open(self._path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)))
