"""Options that ``bowout connect`` and ``bowout serve`` share, and the panels of their help."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from bowout.cli.shared import tls_options

TLS: Final = "TLS"
LEAVING: Final = "Closing"
TELLING: Final = "Reports"

Cert = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Our certificate (PEM); the file may also have its key.", rich_help_panel=TLS),
]
Key = Annotated[str | None, typer.Option(metavar="FILE", help="The key of --cert (PEM).", rich_help_panel=TLS)]
Tls = Annotated[
    tls_options.TLSVersion | None, typer.Option(help="Speak this version of TLS only.", rich_help_panel=TLS)
]
Timeout = Annotated[
    float, typer.Option(metavar="SECONDS", help="The longest time for a graceful close.", rich_help_panel=LEAVING)
]
Trace = Annotated[
    bool, typer.Option("--trace", help="Show every event on stderr, one per line.", rich_help_panel=TELLING)
]
