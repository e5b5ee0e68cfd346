"""The counters of servers as Prometheus sees them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from bowout.metrics import PrometheusCollector
from helpers.runners import Runner
from helpers.served import Endings, asks, connect, echo, serve, visit
from helpers.tasks import settle


@pytest.mark.backends("asyncio", "trio")
class TestPrometheus:
    def test_endings_are_counted_by_kind(self, run: Runner) -> None:
        async def main() -> list[float | None]:
            endings = Endings()
            async with serve(echo, on_ending=endings) as server:
                registry = registry_of(api=server)
                await asks(server)
                await asks(server)
                await visit(server, lambda wire: wire.fin())
                await endings.wait(3)
                return [
                    registry.get_sample_value("bowout_endings_total", {"server": "api", "how": how})
                    for how in ("clean", "truncated", "failed handshake")
                ]

        assert run(main) == [2, 1, 0]

    def test_connections_are_told_by_state(self, run: Runner) -> None:
        async def main() -> list[float | None]:
            async with serve(echo) as server, await connect(server):
                registry = registry_of(api=server)
                while not server.counters()["established"]:
                    await settle()
                return [
                    registry.get_sample_value("bowout_connections", {"server": "api", "state": state})
                    for state in ("handshaking", "waiting", "established")
                ]

        assert run(main) == [0, 0, 1]

    def test_servers_are_told_apart(self, run: Runner) -> None:
        async def main() -> list[float | None]:
            async with serve(echo) as one, serve(echo) as other:
                registry = registry_of(one=one, other=other)
                await asks(one)
                return [
                    registry.get_sample_value("bowout_accepted_total", {"server": name}) for name in ("one", "other")
                ]

        assert run(main) == [1, 0]

    def test_the_text_that_is_scraped(self, run: Runner) -> None:
        async def main() -> str:
            async with serve(echo) as server:
                return generate_latest(registry_of(api=server)).decode()

        text = run(main)
        assert "# TYPE bowout_endings_total counter" in text
        assert 'bowout_evicted_total{server="api"} 0.0' in text


def registry_of(**servers: object) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(PrometheusCollector(servers))  # type: ignore[arg-type]
    return registry


def test_without_the_extra_it_says_how_to_get_it() -> None:
    text = "import sys; sys.modules['prometheus_client'] = None; import bowout.metrics"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("pip install 'bowout[metrics]'")
