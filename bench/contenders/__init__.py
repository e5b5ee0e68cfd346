"""The contenders that bowout is compared with: a small class each, with the same few verbs (`contenders.base`)."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from contenders.base import Contender


#: All works but receiving into a buffer, which many have no verb for.
_BYTES: Final = ("receive", "send", "echo", "handshake", "many", "memory")
_ALL: Final = ("receive_into", *_BYTES)


@dataclass(frozen=True, slots=True)
class ContenderChoice:
    """The place of a contender's class, and the packages that it needs."""

    module: str
    kind: str
    #: For the class: which loop or flavour.
    argument: str = ""
    #: Modules that must be importable.
    needs: tuple[str, ...] = ()
    #: The works that make sense for it.
    works: tuple[str, ...] = _BYTES
    #: Which lane of bowout it takes, c or python.
    lane: str = ""


def _ours(loop: str, lane: str, kind: str = "Bowout") -> ContenderChoice:
    needs: tuple[str, ...] = () if loop == "asyncio" else (loop,)
    if lane == "c":
        needs += ("bowout._lane._native",)
    return ContenderChoice("on_bowout", kind, loop, needs, _ALL, lane)


PYTHON: Final[dict[str, ContenderChoice]] = {
    **{f"bowout on {loop}": _ours(loop, "c") for loop in ("asyncio", "uvloop", "trio")},
    **{f"bowout on {loop}, in Python": _ours(loop, "python") for loop in ("asyncio", "uvloop", "trio")},
    "bowout Protocol on asyncio": _ours("asyncio", "c", "BowoutProtocols"),
    "bowout Protocol on uvloop": _ours("uvloop", "c", "BowoutProtocols"),
    "asyncio streams": ContenderChoice("on_asyncio", "Streams", "asyncio"),
    "asyncio Protocol": ContenderChoice("on_asyncio", "Protocols", "asyncio", works=_ALL),
    "uvloop streams": ContenderChoice("on_asyncio", "Streams", "uvloop", ("uvloop",)),
    "uvloop Protocol": ContenderChoice("on_asyncio", "Protocols", "uvloop", ("uvloop",), _ALL),
    "trio SSLStream": ContenderChoice("on_trio", "Trio", "", ("trio",)),
    "anyio TLSStream on asyncio": ContenderChoice("on_anyio", "Anyio", "asyncio", ("anyio",)),
    "anyio TLSStream on trio": ContenderChoice("on_anyio", "Anyio", "trio", ("anyio", "trio")),
    "Twisted": ContenderChoice("on_twisted", "Twisted", "", ("twisted", "OpenSSL", "service_identity")),
    "blocking SSLSocket": ContenderChoice(
        "blocking",
        "Blocking",
        works=tuple(work for work in _ALL if work != "many"),  # That would need a thread each.
    ),
    "bare SSLObject": ContenderChoice("blocking", "MemoryFloor", works=("memory",)),  # the floor of memory
}


def make(name: str, port: int, ca: str) -> Contender[Any]:
    """Return the contender called `name`, ready to connect to this port with this trust; import its modules now."""
    entry = PYTHON[name]
    kind = getattr(importlib.import_module(f"contenders.{entry.module}"), entry.kind)
    contender: Contender[Any] = kind(port, ca, *([entry.argument] if entry.argument else []))
    return contender
