"""``bowout connect``: the options, and what they mean together."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from bowout import STARTTLS
from bowout.cli import _inspection, _session, _shared, _target, _tls
from bowout.cli._conversation import Manners, OnEof
from bowout.cli._reports import Reports
from bowout.cli._usage import UsageError, seconds, some_seconds

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
            help="Whom to connect to; the port is that of --starttls, or 443. IPv6 with a port: [::1]:443",
            show_default=False,
        ),
    ] = None,
    path: Annotated[
        str | None, typer.Option(metavar="FILE", help="Connect to the Unix socket at FILE instead of a HOST.")
    ] = None,
    ipv4: Annotated[bool, typer.Option("-4", "--ipv4", help="Use IPv4 only.")] = False,
    ipv6: Annotated[bool, typer.Option("-6", "--ipv6", help="Use IPv6 only.")] = False,
    cafile: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Trust the authorities in FILE (PEM) only.", rich_help_panel=_shared.TLS),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Do not check the certificate.", rich_help_panel=_shared.TLS)
    ] = False,
    servername: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The name to ask for and to check; else HOST, and localhost with --path.",
            rich_help_panel=_shared.TLS,
        ),
    ] = None,
    alpn: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="Protocols to offer: h2,http/1.1. Repeatable.", rich_help_panel=_shared.TLS),
    ] = None,
    cert: _shared.Cert = None,
    key: _shared.Key = None,
    tls: _shared.Tls = None,
    starttls: Annotated[
        _StartTls | None,
        typer.Option(
            metavar="NAME", help=f"Change to TLS from NAME: {', '.join(sorted(STARTTLS))}.", rich_help_panel=_shared.TLS
        ),
    ] = None,
    connect_timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="For the TCP connection, and again for TLS.", rich_help_panel=_shared.TLS),
    ] = 30.0,
    crlf: Annotated[bool, typer.Option("--crlf", help="Send CR LF for each LF.")] = False,
    quit_on: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="When a line from the peer contains TEXT: print it, and close gracefully.",
            rich_help_panel=_shared.LEAVING,
        ),
    ] = None,
    on_eof: Annotated[
        OnEof,
        typer.Option(
            help="At the end of stdin: half-close sends close_notify and goes on receiving, but many servers take that"
            " for a hang-up and drop their answer; wait sends nothing and goes on receiving; close leaves at once.",
            rich_help_panel=_shared.LEAVING,
        ),
    ] = OnEof.HALF_CLOSE,
    eof_wait: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="After the end of stdin, leave when the peer has been silent for so long; 0 is for ever.",
            rich_help_panel=_shared.LEAVING,
        ),
    ] = 10.0,
    timeout: _shared.Timeout = 5.0,
    trace: _shared.Trace = False,
    show_cert: Annotated[
        str | None,
        typer.Option(
            metavar="[=pem]",
            help="Show what TLS agreed on, and the peer's certificates, also those that are refused; =pem shows the"
            " certificates themselves, too.",
            rich_help_panel=_shared.TELLING,
        ),
    ] = None,
    ladder: Annotated[
        str | None,
        typer.Option(
            metavar="[FILE.svg]",
            help="Draw the ending on stderr, or into FILE.svg or FILE.txt.",
            rich_help_panel=_shared.TELLING,
        ),
    ] = None,
    json: Annotated[
        str | None,
        typer.Option(
            metavar="[FILE.json]",
            help="Write the ending as JSON: one line on stderr, or into FILE.json. With another name: --json=FILE."
            " --json=- is stdout, which then has nothing of what the peer sends.",
            rich_help_panel=_shared.TELLING,
        ),
    ] = None,
) -> int:
    """Talk to a TLS server, and leave it well.

    Stdin goes to the peer, and what the peer sends goes to stdout, and nothing else does. The last line on stderr tells
    how it ended. After the end of stdin, and after a Ctrl-C, what is waited for has an end: --eof-wait, --timeout.

    To leave: end stdin (Ctrl-D), or press Ctrl-C, or, where stdin is a terminal, type ~. at the start of a line (~~
    sends one ~). A second Ctrl-C does not wait. In piped data nothing is a command.

    A terminal gets what the peer sends with control characters escaped; a pipe or a file gets every byte as it came.
    """
    if quit_on is not None and (not quit_on or "\n" in quit_on):
        raise UsageError("--quit-on needs a text without a line break", "such as --quit-on BYE")
    protocol = starttls.value if starttls else None
    where = _target.choose(target, path, starttls=protocol, ipv4=ipv4, ipv6=ipv6)
    context = _tls.Trust(cafile, insecure, cert, key, tls.value if tls else None).context()
    name = _tls.server_name(servername)
    given = {"--cafile": cafile, "--cert": cert, "--tls": tls, "--alpn": alpn, "--show-cert": show_cert is not None}
    plan = _session.Plan(
        target=where,
        context=context,
        server_name=name,
        options=frozenset(option for option, value in ({**given, "-4": ipv4, "-6": ipv6}).items() if value),
        inspection=None if show_cert is None else _inspection.asked_for(show_cert, context, name or where.host),
        alpn=_tls.protocols(alpn or []),
        starttls=protocol,
        connect_timeout=some_seconds("--connect-timeout", connect_timeout),
        trace=trace,
        manners=Manners(
            close_timeout=seconds("--timeout", timeout),
            eof_wait=seconds("--eof-wait", eof_wait) or None,
            on_eof=on_eof,
            crlf=crlf,
            quit_on=quit_on,
        ),
        reports=Reports(ladder, json),
    )
    return _session.run(plan)
