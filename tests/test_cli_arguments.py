"""What is typed after ``bowout``, and what is said about it when it is wrong."""

from __future__ import annotations

import os
import platform
import ssl
import sys
from importlib import metadata
from pathlib import Path
from typing import Final

import pytest

from bowout import STARTTLS, __version__, lane
from bowout._core import hook
from bowout.cli.app import run
from bowout.cli.console.filters import Crlf, LineWith, TerminalText, Tilde
from bowout.cli.shared import host_port
from bowout.cli.shared.host_port import Target
from bowout.cli.shared.optional_values import LEFT_OUT, with_values
from bowout.cli.shared.usage import UsageError
from helpers.commands import COMMAND, SCRIPT, bowout, environment


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("example.org", "example.org", 443),
        ("example.org:8443", "example.org", 8443),
        ("example.org:https", "example.org", 443),
        ("192.0.2.1:1", "192.0.2.1", 1),
        ("::1", "::1", 443),
        ("[::1]", "::1", 443),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1%lo]:443", "fe80::1%lo", 443),
    ],
)
def test_a_target(text: str, host: str, port: int) -> None:
    assert host_port.parse(text) == Target(host, port)


@pytest.mark.parametrize("protocol", sorted(STARTTLS))
def test_starttls_has_its_own_port(protocol: str) -> None:
    assert host_port.parse("example.org", protocol).port == STARTTLS[protocol].port


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":443",
        "a:",
        "a:0",
        "a:65536",
        "a:nonsense",
        "a:-1",
        "[::1",
        "[::1]443",
        "1:2:3",
        "[a]:1",
        "a b",
        "https://a/",
    ],
)
def test_no_target(text: str) -> None:
    with pytest.raises(UsageError):
        host_port.parse(text)


