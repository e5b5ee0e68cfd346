"""The examples run, and do what they say."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bowout
from helpers.peers import ROOT
from helpers.served import dialled, read_to_end
from helpers.wire import PATIENCE, certificate, our_context

EXAMPLES = ROOT / "examples"
RESTARTS = 2


@contextmanager
def example(name: str, directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run one, with a certificate; its whole family is gone in the end."""
    pem = directory / "server.pem"
    certificate().private_key_and_cert_chain_pem.write_to_path(pem)
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), str(pem), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        yield process
        # The end of the output is the end of the last process of the family.
        process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_the_echo_server_echoes_and_drains(tmp_path: Path) -> None:
    with example("echo_server.py", tmp_path, "0") as process:
        port = int(next_line(process).rpartition(", ")[2].rstrip(")\n"))
        with dialled(port) as wire:
            wire.send(b"ping")
            wire.read_exactly(4)
            process.terminate()
            assert read_to_end(wire) == "close_notify"
        while not (line := next_line(process)).startswith("drained"):
            assert line, "it ended without a report"
        assert "drained 1 connection in" in line


async def ask(port: int, number: int) -> int:
    """One request on a connection of its own; give the process id of who answered."""
    async with bowout.connect("127.0.0.1", port, context=our_context("1.3", "client")) as stream:
        await stream.send(b"request %d\n" % number)
        pid, _, line = (await stream.receive_until(b"\n")).partition(b" ")
        assert line == b"request %d\n" % number
        return int(pid)


def test_a_client_that_loops_requests_across_restarts_loses_none(tmp_path: Path) -> None:
    async def main(port: int) -> list[int]:
        pids: list[int] = []

        async def loop_requests() -> None:
            while len(set(pids)) <= RESTARTS:
                pid = await ask(port, len(pids))
                if pid not in pids and len(set(pids)) < RESTARTS:
                    os.kill(pid, signal.SIGHUP)
                pids.append(pid)

        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(loop_requests())
        return list(dict.fromkeys(pids))

    with example("graceful_restart.py", tmp_path, "--port=0") as process:
        first, _, port = next_line(process).partition(" listens on port ")
        generations = asyncio.run(main(int(port)))
        assert generations[0] == int(first)
        assert len(generations) == RESTARTS + 1
        os.kill(generations[-1], signal.SIGTERM)


def test_a_successor_that_fails_to_start_leaves_the_old_one_serving(tmp_path: Path) -> None:
    with example("graceful_restart.py", tmp_path, "--port=0") as process:
        port = int(next_line(process).rpartition(" ")[2])
        (tmp_path / "server.pem").write_text("no certificate")
        process.send_signal(signal.SIGHUP)
        while "SSLError" not in next_line(process):
            pass
        assert asyncio.run(ask(port, 1)) == process.pid
        process.terminate()
