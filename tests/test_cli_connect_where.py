"""``bowout connect`` to a Unix socket, and by one version of IP."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from bowout.cli.connect.reach import reach
from bowout.cli.shared.host_port import Target, choose
from bowout.errors import ConnectError, ConnectTimeout, NameNotResolved
from helpers.commands import bowout, ca_file, started
from helpers.serving import cert_file
from helpers.wire import NAME

unix_only = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")


@unix_only
@pytest.mark.parametrize("name", [["--servername", "localhost"], []], ids=["asked", "default"])
def test_a_unix_socket_of_serve(tmp_path: Path, name: list[str]) -> None:
    path, ca = str(tmp_path / "x y.sock"), str(tmp_path / "ca.pem")
    report = tmp_path / "ending.json"
    with started("serve", "--path", path, "--ca-out", ca, "--naccept", "1") as server:
        assert server.process.stderr is not None
        assert server.process.stderr.readline().decode() == f"note: listening on {path}\n"
        hint = server.process.stderr.readline().decode()
        assert hint == f"hint: bowout connect --path '{path}' --cafile {ca}\n"
        done = bowout("connect", "--path", path, "--cafile", ca, *name, f"--json={report}", stdin=b"hello")
        assert (done.status, done.out) == (0, b"hello")
        assert server.finish().status == 0
    assert json.loads(report.read_text())["peer"] == path


@unix_only
def test_the_name_is_checked(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    with started("serve", "--path", path, "--cert", cert_file(), "--naccept", "2") as server:
        assert server.process.stderr is not None
        assert server.process.stderr.readline().decode().startswith("note: listening on ")
        done = bowout("connect", "--path", path, "--cafile", ca_file(), "--servername", "another.test")
        assert (done.status, "Hostname mismatch" in done.err) == (3, True)
        assert bowout("connect", "--path", path, "--cafile", ca_file(), "--servername", NAME, stdin=b"").status == 0
        server.finish()


@unix_only
@pytest.mark.parametrize(
    ("kind", "said"),
    [("missing", "No such file or directory"), ("left over", "refused the connection"), ("file", "refused the conn")],
)
def test_no_server_at_a_path(tmp_path: Path, kind: str, said: str) -> None:
    path = tmp_path / "x.sock"
    if kind == "left over":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    elif kind == "file":
        path.touch()
    done = bowout("connect", "--path", str(path))
    assert done.status == 3
    assert said in done.err
    assert "hint: " in done.last


@unix_only
def test_a_path_that_no_socket_can_have(tmp_path: Path) -> None:
    done = bowout("connect", "--path", str(tmp_path / ("x" * 200)))
    assert (done.status, "too long" in done.err) == (3, True)


@pytest.mark.parametrize(
    ("option", "host", "family"), [("-4", "127.0.0.1", socket.AF_INET), ("-6", "::1", socket.AF_INET6)]
)
def test_one_version_of_ip(option: str, host: str, family: socket.AddressFamily) -> None:
    try:
        socket.create_server((host, 0), family=family).close()
    except OSError as error:
        pytest.skip(f"no {host} here: {error}")
    with started("serve", "0", "--host", host, "--cert", cert_file(), "--naccept", "1") as server:
        assert server.process.stderr is not None
        port = server.process.stderr.readline().decode().rpartition(":")[2].strip()
        where = f"[{host}]:{port}" if ":" in host else f"localhost:{port}"
        done = bowout("connect", option, where, "--cafile", ca_file(), stdin=b"hello")
        assert (done.status, done.out) == (0, b"hello")
        server.finish()


@pytest.mark.parametrize(("option", "host", "version"), [("-4", "::1", "IPv4"), ("--ipv6", "127.0.0.1", "IPv6")])
def test_an_address_of_the_other_version(option: str, host: str, version: str) -> None:
    done = bowout("connect", option, host)
    assert done.status == 3
    assert f"error: the name '{host}' has no {version} address" in done.err
    assert done.last.startswith("hint: without -")


def test_a_closed_port_by_one_version() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = bowout("connect", "-4", f"localhost:{port}")
    assert done.status == 3
    assert done.err.startswith(f"error: localhost:{port} refused the connection\nhint: ")


def test_nothing_to_do_for_the_usual_target() -> None:
    assert asyncio.run(reach(choose("localhost:1", None), 1)) is None


class TestErrors:
    """What is not met on every machine."""

    def reach(self, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        async def connect(*_: object, **__: object) -> socket.socket:
            raise error

        monkeypatch.setattr("aiohappyeyeballs.start_connection", connect)
        asyncio.run(reach(Target("127.0.0.1", 1, family=socket.AF_INET), 5))

    def test_no_route(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConnectError, match=r"no connection to 127\.0\.0\.1:1: No route"):
            self.reach(monkeypatch, OSError(113, "No route to host"))

    def test_the_system_gives_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConnectTimeout, match=r"127\.0\.0\.1:1 did not answer$") as caught:
            self.reach(monkeypatch, TimeoutError(110, "Connection timed out"))
        assert caught.value.__cause__ is not None

    def test_the_time_is_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConnectTimeout, match="did not answer within 5 s"):
            self.reach(monkeypatch, TimeoutError())

    def test_a_name_is_that_of_idna_2008(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[object] = []

        async def none(_loop: object, host: object, *_: object, **__: object) -> list[object]:
            asked.append(host)
            raise socket.gaierror(socket.EAI_NONAME, "not known")

        monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", none)
        with pytest.raises(NameNotResolved, match="has no IPv4 address"):
            asyncio.run(reach(Target("faß.de", 1, family=socket.AF_INET), 5))
        assert asked == ["xn--fa-hia.de"]

    def test_no_host_name(self) -> None:
        with pytest.raises(NameNotResolved, match="is not a host name"):
            asyncio.run(reach(Target("a" * 70 + "é", 1, family=socket.AF_INET), 5))
