"""``bowout check``: the options, and the plan that they make."""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Annotated, Final, get_args

import typer

from bowout import STARTTLS
from bowout.check import ProtocolName
from bowout.cli.check import explain as explanations
from bowout.cli.check import session
from bowout.cli.check.formats import FORMATS
from bowout.cli.check.output_file import ReportFile
from bowout.cli.shared import host_port, options, tls_options
from bowout.cli.shared.usage import UsageError, some_seconds

if TYPE_CHECKING:
    from bowout import StartTLSName

    class _CheckStartTls(enum.StrEnum):
        """A name of `bowout.STARTTLS`."""

        @property
        def value(self) -> StartTLSName: ...

    class _Protocol(enum.StrEnum):
        """A protocol that a check speaks."""

        @property
        def value(self) -> ProtocolName: ...

    class _Format(enum.StrEnum):
        """A name of `FORMATS`."""

    class _FailOn(enum.StrEnum):
        """A verdict, in lower case, or never."""

else:
    _CheckStartTls = enum.StrEnum("StartTls", {name: name for name in sorted(STARTTLS)})
    _Protocol = enum.StrEnum("Protocol", {name: name for name in get_args(ProtocolName)})
    _Format = enum.StrEnum("Format", {name: name for name in FORMATS})
    _FailOn = enum.StrEnum("FailOn", {name: name for name in session.FAIL_ON})

#: The lines of ``--help`` about the exit statuses.
CHECK_STATUSES: Final = (
    "  0  every verdict is better than that of --fail-on",
    "  1  failed here: the report could not be written",
    "  2  usage: a wrong option or argument; nothing was sent",
    "  3  an endpoint could not be probed",
    " 10  a verdict is that of --fail-on, or worse",
    "130  interrupted by Ctrl-C before it was done",
    "With --format nagios: 0 OK, 1 WARN, 2 FAIL or DATA-LOSS,",
    "     3 UNKNOWN, wrong options, and failures here",
)

_TEXT: Final = _Format("text")
_FAIL: Final = _FailOn("fail")
_PROBES: Final = "Probes"
_ESCAPES: Final = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}


def check(  # noqa: PLR0917  (typer makes arguments and options of them, none is passed by position)
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="HOST[:PORT]...",
            help="The endpoints. Default port: that of --starttls, or 443. IPv6 with a port: [::1]:443",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        _Protocol | None,
        typer.Option(
            help="What to speak over TLS; raw: only --send. Default: that of --starttls, or http.",
            rich_help_panel=_PROBES,
        ),
    ] = None,
    send: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help=r"With raw: a request after which the server ends the connection; \r, \n, \t, \0, \\ and \xNN in it.",
            rich_help_panel=_PROBES,
        ),
    ] = None,
    expect: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="With raw: the text that a complete answer contains.", rich_help_panel=_PROBES
        ),
    ] = None,
    idle: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Leave a connection idle for this time, too, to see how the server ends it.",
            rich_help_panel=_PROBES,
        ),
    ] = None,
    large: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="The path of an answer of 8 MiB or more: what is lost while it is in flight?",
            rich_help_panel=_PROBES,
        ),
    ] = None,
    intrusive: Annotated[
        bool,
        typer.Option(
            "--intrusive", help="Send illegal records, too. For your own servers only.", rich_help_panel=_PROBES
        ),
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="The longest time for all polite probes; more than 10 lengthens each wait.",
            rich_help_panel=_PROBES,
        ),
    ] = 10.0,
    cafile: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Trust only the authorities in FILE (PEM).", rich_help_panel=options.TLS),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Do not check the certificate.", rich_help_panel=options.TLS)
    ] = False,
    servername: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The name to send and to check.", rich_help_panel=options.TLS),
    ] = None,
    cert: options.Cert = None,
    key: options.Key = None,
    tls: options.Tls = None,
    starttls: Annotated[
        _CheckStartTls | None,
        typer.Option(
            metavar="NAME",
            help=f"Change to TLS from protocol NAME: {', '.join(sorted(STARTTLS))}.",
            rich_help_panel=options.TLS,
        ),
    ] = None,
    form: Annotated[_Format, typer.Option("--format", help="How to report.", rich_help_panel=options.TELLING)] = _TEXT,
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the report to FILE, not to stdout.", rich_help_panel=options.TELLING),
    ] = None,
    ladders: Annotated[
        bool,
        typer.Option(
            "--ladders/--no-ladders",
            help="In text, draw the ending of each bad finding.",
            rich_help_panel=options.TELLING,
        ),
    ] = True,
    fail_on: Annotated[
        _FailOn,
        typer.Option(help="The verdict from which the exit status is 10.", rich_help_panel=options.TELLING),
    ] = _FAIL,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Explain a probe or a verdict: what it means, and how to mend servers. Nothing is probed.",
            rich_help_panel=options.TELLING,
        ),
    ] = None,
) -> int:
    """Probe how servers end their TLS connections, and what that loses.

    The probes are polite: 8 connections for an endpoint at most, one after the other, each with a request that any
    client could send. --idle, --large and --intrusive ask for more.

    Each probe has a verdict: OK, NOTE (allowed, but it costs something), WARN (a rule is broken, nothing is lost), FAIL
    (a truncation could pass for complete), DATA-LOSS (bytes did not arrive), UNKNOWN or SKIPPED. The endpoint's is the
    worst, NOTE and SKIPPED aside.
    """
    if explain is not None:
        return explanations.show(explain, targets or [])
    if not targets:
        raise UsageError("there is no host to check", "give HOST[:PORT], or --explain NAME")
    spoken = protocol.value if protocol else None
    begins = starttls.value if starttls else None
    if (send or expect) and spoken not in {None, "raw"}:
        raise UsageError(f"--send and --expect are for raw: {spoken} has requests of its own", "leave out --protocol")
    plan = session.CheckPlan(
        targets=[host_port.parse(each, begins) for each in targets],
        context=tls_options.Trust(cafile, insecure, cert, key, tls.value if tls else None).context(),
        server_name=tls_options.server_name(servername),
        protocol="raw" if spoken is None and (send or expect) else spoken,
        starttls=begins,
        send=None if send is None else _bytes("--send", send),
        expect=None if expect is None else _bytes("--expect", expect),
        idle=None if idle is None else some_seconds("--idle", idle),
        large=large if large is None else _path(large),
        intrusive=intrusive,
        timeout=some_seconds("--timeout", timeout),
        form=str(form),
        ladders=ladders,
        fail_on=session.FAIL_ON[str(fail_on)],
    )
    return session.run(plan, ReportFile(out))


def _bytes(option: str, text: str) -> bytes:
    r"""Return the bytes of `text`, in which ``\r``, ``\n``, ``\t``, ``\0``, ``\\`` and ``\xNN`` are escapes."""

    def replace(found: re.Match[str]) -> str:
        word = found[1]
        if word in _ESCAPES:
            return _ESCAPES[word]
        if len(word) == 3 and word[0] == "x":
            return chr(0xDC00 + int(word[1:], 16)) if int(word[1:], 16) > 0x7F else chr(int(word[1:], 16))
        raise UsageError(f"{option}: '\\{word}' is not a known escape", r"\r, \n, \t, \0, \\ and \xNN are")

    return re.sub(r"\\(x[0-9A-Fa-f]{2}|.?)", replace, text, flags=re.DOTALL).encode("utf-8", "surrogateescape")


def _path(text: str) -> str:
    if not text.startswith("/") or not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError(f"--large: '{text}' is not a path", "it begins with / and is in ASCII: --large /big.iso")
    return text
