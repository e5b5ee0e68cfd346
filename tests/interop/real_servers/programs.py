"""Servers of languages and libraries: each a small program, in ``tests/interop/programs``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from helpers.compiled import go_program
from helpers.peers import require_program
from helpers.starttls_servers import Home, free_ports, running
from interop.real_servers.base import LARGE_PATH, RealServer, Start, fill
from interop.stacks.base import Stack

_PROGRAMS: Final = Path(__file__).resolve().parents[1] / "programs"
_ASGI: Final = "served_asgi.py"

#: Makes the command from the directory, a place for what is compiled, and the port.
Command = Callable[[Home, Path, str], list[str]]


def _program(command: Command) -> Start:
    @contextmanager
    def start(home: Home, shared: Path) -> Iterator[int]:
        (port,) = free_ports(1)
        fill(home)
        with running(home, [port], *command(home, shared, str(port))):
            yield port

    return start


def _go(home: Home, shared: Path, port: str) -> list[str]:
    program = go_program(_PROGRAMS / "served.go", shared)
    return [program, port, str(home.cert), str(home.key), str(home.path / "www")]


def _node(home: Home, _shared: Path, port: str) -> list[str]:
    program = str(_PROGRAMS / "served.js")
    return [require_program("node"), program, port, str(home.cert), str(home.key), str(home.path / "www")]


def _asgi(module: str, *arguments: str) -> Command:
    def command(home: Home, _shared: Path, port: str) -> list[str]:
        home.write(_ASGI, _text(_ASGI))
        words = {"CERT": str(home.cert), "KEY": str(home.key)}
        filled = [words.get(word, word.replace("PORT", port)) for word in arguments]
        return [sys.executable, "-m", module, *filled]

    return command


def _text(program: str) -> str:
    return (_PROGRAMS / program).read_text(encoding="utf-8")


_UVICORN: Final = ("--host", "127.0.0.1", "--port", "PORT", "--ssl-certfile", "CERT", "--ssl-keyfile", "KEY")
_HYPERCORN: Final = ("--bind", "127.0.0.1:PORT", "--certfile", "CERT", "--keyfile", "KEY")


def _on_asgi(name: str, module: str, *options: str, needs: tuple[str, ...] = ()) -> RealServer:
    arguments = (*options, f"{Path(_ASGI).stem}:app")
    return RealServer(
        name=name,
        stack=Stack(name=name, needs=(module, *needs), shows=""),
        configuration=f"{module} {' '.join(arguments)}\n\n# {_ASGI}\n{_text(_ASGI)}",
        start=_program(_asgi(module, *arguments)),
        large=LARGE_PATH,
        ends_idle=True,
    )


def _tool(program: str, *arguments: str) -> Start:
    @contextmanager
    def start(home: Home, _shared: Path) -> Iterator[int]:
        path, (port,) = require_program(program), free_ports(1)
        words = {"CERT": str(home.cert), "KEY": str(home.key)}
        with running(home, [port], path, *[words.get(word, word.replace("PORT", str(port))) for word in arguments]):
            yield port

    return start


_S_SERVER: Final = ("s_server", "-www", "-accept", "127.0.0.1:PORT", "-cert", "CERT", "-key", "KEY")
_GNUTLS: Final = ("--http", "--x509certfile", "CERT", "--x509keyfile", "KEY", "-p", "PORT")

SERVERS: Final = (
    RealServer(
        name="Go net/http",
        stack=Stack(name="Go net/http", needs=("go",), version=("version",), shows=""),
        configuration=_text("served.go"),
        start=_program(_go),
        large=LARGE_PATH,
    ),
    RealServer(
        name="Node https",
        stack=Stack(name="Node https", needs=("node",), version=("--version",), shows=""),
        configuration=_text("served.js"),
        start=_program(_node),
        large=LARGE_PATH,
        ends_idle=True,
    ),
    _on_asgi("uvicorn on asyncio", "uvicorn", "--loop", "asyncio", *_UVICORN),
    _on_asgi("uvicorn on uvloop", "uvicorn", "--loop", "uvloop", *_UVICORN, needs=("uvloop",)),
    _on_asgi("hypercorn", "hypercorn", *_HYPERCORN),
    RealServer(
        name="OpenSSL s_server",
        stack=Stack(name="OpenSSL s_server", needs=("openssl",), version=("version",), shows=""),
        configuration=f"openssl {' '.join(_S_SERVER)}",
        start=_tool("openssl", *_S_SERVER),
    ),
    RealServer(
        name="GnuTLS serv",
        stack=Stack(name="GnuTLS serv", needs=("gnutls-serv",), version=("--version",), shows=""),
        configuration=f"gnutls-serv {' '.join(_GNUTLS)}",
        start=_tool("gnutls-serv", *_GNUTLS),
    ),
)
