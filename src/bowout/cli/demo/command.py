"""``bowout demo``: the four ways to leave, played end to end on a real server."""

from __future__ import annotations

import enum
import signal
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path  # noqa: TC003  (typer evaluates the annotations)
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bowout.cli.console import output
from bowout.cli.demo.acts import ACTS, DemoAct, Played, Stage
from bowout.cli.demo.loop import LoopName, jobs, require, run
from bowout.cli.demo.openssl import NoOpenssl, OpensslServer, openssl_server
from bowout.cli.demo.page import DemoPage
from bowout.cli.demo.server import HOSTNAME, LOCALHOST, EmbeddedServer, Stuck, listening
from bowout.cli.demo.signals import deferred_interrupts, like_ctrl_c
from bowout.cli.shared import tls_options  # noqa: TC001  (typer reads the annotations)
from bowout.cli.shared.credentials import Credentials
from bowout.errors import BowoutError
from bowout.ladder import render_svg

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from bowout.cli.demo.server import DemoServer

#: Lines for ``--help``.
DEMO_STATUSES: Final = (
    "  0  everything ended as promised",
    "  1  something did not",
    "  2  usage: a wrong option; or it could not be played",
    "130  interrupted by Ctrl-C before it was done",
)

_IN_WORDS: Final = ("none", "one", "two", "three", "four")


class Against(enum.StrEnum):
    """The servers of others to play against."""

    OPENSSL = "openssl"


#: The result of each act that was played; None for an act that failed.
_Outcome = list[tuple[DemoAct, Played | None]]


def demo(
    against: Annotated[
        Against | None,
        typer.Option(help="Play against a real `openssl s_server -state` instead, and show its output."),
    ] = None,
    tls: Annotated[tls_options.TLSVersion | None, typer.Option(help="Speak only this version of TLS.")] = None,
    loop: Annotated[LoopName, typer.Option(help="The event loop to play on.")] = LoopName.ASYNCIO,
    svg: Annotated[
        Path | None, typer.Option(metavar="DIR", file_okay=False, help="Also write the ladders as SVG files into DIR.")
    ] = None,
    only: Annotated[
        list[int] | None,
        typer.Option(min=1, max=len(ACTS), metavar="N", help="Play only this one, 1 to 4. Repeatable."),
    ] = None,
) -> int:
    """Show both situations, end to end: how a TLS client leaves a server gracefully, and how it should not.

    1 closes from inside a read. 2 closes while a read is pending. 3 cancels that read, then closes. 4 drops the
    connection, for contrast. Each is played on a real connection over loopback, with a certificate made for this run,
    and reported by both sides. No process or file is left behind.
    """
    demo = _Demo(
        acts=tuple(act for act in ACTS if not only or act.number in only),
        version=tls,
        loop=loop,
        against_openssl=against is Against.OPENSSL,
        svg=svg,
    )
    status = 0
    with like_ctrl_c() as signals:
        try:
            status = _stage(demo)
        except* KeyboardInterrupt:
            status = 128 + (signals[-1] if signals else signal.SIGINT)
    if status > 128:
        (output.error if signals else output.interrupted)("interrupted")
    return status


@dataclass(frozen=True, slots=True)
class _Demo:
    """The acts to play, and their settings."""

    acts: tuple[DemoAct, ...]
    version: tls_options.TLSVersion | None
    loop: LoopName
    against_openssl: bool
    svg: Path | None


def _stage(demo: _Demo) -> int:
    """Prepare everything, play, and clean up; return the exit status."""
    try:
        require(demo.loop)
    except ModuleNotFoundError:
        output.error(f"{demo.loop} is not installed", f"pip install 'bowout[{demo.loop}]'")
        return output.USAGE
    try:
        if demo.svg is not None:
            demo.svg.mkdir(parents=True, exist_ok=True)
        with deferred_interrupts() as undeferred, ExitStack() as stack:
            credentials = stack.enter_context(Credentials.made(HOSTNAME, LOCALHOST))
            server = _server(demo, credentials, stack)
            context = credentials.client_context(demo.version)
            page = DemoPage()
            page.preface(_preface(demo, server))
            with undeferred():
                outcome = run(demo.loop, partial(_perform, demo.acts, page, server, context))
        _draw(demo.svg, page, outcome)
        return _conclude(page, outcome)
    except ModuleNotFoundError as error:
        output.error(
            f"{error.name} is not installed; the demo needs it to make a certificate", "pip install 'bowout[cli]'"
        )
    except NoOpenssl as error:
        output.error(str(error), error.hint)
    except OSError as error:
        output.error(f"{error.strerror}: {error.filename}" if error.filename else str(error))
    return output.USAGE


def _server(demo: _Demo, credentials: Credentials, stack: ExitStack) -> DemoServer:
    if demo.against_openssl:
        # Each act makes one connection of its own and one more, to check that the server goes on.
        return stack.enter_context(openssl_server(credentials, connections=2 * len(demo.acts)))
    return EmbeddedServer(credentials.server_context(), stack.enter_context(listening()))


async def _perform(acts: Sequence[DemoAct], page: DemoPage, server: DemoServer, context: ssl.SSLContext) -> _Outcome:
    outcome: _Outcome = []
    async with jobs() as on_the_side:
        server.open(on_the_side)
        stage = Stage(server, context, on_the_side)
        for act in acts:
            page.announce(act)
            try:
                played = await act.play(stage)
            except (Stuck, BowoutError) as error:
                page.interrupted(f"{type(error).__name__}: {error}")
                outcome.append((act, None))
                break
            page.tell(act, played)
            outcome.append((act, played))
    return outcome


def _preface(demo: _Demo, server: DemoServer) -> str:
    count = len(demo.acts)
    who = f"openssl s_server -state ({server.version})" if isinstance(server, OpensslServer) else "bowout's own server"
    ways = "One way" if count == 1 else f"{_IN_WORDS[count].capitalize()} ways"
    return (
        f"{ways} for a TLS client to leave. It is bowout on {demo.loop}, against {who} "
        f"on {LOCALHOST}:{server.port}, with a certificate made for this run."
    )


def _draw(directory: Path | None, page: DemoPage, outcome: _Outcome) -> None:
    """Write the pictures, if they are requested."""
    if directory is None:
        return
    paths: list[Path] = []
    for act, played in outcome:
        if played is not None:
            paths.append(directory / f"{act.slug}.svg")
            paths[-1].write_text(render_svg(played.ending), encoding="utf-8")
    page.written(paths)


def _conclude(page: DemoPage, outcome: _Outcome) -> int:
    failed = [act.number for act, played in outcome if played is None or not played.as_promised]
    if failed:
        output.error(f"not as promised: {', '.join(map(str, failed))}", f"see it alone: bowout demo --only {failed[0]}")
        return 1
    page.finish("It ended as promised." if len(outcome) == 1 else f"All {_IN_WORDS[len(outcome)]} ended as promised.")
    return 0
