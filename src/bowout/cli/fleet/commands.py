"""``bowout fleet``: the commands and their options."""

from __future__ import annotations

import enum
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bowout.cli.console import output
from bowout.cli.fleet import loading, reading, running
from bowout.cli.shared import options, tls_options
from bowout.cli.shared.usage import UsageError, some_seconds
from bowout.fleet import Store, open_store
from bowout.fleet._export import ENDINGS
from bowout.fleet._stores import is_on_postgres
from bowout.fleet._targets import PROTOCOLS

_POLITENESS = "Politeness"
_PLACES = "Where it runs"

#: The exit status of ``diff`` if the stores differ, and of a check that is as bad as ``--fail-on``.
DIFFERENT = 10

_Store = Annotated[
    str, typer.Option(metavar="FILE", help="The store: a file of SQLite, or postgresql://USER@HOST/DATABASE.")
]
_Yes = Annotated[bool, typer.Option("--yes", help="Probe more than 1,000 endpoints.", rich_help_panel=_POLITENESS)]
_Exclude = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Leave alone what FILE lists: networks, addresses and names, one a line.",
        rich_help_panel=_POLITENESS,
    ),
]
_Workers = Annotated[
    int, typer.Option(metavar="N", help="Probe in N processes; each has networks of its own.", rich_help_panel=_PLACES)
]
_Dask = Annotated[
    str | None,
    typer.Option(metavar="SCHEDULER", help="Probe on a cluster of Dask: tcp://HOST:8786.", rich_help_panel=_PLACES),
]


if TYPE_CHECKING:

    class _FleetProtocol(enum.StrEnum):
        """A protocol of a fleet."""

else:
    _FleetProtocol = enum.StrEnum("Protocol", {name: name for name in PROTOCOLS})


class ReportFormat(enum.StrEnum):
    """The formats of ``bowout fleet report``."""

    TEXT = "text"
    JSON = "json"
    HTML = "html"


def run(  # noqa: PLR0917  (typer makes arguments and options of them, none is passed by position)
    targets: Annotated[
        str,
        typer.Argument(
            metavar="TARGETS", help="A file, or - for stdin: HOST[:PORT] [STARTTLS] [protocol=NAME] in each line."
        ),
    ],
    store: _Store,
    protocol: Annotated[
        _FleetProtocol | None,
        typer.Option(help="What to speak over TLS where a line has neither STARTTLS nor protocol=NAME. Default: http."),
    ] = None,
    cafile: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Trust only the authorities in FILE (PEM).", rich_help_panel=options.TLS),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Do not check certificates.", rich_help_panel=options.TLS)
    ] = False,
    cert: options.Cert = None,
    key: options.Key = None,
    tls: options.Tls = None,
    rate: Annotated[
        float,
        typer.Option(metavar="N", help="Connections a second, in all.", rich_help_panel=_POLITENESS),
    ] = 100.0,
    per_host: Annotated[
        int, typer.Option(metavar="N", help="Endpoints of one host at once.", rich_help_panel=_POLITENESS)
    ] = 2,
    per_network: Annotated[
        int, typer.Option(metavar="N", help="Endpoints of one /24 or /48 at once.", rich_help_panel=_POLITENESS)
    ] = 2,
    exclude: _Exclude = None,
    yes: _Yes = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="The longest time for one endpoint.", rich_help_panel=_POLITENESS)
    ] = 60.0,
    workers: _Workers = 0,
    dask: _Dask = None,
) -> int:
    """Check many endpoints, politely, and keep the results in a store.

    The order is random. An endpoint about which nothing could be learned is tried again, once. A line that is not an
    endpoint is told with its number, and the run goes on.

    Whatever ends it, `bowout fleet resume` goes on: what is finished is not probed again.
    """
    settings = running.FleetSettings(
        cafile=cafile,
        insecure=insecure,
        cert=cert,
        key=key,
        tls=tls.value if tls else None,
        protocol=protocol.value if protocol else None,
        rate=_some_a_second("--rate", rate),
        per_host=_some("--per-host", per_host),
        per_network=_some("--per-network", per_network),
        timeout=some_seconds("--timeout", timeout),
        exclude=str(exclude.absolute()) if exclude else None,
        yes=yes,
    )
    where = running.Placement(_none_or_more("--workers", workers), dask)
    tls_options.Trust(cafile, insecure, cert, key, settings.tls).context()  # A wrong file is told before anything else.
    settings.exclusions()
    loading.load(targets, store, settings)
    return running.go_on(store, settings, where)


def resume(
    store: _Store, yes: _Yes = False, exclude: _Exclude = None, workers: _Workers = 0, dask: _Dask = None
) -> int:
    """Go on with a run that was ended, with its own options."""
    where = running.Placement(_none_or_more("--workers", workers), dask)
    with open_store(store, write=True) as opened:
        settings = loading.settings_of(opened, store)
        changed = settings.changed(yes=yes, exclude=str(exclude.absolute()) if exclude else None)
        if changed != settings:
            opened.set_options(changed.to_dict())
    return running.go_on(store, changed, where)


def status(store: _Store) -> int:
    """Show how far a run is, also while it runs."""
    with open_store(store) as opened:
        reading.show_status(opened)
    return 0


def report(
    store: _Store,
    format: Annotated[ReportFormat, typer.Option(help="How to write it.")] = ReportFormat.TEXT,  # noqa: A002  (the name of the option)
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Endpoints at most, the worst first. Default: 20 as text, 1,000 as HTML, all as JSON."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write to FILE instead of stdout.")] = None,
) -> int:
    """Report what was found: as text, as JSON, or as one page of HTML."""
    with open_store(store) as opened:
        reading.write_report(opened, format.value, _some("--limit", limit) if limit is not None else None, out)
    return 0


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file: .parquet, .csv or .jsonl.")], store: _Store
) -> int:
    """Export every finding: to Parquet, CSV or JSON Lines, by the ending of FILE."""
    if file.suffix.lower() not in ENDINGS:
        raise UsageError(f"'{file}' does not end in {', '.join(ENDINGS)}", "the name's ending is the format")
    with open_store(store) as opened:
        reading.export_to(opened, file)
    return 0


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="The older store.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The newer store.")],
) -> int:
    """Show what changed between two stores; the exit status is 10 if anything did."""
    for name in (a, b):
        if is_on_postgres(name):
            raise UsageError(
                "diff compares files of SQLite, and not stores on PostgreSQL",
                "bowout fleet export FILE.csv --store NAME writes the findings of each: compare these files",
            )
    with Store(b):
        pass  # It is told here if this is not a store.
    with Store(a) as opened:
        return DIFFERENT if reading.show_differences(opened, Path(b)) else 0


def _some(option: str, value: int) -> int:
    if value < 1:
        raise UsageError(f"{option} needs 1 or more, not {value}")
    return value


def _some_a_second(option: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"{option} needs a number above 0, not {value:g}")
    return value


def _none_or_more(option: str, value: int) -> int:
    if value < 0:
        raise UsageError(f"{option} needs 0 or more, not {value}")
    return value


#: The commands of ``bowout fleet``, in the order of its help.
COMMANDS = (run, resume, status, report, export, diff)

#: The lines of ``--help`` about the exit statuses.
FLEET_STATUSES = (
    "  0  done; the verdicts are in the store",
    "  1  failed here: the store, a file or a worker",
    "  2  usage: a wrong option or argument; nothing was sent",
    " 10  diff: the stores differ",
    f"{output.INTERRUPTED}  interrupted by Ctrl-C; what is finished is kept",
)
