"""Small filters over streams of bytes, each with the state that a chunk's end leaves it in."""

from __future__ import annotations

import codecs
import re
from typing import Final

from bowout._escape import escape

_LONE_LF: Final = re.compile(rb"(?<!\r)\n")
_ESCAPABLE: Final = re.compile(r"[^\n\t]+")


class Crlf:
    """``--crlf``: make every LF a CRLF, but leave those alone that are one."""

    def __init__(self) -> None:
        self._after_cr = False

    def feed(self, data: bytes) -> bytes:
        """The next chunk."""
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
        """The next piece of a line or of lines; None where the user leaves."""
        if self._line_starts and data.startswith(b"~."):
            return None
        if self._line_starts and data.startswith(b"~~"):
            data = data[1:]
        if data:
            self._line_starts = data.endswith(b"\n")
        return data


class LineWith:
    """``--quit-on``: find the first line that holds a text, however it is cut into chunks."""

    def __init__(self, text: str) -> None:
        self._text = text.encode()
        self._tail = b""
        self.found = False
        self.line_ended = False

    def feed(self, data: bytes) -> bytes:
        """The next chunk: give back as much of it as comes before the end of the line that holds the text."""
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
    """What a peer sends, made harmless for a terminal: newlines and tabs stay, all that could act is escaped.

    Args:
        encoding: the terminal's.
    """

    def __init__(self, encoding: str) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._encoding = encoding
        self._ascii_only = codecs.lookup(encoding).name != "utf-8"
        self._cr = ""
        self.line_starts = True

    def feed(self, data: bytes, *, last: bool = False) -> str:
        """The next chunk. A character, or a CR LF, that is cut in half waits for its other half."""
        text = self._cr + self._decoder.decode(data, last)
        self._cr = "\r" if text.endswith("\r") and not last else ""
        text = text.removesuffix(self._cr).replace("\r\n", "\n")
        shown = _ESCAPABLE.sub(lambda match: escape(match[0], ascii_only=self._ascii_only), text)
        if shown:
            self.line_starts = shown.endswith("\n")
        return shown
