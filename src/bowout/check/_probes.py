"""The probes that any client may make: each opens connections, does one thing, and tells what it saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bowout.check._judge import LARGE, Run
from bowout.check._wire import Heard, ServerEnd
from bowout.ending import Inbound, Side

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bowout.check._answer import Completeness
    from bowout.check._opener import Opener, Pace
    from bowout.check._protocols import Speech
    from bowout.check._wire import ProbeConnection
    from bowout.ending import Ending

#: Number of runs of the half-close: the loss is a race, which at least 80 % of runs lost where it was lost at all.
_HALF_CLOSES: Final = 3
#: Bytes of a large answer that are read before our close_notify.
_FIRST: Final = 4 << 10
_ENDS: Final = {
    Inbound.OPEN: ServerEnd.SILENCE,
    Inbound.CLOSE_NOTIFY: ServerEnd.CLOSE_NOTIFY,
    Inbound.TRUNCATED_AT_BOUNDARY: ServerEnd.FIN,
    Inbound.TRUNCATED_INSIDE_RECORD: ServerEnd.CUT,
    Inbound.RESET: ServerEnd.RST,
    Inbound.FATAL_ALERT: ServerEnd.ALERT,
    Inbound.UNDECRYPTABLE: ServerEnd.VIOLATION,
    Inbound.HANDSHAKE: ServerEnd.SILENCE,
}


@dataclass(slots=True)
class Check:
    """What the probes of one check share.

    Attributes:
        opener: opens the connections.
        talk: what to say to the server.
        baseline: what `reply_end` saw; None before it, and if it failed.
        large: the path of a large answer; None without one.
        idle: seconds for which a connection is left idle; None for no such probe.
        large_answer: what the large answer said of itself, as `in_flight` saw its beginning.
    """

    opener: Opener
    talk: Speech
    large: str | None = None
    idle: float | None = None
    baseline: Run | None = None
    large_answer: Completeness | None = None

    @property
    def pace(self) -> Pace:
        """The times."""
        return self.opener.pace

    @property
    def delimited(self) -> bool:
        """Whether the protocol marks the end of an answer itself."""
        return self.talk.protocol != "raw"

    def run(self, connection: ProbeConnection, heard: Heard, ending: Ending | None, **more: object) -> Run:
        """Make what the judge needs from what was heard."""
        seen = {
            "tls13": connection.is_tls13,
            "received": heard.answer.count,
            "end": heard.end,
            "alert": heard.alert,
            "seconds": heard.seconds,
            "answer": self.talk.measure(heard.answer),
            "delimited": self.delimited,
            "ending": ending,
        }
        return Run(**(seen | more))  # type: ignore[arg-type]  # The names and types are those of its attributes.

    async def greeted(self) -> ProbeConnection:
        """Open a connection, and hear the greeting of a server that speaks first.

        The greeting is not a part of the answer; an end instead of it shows in the next read.

        Raises:
            TimeoutError: it did not come. Nothing may be sent before it: a mail server takes that for an attack.
        """
        connection = await self.opener.open()
        greeting = self.talk.greeting
        if greeting is not None:
            heard = await connection.read_until(
                lambda now: greeting.search(now.answer.tail) is not None, self.pace.connection
            )
            if heard.end is ServerEnd.SILENCE and greeting.search(heard.answer.tail) is None:
                raise TimeoutError(f"no greeting within {heard.seconds:.1f} s")
        return connection


async def reply_end(check: Check) -> list[Run]:
    """Request an answer after which the server ends the connection."""
    connection = await check.greeted()
    await connection.send(check.talk.request, timeout=check.pace.connection)
    heard = await connection.read_to_end(check.pace.connection)
    ending = await connection.close(check.pace.close)
    run = check.run(connection, heard, ending, asked=bool(check.talk.request))
    check.baseline = run
    return [run]


async def answers(check: Check) -> list[Run]:
    """Leave an idle connection with close_notify, and wait for the server's."""
    connection = await check.opener.open()
    idle = await connection.read_to_end(check.pace.settle)
    if idle.end is not ServerEnd.SILENCE:
        return [check.run(connection, idle, await connection.close(check.pace.close), early=True)]
    began = check.opener.backend.time()
    ending = await connection.close(check.pace.connection)
    heard = Heard(end=_ENDS[ending.inbound], seconds=check.opener.backend.time() - began)
    if ending.alert is not None and ending.alert.by is Side.PEER:
        heard.alert = ending.alert.name
    return [check.run(connection, heard, ending, received=ending.discarded)]


async def half_close(check: Check) -> list[Run]:
    """Send a request and close_notify in one flight, several times: the answer has to come nevertheless."""
    baseline = check.baseline
    expected = baseline.received if baseline is not None and baseline.answer.complete is not False else None
    if baseline is None or not (expected or check.talk.protocol == "raw"):
        return [Run(skipped="there was no whole answer before to compare with")]
    runs = []
    for _ in range(_HALF_CLOSES):
        connection = await check.greeted()
        await connection.send(check.talk.request, eof=True, timeout=check.pace.connection)
        heard = await connection.read_to_end(check.pace.connection)
        ending = await connection.close(check.pace.close)
        runs.append(check.run(connection, heard, ending, expected=expected, status=baseline.answer.status))
        if heard.end is ServerEnd.SILENCE:
            break  # Another wait would tell nothing new, and keep a connection of the server busy.
    return runs


