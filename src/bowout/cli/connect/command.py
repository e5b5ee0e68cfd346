"""``bowout connect``: the options, and the plan that they make."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from bowout import STARTTLS
from bowout.cli.connect import inspection, session
from bowout.cli.connect.conversation import Behaviour, OnEof
from bowout.cli.shared import host_port, options, tls_options
from bowout.cli.shared.reports import Reports
from bowout.cli.shared.usage import UsageError, seconds, some_seconds

if TYPE_CHECKING:
    from bowout import StartTLSName

    class _StartTls(enum.StrEnum):
        """A name of `bowout.STARTTLS`."""

        @property
        def value(self) -> StartTLSName: ...

else:
    _StartTls = enum.StrEnum("StartTls", {name: name for name in sorted(STARTTLS)})


def connect(  # noqa: PLR0917  (typer makes arguments and options of them, none is passed by position)
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="HOST[:PORT]",
            help="The host to connect to. Default port: that of --starttls, or 443. IPv6 with a port: [::1]:443",
            show_default=False,
        ),
    ] = None,
    path: Annotated[
        str | None, typer.Option(metavar="FILE", help="Connect to the Unix socket FILE instead of a HOST.")
    ] = None,
    ipv4: Annotated[bool, typer.Option("-4", "--ipv4", help="Use IPv4 only.")] = False,
    ipv6: Annotated[bool, typer.Option("-6", "--ipv6", help="Use IPv6 only.")] = False,
    cafile: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Trust only the authorities in FILE (PEM).", rich_help_panel=options.TLS),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Do not check the certificate.", rich_help_panel=options.TLS)
    ] = False,
    servername: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The name to send and to check. Default: HOST, or localhost with --path.",
            rich_help_panel=options.TLS,
        ),
    ] = None,
    alpn: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="Protocols to offer: h2,http/1.1. Repeatable.", rich_help_panel=options.TLS),
    ] = None,
    cert: options.Cert = None,
    key: options.Key = None,
    tls: options.Tls = None,
    starttls: Annotated[
        _StartTls | None,
        typer.Option(
            metavar="NAME",
            help=f"Change to TLS from protocol NAME: {', '.join(sorted(STARTTLS))}.",
            rich_help_panel=options.TLS,
        ),
    ] = None,
    connect_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="The longest time for the TCP connection, and again for TLS.",
            rich_help_panel=options.TLS,
        ),
    ] = 30.0,
    crlf: Annotated[bool, typer.Option("--crlf", help="Send CR LF for each LF.")] = False,
    quit_on: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="When a line from the peer contains TEXT, print it and close gracefully.",
            rich_help_panel=options.LEAVING,
        ),
    ] = None,
    on_eof: Annotated[
        OnEof,
        typer.Option(
            help="At the end of stdin: half-close sends close_notify and goes on receiving, but many servers take that"
            " for a hang-up and drop their answer; wait sends nothing and goes on receiving; close closes at once.",
            rich_help_panel=options.LEAVING,
        ),
    ] = OnEof.HALF_CLOSE,
    eof_wait: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="After the end of stdin, close when the peer has been silent for this time; 0 waits forever.",
            rich_help_panel=options.LEAVING,
        ),
    ] = 10.0,
    timeout: options.Timeout = 5.0,
    trace: options.Trace = False,
    show_cert: Annotated[
        str | None,
        typer.Option(
            metavar="[=pem]",
            help="Show what TLS agreed on, and the peer's certificates, even if they are refused; =pem also prints them"
            " in PEM.",
            rich_help_panel=options.TELLING,
        ),
    ] = None,
    ladder: Annotated[
        str | None,
        typer.Option(
            metavar="[FILE.svg]",
            help="Draw the ending on stderr, or to FILE.svg or FILE.txt.",
            rich_help_panel=options.TELLING,
        ),
    ] = None,
    json: Annotated[
        str | None,
        typer.Option(
            metavar="[FILE.json]",
            help="Write the ending as JSON: one line on stderr, or to FILE.json. With another name: --json=FILE."
            " --json=- writes to stdout, and the peer's data is not printed then.",
            rich_help_panel=options.TELLING,
        ),
    ] = None,
) -> int:
    """Talk to a TLS server, and close the connection gracefully.

    Stdin goes to the peer, and only the peer's data goes to stdout. The last line on stderr tells how the connection
    ended. After the end of stdin, and after a Ctrl-C, every wait has a limit: --eof-wait, --timeout.

    To close: end stdin (Ctrl-D), or press Ctrl-C, or, if stdin is a terminal, type ~. at the start of a line (~~ sends
    one ~). A second Ctrl-C ends at once. Piped data has no commands.

    On a terminal, control characters in the peer's data are escaped; a pipe or a file gets every byte unchanged.
    """
    if quit_on is not None and (not quit_on or "\n" in quit_on):
        raise UsageError("--quit-on needs a text without a line break", "such as --quit-on BYE")
    protocol = starttls.value if starttls else None
    where = host_port.choose(target, path, starttls=protocol, ipv4=ipv4, ipv6=ipv6)
    context = tls_options.Trust(cafile, insecure, cert, key, tls.value if tls else None).context()
    name = tls_options.server_name(servername)
    given = {"--cafile": cafile, "--cert": cert, "--tls": tls, "--alpn": alpn, "--show-cert": show_cert is not None}
    plan = session.ConnectPlan(
        target=where,
        context=context,
        server_name=name,
        options=frozenset(option for option, value in ({**given, "-4": ipv4, "-6": ipv6}).items() if value),
        inspection=None if show_cert is None else inspection.asked_for(show_cert, context, name or where.host),
        alpn=tls_options.protocols(alpn or []),
        starttls=protocol,
        connect_timeout=some_seconds("--connect-timeout", connect_timeout),
        trace=trace,
        behaviour=Behaviour(
            close_timeout=seconds("--timeout", timeout),
            eof_wait=seconds("--eof-wait", eof_wait) or None,
            on_eof=on_eof,
            crlf=crlf,
            quit_on=quit_on,
        ),
        reports=Reports(ladder, json),
    )
    return session.run(plan)
