"""Command line tools that are byte pipes: their stdin goes to the connection, and the connection to their stdout."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from helpers.peers import require_program
from helpers.starttls_servers import free_ports
from interop.far import LOOPBACK, Far, PipeFar, pipe
from interop.scenarios import By
from interop.stacks.base import Bench, Client, Server, Stack

CTRL_C: Final[dict[str, By]] = {"end of input": None, "Ctrl-C": signal.SIGINT}


def _server(program: str, *arguments: str, stop: signal.Signals | None = None) -> Server:
    """PORT and PEM are filled in; `stop` is for a server that waits for its next client."""

    def start(bench: Bench, way: str) -> AbstractContextManager[PipeFar]:
        (port,) = free_ports(1)
        filled = [word.replace("PORT", str(port)).replace("PEM", bench.identity) for word in arguments]
        return pipe([require_program(program), *filled], bench.directory, port=port, stop=stop)

    return start


def _client(program: str, *arguments: str) -> Client:
    def start(bench: Bench, port: int, way: str) -> AbstractContextManager[PipeFar]:
        filled = [word.replace("PORT", str(port)) for word in arguments]
        return pipe([require_program(program), *filled], bench.directory)

    return start


def _echo(program: str, *arguments: str) -> Server:
    """A server with nobody behind it."""

    @contextmanager
    def start(bench: Bench, way: str) -> Iterator[Far]:
        with _server(program, *arguments, stop=signal.SIGTERM)(bench, way) as far:
            far.echoes = True
            yield far

    return start


_OPENSSL_SHOWS: Final = r"SSL3 alert (?:read|write):.*|.*:error:.*|^shutting down SSL|^DONE"

STACKS: Final = (
    Stack(
        name="OpenSSL s_server",
        needs=("openssl",),
        version=("version",),
        server=_server("openssl", "s_server", "-state", "-naccept", "1", "-accept", f"{LOOPBACK}:PORT", "-cert", "PEM"),
        ways={"end of input": None, "q": b"q\n", "Q": b"Q\n", "Ctrl-C": signal.SIGINT},
        shows=_OPENSSL_SHOWS,
    ),
    Stack(
        name="OpenSSL s_client",
        needs=("openssl",),
        version=("version",),
        client=_client("openssl", "s_client", "-state", "-connect", f"{LOOPBACK}:PORT"),
        ways={"end of input": None, "Q": b"Q\n", "Ctrl-C": signal.SIGINT},
        shows=_OPENSSL_SHOWS,
    ),
    Stack(
        name="GnuTLS serv",
        needs=("gnutls-serv",),
        version=("--version",),
        server=_echo("gnutls-serv", "--echo", "--x509certfile=PEM", "--x509keyfile=PEM", "-p", "PORT"),
        ways={"SIGTERM": signal.SIGTERM},
        shows=r"^Error.*",
        takes=("we end", "they end", "upload"),
    ),
    Stack(
        name="GnuTLS cli",
        needs=("gnutls-cli",),
        version=("--version",),
        client=_client("gnutls-cli", "--insecure", "--logfile=/dev/null", "-p", "PORT", LOOPBACK),
        ways=CTRL_C,
        shows=r"^\*\*\* .*|^- Peer has.*|^\|<1>\|.*",
    ),
    Stack(
        name="socat",
        needs=("socat",),
        version=("-V",),
        server=_server("socat", "STDIO", f"OPENSSL-LISTEN:PORT,bind={LOOPBACK},reuseaddr,cert=PEM,verify=0"),
        client=_client("socat", "STDIO", f"OPENSSL:{LOOPBACK}:PORT,verify=0"),
        ways=CTRL_C,
        shows=r"(?<=\] )E .*",
    ),
    Stack(
        name="ncat",
        needs=("ncat",),
        version=("--version",),
        server=_server("ncat", "-v", "--ssl", "--ssl-cert", "PEM", "--ssl-key", "PEM", "-l", LOOPBACK, "PORT"),
        client=_client("ncat", "-v", "--ssl", LOOPBACK, "PORT"),
        ways=CTRL_C,
        shows=r"(?<=^Ncat: )\d+ bytes sent, \d+ bytes received|(?<=^Ncat: )\w+ error.*",
    ),
)
