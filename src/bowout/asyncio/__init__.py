"""asyncio and uvloop: TLS connections that end well, for code that is written for asyncio.

There are three ways in:

* The functions here do what asyncio's of the same name do, on any running loop.
* `run` and `loop_factory` give loops on which every TLS connection is ours, also those of libraries.
* `install` replaces asyncio's own TLS, for code that the other ways do not reach.

    reader, writer = await bowout.asyncio.open_connection("example.org", 443, ssl=context)
    bowout.asyncio.run(main())

In each of them the peer's close_notify and a truncation are different things, a close sends and reads all within its
time, and the ending can be asked for: ``transport.get_extra_info("ending")``, ``writer.ending``, `Policy.on_ending`.
"""

from __future__ import annotations

from types import FunctionType

from bowout.asyncio._functions import (
    connect_accepted_socket,
    create_connection,
    create_server,
    create_unix_connection,
    create_unix_server,
    start_tls,
)
from bowout.asyncio._loop import TLSLoopMixin, install, loop_factory, run, uninstall
from bowout.asyncio._policy import Policy
from bowout.asyncio._protocol import TLSProtocol
from bowout.asyncio._servers import drain
from bowout.asyncio._streams import (
    TLSStreamReader,
    TLSStreamWriter,
    open_connection,
    open_unix_connection,
    start_server,
    start_unix_server,
)
from bowout.asyncio._transport import TLSTransport

__all__ = [
    "Policy",
    "TLSLoopMixin",
    "TLSProtocol",
    "TLSStreamReader",
    "TLSStreamWriter",
    "TLSTransport",
    "connect_accepted_socket",
    "create_connection",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "drain",
    "install",
    "loop_factory",
    "open_connection",
    "open_unix_connection",
    "run",
    "start_server",
    "start_tls",
    "start_unix_server",
    "uninstall",
]

# The public names belong to this module: in tracebacks, in `help()`, in pickles.
for _public in [globals()[name] for name in __all__]:
    if isinstance(_public, type | FunctionType):
        _public.__module__ = "bowout.asyncio"
del _public
