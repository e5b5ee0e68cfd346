"""The cost of bowout for a client, compared with every other way to use TLS from Python, and with C.

    python bench/compare.py --quick
    python bench/compare.py --thorough --save

Each sample is a separate process that measures only its work, against a peer in C; contenders take turns, in rounds.
`--save` writes bench/results/compare.json, draws the charts there, and puts the tables into
docs/evidence/benchmarks.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import shlex
import ssl
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import compare_report
import contenders
import trustme
from compare_native import NATIVE, PEER, CannotBuild, NativePeer

_HERE: Final = Path(__file__).parent
_GB: Final = 10**9
#: No single sample may take longer, in seconds.
_PATIENCE: Final = 120.0

NAMES: Final = (*contenders.PYTHON, *NATIVE)
_BOWOUT: Final = tuple(name for name in NAMES if name.startswith("bowout"))


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row of the comparison: a job of worker.py with its two numbers, and the number of samples per contender."""

    key: str
    work: str
    a: int
    b: int
    rounds: int
    tls: str = "1.3"
    #: Only these; empty: everybody who can.
    only: tuple[str, ...] = ()


def plan(amount: str) -> list[Measurement]:
    """Return the measurements of ``tiny`` (a check that everything runs), ``quick`` and ``thorough``."""
    scale = {"tiny": 0, "quick": 1, "thorough": 2}[amount]

    def choose(*amounts: int) -> int:
        return amounts[scale]

    rounds = choose(1, 2, 3)
    size = choose(10**6, 10**8, _GB)
    trips = choose(10, 2_000, 20_000)
    jobs = [
        Measurement("receive", "receive", size, 0, rounds),
        Measurement("receive_into", "receive_into", size, 0, rounds),
        Measurement("send", "send", size, 0, rounds),
        Measurement("echo64", "echo", 64, trips, rounds),
        Measurement("echo4k", "echo", 4096, trips, rounds),
        Measurement("handshake", "handshake", choose(10, 100, 500), 0, rounds),
        Measurement("many100", "many", choose(10, 100, 100), choose(2, 20, 200), min(2, rounds)),
        Measurement("many1000", "many", choose(20, 200, 1_000), choose(2, 10, 20), min(2, rounds)),
        Measurement("memory", "memory", choose(20, 100, 500), choose(1, 4, 20), min(2, rounds)),
    ]
    if scale:
        size = choose(0, 3 * 10**7, _GB // 2)
        jobs.append(Measurement("receive12", "receive", size, 0, 1, tls="1.2"))
        jobs.append(Measurement("send12", "send", size, 0, 1, tls="1.2"))
    if scale == 2:
        jobs.append(Measurement("many10000", "many", 10_000, 10, 1, only=_BOWOUT))
    return jobs


class Sampler:
    """Takes samples."""

    def __init__(self, folder: str) -> None:
        authority = trustme.CA()
        self._ca, self._certificate = f"{folder}/ca.pem", f"{folder}/server.pem"
        authority.cert_pem.write_to_path(self._ca)
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(self._certificate)
        self.samples: list[dict[str, Any]] = []
        self.failures: list[dict[str, str]] = []

    def sample(self, name: str, job: Measurement, number: int) -> None:
        """Run `job` once with the contender `name`."""
        program = [NATIVE[name].build()] if name in NATIVE else [sys.executable, _HERE / "worker.py", name]
        with NativePeer(self._certificate, job.tls) as peer:
            command = [*program, job.work, str(peer.port), self._ca, str(job.a), str(job.b)]
            try:
                done = subprocess.run(
                    command, env=_environment(name), capture_output=True, text=True, timeout=_PATIENCE, check=True
                )
                result = json.loads(done.stdout)
            except subprocess.CalledProcessError as error:
                self._failed(name, job, (error.stderr.strip().splitlines() or [f"status {error.returncode}"])[-1])
                return
            except (subprocess.TimeoutExpired, ValueError) as error:
                self._failed(name, job, str(error))
                return
        facts = {"contender": name, "job": job.key, "round": number, "tls": peer.tls, "peer_cpu": round(peer.cpu, 4)}
        self.samples.append({**facts, **result})

    def _failed(self, name: str, job: Measurement, why: str) -> None:
        self.failures.append({"contender": name, "job": job.key, "why": why})
        print(f"\n{name}, {job.key}: failed: {why}", flush=True)

    def run(self, names: list[str], jobs: list[Measurement]) -> None:
        """Run all contenders, in turn, in rounds; each round begins with another one."""
        for number in range(max(job.rounds for job in jobs)):
            for job in jobs:
                if number >= job.rounds:
                    continue
                print(f"round {number + 1}, {job.key} ", end="", flush=True)
                for name in names[number:] + names[:number]:
                    if can(name, job):
                        self.sample(name, job, number)
                        print(".", end="", flush=True)
                print(flush=True)


def _environment(name: str) -> dict[str, str] | None:
    """Return the environment of a contender's process, which chooses the lane of bowout; None: as ours."""
    lane = contenders.PYTHON[name].lane if name in contenders.PYTHON else ""
    return {**os.environ, "BOWOUT_LANE": lane} if lane else None


def can(name: str, job: Measurement) -> bool:
    """Return whether this contender can do this job."""
    if job.only and name not in job.only:
        return False
    return name in NATIVE or job.work in contenders.PYTHON[name].works


def pin() -> int | None:
    """Keep this process and its children on one CPU; return its number, or None if that is impossible.

    Peer and contender work at the same time only in bulk, and waking the other on another CPU costs from 3 to 30 µs,
    which would hide the cost of a round trip.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    cpu = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    return cpu


_REMEDY: Final = "pip install --group bench"
_REMEDIES: Final = {"bowout._lane._native": "install bowout where there is a C compiler"}


def missing(names: list[str]) -> dict[str, str]:
    """Return the contenders that cannot take part, and why."""
    reasons = {}
    for name in names:
        if name in NATIVE:
            try:
                NATIVE[name].build()
            except CannotBuild as error:
                reasons[name] = str(error)
        else:
            lacking = [module for module in contenders.PYTHON[name].needs if importlib.util.find_spec(module) is None]
            if lacking:
                reasons[name] = f"{', '.join(lacking)} not installed; {_REMEDIES.get(lacking[-1], _REMEDY)}"
    return reasons


def machine() -> dict[str, Any]:
    """Return the machine and the versions of the measurement."""
    packages = ("bowout", "uvloop", "trio", "anyio", "twisted", "pyopenssl", "cryptography")
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": cpu[0].partition(":")[2].strip() if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        **{name: metadata.version(name) for name in packages if _installed(name)},
    }


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def check_limits(jobs: list[Measurement]) -> list[Measurement]:
    """Leave out the measurements that exceed this user's limit of descriptors, and say so."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    allowed = []
    for job in jobs:
        if job.work in {"many", "memory"} and hard != resource.RLIM_INFINITY and hard < job.a + 100:
            print(f"{job.key} is left out: {job.a + 100} descriptors are needed, ulimit -Hn is {hard}")
        else:
            allowed.append(job)
    return allowed


def main() -> None:
    """Measure, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    amount = parser.add_mutually_exclusive_group()
    for name, text in (
        ("quick", "small amounts: some two minutes (the default)"),
        ("thorough", "the real amounts: some twelve minutes"),
        ("tiny", "amounts that measure nothing: does everything run?"),
    ):
        amount.add_argument(f"--{name}", dest="amount", action="store_const", const=name, help=text)
    parser.set_defaults(amount="quick")
    parser.add_argument("--only", action="append", metavar="CONTENDER", help="by a part of its name; again for more")
    parser.add_argument("--job", action="append", metavar="JOB", help="receive, echo64…; may be given again")
    parser.add_argument("--rounds", type=int, metavar="N", help="another number of rounds")
    parser.add_argument("--unpinned", action="store_true", help="use all CPUs: better rates, and much more noise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    parser.add_argument("--save", action="store_true", help="into bench/results and docs/evidence/benchmarks.md")
    arguments = parser.parse_args()
    try:
        PEER.build()
    except CannotBuild as error:
        raise SystemExit(f"error: the peer cannot be built\nhint:  {error}") from None
    names = [name for name in NAMES if not arguments.only or any(part in name for part in arguments.only)]
    lacking = missing(names)
    for name, why in lacking.items():
        print(f"missing: {name}: {why}")
    jobs = [job for job in plan(arguments.amount) if not arguments.job or job.key in arguments.job]
    if arguments.rounds:
        jobs = [Measurement(**{**_fields(job), "rounds": arguments.rounds}) for job in jobs]
    jobs = check_limits(jobs)
    if not jobs or len(lacking) == len(names):
        raise SystemExit("error: nothing is left to measure")
    began = time.monotonic()
    cpu = None if arguments.unpinned else pin()
    with tempfile.TemporaryDirectory() as folder:  # mode 0700: the key is private
        runner = Sampler(folder)
        runner.run([name for name in names if name not in lacking], jobs)
    document = {
        "version": 1,
        "command": shlex.join(["python", "bench/compare.py", *sys.argv[1:]]),
        "amount": arguments.amount,
        "machine": machine(),
        "cpu": cpu,
        "jobs": {job.key: {key: value for key, value in _fields(job).items() if key != "key"} for job in jobs},
        "missing": lacking,
        "failures": runner.failures,
        "samples": runner.samples,
    }
    print(f"\n{compare_report.tables(document)}\n{time.monotonic() - began:.0f} s in all")
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if arguments.save:
        compare_report.save(document)
    if runner.failures:
        raise SystemExit(1)


def _fields(job: Measurement) -> dict[str, Any]:
    return {name: getattr(job, name) for name in job.__slots__}


if __name__ == "__main__":
    main()
