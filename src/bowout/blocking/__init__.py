"""TLS that ends well for blocking code: scripts, threads, and libraries that use the standard library's sockets.

* `connect` and `wrap` give a `SyncStream`, which has the verbs of `bowout.Stream`.
* `prepare_context` makes an ``ssl.SSLContext`` whose sockets end well: for http.client, urllib3, smtplib, ftplib,
  imaplib and all others that take a context.
* `HTTPAdapter` is for requests, and needs ``pip install 'bowout[requests]'``.

    context = bowout.blocking.prepare_context()
    http.client.HTTPSConnection("example.org", context=context)
    requests.Session().mount("https://", bowout.blocking.HTTPAdapter())
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

from bowout.blocking._connect import connect, wrap
from bowout.blocking._context import prepare_context
from bowout.blocking._socket import TLSSocket
from bowout.blocking._stream import SyncStream

if TYPE_CHECKING:
    from bowout.blocking._requests import HTTPAdapter as HTTPAdapter

__all__ = ["SyncStream", "TLSSocket", "connect", "prepare_context", "wrap"]

# The public names belong to this module: in tracebacks, in `help()`, in pickles.
for _public in [globals()[name] for name in __all__]:
    if isinstance(_public, type | FunctionType):
        _public.__module__ = "bowout.blocking"
del _public


def __getattr__(name: str) -> Any:
    """Import the adapter for requests when it is asked for: this module does not need requests."""
    if name == "HTTPAdapter":
        from bowout.blocking._requests import HTTPAdapter  # noqa: PLC0415

        return HTTPAdapter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
