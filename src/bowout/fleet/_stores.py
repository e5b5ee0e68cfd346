"""What a fleet needs of a store, whichever it is, and how one is opened by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from bowout.fleet._postgres import PostgresStore
from bowout.fleet._store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from bowout.fleet._rows import Finished
    from bowout.fleet._targets import Endpoint

#: How the name of a PostgreSQL store begins.
_POSTGRES: Final = ("postgresql://", "postgres://")


class FleetStore(Protocol):
    """The store of a fleet. `Store` and `PostgresStore` document each method."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def begin(self, options: Mapping[str, Any], probes: str = "check") -> None: ...
    def run(self) -> dict[str, Any] | None: ...
    def set_options(self, options: Mapping[str, Any]) -> None: ...
    def add(self, endpoints: Iterable[Endpoint]) -> int: ...
    def loaded(self) -> None: ...
    def unresolved(self, after: int, limit: int, *, now: float) -> list[Endpoint]: ...
    def resolved(self, endpoints: Sequence[Endpoint]) -> list[Endpoint]: ...
    def waiting(self, after: int, limit: int, *, now: float, network: str | None = None) -> list[Endpoint]: ...
    def networks(self, now: float) -> Iterator[tuple[str, int]]: ...
    def next_attempt(self) -> float | None: ...
    def record(
        self,
        finished: Sequence[Finished],
        *,
        retry_at: Mapping[int, float] | None = None,
        moved: Sequence[Endpoint] = (),
    ) -> None: ...
    def counts(self) -> dict[str, Any]: ...
    def reports(self, verdicts: Sequence[str] | None = None, limit: int = -1) -> Iterator[dict[str, Any]]: ...


def is_on_postgres(name: str) -> bool:
    """Tell whether a store is on a server of PostgreSQL, by its name."""
    return name.startswith(_POSTGRES)


def open_store(name: str, *, write: bool = False, create: bool = False) -> FleetStore:
    """Open a store by its name: ``postgresql://…``, or else a file of SQLite.

    Raises:
        StoreError: it cannot be opened.
    """
    if is_on_postgres(name):
        return PostgresStore(name, write=write, create=create)
    return Store(name, write=write, create=create)
