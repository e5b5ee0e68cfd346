"""Load: the cost of a connection, from 100 to 10,000 of them, and the end of a server with that many.

    python bench/load.py --quick
    python bench/load.py --thorough --json load.json --svg load.svg

bowout on asyncio, uvloop and trio, and each of these without it, in one run: the server in a process of its own, the
clients in two others, everything on loopback. It stops by itself.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trustme
from load_processes import Child, Usage
from load_report import chart, machine, table

SERVERS: Final = (
    "bowout on asyncio",
    "start_server of bowout.asyncio on asyncio",
    "start_server on asyncio",
    "bowout on uvloop",
    "start_server of bowout.asyncio on uvloop",
    "start_server on uvloop",
    "bowout on trio",
    "serve_ssl_over_tcp on trio",
    "bare SSLObject",
)
_CLIENT_PROCESSES: Final = 2
#: Number of simultaneous handshakes of each client process.
_WINDOW: Final = 32
_WARM_UP: Final = 4
#: Connections and rounds of the echo that is timed at each size.
_ECHO: Final = (100, 20)
_SILENT_EVERY: Final = 10
#: No single step may take longer, in seconds.
_PATIENCE: Final = 90.0


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """The amount of work."""

    sizes: tuple[int, ...]
    #: Connections of the drain with silent clients.
    silent_size: int
    #: What the server is given for each of the two drains, in seconds.
    drain_timeout: float
    silent_timeout: float


QUICK: Final = LoadPlan(sizes=(100, 1000), silent_size=500, drain_timeout=30, silent_timeout=3)
THOROUGH: Final = LoadPlan(sizes=(100, 1000, 10000), silent_size=10000, drain_timeout=30, silent_timeout=3)


class Rig:
    """A server and its clients."""

    def __init__(
        self, cleanup: ExitStack, name: str, pem: dict[str, str], drain_timeout: float, *, collector: bool
    ) -> None:
        settings = {
            "name": name,
            "certificate": pem["certificate"],
            "drain_timeout": drain_timeout,
            "collector": collector,
        }
        self.server = cleanup.enter_context(Child("load_servers.py", settings))
        port = self.server.reply(_PATIENCE)["port"]
        self._clients = [
            # An address each, so that their ports do not run out.
            cleanup.enter_context(
                Child("load_clients.py", {"port": port, "ca": pem["ca"], "source": f"127.0.0.{number + 2}"})
            )
            for number in range(_CLIENT_PROCESSES)
        ]
        self.open = 0

    def ask(self, do: str, **arguments: object) -> list[dict[str, Any]]:
        """Give all client processes an order, and collect their replies."""
        self.tell(do, **arguments)
        return self.replies()

    def tell(self, do: str, **arguments: object) -> None:
        """Give all client processes an order; `replies` collects."""
        for client in self._clients:
            client.tell(do, **arguments)

    def replies(self) -> list[dict[str, Any]]:
        """Return one reply from each client process."""
        return [client.reply(_PATIENCE + 15) for client in self._clients]

    def grow(self, size: int) -> float:
        """Increase to `size` connections; return the seconds that the handshakes took."""
        count = (size - self.open) // _CLIENT_PROCESSES
        replies = self.ask("open", count=count, window=_WINDOW, seconds=_PATIENCE)
        is_open = sum(reply["open"] for reply in replies)
        if is_open != size:
            raise RuntimeError(f"{is_open} of {size} connections are open: {replies}")
        self.open = size
        return float(max(reply["seconds"] for reply in replies))

    def warm_up(self) -> Usage:
        """Have the server load every module and make every table; return its usage then."""
        self.grow(_WARM_UP)
        self.ask("echo", count=_WARM_UP, rounds=2, seconds=_PATIENCE)
        self.ask("close")
        self.open = 0
        time.sleep(0.5)  # Until the server has closed them: nothing tells.
        return self.server.usage()


def measure_sizes(rig: Rig, plan: LoadPlan) -> list[dict[str, Any]]:
    """Measure memory and CPU of a connection at each size."""
    first = rig.warm_up()
    steps = []
    for size in plan.sizes:
        grown_from = rig.open
        before = rig.server.usage()
        seconds = rig.grow(size)
        held = rig.server.usage()
        count, rounds = _ECHO
        replies = rig.ask("echo", count=count // _CLIENT_PROCESSES, rounds=rounds, seconds=_PATIENCE)
        echoed = rig.server.usage()
        new = size - grown_from
        steps.append(
            {
                "connections": size,
                "handshakes": new,
                "handshakes_per_second": round(new / seconds, 1),
                "cpu_ms_per_handshake": round((held.cpu - before.cpu) * 1e3 / new, 4),
                "user_ms_per_handshake": round((held.user - before.user) * 1e3 / new, 4),
                "system_ms_per_handshake": round((held.system - before.system) * 1e3 / new, 4),
                "rss_kib_per_connection": round((held.rss - first.rss) / size, 2),
                "pss_kib_per_connection": round((held.pss - first.pss) / size, 2),
                "cpu_us_per_echo": round(
                    (echoed.cpu - held.cpu) * 1e6 / max(1, sum(reply["round_trips"] for reply in replies)), 2
                ),
            }
        )
    rig.ask("echo", count=rig.open // _CLIENT_PROCESSES, rounds=1, seconds=_PATIENCE)
    before = rig.server.usage()
    steps[-1]["rss_kib_after_echo"] = round((before.rss - first.rss) / rig.open, 2)
    steps[-1]["pss_kib_after_echo"] = round((before.pss - first.pss) / rig.open, 2)
    time.sleep(1)
    steps[-1]["idle_cpu_seconds_per_second"] = round(rig.server.usage().cpu - before.cpu, 4)
    return steps


def measure_drain(rig: Rig, *, silent_every: int, timeout: float) -> dict[str, Any]:
    """Send SIGTERM, and measure how each client sees its connection end."""
    before = rig.server.usage()
    rig.tell("watch", silent_every=silent_every, seconds=timeout + 10)
    time.sleep(0.2)  # So that the silent ones are silent: nothing tells.
    began = time.monotonic()
    rig.server.signal(signal.SIGTERM)
    done = rig.server.reply(timeout + 20)
    replies = rig.replies()
    ends: Counter[str] = Counter()
    for reply in replies:
        ends.update(reply["ends"])
    result: dict[str, Any] = {
        "connections": rig.open,
        "deadline": timeout,
        "silent": sum(reply["silent"] for reply in replies),
        "clients_saw": {how: count for how, count in ends.items() if how != "closed by us"},
        "unended": sum(reply["unended"] for reply in replies),
        "seconds_to_last_end": round(max(reply["last_end"] for reply in replies) - began, 3),
        "seconds_to_done": round(done["drained"] - began, 3),
        "server_counted": done["endings"],
        "rss_kib_before": before.rss,
    }
    if silent_every:
        seen: Counter[str] = Counter()
        for reply in rig.ask("look"):
            seen.update(reply["seen"])
        result["silent_saw"] = dict(seen)
    return result


def measure(name: str, plan: LoadPlan, pem: dict[str, str], *, collector: bool) -> dict[str, Any]:
    """Measure one server."""
    result: dict[str, Any] = {"server": name}
    with ExitStack() as cleanup:
        rig = Rig(cleanup, name, pem, plan.drain_timeout, collector=collector)
        result["sizes"] = measure_sizes(rig, plan)
        result["drain"] = measure_drain(rig, silent_every=0, timeout=plan.drain_timeout)
    with ExitStack() as cleanup:
        rig = Rig(cleanup, name, pem, plan.silent_timeout, collector=collector)
        rig.grow(plan.silent_size)
        result["silent"] = measure_drain(rig, silent_every=_SILENT_EVERY, timeout=plan.silent_timeout)
    return result


def make_certificates(folder: str) -> dict[str, str]:
    """Make a throw-away authority, and its certificate for localhost (ECDSA, P-256)."""
    authority = trustme.CA()
    pem = {"ca": f"{folder}/ca.pem", "certificate": f"{folder}/server.pem"}
    authority.cert_pem.write_to_path(pem["ca"])
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem["certificate"])
    return pem


def raise_limit(plan: LoadPlan) -> None:
    """Raise the limit to a descriptor for each connection, or report that it is impossible."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    need = plan.sizes[-1] + 200
    if hard != resource.RLIM_INFINITY and hard < need:
        raise SystemExit(f"error: {need} descriptors are needed, and this user may have {hard} (ulimit -Hn)")


