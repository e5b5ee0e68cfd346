"""How to do TLS, from the options of the command line."""

from __future__ import annotations

import enum
import os
import ssl
import sys
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path
from typing import Final

from bowout._arguments import checked_protocols, checked_server_hostname
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
        if self.cafile is not None and self.insecure:
            raise UsageError("--cafile and --insecure contradict each other", "leave one of them out")
        check_key_has_cert(self.cert, self.key)
        check_key_log()
        context = self._trusting()
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert is not None:
            identify(context, self.cert, self.key)
        pin(context, self.version)
        return context

    def _trusting(self) -> ssl.SSLContext:
        if self.cafile is None:
            return ssl.create_default_context()
        return trusting("--cafile", self.cafile, ssl.Purpose.SERVER_AUTH)


def trusting(option: str, path: str, purpose: ssl.Purpose) -> ssl.SSLContext:
    """Make a context that trusts the authorities in a file, and no other.

    Raises:
        UsageError: it cannot be read, or there is none in it.
    """
    try:
        context = ssl.create_default_context(purpose, cafile=path)
    except ssl.SSLError as error:
        raise UsageError(f"{option}: no certificate in '{path}'", "it has to hold PEM") from error
    except OSError as error:
        raise UsageError(f"{option}: cannot read '{path}': {error.strerror}") from error
    if not context.cert_store_stats()["x509"]:  # Lists of revoked certificates are read, too, and trust nobody.
        raise UsageError(f"{option}: no certificate in '{path}'", "it holds something else")
    return context


def missing_trust() -> str | None:
    """What is wrong with ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``, from which the system's trust comes; None if nothing.

    OpenSSL passes over what is not there.
    """
    if (path := os.environ.get("SSL_CERT_FILE")) is not None:
        try:
            trusting("SSL_CERT_FILE", path, ssl.Purpose.SERVER_AUTH)
        except UsageError as error:
            return str(error)
    paths = os.environ.get("SSL_CERT_DIR")  # It is a list, as that of the shell.
    if paths is not None and not any(Path(each).is_dir() for each in paths.split(os.pathsep) if each):
        return f"SSL_CERT_DIR: there is no directory '{paths}'"
    return None


def check_key_log() -> None:
    """See that the file of ``SSLKEYLOGFILE`` can be written, if there is one: every new context opens it.

    Raises:
        UsageError: it cannot.
    """
    path = os.environ.get("SSLKEYLOGFILE")
    if not path or sys.flags.ignore_environment:
        return
    try:
        # A pipe that nobody reads would keep open() waiting.
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0), 0o600))
    except OSError as error:
        hint = "unset that variable, or let it name a file that can be written"
        raise UsageError(f"SSLKEYLOGFILE: cannot write '{path}': {error.strerror}", hint) from error


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
    if version is not None:
        context.minimum_version = context.maximum_version = _VERSIONS[version]


def check_key_has_cert(cert: str | None, key: str | None) -> None:
    """Refuse a ``--key`` alone."""
    if key is not None and cert is None:
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
    names = [name.strip() for value in given for name in value.split(",")]
    for name in names:
        try:
            checked_protocols([name])
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
