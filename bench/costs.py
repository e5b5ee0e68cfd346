"""The cost of bowout's operations, in counts that no other work on the machine can change: a guard against regressions.

    python bench/costs.py            the counts, beside those of costs.json
    python bench/costs.py --update   make them the baseline

The peer is in this process and does all it can do whenever the loop is about to wait, so every run goes the same way.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tracemalloc
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from costs_peer import CountedPeer, connected, run_on

import bowout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import FrameType

    from bowout import Stream

BASELINE: Final = Path(__file__).with_name("costs.json")
BACKENDS: Final = ("asyncio", "trio")
VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
#: The command that makes what is measured the baseline.
UPDATE: Final = "make costs"
#: Counts of the first kind are the same on every CPython; those of the second are compared on the baseline's only.
EVERYWHERE: Final = "everywhere"

#: By which share memory may exceed its baseline, by the first word: releases of other packages change it, too.
_TOLERANCE: Final = {"peak": 0.15, "blocks": 0.10}
#: By which share system calls and calls of OpenSSL may: a loop wakes once more or once less.
_TOLERANCE_OF_CALLS: Final = 0.02
#: Much cheaper is a failure, too: a baseline that is far above guards nothing.
_SLACK: Final = 0.20

#: Calls of bowout's functions, at most, for the handshake and the close of a connection that passes no data, by the
#: lane and our role. Each takes a thousand instructions or two; beside them there is little but OpenSSL and the kernel.
LIMITS: Final = {"c": {"client": 340, "server": 375}, "python": {"client": 375, "server": 410}}

_ROUNDS: Final = 100
_HANDSHAKES: Final = 10
_BULK: Final = 16 << 20
_CHUNK: Final = bytes(1 << 16)
_PING: Final = bytes(64)

#: Methods of sockets and epoll that ask the kernel nothing.
_NO_SYSTEM_CALL: Final = frozenset({"socket.fileno", "socket.gettimeout", "socket.detach", "epoll.fileno"})
_OPENSSL: Final = frozenset({"read", "write", "shutdown", "do_handshake"})
_SENDS: Final = frozenset({"socket.send", "socket.sendmsg"})
_OURS: Final = str(Path(bowout.__file__).parent)

Counts = dict[str, float]


class CountingProfiler:
    """A profiler that counts calls, and drives the peer."""

    def __init__(self, peer: CountedPeer) -> None:
        self._peer = peer
        self.calls: Counter[str] = Counter()

    def __enter__(self) -> Counter[str]:
        sys.setprofile(self._see)
        return self.calls

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            self.calls["all functions"] += 1
            if frame.f_code.co_filename.startswith(_OURS):
                self.calls["bowout's functions"] += 1
        elif event == "c_call":
            self._see_c(frame, argument)
        elif event == "c_return" and self._peer.keeps_up and argument.__qualname__ in _SENDS:
            self._peer.pump()

    def _see_c(self, frame: FrameType, function: Any) -> None:
        name = function.__qualname__
        owner = name.partition(".")[0]
        if owner in {"socket", "epoll"} or name == "ioctl":
            if name not in _NO_SYSTEM_CALL:
                self.calls[f"system call: {name}"] += 1
        elif owner in {"_SSLSocket", "MemoryBIO"} and function.__name__ in _OPENSSL:
            self.calls[f"OpenSSL: {name}"] += 1
        if frame.f_code.co_filename.startswith(_OURS):
            self.calls["bowout's calls of C functions"] += 1
        if name == "epoll.poll":
            self._peer.pump()


async def _round_trips(stream: Stream, peer: CountedPeer) -> None:
    peer.echoes = True
    for _ in range(_ROUNDS):
        await stream.send(_PING)
        await stream.receive_exactly(len(_PING))


async def _receive(stream: Stream, peer: CountedPeer) -> None:
    peer.to_send = left = _BULK
    while left:
        left -= len(await stream.receive())


async def _receive_into(stream: Stream, peer: CountedPeer) -> None:
    peer.to_send = left = _BULK
    buffer = bytearray(1 << 18)
    while left:
        left -= await stream.receive_into(buffer)


async def _send(stream: Stream, peer: CountedPeer) -> None:
    peer.keeps_up = True
    for _ in range(_BULK // len(_CHUNK)):
        await stream.send(_CHUNK)
    assert peer.received >= _BULK, "the peer has it all"


_WORKS: Final = {
    "64-byte round trip": (_round_trips, _ROUNDS),
    "receive of 16 MiB": (_receive, 1),
    "receive of 16 MiB into a buffer": (_receive_into, 1),
    "send of 16 MiB": (_send, 1),
}
_PEAKS: Final = ("receive of 16 MiB", "receive of 16 MiB into a buffer", "send of 16 MiB")


@asynccontextmanager
async def _talking() -> AsyncIterator[tuple[Stream, CountedPeer]]:
    """Provide a connection after its handshake; close it at the end."""
    async with connected() as (stream, peer):
        with CountingProfiler(peer):
            await stream.handshake()
        yield stream, peer
        with CountingProfiler(peer):
            await stream.close()


async def _counted(work: Callable[[Stream, CountedPeer], Awaitable[None]], times: int) -> Counts:
    """Run the operation twice, and count the second run."""
    async with _talking() as (stream, peer):
        with CountingProfiler(peer):
            await work(stream, peer)
        with CountingProfiler(peer) as calls:
            await work(stream, peer)
    return {name: count / times for name, count in sorted(calls.items())}


async def _peak_kib(work: Callable[[Stream, CountedPeer], Awaitable[None]]) -> float:
    """Return the peak of Python's allocator above its level before, including the peer's share."""
    async with _talking() as (stream, peer):
        with CountingProfiler(peer):
            await work(stream, peer)
            gc.collect()
            tracemalloc.start()
            try:
                await work(stream, peer)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    return peak / 1024


async def _handshakes(*, server_side: bool = False) -> Counts:
    """Perform a handshake and a close, several times; the first does not count."""
    calls: Counter[str] = Counter()
    for number in range(_HANDSHAKES + 1):
        async with connected(server_side=server_side) as (stream, peer):
            counting = CountingProfiler(peer)
            with counting:
                await stream.handshake()
                await stream.close()
            if number:
                calls.update(counting.calls)
    return {name: count / _HANDSHAKES for name, count in sorted(calls.items())}


async def _kept_blocks() -> float:
    """Return the number of blocks of Python's allocator that an idle connection keeps, including its peer's."""
    gc.collect()
    before = sys.getallocatedblocks()
    async with _talking():
        gc.collect()
        return sys.getallocatedblocks() - before


async def _measure() -> dict[str, Counts]:
    gc.disable()
    costs = {name: await _counted(work, times) for name, (work, times) in _WORKS.items()}
    costs["handshake and close"] = await _handshakes()
    for name in _PEAKS:
        costs[name]["peak of memory, KiB"] = round(await _peak_kib(_WORKS[name][0]), 1)
    await _kept_blocks()
    costs["idle connection"] = {"blocks kept": await _kept_blocks()}
    return costs


def connections() -> dict[str, float]:
    """Return the calls of bowout's functions for a handshake and a close, by our role; on asyncio, and either lane."""

    async def counted() -> dict[str, float]:
        roles = {"client": False, "server": True}
        return {role: (await _handshakes(server_side=side))["bowout's functions"] for role, side in roles.items()}

    return run_on("asyncio", counted)


