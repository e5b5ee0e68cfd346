"""How to do TLS, from the options of the command line."""

from __future__ import annotations

import enum
import ssl
import sys
from dataclasses import dataclass
from getpass import getpass
from typing import Final

from bowout._arguments import check_protocols, checked_server_hostname
from bowout.cli._usage import UsageError

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Version(enum.StrEnum):
    """The versions of TLS to choose from."""

    V1_2 = "1.2"
    V1_3 = "1.3"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe, who we are, and which version to speak."""

    cafile: str | None
    insecure: bool
    cert: str | None
    key: str | None
    version: str | None

    def context(self) -> ssl.SSLContext:
        """Make the context of a client.

        Raises:
            UsageError: a file is missing or is not what it should be, or options contradict each other.
        """
        if self.cafile and self.insecure:
            raise UsageError("--cafile and --insecure contradict each other", "leave one of them out")
        check_key_has_cert(self.cert, self.key)
        context = self._trusting()
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert:
            identify(context, self.cert, self.key)
        pin(context, self.version)
        return context

    def _trusting(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.cafile)
        except ssl.SSLError as error:
            raise UsageError(f"--cafile: no certificate in '{self.cafile}'", "it has to hold PEM") from error
        except OSError as error:
            raise UsageError(f"--cafile: cannot read '{self.cafile}': {error.strerror}") from error


def identify(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    """Use the certificate of ``--cert``, and the key of ``--key`` or the one beside the certificate.

    Raises:
        UsageError: they cannot be used.
    """
    asked = key or cert
    try:
        context.load_cert_chain(cert, key, password=lambda: _ask_password(asked))
    except ssl.SSLError as error:
        what = f"'{cert}' with '{key}'" if key else f"'{cert}'"
        reason = f": {error.reason.lower().replace('_', ' ')}" if error.reason else ""
        hint = "PEM is needed, and a private key that belongs to the certificate: here, or in --key FILE"
        raise UsageError(f"--cert: cannot use {what}{reason}", hint) from error
    except OSError as error:
        unreadable = cert if not key else f"{cert}' or '{key}"
        raise UsageError(f"--cert: cannot read '{unreadable}': {error.strerror}") from error


def pin(context: ssl.SSLContext, version: str | None) -> None:
    """Speak the version of ``--tls`` only, if there is one."""
    if version:
        context.minimum_version = context.maximum_version = _VERSIONS[version]


def check_key_has_cert(cert: str | None, key: str | None) -> None:
    """Refuse a ``--key`` alone."""
    if key and not cert:
        raise UsageError("--key needs the certificate that belongs to it", "add --cert FILE")


def _ask_password(key: str) -> str:
    if not sys.stdin.isatty():
        raise UsageError(f"the private key in '{key}' is encrypted, and there is no terminal to ask for its password")
    return getpass(f"Password of {key}: ", stream=sys.stderr)


def protocols(given: list[str]) -> list[str] | None:
    """The protocols of ``--alpn``, which may be repeated and may hold commas; None where there are none.

    Raises:
        UsageError: a name that ALPN cannot carry.
    """
    names = [name for value in given for name in value.split(",")]
    for name in names:
        try:
            check_protocols([name])
        except ValueError:
            raise UsageError(f"--alpn: '{name[:60]}' is no protocol's name", "such as --alpn h2,http/1.1") from None
    return names or None


def server_name(name: str | None) -> str | None:
    """The name of ``--servername``, or of the host, if TLS can carry it.

    Raises:
        UsageError: it cannot.
    """
    if name is None:
        return None
    try:
        return checked_server_hostname(name)
    except ValueError:
        hint = "use a host name, such as mail.example.org"
        raise UsageError(f"'{name[:80]}' cannot be a server's name", hint) from None
