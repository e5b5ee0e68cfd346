"""The binary protocols: LDAP, PostgreSQL, MySQL, telnet."""

from __future__ import annotations

import struct

from bowout._starttls.steps import Dialogue, ReadExactly, Send, not_offered, refused, turned_away, unexpected
from bowout.errors import StartTLSError

#: Maximum length of an accepted message, in bytes. All expected ones have a few hundred bytes.
MESSAGE_LIMIT = 8192

# LDAP: BER tags (RFC 4511 appendix B) and names.
_SEQUENCE, _INTEGER, _OCTETS, _ENUMERATED = 0x30, 0x02, 0x04, 0x0A
_EXTENDED_RESPONSE, _RESPONSE_NAME = 0x78, 0x8A
_LDAP_START_TLS = b"1.3.6.1.4.1.1466.20037"
_LDAP_DISCONNECTION = b"1.3.6.1.4.1.1466.20036"
_LDAP_RESULTS = {1: "operationsError", 2: "protocolError", 10: "referral", 52: "unavailable", 53: "unwillingToPerform"}

# MySQL: bits of the capabilities.
_LONG_PASSWORD, _PROTOCOL_41, _SSL, _SECURE_CONNECTION, _PLUGIN_AUTH = 0x1, 0x200, 0x800, 0x8000, 0x80000
_UTF8 = 45

# Telnet (RFC 854), and the option of draft-altman-telnet-starttls.
_SE, _SB, _WILL, _WONT, _DO, _DONT, _IAC = 240, 250, 251, 252, 253, 254, 255
_START_TLS, _FOLLOWS = 46, 1
_MAX_COMMANDS = 64


def ldap() -> Dialogue:
    """Speak LDAP (RFC 4511 section 4.14): the StartTLS extended operation."""
    request = _ber(_SEQUENCE, _ber(_INTEGER, b"\x01") + _ber(0x77, _ber(0x80, _LDAP_START_TLS)))
    yield Send(request)
    head = yield ReadExactly(2)
    if head[0] != _SEQUENCE:
        raise unexpected("LDAP", "an LDAP message", head)
    size = head[1]
    if size & 0x80:
        # The long form; RFC 4511 section 5.1 rules out the indefinite one (0x80).
        if not 1 <= (size & 0x7F) <= 4:
            raise unexpected("LDAP", "a definite length", head)
        size = int.from_bytes((yield ReadExactly(size & 0x7F)))
    if not 0 < size <= MESSAGE_LIMIT:
        raise StartTLSError(f"LDAP: the server announced a message of {size} bytes")
    body = yield ReadExactly(size)
    try:
        _ldap_answer(body)
    except ValueError as error:
        raise StartTLSError(f"LDAP: the server's answer is malformed: {error}") from error


def _ldap_answer(body: bytes) -> None:
    number, rest = _ber_take(body, _INTEGER)
    operation, _controls = _ber_take(rest, _EXTENDED_RESPONSE)
    result, rest = _ber_take(operation, _ENUMERATED)
    _matched_dn, rest = _ber_take(rest, _OCTETS)
    diagnostic, rest = _ber_take(rest, _OCTETS)
    name = b""
    while rest:
        tag = rest[0]
        value, rest = _ber_take(rest, tag)
        if tag == _RESPONSE_NAME:
            name = value
    if name == _LDAP_DISCONNECTION:
        raise turned_away("LDAP", b"notice of disconnection: " + diagnostic)
    if number != b"\x01":
        raise unexpected("LDAP", "the answer to message 1", body)
    code = int.from_bytes(result)
    if code == 2:
        raise not_offered("LDAP", b"protocolError: " + diagnostic)
    if code:
        word = _LDAP_RESULTS.get(code, f"result {code}")
        raise refused("LDAP", word.encode() + b": " + diagnostic)


def _ber(tag: int, value: bytes) -> bytes:
    """Encode an element whose value is shorter than 128 bytes, as all of ours are."""
    return bytes([tag, len(value)]) + value


