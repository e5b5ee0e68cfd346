"""``bowout serve``: its modes, its leaving, and what it tells."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

import pytest

from helpers.commands import bowout, ca_file, connect, environment, started
from helpers.served import dialled, read_to_end, tcp
from helpers.serving import endings, serving
from helpers.wire import VERSIONS, Version

WE_ANSWERED: Final = "clean: the peer sent close_notify, we answered"
THEY_ANSWERED: Final = "clean: we sent close_notify, the peer answered"


def wait_until_refused(port: int) -> None:
    """Wait until the drain has begun. Not too eagerly: each try is a line on a stderr that nobody reads meanwhile."""
    with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
        while True:
            tcp(port).close()
            time.sleep(0.02)


# -- a whole conversation with bowout connect


@pytest.mark.parametrize("version", VERSIONS)
def test_a_whole_conversation(version: Version) -> None:
    with serving("--tls", version, "--naccept", "1", "--json=-") as server:
        with started("connect", server.address, "--cafile", ca_file()) as running:
            running.type(b"hello\n")
            assert running.read(6) == b"hello\n"
            running.end_input()
            client = running.finish()
        done = server.finish()
    assert (client.status, client.last) == (0, THEY_ANSWERED)
    assert done.status == 0
    assert WE_ANSWERED in done.err
    (ending,) = endings(done.out)
    assert (ending["how"], ending["sent"], ending["received"]) == ("clean", 6, 6)
    assert ending["tls_version"] == f"TLSv{version}"


def test_the_throw_away_certificate_is_trusted_by_its_authority(tmp_path: Path) -> None:
    ca_out = tmp_path / "ca.pem"
    with serving("--ca-out", str(ca_out), given=False) as server:
        hint = server.expect(r"^hint: bowout (connect .*)\n")[1]
        client = bowout(*hint.split(), stdin=b"hello")
        done = server.stop()
    assert (client.status, client.out, done.status) == (0, b"hello", 0)
    assert "PRIVATE KEY" not in ca_out.read_text()


def test_no_private_key_stays_on_disk(tmp_path: Path) -> None:
    with serving(given=False, env=environment(TMPDIR=str(tmp_path))) as server:
        assert list(tmp_path.iterdir()) == []
        assert connect(server.address).status == 3
        assert server.stop().status == 0


# -- modes


def test_echo_brings_back_a_megabyte() -> None:
    data = os.urandom(1 << 20)
    with serving() as server:
        assert connect(server.address, stdin=data).out == data
        assert server.stop().status == 0


def test_file_is_sent_and_then_it_is_over(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(os.urandom(1 << 20))
    with serving("--file", str(path), "--naccept", "2") as server:
        for _ in range(2):
            client = connect(server.address, stdin=None)
            assert (client.status, client.out) == (0, path.read_bytes())
        assert server.finish().status == 0


def test_a_file_that_shrinks_does_not_pass_for_whole(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(32 << 20))
    with serving("--file", str(path), "--naccept", "1") as server:
        with dialled(server.port) as wire:
            wire.read_exactly(1)
            os.truncate(path, 1 << 20)
            assert wire.read_to_end() == "FIN"
        done = server.finish()
    assert "the file shrank while it was sent" in done.err
    assert "aborted: we cut it off with a FIN and no close_notify" in done.err


class TestInteractive:
    def test_stdin_goes_to_the_client_and_its_bytes_to_stdout(self) -> None:
        said = b"\x1b[2J\x00\xff raw\n"
        with serving("--interactive", "--naccept", "1") as server, dialled(server.port) as wire:
            server.expect("talking to")
            server.running.type(b"who are you?\n")
            wire.read_exactly(13)
            wire.send(said)
            assert server.running.read(len(said)) == said
            server.running.end_input()
            assert wire.read_to_end() == "close_notify"
            wire.close_notify()
            assert server.finish().status == 0
        assert wire.received == b"who are you?\n"

    def test_the_latest_client_gets_it(self) -> None:
        with serving("--interactive") as server, dialled(server.port) as first:
            server.expect("talking to")
            with dialled(server.port) as second:
                server.expect("talking to")
                server.running.type(b"!")
                second.read_exactly(1)
                server.running.interrupt(signal.SIGTERM)
                assert [read_to_end(first), read_to_end(second)] == ["close_notify", "close_notify"]
            done = server.finish()
        assert (bytes(first.received), done.status) == (b"", 0)

    def test_what_is_typed_before_anybody_comes_waits(self) -> None:
        with serving("--interactive", "--naccept", "1") as server:
            server.running.type(b"welcome")
            server.running.end_input()
            assert connect(server.address, stdin=None).out == b"welcome"
            assert server.finish().status == 0

    def test_a_stdout_that_nobody_reads_ends_it(self) -> None:
        with serving("--interactive") as server, dialled(server.port) as wire:
            wire.send(b"!")
            assert server.running.read(1) == b"!"
            server.running.stop_reading()
            assert read_to_end(wire) == "close_notify"
            server.running.process.stdout = None
            assert server.finish().status == 0


# -- leaving


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_idle_connections_and_reports(number: signal.Signals) -> None:
    with serving() as server, dialled(server.port) as wire:
        wire.send(b"!")
        wire.read_exactly(1)
        server.running.interrupt(number)
        assert read_to_end(wire) == "close_notify"
        done = server.finish()
    assert done.status == 0
    assert done.last.startswith("drained 1 connection in ")
    assert done.last.endswith(": 1 clean")


def test_a_busy_connection_may_finish(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(32 << 20))
    with serving("--file", str(path), "--drain-timeout", "60") as server, dialled(server.port) as wire:
        wire.read_exactly(1)
        server.running.interrupt(signal.SIGTERM)
        assert read_to_end(wire) == "close_notify"
        done = server.finish()
    assert (len(wire.received), done.status) == (32 << 20, 0)


@pytest.mark.parametrize("hurried", [False, True], ids=["deadline", "second signal"])
def test_what_is_busy_for_too_long_is_cut_off(tmp_path: Path, hurried: bool) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(32 << 20))
    options = ("--file", str(path), "--drain-timeout", "60" if hurried else "0.1")
    with serving(*options) as server, dialled(server.port) as wire:
        wire.read_exactly(1)
        server.running.interrupt(signal.SIGTERM)
        if hurried:
            wait_until_refused(server.port)
            server.running.interrupt(signal.SIGINT)
        done = server.finish()
        assert wire.read_to_end() in {"FIN", "RST"}
    assert len(wire.received) < 32 << 20
    assert done.status == 1
    assert "1 still there at the deadline:" in done.err


def test_naccept_stops_after_so_many() -> None:
    with serving("--naccept", "2") as server:
        for _ in range(2):
            assert connect(server.address).status == 0
        assert server.finish().status == 0


def test_naccept_resets_those_who_come_too_late() -> None:
    with serving("--naccept", "1") as server, dialled(server.port) as first:
        first.send(b"!")
        first.read_exactly(1)
        with dialled(server.port) as second:
            assert second.read_to_end() == "RST"
        first.close_notify()
        assert first.read_to_end() == "close_notify"
        assert server.finish().status == 0


def test_a_failed_handshake_counts() -> None:
    with serving("--naccept", "1") as server:
        with tcp(server.port) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            while sock.recv(1 << 16):
                pass
        done = server.finish()
    assert done.status == 0
    assert "failed handshake" in done.err


def test_an_idle_connection_is_closed() -> None:
    with serving("--idle-timeout", "0.2", "--naccept", "1") as server, dialled(server.port) as wire:
        assert read_to_end(wire) == "close_notify"
        assert server.finish().status == 0


def test_max_connections_lets_the_next_one_wait() -> None:
    with serving("--max-connections", "1", "--naccept", "2") as server:
        with dialled(server.port) as first:
            first.send(b"!")
            first.read_exactly(1)
            with started("connect", server.address, "--cafile", ca_file()) as second:
                second.type(b"?")
                first.close_notify()
                assert first.read_to_end() == "close_notify"
                assert second.read(1) == b"?"
                second.end_input()
                assert second.finish().status == 0
        assert server.finish().status == 0
