"""A server's counters for Prometheus; this needs the extra ``bowout[metrics]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bowout.ending import How

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ModuleNotFoundError:
    raise ModuleNotFoundError("bowout.metrics needs prometheus_client: pip install 'bowout[metrics]'") from None

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.core import Metric

    from bowout._server.server import Server

__all__ = ["PrometheusCollector"]

#: The states of a connection in `Server.counters`.
_STATES: Final = ("handshaking", "waiting", "established")


class PrometheusCollector(Collector):
    """Reads the counters of servers whenever Prometheus collects; it keeps no counters of its own.

        async with bowout.serve(handler, port=8443, context=context) as server:
            prometheus_client.REGISTRY.register(PrometheusCollector({"api": server}))
            prometheus_client.start_http_server(9100)

    It exports

    * ``bowout_connections{server, state}``: current numbers: ``handshaking``, ``waiting`` for room under
      ``max_connections``, and ``established``;
    * ``bowout_accepted_total{server}``: accepted since the server's start;
    * ``bowout_evicted_total{server}``: of these, reset in their handshake to make room for others;
    * ``bowout_endings_total{server, how}``: ended since then, by `How`.

    Args:
        servers: the servers, by the value of the label ``server``. A registry accepts one collector, so give it all
            servers; the mapping is read again each time.
    """

    def __init__(self, servers: Mapping[str, Server]) -> None:
        self._servers = servers

    def collect(self) -> Iterator[Metric]:
        """Return the current metrics. May be called in any thread."""
        connections = GaugeMetricFamily("bowout_connections", "Current TLS connections.", labels=["server", "state"])
        accepted = CounterMetricFamily("bowout_accepted", "TCP connections accepted.", labels=["server"])
        evicted = CounterMetricFamily(
            "bowout_evicted", "Connections reset in their handshake to make room for others.", labels=["server"]
        )
        endings = CounterMetricFamily(
            "bowout_endings", "Ended connections, by kind of ending.", labels=["server", "how"]
        )
        for name, server in self._servers.items():
            counters = server.counters()
            for state in _STATES:
                connections.add_metric([name, state], counters[state])
            accepted.add_metric([name], counters["accepted"])
            evicted.add_metric([name], counters["evicted"])
            for how in How:
                endings.add_metric([name, how.value], counters[f"ended_{how.name.lower()}"])
        yield from (connections, accepted, evicted, endings)
