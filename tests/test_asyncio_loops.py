"""The loops of `bowout.asyncio`, and `install`: every TLS connection is ours, whoever makes it."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bowout
import bowout.asyncio
from bowout import How
from bowout.asyncio import Policy, TLSLoopMixin, TLSTransport, install, loop_factory, uninstall
from bowout.testing import Act, Peer, client_context, default_ca, server_context
from helpers.asyncio_apps import RecordingApp, ending_of
from helpers.peers import require_module


def base_of(loop: str) -> type[asyncio.AbstractEventLoop]:
    if loop == "uvloop":
        require_module("uvloop")
        import uvloop  # noqa: PLC0415  (an optional extra)

        return uvloop.Loop
    return asyncio.SelectorEventLoop


@pytest.fixture(params=["asyncio", "uvloop"])
def base(request: pytest.FixtureRequest) -> type[asyncio.AbstractEventLoop]:
    return base_of(request.param)


def answer(act: Act) -> None:
    act.handshake()
    act.send(b"answer")
    act.fin()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    writer.close()
    await writer.wait_closed()


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return client_context(default_ca()), server_context(default_ca())


class TestLoops:
    def test_every_way_to_connect(self, base: Any, tmp_path: Path) -> None:
        endings: list[bowout.Ending] = []

        async def main() -> None:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, TLSLoopMixin)
            assert isinstance(loop, base)
            client, server = contexts()

            async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await writer.start_tls(server)
                await echo(reader, writer)

            path = str(tmp_path / "socket")
            listeners = [
                await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server),
                await asyncio.start_unix_server(echo, path, ssl=server),
                await asyncio.start_server(upgrade, "127.0.0.1", 0),
            ]
            address = listeners[0].sockets[0].getsockname()
            pairs = [
                await asyncio.open_connection(*address, ssl=client, server_hostname="localhost"),
                await asyncio.open_unix_connection(path, ssl=client, server_hostname="localhost"),
            ]
            upgraded = await asyncio.open_connection(*listeners[2].sockets[0].getsockname())
            reader, writer = upgraded
            transport = await loop.start_tls(
                writer.transport, writer.transport.get_protocol(), client, server_hostname="localhost"
            )
            transport.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            transport.close()
            listeners[2].close()
            for reader, writer in pairs:
                assert isinstance(writer.transport, TLSTransport)
                writer.write(b"hello\n")
                assert await reader.read() == b"hello\n"
                writer.close()
                await writer.wait_closed()
            for listener in listeners[:2]:
                await bowout.asyncio.drain(listener)
            upgraded[1].close()

        bowout.asyncio.run(main(), base=base, policy=Policy(on_ending=endings.append, tolerant_hosts={"x"}))
        assert [ending.how for ending in endings] == [How.CLEAN] * 6

    def test_an_accepted_socket(self, base: Any) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            client, server = contexts()
            ours, theirs = socket.socketpair()
            app, other = RecordingApp(), RecordingApp()
            await asyncio.gather(
                loop.connect_accepted_socket(lambda: app, ours, ssl=server),
                loop.create_connection(lambda: other, sock=theirs, ssl=client, server_hostname="localhost"),
            )
            app.transport.write(b"hello")
            app.transport.close()
            await other.ended.wait()
            other.transport.close()
            assert await app.lost is None
            assert await other.lost is None
            assert bytes(other.data) == b"hello"
            assert ending_of(other.transport).how is How.CLEAN

        bowout.asyncio.run(main(), base=base)

    def test_a_truncation_is_told(self, base: Any) -> None:
        async def main(peer: Peer) -> bytes:
            reader, writer = await asyncio.open_connection(
                peer.host, peer.port, ssl=peer.client_context(), server_hostname="localhost"
            )
            try:
                return await reader.read()
            finally:
                writer.close()

        with Peer(answer) as peer, pytest.raises(bowout.Truncated):
            bowout.asyncio.run(main(peer), base=base)
        with Peer(answer) as peer:
            assert bowout.asyncio.run(main(peer), base=base, policy=Policy(truncation="tolerate")) == b"answer"

    def test_what_has_no_tls_is_the_loops_own(self, base: Any) -> None:
        async def main() -> None:
            listener = await asyncio.start_server(echo, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
            assert not isinstance(writer.transport, TLSTransport)
            writer.write(b"hello\n")
            assert await reader.read() == b"hello\n"
            writer.close()
            listener.close()
            with pytest.raises(ValueError, match="server_hostname"):
                await asyncio.open_connection("127.0.0.1", 1, server_hostname="localhost")

        bowout.asyncio.run(main(), base=base)

    def test_the_default_context(self, base: Any) -> None:
        async def main(peer: Peer) -> None:
            with pytest.raises(bowout.CertificateError):
                await asyncio.open_connection(peer.host, peer.port, ssl=True, server_hostname="localhost")

        with Peer(answer) as peer:
            bowout.asyncio.run(main(peer), base=base)

    @pytest.mark.parametrize("wrong", [asyncio.AbstractEventLoop.__new__, "uvloop", dict])
    def test_what_is_no_loop(self, wrong: Any) -> None:
        with pytest.raises(TypeError, match="base must be a class of event loops"):
            loop_factory(wrong)

    def test_a_loop_of_ours_is_no_base(self) -> None:
        class LoopOfOurs(TLSLoopMixin, asyncio.SelectorEventLoop):
            pass

        with pytest.raises(TypeError, match="the class that it extends"):
            loop_factory(LoopOfOurs)

    def test_the_class_is_made_once(self) -> None:
        made = [loop_factory()(), loop_factory()()]
        for loop in made:
            loop.close()
        assert type(made[0]) is type(made[1])


class TestInstall:
    @pytest.fixture(autouse=True)
    def put_back(self) -> Iterator[None]:
        before = asyncio.sslproto.SSLProtocol
        yield
        uninstall()
        assert asyncio.sslproto.SSLProtocol is before

    def test_code_that_knows_nothing_of_it(self) -> None:
        async def main(peer: Peer) -> None:
            reader, writer = await asyncio.open_connection(
                peer.host, peer.port, ssl=peer.client_context(), server_hostname="localhost"
            )
            assert isinstance(writer.transport, TLSTransport)
            with pytest.raises(bowout.Truncated):
                await reader.read()
            writer.close()

        with Peer(answer) as peer:
            install()
            asyncio.run(main(peer))
        uninstall()
        uninstall()

    def test_a_policy(self) -> None:
        endings: list[bowout.Ending] = []

        async def main(peer: Peer) -> bytes:
            reader, writer = await asyncio.open_connection(
                peer.host, peer.port, ssl=peer.client_context(), server_hostname="localhost"
            )
            data = await reader.read()
            writer.close()
            await writer.wait_closed()
            return data

        with Peer(answer) as peer:
            install(policy=Policy(truncation="tolerate", on_ending=endings.append))
            assert asyncio.run(main(peer)) == b"answer"
        assert [ending.how for ending in endings] == [How.TRUNCATED]

    def test_twice(self) -> None:
        install()
        with pytest.raises(bowout.MisuseError, match="uninstall"):
            install()

    def test_under_uvloop(self) -> None:
        async def main() -> None:
            with pytest.raises(bowout.MisuseError, match=r"loop_factory\(uvloop\.Loop\)"):
                install()

        with asyncio.Runner(loop_factory=base_of("uvloop")) as runner:
            runner.run(main())


class TestPolicy:
    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ({"truncation": "hide"}, ValueError),
            ({"tolerant_hosts": "old.example"}, TypeError),
            ({"tolerant_hosts": [1]}, TypeError),
            ({"close_timeout": -1}, ValueError),
            ({"linger_bytes": -1}, ValueError),
            ({"on_ending": 7}, TypeError),
        ],
    )
    def test_wrong_values(self, arguments: Any, error: Any) -> None:
        with pytest.raises(error):
            Policy(**arguments)

    def test_names_that_are_not_ascii(self) -> None:
        policy = Policy(tolerant_hosts=["Bücher.example"])
        assert policy.truncation_for("xn--bcher-kva.example") == "tolerate"
        assert policy.truncation_for("bucher.example") == "raise"
        assert policy.truncation_for(None) == "raise"


def test_a_loop_without_what_is_needed() -> None:
    class PoorLoop(asyncio.SelectorEventLoop):
        create_server = asyncio.AbstractEventLoop.create_server

    async def main() -> None:
        with pytest.raises(bowout.MisuseError, match=r"PoorLoop has no create_server\(\)"):
            await bowout.asyncio.start_server(echo, "127.0.0.1", 0, ssl=contexts()[1])

    with asyncio.Runner(loop_factory=PoorLoop) as runner:
        runner.run(main())


def test_a_loop_that_is_closed_with_an_open_connection() -> None:
    """Whoever forgets a transport is warned by its name, and the descriptor is gone."""
    with Peer(answer) as peer:

        async def main() -> Any:
            app = RecordingApp()
            app.transport, _ = await asyncio.get_running_loop().create_connection(
                lambda: app, peer.host, peer.port, ssl=peer.client_context(), server_hostname="localhost"
            )
            app.transport.pause_reading()
            return app

        import gc  # noqa: PLC0415

        with pytest.warns(ResourceWarning) as caught:  # noqa: PT031
            bowout.asyncio.run(main())
            gc.collect()
    assert any("unclosed transport <bowout.asyncio.TLSTransport client" in str(one.message) for one in caught)
