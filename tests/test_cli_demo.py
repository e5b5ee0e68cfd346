"""``bowout demo``: what it tells, how it looks, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Final

import pexpect
import pytest

from helpers.commands import COMMAND, bowout, environment, started
from helpers.peers import require_module, require_program
from helpers.runners import BACKENDS
from helpers.wire import PATIENCE

TITLES: Final = (
    "1 · From inside a read",
    "2 · While a read is pending",
    "3 · Cancel the pending read, then close",
    "4 · Abruptly, for contrast",
)
CLIENT: Final = ("clean: we sent close_notify, the peer answered",) * 3 + ("aborted: we cut it off with RST",)
SERVER: Final = ("clean: the peer sent close_notify, we answered",) * 3 + ("reset: the peer reset the connection",)
READS: Final = (
    None,
    "StreamClosed: we closed this stream",
    "cancelled holding 13 B; the next one gave 13 B",
    None,
)
SHUT: Final = ["shutting down SSL", "CONNECTION CLOSED"]
SVGS: Final = {"situation-1.svg", "situation-2.svg", "cancelled-read.svg", "abrupt.svg"}


def acts_of(out: bytes) -> list[str]:
    """What was told of each act, from its title on."""
    parts = re.split(r"^── (?=\d · )", out.decode(), flags=re.MULTILINE)
    assert len(parts) > 1, out
    return parts[1:]


def facts_of(act: str) -> dict[str, list[str]]:
    """What the table under a ladder tells: each label with its lines."""
    table = act.split("\n\n")[4].splitlines()
    facts: dict[str, list[str]] = {}
    label = ""
    for line in table:
        found = re.fullmatch(r"(\w*) +(.*)", line)
        assert found, act
        label = found[1] or label
        facts.setdefault(label, []).append(found[2])
    return facts


def expect_nothing_left(directory: Path) -> None:
    """No file in the demo's place for temporary ones, and no process that was started with one of them."""
    assert list(directory.iterdir()) == []
    for name in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = name.read_bytes()
        except OSError:
            continue
        assert os.fsencode(directory) not in command, command


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """An empty directory for the demo's temporary files."""
    path = tmp_path / "temporary"
    path.mkdir()
    return path


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("loop", BACKENDS)
class TestTheStory:
    def test_on_its_own_server(self, loop: str, tls: str, temporary: Path) -> None:
        require_module(loop)
        done = bowout("demo", "--loop", loop, "--tls", tls, env=environment(TMPDIR=str(temporary), COLUMNS="100"))
        assert (done.status, done.err) == (0, "")
        acts = acts_of(done.out)
        assert tuple(act.partition(" ─")[0] for act in acts) == TITLES
        for act, client, server, read in zip(acts, CLIENT, SERVER, READS, strict=True):
            facts = facts_of(act)
            assert facts["client"] == [client]
            assert facts["server"][0] == server
            assert facts.get("read") == ([read] if read else None)
            assert facts["then"] == [f"it takes its next connection: TLSv{tls}, clean"]
            assert act.split("\n\n")[5].startswith("✓ ")
        assert "its read raised Reset" in facts_of(acts[3])["server"][1]
        assert done.out.decode().endswith("\nAll four ended as promised.\n")
        expect_nothing_left(temporary)

    def test_on_openssl_s_server(self, loop: str, tls: str, temporary: Path) -> None:
        require_module(loop)
        require_program("openssl")
        done = bowout(
            "demo", "--against", "openssl", "--loop", loop, "--tls", tls,
            env=environment(TMPDIR=str(temporary), COLUMNS="100"),
        )  # fmt: skip
        assert (done.status, done.err) == (0, "")
        acts = acts_of(done.out)
        for act, read in zip(acts, READS, strict=True):
            facts = facts_of(act)
            words = facts["s_server"]
            assert [word for word in words if word in SHUT] == SHUT
            assert facts.get("read") == ([read] if read else None)
            assert facts["then"][0].startswith(f"it takes its next connection: TLSv{tls}, ")
            if act is acts[3]:
                assert words[0] == "ERROR"
                assert facts["client"] == [CLIENT[3]]
            else:
                assert words[0] == "SSL3 alert read:warning:close notify"
                assert not any("ERROR" in word or "fatal" in word for word in words)
                assert facts["client"][0].startswith(("clean: ", "unanswered: "))
        expect_nothing_left(temporary)


