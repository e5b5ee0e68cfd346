"""bowout.anyio: streams, listeners and functions with the interface of anyio, on asyncio, uvloop and trio."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import IPv4Address
from typing import Any, Final, Literal, TypeAlias

import anyio
import anyio.abc
import pytest
import truststore
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSAttribute
from anyio.streams.tls import TLSStream as StockStream

import bowout
import bowout.anyio
from bowout import How, Inbound, MisuseError, Outbound
from bowout.anyio import TLSConnectable, TLSListener, TLSStream, connect_tcp
from bowout.testing import GREETING, Act, Peer
from helpers.carriers import carry, objects
from helpers.leaks import open_fds
from helpers.runners import Runner
from helpers.served import LOOPBACK, serve
from helpers.tasks import Awaits, cancelled, in_thread, jobs, settle
from helpers.wire import (
    NAME,
    PATIENCE,
    ROLES,
    VERSIONS,
    Link,
    Version,
    Wire,
    certificate,
    client_context,
    our_context,
    peer,
    polite,
    server_context,
    silent,
)

#: Seconds for a close or a handshake of which nothing is expected.
SOON: Final = 0.05
LONG: Final[dict[str, Any]] = {"handshake_timeout": PATIENCE, "close_timeout": PATIENCE}

#: What TLS is over: a stream of anyio, or a socket of bowout's own, as after `connect_tcp`.
Over: TypeAlias = Literal["stream", "socket"]
both_versions = pytest.mark.parametrize("version", VERSIONS)
over_both = pytest.mark.parametrize("over", ["stream", "socket"])

#: The cases of tests/streams/test_tls.py in anyio 4.16, and the tests here that show the same, or what differs.
#: docs/how-to/anyio.md has the reasons.
CASES_OF_ANYIO: Final = {
    "TestTLSStream.test_send_receive": "test_bytes_go_both_ways",
    "TestTLSStream.test_unicode_hostname_idna2008": "test_names_follow_idna_2008",
    "TestTLSStream.test_receive_invalid_max_bytes": "test_a_receive_of_nothing",
    "TestTLSStream.test_extra_attributes": "test_the_attributes_of_a_client",  # tls-unique is None in TLS 1.3
    "TestTLSStream.test_unwrap": "test_unwrap_keeps_what_is_below",
    "TestTLSStream.test_alpn_negotiation": "test_alpn",
    "TestTLSStream.test_ragged_eofs": "test_every_kind_of_close_on_either_side",  # our close is no error
    "TestTLSStream.test_ragged_eof_on_receive": "test_a_bad_end",
    "TestTLSStream.test_receive_send_after_eof": "test_the_end_of_the_stream",
    "TestTLSStream.test_send_eof_not_implemented": "test_half_close",  # it is implemented
    "TestTLSStream.test_default_context_ignore_unexpected_eof_flag_off": "test_the_default_context",  # for clients only
    "TestTLSStream.test_truststore_ssl": "test_a_context_of_truststore",
    "TestTLSListener.test_handshake_fail": "test_a_handshake_that_fails_is_for_the_hook",  # one line in the log
    "TestTLSListener.test_extra_attributes": "test_the_attributes_of_a_server",
    "test_tls_connectable": "test_a_connectable",
}


def test_every_case_of_anyio_is_shown() -> None:
    assert {name for name in CASES_OF_ANYIO.values() if name not in globals()} == set()


async def wrapped(link: Link, over: Over = "stream", **options: Any) -> TLSStream:
    """Our end of a link to a scripted peer, after the handshake."""
    compatible = options.pop("standard_compatible", True)
    if over == "socket":
        stream = link.stream(truncation="raise" if compatible else "tolerate", **options)
        await stream.handshake()
        return TLSStream.from_stream(stream, standard_compatible=compatible)
    return await TLSStream.wrap(
        await carry("anyio", link.sock),
        server_side=link.we == "server",
        hostname=NAME if link.we == "client" else None,
        ssl_context=our_context(link.version, link.we),
        standard_compatible=compatible,
        **{**LONG, **options},
    )


@asynccontextmanager
async def connected(link: Link, over: Over = "stream", **options: Any) -> AsyncIterator[TLSStream]:
    """The same; it is closed in the end, however the block is left."""
    stream = await wrapped(link, over, **options)
    try:
        yield stream
    finally:
        await stream.aclose()


def tell_reversed(wire: Wire) -> str:
    wire.handshake()
    data = wire.read()
    wire.send(data[::-1])
    end = wire.read_to_end()
    if end == "close_notify":
        wire.close_notify()
    return end


def inode_of(sock: socket.socket) -> str:
    """Its identity among the open descriptors, whoever owns it."""
    return f"socket:[{os.fstat(sock.fileno()).st_ino}]"


# -- what anyio's tests show


@both_versions
@over_both
@pytest.mark.parametrize("we", ["client", "server"])
def test_bytes_go_both_ways(run: Runner, over: Over, we: Any, version: Version) -> None:
    async def main(link: Link) -> None:
        async with await wrapped(link, over) as stream:
            await stream.send(b"hello")
            assert await stream.receive() == b"olleh"
        assert stream.ending is not None
        assert stream.ending.clean

    with peer(tell_reversed, version=version, we=we) as link:
        run(main, link)
    assert link.result == "close_notify"


def test_names_follow_idna_2008(run: Runner) -> None:
    """By IDNA 2003 the name would be fass.de, and the certificate for another owner."""

    async def main(link: Link) -> None:
        carrier = await carry("anyio", link.sock)
        async with await TLSStream.wrap(carrier, hostname="faß.de", ssl_context=client_context(), **LONG) as stream:
            await stream.send(b"hello")
            assert await stream.receive() == b"olleh"

    with peer(tell_reversed, context=server_context(None, "xn--fa-hia.de")) as link:
        run(main, link)


@pytest.mark.parametrize("max_bytes", [0, -1])
@over_both
def test_a_receive_of_nothing(run: Runner, over: Over, max_bytes: int) -> None:
    async def main(link: Link) -> None:
        async with connected(link, over) as stream:
            with pytest.raises(ValueError, match="max_bytes must be 1 or more"):
                await stream.receive(max_bytes)

    with peer(polite) as link:
        run(main, link)


def attributes(of: type) -> dict[str, Any]:
    return {name: value for name, value in vars(of).items() if not name.startswith("_")}


@both_versions
@over_both
def test_the_attributes_of_a_client(run: Runner, over: Over, version: Version) -> None:
    async def main(link: Link) -> None:
        sock = link.sock
        names = {"local": sock.getsockname(), "remote": sock.getpeername()}
        stream = await wrapped(link, over)
        tls = {name: stream.extra(attribute) for name, attribute in attributes(TLSAttribute).items()}
        assert tls["alpn_protocol"] is None
        assert isinstance(tls["channel_binding_tls_unique"], bytes) == (version == "1.2")
        assert tls["cipher"] == stream.stream.ssl_object.cipher()
        assert tls["peer_certificate"]["subjectAltName"]
        assert tls["peer_certificate_binary"] == stream.stream.peer_certificate()
        assert (tls["server_side"], tls["shared_ciphers"]) == (False, None)
        assert isinstance(tls["ssl_object"], ssl.SSLObject)
        assert (tls["standard_compatible"], tls["tls_version"]) == (True, f"TLSv{version}")
        below = {name: stream.extra(attribute) for name, attribute in attributes(SocketAttribute).items()}
        raw = below.pop("raw_socket")
        assert raw.getpeername() == names["remote"]
        assert below == {
            "family": socket.AF_INET,
            "local_address": names["local"],
            "local_port": names["local"][1],
            "remote_address": names["remote"],
            "remote_port": names["remote"][1],
        }
        await stream.aclose()
        if over == "socket":
            assert stream.extra(SocketAttribute.local_port, None) is None

    with peer(polite, version=version) as link:
        run(main, link)


def test_the_attributes_over_a_unix_socket(run: Runner) -> None:
    async def main(link: Link) -> None:
        async with connected(link, "socket") as stream:
            assert stream.extra(SocketAttribute.family) == socket.AF_UNIX
            assert stream.extra(SocketAttribute.remote_address) == ""
            assert stream.extra(SocketAttribute.local_port, None) is None

    with peer(polite, unix=True) as link:
        run(main, link)


def goes_on_in_plain(wire: Wire) -> bytes:
    wire.handshake()
    wire.send(b"encrypted")
    wire.sock.sendall(wire.encrypt_close_notify() + b"in ")
    assert wire.read_to_end() == "close_notify"
    wire.sock.sendall(b"plain")  # Not before: what answers it must not come together with the close_notify.
    return wire.sock.recv(100)


@over_both
@pytest.mark.parametrize("unix", [False, True])
def test_unwrap_keeps_what_is_below(run: Runner, over: Over, unix: bool) -> None:
    async def main(link: Link) -> None:
        stream = await wrapped(link, over)
        assert await stream.receive() == b"encrypted"
        below, rest = await stream.unwrap()
        assert isinstance(below, anyio.abc.UNIXSocketStream if unix else anyio.abc.SocketStream)
        direct = over == "socket" or unix or run.backend == "trio"
        assert (below is stream.transport_stream) != direct
        async with below:
            while len(rest) < len(b"in plain"):
                rest += await below.receive()
            assert rest == b"in plain"
            await below.send(b"so do I")
        assert stream.ending is not None
        assert stream.ending.unwrapped
        with pytest.raises(anyio.ClosedResourceError):
            await stream.receive()

    with peer(goes_on_in_plain, unix=unix) as link:
        run(main, link)
    assert link.result == b"so do I"


def test_alpn(run: Runner) -> None:
    def script(wire: Wire) -> str | None:
        polite(wire)
        return wire.tls.selected_alpn_protocol()

    async def main(link: Link) -> None:
        context = client_context()
        context.set_alpn_protocols(["dummy2", "dummy3"])
        carrier = await carry("anyio", link.sock)
        async with await TLSStream.wrap(carrier, hostname=NAME, ssl_context=context, **LONG) as stream:
            assert stream.extra(TLSAttribute.alpn_protocol) == "dummy2"

    theirs = server_context()
    theirs.set_alpn_protocols(["dummy1", "dummy2"])
    with peer(script, context=theirs) as link:
        run(main, link)
    assert link.result == "dummy2"


def ends_without(wire: Wire) -> str:
    wire.handshake()
    wire.send(b"half")
    wire.fin()
    return wire.read_to_end()


def ends_with_close_notify(wire: Wire) -> str:
    wire.handshake()
    wire.send(b"half")
    wire.close_notify()
    return wire.read_to_end()


@over_both
@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("theirs", [True, False])
def test_every_kind_of_close_on_either_side(run: Runner, over: Over, ours: bool, theirs: bool) -> None:
    """Whether the peer is compatible or not, our close is no error, sends close_notify, and says how it was."""

    async def main(link: Link) -> bowout.Ending:
        stream = await wrapped(link, over, standard_compatible=ours)
        assert await stream.receive() == b"half"
        await stream.aclose()
        assert stream.ending is not None
        return stream.ending

    with peer(ends_with_close_notify if theirs else ends_without) as link:
        ending = run(main, link)
    assert link.result == "close_notify"
    assert ending.clean == theirs


def cut_inside_record(wire: Wire) -> str:
    wire.handshake()
    wire.send(b"half")
    wire.sock.sendall(wire.encrypt(b"the other half")[:-1])
    wire.fin()
    return wire.read_to_end()


def reset(wire: Wire) -> None:
    wire.handshake()
    wire.send(b"half")
    wire.link.await_go()
    wire.rst()


def garble(wire: Wire) -> str:
    wire.handshake()
    wire.send(b"half")
    wire.garbage()
    return wire.read_to_end()


@both_versions
@over_both
@pytest.mark.parametrize(
    ("script", "cause", "inbound"),
    [
        (ends_without, bowout.Truncated, Inbound.TRUNCATED_AT_BOUNDARY),
        (cut_inside_record, bowout.Truncated, Inbound.TRUNCATED_INSIDE_RECORD),
        (reset, bowout.Reset, Inbound.RESET),
        (garble, bowout.ProtocolViolation, Inbound.UNDECRYPTABLE),
    ],
)
@pytest.mark.parametrize("compatible", [True, False])
def test_a_bad_end(
    run: Runner,
    over: Over,
    script: Any,
    cause: type[Exception],
    inbound: Inbound,
    compatible: bool,
    version: Version,
) -> None:
    """Only the cut between two records may be tolerated; inside one, something is certainly missing."""
    error = anyio.EndOfStream if script is ends_without and not compatible else anyio.BrokenResourceError

    async def main(link: Link) -> None:
        async with connected(link, over, standard_compatible=compatible) as stream:
            assert stream.standard_compatible == compatible
            assert await stream.receive() == b"half"
            link.go.set()
            for _ in range(2):  # It stays so.
                with pytest.raises(error) as caught:
                    await stream.receive()
                if error is anyio.BrokenResourceError:
                    assert type(caught.value.__cause__) is cause
        assert stream.ending is not None
        assert stream.ending.inbound is inbound
        assert not stream.ending.clean
        with pytest.raises(anyio.ClosedResourceError):
            await stream.receive()

    with peer(script, version=version) as link:
        run(main, link)


@both_versions
@over_both
def test_the_end_of_the_stream(run: Runner, over: Over, version: Version) -> None:
    """In TLS 1.2 the peer's close_notify ends our direction, too; in TLS 1.3 we may go on."""

    async def main(link: Link) -> None:
        async with connected(link, over) as stream:
            assert await stream.receive() == b"half"
            for _ in range(2):
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
            if version == "1.3":
                await stream.send(b"the rest")
            else:
                with pytest.raises(anyio.BrokenResourceError) as caught:
                    await stream.send(b"the rest")
                assert isinstance(caught.value.__cause__, bowout.PeerClosed)

    def script(wire: Wire) -> bytes:
        assert ends_with_close_notify(wire) == "close_notify"
        return bytes(wire.received)

    with peer(script, version=version) as link:
        run(main, link)
    assert link.result == (b"the rest" if version == "1.3" else b"")


