"""The man pages and completion scripts of the wheel: they say what the program does, and work in real shells."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from helpers.commands import environment
from helpers.peers import ROOT, require_module, require_program
from helpers.scripts import load_script

SHARE: Final = ROOT / "packaging" / "share"
SCRIPTS: Final = Path(sys.executable).parent
PAGES: Final = sorted(path.name for path in (SHARE / "man" / "man1").iterdir())
BASH, ZSH, FISH = (
    SHARE / "bash-completion" / "completions" / "bowout",
    SHARE / "zsh" / "site-functions" / "_bowout",
    SHARE / "fish" / "vendor_completions.d" / "bowout.fish",
)
#: How to start a shell with the script, without anything of its user's.
SHELLS: Final = {
    "bash": ("bash", ["--norc", "--noprofile", "-i"], f"source '{BASH}'"),
    "zsh": ("zsh", ["-f", "-i"], f"fpath=('{ZSH.parent}' $fpath); autoload -U compinit; compinit -u -D"),
    "zsh, sourced": ("zsh", ["-f", "-i"], f"autoload -U compinit; compinit -u -D; source '{ZSH}'"),
}
LINES: Final = {
    "bowout conn": "bowout connect",
    "bowout fleet resu": "bowout fleet resume",
    "bowout connect --eof": "bowout connect --eof-wait",
    "bowout connect --on-eof w": "bowout connect --on-eof wait",
}
LIMIT: Final = 120


def shell_environment(home: Path) -> dict[str, str]:
    """The command on PATH, and a home without settings."""
    path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
    return environment(HOME=str(home), PATH=path, XDG_CONFIG_HOME=str(home), XDG_DATA_HOME=str(home), TERM="dumb")


def test_the_files_are_up_to_date() -> None:
    script = load_script(ROOT / "scripts" / "generate_share.py")
    there = {str(path.relative_to(SHARE)): path.read_text() for path in SHARE.rglob("*") if path.is_file()}
    assert there == script.files(), "scripts/generate_share.py makes them"


def test_a_stale_file_is_told_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = load_script(ROOT / "scripts" / "generate_share.py")
    monkeypatch.setattr(script, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["generate_share.py", "--check"])
    assert script.main() == 1
    assert "man/man1/bowout.1 is out of date" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["generate_share.py"])
    (tmp_path / "stale").write_text("")
    assert script.main() == 0
    assert script.stray() == set()
    assert (tmp_path / "man" / "man1" / "bowout.1").exists()


@pytest.mark.parametrize("name", PAGES)
def test_a_man_page_has_no_warning(name: str) -> None:
    groff = require_program("groff")
    page = SHARE / "man" / "man1" / name
    done = subprocess.run(
        [groff, "-man", "-ww", "-Tutf8", "-P-cbou", str(page)],
        capture_output=True,
        text=True,
        check=True,
        timeout=LIMIT,
    )
    assert done.stderr == ""
    assert all(title in done.stdout for title in ("NAME", "SYNOPSIS", "OPTIONS"))


def test_roff_shows_what_was_written() -> None:
    """Backslashes, hyphens and dots at the start of a line are text, and no requests."""
    script = load_script(ROOT / "scripts" / "generate_share.py")
    text = r".so 'it' \n --tls ~. ^ C:\new"
    done = subprocess.run(
        [require_program("groff"), "-man", "-ww", "-Tascii", "-P-cbou"],
        input=f".TH X 1\n{script._roff(text)}\n", capture_output=True, text=True, check=True, timeout=LIMIT,
    )  # fmt: skip
    assert text in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_a_typed_line(shell: str, line: str, tmp_path: Path) -> None:
    """The line is typed, then a Tab; then `echo` is put before it, so that the shell prints what the line is now."""
    require_module("pexpect")
    pexpect = __import__("pexpect")
    program, arguments, load = SHELLS[shell]
    (tmp_path / "wait").write_text("")  # a file's name must not win
    child = pexpect.spawn(
        require_program(program), arguments, env=shell_environment(tmp_path), cwd=str(tmp_path), encoding="utf-8",
        timeout=LIMIT, dimensions=(24, 300),
    )  # fmt: skip
    try:
        child.sendline(f"PS1='ready> '; {load}; echo lo''aded")
        child.expect("loaded\r\n")
        child.expect("ready> ")
        child.send(f'{line}\t\x01echo "[\x05]"\r')
        child.expect(r"\r\n\[(bowout[^\]]*?) *\]\r\n")
        assert child.match[1] == LINES[line]
    finally:
        child.close(force=True)


@pytest.mark.parametrize("line", LINES)
def test_fish_completes(line: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [require_program("fish"), "--no-config", "-c", f"source '{FISH}'; complete --do-complete '{line}'"],
        env=shell_environment(tmp_path), capture_output=True, text=True, check=True, timeout=LIMIT,
    )  # fmt: skip
    offered = {row.partition("\t")[0] for row in done.stdout.splitlines()}
    assert offered == {LINES[line].rpartition(" ")[2]}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_script_is_what_the_command_prints(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "bowout", "completion", shell],
        env=environment(), capture_output=True, text=True, check=True, timeout=LIMIT,
    )  # fmt: skip
    assert done.stdout == {"bash": BASH, "zsh": ZSH, "fish": FISH}[shell].read_text()


def test_another_shell_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bowout", "completion", "tcsh"],
        env=environment(), capture_output=True, text=True, check=False, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 2
    assert "hint: bowout completion --help" in done.stderr
