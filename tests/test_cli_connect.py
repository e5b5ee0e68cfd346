"""``bowout connect`` between pipes: both situations, every way to leave, and what is data and no command."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Final

import pytest

from helpers.commands import answering, ca_file, connect, echoing, listening, politely, started
from helpers.openssl import openssl_server
from helpers.wire import VERSIONS, Version, Wire, polite, silent

CLOSE_NOTIFY: Final = "SSL3 alert read:warning:close notify"
CLEAN: Final = "clean: we sent close_notify, the peer answered"


# -- both situations, against openssl


@pytest.mark.parametrize("version", VERSIONS)
class TestAgainstOpenssl:
    def test_situation_1_the_servers_line_makes_us_leave(self, version: Version, tmp_path: Path) -> None:
        with (
            openssl_server(version, tmp_path) as server,
            started("connect", f"localhost:{server.port}", "--cafile", ca_file(), "--quit-on", "quit") as client,
        ):
            server.expect("CIPHER is")
            server.say("please quit")
            done = client.finish()
            server.expect(CLOSE_NOTIFY)
            server.expect("shutting down SSL")
            assert (done.status, done.out) == (0, b"please quit\n")
            assert "error" not in server.text.lower()

    def test_situation_2_the_user_leaves_while_a_read_is_pending(self, version: Version, tmp_path: Path) -> None:
        with (
            openssl_server(version, tmp_path) as server,
            started("connect", f"localhost:{server.port}", "--cafile", ca_file(), "--on-eof", "close") as client,
        ):
            server.expect("CIPHER is")
            client.end_input()
            done = client.finish()
            server.expect(CLOSE_NOTIFY)
            server.expect("shutting down SSL")
            assert (done.status, done.out) == (0, b"")
            assert "error" not in server.text.lower()

    def test_the_server_takes_the_next_connection(self, version: Version, tmp_path: Path) -> None:
        with openssl_server(version, tmp_path) as server:
            for _ in range(2):
                assert connect(f"localhost:{server.port}", "--on-eof", "close").status == 0
            server.expect("shutting down SSL", times=2)


# -- half-close


def test_the_end_of_stdin_waits_for_a_late_reply() -> None:
    def late(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.link.ready.set()
        wire.link.await_go()
        wire.send(b"late")
        wire.close_notify()

    with listening(late) as server, started("connect", server.address, "--cafile", ca_file()) as client:
        client.type(b"request")
        client.end_input()
        server.link.await_ready()  # It has our close_notify, and we stay.
        server.link.go.set()
        done = client.finish()
    assert (done.status, done.out, done.last) == (0, b"late", CLEAN)


def test_on_eof_close_does_not_wait() -> None:
    with listening(polite) as server:
        done = connect(server, "--on-eof", "close", "--eof-wait", "0", stdin=b"all of it")
    assert (done.status, done.last) == (0, CLEAN)


def test_eof_wait_ends_the_wait_for_a_silent_peer() -> None:
    with listening(silent) as server:
        done = connect(server, "--eof-wait", "0.1", "--timeout", "0.1")
    assert done.status == 0
    assert "silent for 0.1 s" in done.err
    assert done.last.startswith("unanswered: ")


# -- quitting on a line


def test_the_line_that_makes_us_quit_is_printed_and_nothing_after_it() -> None:
    with listening(answering(b"one\nQUIT now\nmore\n")) as server:
        done = connect(server, "--quit-on", "QUIT", stdin=None)
    assert (done.status, done.out) == (0, b"one\nQUIT now\n")


def test_the_text_to_quit_on_may_come_in_two_halves() -> None:
    def halves(wire: Wire) -> str:
        wire.handshake()
        wire.send(b"go QU")
        wire.link.await_go()
        wire.send(b"IT now\n")
        return politely(wire)

    with (
        listening(halves) as server,
        started("connect", server.address, "--cafile", ca_file(), "--quit-on", "QUIT") as client,
    ):
        assert client.read(5) == b"go QU"
        server.link.go.set()
        assert client.finish().out == b"IT now\n"


def test_a_prompt_without_an_end_of_line_makes_us_quit_too() -> None:
    with listening(answering(b"login: ")) as server:
        done = connect(server, "--quit-on", "login", stdin=None)
    assert (done.status, done.out) == (0, b"login: ")


def test_the_end_of_stdin_does_not_make_the_line_to_quit_on_wait_longer() -> None:
    def prompt(wire: Wire) -> str:
        wire.handshake()
        wire.send(b"login: ")
        wire.read_to_end()  # the half-close
        return wire.read_to_tcp_end()

    options = ("--cafile", ca_file(), "--quit-on", "login", "--eof-wait", "1000")
    with listening(prompt) as server, started("connect", server.address, *options) as client:
        assert client.read(7) == b"login: "
        client.end_input()
        assert client.finish().status == 0
    assert server.results == ["FIN"]


def test_what_we_send_does_not_make_us_quit() -> None:
    with listening(polite) as server:
        done = connect(server, "--quit-on", "QUIT", stdin=b"QUIT\n")
    assert server.results == ["close_notify"]
    assert done.last == CLEAN


# -- data is data


@pytest.mark.parametrize("data", [b"QUIT\n", b"~.\nmore\n", b"R\n", b"\x03\x04\x00\xff", b"no newline"])
def test_piped_data_holds_no_commands(data: bytes) -> None:
    with listening(echoing) as server:
        assert connect(server, stdin=data).out == data


def test_bytes_go_untouched_to_a_pipe() -> None:
    data = b"\x1b[2J\r\n\x00\xff\xc3" * 3
    with listening(answering(data)) as server:
        assert connect(server).out == data


def test_crlf() -> None:
    with listening(echoing) as server:
        assert connect(server, "--crlf", stdin=b"a\nb\r\nc").out == b"a\r\nb\r\nc"


# -- signals


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_closes_gracefully(number: signal.Signals, status: int) -> None:
    with (
        listening(answering(b"!")) as server,
        started("connect", server.address, "--cafile", ca_file()) as client,
    ):
        assert client.read(1) == b"!"
        client.interrupt(number)
        done = client.finish()
    assert server.results == ["close_notify"]
    assert (done.status, done.last) == (status, CLEAN)


def test_a_second_interrupt_aborts() -> None:
    def stubborn(wire: Wire) -> None:
        wire.handshake()
        wire.send(b"!")
        assert wire.read_to_end() == "close_notify"
        wire.link.ready.set()
        wire.hold()

    with (
        listening(stubborn) as server,
        started("connect", server.address, "--cafile", ca_file(), "--timeout", "60") as client,
    ):
        assert client.read(1) == b"!"
        client.interrupt()
        server.link.await_ready()
        client.interrupt()
        done = client.finish()
    assert (done.status, done.last) == (130, "aborted: we cut it off with RST")


def test_an_interrupt_in_the_handshake_takes_one_line() -> None:
    def stalling(wire: Wire) -> None:
        wire.sock.recv(1)
        wire.link.ready.set()
        wire.hold()

    with listening(stalling) as server, started("connect", server.address) as client:
        server.link.await_ready()
        client.interrupt()
        done = client.finish()
    assert (done.status, done.err) == (130, "error: interrupted before the connection was established\n")


SLOW_DNS: Final = """
import socket, sys, threading
def getaddrinfo(*_, flags=0, **__):
    if flags & socket.AI_NUMERICHOST:
        raise socket.gaierror  # nobody is asked
    sys.stdout.write("asked")
    sys.stdout.flush()
    threading.Event().wait()
socket.getaddrinfo = getaddrinfo
from bowout.cli import main
sys.exit(main())
"""


def test_an_interrupt_does_not_wait_for_the_name_server() -> None:
    with started("connect", "example.org", command=(sys.executable, "-c", SLOW_DNS)) as client:
        assert client.read(5) == b"asked"
        client.interrupt()
        assert client.finish().status == 130
