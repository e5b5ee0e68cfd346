"""Libraries: each under a small program that is a byte pipe, in ``tests/interop/programs``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key, pkcs12
from cryptography.x509 import load_pem_x509_certificates

from helpers.compiled import go_program, java_classes
from helpers.peers import require_program
from interop.far import Far, pipe
from interop.scenarios import SCENARIOS, By
from interop.stacks.base import Bench, Stack

PROGRAMS: Final = Path(__file__).resolve().parents[1] / "programs"
_LISTENING: Final = r"^listening:? (\d+)$"
_SHOWS: Final = r"^(?:read|write|end|error|lost|failed): .*"

#: The command of a program, but for its arguments; and its identity, where that is no PEM file.
Command = Callable[[Bench], list[str]]


def _ways(*verbs: str) -> dict[str, By]:
    return {**dict.fromkeys(verbs), "killed": signal.SIGKILL}


def _program(
    name: str,
    command: Command,
    *,
    needs: tuple[str, ...],
    version: tuple[str, ...] = (),
    ways: dict[str, By],
    identity: Callable[[Bench], str] = lambda bench: bench.identity,
    takes: tuple[str, ...] = tuple(SCENARIOS),
) -> Stack:
    def server(bench: Bench, way: str) -> AbstractContextManager[Far]:
        arguments = ["server", "0", way, identity(bench)]
        return pipe([*command(bench), *arguments], bench.directory, listening=_LISTENING)

    def client(bench: Bench, port: int, way: str) -> AbstractContextManager[Far]:
        return pipe([*command(bench), "client", str(port), way, ""], bench.directory)

    return Stack(
        name=name,
        needs=needs,
        version=version,
        server=server,
        client=client,
        ways=ways,
        shows=_SHOWS,
        ordered=False,
        takes=takes,
    )


def _go(bench: Bench) -> list[str]:
    return [go_program(PROGRAMS / "peer.go", bench.shared)]


def _java(bench: Bench) -> list[str]:
    classes = java_classes(PROGRAMS / "Peer.java", bench.shared)
    # An older one could not run what the compiler made.
    beside = Path(require_program("javac")).resolve().with_name("java")
    java = str(beside) if beside.exists() else require_program("java")
    return [java, "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", classes, "Peer"]


def _node(bench: Bench) -> list[str]:
    return [require_program("node"), str(PROGRAMS / "peer.js")]


def _python(name: str) -> Command:
    return lambda bench: [sys.executable, "-m", f"interop.programs.{name}"]


def _pkcs12(bench: Bench) -> str:
    """The same identity as Java takes it."""
    pem = Path(bench.identity).read_bytes()
    leaf, *others = load_pem_x509_certificates(pem)
    key = load_pem_private_key(pem, None)
    assert isinstance(key, EllipticCurvePrivateKey)
    path = bench.directory / "server.p12"
    path.write_bytes(
        pkcs12.serialize_key_and_certificates(b"peer", key, leaf, others, BestAvailableEncryption(b"bowout"))
    )
    return str(path)


STACKS: Final = (
    _program("Go", _go, needs=("go",), version=("version",), ways=_ways("CloseWrite()", "Close()")),
    _program("Node", _node, needs=("node",), version=("--version",), ways=_ways("end()", "destroy()")),
    _program(
        "Node allowHalfOpen",
        _node,
        needs=("node",),
        version=("--version",),
        ways={"end() allowHalfOpen": None},
        takes=("we end", "they end", "half-close", "in flight"),
    ),
    _program(
        "Java JSSE",
        _java,
        needs=("java", "javac"),
        version=("--version",),
        ways=_ways("shutdownOutput()", "close()"),
        identity=_pkcs12,
    ),
    _program("asyncio", _python("on_asyncio"), needs=("asyncio",), ways=_ways("close()", "abort()")),
    _program("uvloop", _python("on_uvloop"), needs=("uvloop",), ways=_ways("close()", "abort()")),
    _program("trio", _python("on_trio"), needs=("trio",), ways=_ways("aclose()")),
    _program("anyio", _python("on_anyio"), needs=("anyio",), ways=_ways("aclose()")),
    _program("Twisted", _python("on_twisted"), needs=("twisted",), ways=_ways("loseConnection()", "abortConnection()")),
)
