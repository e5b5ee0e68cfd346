"""Client libraries with the real servers that they are for: Redis and PostgreSQL, in Debian's packages."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bowout import How
from helpers.commands import ca_file
from helpers.peers import require_module
from helpers.starttls_servers import Home, postgres
from helpers.tiers import repeats
from helpers.wire import VERSIONS, Version, authority, client_context
from reach.daemons import redis
from reach.ways import ASYNCIO_WAYS, LibraryRun, LibraryWay

LARGE = b"all that there is to say\n" * 120_000


@dataclass(frozen=True)
class Daemon:
    """A server that runs.

    Attributes:
        port: where it listens.
        log: what it says.
    """

    port: int
    log: Path

    def said(self, pattern: str) -> list[str]:
        """The lines of its log with the pattern."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if re.search(pattern, line)]


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Daemon]:
    with Home.create(authority()) as home, redis(home) as ports:
        yield Daemon(ports["redis"], home.path / "output.log")


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[Daemon]:
    with Home.create(authority()) as home, postgres(home) as ports:
        yield Daemon(ports["postgres"], home.path / "output.log")


def combinations() -> list[Any]:
    return [
        pytest.param(way, version, id=f"{way.means}-{way.loop}-{version}")
        for way in ASYNCIO_WAYS
        for version in VERSIONS
        if not repeats(way.loop, version) and (way.ours or version == "1.3")
    ]


each_way = pytest.mark.parametrize(("way", "version"), combinations())


def play(way: LibraryWay, main: Callable[[], Awaitable[Any]], *, how: How) -> LibraryRun:
    """Run what makes one connection: nothing is left over, and with bowout it ends in this way."""
    played = way.play(main)
    assert played.error is None, played.error
    if way.ours:
        assert (played.complaints, played.tracebacks) == ([], [])
        assert [ending.how for ending in played.endings] == [how]
    return played


# -- Redis ------------------------------------------------------------------------------------------------------------


def redis_client(daemon: Daemon, version: Version) -> Any:
    import redis.asyncio  # noqa: PLC0415 only its tests import it

    pins = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
    options: dict[str, Any] = {"ssl_ca_certs": ca_file(), "ssl_min_version": pins[version]}
    return redis.asyncio.Redis(host="localhost", port=daemon.port, ssl=True, **options)


@each_way
def test_redis_gives_back_what_it_got(redis_server: Daemon, way: LibraryWay, version: Version) -> None:
    require_module("redis")
    way.require()

    async def main() -> tuple[bytes, int]:
        async with redis_client(redis_server, version) as client:
            await client.set("large", LARGE)
            async with client.pipeline() as pipeline:
                for number in range(100):
                    pipeline.rpush(f"list-{way}-{version}", b"%d" % number)
                results = await pipeline.execute()
            return await client.get("large"), results[-1]

    # Redis does not answer a close_notify. It logs it as an error 0, and a bare FIN by its name.
    assert play(way, main, how=How.UNANSWERED).value == (LARGE, 100)
    assert redis_server.said("Reading from client: error:00000000")
    assert redis_server.said("(Reading from|writing to) client: (?!error:00000000)") == []


@each_way
def test_a_connection_that_redis_ends_is_replaced(redis_server: Daemon, way: LibraryWay, version: Version) -> None:
    require_module("redis")
    way.require()

    async def main() -> bytes:
        async with redis_client(redis_server, version) as victim, redis_client(redis_server, version) as killer:
            await victim.set("key", b"value")
            await killer.client_kill_filter(_id=await victim.client_id())
            value: bytes = await victim.get("key")
            return value

    played = way.play(main)
    assert (played.value, played.error) == (b"value", None)
    assert not way.ours or (played.complaints, played.tracebacks) == ([], [])


# -- PostgreSQL -------------------------------------------------------------------------------------------------------


def postgres_client(daemon: Daemon, version: Version) -> Any:
    import asyncpg  # noqa: PLC0415 only its tests import it

    return asyncpg.connect(
        host="localhost", port=daemon.port, user="bowout", database="postgres", ssl=client_context(version)
    )


@each_way
def test_postgresql_gives_back_what_it_got(postgres_server: Daemon, way: LibraryWay, version: Version) -> None:
    require_module("asyncpg")
    way.require()
    text = LARGE.decode()

    async def main() -> tuple[str, str, int, int]:
        connection = await postgres_client(postgres_server, version)
        tls = await connection.fetchval("select version from pg_stat_ssl where pid = pg_backend_pid()")
        same = await connection.fetchval("select $1::text", text)
        await connection.execute("create temporary table t (a text)")
        await connection.copy_records_to_table("t", records=[("y" * 200,)] * 20_000)
        rows = await connection.fetch("select a from t")
        await connection.close()
        return tls, same, len(rows), sum(len(row["a"]) for row in rows)

    assert play(way, main, how=How.CLEAN).value == (f"TLSv{version}", text, 20_000, 4_000_000)
    assert postgres_server.said("could not (receive|send) data|unexpected EOF|SSL error") == []


@each_way
def test_a_query_that_takes_too_long_is_cancelled_over_tls(
    postgres_server: Daemon, way: LibraryWay, version: Version
) -> None:
    """asyncpg does that over a second connection, which the server ends."""
    require_module("asyncpg")
    way.require()

    async def main() -> int:
        connection = await postgres_client(postgres_server, version)
        with pytest.raises(asyncio.TimeoutError):
            await connection.fetchval("select pg_sleep(600)", timeout=0.2)
        value: int = await connection.fetchval("select 7")
        await connection.close()
        return value

    assert way.play(main).value == 7


@each_way
def test_a_connection_that_postgresql_ends_is_an_error(
    postgres_server: Daemon, way: LibraryWay, version: Version
) -> None:
    require_module("asyncpg")
    way.require()

    async def main() -> str:
        import asyncpg  # noqa: PLC0415 only its tests import it

        connection = await postgres_client(postgres_server, version)
        try:
            await connection.fetchval("select pg_terminate_backend(pg_backend_pid())")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            return type(error).__name__
        finally:
            await connection.close()
        return "nothing"

    played = way.play(main)
    assert played.value in {"AdminShutdownError", "ConnectionDoesNotExistError"}
    assert not way.ours or (played.complaints, played.tracebacks) == ([], [])
