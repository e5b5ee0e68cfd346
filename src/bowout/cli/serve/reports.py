"""The reports of ``bowout serve`` on every connection: its line, its trace, its ladder, its JSON."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from bowout.cli.console import output
from bowout.cli.shared.trace import Trace
from bowout.cli.shared.usage import UsageError
from bowout.ending import EventKind
from bowout.ladder import render_svg

if TYPE_CHECKING:
    from bowout.ending import Ending, Event

_NOT_IN_A_NAME: Final = re.compile(r"[^0-9A-Za-z.]+")


class ServedReports:
    """The outputs for endings, opened by `open`.

    Args:
        ladder: a directory, ``""`` or ``"stderr"`` for stderr, None for no ladders.
        json_file: a file, ``""`` for stderr, ``-`` for stdout, None for no JSON.
        trace: whether to show every event.

    Attributes:
        failed: whether a report could not be written.
    """

    def __init__(self, ladder: str | None, json_file: str | None, *, trace: bool) -> None:
        self.failed: bool = False
        self._traces: dict[str, Trace] | None = {} if trace else None
        self._count = 0
        self._draws = ladder in {"", "stderr"}
        self._directory = Path(ladder) if ladder and not self._draws else None
        self._json_file = json_file
        self._json: TextIO | None = None

    def open(self) -> None:
        """Open them, when the server listens, and before a connection can end: until then they may be another server's.

        Raises:
            UsageError: the file or the directory cannot be written.
        """
        try:
            if self._directory is not None:
                self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--ladder: cannot make '{self._directory}': {error.strerror}") from error
        try:
            if self._json_file is not None:
                self._json = _opened(self._json_file)
        except OSError as error:
            raise UsageError(f"--json: cannot write '{self._json_file}': {error.strerror}") from error

    def on_event(self, peer: str, event: Event) -> None:
        """Trace one event, if tracing is on."""
        if self._traces is None:
            return
        if event.kind is EventKind.CONNECTED:
            self._traces[peer] = Trace(peer)
        if trace := self._traces.get(peer):
            trace(event)
        if event.kind is EventKind.RELEASED:
            self._traces.pop(peer, None)

    def on_ending(self, ending: Ending) -> None:
        """Report one connection."""
        self._count += 1
        if self._draws:
            output.print_ladder(ending, sys.stderr)
        if self._directory is not None:
            self._draw(self._directory, ending)
        if self._json is not None:
            self._write(self._json, ending)
        output.print_ending(ending, ending.peer)

    def close(self) -> None:
        """Close the file that was opened here."""
        if self._json is not None and self._json not in {sys.stdout, sys.stderr}:
            with contextlib.suppress(OSError):
                self._json.close()

    def _draw(self, directory: Path, ending: Ending) -> None:
        path = directory / f"{self._count:04}-{_NOT_IN_A_NAME.sub('-', ending.peer).strip('-')}.svg"
        try:
            path.write_text(render_svg(ending), encoding="utf-8")
        except OSError as error:
            self._fail(f"cannot write '{path}': {error.strerror}")

    def _write(self, file: TextIO, ending: Ending) -> None:
        try:
            file.write(json.dumps(ending.to_dict()) + "\n")
            file.flush()
        except (OSError, ValueError) as error:
            self._json = None
            if file in {sys.stdout, sys.stderr}:
                output.silence(file)
            self._fail(f"cannot write JSON any more: {getattr(error, 'strerror', error)}")

    def _fail(self, message: str) -> None:
        self.failed = True
        output.error(message)


def _opened(path: str) -> TextIO:
    if path == "":
        return sys.stderr
    return sys.stdout if path == "-" else Path(path).open("w", encoding="utf-8")
