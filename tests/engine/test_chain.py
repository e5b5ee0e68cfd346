"""The peer's certificates, on every Python: with the public methods, with the private ones, and with neither."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import trustme

from bowout._core.chain import sent_chain, verified_chain
from helpers.engines import contexts, pair


class FakeCertificate:
    """What the private methods give."""

    def __init__(self, der: bytes) -> None:
        self._der = der

    def public_bytes(self, kind: int) -> bytes:
        """Its DER."""
        assert kind == 2
        return self._der


class Inner:
    """The private object of C."""

    def get_unverified_chain(self) -> list[FakeCertificate]:
        """As sent."""
        return [FakeCertificate(b"leaf"), FakeCertificate(b"authority")]

    def get_verified_chain(self) -> None:
        """Nothing is known."""


class OldTls:
    """Python 3.11 and 3.12."""

    _sslobj = Inner()


class NewTls:
    """Python 3.13 and later."""

    def get_unverified_chain(self) -> list[bytes]:
        """As sent."""
        return [b"leaf"]

    def get_verified_chain(self) -> list[bytes]:
        """As trusted."""
        return [b"leaf", b"root"]


class BareTls:
    """A Python that has neither."""

    def __init__(self, leaf: bytes | ValueError | None) -> None:
        self._leaf = leaf

    def getpeercert(self, *, binary_form: bool) -> bytes | None:
        """The leaf, as DER."""
        assert binary_form
        if isinstance(self._leaf, ValueError):
            raise self._leaf
        return self._leaf


@pytest.mark.parametrize(
    ("tls", "sent", "verified"),
    [
        (OldTls(), [b"leaf", b"authority"], []),
        (NewTls(), [b"leaf"], [b"leaf", b"root"]),
        (BareTls(b"leaf"), [b"leaf"], []),
        (BareTls(None), [], []),
        (BareTls(ValueError("handshake not done yet")), [], []),
    ],
)
def test_every_python(tls: Any, sent: list[bytes], verified: list[bytes]) -> None:
    assert (sent_chain(tls), verified_chain(tls)) == (sent, verified)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_this_python(ca: trustme.CA, version: Any) -> None:
    client, server = contexts(ca, version)
    intermediate = ca.create_child_ca()
    intermediate.issue_cert("localhost", "peer.example").configure_cert(server)
    client.check_hostname = False
    two = pair(client, server)
    assert sent_chain(two.client.tls) == []
    two.shake_hands()
    chain = sent_chain(two.client.tls)
    assert len(chain) == 2
    root = ssl.PEM_cert_to_DER_cert(ca.cert_pem.bytes().decode())
    assert verified_chain(two.client.tls) == [*chain, root]