@both_versions
@over_both
def test_half_close(run: Runner, over: Over, version: Version) -> None:
    """In TLS 1.2 too, as far as the peer goes along: this one answers before its own close_notify."""

    def script(wire: Wire) -> None:
        wire.handshake()
        assert wire.read_to_end() == "close_notify"
        if version == "1.3":
            wire.send(b"the answer")
        wire.close_notify()
        wire.read_to_tcp_end()

    async def main(link: Link) -> None:
        async with connected(link, over) as stream:
            await stream.send(b"the question")
            for _ in range(2):
                await stream.send_eof()
            with pytest.raises(anyio.ClosedResourceError):
                await stream.send(b"more")
            if version == "1.3":
                assert await stream.receive() == b"the answer"
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
        assert stream.ending is not None
        assert stream.ending.clean

    with peer(script, version=version) as link:
        run(main, link)


def test_the_default_context(run: Runner) -> None:
    """It notices a truncation, also where the interpreter's default does not."""

    async def main() -> None:
        ours, theirs = objects(8)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(partial(TLSStream.wrap, ours, hostname=NAME))
                assert await theirs.receive()
                scope.cancel()
        connectable = TLSConnectable(anyio.TCPConnectable("peer.test", 443), hostname=NAME)
        assert connectable.ssl_context.verify_mode is ssl.CERT_REQUIRED
        assert not connectable.ssl_context.options & getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        await theirs.aclose()

    run(main)