def _ber_take(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """Return the value of the element at the start of `data`, and what follows it.

    Raises:
        ValueError: the element's tag is not `tag`, or it is longer than `data`.
    """
    if len(data) < 2 or data[0] != tag or tag & 0x1F == 0x1F:
        raise ValueError(f"no element with the tag 0x{tag:02x}")
    start, size = 2, data[1]
    if size & 0x80:
        start += size & 0x7F
        if start == 2 or start > len(data):
            raise ValueError("a length that is not definite, or incomplete")
        size = int.from_bytes(data[2:start])
    end = start + size
    if end > len(data):
        raise ValueError(f"an element of {size} bytes where {len(data) - start} are left")
    if not size and tag in (_INTEGER, _ENUMERATED):
        raise ValueError("a number without a byte")
    return data[start:end], data[end:]


def postgres() -> Dialogue:
    """Speak PostgreSQL (its manual's "SSL Session Encryption"): SSLRequest, answered by one byte."""
    yield Send(struct.pack(">II", 8, 80877103))
    answer = yield ReadExactly(1)
    if answer == b"N":
        raise not_offered("PostgreSQL", answer)
    if answer == b"E":
        # The text that follows is not read: it is not authenticated (CVE-2024-10977).
        raise StartTLSError("PostgreSQL: the server answered the SSLRequest with an error message")
    if answer != b"S":
        raise unexpected("PostgreSQL", "S or N", answer)


def mysql() -> Dialogue:
    """Speak MySQL and MariaDB (Protocol::SSLRequest): greeting, our request; TLS starts without a further answer."""
    head = yield ReadExactly(4)
    size = int.from_bytes(head[:3], "little")
    if head[3] != 0 or not 0 < size <= MESSAGE_LIMIT:
        raise unexpected("MySQL", "a greeting packet", head)
    greeting = yield ReadExactly(size)
    if greeting[0] == 0xFF:
        raise turned_away("MySQL", greeting[3:])  # It has not been asked for TLS yet.
    # Version 10, the server's version up to a NUL, then 4 + 8 + 1 bytes, then the lower half of the capabilities.
    version, nul, rest = greeting[1:].partition(b"\0")
    if greeting[0] != 10 or not nul or len(rest) < 15:
        raise unexpected("MySQL", "a greeting of protocol version 10", greeting)
    if not int.from_bytes(rest[13:15], "little") & _SSL:
        raise not_offered("MySQL", version)
    wanted = _LONG_PASSWORD | _PROTOCOL_41 | _SSL | _SECURE_CONNECTION | _PLUGIN_AUTH
    request = struct.pack("<IIB23x", wanted, 1 << 24, _UTF8)
    yield Send(len(request).to_bytes(3, "little") + b"\x01" + request)


def telnet() -> Dialogue:
    """Speak telnet (draft-altman-telnet-starttls): DO START_TLS, WILL START_TLS, FOLLOWS from both sides.

    The server has to begin. Options that it offers before are declined: they are to be negotiated inside TLS.
    """
    offered = False
    for _ in range(_MAX_COMMANDS):
        command = yield ReadExactly(2)
        if command[0] != _IAC:
            raise not_offered("telnet", command)
        if command[1] == _SB:
            if not offered:
                raise unexpected("telnet", "DO START_TLS", command)
            follows = yield ReadExactly(4)
            if follows != bytes([_START_TLS, _FOLLOWS, _IAC, _SE]):
                raise unexpected("telnet", "START_TLS FOLLOWS", follows)
            return
        if command[1] not in (_WILL, _WONT, _DO, _DONT):
            raise unexpected("telnet", "DO START_TLS", command)
        option = (yield ReadExactly(1))[0]
        if option == _START_TLS and command[1] == _DO and not offered:
            offered = True
            yield Send(bytes([_IAC, _WILL, _START_TLS, _IAC, _SB, _START_TLS, _FOLLOWS, _IAC, _SE]))
        elif option == _START_TLS and command[1] in (_WONT, _DONT):
            raise refused("telnet", command + bytes([option]))
        elif not offered and command[1] in (_DO, _WILL):
            # After FOLLOWS nothing more may be sent in plain text, so it then stays unanswered.
            yield Send(bytes([_IAC, _WONT if command[1] == _DO else _DONT, option]))
    raise StartTLSError("telnet: the server keeps negotiating, but not START_TLS")
