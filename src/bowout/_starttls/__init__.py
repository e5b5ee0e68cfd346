"""The change to TLS by STARTTLS: the plain-text dialogues before the handshake, sans-IO.

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

The driver has to do this:

* It reads nothing beyond a step for the dialogue. Bytes that have come from the server when the dialogue returns,
  before the handshake, are injected plain text: refuse them (CVE-2011-0411).
* A `ReadUntil` whose limit is reached without a separator is answered with the bytes so far.
* The end of input and deadlines are its own task: it closes the dialogue and raises.

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
    "ReadExactly",
    "ReadUntil",
    "Send",
    "StartTLSName",
    "StartTLSProtocol",
    "Step",
    "dialogue",
]

# RFC 5321 section 4.1.3: a client without a name gives its address. Only the server's answer matters here, so the
# loopback address does, and does not reveal the name of this machine.
_NAMELESS = "[127.0.0.1]"

StartTLSName = Literal[
    "ftp", "imap", "irc", "ldap", "lmtp", "mysql", "nntp",
    "pop3", "postgres", "sieve", "smtp", "telnet", "xmpp", "xmpp-server",
]  # fmt: skip
"""A protocol that can change to TLS: a key of `bowout.STARTTLS`."""

#: Protocols in which the client names the wanted domain of the server. The certificate has to be for that domain,
#: whatever the connected host is (RFC 6120 section 13.7.2).
FOR_A_DOMAIN: Final = frozenset({"xmpp", "xmpp-server"})


@dataclass(frozen=True, slots=True)
class StartTLSProtocol:
    """One protocol that can change to TLS.

    Attributes:
        port: the TCP port on which its servers listen in plain text.
        description: one line for people.
    """

    port: int
    description: str


def dialogue(protocol: str, *, host: str, name: str | None = None) -> Dialogue:
    r"""Begin a dialogue.

    Example:
        >>> next(dialogue("postgres", host="db.example.org"))
        Send(data=b'\x00\x00\x00\x08\x04\xd2\x16/')

    Args:
        protocol: a key of `PROTOCOLS`.
        host: the server.
        name: the name to send: our own name in SMTP and LMTP, the wanted domain in XMPP (None: `host`). Other protocols
            ignore it.

    Raises:
        TypeError, ValueError: the protocol is unknown, or it cannot carry that name.
    """
    check_choice("starttls", protocol, PROTOCOLS)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"starttls_name must be a str, not {type(name).__name__}")
    return _DIALOGUES[protocol](host, name)


def _ours(start: Callable[[str], Dialogue]) -> Callable[[str, str | None], Dialogue]:
    """Begin a dialogue in which we give our own name."""

    def factory(_host: str, name: str | None) -> Dialogue:
        return start(_checked(_NAMELESS if name is None else name, ascii_name))

    return factory


def _theirs(start: Callable[[str], Dialogue]) -> Callable[[str, str | None], Dialogue]:
    """Begin a dialogue in which we give the name of the wanted server."""

    def factory(host: str, name: str | None) -> Dialogue:
        return start(_checked(host if name is None else name, _domainpart))

    return factory


def _domainpart(name: str) -> str:
    """Return a domain in XMPP's form: Unicode, an IPv6 address in brackets without its zone (RFC 7622 section 3.2).

    Raises:
        ValueError: `name` is a whole XMPP address, with a local part or a resource.
    """
    if "@" in name or "/" in name:
        raise ValueError("XMPP needs the domain alone, without the parts before @ and after /")
    address = without_zone(name)
    return f"[{address}]" if ipv6(address) is not None else unicode_name(name)


def _none(start: Callable[[], Dialogue]) -> Callable[[str, str | None], Dialogue]:
    """Begin a dialogue in which we give no name."""

    def factory(_host: str, _name: str | None) -> Dialogue:
        return start()

    return factory


def _checked(name: str, form: Callable[[str], str]) -> str:
    """Return `name` in its protocol's form, if it is one word: a line break in it would be another command.

    Raises:
        ValueError: `name` is not one word, or has no such form.
    """
    try:
        presented = form(name)
    except ValueError as error:
        raise ValueError(f"starttls_name cannot be {name[:255]!r}: {error}") from error
    if not 0 < len(presented) <= 255 or not presented.isprintable() or " " in presented:
        raise ValueError(f"starttls_name cannot be {name[:255]!r}: it has to be one printable word")
    return presented


#: The protocols, by their names in ``openssl s_client -starttls``.
PROTOCOLS: Mapping[str, StartTLSProtocol] = MappingProxyType(
    {
        "ftp": StartTLSProtocol(21, "FTP, AUTH TLS (RFC 4217)"),
        "imap": StartTLSProtocol(143, "IMAP, STARTTLS (RFC 9051)"),
        "irc": StartTLSProtocol(6667, "IRC, STARTTLS (IRCv3 tls)"),
        "ldap": StartTLSProtocol(389, "LDAP, the StartTLS operation (RFC 4511)"),
        "lmtp": StartTLSProtocol(24, "LMTP, STARTTLS after LHLO (RFC 2033, 3207)"),
        "mysql": StartTLSProtocol(3306, "MySQL and MariaDB, SSLRequest"),
        "nntp": StartTLSProtocol(119, "NNTP, STARTTLS (RFC 4642)"),
        "pop3": StartTLSProtocol(110, "POP3, STLS (RFC 2595)"),
        "postgres": StartTLSProtocol(5432, "PostgreSQL, SSLRequest"),
        "sieve": StartTLSProtocol(4190, "ManageSieve, STARTTLS (RFC 5804)"),
        "smtp": StartTLSProtocol(25, "SMTP, STARTTLS after EHLO (RFC 3207)"),
        "telnet": StartTLSProtocol(23, "telnet, START_TLS (draft-altman-telnet-starttls)"),
        "xmpp": StartTLSProtocol(5222, "XMPP for clients, <starttls/> (RFC 6120)"),
        "xmpp-server": StartTLSProtocol(5269, "XMPP between servers, <starttls/> (RFC 6120)"),
    }
)

#: How to begin each dialogue, from the host and the name to send, None for a default.
_DIALOGUES: Final[Mapping[str, Callable[[str, str | None], Dialogue]]] = {
    "ftp": _none(lines.ftp),
    "imap": _none(lines.imap),
    "irc": _none(lines.irc),
    "ldap": _none(binary.ldap),
    "lmtp": _ours(lines.lmtp),
    "mysql": _none(binary.mysql),
    "nntp": _none(lines.nntp),
    "pop3": _none(lines.pop3),
    "postgres": _none(binary.postgres),
    "sieve": _none(lines.sieve),
    "smtp": _ours(lines.smtp),
    "telnet": _none(binary.telnet),
    "xmpp": _theirs(xmpp.client),
    "xmpp-server": _theirs(xmpp.server),
}