def test_a_context_of_truststore(run: Runner) -> None:
    """It trusts what the system does, and not the tests' authority."""

    async def main(link: Link) -> None:
        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with pytest.raises(ssl.SSLCertVerificationError):
            await TLSStream.wrap(await carry("anyio", link.sock), hostname=NAME, ssl_context=context, **LONG)

    def script(wire: Wire) -> str:
        try:
            wire.handshake()
        except ssl.SSLError as error:
            return str(error.reason)
        return wire.read_to_end()

    with peer(script) as link:
        run(main, link)
    assert "ALERT_UNKNOWN_CA" in link.result


# -- a listener


async def echo(stream: TLSStream) -> None:
    async with stream:
        async for chunk in stream:
            await stream.send(chunk)


async def asks(port: int, question: bytes = b"ping", **options: Any) -> bowout.Ending:
    context = options.pop("context", client_context())
    async with await bowout.connect(LOOPBACK, port, context=context, **options) as stream:
        await stream.send(question)
        assert await stream.receive_exactly(len(question)) == question
    assert stream.ending is not None
    return stream.ending


class NotedListener(TLSListener):
    """Keeps what its hook was called with."""

    noted: list[tuple[BaseException, anyio.abc.AnyByteStream]]
    more: anyio.Event

    @staticmethod
    async def handle_handshake_error(exc: BaseException, stream: anyio.abc.AnyByteStream) -> None:
        try:
            await TLSListener.handle_handshake_error(exc, stream)
        finally:
            NotedListener.noted.append((exc, stream))
            NotedListener.more.set()


