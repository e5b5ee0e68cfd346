"""Text from a peer, made harmless: what it sends must not move a terminal's cursor, nor turn a line around."""

from __future__ import annotations

import re
from typing import Final

#: Letters and marks by their category that nevertheless draw nothing: fillers, joiners and variation selectors.
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def escape(data: str | bytes, *, ascii_only: bool = False) -> str:
    r"""Make text from a peer safe to show on a terminal, in XML or in HTML (markup is still yours to quote).

        >>> escape("220 \x1b[2Jready")
        '220 \\x1b[2Jready'
        >>> escape(b"caf\xc3\xa9\n")
        'caf\\xc3\\xa9\\n'

    Control and format characters (C0, C1, DEL, bidirectional overrides, zero-width ones), every space but U+0020, line
    separators, surrogates and unassigned code points become Python's own escapes. A backslash stays as it is, so that
    escaping twice does no harm; the result is for reading, not for decoding.

    Args:
        data: bytes are shown as ASCII, every other byte as ``\xNN``; of a str, printable Unicode is kept.
        ascii_only: escape all that is not ASCII, too.
    """
    if isinstance(data, bytes):
        return "".join(chr(byte) if 0x20 <= byte < 0x7F else _code(chr(byte)) for byte in data)
    return "".join(char if _is_plain(char, ascii_only=ascii_only) else _code(char) for char in data)


def _is_plain(char: str, *, ascii_only: bool) -> bool:
    if char.isascii():
        return char.isprintable()
    return not ascii_only and char.isprintable() and not _INVISIBLE.match(char)


def _code(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
