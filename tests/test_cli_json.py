"""``bowout connect --json``: where the JSON goes, and what else may go there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from helpers.commands import answering, bowout, ca_file, connect, listening, started
from helpers.wire import Wire

UNPRINTED = "note: 5 bytes of the peer's data were not printed: --json=- uses stdout for JSON only"


@pytest.mark.parametrize("option", [("--json=-",), ("--json", "-")])
def test_a_dash_is_stdout_which_then_has_nothing_else(option: tuple[str, ...]) -> None:
    with listening(answering(b"hello")) as server:
        done = connect(server, *option)
    assert (done.status, json.loads(done.out)["how"], json.loads(done.out)["received"]) == (0, "clean", 5)
    assert done.out.count(b"\n") == 1
    assert done.err.splitlines() == [UNPRINTED, "clean: we sent close_notify, the peer answered"]


def test_a_dash_has_the_ending_of_a_failed_handshake_too() -> None:
    def resets(wire: Wire) -> None:
        wire.pull()  # The ClientHello: there is a connection.
        wire.rst()

    with listening(resets) as server:
        done = connect(server, "--json=-", stdin=None)
    assert (done.status, json.loads(done.out)["how"]) == (3, "failed handshake")


def test_without_a_connection_there_is_none() -> None:
    done = connect("nobody.invalid", "--json=-")
    assert (done.status, done.out) == (3, b"")


def test_the_line_to_quit_on_is_looked_for_all_the_same() -> None:
    with listening(answering(b"one\nQUIT\n")) as server:
        done = connect(server, "--json=-", "--quit-on", "QUIT", stdin=None)
    assert (done.status, json.loads(done.out)["how"]) == (0, "clean")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_json_that_cannot_be_written_is_an_error() -> None:
    with listening(answering(b"hello")) as server, Path("/dev/full").open("wb") as full:
        done = bowout("connect", server.address, "--cafile", ca_file(), "--json=-", stdin=b"", stdout=full)
    assert done.status == 1
    assert done.err.startswith("error: cannot write to stdout: No space left on device\n")


def test_a_reader_that_has_left_does_not_matter() -> None:
    def polite(wire: Wire) -> None:
        wire.handshake()
        wire.send(b"!")
        wire.link.await_go()
        wire.close_notify()
        wire.read_to_end()

    with (
        listening(polite) as server,
        started("connect", server.address, "--cafile", ca_file(), "--json=-", stdin=subprocess.PIPE) as client,
    ):
        client.stop_reading()
        client.process.stdout = None
        server.link.go.set()
        done = client.finish()
    assert (done.status, done.last) == (0, "clean: the peer sent close_notify, we answered")
