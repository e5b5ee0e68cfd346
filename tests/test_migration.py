"""The migration tables: each name exists, in the library that the reader comes from and in bowout."""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextlib
import importlib
import inspect
import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import anyio
import anyio.abc
import anyio.streams.tls
import pytest
import trio
import trio.testing

import bowout
import bowout.anyio
import bowout.asyncio
import bowout.blocking
import bowout.trio
from bowout.testing import ENDINGS, Peer
from helpers.commands import bowout as command
from helpers.commands import environment
from helpers.documents import DOCS
from helpers.peers import require_program
from helpers.wire import PATIENCE

PAGE: Final = "migration/index.md"
_CODE: Final = re.compile(r"`([^`]+)`")
_OPTION: Final = re.compile(r"(?<![\w-])--?[A-Za-z4-6][\w-]*")
#: Values of the application, and the modules that the tables import.
_VALUES: Final = frozenset(
    {"host", "port", "context", "handler", "data", "n", "transport", "protocol", "listener", "server", "chunk", "line"}
)
_MODULES: Final = frozenset({"asyncio", "trio", "anyio", "bowout", "ssl", "socket", "urllib", "smtplib", "ftplib"})


@dataclass(frozen=True)
class Dialect:
    """What the names of a column stand for, and the functions whose arguments stand there alone."""

    names: dict[str, Any] = field(default_factory=dict)
    functions: tuple[Callable[..., Any], ...] = ()

    def anywhere(self, attribute: str) -> bool:
        return any(hasattr(value, attribute) for value in self.names.values())


OURS: Final = Dialect(
    {"stream": bowout.Stream, "ending": bowout.Ending, "context": ssl.SSLContext}, (bowout.connect, bowout.serve)
)
_ASYNCIO: Final = Dialect(
    {"reader": asyncio.StreamReader, "writer": asyncio.StreamWriter, "loop": asyncio.BaseEventLoop,
     "their transport": asyncio.Transport},
    (asyncio.BaseEventLoop.create_connection,),
)  # fmt: skip
#: Left and right of each section.
DIALECTS: Final = {
    "asyncio streams": (
        _ASYNCIO,
        Dialect(
            {**OURS.names, "reader": bowout.asyncio.TLSStreamReader, "writer": bowout.asyncio.TLSStreamWriter,
             "sock": socket.socket},
            OURS.functions,
        ),
    ),
    "trio": (
        Dialect({"stream": trio.SSLStream}, (trio.SSLStream,)),
        Dialect({**OURS.names, "trio's stream": bowout.trio.SSLStream}, (*OURS.functions, bowout.trio.SSLStream)),
    ),
    "anyio": (
        Dialect(
            {"stream": anyio.streams.tls.TLSStream, "TLSStream": anyio.streams.tls.TLSStream,
             "TLSListener": anyio.streams.tls.TLSListener, "TLSAttribute": anyio.streams.tls.TLSAttribute},
            (anyio.streams.tls.TLSStream.wrap, anyio.connect_tcp),
        ),
        Dialect({"stream": bowout.anyio.TLSStream, "their stream": bowout.Stream}, OURS.functions),
    ),
    "`ssl.SSLSocket`": (
        Dialect({"sock": ssl.SSLSocket, "context": ssl.SSLContext}, (ssl.SSLContext.wrap_socket,)),
        Dialect(
            {"stream": bowout.blocking.SyncStream, "sock": bowout.blocking.TLSSocket, "context": ssl.SSLContext},
            (bowout.blocking.connect,),
        ),
    ),
    "Boost.Asio": (Dialect(), OURS),
}  # fmt: skip


def rows(section: str) -> list[list[str]]:
    """The cells of each row of a section; `\\|` is none of them."""
    text = (DOCS / PAGE).read_text(encoding="utf-8")
    (body,) = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    lines = [line for line in body.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert all(len(row) == 3 or line.endswith("| |") for row, line in zip(cells, lines, strict=True)), cells
    return [row for row in cells if not row[0].startswith("you ")]


# -- names in Python -----------------------------------------------------------------------------------------------


def parsed(code: str) -> ast.AST:
    """A code span as Python: an expression, statements, or the head of a block."""
    for text in (code, f"{code.removesuffix(':')}: pass"):
        try:
            return ast.parse(f"async def span():\n {text}")
        except SyntaxError:
            continue
    raise AssertionError(f"not Python: {code}")


def faults(code: str, dialect: Dialect) -> list[str]:
    """What is unknown in a code span."""
    return [fault for node in ast.walk(parsed(code)) for fault in _faults_of(node, dialect)]


def _faults_of(node: ast.AST, dialect: Dialect) -> Iterator[str]:
    if isinstance(node, ast.Attribute) and not _exists(node, dialect):
        yield ast.unparse(node)
    elif isinstance(node, ast.Call):
        function = _resolved(node.func, dialect)
        for keyword in node.keywords:
            if keyword.arg not in keywords_of(function):
                yield f"{ast.unparse(node.func)}({keyword.arg}=)"
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        if not any(node.targets[0].id in keywords_of(function) for function in dialect.functions):
            yield f"{node.targets[0].id}="
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Name):  # the whole span
        name = node.value.id
        if not (
            dialect.anywhere(name) or name in dialect.names or name in _VALUES | _MODULES or hasattr(builtins, name)
        ):
            yield name


