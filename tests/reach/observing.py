"""What comes of a scenario: short, stable words, for the tests to assert and the table to show."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Final

from bowout import Ending
from bowout.testing import Peer, PeerReport, TLSVersion
from helpers.peers import require_module
from helpers.serving import cert_file
from helpers.wire import server_context
from reach.ends import End
from reach.registry import ClientScenario, ServerScenario, ServerStage, Talk
from reach.ways import DEADLINE, Hang, LibraryRun, LibraryWay

#: The application has half of the message, and takes it for the whole.
HIDDEN: Final = "half, and no error"
WHOLE: Final = "the whole"
HANGS: Final = "hangs"

#: Packages that need not be named before an error of theirs.
_PLAIN: Final = ("asyncio", "builtins")


@dataclass(frozen=True)
class Sight:
    """What came of one run.

    Attributes:
        saw: what the application saw.
        played: the same in full.
        report: what the other side saw.
        received: the number of bytes that it received, on all connections.
    """

    saw: str
    played: LibraryRun
    report: PeerReport
    received: int = 0


def require(scenario: ClientScenario | ServerScenario, way: LibraryWay) -> None:
    """Skip the test, or fail it in CI, unless the scenario can be run in this way."""
    way.require()
    for distribution in scenario.distributions:
        require_module(distribution)


def observe_client(
    scenario: ClientScenario,
    way: LibraryWay,
    end: End | None,
    tls: TLSVersion = "1.3",
    *,
    message: bytes | None = None,
    upload: bytes = b"",
) -> Sight:
    """Run a client against a server that ends so; None for one that says all, and ends well."""
    dialogue = scenario.dialogue
    script = dialogue.script(end, message=message, upload=len(upload))
    with Peer(
        script, tls=tls, opening=dialogue.opening, connections=dialogue.connections, timeout=2 * DEADLINE
    ) as peer:
        talk = Talk("localhost", peer.port, str(peer.ca_file), way.ours, upload=upload, got_head=peer.go)
        played = way.play(lambda: scenario.function(talk))
        peer.go()  # an application that never got there does not wait for its server
        report = peer.wait() if end is None and played.error is None else None
    whole = dialogue.message if message is None else message
    received = sum(one.received for one in peer.reports)
    return Sight(_words(played, whole), played, report or peer.report, received)


@dataclass
class ServerSight:
    """What came of one run of a server.

    Attributes:
        saw: what the application learned of each client: the bad one first, if there was one, and then the good one.
        answer: what the good client got.
        ending: how its connection ended.
        played: the run in full.
        hung: the application learned nothing of the bad client.
    """

    saw: list[str] = field(default_factory=list)
    answer: bytes = b""
    ending: Ending | None = None
    played: LibraryRun = field(default_factory=LibraryRun)
    hung: bool = False


def observe_server(scenario: ServerScenario, way: LibraryWay, end: End | None, tls: TLSVersion = "1.3") -> ServerSight:
    """Run a server for a client that ends so, None for none, and then for a good one."""
    sight, began, told = ServerSight(), threading.Event(), threading.Event()

    def saw(words: str) -> None:
        sight.saw.append(words)
        began.set()
        told.set()

    def visit_badly(port: int, end: End) -> bool:
        """Let a bad client come and leave; tell whether the application learned of it."""
        visit = scenario.visit
        with Peer(
            visit.script(end),
            role="client",
            tls=None,
            context=visit.context(tls),
            connect_to=("127.0.0.1", port),
            opening=visit.opening,
            timeout=2 * DEADLINE,
        ) as peer:
            began.wait(DEADLINE / 4)
            peer.go()
            return told.wait(DEADLINE / 4)

    async def main() -> None:
        async with scenario.function(ServerStage(server_context(tls), cert_file(), began.set, saw)) as port:
            if end is not None:
                sight.hung = not await asyncio.to_thread(visit_badly, port, end)
            sight.answer, sight.ending = await scenario.visit.make(port, tls)

    sight.played = way.play(main)
    return sight


def _words(played: LibraryRun, whole: bytes) -> str:
    if played.error is not None:
        return HANGS if isinstance(played.error, Hang) else name_of(played.error)
    if played.value == whole:
        return WHOLE
    if played.value and whole.startswith(played.value):
        return HIDDEN
    return "nothing, and no error" if not played.value else f"{played.value!r}, and no error"


def name_of(error: BaseException) -> str:
    """Its class, as users write it; of a group, those in it; of a scenario's own, what it says."""
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(sorted({name_of(one) for one in error.exceptions}))
    kind = type(error)
    package = kind.__module__.partition(".")[0]
    if package == "reach":
        return str(error)
    return kind.__name__ if package in _PLAIN else f"{package}.{kind.__name__}"
