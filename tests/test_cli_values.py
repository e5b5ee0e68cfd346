"""What a value of the command line must not be: empty, blank, another option, of no use. Else something fails open."""

from __future__ import annotations

import datetime as dt
import io
import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bowout.cli.app import app, run
from bowout.cli.console import output
from bowout.cli.console.output import EXIT_STATUSES
from bowout.cli.serve.command import SERVE_STATUSES
from bowout.cli.serve.identity import Identity
from bowout.cli.shared import tls_options
from helpers.commands import bowout, ca_file, environment


def parameters() -> Iterator[Any]:
    """Every option that takes a value, and every argument, of every command."""
    yield from parameters_of(typer.main.get_command(app))


def parameters_of(group: Any, *words: str) -> Iterator[Any]:
    """The same for the commands of one group, which `words` lead to."""
    for name, each in group.commands.items():
        command = " ".join([*words, name])
        if hasattr(each, "commands"):
            yield from parameters_of(each, *words, name)
            continue
        for parameter in each.params:
            if not getattr(parameter, "is_flag", False):
                option = next((name for name in parameter.opts if name.startswith("-")), "")
                yield pytest.param(command, option, id=f"{command} {option or parameter.name}")


@pytest.mark.parametrize("value", ["", " ", "\t\n", "\u00a0"], ids=["empty", "space", "line", "no-break space"])
@pytest.mark.parametrize(("command", "option"), [*parameters()])
def test_no_value_may_be_empty(command: str, option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in [[f"{option}={value}"], [option, value]] if option else [[value]]:
        # Where the option's value may be left out, the next word is that of the command, which may not be empty either.
        assert run([*command.split(), *words]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert " is empty\nhint: is a variable unset?" in err


def test_every_kind_of_parameter_was_found() -> None:
    found = {" ".join(each.values).strip() for each in parameters()}
    assert {
        "connect",
        "serve",
        "serve --client-ca",
        "connect --alpn",
        "demo --svg",
        "serve --ladder",
        "fleet run --store",
    } <= found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--alpn", "--client-ca=ca.pem"], "--alpn has no value: '--client-ca=ca.pem' is an option"),
        (["serve", "0", "--ca-out", "--client-ca", "4433"], "--ca-out has no value: '--client-ca' is an option"),
        (["connect", "a", "--quit-on", "--cafile=x"], "--quit-on has no value: '--cafile=x' is an option"),
        (["connect", "a", "--quit-on", "-6"], "--quit-on has no value: '-6' is an option"),
        (["connect", "a", "--quit-on", "--help"], "--quit-on has no value: '--help' is an option"),
    ],
)
def test_an_option_is_no_value(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert said in capsys.readouterr().err


def test_an_option_can_be_meant_as_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["connect", "a b", "--quit-on=--help"]) == 2
    assert "it contains a space" in capsys.readouterr().err


# -- files of authorities