async def tcp_after(check: Check) -> list[Run]:
    """Say nothing after the server's close_notify, and look whether its FIN follows."""
    connection = await check.greeted()
    await connection.send(check.talk.request, timeout=check.pace.connection)
    heard = await connection.read_to_end(check.pace.connection)
    then = ""
    if heard.end is ServerEnd.CLOSE_NOTIFY:
        began = check.opener.backend.time()
        then = await connection.wait_for_fin(check.pace.after)
        heard.seconds = check.opener.backend.time() - began
    return [check.run(connection, heard, await connection.close(check.pace.close), then=then)]


async def bare_fin(check: Check) -> list[Run]:
    """Leave an idle connection with FIN alone, and look whether the server ends it, too."""
    connection = await check.opener.open()
    heard = await connection.read_to_end(check.pace.settle)
    early = heard.end is not ServerEnd.SILENCE
    if not early:
        connection.send_fin()
        heard = await connection.read_to_end(check.pace.connection, heard)
    return [check.run(connection, heard, await connection.leave(), early=early)]


async def refusal(check: Check) -> list[Run]:
    """Send a request that the server has to refuse."""
    if not check.talk.bad:
        return [Run(skipped="there is no harmless bad request in this protocol")]
    connection = await check.greeted()
    await connection.send(check.talk.bad, timeout=check.pace.connection)
    heard = await connection.read_to_end(check.pace.connection)
    return [check.run(connection, heard, await connection.close(check.pace.close))]


async def idle(check: Check) -> list[Run]:
    """Leave a connection idle after an answer, and look how the server ends it."""
    assert check.idle is not None, "asked for only where there is a time"
    connection = await check.greeted()
    await connection.send(check.talk.lasting, timeout=check.pace.connection)
    heard = Heard()
    if check.talk.lasting:
        heard = await connection.read_until(
            lambda now: check.talk.measure(now.answer).complete is True, check.pace.connection
        )
    answer = check.talk.measure(heard.answer)
    if heard.end is ServerEnd.SILENCE:
        heard = await connection.read_to_end(check.idle, heard)
    if not answer.complete:
        answer = check.talk.measure(heard.answer)
    # What follows a complete answer, such as a 408, is no part of it.
    ending = await connection.close(check.pace.close)
    return [check.run(connection, heard, ending, answer=answer, asked=bool(check.talk.lasting))]


async def in_flight(check: Check) -> list[Run]:
    """Send close_notify while a large answer is on its way: the rest has to come nevertheless."""
    if check.talk.get is None or check.large is None:
        return [Run(skipped="there are no paths in this protocol")]
    connection = await check.opener.open(small_buffer=True)
    await connection.send(check.talk.get(check.large, False), timeout=check.pace.connection)
    heard = await connection.read_until(lambda now: now.answer.count >= _FIRST, check.pace.connection)
    check.large_answer = answer = check.talk.measure(heard.answer)
    if answer.complete is not False or (answer.declared is not None and answer.declared < LARGE):
        # What is not large, or declares nothing, is not worth a transfer.
        return [check.run(connection, heard, await connection.close(check.pace.close))]
    await connection.send(eof=True, timeout=check.pace.connection)
    heard = await connection.read_to_end(check.pace.large, heard)
    return [check.run(connection, heard, await connection.close(check.pace.close))]


async def unread_input(check: Check) -> list[Run]:
    """Let requests of ours lie unread while the server ends a large answer: that must not reset the connection."""
    if check.talk.get is None or check.large is None:
        return [Run(skipped="there are no paths in this protocol")]
    connection = await check.opener.open(small_buffer=True)
    await connection.send(check.talk.get(check.large, True), timeout=check.pace.connection)
    more = check.talk.lasting
    await connection.send(more * (check.pace.unread // len(more)), timeout=check.pace.after)
    await check.opener.backend.sleep_until(check.opener.backend.time() + check.pace.pause)
    heard = await connection.read_to_end(check.pace.large)
    ending = await connection.close(check.pace.close)
    before = check.large_answer
    status = None if before is None else before.status
    large = before is not None and before.complete is False and (before.declared or LARGE) >= LARGE
    return [check.run(connection, heard, ending, status=status, expected=LARGE if large else None)]


#: The polite probes, in their order.
POLITE: Final[dict[str, Callable[[Check], Awaitable[list[Run]]]]] = {
    "reply-end": reply_end,
    "answers": answers,
    "half-close": half_close,
    "tcp-after": tcp_after,
    "bare-fin": bare_fin,
    "refusal": refusal,
}
#: Those that need a large answer.
LARGE_ANSWER: Final[dict[str, Callable[[Check], Awaitable[list[Run]]]]] = {
    "in-flight": in_flight,
    "unread-input": unread_input,
}
