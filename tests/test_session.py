"""Resuming a TLS session: public on both ways to make a stream, and bound to its context."""

from __future__ import annotations

import random
import re
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest
import trustme

import bowout
from bowout import How, Stream, _sessions
from helpers.runners import Runner
from helpers.starttls_servers import Home, free_ports, vsftpd
from helpers.tasks import jobs, settle
from helpers.wire import NAME, VERSIONS, Version, Wire, client_context, peer, server_context, tcp_pair

SIZE = 3_000_000


# -- an FTP server that wants its data connections to resume the session of the control connection --------------------


@pytest.fixture(scope="module")
def ftp() -> Iterator[tuple[int, trustme.CA, bytes]]:
    authority = trustme.CA()
    with Home.create(authority) as home, vsftpd(home) as ports:
        data = random.Random(9).randbytes(SIZE)
        (home.path / "files" / "big.bin").write_bytes(data)
        yield ports["ftp"], authority, data


class Control:
    """The control connection of FTP."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    async def ask(self, line: str) -> bytes:
        await self.stream.send(f"{line}\r\n".encode())
        return await self.reply()

    async def reply(self) -> bytes:
        while True:
            line = await self.stream.receive_until(b"\r\n")
            if re.match(rb"\d{3} ", line):
                return line

    async def data_socket(self) -> socket.socket:
        numbers = re.search(rb"\(([\d,]+)\)", await self.ask("PASV"))
        assert numbers is not None
        high, low = map(int, numbers[1].split(b",")[4:])
        return socket.create_connection(("127.0.0.1", high * 256 + low))


async def fetch(port: int, context: ssl.SSLContext, *, resume: bool) -> tuple[bytes, bool, bytes, How]:
    """Fetch the file: what came, whether the session was resumed, the last reply, how the data connection ended."""
    async with bowout.connect(
        "localhost", port, context=context, starttls="ftp", truncation="tolerate", close_timeout=1
    ) as stream:
        control = Control(stream)
        for line in ("USER anonymous", "PBSZ 0", "PROT P", "TYPE I"):
            await control.ask(line)
        sock = await control.data_socket()
        await control.ask("RETR big.bin")
        session = stream.session if resume else None
        async with bowout.wrap(sock, context, server_hostname="localhost", session=session) as data:
            try:
                received = b"".join([chunk async for chunk in data])
            except bowout.BowoutError:
                received = b""
        assert data.ending is not None
        return received, data.resumed, await control.reply(), data.ending.how


@pytest.mark.parametrize("version", VERSIONS)
def test_a_file_comes_from_a_server_that_wants_the_resumed(
    run: Runner, ftp: tuple[int, trustme.CA, bytes], version: Version
) -> None:
    port, authority, content = ftp
    context = client_context(version)
    authority.configure_trust(context)

    async def main() -> tuple[bytes, bool, bytes, How]:
        return await fetch(port, context, resume=True)

    received, resumed, reply, how = run(main)
    assert resumed
    assert received == content
    assert reply.startswith(b"226 ")
    assert how is How.CLEAN


@pytest.mark.backends("asyncio")
def test_that_server_refuses_a_new_session(run: Runner, ftp: tuple[int, trustme.CA, bytes]) -> None:
    """Or the test above would show nothing."""
    port, authority, _ = ftp
    context = client_context("1.2")
    authority.configure_trust(context)

    async def main() -> tuple[bytes, bool, bytes, How]:
        return await fetch(port, context, resume=False)

    received, resumed, reply, _ = run(main)
    assert (received, resumed) == (b"", False)
    assert reply.startswith(b"522 ")


# -- a session and its stream ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_there_when_it_can_be_resumed(run: Runner, version: Version) -> None:
    """In TLS 1.3 it comes as a ticket, after the handshake; in TLS 1.2 within it."""
    context = client_context(version)

    async def main() -> None:
        seen: list[bool | None] = []
        streams: list[Stream] = []

        async def handler(stream: Stream) -> None:
            streams.append(stream)
            seen.append(stream.resumed)
            assert stream.session is None
            await stream.send(b"hello")
            await stream.receive()

        async with bowout.serve(handler, "127.0.0.1", context=server_context(version)) as server:
            first = bowout.connect("127.0.0.1", server.port, context=context)
            async with first as stream:
                assert (stream.session is not None) == (version == "1.2")
                await stream.receive_exactly(5)
                session = stream.session
                assert isinstance(session, ssl.SSLSession)
                assert not stream.resumed
            assert stream.session is not None  # It outlives its stream.
            async with bowout.connect("127.0.0.1", server.port, context=context, session=session) as again:
                await again.receive_exactly(5)
                assert again.resumed
                assert again.peer_certificate() == stream.peer_certificate()
        assert seen == [False, True]

    run(main)


def test_before_the_handshake_there_is_no_session(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        assert stream.session is None
        assert not stream.resumed
        stream.abort()

    with peer(lambda wire: None) as link:
        run(main)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_half_agreed_on_is_not_shown(run: Runner, version: Version) -> None:
    """OpenSSL cannot describe it; a handshake that was refused stays like that."""

    async def main() -> None:
        stream = link.stream()
        async with jobs() as group:
            shaking = group.start(stream.handshake)
            await settle()
            assert (stream.session, stream.peer_certificate(), stream.peer_certificate_fields()) == (None, None, None)
            link.go.set()
            assert isinstance(await shaking.ended(), bowout.HandshakeError)
        assert (stream.session, stream.peer_certificate(), stream.peer_certificate_fields()) == (None, None, None)

    def resetting(wire: Wire) -> None:
        wire.link.await_go()
        wire.rst()

    with peer(resetting, version=version) as link:
        run(main)


def test_a_server_without_tickets_leaves_no_session_in_tls13(run: Runner) -> None:
    context = server_context("1.3")
    context.num_tickets = 0

    async def main() -> None:
        async def handler(stream: Stream) -> None:
            await stream.send(b"hello")

        async with (
            bowout.serve(handler, "127.0.0.1", context=context) as server,
            bowout.connect("127.0.0.1", server.port, context=client_context("1.3")) as stream,
        ):
            assert [chunk async for chunk in stream] == [b"hello"]
            assert stream.session is None

    run(main)


@pytest.mark.parametrize("by", ["connect", "wrap"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_of_another_context_is_refused_at_once(run: Runner, version: Version, by: str) -> None:
    async def main() -> None:
        async def handler(stream: Stream) -> None:
            await stream.send(b"hello")
            await stream.receive()

        async with (
            bowout.serve(handler, "127.0.0.1", context=server_context(version)) as server,
            bowout.connect("127.0.0.1", server.port, context=client_context(version)) as stream,
        ):
            await stream.receive_exactly(5)
            session = stream.session
            ours, theirs = tcp_pair()
            calls: dict[str, Callable[[], object]] = {
                "connect": lambda: bowout.connect(NAME, 443, over=ours, context=client_context(), session=session),
                "wrap": lambda: bowout.wrap(ours, client_context(), server_hostname=NAME, session=session),
            }
            with ours, theirs, pytest.raises(ValueError, match="another context"):
                calls[by]()

    run(main)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("checked", [True, False])
def test_a_session_does_not_vouch_for_another_name(run: Runner, version: Version, checked: bool) -> None:
    """Resumed, no certificate would be checked again, whatever the name; and no name was, where none was wanted."""
    context = client_context(version)

    async def main() -> None:
        async def handler(stream: Stream) -> None:
            await stream.send(b"hello")
            await stream.receive()

        context.check_hostname = checked
        async with (
            bowout.serve(handler, "127.0.0.1", context=server_context(version)) as server,
            bowout.connect("127.0.0.1", server.port, context=context, server_hostname=NAME) as stream,
        ):
            await stream.receive_exactly(5)
            session = stream.session
            context.check_hostname = True
            other = "other.test" if checked else NAME
            with pytest.raises(ValueError, match="checks no certificate again"):
                bowout.connect("127.0.0.1", server.port, context=context, server_hostname=other, session=session)
            context.check_hostname = False
            bowout.connect("127.0.0.1", server.port, context=context, server_hostname=other, session=session)

    run(main)


def test_the_servers_of_the_last_sessions_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    class ResumedConnection:
        def __init__(self, number: int) -> None:
            self.id = bytes([number])

    monkeypatch.setattr(_sessions, "CAPACITY", 2)
    context = client_context()
    first, second, third = (ResumedConnection(number) for number in range(3))
    for session in (first, second, first, third):
        _sessions.remember(context, session, "A.test")  # type: ignore[arg-type]
    _sessions.check(context, second, "b.test")  # type: ignore[arg-type]  # It is forgotten.
    _sessions.check(context, first, "a.TEST")  # type: ignore[arg-type]
    for session in (first, third):
        with pytest.raises(ValueError, match=r"of 'a\.test'"):
            _sessions.check(context, session, "b.test")  # type: ignore[arg-type]


def test_a_session_that_the_server_has_forgotten_is_a_new_handshake(run: Runner) -> None:
    (port,) = free_ports(1)
    context = client_context("1.3")

    async def visit(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool]:
        async def handler(stream: Stream) -> None:
            await stream.send(b"hello")

        async with (
            bowout.serve(handler, "127.0.0.1", port, context=server_context("1.3")),
            bowout.connect("127.0.0.1", port, context=context, session=session) as stream,
        ):
            await stream.receive_exactly(5)
            return stream.session, stream.resumed

    async def main() -> None:
        session, _ = await visit(None)
        assert session is not None
        _, resumed = await visit(session)
        assert not resumed

    run(main)
