"""The fragments of the other pages: parts of programs, run where the rest is prepared, on both loops."""

from __future__ import annotations

import asyncio
import json
import re
import runpy
import socket
import urllib.request
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import asyncssh
import jsonschema
import pytest
import requests
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry

import bowout.blocking
import bowout.check
import bowout.metrics
from bowout import Ending, How, Stream
from bowout.testing import Peer
from helpers.commands import ScriptedServer, ca_file
from helpers.documents import DOCS
from helpers.fragments import BODY, Place, by_starttls, half_of_http, http, passing, say, shows, tunnel
from helpers.peers import ROOT
from helpers.runners import Runner
from helpers.served import LOOPBACK, echo
from helpers.serving import cert_file, serving
from helpers.ssh import ssh_server
from helpers.wire import Wire, polite

on_both: Final = pytest.mark.backends("asyncio", "trio")
on_asyncio: Final = pytest.mark.backends("asyncio")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Place:
    return Place(monkeypatch, tmp_path)


# -- blocking code -----------------------------------------------------------------------------------------------------

PREPARED: Final = shows("how-to/blocking.md", "HTTPAdapter()")
BLOCKING: Final = shows("how-to/blocking.md", "bowout.blocking.connect(")
BLOCKING_TOLERANT: Final = shows("how-to/blocking.md", "tolerant_hosts=")


def test_a_context_for_blocking_code(place: Place) -> None:
    text = passing(PREPARED, "http.client.HTTPS", "client = http.client.HTTPS")
    scope = place.alone(f"import http.client\n{passing(text, 'requests.Session()', 'session')}",
                        session=requests.Session())  # fmt: skip
    with place.peer(half_of_http), scope["session"] as session, pytest.raises(requests.RequestException):
        session.get("https://example.org/")
    with place.peer(half_of_http):
        scope["client"].request("GET", "/")
        with pytest.raises(bowout.Truncated):
            scope["client"].getresponse().read()
        scope["client"].close()


