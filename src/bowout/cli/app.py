"""The commands, and how their usage errors are reported."""

from __future__ import annotations

import functools
import itertools
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, ParamSpec

import typer

from bowout.cli import version as about
from bowout.cli.check.command import CHECK_STATUSES, check
from bowout.cli.check.formats import NAGIOS_UNKNOWN, nagios_error
from bowout.cli.completion import completion
from bowout.cli.connect.command import connect
from bowout.cli.console import output
from bowout.cli.demo.command import DEMO_STATUSES, demo
from bowout.cli.fleet import commands as fleet
from bowout.cli.serve.command import SERVE_STATUSES, serve
from bowout.cli.shared.optional_values import with_values
from bowout.cli.shared.strict_command import StrictCommand
from bowout.cli.shared.usage import UsageError
from bowout.fleet import FleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_P = ParamSpec("_P")

_STATUSES = "\n".join(["Exit status:", *output.EXIT_STATUSES])
_STATUSES_OF_ALL: Final = (
    "  0  done, and all went well",
    "  2  usage: a wrong option or argument",
    "130  interrupted by Ctrl-C before it was done",
    "others: bowout COMMAND --help",
)

#: Errors of the library under typer, and what to say instead. Each number that is not whole is one of seconds.
_IN_PLAIN_WORDS: Final = (
    ("Input should be a valid integer", "a whole number"),
    ("Input should be a valid number", "a number of seconds"),
    (r"Input should be greater than or equal to (\d+)", r"\2 or more"),
    (r"Input should be less than or equal to (\d+)", r"\2 or less"),
)


def _paragraphs(command: Callable[..., Any]) -> str:
    """Return the help of `command`: its docstring, with each paragraph as one line for the terminal to wrap."""
    paragraphs = (command.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


@dataclass(frozen=True, slots=True)
class _Status:
    """The status that a command returned. A bare number is typer's: 130, for a Ctrl-C that typer handled silently."""

    number: int


class _Interrupted(Exception):
    """A Ctrl-C in a command, passed through typer."""


def _ending(command: Callable[_P, int]) -> Callable[_P, _Status]:
    """Wrap `command` so that its status and a Ctrl-C pass through typer unchanged."""

    @functools.wraps(command)
    def run_command(*args: _P.args, **kwargs: _P.kwargs) -> _Status:
        try:
            return _Status(command(*args, **kwargs))
        except KeyboardInterrupt:
            raise _Interrupted from None

    return run_command


app: typer.Typer = typer.Typer(
    name="bowout",
    help="TLS connections that end well, and that report how they ended.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\n".join(["Exit status:", *_STATUSES_OF_ALL]),
)
app.command(cls=StrictCommand, help=_paragraphs(connect), epilog=_STATUSES)(_ending(connect))
app.command(cls=StrictCommand, help=_paragraphs(demo), epilog="\n".join(["Exit status:", *DEMO_STATUSES]))(
    _ending(demo)
)
app.command(cls=StrictCommand, help=_paragraphs(serve), epilog="\n".join(["Exit status:", *SERVE_STATUSES]))(
    _ending(serve)
)
app.command(
    cls=StrictCommand,
    help=_paragraphs(check),
    epilog="\n".join(["Exit status:", *CHECK_STATUSES]),
)(_ending(check))
_fleet = typer.Typer(
    help="Check many endpoints, politely; resumable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="\n".join(["Exit status:", *fleet.FLEET_STATUSES]),
)
for _command in fleet.COMMANDS:
    _fleet.command(cls=StrictCommand, help=_paragraphs(_command))(_ending(_command))
app.add_typer(_fleet, name="fleet")
app.command(cls=StrictCommand, help=_paragraphs(completion), no_args_is_help=True)(_ending(completion))


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="With --version: show Python, OpenSSL and the extras, too.")
    ] = False,
) -> None:
    if version:
        sys.stdout.write(f"{about.long() if verbose else about.short()}\n")
        raise typer.Exit
    if verbose:
        raise UsageError("--verbose belongs to --version", hint="bowout --version --verbose")
    if context.invoked_subcommand is None:
        raise UsageError("a command is missing", hint="bowout --help")


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit status. Report usage errors on stderr."""
    try:
        result: Any = app(with_values(arguments), prog_name="bowout", standalone_mode=False)
    except UsageError as error:
        return refuse(str(error), error.hint, arguments)
    except FleetError as error:
        output.error(str(error), error.hint)
        return output.HERE
    except (typer.Abort, _Interrupted):
        raise KeyboardInterrupt from None
    except Exception as error:
        # The base of typer's own usage errors has had several names and places.
        if not hasattr(error, "format_message"):
            raise
        text = error.format_message()
        return refuse(_plain(text), _hint(text, arguments), arguments) if text else output.USAGE
    if not isinstance(result, _Status) and result == output.INTERRUPTED:
        raise KeyboardInterrupt
    sys.stdout.flush()  # A write error must be found here, not at the interpreter's exit.
    return result.number if isinstance(result, _Status) else int(result or 0)


def refuse(message: str, hint: str | None, arguments: Sequence[str]) -> int:
    """Report a usage error; return the exit status. A plugin of Nagios reports on stdout, and has a status for it."""
    if not _is_plugin(arguments):
        output.error(message, hint)
        return output.USAGE
    sys.stdout.write(nagios_error(message, hint))
    sys.stdout.flush()
    return NAGIOS_UNKNOWN


def _is_plugin(arguments: Sequence[str]) -> bool:
    """Tell whether these arguments, which may be wrong, are those of ``bowout check --format nagios``."""
    if list(arguments[:1]) != ["check"]:
        return False
    forms = [
        following if word == "--format" else word.removeprefix("--format=")
        for word, following in itertools.pairwise([*arguments, ""])
        if word == "--format" or word.startswith("--format=")
    ]
    return forms[-1:] == ["nagios"]


def _plain(text: str) -> str:
    """Return an error of typer in the words of this command line, where it is one that they have."""
    for pattern, words in _IN_PLAIN_WORDS:
        if found := re.search(rf"^Invalid value for '(.*)': {pattern}", text):
            return f"{found[1]} needs {found.expand(words)}"
    return text.replace("Value error, ", "")


def _hint(text: str, arguments: Sequence[str]) -> str:
    if "extra argument" in text and "serve" not in arguments:
        return "HOST:PORT is one word, and a file is written as --option=FILE, unless it ends in .svg, .txt or .json"
    if text.startswith("Invalid value for '[PORT]'"):
        return "the address to listen on is --host HOST, and PORT stands alone"
    commands = [word for word in arguments if word in ("check", "completion", "connect", "demo", "fleet", "serve")]
    more = [word for word in arguments[1:2] if commands[:1] == ["fleet"] and not word.startswith("-")]
    return " ".join(["bowout", *commands[:1], *more, "--help"])
