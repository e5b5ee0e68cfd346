"""The kinds of key, each with its own certificate in OpenSSL: the test for them in a context, and their removal.

`ssl.SSLContext` cannot be asked for its certificates. But a server answers a ClientHello, or reports that none of its
certificates fits; so the context is tested over two MemoryBIOs, with a ClientHello that requires one kind of key.

Loading an ECDSA pair does not remove an RSA pair, and clients would continue to get the old one. No call removes it.
But a certificate that is loaded over another of its kind removes that one's private key, if the key does not belong to
the new one (SSL_CTX_use_certificate(3)); and a certificate without a private key is not used. So the old one is
replaced by a made-up certificate. All other settings of the context stay as they are; a new context could not guarantee
that, since most settings cannot be read.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bowout._core.client_hello import client_hello

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: The numbers of all signature algorithms in use (IANA's registry of TLS SignatureScheme).
EVERY_SIGNATURE: Final = range(0x0200, 0x1000)
#: The numbers of all elliptic curves and finite fields that OpenSSL may be configured to use.
_EVERY_GROUP: Final = (*range(1, 42), *range(0x100, 0x105))


def refusal(context: ssl.SSLContext, signature_algorithms: Iterable[int]) -> str | None:
    """Return OpenSSL's reason for refusing a client with these signature algorithms, or None if it accepts."""
    incoming = ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    ciphers = [cipher["id"] & 0xFFFF for cipher in context.get_ciphers()]
    incoming.write(client_hello(ciphers, tuple(signature_algorithms), _EVERY_GROUP, random=os.urandom(32)))
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return None
    except ssl.SSLError as error:
        return error.reason or "unknown"
    return None


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:  # the short form: X.690 section 8.1.3
        return bytes((tag, size)) + content
    octets = size.to_bytes(-(-size.bit_length() // 8))
    return bytes((tag, 0x80 | len(octets))) + octets + content


def _sequence(*parts: bytes) -> bytes:
    return _der(0x30, *parts)


def _oid(hexadecimal: str) -> bytes:
    return _der(0x06, bytes.fromhex(hexadecimal))


def _number(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1))


def _bits(data: bytes) -> bytes:
    return _der(0x03, b"\0", data)


#: The generator of the curve P-521 (FIPS 186-5, appendix): a public point on it.
_P521_POINT: Final = bytes.fromhex(
    "04"
    "00c6858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d3dbaa14b5e77efe75928fe1dc127a2ffa8de3348b3c1856a"
    "429bf97e7e31c2e5bd66"
    "011839296a789a3bc0045c8a5fb42c7d1bd998f54449579b446817afbd17273e662c97ee72995ef42640c550b9013fad0761353c7086a272"
    "c24088be94769fd16650"
)
#: Minimum size of an RSA key at each security level of OpenSSL (SSL_CTX_set_security_level(3)), in bits.
_RSA_BITS: Final = {3: 3072, 4: 7680, 5: 15360}
_RSA_BITS_BELOW: Final = 2048


def _rsa(algorithm: str) -> Callable[[int], bytes]:
    def public_key(level: int) -> bytes:
        modulus = (1 << _RSA_BITS.get(level, _RSA_BITS_BELOW)) - 1
        parameters = _der(0x05) if algorithm.endswith("01") else b""
        return _sequence(_sequence(_oid(algorithm), parameters), _bits(_sequence(_number(modulus), _number(65537))))

    return public_key


def _elliptic(algorithm: bytes, point: bytes) -> Callable[[int], bytes]:
    return lambda _: _sequence(_sequence(algorithm), _bits(point))


@dataclass(frozen=True, slots=True)
class KeyKind:
    """One kind of key; OpenSSL holds a certificate for each.

    Attributes:
        name: its name for people.
        signatures: the signature algorithms of TLS that such a key can make.
        public_key: makes a public key without a known private key, for a security level of OpenSSL, as DER.
    """

    name: str
    signatures: tuple[int, ...]
    public_key: Callable[[int], bytes]

    def made_up_certificate(self, level: int) -> bytes:
        """Make a certificate, as PEM, whose private key is unknown."""
        signed_with = _sequence(_oid("2a864886f70d01010d"), _der(0x05))  # sha512WithRSAEncryption; never checked
        name = _sequence(_der(0x31, _sequence(_oid("550403"), _der(0x0C, b"nobody"))))
        validity = _sequence(_der(0x17, b"200101000000Z"), _der(0x17, b"200101000000Z"))
        about = (signed_with, name, validity, name, self.public_key(level))
        certificate = _sequence(
            _sequence(_der(0xA0, _number(2)), _number(1), *about), signed_with, _bits(bytes(_RSA_BITS_BELOW // 8))
        )
        return ssl.DER_cert_to_PEM_cert(certificate).encode("ascii")


KINDS: Final = (
    KeyKind("RSA", (0x0201, 0x0301, 0x0401, 0x0501, 0x0601, 0x0804, 0x0805, 0x0806), _rsa("2a864886f70d010101")),
    KeyKind("RSA-PSS", (0x0809, 0x080A, 0x080B), _rsa("2a864886f70d01010a")),
    KeyKind(
        "ECDSA",
        (0x0203, 0x0303, 0x0403, 0x0503, 0x0603, 0x081A, 0x081B, 0x081C),
        _elliptic(_oid("2a8648ce3d0201") + _oid("2b81040023"), _P521_POINT),
    ),
    KeyKind("Ed25519", (0x0807,), _elliptic(_oid("2b6570"), bytes(32))),
    KeyKind("Ed448", (0x0808,), _elliptic(_oid("2b6571"), bytes(57))),
)
KNOWN: Final = frozenset(number for kind in KINDS for number in kind.signatures)


def key_kinds(context: ssl.SSLContext) -> list[KeyKind]:
    """Return the kinds of key for which `context`, which has no callback for SNI now, has a certificate."""
    return [kind for kind in KINDS if refusal(context, kind.signatures) is None]


def has_unknown_kind(context: ssl.SSLContext) -> bool:
    """Tell whether `context` has a certificate of an unknown kind."""
    return refusal(context, (number for number in EVERY_SIGNATURE if number not in KNOWN)) is None
