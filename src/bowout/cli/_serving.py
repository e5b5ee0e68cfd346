"""One run of ``bowout serve``: listen, serve, drain, tell what came of it, and give the exit status."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import bowout
from bowout._escape import escape
from bowout.cli import _say
from bowout.cli._served_counts import Counts
from bowout.cli._signals import Signals
from bowout.cli._threads import DaemonExecutor
from bowout.cli._usage import UsageError
from bowout.cli._where import shown
from bowout.errors import MisuseError

if TYPE_CHECKING:
    import ssl

    from bowout import DrainReport
    from bowout._server import Server
    from bowout.cli._served_reports import ServedReports
    from bowout.cli._where import Where
    from bowout.ending import Ending
    from bowout.stream import Stream


#: Those of a server's counters that tell of open connections.
_OPEN: Final = ("established", "waiting", "handshaking")


class Leaving:
    """How a mode asks the server to leave, and what leaving has to heed.

    Attributes:
        now: set it to drain.
        failed: set it where something went wrong here.
        patience: seconds that somebody who has asked to leave is kept waiting for stdout.
    """

    def __init__(self, signals: Signals, patience: float) -> None:
        self.now = asyncio.Event()
        self.failed = False
        self.signals = signals
        self.patience = patience


class Mode:
    """What a server does with its clients."""

    async def start(self, leaving: Leaving) -> Self:  # noqa: ARG002  (for those who need it)
        """Get ready; called in the loop, when the port is had."""
        return self

    async def stop(self) -> None:
        """Clear up; called when the last connection has ended."""

    async def handle(self, stream: Stream) -> None:
        """Serve one client."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that the options say."""

    where: Where
    mode: Mode
    context: ssl.SSLContext
    alpn: list[str] | None
    proxy_protocol: bool
    how_to_connect: str
    reports: ServedReports
    max_connections: int | None
    naccept: int | None
    close_timeout: float
    idle_timeout: float | None
    drain_timeout: float


def run(plan: Plan) -> int:
    """Carry the plan out; give the exit status."""
    logger = logging.getLogger("bowout.server")
    handler = _Told(logging.WARNING)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with Signals() as signals:
            return asyncio.run(_run(plan, signals))
    finally:
        logger.removeHandler(handler)
        plan.reports.close()


class _Told(logging.Handler):
    """What the server logs, in the voice of the command line."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        text = record.getMessage() if error is None else f"{record.getMessage()}: {str(error) or type(error).__name__}"
        (_say.error if record.levelno >= logging.ERROR else _say.note)(text)


async def _run(plan: Plan, signals: Signals) -> int:
    asyncio.get_running_loop().set_default_executor(DaemonExecutor())
    with signals.heard():
        leaving = Leaving(signals, plan.close_timeout)
        counts = Counts(plan.naccept, leaving.now)

        async def handle(stream: Stream) -> None:
            with counts.one(stream) as served:
                if served:
                    await plan.mode.handle(stream)

        def on_ending(ending: Ending) -> None:
            counts.ended(ending)
            plan.reports.on_ending(ending)

        try:
            serving = bowout.serve(
                handle,
                **plan.where.listening(),
                context=plan.context,
                alpn=plan.alpn,
                proxy_protocol=plan.proxy_protocol,
                max_connections=plan.max_connections,
                idle_timeout=plan.idle_timeout,
                close_timeout=plan.close_timeout,
                drain_timeout=plan.drain_timeout,
                on_ending=on_ending,
                on_event=plan.reports.on_event,
            )
        except (ValueError, MisuseError) as error:
            raise UsageError(str(error)) from error
        async with contextlib.AsyncExitStack() as stack:
            try:
                server = await stack.enter_async_context(serving)
            except OSError as error:
                _say.error(*plan.where.why_not(error))
                return _say.NOT_CONNECTED
            stack.push_async_callback((await plan.mode.start(leaving)).stop)
            _announce(server, plan)
            report = await _serve(server, leaving, plan.drain_timeout)
        _tell(report)
        cut = report.cut or leaving.failed or plan.reports.failed
        return _say.HERE if cut else 0


async def _serve(server: Server, leaving: Leaving, patience: float) -> DrainReport:
    """Serve until somebody asks to leave, then drain; who asks again hurries."""
    signals = leaving.signals
    first, second = (asyncio.create_task(event.wait()) for event in (signals.first, signals.second))
    hurrying = asyncio.create_task(_hurry(server, second))
    done = asyncio.create_task(leaving.now.wait())
    try:
        await asyncio.wait({first, done}, return_when=asyncio.FIRST_COMPLETED)
        numbers = server.counters()
        if signals.first.is_set() and (count := sum(numbers[state] for state in _OPEN)):
            connections = "1 connection has" if count == 1 else f"{count:,} connections have"
            _say.note(f"draining: {connections} {patience:g} s to finish; {_say.NO_WAIT}")
        return await server.drain()
    finally:
        for task in (first, second, hurrying, done):
            task.cancel()


async def _hurry(server: Server, asked: asyncio.Task[bool]) -> None:
    await asked
    await server.drain(0)


def _announce(server: Server, plan: Plan) -> None:
    _say.note(f"listening on {' and '.join(map(shown, server.addresses))}")
    if (target := plan.where.to_dial(server.addresses)) is not None:
        _say.hint(f"bowout connect {target} {plan.how_to_connect}".rstrip())


def _tell(report: DrainReport) -> None:
    for each in str(report).splitlines():
        text = each.lstrip()
        head, _, rest = text.partition(" ")
        _say.hanging(each[: len(each) - len(text)] + escape(head), rest, indent=4)
