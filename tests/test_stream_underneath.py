"""What a stream shows of what is under it: the socket, its addresses, TLS, and what binds others to it."""

from __future__ import annotations

import socket
import ssl
import sys
from typing import Any

import pytest

import bowout
from bowout import Role, Stream
from helpers.runners import Runner
from helpers.served import serve
from helpers.wire import NAME, Version, client_context, peer, polite, tcp_pair

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the options are Linux's")


async def both_ends(version: Version, host: str, look: Any, **options: Any) -> tuple[Any, Any]:
    """What `look` sees of the two ends of one connection; each end has `options`."""
    seen: list[Any] = []

    async def handler(stream: Stream) -> None:
        seen.append(look(stream))
        await stream.send(b"hello")
        await stream.receive()

    async with (
        serve(handler, version=version, host=host, **options) as server,
        bowout.connect(host, server.port, context=client_context(version), **options) as stream,
    ):
        await stream.receive_exactly(5)
        return look(stream), seen[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_addresses_of_one_end_are_those_of_the_other(run: Runner, host: str) -> None:
    def look(stream: Stream) -> tuple[Any, Any, Role]:
        assert stream.socket is not None
        assert stream.local_address == stream.socket.getsockname()
        return stream.local_address, stream.remote_address, stream.role

    ours, theirs = run(both_ends, "1.3", host, look)
    assert ours[:2] == theirs[1::-1]
    assert ours[1][0] == host
    assert (ours[2], theirs[2]) == (Role.CLIENT, Role.SERVER)


def test_a_unix_socket_has_addresses_too(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        assert (stream.local_address, stream.remote_address) == ("", "")
        assert stream.socket is not None
        assert stream.socket.family is socket.AF_UNIX
        await stream.handshake()
        await stream.close()

    with peer(polite, unix=True) as link:
        run(main)


@pytest.mark.parametrize("end", ["close", "abort", "unwrap"])
def test_after_the_end_nothing_is_underneath(run: Runner, end: str) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        assert stream.socket is not None
        assert stream.remote_address is not None
        if end == "abort":
            stream.abort()
        elif end == "close":
            await stream.close()
        else:
            (await stream.unwrap())[0].close()
        assert [stream.socket, stream.local_address, stream.remote_address] == [None, None, None]
        assert stream.peer.startswith("127.0.0.1:")

    with peer(polite) as link:
        run(main)


def test_the_ssl_object_tells_what_the_standard_library_knows(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        assert isinstance(stream.ssl_object, ssl.SSLObject)
        await stream.handshake()
        assert stream.ssl_object.version() == stream.tls_version
        assert stream.ssl_object.server_hostname == NAME
        await stream.close()

    with peer(polite) as link:
        run(main)


# -- channel binding ---------------------------------------------------------------------------------------------------


def test_both_ends_share_what_binds_to_the_channel(run: Runner) -> None:
    ours, theirs = run(both_ends, "1.2", "127.0.0.1", lambda stream: stream.channel_binding("tls-unique"))
    assert ours == theirs
    assert len(ours) >= 12


def test_tls13_has_no_unique_value_of_the_handshake(run: Runner) -> None:
    """RFC 9266 section 3."""
    assert run(both_ends, "1.3", "127.0.0.1", Stream.channel_binding) == (None, None)


def test_before_the_handshake_there_is_nothing_to_bind_to(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        assert stream.channel_binding() is None
        with pytest.raises(ValueError, match=r'kind must be one of .*"tls-unique".*; did you mean "tls-unique"\?'):
            stream.channel_binding("tls_unique")
        with pytest.raises(TypeError, match="kind"):
            stream.channel_binding(None)  # type: ignore[arg-type]
        stream.abort()

    with peer(lambda wire: None) as link:
        run(main)


# -- keep-alive --------------------------------------------------------------------------------------------------------


def keepalive(stream: Stream) -> tuple[bool, int, int]:
    """Whether the kernel asks, after how many seconds of silence, and how often then."""
    sock = stream.socket
    assert sock is not None
    return (
        bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)),
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    )


@linux_only
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (True, 60, 15)),
        ({"keepalive": 10}, (True, 10, 3)),
        ({"keepalive": 0.5}, (True, 1, 1)),
        ({"keepalive": 1e9}, (True, 32767, 32767)),
    ],
)
def test_both_ends_ask_whether_the_other_is_still_there(
    run: Runner, options: dict[str, float], expected: tuple[bool, int, int]
) -> None:
    async def main() -> tuple[Any, Any]:
        return await both_ends("1.3", "127.0.0.1", keepalive, **options)

    assert run(main) == (expected, expected)


@linux_only
def test_keepalive_can_be_switched_off(run: Runner) -> None:
    async def main() -> tuple[Any, Any]:
        return await both_ends("1.3", "127.0.0.1", keepalive, keepalive=None)

    ours, theirs = run(main)
    assert not ours[0]
    assert not theirs[0]


@linux_only
def test_a_socket_that_has_it_already_stays_as_it_is(run: Runner) -> None:
    async def main() -> tuple[bool, int, int]:
        ours, theirs = tcp_pair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
        with theirs:
            stream = bowout.wrap(ours, client_context(), server_hostname=NAME)
            found = keepalive(stream)
            stream.abort()
        return found

    assert run(main)[:2] == (True, 77)


def test_a_unix_socket_needs_none(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream(keepalive=5)
        await stream.handshake()
        await stream.close()

    with peer(polite, unix=True) as link:
        run(main)
