"""Where the report goes: a file, which is opened before anything is sent, or stdout."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import sys
from pathlib import Path
from typing import TextIO

from bowout.cli.console import output
from bowout.cli.shared.usage import UsageError


class ReportFile:
    """The file of ``--out``, or stdout.

    Args:
        path: the file; None for stdout.

    Attributes:
        failed: whether something could not be written. It was reported then.

    Raises:
        UsageError: the file cannot be written.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._file: TextIO | None = None
        self.failed: bool = False
        if path is not None:
            try:
                self._file = open(path, "w", encoding="utf-8", newline="")  # noqa: PTH123, SIM115  (open until `close`)
            except OSError as error:
                raise UsageError(f"--out: cannot write '{path}': {error.strerror}") from error

    @property
    def target(self) -> TextIO:
        """The file to write for, with its terminal and its encoding."""
        return sys.stdout if self._file is None else self._file

    def write(self, text: str) -> None:
        """Write `text`. An error is reported once, and nothing is written after it."""
        if self.failed:
            return
        try:
            if self._file is None and isinstance(sys.stdout, io.StringIO):  # It was closed when we began.
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            encoding = self.target.encoding or "ascii"
            self.target.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self.target.flush()
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.failed = True
        where = "to stdout" if self._path is None else f"'{self._path}'"
        if self._file is None:
            output.silence(sys.stdout)
        output.error(f"cannot write {where}: {getattr(error, 'strerror', None) or error}")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                if not self.failed:
                    self._fail(error)

    def drop(self) -> None:
        """Remove the file: a part of a report must not pass for all of it."""
        if self._file is None or self._path is None:
            return
        ours = os.fstat(self._file.fileno())
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):  # Another process may have removed it.
            found = Path(self._path).lstat()
            if stat.S_ISREG(found.st_mode) and os.path.samestat(found, ours):
                Path(self._path).unlink()