@asynccontextmanager
async def listening(
    handler: Any = echo, kind: type[TLSListener] = TLSListener, **options: Any
) -> AsyncIterator[tuple[TLSListener, int]]:
    """Serve, and give the listener and its port."""
    context = options.pop("ssl_context", None) or server_context()
    listener = kind(await anyio.create_tcp_listener(local_host=LOOPBACK), context, **options)
    NotedListener.noted, NotedListener.more = [], anyio.Event()
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handler)
        yield listener, listener.extra(SocketAttribute.local_port)
        group.cancel_scope.cancel()


@both_versions
def test_serving(run: Runner, version: Version) -> None:
    async def main() -> None:
        async with listening(ssl_context=server_context(version), close_timeout=PATIENCE) as (listener, port):
            assert listener.extra(TLSAttribute.standard_compatible) is True
            for _ in range(2):
                assert (await asks(port)).how is How.CLEAN

    run(main)


def test_serving_in_a_task_group_of_the_caller(run: Runner) -> None:
    async def main() -> None:
        listener = TLSListener(await anyio.create_tcp_listener(local_host=LOOPBACK), server_context())
        async with anyio.create_task_group() as handlers, listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo, handlers)
            assert (await asks(listener.extra(SocketAttribute.local_port))).clean
            group.cancel_scope.cancel()

    run(main)


def test_the_attributes_of_a_server(run: Runner) -> None:
    found: dict[str, Any] = {}

    async def handler(stream: TLSStream) -> None:
        found.update({name: stream.extra(attribute) for name, attribute in attributes(TLSAttribute).items()})
        await echo(stream)

    async def main() -> None:
        theirs, ours = client_context(), server_context()
        certificate("dummy-client").configure_cert(theirs)
        ours.load_verify_locations(cadata=_authority_pem())
        ours.verify_mode = ssl.CERT_REQUIRED
        for context in (theirs, ours):
            context.set_alpn_protocols(["h2"])
        async with listening(handler, ssl_context=ours, standard_compatible=False) as (_, port):
            await asks(port, context=theirs)

    run(main)
    assert found["alpn_protocol"] == "h2"
    assert found["server_side"] is True
    assert len(found["shared_ciphers"]) > 1
    assert found["peer_certificate"]["subjectAltName"] == (("DNS", "dummy-client"),)
    assert found["standard_compatible"] is False


def _authority_pem() -> str:
    from helpers.wire import authority  # noqa: PLC0415

    return authority().cert_pem.bytes().decode()


def leave_at_once(sock: socket.socket) -> None:
    """As a port scanner."""


def speak_plain(sock: socket.socket) -> None:
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    sock.recv(100)


@pytest.mark.parametrize(
    ("visit", "kind", "cause"),
    [
        (leave_at_once, anyio.BrokenResourceError, bowout.HandshakeTruncated),
        (speak_plain, bowout.NotTLS, ssl.SSLError),
    ],
)
def test_a_handshake_that_fails_is_for_the_hook(
    run: Runner, caplog: pytest.LogCaptureFixture, visit: Any, kind: type[Exception], cause: type[Exception]
) -> None:
    caplog.set_level(logging.DEBUG, "bowout.anyio")

    async def never(stream: TLSStream) -> None:
        pytest.fail("there was no handshake")

    def work(port: int) -> None:
        with socket.create_connection((LOOPBACK, port)) as sock:
            visit(sock)

    async def main() -> None:
        async with listening(never, NotedListener) as (_, port):
            await in_thread(lambda: work(port))
            await NotedListener.more.wait()
        ((error, stream),) = NotedListener.noted
        assert type(error) is kind
        assert isinstance(error.__cause__, cause)
        assert isinstance(stream, anyio.abc.SocketStream)
        failure = error if isinstance(error, bowout.BowoutError) else error.__cause__
        assert isinstance(failure, bowout.BowoutError)
        assert failure.ending is not None
        assert failure.ending.how is How.FAILED_HANDSHAKE

    run(main)
    (record,) = [record for record in caplog.records if record.name == "bowout.anyio"]
    assert record.levelname == "INFO"
    assert record.exc_info is None
    assert record.getMessage().startswith("the TLS handshake failed: ")