def _exists(node: ast.Attribute, dialect: Dialect) -> bool:
    owner = _resolved(node.value, dialect)
    if isinstance(owner, ModuleType | type):
        return _member(owner, node.attr) is not None or dialect.anywhere(node.attr)
    return dialect.anywhere(node.attr) or isinstance(node.value, ast.Constant)


def _resolved(node: ast.AST, dialect: Dialect) -> Any:
    """What an expression stands for, or None."""
    if isinstance(node, ast.Name):
        if node.id in dialect.names:
            return dialect.names[node.id]
        return importlib.import_module(node.id) if node.id in _MODULES else None
    if isinstance(node, ast.Attribute):
        owner = _resolved(node.value, dialect)
        if isinstance(owner, ModuleType | type):
            return _member(owner, node.attr)
        return next((value for cls in dialect.names.values() if (value := getattr(cls, node.attr, None))), None)
    return None


def _member(owner: Any, name: str) -> Any:
    if isinstance(owner, ModuleType) and not hasattr(owner, name):
        try:
            return importlib.import_module(f"{owner.__name__}.{name}")
        except ModuleNotFoundError:
            return None
    return getattr(owner, name, None)


def keywords_of(function: Any) -> set[str]:
    """The names of its arguments, and those that it passes on."""
    if function is None:
        return set()
    names = set()
    for name, parameter in inspect.signature(function).parameters.items():
        names |= set(_passed_on(function)) if parameter.kind is parameter.VAR_KEYWORD else {name}
    return names


def _passed_on(function: Any) -> Iterable[str]:
    if function.__module__.partition(".")[0] == "asyncio" or function.__module__.startswith("bowout.asyncio"):
        return keywords_of(asyncio.BaseEventLoop.create_connection)
    module = importlib.import_module(".".join(function.__module__.split(".")[:2]))
    return tuple(inspect.get_annotations(module.StreamKeywords))


@pytest.mark.parametrize("section", DIALECTS)
def test_each_name_exists(section: str) -> None:
    left, right = DIALECTS[section]
    found: dict[str, list[str]] = {}
    for row in rows(section):
        for cell, dialect in zip(row, (left, right, Dialect(left.names | right.names, right.functions)), strict=False):
            if dialect.names:
                found |= {code: wrong for code in _CODE.findall(cell) if (wrong := faults(code, dialect))}
    assert found == {}


@pytest.mark.parametrize(
    "code",
    [
        "stream.no_verb()",
        "bowout.no_function(host)",
        "bowout.connect(host, port, ssl=context)",
        "ssl_timeout=5",
        "wait_close",
    ],
)
def test_a_wrong_name_is_found(code: str) -> None:
    assert faults(code, OURS)


def test_boosts_names_exist() -> None:
    headers = Path(require_program("asio.hpp")).parent / "asio"
    texts = [path.read_text(errors="replace") for path in headers.rglob("*.hpp")]
    known = set(re.findall(r"\w+", "\n".join(texts)))
    named = {name for row in rows("Boost.Asio") for code in _CODE.findall(row[0]) for name in re.findall(r"\w+", code)}
    assert len(named) > 10
    assert named - known == set()


# -- options of the command lines ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("theirs", "ours"), [("s_client", "connect"), ("s_server", "serve")])
def test_each_option_exists(theirs: str, ours: str) -> None:
    done = subprocess.run(
        [require_program("openssl"), theirs, "-help"], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    known = {
        "left": set(_OPTION.findall(done.stderr + done.stdout)),
        "right": set(_OPTION.findall(command(ours, "--help").out.decode())),
    }
    named: dict[str, set[str]] = {"left": set(), "right": set()}
    for row in rows(f"`openssl {theirs}`"):
        for column, cell in zip(("left", "right", "right"), row, strict=False):
            named[column] |= {option for code in _CODE.findall(cell) for option in _OPTION.findall(code)}
    assert {column: named[column] - known[column] for column in known} == {"left": set(), "right": set()}
    assert len(named["left"]) > 10
    assert len(named["right"]) > 8


# -- what the tables say of the other libraries --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("open_connection", "error"),
    [(asyncio.open_connection, None), (bowout.asyncio.open_connection, bowout.Truncated)],
    ids=["asyncio", "bowout"],
)
def test_streams_of_asyncio_at_a_bare_fin(open_connection: Callable[..., Any], error: type[Exception] | None) -> None:
    async def main(peer: Peer) -> bytes:
        reader, writer = await open_connection(peer.host, peer.port, ssl=peer.client_context())
        try:
            return b"".join([chunk async for chunk in reader])
        finally:
            writer.close()
            with contextlib.suppress(bowout.Truncated):
                await writer.wait_closed()

    with Peer("fin_at_boundary") as peer, pytest.raises(error) if error else contextlib.nullcontext():
        assert asyncio.run(main(peer)) == ENDINGS["fin_at_boundary"].sends


