"""How a ``bowout connect`` ends: each ending with its exit status and its last line, and the pictures of it."""

from __future__ import annotations

import json
import socket
import ssl
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from helpers.commands import (
    MUCH,
    SMALL_SEND_BUFFER,
    bowout,
    ca_file,
    connect,
    deaf,
    echoing,
    listening,
    started,
)
from helpers.wire import VERSIONS, Version, Wire, certificate, polite, server_context

CLEAN: Final = "clean: we sent close_notify, the peer answered"


# -- every ending has its status


def truncating(wire: Wire) -> None:
    wire.handshake()
    wire.send(b"half")
    wire.fin()
    wire.read_to_tcp_end()


def cutting_a_record(wire: Wire) -> None:
    wire.handshake()
    wire.sock.sendall(wire.encrypt(b"half")[:-3])
    wire.fin()
    wire.read_to_tcp_end()


def resetting(wire: Wire) -> None:
    wire.handshake()
    wire.read()
    wire.rst()


def sending_garbage(wire: Wire) -> None:
    wire.handshake()
    wire.garbage()
    wire.read_to_tcp_end()


@pytest.mark.parametrize(
    ("script", "status", "last"),
    [
        (truncating, 4, "truncated: the peer's FIN came at a record boundary, without close_notify"),
        (cutting_a_record, 4, "truncated: the peer's FIN came inside a record, without close_notify"),
        (resetting, 5, "reset: the peer reset the connection"),
        (sending_garbage, 6, "alert: we sent fatal bad_record_mac"),
    ],
)
def test_a_bad_end(script: Callable[[Wire], None], status: int, last: str) -> None:
    with (
        listening(script) as server,
        started("connect", server.address, "--cafile", ca_file()) as client,
    ):
        client.type(b"x")  # and stdin stays open: it is the peer who ends it
        done = client.finish()
    assert done.status == status
    assert done.last.startswith(last)


def test_what_came_before_a_bad_end_is_printed() -> None:
    with listening(truncating) as server:
        assert connect(server, stdin=None).out == b"half"


def test_a_fatal_alert_of_the_peer() -> None:
    context = server_context("1.3")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca_file())

    def refusing(wire: Wire) -> None:
        with pytest.raises(ssl.SSLError):
            wire.handshake()
        wire.flush()
        wire.read_to_tcp_end()

    with listening(refusing, context=context) as server:
        done = connect(server, stdin=None)
    assert done.status == 6
    assert done.last == "alert: the peer sent fatal certificate_required"
    assert "hint: the server has asked for a certificate, and got none: --cert FILE --key FILE" in done.err


def test_the_peer_may_end_it_first() -> None:
    def bowing_out(wire: Wire) -> str:
        wire.handshake()
        wire.close_notify()
        return wire.read_to_end()

    with listening(bowing_out) as server:
        done = connect(server, stdin=None)
    assert (done.status, done.last) == (0, "clean: the peer sent close_notify, we answered")
    assert server.results == ["close_notify"]


def test_a_peer_that_does_not_read() -> None:
    with (
        listening(deaf, small=True) as server,
        started(
            "connect", server.address, "--cafile", ca_file(), "--timeout", "0.2", command=SMALL_SEND_BUFFER,
        ) as client,
    ):  # fmt: skip
        assert client.read(1) == b"!"
        client.type(MUCH)
        server.link.await_ready()
        client.interrupt()
        done = client.finish()
    assert done.status == 7
    assert "unsent" in done.last


# -- no connection, no handshake


def test_a_closed_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = connect(f"127.0.0.1:{port}", stdin=None)
    assert done.status == 3
    assert done.err == (
        f"error: 127.0.0.1:{port} refused the connection\n"
        f"hint: is port {port} right? No server listens there, or a firewall rejects the connection\n"
    )


def test_a_name_without_an_address() -> None:
    done = connect("nobody.invalid", stdin=None)
    assert done.status == 3
    assert done.err.startswith("error: the name 'nobody.invalid' has no address")


@pytest.mark.parametrize(
    ("greeting", "hint"),
    [
        (b"220 mail ESMTP\r\n", "--starttls smtp"),
        (b"* OK IMAP4rev2\r\n", "--starttls imap"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak TLS; another port may"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak TLS; another port may"),
    ],
)
def test_a_peer_without_tls(greeting: bytes, hint: str) -> None:
    def plain(wire: Wire) -> None:
        wire.sock.recv(1 << 16)
        wire.sock.sendall(greeting)
        wire.read_to_tcp_end()

    with listening(plain) as server:
        done = connect(server, stdin=None)
    assert done.status == 3
    assert "the peer does not speak TLS here" in done.err
    assert hint in done.last


def failing_handshake(wire: Wire) -> None:
    with pytest.raises(ssl.SSLError):
        wire.handshake()


def test_a_certificate_for_another_name() -> None:
    with listening(failing_handshake, context=server_context(None, "another.test")) as server:
        done = connect(server, stdin=None)
    assert done.status == 3
    assert "error: the peer's certificate was refused: Hostname mismatch" in done.err
    assert done.last.startswith("hint: --servername NAME")


def test_servername_asks_for_another_name() -> None:
    with listening(polite, context=server_context(None, "another.test")) as server:
        assert connect(server, "--servername", "another.test").status == 0


