"""Results from the samples of `compare.py`: medians with their spread, and the aims."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Document = dict[str, Any]
Sample = dict[str, Any]

C: Final = "C on libssl"
FLOOR: Final = "bare SSLObject"
#: What an aim calls the peers.
STREAMS: Final = (
    "asyncio streams",
    "uvloop streams",
    "trio SSLStream",
    "anyio TLSStream on asyncio",
    "anyio TLSStream on trio",
)
PYTHON_PEERS: Final = (*STREAMS, "asyncio Protocol", "uvloop Protocol", "Twisted", "blocking SSLSocket")
OURS: Final = ("bowout on asyncio", "bowout on uvloop", "bowout on trio")


@dataclass(frozen=True, slots=True)
class Figure:
    """A quantity that a job measures for each contender.

    Attributes:
        of: the function from a sample, and the job with its amounts, to the figure.
    """

    key: str
    job: str
    title: str
    unit: str
    of: Callable[[Sample, dict[str, Any]], float]


def _per_gb(sample: Sample, job: dict[str, Any]) -> float:
    return float(sample["cpu"] / job["a"] * 1e9)


def _of_both_per_gb(sample: Sample, job: dict[str, Any]) -> float:
    """Add the CPU of the peer: the kernel charges the work of loopback to the one of the two that happens to run."""
    return float((sample["cpu"] + sample["peer_cpu"]) / job["a"] * 1e9)


def _gb_per_second(sample: Sample, job: dict[str, Any]) -> float:
    return float(job["a"] / sample["wall"] / 1e9)


def _trips(job: dict[str, Any]) -> int:
    return int(job["a"] * job["b"] if job["work"] == "many" else job["b"])


def _cpu_per_trip(sample: Sample, job: dict[str, Any]) -> float:
    return float(sample["cpu"] / _trips(job) * 1e6)


def _wall_per_trip(sample: Sample, job: dict[str, Any]) -> float:
    return float(sample["wall"] / _trips(job) * 1e6)


FIGURES: Final = {
    figure.key: figure
    for figure in (
        Figure("receive", "receive", "Receive", "CPU s/GB", _per_gb),
        Figure("receive_rate", "receive", "Receive", "GB/s", _gb_per_second),
        Figure("receive_into", "receive_into", "Receive into a buffer", "CPU s/GB", _per_gb),
        Figure("send", "send", "Send", "CPU s/GB", _per_gb),
        Figure("receive_both", "receive", "Receive, and the peer's sending", "CPU s/GB", _of_both_per_gb),
        Figure("send_both", "send", "Send, and the peer's receiving", "CPU s/GB", _of_both_per_gb),
        Figure("send_rate", "send", "Send", "GB/s", _gb_per_second),
        Figure("echo64", "echo64", "Round trip of 64 bytes", "CPU µs", _cpu_per_trip),
        Figure("echo64_wall", "echo64", "Round trip of 64 bytes", "µs", _wall_per_trip),
        Figure("echo4k", "echo4k", "Round trip of 4 KiB", "CPU µs", _cpu_per_trip),
        Figure("many100", "many100", "Echo among 100 connections", "CPU µs", _cpu_per_trip),
        Figure("many1000", "many1000", "Echo among 1,000 connections", "CPU µs", _cpu_per_trip),
        Figure("many10000", "many10000", "Echo among 10,000 connections", "CPU µs", _cpu_per_trip),
        Figure("handshake", "handshake", "Connect and close", "CPU ms", lambda s, job: s["cpu"] / job["a"] * 1e3),
        Figure("rate", "handshake", "Connect and close", "a second", lambda s, job: job["a"] / s["wall"]),
        Figure("p50", "handshake", "Connect and close, median", "ms", lambda s, _: s["p50"] * 1e3),
        Figure("p95", "handshake", "Connect and close, 95th percentile", "ms", lambda s, _: s["p95"] * 1e3),
        Figure("idle", "memory", "Idle connection", "KiB", lambda s, _: s["idle_kib"]),
        Figure("burst", "memory", "Kept after a burst of 10 MB each way", "KiB more", lambda s, _: s["burst_kib"]),
        Figure("receive12", "receive12", "Receive, TLS 1.2", "CPU s/GB", _per_gb),
        Figure("send12", "send12", "Send, TLS 1.2", "CPU s/GB", _per_gb),
    )
}


@dataclass(frozen=True, slots=True)
class Value:
    """A median, and the spread of its samples."""

    median: float
    low: float
    high: float


class Figures:
    """All figures of the contenders that have samples for them."""

    def __init__(self, document: Document) -> None:
        self._jobs: dict[str, dict[str, Any]] = document["jobs"]
        self._samples: dict[tuple[str, str], list[Sample]] = {}
        for sample in document["samples"]:
            self._samples.setdefault((sample["job"], sample["contender"]), []).append(sample)
        self.contenders: tuple[str, ...] = tuple(dict.fromkeys(name for _, name in self._samples))

    def get(self, key: str, contender: str) -> Value | None:
        """Return the figure, or None if it was not measured."""
        figure = FIGURES[key]
        samples = self._samples.get((figure.job, contender))
        if not samples:
            return None
        values = [figure.of(sample, self._jobs[figure.job]) for sample in samples]
        return Value(statistics.median(values), min(values), max(values))

    def lowest(self, key: str, contenders: Iterable[str]) -> tuple[str, float] | None:
        """Return the contender with the lowest median of these, and the median."""
        values = [(value.median, name) for name in contenders if (value := self.get(key, name)) is not None]
        return min(values)[::-1] if values else None


def number(value: float) -> str:
    """Format a number with three significant digits, without an exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


