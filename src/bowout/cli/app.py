"""The commands, and how their usage errors are told."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

import bowout
from bowout.cli import _say
from bowout.cli._command import StrictCommand
from bowout.cli._optional import with_values
from bowout.cli._usage import UsageError
from bowout.cli.connect import connect
from bowout.cli.demo import demo
from bowout.cli.serve import SERVE_STATUSES, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_P = ParamSpec("_P")

_STATUSES = "\n".join(["Exit status:", *_say.EXIT_STATUSES])


def _paragraphs(command: Callable[..., Any]) -> str:
    """The help of `command`: its docstring, with each paragraph as one line for the terminal to break."""
    paragraphs = (command.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"bowout {bowout.__version__}\n")
        raise typer.Exit


@dataclass(frozen=True, slots=True)
class _Status:
    """What a command gave. A bare number is typer's: 130 where it heard Ctrl-C itself, which it tells nobody."""

    number: int


class _Interrupted(Exception):
    """A Ctrl-C in a command, on its way through typer."""


def _ending(command: Callable[_P, int]) -> Callable[_P, _Status]:
    """Let the status and a Ctrl-C of `command` pass through typer as they are."""

    @functools.wraps(command)
    def run_command(*args: _P.args, **kwargs: _P.kwargs) -> _Status:
        try:
            return _Status(command(*args, **kwargs))
        except KeyboardInterrupt:
            raise _Interrupted from None

    return run_command


app: typer.Typer = typer.Typer(
    name="bowout",
    help="TLS connections that end well, and that tell how they ended.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_STATUSES,
)
app.command(cls=StrictCommand, help=_paragraphs(connect), epilog=_STATUSES, no_args_is_help=True)(_ending(connect))
app.command(cls=StrictCommand, help=_paragraphs(demo))(_ending(demo))
app.command(cls=StrictCommand, help=_paragraphs(serve), epilog="\n".join(["Exit status:", *SERVE_STATUSES]))(
    _ending(serve)
)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run one command; give its exit status. What is wrong with the command itself is told on stderr."""
    try:
        result: Any = app(with_values(arguments), prog_name="bowout", standalone_mode=False)
    except UsageError as error:
        _say.error(str(error), error.hint)
        return _say.USAGE
    except (typer.Abort, _Interrupted):
        raise KeyboardInterrupt from None
    except Exception as error:
        # The base of typer's own usage errors has had several names and places.
        if not hasattr(error, "format_message"):
            raise
        if text := error.format_message():
            _say.error(text.replace("Value error, ", ""), _hint(text, arguments))
        return _say.USAGE
    if not isinstance(result, _Status) and result == _say.INTERRUPTED:
        raise KeyboardInterrupt
    sys.stdout.flush()  # What cannot be written is to be noticed here, and not by the interpreter that ends.
    return result.number if isinstance(result, _Status) else int(result or 0)


def _hint(text: str, arguments: Sequence[str]) -> str:
    if "extra argument" in text and "serve" not in arguments:
        return "HOST:PORT is one word, and a file joins its option by a =, unless it ends in .svg, .txt or .json"
    commands = [word for word in arguments if word in ("connect", "demo", "serve")]
    return " ".join(["bowout", *commands[:1], "--help"])
