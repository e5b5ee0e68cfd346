"""``bowout serve``: its options for TLS, what it tells of connections, and commands that cannot work."""

from __future__ import annotations

import os
import socket
import ssl
import stat
from pathlib import Path

import pytest

from bowout.cli.shared.optional_values import LEFT_OUT, with_values
from helpers.commands import Done, bowout, ca_file, connect
from helpers.served import tcp
from helpers.serving import cert_file, endings, serving
from helpers.wire import NAME, authority, client_context


def refused(*arguments: str) -> Done:
    """Run a command that cannot work: it says why, and what to do about it."""
    done = bowout("serve", *arguments)
    assert done.out == b""
    assert done.err.startswith("error: ")
    return done


# -- TLS


def test_a_client_without_a_certificate_is_refused_where_one_is_wanted(tmp_path: Path) -> None:
    with serving("--client-ca", ca_file(), "--naccept", "2") as server:
        assert connect(server.address).status == 6
        leaf = tmp_path / "client.pem"
        authority().issue_cert("client.test").private_key_and_cert_chain_pem.write_to_path(leaf)
        client = connect(server.address, "--cert", str(leaf), stdin=b"it is me")
        done = server.finish()
    assert (client.status, client.out, done.status) == (0, b"it is me", 0)
    assert "failed handshake" in done.err


def test_alpn_is_agreed_on() -> None:
    context = client_context()
    context.set_alpn_protocols(["h3", "http/1.1"])
    with serving("--alpn", "h2,http/1.1") as server:
        with (
            socket.create_connection(("127.0.0.1", server.port)) as sock,
            context.wrap_socket(sock, server_hostname=NAME) as tls,
        ):
            assert tls.selected_alpn_protocol() == "http/1.1"
        server.stop()


def test_the_version_of_tls_is_insisted_on() -> None:
    with serving("--tls", "1.2") as server, tcp(server.port) as sock:
        context = client_context("1.3")
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            context.wrap_socket(sock, server_hostname=NAME)
        server.stop()


# -- telling


def test_trace_names_the_peer_in_every_line() -> None:
    with serving("--trace", "--naccept", "1") as server:
        connect(server.address, stdin=b"hello")
        done = server.finish()
    lines = [line for line in done.err.splitlines() if "alert" in line]
    assert [line.partition("alert ")[2] for line in lines] == ["read:warning:close notify".replace(" ", "_")] * 1 + [
        "write:warning:close_notify"
    ]
    assert all(line.startswith("127.0.0.1:") for line in lines)


def test_ladders_are_drawn_into_a_directory(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "ladders"
    with serving("--ladder", str(directory), "--naccept", "2") as server:
        for _ in range(2):
            connect(server.address)
        assert server.finish().status == 0
    first, second = sorted(directory.iterdir())
    assert (first.name[:15], second.name[:5], second.suffix) == ("0001-127.0.0.1-", "0002-", ".svg")
    assert first.read_text().startswith("<svg")


@pytest.mark.parametrize("option", [["--ladder"], ["--ladder", "stderr"]])
def test_a_ladder_is_drawn_on_stderr(option: list[str]) -> None:
    with serving(*option, "--naccept", "1") as server:
        connect(server.address)
        assert "◄" in server.finish().err


def test_json_is_a_line_for_each_connection(tmp_path: Path) -> None:
    path = tmp_path / "endings.jsonl"
    with serving("--json", str(path), "--naccept", "2") as server:
        for text in (b"a", b"bc"):
            connect(server.address, stdin=text)
        assert server.finish().status == 0
    assert [ending["received"] for ending in endings(path.read_text())] == [1, 2]


def test_json_without_a_file_is_on_stderr() -> None:
    with serving("--json", "--naccept", "1") as server:
        connect(server.address)
        done = server.finish()
    assert [ending["how"] for ending in endings(done.err)] == ["clean"]


def test_a_report_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with serving("--ladder", str(tmp_path / "gone"), "--naccept", "1") as server:
        (tmp_path / "gone").rmdir()
        connect(server.address)
        done = server.finish()
    assert done.status == 1
    assert "error: cannot write" in done.err


# -- what cannot work


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = refused(str(other.getsockname()[1]), "--host", "127.0.0.1")
    assert done.status == 3
    assert "hint: another program listens there" in done.err


def test_a_server_that_cannot_listen_leaves_the_files_of_the_one_that_does(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("ca.pem", "endings.jsonl")]
    options = ("--ca-out", str(files[0]), "--json", str(files[1]))
    with serving(*options, "--naccept", "1", given=False) as server:
        assert connect(server.address, "--cafile", str(files[0])).status == 0
        server.finish()
        before = [file.read_bytes() for file in files]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = refused(*options, "--ladder", str(tmp_path / "new"), str(taken.getsockname()[1]))
    assert done.status == 3
    assert [file.read_bytes() for file in files] == before
    assert all(before)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cert", "missing.pem"], "cannot read 'missing.pem'"),
        (["--key", "k.pem"], "--key needs the certificate"),
        (["--www", "missing"], "cannot read 'missing'"),
        (["--www", os.devnull], "cannot read"),
        (["--file", "missing"], "cannot read 'missing'"),
        (["--file", "/"], "it is not a regular file"),
        (["--client-ca", os.devnull], "no certificate"),
        (["--ca-out", "/missing/ca.pem"], "cannot write"),
        (["--ca-out", "ca.pem", "--cert", "c.pem"], "--ca-out is for the throw-away certificate"),
        (["--echo", "--interactive"], "--echo and --interactive contradict each other"),
        (["--interactive", "--json", "-"], "stdout is for the clients' data only"),
        (["--json", "/missing/endings"], "cannot write"),
        (["--ladder", os.devnull], "--ladder: cannot make"),
        (["--timeout", "nan"], "--timeout needs a number of seconds"),
        (["--naccept", "0"], "--naccept"),
        (["65536"], "PORT"),
        (["4433", "4434"], "4434"),
    ],
)
def test_usage(arguments: list[str], words: str) -> None:
    done = refused(*arguments)
    assert done.status == 2
    assert words in done.err


def test_a_key_that_does_not_match(tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    authority().issue_cert(NAME).private_key_pem.write_to_path(other)
    done = refused("--cert", cert_file(), "--key", str(other))
    assert done.status == 2
    assert "key values mismatch" in done.err


def test_a_host_that_is_not_ours() -> None:
    assert refused("0", "--host", "192.0.2.1").status == 3


def test_the_authoritys_file_is_no_secret(tmp_path: Path) -> None:
    ca_out = tmp_path / "ca.pem"
    with serving("--ca-out", str(ca_out), given=False) as server:
        server.stop()
    assert stat.S_IMODE(ca_out.stat().st_mode) & 0o111 == 0


@pytest.mark.parametrize(
    ("typed", "filled"),
    [
        ("serve --ladder pictures 0", "serve --ladder=pictures 0"),
        ("serve --ladder 4433", f"serve --ladder={LEFT_OUT} 4433"),
        ("serve --json - --trace", "serve --json=- --trace"),
        ("serve --json --trace", f"serve --json={LEFT_OUT} --trace"),
        ("serve --json endings", "serve --json=endings"),
        ("connect --json serve", f"connect --json={LEFT_OUT} serve"),
    ],
)
def test_an_option_takes_the_next_word_unless_it_is_a_port(typed: str, filled: str) -> None:
    assert with_values(typed.split()) == filled.split()
