"""The tables of a store, in SQL, and its version."""

from __future__ import annotations

from typing import Final

#: Version of the tables, in ``PRAGMA user_version``. A store of another version is refused.
VERSION: Final = 2
#: What ``PRAGMA application_id`` of a store is: "bowo". So no other database is taken for one.
APPLICATION: Final = 0x626F776F

#: `state` of a target: it waits, or is finished.
WAITING: Final = 0
FINISHED: Final = 1
#: The row of `result` with the whole report but its findings, in `facts`.
WHOLE: Final = "endpoint"

#: The ids of targets are random, so that their order is, too: no network gets all its probes in a row.
TABLES: Final = """
CREATE TABLE run(
    id INTEGER PRIMARY KEY, began REAL NOT NULL, tool TEXT NOT NULL, probes TEXT NOT NULL, vantage TEXT NOT NULL,
    options TEXT NOT NULL, loaded INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE target(
    id INTEGER PRIMARY KEY, host TEXT NOT NULL, port INTEGER NOT NULL, starttls TEXT NOT NULL DEFAULT '',
    protocol TEXT NOT NULL DEFAULT '', network TEXT NOT NULL DEFAULT '', address TEXT,
    addresses TEXT NOT NULL DEFAULT '', state INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0, UNIQUE(host, port, starttls, protocol)
);
CREATE INDEX target_waiting ON target(id) WHERE state = 0;
CREATE TABLE result(
    run INTEGER NOT NULL, target INTEGER NOT NULL, probe TEXT NOT NULL, at REAL NOT NULL, verdict TEXT NOT NULL,
    says TEXT NOT NULL, rule TEXT NOT NULL DEFAULT '', runs INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0, seconds REAL NOT NULL DEFAULT 0, facts TEXT NOT NULL DEFAULT '{}', ending BLOB,
    UNIQUE(target, probe, run)
);
"""

#: What finds the targets of one network: only shards of whole networks need it.
NETWORK_INDEX: Final = "CREATE INDEX IF NOT EXISTS target_network ON target(network, id) WHERE state = 0"
#: The tables on PostgreSQL, with the networks that runners hold. Times are in seconds of Unix time.
POSTGRES_TABLES: Final = """
CREATE TABLE bowout_fleet(version INTEGER NOT NULL);
CREATE TABLE run(
    id INTEGER PRIMARY KEY, began DOUBLE PRECISION NOT NULL, tool TEXT NOT NULL, probes TEXT NOT NULL,
    vantage TEXT NOT NULL, options TEXT NOT NULL, loaded INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE network(
    name TEXT PRIMARY KEY, holder TEXT NOT NULL DEFAULT '', leased_until DOUBLE PRECISION NOT NULL DEFAULT 0
);
CREATE TABLE target(
    id BIGINT PRIMARY KEY, host TEXT NOT NULL, port INTEGER NOT NULL, starttls TEXT NOT NULL DEFAULT '',
    protocol TEXT NOT NULL DEFAULT '', network TEXT NOT NULL DEFAULT '', address TEXT,
    addresses TEXT NOT NULL DEFAULT '', state INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
    not_before DOUBLE PRECISION NOT NULL DEFAULT 0, holder TEXT NOT NULL DEFAULT '',
    UNIQUE(host, port, starttls, protocol)
);
CREATE INDEX target_waiting ON target(network, id) WHERE state = 0;
CREATE TABLE result(
    rowid BIGINT GENERATED ALWAYS AS IDENTITY, run INTEGER NOT NULL, target BIGINT NOT NULL, probe TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL, verdict TEXT NOT NULL, says TEXT NOT NULL, rule TEXT NOT NULL,
    runs INTEGER NOT NULL, lost INTEGER NOT NULL, seconds DOUBLE PRECISION NOT NULL, facts TEXT NOT NULL, ending BYTEA,
    UNIQUE(target, probe, run)
);
"""
