"""``bowout completion``: the script by which a shell completes the command."""

from __future__ import annotations

import enum
import sys
from typing import Annotated, Final

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]  # it is not marked as exported


class ShellName(enum.StrEnum):
    """The shells that can complete the command."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


#: zsh runs the file of a completion at the first Tab, which typer's script would only load.
_AT_ONCE: Final = 'if [ "$funcstack[1]" = _bowout ]; then _bowout_completion "$@"; fi'


def script(shell: ShellName) -> str:
    """Return the script for `shell`, which asks ``bowout`` at each Tab."""
    made = get_completion_script(prog_name="bowout", complete_var="_BOWOUT_COMPLETE", shell=shell.value)
    return "\n".join([made.strip(), *(["", _AT_ONCE] if shell is ShellName.ZSH else []), ""])


def completion(
    shell: Annotated[ShellName, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> int:
    """Print the script by which a shell completes this command.

    Where bowout is installed for the whole system, the shells find it by themselves. In a virtual environment, or with
    pipx, tell yours:

    For bash, write into ~/.bashrc: source <(bowout completion bash)

    For zsh, write into ~/.zshrc, after compinit: source <(bowout completion zsh)

    For fish: bowout completion fish > ~/.config/fish/completions/bowout.fish
    """
    sys.stdout.write(script(shell))
    return 0