def test_a_blocking_stream(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with place.peer(http) as server:
        scope = place.alone(passing(BLOCKING, "timeout=10", "timeout=10, context=context"))
    assert scope["body"].endswith(BODY)
    assert server.results == ["close_notify"]
    assert capsys.readouterr().out == "clean: the peer sent close_notify, we answered\n"


def test_a_blocking_stream_that_tolerates(place: Place) -> None:
    context = eval(BLOCKING_TOLERANT, {"bowout": bowout})
    context.load_verify_locations(ca_file())
    with (
        place.peer(half_of_http, "old.example.org"),
        socket.create_connection(("old.example.org", 443)) as sock,
        context.wrap_socket(sock, server_hostname="old.example.org") as stream,
    ):
        stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"".join(iter(lambda: stream.recv(100), b"")).endswith(BODY)


# -- other byte streams ------------------------------------------------------------------------------------------------

IN_A_TUNNEL: Final = shows("how-to/byte-streams.md", "proxy.example.org")
IN_SSH: Final = shows("how-to/byte-streams.md", "asyncssh")
PIPE: Final = shows("how-to/byte-streams.md", "class Pipe")


@on_both
def test_tls_in_tls(run: Runner, place: Place) -> None:
    dialogue = (
        'await outer.send(b"CONNECT example.org:443 HTTP/1.1\\r\\n\\r\\n")\nawait outer.receive_until(b"\\r\\n\\r\\n")'
    )
    text = passing(IN_A_TUNNEL, ", CONNECT for example\n", f"\n{dialogue}\n")

    async def main(port: int) -> None:
        async with tunnel(place, port):
            scope = await place(text)
        assert scope["stream"].ending.how is How.CLEAN

    with place.peer(polite) as server:
        run(main, server.port)
    assert server.results == ["close_notify"]


@on_asyncio
def test_tls_in_ssh(run: Runner, place: Place) -> None:
    async def main(server: Any) -> None:
        options = {
            "username": server.user, "client_keys": [str(server.user_key)],
            "known_hosts": asyncssh.import_known_hosts(server.known_hosts),
        }  # fmt: skip
        async with asyncssh.connect(LOOPBACK, server.port, **options) as connection:
            text = passing(IN_SSH, '"db.internal", 443', f'"{LOOPBACK}", {peer.port}')
            scope = await place(passing(text, "db.internal", "localhost"), connection=connection)
        assert scope["stream"].ending.how is How.CLEAN

    with ssh_server(place.folder) as server, place.peer(polite) as peer:
        run(main, server)
    assert peer.results == ["close_notify"]


@on_asyncio
def test_a_carrier_of_ones_own(run: Runner, place: Place) -> None:
    async def main() -> None:
        pipe = place.alone(PIPE, asyncio=asyncio)["Pipe"]
        one: asyncio.Queue[bytes] = asyncio.Queue(4)
        other: asyncio.Queue[bytes] = asyncio.Queue(4)
        ours = bowout.wrap(pipe(one, other), place.context, server_hostname="example.org")
        theirs = bowout.wrap(pipe(other, one), place.server_context, server_side=True)

        async def serve() -> None:
            async with theirs:
                await echo(theirs)

        async with asyncio.TaskGroup() as group:
            group.create_task(serve())
            await ours.send(bytes(100_000))
            assert await ours.receive_exactly(100_000) == bytes(100_000)
            await ours.close()
        assert [stream.ending.how for stream in (ours, theirs) if stream.ending] == [How.CLEAN, How.CLEAN]

    run(main)


# -- connecting --------------------------------------------------------------------------------------------------------

RESUMED: Final = shows("how-to/connecting.md", "control.session")
STARTTLS: Final = shows("how-to/starttls.md", 'starttls="smtp")\n')
PROXIED: Final = shows("how-to/proxy.md", "proxy_protocol=lambda")
DRIVER: Final = shows("how-to/drivers.md", "def close(tls")
DEADLINES: Final = shows("explanation/architecture.md", "asyncio.timeout(5)")


@on_both
def test_resuming(run: Runner, place: Place) -> None:
    scripts = (by_starttls((b"", b"220 ready\r\n"), (b"AUTH TLS\r\n", b"234 go ahead\r\n")), by_starttls())
    server: ScriptedServer

    def script(wire: Wire) -> str:
        return scripts[len(server.results)](wire)

    control, data, resumed = re.split(r"^\.\.\.\n", RESUMED, flags=re.MULTILINE)

    async def main(port: int) -> None:
        scope = await place(f"{control}await control.receive()\nawait control.close()")
        with socket.create_connection((LOOPBACK, port)) as sock:
            await place(f"{data}await data.receive()\nassert {resumed}await data.close()", **{**scope, "sock": sock})

    with place.peer(script, "ftp.example.org") as server:
        run(main, server.port)
    assert server.results == ["close_notify", "close_notify"]


@on_both
def test_starttls(run: Runner, place: Place) -> None:
    smtp = by_starttls(
        (b"", b"220 ready\r\n"),
        (b"\r\n", b"250-mail.example.org\r\n250 STARTTLS\r\n"),
        (b"STARTTLS\r\n", b"220 go\r\n"),
    )
    with place.peer(smtp, "mail.example.org"):
        scope = run(place, STARTTLS + 'assert await stream.receive() == b"welcome\\r\\n"\nawait stream.close()')
    assert scope["stream"].ending.how is How.CLEAN


@on_both
def test_only_the_balancer_has_a_header(run: Runner, place: Place) -> None:
    async def main() -> None:
        text = passing(PROXIED, "port=8444", "host='127.0.0.1', port=0").strip()
        names = {"tell": echo, "context": place.server_context}
        async with place.meanwhile(
            f"async with {text} as server: await server.wait_drained()", "server", **names
        ) as server:
            await say(place, server.port)

    run(main)


def test_a_driver(place: Place) -> None:
    """With the rest of the example that the page links to."""
    example = runpy.run_path(str(ROOT / "examples" / "blocking_client.py"))
    stream: Any = None

    def move_all(tls: Any, sock: socket.socket, wait: float | None) -> None:
        stream.move(wait)
        while stream.move(0):
            pass

    close = place.alone(DRIVER, **example, move_all=move_all)["close"]
    with place.peer(polite) as server:
        stream = example["BlockingStream"](
            socket.create_connection((LOOPBACK, server.port)), place.context, "example.org"
        )
        stream.handshake()
        assert close(stream.tls, stream.sock).how is How.CLEAN
    assert server.results == ["close_notify"]


@on_asyncio
def test_a_deadline_around_a_stream_and_one_inside(run: Runner, place: Place) -> None:
    """The five seconds are over as soon as the stream is there and waits."""
    deadlines: list[asyncio.Timeout] = []

    def timeout(seconds: int) -> asyncio.Timeout:
        assert seconds == 5
        deadlines.append(asyncio.timeout(None))
        return deadlines[-1]

    def passes() -> None:
        deadlines[-1].reschedule(asyncio.get_running_loop().time())

    async def main(port: int) -> None:
        around, inside = DEADLINES.replace("(host, port)", "(host, port, context=context)").split("\n\n")
        for part in (around, inside):
            text = passing(part, "        ...", "        passes(); await stream.receive()")
            with pytest.raises(TimeoutError):
                await place(text, asyncio=SimpleNamespace(timeout=timeout), passes=passes, host="localhost", port=port)

    def quiet(wire: Wire) -> str:
        wire.handshake()
        return wire.read_to_end()

    with place.peer(quiet) as server:
        run(main, server.port)
    assert server.results == ["close_notify", "FIN"]


# -- serving -----------------------------------------------------------------------------------------------------------

SERVER: Final = shows("how-to/serving.md", "drain_on_signals=True))")
BLOCK: Final = shows("how-to/serving.md", 'bowout.serve(echo, "localhost"')
MESSAGE: Final = shows("how-to/serving.md", "stream.message()")
SYSTEMD: Final = shows("how-to/serving.md", "sockets=bowout.systemd_sockets()")
PROMETHEUS: Final = shows("how-to/serving.md", "PrometheusCollector(")
METRICS: Final = shows("how-to/serving.md", "bowout_endings_total{")
TELEMETRY: Final = shows("how-to/serving.md", "opentelemetry")
JOBS: Final = shows("how-to/sigterm.md", "async for job in jobs")


@on_both
def test_the_server_of_the_first_lines(run: Runner, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it but the last line, which runs it, and the signal, which ends it."""
    monkeypatch.chdir(place.folder)
    Path("server.pem").write_text(Path(cert_file()).read_text(encoding="ascii"), encoding="ascii")
    text, last = SERVER.split("\n\n\nasyncio.run(main())")
    assert last.strip() == "# or trio.run(main), or uvloop.run(main())"
    text = passing(text, "port=8443", "sockets=[sock]")

    async def main() -> None:
        sock = socket.create_server((LOOPBACK, 0))
        port = sock.getsockname()[1]
        async with place.meanwhile(f"{text}\nawait main()", "main", sock=sock):
            await say(place, port)

    run(main)


@on_both
def test_a_server_that_serves_while_its_block_runs(
    run: Runner, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> int:
        names = {"echo": echo, "context": place.server_context}
        async with place.meanwhile(BLOCK, "server", **names) as server:
            await say(place, server.port)
            return int(server.port)

    port = run(main)
    assert capsys.readouterr().out == f"{port}\n"


@on_both
def test_a_message_in_two_parts(run: Runner, place: Place) -> None:
    async def handler(stream: Stream) -> None:
        await place(MESSAGE, stream=stream, head=b"hel", body=b"lo")

    async def main() -> None:
        async with (
            bowout.serve(handler, LOOPBACK, context=place.server_context) as server,
            bowout.connect(LOOPBACK, server.port, context=place.context) as stream,
        ):
            assert b"".join([chunk async for chunk in stream]) == b"hello"

    run(main)


@on_both
def test_sockets_of_systemd(run: Runner, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        sock = socket.create_server((LOOPBACK, 0))
        port = sock.getsockname()[1]
        monkeypatch.setattr(bowout, "systemd_sockets", lambda: [sock])
        names = {"echo": echo, "context": place.server_context}
        async with place.meanwhile(SYSTEMD, "echo", **names):
            await say(place, port)

    run(main)


@on_asyncio
def test_prometheus(run: Runner, place: Place) -> None:
    async def main() -> None:
        async with bowout.serve(echo, LOOPBACK, context=place.server_context) as server:
            text = passing(PROMETHEUS, "(9100)", f"(0, {LOOPBACK!r}, registry=REGISTRY)")
            text = passing(text, "\nstart", "\nexporter, thread = start")
            scope = place.alone(
                passing(text, "import REGISTRY, ", "import "), server=server, REGISTRY=CollectorRegistry()
            )
            try:
                check(scope["exporter"].server_port)
            finally:
                scope["exporter"].shutdown()
                scope["exporter"].server_close()
                scope["thread"].join()

    def check(port: int) -> None:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/") as response:
            seen = {line.rpartition(" ")[0] for line in response.read().decode().splitlines()}
        assert seen >= {line.rpartition(" ")[0] for line in METRICS.splitlines()}

    run(main)


@on_asyncio
def test_opentelemetry(run: Runner, place: Place) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])

    async def main() -> None:
        async with bowout.serve(echo, LOOPBACK, context=place.server_context) as server:
            await say(place, server.port)
            while server.counters()["established"]:  # noqa: ASYNC110 the end of a handler has no event
                await asyncio.sleep(0)
            text = passing(TELEMETRY, "Observation, get_meter", "Observation")
            place.alone(text, server=server, get_meter=provider.get_meter)
            check()

    def check() -> None:
        data = reader.get_metrics_data()
        assert data is not None
        (metrics,) = data.resource_metrics[0].scope_metrics
        found = {
            (metric.name, *(point.attributes or {}).values()): getattr(point, "value", None)
            for metric in metrics.metrics
            for point in metric.data.data_points
        }
        assert found["bowout.endings", "clean"] == 1
        assert found["bowout.connections",] == 0

    try:
        run(main)
    finally:
        provider.shutdown()


@on_both
def test_a_handler_that_looks_at_the_drain(run: Runner, place: Place) -> None:
    sent: list[bytes] = []
    draining = SimpleNamespace(is_set=lambda: len(sent) == 2)

    async def send(data: bytes) -> None:
        sent.append(data)

    async def result(job: int) -> bytes:
        return bytes([job])

    async def jobs() -> AsyncGenerator[int, None]:
        for number in range(5):
            yield number

    async def main() -> None:
        numbers = jobs()
        await place(JOBS, stream=SimpleNamespace(draining=draining, send=send), jobs=numbers, result=result)
        await numbers.aclose()

    run(main)
    assert sent == [b"\0", b"\1"]


# -- reference ---------------------------------------------------------------------------------------------------------

CHECK: Final = shows("reference/check.md", "report = await bowout.check.check(")
FLEET: Final = shows("how-to/fleet.md", "HereRunner(factory, limits)")
ENDING: Final = shows("reference/endings.md", '"how": "clean"')
CLIENT_TEST: Final = shows("reference/testing.md", "import http.client")
REPORT: Final = shows("reference/testing.md", "print(peer.report)")
SERVER_TEST: Final = shows("reference/testing.md", "server.still_serves()")
OPENING_TEST: Final = shows("reference/testing.md", "import smtplib")
TABLE_TEST: Final = shows("reference/testing.md", "READ = [")
PLUGIN: Final = (
    shows("how-to/pytest-plugin.md", "def test_a_truncation_"),
    shows("how-to/pytest-plugin.md", "act.expect_close_notify()"),
    shows("how-to/pytest-plugin.md", "tls_endings("),
)


@on_both
def test_a_check(run: Runner, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with place.peer(half_of_http):
        scope = run(place, CHECK)
    says, ladder = capsys.readouterr().out.split("\n", 1)
    assert says == scope["report"].worst.says
    assert "FIN" in ladder
    assert scope["report"].to_dict()["endpoint"] == "example.org:443"


def test_a_fleet(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(place.folder)
    quick = bowout.check.check

    async def one_probe(host: str, port: int) -> bowout.check.Report:
        return await quick(host, port, probes=["answers"])

    monkeypatch.setattr(bowout.check, "check", one_probe)
    with place.peer(http):
        place.alone(FLEET)
    assert "1" in capsys.readouterr().out


def test_an_ending_as_json() -> None:
    values = json.loads(ENDING)
    jsonschema.validate(values, json.loads((DOCS / "reference" / "ending.schema.json").read_text(encoding="utf-8")))
    assert Ending.from_dict(values).to_dict() == values


def test_a_test_of_a_client(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    scope = place.alone(CLIENT_TEST)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):  # as the page says
        scope["test_a_truncated_answer_is_an_error"]()
    with (
        Peer(scope["half_an_answer"]) as peer,
        socket.create_connection(peer.address) as sock,
        peer.client_context().wrap_socket(sock, server_hostname="localhost") as stream,
    ):
        stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while stream.recv(100):
            pass
    place.alone(REPORT, peer=peer)
    said, ladder = capsys.readouterr().out.split("\n", 1)
    assert said.startswith("half_an_answer (server, TLSv1.3): handshake, 18 B, no close_notify")
    assert "FIN" in ladder


def test_a_test_of_a_server(place: Place) -> None:
    def still_serves() -> bool:
        with Peer("close_notify_then_fin", role="client", connect_to=server.address) as peer:
            peer.wait()
        return peer.report.handshake

    test = place.alone(SERVER_TEST, Peer=Peer)["test_a_client_that_leaves_in_the_handshake_does_no_harm"]
    with serving("--echo") as process:
        server = SimpleNamespace(address=(LOOPBACK, process.port), still_serves=still_serves)
        test(server)


def test_a_test_with_an_opening(place: Place) -> None:
    place.alone(OPENING_TEST)["test_half_an_answer_is_an_error"]()


def test_a_test_of_the_table(place: Place) -> None:
    def reads_all(peer: Peer) -> tuple[bytes, OSError | None]:
        data = b""
        try:
            with bowout.blocking.connect("localhost", peer.port, context=peer.client_context()) as stream:
                while chunk := stream.receive():
                    data += chunk
        except OSError as error:
            return data, error
        return data, None

    scope = place.alone(TABLE_TEST, pytest=pytest, my_client_reads_all=reads_all)
    assert len(scope["READ"]) > 5
    for entry in scope["READ"]:
        scope["test_no_bad_end_passes_for_a_good_one"](entry)


def test_tests_with_the_plugin(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import socket
import bowout.blocking

def download(host, port, context):
    with bowout.blocking.connect(host, port, context=context) as stream:
        return b"".join(stream)

def my_client_reads_all(peer):
    data = b""
    try:
        with bowout.blocking.connect(peer.host, peer.port, context=peer.client_context()) as stream:
            while chunk := stream.receive():
                data += chunk
    except OSError as error:
        return data, error
    return data, None
"""
        + "".join(PLUGIN).replace(', xfail={"fin_at_boundary": "issue 17"}', "")
    )
    outcomes = pytester.runpytest_inprocess("-p", "pytest_bowout", "-p", "no:cov").parseoutcomes()
    assert outcomes.keys() == {"passed"}
    assert outcomes["passed"] > 20
