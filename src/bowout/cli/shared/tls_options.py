"""TLS contexts from the options of the command line."""

from __future__ import annotations

import enum
import os
import ssl
import sys
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path

from bowout._arguments import checked_protocols, checked_server_hostname
from bowout._tls_numbers import VERSION_PINS
from bowout.cli.shared.usage import UsageError


class TLSVersion(enum.StrEnum):
    """The versions of TLS that `--tls` accepts."""

    V1_2 = "1.2"
    V1_3 = "1.3"


@dataclass(frozen=True, slots=True)
class Trust:
    """The trusted authorities, our certificate, and the version of TLS."""

    cafile: str | None
    insecure: bool
    cert: str | None
    key: str | None
    version: str | None

    def context(self) -> ssl.SSLContext:
        """Make the context of a client.

        Raises:
            UsageError: a file is missing or cannot be used, or options contradict each other.
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
    """Make a context that trusts only the authorities in the file `path`.

    Raises:
        UsageError: the file cannot be read, or has no certificate.
    """
    try:
        context = ssl.create_default_context(purpose, cafile=path)
    except ssl.SSLError as error:
        raise UsageError(f"{option}: no certificate in '{path}'", "it has to hold PEM") from error
    except OSError as error:
        raise UsageError(f"{option}: cannot read '{path}': {error.strerror}") from error
    if not context.cert_store_stats()["x509"]:  # A list of revoked certificates is read, too, and adds no trust.
        raise UsageError(f"{option}: no certificate in '{path}'", "it holds something else")
    return context


def missing_trust() -> str | None:
    """Return the fault of ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``, which name the system's authorities; None without one.

    OpenSSL ignores files that do not exist.
    """
    if (path := os.environ.get("SSL_CERT_FILE")) is not None:
        try:
            trusting("SSL_CERT_FILE", path, ssl.Purpose.SERVER_AUTH)
        except UsageError as error:
            return str(error)
    paths = os.environ.get("SSL_CERT_DIR")  # It is a list of directories, separated as in PATH.
    if paths is not None and not any(Path(each).is_dir() for each in paths.split(os.pathsep) if each):
        return f"SSL_CERT_DIR: there is no directory '{paths}'"
    return None


def check_key_log() -> None:
    """Check that the file of ``SSLKEYLOGFILE`` can be written, if the variable is set: every new context opens it.

    Raises:
        UsageError: it cannot be written.
    """
    path = os.environ.get("SSLKEYLOGFILE")
    if not path or sys.flags.ignore_environment:
        return
    try:
        # Without O_NONBLOCK, open() would wait for the reader of a named pipe.
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0), 0o600))
    except OSError as error:
        hint = "unset that variable, or set it to a file that can be written"
        raise UsageError(f"SSLKEYLOGFILE: cannot write '{path}': {error.strerror}", hint) from error


def identify(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    """Load the certificate of ``--cert``, and the key of ``--key`` or the one in the certificate's file.

    Raises:
        UsageError: they cannot be used.
    """
    asked = key or cert
    try:
        context.load_cert_chain(cert, key, password=lambda: _ask_password(asked))
    except ssl.SSLError as error:
        what = f"'{cert}' with '{key}'" if key else f"'{cert}'"
        reason = f": {error.reason.lower().replace('_', ' ')}" if error.reason else ""
        hint = "it needs PEM, and the private key of the certificate in the same file or in --key FILE"
        raise UsageError(f"--cert: cannot use {what}{reason}", hint) from error
    except OSError as error:
        unreadable = cert if not key else f"{cert}' or '{key}"
        raise UsageError(f"--cert: cannot read '{unreadable}': {error.strerror}") from error


def pin(context: ssl.SSLContext, version: str | None) -> None:
    """Restrict `context` to `version`, the value of ``--tls``, if there is one."""
    if version is not None:
        context.minimum_version = context.maximum_version = VERSION_PINS[version]


def check_key_has_cert(cert: str | None, key: str | None) -> None:
    """Refuse a ``--key`` without a ``--cert``."""
    if key is not None and cert is None:
        raise UsageError("--key needs the certificate that belongs to it", "add --cert FILE")


def _ask_password(key: str) -> str:
    if not sys.stdin.isatty():
        raise UsageError(f"the private key in '{key}' is encrypted, and there is no terminal to ask for its password")
    return getpass(f"Password of {key}: ", stream=sys.stderr)


def protocols(given: list[str]) -> list[str] | None:
    """Return the protocols of ``--alpn``, which may be repeated and may contain commas; None without any.

    Raises:
        UsageError: a name that ALPN cannot carry.
    """
    names = [name.strip() for value in given for name in value.split(",")]
    for name in names:
        try:
            checked_protocols([name])
        except ValueError:
            raise UsageError(
                f"--alpn: '{name[:60]}' is not a valid protocol name (1-255 ASCII characters)",
                "such as --alpn h2,http/1.1",
            ) from None
    return names or None


def server_name(name: str | None) -> str | None:
    """Return the name of ``--servername``, in the form that TLS uses; None for None.

    Raises:
        UsageError: `name` is not a valid server name.
    """
    if name is None:
        return None
    try:
        return checked_server_hostname(name)
    except ValueError:
        hint = "use a host name, such as mail.example.org"
        raise UsageError(f"'{name[:80]}' is not a valid server name", hint) from None
