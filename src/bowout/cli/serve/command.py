"""``bowout serve``: the options, and the plan that they make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bowout._arguments import MAX_PORT
from bowout.cli.serve import serving
from bowout.cli.serve.echo import Echo
from bowout.cli.serve.files import SendFile
from bowout.cli.serve.identity import Identity
from bowout.cli.serve.interactive import Interactive
from bowout.cli.serve.reports import ServedReports
from bowout.cli.serve.where import Where
from bowout.cli.serve.www import Www
from bowout.cli.shared import options, tls_options
from bowout.cli.shared.usage import UsageError, seconds

if TYPE_CHECKING:
    from bowout.cli.serve.serving import Mode

#: The lines of ``--help`` about the exit statuses.
SERVE_STATUSES: Final = (
    "  0  every connection was ended by its deadline",
    "  1  the drain cut connections off, or a report or stdout",
    "     failed",
    "  2  usage: a wrong option, or a file that cannot be used",
    "  3  cannot listen",
)

_MODE = "Mode"


def serve(  # noqa: PLR0917  (typer makes arguments and options of them, none is passed by position)
    port: Annotated[
        int | None,
        typer.Argument(
            metavar="[PORT]", min=0, max=MAX_PORT, help="0: any free port, which is shown.", show_default="4433"
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="The address to listen on; '*': all addresses.", show_default="localhost"),
    ] = None,
    path: Annotated[str | None, typer.Option(metavar="FILE", help="Listen on a new Unix socket FILE instead.")] = None,
    systemd: Annotated[
        bool, typer.Option("--systemd", help="Listen on the sockets from systemd (LISTEN_FDS) instead.")
    ] = False,
    echo: Annotated[
        bool, typer.Option("--echo", help="Send back all data. This is the default.", rich_help_panel=_MODE)
    ] = False,
    interactive: Annotated[
        bool,
        typer.Option(
            "--interactive", help="Send stdin to the latest client; show all clients' data.", rich_help_panel=_MODE
        ),
    ] = False,
    www: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Serve the files in DIR by HTTP/1.1: GET and HEAD.", rich_help_panel=_MODE),
    ] = None,
    file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Send FILE, then close.", rich_help_panel=_MODE)
    ] = None,
    cert: options.Cert = None,
    key: options.Key = None,
    ca_out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Write the authority of the throw-away certificate to FILE (PEM).",
            rich_help_panel=options.TLS,
        ),
    ] = None,
    client_ca: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Require a client's certificate from an authority in FILE.",
            rich_help_panel=options.TLS,
        ),
    ] = None,
    tls: options.Tls = None,
    alpn: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Protocols to accept: h2,http/1.1. Repeatable. A client that offers only others is refused.",
            rich_help_panel=options.TLS,
        ),
    ] = None,
    proxy_protocol: Annotated[
        bool,
        typer.Option(
            "--proxy-protocol",
            help="Clients connect through a proxy, which sends their address in a PROXY header (v1 or v2).",
        ),
    ] = False,
    max_connections: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Serve at most N connections at once; others wait.", show_default=False),
    ] = None,
    naccept: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Stop when N connections have ended, failed handshakes included.",
            show_default=False,
            rich_help_panel=options.LEAVING,
        ),
    ] = None,
    timeout: options.Timeout = 5.0,
    idle_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Close a connection that is idle for this time; 0: never.",
            rich_help_panel=options.LEAVING,
        ),
    ] = 0.0,
    drain_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="The longest time for connections to finish after a signal.",
            rich_help_panel=options.LEAVING,
        ),
    ] = 10.0,
    trace: options.Trace = False,
    ladder: Annotated[
        str | None,
        typer.Option(
            metavar="[DIR]",
            help="Draw every ending on stderr, or to its own SVG file in DIR.",
            rich_help_panel=options.TELLING,
        ),
    ] = None,
    json: Annotated[
        str | None,
        typer.Option(
            metavar="[FILE]",
            help="Write every ending as a line of JSON: to stderr, or to FILE; -: to stdout.",
            rich_help_panel=options.TELLING,
        ),
    ] = None,
) -> int:
    """Serve TLS connections that end well, and report how each ended.

    One line on stderr tells how a connection ended. Without --cert, the server makes a certificate for this run, with
    the name to listen on; its key is not kept.

    To stop: press Ctrl-C, or send SIGTERM. Idle connections are closed then, busy ones may finish, and a report tells
    how all of them ended. A second signal does not wait.

    On a terminal, --interactive escapes control characters; a pipe or a file gets every byte unchanged. The end of
    stdin sends close_notify to the latest client and to all later ones.
    """
    given = [name for name, value in _modes(echo, interactive, www, file).items() if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} contradict each other", "a server has one mode for all clients")
    if json == "-" and interactive:
        raise UsageError(
            "--json: with --interactive, stdout is for the clients' data only", "--json alone writes to stderr"
        )
    where = Where(host, port, path, systemd)
    names = tls_options.protocols(alpn or []) or (["http/1.1"] if www is not None else None)
    identity = Identity(cert, key, ca_out, client_ca, tls.value if tls else None)
    plan = serving.ServePlan(
        where=where,
        mode=_mode(interactive, www, file),
        context=identity.context(where.name),
        identity=identity,
        alpn=names,
        proxy_protocol=proxy_protocol,
        max_connections=max_connections,
        naccept=naccept,
        close_timeout=seconds("--timeout", timeout),
        idle_timeout=seconds("--idle-timeout", idle_timeout) or None,
        drain_timeout=seconds("--drain-timeout", drain_timeout),
        reports=ServedReports(ladder, json, trace=trace),
    )
    return serving.run(plan)


def _modes(echo: bool, interactive: bool, www: str | None, file: str | None) -> dict[str, bool]:
    return {"--echo": echo, "--interactive": interactive, "--www": www is not None, "--file": file is not None}


def _mode(interactive: bool, www: str | None, file: str | None) -> Mode:
    if interactive:
        return Interactive()
    if www is not None:
        return Www(Path(www))
    return SendFile(Path(file)) if file is not None else Echo()
