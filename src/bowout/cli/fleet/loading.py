"""The targets of a run: from a file or stdin into the store, before anything is probed."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from bowout.cli.console import output
from bowout.cli.fleet.running import FleetSettings
from bowout.cli.shared.usage import UsageError
from bowout.fleet import BadLine, Endpoint, FleetStore, open_store, read_endpoints

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Malformed lines that are told one by one; the rest is counted.
_TOLD: Final = 20


def load(targets: str, path: str, settings: FleetSettings) -> None:
    """Make the store at `path`, and add the targets of the file `targets` to it.

    Raises:
        UsageError: the file cannot be read, has no target, or the store has a run already.
    """
    with _reading(targets) as file, open_store(path, write=True, create=True) as store:
        run = store.run()
        if run is not None and run["loaded"]:
            raise UsageError(
                f"'{path}' has a run already",
                f"go on with it: bowout fleet resume --store {path}; or give another file to --store",
            )
        store.begin(settings.to_dict())
        store.add(_told(read_endpoints(file)))
        if not store.counts()["targets"]:
            raise UsageError(f"'{targets}' has no target", "HOST[:PORT] [STARTTLS] [protocol=NAME] in each line")
        store.loaded()


def settings_of(store: FleetStore, path: str) -> FleetSettings:
    """Return the settings of the run in `store`.

    Raises:
        UsageError: not all of its targets were read.
    """
    run = store.run()
    if run is None or not run["loaded"]:
        raise UsageError(
            f"'{path}' does not have all of its targets: reading them was interrupted, and nothing was probed",
            f"give them again: bowout fleet run TARGETS --store {path}",
        )
    return FleetSettings.from_dict(run["options"])


@contextlib.contextmanager
def _reading(targets: str) -> Iterator[TextIO]:
    if targets == "-":
        # Bytes that are no UTF-8 make one bad line, whatever the locale says about stdin.
        buffer = getattr(sys.stdin, "buffer", None)
        yield sys.stdin if buffer is None else io.TextIOWrapper(buffer, encoding="utf-8", errors="replace")
        return
    try:
        with Path(targets).open(encoding="utf-8", errors="replace") as file:
            yield file
    except OSError as error:
        raise UsageError(f"cannot read '{targets}': {error.strerror}") from error


def _told(lines: Iterator[Endpoint | BadLine]) -> Iterator[Endpoint]:
    """Yield the endpoints of `lines`; tell which lines are none."""
    bad = 0
    for line in lines:
        if isinstance(line, Endpoint):
            yield line
            continue
        bad += 1
        if bad <= _TOLD:
            output.note(f"line {line.number}: {line.why}: left out")
    if bad > _TOLD:
        output.note(f"{bad - _TOLD:,} more lines were left out: {bad:,} in all")
