"""One run of ``bowout serve``: listen, serve, drain, report, and return the exit status."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import bowout
from bowout._text import escape
from bowout.cli.console import output
from bowout.cli.console.signals import LeaveSignals
from bowout.cli.console.threads import DaemonExecutor
from bowout.cli.serve.counts import Counts
from bowout.cli.serve.where import shown
from bowout.cli.shared.usage import UsageError
from bowout.errors import MisuseError

if TYPE_CHECKING:
    import ssl

    from bowout import DrainReport
    from bowout._server.server import Server
    from bowout._stream import Stream
    from bowout.cli.serve.identity import Identity
    from bowout.cli.serve.reports import ServedReports
    from bowout.cli.serve.where import Where
    from bowout.ending import Ending


#: The server's counters of open connections.
_OPEN: Final = ("established", "waiting", "handshaking")


class Shutdown:
    """The means by which a mode stops the server, and the settings for its own end.

    Attributes:
        now: the event to set for a drain.
        failed: whether stdin or stdout failed; the mode sets it.
        patience: seconds to wait for stdout after a request to leave.
    """

    def __init__(self, signals: LeaveSignals, patience: float) -> None:
        self.now: asyncio.Event = asyncio.Event()
        self.failed = False
        self.signals = signals
        self.patience = patience


class Mode:
    """The behaviour of a server toward its clients."""

    async def start(self, shutdown: Shutdown) -> Self:  # noqa: ARG002  (for those who need it)
        """Start; called in the loop, when the server listens."""
        return self

    async def stop(self) -> None:
        """Clean up; called when the last connection has ended."""

    async def handle(self, stream: Stream) -> None:
        """Serve one client."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class ServePlan:
    """The settings from all options."""

    where: Where
    mode: Mode
    context: ssl.SSLContext
    identity: Identity
    alpn: list[str] | None
    proxy_protocol: bool
    reports: ServedReports
    max_connections: int | None
    naccept: int | None
    close_timeout: float
    idle_timeout: float | None
    drain_timeout: float


def run(plan: ServePlan) -> int:
    """Carry out `plan`; return the exit status."""
    logger = logging.getLogger("bowout.server")
    handler = _Told(logging.WARNING)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with LeaveSignals() as signals:
            return asyncio.run(_run(plan, signals))
    finally:
        logger.removeHandler(handler)
        plan.reports.close()


class _Told(logging.Handler):
    """A handler that prints the server's log in the format of the command line."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        text = record.getMessage() if error is None else f"{record.getMessage()}: {str(error) or type(error).__name__}"
        (output.error if record.levelno >= logging.ERROR else output.note)(text)


async def _run(plan: ServePlan, signals: LeaveSignals) -> int:
    asyncio.get_running_loop().set_default_executor(DaemonExecutor())
    with signals.heard():
        shutdown = Shutdown(signals, plan.close_timeout)
        counts = Counts(plan.naccept, shutdown.now)

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
                output.error(*plan.where.why_not(error))
                return output.NOT_CONNECTED
            plan.identity.write_authority()
            plan.reports.open()
            stack.push_async_callback((await plan.mode.start(shutdown)).stop)
            _announce(server, plan)
            report = await _serve(server, shutdown, plan.drain_timeout)
        _tell(report)
        cut = report.cut or shutdown.failed or plan.reports.failed
        return output.HERE if cut else 0


async def _serve(server: Server, shutdown: Shutdown, patience: float) -> DrainReport:
    """Serve until a request to leave, then drain; a second request shortens the deadline."""
    signals = shutdown.signals
    first, second = (asyncio.create_task(event.wait()) for event in (signals.first, signals.second))
    hurrying = asyncio.create_task(_hurry(server, second))
    done = asyncio.create_task(shutdown.now.wait())
    try:
        await asyncio.wait({first, done}, return_when=asyncio.FIRST_COMPLETED)
        numbers = server.counters()
        if signals.first.is_set() and (count := sum(numbers[state] for state in _OPEN)):
            connections = "1 connection has" if count == 1 else f"{count:,} connections have"
            output.note(f"draining: {connections} {patience:g} s to finish; {output.NO_WAIT}")
        return await server.drain()
    finally:
        for task in (first, second, hurrying, done):
            task.cancel()


async def _hurry(server: Server, asked: asyncio.Task[bool]) -> None:
    await asked
    await server.drain(0)


def _announce(server: Server, plan: ServePlan) -> None:
    output.note(f"listening on {' and '.join(map(shown, server.addresses))}")
    if (target := plan.where.to_dial(server.addresses)) is not None:
        output.hint(f"bowout connect {target} {plan.identity.advice()}".rstrip())


def _tell(report: DrainReport) -> None:
    for each in str(report).splitlines():
        text = each.lstrip()
        head, _, rest = text.partition(" ")
        output.hanging(each[: len(each) - len(text)] + escape(head), rest, indent=4)
