"""``bowout serve``: on a Unix socket, and on what systemd hands over."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from bowout.cli.serve.where import shown
from helpers.commands import COMMAND, Running, bowout, connect, started
from helpers.serving import ServeProcess, cert_file, serving
from helpers.wire import NAME, PATIENCE, client_context

unix_only = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")

#: What systemd does: the socket is descriptor 3, and the variables name the process that it is for.
_HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""


def handed_over(listener: socket.socket) -> dict[str, Any]:
    """How to start a command that gets `listener` from systemd."""
    return {
        "command": (sys.executable, "-c", _HAND_OVER, str(listener.fileno()), *COMMAND),
        "pass_fds": [listener.fileno()],
    }


def echoed(path: Path, data: bytes) -> bytes:
    """What comes back from the server at `path`."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(path))
        with client_context().wrap_socket(sock, server_hostname=NAME) as tls:
            tls.sendall(data)
            back = tls.recv(len(data))
            tls.unwrap()
            return back


def line_of(running: Running, start: str) -> str:
    """Read stderr up to the line that begins so."""
    assert running.process.stderr is not None
    while line := running.process.stderr.readline().decode():
        if line.startswith(start):
            return line.removeprefix(start).rstrip("\n")
    raise AssertionError(f"{start!r} was not said")


@unix_only
def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    with started("serve", "--path", str(path), "--cert", cert_file()) as running:
        assert line_of(running, "note: listening on ") == str(path)
        assert echoed(path, b"hello") == b"hello"
        running.interrupt(signal.SIGTERM)
        done = running.finish()
    assert done.status == 0
    assert "unix#1: clean: the peer sent close_notify, we answered" in done.err
    assert f"hint: bowout connect --path {path}\n" in done.err
    assert not path.exists()


@unix_only
@pytest.mark.parametrize(
    ("name", "hint"), [("taken", "choose another FILE"), ("missing/echo.sock", "its directory has to exist")]
)
def test_a_path_that_cannot_be_had(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / "taken").touch()
    done = bowout("serve", "--path", str(tmp_path / name), "--cert", cert_file())
    assert done.status == 3
    assert f"cannot listen on '{tmp_path / name}'" in done.err
    assert hint in done.last


def test_a_socket_that_systemd_hands_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with started("serve", "--systemd", "--naccept", "1", "--cert", cert_file(), **handed_over(listener)) as running:
            server = ServeProcess(running)
            client = connect(server.address, stdin=b"hello")
            done = server.finish()
    assert server.port == port
    assert f"hint: bowout connect localhost:{port}" in done.err
    assert (client.status, client.out, done.status) == (0, b"hello", 0)


@unix_only
def test_a_unix_socket_that_systemd_hands_over_stays(tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with started("serve", "--systemd", "--cert", cert_file(), **handed_over(listener)) as running:
            assert line_of(running, "note: listening on ") == str(path)
            assert echoed(path, b"hello") == b"hello"
            running.interrupt(signal.SIGTERM)
            assert running.finish().status == 0
    assert path.exists()  # it is systemd's


def test_without_systemd_there_is_nothing_to_listen_on() -> None:
    done = bowout("serve", "--systemd", "--cert", cert_file())
    assert done.status == 2
    assert "LISTEN_FDS is not set" in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["4433", "--path", "x"], "PORT and --path"),
        (["--host", "localhost", "--systemd"], "--host and --systemd"),
        (["--path", "x", "--systemd"], "--path and --systemd"),
    ],
)
def test_there_is_one_way_to_listen(options: list[str], words: str) -> None:
    done = bowout("serve", *options)
    assert done.status == 2
    assert f"{words} contradict each other" in done.err


@unix_only
def test_an_empty_path_is_none() -> None:
    done = bowout("serve", "--path", "", "--cert", cert_file())
    assert done.status == 2
    assert "error: --path is empty" in done.err


def test_everywhere_is_dialled_as_localhost() -> None:
    with serving("--naccept", "1", "--host", "0.0.0.0") as server:
        connect(server.address)
        done = server.finish()
    assert f"hint: bowout connect localhost:{server.port}" in done.err


@pytest.mark.parametrize(
    ("address", "text"),
    [(("127.0.0.1", 1), "127.0.0.1:1"), (("::1", 1), "[::1]:1"), ("/run/x", "/run/x"), (b"\0x", "@x")],
)
def test_an_address_for_people(address: object, text: str) -> None:
    assert shown(address) == text