def test_a_certificate_of_an_unknown_authority() -> None:
    with listening(failing_handshake) as server:
        done = bowout("connect", server.address)
    assert done.status == 3
    assert done.last.startswith("hint: --cafile FILE")


def test_insecure_does_not_check() -> None:
    with listening(polite) as server:
        assert bowout("connect", server.address, "--insecure", stdin=b"").status == 0


def test_a_silent_handshake_ends_in_time() -> None:
    with listening(Wire.hold) as server:
        done = connect(server, "--connect-timeout", "1", stdin=None)
    assert done.status == 3
    assert "error: the peer did not finish the handshake within 1 s" in done.err


# -- how to do TLS


@pytest.mark.parametrize("version", VERSIONS)
def test_tls_pins_the_version(version: Version) -> None:
    with listening(polite) as server:
        done = connect(server, "--tls", version, "--trace")
    assert f"handshake done: TLSv{version}" in done.err


def test_alpn_offers_in_this_order() -> None:
    context = server_context()
    context.set_alpn_protocols(["http/1.1", "two", "one"])
    chosen: list[str | None] = []

    def script(wire: Wire) -> str:
        end = polite(wire)
        chosen.append(wire.tls.selected_alpn_protocol())
        return end

    with listening(script, context=context) as server:
        assert connect(server, "--alpn", "one,two", "--alpn", "http/1.1").status == 0
    assert chosen == ["http/1.1"]


def test_cert_identifies_us(tmp_path: Path) -> None:
    pem = tmp_path / "me.pem"
    certificate("me.test").private_key_and_cert_chain_pem.write_to_path(pem)
    context = server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca_file())
    with listening(polite, context=context) as server:
        assert connect(server, "--cert", str(pem)).status == 0


def test_starttls_changes_to_tls_first() -> None:
    def smtp(wire: Wire) -> str:
        for reply in (b"220 hello\r\n", b"250-hello\r\n250 STARTTLS\r\n", b"220 go\r\n"):
            wire.sock.sendall(reply)
            if reply != b"220 go\r\n":
                wire.sock.recv(1 << 16)
        return polite(wire)

    with listening(smtp) as server:
        assert connect(server, "--starttls", "smtp").status == 0


def test_starttls_that_is_refused() -> None:
    def refusing(wire: Wire) -> None:
        wire.sock.sendall(b"554 no\r\n")
        wire.read_to_tcp_end()

    with listening(refusing) as server:
        done = connect(server, "--starttls", "smtp")
    assert done.status == 3
    assert done.err.startswith("error: SMTP: the server turned the connection away")


# -- what it tells


@pytest.fixture(scope="module")
def traced() -> list[str]:
    """What --trace says of a short life, without the times."""
    with listening(echoing, version="1.3") as server:
        done = connect(server, "--trace", stdin=b"hello")
    return [line[9:] for line in done.err.splitlines()[:-1]]


@pytest.mark.parametrize(
    "event",
    [
        "→ handshake: ClientHello",
        "← handshake: ServerHello",
        "← session ticket",
        "  data: sent 5 B",
        "→ alert write:warning:close_notify",
        "← alert read:warning:close_notify",
        "→ FIN",
        "← FIN",
    ],
)
def test_trace_tells_of(event: str, traced: list[str]) -> None:
    assert event in traced


def test_trace_tells_of_alerts_with_level_and_name() -> None:
    with listening(sending_garbage) as server:
        assert "→ alert write:fatal:bad_record_mac" in connect(server, "--trace", stdin=None).err


def test_trace_tells_of_a_reset() -> None:
    with listening(resetting) as server:
        assert "← RST" in connect(server, "--trace", stdin=b"x").err


def test_json_is_one_line_before_the_last() -> None:
    with listening(polite) as server:
        told = json.loads(connect(server, "--json").err.splitlines()[-2])
    assert (told["version"], told["how"]) == (1, "clean")


def test_json_into_a_file(tmp_path: Path) -> None:
    path = tmp_path / "ending.json"
    with listening(truncating) as server:
        connect(server, "--json", str(path), stdin=None)
    assert json.loads(path.read_text())["how"] == "truncated"


def test_a_failed_handshake_has_its_json(tmp_path: Path) -> None:
    path = tmp_path / "ending.json"
    with listening(failing_handshake) as server:
        bowout("connect", server.address, f"--json={path}")
    assert json.loads(path.read_text())["how"] == "failed handshake"


def test_without_a_connection_no_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "ending.json"
    path.write_text("an old one")
    connect("nobody.invalid", "--json", str(path))
    assert not path.exists()


def test_ladder_is_drawn_before_the_last_line() -> None:
    with listening(polite) as server:
        done = connect(server, "--ladder")
    assert "├─────────────────────────── close_notify ───────────────────────────►│" in done.err
    assert done.last == CLEAN


def test_ladder_without_unicode_is_ascii() -> None:
    with listening(polite) as server:
        done = bowout(
            "connect", server.address, "--cafile", ca_file(), "--ladder", "--trace", stdin=b"",
            env={"PYTHONIOENCODING": "ascii"},
        )  # fmt: skip
    assert done.err.isascii()


def test_ladder_into_an_svg(tmp_path: Path) -> None:
    path = tmp_path / "ending.svg"
    with listening(polite) as server:
        connect(server, "--ladder", str(path))
    assert ET.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
