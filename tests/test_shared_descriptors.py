"""Descriptors that another process holds too: does the peer see how we end, and is what a child does its own affair?"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import bowout
from bowout import How
from helpers.served import program
from helpers.tasks import in_thread, jobs
from helpers.wire import VERSIONS, Version, Wire, authority, leaving, peer, polite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from helpers.runners import Runner

both_versions = pytest.mark.parametrize("version", VERSIONS)
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@contextlib.contextmanager
def held_by_another(descriptor: int) -> Iterator[None]:
    """Another process holds a copy while the block runs."""
    holder = subprocess.Popen(
        [sys.executable, "-c", "input()"], pass_fds=[descriptor], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        holder.communicate()


@both_versions
def test_a_close_is_a_close_while_another_process_holds_a_copy(run: Runner, version: Version) -> None:
    async def main() -> How:
        stream = link.stream()
        await stream.handshake()
        with held_by_another(link.sock.fileno()):
            ending = await stream.close()
            await in_thread(link.await_ready)
        return ending.how

    with peer(polite, version=version) as link:
        assert run(main) is How.CLEAN
    assert link.result == "close_notify"


def test_the_peer_of_a_cancelled_close_sees_close_notify_and_fin(run: Runner) -> None:
    """Nothing is waited for there: closing the descriptor alone would send nothing."""

    async def use() -> None:
        async with link.stream() as stream:
            streams.append(stream)
            await stream.receive()

    async def main() -> None:
        async with jobs() as group:
            job = group.start(use)
            while not (streams and streams[0].tls_version):
                await in_thread(lambda: None)
            with held_by_another(link.sock.fileno()):
                job.cancel()
                await job.ended()
                await in_thread(link.await_ready)

    streams: list[bowout.Stream] = []
    with peer(lambda wire: (leaving(wire), wire.read_to_tcp_end())) as link:
        run(main)
    assert link.result == ("close_notify", "FIN")


def test_the_peer_of_a_stream_left_by_an_error_sees_a_truncation(run: Runner) -> None:
    async def use(copied: contextlib.ExitStack) -> None:
        async with link.stream() as stream:
            await stream.send(b"half a message")
            copied.enter_context(held_by_another(link.sock.fileno()))
            raise ValueError("mine")

    async def main() -> None:
        with contextlib.ExitStack() as copied:
            with pytest.raises(ValueError, match="mine"):
                await use(copied)
            await in_thread(link.await_ready)

    with peer(leaving) as link:
        run(main)
    assert link.result == "FIN"


def test_the_peer_of_a_failed_handshake_sees_the_end(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        with held_by_another(link.sock.fileno()):
            with pytest.raises(bowout.NotTLS):
                await stream.handshake()
            await in_thread(link.await_ready)

    def plain(wire: Wire) -> str:
        wire.sock.sendall(b"SSH-2.0-OpenSSH\r\n")
        return wire.read_to_tcp_end()

    with peer(plain) as link:
        run(main)
    assert link.result == "FIN"


#: Talks to itself, forks while a task receives, and has the child do what would end the connection.
FORKING = """
import asyncio, gc, os, socket, ssl, sys, warnings
import anyio, bowout, bowout.anyio

async def plain(port, client):
    return await bowout.connect("localhost", port, context=client)

async def pair(port, client):
    return bowout.wrap(await asyncio.open_connection("127.0.0.1", port), client, server_hostname="localhost")

async def over_anyio(port, client):
    return bowout.wrap(await anyio.connect_tcp("127.0.0.1", port), client, server_hostname="localhost")

async def face_of_anyio(port, client):
    return await bowout.anyio.connect_tcp("localhost", port, ssl_context=client)

async def face_of_trio(port, client):
    import bowout.trio
    return await bowout.trio.open_ssl_over_tcp_stream("localhost", port, ssl_context=client)

async def echo(stream):
    async for chunk in stream:
        await stream.send(chunk)

async def main():
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(sys.argv[1])
    client = ssl.create_default_context(cafile=sys.argv[2])
    async with bowout.serve(echo, "127.0.0.1", context=server) as listening:
        given = await FACES[sys.argv[4]](listening.port, client)
        stream = getattr(given, "stream", given)
        await stream.send(b"before")
        assert await stream.receive_exactly(6) == b"before"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive_word, stream)
            await anyio.wait_all_tasks_blocked()
            leave_a_child(given, stream)
            await stream.send(b"after")
        print((await stream.close()).how)

async def receive_word(stream):
    assert await stream.receive_exactly(5) == b"after"

def leave_a_child(given, stream):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            warnings.simplefilter("ignore")
            CHILD[sys.argv[3]](given, stream)
        except BaseException as error:
            print("child:", repr(error), flush=True)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    if stream.socket is not None:
        assert not any(stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)), "close would send RST"

def forget(given, stream):
    stream.__del__()  # as when nothing holds it any more

def abort(given, stream):
    stream.abort()
    assert "forked child" in stream.ending.reason, stream.ending

def close(given, stream):
    run(given.aclose())
    assert "forked child" in stream.ending.reason, stream.ending
    assert stream.socket is None

def use(given, stream):
    for verb in (lambda: stream.send(b"x"), stream.send_eof, stream.unwrap, stream.wait_ended):
        try:
            run(verb())
        except bowout.MisuseError as error:
            assert "make a connection of its own" in str(error), error
        else:
            raise AssertionError(verb)
    assert not stream.is_reusable()

async def in_block(stream):
    async with stream:
        sys.exit()

def leave(given, stream):
    try:
        run(in_block(stream))
    except SystemExit:
        assert "forked child" in stream.ending.reason, stream.ending

def run(coroutine):
    if loop != "trio":
        return asyncio.run(coroutine)  # the parent's loop does not run here
    try:
        coroutine.send(None)
    except StopIteration:
        pass
    finally:
        coroutine.close()

