"""bowout.trio: streams, listeners and functions with the interface of trio."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeAlias

import pytest
import trio
import trio.testing

import bowout
import bowout.trio
from bowout import How, Inbound, MisuseError, Outbound
from bowout.testing import GREETING, Act, Peer
from bowout.trio import SSLListener, SSLStream
from helpers.kernel import wait_full
from helpers.leaks import open_fds
from helpers.runners import Runner
from helpers.served import LOOPBACK, serve
from helpers.tasks import Awaits, in_thread, jobs, settle
from helpers.wire import (
    NAME,
    PATIENCE,
    VERSIONS,
    Link,
    Version,
    Wire,
    client_context,
    our_context,
    peer,
    polite,
    server_context,
    silent,
    tcp_pair,
)

pytestmark = pytest.mark.backends("trio")

AnyStream: TypeAlias = SSLStream[Any]
Check: TypeAlias = Callable[[Any, Any], Awaitable[None]]
Pair: TypeAlias = tuple[AnyStream, AnyStream]

#: Seconds for a close of which nothing is expected.
SOON: Final = 0.05
LONG: Final[dict[str, Any]] = {"handshake_timeout": PATIENCE, "close_timeout": PATIENCE}
both_versions = pytest.mark.parametrize("version", VERSIONS)


def of_socket(sock: socket.socket) -> trio.SocketStream:
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


def tcp(*, small: bool = False) -> tuple[trio.SocketStream, trio.SocketStream]:
    ours, theirs = tcp_pair(small=small)
    return of_socket(ours), of_socket(theirs)


def unix() -> tuple[trio.SocketStream, trio.SocketStream]:
    ours, theirs = socket.socketpair()
    return of_socket(ours), of_socket(theirs)


def client(carrier: Any, version: Version = "1.3", **options: Any) -> AnyStream:
    return SSLStream(carrier, our_context(version, "client"), server_hostname=NAME, **{**LONG, **options})


def server(carrier: Any, version: Version = "1.3", **options: Any) -> AnyStream:
    return SSLStream(carrier, our_context(version, "server"), server_side=True, **{**LONG, **options})


def pair(carriers: tuple[Any, Any], version: Version = "1.3", **options: Any) -> Pair:
    return client(carriers[0], version, **options), server(carriers[1], version, **options)


async def shake(ours: AnyStream, theirs: AnyStream) -> Pair:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.do_handshake)
        nursery.start_soon(theirs.do_handshake)
    return ours, theirs


@asynccontextmanager
async def connected(link: Link, **options: Any) -> AsyncIterator[AnyStream]:
    """Our end of a link to a scripted peer, after the handshake; it is closed in the end."""
    stream = (client if link.we == "client" else server)(of_socket(link.sock), link.version, **options)
    assert stream.stream.socket is not None, "it was just wrapped"
    link.sock = stream.stream.socket
    try:
        await stream.do_handshake()
        yield stream
    finally:
        await stream.aclose()


# -- trio's own checkers


def in_tls(carriers: tuple[Any, Any]) -> Pair:
    return pair(carriers, **_IN_CHECKERS)


#: What carries TLS in the checkers. The last is TLS in TLS.
CARRIERS: Final[dict[str, Callable[[], tuple[Any, Any]]]] = {
    "tcp": lambda: tcp(small=True),
    "unix": unix,
    "memory": trio.testing.memory_stream_pair,
    "lockstep": trio.testing.lockstep_stream_pair,
    "tls": lambda: in_tls(tcp(small=True)),
}
#: Of these, the ones that hold no more than a few kilobytes, so that a sender is soon blocked.
CLOGGED: Final = ("tcp", "lockstep")
#: The checkers go on sending to what is closed, and then read nothing themselves: no such close can be graceful.
_IN_CHECKERS: Final[dict[str, Any]] = {"close_timeout": SOON, "linger_bytes": 1 << 16}


#: Of these, the ones without sockets and threads, for which time may pass at once.
IN_MEMORY: Final = ("memory", "lockstep")


def checked(run: Runner, check: Check, carrier: str, version: Version, *, clogged: bool) -> None:
    makers = maker(carrier, version), clogged_maker(carrier, version) if clogged else None
    if carrier in IN_MEMORY:
        trio.run(check, *makers, clock=trio.testing.MockClock(autojump_threshold=0))
    else:
        run(check, *makers)


def maker(carrier: str, version: Version) -> Callable[[], Awaitable[Pair]]:
    async def make() -> Pair:
        return await shake(*pair(CARRIERS[carrier](), version, **_IN_CHECKERS))

    return make


def clogged_maker(carrier: str, version: Version) -> Callable[[], Awaitable[Pair]]:
    """In both directions nothing moves until the other end reads."""

    async def fill(stream: AnyStream) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_forever, stream)
                await trio.testing.wait_all_tasks_blocked()
                if (sock := stream.stream.socket) is not None:
                    await trio.to_thread.run_sync(wait_full, sock)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()

    async def make() -> Pair:
        both = await shake(*pair(CARRIERS[carrier](), version, **_IN_CHECKERS))
        for stream in both:
            await fill(stream)
        return both

    return make


async def send_forever(stream: AnyStream) -> None:
    while True:
        await stream.send_all(bytes(1 << 14))


checks = pytest.mark.parametrize(
    "check", [trio.testing.check_one_way_stream, trio.testing.check_two_way_stream], ids=["one way", "two ways"]
)


@both_versions
@checks
@pytest.mark.parametrize("carrier", CARRIERS)
def test_trios_checker_is_content(run: Runner, check: Check, carrier: str, version: Version) -> None:
    checked(run, check, carrier, version, clogged=False)


@both_versions
@checks
@pytest.mark.parametrize("carrier", CLOGGED)
def test_trios_checker_is_content_where_nothing_moves(
    run: Runner, check: Check, carrier: str, version: Version
) -> None:
    checked(run, check, carrier, version, clogged=True)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_trios_checker_of_half_closes_is_content(run: Runner, carrier: str) -> None:
    checked(run, trio.testing.check_half_closeable_stream, carrier, "1.3", clogged=carrier in CLOGGED)


def test_tls_1_2_has_no_half_close(run: Runner) -> None:
    """RFC 5246 section 7.2.1: a close_notify has to be answered at once, and what was still to be sent, discarded."""
    with pytest.RaisesGroup(pytest.RaisesExc(trio.BrokenResourceError, match="TLS 1.2 ends both")) as caught:
        run(trio.testing.check_half_closeable_stream, maker("tcp", "1.2"), None)
    assert isinstance(caught.value.exceptions[0].__cause__, bowout.PeerClosed)


# -- beside trio's own stream


@both_versions
@pytest.mark.parametrize("we", ["client", "server"])
def test_the_other_end_is_trios_own(run: Runner, we: str, version: Version) -> None:
    async def main() -> None:
        carriers = tcp()
        context, other = our_context(version, "client"), our_context(version, "server")
        stock: trio.SSLStream[Any]
        if we == "client":
            ours, stock = client(carriers[0], version), trio.SSLStream(carriers[1], other, server_side=True)
        else:
            stock, ours = trio.SSLStream(carriers[0], context, server_hostname=NAME), server(carriers[1], version)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stock.do_handshake)
            await ours.send_all(b"question")
            assert await stock.receive_some(100) == b"question"
            await stock.send_all(b"answer")
            assert await ours.receive_some() == b"answer"
            nursery.start_soon(stock.aclose)
            assert await ours.receive_some() == b""
            await ours.aclose()
        assert ours.ending is not None
        assert ours.ending.inbound is Inbound.CLOSE_NOTIFY

    run(main)


# -- how the peer ends


def cut_at_boundary(wire: Wire) -> None:
    wire.handshake()
    wire.send(b"half")
    wire.fin()
    wire.read_to_end()


def cut_inside_record(wire: Wire) -> None:
    wire.handshake()
    wire.send(b"half")
    wire.sock.sendall(wire.encrypt(b"the other half")[:-1])
    wire.fin()
    wire.read_to_end()


def reset(wire: Wire) -> None:
    wire.handshake()
    wire.send(b"half")
    wire.link.await_go()
    wire.rst()


@both_versions
@pytest.mark.parametrize(
    ("script", "cause", "inbound"),
    [
        (cut_at_boundary, bowout.Truncated, Inbound.TRUNCATED_AT_BOUNDARY),
        (cut_inside_record, bowout.Truncated, Inbound.TRUNCATED_INSIDE_RECORD),
        (reset, bowout.Reset, Inbound.RESET),
    ],
)
@pytest.mark.parametrize("https", [False, True])
def test_a_bad_end(
    run: Runner, script: Any, cause: type[Exception], inbound: Inbound, https: bool, version: Version
) -> None:
    tolerated = https and script is cut_at_boundary

    async def main(link: Link) -> None:
        async with connected(link, https_compatible=https) as stream:
            assert await stream.receive_some() == b"half"
            link.go.set()
            for _ in range(2):  # It stays so.
                if tolerated:
                    assert await stream.receive_some() == b""
                else:
                    with pytest.raises(trio.BrokenResourceError) as caught:
                        await stream.receive_some()
                    assert type(caught.value.__cause__) is cause
                    assert str(caught.value) == str(caught.value.__cause__)
        assert stream.ending is not None
        assert stream.ending.inbound is inbound
        assert not stream.ending.clean

    with peer(script, version=version) as link:
        run(main, link)


def test_close_notify_is_sent_though_it_is_compatible_with_https(run: Runner) -> None:
    async def main(link: Link) -> None:
        async with connected(link, https_compatible=True):
            pass

    with peer(polite) as link:
        run(main, link)
    assert link.result == "close_notify"


def test_a_failed_handshake(run: Runner) -> None:
    async def main(link: Link) -> None:
        stream = client(of_socket(link.sock))
        for attempt in (stream.do_handshake, stream.receive_some, lambda: stream.send_all(b"x")):
            with pytest.raises(trio.BrokenResourceError) as caught:
                await attempt()
            assert isinstance(caught.value.__cause__, bowout.CertificateError)
        assert stream.ending is not None
        assert stream.ending.how is How.FAILED_HANDSHAKE
        await stream.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await stream.do_handshake()

    def script(wire: Wire) -> None:
        with pytest.raises(ssl.SSLError):
            wire.handshake()

    with peer(script, context=server_context(None, "another.test")) as link:
        run(main, link)


# -- how we end


async def failing_block(stream: AnyStream) -> None:
    async with stream:
        await stream.send_all(b"half")
        raise KeyError


def test_a_block_that_is_left_by_an_error_cuts_the_stream(run: Runner) -> None:
    async def main(link: Link) -> None:
        stream = client(of_socket(link.sock))
        with pytest.raises(KeyError):
            await failing_block(stream)
        assert stream.ending is not None
        assert stream.ending.outbound is Outbound.CUT

    with peer(polite) as link:
        run(main, link)
    assert link.result == "FIN"


def test_a_block_that_is_cancelled_sends_close_notify(run: Runner) -> None:
    async def main(link: Link) -> None:
        with trio.CancelScope() as scope:
            async with client(of_socket(link.sock)) as stream:
                await stream.send_all(b"whole")
                scope.cancel()
                await stream.receive_some()
        assert scope.cancelled_caught
        assert stream.ending is not None

    with peer(polite) as link:
        run(main, link)
    assert link.result == "close_notify"


def test_the_block_may_be_told_to_close_in_any_case(run: Runner) -> None:
    async def main(link: Link) -> None:
        with pytest.raises(KeyError):
            await failing_block(client(of_socket(link.sock), on_error="close"))

    with peer(polite) as link:
        run(main, link)
    assert link.result == "close_notify"


def test_entering_the_block_waits_for_nothing(run: Runner) -> None:
    async def main() -> None:
        ours, theirs = tcp()
        async with client(ours) as stream:
            assert stream.stream.tls_version is None
        await theirs.aclose()

    run(main)


def test_a_silent_peer_costs_no_more_than_the_time_for_a_close(run: Runner) -> None:
    async def main(link: Link) -> None:
        async with connected(link, close_timeout=SOON) as stream:
            pass
        assert stream.ending is not None
        assert (stream.ending.how, stream.ending.deadline_hit) == (How.UNANSWERED, True)

    with peer(silent) as link:
        run(main, link)


def test_a_close_wakes_who_receives_and_who_sends(run: Runner) -> None:
    async def main() -> None:
        ours, theirs = await shake(*pair(tcp(small=True)))
        async with jobs() as group:
            receiving = group.start(ours.receive_some)
            sending = group.start(send_forever, ours)
            await settle()
            await trio.aclose_forcefully(ours)
            for task in (receiving, sending):
                assert isinstance(await task.ended(), trio.ClosedResourceError)
        await trio.aclose_forcefully(theirs)

    run(main)


def test_who_is_woken_by_a_close_does_not_hurry_it(run: Runner) -> None:
    async def receive_within(stream: AnyStream) -> None:
        async with stream:
            await stream.receive_some()

    async def main() -> None:
        ours, theirs = await shake(*pair(tcp()))
        async with jobs() as group:
            receiving = group.start(receive_within, ours)
            await settle()
            closing = group.start(ours.aclose)
            await settle()
            await theirs.aclose()
            await closing.result()
            assert isinstance(await receiving.ended(), trio.ClosedResourceError)
        assert ours.ending is not None
        assert (ours.ending.how, ours.ending.reason) == (How.CLEAN, "")

    run(main)


def test_after_a_send_that_was_cut_off_nothing_is_sent(run: Runner) -> None:
    """More than a record: a part was encrypted and sent, and the rest never will be."""

    async def main(link: Link) -> None:
        async with connected(link, close_timeout=PATIENCE) as stream:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream.send_all, bytes(8 << 20))
                    await in_thread(link.await_full)
                    scope.cancel()
            link.go.set()
            for verb in (partial(stream.send_all, b"more"), stream.send_eof):
                with pytest.raises(trio.BrokenResourceError) as caught:
                    await verb()
                assert isinstance(caught.value.__cause__, bowout.SendInterrupted)
        assert stream.ending is not None
        assert stream.ending.outbound is Outbound.CUT

    def script(wire: Wire) -> str:
        wire.handshake()
        wire.link.await_go()
        return wire.read_to_end()

    with peer(script, small=True) as link:
        run(main, link)
    assert link.result == "FIN"


def test_a_call_at_the_wrong_time_stays_bowouts_error(run: Runner) -> None:
    async def main(link: Link) -> None:
        async with connected(link) as stream:
            with stream.stream.message():
                await stream.send_all(b"half")
                with pytest.raises(MisuseError, match="message"):
                    await stream.send_eof()

    with peer(polite) as link:
        run(main, link)


def test_a_receive_that_is_cancelled_loses_nothing(run: Runner) -> None:
    async def main(link: Link) -> None:
        async with connected(link) as stream:
            async with jobs() as group:
                receiving = group.start(stream.receive_some)
                await settle()
                receiving.cancel()
                assert isinstance(await receiving.ended(), trio.Cancelled)
            await stream.send_all(b"go")
            assert await stream.receive_some(1) == b"w"
            assert await stream.receive_some(100) == b"hole"

    def script(wire: Wire) -> str:
        wire.handshake()
        wire.read_exactly(2)
        wire.send(b"whole")
        return wire.read_to_end()

    with peer(script) as link:
        run(main, link)


@pytest.mark.parametrize("carrier", ["tcp", "memory"])
def test_a_close_that_is_cancelled_anywhere_has_closed(run: Runner, carrier: str) -> None:
    async def main(cancel_at: int) -> int:
        carriers = CARRIERS[carrier]()
        ours, theirs = await shake(*pair(carriers, close_timeout=SOON))
        awaits = Awaits(cancel_at, shielded=True)
        await awaits.drive(ours.aclose)
        assert ours.ending is not None
        with pytest.raises(trio.ClosedResourceError):
            await ours.receive_some()
        await trio.aclose_forcefully(theirs)
        return awaits.count

    most = run(main, 0)
    assert most
    for cancel_at in range(1, most + 1):
        run(main, cancel_at)


def test_a_handshake_that_is_cancelled_closes(run: Runner) -> None:
    async def main() -> None:
        ours, theirs = tcp()
        stream = client(ours)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.do_handshake)
                await settle()
                scope.cancel()
        assert stream.ending is not None
        assert stream.ending.how is How.FAILED_HANDSHAKE
        await theirs.aclose()

    run(main)


# -- the socket under it


def test_the_socket_changes_hands(run: Runner) -> None:
    async def main(link: Link) -> None:
        before = set(open_fds().values())
        given = of_socket(link.sock)
        stream = client(given)
        try:
            assert set(open_fds().values()) == before, "the same socket, once"
            assert given.socket.fileno() == -1
            assert stream.transport_stream is not given
            assert isinstance(stream.transport_stream, trio.SocketStream)
            assert stream.transport_stream is stream.transport_stream
            assert stream.transport_stream.socket.getpeername() == stream.stream.remote_address
            stream.transport_stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
            assert stream.stream.socket is not None
            assert stream.stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
            await given.aclose()  # It has nothing left.
            await stream.do_handshake()
        finally:
            await stream.aclose()
        assert stream.transport_stream.socket.fileno() == -1

    with peer(polite) as link:
        run(main, link)


def test_the_socket_is_shown_after_the_end_too(run: Runner) -> None:
    async def main() -> None:
        ours, theirs = tcp()
        stream = client(ours)
        await stream.aclose()
        assert stream.transport_stream is ours
        await theirs.aclose()

    run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="an option of Linux")
def test_showing_the_socket_changes_no_option(run: Runner) -> None:
    async def main() -> None:
        ours, theirs = tcp()
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 12345)
        async with client(ours) as stream:
            shown: trio.SocketStream = stream.transport_stream
            assert shown.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 12345
        await theirs.aclose()

    run(main)


def test_any_other_stream_is_kept_and_closed(run: Runner) -> None:
    async def main() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        one, other = await shake(*pair((ours, theirs)))
        assert one.transport_stream is ours
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.aclose)
            nursery.start_soon(other.aclose)
        with pytest.raises(trio.ClosedResourceError):
            await ours.send_all(b"x")

    run(main)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"server_side": True}, ValueError, "server_hostname is for clients"),
        ({"server_hostname": None}, ValueError, "give server_hostname"),
        ({"server_hostname": ""}, ValueError, "give server_hostname"),
        ({"server_hostname": ".test"}, ValueError, "server_hostname cannot be"),
        ({"server_hostname": b"peer.test"}, TypeError, "server_hostname must be a str"),
        ({"close_timeout": -1}, ValueError, "close_timeout must be"),
        ({"received": "text"}, TypeError, "received must be bytes"),
        ({"truncation": "tolerate"}, TypeError, "no argument 'truncation'; use https_compatible=True"),
        ({"alpn": ["h2"]}, TypeError, "no argument 'alpn'; use ssl_context.set_alpn_protocols"),
        ({"close_timout": 1}, TypeError, "no argument 'close_timout'; use close_timeout"),
        ({"xyz": 1}, TypeError, "no argument 'xyz'$"),
    ],
)
def test_a_wrong_argument_leaves_the_stream_to_its_owner(
    run: Runner, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    async def main() -> None:
        ours, theirs = tcp()
        with pytest.raises(kind, match=text):
            SSLStream(ours, client_context(), **{"server_hostname": NAME, **options})
        await ours.send_all(b"x")
        assert await theirs.receive_some() == b"x"
        await ours.aclose()
        await theirs.aclose()

    run(main)


def test_a_stream_that_is_closed_already(run: Runner) -> None:
    async def main() -> None:
        ours, theirs = tcp()
        await ours.aclose()
        with pytest.raises(trio.ClosedResourceError, match="closed already"):
            client(ours)
        await theirs.aclose()

    run(main)


def test_what_is_no_stream(run: Runner) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="int cannot carry TLS"):
            client(7)

    run(main)


def test_a_task_that_still_receives_below_is_told(run: Runner) -> None:
    async def main(link: Link) -> None:
        given = of_socket(link.sock)
        async with jobs() as group:
            receiving = group.start(given.receive_some)
            await settle()
            async with client(given) as stream:
                assert isinstance(await receiving.ended(), trio.ClosedResourceError)
                await stream.do_handshake()

    with peer(polite) as link:
        run(main, link)


def test_a_connection_that_was_reset_already(run: Runner) -> None:
    """That is no fault of who wraps it, and accept() must not raise it."""

    async def main() -> None:
        ours, theirs = tcp_pair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        stream = server(of_socket(ours))
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await stream.aclose()

    run(main)


def test_what_was_received_before(run: Runner) -> None:
    async def main(link: Link) -> None:
        first = await in_thread(lambda: link.sock.recv(100))
        stream = server(of_socket(link.sock), received=first)
        await stream.do_handshake()
        await stream.aclose()

    with peer(polite, we="server") as link:
        run(main, link)
    assert link.result == "close_notify"


# -- what is known


def test_the_facts_of_the_ssl_object(run: Runner) -> None:
    async def main(link: Link) -> None:
        stream = client(of_socket(link.sock))
        for name in ("getpeercert", "cipher", "version", "selected_alpn_protocol", "shared_ciphers", "session_reused"):
            with pytest.raises(trio.NeedHandshakeError, match=f"do_handshake.* before '{name}'"):
                getattr(stream, name)
        assert (stream.server_side, stream.server_hostname) == (False, NAME)
        await stream.do_handshake()
        assert stream.version() == stream.stream.tls_version == "TLSv1.3"
        assert stream.getpeercert(binary_form=True) == stream.stream.peer_certificate()
        assert stream.context is stream.stream.ssl_object.context
        assert stream.session_reused is False
        assert {"version", "context", "send_all"} <= set(dir(stream))
        with pytest.raises(AttributeError, match="'SSLStream' object has no attribute 'write'"):
            _ = stream.write
        assert repr(stream) == f"<bowout.trio.SSLStream over {stream.stream!r}>"
        await stream.aclose()

    with peer(polite) as link:
        run(main, link)


def test_a_stream_of_ours_becomes_one_of_trios(run: Runner) -> None:
    endings: list[bowout.Ending] = []

    async def handler(stream: bowout.Stream) -> None:
        adapted = SSLStream.from_stream(stream)
        assert adapted.stream is stream
        assert adapted.transport_stream.socket.getpeername() == stream.remote_address
        async for chunk in adapted:
            await adapted.send_all(chunk)

    async def main() -> None:
        async with serve(handler, on_ending=endings.append) as listening:
            assert (await asks(listening.port)).clean
        assert endings[0].clean

    run(main)


def test_what_is_no_stream_of_ours(run: Runner) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match=r"stream must be a bowout\.Stream, not Connecting"):
            SSLStream.from_stream(bowout.connect("peer.test", 443))  # type: ignore[arg-type]

    run(main)


def test_a_stream_can_be_referred_to_weakly(run: Runner) -> None:
    async def main() -> None:
        ours, theirs = pair(tcp())
        assert weakref.ref(ours)() is ours
        await trio.aclose_forcefully(ours)
        await trio.aclose_forcefully(theirs)

    run(main)


@both_versions
def test_a_close_in_tls_does_not_end_the_tls_below(run: Runner, version: Version) -> None:
    """In TLS 1.2 a half-close below would: so what the other end still sends would be lost."""

    async def main() -> None:
        mine, theirs = await shake(*pair(await shake(*pair(tcp(), version))))
        async with jobs() as group:
            closing = group.start(mine.aclose)
            assert await theirs.receive_some() == b""
            await theirs.send_all(bytes(1 << 18))
            await theirs.aclose()
            await closing.result()
        for stream in (mine, theirs):
            assert stream.ending is not None
            assert stream.ending.clean
        assert mine.ending is not None
        assert mine.ending.discarded == 1 << 18

    run(main)


def test_a_stream_of_ours_over_no_socket_has_no_stream_of_trio_under_it(run: Runner) -> None:
    async def main() -> None:
        inner = bowout.wrap(trio.testing.memory_stream_pair()[0], client_context(), server_hostname=NAME)
        with pytest.raises(MisuseError, match="not made over a stream of trio"):
            _ = SSLStream.from_stream(inner).transport_stream
        await inner.close(0)

    run(main)


# -- unwrap


def goes_on_in_plain(wire: Wire) -> bytes:
    wire.handshake()
    wire.send(b"bye")
    wire.sock.sendall(wire.encrypt_close_notify() + b"in ")
    assert wire.read_to_end() == "close_notify"
    wire.sock.sendall(b"plain")  # Not before: what answers it must not come together with the close_notify.
    return wire.sock.recv(100)


def test_unwrap_keeps_the_socket(run: Runner) -> None:
    async def main(link: Link) -> None:
        stream = client(of_socket(link.sock))
        assert await stream.receive_some() == b"bye"
        assert await stream.receive_some() == b""
        below, rest = await stream.unwrap()
        assert isinstance(below, trio.SocketStream)
        async with below:
            while len(rest) < len(b"in plain"):
                rest += await below.receive_some()
            assert rest == b"in plain"
            await below.send_all(b"so do I")
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()
        assert stream.ending is not None
        assert stream.ending.unwrapped

    with peer(goes_on_in_plain) as link:
        run(main, link)
    assert link.result == b"so do I"


def test_unwrap_keeps_any_other_stream(run: Runner) -> None:
    async def main() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        one, other = await shake(*pair((ours, theirs)))
        async with jobs() as group:
            unwrapping = [group.start(stream.unwrap) for stream in (one, other)]
            assert [await each.result() for each in unwrapping] == [(ours, b""), (theirs, b"")]
        await ours.send_all(b"in plain")
        assert await theirs.receive_some(100) == b"in plain"

    run(main)


def test_unwrap_of_what_the_peer_does_not_end(run: Runner) -> None:
    async def main(link: Link) -> None:
        async with connected(link, close_timeout=SOON) as stream:
            with pytest.raises(trio.BrokenResourceError) as caught:
                await stream.unwrap()
            assert isinstance(caught.value.__cause__, bowout.NoCloseNotify)

    with peer(silent) as link:
        run(main, link)


# -- listening


async def echo(stream: AnyStream) -> None:
    async for chunk in stream:
        await stream.send_all(chunk)


async def asks(port: int, question: bytes = b"ping") -> bowout.Ending:
    async with await bowout.connect(LOOPBACK, port, context=client_context()) as stream:
        await stream.send(question)
        assert await stream.receive_exactly(len(question)) == question
    assert stream.ending is not None
    return stream.ending


def port_of(listener: SSLListener[trio.SocketStream]) -> int:
    tcp_listener = listener.transport_listener
    assert isinstance(tcp_listener, trio.SocketListener)
    port: int = tcp_listener.socket.getsockname()[1]
    return port


@both_versions
def test_serving(run: Runner, version: Version) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(
                lambda task_status: bowout.trio.serve_ssl_over_tcp(
                    echo, 0, server_context(version), host=LOOPBACK, task_status=task_status
                )
            )
            for _ in range(2):
                ending = await asks(port_of(listeners[0]))
                assert (ending.how, ending.tls_version) == (How.CLEAN, f"TLSv{version}")
            nursery.cancel_scope.cancel()

    run(main)


def test_a_listener_of_any_kind(run: Runner) -> None:
    async def main() -> None:
        memory = trio.testing.memory_stream_pair

        class Once(trio.abc.Listener[trio.abc.Stream]):
            def __init__(self) -> None:
                self.ours, self.theirs = memory()
                self.closed = False

            async def accept(self) -> trio.abc.Stream:
                return self.theirs

            async def aclose(self) -> None:
                self.closed = True

        once = Once()
        listener = SSLListener(once, server_context(), close_timeout=PATIENCE)
        accepted = await listener.accept()
        ours, _ = await shake(client(once.ours), accepted)
        await accepted.send_all(GREETING)
        assert await ours.receive_some() == GREETING
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.aclose)
            nursery.start_soon(accepted.aclose)
        await listener.aclose()
        assert once.closed

    run(main)


def test_a_client_that_resets_before_it_is_accepted(run: Runner) -> None:
    """It is one bad connection, and not the end of the listener."""

    async def main() -> None:
        (listener,) = await bowout.trio.open_ssl_over_tcp_listeners(0, server_context(), host=LOOPBACK)
        async with listener:
            bad = socket.create_connection((LOOPBACK, port_of(listener)))
            bad.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            bad.close()
            accepted = await listener.accept()
            with pytest.raises(trio.BrokenResourceError):
                await accepted.do_handshake()
            await accepted.aclose()

    run(main)


def test_an_accepted_connection_that_cannot_be_set_up_is_closed(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """trio's server waits at such an error, and goes on."""

    def full(_: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def main() -> None:
        (listener,) = await bowout.trio.open_ssl_over_tcp_listeners(0, server_context(), host=LOOPBACK)
        async with listener:
            with socket.create_connection((LOOPBACK, port_of(listener))) as sock:
                sock.settimeout(PATIENCE)
                with monkeypatch.context() as patch:
                    patch.setattr(os, "dup", full)
                    with pytest.raises(OSError, match="Too many open files"):
                        await listener.accept()
                assert await in_thread(lambda: sock.recv(1)) == b""

    run(main)


def test_a_handler_that_fails_ends_the_server_and_cuts_its_stream(run: Runner) -> None:
    async def fails(stream: AnyStream) -> None:
        await stream.send_all(b"half")
        raise KeyError

    async def main() -> str:
        async def visit(port: int) -> str:
            async with await bowout.connect(LOOPBACK, port, context=client_context()) as stream:
                try:
                    async for _ in stream:
                        pass
                except bowout.Truncated:
                    return "truncated"
            return "whole"

        async with jobs() as group:
            with pytest.RaisesGroup(pytest.RaisesGroup(KeyError)):
                async with trio.open_nursery() as nursery:
                    listeners = await nursery.start(
                        lambda task_status: bowout.trio.serve_ssl_over_tcp(
                            fails, 0, server_context(), host=LOOPBACK, task_status=task_status
                        )
                    )
                    visiting = group.start(visit, port_of(listeners[0]))
            return await visiting.result()

    assert run(main) == "truncated"


@pytest.mark.parametrize(
    ("context", "options", "kind", "text"),
    [
        (None, {}, TypeError, "context must be an ssl.SSLContext, not NoneType"),
        (client_context, {}, ValueError, "cannot be a server's"),
        (server_context, {"close_timeout": -1}, ValueError, "close_timeout must be"),
        (server_context, {"session": object()}, ValueError, "session is for clients"),
        (server_context, {"truncation": "raise"}, TypeError, "no argument 'truncation'"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_opened(
    run: Runner, context: Any, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    async def main() -> None:
        given = context and context()
        with pytest.raises(kind, match=text):
            SSLListener(None, given, **options)  # type: ignore[arg-type]
        with pytest.raises(kind, match=text):
            await bowout.trio.open_ssl_over_tcp_listeners(0, given, host=LOOPBACK, **options)
        with pytest.raises(kind, match=text):
            await bowout.trio.serve_ssl_over_tcp(echo, 0, given, host=LOOPBACK, **options)

    run(main)


def test_a_handler_that_is_none(run: Runner) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="not a coroutine function"):
            await bowout.trio.serve_ssl_over_tcp(lambda _: None, 0, server_context())  # type: ignore[arg-type,return-value]

    run(main)


# -- connecting


@pytest.mark.parametrize("delay", [0.25, None])
def test_connecting(run: Runner, delay: float | None) -> None:
    def script(act: Act) -> None:
        act.handshake()
        act.send(GREETING)
        act.expect_close_notify()
        act.close_notify()

    async def main(port: int, context: ssl.SSLContext) -> None:
        stream = await bowout.trio.open_ssl_over_tcp_stream(
            "localhost", port, ssl_context=context, happy_eyeballs_delay=delay, close_timeout=PATIENCE
        )
        async with stream:
            assert stream.version() == "TLSv1.3"
            assert stream.transport_stream.socket.getpeername()[1] == port
            assert await stream.receive_some() == GREETING
        assert stream.ending is not None
        assert stream.ending.clean

    with Peer(script) as server:
        run(main, server.port, server.client_context())


@pytest.mark.parametrize("https", [False, True])
def test_connecting_to_a_server_that_never_sends_close_notify(run: Runner, https: bool) -> None:
    async def main(port: int, context: ssl.SSLContext) -> bytes:
        async with await bowout.trio.open_ssl_over_tcp_stream(
            "localhost", port, ssl_context=context, https_compatible=https
        ) as stream:
            assert await stream.receive_some() == GREETING
            return await stream.receive_some()

    with Peer("fin_at_boundary") as server:
        if https:
            assert run(main, server.port, server.client_context()) == b""
        else:
            with pytest.raises(trio.BrokenResourceError):
                run(main, server.port, server.client_context())


def test_what_does_not_come_to_a_connection_is_an_oserror(run: Runner) -> None:
    async def main(port: int, **options: Any) -> None:
        await bowout.trio.open_ssl_over_tcp_stream(LOOPBACK, port, **options)

    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(OSError, match="refused") as caught:
        run(main, port)
    assert isinstance(caught.value, bowout.ConnectRefused)
    with Peer(Act.handshake, connections=1) as server, pytest.raises(OSError, match="certificate") as caught:
        run(main, server.port)
    assert isinstance(caught.value, bowout.CertificateError)
    with pytest.raises(TypeError, match="no argument 'alpn'"):
        run(lambda: main(port, alpn=["h2"]))


# -- without the extra


def test_without_the_extra_it_says_how_to_get_it() -> None:
    text = "import sys; sys.modules['trio'] = None; import bowout.trio"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("bowout.trio needs the package trio: pip install 'bowout[trio]'")
