"""Real servers that `bowout.check` probes, each a small recipe with the configuration that it runs with.

A new one is a `CheckedServer` in one of these modules, its package in ``.ci/packages.txt`` or ``pyproject.toml``, and
its row in ``verdicts.toml``: a test prints the row that is missing.
"""

from __future__ import annotations

from typing import Final

from interop.real_servers import mail, programs, proxies, web
from interop.real_servers.base import CheckedServer

SERVERS: Final[dict[str, CheckedServer]] = {
    server.name: server for server in (*web.SERVERS, *proxies.SERVERS, *programs.SERVERS, *mail.SERVERS)
}
