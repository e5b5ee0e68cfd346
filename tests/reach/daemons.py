"""The databases of Debian, for their clients' libraries: each with TLS, on loopback, in a directory of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from helpers.peers import require_program
from helpers.starttls_servers import Home, free_ports, running


@contextmanager
def redis(home: Home) -> Iterator[dict[str, int]]:
    """Redis, with TLS from the first byte on."""
    program, (port,) = require_program("redis-server"), free_ports(1)
    settings = {
        "port": 0,
        "tls-port": port,
        "bind": "127.0.0.1",
        "tls-cert-file": home.cert,
        "tls-key-file": home.key,
        "tls-ca-cert-file": home.cert,  # it wants one, and asks no client for a certificate
        "tls-auth-clients": "no",
        "save": '""',
        "loglevel": "verbose",  # it logs how a client left
        "dir": home.path,
    }
    config = home.write("redis.conf", "".join(f"{name} {value}\n" for name, value in settings.items()))
    with running(home, [port], program, config):
        yield {"redis": port}
