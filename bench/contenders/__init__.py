"""Whom bowout is compared with: a small class each, with the same few verbs (`contenders.base`)."""

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
class Entry:
    """Where a contender's class is, and what must be installed for it."""

    module: str
    kind: str
    #: For the class: which loop or flavour.
    argument: str = ""
    #: Modules that must be importable.
    needs: tuple[str, ...] = ()
    #: The works that make sense for it.
    works: tuple[str, ...] = _BYTES


PYTHON: Final[dict[str, Entry]] = {
    "bowout on asyncio": Entry("on_bowout", "Bowout", "asyncio", works=_ALL),
    "bowout on uvloop": Entry("on_bowout", "Bowout", "uvloop", ("uvloop",), _ALL),
    "bowout on trio": Entry("on_bowout", "Bowout", "trio", ("trio",), _ALL),
    "asyncio streams": Entry("on_asyncio", "Streams", "asyncio"),
    "asyncio Protocol": Entry("on_asyncio", "Protocols", "asyncio", works=_ALL),
    "uvloop streams": Entry("on_asyncio", "Streams", "uvloop", ("uvloop",)),
    "uvloop Protocol": Entry("on_asyncio", "Protocols", "uvloop", ("uvloop",), _ALL),
    "trio SSLStream": Entry("on_trio", "Trio", "", ("trio",)),
    "anyio TLSStream on asyncio": Entry("on_anyio", "Anyio", "asyncio", ("anyio",)),
    "anyio TLSStream on trio": Entry("on_anyio", "Anyio", "trio", ("anyio", "trio")),
    "Twisted": Entry("on_twisted", "Twisted", "", ("twisted", "OpenSSL", "service_identity")),
    "blocking SSLSocket": Entry(
        "blocking",
        "Blocking",
        works=tuple(work for work in _ALL if work != "many"),  # That would need a thread each.
    ),
    "bare SSLObject": Entry("blocking", "Bare", works=("memory",)),  # the floor of memory
}


def make(name: str, port: int, ca: str) -> Contender[Any]:
    """The contender of this name, about to connect to this port with this trust; its modules are imported now."""
    entry = PYTHON[name]
    kind = getattr(importlib.import_module(f"contenders.{entry.module}"), entry.kind)
    contender: Contender[Any] = kind(port, ca, *([entry.argument] if entry.argument else []))
    return contender
