"""Connecting: the stream, or the one error that says what is wrong; and never a descriptor left open."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import select
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
import trustme

import bowout
from bowout import (
    CertificateError,
    ConnectError,
    ConnectRefused,
    ConnectTimeout,
    HandshakeAlert,
    HandshakeReset,
    HandshakeTimeout,
    HandshakeTruncated,
    How,
    MisuseError,
    NameNotResolved,
    NotTLS,
    StartTLSError,
    Stream,
)
from bowout._backends import asyncio as asyncio_backend
from bowout._backends import sockets
from bowout._backends import trio as on_trio_backend
from bowout._backends.asyncio import AsyncioBackend
from bowout._backends.trio import TrioBackend
from bowout._client import load_context
from helpers.peers import require_ipv6
from helpers.runners import Runner
from helpers.served import nothing
from helpers.tasks import jobs, on_trio, settle, turn
from helpers.wire import (
    NAME,
    PATIENCE,
    VERSIONS,
    Version,
    Wire,
    client_context,
    peer,
    polite,
    server_context,
    tcp_pair,
)


@contextlib.contextmanager
def server(
    serve: Callable[[socket.socket], object], host: str = "127.0.0.1", *, accept: bool = True
) -> Iterator[tuple[str, int]]:
    """Listen, and `serve` the first connection in a thread."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    over = threading.Event()
    with socket.create_server((host, 0), family=family) as listener:
        listener.settimeout(PATIENCE)

        def work() -> None:
            with contextlib.suppress(OSError):
                sock = listener.accept()[0]
                sock.settimeout(PATIENCE)
                with sock, contextlib.suppress(OSError):
                    serve(sock)
                    over.wait(PATIENCE)

        thread = threading.Thread(target=work) if accept else threading.Thread(target=over.wait)
        thread.start()
        try:
            yield listener.getsockname()[:2]
        finally:
            over.set()
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes an accept that nobody came to
            thread.join()


