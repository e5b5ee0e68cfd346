"""The messages of the command line: all on stderr, in one format.

Lines begin with ``error:``, ``hint:`` or ``note:``. On a terminal they are coloured (unless ``NO_COLOR`` is set or
``TERM`` is ``dumb``) and wrapped to its width; anywhere else a message is one plain line. Text from a peer is escaped
here, for every caller.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final, TextIO

from bowout._text import columns, escape, wrap
from bowout.ending import How
from bowout.ladder import render_text

if TYPE_CHECKING:
    from bowout.ending import Ending

_WIDTH_OF_A_FILE: Final = 80
_NARROWEST: Final = 20
#: Columns beside the head of a message below which its text begins in the next line.
_LEAST_ROOM: Final = 12
#: The characters of the pictures and the marks.
_DRAWN_WITH: Final = "─│►◄✓✗·"

#: The exit status after an interruption by Ctrl-C, by the convention of shells: 128 and the number of SIGINT.
INTERRUPTED: Final = 130
USAGE: Final = 2
NOT_CONNECTED: Final = 3
#: The exit status of a failure on this side: stdin or stdout failed, or we aborted the connection.
HERE: Final = 1

_STATUS: Final = {
    How.CLEAN: 0,
    How.UNANSWERED: 0,
    How.TRUNCATED: 4,
    How.RESET: 5,
    How.ALERT: 6,
    How.UNFLUSHED: 7,
    How.ABORTED: HERE,
    How.FAILED_HANDSHAKE: NOT_CONNECTED,
}
_LOOKS: Final = {How.CLEAN: ("✓", "32"), How.UNANSWERED: ("!", "33"), How.ABORTED: ("!", "33")}
_BAD: Final = ("✗", "31")

#: The way to end a wait, for messages after a first Ctrl-C.
NO_WAIT: Final = "a second Ctrl-C does not wait"

#: The lines of ``--help`` about the exit statuses.
EXIT_STATUSES: Final = (
    "  0  clean, or unanswered (the peer sent no close_notify)",
    "  1  failed here: stdin or stdout failed, stdin was not",
    "     all sent, a late answer may be incomplete, or we",
    "     aborted",
    "  2  usage: a wrong option or argument; nothing was sent",
    "  3  no connection, or no handshake",
    "  4  truncated: FIN without close_notify; data may be",
    "     missing",
    "  5  reset by the peer, or lost by the network",
    "  6  a fatal alert, ours or the peer's",
    "  7  unflushed: the peer did not read all that we sent",
    "130  interrupted by Ctrl-C before it was done",
    "     (143 by SIGTERM, 129 by SIGHUP)",
)


def exit_status(ending: Ending) -> int:
    """Return the exit status for `ending`."""
    return _STATUS[ending.how]


def error(message: str, hint: str | None = None) -> None:
    """Print an error, and in a line of its own its remedy."""
    _labelled("error", "1;31", message)
    if hint:
        _labelled("hint", "1;36", hint)


def hint(message: str) -> None:
    """Print a remedy."""
    _labelled("hint", "1;36", message)


def note(message: str) -> None:
    """Print information that is not an error."""
    _labelled("note", "1", message)


def interrupted(message: str = "interrupted") -> None:
    """Print that Ctrl-C ended the command, in a line of its own."""
    end_echoed_line()
    error(message)


def end_echoed_line() -> bool:
    """Begin a new line if a terminal has just shown ``^C``; return whether it has."""
    shown_on = next((descriptor for descriptor in (2, 1) if _echoes_control_keys(descriptor)), None)
    if shown_on is not None:
        with contextlib.suppress(OSError):
            os.write(shown_on, b"\n")
    return shown_on is not None


def _echoes_control_keys(descriptor: int) -> bool:
    try:
        import termios  # noqa: PLC0415  (not everywhere)
    except ImportError:
        return False
    try:
        modes: int = termios.tcgetattr(descriptor)[3]
    except termios.error:
        return False
    wanted = termios.ISIG | termios.ECHO | termios.ECHOCTL
    return modes & wanted == wanted


def line(text: str) -> None:
    """Write one line to stderr, unchanged."""
    _write(sys.stderr, text + "\n")


def print_ending(ending: Ending, whose: str = "") -> None:
    """Print the ending in one line, with `whose` before it; ``connect`` prints nothing after it."""
    how, _, story = str(ending).partition(": ")
    mark, code = _LOOKS.get(ending.how, _BAD)
    mark = f"{mark} " if sys.stderr.isatty() and draws(sys.stderr) else ""
    whose = f"{escape(whose)}: " if whose else ""
    hanging(f"{mark}{whose}{how}:", story, code=code, indent=2)


def print_ladder(ending: Ending, file: TextIO) -> None:
    """Draw the ending on `file`: as wide as its terminal, in colour and in Unicode if it can show them."""
    _write(file, render_text(ending, width=width(file), color=colours(file), unicode=draws(file)))


def width(file: TextIO) -> int:
    """Return the columns of the terminal behind `file`; the default for a file, and for one that does not know them."""
    try:
        told = os.get_terminal_size(file.fileno()).columns
    except (OSError, ValueError):
        return _WIDTH_OF_A_FILE
    return max(told, _NARROWEST) if told else _WIDTH_OF_A_FILE


def colours(file: TextIO) -> bool:
    """Return whether `file` is a terminal that shows colours, and colours are not switched off (no-color.org)."""
    return file.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") != "dumb"


def draws(file: TextIO) -> bool:
    """Return whether the encoding of `file` has the characters of the pictures."""
    try:
        _DRAWN_WITH.encode(file.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def _labelled(label: str, code: str, message: str) -> None:
    hanging(f"{label}:", " ".join(message.split()), code=code)


def hanging(head: str, text: str, *, code: str = "", indent: int | None = None) -> None:
    """Print one message on stderr: `head`, then `text`, escaped; on a terminal, wrapped to its width.

    Args:
        head: the beginning of the first line, already escaped.
        text: the text, which may come from a peer.
        code: the colour of `head`, as the numbers of ECMA-48's SGR.
        indent: the indentation of the later lines; None for that of `text` in the first line.
    """
    text = escape(text, ascii_only=not draws(sys.stderr))
    if not sys.stderr.isatty():
        line(f"{head} {text}".rstrip())
        return
    indent = columns(head) + 1 if indent is None else indent
    room = width(sys.stderr) - columns(head) - 1
    if room < _LEAST_ROOM:
        first, rest, indent = "", [text], 2
    else:
        first, *rest = wrap(text, room) or [""]
    more = wrap(" ".join(rest), max(width(sys.stderr) - indent, 1))
    shown = f"\x1b[{code}m{head}\x1b[0m" if code and colours(sys.stderr) else head
    line("\n".join([f"{shown} {first}".rstrip(), *(" " * indent + each for each in more)]))


def _write(file: TextIO, text: str) -> None:
    """Write and flush; discard later output if the reader of `file` has closed it."""
    encoding = file.encoding or "ascii"
    try:
        file.write(text.encode(encoding, "backslashreplace").decode(encoding))
        file.flush()
    except (OSError, ValueError):
        silence(file)


def silence(file: TextIO) -> None:
    """Discard all later output to `file`, so that the interpreter's exit does not try to write it again."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass  # It has no descriptor, so nothing is written at the exit.