def test_a_url_is_explained() -> None:
    with pytest.raises(UsageError) as caught:
        host_port.parse("https://user@example.org:8443/path?x")
    assert caught.value.hint == "give HOST, HOST:PORT, [IPv6]:PORT, such as example.org:8443"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--ladder"], [f"--ladder={LEFT_OUT}"]),
        (["--ladder", "host"], [f"--ladder={LEFT_OUT}", "host"]),
        (["--show-cert", "pem"], [f"--show-cert={LEFT_OUT}", "pem"]),
        (["--show-cert=pem"], ["--show-cert=pem"]),
        (["serve", "--ladder", ""], ["serve", "--ladder="]),
        (["--ladder", "a.svg", "host"], ["--ladder=a.svg", "host"]),
        (["--ladder=any", "host"], ["--ladder=any", "host"]),
        (["--json", "--trace"], [f"--json={LEFT_OUT}", "--trace"]),
        (["--json", "a.json"], ["--json=a.json"]),
        (["--json", "-"], ["--json=-"]),
        (["--", "--json"], ["--", "--json"]),
    ],
)
def test_optional_values(typed: list[str], meant: list[str]) -> None:
    assert with_values(typed) == meant


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["connect", "a", "443"], "HOST:PORT is one word"),
        (["connect", "a", "--bogus"], "hint: bowout connect --help"),
        (["nonsense"], "hint: bowout --help"),
        (["connect", "a", "--tls", "1.1"], "'1.1' is not one of '1.2', '1.3'"),
        (["connect", "a", "--starttls", "nonsense"], "'nonsense' is not one of 'ftp'"),
        (["connect", "a", "--timeout", "-1"], "--timeout needs a number of seconds, 0 or more"),
        (["connect", "a", "--eof-wait", "inf"], "--eof-wait needs a number of seconds"),
        (["connect", "a", "--quit-on", "a\nb"], "--quit-on needs a text"),
        (["connect", "a", "--alpn", "a,,b"], "'' is not a valid protocol name (1-255 ASCII characters)"),
        (["connect", "a", "--servername", "a..b"], "'a..b' is not a valid server name"),
        (["connect", "a", "--cafile", "/nowhere/ca.pem"], "--cafile: cannot read '/nowhere/ca.pem': No such file"),
        (["connect", "a", "--cafile", "x", "--insecure"], "contradict each other"),
        (["connect", "a", "--key", "x"], "--key needs the certificate"),
        (["connect", "a", "--cert", "/nowhere/me.pem"], "--cert: cannot read '/nowhere/me.pem': No such file"),
        (["connect", "a", "--ladder=a.png"], "'a.png' is neither .svg nor .txt"),
        (["connect", "a", "--json", "/nowhere/a.json"], "cannot write '/nowhere/a.json': No such file"),
        (["connect", "a", "--on-eof", "nothing"], "'nothing' is not one of 'half-close', 'wait', 'close'"),
    ],
)
def test_a_usage_error(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = run(arguments)
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err


@pytest.mark.parametrize("option", ["--cafile", "--cert"])
def test_a_file_without_a_certificate(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "empty.pem"
    path.touch()
    assert run(["connect", "a", option, str(path)]) == 2
    assert f"'{path}'" in capsys.readouterr().err


def test_a_bad_path_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "ladder.svg"
    assert run(["connect", "a", f"--ladder={path}", "--json=/nowhere/a.json"]) == 2
    assert not path.exists()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"bowout {__version__}\n"


@pytest.mark.parametrize("options", [["--version", "--verbose"], ["--verbose", "--version"]], ids=" ".join)
def test_the_long_version_is_what_a_report_needs(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(options) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    told = {line.split()[0]: line[10:] for line in lines}
    assert first == f"bowout {__version__}"
    assert told["python"] == f"{platform.python_implementation()} {platform.python_version()}"
    assert told["openssl"] == ssl.OPENSSL_VERSION
    assert told["lane"].split(":")[0] == lane.name
    assert told["alerts"] == "every one is reported"
    assert f"typer {metadata.version('typer')}" in told["cli"].split(", ")


def test_the_long_version_of_a_poor_installation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.setattr(hook, "BASE", object)
    monkeypatch.setattr(lane, "why_python", "no reason")
    assert run(["--version", "--verbose"]) == 0
    told = capsys.readouterr().out
    assert ", typer is not installed\n" in told
    assert "alerts    only fatal ones are known" in told
    assert ": no reason\n" in told
    monkeypatch.setattr(metadata, "requires", missing)
    assert run(["--version", "--verbose"]) == 0
    assert "typer" not in capsys.readouterr().out


def test_verbose_alone_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--verbose"]) == 2
    assert capsys.readouterr().err == "error: --verbose belongs to --version\nhint: bowout --version --verbose\n"


def test_verbose_before_a_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--verbose", "demo"]) == 2
    assert "--verbose belongs to --version" in capsys.readouterr().err


def test_help_has_the_exit_statuses() -> None:
    done = bowout("connect", "--help")
    assert done.status == 0
    first_words = [
        line.split()[0] for line in done.out.decode().partition("Exit status:")[2].splitlines() if line.strip()
    ]
    assert [word for word in first_words if word.isdigit()] == ["0", "1", "2", "3", "4", "5", "6", "7", "130"]


def test_without_arguments_it_helps() -> None:
    done = bowout()
    assert done.status == 2
    assert b"connect" in done.out


class TestCrlf:
    @pytest.mark.parametrize("chunks", [[b"a\nb\r\nc\r\r\n"], [b"a", b"\n", b"b\r", b"\nc\r", b"", b"\r\n"]])
    def test_makes_lines_end_alike(self, chunks: list[bytes]) -> None:
        crlf = Crlf()
        assert b"".join(crlf.feed(chunk) for chunk in chunks) == b"a\r\nb\r\nc\r\r\n"


class TestTilde:
    @pytest.mark.parametrize(
        ("typed", "sent"),
        [
            ([b"~.\n"], [None]),
            ([b"a\n", b"~.\n"], [b"a\n", None]),
            ([b"a", b"~.\n"], [b"a", b"~.\n"]),
            ([b" ~.\n"], [b" ~.\n"]),
            ([b"~~.\n"], [b"~.\n"]),
            ([b"~x\n"], [b"~x\n"]),
        ],
    )
    def test_commands(self, typed: list[bytes], sent: list[bytes | None]) -> None:
        tilde = Tilde()
        assert [tilde.feed(line) for line in typed] == sent


class TestLineWith:
    @pytest.mark.parametrize("cut", range(1, 20))
    def test_wherever_it_is_cut(self, cut: int) -> None:
        data = b"a QUI\nb QUIT c\nd QUIT\n"
        wanted = LineWith("QUIT")
        shown = b""
        for chunk in (data[:cut], data[cut:]):
            if not wanted.line_ended:
                shown += wanted.feed(chunk)
        assert (shown, wanted.line_ended) == (b"a QUI\nb QUIT c\n", True)


class TestTerminalText:
    def show(self, *chunks: bytes, encoding: str = "utf-8") -> str:
        text = TerminalText(encoding)
        return "".join(text.feed(chunk) for chunk in chunks) + text.feed(b"", last=True)

    def test_newlines_and_tabs_stay(self) -> None:
        assert self.show(b"a\n\tb\r\nc") == "a\n\tb\nc"

    @pytest.mark.parametrize("data", [b"\x1b[2J", b"\x07", b"\x9b1m", b"\xe2\x80\xae", b"\x7f", b"a\rb", b"\xc2\x9b"])
    def test_what_could_act_is_escaped(self, data: bytes) -> None:
        assert all(char.isprintable() for char in self.show(data))

    def test_a_character_may_come_in_pieces(self) -> None:
        assert self.show(*(bytes([byte]) for byte in "é✓界🙂".encode())) == "é✓界🙂"

    def test_a_cr_lf_may_come_in_pieces(self) -> None:
        assert self.show(b"a\r", b"\nb\r", b"c\r") == "a\nb\\rc\\r"

    def test_half_a_character_at_the_end_is_escaped(self) -> None:
        assert self.show(b"a\xe2\x9c") == "a\\xe2\\x9c"

    def test_an_ascii_terminal_gets_ascii(self) -> None:
        assert self.show("é".encode(), encoding="ascii") == "\\xe9"


@pytest.mark.parametrize(
    "command", [["connect", "localhost"], ["connect", "localhost", "--cafile", "/x"], ["serve", "0"]]
)
@pytest.mark.parametrize("path", ["/nowhere/keys", "/"])
def test_a_key_log_that_cannot_be_written(
    command: list[str], path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", path)
    assert run(command) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: SSLKEYLOGFILE: cannot write '{path}': ")
    assert hint == "hint: unset that variable, or set it to a file that can be written"


AS_ONE_WORD: Final = (*COMMAND[:-2], "-mbowout")


@pytest.mark.parametrize("begun", [COMMAND, AS_ONE_WORD, SCRIPT], ids=["-m bowout", "-mbowout", "bowout"])
@pytest.mark.parametrize("words", ["--version", "connect a:1", "check a:1", "demo", "serve", "fleet status"])
def test_a_lane_that_is_none_is_a_usage_error(begun: tuple[str, ...], words: str) -> None:
    done = bowout(*words.split(), command=begun, env=environment(BOWOUT_LANE="rust"))
    said = "error: BOWOUT_LANE is 'rust': it must be c or python, or unset"
    assert (done.status, done.out) == (2, b"")
    assert done.err.splitlines() == [said, "hint: unset BOWOUT_LANE, or set it to python"]


def test_a_lane_that_is_none_is_no_verdict_of_a_plugin() -> None:
    done = bowout("check", "--format", "nagios", "localhost:1", env=environment(BOWOUT_LANE="rust"))
    assert (done.status, done.err) == (3, "")
    assert done.out.startswith(b"TLS ENDING UNKNOWN - BOWOUT_LANE is 'rust'")


def test_a_module_that_imports_the_library_is_not_the_command(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/__init__.py").write_text("import bowout", encoding="ascii")
    (tmp_path / "ours/__main__.py").write_text(
        "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)", encoding="ascii"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = bowout("bowout", command=(*COMMAND[:-1], "ours"), env=environment(PYTHONPATH=path))
    assert (done.status, done.out.split()) == (0, [b"True"])
