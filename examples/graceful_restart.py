"""A server that is replaced without losing a request: `python graceful_restart.py CERTIFICATE.pem`, then `kill -HUP`.

On SIGHUP the process starts its successor and hands it the listening socket: both processes may accept connections from
its one queue. When the successor accepts, the old process drains: it serves the connections that it has accepted, and
ends. If the successor fails to start, the old process goes on. SIGTERM ends the server.

Under systemd neither is needed: let a socket unit hold the socket, and use `bowout.systemd_sockets()`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import bowout


async def answer(stream: bowout.Stream) -> None:
    """Answer each line with our process id and the line."""
    async for line in stream.lines():
        await stream.send(b"%d %s" % (os.getpid(), line))


async def start_successor(certificate: Path, listener: int) -> bool:
    """Start the new process; return whether it has begun to accept connections."""
    news, ready = os.pipe()
    command = [sys.executable, __file__, str(certificate), f"--listener={listener}", f"--ready={ready}"]
    try:
        successor = await asyncio.to_thread(subprocess.Popen, command, pass_fds=(listener, ready))
    finally:
        os.close(ready)
    try:
        if await asyncio.to_thread(os.read, news, 1) == b"!":
            return True  # the new process outlives this one
    finally:
        os.close(news)
    await asyncio.to_thread(successor.wait)  # it has ended
    return False


async def main(certificate: Path, listener: socket.socket, ready: int | None) -> None:
    """Serve until a successor has taken over, or a signal ends the server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    descriptor = os.dup(listener.fileno())  # the server closes its own when it drains
    succeeded = asyncio.Event()

    async def hand_over() -> None:
        if await start_successor(certificate, descriptor):
            succeeded.set()

    handovers: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, lambda: handovers.add(loop.create_task(hand_over())))
    async with bowout.serve(answer, sockets=[listener], context=context, drain_on_signals=True) as server:
        print(os.getpid(), "listens on port", server.port, flush=True)
        if ready is not None:
            os.write(ready, b"!")
            os.close(ready)
        ends = {loop.create_task(succeeded.wait()), loop.create_task(server.wait_drained())}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        report = await server.drain()
    for task in ends:
        task.cancel()
    os.close(descriptor)
    print(os.getpid(), report, flush=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="A server that can be replaced while it serves.")
    parser.add_argument("certificate", type=Path, help="PEM: the chain and its private key")
    parser.add_argument("--port", type=int, default=8443)
    parser.add_argument("--listener", type=int, help="the descriptor of a listening socket, from a predecessor")
    parser.add_argument("--ready", type=int, help="the descriptor on which to report that we accept")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse()
    if arguments.listener is not None:
        inherited = socket.socket(fileno=arguments.listener)
    else:
        inherited = socket.create_server(("127.0.0.1", arguments.port), backlog=1024)
    asyncio.run(main(arguments.certificate, inherited, arguments.ready))
