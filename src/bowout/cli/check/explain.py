"""``bowout check --explain NAME``: what a probe or a verdict means, why it matters, and how to mend servers."""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING, Final

from bowout._text import escape, wrap
from bowout.cli.check.explanations import PROBE_TEXTS, VERDICT_TEXTS
from bowout.cli.console import output
from bowout.cli.shared.usage import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bowout.cli.check.explanations import Explanation

_TEXTS: Final[dict[str, Explanation]] = {**VERDICT_TEXTS, **PROBE_TEXTS}


def show(name: str, targets: Sequence[str]) -> int:
    """Print the explanation of `name`; return the exit status.

    Raises:
        UsageError: there is none, or there are endpoints, which are not probed then.
    """
    if targets:
        raise UsageError("--explain probes nothing: leave out the endpoints", f"bowout check --explain {name}")
    key = {each.lower().replace("_", "-"): each for each in _TEXTS}.get(name.lower().replace("_", "-"))
    if key is None:
        near = difflib.get_close_matches(name.lower(), [each.lower() for each in _TEXTS], n=1)
        meant = f"is {near[0]} meant? " if near else ""
        raise UsageError(
            f"--explain: '{escape(name[:40])}' is neither a probe nor a verdict",
            f"{meant}There are {', '.join(_TEXTS)}",
        )
    width = min(output.width(sys.stdout), 100)
    sys.stdout.write("\n".join(_lines(key, _TEXTS[key], width)) + "\n")
    return 0


def _lines(name: str, text: Explanation, width: int) -> Iterator[str]:
    yield name
    yield ""
    yield from wrap(text.what, width)
    if text.why:
        yield ""
        yield from wrap(f"Why it matters: {text.why}", width)
    if text.rule:
        yield ""
        yield from wrap(f"The rule: {text.rule}", width)
    if text.mend:
        yield ""
        yield "How to mend it:"
        for server, remedy in text.mend.items():
            first, *rest = wrap(remedy, max(width - 16, 20))
            yield f"  {server:<13} {first}"
            yield from (f"{'':16}{line}" for line in rest)
