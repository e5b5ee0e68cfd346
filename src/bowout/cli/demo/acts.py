"""The acts of the demo: four ways to leave a TLS server, each on its own connection."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import bowout
from bowout import _backends
from bowout.cli.demo.loop import pause
from bowout.cli.demo.server import HOSTNAME, LOCALHOST, Stuck

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    from bowout.cli.demo.loop import SideTasks
    from bowout.cli.demo.server import DemoServer

#: Longest wait of the demo, in seconds.
_PATIENCE: Final = 15.0
#: Pause before an action of the story, in seconds, so that the ladder shows it apart.
_BEAT: Final = 0.05

_GRACEFUL: Final = frozenset({bowout.How.CLEAN, bowout.How.UNANSWERED})


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact to print: its label, and its text, line by line."""

    label: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Played:
    """The result of an act.

    Attributes:
        ending: the client's ending.
        facts: facts from the client, the server and others.
        as_promised: whether everything happened as the act says.
    """

    ending: bowout.Ending
    facts: tuple[Fact, ...]
    as_promised: bool


@dataclass(frozen=True, slots=True)
class _Left:
    """The client's result: its ending, other facts, and whether both are as the act says."""

    ending: bowout.Ending
    as_promised: bool
    others: tuple[Fact, ...] = ()


@dataclass(frozen=True, slots=True)
class DemoAct:
    """One way to leave.

    Attributes:
        story: a sentence that describes the act.
        code: the calls of the library.
        moral: a sentence to print after the act, if it went as promised.
        slug: its name in a file name.
        leave: the function that plays the client.
        graceful: whether the server should get no error; otherwise it should get one.
    """

    number: int
    title: str
    story: str
    code: str
    moral: str
    slug: str
    leave: Callable[[Stage], Awaitable[_Left]]
    graceful: bool = True

    async def play(self, stage: Stage) -> Played:
        """Play the act, then check that the server accepts its next connection.

        Raises:
            Stuck: something did not happen in time.
            BowoutError: an error that is not part of the story.
        """
        backend = _backends.current()
        async with backend.move_on_at(backend.time() + 2 * _PATIENCE):
            left = await self.leave(stage)
            report = await stage.server.report()
            again, welcome = await _next_connection(stage)
            client = Fact("client", (str(left.ending),))
            return Played(
                left.ending,
                (client, *left.others, Fact(stage.server.name, report.lines), again),
                left.as_promised and report.content is self.graceful and welcome,
            )
        raise Stuck(f"nothing more happened within {2 * _PATIENCE:g} s")


@dataclass(frozen=True, slots=True)
class Stage:
    """The environment of the acts: a server, a TLS context for it, and side tasks."""

    server: DemoServer
    context: ssl.SSLContext
    jobs: SideTasks

    @asynccontextmanager
    async def connection(self, on_event: Callable[[bowout.Event], None] | None = None) -> AsyncIterator[bowout.Stream]:
        """Provide a connection to the server, after both sides have finished the handshake."""
        async with bowout.connect(
            LOCALHOST,
            self.server.port,
            context=self.context,
            server_hostname=HOSTNAME,
            connect_timeout=_PATIENCE,
            handshake_timeout=_PATIENCE,
            close_timeout=_PATIENCE,
            on_event=on_event,
        ) as stream:
            await self.server.connected()
            yield stream


async def _inside_a_read(stage: Stage) -> _Left:
    async def say_quit() -> None:
        await pause(_BEAT)
        await stage.server.say(b"please quit\n")

    async with stage.connection() as stream:
        stage.jobs.start(say_quit)
        async for line in stream.lines():
            if b"quit" in line:
                await stream.close()
    ending = await stream.wait_ended()
    return _Left(ending, ending.how in _GRACEFUL and ending.started_by is bowout.Side.WE)


async def _while_reading(stage: Stage) -> _Left:
    async with stage.connection() as stream:
        reading = stage.jobs.start(stream.receive)
        await pause(_BEAT)
        ending = await stream.close()
        await reading.wait()
    told = f"{type(reading.error).__name__}: {reading.error}" if reading.error else f"gave {reading.result!r}"
    read = Fact("read", (told,))
    return _Left(ending, ending.how in _GRACEFUL and isinstance(reading.error, bowout.StreamClosed), (read,))


async def _cancelled_read(stage: Stage) -> _Left:
    said = b"half a line, "
    arrived = _backends.current().event()

    def watch(event: bowout.Event) -> None:
        if event.kind is bowout.EventKind.DATA and event.by is bowout.Side.PEER:
            arrived.set()

    async with stage.connection(watch) as stream:
        reading = stage.jobs.start(lambda: stream.receive_until(b"\n"))
        await pause(_BEAT)
        await stage.server.say(said)
        await arrived.wait()
        reading.cancel()
        await reading.wait()
        kept = await stream.receive()
        ending = await stream.close()
    read = Fact("read", (f"cancelled holding {len(said)} B; the next one gave {len(kept)} B",))
    return _Left(ending, ending.how in _GRACEFUL and kept == said and reading.result is None, (read,))


async def _abruptly(stage: Stage) -> _Left:
    async with stage.connection() as stream:
        await pause(_BEAT)
        ending = stream.abort()
    return _Left(ending, ending.how is bowout.How.ABORTED)


async def _next_connection(stage: Stage) -> tuple[Fact, bool]:
    async with stage.connection() as stream:
        version = stream.tls_version
    ending = await stream.wait_ended()
    report = await stage.server.report()
    told = f"it takes its next connection: {version}, {ending.how.value}"
    return Fact("then", (told,)), ending.how in _GRACEFUL and report.content


ACTS: Final = (
    DemoAct(
        number=1,
        title="From inside a read",
        story="The server says “please quit”, and the client's reaction to that line closes.",
        code='async for line in stream.lines():\n    if b"quit" in line: await stream.close()',
        moral="A read's reaction may close: the server got our close_notify and met no error.",
        slug="situation-1",
        leave=_inside_a_read,
    ),
    DemoAct(
        number=2,
        title="While a read is pending",
        story="One task waits for the server's words when the local user quits, in another.",
        code="data = await stream.receive()    # one task, waiting\nending = await stream.close()    # another task",
        moral="The pending read ended with StreamClosed at once; neither side met an error.",
        slug="situation-2",
        leave=_while_reading,
    ),
    DemoAct(
        number=3,
        title="Cancel the pending read, then close",
        story="The read is cancelled while it holds half a line. The next read gets that half, then the client closes.",
        code='task.cancel()    # it was in stream.receive_until(b"\\n")\n'
        "kept = await stream.receive(); await stream.close()",
        moral="The cancelled read lost no byte, and neither side met an error.",
        slug="cancelled-read",
        leave=_cancelled_read,
    ),
    DemoAct(
        number=4,
        title="Abruptly, for contrast",
        story="The client drops the connection without a close_notify.",
        code="ending = stream.abort()",
        moral="Here the server did meet an error: without close_notify it cannot know that nothing is missing.",
        slug="abrupt",
        leave=_abruptly,
        graceful=False,
    ),
)
