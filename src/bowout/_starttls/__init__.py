"""How to talk a server into TLS: the plain-text dialogues before the handshake, sans-IO.

A dialogue is a generator. It yields a `Step`, is sent the bytes that were read (``b""`` for a `Send`), and returns
when TLS may begin:

    steps = dialogue("smtp", host="mail.example.org")
    answer = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration:
            break  # agreed
        answer = carry_out(step)

What the driver owes:

* It reads nothing beyond a step on the dialogue's behalf. What has come from the server when the dialogue returns,
  and before the handshake, is plain text that somebody injected: refuse it (CVE-2011-0411).
* A `ReadUntil` whose limit is reached without a separator is answered with the bytes so far.
* The end of input and deadlines are its own: it closes the dialogue and raises.

A dialogue reads no more than its replies, each within a limit; it raises `StartTLSError` when the server does not
offer TLS, refuses it, or speaks another protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from bowout._arguments import check_choice
from bowout._names import ascii_name, ipv6, unicode_name, without_zone
from bowout._starttls import binary, lines, xmpp
from bowout._starttls.steps import Dialogue, ReadExactly, ReadUntil, Send, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "FOR_A_DOMAIN",
    "PROTOCOLS",
    "Dialogue",
    "Protocol",
    "ReadExactly",
    "ReadUntil",
    "Send",
    "StartTLSName",
    "Step",
    "dialogue",
]

# RFC 5321 section 4.1.3: a client without a name says its address. It is the server's word that matters here, so
# the loopback one does, and tells nobody what this machine is called.
_NAMELESS = "[127.0.0.1]"

StartTLSName = Literal[
    "ftp", "imap", "irc", "ldap", "lmtp", "mysql", "nntp",
    "pop3", "postgres", "sieve", "smtp", "telnet", "xmpp", "xmpp-server",
]  # fmt: skip
"""A protocol that can change to TLS: a key of `bowout.STARTTLS`."""

#: These tell the server which of its domains is wanted. It is the one that the certificate has to be for, wherever the
#: connection goes (RFC 6120 section 13.7.2).
FOR_A_DOMAIN: Final = frozenset({"xmpp", "xmpp-server"})


@dataclass(frozen=True, slots=True)
class Protocol:
    """One protocol that can change to TLS.

    Attributes:
        port: where its servers listen for plain text.
        description: one line for people.
        factory: makes the dialogue, from the host and from the name to present, None for a default.
    """

    port: int
    description: str
    factory: Callable[[str, str | None], Dialogue]


def dialogue(protocol: str, *, host: str, name: str | None = None) -> Dialogue:
    r"""Begin a dialogue.

    Example:
        >>> next(dialogue("postgres", host="db.example.org"))
        Send(data=b'\x00\x00\x00\x08\x04\xd2\x16/')

    Args:
        protocol: a key of `PROTOCOLS`.
        host: the server.
        name: what to present: to SMTP and LMTP our own name, to XMPP the domain that is wanted (`host` where there
            is none). Other protocols present nothing, and ignore it.

    Raises:
        TypeError, ValueError: the protocol is unknown, or it cannot say that name.
    """
    check_choice("starttls", protocol, PROTOCOLS)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"starttls_name must be a str, not {type(name).__name__}")
    return PROTOCOLS[protocol].factory(host, name)


def _ours(start: Callable[[str], Dialogue]) -> Callable[[str, str | None], Dialogue]:
    """We present our own name."""

    def factory(_host: str, name: str | None) -> Dialogue:
        return start(_checked(_NAMELESS if name is None else name, ascii_name))

    return factory


def _theirs(start: Callable[[str], Dialogue]) -> Callable[[str, str | None], Dialogue]:
    """We present the name of what we want to reach."""

    def factory(host: str, name: str | None) -> Dialogue:
        return start(_checked(host if name is None else name, _domainpart))

    return factory


def _domainpart(name: str) -> str:
    """A domain as XMPP writes it: in Unicode, an IPv6 address in brackets and without its zone (RFC 7622 section 3.2).

    Raises:
        ValueError: it is a whole address, with somebody or something at that domain.
    """
    if "@" in name or "/" in name:
        raise ValueError("XMPP is told the domain alone, without what stands before @ and after /")
    address = without_zone(name)
    return f"[{address}]" if ipv6(address) is not None else unicode_name(name)


def _none(start: Callable[[], Dialogue]) -> Callable[[str, str | None], Dialogue]:
    """We present no name."""

    def factory(_host: str, _name: str | None) -> Dialogue:
        return start()

    return factory


def _checked(name: str, form: Callable[[str], str]) -> str:
    """`name` in the form that its protocol wants, if it is one word: a line break in it would be another command.

    Raises:
        ValueError: it is not.
    """
    try:
        presented = form(name)
    except ValueError as error:
        raise ValueError(f"starttls_name cannot be {name[:255]!r}: {error}") from error
    if not 0 < len(presented) <= 255 or not presented.isprintable() or " " in presented:
        raise ValueError(f"starttls_name cannot be {name[:255]!r}: it has to be one printable word")
    return presented


#: By the names that ``openssl s_client -starttls`` knows.
PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "ftp": Protocol(21, "FTP, AUTH TLS (RFC 4217)", _none(lines.ftp)),
        "imap": Protocol(143, "IMAP, STARTTLS (RFC 9051)", _none(lines.imap)),
        "irc": Protocol(6667, "IRC, STARTTLS (IRCv3 tls)", _none(lines.irc)),
        "ldap": Protocol(389, "LDAP, the StartTLS operation (RFC 4511)", _none(binary.ldap)),
        "lmtp": Protocol(24, "LMTP, STARTTLS after LHLO (RFC 2033, 3207)", _ours(lines.lmtp)),
        "mysql": Protocol(3306, "MySQL and MariaDB, SSLRequest", _none(binary.mysql)),
        "nntp": Protocol(119, "NNTP, STARTTLS (RFC 4642)", _none(lines.nntp)),
        "pop3": Protocol(110, "POP3, STLS (RFC 2595)", _none(lines.pop3)),
        "postgres": Protocol(5432, "PostgreSQL, SSLRequest", _none(binary.postgres)),
        "sieve": Protocol(4190, "ManageSieve, STARTTLS (RFC 5804)", _none(lines.sieve)),
        "smtp": Protocol(25, "SMTP, STARTTLS after EHLO (RFC 3207)", _ours(lines.smtp)),
        "telnet": Protocol(23, "telnet, START_TLS (draft-altman-telnet-starttls)", _none(binary.telnet)),
        "xmpp": Protocol(5222, "XMPP for clients, <starttls/> (RFC 6120)", _theirs(xmpp.client)),
        "xmpp-server": Protocol(5269, "XMPP between servers, <starttls/> (RFC 6120)", _theirs(xmpp.server)),
    }
)
