"""What is under a stream: its socket, keepalive, addresses, the standard library's object, channel binding."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest

import bowout
from helpers.served import connect, serve
from helpers.wire import NAME, VERSIONS, Version, Wire, client_context, peer, polite, tcp_pair

if TYPE_CHECKING:
    from helpers.runners import Runner

both_versions = pytest.mark.parametrize("version", VERSIONS)


def keepalive_of(sock: socket.socket | None) -> tuple[bool, int, int]:
    """Whether it is on, after how many seconds of silence, and how many between two questions."""
    assert sock is not None
    on = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
    if not hasattr(socket, "TCP_KEEPIDLE"):
        pytest.skip("this system has one time for all sockets")
    return (
        on,
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    )


# -- keepalive -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (True, 60, 15)),
        ({"keepalive": 120}, (True, 120, 30)),
        ({"keepalive": 0.5}, (True, 1, 1)),
        ({"keepalive": 10.5}, (True, 11, 3)),
        ({"keepalive": 1e9}, (True, 32767, 32767)),
    ],
)
def test_the_kernel_asks_a_silent_peer(run: Runner, options: dict[str, Any], expected: tuple[bool, int, int]) -> None:
    async def main() -> tuple[bool, int, int]:
        stream = link.stream(**options)
        found = keepalive_of(stream.socket)
        stream.abort()
        return found

    with peer(lambda wire: None) as link:
        assert run(main) == expected


@pytest.mark.parametrize("options", [{"keepalive": None}, {"keepalive": 60}])
def test_a_socket_that_asks_already_stays_as_it_is(run: Runner, options: dict[str, Any]) -> None:
    async def main() -> int:
        link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        link.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 7)
        stream = link.stream(**options)
        _, idle, _ = keepalive_of(stream.socket)
        stream.abort()
        return idle

    if not hasattr(socket, "TCP_KEEPIDLE"):
        pytest.skip("this system has one time for all sockets")
    with peer(lambda wire: None) as link:
        assert run(main) == 7


def test_none_leaves_the_socket_as_it_is(run: Runner) -> None:
    async def main() -> bool:
        stream = link.stream(keepalive=None)
        on, _, _ = keepalive_of(stream.socket)
        stream.abort()
        return on

    with peer(lambda wire: None) as link:
        assert not run(main)


@pytest.mark.parametrize(("options", "idle"), [({}, 60), ({"keepalive": 90}, 90), ({"keepalive": None}, None)])
def test_clients_and_servers_ask_each_other(run: Runner, options: dict[str, Any], idle: int | None) -> None:
    seen: list[tuple[bool, int, int]] = []

    async def note(stream: bowout.Stream) -> None:
        seen.append(keepalive_of(stream.socket))
        await stream.send(b"x")
        await stream.receive()

    async def main() -> None:
        async with serve(note, **options) as server, await connect(server, **options) as stream:
            await stream.receive_exactly(1)
            seen.append(keepalive_of(stream.socket))

    run(main)
    assert [found[0] for found in seen] == [idle is not None] * 2
    if idle is not None:
        assert [found[1] for found in seen] == [idle] * 2


def test_a_unix_socket_has_no_keepalive_and_needs_none(run: Runner) -> None:
    async def main() -> bowout.How:
        stream = link.stream()
        await stream.handshake()
        return (await stream.close()).how

    with peer(polite, unix=True) as link:
        assert run(main) is bowout.How.CLEAN


# -- addresses and the socket ----------------------------------------------------------------------------------------


def test_both_addresses_are_those_of_the_socket(run: Runner) -> None:
    async def main() -> tuple[object, object, object, object]:
        stream = link.stream()
        assert stream.socket is not None
        facts = (
            stream.local_address, stream.socket.getsockname(),
            stream.remote_address, stream.socket.getpeername(),
        )  # fmt: skip
        stream.abort()
        return facts

    with peer(lambda wire: None) as link:
        local, sockname, remote, peername = run(main)
    assert (local, remote) == (sockname, peername)
    assert local != remote


def test_a_server_and_its_client_tell_each_other(run: Runner) -> None:
    seen: list[tuple[Any, Any]] = []

    async def note(stream: bowout.Stream) -> None:
        seen.append((stream.remote_address, stream.local_address))
        await stream.send(b"x")
        await stream.receive()

    async def main() -> tuple[Any, Any]:
        async with serve(note) as server, await connect(server) as stream:
            await stream.receive_exactly(1)
            assert stream.remote_address == server.addresses[0]
            return stream.local_address, stream.remote_address

    assert run(main) == seen[0]


def test_unix_sockets_have_paths_and_no_names(run: Runner) -> None:
    async def main() -> tuple[object, object]:
        stream = link.stream()
        addresses = stream.local_address, stream.remote_address
        stream.abort()
        return addresses

    with peer(lambda wire: None, unix=True) as link:
        assert run(main) == ("", "")


@pytest.mark.parametrize("end", ["close", "abort", "unwrap"])
def test_after_the_end_there_is_no_socket(run: Runner, end: str) -> None:
    async def main() -> tuple[object, object, object, str]:
        stream = link.stream()
        await stream.handshake()
        peer_before = stream.peer
        if end == "abort":
            stream.abort()
        elif end == "close":
            await stream.close()
        else:
            sock, _ = await stream.unwrap()
            sock.close()
        assert stream.peer == peer_before
        return stream.socket, stream.local_address, stream.remote_address, stream.peer

    with peer(polite) as link:
        assert run(main)[:3] == (None, None, None)


def test_options_can_be_set_on_the_socket(run: Runner) -> None:
    async def main() -> bowout.How:
        stream = link.stream()
        await stream.handshake()
        assert stream.socket is not None
        stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        assert not stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        return (await stream.close()).how

    with peer(polite) as link:
        assert run(main) is bowout.How.CLEAN


def test_addresses_of_a_peer_that_has_gone_are_none_and_no_error(run: Runner) -> None:
    async def main() -> object:
        stream = bowout.wrap(ours, client_context(), server_hostname=NAME)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        with pytest.raises(bowout.HandshakeReset):
            await stream.handshake()
        return stream.remote_address

    ours, theirs = tcp_pair()
    assert run(main) is None


# -- TLS -------------------------------------------------------------------------------------------------------------


@both_versions
def test_the_standard_librarys_object_tells_the_rest(run: Runner, version: Version) -> None:
    async def main() -> tuple[object, bool, str | None]:
        stream = link.stream()
        await stream.handshake()
        tls = stream.ssl_object
        facts = type(tls), bool(tls.shared_ciphers()) or tls.compression() is None, tls.server_hostname
        await stream.close()
        return facts

    with peer(polite, version=version) as link:
        assert run(main) == (ssl.SSLObject, True, NAME)


def test_both_ends_share_what_binds_an_authentication_to_tls_1_2(run: Runner) -> None:
    def tell(wire: Wire) -> None:
        wire.handshake()
        binding = wire.tls.get_channel_binding()
        assert binding
        wire.send(binding)
        polite_end(wire)

    async def main() -> tuple[bytes | None, bytes | None, bytes]:
        stream = link.stream()
        before = stream.channel_binding()
        await stream.handshake()
        binding = stream.channel_binding("tls-unique")
        theirs = await stream.receive()
        await stream.close()
        return before, binding, theirs

    with peer(tell, version="1.2") as link:
        before, ours, theirs = run(main)
    assert before is None
    assert ours == theirs


def polite_end(wire: Wire) -> None:
    """Read to the end, and answer it."""
    if wire.read_to_end() == "close_notify":
        wire.close_notify()


def test_tls_1_3_has_no_tls_unique(run: Runner) -> None:
    """RFC 9266: what OpenSSL would give there binds nothing."""

    async def main() -> bytes | None:
        stream = link.stream()
        await stream.handshake()
        binding = stream.channel_binding()
        await stream.close()
        return binding

    with peer(polite, version="1.3") as link:
        assert run(main) is None


@pytest.mark.parametrize(("kind", "error"), [("tls-uniq", ValueError), ("", ValueError), (None, TypeError)])
def test_a_binding_that_ssl_does_not_know(run: Runner, kind: Any, error: type[Exception]) -> None:
    async def main() -> None:
        stream = link.stream()
        with pytest.raises(error, match=r'kind must be one of .*"tls-unique"'):
            stream.channel_binding(kind)
        stream.abort()

    with peer(lambda wire: None) as link:
        run(main)
