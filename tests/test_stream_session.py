"""Does a handshake resume an earlier session, and is one that cannot be resumed refused in time?"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest

import bowout
from bowout import How
from helpers.peers import require_program
from helpers.served import connect as connect_to
from helpers.served import serve
from helpers.starttls_servers import Home, vsftpd_that_wants_reuse
from helpers.tasks import in_thread
from helpers.wire import (
    NAME,
    VERSIONS,
    Link,
    Version,
    Wire,
    authority,
    client_context,
    our_context,
    peer,
    server_context,
    tcp_pair,
)

if TYPE_CHECKING:
    from helpers.runners import Runner

both_versions = pytest.mark.parametrize("version", VERSIONS)


def greeting(wire: Wire) -> str:
    """Send a word, so that a ticket before it is read, too; then read to the end and answer it."""
    wire.handshake()
    wire.send(b"hello")
    end = wire.read_to_end()
    if end == "close_notify":
        wire.close_notify()
    return end


async def greeted(stream: bowout.Stream) -> ssl.SSLSession | None:
    """Receive the word, close, and give the session."""
    assert await stream.receive_exactly(5) == b"hello"
    session = stream.session
    assert (await stream.close()).how is How.CLEAN
    return session


def first_session(run: Runner, version: Version, **options: Any) -> ssl.SSLSession:
    """The session of a connection that has ended well."""
    with peer(greeting, version=version, **options) as link:
        session = run(lambda: greeted(link.stream()))
    assert session is not None
    return session


# -- it is resumed ---------------------------------------------------------------------------------------------------


@both_versions
@pytest.mark.parametrize("by", ["wrap", "connect"])
def test_a_session_is_resumed(run: Runner, version: Version, by: str) -> None:
    async def main() -> tuple[bool, bool, bytes | None]:
        if by == "wrap":
            stream = link.stream(session=session)
            before = stream.resumed
        else:
            before = False
            context = our_context(version, "client")
            stream = await bowout.connect(NAME, 443, over=link.sock, context=context, session=session)
        await stream.handshake()
        after, certificate = stream.resumed, stream.peer_certificate()
        await greeted(stream)
        return before, after, certificate

    session = first_session(run, version)
    with peer(greeting, version=version) as link:
        before, after, certificate = run(main)
    assert (before, after) == (False, True)
    assert certificate, "what the first handshake has checked is still known"
    assert link.result == "close_notify"


@both_versions
def test_without_a_session_nothing_is_resumed(run: Runner, version: Version) -> None:
    async def main() -> bool:
        stream = link.stream()
        await greeted(stream)
        return stream.resumed

    first_session(run, version)
    with peer(greeting, version=version) as link:
        assert not run(main)


@both_versions
def test_a_session_is_resumed_while_its_own_connection_is_open(run: Runner, version: Version) -> None:
    """As the data connection of FTP does it."""

    async def talk(stream: bowout.Stream) -> None:
        await stream.send(b"hello")
        await stream.receive()

    async def main() -> tuple[bool, bool]:
        context = client_context(version)
        async with serve(talk, version=version) as server, await connect_to(server, context=context) as control:
            await control.receive_exactly(5)
            async with await connect_to(server, context=context, session=control.session) as data:
                return control.resumed, data.resumed

    assert run(main) == (False, True)


@both_versions
def test_a_session_that_the_server_has_forgotten_is_a_full_handshake(run: Runner, version: Version) -> None:
    async def main() -> bool:
        stream = link.stream(session=session)
        await greeted(stream)
        return stream.resumed

    session = first_session(run, version)
    with peer(greeting, version=version, context=server_context(version)) as link:
        assert not run(main)


@both_versions
def test_a_resumed_stream_gives_a_session_for_the_next(run: Runner, version: Version) -> None:
    async def again(link: Link, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
        stream = link.stream(session=session)
        session = await greeted(stream)
        assert stream.resumed
        return session

    session: ssl.SSLSession | None = first_session(run, version)
    for _ in range(2):
        with peer(greeting, version=version) as link:
            session = run(again, link, session)


# -- there is none ---------------------------------------------------------------------------------------------------


@both_versions
def test_before_the_handshake_there_is_no_session(run: Runner, version: Version) -> None:
    async def main() -> tuple[object, bool]:
        stream = link.stream()
        facts = stream.session, stream.resumed
        stream.abort()
        return facts

    with peer(lambda wire: None, version=version) as link:
        assert run(main) == (None, False)


def test_a_server_that_gives_no_ticket_gives_no_session(run: Runner) -> None:
    context = server_context("1.3")
    context.num_tickets = 0
    with peer(greeting, version="1.3", context=context) as link:
        assert run(lambda: greeted(link.stream())) is None


@both_versions
def test_a_server_has_no_session_to_give(run: Runner, version: Version) -> None:
    async def main() -> ssl.SSLSession | None:
        stream = link.stream()
        await stream.handshake()
        session = stream.session
        await stream.close()
        return session

    def client(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        with contextlib.suppress(ConnectionError):
            wire.close_notify()

    with peer(client, version=version, we="server") as link:
        assert run(main) is None


# -- it is refused ---------------------------------------------------------------------------------------------------


@both_versions
def test_a_session_of_another_context_is_refused_before_the_socket_is_taken(run: Runner, version: Version) -> None:
    async def main() -> None:
        for make in (
            lambda: bowout.wrap(ours, client_context(version), server_hostname=NAME, session=session),
            lambda: bowout.connect(NAME, 443, over=ours, context=client_context(version), session=session),
            lambda: bowout.connect(NAME, 443, over=ours, session=session),
        ):
            with pytest.raises(ValueError, match="the session belongs to another context"):
                make()
        assert ours.fileno() >= 0

    session = first_session(run, version)
    ours, theirs = tcp_pair()
    with ours, theirs:
        run(main)


def test_a_server_resumes_no_session_of_its_own_accord(run: Runner) -> None:
    session = first_session(run, "1.3")
    ours, theirs = tcp_pair()
    with ours, theirs, pytest.raises(ValueError, match="session is for clients"):
        bowout.wrap(ours, server_context(), server_side=True, session=session)


# -- a real server that insists on it --------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 4000


async def reply(control: bowout.Stream) -> bytes:
    """The last line of an answer."""
    while True:
        line = await control.receive_until(b"\r\n")
        if re.match(rb"\d{3} ", line):
            return line


async def download(control: bowout.Stream, context: ssl.SSLContext, *, resume: bool) -> tuple[bytes, bytes, bool]:
    """Fetch the file: what came, the last word about it, and whether the data connection resumed the session."""
    answer = b""
    for command in (b"USER anonymous", b"PBSZ 0", b"PROT P", b"TYPE I", b"PASV"):
        await control.send(command + b"\r\n")
        answer = await reply(control)
    numbers = re.search(rb"\(([\d,]+)\)", answer)
    assert numbers is not None, answer
    *_, high, low = map(int, numbers[1].split(b","))
    sock = await in_thread(lambda: socket.create_connection(("127.0.0.1", high * 256 + low)))
    await control.send(b"RETR file\r\n")
    assert (await reply(control)).startswith(b"150")
    data = bowout.wrap(sock, context, server_hostname="localhost", session=control.session if resume else None)
    content = b"".join([chunk async for chunk in data])
    resumed = data.resumed
    await data.close()
    return content, await reply(control), resumed


@both_versions
@pytest.mark.parametrize("resume", [True, False], ids=["resumed", "anew"])
def test_vsftpd_insists_on_the_session_of_its_control_connection(run: Runner, version: Version, resume: bool) -> None:
    async def main(port: int) -> tuple[bytes, bytes, bool]:
        context = client_context(version)
        # vsftpd ends its control connection by a FIN alone.
        control = await bowout.connect("localhost", port, context=context, starttls="ftp", truncation="tolerate")
        async with control:
            return await download(control, context, resume=resume)

    require_program("vsftpd")
    with Home.create(authority()) as home, vsftpd_that_wants_reuse(home, {"file": CONTENT}) as ports:
        content, last, resumed = run(main, ports["ftp"])
    if resume:
        assert (content == CONTENT, last[:3], resumed) == (True, b"226", True)
    else:
        assert (content, last[:3], resumed) == (b"", b"522", False)
