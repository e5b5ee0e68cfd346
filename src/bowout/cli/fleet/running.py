"""A run in the foreground: its settings, its progress on stderr, and its interruption."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import stat
import sys
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from bowout._text import clock
from bowout.cli.console import output
from bowout.cli.console.signals import LeaveSignals
from bowout.cli.fleet.checking import CheckFactory
from bowout.cli.shared.usage import UsageError
from bowout.fleet import (
    DaskRunner,
    Exclusions,
    FleetProgress,
    FleetRunner,
    HereRunner,
    Limits,
    WorkersRunner,
    open_store,
    read_lines,
    run,
)
from bowout.fleet._process import collecting_less

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

#: The number of targets above which ``--yes`` is needed.
_MANY: Final = 1000
#: Seconds between two lines of progress where stderr is not a terminal.
_QUIETLY: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """The options of a run, which its store keeps for ``resume``.

    Attributes:
        exclude: the absolute path of the file of ``--exclude``.
        yes: whether more than 1,000 targets are meant.
    """

    cafile: str | None = None
    insecure: bool = False
    cert: str | None = None
    key: str | None = None
    tls: str | None = None
    protocol: str | None = None
    rate: float = 100.0
    per_host: int = 2
    per_network: int = 2
    timeout: float = 60.0
    exclude: str | None = None
    yes: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Make the settings again from what `to_dict` returned; what is not known is left out."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def changed(self, *, yes: bool, exclude: str | None) -> Self:
        """Return the same settings, with what was given to ``resume``."""
        return replace(self, yes=self.yes or yes, exclude=exclude or self.exclude)

    def limits(self) -> Limits:
        """Return the limits for the fleet."""
        return Limits(rate=self.rate, per_host=self.per_host, per_network=self.per_network, patience=self.timeout)

    def factory(self) -> CheckFactory:
        """Return what makes the probe, here or in another process."""
        return CheckFactory(self.cafile, self.insecure, self.cert, self.key, self.tls, self.protocol)

    def exclusions(self) -> Exclusions:
        """Read the file of ``--exclude``.

        Raises:
            UsageError: it cannot be read or understood. Nothing may be probed then.
        """
        if self.exclude is None:
            return Exclusions()
        try:
            if stat.S_ISFIFO(Path(self.exclude).stat().st_mode):
                raise UsageError(
                    f"--exclude: '{self.exclude}' is a pipe, and is read more than once", "write it to a file first"
                )
            with Path(self.exclude).open(encoding="utf-8") as file:
                return Exclusions(read_lines(file))
        except OSError as error:
            raise UsageError(
                f"--exclude: cannot read '{self.exclude}': {error.strerror}", "nothing was probed; give --exclude FILE"
            ) from error
        except ValueError as error:
            raise UsageError(f"--exclude: '{self.exclude}', {error}", "nothing was probed") from error


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the probes run: here, in other processes, or on a cluster.

    Raises:
        UsageError: both are asked for.
    """

    workers: int = 0
    dask: str | None = None

    def __post_init__(self) -> None:
        if self.workers and self.dask:
            raise UsageError("--workers and --dask contradict each other", "leave one of them out")

    def runner(self, factory: CheckFactory, limits: Limits) -> FleetRunner:
        """Return what probes."""
        if self.workers:
            return WorkersRunner(factory, limits, self.workers)
        if self.dask:
            return DaskRunner(factory, limits, self.dask)
        return HereRunner(factory, limits)


def go_on(path: str, settings: FleetSettings, placement: Placement) -> int:
    """Probe what waits in the store at `path`; return the exit status.

    Raises:
        UsageError: there are too many targets without ``--yes``.
        StoreError: the store cannot be used.
    """
    exclusions = settings.exclusions()
    limits = settings.limits()
    with LeaveSignals() as signals, open_store(path, write=True) as store:
        counts = store.counts()
        if counts["targets"] > _MANY and not settings.yes:
            raise UsageError(
                f"{counts['targets']:,} targets: nothing was sent",
                f"if so many are meant: bowout fleet resume --store {path} --yes",
            )
        runner = placement.runner(settings.factory(), limits)
        progress = ProgressLine()
        work = run(store, runner, limits, exclusions=exclusions, on_progress=progress)
        try:
            with collecting_less():
                _loop(placement)(_until_signal(work, signals))
        finally:
            progress.end()
        counts = store.counts()
    if signals.status is not None and counts["waiting"]:
        output.interrupted(
            f"interrupted: {counts['finished']:,} of {counts['targets']:,} endpoints are finished and kept"
        )
        output.hint(f"bowout fleet resume --store {path}")
        return signals.status
    summary = ", ".join(f"{number:,} {verdict}" for verdict, number in sorted(counts["verdicts"].items()))
    output.line(f"{counts['finished']:,} endpoint{'' if counts['finished'] == 1 else 's'}: {summary}")
    return 0


def _loop(placement: Placement) -> Callable[[Coroutine[Any, Any, None]], None]:
    if placement.dask or importlib.util.find_spec("uvloop") is None:
        return asyncio.run
    import uvloop  # noqa: PLC0415  (an extra)

    return uvloop.run


async def _until_signal(work: Coroutine[Any, Any, None], signals: LeaveSignals) -> None:
    """Do `work`; at a signal, cancel it and write what is finished."""
    with signals.heard():
        task = asyncio.ensure_future(work)
        asked = asyncio.ensure_future(signals.first.wait())
        await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class ProgressLine:
    """Shows the progress on stderr: in one line of a terminal, elsewhere in a line now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._open = False
        self._at = time.monotonic()

    def __call__(self, progress: FleetProgress) -> None:
        """Show `progress`."""
        rest = f", {clock(progress.remaining)} left" if progress.remaining else ""
        text = f"{progress.finished:,} of {progress.targets:,} endpoints, {progress.rate:,.1f} a second{rest}"
        if self._terminal:
            sys.stderr.write(f"\r{text[: output.width(sys.stderr) - 1]}\x1b[K")
            sys.stderr.flush()
            self._open = True
        elif time.monotonic() - self._at >= _QUIETLY:
            self._at = time.monotonic()
            output.line(text)

    def end(self) -> None:
        """Remove the line from the terminal."""
        if self._open:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._open = False
