"""Sending files, so that half a file never passes for a whole one."""

from __future__ import annotations

import os
import stat
from typing import IO, TYPE_CHECKING, Final

from bowout.cli._serving import Mode
from bowout.cli._usage import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from bowout.stream import Stream

_CHUNK: Final = 1 << 18


class FileShrank(Exception):
    """A file has become shorter while it was sent. It leaves the stream's block, so that no close_notify vouches."""


async def send_all(send: Callable[[bytes], Awaitable[None]], file: IO[bytes], size: int) -> None:
    """Send the next `size` bytes of `file`.

    Raises:
        FileShrank: there are not so many any more.
    """
    left = size
    while left:
        data = file.read(min(_CHUNK, left))
        if not data:
            raise FileShrank(f"the file shrank while it was sent: {left:,} of {size:,} bytes lack")
        await send(data)
        left -= len(data)


def regular(descriptor: int) -> tuple[IO[bytes], os.stat_result]:
    """Make a file of a descriptor, which is closed if it is none.

    Raises:
        OSError: it is a directory, a pipe, a device.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError("it is no regular file")
    return os.fdopen(descriptor, "rb", buffering=0), status


class SendFile(Mode):
    """``--file``: sends one file to everybody, as it is when they come, and closes.

    Raises:
        UsageError: it cannot be read.
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
        # A pipe that nobody writes to would keep open() waiting.
        return regular(os.open(self._path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)))