def tls(context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    """Serve TLS: read to the end, and answer."""

    def serve(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as wrapped:
            while wrapped.recv(1000):
                pass

    return serve


async def connect(address: tuple[str, int], **options: Any) -> Stream:
    arguments: dict[str, Any] = {"context": client_context(), "server_hostname": NAME} | options
    return await bowout.connect(*address, **arguments)


async def connect_and_close(address: tuple[str, int], options: dict[str, Any]) -> bowout.Ending:
    return await (await connect(address, **options)).close()


def failure(run: Runner, address: tuple[str, int], **options: Any) -> bowout.BowoutError:
    """Connect, and give the error that comes of it."""
    with pytest.raises(bowout.BowoutError) as caught:
        run(connect_and_close, address, options)
    return caught.value


# -- it works --------------------------------------------------------------------------------------------------------


def test_connect_can_be_awaited(run: Runner) -> None:
    with server(tls(server_context())) as address:
        assert run(connect_and_close, address, {}).how is not How.FAILED_HANDSHAKE


@pytest.mark.parametrize(
    ("begun", "name", "words"),
    [
        (lambda: bowout.connect("localhost", 443), "send", "async with bowout.connect(…) as stream"),
        (lambda: bowout.serve(nothing, context=server_context()), "drain", "async with bowout.serve(…) as server"),
    ],
)
def test_who_forgets_to_await_is_told(begun: Callable[[], object], name: str, words: str) -> None:
    with pytest.raises(AttributeError, match=re.escape(words)):
        getattr(begun(), name)
    with pytest.raises(AttributeError, match=r"has no attribute 'sent'$"):
        getattr(begun(), "sent")  # noqa: B009  (a type checker knows)


def test_connect_is_a_context_manager(run: Runner) -> None:
    async def main() -> bowout.Ending | None:
        async with bowout.connect(*address, context=client_context(), server_hostname=NAME) as stream:
            await stream.send(b"hello")
        return stream.ending

    with server(tls(server_context())) as address:
        ending = run(main)
    assert ending is not None
    assert ending.close_notify_sent_at is not None


def test_a_context_manager_left_by_an_error_cuts_the_stream(run: Runner) -> None:
    streams: list[Stream] = []

    async def main() -> None:
        async with bowout.connect(*address, context=client_context(), server_hostname=NAME) as stream:
            streams.append(stream)
            raise ValueError("mine")

    with server(tls(server_context())) as address, pytest.raises(ValueError, match="mine"):
        run(main)
    ending = streams[0].ending
    assert ending is not None
    assert ending.close_notify_sent_at is None


def test_a_connect_is_used_once(run: Runner) -> None:
    async def main() -> None:
        connecting = bowout.connect(*address, context=client_context(), server_hostname=NAME)
        stream = await connecting
        with pytest.raises(MisuseError):
            await connecting
        await stream.close()

    with server(tls(server_context())) as address:
        run(main)


@pytest.mark.parametrize("by", ["host", "server_hostname", "wrap"])
def test_the_dot_of_an_absolute_name_is_not_for_tls(run: Runner, by: str) -> None:
    async def main() -> bowout.Ending:
        sock = socket.create_connection(address)
        if by == "wrap":
            stream = bowout.wrap(sock, client_context(), server_hostname=f"{NAME}.")
        else:
            names = {"host": (f"{NAME}.", None), "server_hostname": ("unknown.test", f"{NAME}.")}
            host, name = names[by]
            stream = await bowout.connect(host, 443, over=sock, context=client_context(), server_hostname=name)
        async with stream:
            pass
        assert stream.ending is not None
        return stream.ending

    asked: list[str | None] = []
    context = server_context()
    context.sni_callback = lambda _sock, name, _context: asked.append(name)
    with server(tls(context)) as address:
        assert run(main).how is not How.FAILED_HANDSHAKE
    assert asked == [NAME]


def test_an_on_event_that_fails_is_logged_and_harmless(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    def on_event(event: bowout.Event) -> None:
        raise ValueError(event.kind)

    with server(tls(server_context())) as address:
        assert run(connect_and_close, address, {"on_event": on_event}).how is not How.FAILED_HANDSHAKE
    assert {record.getMessage() for record in caplog.records} == {"on_event failed"}


def test_a_name_is_resolved_and_every_address_tried(run: Runner) -> None:
    """localhost may be ::1 first, where nobody listens."""
    with server(tls(server_context())) as (_, port):
        assert run(connect_and_close, ("localhost", port), {}).peer == f"localhost:{port}"


def test_an_ipv6_address_is_a_host(run: Runner) -> None:
    require_ipv6()
    with server(tls(server_context()), "::1") as (_, port):
        assert run(connect_and_close, ("::1", port), {"server_hostname": None}).peer == f"[::1]:{port}"


def test_the_host_is_the_name_that_is_checked(run: Runner) -> None:
    with server(tls(server_context())) as address:
        assert run(connect_and_close, address, {"server_hostname": None}).tls_version == "TLSv1.3"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stream_tells_what_was_agreed_on(run: Runner, version: Version) -> None:
    context = server_context(version)
    context.set_alpn_protocols(["two", "one"])

    async def main() -> dict[str, Any]:
        stream = await connect(address, alpn=["one"])
        facts = {
            "version": stream.tls_version,
            "alpn": stream.alpn,
            "cipher": bool(stream.cipher),
            "der": bool(stream.peer_certificate()),
            "fields": "subjectAltName" in (stream.peer_certificate_fields() or {}),
            "peer": stream.peer,
        }
        await stream.close()
        return facts

    with server(tls(context)) as address:
        facts = run(main)
    peer_name = f"{address[0]}:{address[1]}"
    assert facts == {
        "version": f"TLSv{version}", "alpn": "one", "cipher": True, "der": True, "fields": True, "peer": peer_name,
    }  # fmt: skip


def test_before_the_handshake_nothing_is_agreed_on(run: Runner) -> None:
    async def main() -> tuple[object, ...]:
        stream = link.stream()
        facts = stream.tls_version, stream.cipher, stream.alpn, stream.ending
        stream.abort()
        return facts

    with peer(lambda wire: None) as link:
        assert run(main) == (None, None, None, None)


def test_a_stream_shows_its_state(run: Runner) -> None:
    async def main() -> tuple[str, str]:
        stream = link.stream()
        await stream.handshake()
        before = repr(stream)
        await stream.close()
        return before, repr(stream)

    with peer(polite) as link:
        before, after = run(main)
    assert before.startswith("<bowout.Stream client 127.0.0.1:")
    assert before.endswith(": open>")
    assert "clean: we sent close_notify" in after


def test_the_default_context_trusts_the_system_only(run: Runner) -> None:
    with server(tls(server_context())) as address:
        error = failure(run, address, context=None)
        assert isinstance(error, CertificateError)
        assert any("ssl.create_default_context(cafile=FILE)" in note for note in error.__notes__)


# -- no TCP connection -----------------------------------------------------------------------------------------------


def test_the_systems_trust_is_loaded_once_for_what_it_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[ssl.SSLContext] = []
    load = ssl.create_default_context

    def loading() -> ssl.SSLContext:
        loaded.append(load())
        return loaded[-1]

    load_context.cache_clear()
    monkeypatch.setattr(ssl, "create_default_context", loading)
    counts = []
    for alpn in (None, None, ["h2"], ["h2"]):
        bowout.connect("peer.example", 443, alpn=alpn)
        counts.append(len(loaded))
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    bowout.connect("peer.example", 443)
    assert (counts, len(loaded)) == ([1, 1, 2, 2], 3)


def test_a_name_without_an_address(run: Runner) -> None:
    error = failure(run, ("no-such-host.invalid", 443))
    assert isinstance(error, NameNotResolved)
    assert isinstance(error.__cause__, socket.gaierror)


def test_a_name_that_is_none(run: Runner) -> None:
    error = failure(run, ("a" * 64 + ".example", 443), server_hostname=NAME)
    assert isinstance(error, NameNotResolved)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_closed_port(run: Runner, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = failure(run, (host, port))
    assert isinstance(error, ConnectRefused)
    assert isinstance(error, OSError)
    assert error.__cause__ is not None


@pytest.mark.parametrize("listening", [True, False])
def test_a_connect_that_is_not_done_at_once(run: Runner, monkeypatch: pytest.MonkeyPatch, listening: bool) -> None:
    """As over any network; without the second look nobody knows that it is done."""
    monkeypatch.setattr(sockets, "CONNECTS_TWICE", False)
    looked = []
    check = sockets.check_connected

    def note(sock: socket.socket) -> None:
        looked.append(sock)
        check(sock)

    for module in (asyncio_backend, on_trio_backend):
        monkeypatch.setattr(module, "check_connected", note)
    with server(tls(server_context()), accept=listening) as address:
        if listening:
            assert run(connect_and_close, address, {}).how is not How.FAILED_HANDSHAKE
    if not listening:
        assert isinstance(failure(run, address), ConnectRefused)
    assert len(looked) == 1


def test_a_connect_that_is_cancelled_closes_its_socket(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "CONNECTS_TWICE", False)

    async def main(address: tuple[str, int]) -> None:
        async with jobs() as group:
            connecting = group.start(connect, address)
            await turn()
            connecting.cancel()
            await connecting.ended()

    with server(tls(server_context()), accept=False) as address:
        run(main, address)  # The guard looks for descriptors.


def test_a_connect_that_nobody_answers(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(self: object, host: str, port: int, **_: object) -> socket.socket:
        if on_trio():
            await trio.sleep_forever()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    for backend in (AsyncioBackend, TrioBackend):
        monkeypatch.setattr(backend, "connect", never)
    assert isinstance(failure(run, ("192.0.2.1", 443), connect_timeout=0.05), ConnectTimeout)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (TimeoutError(110, "Connection timed out"), ConnectTimeout),
        (OSError(113, "No route to host"), ConnectError),
        (OSError("all attempts failed"), ConnectError),
    ],
)
def test_what_the_system_says_of_a_connect(
    run: Runner, monkeypatch: pytest.MonkeyPatch, raised: OSError, expected: type[ConnectError]
) -> None:
    async def fail(self: object, host: str, port: int, **_: object) -> socket.socket:
        raise raised

    for backend in (AsyncioBackend, TrioBackend):
        monkeypatch.setattr(backend, "connect", fail)
    error = failure(run, ("192.0.2.1", 443))
    assert type(error) is expected
    assert error.__cause__ is raised


# -- from where, and how soon the next address is tried ---------------------------------------------------------------


def free_port(host: str) -> int:
    """A port that is free there, as far as can be known."""
    with socket.create_server((host, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def two_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every name have two addresses; nobody listens at the first."""

    async def resolve(self: object, host: str, port: int, flags: int = 0) -> list[Any]:
        hosts = [host] if host[0].isdigit() else ["127.0.0.4", "127.0.0.1"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in hosts]

    for backend in (AsyncioBackend, TrioBackend):
        monkeypatch.setattr(backend, "resolve", resolve)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "two.test"])
@pytest.mark.parametrize("with_port", [False, True])
def test_the_local_address(run: Runner, monkeypatch: pytest.MonkeyPatch, host: str, with_port: bool) -> None:
    if host == "two.test":
        if run.backend == "trio" and not with_port:
            pytest.skip("trio resolves by itself")
        two_addresses(monkeypatch)
    local = ("127.0.0.3", free_port("127.0.0.3") if with_port else 0)

    async def main(address: tuple[str, int]) -> Any:
        async with await connect(address, local_address=local if with_port else local[0]) as stream:
            return stream.local_address

    with server(tls(server_context())) as (_, port):
        found = run(main, (host, port))
    assert found[0] == local[0]
    assert found[1] == local[1] or not with_port


@pytest.mark.parametrize("host", ["127.0.0.1", "two.test"])
def test_a_local_port_that_is_taken(run: Runner, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    two_addresses(monkeypatch)
    with server(tls(server_context())) as (_, port), socket.create_server(("127.0.0.3", 0)) as taken:
        assert type(failure(run, (host, port), local_address=taken.getsockname())) is ConnectError


def test_a_local_port_and_no_address_that_answers(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    two_addresses(monkeypatch)
    address = ("two.test", free_port("127.0.0.1"))
    assert isinstance(failure(run, address, local_address=("127.0.0.3", free_port("127.0.0.3"))), ConnectRefused)


def test_the_delay_between_two_addresses(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []

    async def fail(*_: object, happy_eyeballs_delay: float, **__: object) -> None:
        given.append(happy_eyeballs_delay)
        raise OSError("enough")

    two_addresses(monkeypatch)
    monkeypatch.setattr("aiohappyeyeballs.start_connection", fail)
    monkeypatch.setattr("trio.open_tcp_stream", fail)
    failure(run, ("two.test", 443), happy_eyeballs_delay=0.125)
    failure(run, ("two.test", 443))
    assert given == [0.125, 0.25]


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        (
            {"local_address": ""},
            ValueError,
            "local_address must be a host, or a tuple of a host and a port: host is empty",
        ),
        ({"local_address": 7}, TypeError, "local_address must be .*: host must be a str, not int"),
        ({"local_address": ("127.0.0.1", 65536)}, ValueError, "local_address must be .*: port must be from 0 to 65535"),
        ({"local_address": ("127.0.0.1", "80")}, TypeError, "local_address must be .*: port must be an int"),
        ({"local_address": ("127.0.0.1", 1, 2)}, TypeError, "local_address must be .*: host must be a str, not tuple"),
        ({"happy_eyeballs_delay": None}, TypeError, "happy_eyeballs_delay must be a number of seconds"),
        ({"happy_eyeballs_delay": -1}, ValueError, "happy_eyeballs_delay must be a finite number"),
    ],
)
def test_a_wrong_local_address_or_delay(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        bowout.connect("peer.test", 443, **options)


def test_a_local_address_is_for_a_connection_that_is_made() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ValueError, match="or leave out over"):
        bowout.connect("peer.test", 443, over=ours, local_address="127.0.0.1")


# -- no TLS ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("greeting", "name"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
        (b"220 mail.example ESMTP\r\n", "SMTP"),
        (b"\x00\x01\x02\x03\x04\x05\x06", r"\\x00"),
    ],
)
def test_a_peer_that_speaks_plain_text(run: Runner, greeting: bytes, name: str) -> None:
    with server(lambda sock: sock.sendall(greeting)) as address:
        error = failure(run, address)
    assert isinstance(error, NotTLS)
    assert error.sample.startswith(greeting[:5])
    assert error.ending is not None
    assert error.ending.how is How.FAILED_HANDSHAKE
    with pytest.raises(NotTLS, match=name):
        raise error


def test_a_certificate_for_another_name(run: Runner) -> None:
    with server(tls(server_context())) as address:
        error = failure(run, address, server_hostname="other.test")
    assert isinstance(error, CertificateError)
    assert error.verify_code == 62
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)


def test_a_certificate_that_nobody_vouches_for(run: Runner) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(NAME).configure_cert(context)
    with server(tls(context)) as address:
        error = failure(run, address)
    assert isinstance(error, CertificateError)
    assert error.verify_message


def test_a_server_without_a_cipher_in_common(run: Runner) -> None:
    strict = client_context("1.2")
    strict.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    other = server_context("1.2")
    other.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    with server(tls(other)) as address:
        error = failure(run, address, context=strict)
    assert isinstance(error, HandshakeAlert)
    assert error.alert.name == "handshake_failure"


def test_a_server_that_leaves_in_the_handshake(run: Runner) -> None:
    def leave(sock: socket.socket) -> None:
        sock.recv(1000)
        sock.shutdown(socket.SHUT_WR)

    with server(leave) as address:
        error = failure(run, address)
    assert isinstance(error, HandshakeTruncated)
    assert isinstance(error, EOFError)


def test_a_server_that_resets_in_the_handshake(run: Runner) -> None:
    def reset(sock: socket.socket) -> None:
        sock.recv(1000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()

    with server(reset) as address:
        error = failure(run, address)
    assert isinstance(error, HandshakeReset)
    assert isinstance(error, ConnectionResetError)


def test_a_handshake_that_stalls(run: Runner) -> None:
    with server(lambda sock: sock.recv(1000)) as address:
        error = failure(run, address, handshake_timeout=0.1)
    assert isinstance(error, HandshakeTimeout)
    assert isinstance(error, TimeoutError)
    assert error.ending is not None
    assert error.ending.how is How.FAILED_HANDSHAKE


def test_a_handshake_that_stalls_on_its_last_flight(run: Runner) -> None:
    """The peer finished and reads no more: our part never leaves, and the handshake is not done."""

    many = server_context()
    many.num_tickets = 100

    async def main() -> None:
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client = bowout.wrap(theirs, client_context(), server_hostname=NAME, handshake_timeout=PATIENCE)
        # Long enough for the peer's part, on a busy machine too.
        stalled = bowout.wrap(ours, many, server_side=True, handshake_timeout=1.0)
        async with jobs() as group:
            shaking = group.start(stalled.handshake)
            await client.handshake()
            assert isinstance(await shaking.ended(), HandshakeTimeout)
        assert ours.fileno() == -1
        assert stalled.ending is not None
        client.abort()

    run(main)


def test_every_verb_repeats_a_failed_handshake(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        for call in (stream.handshake, stream.receive, lambda: stream.send(b"x"), stream.send_eof, stream.unwrap):
            with pytest.raises(HandshakeTruncated):
                await call()
        assert (await stream.close()).how is How.FAILED_HANDSHAKE

    with peer(lambda wire: wire.fin()) as link:
        run(main)


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["plain text", "FIN"])
def test_a_failed_handshake_is_freed_without_the_collector(run: Runner, greeting: bytes) -> None:
    def refuse(wire: Wire) -> None:
        wire.sock.sendall(greeting)
        wire.fin()
        wire.read_to_tcp_end()

    async def main() -> bool:
        stream = link.stream()
        with pytest.raises(bowout.HandshakeError):
            await stream.handshake()
        engine = weakref.ref(stream._connection.engine)
        del stream
        await turn()
        return engine() is None

    gc.disable()
    try:
        with peer(refuse) as link:
            assert run(main)
    finally:
        gc.enable()


def test_two_tasks_share_one_handshake(run: Runner) -> None:
    async def main() -> bytes:
        stream = link.stream()
        async with jobs() as group:
            reader = group.start(stream.receive)
            sender = group.start(stream.send, b"hello")
            await sender.result()
            data = await reader.result()
        await stream.close()
        return data

    def echo(wire: Wire) -> None:
        wire.handshake()
        wire.read_exactly(5)
        wire.send(bytes(wire.received))
        wire.read_to_end()

    with peer(echo) as link:
        assert run(main) == b"hello"


def test_a_server_side_stream_refuses_what_is_no_tls(run: Runner) -> None:
    async def main() -> None:
        with pytest.raises(NotTLS):
            await link.stream().receive()

    with peer(lambda wire: wire.sock.sendall(b"GET / HTTP/1.1\r\n\r\n"), we="server") as link:
        run(main)


# -- what is refused before the socket is taken ------------------------------------------------------------------------


def test_wrapping_needs_a_running_loop() -> None:
    ours, theirs = tcp_pair()
    with ours, theirs, pytest.raises(RuntimeError, match="running event loop"):
        bowout.wrap(ours, client_context(), server_hostname=NAME)


def test_a_context_for_the_other_side_is_refused_before_the_socket_is_taken() -> None:
    ours, theirs = tcp_pair()
    with ours, theirs:
        with pytest.raises(ValueError, match="cannot be a client's"):
            bowout.connect("peer.test", 443, over=ours, context=server_context())
        assert ours.fileno() >= 0


def test_a_name_that_tls_cannot_carry_is_refused_before_the_socket_is_taken() -> None:
    ours, theirs = tcp_pair()
    with ours, theirs:
        for call in (
            lambda: bowout.connect("peer..test", 443, over=ours, context=client_context()),
            lambda: bowout.wrap(ours, client_context(), server_hostname=".bad"),
            lambda: bowout.wrap(ours, client_context()),
        ):
            with pytest.raises(ValueError, match="server_hostname"):
                call()
        assert ours.fileno() >= 0


def test_a_stream_that_cannot_be_made_closes_the_socket(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ssl.SSLError("not today")

    async def main() -> None:
        with pytest.raises(ssl.SSLError, match="not today"):
            await bowout.connect("peer.test", 443, over=ours, context=client_context())
        assert ours.fileno() == -1

    monkeypatch.setattr("bowout._options.StreamOptions.stream", fail)
    ours, theirs = tcp_pair()
    with theirs:
        run(main)


# -- over a socket, and STARTTLS -------------------------------------------------------------------------------------


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_tls_over_a_connected_socket(run: Runner, unix: bool) -> None:
    async def main() -> How:
        stream = await bowout.connect(NAME, 443, over=link.sock, context=client_context())
        return (await stream.close()).how

    with peer(polite, unix=unix) as link:
        assert run(main) is How.CLEAN


def smtp(*, injected: bytes = b"", refuse: bool = False) -> Callable[[Wire], str]:
    """A mail server that changes to TLS."""

    def script(wire: Wire) -> str:
        wire.sock.sendall(b"220 peer.test ESMTP\r\n")
        assert wire.sock.recv(1000).startswith(b"EHLO")
        wire.sock.sendall(b"250-peer.test\r\n250 STARTTLS\r\n")
        assert wire.sock.recv(1000) == b"STARTTLS\r\n"
        if refuse:
            wire.sock.sendall(b"454 not today\r\n")
            return wire.read_to_tcp_end()
        wire.sock.sendall(b"220 go ahead\r\n" + injected)
        if injected:
            return wire.read_to_tcp_end()
        return polite(wire)

    return script


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_starttls_and_then_tls(run: Runner, unix: bool) -> None:
    async def main() -> How:
        async with bowout.connect(NAME, 25, over=link.sock, context=client_context(), starttls="smtp") as stream:
            assert stream.tls_version == "TLSv1.3"
        assert stream.ending is not None
        return stream.ending.how

    with peer(smtp(), unix=unix) as link:
        assert run(main) is How.CLEAN
    assert link.result == "close_notify"


def starttls_failure(run: Runner, script: Callable[[Wire], object], **options: Any) -> bowout.BowoutError:
    """Try STARTTLS for SMTP, and give the error that comes of it."""

    async def main() -> None:
        await bowout.connect(NAME, 25, over=link.sock, context=client_context(), starttls="smtp", **options)

    with peer(script) as link, pytest.raises(bowout.BowoutError) as caught:
        run(main)
    assert link.sock.fileno() == -1
    return caught.value


def test_plain_text_that_was_slipped_in_after_the_agreement_is_refused(run: Runner) -> None:
    error = starttls_failure(run, smtp(injected=b"250 trust me\r\n"))
    assert isinstance(error, StartTLSError)
    assert "14 bytes" in str(error)


def test_a_server_that_refuses_starttls(run: Runner) -> None:
    assert "not today" in str(starttls_failure(run, smtp(refuse=True)))


def test_a_server_that_leaves_in_the_dialogue(run: Runner) -> None:
    def leave(wire: Wire) -> None:
        wire.sock.sendall(b"220 peer")
        wire.fin()
        wire.hold()

    error = starttls_failure(run, leave)
    assert isinstance(error, StartTLSError)
    assert "closed the connection" in str(error)


def test_a_server_that_resets_in_the_dialogue(run: Runner) -> None:
    def reset(wire: Wire) -> None:
        wire.sock.sendall(b"220 peer.test ESMTP\r\n")
        wire.sock.recv(1000)
        wire.rst()

    error = starttls_failure(run, reset)
    assert isinstance(error, StartTLSError)
    assert isinstance(error.__cause__, OSError)


def test_a_dialogue_that_stalls(run: Runner) -> None:
    error = starttls_failure(run, lambda wire: wire.hold(), connect_timeout=0.1)
    assert isinstance(error, StartTLSError)
    assert "within 0.1 s" in str(error)


def test_a_cancelled_dialogue_closes_the_socket(run: Runner) -> None:
    async def main() -> None:
        async def talk() -> Stream:
            return await bowout.connect(NAME, 25, over=link.sock, context=client_context(), starttls="smtp")

        async with jobs() as group:
            job = group.start(talk)
            await settle()
            job.cancel()
            await job.ended()
        assert link.sock.fileno() == -1

    with peer(lambda wire: wire.hold()) as link:
        run(main)


def test_a_question_waits_for_a_server_that_does_not_read(run: Runner) -> None:
    """postgres asks first: fill the socket, so that the question has to wait."""

    async def main() -> None:
        link.sock.setblocking(False)
        while select.select([], [link.sock], [], 0.1)[1]:
            filled.append(link.sock.send(bytes(1 << 16)))
        async with jobs() as group:
            job = group.start(talk)
            await settle()
            link.go.set()
            await (await job.result()).close()

    async def talk() -> Stream:
        return await bowout.connect(NAME, 5432, over=link.sock, context=client_context(), starttls="postgres")

    def read_late(wire: Wire) -> None:
        wire.link.await_go()
        wanted = sum(filled) + 8
        while wanted:
            wanted -= len(wire.sock.recv(min(1 << 16, wanted)))
        wire.sock.sendall(b"S")
        polite(wire)

    filled: list[int] = []
    with peer(read_late, small=True) as link:
        run(main)
