"""Shell completion: bash completes commands, options and their values with what ``bowout`` tells it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.commands import environment

SCRIPTS = Path(sys.executable).parent


def in_bash(home: Path, script: str) -> str:
    """What a bash with that home, and with ``bowout`` on its PATH, says."""
    env = environment(HOME=str(home), PATH=f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run(
        ["/bin/bash", "--norc", "-c", f"{script}\n:"], env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def completed(home: Path, line: str, load: str = "source <(bowout --show-completion)") -> set[str]:
    """The words that a Tab at the end of the line offers."""
    *_, last = words = line.split(" ")
    script = f"""
        {load}
        COMP_WORDS=({" ".join(shlex.quote(word) for word in words)}) COMP_CWORD={len(words) - 1}
        function=$(complete -p bowout | sed 's/.* -F \\([^ ]*\\) .*/\\1/')
        $function bowout {shlex.quote(last)} {shlex.quote(words[-2])}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return set(in_bash(home, script).split())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("bowout ", {"check", "completion", "connect", "demo", "fleet", "serve"}),
        ("bowout conn", {"connect"}),
        ("bowout completion ", {"bash", "zsh", "fish"}),
        ("bowout fleet re", {"report", "resume"}),
        ("bowout connect --on-eof ", {"half-close", "wait", "close"}),
        ("bowout connect --on-eof w", {"wait"}),
        ("bowout connect example.org --starttls po", {"pop3", "postgres"}),
        ("bowout connect --eof", {"--eof-wait"}),
        ("bowout serve --tls ", {"1.2", "1.3"}),
        ("bowout demo --loop u", {"uvloop"}),
    ],
)
def test_a_tab(line: str, offered: set[str], tmp_path: Path) -> None:
    assert completed(tmp_path, line) == offered


def test_what_is_no_option_is_a_files_name(tmp_path: Path) -> None:
    assert "-o default" in in_bash(tmp_path, "source <(bowout --show-completion); complete -p bowout")


def test_it_installs_itself_for_the_shells_that_come(tmp_path: Path) -> None:
    told = in_bash(tmp_path, "bowout --install-completion")
    assert "bash completion installed" in told
    assert completed(tmp_path, "bowout dem", load='source "$HOME/.bashrc"') == {"demo"}
