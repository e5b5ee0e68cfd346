"""One run of ``bowout connect``: connect, converse, tell how it ended, and give the exit status."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import bowout
from bowout.cli import _say
from bowout.cli._console import finish, open_console
from bowout.cli._conversation import Conversation, Manners
from bowout.cli._hints import Asked, Overheard, hint_for, hint_for_ending
from bowout.cli._reach import reach
from bowout.cli._signals import Signals
from bowout.cli._threads import DaemonExecutor
from bowout.cli._trace import Trace
from bowout.cli._usage import UsageError
from bowout.errors import BowoutError, MisuseError

if TYPE_CHECKING:
    import ssl

    from bowout import StartTLSName
    from bowout.cli._inspection import Inspection
    from bowout.cli._reports import Reports
    from bowout.cli._target import Target
    from bowout.ending import Ending, Event
    from bowout.stream import Stream

_TOO_EARLY: Final = "interrupted before the connection stood"
_HUNG_UP: Final = "the peer may take the end of stdin, our close_notify, for a hang-up: --on-eof wait sends none"


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the options say."""

    target: Target
    context: ssl.SSLContext
    reports: Reports
    server_name: str | None = None
    alpn: list[str] | None = None
    starttls: StartTLSName | None = None
    connect_timeout: float = 30.0
    trace: bool = False
    options: frozenset[str] = frozenset()
    inspection: Inspection | None = None
    manners: Manners = field(default_factory=Manners)


def run(plan: Plan) -> int:
    """Carry the plan out; give the exit status."""
    try:
        with Signals() as signals:
            return asyncio.run(_run(plan, signals))
    finally:
        plan.reports.drop()


async def _run(plan: Plan, signals: Signals) -> int:
    asyncio.get_running_loop().set_default_executor(DaemonExecutor())
    asked = Asked(plan.target, plan.starttls, plan.options)
    with signals.heard():
        try:
            stream = await _connect(plan, signals, asked.overheard)
        except (ValueError, MisuseError) as error:
            raise UsageError(str(error)) from error
        except BowoutError as error:
            if plan.inspection is not None:
                plan.inspection.show(error)
            if error.ending is not None:
                plan.reports.write(error.ending, _more(plan))
            text = str(error.strerror if isinstance(error, bowout.ConnectError) else error)
            _say.error(text, hint_for(error, asked))
            return _say.NOT_CONNECTED
        if stream is None:
            _say.error(_TOO_EARLY)
            return signals.status or _say.INTERRUPTED
        if not plan.trace:
            # Only the handshake was to be overheard; from now on that would cost something with every record.
            stream._connection.engine.timeline.observe(None)  # noqa: SLF001
        if plan.inspection is not None:
            plan.inspection.show()
        return await _converse(plan, stream, signals, asked)


def _more(plan: Plan) -> dict[str, Any]:
    """What the JSON says beside the ending."""
    return {} if plan.inspection is None else {"tls": plan.inspection.to_dict()}


async def _connect(plan: Plan, signals: Signals, overheard: Overheard) -> Stream | None:
    """Connect; None when a signal came first."""
    trace = Trace() if plan.trace else None

    def on_event(event: Event) -> None:
        overheard(event)
        if trace is not None:
            trace(event)

    async def wait() -> Stream:
        sock = await reach(plan.target, plan.connect_timeout)
        try:
            connecting = bowout.connect(
                plan.target.host,
                plan.target.port,
                over=sock,
                context=plan.context,
                server_hostname=plan.server_name,
                alpn=plan.alpn,
                starttls=plan.starttls,
                connect_timeout=plan.connect_timeout,
                handshake_timeout=plan.connect_timeout,
                close_timeout=plan.manners.close_timeout,
                on_event=on_event,
            )
        except BaseException:
            if sock is not None:
                sock.close()
            raise
        return await connecting

    task = asyncio.create_task(wait())
    interrupt = asyncio.create_task(signals.first.wait())
    await asyncio.wait({task, interrupt}, return_when=asyncio.FIRST_COMPLETED)
    interrupt.cancel()
    if not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return None
    return task.result()


async def _converse(plan: Plan, stream: Stream, signals: Signals, asked: Asked) -> int:
    conversation = Conversation(stream, plan.manners, signals)
    console = open_console(conversation.output_failed, signals, mute=plan.reports.take_stdout)
    try:
        if console.interactive:
            _say.note(_greeting(stream))
        ending = await conversation.run(console)
        all_shown = await finish(console, signals, plan.manners.close_timeout)
    finally:
        await console.close()
    reported = plan.reports.write(ending, _more(plan))
    if hint := _hint_for_end(ending, conversation, asked):
        _say.hint(hint)
    _say.print_ending(ending)
    interrupted = conversation.interrupted or not all_shown
    return _status(ending, signals.status if interrupted else None, failed=conversation.failed or not reported)


def _hint_for_end(ending: Ending, conversation: Conversation, asked: Asked) -> str | None:
    if ending.how is bowout.How.ALERT:
        return hint_for_ending(ending, asked)
    return _HUNG_UP if conversation.hung_up else None


def _status(ending: Ending, interrupted: int | None, *, failed: bool) -> int:
    """What the connection's end says counts most, unless it says nothing bad."""
    status = _say.exit_status(ending)
    if status in (0, _say.HERE):
        return interrupted or (_say.HERE if failed else status)
    return status


def _greeting(stream: Stream) -> str:
    parts = [f"connected to {stream.peer}", stream.tls_version, stream.cipher, stream.alpn and f"ALPN {stream.alpn}"]
    how = "~. at the start of a line or Ctrl-C leaves, Ctrl-D ends what you send"
    return f"{', '.join(part for part in parts if part)}; {how}"
