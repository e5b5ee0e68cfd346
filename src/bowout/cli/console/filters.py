"""Small filters over streams of bytes, each with its state between two chunks."""

from __future__ import annotations

import codecs
import re
from typing import Final

from bowout._text import escape

_LONE_LF: Final = re.compile(rb"(?<!\r)\n")
_ESCAPABLE: Final = re.compile(r"[^\n\t]+")


class Crlf:
    """``--crlf``: replace each LF by a CR LF, except in a CR LF."""

    def __init__(self) -> None:
        self._after_cr = False

    def feed(self, data: bytes) -> bytes:
        """Return the next chunk, filtered."""
        head = b""
        if self._after_cr and data.startswith(b"\n"):
            head, data = b"\n", data[1:]
        if data or head:
            self._after_cr = data.endswith(b"\r")
        return head + _LONE_LF.sub(b"\r\n", data)


class Tilde:
    """``~.`` at the start of a typed line leaves, as in ssh; ``~~`` there stands for one ``~``."""

    def __init__(self) -> None:
        self._line_starts = True

    def feed(self, data: bytes) -> bytes | None:
        """Return the next piece of typed lines, filtered; None if the user leaves."""
        if self._line_starts and data.startswith(b"~."):
            return None
        if self._line_starts and data.startswith(b"~~"):
            data = data[1:]
        if data:
            self._line_starts = data.endswith(b"\n")
        return data


class LineWith:
    """``--quit-on``: find the first line that contains a text, even across chunks."""

    def __init__(self, text: str) -> None:
        self._text = text.encode()
        self._tail = b""
        self.found: bool = False
        self.line_ended: bool = False

    def feed(self, data: bytes) -> bytes:
        """Return the part of the next chunk up to the end of the line that contains the text."""
        start = 0
        if not self.found:
            joined = self._tail + data
            at = joined.find(self._text)
            if at < 0:
                keep = len(self._text) - 1
                self._tail = joined[len(joined) - min(keep, len(joined)) :]
                return data
            self.found = True
            start = at + len(self._text) - len(self._tail)
        end = data.find(b"\n", start)
        self.line_ended = end >= 0
        return data[: end + 1] if self.line_ended else data


class TerminalText:
    """Makes a peer's data safe for a terminal: newlines and tabs stay, other control characters are escaped.

    Args:
        encoding: the terminal's encoding.
    """

    def __init__(self, encoding: str) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._encoding = encoding
        self._ascii_only = codecs.lookup(encoding).name != "utf-8"
        self._cr = ""
        self.line_starts: bool = True

    def feed(self, data: bytes, *, last: bool = False) -> str:
        """Return the next chunk, escaped. An incomplete character, or half a CR LF, waits for the rest."""
        text = self._cr + self._decoder.decode(data, last)
        self._cr = "\r" if text.endswith("\r") and not last else ""
        text = text.removesuffix(self._cr).replace("\r\n", "\n")
        shown = _ESCAPABLE.sub(lambda match: escape(match[0], ascii_only=self._ascii_only), text)
        if shown:
            self.line_starts = shown.endswith("\n")
        return shown
