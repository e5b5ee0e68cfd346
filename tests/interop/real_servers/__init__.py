"""Real servers that `bowout.check` probes, each a small recipe with the configuration that it runs with.

A new one is a `RealServer` in one of these modules, its package in ``.ci/packages.txt`` or ``pyproject.toml``, and
its row in ``verdicts.toml``: a test prints the row that is missing.
"""

from __future__ import annotations

from typing import Final

from interop.real_servers import mail, programs, proxies, web
from interop.real_servers.base import RealServer

SERVERS: Final[dict[str, RealServer]] = {
    server.name: server for server in (*web.SERVERS, *proxies.SERVERS, *programs.SERVERS, *mail.SERVERS)
}
