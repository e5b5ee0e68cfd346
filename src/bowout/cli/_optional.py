"""Options whose value may be left out: ``--ladder [FILE.svg]``, ``--json [FILE]``, ``--show-cert[=pem]``.

A bare word after such an option could be its file or the host. It is the file where its suffix says so; any other file
needs the ``=``, so that nothing is guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: The options, and the suffixes that make the next word theirs.
OPTIONAL: Final[Mapping[str, tuple[str, ...]]] = {
    "--ladder": (".svg", ".txt"),
    "--json": (".json",),
    "--show-cert": (" ",),  # Its value always needs the "=".
}


#: Stands for a value that was left out, lest it look like an empty one. No argument of a process can hold it.
LEFT_OUT: Final = "\0"


def with_values(arguments: Sequence[str]) -> list[str]:
    """Give every such option a value with a ``=``: its file, or `LEFT_OUT`.

    ``serve`` has no word of its own but a port, so that there the next word is the option's unless it is a number.
    """
    serving = next((word for word in arguments if not word.startswith("-")), "") == "serve"
    filled: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*filled, word, *rest]
        if word in OPTIONAL:
            takes = bool(rest) and _belongs(rest[0], () if serving else OPTIONAL[word])
            word = f"{word}={rest.pop(0) if takes else LEFT_OUT}"
        filled.append(word)
    return filled


def without_marks(arguments: Sequence[str]) -> list[str]:
    """Make every value that was left out the empty one that the commands know."""
    return [word.removesuffix(LEFT_OUT) for word in arguments]


def _belongs(word: str, suffixes: tuple[str, ...]) -> bool:
    if word.startswith("-"):
        return word == "-"
    return word.endswith(suffixes) if suffixes else not word.isdecimal()
