"""TLS through real tunnels: a CONNECT proxy behind HAProxy, which speaks TLS itself, and a channel of SSH."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import asyncssh
import pytest

import bowout
from bowout import Ending, EventKind, How, Stream
from bowout.testing import ENDINGS, Peer, TLSVersion
from helpers.meeting import SHORT, Met, Scene, told
from helpers.moves import MOVES, Way
from helpers.peers import require_module
from helpers.proxies import haproxy, proxy
from helpers.runners import BACKENDS, Backend, Runner
from helpers.served import LOOPBACK, Endings, echo, serve
from helpers.ssh import SSHServer, ssh_server
from helpers.tasks import jobs
from helpers.wire import PATIENCE, VERSIONS, Version, client_context, our_context

#: Endings of the catalogue, and what may be told of them through a tunnel that passes an end on, and no RST.
_THROUGH: Final[dict[str, frozenset[How]]] = {
    "close_notify_then_fin": frozenset({How.CLEAN}),
    "answers_close_notify": frozenset({How.CLEAN}),
    "fin_at_boundary": frozenset({How.TRUNCATED}),
    "fin_inside_record": frozenset({How.TRUNCATED}),
    "rst_before_close_notify": frozenset({How.TRUNCATED, How.RESET}),
    "silent_after_close_notify": frozenset({How.UNANSWERED}),
    "fin_answers_close_notify": frozenset({How.UNANSWERED}),
    "fatal_alert_before_close_notify": frozenset({How.ALERT}),
    "fatal_alert_after_close_notify": frozenset({How.ALERT}),
    "last_flight_unread": frozenset({How.CLEAN}),
    "tickets_after_close_notify": frozenset({How.CLEAN}),
}
CASES: Final = [
    pytest.param(name, tls, id=f"{name}-{tls}")
    for name in _THROUGH
    for tls, role, _ in ENDINGS[name].cases()
    if role == "server"
]
#: TLS 1.2 concerns the engine, which is the same on each loop.
ON_TWO_LOOPS: Final = [
    pytest.param(loop, *case.values, id=f"{case.id}-{loop}")
    for case in CASES
    for loop in ("asyncio", "trio")
    if loop == "asyncio" or "1.3" in case.values
]


@pytest.fixture
def run(loop: Backend) -> Runner:
    require_module(loop)
    return Runner(loop)


async def meet(peer: Peer, name: str, tls: TLSVersion, carrier: Any) -> Met:
    """Do what the entry says, over the carrier."""
    entry = told(ENDINGS[name], hold=False)
    with socket.socket() as no_socket:
        scene = Scene(peer, no_socket, entry, "server", carrier=carrier)
        return await MOVES[entry.you][Way.WHOLE](scene)


def details(ending: Ending, kind: EventKind) -> list[str]:
    return [event.detail for event in ending.events if event.kind is kind]


# -- TLS in TLS, through a proxy


async def tunnel(port: int, target: int) -> Stream:
    """Ask a proxy that speaks TLS for a connection."""
    outer = await bowout.connect("localhost", port, context=client_context(), close_timeout=PATIENCE)
    await outer.send(f"CONNECT {LOOPBACK}:{target} HTTP/1.1\r\nHost: {LOOPBACK}\r\n\r\n".encode())
    head = await outer.receive_until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    return outer


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("loop", BACKENDS)
def test_tls_in_tls_through_haproxy(run: Runner, version: Version, tmp_path: Path) -> None:
    """Both connections end clean: the one to the server, and the one to the proxy."""

    async def main(port: int, target: int) -> tuple[Ending | None, Ending | None]:
        outer = await tunnel(port, target)
        context = peer.client_context()
        async with bowout.wrap(outer, context, server_hostname="localhost", close_timeout=PATIENCE) as stream:
            assert (stream.peer, stream.socket) == (f"{LOOPBACK}:{port}", None)
            assert outer.tls_version == f"TLSv{version}"
            await stream.receive_exactly(len(ENDINGS["answers_close_notify"].sends))
        return outer.ending, stream.ending

    with Peer("answers_close_notify") as peer, proxy() as running, haproxy(running.port, tmp_path, version) as port:
        outer, inner = run(main, port, peer.port)
    for ending in (outer, inner):
        assert ending is not None
        assert (ending.how, ending.deadline_hit) == (How.CLEAN, False), ending.ladder()
    assert inner is not None
    # Within TLS 1.2 a FIN would be a close_notify that ends both directions.
    own = version == "1.3"
    assert details(inner, EventKind.FIN)[-1 if own else 0] == "" or not own
    assert ("no FIN of its own" in details(inner, EventKind.RELEASED)[0]) != own


@pytest.mark.parametrize(("loop", "name", "tls"), ON_TWO_LOOPS)
def test_endings_through_haproxy(run: Runner, name: str, tls: TLSVersion, tmp_path: Path) -> None:
    async def main(port: int, target: int) -> tuple[Met, Ending | None]:
        outer = await tunnel(port, target)
        return await meet(peer, name, tls, outer), outer.ending

    entry = told(ENDINGS[name], hold=False)
    with Peer(entry, tls=tls) as peer, proxy() as running, haproxy(running.port, tmp_path) as port:
        met, outer = run(main, port, peer.port)
    expect(name, tls, met)
    assert outer is not None, "the carrier was not closed"


def expect(name: str, tls: TLSVersion, met: Met) -> None:
    right = ENDINGS[name].expect(tls, "server")
    assert met.ending.how in _THROUGH[name], met.ending.ladder()
    assert How.CLEAN not in _THROUGH[name] or met.data == right.data
    assert met.data in {right.data, b""}


# -- a channel of SSH


async def over_ssh(server: SSHServer, use: Callable[[Any], Awaitable[Any]], target: int) -> Any:
    """Log in, and give a channel to the port."""
    known = asyncssh.import_known_hosts(server.known_hosts)
    async with asyncssh.connect(
        LOOPBACK, server.port, username=server.user, client_keys=[str(server.user_key)], known_hosts=known, config=None
    ) as connection:
        return await use(await connection.open_connection(LOOPBACK, target))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("version", VERSIONS)
def test_tls_through_ssh(run: Runner, version: Version, tmp_path: Path) -> None:
    question = bytes(range(256)) * 2000

    async def main(ssh: SSHServer, server: bowout.Server) -> Ending | None:
        async def ask(channel: Any) -> Stream:
            context = our_context(version, "client")
            async with bowout.wrap(channel, context, server_hostname="localhost", close_timeout=PATIENCE) as stream:
                assert stream.peer == f"{LOOPBACK}:{server.port}"
                async with jobs() as group:
                    group.start(stream.send, question)
                    assert await stream.receive_exactly(len(question)) == question
            return stream

        stream: Stream = await over_ssh(ssh, ask, server.port)
        return stream.ending

    async def both(ssh: SSHServer) -> tuple[Ending | None, Ending]:
        endings = Endings()
        async with serve(echo, version=version, on_ending=endings) as server:
            return await main(ssh, server), await endings.one

    with ssh_server(tmp_path) as ssh:
        ours, theirs = run(both, ssh)
    assert ours is not None
    for ending in (ours, theirs):
        assert (ending.how, ending.deadline_hit) == (How.CLEAN, False), ending.ladder()
        assert (ending.sent, ending.received) == (len(question), len(question))
    assert details(ours, EventKind.RELEASED) == ["the stream under TLS has no RST, no acknowledgements"]


@pytest.mark.parametrize(("name", "tls"), CASES)
@pytest.mark.parametrize("loop", ["asyncio"])
def test_endings_through_ssh(run: Runner, name: str, tls: TLSVersion, tmp_path: Path) -> None:
    async def main(ssh: SSHServer, target: int) -> Met:
        async def use(channel: Any) -> Met:
            return await meet(peer, name, tls, channel)

        met: Met = await over_ssh(ssh, use, target)
        return met

    entry = told(ENDINGS[name], hold=False)
    with Peer(entry, tls=tls) as peer, ssh_server(tmp_path) as ssh:
        met = run(main, ssh, peer.port)
    expect(name, tls, met)


@pytest.mark.parametrize("loop", ["asyncio"])
def test_a_channel_with_an_encoding_is_a_loss_that_says_so(run: Runner, tmp_path: Path) -> None:
    async def main(ssh: SSHServer, target: int) -> None:
        known = asyncssh.import_known_hosts(ssh.known_hosts)
        async with asyncssh.connect(
            LOOPBACK, ssh.port, username=ssh.user, client_keys=[str(ssh.user_key)], known_hosts=known, config=None
        ) as connection:
            channel = await connection.open_connection(LOOPBACK, target, encoding="latin-1")
            stream = bowout.wrap(channel, peer.client_context(), server_hostname="localhost")
            with pytest.raises(bowout.HandshakeError, match="the connection was lost"):
                await stream.handshake()

    with Peer("answers_close_notify") as peer, ssh_server(tmp_path) as ssh:
        run(main, ssh, peer.port)


@pytest.mark.parametrize("loop", ["asyncio"])
def test_an_ssh_connection_that_is_lost(run: Runner, tmp_path: Path) -> None:
    async def main(ssh: SSHServer, target: int) -> Ending:
        async def use(channel: Any) -> Ending:
            stream = bowout.wrap(channel, peer.client_context(), server_hostname="localhost")
            await stream.receive_exactly(len(ENDINGS["idle_until_closed"].sends))
            channel[1].channel.get_connection().abort()
            with pytest.raises((bowout.Truncated, bowout.Reset)):
                await stream.receive()
            return await stream.close(SHORT)

        ending: Ending = await over_ssh(ssh, use, target)
        return ending

    with Peer("idle_until_closed") as peer, ssh_server(tmp_path) as ssh:
        assert run(main, ssh, peer.port).how in {How.TRUNCATED, How.RESET}
