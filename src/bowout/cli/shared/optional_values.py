"""Options whose value may be left out: ``--ladder [FILE.svg]``, ``--json [FILE]``, ``--show-cert[=pem]``.

A bare word after such an option could be its file or the host. It is the file if it has a known suffix; any other file
needs the ``=``, so that no guess is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: The options, and the suffixes by which the next word is their value.
OPTIONAL: Final[Mapping[str, tuple[str, ...]]] = {
    "--ladder": (".svg", ".txt"),
    "--json": (".json",),
    "--show-cert": (" ",),  # Its value always needs the "=".
}


#: Stands for an omitted value, to tell it from an empty one. No argument of a process can contain it.
LEFT_OUT: Final = "\0"


def with_values(arguments: Sequence[str]) -> list[str]:
    """Return `arguments`, with a value after a ``=`` for every such option: its file, or `LEFT_OUT`.

    The only word of ``serve`` is a port, so there the next word belongs to the option unless it is a number.
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
    """Return `arguments`, with an empty value for every omitted one."""
    return [word.removesuffix(LEFT_OUT) for word in arguments]


def _belongs(word: str, suffixes: tuple[str, ...]) -> bool:
    if word.startswith("-"):
        return word == "-"
    return word.endswith(suffixes) if suffixes else not word.isdecimal()
