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


#: Talks to itself, forks while a task receives, and has the child forget the stream or abort it.
FORKING = """
import asyncio, os, socket, ssl, sys, warnings
import anyio, bowout

async def echo(stream):
    async for chunk in stream:
        await stream.send(chunk)

async def main():
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(sys.argv[1])
    client = ssl.create_default_context(cafile=sys.argv[2])
    async with bowout.serve(echo, "127.0.0.1", context=server) as listening:
        stream = await bowout.connect("localhost", listening.port, context=client)
        await stream.send(b"before")
        assert await stream.receive_exactly(6) == b"before"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive_word, stream)
            await anyio.wait_all_tasks_blocked()
            leave_a_child(stream)
            await stream.send(b"after")
        print((await stream.close()).how)

async def receive_word(stream):
    assert await stream.receive_exactly(5) == b"after"

def leave_a_child(stream):
    pid = os.fork()
    if pid == 0:
        try:
            if sys.argv[3] == "forgets":
                warnings.simplefilter("ignore")
                stream.__del__()  # as when nothing holds it any more
            else:
                stream.abort()
        except bowout.MisuseError:
            pass
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert not any(stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)), "close would send RST"

loop = sys.argv[4]
if loop == "trio":
    import trio
    trio.run(main)
elif loop == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("what", ["forgets", "aborts"])
def test_what_a_forked_child_does_with_a_stream_does_not_end_it(backend: str, what: str, tmp_path: Path) -> None:
    cert, trust = tmp_path / "server.pem", tmp_path / "ca.pem"
    cert.write_bytes(authority().issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.bytes())
    authority().cert_pem.write_to_path(trust)
    with program(FORKING, str(cert), str(trust), what, backend) as process:
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
        for verb, arguments in (("close", ()), ("write", (b"x",)), ("write_eof", ())):
            try:
                getattr(writer, verb)(*arguments)
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.backends("asyncio", "uvloop")
def test_what_a_forked_child_does_with_a_writer_does_not_end_it(backend: str, tmp_path: Path) -> None:
    cert, trust = tmp_path / "server.pem", tmp_path / "ca.pem"
    cert.write_bytes(authority().issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.bytes())
    authority().cert_pem.write_to_path(trust)
    with program(FORKING_WRITER, str(cert), str(trust), backend) as process:
        assert process.rest() == "bowout.asyncio\nwrite\nwrite_eof\nbowout.asyncio\nclean\n"