def test_a_handshake_that_takes_too_long(run: Runner) -> None:
    async def main() -> None:
        async with listening(echo, NotedListener, handshake_timeout=SOON) as (_, port):
            with socket.create_connection((LOOPBACK, port)):
                await NotedListener.more.wait()
        ((error, _),) = NotedListener.noted
        assert isinstance(error, TimeoutError)
        assert isinstance(error, bowout.HandshakeTimeout)

    run(main)


class OneStream(anyio.abc.Listener[Any]):
    """Accepts one stream, in the task that serves."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    async def serve(self, handler: Any, task_group: anyio.abc.TaskGroup | None = None) -> None:
        await handler(self.stream)

    async def aclose(self) -> None:
        await self.stream.aclose()


def test_a_cancelled_handshake_is_for_the_hook_and_goes_on(run: Runner) -> None:
    async def main() -> None:
        NotedListener.noted, NotedListener.more = [], anyio.Event()
        ours, theirs = objects(1)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(NotedListener(OneStream(ours), server_context()).serve, echo)
                await settle()
                scope.cancel()
        assert scope.cancelled_caught
        ((error, stream),) = NotedListener.noted
        assert isinstance(error, cancelled())
        assert stream is ours
        with pytest.raises(anyio.EndOfStream):
            await theirs.receive()
        await theirs.aclose()

    run(main)


def test_an_error_that_is_not_the_peers_is_logged_with_its_traceback(
    run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        ours, theirs = objects(1)
        await TLSListener.handle_handshake_error(KeyError("ours"), ours)
        with pytest.raises(anyio.ClosedResourceError):
            await ours.receive()
        with pytest.raises(KeyboardInterrupt):
            await TLSListener.handle_handshake_error(KeyboardInterrupt(), ours)
        await theirs.aclose()

    run(main)
    (record,) = [record for record in caplog.records if record.name == "bowout.anyio"]
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)


# -- connecting


@pytest.mark.parametrize("host", ["localhost", IPv4Address("127.0.0.1")])
def test_connecting(run: Runner, host: Any) -> None:
    async def main(port: int, context: ssl.SSLContext) -> None:
        async with await connect_tcp(host, port, ssl_context=context, local_host="127.0.0.3", **LONG) as stream:
            assert stream.transport_stream is None
            assert stream.extra(SocketAttribute.local_address)[0] == "127.0.0.3"
            assert stream.extra(SocketAttribute.remote_port) == port
            assert await stream.receive() == GREETING
        assert stream.ending is not None
        assert stream.ending.clean

    def script(act: Act) -> None:
        act.handshake()
        act.send(GREETING)
        act.expect_close_notify()
        act.close_notify()

    with Peer(script) as server:
        run(main, server.port, server.client_context())


@pytest.mark.parametrize("compatible", [True, False])
def test_connecting_to_a_server_that_never_sends_close_notify(run: Runner, compatible: bool) -> None:
    async def main(port: int, context: ssl.SSLContext) -> None:
        async with await connect_tcp(
            LOOPBACK, port, tls_hostname="localhost", ssl_context=context, tls_standard_compatible=compatible
        ) as stream:
            assert stream.extra(TLSAttribute.standard_compatible) == compatible
            assert await stream.receive() == GREETING
            with pytest.raises(anyio.BrokenResourceError if compatible else anyio.EndOfStream):
                await stream.receive()

    with Peer("fin_at_boundary") as server:
        run(main, server.port, server.client_context())


def test_what_does_not_come_to_a_connection(run: Runner) -> None:
    async def main(port: int, **options: Any) -> None:
        await connect_tcp(LOOPBACK, port, ssl_context=client_context(), **options)

    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(OSError, match="refused") as refused:
        run(main, port)
    assert isinstance(refused.value, bowout.ConnectRefused)
    with Peer(Act.handshake) as server, pytest.raises(ssl.SSLCertVerificationError) as caught:
        run(main, server.port)
    assert isinstance(caught.value, bowout.CertificateError)
    with Peer("fin_in_handshake") as server, pytest.raises(anyio.BrokenResourceError) as broken:
        run(main, server.port)
    assert isinstance(broken.value.__cause__, bowout.HandshakeTruncated)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"tls": False}, ValueError, "anyio.connect_tcp.. makes plain connections"),
        ({"local_port": 4711}, ValueError, "local_port needs local_host"),
        ({"local_host": ""}, ValueError, "local_address must be .* host is empty"),
        ({"tls_hostname": ".test"}, ValueError, "server_hostname cannot be"),
        ({"ssl_context": server_context()}, ValueError, "cannot be a client's"),
        ({"happy_eyeballs_delay": -1}, ValueError, "happy_eyeballs_delay must be"),
        ({"truncation": "tolerate"}, TypeError, "no argument 'truncation'; use standard_compatible=False"),
        ({"close_timout": 1}, TypeError, "no argument 'close_timout'; use close_timeout"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_opened(
    run: Runner, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    async def main() -> None:
        await connect_tcp("peer.test", 443, **options)

    with pytest.raises(kind, match=text):
        run(main)


class OverThere(anyio.abc.ByteStreamConnectable):
    """Connects by giving what there is."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    async def connect(self) -> Any:
        return self.stream


