"""One certificate, for ``--show-cert``: the contents of its DER, as plain values for JSON.

A peer may send anything. Unreadable parts are reported as faults, and the rest is shown nevertheless.
"""

from __future__ import annotations

import base64
import hashlib
import textwrap
import warnings
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

_KEYS = (
    (rsa.RSAPublicKey, "RSA"),
    (dsa.DSAPublicKey, "DSA"),
    (ed25519.Ed25519PublicKey, "Ed25519"),
    (ed448.Ed448PublicKey, "Ed448"),
)


def describe(der: bytes) -> dict[str, Any]:
    """Describe a certificate. Every key is always present, with null for an absent or unreadable value.

    Returns:
        The values of ``tls.certificates`` in the JSON of ``bowout connect --show-cert``; strings come from the peer.
    """
    out: dict[str, Any] = dict.fromkeys(_FIELDS)
    out["sha256"] = hashlib.sha256(der).hexdigest()
    out["pem"] = as_pem(der)
    faults: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about deprecated values, such as a negative serial number
        try:
            certificate = x509.load_der_x509_certificate(der)
        except (ValueError, TypeError) as error:
            faults.append(f"no certificate: {error}")
        else:
            for name, read in _FIELDS.items():
                try:
                    out[name] = read(certificate)
                except Exception as error:  # noqa: BLE001  (a library's parser, on untrusted input)
                    faults.append(f"{name}: {str(error) or type(error).__name__}")
    out["faults"] = faults
    return out


def as_pem(der: bytes) -> str:
    """Return the certificate `der` in PEM."""
    lines = textwrap.wrap(base64.b64encode(der).decode("ascii"), 64)
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        value = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [_name(each) for each in value]


def _name(name: x509.GeneralName) -> str:
    match name:
        case x509.DNSName(value=value):
            return f"DNS:{value}"
        case x509.IPAddress(value=value):
            return f"IP:{value}"
        case x509.RFC822Name(value=value):
            return f"email:{value}"
        case x509.UniformResourceIdentifier(value=value):
            return f"URI:{value}"
        case x509.DirectoryName(value=value):
            return f"directory:{value.rfc4514_string()}"
        case x509.RegisteredID(value=value):
            return f"OID:{value.dotted_string}"
    return f"other:{name.type_id.dotted_string}" if isinstance(name, x509.OtherName) else "other"


def _key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    names = (name for kind, name in _KEYS if isinstance(key, kind))
    return next(names, certificate.public_key_algorithm_oid.dotted_string)


def _bits(certificate: x509.Certificate) -> int | None:
    bits = getattr(certificate.public_key(), "key_size", None)
    return bits if isinstance(bits, int) else None


def _authority(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False


def _signed_with(certificate: x509.Certificate) -> str | None:
    digest = certificate.signature_hash_algorithm
    return digest.name if digest is not None else None


def _serial(certificate: x509.Certificate) -> str:
    text = f"{abs(certificate.serial_number):x}"
    return ("-" if certificate.serial_number < 0 else "") + ("0" + text if len(text) % 2 else text)


def _time(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


_FIELDS: dict[str, Callable[[x509.Certificate], Any]] = {
    "subject": lambda certificate: certificate.subject.rfc4514_string(),
    "issuer": lambda certificate: certificate.issuer.rfc4514_string(),
    "names": _names,
    "not_before": lambda certificate: _time(certificate.not_valid_before_utc),
    "not_after": lambda certificate: _time(certificate.not_valid_after_utc),
    "key": _key,
    "key_bits": _bits,
    "signed_with": _signed_with,
    "serial": _serial,
    "authority": _authority,
}
