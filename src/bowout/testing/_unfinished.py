"""A handshake that the script has stopped: what the other side sends on is read all the same.

OpenSSL gets each of its records, so that the keys of what follows become known. What it answers is never sent.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Final

from bowout._core.records import HEADER_SIZE
from bowout.ending import Role
from bowout.testing import _records
from bowout.testing._records import CHANGE_CIPHER_SPEC, DATA, HANDSHAKE, Direction, Record, Suite

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout.testing._session import TLS

#: The random of a ServerHello that asks for another ClientHello (RFC 8446 section 4.1.3).
_HELLO_RETRY: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
#: Where a Hello's random begins in its record: after the record's header, the message's header and the version.
RANDOM: Final = slice(11, 43)
_SUITES13: Final = {
    b"\x13\x01": "TLS_AES_128_GCM_SHA256",
    b"\x13\x02": "TLS_AES_256_GCM_SHA384",
    b"\x13\x03": "TLS_CHACHA20_POLY1305_SHA256",
}
_SERVER_HELLO: Final = 2
_FINISHED: Final = 20

Secrets = dict[str, bytes]


def is_server_hello(data: bytes) -> bool:
    """Whether a flight or a record begins with a ServerHello, and not with a request for another ClientHello."""
    return data[:1] == bytes([HANDSHAKE]) and data[HEADER_SIZE:][:1] == bytes([_SERVER_HELLO]) and (
        data[RANDOM] != _HELLO_RETRY
    )  # fmt: skip


def suite13(server_hello: bytes) -> Suite:
    """The suite that a ServerHello of TLS 1.3 chose."""
    session_id = server_hello[43]
    return Suite.of(_SUITES13[server_hello[44 + session_id : 46 + session_id]])


class Unfinished:
    """The other side's half of a handshake that we do not go on with.

    Args:
        tls: OpenSSL's side of it.
        secrets: what the key log has by now.
        role: ours.
        hellos: the two Hellos, as records; the ServerHello is empty until it has come.

    Attributes:
        reader: opens the next record; None while they come in plain, or where nobody has the keys.
        over: the other side is done with its handshake: what follows is application data and the like.
    """

    def __init__(
        self,
        tls: TLS,
        *,
        secrets: Callable[[], Secrets],
        role: Role,
        hellos: tuple[bytes, bytes],
    ) -> None:
        self._tls, self._secrets, self._role = tls, secrets, role
        self._client_hello, self._server_hello = hellos
        self._they = "SERVER" if role is Role.CLIENT else "CLIENT"
        self._ciphered = False
        self.over: bool = False
        self.reader: Direction | None = None
        if f"{self._they}_TRAFFIC_SECRET_0" in self._secrets():  # OpenSSL has read their Finished already
            self._use_application_keys13()
        else:
            self._use_handshake_keys()

    def is_protected(self, record: Record) -> bool:
        """Whether a record is encrypted, though nobody here has its keys."""
        plain_alert = record.content_type not in {DATA, HANDSHAKE} and len(record.body) == 2
        return record.content_type == DATA or (self._ciphered and not plain_alert)

    def follow(self, record: Record, messages: tuple[int, ...] = ()) -> None:
        """Go on with a record of the other side, and with the handshake messages that ended in it."""
        if record.content_type == CHANGE_CIPHER_SPEC:
            self._ciphered = True
        if self._role is Role.CLIENT and not self._server_hello and is_server_hello(record.raw):
            self._server_hello = record.raw
        done = self._feed(record)
        if done and self._tls.object.version() == "TLSv1.2":
            self._use_keys12()
        elif _FINISHED in messages:
            self._use_application_keys13()
        elif self.reader is None and not self.over:
            self._use_handshake_keys()

    def _feed(self, record: Record) -> bool:
        done = False
        self._tls.incoming.write(record.raw)
        with contextlib.suppress(ssl.SSLError):  # it may want more, or refuse what it got: that is no matter of ours
            self._tls.object.do_handshake()
            done = True
        self._tls.outgoing.read()
        return done

    def _use_handshake_keys(self) -> None:
        secret = self._secrets().get(f"{self._they}_HANDSHAKE_TRAFFIC_SECRET")
        if secret is not None and self._server_hello:
            self.reader = _records.tls13(suite13(self._server_hello), secret)

    def _use_application_keys13(self) -> None:
        """OpenSSL tells them once it has read the other side's Finished, unless it refuses the certificate."""
        secret = self._secrets().get(f"{self._they}_TRAFFIC_SECRET_0")
        self.reader = None if secret is None else _records.tls13(suite13(self._server_hello), secret)
        self.over = True

    def _use_keys12(self) -> None:
        cipher, randoms = self._tls.object.cipher(), (self._client_hello[RANDOM], self._server_hello[RANDOM])
        assert cipher is not None, "OpenSSL is done with the handshake"
        both = _records.tls12(Suite.of(cipher[0]), self._secrets()["CLIENT_RANDOM"], *randoms)
        self.reader = both[self._role is Role.CLIENT]
        self.over = True
