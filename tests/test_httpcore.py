"""The network backend for httpcore by itself: plain connections, the change to TLS, arguments and errors."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import httpcore
import httpx
import pytest

import bowout.httpcore
from bowout import CertificateError, How, MisuseError, NotTLS, Reset, StreamClosed
from bowout.testing import Act, Peer
from helpers.kernel import wait_full
from helpers.peers import require_ipv6
from helpers.runners import Runner
from helpers.served import LOOPBACK, echo, serve
from helpers.sites import BODY, site
from helpers.tasks import in_thread, jobs, settle
from helpers.wire import PATIENCE, client_context, server_context

#: Seconds after which a timeout strikes: what it waits for never happens.
SOON: Final = 0.05

Network = bowout.httpcore.AsyncBackend


@contextlib.contextmanager
def listening(backlog: int = 5, *, family: int = socket.AF_INET) -> Iterator[socket.socket]:
    """A listener on the loopback."""
    with socket.socket(family) as listener:
        listener.settimeout(PATIENCE)
        listener.bind((LOOPBACK if family == socket.AF_INET else "::1", 0))
        listener.listen(backlog)
        yield listener


class PlainEnds:
    """A plain connection: our stream, and the other end's socket."""

    def __init__(self, ours: httpcore.AsyncNetworkStream, theirs: socket.socket) -> None:
        self.ours = ours
        self.theirs = theirs


@contextlib.asynccontextmanager
async def plain(**options: Any) -> AsyncIterator[PlainEnds]:
    """Connect."""
    with listening() as listener:
        ours = await Network().connect_tcp(LOOPBACK, listener.getsockname()[1], **options)
        theirs = listener.accept()[0]
    theirs.settimeout(PATIENCE)
    with theirs:
        yield PlainEnds(ours, theirs)
        await ours.aclose()


# -- plain connections -----------------------------------------------------------------------------------------------


def test_bytes_go_both_ways_and_the_end_comes(run: Runner) -> None:
    async def main() -> None:
        async with plain() as ends, jobs() as group:
            await ends.ours.write(b"question")
            assert ends.theirs.recv(100) == b"question"
            reading = group.start(ends.ours.read, 4)
            await settle()
            ends.theirs.sendall(b"answer")
            assert await reading.result() == b"answ"
            assert await ends.ours.read(100) == b"er"
            ends.theirs.shutdown(socket.SHUT_WR)
            assert await ends.ours.read(100) == b""
            await ends.ours.aclose()
            assert ends.theirs.recv(100) == b""

    run(main)


def test_a_plain_write_waits_for_the_reader(run: Runner) -> None:
    async def main() -> None:
        async with plain() as ends, jobs() as group:
            sock = ends.ours.get_extra_info("socket")
            writing = group.start(ends.ours.write, bytes(32 << 20))
            await in_thread(lambda: wait_full(sock))
            assert not writing.done
            total = 0
            while total < 32 << 20:
                total += len(await in_thread(lambda: ends.theirs.recv(1 << 20)))
            await writing.result()

    run(main)


def test_plain_timeouts(run: Runner) -> None:
    async def main() -> None:
        async with plain() as ends:
            with pytest.raises(httpcore.ReadTimeout, match=r"nothing happened within 0\.05 s"):
                await ends.ours.read(100, timeout=SOON)
            ends.theirs.sendall(b"late")
            assert await ends.ours.read(100, timeout=PATIENCE) == b"late"
            with pytest.raises(httpcore.WriteTimeout):
                await ends.ours.write(bytes(32 << 20), timeout=SOON)

    run(main)


def test_a_reset_of_a_plain_connection_is_an_error_of_either_kind(run: Runner) -> None:
    async def main() -> None:
        async with plain() as ends:
            ends.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            ends.theirs.close()
            while not ends.ours.get_extra_info("is_readable"):
                await settle()
            with pytest.raises(httpcore.ReadError) as caught:
                await ends.ours.read(100)
            assert isinstance(caught.value.__cause__, ConnectionResetError)
            with pytest.raises(httpcore.WriteError):
                await ends.ours.write(b"x")
            await ends.ours.aclose()
            with pytest.raises(httpcore.ReadError):
                await ends.ours.read(100)

    run(main)


