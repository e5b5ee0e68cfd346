"""The stacks that speak HTTP and nothing else: they are no byte pipes, and have scenarios of their own."""

from __future__ import annotations

from typing import Final

from helpers.wire import VERSIONS
from interop.expectations import Key
from interop.stacks.base import Stack

CURL: Final = Stack(name="curl", needs=("curl",), version=("--version",), shows=r"^curl: .*")
NGINX: Final = Stack(
    name="nginx http",
    needs=("nginx",),
    version=("-v",),
    shows=r"closed keepalive connection|client prematurely closed connection|SSL_\w+\(\).*?(?=,)",
)

CURL_LEAVES: Final = "they end: after the last transfer"
NGINX_LEAVES: Final = "they end: Connection: close"

HTTP_KEYS: Final[frozenset[Key]] = frozenset(
    (stack.name, role, scenario, version)
    for stack, role, scenarios in (
        (CURL, "client", ("we end", CURL_LEAVES)),
        (NGINX, "server", ("we end", NGINX_LEAVES, "half-close", "upload")),
    )
    for scenario in scenarios
    for version in VERSIONS
)