def main() -> None:
    """Measure, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--quick", action="store_true", help="up to 1,000 connections (the default)")
    amount.add_argument("--thorough", action="store_true", help="up to 10,000 connections: some minutes")
    parser.add_argument("--only", action="append", choices=SERVERS, help="this server; may be given again")
    parser.add_argument("--no-collector", action="store_true", help="Python's cycle collector is off in the servers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw a chart there")
    arguments = parser.parse_args()
    plan = THOROUGH if arguments.thorough else QUICK
    raise_limit(plan)
    began = time.monotonic()
    results = []
    with tempfile.TemporaryDirectory() as folder:  # mode 0700: the key is private
        pem = make_certificates(folder)
        for name in arguments.only or SERVERS:
            print(f"{name} … ", end="", flush=True)
            started = time.monotonic()
            try:
                results.append(measure(name, plan, pem, collector=not arguments.no_collector))
                print(f"{time.monotonic() - started:.0f} s", flush=True)
            except (RuntimeError, TimeoutError, OSError) as error:
                print(f"failed: {error}", flush=True)
    print(f"\n{table(results)}\n{time.monotonic() - began:.0f} s in all")
    document = {
        "version": 1,
        "machine": machine(),
        "plan": "thorough" if arguments.thorough else "quick",
        "collector": not arguments.no_collector,
        "results": results,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if arguments.svg:
        arguments.svg.write_text(chart(results))


if __name__ == "__main__":
    main()
