"""anyio's TLS streams and listeners over bowout: connections that end properly, behind anyio's own interfaces.

    stream = await bowout.anyio.connect_tcp("example.org", 443)
    stream = await bowout.anyio.TLSStream.wrap(any_byte_stream, hostname="example.org")
    await bowout.anyio.TLSListener(await anyio.create_tcp_listener(local_port=8443), context).serve(handler)

Names, arguments and errors are anyio's. They work under asyncio, uvloop and trio. This needs the extra:
``pip install 'bowout[anyio]'``.
"""

from __future__ import annotations

try:
    import anyio as _  # noqa: F401  (imported here, so that its absence names the extra)
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"bowout.anyio needs the package {_error.name}: pip install 'bowout[anyio]'", name=_error.name
    ) from _error

from bowout._adapters import EndKeywords, StreamKeywords
from bowout.anyio._connect import TLSConnectable, connect_tcp
from bowout.anyio._listener import TLSListener
from bowout.anyio._stream import TLSStream

__all__ = ["EndKeywords", "StreamKeywords", "TLSConnectable", "TLSListener", "TLSStream", "connect_tcp"]

for _public in (TLSConnectable, TLSListener, TLSStream, connect_tcp):
    _public.__module__ = "bowout.anyio"  # in tracebacks, in `help()`
