"""OpenSSL's part of a handshake, which a script may stop; what the other side still sends is read nevertheless.

OpenSSL then gets each of those records, so that the later keys become known. Its answers are never sent.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Final

from bowout._core.records import HEADER_SIZE
from bowout._scripted.records import Direction, Record, Suite, tls12, tls13
from bowout._tls_numbers import (
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    FINISHED,
    HANDSHAKE,
    SERVER_HELLO,
    TLS12_NAME,
)
from bowout.ending import Role

if TYPE_CHECKING:
    from collections.abc import Callable

#: The random of a ServerHello that requests another ClientHello (RFC 8446 section 4.1.3).
_HELLO_RETRY: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
#: Position of a Hello's random in its record: after the record header, the message header and the version.
RANDOM: Final = slice(11, 43)
_SUITES13: Final = {
    b"\x13\x01": "TLS_AES_128_GCM_SHA256",
    b"\x13\x02": "TLS_AES_256_GCM_SHA384",
    b"\x13\x03": "TLS_CHACHA20_POLY1305_SHA256",
}

Secrets = dict[str, bytes]


def is_server_hello(data: bytes) -> bool:
    """Tell whether `data` begins with a ServerHello, and not with a request for another ClientHello."""
    return data[:1] == bytes([HANDSHAKE]) and data[HEADER_SIZE:][:1] == bytes([SERVER_HELLO]) and (
        data[RANDOM] != _HELLO_RETRY
    )  # fmt: skip


def suite13(server_hello: bytes) -> Suite:
    """Return the suite that a ServerHello of TLS 1.3 chose."""
    session_id = server_hello[43]
    return Suite.of(_SUITES13[server_hello[44 + session_id : 46 + session_id]])


class OpenSSLSide:
    """OpenSSL over two MemoryBIOs, for the handshake."""

    def __init__(self, context: ssl.SSLContext, role: Role, server_hostname: str | None) -> None:
        self.incoming: ssl.MemoryBIO = ssl.MemoryBIO()
        self.outgoing: ssl.MemoryBIO = ssl.MemoryBIO()
        server = role is Role.SERVER
        name = None if server else server_hostname
        self.tls: ssl.SSLObject = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server, server_hostname=name
        )


class Unfinished:
    """The other side's half of a handshake that we do not continue.

    Args:
        openssl: our half of the handshake.
        secrets: returns the secrets that the key log has by now.
        role: our role.
        hellos: the two Hellos, as records; the ServerHello is empty until it has come.

    Attributes:
        reader: opens the next record; None while they are in plain text, or if the keys are unknown.
        over: whether the other side has finished its handshake, so that application data and the like follow.
    """

    def __init__(
        self,
        openssl: OpenSSLSide,
        *,
        secrets: Callable[[], Secrets],
        role: Role,
        hellos: tuple[bytes, bytes],
    ) -> None:
        self._openssl, self._secrets, self._role = openssl, secrets, role
        self._client_hello, self._server_hello = hellos
        self._they = "SERVER" if role is Role.CLIENT else "CLIENT"
        self._ciphered = False
        self.over: bool = False
        self.reader: Direction | None = None
        if f"{self._they}_TRAFFIC_SECRET_0" in self._secrets():  # OpenSSL has already read the other side's Finished
            self._use_application_keys13()
        else:
            self._use_handshake_keys()

    def is_protected(self, record: Record) -> bool:
        """Tell whether a record is encrypted with unknown keys."""
        plain_alert = record.content_type not in {APPLICATION_DATA, HANDSHAKE} and len(record.body) == 2
        return record.content_type == APPLICATION_DATA or (self._ciphered and not plain_alert)

    def follow(self, record: Record, messages: tuple[int, ...] = ()) -> None:
        """Process a record of the other side, and the handshake messages that ended in it."""
        if record.content_type == CHANGE_CIPHER_SPEC:
            self._ciphered = True
        if self._role is Role.CLIENT and not self._server_hello and is_server_hello(record.raw):
            self._server_hello = record.raw
        done = self._feed(record)
        if done and self._openssl.tls.version() == TLS12_NAME:
            self._use_keys12()
        elif FINISHED in messages:
            self._use_application_keys13()
        elif self.reader is None and not self.over:
            self._use_handshake_keys()

    def _feed(self, record: Record) -> bool:
        done = False
        self._openssl.incoming.write(record.raw)
        with contextlib.suppress(ssl.SSLError):  # OpenSSL may need more, or refuse the record: neither matters here
            self._openssl.tls.do_handshake()
            done = True
        self._openssl.outgoing.read()
        return done

    def _use_handshake_keys(self) -> None:
        secret = self._secrets().get(f"{self._they}_HANDSHAKE_TRAFFIC_SECRET")
        if secret is not None and self._server_hello:
            self.reader = tls13(suite13(self._server_hello), secret)

    def _use_application_keys13(self) -> None:
        """Use the application keys. OpenSSL logs them after the other side's Finished, unless it refuses that side."""
        secret = self._secrets().get(f"{self._they}_TRAFFIC_SECRET_0")
        self.reader = None if secret is None else tls13(suite13(self._server_hello), secret)
        self.over = True

    def _use_keys12(self) -> None:
        cipher, randoms = self._openssl.tls.cipher(), (self._client_hello[RANDOM], self._server_hello[RANDOM])
        assert cipher is not None, "OpenSSL is done with the handshake"
        both = tls12(Suite.of(cipher[0]), self._secrets()["CLIENT_RANDOM"], *randoms)
        self.reader = both[self._role is Role.CLIENT]
        self.over = True
