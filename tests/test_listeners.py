"""Listening sockets: TCP on every family, Unix sockets, and those that another process hands over."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import bowout
from bowout import MisuseError
from bowout._backends.sockets import Endpoint
from bowout._server import listen
from bowout._server.listen import Listener, checked_listener, listen_tcp, listen_unix
from helpers.served import program


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    """Sockets to close in the end."""
    sockets: list[socket.socket] = []
    yield sockets
    for sock in sockets:
        sock.close()


def at(*addresses: str | None) -> list[Endpoint]:
    """What these resolve to; None is every address of this machine."""
    return [
        endpoint
        for address in addresses
        for endpoint in socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    ]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


class TestTCP:
    @pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
    def test_every_family_gets_the_same_free_port(self, opened: list[socket.socket]) -> None:
        opened += listen_tcp(at(None), 0, backlog=1, reuse_port=False)
        assert {sock.family for sock in opened} == {socket.AF_INET, socket.AF_INET6}
        assert len({sock.getsockname()[1] for sock in opened}) == 1

    def test_a_port_that_one_address_cannot_have_is_given_up_for_another(
        self, opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ports: list[int] = []

        def bind(sock: socket.socket, address: tuple[str, int], *, reuse_port: bool) -> None:
            ports.append(address[1])
            if address[0] == "127.0.0.2" and ports.count(0) == 1:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            sock.bind(address)

        monkeypatch.setattr(listen, "_bind", bind)
        opened += listen_tcp(at("127.0.0.1", "127.0.0.2"), 0, backlog=1, reuse_port=False)
        assert ports.count(0) == 2
        assert len({sock.getsockname()[1] for sock in opened}) == 1

    def test_an_address_that_this_machine_has_not_is_passed_over(
        self, opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened += listen_tcp(at("127.0.0.1", "203.0.113.1"), 0, backlog=1, reuse_port=False)
        assert [sock.getsockname()[0] for sock in opened] == ["127.0.0.1"]

    def test_no_address_at_all_is_an_error_that_names_one(self) -> None:
        with pytest.raises(OSError, match=r"cannot listen on 203\.0\.113\.1, port 0") as caught:
            listen_tcp(at("203.0.113.1"), 0, backlog=1, reuse_port=False)
        assert caught.value.errno == errno.EADDRNOTAVAIL

    def test_a_port_in_use_is_an_error_that_names_it(self, opened: list[socket.socket]) -> None:
        opened += listen_tcp(at("127.0.0.1"), 0, backlog=1, reuse_port=False)
        port = opened[0].getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1, port {port}") as caught:
            listen_tcp(at("127.0.0.1"), port, backlog=1, reuse_port=False)
        assert caught.value.errno == errno.EADDRINUSE

    def test_reuse_port_lets_two_listen_on_one_port(self, opened: list[socket.socket]) -> None:
        opened += listen_tcp(at("127.0.0.1"), 0, backlog=1, reuse_port=True)
        port = opened[0].getsockname()[1]
        opened += listen_tcp(at("127.0.0.1"), port, backlog=1, reuse_port=True)
        assert len(opened) == 2

    def test_reuse_port_where_the_system_has_it_not_is_misuse(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(socket, "SO_REUSEPORT")
        with pytest.raises(MisuseError, match="SO_REUSEPORT"):
            listen_tcp(at("127.0.0.1"), 0, backlog=1, reuse_port=True)


class TestUnix:
    def test_a_path_that_nobody_listens_on_any_more_is_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        listen_unix(path, backlog=1).close()
        with listen_unix(path, backlog=1), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))

    def test_a_path_that_somebody_listens_on_is_refused(self, tmp_path: Path) -> None:
        with (
            listen_unix(tmp_path / "socket", backlog=1),
            pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)),
        ):
            listen_unix(tmp_path / "socket", backlog=1)

    def test_who_listens_at_the_path_is_not_bothered(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        with listen_unix(path, backlog=1) as first:
            with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
                listen_unix(path, backlog=1)
            with pytest.raises(BlockingIOError):
                first.accept()

    def test_who_has_bound_the_path_and_is_about_to_listen_keeps_it(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
                listen_unix(path, backlog=1)

    def test_a_listener_with_its_backlog_full_is_alive(self, tmp_path: Path, opened: list[socket.socket]) -> None:
        path = str(tmp_path / "socket")
        with listen_unix(path, backlog=0):
            while not opened or opened[-1].connect_ex(path) == 0:
                opened.append(socket.socket(socket.AF_UNIX))
                opened[-1].setblocking(False)
            with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
                listen_unix(path, backlog=1)

    def test_a_file_at_the_path_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_text("precious")
        with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
            listen_unix(path, backlog=1)
        assert path.read_text() == "precious"

    def test_a_datagram_socket_at_the_path_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "datagrams"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(str(path))
            with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
                listen_unix(path, backlog=1)

    def test_closing_removes_the_path(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        Listener(listen_unix(path, backlog=1), path).close()
        assert not path.exists()

    def test_closing_leaves_the_path_of_a_successor(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        old = Listener(listen_unix(path, backlog=1), path)
        path.unlink()
        with listen_unix(path, backlog=1):
            old.close()
            assert path.exists()

    def test_a_path_that_is_gone_already_is_no_error(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        listener = Listener(listen_unix(path, backlog=1), path)
        path.unlink()
        listener.close()
        assert listener.socket.fileno() == -1

    def test_closing_again_removes_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "socket"
        listener = Listener(listen_unix(path, backlog=1), path)
        listener.close()
        path.touch()
        listener.close()
        assert path.exists()


class TestChecked:
    def test_a_listening_socket_is_made_non_blocking(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            assert checked_listener(sock).gettimeout() == 0

    @pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
    def test_a_socket_that_does_not_listen_is_misuse(self, kind: int) -> None:
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.bind(("127.0.0.1", 0))
            with pytest.raises(ValueError, match="listening stream socket"):
                checked_listener(sock)


#: Puts a listening socket on descriptor 3 and becomes a process that takes it as from systemd.
ACTIVATED = """
import os, socket, sys
sock = socket.create_server(("127.0.0.1", 0))
port = sock.getsockname()[1]
os.dup2(sock.fileno(), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
text = '''
import os, sys, bowout
[sock] = bowout.systemd_sockets()
print(sock.getsockname()[1] == int(sys.argv[1]), os.get_inheritable(3), "LISTEN_FDS" in os.environ)
'''
os.execv(sys.executable, [sys.executable, "-c", text, str(port)])
"""

#: Free descriptors, one after the other.
PASSED = (500, 501)


class TestSystemd:
    def test_the_sockets_are_those_that_were_passed(self) -> None:
        with program(ACTIVATED) as process:
            assert process.rest() == "True False False\n"

    @pytest.mark.parametrize("what", ["nothing", "a file", "a socket that does not listen"])
    def test_a_descriptor_that_is_no_listening_socket_is_misuse(
        self, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        monkeypatch.setattr(listen, "SD_LISTEN_FDS_START", PASSED[0])
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", str(len(PASSED)))
        with socket.create_server(("127.0.0.1", 0)) as good, socket.socket() as idle, Path(os.devnull).open() as file:
            os.dup2(good.fileno(), PASSED[0])
            if what != "nothing":
                os.dup2((file if what == "a file" else idle).fileno(), PASSED[1])
            try:
                with pytest.raises(MisuseError, match="listening"):
                    bowout.systemd_sockets()
                with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
                    os.fstat(PASSED[0])
            finally:
                os.closerange(PASSED[0], PASSED[-1] + 1)

    @pytest.mark.parametrize("count", ["", "0", "many"])
    def test_none_passed_is_misuse(self, monkeypatch: pytest.MonkeyPatch, count: str) -> None:
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", count)
        with pytest.raises(MisuseError, match="LISTEN_FDS is not set"):
            bowout.systemd_sockets()

    @pytest.mark.parametrize("pid", ["", "1"])
    def test_those_of_another_process_are_not_taken(self, monkeypatch: pytest.MonkeyPatch, pid: str) -> None:
        monkeypatch.setenv("LISTEN_PID", pid)
        monkeypatch.setenv("LISTEN_FDS", "1")
        with pytest.raises(MisuseError, match="not to this one"):
            bowout.systemd_sockets()
