"""`wrap(received=…)`: what was read from the socket before the stream was made counts as if it came now."""

from __future__ import annotations

import socket
import ssl

import pytest

import bowout
from bowout import How, NotTLS, Stream
from helpers.runners import Runner
from helpers.tasks import in_thread
from helpers.wire import NAME, PATIENCE, VERSIONS, Version, Wire, peer, polite, server_context, tcp_pair

HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 443\r\n"


def read(sock: socket.socket, count: int) -> bytes:
    """Read so many bytes, as somebody does who looks at what comes first."""
    sock.settimeout(PATIENCE)
    data = b""
    while len(data) < count:
        data += sock.recv(count - len(data))
    return data


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("count", [0, 1, 5, 100], ids=["nothing", "a byte", "a header", "more"])
def test_a_server_goes_on_from_what_was_read(run: Runner, version: Version, count: int) -> None:
    def client(wire: Wire) -> str:
        wire.handshake()
        wire.send(b"hello")
        end = wire.read_to_end()
        wire.close_notify()
        return end

    async def main() -> How:
        received = await in_thread(lambda: read(link.sock, count))
        async with bowout.wrap(
            link.sock, server_context(version), server_side=True, received=received, handshake_timeout=PATIENCE
        ) as stream:
            assert await stream.receive_exactly(5) == b"hello"
        assert stream.ending is not None
        return stream.ending.how

    with peer(client, we="server", version=version) as link:
        assert run(main) is How.CLEAN
    assert link.result == "close_notify"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_header_may_come_in_one_piece_with_the_hello(run: Runner, kind: type) -> None:
    def client(wire: Wire) -> str:
        with pytest.raises(ssl.SSLWantReadError):
            wire.tls.do_handshake()
        hello = wire._out.read()
        wire.sock.sendall(HEADER + hello)
        return polite(wire)

    async def main() -> None:
        first = await in_thread(lambda: read(link.sock, len(HEADER) + 50))
        stream = bowout.wrap(link.sock, server_context(), server_side=True, received=kind(first[len(HEADER) :]))
        await stream.handshake()
        await stream.close()

    with peer(client, we="server") as link:
        run(main)
    assert link.result == "close_notify"


def test_all_that_came_may_have_been_read(run: Runner) -> None:
    """A client's whole flight, and its FIN: nothing more will come from the kernel."""

    async def main() -> None:
        ours, theirs = tcp_pair()
        theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
        theirs.shutdown(socket.SHUT_WR)
        received = read(ours, 18)
        with theirs, pytest.raises(NotTLS) as caught:
            await bowout.wrap(ours, server_context(), server_side=True, received=received).handshake()
        assert caught.value.sample == received

    run(main)


def test_a_client_that_was_sent_plain_text_is_told(run: Runner) -> None:
    async def main() -> None:
        with pytest.raises(NotTLS) as caught:
            await bowout.wrap(link.sock, context, server_hostname=NAME, received=b"220 mail ESMTP\r\n").handshake()
        assert caught.value.sample.startswith(b"220 ")

    context = ssl.create_default_context()
    with peer(lambda wire: wire.read_to_tcp_end()) as link:
        run(main)


def test_what_unwrap_gives_begins_another_connection(run: Runner) -> None:
    """The peer ends TLS, and begins it again in the same segment."""

    def client(wire: Wire) -> str:
        wire.handshake()
        again = Wire(wire.sock, client_side, server_side=False, link=link)
        with pytest.raises(ssl.SSLWantReadError):
            again.tls.do_handshake()
        wire.sock.sendall(wire.encrypt_close_notify() + again._out.read())
        assert wire.read_to_end() == "close_notify"
        again._in.write(wire._in.read())  # Nothing, unless we were quick.
        again.handshake()
        again.send(b"again")
        end = again.read_to_end()
        again.close_notify()
        return end

    async def main() -> Stream:
        sock, leftover = await link.stream().unwrap(PATIENCE)
        assert leftover
        async with bowout.wrap(sock, server_context(), server_side=True, received=leftover) as stream:
            assert await stream.receive_exactly(5) == b"again"
        return stream

    client_side = ssl.create_default_context()
    client_side.check_hostname, client_side.verify_mode = False, ssl.CERT_NONE
    with peer(client, we="server", version="1.2") as link:
        stream = run(main)
    assert link.result == "close_notify"
    assert stream.ending is not None
    assert stream.ending.how is How.CLEAN