def test_asyncio_has_no_half_close() -> None:
    async def main(peer: Peer) -> None:
        _, writer = await asyncio.open_connection(peer.host, peer.port, ssl=peer.client_context())
        with pytest.raises(NotImplementedError):
            writer.write_eof()
        writer.transport.abort()

    with Peer("answers_close_notify") as peer:
        asyncio.run(main(peer))


async def with_trio(peer: Peer) -> trio.abc.AsyncResource:
    stream = await trio.open_ssl_over_tcp_stream(peer.host, peer.port, ssl_context=peer.client_context())
    await stream.do_handshake()
    return stream


async def with_bowout_trio(peer: Peer) -> trio.abc.AsyncResource:
    return await bowout.trio.open_ssl_over_tcp_stream(peer.host, peer.port, ssl_context=peer.client_context())


async def with_anyio(peer: Peer) -> anyio.streams.tls.TLSStream:
    return await anyio.connect_tcp(peer.host, peer.port, tls=True, ssl_context=peer.client_context())


async def with_bowout_anyio(peer: Peer) -> bowout.anyio.TLSStream:
    return await bowout.anyio.connect_tcp(peer.host, peer.port, ssl_context=peer.client_context())


@pytest.mark.parametrize(
    ("connect", "sent"), [(with_trio, 0), (with_bowout_trio, 1), (with_anyio, 0), (with_bowout_anyio, 1)]
)
def test_a_close_in_a_cancelled_scope(connect: Callable[[Peer], Any], sent: int) -> None:
    async def main(peer: Peer) -> None:
        stream = await connect(peer)
        with trio.CancelScope() as scope:
            scope.cancel()
            await stream.aclose()

    with Peer("answers_close_notify") as peer:
        trio.run(main, peer)
        assert peer.wait().close_notify == sent


@pytest.mark.parametrize(
    ("connect", "entry", "error"),
    [  # a peer that answers at once ends the receiver before anyio asks for the answer: BusyResourceError, as a rule
        (with_anyio, "silent_after_close_notify", anyio.BusyResourceError),
        (with_bowout_anyio, "idle_until_closed", None),
    ],
)
def test_a_close_while_another_task_receives(
    connect: Callable[[Peer], Any], entry: str, error: type[Exception] | None
) -> None:
    # With anyio, the reader that the close has spoiled may get an error of OpenSSL's instead.
    ended = anyio.ClosedResourceError if error is None else (anyio.ClosedResourceError, ssl.SSLError)

    async def receive(stream: anyio.abc.ByteStream) -> None:
        with pytest.raises(ended):
            await stream.receive()

    async def main(peer: Peer) -> None:
        stream = await connect(peer)
        assert await stream.receive() == ENDINGS[entry].sends
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive, stream)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(error) if error else contextlib.nullcontext():
                await stream.aclose()

    with Peer(entry, tls="1.2") as peer:  # no ticket wakes the receiver
        trio.run(main, peer)


@pytest.mark.parametrize(
    ("prepare", "error", "sent"),
    [(lambda context: context, None, 0), (bowout.blocking.prepare_context, ssl.SSLEOFError, 1)],
    ids=["ssl", "bowout"],
)
def test_a_socket_at_a_bare_fin(
    prepare: Callable[[ssl.SSLContext], ssl.SSLContext], error: type[Exception] | None, sent: int
) -> None:
    with Peer("fin_at_boundary") as peer:
        context = prepare(peer.client_context())
        plain = socket.create_connection(peer.address, PATIENCE)
        sock = context.wrap_socket(plain, server_hostname="localhost")
        assert sock.recv(100) == ENDINGS["fin_at_boundary"].sends
        with pytest.raises(error) if error else contextlib.nullcontext():
            assert sock.recv(100) == b""
        sock.close()
        assert peer.wait().close_notify == sent


def test_the_environment_names_a_file_for_the_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    with Peer("close_notify_then_fin") as peer:
        done = command(
            "connect", f"localhost:{peer.port}", "--cafile", str(peer.ca_file), env=environment(SSLKEYLOGFILE=str(keys))
        )
    assert done.status == 0
    assert "CLIENT_TRAFFIC_SECRET_0" in keys.read_text()