@dataclass(frozen=True, slots=True)
class AimVerdict:
    """An aim, and the result."""

    aim: str
    contender: str
    measured: str
    met: bool


def verdicts(figures: Figures) -> list[AimVerdict]:
    """Return the verdict on every aim, for each of our contenders with the needed figures."""
    found: list[AimVerdict] = []
    for name in OURS:
        for key in ("receive", "receive_into"):
            what = "receive" if key == "receive" else "receive into a buffer"
            found += _ratio(figures, f"{what}: at most 1.3 × C", name, key, _cpu(figures, key, C), 1.3)
            best = figures.lowest("receive", STREAMS)
            found += _ratio(figures, f"{what}: at most 0.5 × the best stream", name, key, best, 0.5)
        best = figures.lowest("send", PYTHON_PEERS)
        found += _ratio(figures, "send: below every Python peer", name, "send", best, 1.0)
        found += _ratio(figures, "send: at most 1.5 × C", name, "send", _cpu(figures, "send", C), 1.5)
    for name, peer, limit in (
        ("bowout on asyncio", "asyncio streams", 0.5),
        ("bowout on uvloop", "uvloop streams", 0.85),
        ("bowout on trio", "trio SSLStream", 0.35),
    ):
        aim = f"64-byte round trip: at most {limit:g} × {peer}"
        found += _ratio(figures, aim, name, "echo64", _cpu(figures, "echo64", peer), limit)
    for name in OURS:
        aim = "idle memory: at most 1.15 × the bare SSLObject"
        found += _ratio(figures, aim, name, "idle", _cpu(figures, "idle", FLOOR), 1.15)
        if (burst := figures.get("burst", name)) is not None:
            aim = "memory after a burst: at most 64 KiB more"
            found.append(AimVerdict(aim, name, f"{burst.median:.0f} KiB", burst.median <= 64))
    for name, peer in (("bowout on asyncio", "asyncio streams"), ("bowout on uvloop", "uvloop streams")):
        ours, theirs = figures.get("rate", name), figures.get("rate", peer)
        if ours and theirs:
            ratio = ours.median / theirs.median
            found.append(
                AimVerdict(f"connect and close: at least the rate of {peer}", name, f"{ratio:.2f} ×", ratio >= 1)
            )
    for name in OURS:
        few = _cpu(figures, "many100", name)
        for key, count in (("many1000", "1,000"), ("many10000", "10,000")):
            aim = f"echo among {count} connections: flat, at most 1.25 × among 100"
            found += _ratio(figures, aim, name, key, few, 1.25)
    return found


def _cpu(figures: Figures, key: str, name: str) -> tuple[str, float] | None:
    return figures.lowest(key, (name,))


def _ratio(  # noqa: PLR0917  (called with all of them, side by side)
    figures: Figures, aim: str, name: str, key: str, other: tuple[str, float] | None, limit: float
) -> list[AimVerdict]:
    ours = figures.get(key, name)
    if ours is None or other is None:
        return []
    peer, value = other
    ratio = ours.median / value
    against = "" if peer in aim or peer in {C, FLOOR, name} else f" ({peer})"
    return [AimVerdict(aim, name, f"{ratio:.2f} ×{against}", ratio < limit if limit == 1 else ratio <= limit)]