FACES = {
    "stream": plain, "pair": pair, "anyio": over_anyio, "face of anyio": face_of_anyio, "face of trio": face_of_trio
}
CHILD = {"forgets": forget, "aborts": abort, "closes": close, "uses": use, "leaves": leave}
loop = sys.argv[5]
if loop == "trio":
    import trio
    trio.run(main)
elif loop == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""

FACES = ["stream", "pair", "anyio", "face of anyio", "face of trio"]


def credentials(where: Path) -> tuple[str, str]:
    """The paths of a server's certificate with its key, and of what a client trusts."""
    cert, trust = where / "server.pem", where / "ca.pem"
    cert.write_bytes(authority().issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.bytes())
    authority().cert_pem.write_to_path(trust)
    return str(cert), str(trust)


@forks
@pytest.mark.parametrize("what", ["forgets", "aborts", "closes", "uses", "leaves"])
@pytest.mark.parametrize("face", FACES)
def test_what_a_forked_child_does_with_a_stream_does_not_end_it(
    backend: str, face: str, what: str, tmp_path: Path
) -> None:
    if face in {"pair", "face of trio"} and (face == "pair") == (backend == "trio"):
        pytest.skip("not on this loop")
    with program(FORKING, *credentials(tmp_path), what, face, backend) as process:
        assert process.rest() == "clean\n"


#: Does the same in blocking code; the child says what it got, if it is to use the connection.
FORKING_BLOCKING = """
import os, socket, ssl, sys, threading
import bowout, bowout.blocking

server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
server.load_cert_chain(sys.argv[1])
client = ssl.create_default_context(cafile=sys.argv[2])
what, face = sys.argv[3:]
listener = socket.create_server(("127.0.0.1", 0))
ends = []

def echo():
    with bowout.blocking.wrap(listener.accept()[0], server, server_side=True) as stream:
        for chunk in stream:
            stream.send(chunk)
    ends.append(stream.ending.how)

def main():
    thread = threading.Thread(target=echo)
    thread.start()
    port = listener.getsockname()[1]
    if face == "stream":
        stream = bowout.blocking.connect("localhost", port, context=client)
        send, receive = stream.send, stream.receive
    else:
        context = bowout.blocking.prepare_context(client)
        stream = context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost")
        send, receive = stream.sendall, stream.recv
    send(b"before")
    assert receive(100) == b"before"
    pid = os.fork()
    if pid == 0:
        try:
            in_child(stream, send, receive)
        except BaseException as error:
            print("child:", repr(error), flush=True)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    if what != "takes over":
        send(b"after")
        assert receive(100) == b"after"
        stream.close()
    thread.join()
    print(*ends)

def in_child(stream, send, receive):
    if what == "aborts":
        stream.abort()
    elif what == "leaves":
        try:
            with stream:
                sys.exit()
        except SystemExit:
            pass
    elif what == "takes over":
        send(b"mine")
        assert receive(100) == b"mine"
        stream.close()
        assert str(stream.ending.how) == "clean", stream.ending
        return
    else:
        stream.close()
    assert "forked child" in stream.ending.reason, stream.ending

main()
"""


@forks
@pytest.mark.parametrize("what", ["aborts", "closes", "leaves", "takes over"])
@pytest.mark.parametrize("face", ["stream", "socket"])
def test_what_a_forked_child_does_with_a_blocking_connection_does_not_end_it(
    face: str, what: str, tmp_path: Path
) -> None:
    """If it has used the connection, it ends it: as with the standard library, a parent may leave it to a child."""
    with program(FORKING_BLOCKING, *credentials(tmp_path), what, face) as process:
        assert process.rest() == "clean\n"


#: Talks over asyncio's interface, forks, and has the child do what it must not do to its parent's connection.
FORKING_WRITER = """
import asyncio, logging, os, ssl, sys
import bowout, bowout.asyncio

logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(name)s", force=True)

async def answer(reader, writer):
    writer.write(await reader.read())
    writer.close()

async def main():
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(sys.argv[1])
    client = ssl.create_default_context(cafile=sys.argv[2])
    listening = await bowout.asyncio.start_server(answer, "127.0.0.1", 0, ssl=server)
    port = listening.sockets[0].getsockname()[1]
    reader, writer = await bowout.asyncio.open_connection("127.0.0.1", port, ssl=client)
    leave_a_child(writer)
    writer.write(b"word")
    writer.write_eof()
    assert await reader.read() == b"word"
    writer.close()
    await writer.wait_closed()
    print(writer.get_extra_info("ending").how)
    await bowout.asyncio.drain(listening)

def leave_a_child(writer):
    pid = os.fork()
    if pid == 0:
        verbs = {"close": (), "write": (b"x",), "write_eof": (), "pause_reading": (), "resume_reading": ()}
        for verb, arguments in verbs.items():
            try:
                getattr(writer.transport, verb)(*arguments)
            except bowout.MisuseError as error:
                assert "TLSTransport client 127.0.0.1" in str(error), error
                print(verb, flush=True)
        writer.transport.abort()
        os._exit(0)
    os.waitpid(pid, 0)

factory = None
if sys.argv[3] == "uvloop":
    import uvloop
    factory = uvloop.new_event_loop
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main())
"""


@forks
@pytest.mark.backends("asyncio", "uvloop")
def test_what_a_forked_child_does_with_a_writer_does_not_end_it(backend: str, tmp_path: Path) -> None:
    with program(FORKING_WRITER, *credentials(tmp_path), backend) as process:
        assert (
            process.rest() == "bowout.asyncio\nwrite\nwrite_eof\npause_reading\nresume_reading\nbowout.asyncio\nclean\n"
        )