class TestItsLooks:
    @pytest.mark.parametrize("columns", [60, 80, 120])
    @pytest.mark.parametrize("against", [(), ("--against", "openssl")], ids=["own", "openssl"])
    def test_no_line_is_too_long_and_nothing_is_coloured_in_a_pipe(
        self, columns: int, against: tuple[str, ...]
    ) -> None:
        if against:
            require_program("openssl")
        done = bowout("demo", *against, env=environment(COLUMNS=str(columns)))
        lines = done.out.decode().splitlines()
        assert max(map(len, lines)) == min(columns, 100)
        assert not any(char < " " or "\x7f" <= char < "\xa0" for line in lines for char in line)

    def test_without_a_width_a_pipe_gets_80_columns(self) -> None:
        lines = bowout("demo", "--only", "2").out.decode().splitlines()
        assert max(map(len, lines)) == 80

    def test_an_ascii_terminal_gets_ascii(self) -> None:
        done = bowout("demo", env=environment(PYTHONIOENCODING="ascii", PYTHONUTF8="0"))
        assert (done.status, done.err) == (0, "")
        assert "-- 1 - From inside a read ---" in done.out.decode("ascii")
        assert "\\u" not in done.out.decode("ascii")

    @pytest.mark.parametrize(("more", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)], ids=["plain", "NO_COLOR"])
    def test_a_terminal_gets_its_width_and_colours(self, more: dict[str, str], coloured: bool) -> None:
        command, *arguments = COMMAND
        with pexpect.spawn(
            command, [*arguments, "demo", "--only", "4"],
            dimensions=(24, 60), env=environment(**more), encoding="utf-8", timeout=PATIENCE,
        ) as terminal:  # fmt: skip
            terminal.expect(pexpect.EOF)
            out = terminal.before or ""
            terminal.wait()
            assert terminal.exitstatus == 0
        assert ("\x1b[" in out) is coloured
        plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
        assert max(map(len, plain.splitlines())) == 60


class TestItsOptions:
    def test_only_some(self) -> None:
        done = bowout("demo", "--only", "4", "--only", "2")
        assert done.status == 0
        assert [act[0] for act in acts_of(done.out)] == ["2", "4"]
        assert done.out.decode().endswith("\nAll two ended as promised.\n")

    @pytest.mark.parametrize(
        "wrong",
        [
            ("--only", "5"),
            ("--only", "0"),
            ("--only", "two"),
            ("--tls", "1.1"),
            ("--loop", "twisted"),
            ("--against", "gnutls"),
            ("--svg",),
            ("--svg", __file__),
            ("--svg", f"{__file__}/pictures"),
            ("localhost",),
            ("--nonsense",),
        ],
        ids=" ".join,
    )
    def test_wrong_ones(self, wrong: tuple[str, ...]) -> None:
        done = bowout("demo", *wrong)
        assert (done.status, done.out) == (2, b"")
        assert done.err.startswith("error: ")

    def test_svg(self, tmp_path: Path) -> None:
        pictures = tmp_path / "deep" / "pictures"
        done = bowout("demo", "--svg", str(pictures), env=environment(COLUMNS="100"))
        assert done.status == 0
        assert {path.name for path in pictures.iterdir()} == SVGS
        for path in pictures.iterdir():
            assert ET.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        assert b"written  " in done.out

    def test_one_way_only_is_told_so(self) -> None:
        out = bowout("demo", "--only", "1").out.decode()
        assert out.startswith("One way for a TLS client to leave.")
        assert out.endswith("\nIt ended as promised.\n")

    def test_help_fits_and_names_the_statuses(self) -> None:
        done = bowout("demo", "--help")
        assert done.status == 0
        for text in ("--against", "--tls", "--loop", "--svg", "--only", "130"):
            assert text in done.out.decode()


