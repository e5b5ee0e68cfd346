"""One run of ``bowout connect``: connect, run the conversation, report the ending, and return the exit status."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import bowout
from bowout.cli.connect.conversation import Behaviour, Conversation
from bowout.cli.connect.reach import reach
from bowout.cli.console import output
from bowout.cli.console.signals import LeaveSignals
from bowout.cli.console.standard import finish, open_console
from bowout.cli.console.threads import DaemonExecutor
from bowout.cli.shared.hints import HintContext, Overheard, hint_for, hint_for_ending
from bowout.cli.shared.trace import Trace
from bowout.cli.shared.usage import UsageError
from bowout.errors import BowoutError, MisuseError

if TYPE_CHECKING:
    import ssl

    from bowout import StartTLSName
    from bowout._stream import Stream
    from bowout.cli.connect.inspection import Inspection
    from bowout.cli.shared.host_port import Target
    from bowout.cli.shared.reports import Reports
    from bowout.ending import Ending, Event

_TOO_EARLY: Final = "interrupted before the connection was established"
_HUNG_UP: Final = "the peer may take the end of stdin, our close_notify, for a hang-up: --on-eof wait sends none"


@dataclass(frozen=True, slots=True)
class ConnectPlan:
    """The settings from all options."""

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
    behaviour: Behaviour = field(default_factory=Behaviour)


def run(plan: ConnectPlan) -> int:
    """Carry out `plan`; return the exit status."""
    try:
        with LeaveSignals() as signals:
            return asyncio.run(_run(plan, signals))
    finally:
        plan.reports.drop()


async def _run(plan: ConnectPlan, signals: LeaveSignals) -> int:
    asyncio.get_running_loop().set_default_executor(DaemonExecutor())
    asked = HintContext(plan.target, plan.starttls, plan.options)
    with signals.heard():
        try:
            stream = await _connect(plan, signals, asked.overheard)
        except MisuseError as error:
            raise UsageError(str(error)) from error
        except BowoutError as error:  # Before ValueError: a certificate that is refused is one, too.
            if plan.inspection is not None:
                plan.inspection.show(error)
            if error.ending is not None:
                plan.reports.write(error.ending, _more(plan))
            text = str(error.strerror if isinstance(error, bowout.ConnectError) else error)
            output.error(text, hint_for(error, asked))
            return output.NOT_CONNECTED
        except ValueError as error:
            raise UsageError(str(error)) from error
        if stream is None:
            output.error(_TOO_EARLY)
            return signals.status or output.INTERRUPTED
        if not plan.trace:
            # Only the handshake is observed; from now on an observer would cost time for every record.
            stream.observe(None)
        if plan.inspection is not None:
            plan.inspection.show()
        return await _converse(plan, stream, signals, asked)


def _more(plan: ConnectPlan) -> dict[str, Any]:
    """Return the JSON's keys beside the ending."""
    return {} if plan.inspection is None else {"tls": plan.inspection.to_dict()}


async def _connect(plan: ConnectPlan, signals: LeaveSignals, overheard: Overheard) -> Stream | None:
    """Connect; return None if a signal came first."""
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
                close_timeout=plan.behaviour.close_timeout,
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


async def _converse(plan: ConnectPlan, stream: Stream, signals: LeaveSignals, asked: HintContext) -> int:
    conversation = Conversation(stream, plan.behaviour, signals)
    console = open_console(conversation.output_failed, signals, mute=plan.reports.take_stdout)
    try:
        if console.interactive:
            output.note(_greeting(stream))
        ending = await conversation.run(console)
        all_shown = await finish(console, signals, plan.behaviour.close_timeout)
    finally:
        await console.close()
    reported = plan.reports.write(ending, _more(plan))
    hint = _hint_for_end(ending, conversation, asked)
    if hint:
        output.hint(hint)
    if hint or not plan.reports.end_with_ending:
        output.print_ending(ending)
    interrupted = conversation.interrupted or not all_shown
    return _status(ending, signals.status if interrupted else None, failed=conversation.failed or not reported)


def _hint_for_end(ending: Ending, conversation: Conversation, asked: HintContext) -> str | None:
    if ending.how is bowout.How.ALERT:
        return hint_for_ending(ending, asked)
    return _HUNG_UP if conversation.hung_up else None


def _status(ending: Ending, interrupted: int | None, *, failed: bool) -> int:
    """Return the exit status: that of a bad ending first, then an interruption, then a local failure."""
    status = output.exit_status(ending)
    if status in (0, output.HERE):
        return interrupted or (output.HERE if failed else status)
    return status


def _greeting(stream: Stream) -> str:
    parts = [f"connected to {stream.peer}", stream.tls_version, stream.cipher, stream.alpn and f"ALPN {stream.alpn}"]
    how = "~. at the start of a line or Ctrl-C leaves, Ctrl-D ends what you send"
    return f"{', '.join(part for part in parts if part)}; {how}"
