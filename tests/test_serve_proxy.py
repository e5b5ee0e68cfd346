"""`serve` behind a proxy that says for whom it connects, by the PROXY protocol; HAProxy is a real one."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import bowout
from bowout import Ending, Event, How, MisuseError, Stream
from helpers.commands import connect as command
from helpers.peers import require_program
from helpers.runners import Runner
from helpers.served import LOOPBACK, Endings, asks, connect, echo, serve, tcp
from helpers.serving import serving
from helpers.tasks import in_thread, jobs, settle
from helpers.wire import VERSIONS, Version, client_context, our_context, server_context

V1: Final = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"
V2: Final = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\x12\x67\x01\xbb"
LOCAL: Final = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
CLIENT: Final = "192.0.2.7:4711"


def name_of(sock: socket.socket) -> str:
    """What the server calls this end of a connection."""
    host, port = sock.getsockname()
    return f"{host}:{port}"


async def tells_peer(stream: Stream) -> None:
    await stream.send(stream.peer.encode())


async def told_over(sock: socket.socket, version: Version = "1.3") -> str:
    """What `tells_peer` says to a client over `sock`."""
    async with bowout.connect("localhost", 1, context=our_context(version, "client"), over=sock) as stream:
        return b"".join([chunk async for chunk in stream]).decode()


class TestHeader:
    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("header", [V1, V2], ids=["1", "2"])
    def test_the_client_that_it_names_is_the_peer(self, run: Runner, header: bytes, version: Version) -> None:
        async def main() -> tuple[str, Ending, set[str]]:
            def on_event(peer: str, event: Event) -> None:
                seen.append(peer)

            endings, seen = Endings(), list[str]()
            async with serve(
                tells_peer, proxy_protocol=True, version=version, on_ending=endings, on_event=on_event
            ) as server:
                sock = tcp(server.port)
                sock.sendall(header)
                told = await told_over(sock, version)
                return told, await endings.one, set(seen[1:])

        told, ending, seen = run(main)
        assert (told, ending.peer, seen) == (CLIENT, CLIENT, {CLIENT})
        assert ending.how is How.CLEAN
        assert ending.events[0].detail.startswith(LOOPBACK)

    @pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"], ids=["local", "unknown"])
    def test_a_proxy_that_speaks_for_itself_is_the_peer(self, run: Runner, header: bytes) -> None:
        async def main() -> tuple[str, str]:
            async with serve(tells_peer, proxy_protocol=True) as server:
                sock = tcp(server.port)
                sock.sendall(header)
                ours = name_of(sock)
                return await told_over(sock), ours

        told, ours = run(main)
        assert told == ours

    def test_in_pieces_and_with_the_handshake_behind_it(self, run: Runner) -> None:
        async def main() -> str:
            def script(sock: socket.socket) -> None:
                for byte in V2:
                    sock.sendall(bytes((byte,)))
                for chunk in iter(lambda: theirs.recv(1 << 14), b""):
                    sock.sendall(chunk)

            ours, theirs = socket.socketpair()
            async with serve(tells_peer, proxy_protocol=True) as server, jobs() as group:
                with contextlib.closing(theirs), contextlib.closing(tcp(server.port)) as there:

                    def back() -> None:
                        for chunk in iter(lambda: there.recv(1 << 14), b""):
                            theirs.sendall(chunk)
                        theirs.shutdown(socket.SHUT_WR)

                    forth = group.start(in_thread, lambda: script(there))
                    group.start(in_thread, back)
                    told = await told_over(ours)
                    await forth.result()
                    there.shutdown(socket.SHUT_WR)
            return told

        assert run(main) == CLIENT

    def test_over_a_unix_socket(self, run: Runner, tmp_path: Path) -> None:
        async def main() -> tuple[str, str]:
            async with serve(tells_peer, path=tmp_path / "socket", proxy_protocol=True):
                sockets = [socket.socket(socket.AF_UNIX) for _ in range(2)]
                for sock, header in zip(sockets, [V1, LOCAL], strict=True):
                    sock.connect(str(tmp_path / "socket"))
                    sock.sendall(header)
                return await told_over(sockets[0]), await told_over(sockets[1])

        assert run(main) == (CLIENT, "unix#2")


class TestWithoutOne:
    def refused(self, run: Runner, data: bytes, caplog: pytest.LogCaptureFixture) -> Ending:
        async def main() -> Ending:
            endings = Endings()
            async with serve(tells_peer, proxy_protocol=True, on_ending=endings) as server:
                with contextlib.closing(tcp(server.port)) as sock:
                    sock.sendall(data)
                    sock.shutdown(socket.SHUT_WR)
                    with contextlib.suppress(ConnectionError):
                        assert await in_thread(lambda: sock.recv(1)) == b""
                    ending = await endings.one
                    assert ending.peer == name_of(sock)
                    return ending

        with caplog.at_level(logging.INFO, "bowout.server"):
            ending = run(main)
        [record] = caplog.records
        assert record.levelname == "INFO"
        assert ending.reason in record.getMessage()
        assert ending.how is How.FAILED_HANDSHAKE
        return ending

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "the peer left before its PROXY header came"),
            (V1[:20], "the peer left before its PROXY header came"),
            (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03abcdef", "began with TLS"),
            (b"GET / HTTP/1.1\r\n\r\n", "began with 'GET"),
            (b"\n2000-01-01 ERROR forged\x1b[2J", r"began with '\n2000"),
            (b"PROXY TCP4 192.0.2.7\r\n", "its line says"),
            (V2[:12] + b"\x22" + V2[13:], "0x22"),
        ],
        ids=["nothing", "half", "TLS", "HTTP", "a forgery", "version 1", "version 2"],
    )
    def test_it_is_refused_and_told(
        self, run: Runner, data: bytes, reason: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert reason in self.refused(run, data, caplog).reason

    def test_a_client_meets_no_answer(self, run: Runner) -> None:
        async def main() -> None:
            async with serve(echo, proxy_protocol=True) as server:
                with pytest.raises((bowout.HandshakeTruncated, bowout.HandshakeReset)):
                    await connect(server)

        run(main)

    def test_a_header_that_nobody_asked_for_is_no_tls(self, run: Runner) -> None:
        async def main() -> str:
            endings = Endings()
            async with serve(echo, on_ending=endings) as server:
                with contextlib.closing(tcp(server.port)) as sock:
                    sock.sendall(V1)
                    return (await endings.one).reason

        assert "does not speak TLS" in run(main)

    @pytest.mark.parametrize("data", [b"", V1[:20]], ids=["nothing", "half"])
    def test_it_has_the_time_of_the_handshake(self, run: Runner, data: bytes) -> None:
        async def main() -> Ending:
            endings = Endings()
            async with serve(echo, proxy_protocol=True, handshake_timeout=0.05, on_ending=endings) as server:
                with contextlib.closing(tcp(server.port)) as sock:
                    sock.sendall(data)
                    return await endings.one

        ending = run(main)
        assert (ending.how, ending.reason) == (How.FAILED_HANDSHAKE, "its PROXY header did not come")

    def test_a_reset_is_told(self, run: Runner) -> None:
        async def main() -> Ending:
            endings = Endings()
            async with serve(echo, proxy_protocol=True, on_ending=endings) as server:
                sock = tcp(server.port)
                sock.sendall(V1[:20])
                while not server.counters()["handshaking"]:
                    await settle()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                sock.close()
                return await endings.one

        ending = run(main)
        assert (ending.how, ending.reason) == (How.FAILED_HANDSHAKE, "the peer left before its PROXY header came")

    def test_who_waits_with_it_makes_room_for_others(self, run: Runner) -> None:
        async def main() -> tuple[str, int]:
            async with serve(tells_peer, proxy_protocol=True, max_handshakes=1) as server:
                with contextlib.closing(tcp(server.port)):
                    while not server.counters()["handshaking"]:
                        await settle()
                    sock = tcp(server.port)
                    sock.sendall(V1)
                    return await told_over(sock), server.counters()["evicted"]

        assert run(main) == (CLIENT, 1)

    def test_a_drain_cuts_it_off(self, run: Runner) -> None:
        async def main() -> list[How]:
            async with serve(tells_peer, proxy_protocol=True) as server:
                with contextlib.closing(tcp(server.port)):
                    while not server.counters()["handshaking"]:
                        await settle()
                    return [ending.how for ending in (await server.drain(0)).slow]

        assert run(main) == [How.FAILED_HANDSHAKE]


class TestTrust:
    """A function says who is a proxy: what comes is never looked at for it."""

    def test_from_a_proxy_a_header_is_demanded(self, run: Runner) -> None:
        async def main() -> tuple[str, list[str]]:
            def trusted(address: str) -> bool:
                asked.append(address)
                return address == LOOPBACK

            asked: list[str] = []
            async with serve(tells_peer, proxy_protocol=trusted) as server:
                sock = tcp(server.port)
                sock.sendall(V1)
                return await told_over(sock), asked

        assert run(main) == (CLIENT, [LOOPBACK])

    def test_from_anybody_else_none_is_taken(self, run: Runner) -> None:
        async def main() -> tuple[bytes, str]:
            endings = Endings()
            async with serve(echo, proxy_protocol=lambda address: False, on_ending=endings) as server:
                answer = await asks(server)
                with contextlib.closing(tcp(server.port)) as sock:
                    sock.sendall(V1)
                    return answer, (await endings.wait(2))[1].reason

        answer, reason = run(main)
        assert answer == b"ping"
        assert "does not speak TLS" in reason

    def test_over_a_unix_socket_it_is_asked_for_nobody(self, run: Runner, tmp_path: Path) -> None:
        async def main() -> list[str]:
            def trusted(address: str) -> bool:
                asked.append(address)
                return False

            asked: list[str] = []
            async with serve(tells_peer, path=tmp_path / "socket", proxy_protocol=trusted):
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(str(tmp_path / "socket"))
                await told_over(sock)
            return asked

        assert run(main) == [""]

    def test_where_it_fails_nobody_is_let_in(self, run: Runner, caplog: pytest.LogCaptureFixture) -> None:
        """Neither can be guessed: that a proxy speaks, or that none does."""

        async def main() -> Ending:
            def trusted(address: str) -> bool:
                raise LookupError

            endings = Endings()
            async with serve(echo, proxy_protocol=trusted, on_ending=endings) as server:
                with pytest.raises((bowout.HandshakeTruncated, bowout.HandshakeReset)):
                    await connect(server)
                return await endings.one

        ending = run(main)
        assert ending.how is How.FAILED_HANDSHAKE
        assert ending.reason.startswith("proxy_protocol failed")
        [record] = caplog.records
        assert (record.levelname, record.getMessage().endswith(": proxy_protocol failed")) == ("ERROR", True)


_HAPROXY: Final = """
defaults
  mode tcp
  timeout connect 5s
  timeout client 20s
  timeout server 20s