def measure() -> dict[str, dict[str, Counts]]:
    """Return the counts: by backend, operation and kind, per operation."""
    return {backend: run_on(backend, _measure) for backend in BACKENDS}


# -- the baseline ------------------------------------------------------------------------------------------------------


def is_everywhere(what: str) -> bool:
    """Return whether this count is the same on every version of CPython."""
    return what.startswith(("system call", "OpenSSL"))


def is_guarded(what: str) -> bool:
    """Return whether a change of this count is a failure, not only information."""
    return "functions" not in what


def tolerance(what: str) -> float:
    """Return the share by which a count may exceed its baseline."""
    return _TOLERANCE.get(what.split(maxsplit=1)[0], _TOLERANCE_OF_CALLS)


def complaints(measured: dict[str, dict[str, Counts]], baseline: dict[str, Any], version: str = VERSION) -> list[str]:
    """Return a message for every count that differs too much; an empty list without any."""
    found = []
    for backend, operations in measured.items():
        for operation, counts in operations.items():
            known: Counts = dict(baseline[EVERYWHERE][backend].get(operation, {}))
            own: Counts = baseline.get(version, {}).get(backend, {}).get(operation, {})
            known |= own
            for what in sorted(filter(is_guarded, known.keys() | counts.keys())):
                if what in known or (is_everywhere(what) or own):
                    complaint = _compare(what, known.get(what, 0), counts.get(what, 0))
                    found += [f"{operation} on {backend}: {complaint}"] if complaint else []
    return found


def _compare(what: str, was: float, now: float) -> str:
    if now > was * (1 + tolerance(what)):
        return f"dearer: {what}: {now:g}, was {was:g}"
    if now < was * (1 - max(_SLACK, tolerance(what))):
        return f"cheaper: {what}: {now:g}, was {was:g}; make that the baseline, or it guards nothing"
    return ""


def updated(measured: dict[str, dict[str, Counts]], baseline: dict[str, Any]) -> dict[str, Any]:
    """Return the baseline, updated with the measured counts, for all versions and for this one."""

    def chosen(*, everywhere: bool) -> dict[str, dict[str, Counts]]:
        return {
            backend: {
                operation: {what: count for what, count in counts.items() if is_everywhere(what) is everywhere}
                for operation, counts in operations.items()
            }
            for backend, operations in measured.items()
        }

    return {**baseline, EVERYWHERE: chosen(everywhere=True), VERSION: chosen(everywhere=False)}


def _table(measured: dict[str, dict[str, Counts]], baseline: dict[str, Any]) -> str:
    lines = []
    for backend, operations in measured.items():
        for operation, counts in operations.items():
            lines.append(f"\n{operation} on {backend}")
            for what, count in counts.items():
                section = EVERYWHERE if is_everywhere(what) else VERSION
                was = baseline.get(section, {}).get(backend, {}).get(operation, {}).get(what)
                lines.append(f"  {what:44} {count:12,.2f}" + ("" if was in {None, count} else f"   was {was:,.2f}"))
    return "\n".join(lines)


def main() -> None:
    """Measure, and print or update."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the baseline")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON, and nothing else")
    parser.add_argument("--connections", action="store_true", help="print the calls of a handshake and a close alone")
    arguments = parser.parse_args()
    if arguments.connections:
        print(json.dumps(connections()))
        return
    measured = measure()
    if arguments.json:
        print(json.dumps(measured))
        return
    baseline: dict[str, Any] = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else {}
    print(_table(measured, baseline))
    if arguments.update:
        BASELINE.write_text(json.dumps(updated(measured, baseline), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
