"""Options that ``bowout connect`` and ``bowout serve`` share, and the panels of their help."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from bowout.cli import _tls

TLS: Final = "TLS"
LEAVING: Final = "Leaving"
TELLING: Final = "Telling"

Cert = Annotated[
    str | None, typer.Option(metavar="FILE", help="Our certificate (PEM), and perhaps its key.", rich_help_panel=TLS)
]
Key = Annotated[str | None, typer.Option(metavar="FILE", help="The key of --cert (PEM).", rich_help_panel=TLS)]
Tls = Annotated[_tls.Version | None, typer.Option(help="Speak this version of TLS only.", rich_help_panel=TLS)]
Timeout = Annotated[
    float, typer.Option(metavar="SECONDS", help="How long a graceful close may take.", rich_help_panel=LEAVING)
]
Trace = Annotated[
    bool, typer.Option("--trace", help="Tell every event on stderr, one a line.", rich_help_panel=TELLING)
]