def fake_openssl(directory: Path, script: str) -> dict[str, str]:
    """An environment in which ``openssl`` is this shell script."""
    program = directory / "openssl"
    program.write_text(f"#!/bin/sh\n[ $1 = version ] && {{ echo OpenSSL 0.0.0 fake; exit; }}\n{script}\n")
    program.chmod(0o755)
    return environment(PATH=f"{directory}{os.pathsep}{os.environ['PATH']}")


class TestWhatMayBeMissing:
    def test_openssl(self, tmp_path: Path) -> None:
        done = bowout("demo", "--against", "openssl", env=environment(PATH=str(tmp_path)))
        assert (done.status, done.out) == (2, b"")
        error, hint = done.err.splitlines()
        assert error == "error: openssl is not installed"
        assert hint.startswith("hint: ")

    @pytest.mark.parametrize(
        ("module", "options", "extra"),
        [
            ("uvloop", ("--loop", "uvloop"), "uvloop"),
            ("trio", ("--loop", "trio"), "trio"),
            ("trustme", (), "cli"),
        ],
    )
    def test_a_module(self, module: str, options: tuple[str, ...], extra: str) -> None:
        without = f"import sys; sys.modules[{module!r}] = None; from bowout.cli import main; sys.exit(main())"
        done = bowout("demo", *options, command=(sys.executable, "-c", without))
        assert (done.status, done.out) == (2, b"")
        error, hint = done.err.splitlines()
        assert error.startswith(f"error: {module} is not installed")
        assert hint == f"hint: pip install 'bowout[{extra}]'"


class TestAServerThatDoesNotPlayAlong:
    @pytest.mark.parametrize(
        ("script", "error"),
        [
            ("echo no such option; exit 1", "error: openssl s_server does not listen: no such option"),
            ("exit 1", "error: openssl s_server does not listen: it printed nothing"),
        ],
    )
    def test_it_does_not_listen(self, tmp_path: Path, script: str, error: str) -> None:
        done = bowout("demo", "--against", "openssl", env=fake_openssl(tmp_path, script))
        assert (done.status, done.out) == (2, b"")
        assert done.err.splitlines()[0] == error

    def test_it_does_not_run(self, tmp_path: Path) -> None:
        program = tmp_path / "openssl"
        program.write_text("#!/no/such/interpreter\n")
        program.chmod(0o755)
        done = bowout("demo", "--against", "openssl", env=environment(PATH=str(tmp_path)))
        assert done.status == 2
        assert done.err.startswith("error: ")

    def test_it_is_gone_before_the_first_connection(self, tmp_path: Path) -> None:
        done = bowout("demo", "--against", "openssl", env=fake_openssl(tmp_path, "echo ACCEPT 127.0.0.1:1"))
        assert done.status == 1
        (act,) = acts_of(done.out)
        assert "✗ ConnectRefused: " in act
        assert done.err.splitlines() == ["error: not as promised: 1", "hint: see it alone: bowout demo --only 1"]

    def test_it_does_not_say_what_it_should(self, tmp_path: Path) -> None:
        without_state = 'for word; do shift; [ "$word" = -state ] || set -- "$@" "$word"; done'
        script = f'{without_state}\nexec {require_program("openssl")} "$@"'
        done = bowout("demo", "--against", "openssl", env=fake_openssl(tmp_path, script))
        assert done.status == 1
        assert done.err.splitlines()[0] == "error: not as promised: 1, 2, 3, 4"
        assert done.out.decode().count("✗ This did not end as promised.") == 4

    def test_it_takes_no_next_connection(self, tmp_path: Path) -> None:
        script = f'exec {require_program("openssl")} "$@" -naccept 1'
        done = bowout("demo", "--against", "openssl", env=fake_openssl(tmp_path, script))
        assert done.status == 1
        # It may close its listener before our connection comes, or with it in the backlog: the reset then meets our
        # connect() or our handshake.
        assert re.search("✗ (ConnectRefused|ConnectError|HandshakeReset): ", acts_of(done.out)[0])
        assert len(acts_of(done.out)) == 1


