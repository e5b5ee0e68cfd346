"""httpx over bowout against hypercorn, a real server of HTTP/1.1 and HTTP/2, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import httpx
import pytest

import bowout.httpcore
from bowout import How
from helpers.commands import environment
from helpers.peers import require_module
from helpers.runners import Runner
from helpers.served import LOOPBACK
from helpers.serving import cert_file
from helpers.starttls_servers import free_ports
from helpers.wire import PATIENCE, client_context
from interop.far import dial

#: An application that reads a request, and answers with 2 MB after its client's port and the size of the request.
_APP: Final = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": event["type"] + ".complete"})
            if event["type"] == "lifespan.shutdown":
                return
    size, more = 0, True
    while more:
        event = await receive()
        size += len(event.get("body", b""))
        more = event.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d %d " % (scope["client"][1], size), "more_body": True})
    for _ in range(20):
        await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
    await send({"type": "http.response.body", "body": b""})
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run it; give its port."""
    require_module("hypercorn")
    directory = tmp_path_factory.mktemp("hypercorn")
    (directory / "app.py").write_text(_APP, encoding="ascii")
    (port,) = free_ports(1)
    address = f"{LOOPBACK}:{port}"
    command = ["-m", "hypercorn", "app:app", "-b", address, "--certfile", cert_file(), "--keyfile", cert_file()]
    process = subprocess.Popen([sys.executable, *command], cwd=directory, env=environment(), stderr=subprocess.DEVNULL)
    try:
        dial(port, lambda: process.poll() is None).close()
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("http2", [False, True])
def test_large_bodies_both_ways_on_one_connection(run: Runner, port: int, http2: bool) -> None:
    async def main() -> None:
        transport = bowout.httpcore.transport(verify=client_context(), http2=http2, close_timeout=PATIENCE)
        async with httpx.AsyncClient(transport=transport, timeout=PATIENCE) as http:
            url = f"https://localhost:{port}/"
            answers = [await http.post(url, content=bytes(1_000_000)) for _ in range(3)]
        heads = [one.content.rstrip(b"\0") for one in answers]
        assert heads == [heads[0]] * 3, "another port: another connection"
        assert heads[0].endswith(b" 1000000 ")
        assert [len(one.content) for one in answers] == [len(heads[0]) + 2_000_000] * 3
        assert {one.http_version for one in answers} == {"HTTP/2" if http2 else "HTTP/1.1"}
        assert answers[0].extensions["network_stream"].get_extra_info("ending").how is How.CLEAN

    run(main)
