"""``--ladder`` and ``--json``: the files for the picture and the JSON of the ending."""

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

from bowout.cli.console import output
from bowout.cli.shared.usage import UsageError
from bowout.ladder import render_svg, render_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bowout.ending import Ending


class Reports:
    """The requested files, opened before anything is sent, so that a bad path loses no data.

    Args:
        ladder: a file, ``""`` for stderr, None for no ladder.
        json_file: the same for JSON; ``-`` is stdout.

    Attributes:
        take_stdout: whether stdout is for JSON only, without the peer's data.

    Raises:
        UsageError: a file cannot be written.
    """

    def __init__(self, ladder: str | None, json_file: str | None) -> None:
        self._ladder, self._json = ladder, json_file
        self.take_stdout: bool = json_file == "-"
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
        """Draw and write the ending wherever requested, with `more` in JSON; return whether it worked."""
        self._more = more or {}
        worked = True
        while self._files:
            path, file, render = self._files.pop(0)
            try:
                with file:
                    file.write(render(ending))
            except OSError as error:
                output.error(f"cannot write '{path}': {error.strerror}")
                worked = False
        if self._ladder == "":
            output.print_ladder(ending, sys.stderr)
        if self._json == "":
            output.line(json.dumps(self._values(ending)))
        if self.take_stdout:
            worked = self._write_to_stdout(json.dumps(self._values(ending)) + "\n") and worked
            if ending.received - ending.discarded:
                output.note(
                    f"{ending.received:,} bytes of the peer's data were not printed: --json=- uses stdout for JSON only"
                )
        return worked

    @staticmethod
    def _write_to_stdout(text: str) -> bool:
        try:
            if isinstance(sys.stdout, io.StringIO):  # It was closed when we began.
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            sys.stdout.write(text)
            sys.stdout.flush()
        except (OSError, ValueError) as error:
            output.silence(sys.stdout)
            if isinstance(error, BrokenPipeError):
                return True  # The reader has closed the pipe: not an error.
            output.error(f"cannot write to stdout: {getattr(error, 'strerror', None) or error}")
            return False
        return True

    @property
    def end_with_ending(self) -> bool:
        """Whether the last line of the report, a ladder on the terminal, is the ending already."""
        return self._ladder == "" and self._json != "" and sys.stderr.isatty()

    def drop(self) -> None:
        """Remove the files that are still open: without an ending, an empty or old file must not pass for one."""
        while self._files:
            path, file, _ = self._files.pop()
            ours = os.fstat(file.fileno())
            file.close()
            with contextlib.suppress(OSError):  # Another process may have removed it.
                found = Path(path).lstat()
                if stat.S_ISREG(found.st_mode) and os.path.samestat(found, ours):
                    Path(path).unlink()
