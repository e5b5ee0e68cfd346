"""The scenarios: one function for each thing that a library does over TLS, and what its answer is.

    @client("aiohttp", HTTP_TO_THE_END, HTTP_BY_LENGTH, ways=ASYNCIO_WAYS)
    async def get(talk: Talk) -> bytes:
        ...

A client's scenario is a function of a `Talk`. It asks as the library's users do, and returns the message that the
application got; what the library raises, it raises. In a way that blocks it is a plain function, in one with a loop it
is a coroutine function. A server's scenario is an asynchronous context manager of a `ServerStage`, for a loop of
asyncio.

The tests, and the table in the documentation, are made from `clients` and `servers`. A module with more scenarios is
added to `MODULES`.
"""

from __future__ import annotations

import functools
import importlib
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from reach.dialogues import Dialogue
    from reach.visits import Visit
    from reach.ways import LibraryWay


@dataclass(frozen=True)
class Talk:
    """What a client's scenario gets.

    Attributes:
        host, port: where the server listens.
        ca_file: the authority of its certificate.
        ours: whether bowout ends the TLS connections: for libraries that are given a transport or a connector.
        path: of the resource, where there are any.
        upload: what the application has to send.
        got_head: to be called when the application has the head of the answer: the server ends after that.
    """

    host: str
    port: int
    ca_file: str
    ours: bool
    path: str = "/"
    upload: bytes = b""
    got_head: Callable[[], None] = lambda: None

    @functools.cached_property
    def context(self) -> ssl.SSLContext:
        """A client's context that trusts the authority."""
        return ssl.create_default_context(cafile=self.ca_file)


@dataclass(frozen=True)
class ServerStage:
    """What a server's scenario gets.

    Attributes:
        context: with its certificate.
        pem: a file with the certificate and its key.
        began: to be called when the application has a request, and not yet all of its body: a bad client ends then.
        saw: to be called with a few words when the application knows how its client ended.
    """

    context: ssl.SSLContext
    pem: str
    began: Callable[[], None]
    saw: Callable[[str], None]


ClientFunction = Callable[[Talk], Awaitable[bytes]] | Callable[[Talk], bytes]
ServerFunction = Callable[[ServerStage], AbstractAsyncContextManager[int]]


@dataclass(frozen=True)
class ClientScenario:
    """One thing that a client's library does.

    Attributes:
        library: for the tables, such as ``aiohttp``.
        dialogue: what the server says, and what ends its answer.
        function: what the application does.
        ways: how it can be run.
        distributions: those whose versions matter.
    """

    library: str
    dialogue: Dialogue
    function: ClientFunction
    ways: tuple[LibraryWay, ...]
    distributions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.library}, {self.dialogue.name}"


@dataclass(frozen=True)
class ServerScenario:
    """One server; attributes as those of a `ClientScenario`.

    Attributes:
        visit: what a client says to it.
        function: gives the port at which it serves.
    """

    library: str
    visit: Visit
    function: ServerFunction
    ways: tuple[LibraryWay, ...]
    distributions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.library}, {self.visit.name}"


@dataclass
class Registry:
    """All scenarios, in the order in which they were written."""

    clients: list[ClientScenario] = field(default_factory=list)
    servers: list[ServerScenario] = field(default_factory=list)


REGISTRY: Final = Registry()

#: The modules with scenarios.
MODULES: Final = ("reach.clients", "reach.blocking_clients", "reach.servers")


def clients() -> list[ClientScenario]:
    """Every client's scenario."""
    _load()
    return REGISTRY.clients


def servers() -> list[ServerScenario]:
    """Every server's scenario."""
    _load()
    return REGISTRY.servers


def everything() -> list[ClientScenario | ServerScenario]:
    """Both."""
    return [*clients(), *servers()]


def distributions() -> list[str]:
    """The distributions that the scenarios use, for their versions."""
    return sorted({name for scenario in everything() for name in scenario.distributions})


def client(
    library: str, *dialogues: Dialogue, ways: tuple[LibraryWay, ...], distributions: tuple[str, ...]
) -> Callable[[Any], Any]:
    """Register a client's scenario, once for each dialogue."""

    def register(function: Any) -> Any:
        REGISTRY.clients.extend(
            ClientScenario(library, dialogue, function, ways, distributions) for dialogue in dialogues
        )
        return function

    return register


def server(
    library: str, *visits: Visit, ways: tuple[LibraryWay, ...], distributions: tuple[str, ...]
) -> Callable[[Any], Any]:
    """Register a server's scenario, once for each kind of visit."""

    def register(function: Any) -> Any:
        REGISTRY.servers.extend(ServerScenario(library, visit, function, ways, distributions) for visit in visits)
        return function

    return register


def _load() -> None:
    for module in MODULES:
        importlib.import_module(module)
