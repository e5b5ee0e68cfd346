"""Servers of mail and databases; most of them change to TLS after a dialogue in plain text."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from helpers import starttls_servers
from helpers.starttls_servers import Home
from interop.real_servers.base import RealServer, Start
from interop.stacks.base import Stack
from reach import daemons


def _recipe(recipe: Callable[[Home], AbstractContextManager[dict[str, int]]], protocol: str) -> Start:
    @contextmanager
    def start(home: Home, _shared: Path) -> Iterator[int]:
        with recipe(home) as ports:
            yield ports[protocol]

    return start


def _source(recipe: object) -> str:
    """The recipe itself: it has the configuration in it."""
    return inspect.getsource(inspect.unwrap(recipe))  # type: ignore[arg-type]


SERVERS: Final = (
    RealServer(
        name="Redis",
        stack=Stack(name="Redis", needs=("redis-server",), version=("--version",), shows=""),
        configuration=_source(daemons.redis),
        start=_recipe(daemons.redis, "redis"),
        protocol="redis",
    ),
    RealServer(
        name="PostgreSQL",
        stack=Stack(name="PostgreSQL", needs=("postgres", "initdb"), version=("--version",), shows=""),
        configuration=_source(starttls_servers.postgres),
        start=_recipe(starttls_servers.postgres, "postgres"),
        protocol="postgres",
        starttls="postgres",
    ),
    RealServer(
        name="Dovecot",
        stack=Stack(name="Dovecot", needs=("dovecot", "imap-login"), version=("--version",), shows=""),
        configuration=_source(starttls_servers.dovecot),
        start=_recipe(starttls_servers.dovecot, "imap"),
        protocol="imap",
        starttls="imap",
    ),
    RealServer(
        name="Exim",
        stack=Stack(name="Exim", needs=("exim4",), version=("--version",), shows=""),
        configuration=_source(starttls_servers.exim),
        start=_recipe(starttls_servers.exim, "smtp"),
        protocol="smtp",
        starttls="smtp",
    ),
)
