"""curl and nginx as people use them: requests and responses, on connections that are kept or not."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from bowout import BowoutError, Ending, Stream
from helpers.commands import ca_file
from helpers.peers import require_program
from helpers.runners import Runner
from helpers.serving import cert_file
from helpers.starttls_servers import free_ports
from helpers.tasks import in_thread, jobs
from helpers.wire import PATIENCE, VERSIONS, Version
from interop.expectations import check, observation
from interop.far import LOOPBACK, running
from interop.http import CURL, CURL_LEAVES, NGINX, NGINX_LEAVES
from interop.ours import accepted, connected
from interop.scenarios import BULK

BODY: Final = BULK[: 300 << 10]
_END: Final = b"\r\n\r\n"

_NGINX: Final = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr info;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi;
    uwsgi_temp_path {directory}/uwsgi;
    client_max_body_size 16m;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {pem};
        ssl_certificate_key {pem};
        root {directory}/www;
        dav_methods PUT;
    }}
}}
"""


# -- curl ------------------------------------------------------------------------------------------------------------


async def answer(us: Stream, head: bytes = b"") -> None:
    """Answer one request with BODY."""
    await us.receive_until(_END)
    await us.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (len(BODY), head) + BODY)


async def answer_and_close(us: Stream) -> Ending:
    await answer(us, b"Connection: close\r\n")
    return await us.close()


async def answer_twice(us: Stream) -> Ending:
    await answer(us)
    await answer(us)
    assert await us.receive() == b""
    return await us.close()


@pytest.mark.backends("asyncio", "trio")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("scenario", "handler", "count"), [("we end", answer_and_close, 1), (CURL_LEAVES, answer_twice, 2)]
)
def test_curl(
    scenario: str, handler: Callable[[Stream], Awaitable[Ending]], count: int, version: Version, run: Runner
) -> None:
    CURL.require()
    listener = socket.create_server((LOOPBACK, 0))
    url = f"https://{LOOPBACK}:{listener.getsockname()[1]}/"
    # --disable, which has to be the first: no .curlrc of anybody.
    curl = [require_program("curl"), "--disable", "--silent", "--show-error", "--fail"]
    command = [*curl, "--cacert", ca_file(), *[url] * count]

    async def main() -> tuple[Ending, subprocess.CompletedProcess[bytes]]:
        async with jobs() as group:
            fetching = group.start(
                in_thread, lambda: subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE)
            )
            async with accepted(listener, version, PATIENCE) as us:
                ending = await handler(us)
            return ending, await fetching.result()

    ending, done = run(main)
    assert done.stdout == BODY * count
    saw = "; ".join(filter(None, [f"exit status {done.returncode}", CURL.saw(done.stderr.decode())]))
    check((CURL.name, "client", scenario, version), CURL.here, observation(ending, saw))


# -- nginx -----------------------------------------------------------------------------------------------------------


@contextmanager
def nginx(directory: Path) -> Iterator[tuple[int, Callable[[], str]]]:
    """Run one; give its port, and what lets it end and tells what it said."""
    (port,) = free_ports(1)
    (directory / "www").mkdir()
    (directory / "www" / "body").write_bytes(BODY)
    (directory / "www").chmod(0o777)  # its worker may be somebody else
    config = directory / "nginx.conf"
    config.write_text(_NGINX.format(directory=directory, port=port, pem=cert_file()))
    with running([require_program("nginx"), "-c", str(config), "-e", "stderr"], directory, piped=False) as process:

        def finish() -> str:
            process.popen.send_signal(signal.SIGQUIT)
            process.wait()
            return process.said

        yield port, finish


def request(*head: bytes) -> bytes:
    return b"\r\n".join([b"GET /body HTTP/1.1", b"Host: localhost", *head]) + _END


async def response(us: Stream, length: int) -> str:
    """Read one, and say how much of its body came."""
    try:
        head = await us.receive_until(_END)
        assert head.startswith(b"HTTP/1.1 2"), head
        body = await us.receive_exactly(length)
    except BowoutError:
        return "nothing"
    return "all" if body == BODY[:length] else "some"


async def we_end(us: Stream) -> tuple[Ending, str]:
    await us.send(request())
    got = await response(us, len(BODY))
    return await us.close(), got


async def they_end(us: Stream) -> tuple[Ending, str]:
    await us.send(request(b"Connection: close"))
    got = await response(us, len(BODY))
    assert await us.receive() == b""
    return await us.close(), got


async def half_close(us: Stream) -> tuple[Ending, str]:
    await us.send(request())
    await us.send_eof()
    got = await response(us, len(BODY))
    return await us.close(), got


async def upload(us: Stream) -> tuple[Ending, str]:
    """Put a file, and close as soon as the server says that it has it."""
    await us.send(b"PUT /new HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(BULK) + BULK)
    got = await response(us, 0)
    return await us.close(), got


@pytest.mark.backends("asyncio", "trio")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("scenario", "script"),
    [("we end", we_end), (NGINX_LEAVES, they_end), ("half-close", half_close), ("upload", upload)],
)
def test_nginx(
    scenario: str,
    script: Callable[[Stream], Awaitable[tuple[Ending, str]]],
    version: Version,
    run: Runner,
    tmp_path: Path,
) -> None:
    NGINX.require()

    async def main(port: int) -> tuple[Ending, str]:
        async with connected(port, version, PATIENCE) as us:
            return await script(us)

    with nginx(tmp_path) as (port, finish):
        ending, we_got = run(main, port)
        saw = NGINX.saw(finish())
    if scenario == "upload":
        assert (tmp_path / "www" / "new").read_bytes() == BULK
    check((NGINX.name, "server", scenario, version), NGINX.here, observation(ending, saw, we_got=we_got))
