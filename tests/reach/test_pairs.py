"""Client and server libraries that talk to each other, both over bowout on one loop: both endings are clean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bowout import How
from helpers.commands import ca_file
from helpers.serving import cert_file
from helpers.tiers import repeats
from helpers.wire import VERSIONS, Version, server_context
from reach import clients, servers
from reach.observing import require
from reach.registry import ServerStage, Talk
from reach.registry import clients as client_scenarios
from reach.test_clients import LARGE, MAIL
from reach.ways import ASYNCIO_WAYS, LibraryWay

#: Client, server, the path there, what is sent, and what comes back; None for something that is not compared.
PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any], str, bytes, bytes | None]] = {
    "aiohttp": (clients.aiohttp_post, servers.aiohttp_server, "/upload", LARGE, LARGE),
    "aiohttp WebSocket": (clients.aiohttp_websocket, servers.aiohttp_server, "/ws", LARGE, LARGE),
    "uvicorn": (clients.aiohttp_post, servers.uvicorn_server, "/upload", LARGE, LARGE),
    "hypercorn": (clients.aiohttp_post, servers.hypercorn_server, "/upload", LARGE, LARGE),
    "websockets": (clients.websockets_client, servers.websockets_server, "/", LARGE, LARGE),
    "websockets (legacy)": (
        clients.websockets_legacy_client,
        servers.websockets_legacy_server,
        "/",
        LARGE,
        LARGE,
    ),
    "SMTP over TLS": (clients.aiosmtplib_over_tls, servers.aiosmtpd_over_tls, "", MAIL, None),
    "STARTTLS": (clients.aiosmtplib_starttls, servers.aiosmtpd_starttls, "", MAIL, None),
}


def combinations() -> list[Any]:
    return [
        pytest.param(pair, way, version, id=f"{pair}-{way.means}-{way.loop}-{version}")
        for pair in PAIRS
        for way in ASYNCIO_WAYS
        if way.ours and not (pair == "STARTTLS" and way.means == "bowout")  # see INSTALLED_WAYS
        for version in VERSIONS
        if not repeats(way.loop, version)
    ]


@pytest.mark.parametrize(("pair", "way", "version"), combinations())
def test_both_sides_end_well(pair: str, way: LibraryWay, version: Version) -> None:
    client, server, path, sent, returned = PAIRS[pair]
    for scenario in client_scenarios():
        if scenario.function is client:
            require(scenario, way)

    async def main() -> bytes:
        stage = ServerStage(server_context(version), cert_file(), lambda: None, lambda _: None)
        async with server(stage) as port:
            talk = Talk("localhost", port, ca_file(), way.ours, path, sent)
            answer: bytes = await client(talk)
            return answer

    played = way.play(main)
    assert (played.error, played.complaints, played.tracebacks) == (None, [], [])
    assert returned is None or played.value == returned
    assert [ending.how for ending in played.endings] == [How.CLEAN, How.CLEAN]
