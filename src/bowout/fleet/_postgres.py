"""A store on a server of PostgreSQL, for runners on several machines; it needs psycopg.

A runner claims networks, not targets: ``FOR UPDATE SKIP LOCKED`` gives each network to one runner, which keeps its
limits alone. The claim is a lease, so that another runner takes over what a dead one had. A report is written only by
the holder of its target, in one transaction with its state.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from typing import TYPE_CHECKING, Any, Final, Self

from bowout.fleet._errors import StoreError
from bowout.fleet._rows import (
    COLUMNS,
    NEW_TARGET_COLUMNS,
    RUN,
    RUN_COLUMNS,
    TARGET_COLUMNS,
    counts_of,
    insert,
    new_targets,
    reports_of,
    rows_of,
    run_of,
    run_row,
)
from bowout.fleet._schema import FINISHED, POSTGRES_TABLES, VERSION, WAITING, WHOLE
from bowout.fleet._targets import endpoint_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from bowout.fleet._rows import Finished
    from bowout.fleet._targets import Endpoint

#: Seconds for which a runner holds a network after it last wrote or asked for targets.
LEASE: Final = 600.0
#: Networks that are claimed at once.
_CLAIMED: Final = 200
_CONNECT_TIMEOUT: Final = 10
#: The number of the lock under which the tables are made: any that no other program uses.
_LOCK: Final = 0x626F776F
_TARGET: Final = ", ".join(TARGET_COLUMNS)
_INSERT_RESULT: Final = insert("result", ("run", "target", *COLUMNS), "%s")
_INSERT_TARGET: Final = insert("target", NEW_TARGET_COLUMNS, "%s")
_INSERT_RUN: Final = insert("run", RUN_COLUMNS, "%s")


class PostgresStore:
    """A store on a server; a context manager that gives up its networks and closes the connection.

    Args:
        name: the address, as libpq takes it: ``postgresql://USER@HOST/DATABASE``.
        write: whether to probe what is in it: any number of runners may.
        create: whether to make its tables where there are none.

    Raises:
        StoreError: psycopg is missing, the server cannot be reached, or its tables are missing or of another version.
    """

    def __init__(self, name: str, *, write: bool = False, create: bool = False) -> None:
        try:
            import psycopg  # noqa: PLC0415  (an extra)
        except ImportError as error:
            raise StoreError("a store on PostgreSQL needs psycopg", "pip install 'bowout[postgres]'") from error
        self._error: type[Exception] = psycopg.Error
        self._holder = uuid.uuid4().hex if write else ""
        with self._explained():
            self._db = psycopg.connect(name, autocommit=True, connect_timeout=_CONNECT_TIMEOUT)
            try:
                self._prepare(create=create)
            except BaseException:
                self._db.close()
                raise

    def _prepare(self, *, create: bool) -> None:
        with self._db.transaction():
            self._db.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))  # Two may create it at once.
            there = self._db.execute("SELECT to_regclass('bowout_fleet')").fetchone()
            if there == (None,):
                if not create:
                    raise StoreError(
                        "there is no store in this database", "make one: bowout fleet run TARGETS --store …"
                    )
                self._db.execute(POSTGRES_TABLES)
                self._db.execute("INSERT INTO bowout_fleet(version) VALUES(%s)", (VERSION,))
            version = self._db.execute("SELECT version FROM bowout_fleet").fetchone()
        if version != (VERSION,):
            raise StoreError(
                f"this database has a store of version {version and version[0]}, and this bowout version {VERSION}",
                "nothing in it was changed: read it with the bowout that wrote it, or use another database",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up the networks of this runner, and close the connection."""
        with contextlib.suppress(self._error):  # The lease ends by itself, too.
            if self._holder:
                self._db.execute("UPDATE network SET leased_until = 0 WHERE holder = %s", (self._holder,))
        self._db.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            reason = " ".join(str(error).split())
            raise StoreError(
                f"cannot use the store on PostgreSQL: {reason}",
                "what was finished is kept; mend the cause, then: bowout fleet resume --store …",
            ) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._explained(), self._db.transaction():
            yield

    # -- the run and its targets ---------------------------------------------------------------------------------------

    def begin(self, options: Mapping[str, Any], probes: str = "check") -> None:
        """Write down the run: when it began, with what, from where. A run that is not loaded is replaced."""
        with self._writing():
            self._db.execute("DELETE FROM run")
            self._db.execute(_INSERT_RUN, run_row(options, probes))

    def run(self) -> dict[str, Any] | None:
        """Return the row of the run, with its options as a dict; None before `begin`."""
        with self._explained():
            return run_of(self._db.execute(f"SELECT {', '.join(RUN_COLUMNS)} FROM run").fetchone())

    def set_options(self, options: Mapping[str, Any]) -> None:
        """Replace the options of the run."""
        with self._writing():
            self._db.execute("UPDATE run SET options = %s", (json.dumps(dict(options)),))

    def add(self, endpoints: Iterable[Endpoint]) -> int:
        """Add targets, as they come; return the number of those that were not there yet."""
        added = 0
        for rows in new_targets(endpoints):
            with self._writing(), self._db.cursor() as cursor:
                cursor.executemany(f"{_INSERT_TARGET} ON CONFLICT(host, port, starttls, protocol) DO NOTHING", rows)
                added += max(cursor.rowcount, 0)
                self._add_networks({row[-1] for row in rows if row[-1]})
        return added

    def _add_networks(self, networks: set[str]) -> None:
        self._db.execute(
            "INSERT INTO network(name) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING", (sorted(networks),)
        )

    def loaded(self) -> None:
        """Write down that all targets are there: only then may they be probed, in random order."""
        with self._writing():
            self._db.execute("UPDATE run SET loaded = 1")

    def unresolved(self, after: int, limit: int, *, now: float) -> list[Endpoint]:
        """Claim and return waiting targets without an address whose time has come, by id, after `after`."""
        return self._claim("network = '' AND id > %s AND not_before <= %s", (after, now), limit)

    def resolved(self, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """Write down the addresses and networks of targets; return none: the holder of a network claims them."""
        with self._writing(), self._db.cursor() as cursor:
            self._add_networks({each.network for each in endpoints})
            cursor.executemany(
                "UPDATE target SET address = %s, network = %s, addresses = %s, holder = ''"
                " WHERE id = %s AND network = ''",
                [(each.address, each.network, " ".join(each.addresses), each.id) for each in endpoints],
            )
        return []

    def waiting(self, after: int, limit: int, *, now: float, network: str | None = None) -> list[Endpoint]:  # noqa: ARG002  (claims follow no order)
        """Claim and return waiting targets of networks that are this runner's, and of new ones if these are too few.

        Then come names that were not looked up.

        `after` has no meaning here: a target is returned once, since it is claimed.
        """
        self._renew()
        ours = "network IN (SELECT name FROM network WHERE holder = %s AND leased_until > %s) AND not_before <= %s"
        values: tuple[object, ...] = (self._holder, time.time(), now)
        if network is not None:
            ours, values = ours + " AND network = %s", (*values, network)
        most = limit if limit >= 0 else 1 << 31
        found = self._claim(ours, values, most)
        while len(found) < most and network is None and self._claim_networks(now):
            found += self._claim(ours, values, most - len(found))
        if len(found) < most and network is None:
            found += self._claim("network = '' AND not_before <= %s", (now,), most - len(found))
        return found

    def _claim(self, where: str, values: tuple[object, ...], limit: int) -> list[Endpoint]:
        with self._writing():
            rows = self._db.execute(
                f"UPDATE target SET holder = %s WHERE id IN (SELECT id FROM target WHERE state = {WAITING}"
                f" AND holder <> %s AND {where} ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED) RETURNING {_TARGET}",
                (self._holder, self._holder, *values, limit),
            ).fetchall()
        return sorted((endpoint_of(row) for row in rows), key=lambda each: each.id)

    def _claim_networks(self, now: float) -> bool:
        """Lease networks with waiting targets that no runner holds; return whether there were any."""
        moment = time.time()
        with self._writing():
            found = self._db.execute(
                "UPDATE network SET holder = %s, leased_until = %s WHERE name IN (SELECT name FROM network WHERE"
                " leased_until <= %s AND EXISTS (SELECT 1 FROM target WHERE target.network = network.name"
                f" AND state = {WAITING} AND not_before <= %s) LIMIT %s FOR UPDATE SKIP LOCKED) RETURNING name",
                (self._holder, moment + LEASE, moment, now, _CLAIMED),
            ).fetchall()
        return bool(found)

    def _renew(self) -> None:
        """Prolong the leases of this runner, if they have not ended: another one may hold the networks then."""
        moment = time.time()
        with self._writing():
            self._db.execute(
                "UPDATE network SET leased_until = %s WHERE holder = %s AND leased_until > %s",
                (moment + LEASE, self._holder, moment),
            )

    def networks(self, now: float) -> Iterator[tuple[str, int]]:
        """Lease every network with waiting targets that no other runner holds; yield each with their number."""
        while self._claim_networks(now):
            pass
        with self._explained():
            yield from self._db.execute(
                "SELECT network, count(*) FROM target JOIN network ON network.name = target.network"
                f" WHERE state = {WAITING} AND not_before <= %s AND network.holder = %s GROUP BY network",
                (now, self._holder),
            ).fetchall()

    def next_attempt(self) -> float | None:
        """Return the earliest time, in Unix time, at which a waiting target may be tried; None if none waits."""
        with self._explained():
            row = self._db.execute(f"SELECT min(not_before) FROM target WHERE state = {WAITING}").fetchone()
        return None if row is None else row[0]

    # -- results -------------------------------------------------------------------------------------------------------

    def record(
        self,
        finished: Sequence[Finished],
        *,
        retry_at: Mapping[int, float] | None = None,
        moved: Sequence[Endpoint] = (),
    ) -> None:
        """Write reports, and mark their targets as finished, in one transaction.

        A target that another runner holds by now, since our lease had ended, is left to that one.

        Raises:
            StoreError: nothing of it was written.
        """
        at = time.time()
        self._renew()
        with self._writing(), self._db.cursor() as cursor:
            ours = {
                row[0]
                for row in self._db.execute(
                    f"UPDATE target SET state = {FINISHED} WHERE id = ANY(%s) AND state = {WAITING} AND holder = %s"
                    " RETURNING id",
                    ([each.id for each, _ in finished], self._holder),
                )
            }
            cursor.executemany(
                _INSERT_RESULT,
                [
                    (RUN, each.id, *row)
                    for each, report in finished
                    if each.id in ours
                    for row in rows_of(each, report, at)
                ],
            )
            self._add_networks({each.network for each in moved})
            cursor.executemany(
                "UPDATE target SET address = %s, network = %s WHERE id = %s AND holder = %s",
                [(each.address, each.network, each.id, self._holder) for each in moved],
            )
            again = retry_at or {}
            cursor.executemany(
                "UPDATE target SET holder = '' WHERE id = %s AND holder = %s",
                [(each.id, self._holder) for each in moved if each.id not in again],
            )
            cursor.executemany(
                "UPDATE target SET attempts = attempts + 1, not_before = %s, holder = '' WHERE id = %s AND holder = %s",
                [(when, target, self._holder) for target, when in again.items()],
            )

    def counts(self) -> dict[str, Any]:
        """Count targets by state, endpoints and findings by verdict."""
        with self._explained():
            row = self._db.execute(
                "SELECT count(*), count(*) FILTER (WHERE state = 1), count(*) FILTER (WHERE state = 0 AND attempts > 0)"
                " FROM target"
            ).fetchone()
            verdicts = self._db.execute(
                "SELECT verdict, count(*) FROM result WHERE probe = %s GROUP BY verdict", (WHOLE,)
            ).fetchall()
        return counts_of(row, verdicts)

    def reports(self, verdicts: Sequence[str] | None = None, limit: int = -1) -> Iterator[dict[str, Any]]:
        """Yield the reports, JSON of version 1, one at a time.

        Args:
            verdicts: only endpoints with one of these, in the order of these; None for all, in order of their ids.
            limit: the number of reports at most; -1 for all.
        """
        chosen = (
            "SELECT target, coalesce(array_position(%s::text[], verdict), 0) AS place FROM result"
            " WHERE probe = %s AND (%s::text[] IS NULL OR verdict = ANY(%s)) ORDER BY place, target LIMIT %s"
        )
        order = None if verdicts is None else list(verdicts)
        values = (order, WHOLE, order, order, None if limit < 0 else limit)
        # A cursor on the server: a client's would hold all rows.
        with self._explained(), self._db.transaction(), self._db.cursor(name="reports") as cursor:
            cursor.execute(
                f"SELECT chosen.target, {', '.join('result.' + name for name in COLUMNS)}"
                f" FROM ({chosen}) AS chosen JOIN result ON result.target = chosen.target"
                " ORDER BY chosen.place, chosen.target, result.rowid",
                values,
            )
            yield from reports_of(cursor)
