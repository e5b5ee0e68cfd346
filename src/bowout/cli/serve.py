"""``bowout serve``: the options, and what they mean together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bowout.cli import _serving, _shared, _tls
from bowout.cli._echo import Echo
from bowout.cli._files import SendFile
from bowout.cli._identity import Identity
from bowout.cli._interactive import Interactive
from bowout.cli._served_reports import ServedReports
from bowout.cli._usage import UsageError, seconds
from bowout.cli._where import Where
from bowout.cli._www import Www

if TYPE_CHECKING:
    from bowout.cli._serving import Mode

#: For ``--help``, one line a status.
SERVE_STATUSES: Final = (
    "  0  every connection was ended by its deadline",
    "  1  the drain cut connections off, or a report or stdout failed",
    "  2  usage: a wrong option, or a file that cannot be used",
    "  3  cannot listen",
)

_MODE = "What to do with a client"


def serve(  # noqa: PLR0917  (typer makes arguments and options of them, none is passed by position)
    port: Annotated[
        int | None,
        typer.Argument(
            metavar="[PORT]", min=0, max=65535, help="0 is any free one, which is told.", show_default="4433"
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="Where to listen; '*' is everywhere.", show_default="localhost"),
    ] = None,
    path: Annotated[
        str | None, typer.Option(metavar="FILE", help="Listen on a Unix socket instead, made at FILE.")
    ] = None,
    systemd: Annotated[
        bool, typer.Option("--systemd", help="Listen on the sockets that systemd hands over (LISTEN_FDS) instead.")
    ] = False,
    echo: Annotated[
        bool, typer.Option("--echo", help="Send back what comes. This is the default.", rich_help_panel=_MODE)
    ] = False,
    interactive: Annotated[
        bool,
        typer.Option(
            "--interactive", help="Stdin goes to the latest client; what clients send is shown.", rich_help_panel=_MODE
        ),
    ] = False,
    www: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Serve the files in DIR by HTTP/1.1: GET and HEAD.", rich_help_panel=_MODE),
    ] = None,
    file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Send FILE, then close.", rich_help_panel=_MODE)
    ] = None,
    cert: _shared.Cert = None,
    key: _shared.Key = None,
    ca_out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Write the authority of the throw-away certificate to FILE.",
            rich_help_panel=_shared.TLS,
        ),
    ] = None,
    client_ca: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Insist on a client's certificate from an authority in FILE.",
            rich_help_panel=_shared.TLS,
        ),
    ] = None,
    tls: _shared.Tls = None,
    alpn: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Protocols to agree to: h2,http/1.1. Repeatable. A client that offers others only is refused.",
            rich_help_panel=_shared.TLS,
        ),
    ] = None,
    proxy_protocol: Annotated[
        bool,
        typer.Option(
            "--proxy-protocol",
            help="Every client comes through a proxy that says for whom, by a PROXY header (v1 or v2).",
        ),
    ] = False,
    max_connections: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Serve so many at once; others wait.", show_default=False),
    ] = None,
    naccept: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Stop when N connections have ended, failed handshakes included.",
            show_default=False,
            rich_help_panel=_shared.LEAVING,
        ),
    ] = None,
    timeout: _shared.Timeout = 5.0,
    idle_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Close a connection that is silent for so long; 0 is never.",
            rich_help_panel=_shared.LEAVING,
        ),
    ] = 0.0,
    drain_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="After a signal, connections get so long to finish.",
            rich_help_panel=_shared.LEAVING,
        ),
    ] = 10.0,
    trace: _shared.Trace = False,
    ladder: Annotated[
        str | None,
        typer.Option(
            metavar="[DIR]",
            help="Draw every ending on stderr, or into an SVG file of its own in DIR.",
            rich_help_panel=_shared.TELLING,
        ),
    ] = None,
    json: Annotated[
        str | None,
        typer.Option(
            metavar="[FILE]",
            help="Write every ending as a line of JSON: on stderr, or into FILE; - is stdout.",
            rich_help_panel=_shared.TELLING,
        ),
    ] = None,
) -> int:
    """Serve TLS connections that end well, and tell how each ended.

    One line on stderr tells how a connection ended. Without --cert there is a certificate made for this run, for the
    name to listen on; its key is nowhere.

    To leave: press Ctrl-C, or send SIGTERM. Idle connections are closed then, busy ones may finish, and the report
    tells what came of all of them. A second signal does not wait.

    --interactive escapes control characters on a terminal; a pipe or a file gets every byte as it came. The end of
    stdin is close_notify for the latest client and for all who come later.
    """
    given = [name for name, value in _modes(echo, interactive, www, file).items() if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} contradict each other", "a server has one way with its clients")
    if json == "-" and interactive:
        raise UsageError("--json: stdout carries the clients' bytes and nothing else", "--json alone writes to stderr")
    where = Where(host, port, path, systemd)
    names = _tls.protocols(alpn or []) or (["http/1.1"] if www is not None else None)
    identity = Identity(cert, key, ca_out, client_ca, tls.value if tls else None)
    plan = _serving.Plan(
        where=where,
        mode=_mode(interactive, www, file),
        context=identity.context(where.name),
        alpn=names,
        proxy_protocol=proxy_protocol,
        how_to_connect=identity.advice(),
        max_connections=max_connections,
        naccept=naccept,
        close_timeout=seconds("--timeout", timeout),
        idle_timeout=seconds("--idle-timeout", idle_timeout) or None,
        drain_timeout=seconds("--drain-timeout", drain_timeout),
        reports=ServedReports(ladder, json, trace=trace),
    )
    return _serving.run(plan)


def _modes(echo: bool, interactive: bool, www: str | None, file: str | None) -> dict[str, bool]:
    return {"--echo": echo, "--interactive": interactive, "--www": www is not None, "--file": file is not None}


def _mode(interactive: bool, www: str | None, file: str | None) -> Mode:
    if interactive:
        return Interactive()
    if www is not None:
        return Www(Path(www))
    return SendFile(Path(file)) if file is not None else Echo()
