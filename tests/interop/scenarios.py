"""How a connection ends: each scenario drives our stream and the application behind the other stack."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from bowout import BowoutError, Ending, Stream
from helpers.tasks import in_thread, jobs
from interop.far import Far

HELLO: Final = b"hello\n"
WELCOME: Final = b"welcome\n"
LATE: Final = b"late reply\n"

#: Several megabytes. Lines of digits: command line tools take other first letters for commands.
BULK: Final = b"".join(b"%015d\n" % number for number in range(4 << 16))
#: More than what one read takes, to be on its way when the end comes.
FLIGHT: Final = BULK[: 1 << 20]

#: How a stack is made to end: the end of its input, a command, or a signal.
By = signal.Signals | bytes | None


@dataclass(frozen=True)
class ScenarioParties:
    """What a scenario has in hand.

    Attributes:
        us: our end.
        far: theirs.
        by: what makes them end.
        hold: makes what both send next cross on the way.
    """

    us: Stream
    far: Far
    by: By
    hold: Callable[[], None]


@dataclass(frozen=True)
class ScenarioOutcome:
    """What came of it.

    Attributes:
        they_got, we_got: ``all``, ``some`` or ``nothing`` of what was sent.
    """

    ending: Ending
    they_got: str = "all"
    we_got: str = "all"


Scenario = Callable[[ScenarioParties], Awaitable[ScenarioOutcome]]


async def _exchange(talk: ScenarioParties) -> None:
    """A word each way, so that all of the handshake is done, tickets too."""
    if talk.far.echoes:
        await talk.us.send(HELLO)
        assert await talk.us.receive_until(b"\n") == HELLO
        return
    await in_thread(lambda: talk.far.write(HELLO))
    assert await talk.us.receive_until(b"\n") == HELLO
    await talk.us.send(WELCOME)
    assert (await in_thread(lambda: talk.far.read_until(WELCOME))).endswith(WELCOME)


async def _rest(us: Stream) -> bytes:
    """All that comes until the end, however it ends: the ending tells that."""
    chunks: list[bytes] = []
    with contextlib.suppress(BowoutError):
        async for chunk in us:
            chunks.append(chunk)  # noqa: PERF401 what came before an error counts too
    return b"".join(chunks)


async def _send_and_close(us: Stream, data: bytes) -> Ending:
    with contextlib.suppress(BowoutError):  # a peer that left has its own ending
        await us.send(data)
    return await us.close()


def _part(got: bytes, of: bytes) -> str:
    """How much of it was got; some tools print other things around it."""
    if of in got:
        return "all"
    return "some" if of[: len(HELLO)] in got else "nothing"


async def _follow(talk: ScenarioParties) -> bytes:
    """Their application reads until it learns of our end, and then ends too."""
    if talk.far.echoes:
        return b""
    got = await in_thread(talk.far.read_to_end)
    await in_thread(talk.far.end)
    return got


async def we_end(talk: ScenarioParties) -> ScenarioOutcome:
    """We close; they learn of it, and close in turn."""
    await _exchange(talk)
    async with jobs() as group:
        closing = group.start(talk.us.close)
        await _follow(talk)
        return ScenarioOutcome(await closing.result())


async def they_end(talk: ScenarioParties) -> ScenarioOutcome:
    """They end; we read to the end, and close in turn."""
    await _exchange(talk)
    await in_thread(lambda: talk.far.leave(talk.by))
    await _rest(talk.us)
    return ScenarioOutcome(await talk.us.close())


async def both_end(talk: ScenarioParties) -> ScenarioOutcome:
    """Both end before either knows of the other: what they send crosses on the way."""
    await _exchange(talk)
    talk.hold()
    async with jobs() as group:
        closing = group.start(talk.us.close)
        await in_thread(lambda: talk.far.leave(talk.by))
        return ScenarioOutcome(await closing.result())


async def half_close(talk: ScenarioParties) -> ScenarioOutcome:
    """We send close_notify only; their application learns of it, replies, and ends; we read the late reply."""
    await _exchange(talk)
    await talk.us.send_eof()
    async with jobs() as group:
        reading = group.start(_rest, talk.us)
        await in_thread(talk.far.read_to_end)
        await in_thread(lambda: talk.far.write(LATE))
        await in_thread(talk.far.end)
        got = await reading.result()
    return ScenarioOutcome(await talk.us.close(), we_got=_part(got, LATE))


async def in_flight(talk: ScenarioParties) -> ScenarioOutcome:
    """We send a megabyte and close at once, while a megabyte of theirs is on its way to us."""
    await _exchange(talk)
    async with jobs() as group:
        writing = group.start(in_thread, lambda: talk.far.write(FLIGHT))
        assert await talk.us.receive()
        closing = group.start(_send_and_close, talk.us, FLIGHT)
        got = await in_thread(talk.far.read_to_end)
        await writing.ended()
        await in_thread(talk.far.end)
        return ScenarioOutcome(await closing.result(), they_got=_part(got, FLIGHT))


async def upload(talk: ScenarioParties) -> ScenarioOutcome:
    """We send several megabytes, and close at once."""
    await _exchange(talk)
    async with jobs() as group:
        if talk.far.echoes:
            reading = group.start(talk.us.receive_exactly, len(BULK))
            await talk.us.send(BULK)
            got = await reading.result()
            return ScenarioOutcome(await talk.us.close(), they_got=_part(got, BULK))
        closing = group.start(_send_and_close, talk.us, BULK)
        got = await _follow(talk)
        return ScenarioOutcome(await closing.result(), they_got=_part(got, BULK))


async def download(talk: ScenarioParties) -> ScenarioOutcome:
    """They send several megabytes, and end at once."""
    await _exchange(talk)
    async with jobs() as group:
        reading = group.start(_rest, talk.us)

        def send_and_end() -> None:
            talk.far.write(BULK)
            talk.far.end()

        await in_thread(send_and_end)
        got = await reading.result()
    return ScenarioOutcome(await talk.us.close(), we_got=_part(got, BULK))


SCENARIOS: Final[dict[str, Scenario]] = {
    "we end": we_end,
    "they end": they_end,
    "both end": both_end,
    "half-close": half_close,
    "in flight": in_flight,
    "upload": upload,
    "download": download,
}