class TestLeavingEarly:
    @pytest.mark.parametrize(
        ("number", "loop"),
        [
            *((signal.SIGINT, loop) for loop in BACKENDS),
            (signal.SIGTERM, "asyncio"),
            (signal.SIGHUP, "asyncio"),
            (signal.SIGTERM, "trio"),
        ],
    )
    @pytest.mark.parametrize("against", [(), ("--against", "openssl")], ids=["own", "openssl"])
    def test_a_signal_leaves_nothing_behind(
        self, loop: str, against: tuple[str, ...], number: signal.Signals, temporary: Path
    ) -> None:
        require_module(loop)
        if against:
            require_program("openssl")
        with started("demo", "--loop", loop, *against, env=environment(TMPDIR=str(temporary))) as demo:
            demo.read(200)  # the preface, and some of the first act
            demo.interrupt(number)
            done = demo.finish()
        assert done.status == 128 + number
        assert done.err == "error: interrupted\n"
        assert b"as promised" not in done.out
        expect_nothing_left(temporary)

    def test_a_signal_while_things_are_set_up(self, temporary: Path, tmp_path: Path) -> None:
        mark = tmp_path / "mark"
        os.mkfifo(mark)
        env = fake_openssl(tmp_path, f'echo > {mark}\nexec {require_program("openssl")} "$@"')
        with started("demo", "--against", "openssl", env={**env, "TMPDIR": str(temporary)}) as demo:
            mark.read_bytes()  # s_server is about to start
            demo.interrupt()
            done = demo.finish()
        assert (done.status, done.err) == (130, "error: interrupted\n")
        expect_nothing_left(temporary)

    def test_a_reader_who_has_seen_enough(self, temporary: Path) -> None:
        with started("demo", env=environment(TMPDIR=str(temporary))) as demo:
            demo.read(10)
            demo.stop_reading()
            demo.process.stdout = None
            done = demo.finish()
        assert (done.status, done.err) == (0, "")
        expect_nothing_left(temporary)

    def test_sigterm_ends_it_even_where_ctrl_c_is_ignored(self, temporary: Path) -> None:
        background = ("sh", "-c", 'trap "" INT; exec "$@"', "sh", *COMMAND)
        with started("demo", command=background, env=environment(TMPDIR=str(temporary))) as demo:
            demo.read(200)
            demo.interrupt(signal.SIGTERM)
            done = demo.finish()
        assert (done.status, done.err) == (143, "error: interrupted\n")
        expect_nothing_left(temporary)

    def test_nohup_is_heeded(self) -> None:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            with started("demo", "--only", "1") as demo:
                demo.read(200)
                demo.interrupt(signal.SIGHUP)
                done = demo.finish()
        finally:
            signal.signal(signal.SIGHUP, before)
        assert (done.status, done.err) == (0, "")


def test_its_private_key_is_private(tmp_path: Path, temporary: Path) -> None:
    modes = tmp_path / "modes"
    script = f'ls -l $TMPDIR/*/key.pem > {modes}\nexec {require_program("openssl")} "$@"'
    env = {**fake_openssl(tmp_path, script), "TMPDIR": str(temporary)}
    assert bowout("demo", "--against", "openssl", "--only", "2", env=env).status == 0
    assert modes.read_text().startswith("-rw------- ")
