"""The server's identity and the clients it trusts: its context, with a certificate for one run without --cert."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bowout.cli.shared import tls_options
from bowout.cli.shared.credentials import Credentials
from bowout.cli.shared.usage import UsageError

_EVERYWHERE: Final = ("*", "0.0.0.0", "::")  # noqa: S104  (compared with, not listened on)


@dataclass(slots=True)
class Identity:
    """The values of the TLS options.

    Attributes:
        authority: the authority of the certificate that was made for this run (PEM), if one was made.
    """

    cert: str | None
    key: str | None
    ca_out: str | None
    client_ca: str | None
    version: str | None
    authority: bytes | None = field(default=None, init=False)

    def context(self, host: str) -> ssl.SSLContext:
        """Make the context of a server that listens on `host`.

        Raises:
            UsageError: a file is missing or cannot be used, or options contradict each other.
        """
        tls_options.check_key_has_cert(self.cert, self.key)
        if self.cert is not None and self.ca_out is not None:
            raise UsageError(
                "--ca-out is for the throw-away certificate, which --cert replaces", "leave one of them out"
            )
        tls_options.check_key_log()
        context = self._trusting()
        tls_options.pin(context, self.version)
        if self.cert is not None:
            tls_options.identify(context, self.cert, self.key)
        else:
            self._make_certificate(context, host)
        return context

    def advice(self) -> str:
        """Return the options of ``bowout connect`` that make it trust this server."""
        if self.ca_out is not None:
            return f"--cafile {self.ca_out}"
        return "--insecure" if not self.cert else ""

    def write_authority(self) -> None:
        """Write the file of --ca-out, when the server listens: until then it may be that of another server.

        Raises:
            UsageError: it cannot be written.
        """
        if self.ca_out is not None and self.authority is not None:
            try:
                Path(self.ca_out).write_bytes(self.authority)
            except OSError as error:
                raise UsageError(f"--ca-out: cannot write '{self.ca_out}': {error.strerror}") from error

    def _trusting(self) -> ssl.SSLContext:
        if self.client_ca is None:
            return ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context = tls_options.trusting("--client-ca", self.client_ca, ssl.Purpose.CLIENT_AUTH)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _make_certificate(self, context: ssl.SSLContext, host: str) -> None:
        names = ["localhost", "127.0.0.1", "::1"]
        more = socket.gethostname() if host in _EVERYWHERE else host.partition("%")[0]
        try:
            with Credentials.made(*names, *([more] if more not in names else [])) as credentials:
                context.load_cert_chain(credentials.certificate, credentials.key)
        except ModuleNotFoundError as error:
            hint = "pip install 'bowout[cli]', or give --cert FILE"
            raise UsageError(f"{error.name} is not installed; it is needed to make certificates", hint) from error
        except ValueError as error:
            raise UsageError(f"'{more}' cannot be in a certificate", "use a host's name or its address") from error
        self.authority = credentials.authority
