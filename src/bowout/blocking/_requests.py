"""An adapter for requests."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from bowout.blocking._context import prepare_context
from bowout.blocking._policy import SocketPolicy

try:
    import requests.adapters
    from urllib3.util.ssl_ import create_urllib3_context
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"bowout.blocking.HTTPAdapter needs the package {_error.name}: pip install 'bowout[requests]'", name=_error.name
    ) from _error

if not hasattr(requests.adapters.HTTPAdapter, "build_connection_pool_key_attributes"):
    raise ImportError(f"bowout.blocking.HTTPAdapter needs requests 2.32.2 or newer, and this is {requests.__version__}")

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from bowout.ending import Ending, TruncationPolicy


class HTTPAdapter(requests.adapters.HTTPAdapter):
    """An adapter for requests whose TLS connections end well.

        session = requests.Session()
        session.mount("https://", bowout.blocking.HTTPAdapter())

    A body that the server's connection cut off raises, in each of its framings: requests by itself takes one without
    Content-Length for whole at a truncation, and with some versions of Python at an RST. ``verify`` and ``cert`` work
    as always.

    An HTTPS proxy is the one exception: urllib3 makes the TLS to the proxy, and that within it, itself. There, half a
    body passes for the whole one as before.

    Args:
        truncation, tolerant_hosts, close_timeout, on_ending: as for `bowout.blocking.prepare_context`.
        options: the arguments of ``requests.adapters.HTTPAdapter``, such as ``pool_maxsize``.

    Raises:
        TypeError, ValueError: an argument is not valid.
    """

    __attrs__: Any = [*requests.adapters.HTTPAdapter.__attrs__, "_policy"]  # noqa: RUF012  (as in the base class)

    def __init__(
        self,
        *,
        truncation: TruncationPolicy = "raise",
        tolerant_hosts: Collection[str] = (),
        close_timeout: float = 5.0,
        on_ending: Callable[[Ending], object] | None = None,
        **options: Any,
    ) -> None:
        self._policy: dict[str, Any] = {
            "truncation": truncation,
            "tolerant_hosts": tolerant_hosts,
            "close_timeout": close_timeout,
            "on_ending": on_ending,
        }
        #: One context for each pair of ``verify`` and ``cert``: urllib3 makes a pool of connections for each.
        self._contexts: dict[Any, ssl.SSLContext] = {}
        SocketPolicy(**self._policy).check()
        super().__init__(**options)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._contexts = {}
        super().__setstate__(state)  # type: ignore[misc,unused-ignore]

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        """Return what identifies a pool of connections: with the context that its sockets are made from."""
        host_params: Any
        pool_kwargs: Any
        host_params, pool_kwargs = super().build_connection_pool_key_attributes(request, verify, cert)
        if host_params["scheme"] == "https":
            key = (verify, tuple(cert) if isinstance(cert, list) else cert)
            context = self._contexts.get(key) or self._contexts.setdefault(key, self._new_context(verify=verify))
            pool_kwargs["ssl_context"] = context
        return host_params, pool_kwargs

    def _new_context(self, *, verify: Any) -> ssl.SSLContext:
        """Make a context as urllib3 does for each connection; urllib3 loads what `verify` and ``cert`` say into it."""
        context = create_urllib3_context(cert_reqs=ssl.CERT_NONE if verify is False else ssl.CERT_REQUIRED)
        return prepare_context(context, **self._policy)
