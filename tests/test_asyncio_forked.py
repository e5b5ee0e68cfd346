"""Forked children of a program with asyncio connections: what they do to their copies is not done to the parent's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from helpers.served import program
from helpers.wire import authority

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.backends("asyncio", "uvloop"),
]

#: Talks over a connection before and after a child has done what `misuse` does; {} is the body of that function.
TALKING: Final = """
import asyncio, gc, logging, os, ssl, sys, warnings
import bowout, bowout.asyncio

logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(name)s", force=True)
warnings.simplefilter("always")
warnings.showwarning = lambda message, *args: print("warned", str(message).partition(" client")[0])

def refused(call, *args):
    try:
        call(*args)
    except bowout.MisuseError:
        print("refused", flush=True)

async def answer(reader, writer):
    while word := await reader.read(100):
        writer.write(word)
    writer.close()

def misuse(reader, writer, listening, pending):
{}

async def main():
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(sys.argv[1])
    client = ssl.create_default_context(cafile=sys.argv[2])
    listening = await bowout.asyncio.start_server(answer, "127.0.0.1", 0, ssl=server)
    port = listening.sockets[0].getsockname()[1]
    reader, writer = await bowout.asyncio.open_connection("127.0.0.1", port, ssl=client)
    # One whose handshake waits for a server that is us, and does nothing yet.
    accepted = asyncio.get_running_loop().create_future()
    late = await asyncio.start_server(lambda *streams: accepted.set_result(streams), "127.0.0.1", 0)
    connecting = bowout.asyncio.open_connection("127.0.0.1", late.sockets[0].getsockname()[1], ssl=client)
    pending = asyncio.ensure_future(connecting)
    their_reader, their_writer = await accepted
    assert await their_reader.read(1) == b"\\x16"  # Its ClientHello.
    for _ in range(5):
        await asyncio.sleep(0)
    pid = os.fork()
    if pid == 0:
        misuse(reader, writer, listening, connecting)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)
    for word in (b"one", b"two"):
        writer.write(word)
        assert await reader.readexactly(3) == word
    other_reader, other_writer = await bowout.asyncio.open_connection("127.0.0.1", port, ssl=client)
    their_writer.transport.abort()
    try:
        await pending
    except bowout.HandshakeError:
        pass
    late.close()
    for end in (writer, other_writer):
        end.close()
        await end.wait_closed()
        print(end.ending.how)
    await bowout.asyncio.drain(listening)

factory = None
if sys.argv[3] == "uvloop":
    import uvloop
    factory = uvloop.new_event_loop
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main())
"""

LOGGED: Final = "bowout.asyncio"


@pytest.mark.parametrize(
    ("misuse", "said"),
    [
        ("refused(writer.transport.pause_reading)", ["refused"]),
        ("writer.transport.is_reading(); refused(writer.transport.resume_reading)", ["refused"]),
        ("writer.transport._force_close(None)", [LOGGED]),
        ("refused(writer.transport.writelines, [b'x'])", ["refused"]),
        ("writer.transport.set_write_buffer_limits(0)", []),
        ("refused(bowout.asyncio.drain(listening).send, None)", ["refused"]),
        ("pending.close()", [LOGGED]),
        ("writer.transport.__del__()", []),
    ],
)
def test_the_parents_connections_go_on(backend: str, misuse: str, said: list[str], tmp_path: Path) -> None:
    cert, trust = tmp_path / "server.pem", tmp_path / "ca.pem"
    cert.write_bytes(authority().issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.bytes())
    authority().cert_pem.write_to_path(trust)
    with program(TALKING.replace("{}", f"    {misuse}"), str(cert), str(trust), backend) as process:
        assert process.rest().splitlines() == [*said, "clean", "clean"]
