"""trio's streams and listeners over bowout: TLS connections that end properly, behind trio's own interfaces.

    stream = bowout.trio.SSLStream(tcp_stream, context, server_hostname="example.org")
    stream = await bowout.trio.open_ssl_over_tcp_stream("example.org", 443)
    await bowout.trio.serve_ssl_over_tcp(handler, 8443, context)

Names, arguments and errors are trio's. This needs the extra: ``pip install 'bowout[trio]'``.
"""

from __future__ import annotations

try:
    import trio as _  # noqa: F401  (imported here, so that its absence names the extra)
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"bowout.trio needs the package {_error.name}: pip install 'bowout[trio]'", name=_error.name
    ) from _error

from bowout._adapters import EndKeywords, StreamKeywords
from bowout.trio._listener import (
    SSLListener,
    open_ssl_over_tcp_listeners,
    open_ssl_over_tcp_stream,
    serve_ssl_over_tcp,
)
from bowout.trio._stream import SSLStream

__all__ = [
    "EndKeywords",
    "SSLListener",
    "SSLStream",
    "StreamKeywords",
    "open_ssl_over_tcp_listeners",
    "open_ssl_over_tcp_stream",
    "serve_ssl_over_tcp",
]

for _public in (SSLListener, SSLStream, open_ssl_over_tcp_listeners, open_ssl_over_tcp_stream, serve_ssl_over_tcp):
    _public.__module__ = "bowout.trio"  # in tracebacks, in `help()`
