"""The store of a fleet: what it keeps, and what it says when it cannot."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from bowout.fleet import Endpoint, Store, StoreError, parse_endpoint
from helpers.fleets import a_report, fill


def waiting(store: Store, limit: int = 1000) -> list[Endpoint]:
    return store.waiting(-1, limit, now=1e12)


def test_a_report_comes_back_as_it_was(tmp_path: Path) -> None:
    fill(tmp_path / "run.db", 1)
    with Store(tmp_path / "run.db", write=True) as store:
        (endpoint,) = waiting(store)
        report = a_report(endpoint, "WARN")
        store.record([(endpoint, report)])
        (back,) = store.reports()
    kept = {each["probe"]: each.pop("ending") for each in back["findings"]}
    assert kept["answers"] == {"how": "clean"}  # kept, since it is a WARN
    for finding in report["findings"]:
        finding.pop("ending")
    assert back == report


def test_endings_are_kept_for_bad_verdicts_and_for_a_sample(tmp_path: Path) -> None:
    with Store(tmp_path / "run.db", write=True, create=True) as store:
        store.record([(Endpoint("a", 1, None, number), a_report(Endpoint("a", 1))) for number in range(200)])
    rows = sqlite3.connect(tmp_path / "run.db")
    try:
        kept = rows.execute("SELECT DISTINCT target FROM result WHERE ending IS NOT NULL ORDER BY 1").fetchall()
    finally:
        rows.close()
    assert kept == [(0,), (100,)]


def test_the_same_target_twice_is_one(tmp_path: Path) -> None:
    with Store(tmp_path / "run.db", write=True, create=True) as store:
        lines = ["a.example", "A.example:443", "a.example:443 smtp", "a.example:444"]
        assert store.add(parse_endpoint(line) for line in lines) == 3
        assert store.counts()["targets"] == 3


def test_the_order_is_random(tmp_path: Path) -> None:
    fill(tmp_path / "run.db", 100)
    with Store(tmp_path / "run.db") as store:
        hosts = [each.host for each in waiting(store)]
    assert hosts != sorted(hosts)
    assert len(set(hosts)) == 100


def test_what_could_not_be_written_waits(tmp_path: Path) -> None:
    fill(tmp_path / "run.db", 2)
    with Store(tmp_path / "run.db", write=True) as store:
        first, second = waiting(store)
        store.record([(first, a_report(first))])
        with pytest.raises(StoreError):  # Its rows are there already: the whole transaction is undone.
            store.record([(second, a_report(second)), (first, a_report(first))])
        assert waiting(store) == [second]
        assert store.counts()["verdicts"] == {"OK": 1}


def test_there_is_one_writer_and_readers_are_not_kept_out(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    fill(path, 1)
    with Store(path, write=True) as writer:
        with pytest.raises(StoreError, match="another process writes"), Store(path, write=True):
            pass
        (endpoint,) = waiting(writer)
        writer.record([(endpoint, a_report(endpoint))])
        with Store(path) as reader:
            assert reader.counts()["finished"] == 1
    with Store(path, write=True):
        pass


def damage(path: Path, how: str) -> None:
    if how == "version":
        other = sqlite3.connect(path)
        other.execute("PRAGMA user_version = 99")
        other.close()
    elif how == "another database":
        path.unlink()
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE t(x)")
        other.close()
    elif how == "another version of nothing":
        path.unlink()
        other = sqlite3.connect(path)
        other.execute("PRAGMA user_version = 7")
        other.close()
    elif how == "damaged":
        path.write_bytes(path.read_bytes()[:4096] + b"?" * 4096 + path.read_bytes()[8192:])
    else:
        path.write_bytes(b"no database at all, and longer than a header of SQLite is" * 100)


@pytest.mark.parametrize(
    ("how", "said", "hint"),
    [
        ("version", "version 99", "nothing in it was changed"),
        ("another database", "not a store", "name another file"),
        ("another version of nothing", "not a store", "name another file"),
        ("text", "not a store", "name another file"),
    ],
)
@pytest.mark.parametrize("write", [False, True])
def test_a_store_that_is_none_is_refused_and_left_alone(
    tmp_path: Path, how: str, said: str, hint: str, write: bool
) -> None:
    path = tmp_path / "run.db"
    fill(path, 1)
    damage(path, how)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=said) as caught, Store(path, write=write):
        pass
    assert hint in caught.value.hint
    assert path.read_bytes() == before


def test_a_damaged_store_can_be_recovered(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    fill(path, 100)
    damage(path, "damaged")
    with pytest.raises(StoreError, match="is damaged") as caught, Store(path) as store:
        store.run()
    assert ".recover" in caught.value.hint


@pytest.mark.parametrize("statements", [(), ("PRAGMA journal_mode = WAL",)])
def test_a_kill_before_the_tables_are_there_leaves_a_store_to_begin(
    tmp_path: Path, statements: tuple[str, ...]
) -> None:
    path = tmp_path / "run.db"
    path.touch()
    killed = sqlite3.connect(path)
    for statement in statements:
        killed.execute(statement)
    killed.close()
    with pytest.raises(StoreError, match="is empty") as caught, Store(path):
        pass
    assert "bowout fleet run" in caught.value.hint
    fill(path, 3)
    with Store(path) as store:
        assert store.counts()["targets"] == 3


def test_the_tables_of_a_store_come_all_at_once(tmp_path: Path) -> None:
    """A kill at any step of the making of a store leaves an empty one, or a whole one."""
    path = tmp_path / "run.db"
    seen: set[str] = set()

    def look(*_: object) -> None:
        copy = tmp_path / "copy.db"
        for suffix in ("", "-wal"):
            there = path.with_name(path.name + suffix)
            copied = copy.with_name(copy.name + suffix)
            copied.write_bytes(there.read_bytes()) if there.exists() else copied.unlink(missing_ok=True)
        try:
            with Store(copy) as store:
                seen.add(f"{store.counts()['targets']} targets")
        except StoreError as error:
            seen.add("empty" if "is empty" in str(error) else str(error))

    connect = sqlite3.connect

    def watched(name: str, **options: Any) -> sqlite3.Connection:
        database: sqlite3.Connection = connect(name, **options)
        if "copy" not in name:
            database.set_trace_callback(look)
        return database

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", watched)
        fill(path, 2)
    look()
    assert seen == {"empty", "0 targets", "2 targets"}


def test_a_full_disk_says_what_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    fill(path, 50)
    with Store(path, write=True) as store:
        endpoints = waiting(store)
        store.record([(endpoints[0], a_report(endpoints[0]))])
        store._db.execute("PRAGMA max_page_count = 1")  # SQLite's own way to have no room: SQLITE_FULL
        big: dict[str, Any] = {"tls": "x" * 1_000_000}
        with pytest.raises(StoreError, match="full") as caught:
            store.record([(each, a_report(each, **big)) for each in endpoints[1:]])
        assert "what was finished is kept" in caught.value.hint
        assert "resume" in caught.value.hint
        assert store.counts()["finished"] == 1


def test_a_store_that_was_removed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    fill(path, 2)
    with Store(path, write=True) as store:
        (endpoint, _) = waiting(store)
        path.rename(tmp_path / "elsewhere.db")
        with pytest.raises(StoreError, match="removed or replaced"):
            store.record([(endpoint, a_report(endpoint))])


def test_no_store_is_made_where_one_is_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"), Store(tmp_path / "run.db"):
        pass
    assert [*tmp_path.iterdir()] == []


def test_reports_by_verdict_come_worst_first(tmp_path: Path) -> None:
    fill(tmp_path / "run.db", 4)
    with Store(tmp_path / "run.db", write=True) as store:
        given = ["OK", "WARN", "DATA-LOSS", "WARN"]
        store.record([(each, a_report(each, verdict)) for each, verdict in zip(waiting(store), given, strict=True)])
        assert [each["verdict"] for each in store.reports(["DATA-LOSS", "WARN"])] == ["DATA-LOSS", "WARN", "WARN"]
        assert [each["verdict"] for each in store.reports(["DATA-LOSS", "WARN"], 2)] == ["DATA-LOSS", "WARN"]
        assert len([*store.reports()]) == 4


def finish(path: Path, verdicts: dict[str, str]) -> None:
    with Store(path, write=True, create=True) as store:
        store.add(parse_endpoint(line) for line in verdicts)
        named = {each.host: each for each in waiting(store) or []} or {}
        for each in store.unresolved(-1, 100, now=1e12):
            named[each.host] = each
        store.record([(named[host], a_report(named[host], verdict)) for host, verdict in verdicts.items()])


def test_the_differences_of_two_stores(tmp_path: Path) -> None:
    finish(tmp_path / "a.db", {"same": "OK", "worse": "OK", "gone": "WARN"})
    finish(tmp_path / "b.db", {"same": "OK", "worse": "FAIL", "new": "OK"})
    with Store(tmp_path / "a.db") as store:
        found = [(where.host, probe, a, b) for where, probe, a, b in store.differences(tmp_path / "b.db")]
    assert found == [
        ("gone", "answers", "WARN", None),
        ("gone", "endpoint", "WARN", None),
        ("gone", "reply-end", "OK", None),
        ("new", "answers", None, "OK"),
        ("new", "endpoint", None, "OK"),
        ("new", "reply-end", None, "OK"),
        ("worse", "answers", "OK", "FAIL"),
        ("worse", "endpoint", "OK", "FAIL"),
    ]


def test_text_that_is_no_unicode_is_stored_escaped(tmp_path: Path) -> None:
    fill(tmp_path / "run.db", 1)
    with Store(tmp_path / "run.db", write=True) as store:
        (endpoint,) = waiting(store)
        report = a_report(endpoint)
        report["findings"][0]["says"] = "half \ud800"
        store.record([(endpoint, report)])
        assert next(store.reports())["findings"][0]["says"] == "half \\ud800"


def test_a_store_on_a_medium_that_cannot_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(tmp_path / "a.db", {"same": "OK", "worse": "OK"})
    finish(tmp_path / "b.db", {"same": "OK", "worse": "FAIL"})
    monkeypatch.setattr("os.access", lambda *_: False)
    with Store(tmp_path / "a.db") as store:
        assert store.counts()["finished"] == 2
        assert [where.host for where, *_ in store.differences(tmp_path / "b.db")] == ["worse"] * 2
        assert not (tmp_path / "a.db-shm").exists()
