"""One measurement of one Python contender, in this process: ``worker.py CONTENDER WORK PORT CA A B``.

    receive BYTES 0      receive_into BYTES 0     send BYTES 0
    echo SIZE ROUNDS     handshake COUNT 0
    many CONNECTIONS ROUNDS                       memory CONNECTIONS BURSTS

It prints one line of JSON: wall and CPU seconds of the work alone, without start-up, handshake and warm-up; and further
results of the work (`p50`, `p95` in seconds; `idle_kib`, `burst_kib` for each connection).
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import contenders

if TYPE_CHECKING:
    from contenders.base import Contender

# As in native/client.c.
WARM_UP: Final = 4 << 20
WARM_ROUNDS: Final = 200
WARM_HANDSHAKES: Final = 10
WARM_CONNECTIONS: Final = 8
PING: Final = 64
BURST: Final = 10 << 20

_PAGE_KIB: Final = os.sysconf("SC_PAGESIZE") / 1024


class Stopwatch:
    """Wall and CPU time of this process since it was made."""

    def __init__(self) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._user, self._system = usage.ru_utime, usage.ru_stime
        self._cpu = time.process_time()
        self._wall = time.perf_counter()

    def read(self) -> dict[str, float]:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        usage = resource.getrusage(resource.RUSAGE_SELF)
        user, system = usage.ru_utime - self._user, usage.ru_stime - self._system
        return {"wall": wall, "cpu": cpu, "user": user, "system": system}


def resident_kib() -> float:
    """Return the resident memory of this process, in KiB, after a garbage collection."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_KIB


async def bulk(contender: Contender[Any], work: str, count: int) -> dict[str, float]:
    connection = await contender.open()
    transfer = getattr(contender, work)
    await transfer(connection, WARM_UP)
    watch = Stopwatch()
    await transfer(connection, count)
    result = watch.read()
    await contender.close(connection)
    return result


async def echo(contender: Contender[Any], size: int, rounds: int) -> dict[str, float]:
    connection = await contender.open()
    await contender.echo(connection, size, WARM_ROUNDS)
    watch = Stopwatch()
    await contender.echo(connection, size, rounds)
    result = watch.read()
    await contender.close(connection)
    return result


async def handshake(contender: Contender[Any], count: int) -> dict[str, float]:
    for _ in range(WARM_HANDSHAKES):
        await contender.close(await contender.open())
    latencies = []
    watch = Stopwatch()
    for _ in range(count):
        began = time.perf_counter()
        await contender.close(await contender.open())
        latencies.append(time.perf_counter() - began)
    result = watch.read()
    latencies.sort()
    return {**result, "p50": latencies[count // 2], "p95": latencies[count * 95 // 100]}


async def open_many(contender: Contender[Any], count: int) -> list[Any]:
    """Open connections, one after the other, and use each, so that the peer's session tickets are read."""
    connections = []
    for _ in range(count):
        connection = await contender.open()
        await contender.echo(connection, PING, 1)
        connections.append(connection)
    return connections


async def many(contender: Contender[Any], count: int, rounds: int) -> dict[str, float]:
    connections = await open_many(contender, count)
    await contender.together([contender.echo(connection, PING, 2) for connection in connections])
    watch = Stopwatch()
    await contender.together([contender.echo(connection, PING, rounds) for connection in connections])
    result = watch.read()
    for connection in connections:
        await contender.close(connection)
    return result


async def memory(contender: Contender[Any], count: int, bursts: int) -> dict[str, float]:
    kept = await open_many(contender, WARM_CONNECTIONS)
    before = resident_kib()
    watch = Stopwatch()
    connections = await open_many(contender, count)
    idle = resident_kib()
    await burst(contender, kept[:1])  # What the process keeps, and no connection, is not counted.
    quiet = resident_kib()
    await burst(contender, connections[:bursts])
    after = resident_kib()
    result = watch.read()
    for connection in connections + kept:
        await contender.close(connection)
    return {**result, "idle_kib": (idle - before) / count, "burst_kib": (after - quiet) / bursts}


async def burst(contender: Contender[Any], connections: list[Any]) -> None:
    """Move `BURST` bytes each way, on one connection after the other."""
    for connection in connections:
        await contender.receive(connection, BURST)
        await contender.send(connection, BURST)


async def measure(contender: Contender[Any], work: str, a: int, b: int) -> dict[str, float]:
    match work:
        case "echo":
            return await echo(contender, a, b)
        case "handshake":
            return await handshake(contender, a)
        case "many":
            return await many(contender, a, b)
        case "memory":
            return await memory(contender, a, b)
        case _:
            return await bulk(contender, work, a)


def main() -> None:
    name, work, port, ca, a, b = sys.argv[1:]
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    contender = contenders.make(name, int(port), ca)
    contender.prepare(work)
    result = contender.run(lambda: measure(contender, work, int(a), int(b)))
    print(json.dumps({key: round(value, 7) for key, value in result.items()}))


if __name__ == "__main__":
    main()