def test_the_facts_of_a_plain_connection(run: Runner) -> None:
    async def main() -> None:
        async with plain() as ends:
            facts = ends.ours.get_extra_info
            assert facts("server_addr") == ends.theirs.getsockname()
            assert facts("client_addr") == ends.theirs.getpeername()
            assert facts("socket").getpeername() == ends.theirs.getsockname()
            assert [facts(name) for name in ("ssl_object", "ending", "unknown")] == [None] * 3
            assert facts("is_readable") is False
            ends.theirs.sendall(b"x")
            await ends.ours.read(1)
            assert facts("is_readable") is False
            ends.theirs.sendall(b"x")
            while not facts("is_readable"):
                await settle()
            await ends.ours.aclose()
            assert [facts(name) for name in ("server_addr", "client_addr", "socket")] == [None] * 3
            assert facts("is_readable") is True

    run(main)


def test_a_plain_pool_drops_what_the_server_has_ended(run: Runner) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    leave = threading.Event()

    async def main() -> None:
        with listening() as listener:

            def server() -> None:
                for requests in (2, 1):
                    with listener.accept()[0] as sock:
                        for _ in range(requests):
                            sock.recv(1 << 16)
                            sock.sendall(answer)
                        assert leave.wait(PATIENCE)

            async with httpcore.AsyncConnectionPool(network_backend=Network()) as pool, jobs() as group:
                serving = group.start(in_thread, server)
                url = f"http://{LOOPBACK}:{listener.getsockname()[1]}/"
                for _ in range(2):
                    assert (await pool.request("GET", url)).content == b"ok"
                (connection,) = pool.connections
                assert not connection.has_expired()
                leave.set()
                while not connection.has_expired():
                    await settle()
                assert (await pool.request("GET", url)).content == b"ok"
                await serving.result()

    run(main)


# -- the change to TLS -----------------------------------------------------------------------------------------------


def test_a_connection_changes_to_tls(run: Runner) -> None:
    async def main() -> None:
        async with site() as served:
            below = await Network().connect_tcp(LOOPBACK, served.server.port)
            stream = await below.start_tls(client_context(), "localhost", PATIENCE)
            await stream.write(b"")
            await stream.write(b"GET / HTTP/1.1\r\n\r\n")
            assert (await stream.read(1 << 16)).endswith(BODY)
            facts = stream.get_extra_info
            assert facts("ssl_object").version() == "TLSv1.3"
            assert facts("server_addr") == (LOOPBACK, served.server.port)
            assert facts("client_addr") == facts("socket").getsockname()
            assert [facts(name) for name in ("is_readable", "ending", "unknown")] == [False, None, None]
            with pytest.raises(httpcore.ReadError) as caught:
                await below.read(1)
            assert isinstance(caught.value.__cause__, MisuseError)
            with pytest.raises(MisuseError):
                await below.start_tls(client_context(), "localhost")
            await below.aclose()  # It closes what it has become.
            assert facts("ending").how is How.CLEAN
            assert facts("is_readable") is True
            await stream.aclose()
            with pytest.raises(httpcore.WriteError) as refused:
                await stream.write(b"x")
            assert isinstance(refused.value.__cause__, StreamClosed)

    run(main)


@pytest.mark.parametrize(
    ("context", "name", "error"),
    [
        (ssl.create_default_context, "localhost", CertificateError),
        (client_context, "other.test", CertificateError),
    ],
)
def test_a_handshake_that_fails_is_a_connect_error(run: Runner, context: Any, name: str, error: type) -> None:
    async def main() -> None:
        async with site() as served:
            below = await Network().connect_tcp(LOOPBACK, served.server.port)
            with pytest.raises(httpcore.ConnectError) as caught:
                await below.start_tls(context(), name)
            assert isinstance(caught.value.__cause__, error)
            assert str(caught.value) == str(caught.value.__cause__)

    run(main)


def test_a_server_without_tls_is_a_connect_error(run: Runner) -> None:
    async def main() -> None:
        with listening() as listener:
            below = await Network().connect_tcp(LOOPBACK, listener.getsockname()[1])
            with listener.accept()[0] as theirs:
                theirs.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                with pytest.raises(httpcore.ConnectError) as caught:
                    await below.start_tls(client_context(), "localhost")
        assert isinstance(caught.value.__cause__, NotTLS)

    run(main)