listen proxied
  bind fd@{listener}
  server there 127.0.0.1:{port} {options}
"""


@contextlib.contextmanager
def haproxy(directory: Path, port: int, options: str) -> Iterator[int]:
    """Run HAProxy in front of `port`; give the port on which it listens, on a socket that is ours."""
    program, config = require_program("haproxy"), directory / "haproxy.cfg"
    with socket.create_server((LOOPBACK, 0)) as listener:
        number = listener.fileno()
        config.write_text(_HAPROXY.format(listener=number, port=port, options=options))
        process = subprocess.Popen([program, "-db", "-f", config], stderr=subprocess.DEVNULL, pass_fds=[number])
        try:
            yield listener.getsockname()[1]
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    "options",
    [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options crc32c,unique-id",
        "send-proxy-v2-ssl-cn proxy-v2-options ssl,cert-cn,crc32c",
    ],
)
def test_behind_haproxy_the_peer_is_its_client(run: Runner, tmp_path: Path, options: str) -> None:
    async def main() -> tuple[str, str]:
        async with serve(tells_peer, proxy_protocol=True) as server:
            with haproxy(tmp_path, server.port, options) as port:
                sock = tcp(port)
                ours = name_of(sock)
                return await told_over(sock), ours

    told, ours = run(main)
    assert told == ours


def test_health_checks_of_haproxy_are_answered(run: Runner, tmp_path: Path) -> None:
    """A check through TLS comes with a LOCAL header, for the proxy itself."""

    async def main() -> Ending:
        endings = Endings()
        async with serve(echo, proxy_protocol=True, on_ending=endings) as server:
            options = "check inter 100ms check-ssl verify none check-send-proxy send-proxy-v2"
            with haproxy(tmp_path, server.port, options):
                return await endings.one

    assert run(main).tls_version is not None


def test_behind_haproxy_without_the_option_nobody_gets_in(run: Runner, tmp_path: Path) -> None:
    async def main() -> None:
        async with serve(tells_peer) as server:
            with haproxy(tmp_path, server.port, "send-proxy-v2") as port:
                sock = tcp(port)
                with pytest.raises((bowout.HandshakeTruncated, bowout.HandshakeReset)):
                    await told_over(sock)

    run(main)


def test_the_command_line_has_it(tmp_path: Path) -> None:
    with serving("--proxy-protocol", "--naccept", "2") as server, haproxy(tmp_path, server.port, "send-proxy") as port:
        tcp(port).close()
        client = command(f"{LOOPBACK}:{port}", stdin=b"it is me")
        done = server.finish()
    assert (client.status, client.out, done.status) == (0, b"it is me", 0)


@pytest.mark.parametrize("value", ["require", None, 1])
def test_what_it_cannot_be(value: Any) -> None:
    with pytest.raises((TypeError, MisuseError), match="proxy_protocol"):
        bowout.serve(echo, context=server_context(), proxy_protocol=value)


def test_a_client_of_a_plain_server_is_served_as_ever(run: Runner) -> None:
    async def main() -> bytes:
        async with serve(echo, proxy_protocol=False) as server:
            return await asks(server, context=client_context())

    assert run(main) == b"ping"
