"""Descriptors of which somebody else has a copy, as a forked process has: what ends for the peer, and what does not."""

from __future__ import annotations

import os
import socket

import pytest

import bowout
from bowout import How, Outbound, _backends
from helpers.runners import Runner
from helpers.tasks import in_thread, jobs
from helpers.wire import NAME, PATIENCE, Wire, client_context, peer, polite, tcp_pair


def copy_of(sock: socket.socket) -> socket.socket:
    """Another descriptor of the same connection, as a child of fork() has it."""
    return socket.socket(fileno=os.dup(sock.fileno()))


def test_a_close_ends_the_connection_for_the_peer(run: Runner) -> None:
    async def main() -> How:
        stream = link.stream()
        await stream.handshake()
        return (await stream.close()).how

    def read_on(wire: Wire) -> tuple[str, str]:
        return polite(wire), wire.read_to_tcp_end()

    with peer(read_on) as link, copy_of(link.sock):
        assert run(main) is How.CLEAN
    assert link.result == ("close_notify", "FIN")


def test_a_close_that_could_not_send_all_ends_it_too(run: Runner) -> None:
    """Without a FIN of its own the peer would wait for as long as the copy lives."""

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            sender = group.start(stream.send, bytes(1 << 20))
            await in_thread(link.await_full)
            ending = await stream.close(0)
            link.go.set()
            await sender.ended()
        return ending

    def read_late(wire: Wire) -> str:
        wire.handshake()
        wire.link.await_go()
        return wire.read_to_tcp_end()

    with peer(read_late, small=True) as link, copy_of(link.sock):
        assert run(main).how is not How.CLEAN
    assert link.result == "FIN"


def test_a_stream_that_never_began_ends_it_too(run: Runner) -> None:
    async def main() -> None:
        ours, theirs = tcp_pair()
        with theirs, copy_of(ours):
            stream = bowout.wrap(ours, client_context(), server_hostname=NAME)
            await stream.close()
            theirs.settimeout(PATIENCE)
            assert await in_thread(lambda: theirs.recv(1)) == b""

    run(main)


def test_an_abort_is_heard_when_the_last_copy_is_closed(run: Runner) -> None:
    """The kernel has no other way to send an RST; `Stream.abort` says so."""

    async def main() -> None:
        ours, theirs = tcp_pair()
        with theirs:
            with copy_of(ours):
                stream = bowout.wrap(ours, client_context(), server_hostname=NAME)
                assert stream.abort().outbound is Outbound.RESET
                theirs.settimeout(0)
                with pytest.raises(BlockingIOError):
                    theirs.recv(1)
            theirs.settimeout(PATIENCE)
            with pytest.raises(ConnectionResetError):
                await in_thread(lambda: theirs.recv(1))

    run(main)


def test_what_a_forked_child_closes_is_its_copy(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        ours, theirs = tcp_pair()
        with theirs, copy_of(ours) as parents:
            transport = _backends.current().transport(ours, "")
            with monkeypatch.context() as child:
                child.setattr(os, "getpid", lambda: -1)
                transport.close()
            parents.sendall(b"still here")
            theirs.settimeout(PATIENCE)
            assert await in_thread(lambda: theirs.recv(100)) == b"still here"

    run(main)
