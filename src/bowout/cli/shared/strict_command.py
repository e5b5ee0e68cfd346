"""A command that checks its values strictly: no value may be empty, or be an option of the command.

``--client-ca "$CA"`` with an unset variable must not switch client authentication off, nor may ``--alpn $NAMES
--client-ca=FILE``, where an unset variable makes the next option a value. The rule is here once, for all options
and arguments of every command, and is applied before any conversion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from bowout.cli.shared.optional_values import without_marks
from bowout.cli.shared.usage import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


class StrictCommand(TyperCommand):
    """A command whose values are checked as they were typed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, as any command does.

        Raises:
            UsageError: a value is empty, or an option.
        """
        if not ctx.resilient_parsing:  # as for the completion of a shell
            self._check(ctx, args)
        return super().parse_args(ctx, without_marks(args))

    def _check(self, ctx: Any, args: list[str]) -> None:
        typed, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        names = [*ctx.help_option_names, *(name for each in self.params for name in (*each.opts, *each.secondary_opts))]
        options = {name for name in names if name.startswith("-")}
        for parameter in self.params:
            option = next((name for name in parameter.opts if name in options), "")
            name = option or str(parameter.metavar or parameter.name)
            for value in _texts(typed.get(parameter.name or "")):
                if not value.strip():
                    raise UsageError(f"{name} is empty", "is a variable unset? Give a value, or leave it out")
                if value in args and value.partition("=")[0] in options:
                    hint = f"is a variable unset? If '{value}' is meant as its value: {option}={value}"
                    raise UsageError(f"{name} has no value: '{value}' is an option", hint if option else None)


def _texts(value: Any) -> Iterator[str]:
    """Yield the words of one parameter: none, one, or those of a repeated option; a flag has none."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        yield from (each for each in value if isinstance(each, str))
