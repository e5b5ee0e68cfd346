"""One run of ``bowout connect``: connect, converse, tell how it ended, and give the exit status."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import bowout
from bowout.cli import _say
from bowout.cli._console import finish, open_console
from bowout.cli._conversation import Conversation, Manners
from bowout.cli._hints import hint_for, hint_for_ending
from bowout.cli._signals import Signals
from bowout.cli._threads import DaemonExecutor
from bowout.cli._trace import Trace
from bowout.cli._usage import UsageError
from bowout.errors import BowoutError, MisuseError

if TYPE_CHECKING:
    import ssl

    from bowout import StartTLSName
    from bowout.cli._reports import Reports
    from bowout.cli._target import Target
    from bowout.ending import Ending
    from bowout.stream import Stream

_TOO_EARLY: Final = "interrupted before the connection stood"


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
    manners: Manners = field(default_factory=Manners)


def run(plan: Plan) -> int:
    """Carry the plan out; give the exit status."""
    try:
        return asyncio.run(_run(plan))
    except KeyboardInterrupt:  # It came before anybody listened.
        _say.error(_TOO_EARLY)
        return _say.INTERRUPTED
    finally:
        plan.reports.drop()


async def _run(plan: Plan) -> int:
    asyncio.get_running_loop().set_default_executor(DaemonExecutor())
    with Signals() as signals:
        try:
            stream = await _connect(plan, signals)
        except (ValueError, MisuseError) as error:
            raise UsageError(str(error)) from error
        except BowoutError as error:
            if error.ending is not None:
                plan.reports.write(error.ending)
            _say.error(str(error.strerror if isinstance(error, bowout.ConnectError) else error), _hint(error, plan))
            return _say.NOT_CONNECTED
        if stream is None:
            _say.error(_TOO_EARLY)
            return signals.status or _say.INTERRUPTED
        return await _converse(plan, stream, signals)


def _hint(error: BowoutError, plan: Plan) -> str | None:
    return hint_for(error, plan.target, starttls=plan.starttls)


async def _connect(plan: Plan, signals: Signals) -> Stream | None:
    """Connect; None when a signal came first."""
    connecting = bowout.connect(
        plan.target.host,
        plan.target.port,
        context=plan.context,
        server_hostname=plan.server_name,
        alpn=plan.alpn,
        starttls=plan.starttls,
        connect_timeout=plan.connect_timeout,
        handshake_timeout=plan.connect_timeout,
        close_timeout=plan.manners.close_timeout,
        on_event=Trace() if plan.trace else None,
    )

    async def wait() -> Stream:
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


async def _converse(plan: Plan, stream: Stream, signals: Signals) -> int:
    conversation = Conversation(stream, plan.manners, signals)
    console = open_console(conversation.output_failed)
    try:
        if console.interactive:
            _say.note(_greeting(stream))
        ending = await conversation.run(console)
        all_shown = await finish(console, signals, plan.manners.close_timeout)
    finally:
        await console.close()
    if not all_shown:
        _say.error(f"interrupted: stdout did not take the last {console.waiting:,} bytes")
    reported = plan.reports.write(ending)
    if ending.how is bowout.How.ALERT and (hint := hint_for_ending(ending)):
        _say.hint(hint)
    _say.print_ending(ending)
    interrupted = conversation.interrupted or not all_shown
    return _status(ending, signals.status if interrupted else None, failed=conversation.failed or not reported)


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