def test_a_connectable(run: Runner) -> None:
    async def main() -> None:
        ours, theirs = objects(8)

        async def serve_it() -> None:
            async with await TLSStream.wrap(theirs, server_side=True, ssl_context=server_context(), **LONG) as stream:
                await stream.send(b"hello, " + await stream.receive())

        connectable = TLSConnectable(OverThere(ours), hostname=NAME, ssl_context=client_context(), **LONG)
        async with anyio.create_task_group() as group:
            group.start_soon(serve_it)
            async with await connectable.connect() as stream:
                await stream.send(b"world")
                assert await stream.receive() == b"hello, world"

    run(main)


def test_a_connectable_that_fails_closes(run: Runner) -> None:
    async def main() -> None:
        ours, theirs = objects(8)
        connectable = TLSConnectable(OverThere(ours), hostname=NAME, ssl_context=client_context())
        await theirs.aclose()
        with pytest.raises(anyio.BrokenResourceError):
            await connectable.connect()
        with pytest.raises(anyio.ClosedResourceError):
            await ours.receive()
        with pytest.raises(ValueError, match="give server_hostname"):
            TLSConnectable(OverThere(ours), ssl_context=client_context())
        with pytest.raises(TypeError, match="must be an ssl"):
            TLSConnectable(OverThere(ours), hostname=NAME, ssl_context=7)  # type: ignore[arg-type]

    run(main)


# -- how we end


async def failing_block(stream: TLSStream) -> None:
    async with stream:
        await stream.send(b"half")
        raise KeyError


@over_both
@pytest.mark.parametrize("on_error", ["truncate", "close"])
def test_a_block_that_is_left_by_an_error(run: Runner, over: Over, on_error: str) -> None:
    async def main(link: Link) -> None:
        with pytest.raises(KeyError):
            await failing_block(await wrapped(link, over, on_error=on_error))

    with peer(polite) as link:
        run(main, link)
    assert link.result == ("FIN" if on_error == "truncate" else "close_notify")


@over_both
def test_a_block_that_is_cancelled_sends_close_notify(run: Runner, over: Over) -> None:
    async def main(link: Link) -> None:
        with anyio.CancelScope() as scope:
            async with await wrapped(link, over) as stream:
                await stream.send(b"whole")
                scope.cancel()
                await stream.receive()
        assert scope.cancelled_caught
        assert stream.ending is not None

    with peer(polite) as link:
        run(main, link)
    assert link.result == "close_notify"


@over_both
def test_a_close_in_a_scope_that_is_cancelled_already(run: Runner, over: Over) -> None:
    """On asyncio, anyio goes on cancelling every wait; what TLS is over is closed nevertheless, after close_notify."""

    async def main(link: Link) -> None:
        inode = inode_of(link.sock)
        stream = await wrapped(link, over)
        await anyio.aclose_forcefully(stream)
        assert stream.ending is not None
        assert inode not in open_fds().values()

    with peer(polite) as link:
        run(main, link)
    assert link.result == "close_notify"


@over_both
def test_every_call_notices_a_scope_that_is_cancelled_already(run: Runner, over: Over) -> None:
    """Though there is something to receive, and room to send."""

    def script(wire: Wire) -> str:
        wire.handshake()
        wire.send(b"data")
        wire.link.ready.set()
        return polite_rest(wire)

    async def main(link: Link) -> None:
        async with connected(link, over) as stream:
            await in_thread(link.await_ready)
            for verb in (stream.receive, partial(stream.send, b"more"), stream.send_eof, stream.unwrap):
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await verb()
                assert scope.cancelled_caught
            assert await stream.receive() == b"data"

    with peer(script) as link:
        run(main, link)
    assert link.result == "close_notify"


def polite_rest(wire: Wire) -> str:
    end = wire.read_to_end()
    if end == "close_notify":
        wire.close_notify()
    return end


@over_both
def test_a_silent_peer_costs_no_more_than_the_time_for_a_close(run: Runner, over: Over) -> None:
    async def main(link: Link) -> None:
        async with connected(link, over, close_timeout=SOON) as stream:
            pass
        assert stream.ending is not None
        assert (stream.ending.how, stream.ending.deadline_hit) == (How.UNANSWERED, True)

    with peer(silent) as link:
        run(main, link)


@over_both
def test_a_close_wakes_who_receives(run: Runner, over: Over) -> None:
    async def main(link: Link) -> None:
        stream = await wrapped(link, over)
        async with jobs() as group:
            receiving = group.start(stream.receive)
            await settle()
            second = group.start(stream.receive)
            assert isinstance(await second.ended(), anyio.BusyResourceError)
            await stream.aclose()
            assert isinstance(await receiving.ended(), anyio.ClosedResourceError)

    with peer(polite) as link:
        run(main, link)


