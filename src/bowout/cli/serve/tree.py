"""The files under a directory, and no others."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, Final

from bowout.cli.serve.files import regular
from bowout.cli.shared.usage import UsageError

if TYPE_CHECKING:
    from pathlib import Path

#: Without these flags (Windows), a name that becomes a link between the check and the opening is followed.
_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_DIRECTORY: Final = getattr(os, "O_DIRECTORY", 0)


class Tree:
    """Opens the regular files under a directory; a link is followed if its target is in the directory.

    Raises:
        UsageError: the directory cannot be read.
    """

    def __init__(self, directory: Path) -> None:
        try:
            self._root = directory.resolve(strict=True)
            os.listdir(self._root)  # noqa: PTH208  (only to check that it can be read)
        except OSError as error:
            raise UsageError(f"--www: cannot read '{directory}': {error.strerror}") from error

    def open(self, path: str) -> tuple[IO[bytes], os.stat_result]:
        """Open the file at `path`, whose parts are separated by slashes.

        Raises:
            OSError: there is no such regular file here, or it cannot be read.
        """
        parts = [part for part in path.split("/") if part]
        if not parts or path.endswith("/") or any(_climbs(part) for part in parts):
            raise FileNotFoundError(path)
        try:
            real = self._root.joinpath(*parts).resolve(strict=True)
        except (ValueError, RuntimeError) as error:  # a NUL; before Python 3.13, a cycle of links
            raise FileNotFoundError(path) from error
        if not real.is_relative_to(self._root):
            raise FileNotFoundError(path)
        return regular(self._descend(real))

    def _descend(self, real: Path) -> int:
        """Open a path without links step by step, so that a name that has become a link since then is not followed."""
        if os.open not in os.supports_dir_fd:
            return os.open(real, os.O_RDONLY | _BINARY)
        *above, name = real.relative_to(self._root).parts
        here = os.open(self._root, os.O_RDONLY | _DIRECTORY)
        try:
            for part in above:
                below = os.open(part, os.O_RDONLY | _DIRECTORY | _NOFOLLOW, dir_fd=here)
                os.close(here)
                here = below
            return os.open(name, os.O_RDONLY | _BINARY | _NOFOLLOW, dir_fd=here)
        finally:
            os.close(here)


def _climbs(part: str) -> bool:
    return part in {".", ".."} or "\0" in part or "\\" in part or (os.name == "nt" and ":" in part)
