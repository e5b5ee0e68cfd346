"""The numbers of TLS and their names, each in one place: records, handshake messages, alerts and versions.

They are facts of the RFCs. Their treatment is in the modules that use them.
"""

from __future__ import annotations

import ssl
from typing import Final

# -- content types (RFC 8446 section 5.1) ------------------------------------------------------------------------------

CHANGE_CIPHER_SPEC: Final = 20
ALERT: Final = 21
HANDSHAKE: Final = 22
APPLICATION_DATA: Final = 23
_HEARTBEAT: Final = 24

#: Valid first bytes of a record; a heartbeat is one of them (RFC 6520 section 3).
CONTENT_TYPES: Final = range(CHANGE_CIPHER_SPEC, _HEARTBEAT + 1)

# -- handshake messages (RFC 8446 section 4, RFC 5246 section 7.4) -----------------------------------------------------

HELLO_REQUEST: Final = 0
CLIENT_HELLO: Final = 1
SERVER_HELLO: Final = 2
NEW_SESSION_TICKET: Final = 4
FINISHED: Final = 20
KEY_UPDATE: Final = 24

#: Names of the handshake messages, for traces.
HANDSHAKE_NAMES: Final = {
    HELLO_REQUEST: "HelloRequest",
    CLIENT_HELLO: "ClientHello",
    SERVER_HELLO: "ServerHello",
    NEW_SESSION_TICKET: "NewSessionTicket",
    5: "EndOfEarlyData",
    8: "EncryptedExtensions",
    11: "Certificate",
    12: "ServerKeyExchange",
    13: "CertificateRequest",
    14: "ServerHelloDone",
    15: "CertificateVerify",
    16: "ClientKeyExchange",
    FINISHED: "Finished",
    22: "CertificateStatus",
    KEY_UPDATE: "KeyUpdate",
}

# -- versions ----------------------------------------------------------------------------------------------------------

#: Versions as records and Hellos have them (RFC 8446 appendix D).
TLS10: Final = 0x0301
TLS11: Final = 0x0302
TLS12: Final = 0x0303
TLS13: Final = 0x0304
#: Version in the header of every record since TLS 1.2, and in every Hello (RFC 8446 section 5.1).
LEGACY_VERSION: Final = TLS12

#: Versions as OpenSSL names them (SSL_get_version(3)).
TLS12_NAME: Final = "TLSv1.2"
TLS13_NAME: Final = "TLSv1.3"

#: OpenSSL's names of the versions, by the names that users write.
VERSION_NAMES: Final = {"1.2": TLS12_NAME, "1.3": TLS13_NAME}
#: Versions to which a context can be restricted, by the same names.
VERSION_PINS: Final = {"1.2": ssl.TLSVersion(TLS12), "1.3": ssl.TLSVersion(TLS13)}

# -- alerts (RFC 8446 section 6) ---------------------------------------------------------------------------------------

#: Levels of alerts.
WARNING: Final = 1
FATAL: Final = 2
LEVEL_NAMES: Final = {WARNING: "warning", FATAL: "fatal"}

#: Alert codes on which the code depends.
CLOSE_NOTIFY: Final = 0
DECODE_ERROR: Final = 50
USER_CANCELED: Final = 90
NO_RENEGOTIATION: Final = 100
UNRECOGNIZED_NAME: Final = 112
NO_APPLICATION_PROTOCOL: Final = 120

#: The names of alerts by their codes, as in the IANA registry of TLS alerts.
ALERT_NAMES: Final = {
    CLOSE_NOTIFY: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    DECODE_ERROR: "decode_error",
    51: "decrypt_error",
    60: "export_restriction",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    USER_CANCELED: "user_canceled",
    NO_RENEGOTIATION: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    111: "certificate_unobtainable",
    UNRECOGNIZED_NAME: "unrecognized_name",
    113: "bad_certificate_status_response",
    114: "bad_certificate_hash_value",
    115: "unknown_psk_identity",
    116: "certificate_required",
    117: "general_error",
    NO_APPLICATION_PROTOCOL: "no_application_protocol",
    121: "ech_required",
}
#: The codes of alerts by their names.
ALERT_CODES: Final = {name: code for code, name in ALERT_NAMES.items()}


def is_fatal(code: int, level: int, version: str | None) -> bool:
    """Tell whether an alert is fatal: in TLS 1.3 all but two are, whatever their level (RFC 8446 section 6).

    Args:
        code: the alert's code.
        level: the alert's level, as it was on the wire.
        version: OpenSSL's name of the agreed version; None before the handshake is done.
    """
    if version == TLS13_NAME:
        return code not in {CLOSE_NOTIFY, USER_CANCELED}
    return level == FATAL