@over_both
def test_who_is_woken_by_a_close_does_not_hurry_it(run: Runner, over: Over) -> None:
    async def receive_within(stream: TLSStream) -> None:
        async with stream:
            await stream.receive()

    async def main(link: Link) -> None:
        stream = await wrapped(link, over)
        async with jobs() as group:
            receiving = group.start(receive_within, stream)
            await settle()
            closing = group.start(stream.aclose)
            await settle()
            link.go.set()
            await closing.result()
            assert isinstance(await receiving.ended(), anyio.ClosedResourceError)
        assert stream.ending is not None
        assert (stream.ending.how, stream.ending.reason) == (How.CLEAN, "")

    def script(wire: Wire) -> None:
        wire.handshake()
        wire.link.await_go()
        polite_rest(wire)

    with peer(script) as link:
        run(main, link)


def test_concurrent_sends_go_out_one_after_the_other(run: Runner) -> None:
    size = 1 << 20

    def script(wire: Wire) -> set[bytes]:
        wire.handshake()
        wire.read_exactly(2 * size)
        polite_rest(wire)
        return {bytes(wire.received[:size]), bytes(wire.received[size:])}

    async def main(link: Link) -> None:
        async with connected(link) as stream, jobs() as group:
            for task in [group.start(stream.send, bytes([letter]) * size) for letter in b"ab"]:
                await task.result()

    with peer(script) as link:
        run(main, link)
    assert link.result == {b"a" * size, b"b" * size}


@over_both
def test_after_a_send_that_was_cut_off_nothing_is_sent(run: Runner, over: Over) -> None:
    async def main(link: Link) -> None:
        async with connected(link, over) as stream:
            async with jobs() as group:
                sending = group.start(stream.send, bytes(32 << 20))
                await settle()
                await in_thread(lambda: link.ready.wait(SOON))
                sending.cancel()
                await sending.ended()
            link.go.set()
            for verb in (partial(stream.send, b"more"), stream.send_eof):
                with pytest.raises(anyio.BrokenResourceError) as caught:
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
                await stream.send(b"half")
                with pytest.raises(MisuseError, match="message"):
                    await stream.send_eof()

    with peer(polite) as link:
        run(main, link)


@over_both
def test_a_close_that_is_cancelled_anywhere_has_closed(run: Runner, over: Over) -> None:
    async def main(link: Link, cancel_at: int) -> int:
        inode = inode_of(link.sock)
        stream = await wrapped(link, over, close_timeout=SOON)
        awaits = Awaits(cancel_at, shielded=True)
        await awaits.drive(stream.aclose)
        assert stream.ending is not None
        assert inode not in open_fds().values()
        return awaits.count

    def at(cancel_at: int) -> int:
        with peer(silent) as link:
            return run(main, link, cancel_at)

    most = at(0)
    assert most
    for cancel_at in range(1, most + 1):
        at(cancel_at)


# -- what may be wrapped


def test_what_was_received_before(run: Runner) -> None:
    async def main(link: Link) -> None:
        first = await in_thread(lambda: link.sock.recv(100))
        carrier = await carry("anyio", link.sock)
        async with await TLSStream.wrap(carrier, ssl_context=server_context(), received=first, **LONG):
            pass

    with peer(polite, we="server") as link:
        run(main, link)
    assert link.result == "close_notify"


@pytest.mark.parametrize("unix", [False, True])
def test_a_stream_that_only_wraps_a_socket_is_not_in_between(run: Runner, unix: bool) -> None:
    """Under trio, and for Unix sockets. Its attributes stay."""

    async def main(link: Link) -> None:
        stream = await wrapped(link)
        below = stream.transport_stream
        direct = unix or run.backend == "trio"
        assert below is not None
        assert (stream.stream.socket is below.extra(SocketAttribute.raw_socket)) == direct
        assert (stream.stream.socket is None) != direct
        assert below.extra(SocketAttribute.local_address) == stream.extra(SocketAttribute.local_address)
        await stream.aclose()
        await below.aclose()  # It is closed already.

    with peer(polite, unix=unix) as link:
        run(main, link)


