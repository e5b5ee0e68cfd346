"""What a fleet costs: memory and rows under kill -9 with a stub, and CPU with real probes on the loopback.

python bench/fleet.py simulate [--endpoints 100000] [--kills 10]
python bench/fleet.py loopback [--endpoints 4000]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import re
import resource
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from bowout.check import check
from bowout.fleet import Endpoint, HereRunner, Limits, Probe, Store, parse_endpoint, run, stored_report
from bowout.fleet._process import collecting_less

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

#: No limit but the machine's.
UNLIMITED: Final = Limits(rate=1e9, per_host=10_000, per_network=10_000, at_once=200, retry_after=0.0)
#: Resident memory that a fleet may have, in MiB.
MOST_MEMORY: Final = 150
#: The probes of the measurement on the loopback.
MEASURED: Final = ("reply-end", "answers")


def made_up(count: int) -> Iterator[Endpoint]:
    """Endpoints in 10.0.0.0/8, 64 in each network."""
    for number in range(count):
        yield parse_endpoint(f"10.{number >> 14 & 255}.{number >> 6 & 255}.{number & 63}")


def stub() -> Probe:
    """A probe without a network: eight findings, each with an ending."""
    ending = {"version": 1, "how": "clean", "events": [{"kind": "data", "by": "we", "at": 0.1}] * 12}

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        await asyncio.sleep(0)
        verdict = "FAIL" if endpoint.id % 50 == 1 else "OK"
        findings = [
            {"probe": f"probe-{number}", "verdict": verdict, "says": "all 362 bytes, then close_notify", "rule": "",
             "runs": 1, "lost": 0, "seconds": 0.1, "facts": {"received": 362, "declared": 362}, "ending": ending}
            for number in range(8)
        ]  # fmt: skip
        return {
            "version": 1, "tool": "bench", "endpoint": str(endpoint), "address": endpoint.address, "starttls": None,
            "protocol": "http", "tls": "TLSv1.3", "began": 1.0, "seconds": 1.0, "connections": 8, "verdict": verdict,
            "worst": None, "findings": findings,
        }  # fmt: skip

    return probe


def go_on(path: str) -> None:
    """Go on with a store, and say how much memory that took; in a process that is killed."""
    with Store(path, write=True) as store:
        asyncio.run(run(store, HereRunner(stub, UNLIMITED), UNLIMITED))
    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10}\n")


def memory_of(process: subprocess.Popen[bytes]) -> int:
    """Return the highest resident memory of a process so far, in MiB."""
    text = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    return int(found[1]) >> 10 if found else 0


def simulate(endpoints: int, kills: int) -> int:
    """Run a fleet that is killed again and again; return 0 if every row is there once, in little memory."""
    random.seed(1)
    most = finished = 0
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "run.db"
        with Store(path, write=True, create=True) as store:
            store.begin({})
            store.add(made_up(endpoints))
            store.loaded()
        for kill in range(kills):
            enough = endpoints * (kill + random.random()) / (kills + 1)
            with subprocess.Popen([sys.executable, __file__, "go-on", str(path)]) as process:
                with Store(path) as reader:
                    while reader.counts()["finished"] < enough:
                        time.sleep(0.01)
                most = max(most, memory_of(process))
                process.send_signal(signal.SIGKILL)
            with Store(path) as reader:
                before, finished = finished, reader.counts()["finished"]
            assert finished >= before, "what was finished was lost"
            print(f"killed at {finished:,} of {endpoints:,}; {most} MiB")
        done = subprocess.run([sys.executable, __file__, "go-on", str(path)], check=True, stdout=subprocess.PIPE)
        most = max(most, int(done.stdout))
        with Store(path) as reader:
            names = [report["endpoint"] for report in reader.reports()]
            counts = reader.counts()
        size = path.stat().st_size / endpoints
    print(f"{len(names):,} rows, {len(set(names)):,} different, {most} MiB at most, {size:,.0f} bytes an endpoint")
    right = len(names) == len(set(names)) == endpoints == counts["finished"] and most <= MOST_MEMORY
    print("right" if right else "WRONG")
    return 0 if right else 1


def loopback(endpoints: int) -> int:
    """Measure the CPU of this process for two probes of each endpoint, on uvloop if it is there."""
    from bowout.check import _check, _probes  # noqa: PLC0415  (the probes to leave out)

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    chosen = {name: _probes.POLITE[name] for name in MEASURED}
    runner: Callable[[Any], Any] = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415  (an extra)

        runner = uvloop.run

    def factory() -> Probe:
        async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
            report = await check("127.0.0.1", port, context=context, server_hostname="localhost")
            return stored_report(endpoint, report)

        return probe

    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "index.html").write_text("x" * 300, encoding="ascii")
        command = [sys.executable, "-m", "bowout", "serve", "0", "--www", directory]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as server:
            assert server.stderr is not None
            found = re.search(rb":(\d+)\n", server.stderr.readline())
            assert found is not None
            port = int(found[1])
            drain = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
            path = Path(directory) / "run.db"
            with Store(path, write=True, create=True) as store, mock.patch.object(_check, "POLITE", chosen):
                store.add(made_up(endpoints))
                began, cpu = time.perf_counter(), time.process_time()
                with collecting_less():
                    runner(run(store, HereRunner(factory, UNLIMITED), UNLIMITED))
                took, cpu = time.perf_counter() - began, time.process_time() - cpu
                counts = store.counts()
            bare = time.process_time()
            with collecting_less():
                runner(plainly(port, context, endpoints))
            bare = time.process_time() - bare
            server.terminate()
            server.wait()
            drain.wait()
    print(f"{counts['verdicts']}; {endpoints / cpu:,.0f} endpoints a second of CPU, {endpoints / took:,.0f} a second")
    print(f"the same connections by the loop's own TLS, at once after it: {endpoints / bare:,.0f} a second of CPU")
    print(f"ratio {bare / cpu:.2f}")
    return 0


async def plainly(port: int, context: ssl.SSLContext, endpoints: int) -> None:
    """Make as many connections with the loop's own streams, and keep nothing: the most that this machine can do."""
    gate = asyncio.Semaphore(UNLIMITED.at_once)

    async def one(request: bytes) -> None:
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
            writer.write(request)
            if request:
                await reader.read()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    await asyncio.gather(*(one(data) for _ in range(endpoints) for data in (request, b"")))


def main() -> int:
    """Run the measurement that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["simulate", "loopback", "go-on"])
    parser.add_argument("path", nargs="?")
    parser.add_argument("--endpoints", type=int)
    parser.add_argument("--kills", type=int, default=10)
    options = parser.parse_args()
    if options.what == "go-on":
        go_on(options.path)
        return 0
    if options.what == "simulate":
        return simulate(options.endpoints or 100_000, options.kills)
    return loopback(options.endpoints or 4000)


if __name__ == "__main__":
    sys.exit(main())