@pytest.mark.parametrize(
    ("context", "name"), [(client_context, ".test"), (client_context, None), (server_context, "localhost")]
)
def test_a_wrong_argument_of_start_tls_closes_the_connection(run: Runner, context: Any, name: str | None) -> None:
    async def main() -> None:
        async with plain() as ends:
            with pytest.raises(ValueError, match=r"server_hostname|server's name|client's"):
                await ends.ours.start_tls(context(), name)
            assert ends.theirs.recv(1) == b""

    run(main)


def test_a_reset_in_tls_is_an_error_of_either_kind(run: Runner) -> None:
    def script(act: Act) -> None:
        act.handshake()
        act.rst()

    async def main(peer: Peer) -> None:
        below = await Network().connect_tcp(LOOPBACK, peer.port)
        stream = await below.start_tls(peer.client_context(), "localhost")
        with pytest.raises(httpcore.ReadError) as caught:
            await stream.read(1)
        assert isinstance(caught.value.__cause__, Reset)
        with pytest.raises(httpcore.WriteError):
            await stream.write(b"x")
        await stream.aclose()
        assert stream.get_extra_info("ending").how is How.RESET

    with Peer(script) as peer:
        run(main, peer)


# -- connecting ------------------------------------------------------------------------------------------------------


def test_a_refused_connection_is_a_connect_error(run: Runner) -> None:
    with listening() as listener:
        port = listener.getsockname()[1]

    async def main() -> None:
        with pytest.raises(
            httpcore.ConnectError, match=f"no connection to {LOOPBACK}:{port}: Connection refused"
        ) as caught:
            await Network().connect_tcp(LOOPBACK, port)
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)

    run(main)


@pytest.mark.parametrize("host", [LOOPBACK, "localhost"])
@pytest.mark.parametrize("by", ["call", "backend"])
def test_the_local_address_is_used(run: Runner, host: str, by: str) -> None:
    async def main() -> Any:
        given: Any = {"local_address": "127.0.0.3"}
        with listening() as listener:
            network = Network(**given if by == "backend" else {})
            stream = await network.connect_tcp(host, listener.getsockname()[1], **given if by == "call" else {})
            with listener.accept()[0] as theirs:
                assert theirs.getpeername()[0] == "127.0.0.3"
            await stream.aclose()

    run(main)


def test_a_local_address_of_another_family_is_a_connect_error(run: Runner) -> None:
    async def main() -> None:
        with listening() as listener, pytest.raises(httpcore.ConnectError, match="another family"):
            await Network().connect_tcp(LOOPBACK, listener.getsockname()[1], local_address="::")

    run(main)


def test_the_local_address_may_be_any_of_its_family(run: Runner) -> None:
    require_ipv6()

    async def main() -> None:
        with listening(family=socket.AF_INET6) as listener:
            stream = await Network().connect_tcp("::1", listener.getsockname()[1], local_address="::")
            with listener.accept()[0]:
                assert stream.get_extra_info("client_addr")[0] == "::1"
            await stream.aclose()

    run(main)


@pytest.mark.parametrize("by", ["call", "backend"])
def test_socket_options_are_set(run: Runner, by: str) -> None:
    async def main() -> int:
        given: Any = {"socket_options": iter([(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)])}
        with listening() as listener:
            network = Network(**given if by == "backend" else {})
            stream = await network.connect_tcp(LOOPBACK, listener.getsockname()[1], **given if by == "call" else {})
            value: int = stream.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            await stream.aclose()
        return value

    assert run(main) == 1


def test_a_wrong_socket_option_leaves_nothing_open(run: Runner) -> None:
    async def main() -> None:
        with listening() as listener, pytest.raises(httpcore.ConnectError):
            await Network().connect_tcp(LOOPBACK, listener.getsockname()[1], socket_options=[(9999, 9999, 1)])

    run(main)


