"""The store of a fleet: one file of SQLite in WAL mode, with one writer and any number of readers.

A report is finished when the transaction with its rows is committed: its target becomes FINISHED in the same one. So a
``kill -9`` loses only what was not finished, and nothing that is finished is probed again.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import bowout
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
from bowout.fleet._schema import APPLICATION, FINISHED, NETWORK_INDEX, TABLES, VERSION, WAITING, WHOLE
from bowout.fleet._targets import Endpoint, endpoint_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from bowout.fleet._rows import Finished

#: Seconds that a reader or the writer waits for the other.
_BUSY: Final = 30.0
_TARGET: Final = ", ".join(TARGET_COLUMNS)
_INSERT_RESULT: Final = insert("result", ("run", "target", *COLUMNS), "?")
_INSERT_TARGET: Final = insert("target", NEW_TARGET_COLUMNS, "?")
_INSERT_RUN: Final = insert("run", RUN_COLUMNS, "?")


class Store:
    """A store on disk; a context manager that closes it.

    Args:
        path: the file.
        write: whether to write: there is one writer at a time, which holds a lock until it is closed or killed.
        create: whether to make a store where there is no file.

    Raises:
        StoreError: there is no store, it has another version, is damaged, or another process writes to it.
    """

    def __init__(self, path: str | Path, *, write: bool = False, create: bool = False) -> None:
        self._path = Path(path)
        if not create and not self._path.exists():
            raise StoreError(f"there is no store '{path}'", "make one: bowout fleet run TARGETS --store FILE")
        with self._explained("nothing in it was changed"), contextlib.ExitStack() as stack:
            if write:
                stack.enter_context(self._locked())
            uri = _to_write(self._path, create=create) if write else _to_read(self._path)
            self._db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY)
            stack.callback(self._db.close)
            self._prepare(write=write)
            self._file = self._path.stat()
            self._open = stack.pop_all()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock a file beside the store, not the store: to close a second descriptor of it drops SQLite's own locks."""
        try:
            import fcntl  # noqa: PLC0415  (not everywhere)
        except ImportError:  # Windows: a second writer is not noticed there.
            yield
            return
        with self._path.with_name(self._path.name + ".lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(
                    f"another process writes to '{self._path}'", "wait for it; bowout fleet status shows how far it is"
                ) from None
            yield

    def _prepare(self, *, write: bool) -> None:
        if write and self._is_empty():
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(
                f"BEGIN; PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; {TABLES} COMMIT;"
            )
        application, version = self._marks()
        if application != APPLICATION and self._is_empty():
            raise StoreError(f"the store '{self._path}' is empty", "begin: bowout fleet run TARGETS --store FILE")
        if application != APPLICATION:
            raise self._not_a_store()
        if version != VERSION:
            raise StoreError(
                f"'{self._path}' is a store of version {version}, and this is bowout {bowout.__version__} with version"
                f" {VERSION}",
                "nothing in it was changed: read it with the bowout that wrote it, or begin another store",
            )
        if write:
            # A commit is safe from kill -9 without a sync; a power failure may undo the last ones, which are repeated.
            self._db.execute("PRAGMA synchronous = NORMAL")

    def _marks(self) -> tuple[int, int]:
        """Return the numbers by which a database says whose it is: the application's, and its version."""
        application, version = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        return application, version

    def _is_empty(self) -> bool:
        """Tell whether the file is new, or was left by a kill before its tables were there: they come all at once."""
        nothing = self._db.execute("SELECT count(*) = 0 FROM sqlite_master").fetchone()[0]
        return bool(nothing) and self._marks() == (0, 0)

    def _not_a_store(self) -> StoreError:
        return StoreError(
            f"'{self._path}' is not a store of bowout fleet", "nothing in it was changed: name another file"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, and give up the lock."""
        self._open.close()

    @contextlib.contextmanager
    def _explained(self, hint: str = "") -> Iterator[None]:
        """Turn errors of SQLite and of the disk into errors that say what is kept and how to go on, or `hint`."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            name = getattr(error, "sqlite_errorname", "")
            if name == "SQLITE_NOTADB":
                raise self._not_a_store() from error
            if name == "SQLITE_CORRUPT":
                raise StoreError(
                    f"'{self._path}' is damaged: {error}",
                    f"what can be read: sqlite3 '{self._path}' .recover",
                ) from error
            reason = getattr(error, "strerror", None) or error
            raise StoreError(
                f"cannot use the store '{self._path}': {reason}",
                hint or f"what was finished is kept; mend the cause, then: bowout fleet resume --store {self._path}",
            ) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Run a block in one transaction.

        Raises:
            StoreError: it could not be committed, or the file was removed or replaced.
        """
        with self._explained():
            self._check_there()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _check_there(self) -> None:
        """Refuse to go on when the file is gone: the kernel would take every write, and nothing would be left."""
        try:
            now = self._path.stat()
        except FileNotFoundError:
            now = None
        if now is None or (now.st_dev, now.st_ino) != (self._file.st_dev, self._file.st_ino):
            raise StoreError(
                f"the store '{self._path}' was removed or replaced while it was in use",
                "nothing of it is kept but what you have as a copy: put the copy back and resume it, or begin again",
            )

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
            self._db.execute("UPDATE run SET options = ?", (json.dumps(dict(options)),))

    def add(self, endpoints: Iterable[Endpoint]) -> int:
        """Add targets, as they come; return the number of those that were not there yet."""
        added = 0
        for rows in new_targets(endpoints):
            with self._writing():
                before = self._db.total_changes
                self._db.executemany(f"{_INSERT_TARGET} ON CONFLICT(host, port, starttls, protocol) DO NOTHING", rows)
                added += self._db.total_changes - before
        return added

    def loaded(self) -> None:
        """Write down that all targets are there: only then may they be probed, in random order."""
        with self._writing():
            self._db.execute("UPDATE run SET loaded = 1")

    def unresolved(self, after: int, limit: int, *, now: float) -> list[Endpoint]:
        """Return waiting targets without an address whose time has come, by id, beginning after `after`."""
        return self._targets("network = '' AND id > ? AND not_before <= ?", (after, now), limit)

    def resolved(self, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """Write down the addresses and networks of targets; return those that may be probed at once: all of them."""
        with self._writing():
            self._place(endpoints)
        return list(endpoints)

    def _place(self, endpoints: Sequence[Endpoint]) -> None:
        self._db.executemany(
            "UPDATE target SET address = ?, network = ?, addresses = ? WHERE id = ?",
            [(each.address, each.network, " ".join(each.addresses), each.id) for each in endpoints],
        )

    def waiting(self, after: int, limit: int, *, now: float, network: str | None = None) -> list[Endpoint]:
        """Return waiting targets whose time has come, by id, beginning after `after`; of one `network`, or of all.

        Names that were not looked up are among all of them.
        """
        where = "id > ? AND not_before <= ?"
        if network is None:
            return self._targets(where, (after, now), limit)
        return self._targets(where + " AND network = ?", (after, now, network), limit)

    def _targets(self, where: str, values: tuple[object, ...], limit: int) -> list[Endpoint]:
        with self._explained():
            rows = self._db.execute(
                f"SELECT {_TARGET} FROM target WHERE state = {WAITING} AND {where} ORDER BY id LIMIT ?",
                (*values, limit),
            ).fetchall()
        return [endpoint_of(row) for row in rows]

    def networks(self, now: float) -> Iterator[tuple[str, int]]:
        """Yield each network with waiting targets, and their number, in an order of no meaning.

        It makes an index first, with which `waiting` finds the targets of one network.
        """
        with self._writing():
            self._db.execute(NETWORK_INDEX)
        with self._explained():
            yield from self._db.execute(
                f"SELECT network, count(*) FROM target WHERE state = {WAITING} AND network <> '' AND not_before <= ?"
                " GROUP BY network",
                (now,),
            )

    def next_attempt(self) -> float | None:
        """Return the earliest time, in Unix time, at which a waiting target may be tried; None if none waits."""
        with self._explained():
            earliest: float | None = self._db.execute(
                f"SELECT min(not_before) FROM target WHERE state = {WAITING}"
            ).fetchone()[0]
        return earliest

    # -- results -------------------------------------------------------------------------------------------------------

    def record(
        self,
        finished: Sequence[Finished],
        *,
        retry_at: Mapping[int, float] | None = None,
        moved: Sequence[Endpoint] = (),
    ) -> None:
        """Write reports, and mark their targets as finished, in one transaction.

        Args:
            finished: targets and their reports, JSON of version 1.
            retry_at: for targets that are to be tried again, by their ids, the earliest time for it.
            moved: targets that are to be tried at another address, which is in them.

        Raises:
            StoreError: nothing of it was written.
        """
        at = time.time()
        with self._writing():
            self._place(moved)
            self._db.executemany(
                "UPDATE target SET attempts = attempts + 1, not_before = ? WHERE id = ?",
                [(when, target) for target, when in (retry_at or {}).items()],
            )
            self._db.executemany(
                f"UPDATE target SET state = {FINISHED} WHERE id = ?", [(each.id,) for each, _ in finished]
            )
            self._db.executemany(
                _INSERT_RESULT,
                ((RUN, each.id, *row) for each, report in finished for row in rows_of(each, report, at)),
            )

    def counts(self) -> dict[str, Any]:
        """Count targets by state, endpoints and findings by verdict."""
        with self._explained():
            one = self._db.execute(
                "SELECT count(*), coalesce(sum(state), 0), coalesce(sum(state = 0 AND attempts > 0), 0) FROM target"
            ).fetchone()
            verdicts = self._db.execute(
                "SELECT verdict, count(*) FROM result WHERE probe = ? GROUP BY verdict", (WHOLE,)
            ).fetchall()
        return counts_of(one, verdicts)

    def reports(self, verdicts: Sequence[str] | None = None, limit: int = -1) -> Iterator[dict[str, Any]]:
        """Yield the reports, JSON of version 1, one at a time.

        Args:
            verdicts: only endpoints with one of these, in the order of these; None for all, in order of their ids.
            limit: the number of reports at most; -1 for all.
        """
        if verdicts is None:
            chosen = "SELECT id AS target, 0 AS place FROM target WHERE state = 1 ORDER BY id LIMIT ?"
            values: tuple[object, ...] = (limit,)
        else:
            places = " ".join("WHEN ? THEN ?" for _ in verdicts)
            marks = ", ".join("?" * len(verdicts))
            chosen = (
                f"SELECT target, CASE verdict {places} END AS place FROM result"
                f" WHERE probe = '{WHOLE}' AND verdict IN ({marks}) ORDER BY place, target LIMIT ?"
            )
            numbered = itertools.chain.from_iterable((verdict, place) for place, verdict in enumerate(verdicts))
            values = (*numbered, *verdicts, limit)
        with self._explained():
            rows = self._db.execute(
                f"SELECT chosen.target, {', '.join('result.' + name for name in COLUMNS)}"
                f" FROM ({chosen}) AS chosen JOIN result ON result.target = chosen.target"
                " ORDER BY chosen.place, chosen.target, result.rowid",
                values,
            )
            yield from reports_of(rows)

    def differences(self, other: Path) -> Iterator[tuple[Endpoint, str, str | None, str | None]]:
        """Yield what is different in the store `other`: endpoint, probe, the verdict here, the verdict there.

        Only endpoints that at least one of them has finished count; a verdict that a store lacks is None.
        """
        with self._explained():
            self._db.execute("ATTACH ? AS other", (_to_read(other),))
            try:
                for host, port, starttls, protocol, probe, here, there in self._db.execute(_DIFFERENCES):
                    yield Endpoint(host, port, starttls or None, protocol=protocol or None), probe, here, there
            finally:
                self._db.execute("DETACH other")


def _to_write(path: Path, *, create: bool) -> str:
    return f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"


def _to_read(path: Path) -> str:
    """Return the URI to read a store, also from a medium on which SQLite cannot make its files beside it."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    alone = not path.with_name(path.name + "-wal").exists()  # Then nobody writes, and all of it is in the file.
    return uri + "&immutable=1" if alone and not os.access(path.absolute().parent, os.W_OK) else uri


def _lacking(here: str, there: str, columns: str, condition: str) -> str:
    """Return the findings of the schema `here` beside those of `there`, as SQL."""
    return (
        f"SELECT t.host AS host, t.port AS port, t.starttls AS starttls, t.protocol AS protocol, a.probe AS probe,"
        f" {columns}"
        f" FROM {here}.result AS a JOIN {here}.target AS t ON t.id = a.target"
        f" LEFT JOIN {there}.target AS u ON u.host = t.host AND u.port = t.port AND u.starttls = t.starttls"
        " AND u.protocol = t.protocol"
        f" LEFT JOIN {there}.result AS b ON b.target = u.id AND b.probe = a.probe WHERE {condition}"
    )


_DIFFERENCES: Final = (
    _lacking("main", "other", "a.verdict, b.verdict", "a.verdict IS NOT b.verdict")
    + " UNION ALL "
    + _lacking("other", "main", "NULL, a.verdict", "b.verdict IS NULL")
    + " ORDER BY host, port, starttls, protocol, probe"
)
