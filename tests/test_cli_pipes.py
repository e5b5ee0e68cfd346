"""``bowout connect`` and its descriptors: pipes that break, streams that are closed, and much data in little memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from helpers.commands import COMMAND, Done, answering, bowout, ca_file, echoing, environment, listening, started
from helpers.peers import require_program
from helpers.wire import PATIENCE, Version, Wire

#: Runs the command, and then tells how much memory it took at its peak, in KiB.
METERED: Final = """
import resource, sys
from bowout.cli import main
status = main()
sys.stderr.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}\\n")
sys.exit(status)
"""
MIB: Final = 1 << 20


greeting: Final = answering(b"one\ntwo\n")


def connect_in_a_shell(address: str, line: str) -> subprocess.CompletedProcess[str]:
    command = f"{' '.join(COMMAND)} connect {address} --cafile {ca_file()}"
    return subprocess.run(
        [require_program("bash"), "-c", line.format(command)], capture_output=True, text=True, timeout=250, check=False
    )


def test_a_reader_that_leaves_makes_us_close() -> None:
    with listening(greeting) as server, started("connect", server.address, "--cafile", ca_file()) as client:
        assert client.read(4) == b"one\n"
        client.stop_reading()
        done = client.finish()
    assert server.results == ["close_notify"]
    assert (done.status, done.err) == (0, "clean: we sent close_notify, the peer answered\n")


def test_a_closed_stdin_is_an_empty_one() -> None:
    with listening(greeting) as server:
        done = connect_in_a_shell(server.address, "{} <&-")
    assert (done.returncode, done.stdout) == (0, "one\ntwo\n")


def test_a_closed_stdout_is_an_error() -> None:
    with listening(greeting) as server:
        done = connect_in_a_shell(server.address, "{} </dev/null >&-")
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write to stdout: ")


def test_a_closed_stderr_keeps_stdout_pure() -> None:
    with listening(greeting) as server:
        done = connect_in_a_shell(server.address, "{} --trace </dev/null 2>&-")
    assert (done.returncode, done.stdout) == (0, "one\ntwo\n")


def test_a_broken_stderr_does_not_matter() -> None:
    with listening(greeting) as server:
        done = connect_in_a_shell(server.address, "{} --trace </dev/null 2> >(true); echo $?")
    assert done.stdout == "one\ntwo\n0\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_error() -> None:
    with listening(greeting) as server, Path("/dev/full").open("wb") as full:
        done = bowout("connect", server.address, "--cafile", ca_file(), stdin=b"", stdout=full)
    assert done.status == 1
    assert done.err.startswith("error: cannot write to stdout: No space left on device")
    assert done.last.startswith("clean: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_full_disk_is_an_error_to_whoever_asks_for_help(option: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = bowout(option, stdout=full, env=environment(PYTHONUNBUFFERED=""))
    assert (done.status, done.err) == (1, "error: cannot write to stdout: No space left on device\n")


def test_an_unreadable_stdin_ends_without_close_notify(tmp_path: Path) -> None:
    with (
        listening(greeting) as server,
        (tmp_path / "write only").open("wb") as wrong,
        started("connect", server.address, "--cafile", ca_file(), stdin=wrong) as client,
    ):
        done = client.finish()
    assert server.results == ["FIN"]
    assert done.status == 1
    assert done.err.startswith("error: cannot read stdin: ")


@pytest.mark.parametrize(("version", "end"), [("1.2", "close_notify"), ("1.3", "FIN")])
def test_a_peer_that_ends_before_all_of_stdin_was_sent_is_told_of(version: Version, end: str, tmp_path: Path) -> None:
    def leaving_first(wire: Wire) -> str:
        wire.handshake()
        wire.close_notify()
        return wire.read_to_end()

    path = tmp_path / "endless"
    path.touch()
    os.truncate(path, 1 << 40)
    with (
        listening(leaving_first, version=version) as server,
        path.open("rb") as file,
        started("connect", server.address, "--cafile", ca_file(), stdin=file) as client,
    ):
        done = client.finish()
    assert server.results == [end], "in TLS 1.3, no close_notify may vouch for the part that was sent"
    # A send may have been in progress just then: its rest is what "unflushed" tells of.
    assert done.status == (7 if done.last.startswith("unflushed:") else 1)
    assert done.err.startswith("error: the peer ended before all of stdin was sent\n")


@pytest.mark.parametrize("how", ["stdout is closed", "Ctrl-C"])
def test_no_close_notify_vouches_for_half_of_stdin(how: str, tmp_path: Path) -> None:
    path = tmp_path / "endless"
    path.touch()
    os.truncate(path, 1 << 40)

    def slowly(wire: Wire) -> str:
        wire.handshake()
        wire.send(b"welcome")
        wire.read_exactly(1)
        wire.link.ready.set()
        wire.link.await_go()
        if how == "stdout is closed":
            wire.send(b"more, for which there is no room")
        return wire.read_to_end()

    with (
        listening(slowly) as server,
        path.open("rb") as file,
        started("connect", server.address, "--cafile", ca_file(), stdin=file) as client,
    ):
        assert client.read(7) == b"welcome"
        server.link.await_ready()
        if how == "Ctrl-C":
            client.interrupt()
        else:
            client.stop_reading()
        server.link.go.set()
        done = client.finish()
    assert server.results == ["FIN"]
    told, status = ("it was interrupted", 130) if how == "Ctrl-C" else ("stdout was closed", 1)
    assert f"error: {told} before all of stdin was sent\n" in done.err
    assert done.status == (7 if done.last.startswith("unflushed:") else status)


def test_a_report_on_a_closed_stdout_is_missed() -> None:
    with listening(greeting) as server:
        done = connect_in_a_shell(server.address, "{} --json=- </dev/null >&-")
    assert done.returncode == 1
    assert "error: cannot write to stdout: Bad file descriptor\n" in done.stderr


@pytest.mark.parametrize("all_of_it", [b"", b"all of it\n"])
def test_a_peer_that_ends_before_an_idle_stdin_does_so_cleanly(all_of_it: bytes) -> None:
    def leaving_first(wire: Wire) -> str:
        wire.handshake()
        while wire.received != all_of_it:
            wire.read()
        wire.close_notify()
        return wire.read_to_end()

    with listening(leaving_first) as server, started("connect", server.address, "--cafile", ca_file()) as client:
        client.type(all_of_it)
        done = client.finish()
    assert server.results == ["close_notify"]
    assert (done.status, done.err) == (0, "clean: the peer sent close_notify, we answered\n")


def test_a_file_is_sent_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3 * MIB + 7))

    def taking(wire: Wire) -> bytes:
        wire.handshake()
        wire.read_to_end()
        wire.close_notify()
        return bytes(wire.received)

    with listening(taking) as server, path.open("rb") as file:
        with started("connect", server.address, "--cafile", ca_file(), stdin=file) as client:
            assert client.finish().status == 0
        path_bytes = path.read_bytes()
    assert server.results == [path_bytes]


def test_the_last_bytes_wait_for_a_slow_reader() -> None:
    def sending(wire: Wire) -> None:
        wire.handshake()
        wire.send(bytes(MIB))
        wire.close_notify()
        wire.read_to_end()
        wire.link.ready.set()

    with (
        listening(sending) as server,
        started("connect", server.address, "--cafile", ca_file(), stdin=subprocess.DEVNULL) as client,
    ):
        server.link.await_ready()  # the connection has ended, and nobody has read our stdout yet
        assert client.finish().out == bytes(MIB)


def test_a_blocked_stdout_does_not_block_sending() -> None:
    def sending_first(wire: Wire) -> None:
        wire.handshake()
        for _ in range(2):
            wire.send(bytes(MIB))
        wire.read_exactly(MIB)
        wire.link.ready.set()
        wire.close_notify()
        wire.read_to_end()

    with (
        listening(sending_first) as server,
        started("connect", server.address, "--cafile", ca_file()) as client,
    ):
        client.type(bytes(MIB))
        server.link.await_ready()
        assert len(client.finish().out) == 2 * MIB


def test_a_blocked_stdout_does_not_block_leaving() -> None:
    def sending(wire: Wire) -> None:
        wire.handshake()
        wire.send(bytes(MIB))
        wire.close_notify()
        wire.read_to_end()
        wire.link.ready.set()

    with (
        listening(sending) as server,
        started("connect", server.address, "--cafile", ca_file(), "--timeout", "0.1") as client,
    ):
        server.link.await_ready()
        client.interrupt()
        client.process.wait(PATIENCE)
        done = client.finish()
    assert done.status == 130
    assert re.search(r"error: interrupted: stdout did not take the last [\d,]+ bytes", done.err)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_much_data_takes_little_memory(tmp_path: Path) -> None:
    def peak(size: int) -> int:
        with (tmp_path / "data").open("w+b") as file:
            file.truncate(size)
            done = run_metered(file.fileno())
        assert (done.status, len(done.out)) == (0, size)
        return int(done.last)

    def run_metered(stdin: int) -> Done:
        with (
            listening(echoing) as server,
            started(
                "connect", server.address, "--cafile", ca_file(),
                stdin=stdin, command=(sys.executable, "-c", METERED),
            ) as client,
        ):  # fmt: skip
            return client.finish()

    assert peak(64 * MIB) - peak(1) < 8 * 1024


def test_without_its_dependencies_it_says_what_is_missing() -> None:
    hiding = "import sys; sys.modules['typer'] = None; from bowout.cli import main; sys.exit(main())"
    done = bowout("connect", "x", command=(sys.executable, "-c", hiding))
    assert done.status == 2
    assert done.err == "error: the command line needs typer and rich\nhint: pip install 'bowout[cli]'\n"
