"""``--ladder`` and ``--json``: where the ending is drawn and written to."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import stat
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bowout.cli import _say
from bowout.cli._usage import UsageError
from bowout.ladder import render_svg, render_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bowout.ending import Ending


class Reports:
    """The files that were asked for, opened before anything is sent, so that a bad path loses nothing.

    Args:
        ladder: a file, ``""`` for stderr, None for no ladder.
        json_file: the same for JSON; ``-`` is stdout.

    Attributes:
        take_stdout: stdout is for JSON, and for nothing that the peer sends.

    Raises:
        UsageError: a file cannot be written.
    """

    def __init__(self, ladder: str | None, json_file: str | None) -> None:
        self._ladder, self._json = ladder, json_file
        self.take_stdout = json_file == "-"
        self._more: Mapping[str, Any] = {}
        self._files: list[tuple[str, IO[str], Callable[[Ending], str]]] = []
        if ladder:
            suffix = Path(ladder).suffix.lower()
            if suffix not in (".svg", ".txt"):
                raise UsageError(f"--ladder: '{ladder}' is neither .svg nor .txt", "the suffix says how to draw")
            self._open("--ladder", ladder, render_svg if suffix == ".svg" else render_text)
        if json_file and not self.take_stdout:
            self._open("--json", json_file, lambda ending: json.dumps(self._values(ending), indent=2) + "\n")

    def _open(self, option: str, path: str, render: Callable[[Ending], str]) -> None:
        try:
            file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115  (it stays open until there is an ending)
            self._files.append((path, file, render))
        except OSError as error:
            self.drop()
            raise UsageError(f"{option}: cannot write '{path}': {error.strerror}") from error

    def _values(self, ending: Ending) -> dict[str, Any]:
        return {**ending.to_dict(), **self._more}

    def write(self, ending: Ending, more: Mapping[str, Any] | None = None) -> bool:
        """Draw and write the ending wherever that was asked for, with `more` in JSON; tell whether it worked."""
        self._more = more or {}
        worked = True
        while self._files:
            path, file, render = self._files.pop(0)
            try:
                with file:
                    file.write(render(ending))
            except OSError as error:
                _say.error(f"cannot write '{path}': {error.strerror}")
                worked = False
        if self._ladder == "":
            _say.print_ladder(ending, sys.stderr)
        if self._json == "":
            _say.line(json.dumps(self._values(ending)))
        if self.take_stdout:
            worked = self._write_to_stdout(json.dumps(self._values(ending)) + "\n") and worked
            if ending.received - ending.discarded:
                _say.note(f"{ending.received:,} bytes of the peer's were not printed: --json=- has stdout for itself")
        return worked

    @staticmethod
    def _write_to_stdout(text: str) -> bool:
        try:
            if isinstance(sys.stdout, io.StringIO):  # It was closed when we began.
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            sys.stdout.write(text)
            sys.stdout.flush()
        except (OSError, ValueError) as error:
            _say.silence(sys.stdout)
            if isinstance(error, BrokenPipeError):
                return True  # Whoever reads it has seen enough.
            _say.error(f"cannot write to stdout: {getattr(error, 'strerror', None) or error}")
            return False
        return True

    def drop(self) -> None:
        """There is no ending to tell of: leave no empty file that could pass for one, nor an old one's."""
        while self._files:
            path, file, _ = self._files.pop()
            ours = os.fstat(file.fileno())
            file.close()
            with contextlib.suppress(OSError):  # Somebody else may have removed it.
                found = Path(path).lstat()
                if stat.S_ISREG(found.st_mode) and os.path.samestat(found, ours):
                    Path(path).unlink()
