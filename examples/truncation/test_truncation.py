"""Which truncations does a client hide? ``pytest examples/truncation`` shows it.

A known hidden truncation is a strict xfail, unless it depends on the version of CPython: so the test fails when a
client becomes better, or worse.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from answers import BODY, ENDS, End, answer, close_notify, rst
from clients import CLIENTS

from pytest_bowout import TLSPeers


def is_hidden(client: str, end: End) -> bool:
    """Return whether `client` is known to take half a body for a whole one, if only the connection's end marks it."""
    return client != "bowout" and (client, end) != ("asyncio streams", rst)


def hangs_on_python(client: str, end: End) -> bool:
    """Return whether it does so only with some CPythons: `SSLSocket` takes a reset for an end before gh-115627."""
    return client in {"requests", "urllib"} and end is rst


def cases() -> Iterator[Any]:
    for client in CLIENTS:
        for end in ENDS:
            strict = not hangs_on_python(client, end)
            known = [pytest.mark.xfail(reason="hidden", strict=strict)] if is_hidden(client, end) else []
            yield pytest.param(client, end, id=f"{client}-{end.__name__}", marks=known)


@pytest.mark.parametrize(("client", "end"), list(cases()))
def test_half_an_answer_is_an_error(tls_peer: TLSPeers, tls_ca_file: Path, client: str, end: End) -> None:
    peer = tls_peer(answer("the end of the connection", end), connections=None)
    with pytest.raises(Exception):  # noqa: B017, PT011  (each client has its own errors, and any is right)
        CLIENTS[client](peer.host, peer.port, str(tls_ca_file))


@pytest.mark.parametrize("client", list(CLIENTS))
def test_a_whole_answer_is_none(tls_peer: TLSPeers, tls_ca_file: Path, client: str) -> None:
    peer = tls_peer(answer("the end of the connection", close_notify, BODY), connections=None)
    assert CLIENTS[client](peer.host, peer.port, str(tls_ca_file)) == BODY