class CountingSocketStream(anyio.abc.SocketStream):
    """Counts what passes through it, as a class of somebody else's may."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self.stream = stream
        self.count = 0

    @property
    def _raw_socket(self) -> Any:
        return self.stream.extra(SocketAttribute.raw_socket)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        data = await self.stream.receive(max_bytes)
        self.count += len(data)
        return data

    async def send(self, item: bytes) -> None:
        await self.stream.send(item)

    async def send_eof(self) -> None:
        await self.stream.send_eof()

    async def aclose(self) -> None:
        await self.stream.aclose()


def test_what_stands_before_a_socket_is_not_passed_over(run: Runner) -> None:
    async def main(link: Link) -> None:
        counting = CountingSocketStream(await carry("anyio", link.sock))
        async with await TLSStream.wrap(counting, hostname=NAME, ssl_context=client_context(), **LONG):
            assert counting.count > 0

    with peer(polite) as link:
        run(main, link)


def test_tls_in_tls(run: Runner) -> None:
    async def main() -> None:
        async def outer(stream: TLSStream) -> None:
            await echo(await TLSStream.wrap(stream, server_side=True, ssl_context=server_context(), **LONG))

        async with listening(outer) as (_, port):
            below = await connect_tcp(LOOPBACK, port, ssl_context=client_context(), **LONG)
            async with await TLSStream.wrap(below, hostname=NAME, ssl_context=client_context(), **LONG) as stream:
                assert stream.extra(SocketAttribute.remote_port) == port
                await stream.send(b"ping")
                assert await stream.receive() == b"ping"
            assert stream.ending is not None
            assert stream.ending.clean
            assert below.ending is not None
            assert below.ending.clean

    run(main)


@both_versions
def test_a_close_in_tls_does_not_end_the_tls_below(run: Runner, version: Version) -> None:
    """In TLS 1.2 a half-close below would: so what the other end still sends would be lost."""

    async def main() -> None:
        below = {
            role: bowout.wrap(sock, our_context(version, role), server_side=server, server_hostname=name, **LONG)
            for role, sock, server, name in zip(ROLES, socket.socketpair(), (False, True), (NAME, None), strict=True)
        }
        async with jobs() as group:
            for stream in below.values():
                group.start(stream.handshake)
        faces = map(TLSStream.from_stream, below.values())
        mine = bowout.wrap(next(faces), client_context("1.3"), server_hostname=NAME, **LONG)
        theirs = bowout.wrap(next(faces), server_context("1.3"), server_side=True, **LONG)
        async with jobs() as group:
            receiving = group.start(theirs.receive)
            await mine.handshake()
            closing = group.start(mine.close)
            assert await receiving.result() == b""
            await theirs.send(bytes(1 << 18))
            assert (await theirs.close()).clean
            assert (await closing.result()).discarded == 1 << 18
        assert mine.ending is not None
        assert mine.ending.clean

    run(main)


def test_what_is_no_stream_of_ours(run: Runner) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match=r"stream must be a bowout\.Stream, not Connecting"):
            TLSStream.from_stream(bowout.connect("peer.test", 443))  # type: ignore[arg-type]

    run(main)


@both_versions
def test_the_other_end_is_anyios_own(run: Runner, version: Version) -> None:
    async def main() -> None:
        ours, theirs = objects(8)

        async def serve_it() -> None:
            async with await StockStream.wrap(theirs, server_side=True, ssl_context=server_context(version)) as stock:
                await stock.send(b"hello, " + await stock.receive())

        async with anyio.create_task_group() as group:
            group.start_soon(serve_it)
            async with await TLSStream.wrap(ours, hostname=NAME, ssl_context=client_context(), **LONG) as stream:
                await stream.send(b"world")
                assert await stream.receive() == b"hello, world"
            assert stream.ending is not None
            assert stream.ending.clean

    run(main)


def test_a_stream_of_ours_becomes_one_of_anyios(run: Runner) -> None:
    async def handler(stream: bowout.Stream) -> None:
        adapted = TLSStream.from_stream(stream)
        assert adapted.stream is stream
        assert repr(adapted) == f"<bowout.anyio.TLSStream over {stream!r}>"
        await echo(adapted)

    async def main() -> None:
        async with serve(handler) as server:
            assert (await asks(server.port)).clean

    run(main)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({}, ValueError, "a server needs ssl_context, with its certificate; a client needs hostname"),
        ({"server_side": True}, ValueError, "a server needs ssl_context"),
        ({"server_side": False}, ValueError, "give server_hostname"),
        ({"hostname": NAME, "ssl_context": server_context()}, ValueError, "cannot be a client's"),
        ({"hostname": NAME, "ssl_context": True}, TypeError, "must be an ssl.SSLContext"),
        ({"hostname": NAME, "close_timeout": -1}, ValueError, "close_timeout must be"),
        ({"hostname": NAME, "received": "text"}, TypeError, "received must be bytes"),
        ({"hostname": NAME, "alpn": ["h2"]}, TypeError, "no argument 'alpn'; use ssl_context.set_alpn_protocols"),
    ],
)
def test_a_wrong_argument_leaves_the_stream_to_its_owner(
    run: Runner, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    async def main() -> None:
        ours, theirs = objects(1)
        with pytest.raises(kind, match=text):
            await TLSStream.wrap(ours, **options)
        await ours.send(b"x")
        assert await theirs.receive() == b"x"
        await ours.aclose()
        await theirs.aclose()

    run(main)


def test_the_name_of_a_server_is_in_its_certificate(run: Runner) -> None:
    """anyio's own tests give a server a hostname, too."""

    async def main(link: Link) -> None:
        carrier = await carry("anyio", link.sock)
        async with await TLSStream.wrap(
            carrier, server_side=True, hostname="localhost", ssl_context=server_context(), **LONG
        ):
            pass

    with peer(polite, we="server") as link:
        run(main, link)
    assert link.result == "close_notify"


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"ssl_context": client_context()}, ValueError, "cannot be a server's"),
        ({"handshake_timeout": -1}, ValueError, "handshake_timeout must be"),
        ({"session": object()}, ValueError, "session is for clients"),
        ({"xyz": 1}, TypeError, "no argument 'xyz'$"),
    ],
)
def test_a_wrong_argument_of_a_listener(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        TLSListener(None, **{"ssl_context": server_context(), **options})  # type: ignore[arg-type]


def test_without_the_extra_it_says_how_to_get_it() -> None:
    text = "import sys; sys.modules['anyio'] = None; import bowout.anyio"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("bowout.anyio needs the package anyio: pip install 'bowout[anyio]'")
