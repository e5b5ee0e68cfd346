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

from bowout.cli import _say, _tls
from bowout.cli._demo_acts import ACTS, Act, Played, Stage
from bowout.cli._demo_loop import LoopName, jobs, require, run
from bowout.cli._demo_openssl import NoOpenssl, OpensslServer, openssl_server
from bowout.cli._demo_page import Page
from bowout.cli._demo_server import LOCALHOST, Credentials, EmbeddedServer, Stuck, listening
from bowout.cli._demo_signals import deferred_interrupts, like_ctrl_c
from bowout.errors import BowoutError
from bowout.ladder import render_svg

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from bowout.cli._demo_server import Server

_IN_WORDS: Final = ("none", "one", "two", "three", "four")


class Against(enum.StrEnum):
    """Whose server it may be."""

    OPENSSL = "openssl"


#: What came of each act that was played; None of one that has no end.
_Outcome = list[tuple[Act, Played | None]]


def demo(
    against: Annotated[
        Against | None,
        typer.Option(help="Play against a real `openssl s_server -state` instead, and show its own words."),
    ] = None,
    tls: Annotated[_tls.Version | None, typer.Option(help="Insist on this version of TLS.")] = None,
    loop: Annotated[LoopName, typer.Option(help="The event loop to play on.")] = LoopName.ASYNCIO,
    svg: Annotated[
        Path | None, typer.Option(metavar="DIR", file_okay=False, help="Write the ladders as SVG files into DIR, too.")
    ] = None,
    only: Annotated[
        list[int] | None,
        typer.Option(min=1, max=len(ACTS), metavar="N", help="Play this one only, 1 to 4; may be given again."),
    ] = None,
) -> int:
    """See both situations, end to end: how a TLS client leaves a server well, and how it does not.

    1 closes from inside a read. 2 closes while a read is pending. 3 cancels that read, then closes. 4 drops the
    connection, for contrast. Each is played on a real connection over loopback, with a certificate made for this run,
    and told by both sides. Nothing is left behind.

    Exit status: 0 when everything ended as promised, 1 when not, 2 when it could not be played, 130 when interrupted.
    """
    programme = _Programme(
        acts=tuple(act for act in ACTS if not only or act.number in only),
        version=tls,
        loop=loop,
        against_openssl=against is Against.OPENSSL,
        svg=svg,
    )
    status = 0
    with like_ctrl_c() as signals:
        try:
            status = _stage(programme)
        except* KeyboardInterrupt:
            status = 128 + (signals[-1] if signals else signal.SIGINT)
    if status > 128:
        (_say.error if signals else _say.interrupted)("interrupted")
    return status


@dataclass(frozen=True, slots=True)
class _Programme:
    """What to play, and how."""

    acts: tuple[Act, ...]
    version: _tls.Version | None
    loop: LoopName
    against_openssl: bool
    svg: Path | None


def _stage(programme: _Programme) -> int:
    """Get everything ready, play, and clear up. Gives the exit status."""
    try:
        require(programme.loop)
    except ModuleNotFoundError:
        _say.error(f"{programme.loop} is not installed", f"pip install 'bowout[{programme.loop}]'")
        return _say.USAGE
    try:
        if programme.svg is not None:
            programme.svg.mkdir(parents=True, exist_ok=True)
        with deferred_interrupts() as undeferred, ExitStack() as stack:
            credentials = stack.enter_context(Credentials.made())
            server = _server(programme, credentials, stack)
            context = credentials.client_context(programme.version)
            page = Page()
            page.preface(_preface(programme, server))
            with undeferred():
                outcome = run(programme.loop, partial(_perform, programme.acts, page, server, context))
        _draw(programme.svg, page, outcome)
        return _conclude(page, outcome)
    except ModuleNotFoundError as error:
        _say.error(
            f"{error.name} is not installed: the demo makes its certificate with it", "pip install 'bowout[cli]'"
        )
    except NoOpenssl as error:
        _say.error(str(error), error.hint)
    except OSError as error:
        _say.error(f"{error.strerror}: {error.filename}" if error.filename else str(error))
    return _say.USAGE


def _server(programme: _Programme, credentials: Credentials, stack: ExitStack) -> Server:
    if programme.against_openssl:
        # Each act makes one connection of its own and one more, to see that the server goes on.
        return stack.enter_context(openssl_server(credentials, connections=2 * len(programme.acts)))
    return EmbeddedServer(credentials.server_context(), stack.enter_context(listening()))


async def _perform(acts: Sequence[Act], page: Page, server: Server, context: ssl.SSLContext) -> _Outcome:
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


def _preface(programme: _Programme, server: Server) -> str:
    count = len(programme.acts)
    who = f"openssl s_server -state ({server.version})" if isinstance(server, OpensslServer) else "bowout's own server"
    ways = "One way" if count == 1 else f"{_IN_WORDS[count].capitalize()} ways"
    return (
        f"{ways} for a TLS client to leave. It is bowout on {programme.loop}, against {who} "
        f"on {LOCALHOST}:{server.port}, with a certificate made for this run."
    )


def _draw(directory: Path | None, page: Page, outcome: _Outcome) -> None:
    """Write the pictures, where they are wanted."""
    if directory is None:
        return
    paths: list[Path] = []
    for act, played in outcome:
        if played is not None:
            paths.append(directory / f"{act.slug}.svg")
            paths[-1].write_text(render_svg(played.ending), encoding="utf-8")
    page.written(paths)


def _conclude(page: Page, outcome: _Outcome) -> int:
    failed = [act.number for act, played in outcome if played is None or not played.as_promised]
    if failed:
        _say.error(f"not as promised: {', '.join(map(str, failed))}", f"see it alone: bowout demo --only {failed[0]}")
        return 1
    page.finish("It ended as promised." if len(outcome) == 1 else f"All {_IN_WORDS[len(outcome)]} ended as promised.")
    return 0
