"""What keeps a fleet polite: connections a second in all, and probes at once to one host and to one network.

Sans-IO: time is an argument, and nothing here waits.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bowout._arguments import checked_count, checked_duration

if TYPE_CHECKING:
    from bowout.fleet._targets import Endpoint


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one fleet; the defaults are polite.

    Attributes:
        rate: connections a second, in all.
        per_host: endpoints of one host that are probed at once. A probe has one connection at a time.
        per_network: the same for one /24 of IPv4 or /48 of IPv6.
        at_once: endpoints that are probed at once, in all.
        patience: the longest time for one endpoint, in seconds; then it is UNKNOWN.
        retry_after: seconds until an endpoint that was UNKNOWN is tried again, once.

    Raises:
        TypeError, ValueError: a limit is not a number above 0.
    """

    rate: float = 100.0
    per_host: int = 2
    per_network: int = 2
    at_once: int = 500
    patience: float = 120.0
    retry_after: float = 30.0

    def __post_init__(self) -> None:
        for name in ("rate", "patience"):
            checked_duration(name, getattr(self, name))
        for name in ("per_host", "per_network", "at_once"):
            checked_count(name, getattr(self, name), least=1)

    def shared_by(self, number: int) -> Limits:
        """Return the limits of each of `number` processes that have different networks."""
        return Limits(
            rate=self.rate / number,
            per_host=self.per_host,
            per_network=self.per_network,
            at_once=max(self.at_once // number, 1),
            patience=self.patience,
            retry_after=self.retry_after,
        )


class TokenBucket:
    """Tokens that come back at a steady rate. Several may be spent at once; the next ones then wait for all of them.

    Args:
        rate: tokens a second.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._tokens = 1.0
        self._at: float | None = None

    def wait(self, now: float) -> float:
        """Return the seconds until tokens may be spent; 0 if they may at the time `now`."""
        if self._at is not None:
            self._tokens = min(1.0, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return max((1.0 - self._tokens) / self._rate, 0.0)

    def spend(self, tokens: float) -> None:
        """Take `tokens`; a negative number gives back what was taken and not used."""
        self._tokens = min(1.0, self._tokens - tokens)


class Schedule:
    """Endpoints that wait, and those that are probed: which one may be next.

    Endpoints of a busy network wait here without keeping those of other networks from their turn.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: dict[str, deque[Endpoint]] = defaultdict(deque)
        #: Networks that may have an endpoint whose turn it is.
        self._ready: deque[str] = deque()
        self._networks: Counter[str] = Counter()
        self._hosts: Counter[str] = Counter()
        self.waiting: int = 0
        self.running: int = 0

    def add(self, endpoint: Endpoint) -> None:
        """Let `endpoint` wait for its turn."""
        queue = self._waiting[endpoint.network]
        queue.append(endpoint)
        self.waiting += 1
        if len(queue) == 1:
            self._ready.append(endpoint.network)

    def begin(self) -> Endpoint | None:
        """Return an endpoint that may be probed now, and count it as running; None if all have to wait.

        `end` must be called for it.
        """
        if self.running >= self._limits.at_once:
            return None
        while self._ready:
            network = self._ready.popleft()
            endpoint = self._take(network)
            if endpoint is not None:
                if self._waiting.get(network):
                    self._ready.append(network)
                return endpoint
        return None

    def _take(self, network: str) -> Endpoint | None:
        queue = self._waiting.get(network)
        if not queue or self._networks[network] >= self._limits.per_network:
            return None
        for index, endpoint in enumerate(queue):
            host = endpoint.address or endpoint.host
            if self._hosts[host] < self._limits.per_host:
                del queue[index]
                if not queue:
                    del self._waiting[network]
                self._hosts[host] += 1
                self._networks[network] += 1
                self.waiting -= 1
                self.running += 1
                return endpoint
        return None

    def end(self, endpoint: Endpoint) -> None:
        """Say that the probes of `endpoint` are done."""
        self.running -= 1
        _give_back(self._hosts, endpoint.address or endpoint.host)
        _give_back(self._networks, endpoint.network)
        if endpoint.network in self._waiting:
            self._ready.append(endpoint.network)


def _give_back(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