def crl(path: Path) -> None:
    """A list of revoked certificates, which OpenSSL takes where it takes certificates."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody")])
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(now)
    signed = made.next_update(now.replace(year=2036)).sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


@pytest.mark.parametrize(("command", "option"), [("connect", "--cafile"), ("serve", "--client-ca")])
@pytest.mark.parametrize("kind", ["empty", "text", "directory", "revoked only", "missing"])
def test_a_file_that_trusts_nobody(
    command: str, option: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ca.pem"
    match kind:
        case "empty":
            path.touch()
        case "text":
            path.write_text("no certificate\n")
        case "directory":
            path.mkdir()
        case "revoked only":
            crl(path)
    assert run([command, "0" if command == "serve" else "localhost:1", option, str(path)]) == 2
    assert f"{option}: " in capsys.readouterr().err


def test_client_ca_insists_on_a_certificate() -> None:
    context = Identity(None, None, None, ca_file(), None).context("localhost")
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize("command", [["connect", "localhost:1"], ["serve", "0"]])
def test_secrets_that_cannot_be_logged(command: list[str]) -> None:
    done = bowout(*command, env=environment(SSLKEYLOGFILE="/nowhere/keys"))
    assert (done.status, done.out) == (2, b"")
    assert done.err.startswith("error: SSLKEYLOGFILE: cannot write '/nowhere/keys': No such file or directory\nhint: ")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, None),
        ({"SSL_CERT_FILE": "/nowhere"}, "SSL_CERT_FILE: cannot read '/nowhere': No such file or directory"),
        ({"SSL_CERT_FILE": ""}, "SSL_CERT_FILE: no certificate in ''"),
        ({"SSL_CERT_FILE": "/dev/null"}, "SSL_CERT_FILE: no certificate in '/dev/null'"),
        ({"SSL_CERT_DIR": "/nowhere:/nor-here"}, "SSL_CERT_DIR: there is no directory '/nowhere:/nor-here'"),
        ({"SSL_CERT_DIR": "/nowhere:/"}, None),
    ],
)
def test_variables_that_trust_nobody(
    variables: dict[str, str], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tls_options.missing_trust() == said


# -- numbers


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "-0.001", "1e999"])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("connect", "--connect-timeout"),
        ("connect", "--timeout"),
        ("connect", "--eof-wait"),
        ("serve", "--timeout"),
        ("serve", "--idle-timeout"),
        ("serve", "--drain-timeout"),
    ],
)
def test_no_number_of_seconds(command: str, option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    target = ["localhost:1"] if command == "connect" else ["0"]
    assert run([command, *target, f"{option}={value}"]) == 2
    assert f"{option} needs a number of seconds" in capsys.readouterr().err


def test_no_time_to_connect(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["connect", "localhost:1", "--connect-timeout", "0"]) == 2
    assert "--connect-timeout needs more than 0 seconds" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["0", "65536", "-1", "1" * 5000, "٣", "1.5", "0x50"])
def test_no_port(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["connect", f"localhost:{port}"]) == 2
    assert "is not a valid port" in capsys.readouterr().err
    if port != "0":  # any free one
        assert run(["serve", "--", port]) == 2
        assert "Input should" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [["serve", "x"], ["serve", "0", "--naccept=x"], ["demo", "--only=x"]])
def test_no_whole_number(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    assert "Input should" not in capsys.readouterr().err


@pytest.mark.parametrize("statuses", [EXIT_STATUSES, SERVE_STATUSES], ids=["connect", "serve"])
def test_the_exit_statuses_fit_into_a_narrow_terminal(statuses: tuple[str, ...]) -> None:
    """60 columns: the margins of the help take three."""
    assert [line for line in statuses if len(line) > 57] == []


# -- options that contradict each other


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["connect", "a", "--cafile", "x", "--insecure"], "--cafile and --insecure contradict each other"),
        (["connect", "a", "-4", "-6"], "-4 and -6 contradict each other"),
        (["connect", "a", "--path", "x"], "--path and 'a' contradict each other"),
        (["connect", "--path", "x", "-4"], "-4 and --path contradict each other"),
        (["connect", "--insecure"], "there is no host to connect to"),
        (["connect", "a", "--key", "x"], "--key needs the certificate"),
        (["connect", "a", "--show-cert=der"], "--show-cert: 'der' is not a valid value"),
        (["serve", "0", "--key", "x"], "--key needs the certificate"),
        (["serve", "0", "--cert", "x", "--ca-out", "y"], "which --cert replaces"),
    ],
)
def test_contradictions(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert said in capsys.readouterr().err


# -- the width of a terminal


class FakeTerminal(io.StringIO):
    """Stderr on a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (0, ["✓ 127.0.0.1:51194: clean: the peer sent close_notify, we answered"]),
        (20, ["✓ 127.0.0.1:51194: clean:", "  the peer sent", "  close_notify, we", "  answered"]),
        (60, ["✓ 127.0.0.1:51194: clean: the peer sent close_notify, we", "  answered"]),
    ],
)
def test_a_message_is_wrapped_where_it_has_room(width: int, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal without a size, as that of script(1) may be, tells 0 columns."""
    shown = FakeTerminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(os, "get_terminal_size", lambda _descriptor: os.terminal_size((width, 24)))
    output.hanging("✓ 127.0.0.1:51194: clean:", "the peer sent close_notify, we answered", indent=2)
    assert shown.getvalue().splitlines() == lines