def test_unix_sockets(run: Runner, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        async with serve(echo, path=path):
            below = await Network().connect_unix_socket(path)
            stream = await below.start_tls(client_context(), "localhost")
            await stream.write(b"ping")
            assert await stream.read(100) == b"ping"
            await stream.aclose()
            assert stream.get_extra_info("ending").how is How.CLEAN
        with pytest.raises(httpcore.ConnectError, match="socket: No such file"):
            await Network().connect_unix_socket(path)

    run(main)


def test_a_unix_socket_whose_backlog_is_full_is_waited_for(run: Runner, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
            listener.bind(path)
            listener.listen(0)
            first = stack.enter_context(socket.socket(socket.AF_UNIX))
            first.connect(path)
            with pytest.raises(httpcore.ConnectTimeout):
                await Network().connect_unix_socket(path, timeout=SOON)
            async with jobs() as group:
                connecting = group.start(Network().connect_unix_socket, path, PATIENCE)
                await settle()
                assert not connecting.done
                listener.accept()[0].close()
                await (await connecting.result()).aclose()

    run(main)


def test_it_sleeps(run: Runner) -> None:
    run(lambda: Network().sleep(0))


# -- other loops -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_client_goes_on_in_another_loop(scheme: str) -> None:
    """The pool drops what belongs to a loop that is over."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    def script(act: Act) -> None:
        act.handshake()
        act.read_until(b"\r\n\r\n")
        act.send(answer)

    with Peer(script, connections=2) as peer, listening() as listener:
        http = httpx.AsyncClient(transport=bowout.httpcore.transport(verify=peer.client_context()), timeout=PATIENCE)
        port = peer.port if scheme == "https" else listener.getsockname()[1]

        async def main(last: bool) -> int:
            if scheme == "http":
                asking = asyncio.create_task(http.get(f"http://{LOOPBACK}:{port}/"))
                theirs = (await in_thread(listener.accept))[0]
                with theirs:
                    theirs.sendall(answer)
                    status = (await asking).status_code
            else:
                status = (await http.get(f"https://{LOOPBACK}:{port}/")).status_code
            if last:
                await http.aclose()
            return status

        assert [asyncio.run(main(last)) for last in (False, True)] == [200, 200]


# -- arguments -------------------------------------------------------------------------------------------------------


def test_the_transport_has_the_arguments_of_httpx() -> None:
    theirs = dict(inspect.signature(httpx.AsyncHTTPTransport).parameters)
    ours = inspect.signature(bowout.httpcore.transport).parameters
    assert list(ours) == [*(name for name in ours if name in theirs), "truncation", "close_timeout"]
    assert set(theirs) <= set(ours)
    defaults = {name: one.default for name, one in theirs.items() if name != "limits"}
    assert {name: ours[name].default for name in defaults} == defaults


def test_the_default_limits_are_those_of_httpx() -> None:
    from bowout.httpcore._transport import LIMITS  # noqa: PLC0415

    assert inspect.signature(httpx.AsyncHTTPTransport).parameters["limits"].default == LIMITS


def test_each_error_of_httpcore_has_one_of_httpx() -> None:
    """`ConnectionNotAvailable` never leaves a pool."""
    from bowout.httpcore._transport import ERRORS  # noqa: PLC0415

    known = {one for one in vars(httpcore).values() if isinstance(one, type) and issubclass(one, Exception)}
    assert known - ERRORS.keys() == {httpcore.ConnectionNotAvailable}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"truncation": "ignore"}, ValueError),
        ({"truncation": {"localhost": "ignore"}}, ValueError),
        ({"truncation": None}, TypeError),
        ({"close_timeout": -1}, ValueError),
        ({"close_timeout": None}, TypeError),
        ({"uds": "/socket", "proxy": "http://localhost"}, ValueError),
        ({"proxy": "gopher://localhost"}, ValueError),
    ],
)
def test_wrong_arguments(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        bowout.httpcore.transport(verify=client_context(), **options)


def test_a_function_that_returns_no_policy_fails_the_request(run: Runner) -> None:
    async def main() -> None:
        async with site() as served:
            transport = bowout.httpcore.transport(verify=client_context(), truncation=lambda host: "ignore")  # type: ignore[arg-type,return-value]
            async with httpx.AsyncClient(transport=transport) as http:
                with pytest.raises(ValueError, match=r"the result of truncation\('localhost'\)"):
                    await http.get(served.url)

    run(main)


@pytest.mark.parametrize(
    ("missing", "options", "hint"),
    [("h2", "http2=True", "httpx[http2]"), ("socksio", "proxy='socks5://localhost'", "httpx[socks]")],
)
def test_a_missing_package_is_named(missing: str, options: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        bowout.httpcore.transport(**eval(f"dict({options})"))
    assert hint in str(caught.value)


@pytest.mark.parametrize(("missing", "code"), [("httpcore", ""), ("httpx", "; bowout.httpcore.transport()")])
def test_without_the_extra_it_is_named(missing: str, code: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import bowout.httpcore{code}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stderr.splitlines()[-1].endswith(f"needs the package {missing}: pip install 'bowout[httpx]'")
